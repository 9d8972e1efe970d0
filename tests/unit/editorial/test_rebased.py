"""Cuts written into another folder: their relative addresses lead where they led, and nothing else changes."""

import copy
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import opentimelineio as otio
import pytest
from cuts import clip, cut, item, movie, sequence, span, stack, track, written
from hypothesis import given
from hypothesis import strategies as st

from scail2_farm.editorial.paths import absolute_url, is_relative, local_path
from scail2_farm.editorial.takes import Rebased, TakeLink, link_takes, rebased, write_edit
from scail2_farm.editorial.timeline import read_edit

LEFT_ALONE = [
    "file:///abs/a%20b.mov",
    "file://localhost/abs/a.mov",
    "/abs/pl ain.mov",
    "C:\\Media\\a.mov",
    "c:/Media/a.mov",
    "file:///C:/Media/a%20b.mov",
    "\\\\NAS01\\share\\w.mov",
    "//NAS01/share/w.mov",
    "file://NAS01/share/w.mov",
    "\\from\\the\\root.mov",
    "http://host/a.mov",
    "s3://bucket/a.mov",
    "urn:smpte:umid:060a2b34.01010105",
    "",
    "  ",
    "a\0b.mov",
    "a%ff.mov",
]


@pytest.mark.parametrize("url", LEFT_ALONE)
def test_an_address_that_leads_from_everywhere_stays_as_it_is(tmp_path: Path, url: str):
    path = written(cut(track(clip(source=span(0, 10), media=movie(url)))), tmp_path)
    edit = read_edit(path)
    moved, told = rebased(edit, beside=tmp_path / "elsewhere")
    assert told == ()
    assert moved.document is edit.document, "nothing is copied that need not be"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("a.mov", "cut/a.mov"),
        ("./media/a.mov", "cut/media/a.mov"),
        ("../plates/a.mov", "plates/a.mov"),
        ("media/../media/a.mov", "cut/media/a.mov"),
        ("media\\a.mov", "cut/media/a.mov"),
        ("media/a b.mov", "cut/media/a b.mov"),
        ("media/a%20b.mov", "cut/media/a b.mov"),
        ("media/100%25.mov", "cut/media/100%25.mov"),  # of that very name
        ("media/100%25.mov", "cut/media/100%.mov"),
        ("a%20b/c d.mov", "cut/a b/c d.mov"),
        ("media/clip#1.mov", "cut/media/clip#1.mov"),
        ("media/who?.mov", "cut/media/who?.mov"),
        ("media/人.mov", "cut/media/人.mov"),
        ("media/%E4%BA%BA.mov", "cut/media/人.mov"),
        ("file:media/a%20b.mov", "cut/media/a b.mov"),
        ("file://./media/a.mov", "cut/media/a.mov"),
    ],
)
def test_a_relative_address_leads_to_the_same_file(tmp_path: Path, url: str, file: str):
    (tmp_path / "cut").mkdir()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    path = written(cut(track(clip(source=span(0, 10), media=movie(url)))), tmp_path / "cut")
    moved, (told,) = rebased(read_edit(path), beside=tmp_path / "re turned")
    assert told == Rebased(written=url, now=(tmp_path / file).as_uri())
    assert local_path(told.now, folder=Path("/anywhere")) == tmp_path / file
    assert Path(url2pathname(urlsplit(told.now).path)) == tmp_path / file, "the standard library reads it so too"
    assert local_path(url, folder=tmp_path / "cut") == tmp_path / file, "and it is what was rendered from"
    media = moved.document["tracks"]["children"][0]["children"][0]["media_references"]["DEFAULT_MEDIA"]
    assert media["target_url"] == told.now


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("lost/a%20b.mov", "lost/a b.mov"),  # of what is nowhere, escapes are escapes
        ("lost/a b.mov", "lost/a b.mov"),
        ("plates/sh.%04d.exr", "plates/sh.%04d.exr"),
        ("odd%20name/sh.####.exr", "odd%20name/sh.####.exr"),  # the folder is there, so named
        ("good%20name/sh.####.exr", "good name/sh.####.exr"),
    ],
)
def test_what_is_no_file_keeps_its_sense(tmp_path: Path, url: str, path: str):
    for folder in ("plates", "odd%20name", "good name"):
        (tmp_path / folder).mkdir()
    now = absolute_url(url, folder=tmp_path)
    assert local_path(now, folder=Path("/anywhere")) == tmp_path / path
    assert not is_relative(now)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)


@given(st.lists(NAMES.filter(lambda name: name.strip() == name and name not in (".", "..")), min_size=1, max_size=4))
def test_an_address_as_written_anew_is_no_longer_relative(parts: list[str]):
    url = "/".join(parts)
    folder = Path("/no such/folder")
    if not is_relative(url):
        return
    now = absolute_url(url, folder=folder)
    assert now.isascii()
    assert now.startswith("file:///no%20such/folder/")
    if "%" not in url:
        assert local_path(now, folder=Path("/anywhere")) == folder / url
    assert not is_relative(now)


