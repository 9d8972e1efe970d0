"""The contact sheet."""

import numpy as np
import pytest
from PIL import Image

from scail2_farm.review.sheets import COLUMNS, GROUND, SLOT_COLORS, SheetRow, draw_sheet, write_sheet


def row(width, height, label="1001"):
    before = np.full((height, width, 3), 0.5, np.float32)
    after = before.copy()
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 2] = 2
    after[labels == 2] = (0.9, 0.2, 0.1)
    after[-1, -1] += 1e-5
    return SheetRow(label, before, after, labels)


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


@pytest.mark.parametrize(("width", "height"), [(96, 64), (333, 240), (1920, 1080), (64, 192)])
def test_four_columns_a_row_per_frame_readable_at_any_size(width, height):
    rows = [row(width, height, str(n)) for n in (1001, 1040, 1080)]
    sheet = draw_sheet(title="sh010 v001", rows=rows, cast={"ada": "red"})
    pixels, top, tile_height, edges = tiles(sheet, 3)
    assert len(edges) == len(COLUMNS)
    assert 160 <= tile_height <= 480
    before, after, difference, mattes = (pixels[top : top + tile_height, left : left + 100] for left in edges)
    assert (before[5, 5] == 128).all()
    assert after[5, 5].tolist() == [230, 51, 26]
    assert difference[5, 5].min() == 255
    assert (difference[-2, 5] == 0).all(), "black where nothing was touched"
    red = SLOT_COLORS["red"]
    assert np.argmax(mattes[5, 5]) == 0
    assert mattes[-2, 5].tolist() == [89, 89, 89]
    assert any((pixels[-40:, x] == red).all(axis=1).any() for x in range(edges[0], edges[0] + 30)), "the legend"


def test_the_least_difference_can_be_seen():
    sheet = draw_sheet(title="sh010", rows=[row(80, 60)], cast={})
    pixels, top, height, edges = tiles(sheet, 1)
    difference = pixels[top : top + height, edges[2] : edges[3]]
    assert difference[-2, 80 * 4 - 2].min() >= 25


def test_anamorphic_pictures_are_shown_wide():
    plain = draw_sheet(title="sh010", rows=[row(100, 100)], cast={})
    wide = draw_sheet(title="sh010", rows=[row(100, 100)], cast={}, pixel_aspect=2.0)
    assert wide.width / wide.height > plain.width / plain.height * 1.5


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
    good = row(96, 64)
    with pytest.raises(ValueError):
        draw_sheet(title="sh010", rows=[SheetRow("1", good.before, good.after[:5], good.labels)], cast={})
