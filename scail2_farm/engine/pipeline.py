# pyright: reportUnknownMemberType=false
# (the stubs of mlx.core leave the axes of reshape and transpose untyped)
"""The picture of inference, read top to bottom: a segment of driving frames in, the same frames re-played out.

::

    prompt ──────── tokenizer ─ UMT5 ──┐
    reference ───── resize ──── CLIP ──┴─ Conditioning          (kept for the next segments)
    reference, extra references, driving at half size, history ─ VAE encoder ─┐
    their masks ──────────────────────────────────────────────── pack ────────┴─ Latents ─ Scene
    noise ─┬─ [ history pinned ─ DiT (twice under guidance) ─ solver ] x steps ─ latent ─ VAE decoder ─ frames
           └─ one `Step` is yielded after each

Each stage drops what it no longer needs before the next begins. The text encoder and CLIP are read only when a
conditioning must be computed, alone: the network is let go of first. The halves of the autoencoder are read for their
stage. The network stays between segments, without the weights that only make the keys and values of prompt and
reference; it is read anew for other ones, or another precision. The generator is the whole interface to a running
segment: progress is what it yields, and closing it cancels and frees everything.

Arrays are numpy at the door and MLX inside. Pictures are display-referred sRGB; nothing here knows about colour spaces,
files, shots or queues.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from scail2_farm.engine.backend import evaluate, require_working
from scail2_farm.engine.conditioning import Answers
from scail2_farm.engine.dit import Cache, DiT, Scene
from scail2_farm.engine.lora import Adapter, Worn, attach, read_lora
from scail2_farm.engine.masks import pack, pack_half
from scail2_farm.engine.memory import CACHE_LIMIT_BYTES, Footprint, Forecast, Shape, admit, device_kind
from scail2_farm.engine.precision import COMPUTE, Precision, findings_here
from scail2_farm.engine.samplers import SolverName, solver_for
from scail2_farm.engine.umt5 import UMT5
from scail2_farm.engine.weights import CLIP, T5, TOKENIZER, Snapshot, open_snapshot
from scail2_farm.errors import GuardFailed, ResourceError, storage_error

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIDE = 32  # both sides of a canvas are multiples of this
SIDE_LIMIT = 1920  # beyond it the rotary positions of two sources overlap
POSE_LIMIT = 10  # of pose_strength
KEPT_CONDITIONINGS = 4
ANSWERS_MADE = 1  # to be raised when an encoder, or what is done before it, comes to answer otherwise
OUT_OF_MEMORY = re.compile(r"alloc|insufficient memory|out of memory", re.IGNORECASE)  # as Metal and CUDA say it
ROWS_GPU, ROWS_CPU = 4096, 1024  # tokens worked on at a time; on a CPU attention scores are materialised
CAREFUL_SHARE, LEAST_ROWS = 4, 128  # the safe policy works on a quarter of them at a time, and on no fewer than these


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the noise is walked down; guidance of 1 or less runs one pass a step.

    `pose_strength`, 0 to 10, scales the latent of the driving video as the transformer reads it (the autoencoder's own
    scaling is already done). At 0 the latent is zeros, but its tokens stay and its masks are still seen.

    The driving video is part of the sequence in the solver steps from the share `pose_start` of all steps up to, not
    including, the share `pose_end`: 0 <= start < end <= 1. In other steps it is left out, its masks too. A window that
    falls between two steps leaves it out of all of them.
    """

    solver: SolverName
    steps: int
    shift: float
    guidance: float
    pose_strength: float = 1.0
    pose_start: float = 0.0
    pose_end: float = 1.0

    def driven(self, step: int) -> bool:
        """Whether the driving video is part of the sequence in this solver step, from 0."""
        return self.pose_start <= step / self.steps < self.pose_end


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInputs:
    """All that decides the pixels of a segment, but for the weights."""

    driving: Floats  # (px, H, W, 3) in [0, 1], sRGB; px = 4n+1, H and W multiples of 32
    driving_mask: Bytes  # (px, H, W, 3), in the colours of `masks`
    reference: Floats  # (H, W, 3)
    reference_mask: Bytes  # (H, W, 3)
    extra_references: tuple[tuple[Floats, Bytes], ...] = ()  # pictures with their masks
    history: Floats | None = None  # (4n+1, H, W, 3): the last frames of the segment before; the overlap is its length
    prompt: str
    negative_prompt: str = ""
    replace: bool
    sampling: Sampling
    seed: int
    segment: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What the encoders said: rows of both prompts, (n, text_dim), and features of the reference, (257, clip_dim)."""

    text: Floats
    negative: Floats
    image: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One solver step is done: `step` of `of`, from 1."""

    segment: int
    step: int
    of: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentResult:
    """The new frames of a segment; its history overlap is already dropped."""

    frames: Floats  # (px - history, H, W, 3) in [0, 1]
    latents: Floats  # (16, T, H/8, W/8), the last sample
    peak_bytes: int
    steps_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """A segment's pictures and masks as the transformer reads them."""

    reference: mx.array  # (16, 1, h, w)
    reference_mask: mx.array  # (28, 1, h, w)
    extra: tuple[tuple[mx.array, mx.array], ...]  # the same pair for each extra reference
    driving: mx.array  # (16, T, h/2, w/2)
    driving_mask: mx.array  # (28, T, h/2, w/2)
    history: mx.array | None  # (16, 1 + (history-1)/4, h, w)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the noise and of every sample: (16, T, h, w)."""
        channels, _, height, width = self.reference.shape
        return channels, self.driving.shape[1], height, width


