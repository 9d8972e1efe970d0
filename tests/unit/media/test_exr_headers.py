"""OpenEXR headers: kept byte for byte, told to people, and added to without contradiction."""

import struct
from fractions import Fraction

import numpy as np
import OpenEXR
import OpenImageIO as oiio
import pytest

from scail2_farm.media import exr

NOTHING = {"rgb": np.zeros((24, 40, 3), np.float32), "where": np.zeros((24, 40), np.bool_)}
AP0 = OpenEXR.colorInteropIDToChromaticities("lin_ap0_scene")
AP1 = OpenEXR.colorInteropIDToChromaticities("lin_ap1_scene")


def text(word: bytes) -> bytes:
    return struct.pack("<i", len(word)) + word


def floats(count: int) -> bytes:
    return struct.pack(f"<{count}f", *(index / 3 for index in range(count)))


def doubles(count: int) -> bytes:
    return struct.pack(f"<{count}d", *(index / 3 for index in range(count)))


# Every type the OpenEXR specification names, and what studios make of them.
ATTRIBUTES = {
    "aBox2i": ("box2i", struct.pack("<4i", -1, 2, 3, 4)),
    "aBox2f": ("box2f", floats(4)),
    "aBytes": ("bytes", text(b"hint") + b"\x00\x01"),
    "chromaticities": ("chromaticities", struct.pack("<8f", *AP1)),
    "aChlist": ("chlist", b"Q\0" + struct.pack("<iB3xii", 1, 0, 1, 1) + b"\0"),
    "aCompression": ("compression", b"\x05"),
    "aDouble": ("double", doubles(1)),
    "envmap": ("envmap", b"\x01"),
    "aFloat": ("float", struct.pack("<I", 0x7FC12345)),
    "aFloatvector": ("floatvector", floats(3)),
    "anEmptyFloatvector": ("floatvector", b""),
    "anInt": ("int", struct.pack("<i", -7)),
    "keyCode": ("keycode", struct.pack("<7i", 1, 2, 3, 4, 5, 4, 64)),
    "aLineOrder": ("lineOrder", b"\x01"),
    "aM33f": ("m33f", floats(9)),
    "aM33d": ("m33d", doubles(9)),
    "worldToCamera": ("m44f", floats(16)),
    "aM44d": ("m44d", doubles(16)),
    "preview": ("preview", struct.pack("<II", 2, 1) + bytes(range(8))),
    "aRational": ("rational", struct.pack("<iI", 48, 2)),
    "aDeepImageState": ("deepImageState", b"\x01"),
    "comments": ("string", b"caf\xe9 in Latin-1"),
    "anEmptyString": ("string", b""),
    "multiView": ("stringvector", text(b"left") + text(b"right")),
    "anEmptyStringvector": ("stringvector", b""),
    "aTiledesc": ("tiledesc", struct.pack("<IIB", 32, 16, 0)),
    "timeCode": ("timecode", struct.pack("<II", 0x01020304, 0x9ABCDEF0)),
    "aV2i": ("v2i", struct.pack("<2i", 1, 2)),
    "adoptedNeutral": ("v2f", floats(2)),
    "aV2d": ("v2d", doubles(2)),
    "aV3i": ("v3i", struct.pack("<3i", 1, 2, 3)),
    "aV3f": ("v3f", floats(3)),
    "aV3d": ("v3d", doubles(3)),
    "studioBlob": ("ofItsOwnType", b"\x01\x02\x00\x03"),
    "aVeryLongNameBeyondTheThirtyOneLettersOfOld": ("string", b"long"),
}


def attributes_of(raw: bytes) -> tuple[dict[str, tuple[str, bytes]], int]:
    """The attributes of a file's first part, read without our reader, and where they end."""
    found, place = {}, 8
    while raw[place]:
        name, kind, _ = raw[place:].split(b"\0", 2)
        start = place + len(name) + len(kind) + 6
        (length,) = struct.unpack_from("<i", raw, start - 4)
        found[name.decode()] = kind.decode(), raw[start : start + length]
        place = start + length
    return found, place


