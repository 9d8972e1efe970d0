"""A finished take that lost something, or of which more is asked: told first, and no more rendered than must be."""

from fractions import Fraction
from pathlib import Path

import pytest
from submissions import Cut, span, submitted

from scail2_farm.documents import Take, read_document
from scail2_farm.job import Rendering, TakeLacking
from scail2_farm.media.movies import MovieReader


@pytest.fixture
def rendered(one_shot: Cut) -> Cut:
    """A small submission that is delivered."""
    one_shot.manifest["handles"] = {"head": 1, "tail": 1}
    one_shot.clips[0]["source_range"] = span(86403, 3)
    outcome, _ = submitted(one_shot)
    assert not outcome.warnings
    return one_shot


def comp_matte(cut: Cut) -> Path:
    return cut.version("SH010") / "comp_matte/SH010_scail2_v001_comp_matte.1004.exr"


def movie(cut: Cut, version: int = 1) -> Path:
    return cut.version("SH010", version) / f"SH010_scail2_v{version:03d}.mov"


def record(cut: Cut, version: int = 1) -> Take:
    return read_document(cut.version("SH010", version) / "take.json", Take)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


LOSSES = {
    "a frame": (lambda cut: cut.frame("SH010", 1005).unlink(), "SH010_scail2_v001.1005.exr is not there"),
    "a comp matte": (lambda cut: comp_matte(cut).unlink(), "SH010_scail2_v001_comp_matte.1004.exr is not there"),
    "half a frame": (lambda cut: cut_short(cut.frame("SH010", 1005)), "SH010_scail2_v001.1005.exr has 500 of"),
    "its record": (lambda cut: (cut.version("SH010") / "take.json").write_text("{"), "take.json cannot be read"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_take_lost_is_told_before_it_is_rendered_again(loss: str, rendered: Cut):
    lose, words = LOSSES[loss]
    lose(rendered)
    outcome, events = submitted(rendered)
    (warning,) = outcome.warnings
    assert warning.startswith("SH010: in v001 ")
    assert words in warning
    assert warning.endswith("the shot is rendered as a new version")
    kinds = [type(event) for event in events]
    assert kinds.index(TakeLacking) < kinds.index(Rendering)
    assert [shot.take.version for shot in outcome.done] == [2]
    assert outcome.as_json()["warnings"] == [warning]
    again, _ = submitted(rendered)
    assert (again.warnings, [shot.again for shot in again.done]) == ([], [True]), "v002 is whole"


def test_a_lost_movie_is_made_from_the_delivered_frames(rendered: Cut):
    whole = movie(rendered).stat().st_size
    for damage in (Path.unlink, cut_short):
        damage(movie(rendered))
        outcome, events = submitted(rendered)
        assert not [event for event in events if isinstance(event, Rendering)]
        (warning,) = outcome.warnings
        assert movie(rendered).name in warning
        assert [(shot.take.version, shot.again) for shot in outcome.done] == [(1, True)]
        assert movie(rendered).stat().st_size == pytest.approx(whole, rel=0.01)
        assert submitted(rendered)[0].warnings == []
    with MovieReader(movie(rendered)) as reader:
        assert (reader.count, reader.rate) == (5, Fraction(24))


def test_a_movie_that_is_wished_for_later_is_made_from_the_delivered_frames(one_shot: Cut):
    one_shot.manifest["deliver"] = {"movie": "none"}
    submitted(one_shot)
    assert not movie(one_shot).exists()
    one_shot.manifest["deliver"] = {"movie": "prores"}
    outcome, events = submitted(one_shot)
    assert not [event for event in events if isinstance(event, Rendering)]
    assert len(outcome.warnings) == 1
    take = record(one_shot)
    made = movie(one_shot)
    assert take.movie == made.name
    assert {file.path: file.bytes for file in take.files}[made.name] == made.stat().st_size


def test_a_wish_for_raw_frames_is_told(rendered: Cut):
    outcome, _ = submitted(rendered, raw=True)
    assert outcome.warnings == ["SH010: in v001 raw frames were not kept: the shot is rendered as a new version"]
    assert record(rendered, 2).raw == "raw"


def test_a_take_found_again_knows_the_uses_of_todays_cut(rendered: Cut):
    before = record(rendered)
    rendered.clips[0]["source_range"] = span(86402, 4)
    rendered.manifest["handles"] = {"head": 0, "tail": 1}
    outcome, _ = submitted(rendered)
    assert [shot.again for shot in outcome.done] == [True]
    after = record(rendered)
    assert (before.uses[0].cut.first, before.handles_given.head) == (1004, 1)
    assert (after.uses[0].cut.first, after.uses[0].cut.count, after.handles_given.head) == (1003, 4, 0)
    assert after.finished == before.finished
    stamp = (rendered.version("SH010") / "take.json").stat().st_mtime_ns
    submitted(rendered)
    assert (rendered.version("SH010") / "take.json").stat().st_mtime_ns == stamp, "it is written when it differs"