Velocity = Callable[[mx.array, float, int], mx.array]
"""The network's answer for a sample, at a timestep, in a solver step counted from 0."""


def load(
    folder: Path,
    *,
    precision: Precision = "f32",
    cache: Path | None = None,
    content: str = "",
) -> Engine:
    """Open a snapshot folder for rendering; tensors are read when first needed.

    `cache` is a folder of the user's that keeps conditionings and the self-test of the machine; None keeps nothing.
    `content` is the sha256 of the folder's files where the caller knows it: it names conditionings whatever the times
    of the files.

    Raises WeightsMissing, WeightsMismatch, and HostUnsupported when MLX has no device to compute on or the device
    computes this precision wrongly.
    """
    require_working()
    mx.set_cache_limit(CACHE_LIMIT_BYTES)
    snapshot = open_snapshot(folder)
    findings_here(cache).require(precision)
    return Engine(snapshot, precision=precision, cache=cache, content=content)


def peak_bytes() -> int:
    """The most memory MLX has held since the running or last segment began."""
    return mx.get_peak_memory()


def noise_for(*, seed: int, segment: int, shape: tuple[int, ...]) -> mx.array:
    """Unit Gaussian noise of one segment, float32.

    The key is the first 8 bytes, big-endian, of sha256("scail2-farm noise SEED SEGMENT"), so that a segment can be
    rendered alone and two segments or seeds share nothing.
    """
    digest = hashlib.sha256(f"scail2-farm noise {seed} {segment}".encode()).digest()
    return mx.random.normal(shape, key=mx.random.key(int.from_bytes(digest[:8], "big")))


def guided(velocity: Velocity, unconditional: Velocity | None, guidance: float) -> Velocity:
    """Classifier-free guidance, u + g*(c - u), in two passes; without an unconditional one, the first as it is."""
    if unconditional is None:
        return velocity

    def combined(latent: mx.array, timestep: float, step: int) -> mx.array:
        u = unconditional(latent, timestep, step)
        return u + guidance * (velocity(latent, timestep, step) - u)

    return combined


def denoise(velocity: Velocity, noise: mx.array, *, sampling: Sampling, history: mx.array | None) -> Iterator[mx.array]:
    """The sample (16, T, h, w) after each solver step.

    `history` (16, t, h, w) is a clean latent pinned at the head: put back before every call of the network and after
    every solver step, bit for bit.
    """
    solver = solver_for(sampling.solver, steps=sampling.steps, shift=sampling.shift)
    sample = _pinned(noise, history)
    for step, timestep in enumerate(solver.timesteps):
        sample = _pinned(solver.step(sample, velocity(sample, timestep, step)), history)
        evaluate(sample)
        yield sample


def _pinned(sample: mx.array, history: mx.array | None) -> mx.array:
    return sample if history is None else mx.concatenate([history, sample[:, history.shape[1] :]], axis=1)


