"""The snapshot of the miniature, from what was trained: the published layout, in 16-bit floats.

Runs where the package is installed; PyTorch is not needed. Text encoder, CLIP tower and the parts of the transformer
that listen to them are the seeded random ones of the engine's tiny snapshot, of the right shapes: the value of
cross-attention is nought and its output bias is the trained constant, so they never show. The scale of the trained
latents goes into the autoencoder's two 1x1x1 convolutions, so the official mean and spread stay in force.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from scail2_farm.engine.config import DiTConfig, VAEConfig
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.tiny import CLIP_SIZES, T5_SIZES, random_tensors, write_tokenizer
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder
from scail2_farm.engine.weights import CLIP, CONFIG, DIT, T5, TOKENIZER, VAE, Shapes, clip_shapes, shapes_of

Tensors = dict[str, np.ndarray]


def transformer(trained: Tensors) -> tuple[DiTConfig, Tensors]:
    """Every tensor of the transformer; sizes are read from the trained ones."""
    dim = trained["head.head.weight"].shape[1]
    config = DiTConfig(
        dim=dim,
        ffn_dim=trained["blocks.0.ffn.0.weight"].shape[0],
        num_layers=sum(name.endswith(".constant") for name in trained),
        num_heads=dim // 32,
        text_dim=T5_SIZES.dim,
        clip_dim=CLIP_SIZES.dim,
    )
    shapes = shapes_of(DiT(config))
    tensors: Tensors = random_tensors(shapes, np.random.default_rng(2))
    tensors |= {name: value for name, value in trained.items() if not name.endswith(".constant")}
    for name in shapes:
        if ".cross_attn.o." in name or ".cross_attn.v" in name:
            tensors[name] = np.zeros(shapes[name], np.float32)
        if name.endswith(".norm3.weight"):
            tensors[name] = np.ones(shapes[name], np.float32)
        if name.endswith((".norm3.bias", "text_embedding.2.bias")):
            tensors[name] = np.zeros(shapes[name], np.float32)
    for index in range(config.num_layers):
        tensors[f"blocks.{index}.cross_attn.o.bias"] = trained[f"blocks.{index}.constant"]
    return config, fitting(tensors, shapes, DIT)


def autoencoder(trained: Tensors) -> Tensors:
    """Every tensor of the autoencoder, channels last, its latent brought to the official statistics."""
    config = VAEConfig(dim=trained["encoder.conv1.weight"].shape[0])
    shapes = shapes_of(VAEEncoder(config)) | shapes_of(VAEDecoder(config))
    mean, spread = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    latents = config.z_dim
    tensors = {name: value if name.endswith("gamma") else channels_last(value) for name, value in trained.items()}
    reading = np.zeros((2 * latents, 2 * latents), np.float32)
    reading[:latents, :latents] = np.diag(spread)
    tensors["conv1.weight"] = reading[:, None, None, None]
    tensors["conv1.bias"] = np.concatenate([mean, np.zeros_like(mean)])
    tensors["conv2.weight"] = np.diag(1 / spread)[:, None, None, None]
    tensors["conv2.bias"] = -mean / spread
    return fitting(tensors, shapes, VAE)


def channels_last(value: np.ndarray) -> np.ndarray:
    """(O, I, ..) to (O, .., I)."""
    return np.moveaxis(value, 1, -1) if value.ndim > 2 else value


def fitting(tensors: Tensors, shapes: Shapes, file: str) -> Tensors:
    """The tensors as they are stored; raises ValueError when names or shapes are not the snapshot's."""
    found = {name: value.shape for name, value in tensors.items()}
    if wrong := {name for name in shapes.keys() | found.keys() if found.get(name) != shapes.get(name)}:
        raise ValueError(f"{file}: {', '.join(sorted(wrong))} do not fit")
    return {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in tensors.items()}


def trained(path: Path) -> Tensors:
    """The tensors a training left."""
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def write_snapshot(work: Path, folder: Path, *, start: Path | None = None) -> None:
    """Write the six files from `dit.npz` and `vae.npz` in `work`.

    Where only the transformer was trained, the autoencoder is that of the snapshot in `start`.
    """
    vae = (start / VAE).read_bytes() if start and not (work / "vae.npz").exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    config, dit = transformer(trained(work / "dit.npz"))
    save_file(dit, folder / DIT)
    if vae is None:
        save_file(autoencoder(trained(work / "vae.npz")), folder / VAE)
    else:
        (folder / VAE).write_bytes(vae)
    for number, (file, shapes) in enumerate({T5: shapes_of(UMT5(T5_SIZES)), CLIP: clip_shapes(CLIP_SIZES)}.items()):
        save_file(fitting(random_tensors(shapes, np.random.default_rng([3, number])), shapes, file), folder / file)
    write_tokenizer(folder / TOKENIZER)
    sizes = {name: value for name, value in asdict(config).items() if name not in ("text_dim", "clip_dim")}
    document = {"model_type": "i2v", **sizes, "clip_heads": CLIP_SIZES.num_heads}
    (folder / CONFIG).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for its owner alone
    parts = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"{folder}: {math.ceil(sum(parts.values()) / 1000)} kB  {parts}")
