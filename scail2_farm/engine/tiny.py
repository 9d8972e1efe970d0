"""A snapshot of a few megabytes with seeded random weights, in exactly the published layout.

It is the real networks at small sizes, for demos and tests: nothing anywhere asks whether a snapshot is tiny. Random
weights make no sense of a picture, but a lively one: what would be zero in a fresh network is random here, and gains
are chosen so that prompt, reference, masks, mode, driving video and seed all show in the pixels. Every width is a
multiple of 64, so that it can be quantized like the large one.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.tokenizer import EOS
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.engine.weights import CLIP, CONFIG, DIT, T5, TOKENIZER, VAE, Shape, Shapes, clip_shapes, shapes_of

VOCABULARY = 512
VAE_SIZES = VAEConfig(dim=8)
T5_SIZES = UMT5Config(vocab_size=VOCABULARY, dim=64, dim_attn=64, dim_ffn=128, num_heads=2, num_layers=2)
CLIP_SIZES = CLIPConfig(dim=64, mlp_dim=128, num_heads=2, num_layers=3, out_dim=64)
DIT_SIZES = DiTConfig(
    dim=128,
    ffn_dim=256,
    num_layers=4,
    num_heads=4,
    text_len=128,
    text_dim=T5_SIZES.dim,
    clip_dim=CLIP_SIZES.dim,
)

# The spread of a tensor relative to the one that keeps the size of activations, by the end of its name; the first match
# rules. Measured on 96x64 canvases so that each input moves the picture and little of it clips.
GAINS: tuple[tuple[str, float], ...] = (
    (r"^conv1\.weight", 6.0),
    (r"patch_embedding_mask\.weight", 5.0),
    (r"patch_embedding_pose\.weight", 3.0),
    (r"self_attn\.norm_[qk]\.weight", 1.7),
    (r"cross_attn\.norm_[qk]\.weight", 1.7),
    (r"(self|cross)_attn\.o\.weight", 3.0),
    (r"head\.head\.weight", 1.5),
    (r"decoder\.head\.2\.weight", 0.7),
)

PASSAGE = """
A woman in a red coat walks along the harbour at dawn; the camera follows her from the left and stops at the lamp. The
man in the grey suit turns, raises his hand and smiles. Two dancers in blue cross the stage while the light changes from
warm to cold. A close-up of the singer, shallow focus, film grain, soft key light from the window. The old sailor with a
white beard sits at the table and reads a letter, wearing a knitted pullover and a dark cap. An astronaut runs through
the wheat field at sunset. The girl with the yellow umbrella jumps over the puddle, her reflection trembling in the
water. A knight in armour, a clown, a teacher and a robot stand in the street at night, neon signs behind them, rain on
the glass. The character keeps the pose, the gesture and the timing of the performer, and the background stays as it is.
"""


def write_tiny_snapshot(folder: Path, *, seed: int) -> None:
    """Write the six files of a tiny snapshot; the same seed gives the same bytes.

    Raises FileExistsError when `folder` holds anything already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; a snapshot is written into a new or an empty folder")
    parts = {
        DIT: shapes_of(DiT(DIT_SIZES)),
        VAE: shapes_of(VAEEncoder(VAE_SIZES)) | shapes_of(VAEDecoder(VAE_SIZES)),
        T5: shapes_of(UMT5(T5_SIZES)),
        CLIP: clip_shapes(CLIP_SIZES),
    }
    for number, (file, shapes) in enumerate(parts.items()):
        save_file(random_tensors(shapes, np.random.default_rng([seed, number])), folder / file)
        (folder / file).chmod(0o644)  # safetensors writes for its owner alone
    write_tokenizer(folder / TOKENIZER)
    sizes = {name: value for name, value in asdict(DIT_SIZES).items() if name not in ("text_dim", "clip_dim", "packed")}
    document = {"model_type": "i2v", **sizes, "clip_heads": CLIP_SIZES.num_heads}
    (folder / CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def random_tensors(shapes: Shapes, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """A seeded random tensor for every name, drawn in the order of the names."""
    return {name: _random(name, shapes[name], rng) for name in sorted(shapes)}


def _random(name: str, shape: Shape, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gains near 1, small biases, and matrices that keep the size of what they multiply."""
    values = rng.standard_normal(shape)
    if name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1):
        values = 1 + 0.1 * values
    elif name.endswith("bias"):
        values = 0.1 * values
    elif name.endswith(("modulation", "embedding", "token_embedding.weight", "embedding.embedding.weight")):
        values = 0.5 * values
    else:
        values = values / math.sqrt(math.prod(shape[1:]))
    gain = next((gain for pattern, gain in GAINS if re.search(pattern + "$", name)), 1.0)
    return (gain * values).astype(np.float32)


def write_tokenizer(path: Path) -> None:
    """A byte-level tokenizer learnt from PASSAGE: any text is tokens, and every list of them ends with `</s>`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", EOS, "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PASSAGE.split(". "), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.token_to_id(EOS))]
    )
    tokenizer.save(str(path))
