"""Golden files, and what the engine answers to each: one function a `kind`.

Nothing here knows a size, a seed or a tolerance: sizes come from a file's `config`, tolerances from its `tolerance`,
and every tensor `out.X` of the file is compared. A kind's function takes the file and gives the engine's tensors by the
same names; a name of the file that the function does not give is a failure, not an omission. Activations in the files
are channels-first and convolutions channels-last; whatever must be turned round is turned here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scail2_farm import engine  # opens the array backend, which is too late once mlx is imported

# isort: split
import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from scail2_farm.engine import clip, masks, pipeline, samplers, tiny, vae
from scail2_farm.engine.config import CLIPConfig, DiTConfig, UMT5Config, VAEConfig
from scail2_farm.engine.dit import DiT
from scail2_farm.engine.rope import Grid, rope_table, rotate
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.weights import clip_shapes, fill, shapes_of

Array = NDArray[Any]
Arrays = dict[str, Array]
ROWS = 37  # tokens at a time, on purpose not a divisor of any sequence


@dataclass(frozen=True)
class Golden:
    """One file."""

    path: Path
    kind: str
    config: dict[str, Any]
    tolerance: dict[str, Any]
    arrays: Arrays

    @classmethod
    def read(cls, path: Path) -> Golden:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            meta = file.metadata()
        return cls(path, meta["kind"], json.loads(meta["config"]), json.loads(meta["tolerance"]), arrays)

    def group(self, prefix: str) -> Arrays:
        """The arrays under a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}

    def tensor(self, name: str) -> mx.array:
        return mx.array(self.arrays[name])

    def sized(self, config: type[Any], **more: Any) -> Any:
        """A config of the engine with the fields this file's config has."""
        known = {field.name for field in fields(config)}
        given = {name: _frozen(value) for name, value in self.config.items() if name in known}
        return config(**(given | more))


@dataclass(frozen=True)
class Comparison:
    """How far one tensor is from the golden one."""

    tensor: str
    difference: float
    tolerance: float

    @property
    def share(self) -> float:
        """Of the tolerance; below 1 is right. An exact tolerance is met or missed altogether."""
        if self.tolerance:
            return self.difference / self.tolerance
        return 0.0 if self.difference == 0 else float("inf")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def torch_order(weights: Arrays) -> dict[str, mx.array]:
    """Golden convolutions are channels-last; a snapshot's DiT and CLIP stems are in torch order."""
    return {
        name: mx.array(np.moveaxis(array, -1, 1) if name.startswith("patch_embedding") and array.ndim > 1 else array)
        for name, array in weights.items()
    }


def as_stored(weights: Arrays) -> dict[str, mx.array]:
    return {name: mx.array(array) for name, array in weights.items()}


# ---------------------------------------------------------------------------------------------- one function a kind


def dit(golden: Golden) -> Arrays:
    network = fill(DiT(golden.sized(DiTConfig)), torch_order(golden.group("w.")), file=golden.path.name)
    made: Arrays = {}
    for name in golden.group("out."):
        replace = bool(golden.config["replace_flag"]) or name.endswith("_replacement")
        samples = [dit_sample(golden, network, sample, replace) for sample in range(len(golden.arrays["in.x"]))]
        made[name] = np.stack(samples)
    return made


