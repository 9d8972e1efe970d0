"""DPX, TIFF and PNG plates: read as stored, written back as they were outside the matte, refused in words."""

import contextlib
import io
import itertools
import struct
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from scail2_farm.errors import DiskFull, PlateMissing, PlateUnreadable
from scail2_farm.media import rasters

HEIGHT, WIDTH = 5, 7
NOWHERE = np.zeros((HEIGHT, WIDTH), np.bool_)
SOMEWHERE = NOWHERE.copy()
SOMEWHERE[1:3, 2:6] = True
CHANNELS = {50: ("R", "G", "B"), 51: ("R", "G", "B", "A"), 52: ("A", "B", "G", "R"), 6: ("Y",)}
PACKINGS = [(8, 0), (10, 0), (10, 1), (10, 2), (12, 0), (12, 1), (12, 2), (16, 0)]


def line(codes: list[int], bits: int, packing: int, order: str, *, luma: bool) -> bytes:
    """One line of DPX, code by code as SMPTE ST 268 draws it, up to the next word of 32 bits."""
    if bits == 8:
        packed = bytes(codes)
    elif bits == 16 or (bits == 12 and packing):
        packed = b"".join(
            struct.pack(f"{order}H", code << 4 if bits == 12 and packing == 1 else code) for code in codes
        )
    elif packing:
        words = []
        for index in range(0, len(codes), 3):
            three = [*codes[index : index + 3], 0, 0][:3]
            first, second, third = reversed(three) if luma else three
            words.append((first << 20 | second << 10 | third) << (2 if packing == 1 else 0))
        packed = struct.pack(f"{order}{len(words)}I", *words)
    else:
        stream = sum(code << index * bits for index, code in enumerate(codes))
        words = [stream >> 32 * index & 0xFFFFFFFF for index in range(-(-len(codes) * bits // 32))]
        packed = struct.pack(f"{order}{len(words)}I", *words)
    return packed + b"\0" * (-len(packed) % 4)


def dpx_bytes(
    codes: np.ndarray, *, bits: int = 10, packing: int = 1, order: str = ">", kind: int = 50, end_of_line: int = 0
) -> bytearray:
    """A whole file with user data behind its header; its fields are undefined but for those of the picture."""
    height, width = codes.shape[:2]
    offset = 2048 + 32
    head = bytearray(b"\xff" * offset)
    struct.pack_into(f"{order}4sI8s", head, 0, b"SDPX" if order == ">" else b"XPDS", offset, b"V2.0")
    struct.pack_into(f"{order}HHII", head, 768, 0, 1, width, height)
    fields = (0, 0, 0, 0, 0, kind, 0, 0, bits, packing, 0, offset, end_of_line, 0)
    struct.pack_into(f"{order}5I4BHHIII", head, 780, *fields)
    head[2048:] = b"user data of somebody".ljust(32, b"\0")
    lines = (line([int(code) for code in row.ravel()], bits, packing, order, luma=kind == 6) for row in codes)
    return head + b"".join(one + b"\xee" * end_of_line for one in lines)


def random_codes(bits: int, channels: int, seed: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (*size, channels))
    return codes.astype(np.uint8 if bits == 8 else np.uint16)


def saved(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def oiio_codes(path: Path) -> np.ndarray:
    as_stored = oiio.ImageSpec()
    as_stored["oiio:UnassociatedAlpha"] = 1
    image = oiio.ImageInput.open(str(path), as_stored)
    assert image is not None, oiio.geterror()
    spec = image.spec()
    codes = image.read_image(spec.format)
    assert codes is not None, image.geterror()
    image.close()
    return codes.reshape(spec.height, spec.width, -1)


def ffmpeg_codes(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    codes = frame.to_ndarray()
    return codes.reshape(*codes.shape[:2], -1)


# --------------------------------------------------------------------------- DPX


@pytest.mark.parametrize(("kind", "order", "form"), list(itertools.product(CHANNELS, "><", PACKINGS)))
def test_dpx_codes_are_read_and_nothing_but_the_matte_is_written(tmp_path, kind, order, form):
    bits, packing = form
    codes = random_codes(bits, len(CHANNELS[kind]))
    source = saved(tmp_path / "in.dpx", dpx_bytes(codes, bits=bits, packing=packing, order=order, kind=kind))
    pixels = rasters.read(source)
    assert np.array_equal(pixels.codes, codes)
    header = pixels.header
    assert (header.kind, header.channels, header.pixel_type) == ("dpx", CHANNELS[kind], f"uint{bits}")
    rgb = np.random.default_rng(4).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    rasters.write_back(tmp_path / "same.dpx", pixels, rgb=rgb, where=NOWHERE, attributes={})
    assert (tmp_path / "same.dpx").read_bytes() == source.read_bytes()
    rgb = np.repeat(rgb[..., :1], 3, axis=2) if kind == 6 else rgb
    rasters.write_back(tmp_path / "out.dpx", pixels, rgb=rgb, where=SOMEWHERE, attributes={})
    expected = codes.copy()
    for index, name in enumerate(CHANNELS[kind]):
        if name != "A":
            wanted = np.rint(rgb[..., 0 if name == "Y" else "RGB".index(name)].astype(float) * (2**bits - 1))
            expected[..., index][SOMEWHERE] = wanted[SOMEWHERE]
    whole = dpx_bytes(expected, bits=bits, packing=packing, order=order, kind=kind)
    assert (tmp_path / "out.dpx").read_bytes() == whole


@pytest.mark.parametrize(
    ("order", "form"), list(itertools.product("><", [(8, 0), (10, 1), (10, 2), (12, 1), (12, 2), (16, 0)]))
)
def test_ffmpeg_reads_the_same_codes(tmp_path, order, form):
    bits, packing = form
    codes = random_codes(bits, 3, size=(6, 8))
    path = saved(tmp_path / "in.dpx", dpx_bytes(codes, bits=bits, packing=packing, order=order))
    assert np.array_equal(ffmpeg_codes(path), rasters.read(path).codes)


@pytest.mark.parametrize(
    ("bits", "channels", "end", "width"),
    list(itertools.product((8, 10, 12, 16), (1, 3, 4), ("big", "little"), (63, 64))),
)
def test_openimageio_wrote_these_codes(tmp_path, bits, channels, end, width):
    """It writes 10 bits of RGB filled, the rest packed, and lines that do not end on a word."""
    codes = random_codes(bits, channels, size=(3, width))
    spec = oiio.ImageSpec(width, 3, channels, "uint8" if bits == 8 else "uint16")
    spec.channelnames = ("Y",) if channels == 1 else ("R", "G", "B", "A")[:channels]
    spec["oiio:BitsPerSample"], spec["oiio:Endian"] = bits, end
    whole = codes if bits == 8 else np.round(codes.astype(float) * 65535 / (2**bits - 1)).astype(np.uint16)
    output = oiio.ImageOutput.create("dpx")
    assert output is not None
    assert output.open(str(tmp_path / "in.dpx"), spec)
    assert output.write_image(whole)
    output.close()
    pixels = rasters.read(tmp_path / "in.dpx")
    assert np.array_equal(pixels.codes, codes)
    where = np.ones(codes.shape[:2], np.bool_)
    rasters.write_back(tmp_path / "out.dpx", pixels, rgb=rasters.display_rgb(pixels), where=where, attributes={})
    assert (tmp_path / "out.dpx").read_bytes() == (tmp_path / "in.dpx").read_bytes()


def test_a_real_file_of_nuke(media, tmp_path):
    source = media / "dpx/dpx_nuke_10bits_rgb.dpx"
    pixels = rasters.read(source)
    assert np.array_equal(pixels.codes, np.round(oiio_codes(source).astype(float) * 1023 / 65535))
    assert np.array_equal(pixels.codes, ffmpeg_codes(source))
    header = pixels.header
    assert (header.rate, header.timecode(Fraction(24)), header.color, header.pixel_aspect) == (None, None, None, 1.0)
    where = np.zeros((512, 512), np.bool_)
    rgb = rasters.display_rgb(pixels)
    for chosen in (where, ~where):
        rasters.write_back(tmp_path / "out.dpx", pixels, rgb=rgb, where=chosen, attributes={})
        assert (tmp_path / "out.dpx").read_bytes() == source.read_bytes()


@settings(deadline=None, max_examples=60)
@given(
    form=st.sampled_from(PACKINGS),
    order=st.sampled_from("><"),
    kind=st.sampled_from(sorted(CHANNELS)),
    width=st.integers(1, 11),
    end_of_line=st.sampled_from([0, 4, 12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_matte_changes_its_own_codes_alone(form, order, kind, width, end_of_line, seed):
    bits, packing = form
    random = np.random.default_rng(seed)
    codes = random_codes(bits, len(CHANNELS[kind]), seed, (4, width))
    where = random.random((4, width)) < 0.3
    rgb = random.uniform(-0.2, 1.2, (4, width, 3)).astype(np.float32)
    whole = dpx_bytes(codes, bits=bits, packing=packing, order=order, kind=kind, end_of_line=end_of_line)
    with tempfile.TemporaryDirectory() as folder:
        source, target = saved(Path(folder, "in.dpx"), whole), Path(folder, "out.dpx")
        pixels = rasters.read(source)
        rasters.write_back(target, pixels, rgb=rgb, where=np.zeros_like(where), attributes={})
        assert target.read_bytes() == whole
        rasters.write_back(target, pixels, rgb=rgb, where=where, attributes={})
        written = rasters.read(target).codes
        again = dpx_bytes(written, bits=bits, packing=packing, order=order, kind=kind, end_of_line=end_of_line)
        assert target.read_bytes() == again
    kept = np.broadcast_to(~where[..., None], codes.shape).copy()
    kept[..., [index for index, name in enumerate(CHANNELS[kind]) if name == "A"]] = True
    assert np.array_equal(written[kept], codes[kept])
    if kind == 50:
        assert np.array_equal(written[where], np.rint(np.clip(rgb, 0, 1) * np.float32(2**bits - 1))[where])


def header_fields(path: Path) -> tuple[int, float, float, bytes, bytes]:
    raw = path.read_bytes()
    digits, film, video = (
        struct.unpack_from(f">{kind}", raw, at)[0] for kind, at in (("I", 1920), ("f", 1724), ("f", 1940))
    )
    return digits, film, video, raw[160:260].rstrip(b"\0"), raw[260:460].rstrip(b"\0")


def test_time_rate_and_aspect_of_a_dpx(tmp_path):
    whole = dpx_bytes(random_codes(10, 3))
    blank = rasters.examine(saved(tmp_path / "blank.dpx", whole))
    assert (blank.rate, blank.timecode(Fraction(24)), blank.pixel_aspect, blank.color) == (None, None, 1.0, None)
    struct.pack_into(">I", whole, 1920, 0x01020369)
    struct.pack_into(">f", whole, 1940, 29.97)
    struct.pack_into(">f", whole, 1724, 24)
    struct.pack_into(">II", whole, 1628, 2, 1)
    whole[801] = 3
    said = rasters.examine(saved(tmp_path / "said.dpx", whole))
    assert (said.rate, said.pixel_aspect, said.color) == (Fraction(30000, 1001), 2.0, ("dpx", "Logarithmic"))
    assert said.timecode(Fraction(30000, 1001)) == "01:02:03;29"
    struct.pack_into(">I", whole, 1920, 0x01020347)
    fast = rasters.examine(saved(tmp_path / "fast.dpx", whole))
    assert fast.timecode(Fraction(48)) == "01:02:03:47"
    struct.pack_into(">I", whole, 1920, 0x0F020347)
    assert rasters.examine(saved(tmp_path / "odd.dpx", whole)).timecode(Fraction(24)) is None


def test_what_a_dpx_does_not_say_is_filled_in_and_what_it_says_stands(tmp_path):
    attributes = {
        "timeCode": "10:11:12:13",
        "framesPerSecond": Fraction(24000, 1001),
        "scail2_farm:version": "1.2",
        "scail2_farm:seed": "7",
    }
    whole = dpx_bytes(random_codes(10, 3))
    for name in ("blank", "said"):
        pixels = rasters.read(saved(tmp_path / f"{name}.dpx", whole))
        rgb = rasters.display_rgb(pixels)
        rasters.write_back(tmp_path / f"{name}_out.dpx", pixels, rgb=rgb, where=NOWHERE, attributes=attributes)
        struct.pack_into(">I", whole, 1920, 0x01000000)
        struct.pack_into(">f", whole, 1724, 25)
        whole[160:168] = b"a camera"
        whole[260:265] = b"dailies"[:5]
    digits, film, video, creator, project = header_fields(tmp_path / "blank_out.dpx")
    assert (digits, creator, project) == (0x10111213, b"scail2_farm 1.2", b"seed=7")
    assert film == video == pytest.approx(24000 / 1001)
    assert (tmp_path / "said_out.dpx").read_bytes() == (tmp_path / "said.dpx").read_bytes()
    pixels = rasters.read(tmp_path / "said.dpx")
    rgb = rasters.display_rgb(pixels)
    rasters.write_back(tmp_path / "held.dpx", pixels, rgb=rgb, where=NOWHERE, attributes=attributes, own_time=False)
    assert header_fields(tmp_path / "held.dpx")[0] == 0x10111213
    rasters.write_back(tmp_path / "held.dpx", pixels, rgb=rgb, where=NOWHERE, attributes={}, own_time=False)
    assert header_fields(tmp_path / "held.dpx")[0] == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (768, b"\0\1", "do not run left to right"),
        (770, b"\0\2", "2 image elements"),
        (780, b"\0\0\0\1", "signed codes"),
        (800, b"\x66", "YCbCr"),
        (800, b"\x09", "channels this reader does not know"),
        (803, b"\x20", "32 bits"),
        (804, b"\0\7", "packing 7"),
        (806, b"\0\1", "run-length encoding"),
        (772, b"\xff\xff\xff\xff", "impossible size"),
        (0, b"CDPX", "is not a DPX file"),
    ],
)
def test_other_dpx_is_refused_in_words(tmp_path, place, value, said):
    whole = dpx_bytes(random_codes(10, 3))
    whole[place : place + len(value)] = value
    with pytest.raises(PlateUnreadable, match=said) as caught:
        rasters.examine(saved(tmp_path / "in.dpx", whole))
    assert caught.value.what.startswith("in.dpx ")
    assert caught.value.fix


def test_where_lines_end_is_told_by_the_length(tmp_path):
    codes = random_codes(8, 3, size=(20, 30))
    aligned = dpx_bytes(codes, bits=8, packing=0)
    loose = aligned[:2080] + codes.tobytes()
    for whole in (aligned, loose):
        assert np.array_equal(rasters.read(saved(tmp_path / "in.dpx", whole)).codes, codes)
    with pytest.raises(PlateUnreadable, match="is incomplete"):
        rasters.examine(saved(tmp_path / "in.dpx", aligned[:-20]))
    with_more = loose + b"a footer"
    struct.pack_into(">I", with_more, 16, len(with_more))
    assert np.array_equal(rasters.read(saved(tmp_path / "in.dpx", with_more)).codes, codes)


def test_filled_codes_that_are_called_packed_are_refused(tmp_path):
    whole = dpx_bytes(random_codes(10, 3, size=(20, 48)))
    struct.pack_into(">H", whole, 804, 0)
    with pytest.raises(PlateUnreadable, match="as long as if they were filled"):
        rasters.examine(saved(tmp_path / "in.dpx", whole))


# --------------------------------------------------------------------------- TIFF


def tiff_file(path: Path, codes: np.ndarray, **said: object) -> Path:
    height, width, channels = codes.shape
    spec = oiio.ImageSpec(width, height, channels, str(codes.dtype) if codes.dtype != np.float32 else "float")
    spec.channelnames = {1: ("Y",), 2: ("Y", "A")}.get(channels, ("R", "G", "B", "A", "other")[:channels])
    spec.alpha_channel = spec.channelnames.index("A") if "A" in spec.channelnames else -1
    for name, value in said.items():
        spec[name.replace("__", ":")] = value
    if said.get("tile"):
        spec.tile_width = spec.tile_height = 16
    output = oiio.ImageOutput.create("tiff")
    assert output is not None
    assert output.open(str(path), spec), output.geterror()
    assert output.write_image(codes)
    output.close()
    return path


@pytest.mark.parametrize(
    ("pixel_type", "channels", "compression"),
    list(itertools.product(("uint8", "uint16", "float"), (1, 2, 3, 4, 5), ("none", "lzw", "zip", "packbits"))),
)
@pytest.mark.parametrize("form", [{}, {"tile": 1}, {"planarconfig": "separate"}, {"oiio__UnassociatedAlpha": 1}])
def test_tiff_comes_back_in_its_own_form(tmp_path, pixel_type, channels, compression, form):
    random = np.random.default_rng(5)
    codes = random_codes(8 if pixel_type == "uint8" else 16, channels)
    codes = random.normal(size=codes.shape).astype(np.float32) if pixel_type == "float" else codes
    source = tiff_file(tmp_path / "in.tif", codes, compression=compression, **form)
    pixels = rasters.read(source)
    assert np.array_equal(pixels.codes, codes)
    assert (pixels.header.pixel_type, pixels.header.compression) == (pixel_type, compression)
    rgb = random.random((HEIGHT, WIDTH, 3)).astype(np.float32)
    rasters.write_back(tmp_path / "out.tif", pixels, rgb=rgb, where=SOMEWHERE, attributes={})
    written = oiio_codes(tmp_path / "out.tif")
    assert written.dtype == codes.dtype
    assert np.array_equal(written[~SOMEWHERE], codes[~SOMEWHERE])
    color = 1 if channels < 3 else 3
    assert np.array_equal(written[..., color:], codes[..., color:])
    if color == 3:
        white = rasters.WHITES[pixel_type]
        wanted = rgb[SOMEWHERE] if white == 1 else np.rint(rgb[SOMEWHERE] * np.float32(white))
        assert np.array_equal(written[SOMEWHERE][:, :3], wanted)
    before, after = rasters.examine(source), rasters.examine(tmp_path / "out.tif")
    for name in ("channels", "alpha", "pixel_type", "compression", "pixel_aspect"):
        assert getattr(before, name) == getattr(after, name)


def tags_of(path: Path) -> dict[int, object]:
    with Image.open(path) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        return dict(image.tag_v2)


@pytest.mark.parametrize("prefix", [b"II", b"MM"])
def test_a_tiff_keeps_every_tag(tmp_path, prefix):
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=prefix)
    said = {270: "what it shows", 305: "A Tool 9", 306: "2020:01:01 00:00:00", 315: "somebody", 65000: "of a camera"}
    for tag, value in said.items():
        tags[tag] = value
    tags[37724] = b"Adobe Photoshop Document Data Block"
    tags[282], tags[283], tags[65001] = TiffImagePlugin.IFDRational(300, 7), TiffImagePlugin.IFDRational(300, 7), 70000
    profile = icc_profile("Studio RGB")
    Image.fromarray(random_codes(8, 4)).save(
        tmp_path / "in.tif", tiffinfo=tags, compression="tiff_lzw", icc_profile=profile
    )
    pixels = rasters.read(tmp_path / "in.tif")
    assert pixels.header.color == ("iCCP", "Studio RGB")
    attributes = {"scail2_farm:seed": "7"}
    rgb = rasters.display_rgb(pixels)
    rasters.write_back(tmp_path / "out.tif", pixels, rgb=rgb, where=NOWHERE, attributes=attributes)
    before, after = tags_of(tmp_path / "in.tif"), tags_of(tmp_path / "out.tif")
    kept = {tag: value for tag, value in before.items() if tag not in (273, 278, 279, 37724)}
    assert {tag: after.get(tag) for tag in kept} == kept
    assert 37724 not in after, "the layers of Photoshop would hide the picture"
    assert np.array_equal(oiio_codes(tmp_path / "in.tif"), oiio_codes(tmp_path / "out.tif"))


def test_a_real_tiff_comes_back(media, tmp_path):
    source = media / "tif/flower-rgb-contig-16.tif"
    pixels = rasters.read(source)
    assert (pixels.header.pixel_type, pixels.header.compression) == ("uint16", "none")
    where = np.zeros(pixels.codes.shape[:2], np.bool_)
    attributes = {"scail2_farm:seed": "7"}
    rasters.write_back(
        tmp_path / "out.tif", pixels, rgb=rasters.display_rgb(pixels), where=~where, attributes=attributes
    )
    assert np.array_equal(oiio_codes(tmp_path / "out.tif"), oiio_codes(source))
    written = tags_of(tmp_path / "out.tif")
    assert str(written[305]).startswith("GraphicsMagick")
    assert (written[269], written[270]) == ("flower-rgb-contig-16.tif", "scail2_farm:seed: 7")


def test_other_tiff_is_refused_in_words(tmp_path):
    gray, color = Image.fromarray(random_codes(8, 1)[..., 0]), Image.fromarray(random_codes(8, 3))
    upside = TiffImagePlugin.ImageFileDirectory_v2()
    upside[274] = 3
    cases = [
        (color.convert("CMYK"), {}, "is TIFF of CMYK"),
        (color.quantize(8), {}, "is TIFF of a palette"),
        (gray.convert("1"), {}, "is TIFF of 1 bits"),
        (color.convert("YCbCr"), {}, "is TIFF of YCbCr"),
        (color, {"tiffinfo": upside}, r"is to be turned when it is shown \(orientation 3\)"),
        (gray, {"compression": "jpeg"}, r"compressed in a way that could not be given back \(code 7\)"),
        (color, {"save_all": True, "append_images": [color]}, "more than one picture"),
    ]
    for picture, how, said in cases:
        picture.save(tmp_path / "in.tif", **how)
        with pytest.raises(PlateUnreadable, match=said) as caught:
            rasters.examine(tmp_path / "in.tif")
        assert "write it" in caught.value.fix


# --------------------------------------------------------------------------- PNG


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_bytes(codes: np.ndarray, *before: tuple[bytes, bytes], after: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    height, width, channels = codes.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.astype(f">u{codes.dtype.itemsize}").tobytes() for row in codes)
    front = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, codes.dtype.itemsize * 8, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(lines))
    around = [b"".join(chunk(*one) for one in some) for some in (before, after)]
    return b"\x89PNG\r\n\x1a\n" + front + around[0] + pixels + around[1] + chunk(b"IEND", b"")


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    raw, place, found = path.read_bytes(), 8, []
    while place < len(raw):
        length, name = struct.unpack_from(">I4s", raw, place)
        found.append((name, raw[place + 8 : place + 8 + length]))
        place += length + 12
    return [one for one in found if one[0] not in (b"IHDR", b"IDAT", b"IEND")]


def icc_profile(name: str) -> bytes:
    """A profile that holds its own name and nothing else, as version 4 writes it."""
    letters = name.encode("utf-16-be")
    words = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(letters), 28) + letters
    return bytes(128) + struct.pack(">I4sII", 1, b"desc", 144, len(words)) + words


SRGB = (b"sRGB", b"\0")
GAMMA = (b"gAMA", struct.pack(">I", 45455))
PROFILE = (b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile("Display P3")))
PQ = (b"cICP", bytes([9, 16, 0, 1]))
PRIMARIES = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
OTHER_PRIMARIES = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))


