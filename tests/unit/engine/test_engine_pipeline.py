"""A segment through the whole engine: what comes out, what matters, and how it ends early (engine.md §7-§9)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm import engine
from scail2_farm.engine.pipeline import denoise, guided, noise_for
from scail2_farm.errors import GuardFailed, ResourceError, WeightsMissing

MakeSegment = Callable[..., engine.SegmentInputs]
Render = Callable[..., engine.SegmentResult]
SHAPE = (16, 2, 4, 8)  # of the noise of five frames of 64x32


@pytest.fixture(scope="module")
def plain(segment: MakeSegment, render: Render) -> engine.SegmentResult:
    """The segment that the others are compared with."""
    return render(segment())


def test_a_segment(segment: MakeSegment, loaded: engine.Engine) -> None:
    """A Step after each solver step, then frames in [0, 1] and what they took."""
    inputs = segment(segment=4, steps=3)
    steps, told = loaded.render(inputs), []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as stop:
            result: engine.SegmentResult = stop.value
            break
    assert [(step.segment, step.step, step.of) for step in told] == [(4, 1, 3), (4, 2, 3), (4, 3, 3)]
    assert result.steps_seconds == tuple(step.seconds for step in told)
    assert result.frames.shape == inputs.driving.shape
    assert result.frames.dtype == np.float32
    assert result.latents.shape == SHAPE
    assert result.frames.min() >= 0
    assert result.frames.max() <= 1
    assert 0 < result.peak_bytes == engine.peak_bytes() < 500_000_000


def test_the_tiny_picture_is_lively(plain: engine.SegmentResult) -> None:
    """It varies within a frame and hardly clips."""
    assert plain.frames.std(axis=(1, 2)).min() > 0.03
    assert np.mean((plain.frames <= 0) | (plain.frames >= 1)) < 0.1


def test_the_same_inputs_give_the_same_pixels(
    segment: MakeSegment, render: Render, plain: engine.SegmentResult
) -> None:
    """Nothing but the inputs decides."""
    np.testing.assert_array_equal(render(segment()).frames, plain.frames)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "two robots in the street at night"},
        {"prompt": ""},
        {"reference": np.full((32, 64, 3), 0.2, np.float32)},
        {"slots": ("red",)},
        {"replace": False},
        {"driving": np.full((5, 32, 64, 3), 0.2, np.float32)},
        {"seed": 4},
        {"segment": 1},
        {"guidance": 3.0},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_each_input_shows(
    fields: dict[str, Any], segment: MakeSegment, render: Render, plain: engine.SegmentResult
) -> None:
    """Changing one input moves the picture by more than a code value of 8 bits on average."""
    assert np.abs(render(segment(**fields)).frames - plain.frames).mean() > 1 / 255


def test_extra_references_show(segment: MakeSegment, render: Render, plain: engine.SegmentResult) -> None:
    """They count, and so does their order."""
    dark, bright = (np.full((32, 64, 3), value, np.float32) for value in (0.1, 0.9))
    mask = engine.paint(np.ones((32, 64), np.uint8), background=(0, 0, 0))
    one = render(segment(extra_references=((dark, mask), (bright, mask)))).frames
    other = render(segment(extra_references=((bright, mask), (dark, mask)))).frames
    assert np.abs(one - plain.frames).mean() > 1 / 255
    assert np.abs(one - other).max() > 1 / 255


def test_guidance_of_one_is_one_pass(segment: MakeSegment, loaded: engine.Engine) -> None:
    """The negative prompt is not even prepared; above one, every step asks twice and moves away from it."""
    asked: list[str] = []

    def conditional(latent: mx.array, timestep: float, step: int) -> mx.array:
        asked.append("conditional")
        return latent * 0 + 3

    def unconditional(latent: mx.array, timestep: float, step: int) -> mx.array:
        asked.append("unconditional")
        return latent * 0 + 1

    zero = mx.zeros((2,))
    assert np.array(guided(conditional, unconditional, 5.0)(zero, 1.0, 0)).tolist() == [11, 11]
    assert sorted(asked) == ["conditional", "unconditional"]
    inputs = segment(guidance=1.0)
    latents, conditioning = loaded.encode(inputs), loaded.condition(inputs)
    unanswerable = replace(conditioning, negative=np.zeros((600, 64), np.float32))  # too long to be prepared
    loaded.velocity(latents, unanswerable, inputs=inputs)
    with pytest.raises(ValueError, match="600 rows"):
        loaded.velocity(latents, unanswerable, inputs=segment(guidance=1.5))


def test_the_negative_prompt_counts_under_guidance_only(
    segment: MakeSegment, render: Render, plain: engine.SegmentResult
) -> None:
    """Without guidance it is not read; with it, it moves the picture."""
    np.testing.assert_array_equal(render(segment(negative_prompt="blurred")).frames, plain.frames)
    one, other = (render(segment(guidance=4.0, negative_prompt=text)).frames for text in ("", "blurred"))
    assert np.abs(one - other).mean() > 1 / 255


@pytest.mark.parametrize("solver", ["unipc", "dpmpp", "euler"])
def test_history_is_pinned_bit_for_bit(
    solver: str, segment: MakeSegment, loaded: engine.Engine, plain: engine.SegmentResult
) -> None:
    """Before every call of the network and after every step, the head of the sample is the encoded history."""
    inputs = segment(9, history=plain.frames)
    inputs = replace(inputs, sampling=replace(inputs.sampling, solver=solver, steps=4))
    latents = loaded.encode(inputs)
    assert latents.history is not None
    given = np.array(latents.history)
    velocity, seen = loaded.velocity(latents, loaded.condition(inputs), inputs=inputs), []

    def watched(latent: mx.array, timestep: float, step: int) -> mx.array:
        seen.append(np.array(latent))
        return velocity(latent, timestep, step)

    noise = noise_for(seed=1, segment=1, shape=latents.shape)
    samples = [np.array(x) for x in denoise(watched, noise, sampling=inputs.sampling, history=latents.history)]
    assert len(seen) == len(samples) == 4
    for sample in (*seen, *samples):
        np.testing.assert_array_equal(sample[:, :2], given)
    assert np.abs(samples[-1][:, 2:] - np.array(noise)[:, 2:]).mean() > 0.1


def test_history_frames_are_dropped(segment: MakeSegment, render: Render, plain: engine.SegmentResult) -> None:
    """Nine frames with five of history are four new ones, and the history decides how they look."""
    one = render(segment(9, history=plain.frames))
    other = render(segment(9, history=1 - plain.frames))
    assert one.frames.shape == (4, 32, 64, 3)
    assert np.abs(one.frames - other.frames).mean() > 1 / 255


def test_a_still_image(segment: MakeSegment, render: Render) -> None:
    """One driving frame is a segment of one frame."""
    result = render(segment(1))
    assert result.frames.shape == (1, 32, 64, 3)
    assert result.latents.shape == (16, 1, 4, 8)


def test_noise_belongs_to_seed_and_segment() -> None:
    """Each pair has noise of its own, always the same, unit Gaussian."""
    draws = {
        (seed, index): np.array(noise_for(seed=seed, segment=index, shape=(16, 5, 8, 8)))
        for seed in (0, 1, 11, 2**63 - 1)
        for index in (0, 1, 11)
    }
    np.testing.assert_array_equal(draws[1, 11], np.array(noise_for(seed=1, segment=11, shape=(16, 5, 8, 8))))
    assert len({draw.tobytes() for draw in draws.values()}) == len(draws)
    flat = np.stack([draw.ravel() for draw in draws.values()])
    assert np.abs(np.corrcoef(flat) - np.eye(len(flat))).max() < 0.06
    assert flat.mean() == pytest.approx(0, abs=0.02)
    assert flat.std() == pytest.approx(1, abs=0.02)


def test_injected_noise_is_used(segment: MakeSegment, render: Render, plain: engine.SegmentResult) -> None:
    """The engine's own noise, handed in, changes nothing; noise of another shape is refused."""
    own = np.array(noise_for(seed=3, segment=0, shape=SHAPE))
    np.testing.assert_array_equal(render(segment(seed=99), noise=own).frames, plain.frames)
    with pytest.raises(ValueError, match=r"\(16, 2, 4, 8\), not \(16, 3, 4, 8\)"):
        render(segment(), noise=np.zeros((16, 3, 4, 8), np.float32))