def dit_sample(
    golden: Golden, network: DiT, sample: int, replace: bool, compute: mx.Dtype = mx.float32
) -> NDArray[np.float32]:
    """The velocity of one sample of a file, its products computed in the type `compute`."""
    inputs = {name: mx.array(array[sample]) for name, array in golden.group("in.").items() if "context" not in name}
    assert not golden.arrays["in.ref_masks"][sample][:, 1:].any(), "the masks of frames to be made are all zero"
    extra: list[tuple[mx.array, mx.array]] = []
    if "additional_ref_latents" in inputs:
        latents, packed = inputs["additional_ref_latents"], inputs["additional_ref_masks"]
        extra = [(latents[:, k : k + 1], packed[:, k : k + 1]) for k in range(latents.shape[1])]
    scene = network.scene(
        reference=inputs["ref_latents"],
        reference_mask=inputs["ref_masks"][:, :1],
        driving=inputs["pose_latents"],
        driving_mask=inputs["driving_masks"],
        replace=replace,
        history_mask=inputs.get("history_mask"),
        extra=tuple(extra),
    )
    text = network.text_cache(golden.tensor(f"in.context.{sample}"), compute=compute)
    image = network.image_cache(inputs["clip_fea"], compute=compute)
    return np.array(
        network(inputs["x"], float(golden.arrays["in.t"][sample]), scene, text=text, image=image, rows=ROWS)
    )


def rope(golden: Golden) -> Arrays:
    made: Arrays = {}
    for case, config in golden.config.items():
        grid = Grid(
            frames=config["rope_T"],
            rows=config["rope_H"],
            columns=config["rope_W"],
            extra=config["additional_refs"],
            replace=config["replace_flag"],
        )
        cos, sin = rope_table(grid, config["head_dim"])
        y = rotate(golden.tensor(f"in.{case}.x")[0], cos, sin)
        made |= {f"{case}.cos": np.array(cos), f"{case}.sin": np.array(sin), f"{case}.y": np.array(y)[None]}
    return made


def mask_pack(golden: Golden) -> Arrays:
    made: Arrays = {}
    for case, config in golden.config.items():
        rgb = golden.arrays[f"in.{case}.rgb"]
        made[f"{case}.packed"] = masks.pack(rgb)
        if config["has_half"]:
            made[f"{case}.packed_half"] = masks.pack_half(rgb)
    return made


def _vae_config(golden: Golden, sizes: dict[str, Any]) -> VAEConfig:
    known = {field.name for field in fields(VAEConfig)}
    statistics = {name: tuple(array.tolist()) for name, array in golden.group("norm.").items()}
    values: dict[str, Any] = {name: _frozen(value) for name, value in sizes.items() if name in known}
    values |= statistics
    return VAEConfig(**values)


def vae_encode(golden: Golden) -> Arrays:
    config = _vae_config(golden, golden.config)
    encoder = fill(vae.VAEEncoder(config), as_stored(golden.group("w.")), file=golden.path.name)
    made: Arrays = {}
    for case, video in golden.group("in.video_").items():
        pixels = mx.array(video).transpose(1, 2, 3, 0)
        moments = np.array(encoder.moments(pixels).transpose(3, 0, 1, 2))
        made[f"mu_{case}"], made[f"logvar_{case}"] = moments[: config.z_dim], moments[config.z_dim :]
        made[f"latent_{case}"] = np.array(encoder(pixels))
    return made


def vae_decode(golden: Golden) -> Arrays:
    config = _vae_config(golden, golden.config)
    decoder = fill(vae.VAEDecoder(config), as_stored(golden.group("w.")), file=golden.path.name)
    made: Arrays = {}
    for case, latent in golden.group("in.latent_").items():
        raw = np.stack([np.array(frame) for frame in decoder(mx.array(latent))]).transpose(3, 0, 1, 2)
        made |= {f"raw_{case}": raw, f"video_{case}": raw.clip(-1, 1)}
    return made


def umt5(golden: Golden) -> Arrays:
    encoder = fill(
        UMT5(golden.sized(UMT5Config, max_distance=golden.config["max_dist"])),
        as_stored(golden.group("w.")),
        file=golden.path.name,
    )
    ids, lengths = golden.arrays["in.ids"], golden.arrays["in.mask"].sum(axis=1)
    rows = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
    made = {f"context.{b}": np.array(encoder(row)) for b, row in enumerate(rows)}
    hidden = golden.arrays["out.hidden"].copy()  # rows past the mask are not made and, as the file says, not compared
    for b, length in enumerate(lengths):
        hidden[b, :length] = made[f"context.{b}"]
    return made | {"hidden": hidden}


