"""The transformer: its stems, its streaming and its arithmetic (engine.md §2)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine import Engine
from scail2_farm.engine.backend import flat
from scail2_farm.engine.dit import DiT, GELUTanh, PatchStem, Scene, timestep_embedding
from scail2_farm.engine.weights import fill

FRAMES, HEIGHT, WIDTH = 3, 4, 8  # of the latent


@pytest.fixture(scope="module")
def network(loaded: Engine) -> DiT:
    return loaded.snapshot.dit()


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def scene(network: DiT, *, extra: int = 0, **fields: Any) -> Scene:
    stills = [
        (normal(16, 1, HEIGHT, WIDTH, seed=9 + k), normal(28, 1, HEIGHT, WIDTH, seed=7 + k)) for k in range(extra)
    ]
    values: dict[str, Any] = {
        "reference": normal(16, 1, HEIGHT, WIDTH, seed=1),
        "reference_mask": normal(28, 1, HEIGHT, WIDTH, seed=2),
        "driving": normal(16, FRAMES, HEIGHT // 2, WIDTH // 2, seed=3),
        "driving_mask": normal(28, FRAMES, HEIGHT // 2, WIDTH // 2, seed=4),
        "replace": True,
        "extra": tuple(stills),
    }
    return network.scene(**(values | fields))


def answer(network: DiT, held: Scene, *, rows: int = 1000, timestep: float = 700.0, **latent: mx.array) -> np.ndarray:
    text, image = network.text_cache(normal(5, 64, seed=5)), network.image_cache(normal(257, 64, seed=6))
    sample = latent.get("latent", normal(16, FRAMES, HEIGHT, WIDTH))
    return np.array(network(sample, timestep, held, text=text, image=image, rows=rows))


def test_the_stem_is_a_convolution() -> None:
    """A Linear on patch vectors and a 3-D convolution whose stride is its kernel are the same function."""
    stem = fill(PatchStem(5, 6), {"weight": normal(6, 5, 1, 2, 2), "bias": normal(6, seed=1)}, file="stem")
    x = normal(5, 3, 4, 8, seed=2)
    kernel = stem.weight.transpose(0, 2, 3, 4, 1)
    convolved = mx.conv3d(x.transpose(1, 2, 3, 0)[None], kernel, stride=(1, 2, 2))[0] + stem.bias
    np.testing.assert_allclose(np.array(stem(x)), np.array(convolved.reshape(-1, 6)), atol=1e-5)


@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("rows", [1, 7, 16])
def test_streamed_equals_whole(network: DiT, rows: int, extra: int) -> None:
    """However few tokens are worked on at a time, the velocity is the same."""
    held = scene(network, extra=extra)
    np.testing.assert_allclose(answer(network, held, rows=rows), answer(network, held), atol=2e-4)


def test_frames_to_be_made_get_the_bias_of_the_mask_stem(network: DiT) -> None:
    """The mask stem makes its bias of the zero mask that those frames have."""
    zeros = mx.zeros((28, FRAMES, HEIGHT, WIDTH))
    made = np.array(network.patch_embedding_mask(zeros))
    np.testing.assert_array_equal(made, np.tile(np.array(network.patch_embedding_mask.bias), (len(made), 1)))


def test_everything_it_is_told_matters(network: DiT) -> None:
    """Mode, references, masks, driving video, history mask, timestep and both contexts change the velocity."""
    plain = answer(network, scene(network))
    assert plain.shape == (16, FRAMES, HEIGHT, WIDTH)
    others = [
        answer(network, scene(network, replace=False)),
        answer(network, scene(network, extra=1)),
        answer(network, scene(network, reference_mask=normal(28, 1, HEIGHT, WIDTH, seed=8))),
        answer(network, scene(network, driving=normal(16, FRAMES, HEIGHT // 2, WIDTH // 2, seed=8))),
        answer(network, scene(network, driving_mask=normal(28, FRAMES, HEIGHT // 2, WIDTH // 2, seed=8))),
        answer(network, scene(network, history_mask=mx.ones((4, FRAMES, HEIGHT, WIDTH)))),
        answer(network, scene(network), timestep=300.0),
    ]
    assert all(np.abs(other - plain).max() > 0.01 for other in others)


def test_stored_16_bit_weights_are_computed_in_32(network: DiT, loaded: Engine) -> None:
    """bfloat16 weights as stored give what the same values in float32 give."""
    stored = {name: array.astype(mx.bfloat16) for name, array in flat(network.parameters()).items()}
    half = fill(DiT(loaded.snapshot.dit_config), stored, file="half")
    full = fill(
        DiT(loaded.snapshot.dit_config), {name: array.astype(mx.float32) for name, array in stored.items()}, file="full"
    )
    assert half.blocks[0].self_attn.q.weight.dtype == mx.bfloat16
    narrow, wide = (answer(part, scene(part)) for part in (half, full))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, atol=2e-4)


def test_a_text_too_long_is_refused(network: DiT) -> None:
    """513 rows do not fit 512."""
    with pytest.raises(ValueError, match="513 rows"):
        network.text_cache(mx.zeros((513, 64)))


def test_timesteps_have_cosines_first() -> None:
    """Timestep 0 is all cosine; the frequencies fall from 1."""
    assert np.array(timestep_embedding(0.0, 8)).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    first = np.array(timestep_embedding(999.0, 256))[0]
    assert first[[0, 128]] == pytest.approx([np.cos(999.0), np.sin(999.0)], abs=1e-6)


def test_gelu_is_the_tanh_one() -> None:
    """x * sigmoid(2z) is 0.5x(1 + tanh z)."""
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    z = np.sqrt(2 / np.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)
    np.testing.assert_allclose(np.array(GELUTanh()(mx.array(x))), 0.5 * x * (1 + np.tanh(z)), atol=2e-6)
