"""Reference stills and their masks."""

import numpy as np
import pytest
from PIL import Image

from scail2_farm.errors import SubmissionInvalid
from scail2_farm.media import stills

PIXELS = np.random.default_rng(9).integers(0, 255, (6, 9, 4), np.uint8)


def test_rgba_is_not_premultiplied(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "ref.png")
    still = stills.read_still(tmp_path / "ref.png")
    assert np.array_equal(np.rint(still.rgb * 255), PIXELS[..., :3])
    assert still.alpha is not None
    assert np.array_equal(np.rint(still.alpha * 255), PIXELS[..., 3])


def test_gray_palette_jpeg_and_16_bit(tmp_path, media):
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "gray.png")
    still = stills.read_still(tmp_path / "gray.png")
    assert np.array_equal(still.rgb[..., 2], (PIXELS[..., 0] / 255).astype(np.float32))
    assert still.alpha is None
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    Image.fromarray(flat).save(tmp_path / "ref.jpg", quality=98)
    for name, tolerance in (("palette.png", 1), ("ref.jpg", 2)):
        assert np.abs(stills.read_still(tmp_path / name).rgb * 255 - flat).max() <= tolerance
    flower = stills.read_still(media / "tif/flower-rgb-contig-16.tif")
    assert flower.rgb.shape == (43, 73, 3)
    codes = flower.rgb * 65535
    assert np.abs(codes - np.rint(codes)).max() < 0.01
    assert (np.rint(codes).astype(int) % 257 != 0).any(), "all 16 bits are read"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_noted_orientation_is_applied(tmp_path, orientation):
    from PIL import ImageOps

    ramp = np.zeros((16, 32, 3), np.uint8)
    ramp[:, :16, 0], ramp[:8, :, 1] = 220, 220
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp).save(tmp_path / "phone.jpg", quality=98, exif=exif, subsampling=0)
    with Image.open(tmp_path / "phone.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.abs(stills.read_still(tmp_path / "phone.jpg").rgb * 255 - expected).max() <= 3


def test_a_mask_is_white_where_the_character_is(tmp_path):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1:3, 1:3, :3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert np.array_equal(stills.read_mask(tmp_path / "mask.png"), mask[..., 0] / np.float32(255))


def test_what_is_no_reference_is_told(tmp_path, media, capfd):
    Image.fromarray(PIXELS).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / "whole.jpg")
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 3 // 4])
    (tmp_path / "text.png").write_text("not a picture")
    for path in (
        tmp_path / "cut.png",
        tmp_path / "cut.jpg",
        tmp_path / "text.png",
        tmp_path,
        media / "exr/t05.exr",
    ):
        with pytest.raises(SubmissionInvalid) as caught:
            stills.read_still(path)
        assert caught.value.what.startswith(path.name)
        assert "PNG, JPEG or TIFF" in caught.value.fix
    with pytest.raises(SubmissionInvalid) as caught:
        stills.read_still(tmp_path / "none.png")
    assert caught.value.what == "none.png is not there"
    assert f"put {tmp_path / 'none.png'} there" in caught.value.fix
    with pytest.raises(SubmissionInvalid):
        stills.read_mask(tmp_path / "cut.png")