class Engine:
    """A snapshot at work. One segment at a time; conditionings, network and autoencoder stay between segments."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        precision: Precision = "f32",
        cache: Path | None = None,
        content: str = "",
    ) -> None:
        self.snapshot = snapshot
        self.precision: Precision = precision
        self.content = content
        self.rows = ROWS_GPU if device_kind() == "gpu" else ROWS_CPU
        self._answers = Answers(cache / "conditioning") if cache else None
        self._asked = {file: _identity(snapshot, file, content) for file in (T5, CLIP, TOKENIZER)}
        self._conditionings: dict[str, Conditioning] = {}
        self._caches: dict[str, Cache] = {}
        self._dit: DiT | None = None
        self._wanted: tuple[tuple[Path, float, int, int], ...] = ()  # adapters asked for: file, strength, size, time
        self._adapters: list[tuple[Adapter, float]] = []
        self._worn: tuple[Worn, ...] = ()
        self._worn_key = ""

    def adapt(self, adapters: Sequence[tuple[Path, float]]) -> tuple[Worn, ...]:
        """Wear these LoRA files at these strengths, and no others, from now on; tells what is worn of each.

        The same list again costs nothing. Raises WeightsMissing, WeightsMismatch and StorageError for a file that
        cannot be used, and keeps what was worn before.
        """
        wanted = tuple((path, strength, *_stamp(path)) for path, strength in adapters)
        if wanted != self._wanted:
            read = [(read_lora(path), strength) for path, strength in adapters]
            tried = attach(DiT(self.snapshot.dit_config), read)  # a network without tensors tells the same
            self._wanted, self._adapters, self._worn, self._worn_key = wanted, read, tried.report, tried.key
            self._let_go()
        return self._worn

    def admit(self, shape: Shape, *, available: int) -> Forecast:
        """How much memory a segment takes, before anything is read; ResourceError names the sizes that would fit."""
        return admit(
            Footprint.of(self.snapshot),
            shape,
            available=available,
            rows=self.rows,
            precision=self.precision,
            device=device_kind(),
            adapters=sum(adapter.nbytes for adapter, _ in self._adapters),
        )

    @contextmanager
    def careful(self) -> Generator[None]:
        """The safe policy, for what is rendered meanwhile: float32, and smaller pieces at a time."""
        own = self.rows, self.precision
        self.rows, self.precision = max(LEAST_ROWS, self.rows // CAREFUL_SHARE), "f32"
        try:
            yield
        finally:
            self.rows, self.precision = own

    def render(
        self, inputs: SegmentInputs, *, noise: Floats | None = None, conditioning: Conditioning | None = None
    ) -> Generator[Step, None, SegmentResult]:
        """Render one segment: yields a Step after each solver step and returns the SegmentResult.

        `noise` (16, T, H/8, W/8) and `conditioning` replace what the engine would make itself. Inputs are checked
        before the generator is handed out (ValueError); while it runs, GuardFailed is raised when a value is not finite
        and ResourceError when memory runs out.
        """
        check_inputs(inputs)
        shape = (16, (len(inputs.driving) + 3) // 4, inputs.driving.shape[1] // 8, inputs.driving.shape[2] // 8)
        if noise is not None and noise.shape != shape:
            raise ValueError(f"the noise of this segment is {shape}, not {noise.shape}")
        return self._rendering(inputs, noise, conditioning)

    def _rendering(
        self, inputs: SegmentInputs, noise: Floats | None, conditioning: Conditioning | None
    ) -> Generator[Step, None, SegmentResult]:
        mx.reset_peak_memory()
        try:
            return (yield from self._segment(inputs, noise, conditioning))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
                raise _too_big(inputs, error) from error
            raise
        finally:
            mx.clear_cache()  # the segment's own arrays are gone by now, also after close()

    def _segment(
        self, inputs: SegmentInputs, noise: Floats | None, conditioning: Conditioning | None
    ) -> Generator[Step, None, SegmentResult]:
        conditioning = conditioning or self.condition(inputs)
        latents = self.encode(inputs)
        mx.clear_cache()
        velocity = self.velocity(latents, conditioning, inputs=inputs)
        start = (
            mx.array(noise, dtype=mx.float32)
            if noise is not None
            else noise_for(seed=inputs.seed, segment=inputs.segment, shape=latents.shape)
        )
        seconds: list[float] = []
        sample = start
        began = time.monotonic()
        for sample in denoise(velocity, start, sampling=inputs.sampling, history=latents.history):
            seconds.append(time.monotonic() - began)
            _require_finite(sample, inputs, f"after solver step {len(seconds)} of {inputs.sampling.steps}")
            yield Step(segment=inputs.segment, step=len(seconds), of=inputs.sampling.steps, seconds=seconds[-1])
            began = time.monotonic()
        del velocity, start, latents
        mx.clear_cache()
        frames = self.decode(sample, inputs)
        return SegmentResult(
            frames=frames, latents=_host(sample), peak_bytes=peak_bytes(), steps_seconds=tuple(seconds)
        )

    def condition(self, inputs: SegmentInputs) -> Conditioning:
        """What the encoders say of this prompt, negative prompt and reference; the last few answers are kept."""
        keys = self._text_key(inputs.prompt), self._text_key(inputs.negative_prompt), self._image_key(inputs.reference)
        key = " ".join(keys)
        known = self._conditionings.pop(key, None)
        conditioning = known or Conditioning(**self._texts(inputs), image=self._image(inputs.reference))
        self._conditionings[key] = conditioning  # last in, so the first is the one unused longest
        while len(self._conditionings) > KEPT_CONDITIONINGS:
            del self._conditionings[next(iter(self._conditionings))]
        return conditioning

    def _text_key(self, text: str) -> str:
        return _key("text", self._asked[T5], self._asked[TOKENIZER], text)

    def _image_key(self, reference: Floats) -> str:
        pixels = hashlib.sha256(np.ascontiguousarray(reference).tobytes()).hexdigest()
        return _key("image", self._asked[CLIP], repr(reference.shape), pixels)

    def _texts(self, inputs: SegmentInputs) -> dict[str, Floats]:
        encoder: UMT5 | None = None
        rows: dict[str, Floats] = {}
        for name, text in {"text": inputs.prompt, "negative": inputs.negative_prompt}.items():
            key = self._text_key(text)
            known = self._answers.get(key) if self._answers else None
            if known is None:
                self._let_go()
                encoder = encoder or self.snapshot.umt5()
                known = _host(encoder(self.snapshot.tokenizer(text)))
                if self._answers:
                    self._answers.put(key, known)
            rows[name] = known
        del encoder
        mx.clear_cache()
        return rows

    def _image(self, reference: Floats) -> Floats:
        key = self._image_key(reference)
        known = self._answers.get(key) if self._answers else None
        if known is not None:
            return known
        self._let_go()
        tower = self.snapshot.clip()
        features = _host(tower(_signed(reference)))
        del tower
        mx.clear_cache()
        if self._answers:
            self._answers.put(key, features)
        return features

    def _let_go(self) -> None:
        """Free the network and what it prepared: what is read next shall not live beside it."""
        self._dit, self._caches = None, {}
        mx.clear_cache()

    def encode(self, inputs: SegmentInputs) -> Latents:
        """Encode a segment's pictures and pack its masks; driving video and mask at half size."""
        encoder = self.snapshot.vae_encoder()

        def still(picture: Floats, mask: Bytes) -> tuple[mx.array, mx.array]:
            return encoder(_signed(picture)[None]), mx.array(pack(mask[None]))

        reference, reference_mask = still(inputs.reference, inputs.reference_mask)
        latents = Latents(
            reference=reference,
            reference_mask=reference_mask,
            extra=tuple(still(*pair) for pair in inputs.extra_references),
            driving=encoder(_halved(_signed(inputs.driving))),
            driving_mask=mx.array(pack_half(inputs.driving_mask)),
            history=None if inputs.history is None else encoder(_signed(inputs.history)),
        )
        evaluate(latents.reference, latents.driving, latents.history, [pair[0] for pair in latents.extra])
        return latents

    def velocity(self, latents: Latents, conditioning: Conditioning, *, inputs: SegmentInputs) -> Velocity:
        """The network's answer, with everything constant prepared, guidance included.

        The solver step decides whether the driving video is part of the sequence, in both guidance passes alike.
        """
        sampling = inputs.sampling
        wanted = {"text": conditioning.text, "image": conditioning.image}
        if sampling.guidance > 1:
            wanted["negative"] = conditioning.negative
        dit, caches = self._prepared(wanted)
        driven = _scene(dit, latents, replace=inputs.replace, pose_strength=sampling.pose_strength)
        undriven = driven.without_driving()

        def one(text: Cache) -> Velocity:
            def answer(sample: mx.array, timestep: float, step: int) -> mx.array:
                scene = driven if sampling.driven(step) else undriven
                return dit(sample, timestep, scene, text=text, image=caches["image"], rows=self.rows)

            return answer

        unconditional = one(caches["negative"]) if "negative" in caches else None
        return guided(one(caches["text"]), unconditional, sampling.guidance)

    def _prepared(self, wanted: dict[str, Floats]) -> tuple[DiT, dict[str, Cache]]:
        """The network, and cross-attention keys and values by name; those made before serve again when the same."""
        keys = {
            name: _key(name == "image", self.precision, self._worn_key, rows.shape, rows.tobytes())
            for name, rows in wanted.items()
        }
        self._caches = {key: cache for key, cache in self._caches.items() if key in keys.values()}
        if self._dit is not None and self._dit.context_dropped and len(self._caches) < len(set(keys.values())):
            self._let_go()
        dit = self._dit = self._dit or self._read()
        for name, key in keys.items():
            if key not in self._caches:
                make = dit.image_cache if name == "image" else dit.text_cache
                self._caches[key] = make(mx.array(wanted[name]), compute=COMPUTE[self.precision])
        if not dit.context_dropped:
            dit.drop_context()
            mx.clear_cache()
        return dit, {name: self._caches[key] for name, key in keys.items()}

    def _read(self) -> DiT:
        """The network, wearing its adapters."""
        dit = self.snapshot.dit()
        if self._adapters:
            attach(dit, self._adapters)
        return dit

    def decode(self, sample: mx.array, inputs: SegmentInputs) -> Floats:
        """The new frames of a segment in [0, 1]; frames that re-render the history are decoded and dropped."""
        decoder = self.snapshot.vae_decoder()
        overlap = 0 if inputs.history is None else len(inputs.history)
        pixels, *canvas = inputs.driving.shape
        frames = np.empty((pixels - overlap, *canvas), dtype=np.float32)
        for index, frame in enumerate(decoder(sample)):
            if index >= overlap:
                _require_finite(frame, inputs, f"in decoded frame {index + 1}")
                frames[index - overlap] = _host(mx.clip(frame, -1, 1) * 0.5 + 0.5)
        return frames


