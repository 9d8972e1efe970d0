"""The sheet of a shot."""

import numpy as np
import pytest
from PIL import Image

from scail2_farm.review.sheets import (
    ALARM,
    COLUMNS,
    GROUND,
    LINE,
    OUTLINE,
    QUIET,
    SLOT_COLORS,
    Performed,
    draw_sheet,
    sheet_row,
    write_sheet,
)

BEFORE, AFTER, WIPE, DIFFERENCE, MATTES = range(5)


def as_it_is(rgb):
    return np.clip(np.nan_to_num(rgb), 0.0, 1.0)


def row(width, height, label="1001", *, to_display=as_it_is, matte=None, spoil=lambda before, after: None, **more):
    """A gray frame whose upper left quarter is replaced by (0.9, 0.2, 0.1), by the character in the red slot."""
    before = np.full((height, width, 3), 0.5, np.float32)
    after = before.copy()
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 2] = 2
    after[labels == 2] = (0.9, 0.2, 0.1)
    spoil(before, after)
    matte = (labels > 0).astype(np.float32) if matte is None else matte
    return sheet_row(label, before=before, after=after, labels=labels, matte=matte, to_display=to_display, **more)


def tiles(sheet, rows):
    """The left edges and the size of the tiles, found by what is not ground."""
    pixels = np.asarray(sheet)
    lit = (pixels != GROUND).any(axis=2)
    lines = lit.mean(axis=1) > 0.8
    height = int(lines.sum()) // rows
    top = int(np.argmax(lines))
    columns = lit[top : top + height].all(axis=0)
    edges = np.flatnonzero(np.diff(columns.astype(int)) == 1) + 1
    return pixels, top, height, edges.tolist()


def of_color(tile, color):
    return (tile == color).all(axis=2)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (333, 240), (1920, 1080), (64, 192)])
def test_five_columns_a_row_per_frame_readable_at_any_size(width, height):
    rows = [row(width, height, str(n)) for n in (1001, 1040, 1080)]
    sheet = draw_sheet(title="sh010 v001", rows=rows, cast={"ada": "red"})
    pixels, top, tile_height, edges = tiles(sheet, 3)
    assert len(edges) == len(COLUMNS) - 1, "the plate moves its own people"
    assert 160 <= tile_height <= 480
    assert sheet.width <= 2500
    before, after, wipe, difference, mattes = (pixels[top : top + tile_height, left : left + 100] for left in edges)
    assert (before[5, 5] == 128).all()
    assert after[5, 5].tolist() == [230, 51, 26]
    assert wipe[5, 5].tolist() == [128, 128, 128]
    assert difference[5, 5].min() == 255
    assert (difference[-2, 5] == 0).all(), "black where nothing was touched"
    red = SLOT_COLORS["red"]
    assert np.argmax(mattes[5, 5]) == 0
    assert mattes[-2, 5].tolist() == [89, 89, 89]
    assert any(of_color(pixels[-40:, x : x + 1], red).any() for x in range(edges[0], edges[0] + 30)), "the legend"


def test_the_wipe_shows_before_and_after_on_both_sides_of_a_line_through_what_was_replaced():
    wipe = row(96, 64).tiles[WIPE]
    lines = np.flatnonzero(of_color(wipe, LINE).all(axis=0))
    assert len(lines) == 1
    line = int(lines[0])
    assert 0.2 < line / wipe.shape[1] < 0.3, "the middle of the replaced quarter"
    assert (wipe[2, line - 2] == 128).all()
    assert wipe[2, line + 2].tolist() == [230, 51, 26]


def test_the_wipe_comes_near_to_what_was_replaced_and_the_mattes_say_where_it_is():
    before = np.full((1080, 1920, 3), 0.5, np.float32)
    after, labels = before.copy(), np.zeros((1080, 1920), np.uint8)
    labels[500:600, 1500:1560] = 1
    after[labels == 1] = (0.9, 0.2, 0.1)
    found = sheet_row("1", before=before, after=after, labels=labels, matte=labels, to_display=as_it_is)
    shown = (found.tiles[WIPE][..., 0] > 200) & ~of_color(found.tiles[WIPE], LINE)
    whole = found.tiles[AFTER][..., 0] > 200
    assert shown.sum() > 5 * whole.sum() / 2, "half of the person is wiped, the other half is larger"
    frame = of_color(found.tiles[MATTES], QUIET)
    rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
    tall, across = found.tiles[MATTES].shape[:2]
    assert rows[0] < 500 / 1080 * tall < 600 / 1080 * tall < rows[-1]
    assert columns[0] < 1500 / 1920 * across < 1560 / 1920 * across < columns[-1]
    assert (columns[-1] - columns[0]) * 1920 // across == pytest.approx(464, abs=10), "one pixel of the plate a pixel"


