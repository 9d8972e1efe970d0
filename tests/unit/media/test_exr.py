"""OpenEXR: examined before trusted, read whole, written back bit for bit."""

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenEXR
import OpenImageIO as oiio
import pytest

from scail2_farm.errors import DiskFull, PlateMissing, PlateUnreadable
from scail2_farm.media import exr


def bits(plane):
    return plane.view({2: np.uint16, 4: np.uint32}[plane.dtype.itemsize])


def rewritten(source: Path, target: Path, *, where=None, rgb=None, attributes=None):
    """Reads a file, replaces pixels, and gives back what the library alone reads before and after."""
    pixels = exr.read(source)
    size = (pixels.display.height, pixels.display.width)
    where = np.zeros(size, np.bool_) if where is None else where
    rgb = np.zeros((*size, 3), np.float32) if rgb is None else rgb
    exr.write_back(target, pixels, rgb=rgb, where=where, attributes=attributes or {})
    before = OpenEXR.File(str(source), separate_channels=True).parts
    after = OpenEXR.File(str(target), separate_channels=True).parts
    return before, after


def box_of(size, top, left, height, width):
    chosen = np.zeros(size, np.bool_)
    chosen[top : top + height, left : left + width] = True
    return chosen


# ------------------------------------------------------------------- bits


@pytest.mark.parametrize("size", [(100, 120), (0, 0)])
def test_every_half_outside_the_matte_keeps_its_bits(media, tmp_path, size):
    where = box_of((256, 256), 40, 60, *size)
    rgb = np.full((256, 256, 3), 0.25, np.float32)
    before, after = rewritten(media / "exr/AllHalfValues.exr", tmp_path / "out.exr", where=where, rgb=rgb)
    for name in "RGB":
        old, new = before[0].channels[name].pixels, after[0].channels[name].pixels
        assert new.dtype == np.float16
        assert np.array_equal(bits(old)[~where], bits(new)[~where])
        assert (new[where] == np.float16(0.25)).all()
    old = before[0].channels["R"].pixels[~where]
    assert np.isnan(old.astype(np.float32)).any(), "the test needs NaN payloads to be among what is kept"


@pytest.mark.parametrize("name", ["Carrots", "GammaChart", "grid-overscan", "t05", "t08"])
def test_real_files_come_back_with_all_channels_and_attributes(media, tmp_path, name):
    before, after = rewritten(media / f"exr/{name}.exr", tmp_path / "out.exr")
    assert [part.name() for part in before] == [part.name() for part in after]
    for old, new in zip(before, after, strict=True):
        assert old.channels.keys() == new.channels.keys()
        for channel in old.channels:
            assert np.array_equal(bits(old.channels[channel].pixels), bits(new.channels[channel].pixels))
            assert old.channels[channel].pLinear == new.channels[channel].pLinear
        ours = {key: str(value) for key, value in new.header.items() if key not in ("channels", "compression")}
        theirs = {key: str(value) for key, value in old.header.items() if key not in ("channels", "compression")}
        assert ours == theirs
        assert new.compression() == OpenEXR.ZIP_COMPRESSION


def test_float_channels_keep_their_bits_and_type(exr_file, tmp_path, picture):
    planes = {name: np.exp(picture[..., i].astype(np.float32)) for i, name in enumerate("RGB")}
    planes["R"].view(np.uint32)[0, :3] = (0x7FC12345, 0x80000000, 0x00000001)  # a NaN payload, -0.0, a denormal
    source = exr_file(channels=planes | {"id": np.arange(960, dtype=np.uint32).reshape(24, 40)})
    where = box_of((24, 40), 10, 10, 5, 5)
    rgb = np.full((24, 40, 3), 1 / 3, np.float32)
    before, after = rewritten(source, tmp_path / "out.exr", where=where, rgb=rgb)
    for name in ("R", "G", "B", "id"):
        old, new = before[0].channels[name].pixels, after[0].channels[name].pixels
        assert old.dtype == new.dtype
        assert np.array_equal(bits(old)[~where], bits(new)[~where])
    assert (after[0].channels["G"].pixels[where] == np.float32(1 / 3)).all()
    assert np.array_equal(after[0].channels["id"].pixels, before[0].channels["id"].pixels)


