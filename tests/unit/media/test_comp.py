"""The matte comp."""

import numpy as np
import pytest

from scail2_farm.media.comp import comp


def test_only_the_matte_decides():
    plate = np.array([[[-0.0, 0.1, np.nan]] * 4], np.float32)
    generated = np.array([[[0.3, 0.7, 0.9]] * 4], np.float32)
    matte = np.array([[0.0, 1.0, 0.25, 1e-6]], np.float32)
    result = comp(plate, generated, matte)
    assert np.array_equal(result[0, 0].view(np.uint32), plate[0, 0].view(np.uint32))
    assert np.array_equal(result[0, 1], generated[0, 1])
    assert np.allclose(result[0, 2, :2], (0.075, 0.25))
    assert np.isfinite(result[0, 1:]).all(), "a plate value that is no number gives way inside the matte"


def test_arguments_are_left_alone_and_sizes_must_agree():
    plate, generated = np.zeros((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)
    comp(plate, generated, np.full((2, 2), 0.5, np.float32))
    assert not plate.any()
    with pytest.raises(ValueError):
        comp(plate, generated, np.ones((2, 3), np.float32))
    with pytest.raises(ValueError):
        comp(plate, generated[:1], np.ones((2, 2), np.float32))