@pytest.mark.parametrize(("bits", "channels"), list(itertools.product((8, 16), (1, 2, 3, 4))))
def test_png_comes_back_with_its_own_chunks(tmp_path, bits, channels):
    codes = random_codes(bits, channels)
    before = (
        GAMMA,
        (b"pHYs", struct.pack(">IIB", 100, 200, 0)),
        (b"tEXt", b"Author\0somebody"),
        (b"prVt", b"of a tool"),
    )
    after = ((b"tIME", struct.pack(">H5B", 2020, 1, 1, 0, 0, 0)),)
    source = saved(tmp_path / "in.png", png_bytes(codes, *before, after=after))
    pixels = rasters.read(source)
    assert np.array_equal(pixels.codes, codes)
    assert (pixels.header.pixel_aspect, pixels.header.color) == (2.0, ("gAMA", "0.45455"))
    rgb = np.random.default_rng(6).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    rasters.write_back(tmp_path / "out.png", pixels, rgb=rgb, where=SOMEWHERE, attributes={})
    assert chunks_of(tmp_path / "out.png") == chunks_of(source)
    written = oiio_codes(tmp_path / "out.png")
    assert written.dtype == codes.dtype
    assert np.array_equal(written[~SOMEWHERE], codes[~SOMEWHERE])
    color = 1 if channels < 3 else 3
    assert np.array_equal(written[..., color:], codes[..., color:])
    if color == 3:
        assert np.array_equal(written[SOMEWHERE][:, :3], np.rint(rgb[SOMEWHERE] * np.float32(2**bits - 1)))
    rasters.write_back(tmp_path / "ours.png", pixels, rgb=rgb, where=NOWHERE, attributes={"scail2_farm:seed": "7"})
    again = rasters.read(tmp_path / "ours.png")
    rasters.write_back(tmp_path / "ours.png", again, rgb=rgb, where=NOWHERE, attributes={"scail2_farm:seed": "8"})
    ours = [one for one in chunks_of(tmp_path / "ours.png") if one not in chunks_of(source)]
    assert ours == [(b"iTXt", b"scail2_farm:seed\0\0\0\0\x008")], "ours alone are added, and replaced another time"
    with Image.open(tmp_path / "ours.png") as seen:
        seen.load()
        assert seen.info["Author"] == "somebody"