def multi_part(path: Path, picture):
    """A file as renderers make them: a depth part first, then the picture with an id and a float alpha, tiled."""
    half = picture[..., 0].copy()
    window = (np.array([5, 6], np.int32), np.array([44, 29], np.int32))
    display = (np.array([0, 0], np.int32), np.array([49, 39], np.int32))
    code = OpenEXR.TimeCode(1, 2, 3, 4, False, False, False, False, False, False, *[0] * 8)
    shared = {"dataWindow": window, "displayWindow": display, "timeCode": code}
    depth = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION, "view": "left"} | shared
    beauty = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription(), "owner": "a studio"} | shared
    picture_planes = {"R": half, "G": half, "B": half, "A": half.astype(np.float32)}
    ids = {"id": np.arange(960, dtype=np.uint32).reshape(24, 40), "N.X": OpenEXR.Channel(half, 1, 1, True)}
    parts = [OpenEXR.Part(depth, {"Z": half.astype(np.float32)}, "depth")]
    parts.append(OpenEXR.Part(beauty, picture_planes | ids, "rgba"))
    OpenEXR.File(parts).write(str(path))


def test_multi_part_file_keeps_every_part(tmp_path, picture):
    multi_part(tmp_path / "plate.exr", picture)
    where = box_of((40, 50), 0, 0, 12, 20)
    rgb = np.full((40, 50, 3), 0.5, np.float32)
    attributes = {"timeCode": "10:11:12:13", "scail2_farm:seed": "7"}
    before, after = rewritten(tmp_path / "plate.exr", tmp_path / "out.exr", where=where, rgb=rgb, attributes=attributes)
    assert [part.name() for part in after] == ["depth", "rgba"]
    assert np.array_equal(before[0].channels["Z"].pixels, after[0].channels["Z"].pixels)
    for name in ("A", "id", "N.X"):
        assert np.array_equal(bits(before[1].channels[name].pixels), bits(after[1].channels[name].pixels))
    red = after[1].channels["R"].pixels
    assert (red[: 12 - 6, : 20 - 5] == 0.5).all()
    assert np.array_equal(red[6:], before[1].channels["R"].pixels[6:])
    assert after[1].header["owner"] == "a studio"
    assert after[1].header["scail2_farm:seed"] == "7"
    assert "scail2_farm:seed" not in after[0].header
    codes = [part.header["timeCode"] for part in after]
    assert [(code.hours, code.minutes, code.seconds, code.frame) for code in codes] == [(1, 2, 3, 4)] * 2
    assert after[1].type() == OpenEXR.tiledimage
    assert exr.picture_part(exr.examine(tmp_path / "out.exr"), tmp_path / "out.exr") == 1


def test_parts_keep_windows_of_their_own(tmp_path, picture):
    display = (np.array([0, 0], np.int32), np.array([63, 47], np.int32))
    parts = []
    for name, channels, left in (("rgba", "RGB", 3), ("depth", "Z", -9)):
        window = (np.array([left, 0], np.int32), np.array([left + 39, 23], np.int32))
        header = {"type": OpenEXR.scanlineimage, "dataWindow": window, "displayWindow": display}
        parts.append(OpenEXR.Part(header, dict.fromkeys(channels, picture[..., 0].copy()), name))
    OpenEXR.File(parts).write(str(tmp_path / "plate.exr"))
    before, after = rewritten(tmp_path / "plate.exr", tmp_path / "out.exr")
    for old, new in zip(before, after, strict=True):
        assert str(old.header["dataWindow"]) == str(new.header["dataWindow"])
        assert str(old.header["displayWindow"]) == str(new.header["displayWindow"])
        for name, channel in old.channels.items():
            assert np.array_equal(bits(channel.pixels), bits(new.channels[name].pixels))


def test_a_value_too_great_for_half_becomes_the_greatest_half(exr_file, tmp_path):
    where = box_of((24, 40), 0, 0, 1, 2)
    rgb = np.zeros((24, 40, 3), np.float32)
    rgb[0, :2, 0] = (1e6, -1e6)
    _, after = rewritten(exr_file(), tmp_path / "out.exr", where=where, rgb=rgb)
    assert after[0].channels["R"].pixels[0, :2].tolist() == [65504.0, -65504.0]


# ------------------------------------------------------------------- windows