@pytest.mark.parametrize(
    ("base", "folder"),
    [("plates", "plates"), ("plates/", "plates"), ("", "."), (None, "."), ("../up", "../up"), ("a b", "a b")],
)
def test_a_sequence_stays_in_its_folder(tmp_path: Path, base: Any, folder: str):
    edit = tmp_path / "cut"
    edit.mkdir()
    (edit / folder).mkdir(parents=True, exist_ok=True)
    path = written(cut(track(clip(source=span(86410, 4), media=sequence(base, available=span(86400, 48))))), edit)
    moved, (told,) = rebased(read_edit(path), beside=tmp_path)
    assert told.written == (base or "")
    assert local_path(told.now, folder=Path("/anywhere")) == (edit / folder).resolve()
    assert told.now.endswith("/")
    write_edit(moved.document, tmp_path / "out.otio")
    before, after = read_edit(path).clips[0].media, read_edit(tmp_path / "out.otio").clips[0].media
    assert before is not None
    assert after is not None
    assert after.pattern == before.pattern


def test_every_reference_is_written_anew_and_nothing_else(tmp_path: Path):
    """In compounds, sound, other media, takes of an earlier round; not in metadata, and not in the edit itself."""
    earlier = sequence("cut.scail2/v001/", metadata={"scail2_farm": {"take": "k", "active_before": "DEFAULT_MEDIA"}})
    references = {"DEFAULT_MEDIA": sequence("plates"), "proxy": movie("proxy.mov"), "scail2_farm": earlier}
    several = clip("A", media_references=references, metadata={"media": movie("inner.mov"), "url": "b.mov"})
    old = clip("B") | {"OTIO_SCHEMA": "Clip.1", "media_reference": movie("old.mov", available=span(0, 9))}
    del old["media_references"], old["active_media_reference_key"]
    sound = track(clip("S", source=span(0, 9), media=movie("../sound.wav")), kind="Audio", name="A1")
    lost = {"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": "x.mov", "target_url": "x.mov"}
    document = cut(track(several, stack(track(old))), sound, track(clip("C", media=lost)), track(item("Gap.1")))
    path = written(document, tmp_path)
    edit = read_edit(path)
    moved, told = rebased(edit, beside=tmp_path / "out")
    assert [one.written for one in told] == ["plates", "proxy.mov", "cut.scail2/v001/", "old.mov", "../sound.wav"]
    assert edit.document == document, "the edit is not changed"
    text = json.dumps(document)
    for one in told:
        key = "target_url_base" if one.now.endswith("/") else "target_url"
        before, after = (f'"{key}": {json.dumps(url)}' for url in (one.written, one.now))
        assert text.count(before) == 1
        text = text.replace(before, after)
    assert json.loads(text) == moved.document


def test_in_its_own_folder_or_from_nobody_knows_where_a_cut_stays_as_it_is(tmp_path: Path):
    edit = read_edit(written(cut(track(clip())), tmp_path))
    assert edit.folder == tmp_path
    assert rebased(edit, beside=tmp_path) == (edit, ())
    nowhere = replace(edit, folder=None)
    assert rebased(nowhere, beside=tmp_path / "out") == (nowhere, ())


def test_a_cut_with_a_source_folder_is_rebased_from_there(tmp_path: Path):
    path = written(cut(track(clip())), tmp_path)
    edit = read_edit(path, source_dir=tmp_path / "show")
    assert rebased(edit, beside=tmp_path / "show") == (edit, ())
    _, told = rebased(edit, beside=tmp_path)
    assert told == (Rebased(written="plates", now=(tmp_path / "show/plates").as_uri() + "/"),)


def test_takes_are_addressed_from_the_new_place_and_media_from_everywhere(tmp_path: Path):
    """What a hot folder returns: read there by OpenTimelineIO and by us, under any source_dir."""
    source, returned = tmp_path / "show", tmp_path / "returned"
    (source / "plates").mkdir(parents=True)
    returned.mkdir()
    edit = read_edit(written(cut(track(clip(source=span(86410, 20)))), tmp_path), source_dir=source)
    moved, _ = rebased(edit, beside=returned)
    link = TakeLink(
        folder=returned / "cut.scail2/shots/SH010/v001",
        prefix="t.",
        padding=4,
        suffix=".exr",
        first_file=1011,
        count=20,
        start=edit.clips[0].used().start,
        metadata={"take": "k"},
    )
    write_edit(link_takes(moved, {"SH010": link}, beside=returned), returned / "cut.scail2.otio")
    (found,) = otio.adapters.read_from_file(str(returned / "cut.scail2.otio")).find_clips()
    assert found.media_reference.target_url_base == "cut.scail2/shots/SH010/v001/"
    for folder in (None, source, tmp_path / "third"):
        again = read_edit(returned / "cut.scail2.otio", source_dir=folder).clips[0].media
        assert again is not None
        assert again.pattern is not None
        assert again.pattern.folder == source / "plates"


def test_media_of_a_bundle_is_found_from_elsewhere(tmp_path: Path):
    """A zip's is unpacked beside it, whatever source_dir says; that beside the bundle stays beside it."""
    document = cut(
        track(
            clip(source=span(0, 10), media=movie("media/a b.mov")),
            clip(source=span(0, 10), media=movie("../beside.mov")),
        )
    )
    path = tmp_path / "in" / "my cut.otioz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("content.otio", json.dumps(document))
        bundle.writestr("media/a b.mov", b"movie")
    edit = read_edit(path, source_dir=tmp_path / "show")
    moved, told = rebased(edit, beside=tmp_path / "out")
    inside, beside = (local_path(one.now, folder=Path("/anywhere")) for one in told)
    assert inside.read_bytes() == b"movie"
    assert inside == tmp_path / "in/my cut.scail2/media/a b.mov"
    assert beside == tmp_path / "beside.mov"
    assert moved.clips == edit.clips
    kept = copy.deepcopy(edit.document)
    assert rebased(edit, beside=path.parent) == (edit, ())
    assert edit.document == kept