def with_attributes(raw: bytes, attributes) -> bytes:
    """A file of one part and two chunks with more attributes in its header."""
    _, end = attributes_of(raw)
    more = b"".join(f"{n}\0{k}\0".encode() + struct.pack("<i", len(v)) + v for n, (k, v) in attributes.items())
    table = [place + len(more) for place in struct.unpack_from("<2Q", raw, end + 1)]
    version = struct.pack("<II", 20000630, 2 | 0x400)
    return version + raw[8:end] + more + b"\0" + struct.pack("<2Q", *table) + raw[end + 17 :]


def test_every_attribute_comes_back_byte_for_byte(exr_file, tmp_path):
    source = exr_file()
    source.write_bytes(with_attributes(source.read_bytes(), ATTRIBUTES))
    exr.write_back(tmp_path / "out.exr", exr.read(source), **NOTHING, attributes={"scail2_farm:seed": "7"})
    before, _ = attributes_of(source.read_bytes())
    after, _ = attributes_of((tmp_path / "out.exr").read_bytes())
    assert {name: after.get(name) for name in ATTRIBUTES} == ATTRIBUTES
    assert after == before | {"scail2_farm:seed": ("string", b"7")}
    assert oiio.ImageBuf(str(tmp_path / "out.exr")).get_pixels(oiio.HALF) is not None


def test_pixels_survive_a_header_the_library_refuses(exr_file, tmp_path, picture):
    source = exr_file()
    source.write_bytes(with_attributes(source.read_bytes(), ATTRIBUTES))
    planes = exr.read(source).parts[0].planes
    for index, name in enumerate("RGB"):
        assert np.array_equal(planes[name].view(np.uint16), picture[..., index].view(np.uint16))


def test_a_name_that_is_not_utf8_is_kept(exr_file, tmp_path):
    source = exr_file(header={"ownXr": "a studio"})
    source.write_bytes(source.read_bytes().replace(b"ownXr\0", b"own\xe9r\0"))
    exr.write_back(tmp_path / "out.exr", exr.read(source), **NOTHING, attributes={})
    assert b"own\xe9r\0string\0" in (tmp_path / "out.exr").read_bytes()


def test_a_frame_that_stands_in_loses_its_own_times(exr_file, tmp_path):
    source = exr_file(header={"keyCode": OpenEXR.KeyCode(1, 2, 3, 4, 5, 4, 64), "owner": "a studio"})
    attributes = {"timeCode": "01:00:00:00", "framesPerSecond": Fraction(24)}
    exr.write_back(tmp_path / "out.exr", exr.read(source), **NOTHING, attributes=attributes, without=exr.TIMES)
    part = exr.examine(tmp_path / "out.exr")[0]
    assert "keyCode" not in part.attributes
    assert exr.timecode_of(part, Fraction(24)) == "01:00:00:00"
    assert part.text("owner") == "a studio"


def test_the_plates_own_word_stands(exr_file, tmp_path):
    own = {"framesPerSecond": Fraction(24000, 1001), "colorInteropID": "unknown", "scail2_farm:seed": "1"}
    attributes = {"framesPerSecond": Fraction(25), "colorInteropID": "lin_ap1_scene", "scail2_farm:seed": "2"}
    exr.write_back(tmp_path / "out.exr", exr.read(exr_file(header=own)), **NOTHING, attributes=attributes)
    part = exr.examine(tmp_path / "out.exr")[0]
    assert exr.rate_of(part) == Fraction(24000, 1001)
    assert part.text("colorInteropID") == "unknown"
    assert part.text("scail2_farm:seed") == "2"