def clip_visual(golden: Golden) -> Arrays:
    sizes = golden.config
    config = golden.sized(CLIPConfig, mlp_dim=sizes["dim"] * sizes["mlp_ratio"], eps=sizes["norm_eps"])
    tower = clip.CLIPVisual(config)
    stored = torch_order(golden.group("w."))
    assert {name: tuple(array.shape) for name, array in stored.items()} == clip_shapes(config)
    fill(tower, {name: stored[name] for name in shapes_of(tower)}, file=golden.path.name)
    image = mx.array(golden.arrays["in.image_u8"].astype(np.float32) / 255) * 2 - 1  # (H, W, 3)
    small = clip.resize(golden.tensor("in.image").transpose(1, 2, 0), *golden.config["resize_small_hw"])
    return {
        "pixels": np.array(tower.pixels(image).transpose(2, 0, 1))[None],
        "features": np.array(tower(image))[None],
        "resize_small": np.array(small.transpose(2, 0, 1)),
    }


def solver(golden: Golden) -> Arrays:
    def velocity(x: mx.array, timestep: float) -> mx.array:
        s = timestep / golden.config["num_train_timesteps"]
        return 0.8 * mx.sin(1.3 * x + 0.7 * s) + 0.5 * float(np.cos(2 * s)) * x - 0.2 * s

    made: Arrays = {}
    for shift in golden.config["shifts"]:
        run = samplers.solver_for(golden.config["solver"], steps=golden.config["steps"], shift=shift)
        x, samples, answers = golden.tensor("in.x0"), [], []
        for timestep in run.timesteps:
            answers.append(np.array(velocity(x, timestep)))
            x = run.step(x, mx.array(answers[-1]))
            samples.append(np.array(x))
        name = f"shift{shift:g}"
        made |= {f"{name}.sigmas": np.array(run.sigmas), f"{name}.timesteps": np.array(run.timesteps)}
        made |= {f"{name}.x": np.stack(samples), f"{name}.v_first": answers[0], f"{name}.v_last": answers[-1]}
    return made


def cfg_segment(golden: Golden, scratch: Path) -> Arrays:
    """The whole engine: the file's weights as a snapshot, each segment rendered from the one before."""
    write_snapshot(golden, scratch)
    loaded = engine.load(scratch)
    inputs, plan = golden.group("in."), golden.config["pipeline"]
    text, negative, image = inputs["context"], inputs["context_null"], inputs["clip_fea"][0]
    conditioning = engine.Conditioning(text=text, negative=negative, image=image)
    made: Arrays = {}
    frames: list[Array] = []
    for index, (first, end) in enumerate(golden.config["segments"]):
        segment = engine.SegmentInputs(
            driving=_unit(inputs["pose_video_u8"][first:end]),
            driving_mask=inputs["driving_mask_u8"][first:end],
            reference=_unit(inputs["ref_image_u8"]),
            reference_mask=inputs["ref_mask_u8"],
            extra_references=tuple(_extra_references(golden)),
            history=np.concatenate(frames)[-plan["segment_overlap"] :] if frames else None,
            prompt="",
            replace=plan["replace_flag"],
            sampling=engine.Sampling(
                solver=plan["solver"], steps=plan["steps"], shift=plan["shift"], guidance=plan["guide_scale"]
            ),
            seed=0,
            segment=index,
        )
        made |= _inside(loaded, segment, conditioning, inputs[f"noise.{index}"], f"seg{index}.")
        frames.append(_rendered(loaded, segment, conditioning, inputs[f"noise.{index}"]).frames)
    return made | {"video": np.concatenate(frames).transpose(3, 0, 1, 2) * 2 - 1}


def _unit(image: Array) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(255)