def test_a_png_says_its_colour_by_precedence(tmp_path):
    codes = random_codes(16, 3)

    def said(*chunks: tuple[bytes, bytes]) -> tuple[str, str] | None:
        return rasters.examine(saved(tmp_path / "in.png", png_bytes(codes, *chunks))).color

    assert said() is None
    assert said(PQ, PROFILE, SRGB, GAMMA) == ("cICP", "9/16/0")
    assert said(PROFILE, SRGB, GAMMA) == ("iCCP", "Display P3")
    assert said(SRGB, GAMMA) == ("sRGB", "perceptual")
    assert said(GAMMA, PRIMARIES) == ("gAMA", "0.45455")
    assert said(GAMMA, OTHER_PRIMARIES) is None
    assert said((b"iCCP", b"named\0\0not deflated")) == ("iCCP", "named")


def test_other_png_is_refused_in_words(tmp_path):
    codes = random_codes(8, 3)
    pictures = {"palette": Image.fromarray(codes).quantize(8), "1 bits": Image.fromarray(codes).convert("1")}
    files = {}
    for said, picture in pictures.items():
        content = io.BytesIO()
        picture.save(content, "png")
        files[said] = content.getvalue()
    files["animated"] = png_bytes(codes, (b"acTL", bytes(8)))
    files["one colour that is transparent"] = png_bytes(codes, (b"tRNS", bytes(6)))
    files["narrow range"] = png_bytes(codes, (b"cICP", bytes([9, 16, 0, 0])))
    files["too few bytes"] = png_bytes(codes).replace(struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", 9999, 9999))
    files["damaged in its cICP chunk"] = png_bytes(codes, (b"cICP", bytes(2)))
    for said, content in files.items():
        if said == "too few bytes":
            content = content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]
        with pytest.raises(PlateUnreadable, match=said):
            rasters.examine(saved(tmp_path / "in.png", content))


