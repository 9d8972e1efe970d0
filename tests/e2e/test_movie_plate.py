"""A movie as plate: frame-exact in, float EXR out that equals our decode outside the matte, numbered from 1001."""

from fractions import Fraction

import numpy as np
import OpenEXR
import opentimelineio as otio
import pytest
from submissions import HEIGHT, WIDTH, Cut, read_exr, span

from scail2_farm.documents import Take, read_document
from scail2_farm.media.movies import write_movie
from scail2_farm.media.plates import open_plate, probe

FRAMES = 16


def pictures():
    """Frames with their index burned in as a bar, so that a slip by one frame shows."""
    for index in range(FRAMES):
        rgb = np.full((HEIGHT, WIDTH, 3), 0.35, np.float32)
        rgb[:, :, 0] += np.linspace(0, 0.3, WIDTH, dtype=np.float32)
        rgb[44:, : 4 * (index + 1)] = 0.9
        yield rgb


@pytest.fixture
def movie_cut(cut) -> Cut:
    cut.character("ada", "blue", (220, 30, 30))
    movie = cut.folder / "media" / "A001 take#1.mov"
    movie.parent.mkdir()
    write_movie(movie, pictures(), rate=Fraction(24), timecode="01:00:00:00")
    cut.matte("SH010", "ada", FRAMES, (20, 10, 20, 30), first=1)
    reference = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "metadata": {},
        "name": "",
        "available_range": span(86400, FRAMES),
        "available_image_bounds": None,
        "target_url": "media/A001%20take%231.mov",
    }
    cut.clip("SH010", first=4, count=6, available=FRAMES, media_references={"DEFAULT_MEDIA": reference})
    cut.manifest["cast"] = [{"when": {"clip": "*"}, "characters": [{"id": "ada"}]}]
    return cut


def test_a_movie_comes_back_as_frames(movie_cut: Cut, farm):
    said = farm("submit", movie_cut.write(), "--weights", movie_cut.weights, "--json")
    assert said.code == 0, said.err
    take = read_document(movie_cut.version("SH010") / "take.json", Take)
    assert (take.frames.first, take.frames.count, take.first_file) == (2, 10, 1001)
    with open_plate(movie_cut.folder / "media" / "A001 take#1.mov") as plate:
        for index in range(10):
            native = plate.read(2 + index).rgb
            delivered = read_exr(movie_cut.frame("SH010", 1001 + index))
            matte = movie_cut.comp_matte("SH010", 1001 + index)
            assert delivered.dtype == np.float32
            assert (delivered.view(np.uint32)[matte == 0] == native.view(np.uint32)[matte == 0]).all()
            assert (delivered[matte == 1] != native[matte == 1]).any(axis=-1).mean() > 0.99
            lit = (delivered[46, :, 1] > 0.6).sum()
            assert abs(lit - 4 * (index + 3)) <= 2, "the right frame, by its burned-in bar"
    header = OpenEXR.File(str(movie_cut.frame("SH010", 1003))).parts[0].header
    assert (header["timeCode"].hours, header["timeCode"].seconds, header["timeCode"].frame) == (1, 0, 4)
    assert header["framesPerSecond"] == Fraction(24)

    clip = next(iter(otio.adapters.read_from_file(str(movie_cut.folder / "edit.scail2.otio")).find_clips()))
    assert clip.media_references()["DEFAULT_MEDIA"].target_url == "media/A001%20take%231.mov"
    assert clip.media_reference.frame_for_time(clip.source_range.start_time) == 1003


def test_the_review_movie_has_the_plates_timecode(movie_cut: Cut, farm):
    assert farm("submit", movie_cut.write(), "--weights", movie_cut.weights).code == 0
    found = probe(movie_cut.version("SH010") / "SH010_scail2_v001.mov")
    assert (found.frames.count, found.rate, found.timecode_start) == (10, Fraction(24), 86402)


def test_a_matte_for_a_part_of_a_movie_is_refused(movie_cut: Cut, farm):
    (movie_cut.folder / "mattes/SH010/ada.0016.png").unlink()
    said = farm("check", movie_cut.write(), "--json")
    assert (said.code, said.codes) == (3, ["SF-MATTE-MISMATCH"])
    assert "15 frames, the movie 16" in said.document["faults"][0]["what"]
