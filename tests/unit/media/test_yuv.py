"""Video code values against an independent oracle, and against themselves."""

import json

import numpy as np
import pytest

from scail2_farm.media import yuv

NAMES = {"ITU-R BT.601": "601", "ITU-R BT.709": "709", "ITU-R BT.2020": "2020"}


def test_codes_equal_those_of_colour_science(media):
    cases = json.loads((media / "oracle/yuv.json").read_text())["cases"]
    assert {(case["matrix"], case["bits"], case["legal"]) for case in cases} == {
        (name, bits, legal) for name in NAMES for bits in (8, 10, 12) for legal in (True, False)
    }
    for case in cases:
        how = {"matrix": NAMES[case["matrix"]], "bits": case["bits"], "legal": case["legal"]}
        rgb, expected = np.array(case["rgb"]), np.array(case["codes"])
        codes = np.stack([np.rint(plane) for plane in yuv.from_rgb(rgb, **how)], axis=-1)
        assert np.abs(codes - expected).max() == 0, how
        back = yuv.to_rgb(*(expected[None, :, index] for index in range(3)), **how)[0]
        step = 1 / (219 << (case["bits"] - 8))
        assert np.abs(back - rgb).max() < 1.6 * step, how


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_black_and_white_are_exact_and_what_lies_beyond_survives(bits):
    step = 1 << (bits - 8)
    luma = np.array([[16, 235, 250, 4]]) * step
    neutral = np.full((1, 4), 128 * step)
    rgb = yuv.to_rgb(luma, neutral, neutral, matrix="709", bits=bits, legal=True)
    assert np.allclose(rgb[0, :2], [[0, 0, 0], [1, 1, 1]], atol=1e-6)
    assert rgb[0, 2].min() > 1.05
    assert rgb[0, 3].max() < -0.05


def test_codes_keep_off_the_reserved_ends():
    assert yuv.to_codes(np.array([-50.0, 2000.0]), bits=10).tolist() == [4, 1019]
    assert yuv.to_codes(np.array([-50.0, 2000.0]), bits=8).tolist() == [1, 254]


def test_a_chroma_ramp_is_interpolated_where_its_samples_lie():
    across = np.arange(16, dtype=np.float64)[None].repeat(12, axis=0)
    half = yuv.chroma_to_half_width(across)
    assert np.allclose(half[:, 1:], across[:, 2::2]), "sited on the left luma sample"
    full = yuv.chroma_to_full(half, width=16, height=12)
    assert np.allclose(full[:, 2:-1], across[:, 2:-1])
    down = np.arange(6, dtype=np.float64)[:, None].repeat(4, axis=1) * 2 + 0.5  # midway between two lines
    assert np.allclose(yuv.chroma_to_full(down, width=4, height=12)[1:-1, 0], np.arange(12)[1:-1])


@pytest.mark.parametrize(
    ("siting", "across", "down"), [("left", 0, 0.5), ("centre", 0.5, 0.5), ("topleft", 0, 0), ("top", 0.5, 0)]
)
def test_a_ramp_comes_back_from_every_siting(siting, across, down):
    x, y = np.meshgrid(np.arange(8) * 2 + across, np.arange(6) * 2 + down)
    full = yuv.chroma_to_full(3 * x + 5 * y, width=16, height=12, siting=siting)
    x, y = np.meshgrid(np.arange(16), np.arange(12))
    assert np.allclose(full[1:-1, 1:-1], (3 * x + 5 * y)[1:-1, 1:-1])


def test_quarter_width_and_half_height_alone_are_interpolated_too():
    x = np.arange(16, dtype=np.float64)[None].repeat(4, axis=0)
    assert np.allclose(yuv.chroma_to_full(x[:, ::4], width=16, height=4)[:, :-3], x[:, :-3])
    y = np.arange(4) * 2 + 0.5
    assert np.allclose(yuv.chroma_to_full(y[:, None].repeat(3, axis=1), width=3, height=8)[1:-1, 0], np.arange(8)[1:-1])


def test_half_height_is_what_its_doubling_gives_back():
    lines = np.arange(12, dtype=np.float64)[:, None].repeat(4, axis=1)
    half = yuv.chroma_to_half_height(lines)
    assert np.allclose(yuv.chroma_to_full(half, width=4, height=12)[1:-1], lines[1:-1])


@pytest.mark.parametrize(("width", "height"), [(7, 5), (8, 6)])
def test_odd_sizes_are_cut_to_the_luma(width, height):
    plane = np.ones(((height + 1) // 2, (width + 1) // 2))
    full = yuv.chroma_to_full(plane, width=width, height=height)
    assert full.shape == (height, width)
    assert (full == 1).all()