# --------------------------------------------------------------------------- all three


@pytest.fixture
def whole(tmp_path) -> dict[str, bytes]:
    """A file of each kind."""
    codes = random_codes(8, 3, size=(20, 32))
    png = png_bytes(codes, GAMMA)
    plain = tiff_file(tmp_path / "plain.tif", codes, compression="none").read_bytes()
    packed = tiff_file(tmp_path / "packed.tif", codes, compression="zip").read_bytes()
    return {"a.dpx": bytes(dpx_bytes(codes, bits=8, packing=0)), "a.png": png, "a.tif": plain, "b.tif": packed}


def test_every_truncation_is_seen_without_decoding(tmp_path, whole):
    for name, content in whole.items():
        for length in {*range(0, len(content), 37), len(content) - 1}:
            with pytest.raises(PlateUnreadable) as caught:
                rasters.examine(saved(tmp_path / name, content[:length]))
            assert caught.value.what.startswith(f"{name} is")


def test_damage_is_told_and_never_crashes(tmp_path, whole):
    random = np.random.default_rng(8)
    told = 0
    for name, content in whole.items():
        for _ in range(60):
            spoilt = np.frombuffer(content, np.uint8).copy()
            spoilt[random.integers(0, len(spoilt), 3)] = random.integers(0, 256, 3)
            path = saved(tmp_path / name, spoilt.tobytes())
            with contextlib.suppress(PlateUnreadable):
                rasters.read(path)
                continue
            told += 1
    assert told > 100