def _key(*parts: object) -> str:
    """A name for what these decide."""
    digest = hashlib.sha256()
    for part in parts:
        written = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(f"{len(written)} ".encode() + written)
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; zeros when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0  # whoever reads it tells why it cannot be read
    return stat.st_size, stat.st_mtime_ns


def _identity(snapshot: Snapshot, file: str, content: str) -> str:
    """What names the answers of a file of the snapshot, without reading its tensors."""
    path = snapshot.folder / file
    where = str(mx.default_device().type), version("mlx")  # another device rounds otherwise
    if content:
        return _key(ANSWERS_MADE, where, content, file)
    try:
        stat, tokenizer = path.stat(), path.read_bytes() if file == TOKENIZER else None
    except OSError as error:
        raise storage_error(error, path) from error
    if tokenizer is not None:
        return _key(ANSWERS_MADE, where, tokenizer)
    config = {T5: snapshot.umt5_config, CLIP: snapshot.clip_config}[file]
    return _key(ANSWERS_MADE, where, config, stat.st_size, stat.st_mtime_ns)


def _scene(dit: DiT, latents: Latents, *, replace: bool, pose_strength: float) -> Scene:
    _, frames, height, width = latents.shape
    given = 0 if latents.history is None else latents.history.shape[1]
    return dit.scene(
        reference=latents.reference,
        reference_mask=latents.reference_mask,
        driving=latents.driving if pose_strength == 1 else latents.driving * pose_strength,
        driving_mask=latents.driving_mask,
        replace=replace,
        history_mask=mx.concatenate(
            [mx.ones((4, given, height, width)), mx.zeros((4, frames - given, height, width))], axis=1
        ),
        extra=latents.extra,
    )