def test_two_who_stand_apart_are_not_wiped_between():
    before = np.full((100, 200, 3), 0.5, np.float32)
    labels = np.zeros((100, 200), np.uint8)
    labels[20:80, 10:40], labels[20:80, 160:190] = 1, 2
    after = np.where(labels[..., None] > 0, np.float32(0.1), before)
    found = sheet_row("1", before=before, after=after, labels=labels, matte=labels, to_display=as_it_is)
    line = int(np.argmax(of_color(found.tiles[WIPE], LINE).all(axis=0))) / found.tiles[WIPE].shape[1]
    assert 0.05 < line < 0.2 or 0.8 < line < 0.95


@pytest.mark.parametrize("size", [(96, 64), (1920, 1080), (2048, 858)])
def test_the_least_change_of_one_pixel_is_seen(size):
    def touch(before, after):
        after[-9, -9] += 1e-5

    matte = np.ones((size[1], size[0]), np.float32)
    found = row(*size, matte=matte, spoil=touch)
    difference = found.tiles[DIFFERENCE][found.tiles[DIFFERENCE].shape[0] // 2 + 9 :]
    assert difference.max() >= 25
    assert not found.stray


def test_a_single_pixel_shows_its_own_difference_not_an_average():
    def touch(before, after):
        after[-9, -9] += 0.1

    found = row(1920, 1080, matte=np.ones((1080, 1920), np.float32), spoil=touch)
    lower = found.tiles[DIFFERENCE][found.tiles[DIFFERENCE].shape[0] // 2 + 9 :]
    assert lower.max() == round(0.1 * 4 * 255)


@pytest.mark.parametrize("value", [0.5000001, np.nan, np.inf, -0.0])
def test_what_changed_outside_the_matte_is_called_out(value):
    def touch(before, after):
        before[-20, -20] = 0.0 if value == 0 else 0.5
        after[-20, -20] = value

    found = row(1920, 1080, spoil=touch)
    assert found.stray
    ring = of_color(found.tiles[DIFFERENCE], ALARM)
    assert ring.sum() > 10, "a ring that can be found"
    sheet = np.asarray(draw_sheet(title="sh010", rows=[row(1920, 1080), found], cast={}))
    assert of_color(sheet[-40:], ALARM).any(), "the legend says what it is"
    clean = np.asarray(draw_sheet(title="sh010", rows=[row(1920, 1080)], cast={}))
    assert not of_color(clean, ALARM).any()


def test_what_is_no_number_and_the_same_is_untouched():
    def same(before, after):
        for picture in (before, after):
            picture[-8:, -8:] = np.nan
            picture[-16:-8, -16:-8] = np.inf

    found = row(96, 64, spoil=same)
    assert not found.stray
    assert (found.tiles[BEFORE][-2, -2] == 0).all(), "NaN does not spread over what it is averaged with"


def test_a_frame_of_another_class_may_be_rounded_but_not_wrong():
    def rounded(before, after):
        after[-20:] += 0.0005
        after[-4, -4] += 0.2

    found = row(96, 64, exact=False, spoil=rounded)
    assert not found.stray
    lower = found.tiles[DIFFERENCE][-60:]
    lit = lower.max(axis=2) > 0
    assert 0 < lit.sum() <= 9 * 16, "one pixel of the plate, enlarged"


def test_a_line_goes_round_the_matte_and_hides_no_difference():
    matte = np.zeros((64, 96), np.float32)
    matte[:40, :60] = 0.01
    found = row(96, 64, matte=matte)
    outline = of_color(found.tiles[DIFFERENCE], OUTLINE)
    times = found.tiles[DIFFERENCE].shape[0] // 64
    assert outline[40 * times, 10 * times]
    assert outline[10 * times, 60 * times]
    assert not outline[: 40 * times, : 60 * times].any()


def test_pictures_are_reduced_in_the_plates_own_light_before_they_are_converted():
    converted = []

    def gamma(rgb):
        converted.append(rgb.size // 3)
        return np.sqrt(np.clip(rgb, 0.0, 1.0))

    lines = np.zeros((1080, 1920, 3), np.float32)
    lines[:, ::2] = 1.0
    nobody = np.zeros((1080, 1920), np.uint8)
    found = sheet_row("1", before=lines, after=lines, labels=nobody, matte=nobody, to_display=gamma)
    assert sum(converted) < 1920 * 1080 / 4
    assert found.tiles[BEFORE].mean() == pytest.approx(255 * 0.5**0.5, abs=4), "the mean of light, not of code values"
    assert (found.tiles[DIFFERENCE] == 0).all()


def test_anamorphic_pictures_are_shown_wide():
    plain = draw_sheet(title="sh010", rows=[row(100, 100)], cast={})
    wide = draw_sheet(title="sh010", rows=[row(100, 100, pixel_aspect=2.0)], cast={})
    assert wide.width / wide.height > plain.width / plain.height * 1.5
    tall, across = row(2048, 1556, pixel_aspect=2.0).tiles[WIPE].shape[:2]
    assert across / tall == pytest.approx(4096 / 1556, rel=0.01)


def test_a_small_matte_is_not_lost():
    labels = np.zeros((1080, 1920), np.uint8)
    labels[300, 400] = 4
    gray = np.full((1080, 1920, 3), 0.5, np.float32)
    found = sheet_row("1", before=gray, after=gray, labels=labels, matte=labels, to_display=as_it_is)
    assert of_color(found.tiles[MATTES], SLOT_COLORS["magenta"]).any()


def test_a_long_cast_and_title_stay_inside():
    cast = {f"character_with_a_long_name_{slot}": slot for slot in SLOT_COLORS}
    sheet = draw_sheet(title="SH010 " * 60, rows=[row(96, 64)], cast=cast)
    pixels = np.asarray(sheet)
    assert (pixels[:, -8:] == GROUND).all()
    for color in SLOT_COLORS.values():
        assert (pixels == color).all(axis=2).any()


def test_the_sheet_appears_whole(tmp_path):
    write_sheet(tmp_path / "sh010.png", title="sh010", rows=[row(96, 64)], cast={"ada": "red"})
    with Image.open(tmp_path / "sh010.png") as sheet:
        sheet.load()
        assert sheet.mode == "RGB"
    assert [path.name for path in tmp_path.iterdir()] == ["sh010.png"]
    (tmp_path / "full.png.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="space"):
        write_sheet(tmp_path / "full.png", title="sh010", rows=[row(96, 64)], cast={})
    assert [path.name for path in tmp_path.iterdir()] == ["sh010.png"]


def test_rows_must_agree_and_exist():
    with pytest.raises(ValueError):
        draw_sheet(title="sh010", rows=[], cast={})
    rgb, plane = np.zeros((64, 96, 3), np.float32), np.zeros((64, 96), np.uint8)
    with pytest.raises(ValueError):
        sheet_row("1", before=rgb, after=rgb[:5], labels=plane, matte=plane, to_display=as_it_is)
    with pytest.raises(ValueError):
        sheet_row("1", before=rgb, after=rgb, labels=plane, matte=plane[:5], to_display=as_it_is)


def test_a_performance_has_a_column_of_its_own_with_its_roles_painted():
    picture, labels = np.full((40, 20, 3), 0.5, np.float32), np.zeros((40, 20), np.uint8)
    labels[:, 10:] = 3
    performed = Performed(picture=picture, labels=labels, to_display=as_it_is)
    rows = [row(96, 64, str(n), performed=performed) for n in (1, 2)]
    pixels, top, height, _ = tiles(draw_sheet(title="sh010", rows=rows, cast={"ada": "green"}), 2)
    tile = rows[0].tiles[COLUMNS.index("performance")]
    assert tile.shape == rows[0].tiles[0].shape
    middle, across = tile[tile.shape[0] // 2], tile.shape[0] // 2
    lit = np.flatnonzero(middle.any(axis=1))
    assert (lit[0], lit[-1] + 1) == ((tile.shape[1] - across) // 2, (tile.shape[1] + across) // 2), "letterboxed"
    assert len({tuple(code) for code in middle[lit[: across // 2 - 2]].tolist()}) == 1
    green = middle[lit[-across // 4]]
    assert np.argmax(green) == 1
    left = int(np.flatnonzero((pixels[top] != GROUND).any(axis=1))[-1]) + 1 - tile.shape[1]
    assert np.array_equal(pixels[top : top + height, left : left + tile.shape[1]], tile)