def test_what_is_not_there_is_told(tmp_path):
    (tmp_path / "folder.dpx").mkdir()
    for name in ("none.dpx", "none.png", "none.tif", "folder.dpx"):
        with pytest.raises(PlateMissing, match=name):
            rasters.examine(tmp_path / name)


@pytest.mark.parametrize(
    ("format", "suffix", "white"), [("dpx10", "dpx", 1023), ("tiff16", "tif", 65535), ("png16", "png", 65535)]
)
def test_a_new_file_holds_the_nearest_codes(tmp_path, format, suffix, white):
    rgb = np.random.default_rng(9).uniform(-0.1, 1.1, (20, 30, 3)).astype(np.float32)
    rgb[0, 0] = (np.nan, np.inf, -np.inf)
    path = tmp_path / f"out.{suffix}"
    attributes = {
        "timeCode": "01:02:03;04",
        "framesPerSecond": Fraction(30000, 1001),
        "pixelAspectRatio": 2.0,
        "colorInteropID": "g24_rec709_display",
        "scail2_farm:seed": "7",
    }
    rasters.write_rgb(path, rgb, format=format, attributes=attributes)
    wanted = np.rint(np.clip(np.nan_to_num(rgb, nan=0.0), 0, 1) * np.float32(white))
    pixels = rasters.read(path)
    assert np.array_equal(pixels.codes, wanted)
    assert pixels.header.pixel_aspect == 2.0
    assert np.array_equal(rasters.read_rgb(path), wanted.astype(np.float32) / np.float32(white))
    others = ffmpeg_codes(path) if format == "dpx10" else oiio_codes(path)
    assert np.array_equal(others, wanted)
    assert b"7" in path.read_bytes()
    if format == "dpx10":
        header = pixels.header
        assert (header.rate, header.timecode(Fraction(30000, 1001))) == (Fraction(30000, 1001), "01:02:03;04")
        assert header.color == ("dpx", "ITU-R 709-4")
        assert header_fields(path)[3:] == (b"scail2_farm", b"seed=7")
    elif format == "png16":
        assert pixels.header.color == ("cICP", "1/1/0")