def test_what_is_not_finite_fails_the_segment(segment: MakeSegment, render: Render) -> None:
    """A NaN in the noise reaches every frame; none is delivered, and the error says what to do."""
    noise = np.zeros(SHAPE, np.float32)
    noise[3, 1, 2, 2] = np.nan
    with pytest.raises(GuardFailed, match=r"not finite after solver step 1 of 2 of segment 1") as caught:
        render(segment(), noise=noise)
    assert "another seed" in caught.value.fix


def test_broken_decoder_weights_fail_the_segment(
    segment: MakeSegment, render: Render, snapshot_folder: Path, tmp_path: Path
) -> None:
    """Finite latents do not excuse frames that are not."""
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(snapshot_folder, tmp_path / "copy"))
    tensors = load_file(folder / "vae.safetensors")
    tensors["decoder.head.2.bias"][0] = np.inf
    save_file(tensors, folder / "vae.safetensors")
    with pytest.raises(GuardFailed, match="in decoded frame 1 of segment 1"):
        render(segment(), engine.load(folder))


def test_closing_cancels_and_frees(segment: MakeSegment, render: Render, snapshot_folder: Path) -> None:
    """After close() nothing of the segment is left in memory, and the engine renders on."""
    own = engine.load(snapshot_folder)
    render(segment(17), own)
    resting = mx.get_active_memory()
    steps = own.render(segment(17, steps=50))
    assert next(steps).of == 50
    assert mx.get_active_memory() > resting
    steps.close()
    assert mx.get_active_memory() <= resting
    assert mx.get_cache_memory() == 0
    with pytest.raises(StopIteration):
        next(steps)
    assert render(segment(), own).frames.shape[0] == 5