def _extra_references(golden: Golden) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """The additional references of a cfg_segment file, stacked or numbered, in order."""

    def listed(of_masks: bool) -> list[Array]:
        arrays = golden.group("in.additional_ref")
        names = sorted(name for name in arrays if ("mask" in name) == of_masks)
        return [image for name in names for image in arrays[name].reshape(-1, *arrays[name].shape[-3:])]

    for image, mask in zip(listed(False), listed(True), strict=True):
        yield _unit(image), mask


def _rendered(
    loaded: engine.Engine, segment: engine.SegmentInputs, conditioning: engine.Conditioning, noise: Array
) -> engine.SegmentResult:
    steps = loaded.render(segment, noise=noise, conditioning=conditioning)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def _inside(
    loaded: engine.Engine, segment: engine.SegmentInputs, conditioning: engine.Conditioning, noise: Array, prefix: str
) -> Arrays:
    """What the pipeline made on the way, by the file's names; those of the reference are the same in every segment."""
    latents = loaded.encode(segment)
    made = {
        "ref_latent": latents.reference,
        "ref_mask_latent": latents.reference_mask,
        f"{prefix}pose_latent": latents.driving,
        f"{prefix}driving_mask_latent": latents.driving_mask,
    }
    if latents.extra:
        made |= _extra_latents(latents.extra)
    if latents.history is not None:
        made[f"{prefix}history_latent"] = latents.history
    velocity = loaded.velocity(latents, conditioning, inputs=segment)
    start = mx.array(noise)
    if latents.history is not None:
        start = mx.concatenate([latents.history, start[:, latents.history.shape[1] :]], axis=1)
    timestep = samplers.solver_for(
        segment.sampling.solver, steps=segment.sampling.steps, shift=segment.sampling.shift
    ).timesteps[0]
    made[f"{prefix}v_guided_step0"] = velocity(start, timestep, 0)
    unguided = loaded.velocity(latents, conditioning, inputs=_unguided(segment))
    made[f"{prefix}v_cond_step0"] = unguided(start, timestep, 0)
    samples = pipeline.denoise(velocity, start, sampling=segment.sampling, history=latents.history)
    made[f"{prefix}latents"] = mx.stack(list(samples))
    return {name: np.array(array) for name, array in made.items()}


def _unguided(segment: engine.SegmentInputs) -> engine.SegmentInputs:
    return replace(segment, sampling=replace(segment.sampling, guidance=1.0))


def _extra_latents(extra: tuple[tuple[mx.array, mx.array], ...]) -> dict[str, mx.array]:
    """Latents and masks of additional references, stacked and one by one, by the names a file may give them."""
    latents, packed = [latent for latent, _ in extra], [mask for _, mask in extra]
    made: dict[str, mx.array] = {}
    for arrays, names in ((latents, ("latent", "latents")), (packed, ("mask_latent", "mask_latents", "masks"))):
        for name in names:
            made[f"additional_ref_{name}"] = mx.concatenate(arrays, axis=1)
            made |= {f"additional_ref_{name}.{k}": array for k, array in enumerate(arrays)}
    return made


def write_snapshot(golden: Golden, folder: Path) -> None:
    """A cfg_segment file as a snapshot in the published layout; the encoders, whose answers are given, are random."""
    sizes = golden.config["dit"]
    transformer = {name: np.ascontiguousarray(array) for name, array in torch_order(golden.group("w.dit.")).items()}
    save_file(transformer, folder / "dit.safetensors")  # writes the memory as it lies, whatever the strides say
    save_file(golden.group("w.vae."), folder / "vae.safetensors")
    heads = {"clip_heads": 1}
    (folder / "config.json").write_text(json.dumps(sizes | heads | {"model_type": "i2v"}))
    rng = np.random.default_rng(0)
    tiny.write_tokenizer(folder / "tokenizer.json")
    text = UMT5Config(vocab_size=512, dim=sizes["text_dim"], dim_attn=8, dim_ffn=8, num_heads=1, num_layers=1)
    save_file(tiny.random_tensors(shapes_of(UMT5(text)), rng), folder / "t5_encoder.safetensors")
    tower = CLIPConfig(dim=sizes["clip_dim"], mlp_dim=8, num_heads=1, num_layers=2, out_dim=8)
    save_file(tiny.random_tensors(clip_shapes(tower), rng), folder / "clip.safetensors")


