"""The autoencoder as a stream (engine.md §5)."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from scail2_farm.engine import Engine
from scail2_farm.engine.vae import VAEDecoder, VAEEncoder


@pytest.fixture(scope="module")
def encoder(loaded: Engine) -> VAEEncoder:
    return loaded.snapshot.vae_encoder()


@pytest.fixture(scope="module")
def decoder(loaded: Engine) -> VAEDecoder:
    return loaded.snapshot.vae_decoder()


def latent(frames: int) -> mx.array:
    return mx.array(np.random.default_rng(0).standard_normal((16, frames, 4, 4)).astype(np.float32))


def video(pixels: int) -> mx.array:
    return mx.array(np.random.default_rng(0).uniform(-1, 1, (pixels, 32, 32, 3)).astype(np.float32))


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_a_latent_decodes_to_one_frame_and_four_more_each(decoder: VAEDecoder, frames: int) -> None:
    """1 + 4(T-1) frames of 8 times the size."""
    pixels = list(decoder(latent(frames)))
    assert len(pixels) == 1 + 4 * (frames - 1)
    assert {frame.shape for frame in pixels} == {(32, 32, 3)}


def test_decoding_only_looks_back(decoder: VAEDecoder) -> None:
    """What comes later in a latent does not change an earlier frame."""
    short = [np.array(frame) for frame in decoder(latent(3)[:, :2])]
    long = [np.array(frame) for frame in decoder(latent(3))]
    for one, other in zip(short, long[:5], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stream_can_be_left(decoder: VAEDecoder) -> None:
    """Frames are made when asked for, and one stream does not disturb the next."""
    first = np.array(next(decoder(latent(3))))
    np.testing.assert_array_equal(first, np.array(next(decoder(latent(3)))))


def test_memory_does_not_grow_with_length(decoder: VAEDecoder) -> None:
    """Twelve latent frames peak where four do, but for the latent itself."""

    def peak(frames: int) -> int:
        z = latent(frames)
        mx.eval(z)
        mx.clear_cache()
        mx.reset_peak_memory()
        start = mx.get_active_memory()
        for frame in decoder(z):
            del frame
        return mx.get_peak_memory() - start

    peak(2)
    assert peak(12) < peak(4) * 1.1


@pytest.mark.parametrize(("pixels", "frames"), [(1, 1), (5, 2), (17, 5)])
def test_encoding_counts(encoder: VAEEncoder, pixels: int, frames: int) -> None:
    """T = 1 + (px-1)/4 at an eighth of the size; its decoding has the shape of the video."""
    z = encoder(video(pixels))
    assert z.shape == (16, frames, 4, 4)


def test_encoding_only_looks_back(encoder: VAEEncoder) -> None:
    """Later frames do not change an earlier latent, so a stream may be cut anywhere between chunks."""
    np.testing.assert_allclose(np.array(encoder(video(9)[:5])), np.array(encoder(video(9)))[:, :2], atol=1e-5)


def test_lengths_that_lose_a_tail_are_refused(encoder: VAEEncoder) -> None:
    """Six frames would silently become five."""
    with pytest.raises(ValueError, match="not 6"):
        encoder(video(6))