# ------------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("said", "ours", "written"),
    [
        ({}, "lin_ap1_scene", "lin_ap1_scene"),
        ({"chromaticities": AP1}, "lin_ap1_scene", "lin_ap1_scene"),
        ({"chromaticities": AP1}, "ocio:acescct_ap1_scene", "ocio:acescct_ap1_scene"),
        ({"chromaticities": AP0}, "lin_ap1_scene", None),
        ({"chromaticities": AP0}, "data", None),
        ({"acesImageContainerFlag": 1, "chromaticities": AP0}, "lin_ap0_scene", "lin_ap0_scene"),
        ({"acesImageContainerFlag": 1, "chromaticities": AP0}, "lin_ap1_scene", None),
        ({"whiteLuminance": 100.0}, "data", None),
    ],
)
def test_a_space_is_added_where_it_contradicts_nothing(exr_file, tmp_path, said, ours, written):
    source = exr.read(exr_file(header=said))
    exr.write_back(tmp_path / "out.exr", source, **NOTHING, attributes={"colorInteropID": ours})
    part = exr.examine(tmp_path / "out.exr")[0]
    assert part.text("colorInteropID") == written
    assert exr.color_contradictions(part) == ""


def two_parts(path, picture, *, first=None, second=None):
    """A depth part, then a picture."""
    half = np.ascontiguousarray(picture[..., 0])
    storage = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}
    depth = OpenEXR.Part(storage | (first or {}), {"Z": half.astype(np.float32)}, "depth")
    ids = np.arange(960, dtype=np.uint32).reshape(24, 40)
    planes = {"R": half, "G": half, "B": half, "id": ids, "spec.R": half.astype(np.float32)}
    OpenEXR.File([depth, OpenEXR.Part(storage | (second or {}), planes, "rgba")]).write(str(path))
    return path


def test_a_space_is_shared_by_all_parts(tmp_path, picture):
    silent = two_parts(tmp_path / "silent.exr", picture)
    data = two_parts(tmp_path / "data.exr", picture, first={"colorInteropID": "data"})
    for source, written in ((silent, ["lin_ap1_scene"] * 2), (data, ["data", None])):
        attributes = {"colorInteropID": "lin_ap1_scene"}
        exr.write_back(tmp_path / "out.exr", exr.read(source), **NOTHING, attributes=attributes)
        parts = OpenEXR.File(str(tmp_path / "out.exr")).parts
        assert [part.header.get("colorInteropID") for part in parts] == written
        assert not OpenEXR.checkColorMetadata(parts[1].header, parts[0].header)


def test_several_contradictions_are_all_told(exr_file):
    told = exr.color_contradictions(exr.examine(exr_file(header={"acesImageContainerFlag": 2}))[0])
    assert told.count("acesImageContainerFlag") == 2


# ------------------------------------------------------------------- what people are told


def test_channels_are_listed_over_all_parts(tmp_path, picture):
    parts = exr.examine(two_parts(tmp_path / "plate.exr", picture))
    listed = dict(exr.channel_list(parts, 1))
    assert listed == {"R": "half", "G": "half", "B": "half", "id": "uint", "spec.R": "float", "depth:Z": "float"}
    assert list(listed)[-1] == "depth:Z"


def test_the_type_of_the_picture(exr_file, picture):
    red = picture[..., 0]
    mixed = exr_file(channels={"R": red, "G": red, "B": red.astype(np.float32)})
    assert exr.examine(mixed)[0].pixel_type == "mixed"
    assert (
        exr.examine(exr_file(channels=dict.fromkeys("RGB", red) | {"Z": red.astype(np.float32)}))[0].pixel_type
        == "half"
    )


def test_views_are_named_and_kept(tmp_path, picture, exr_file, media):
    assert exr.views(exr.examine(media / "exr/Trunks.exr")) == ("left",)
    red = picture[..., 0]
    planes = dict.fromkeys(("R", "G", "B", "right.R", "right.G", "right.B"), red)
    layered = exr_file("layers.exr", {"multiView": ["left", "right"]}, planes)
    parted = two_parts(tmp_path / "parts.exr", picture, first={"view": "left"}, second={"view": "right"})
    for source in (layered, parted):
        exr.write_back(tmp_path / "out.exr", exr.read(source), **NOTHING, attributes={})
        assert exr.views(exr.examine(source)) == exr.views(exr.examine(tmp_path / "out.exr")) == ("left", "right")
    assert exr.views(exr.examine(exr_file())) == ()