def test_display_window_inside_the_data_window(media, tmp_path):
    source = media / "exr/t05.exr"
    stored = OpenEXR.File(str(source), separate_channels=True).channels()["G"].pixels
    shown = exr.read_rgb(source)
    assert shown.shape == (260, 340, 3)
    assert np.array_equal(shown[..., 1], stored[20:280, 30:370].astype(np.float32))
    everywhere = np.ones((260, 340), np.bool_)
    _, after = rewritten(source, tmp_path / "out.exr", where=everywhere, rgb=np.ones((260, 340, 3), np.float32))
    green = after[0].channels["G"].pixels
    assert (green[20:280, 30:370] == 1).all()
    outside = np.ones(green.shape, np.bool_)
    outside[20:280, 30:370] = False
    assert np.array_equal(bits(green)[outside], bits(stored)[outside])


def test_data_window_inside_the_display_window(media, tmp_path):
    source = media / "exr/t08.exr"
    stored = OpenEXR.File(str(source), separate_channels=True).channels()["G"].pixels
    shown = exr.read_rgb(source)
    assert shown.shape == (401, 501, 3)
    assert np.array_equal(shown[40:340, 30:430, 1], stored.astype(np.float32))
    assert not shown[:40].any()
    assert not shown[:, 430:].any()
    everywhere = np.ones((401, 501), np.bool_)
    _, after = rewritten(source, tmp_path / "out.exr", where=everywhere, rgb=np.ones((401, 501, 3), np.float32))
    assert after[0].channels["G"].pixels.shape == stored.shape
    assert (after[0].channels["G"].pixels == 1).all()


def test_overscan_on_all_sides(media):
    shown = exr.read_rgb(media / "exr/grid-overscan.exr")
    stored = OpenEXR.File(str(media / "exr/grid-overscan.exr"), separate_channels=True).channels()["R"].pixels
    assert np.array_equal(shown[..., 0], stored[250:1250, 250:1250].astype(np.float32))


def test_windows_that_do_not_meet():
    shown, stored = exr.Window(0, 0, 10, 10).overlap(exr.Window(20, 20, 5, 5))
    assert np.zeros((10, 10))[shown].size == 0
    assert np.zeros((5, 5))[stored].size == 0


# ------------------------------------------------------------------- attributes


@pytest.mark.parametrize(
    ("code", "rate"),
    [
        ("01:02:03:04", Fraction(24)),
        ("00:59:59;28", Fraction(30000, 1001)),
        ("23:59:59:49", Fraction(50)),
        ("10:00:00:58", Fraction(60)),
        ("10:00:00;59", Fraction(60000, 1001)),
    ],
)
def test_timecode_and_rate_come_back(tmp_path, code, rate):
    path = tmp_path / "raw.exr"
    exr.write_rgb(path, np.zeros((4, 4, 3)), attributes={"timeCode": code, "framesPerSecond": rate})
    part = exr.examine(path)[0]
    assert exr.rate_of(part) == rate
    assert exr.timecode_of(part, rate) == code


def test_a_header_says_its_colour(media, exr_file):
    def words(path):
        return exr.color_words(exr.examine(path)[0])

    assert words(media / "exr/Carrots.exr") == ("chromaticities", "lin_ap0_scene")
    assert words(media / "exr/WideColorGamut.exr") == ("chromaticities", "lin_rec709_scene")
    assert words(media / "exr/XYZ.exr") == ("chromaticities", "1 0 0 1 0 0 0.3333 0.3333")
    assert words(media / "exr/AllHalfValues.exr") is None
    both = {"colorInteropID": "lin_ap1_scene", "chromaticities": (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)}
    assert words(exr_file("both.exr", both)) == ("colorInteropID", "lin_ap1_scene")
    assert words(exr_file("aces.exr", {"acesImageContainerFlag": 1})) == ("acesImageContainerFlag", "lin_ap0_scene")
    assert words(exr_file("unknown.exr", {"colorInteropID": "unknown"})) is None
    assert "chromaticities" in exr.color_contradictions(exr.examine(exr_file("both.exr", both))[0])
    assert exr.color_contradictions(exr.examine(exr_file("one.exr", {"colorInteropID": "lin_ap1_scene"}))[0]) == ""


# ------------------------------------------------------------------- damaged, cut short, of another kind


