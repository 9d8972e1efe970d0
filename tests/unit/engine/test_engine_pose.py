"""How far the driving video leads: its strength, and the solver steps it is part of (engine.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from scail2_farm import engine
from scail2_farm.engine.backend import evaluate
from scail2_farm.engine.dit import Cache, DiT, Scene, run, timestep_embedding
from scail2_farm.engine.pipeline import Latents, denoise, noise_for
from scail2_farm.engine.samplers import solver_for

Array = NDArray[Any]
MakeSegment = Callable[..., engine.SegmentInputs]
Render = Callable[..., engine.SegmentResult]

FRAMES, HEIGHT, WIDTH = 3, 4, 8  # of the latent
TIMESTEP = 700.0


@pytest.fixture(scope="module")
def network(loaded: engine.Engine) -> DiT:
    return loaded.snapshot.dit()


@pytest.fixture(scope="module")
def plain(segment: MakeSegment, render: Render) -> engine.SegmentResult:
    """The segment that the others are compared with."""
    return render(segment())


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def held_still(extra: int) -> dict[str, Any]:
    """Latents and masks of a scene with so many extra references."""
    return {
        "reference": normal(16, 1, HEIGHT, WIDTH, seed=1),
        "reference_mask": normal(28, 1, HEIGHT, WIDTH, seed=2),
        "driving": normal(16, FRAMES, HEIGHT // 2, WIDTH // 2, seed=3),
        "driving_mask": normal(28, FRAMES, HEIGHT // 2, WIDTH // 2, seed=4),
        "history_mask": mx.concatenate([mx.ones((4, 1, HEIGHT, WIDTH)), mx.zeros((4, FRAMES - 1, HEIGHT, WIDTH))], 1),
        "extra": tuple(
            (normal(16, 1, HEIGHT, WIDTH, seed=9 + k), normal(28, 1, HEIGHT, WIDTH, seed=7 + k)) for k in range(extra)
        ),
    }


def contexts(network: DiT) -> tuple[Cache, Cache]:
    return network.text_cache(normal(5, 64, seed=5)), network.image_cache(normal(257, 64, seed=6))


def turned(x: Array, places: Array) -> Array:
    """Heads of width 32, whose pairs of lanes turn with time (6), row (5) and column (5), in complex numbers."""
    pairs = (6, 5, 5)
    angles = np.concatenate(
        [np.outer(places[:, axis], 10000.0 ** (-np.arange(n) / n)) for axis, n in enumerate(pairs)], axis=1
    )
    lanes = x.reshape(*x.shape[:-1], sum(pairs), 2)
    spun = (lanes[..., 0] + 1j * lanes[..., 1]) * np.exp(1j * angles)[:, None]
    return np.stack([spun.real, spun.imag], axis=-1).reshape(x.shape)


def whole_answer(network: DiT, latent: mx.array, still: dict[str, Any], *, moved: bool) -> Array:
    """The velocity of `[extra refs | ref | video]`, all at once: what the network says when there is no driving video.

    Attention and rotation are written out; products and norms are the network's own. `moved` is replacement.
    """
    text, image = contexts(network)
    pictures = [*still["extra"], (still["reference"], still["reference_mask"])]
    tokens = [
        network.patch_embedding(mx.concatenate([picture, mx.ones((4, 1, HEIGHT, WIDTH))]))
        + network.patch_embedding_mask(mask)
        for picture, mask in pictures
    ]
    video = network.patch_embedding(mx.concatenate([latent, still["history_mask"]]))
    x = mx.concatenate([*tokens, video + network.patch_embedding_mask(mx.zeros((28, FRAMES, HEIGHT, WIDTH)))])
    cells = np.mgrid[0:1, 0 : HEIGHT // 2, 0 : WIDTH // 2].reshape(3, -1).T
    stills = [cells + np.array([k, 120 if moved else 0, 0]) for k in range(len(pictures))]
    first = len(pictures) - (1 if moved else 0)
    places = np.concatenate([*stills, *(cells + np.array([first + t, 0, 0]) for t in range(FRAMES))])
    assert len(places) == len(x)

    e = run(network.time_embedding, timestep_embedding(TIMESTEP, network.config.freq_dim))
    e6 = run(network.time_projection, e).reshape(6, -1)
    heads = network.config.num_heads
    for block, words, picture in zip(network.blocks, text, image, strict=True):
        shift, scale, gate, shift_f, scale_f, gate_f = block.modulation[0] + e6
        own, y = block.self_attn, mx.fast.layer_norm(x, None, None, block.eps) * (1 + scale) + shift
        q, k, v = (
            np.array(part, dtype=np.float64).reshape(len(x), heads, -1)
            for part in (own.norm_q(own.q(y)), own.norm_k(own.k(y)), own.v(y))
        )
        scores = np.einsum("qhd,khd->hqk", turned(q, places), turned(k, places)) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)
        x = x + own.o(mx.array(mixed.reshape(len(x), -1).astype(np.float32))) * gate
        x = x + block.cross_attn(block.norm3(x), words, picture)
        x = x + run(block.ffn, mx.fast.layer_norm(x, None, None, block.eps) * (1 + scale_f) + shift_f) * gate_f
    patches = network.head(x[-video.shape[0] :], e).reshape(FRAMES, HEIGHT // 2, WIDTH // 2, 2, 2, 16)
    return np.array(patches.transpose(5, 0, 1, 3, 2, 4).reshape(16, FRAMES, HEIGHT, WIDTH))


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("moved", [True, False], ids=["replacement", "animation"])
@pytest.mark.parametrize("rows", [7, 1000])
def test_without_driving_nothing_is_attended_to_but_references_and_video(
    network: DiT, rows: int, moved: bool, extra: int
) -> None:
    """However few tokens are worked on at a time; and it is another answer than with the driving video."""
    still, latent = held_still(extra), normal(16, FRAMES, HEIGHT, WIDTH)
    scene = network.scene(**still, replace=moved)
    text, image = contexts(network)

    def answer(held: Scene) -> Array:
        return np.array(network(latent, TIMESTEP, held, text=text, image=image, rows=rows))

    found = answer(scene.without_driving())
    np.testing.assert_allclose(found, whole_answer(network, latent, still, moved=moved), atol=5e-4)
    assert np.abs(found - answer(scene)).max() > 0.01


def test_a_scene_without_driving_takes_no_memory(network: DiT) -> None:
    """Its references, masks and rotary table are those of the scene it was made from."""
    driving = normal(16, 21, 32, 32, seed=3), mx.zeros((28, 21, 32, 32))
    pictures = normal(16, 1, 64, 64, seed=1), normal(28, 1, 64, 64, seed=2)
    scene = network.scene(
        reference=pictures[0], reference_mask=pictures[1], driving=driving[0], driving_mask=driving[1], replace=True
    )
    before = mx.get_active_memory()
    bare = scene.without_driving()
    evaluate(bare.still, bare.driving, bare.history_mask, *bare.table)
    assert len(bare.table[0]) == bare.grid.still + bare.grid.video
    assert bare.driving.shape == (0, 128)
    assert mx.get_active_memory() - before < 10_000 < scene.table[0].nbytes


@pytest.mark.parametrize(
    ("steps", "start", "end", "driven"),
    [
        (5, 0.0, 1.0, [0, 1, 2, 3, 4]),
        (5, 0.0, 0.8, [0, 1, 2, 3]),
        (5, 0.2, 0.8, [1, 2, 3]),
        (5, 0.21, 0.81, [2, 3, 4]),
        (10, 0.3, 0.7, [3, 4, 5, 6]),
        (40, 0.7, 0.8, [28, 29, 30, 31]),
        (6, 0.0, 0.01, [0]),
        (6, 0.99, 1.0, []),
        (1, 0.0, 0.5, [0]),
        (1, 0.5, 1.0, []),
    ],
)
def test_the_steps_of_a_window(steps: int, start: float, end: float, driven: list[int]) -> None:
    """From the share `start` of the steps, up to and not including the share `end`; some windows hold no step."""
    sampling = engine.Sampling(solver="euler", steps=steps, shift=5.0, guidance=1.0, pose_start=start, pose_end=end)
    assert [step for step in range(steps) if sampling.driven(step)] == driven


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_full_strength_in_every_step_changes_no_bit(guidance: float, segment: MakeSegment, render: Render) -> None:
    """It is what happens when nothing is said, and what the parity files hold."""
    said = render(segment(guidance=guidance, pose_strength=1, pose_start=0, pose_end=1))
    unsaid = render(segment(guidance=guidance))
    assert said.latents.tobytes() == unsaid.latents.tobytes()
    assert said.frames.tobytes() == unsaid.frames.tobytes()


@pytest.mark.parametrize(
    "fields", [{"pose_strength": 0.5}, {"pose_strength": 10.0}, {"pose_end": 0.5}, {"pose_start": 0.5}]
)
def test_each_of_them_shows(
    fields: dict[str, float], segment: MakeSegment, render: Render, plain: engine.SegmentResult
) -> None:
    """Each moves the picture by more than a code value of 8 bits on average."""
    assert np.abs(render(segment(**fields)).frames - plain.frames).mean() > 1 / 255


def test_at_strength_0_only_the_masks_of_the_driving_video_are_seen(segment: MakeSegment, render: Render) -> None:
    """Another driving video is the same; another mask of it is not; and it is not as if there were no driving video."""
    other = np.full((5, 32, 64, 3), 0.2, np.float32)
    everywhere = engine.paint(np.ones((5, 32, 64), np.uint8), background=engine.driving_background(replace=True))
    still = render(segment(pose_strength=0.0)).latents
    np.testing.assert_array_equal(render(segment(pose_strength=0.0, driving=other)).latents, still)
    assert np.abs(render(segment(pose_strength=0.0, driving_mask=everywhere)).latents - still).max() > 0.01
    assert np.abs(render(segment(pose_start=0.9, pose_strength=0.0)).latents - still).max() > 0.01


def test_a_window_between_two_steps_leaves_the_driving_video_out(segment: MakeSegment, render: Render) -> None:
    """Then neither the driving video nor its mask nor its strength is seen."""
    window = {"steps": 2, "pose_start": 0.6, "pose_end": 0.9}
    other = np.full((5, 32, 64, 3), 0.2, np.float32)
    everywhere = engine.paint(np.ones((5, 32, 64), np.uint8), background=engine.driving_background(replace=True))
    changed = render(segment(**window, driving=other, driving_mask=everywhere, pose_strength=3.0))
    assert changed.latents.tobytes() == render(segment(**window)).latents.tobytes()


def by_hand(
    loaded: engine.Engine, inputs: engine.SegmentInputs, latents: Latents, noise: mx.array, driven: list[int]
) -> Iterator[Array]:
    """The samples of a guided segment of 9 frames at half strength, walked here, driven in these steps."""
    assert latents.history is not None
    said, sampling, dit = loaded.condition(inputs), inputs.sampling, loaded.snapshot.dit()
    contexts = [dit.text_cache(mx.array(rows)) for rows in (said.text, said.negative)]
    image = dit.image_cache(mx.array(said.image))
    given, (_, frames, height, width) = latents.history, latents.shape
    ones, zeros = (
        mx.full((4, n, height, width), v) for n, v in ((given.shape[1], 1.0), (frames - given.shape[1], 0.0))
    )
    scene = dit.scene(
        reference=latents.reference,
        reference_mask=latents.reference_mask,
        driving=latents.driving * 0.5,
        driving_mask=latents.driving_mask,
        replace=inputs.replace,
        history_mask=mx.concatenate([ones, zeros], axis=1),
        extra=latents.extra,
    )
    solver = solver_for(sampling.solver, steps=sampling.steps, shift=sampling.shift)
    sample = mx.concatenate([given, noise[:, given.shape[1] :]], axis=1)
    for step, timestep in enumerate(solver.timesteps):
        held = scene if step in driven else scene.without_driving()
        c, u = (dit(sample, timestep, held, text=text, image=image, rows=loaded.rows) for text in contexts)
        sample = solver.step(sample, u + sampling.guidance * (c - u))
        sample = mx.concatenate([given, sample[:, given.shape[1] :]], axis=1)
        yield np.array(sample)


@pytest.mark.parametrize("solver", ["unipc", "dpmpp", "euler"])
@pytest.mark.parametrize("moved", [True, False], ids=["replacement", "animation"])
def test_a_window_is_kept_to_in_both_passes(
    solver: str, moved: bool, segment: MakeSegment, loaded: engine.Engine, plain: engine.SegmentResult
) -> None:
    """Each solver asks once a step, and a guided step is driven in both passes or in none, beside everything else."""
    picture, mask = plain.frames[0], segment(replace=moved).reference_mask
    inputs = segment(
        9,
        replace=moved,
        history=plain.frames,
        extra_references=((picture, mask),),
        negative_prompt="blurred",
        solver=solver,
        steps=5,
        guidance=3.0,
        pose_strength=0.5,
        pose_start=0.2,
        pose_end=0.8,
    )
    latents = loaded.encode(inputs)
    noise = noise_for(seed=1, segment=1, shape=latents.shape)
    velocity, asked = loaded.velocity(latents, loaded.condition(inputs), inputs=inputs), []

    def watched(latent: mx.array, timestep: float, step: int) -> mx.array:
        asked.append(step)
        return velocity(latent, timestep, step)

    found = [np.array(x) for x in denoise(watched, noise, sampling=inputs.sampling, history=latents.history)]
    assert asked == [0, 1, 2, 3, 4]
    for sample, wanted in zip(found, by_hand(loaded, inputs, latents, noise, [1, 2, 3]), strict=True):
        np.testing.assert_array_equal(sample, wanted)
    other = list(by_hand(loaded, inputs, latents, noise, [1, 2, 3, 4]))
    assert np.abs(found[-1] - other[-1]).max() > 0.01


def test_a_window_takes_no_more_memory(segment: MakeSegment, render: Render) -> None:
    """What is forecast for a segment that is driven throughout bounds this one too (two runs of one differ by 1 %)."""
    whole, part = (render(segment(9, pose_end=end)).peak_bytes for end in (1.0, 0.5))
    assert part <= whole * 1.03


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pose_strength": -0.1}, "from 0 to 10, not -0.1"),
        ({"pose_strength": 10.5}, "from 0 to 10, not 10.5"),
        ({"pose_strength": float("nan")}, "from 0 to 10, not nan"),
        ({"pose_start": -0.1}, "not from -0.1 to 1.0"),
        ({"pose_end": 1.1}, "not from 0.0 to 1.1"),
        ({"pose_start": 0.5, "pose_end": 0.5}, "not from 0.5 to 0.5"),
        ({"pose_start": 0.8, "pose_end": 0.2}, "not from 0.8 to 0.2"),
        ({"pose_end": 0.0}, "not from 0.0 to 0.0"),
        ({"pose_start": float("nan")}, "not from nan"),
    ],
)
def test_what_is_out_of_range_is_refused(
    fields: dict[str, float], words: str, segment: MakeSegment, loaded: engine.Engine
) -> None:
    """In words, when render() is called and not at the first step."""
    with pytest.raises(ValueError, match=words):
        loaded.render(segment(**fields))
    inputs = segment()
    loaded.render(replace(inputs, sampling=replace(inputs.sampling, pose_strength=10, pose_start=0.0, pose_end=1e-6)))