def _host(array: mx.array) -> Floats:
    """A numpy array of its own, contiguous: safetensors writes memory as it lies, whatever the strides say."""
    return np.ascontiguousarray(np.array(array), dtype=np.float32)


def _signed(picture: Floats) -> mx.array:
    """[0, 1] to [-1, 1]."""
    return mx.array(picture) * 2 - 1


def _halved(video: mx.array) -> mx.array:
    """The mean of each 2x2 pixels, (px, H, W, 3) -> (px, H/2, W/2, 3)."""
    pixels, height, width, channels = video.shape
    return video.reshape(pixels, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def _too_big(inputs: SegmentInputs, error: Exception) -> ResourceError:
    pixels, height, width, _ = inputs.driving.shape
    return ResourceError(f"{pixels} frames of {width}x{height} do not fit the memory of this machine: {error}")


def _require_finite(values: mx.array, inputs: SegmentInputs, place: str) -> None:
    broken = cast("int", mx.sum(~mx.isfinite(values)).item())
    if broken:
        raise GuardFailed(
            f"{broken} of {values.size} values are not finite {place} of segment {inputs.segment + 1}",
            why="numbers overflowed in the network; such a segment is never delivered",
            fix="render again with another seed or a lower guidance; if it recurs, replace the snapshot",
        )


def check_inputs(inputs: SegmentInputs) -> None:
    """Raise ValueError for inputs that do not fit together or that the network cannot place."""
    if inputs.driving.ndim != 4 or inputs.driving.shape[-1] != 3:
        raise ValueError(f"driving is (px, H, W, 3), not {inputs.driving.shape}")
    pixels, height, width, _ = inputs.driving.shape
    if pixels % 4 != 1:
        raise ValueError(f"a segment has 4n+1 driving frames, not {pixels}")
    if height % SIDE or width % SIDE or not height or not width:
        raise ValueError(f"a canvas of {width}x{height} is not a multiple of {SIDE} on both sides")
    if width > SIDE_LIMIT or (inputs.replace and height > SIDE_LIMIT):
        raise ValueError(f"a canvas of {width}x{height} is beyond {SIDE_LIMIT} pixels, where rotary positions overlap")
    still = (height, width, 3)
    wanted = [("driving", inputs.driving, (pixels, *still), "float32")]
    wanted += [("driving_mask", inputs.driving_mask, (pixels, *still), "uint8")]
    wanted += [("reference", inputs.reference, still, "float32")]
    wanted += [("reference_mask", inputs.reference_mask, still, "uint8")]
    for index, (picture, mask) in enumerate(inputs.extra_references):
        wanted += [(f"extra reference {index}", picture, still, "float32")]
        wanted += [(f"mask of extra reference {index}", mask, still, "uint8")]
    if inputs.history is not None:
        overlap = len(inputs.history)
        if overlap % 4 != 1 or overlap >= pixels:
            raise ValueError(f"history has 4n+1 frames and fewer than the {pixels} of the segment, not {overlap}")
        wanted += [("history", inputs.history, (overlap, *still), "float32")]
    for name, array, shape, dtype in wanted:
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} is {dtype} {shape}, not {array.dtype} {array.shape}")
        if dtype == "float32" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    if inputs.seed < 0 or inputs.segment < 0:
        raise ValueError(f"seed and segment are not negative, not {inputs.seed} and {inputs.segment}")
    _check_sampling(inputs.sampling)


def _check_sampling(sampling: Sampling) -> None:
    solver_for(sampling.solver, steps=sampling.steps, shift=sampling.shift)
    if not 0 <= sampling.pose_strength <= POSE_LIMIT:
        raise ValueError(f"a pose strength is from 0 to {POSE_LIMIT}, not {sampling.pose_strength}")
    if not 0 <= sampling.pose_start < sampling.pose_end <= 1:
        raise ValueError(
            "the pose starts at 0 or later, before it ends, and ends at 1 or earlier (fractions of the steps), "
            f"not from {sampling.pose_start} to {sampling.pose_end}"
        )