@pytest.mark.parametrize("kind", ["scanline", "tiled", "multi-part", "deep"])
def test_every_truncation_is_seen(media, tmp_path, picture, exr_file, kind):
    if kind == "scanline":
        whole = exr_file().read_bytes()
    elif kind == "tiled":
        whole = exr_file(header={"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}).read_bytes()
    elif kind == "multi-part":
        multi_part(tmp_path / "parts.exr", picture)
        whole = (tmp_path / "parts.exr").read_bytes()
    else:
        whole = (media / "exr/Trunks.exr").read_bytes()
    cut = tmp_path / "cut.exr"
    cut.write_bytes(whole)
    assert exr.examine(cut)
    lengths = {*range(0, 400, 9), *(len(whole) * step // 60 for step in range(60)), len(whole) - 1}
    for length in sorted(lengths):
        cut.write_bytes(whole[:length])
        with pytest.raises(PlateUnreadable):
            exr.examine(cut)
    cut.write_bytes(whole[: len(whole) * 2 // 3] + bytes(len(whole) - len(whole) * 2 // 3))
    with pytest.raises(PlateUnreadable, match="incomplete"):
        exr.examine(cut)  # a copy that was given its full size beforehand


def compressed(path: Path, code) -> Path:
    plane = np.linspace(0, 1, 300 * 24, dtype=np.float16).reshape(300, 24)
    header = {"compression": code, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"R": plane, "G": plane, "B": plane}).write(str(path))
    return path


COMPRESSIONS = {name: code for name, code in OpenEXR.Compression.__members__.items() if not name.startswith("NUM")}


@pytest.mark.parametrize("name", sorted(COMPRESSIONS.keys() - {"LJ2K_COMPRESSION"}))
def test_every_compression_is_read(tmp_path, name):
    path = compressed(tmp_path / "one.exr", COMPRESSIONS[name])
    assert exr.examine(path)[0].compression_name == name.removesuffix("_COMPRESSION").replace("NO", "none").lower()
    expected = OpenEXR.File(str(path), separate_channels=True).channels()["R"].pixels
    assert np.array_equal(exr.read_rgb(path)[..., 0], expected.astype(np.float32))


def test_a_compression_that_damage_makes_deadly_is_refused(tmp_path):
    with pytest.raises(PlateUnreadable, match="LJ2K") as fault:
        exr.examine(compressed(tmp_path / "one.exr", OpenEXR.LJ2K_COMPRESSION))
    assert fault.value.fix == "write it with ZIP"


def test_a_damaged_header_is_an_error_and_nothing_else(exr_file, tmp_path):
    whole = exr_file().read_bytes()
    dice = random.Random(11)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(500)] = dice.randrange(256)
        (tmp_path / "damaged.exr").write_bytes(damaged)
        try:
            exr.examine(tmp_path / "damaged.exr")
        except PlateUnreadable:
            refused += 1
    assert refused > 100


def test_damaged_pixels_are_an_error(exr_file, tmp_path, picture, capfd):
    whole = bytearray(exr_file().read_bytes())
    whole[-300] ^= 0xFF
    (tmp_path / "flipped.exr").write_bytes(whole)
    assert exr.examine(tmp_path / "flipped.exr"), "the chunk table is whole; only decoding can tell"
    with pytest.raises(PlateUnreadable, match="does not decode"):
        exr.read(tmp_path / "flipped.exr")
    multi_part(tmp_path / "parts.exr", picture)
    whole = bytearray((tmp_path / "parts.exr").read_bytes())
    whole[-200] ^= 0xFF
    (tmp_path / "parts.exr").write_bytes(whole)
    with pytest.raises(PlateUnreadable, match="does not decode"):
        exr.read(tmp_path / "parts.exr")


def test_pictures_of_another_kind_are_refused_in_words(media, exr_file, tmp_path, picture):
    gray = picture[..., 0]
    luma = exr_file("luma.exr", channels={"Y": gray, "RX": gray, "BX": gray})
    luma.write_bytes(luma.read_bytes().replace(b"RX\0", b"RY\0").replace(b"BX\0", b"BY\0"))
    ids = np.zeros((24, 40), np.uint32)
    cases = {
        media / "exr/Trunks.exr": "deep samples",
        media / "cryptomatte/arnold_three_crypto.exr": "no R, G and B",
        luma: "luma and chroma",
        exr_file("y.exr", channels={"Y": gray}): r"no R, G and B channels \(it has Y\)",
        exr_file("left.exr", channels={"left.R": gray, "left.G": gray, "left.B": gray}): r"\(it has left.B, left.G",
        exr_file("uint.exr", channels={"R": ids, "G": ids, "B": ids}): "integer",
    }
    for path, words in cases.items():
        with pytest.raises(PlateUnreadable, match=words):
            exr.read(path)
    with pytest.raises(PlateMissing):
        exr.read(tmp_path / "none.exr")
    with pytest.raises(PlateMissing, match="folder"):
        exr.read(tmp_path)
    (tmp_path / "text.exr").write_text("not a picture at all")
    with pytest.raises(PlateUnreadable, match="not an OpenEXR file"):
        exr.read(tmp_path / "text.exr")


def test_a_mip_mapped_texture_is_refused(exr_file):
    path = exr_file(header={"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()})
    whole = bytearray(path.read_bytes())
    place = whole.index(b"tiledesc\0") + len(b"tiledesc\0") + 4 + 8
    whole[place] = 1  # MIPMAP_LEVELS
    path.write_bytes(whole)
    with pytest.raises(PlateUnreadable, match="mip-mapped"):
        exr.examine(path)


# ------------------------------------------------------------------- how pixels are stored


@pytest.mark.parametrize("compression", ["zip", "zips", "piz", "zstd", "none"])
def test_lossless_compressions_keep_every_bit(media, tmp_path, compression):
    where = box_of((256, 256), 40, 60, 10, 20)
    rgb = np.full((256, 256, 3), 0.25, np.float32)
    pixels = exr.read(media / "exr/AllHalfValues.exr")
    out = tmp_path / "out.exr"
    exr.write_back(out, pixels, rgb=rgb, where=where, attributes={}, compression=compression)
    assert exr.examine(out)[0].compression_name == compression
    after = OpenEXR.File(str(out), separate_channels=True).channels()
    for name in "RGB":
        assert np.array_equal(bits(pixels.parts[0].planes[name])[~where], bits(after[name].pixels)[~where])
        assert (after[name].pixels[where] == 0.25).all()


@pytest.mark.parametrize("code", ["DWAA", "DWAB", "B44", "B44A", "PXR24"])
def test_a_lossy_plate_loses_nothing_more(exr_file, tmp_path, code):
    planes = {name: np.linspace(0, 2, 960, dtype=np.float32).reshape(24, 40) for name in "RGB"}
    source = exr_file(header={"compression": getattr(OpenEXR, f"{code}_COMPRESSION")}, channels=planes)
    before, after = rewritten(source, tmp_path / "out.exr")
    assert after[0].compression() == OpenEXR.ZIP_COMPRESSION
    for name in "RGB":
        assert np.array_equal(bits(before[0].channels[name].pixels), bits(after[0].channels[name].pixels))


def test_dwaa_touches_the_picture_alone(exr_file, tmp_path, picture):
    """Asked for by name it may change R, G and B; a layer it would change as well keeps the part to ZIP."""
    ids = np.random.default_rng(5).integers(0, 2**32, (24, 40), np.uint32).view(np.float32)
    alone = exr_file("alone.exr", channels=dict.fromkeys("ABGR", picture[..., 0]) | {"Z": ids})
    beside = exr_file("beside.exr", channels=dict.fromkeys("BGR", picture[..., 0]) | {"crypto00.R": ids})
    nothing = {"rgb": np.zeros((24, 40, 3), np.float32), "where": np.zeros((24, 40), np.bool_), "attributes": {}}
    for source, compression in ((alone, "dwaa"), (beside, "zip")):
        pixels = exr.read(source)
        exr.write_back(tmp_path / "out.exr", pixels, **nothing, compression="dwaa")
        after = exr.read(tmp_path / "out.exr").parts[0]
        assert after.header.compression_name == compression
        others = [name for name in after.planes if name not in ("R", "G", "B")]
        for name in others if compression == "dwaa" else after.planes:
            assert np.array_equal(bits(after.planes[name]), bits(pixels.parts[0].planes[name]))
        assert np.allclose(after.planes["R"], picture[..., 0], rtol=0.3, atol=0.05)


@pytest.mark.parametrize(
    ("kind", "order"),
    [("scanline", "DECREASING_Y"), ("tiled", "INCREASING_Y"), ("tiled", "DECREASING_Y"), ("tiled", "RANDOM_Y")],
)
def test_lines_and_tiles_stay_in_their_order(exr_file, tmp_path, kind, order):
    header = {"lineOrder": getattr(OpenEXR, order), "compression": OpenEXR.ZIPS_COMPRESSION}
    if kind == "tiled":
        tiles = OpenEXR.TileDescription()
        tiles.xSize, tiles.ySize = 16, 8
        header |= {"type": OpenEXR.tiledimage, "tiles": tiles}
    before, after = rewritten(exr_file(header=header), tmp_path / "out.exr")
    assert after[0].header["lineOrder"] == before[0].header["lineOrder"]
    assert str(after[0].header.get("tiles")) == str(before[0].header.get("tiles"))
    assert after[0].type() == before[0].type()
    for name in "RGB":
        assert np.array_equal(bits(before[0].channels[name].pixels), bits(after[0].channels[name].pixels))


def test_windows_that_begin_below_zero(exr_file, tmp_path):
    window = (np.array([-7, -3], np.int32), np.array([32, 20], np.int32))
    display = (np.array([-2, -1], np.int32), np.array([9, 8], np.int32))
    where = np.ones((10, 12), np.bool_)
    source = exr_file(header={"dataWindow": window, "displayWindow": display})
    before, after = rewritten(source, tmp_path / "out.exr", where=where, rgb=np.full((10, 12, 3), 2, np.float32))
    for name in ("dataWindow", "displayWindow"):
        assert str(after[0].header[name]) == str(before[0].header[name])
    green = after[0].channels["G"].pixels
    assert (green[2:12, 5:17] == 2).all()
    green[2:12, 5:17] = before[0].channels["G"].pixels[2:12, 5:17]
    assert np.array_equal(bits(green), bits(before[0].channels["G"].pixels))


def test_what_we_write_opens_elsewhere(media, tmp_path):
    """OpenImageIO brings an OpenEXR of its own."""
    rewritten(media / "exr/Carrots.exr", tmp_path / "out.exr")
    before, after = (oiio.ImageBuf(str(path)) for path in (media / "exr/Carrots.exr", tmp_path / "out.exr"))
    assert np.array_equal(bits(before.get_pixels(oiio.HALF)), bits(after.get_pixels(oiio.HALF)))
    assert after.spec().get_string_attribute("compression") == "zip"


# ------------------------------------------------------------------- plain writing


def test_raw_and_matte_are_exact(tmp_path):
    random = np.random.default_rng(3)
    rgb = random.random((9, 13, 3)).astype(np.float32)
    matte = random.random((9, 13)).astype(np.float32)
    exr.write_rgb(tmp_path / "raw.exr", rgb, attributes={})
    exr.write_matte(tmp_path / "matte.exr", matte, attributes={"pixelAspectRatio": 2.0})
    assert np.array_equal(exr.read_rgb(tmp_path / "raw.exr"), rgb)
    _, _, channels = exr.read_channels(tmp_path / "matte.exr")
    assert channels.keys() == {"Y"}
    assert np.array_equal(channels["Y"], matte)
    assert exr.examine(tmp_path / "matte.exr")[0].pixel_aspect == 2.0
    assert not list(tmp_path.glob("*.part"))


def test_half_is_written_by_choice(tmp_path):
    rgb = np.array([[[1 / 3, 1e6, -1e6]]], np.float32)
    exr.write_rgb(tmp_path / "half.exr", rgb, attributes={}, pixel_type="half", compression="zips")
    part = exr.examine(tmp_path / "half.exr")[0]
    assert (part.pixel_type, part.compression_name) == ("half", "zips")
    assert exr.read_rgb(tmp_path / "half.exr").tolist() == [[[float(np.float16(1 / 3)), 65504.0, -65504.0]]]


def test_a_full_disk_leaves_nothing(tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "raw.exr.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        exr.write_rgb(folder / "raw.exr", np.zeros((200, 200, 3)), attributes={})
    assert not list(folder.iterdir())