def test_encoders_are_read_once_for_the_same_conditioning(
    segment: MakeSegment, render: Render, snapshot_folder: Path, tmp_path: Path, plain: engine.SegmentResult
) -> None:
    """With the encoders' files gone, a known prompt and reference still render; an unknown one does not."""
    folder = Path(shutil.copytree(snapshot_folder, tmp_path / "copy"))
    own = engine.load(folder)
    first = render(segment(), own)
    np.testing.assert_array_equal(first.frames, plain.frames)
    conditioning = own.condition(segment())
    for name in ("t5_encoder.safetensors", "clip.safetensors"):
        (folder / name).unlink()
    assert render(segment(segment=1), own).frames.shape == first.frames.shape
    with pytest.raises(WeightsMissing, match="t5_encoder"):
        render(segment(prompt="someone else"), own)
    other = render(segment(prompt="someone else"), own, conditioning=conditioning)
    np.testing.assert_array_equal(other.frames, first.frames)


def test_conditionings_are_forgotten_in_turn(segment: MakeSegment, snapshot_folder: Path) -> None:
    """The last four are kept; using one again makes it the newest."""
    own = engine.load(snapshot_folder)
    first, second = own.condition(segment(prompt="a")), own.condition(segment(prompt="b"))
    own.condition(segment(prompt="c"))
    own.condition(segment(prompt="d"))
    assert own.condition(segment(prompt="a")) is first
    own.condition(segment(prompt="e"))
    assert own.condition(segment(prompt="a")) is first
    assert own.condition(segment(prompt="b")) is not second


def test_results_are_contiguous(plain: engine.SegmentResult, segment: MakeSegment, loaded: engine.Engine) -> None:
    """Arrays handed out can be saved as they lie."""
    conditioning = loaded.condition(segment())
    handed = (plain.frames, plain.latents, conditioning.text, conditioning.negative, conditioning.image)
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in handed)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (MemoryError("Unable to allocate 9.3 TiB"), ResourceError),
        (
            RuntimeError("[metal::malloc] Attempting to allocate 99 bytes, more than the maximum buffer size"),
            ResourceError,
        ),
        (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"), ResourceError),
        (RuntimeError("[matmul] Last dimension of first input must match"), RuntimeError),
    ],
)
def test_memory_that_runs_out_is_told(
    raised: Exception,
    told: type[Exception],
    segment: MakeSegment,
    loaded: engine.Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the backend says of memory becomes a ResourceError with the size of the segment; nothing else does."""

    def failing(inputs: engine.SegmentInputs) -> None:
        raise raised

    monkeypatch.setattr(loaded, "encode", failing)
    with pytest.raises(told) as caught:
        next(loaded.render(segment()))
    assert type(caught.value) is told
    if told is ResourceError:
        assert "5 frames of 64x32" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"driving": np.zeros((4, 32, 64, 3), np.float32)}, "4n\\+1 driving frames, not 4"),
        ({"driving": np.zeros((5, 30, 64, 3), np.float32)}, "64x30 is not a multiple of 32"),
        ({"driving": np.zeros((5, 32, 64), np.float32)}, "driving is \\(px, H, W, 3\\)"),
        ({"driving": np.zeros((1, 32, 1952, 3), np.float32)}, "1952x32 is beyond 1920"),
        ({"driving": np.zeros((5, 32, 64, 3), np.float64)}, "driving is float32 .* not float64"),
        ({"driving": np.full((5, 32, 64, 3), np.nan, np.float32)}, "driving holds values that are not finite"),
        ({"driving_mask": np.zeros((1, 32, 64, 3), np.uint8)}, "driving_mask is uint8 \\(5, 32, 64, 3\\)"),
        ({"reference": np.zeros((32, 32, 3), np.float32)}, "reference is float32 \\(32, 64, 3\\)"),
        ({"reference_mask": np.zeros((32, 64, 3), np.float32)}, "reference_mask is uint8"),
        ({"history": np.zeros((4, 32, 64, 3), np.float32)}, "history has 4n\\+1 frames"),
        ({"history": np.zeros((5, 32, 64, 3), np.float32)}, "fewer than the 5"),
        ({"extra_references": ((np.zeros((32, 64, 3), np.uint8),) * 2,)}, "extra reference 0 is float32"),
        ({"seed": -1}, "not negative"),
        ({"steps": 0}, "at least 1 step"),
    ],
)
def test_inputs_are_checked_before_anything_runs(
    fields: dict[str, Any], words: str, segment: MakeSegment, loaded: engine.Engine
) -> None:
    """A ValueError says what does not fit, when render() is called and not at the first step."""
    with pytest.raises(ValueError, match=words):
        loaded.render(segment(**fields))