KINDS: dict[str, Callable[[Golden], Arrays]] = {
    "dit": dit,
    "rope": rope,
    "mask_pack": mask_pack,
    "vae_encode": vae_encode,
    "vae_decode": vae_decode,
    "umt5": umt5,
    "clip_visual": clip_visual,
    "unipc": solver,
    "dpmpp": solver,
    "euler": solver,
}


def answers(golden: Golden, scratch: Path) -> Arrays:
    """The engine's tensors for a file, by their names without `out.`; AssertionError for an unknown kind."""
    if golden.kind == "cfg_segment":
        return cfg_segment(golden, scratch)
    known = ", ".join(("cfg_segment", *KINDS))
    assert golden.kind in KINDS, f"{golden.path.name} is of kind {golden.kind!r}; known are {known}"
    return KINDS[golden.kind](golden)


def tolerance_of(golden: Golden, name: str) -> float:
    """The largest difference the file allows in `out.NAME`."""
    tolerance, leaf = golden.tolerance, name.rsplit(".", 1)[-1]
    if leaf == "timesteps" and "timesteps" in tolerance:
        return _from_sentence(str(tolerance["timesteps"]), golden.kind)
    special = {"sigmas": "sigmas", "cos": "cos_sin", "sin": "cos_sin", "pixels": "pixels", "resize_small": "pixels"}
    special |= {"features": "features", "video": "video"}
    family = special.get(leaf) or ("latents" if leaf == "latents" or leaf.startswith("v_") else "conditioning")
    for key in (f"max_abs_{family}", "max_abs"):
        if key in tolerance:
            return float(tolerance[key])
    raise AssertionError(f"{golden.path.name} has no tolerance for out.{name}: {tolerance}")


def _from_sentence(text: str, kind: str) -> float:
    """The tolerance of timesteps is written "exact for unipc/dpmpp (integers); 1e-3 for euler", or as a number."""
    for clause in text.split(";"):
        if kind in clause or " for " not in clause:
            number = re.search(r"\d[\d.]*(e[-+]?\d+)?", clause.split(" for ")[0])
            assert number or "exact" in clause, f"no tolerance can be read from {clause!r}"
            return float(number[0]) if number else 0.0
    raise AssertionError(f"{text!r} does not speak of {kind}")


def compare(golden: Golden, made: Arrays) -> list[Comparison]:
    """Every expected tensor against what was made; AssertionError when one was not made or has another shape."""
    comparisons: list[Comparison] = []
    for name, expected in golden.group("out.").items():
        assert name in made, f"{golden.path.name}: nothing is compared with out.{name}; made were {', '.join(made)}"
        found = made[name]
        assert found.shape == expected.shape, f"{golden.path.name}: {name} is {found.shape}, not {expected.shape}"
        gap = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
        difference = float("inf") if np.isnan(gap) else float(gap)
        comparisons.append(Comparison(name, difference, tolerance_of(golden, name)))
    assert comparisons, f"{golden.path.name} expects nothing"
    return comparisons


def judge(golden: Golden, comparisons: list[Comparison]) -> None:
    """AssertionError that names each tensor beyond its tolerance."""
    bad = [comparison for comparison in comparisons if comparison.share > 1]
    lines = [f"  {c.tensor}: worst difference {c.difference:.3e}, tolerance {c.tolerance:.1e}" for c in bad]
    assert not bad, f"{golden.path.name} ({golden.kind}):\n" + "\n".join(lines)