@pytest.mark.parametrize(("format", "suffix"), [("dpx10", "dpx"), ("tiff16", "tif"), ("png16", "png")])
def test_a_new_file_of_no_known_colour_says_none(tmp_path, format, suffix):
    path = tmp_path / f"out.{suffix}"
    attributes = {"colorInteropID": "ocio:arrilogc4_awg4_scene"}
    rasters.write_rgb(path, np.zeros((4, 4, 3), np.float32), format=format, attributes=attributes)
    assert rasters.examine(path).color is None
    assert rasters.examine(path).timecode(Fraction(24)) is None


def test_drop_frame_above_thirty_is_left_out(tmp_path):
    attributes = {"timeCode": "01:02:03;04", "framesPerSecond": Fraction(60000, 1001)}
    rasters.write_rgb(tmp_path / "out.dpx", np.zeros((4, 4, 3), np.float32), format="dpx10", attributes=attributes)
    header = rasters.examine(tmp_path / "out.dpx")
    assert (header.rate, header.timecode(Fraction(60000, 1001))) == (Fraction(60000, 1001), None)


def test_a_gray_plate_gets_the_luma(tmp_path):
    codes = random_codes(16, 1)
    pixels = rasters.read(saved(tmp_path / "in.png", png_bytes(codes)))
    shown = rasters.display_rgb(pixels)
    assert (shown == shown[..., :1]).all()
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    rgb[..., 1] = 1
    rasters.write_back(tmp_path / "out.png", pixels, rgb=rgb, where=SOMEWHERE, attributes={})
    assert (oiio_codes(tmp_path / "out.png")[SOMEWHERE] == round(0.7152 * 65535)).all()


def test_black_is_the_same_file_without_a_picture(tmp_path, whole):
    for name, content in whole.items():
        black = rasters.blackened(rasters.read(saved(tmp_path / name, content)))
        shape = black.codes.shape[:2]
        rgb, where = np.ones((*shape, 3), np.float32), np.zeros(shape, np.bool_)
        where[3:5] = True
        rasters.write_back(tmp_path / f"out_{name}", black, rgb=rgb, where=where, attributes={})
        written = rasters.read(tmp_path / f"out_{name}").codes
        assert (written[where] == 255).all()
        assert (written[~where] == 0).all()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, whole):
    folder = tmp_path / "full"
    folder.mkdir()
    for name, content in whole.items():
        (folder / f"{name}.part").symlink_to("/dev/full")
        pixels = rasters.read(saved(tmp_path / name, content))
        where = np.ones(pixels.codes.shape[:2], np.bool_)
        with pytest.raises(DiskFull):
            rasters.write_back(folder / name, pixels, rgb=rasters.display_rgb(pixels), where=where, attributes={})
        assert not list(folder.iterdir())


def test_many_threads_read_at_once(tmp_path, whole):
    paths = [saved(tmp_path / name, content) for name, content in whole.items()] * 10
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(rasters.read, paths))
    for path, pixels in zip(paths, read, strict=True):
        assert np.array_equal(pixels.codes, rasters.read(path).codes)


def test_rgb_and_where_must_fit(tmp_path, whole):
    pixels = rasters.read(saved(tmp_path / "a.png", whole["a.png"]))
    rgb = rasters.display_rgb(pixels)
    with pytest.raises(ValueError, match="do not fit"):
        rasters.write_back(tmp_path / "out.png", pixels, rgb=rgb[1:], where=np.ones((20, 32), np.bool_), attributes={})
