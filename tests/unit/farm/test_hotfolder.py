"""The hot folder, look by look, on a clock that goes on when it is told to."""

import hashlib
import json
import os
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from farm_shots import StandingClock

from scail2_farm.documents import Fault, Submission, document_text
from scail2_farm.errors import FarmError, SettingsInvalid, ShareUnavailable, SubmissionInvalid, TimelineUnreadable
from scail2_farm.farm.arrivals import UNPARSED_S, Inbox, content_of, drop_name, vouched
from scail2_farm.farm.hotfolder import Claim, HotFolder, Refused, Waiting, filed

Kind = TypeVar("Kind")
SUFFIXES = (".otio", ".json", ".otioz", ".otiod", ".edl", ".xml", ".aaf", ".fcpxml")
MANIFEST = "schema: scail2-farm/shot-manifest@1\ncharacters: /shows/x/characters.yaml\n"
CAST = MANIFEST + "cast:\n- when: {clip: '*'}\n  characters: [{id: ada}]\n"
SHOTS = MANIFEST + "shots:\n- id: sh010\n  media: /shows/x/sh010.####.exr\n"


@dataclass
class Drops:
    """A farm's hot folder, what its reader calls unreadable (files that hold BROKEN), and how often it was asked."""

    root: Path
    network: bool = False
    clock: StandingClock = field(default_factory=StandingClock)
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox, self.status = self.root / "inbox", self.root / "STATUS"
        self.hot = self.restarted()

    def restarted(self) -> HotFolder:
        return HotFolder(
            self.root, clock=self.clock, network=self.network, suffixes=SUFFIXES, unreadable=self.unreadable
        )

    def unreadable(self, path: Path) -> FarmError | None:
        self.read.append(path.name)
        if path.is_file() and b"BROKEN" in path.read_bytes():
            return TimelineUnreadable(f"{path.name} ends too early", fix="export it again")
        return None

    def put(self, name: str, text: str = "a cut\n") -> Path:
        path = self.inbox / name
        path.write_text(text)
        return path

    def vouch(self, name: str, ending: str = ".sha256") -> Path:
        return self.put(f"{name}{ending}", f"{content_of(self.inbox / name).sha256}  {name}\n")

    def pair(self, name: str = "cut", text: str = "a cut\n") -> None:
        self.put(f"{name}.otio", text)
        self.put(f"{name}.shots.yaml", CAST)

    def look(self, seconds: float = 0.0, every: float = 5.0) -> list[Claim | Refused | Waiting]:
        """Look now, and again and again until so many seconds went by."""
        until, found = self.clock.monotonic() + seconds, self.hot.poll()
        while self.clock.monotonic() < until:
            self.clock.pass_by(every)
            found += self.hot.poll()
        return found

    def claim(self, seconds: float = 20.0) -> Claim:
        """The one claim that looking brings."""
        (claim,) = of(Claim, self.look(seconds))
        return claim

    def names(self) -> set[str]:
        return {path.name for path in self.inbox.iterdir()}


def of(kind: type[Kind], found: list[Claim | Refused | Waiting]) -> list[Kind]:
    return [one for one in found if isinstance(one, kind)]


def edit(claim: Claim) -> Path:
    """The cut of a claim that has one."""
    assert claim.edit is not None
    return claim.edit


def told(found: list[Claim | Refused | Waiting]) -> dict[str, Waiting]:
    """The last word on every name."""
    return {waiting.name: waiting for waiting in of(Waiting, found)}


@pytest.fixture
def drops(tmp_path) -> Drops:
    return Drops(tmp_path / "farm")


# --------------------------------------------------------------------------- what belongs together


@pytest.mark.parametrize("order", [("cut.otio", "cut.shots.yaml"), ("cut.shots.yaml", "cut.otio")])
def test_halves_in_either_order(drops, order):
    found: list[Claim | Refused | Waiting] = []
    for name in order:
        assert not of(Claim, found)
        drops.put(name, CAST if "shots" in name else "a cut\n")
        found = drops.look(40)
        if name == order[0]:
            half = "manifest, cut.shots.yaml" if "otio" in name else "cut"
            assert f"waits for its {half}" in told(found)["cut"].why
    (claim,) = of(Claim, found)
    assert (claim.name, edit(claim).name, claim.manifest.name) == ("cut", "cut.otio", "cut.shots.yaml")
    assert {path.name for path in claim.files} == set(order)
    assert edit(claim).read_text() == "a cut\n"
    assert drops.names() == set()
    assert drops.look(60) == []


@pytest.mark.parametrize("manifest", ["cut.shots.yml", "CUT.Shots.YAML", "cut.shots.json"])
def test_names_of_manifests(drops, manifest):
    text = CAST if not manifest.endswith("json") else json.dumps({
        "schema": "scail2-farm/shot-manifest@1", "characters": "/c.yaml", "cast": [{"when": {"clip": "*"}}]
    })  # fmt: skip
    drops.put("cut.edl")
    drops.put(manifest, text)
    assert drops.claim().manifest.name == manifest


def test_the_content_is_what_a_drop_is_known_by(drops):
    drops.pair("one")
    drops.pair("two")
    drops.pair("three", "another cut\n")
    one, two, three = sorted(of(Claim, drops.look(20)), key=lambda claim: ("one", "two", "three").index(claim.name))
    assert one.sha256 == two.sha256 != three.sha256


def test_a_manifest_of_explicit_shots_is_a_drop(drops):
    drops.put("jobs.shots.yaml", SHOTS)
    claim = drops.claim()
    assert claim.edit is None
    assert claim.manifest.read_text() == SHOTS


def test_a_manifest_of_explicit_shots_takes_the_cut_of_its_name_along(drops):
    drops.put("jobs.shots.yaml", SHOTS)
    drops.look(10)
    drops.put("jobs.otio")
    found = drops.look(15)
    assert not of(Claim, found)
    assert edit(drops.claim(10)).name == "jobs.otio"


def test_a_timeline_in_the_inbox_is_waited_for(drops):
    drops.put("cast.shots.yaml", CAST + "timeline: reel 2.otio\n")
    assert "waits for reel 2.otio" in told(drops.look(20))["cast"].why
    drops.put("reel 2.otio")
    drops.put("cast.otio", "not meant\n")
    found = drops.look(20)
    (claim,) = of(Claim, found)
    assert (claim.name, edit(claim).name) == ("reel 2", "reel 2.otio")
    assert told(found)["cast"].state == "waiting"
    assert "waits for its manifest, cast.shots.yaml" in told(found)["cast"].why


def test_a_name_that_went_with_another_says_so(drops):
    drops.put("cast.shots.yaml", CAST + "timeline: reel.otio\n")
    drops.look(20)
    drops.put("reel.otio")
    last = told(drops.look(20))["cast"]
    assert last.state == "gone"
    assert "goes with reel: see reel.status.json" in last.why


def test_a_timeline_elsewhere_is_not_waited_for(drops, tmp_path):
    elsewhere = tmp_path / "project" / "cut.otio"
    elsewhere.parent.mkdir()
    elsewhere.write_text("one\n")
    drops.put("first.shots.yaml", CAST + f"timeline: {elsewhere}\n")
    first = drops.claim()
    elsewhere.write_text("two\n")
    drops.put("second.shots.yaml", CAST + f"timeline: {elsewhere}\n")
    second = drops.claim()
    assert first.edit == second.edit == elsewhere
    assert first.sha256 != second.sha256
    assert elsewhere.read_text() == "two\n"
    assert first.at(drops.hot.accept(first, "first")).edit == elsewhere


@pytest.mark.parametrize(("name", "read"), [("project", False), ("cut.otiod", True)])
def test_only_a_bundle_is_read_of_the_folders_elsewhere(drops, tmp_path, name, read):
    elsewhere = tmp_path / name
    elsewhere.mkdir()
    claims: list[Claim] = []
    for number in range(2):
        (elsewhere / "content.otio").write_text(f"{number}\n")
        drops.put("cast.shots.yaml", CAST + f"timeline: {elsewhere}/\n")
        claims.append(drops.claim())
    assert (claims[0].sha256 != claims[1].sha256) == read
    assert claims[0].edit == elsewhere


def test_a_link_elsewhere_is_known_by_what_it_leads_to(drops, tmp_path):
    link = tmp_path / "latest.otio"
    claims: list[Claim] = []
    for number in range(2):
        (tmp_path / f"v{number}.otio").write_text(f"{number}\n")
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / f"v{number}.otio")
        drops.put("cast.shots.yaml", CAST + f"timeline: {link}\n")
        claims.append(drops.claim())
    assert claims[0].sha256 != claims[1].sha256
    assert claims[0].edit == link


def test_a_bare_timeline_is_looked_for_in_source_dir(drops, tmp_path):
    text = CAST + f"timeline: cut.otio\nsource_dir: {tmp_path}\n"
    drops.put("cast.shots.yaml", text)
    assert not of(Claim, drops.look(30))
    (tmp_path / "cut.otio").write_text("a cut\n")
    assert drops.claim(5).edit == tmp_path / "cut.otio"
    drops.put("cast.shots.yaml", text)
    drops.put("cut.otio", "dropped along\n")
    assert edit(drops.claim()).read_text() == "dropped along\n"


@pytest.mark.parametrize("timeline", ["cuts/a.otio", "/not/there.otio"])
def test_a_path_that_leads_nowhere_is_for_planning_to_tell(drops, timeline):
    drops.put("cast.shots.yaml", CAST + f"timeline: {timeline}\n")
    claim = drops.claim()
    assert claim.edit == (Path(timeline) if timeline.startswith("/") else None)


def test_two_cuts_of_one_name_are_asked_about(drops):
    drops.put("cut.edl")
    drops.put("cut.otio")
    drops.put("cut.shots.yaml", CAST)
    found = drops.look(30)
    assert not of(Claim, found)
    assert "cut.edl, cut.otio, cut.shots.yaml" in told(found)["cut"].why
    drops.put("cut.shots.yaml", CAST + "timeline: cut.otio\n")
    assert edit(drops.claim()).name == "cut.otio"
    assert drops.names() == {"cut.edl"}


def test_two_manifests_of_one_cut_are_asked_about(drops):
    drops.pair()
    drops.put("cut.shots.yml", CAST)
    drops.put("other.shots.yaml", CAST + "timeline: reel.otio\n")
    drops.put("more.shots.yaml", CAST + "timeline: reel.otio\n")
    drops.put("reel.otio")
    found = drops.look(30)
    assert not of(Claim, found)
    assert all("not clear" in told(found)[name].why for name in ("cut", "other", "more", "reel"))


def test_case_and_accents_are_no_difference_until_they_must_be(drops):
    accented = "Été"
    drops.put(f"{unicodedata.normalize('NFC', accented)}.otio")
    drops.put(f"{unicodedata.normalize('NFD', accented)}.shots.yaml", CAST)
    drops.put("Reel.otio")
    drops.put("rEEL.shots.yaml", CAST)
    claims = {claim.name: claim for claim in of(Claim, drops.look(20))}
    assert set(claims) == {unicodedata.normalize("NFC", accented), "Reel"}
    drops.put("Reel.otio", "one\n")
    drops.put("reel.otio", "two\n")
    drops.put("reel.shots.yaml", CAST)
    found = drops.look(20)
    (claim,) = of(Claim, found)
    assert edit(claim).read_text() == "two\n"
    assert told(found)["Reel"].state == "waiting"


def test_names_that_differ_in_the_writing_of_an_accent_alone_are_asked_about(drops):
    for form in ("NFC", "NFD"):
        drops.put(f"{unicodedata.normalize(form, 'é')}.otio", form)
    drops.put("é.shots.yaml", CAST)
    found = drops.look(30)
    assert not of(Claim, found)
    assert "not clear" in told(found)["é"].why


# --------------------------------------------------------------------------- what is passed over


@pytest.mark.parametrize(
    "name",
    [".cut.otio", "~cut.otio", "._cut.otio", "Thumbs.db", "desktop.ini", "Icon\r", "cut.otio.tmp", "cut.otio.part",
     "cut.otio.PARTIAL", "cut.otio.filepart", "cut.crdownload", "cut.otio.inprogress", "cut.hlock", ".~lock.cut.otio#",
     "cut.lock", "REJECTED.txt"],
)  # fmt: skip
def test_ignored_names_are_let_lie(drops, name):
    drops.put(name)
    assert drops.look(700) == []
    assert drops.names() == {name}


def test_links_folders_and_pipes_are_told_once_and_not_followed(drops, tmp_path):
    (tmp_path / "real.otio").write_text("a cut\n")
    (drops.inbox / "cut.otio").symlink_to(tmp_path / "real.otio")
    drops.put("cut.shots.yaml", CAST)
    (drops.inbox / "reels").mkdir()
    (drops.inbox / "reels" / "inner.shots.yaml").write_text(SHOTS)
    os.mkfifo(drops.inbox / "pipe.otio")
    found = drops.look(700)
    assert not of(Claim, found)
    assert not of(Refused, found)
    for name, word in (("cut.otio", "link"), ("reels", "folder"), ("pipe.otio", "no file")):
        (waiting,) = [waiting for waiting in of(Waiting, found) if waiting.name == name]
        assert (waiting.state, word in waiting.why) == ("ignored", True)
    assert drops.names() == {"cut.otio", "cut.shots.yaml", "reels", "pipe.otio"}


def test_an_empty_file_is_waited_for(drops):
    drops.put("cut.otio", "")
    drops.put("cut.shots.yaml", CAST)
    assert "cut.otio is empty so far" in told(drops.look(700))["cut"].why
    drops.put("cut.otio")
    assert edit(drops.claim()).read_text() == "a cut\n"


def test_an_alias_is_not_followed(drops):
    (drops.inbox / "cut.otio alias").write_bytes(b"book\0\0\0\0mark\0\0\0\0")
    (drops.inbox / "other.otio").write_bytes(b"book\0\0\0\0mark\0\0\0\0")
    last = told(drops.look(700))
    assert [last[name].state for name in ("cut.otio alias", "other")] == ["ignored", "ignored"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("notes.txt", "neither a cut nor a manifest"), ("characters.yaml", "not called like a manifest"),
     ("plate.mov", "neither"), ("no suffix", "neither"), (os.fsdecode(b"caf\xe9.otio"), "not UTF-8")],
)  # fmt: skip
def test_what_is_no_drop_is_refused_in_words(drops, name, words):
    drops.put(name)
    (refused,) = of(Refused, drops.look(20))
    assert words in refused.faults[0].what
    place = drops.hot.reject(refused, refused.faults)
    assert (place / name).read_text() == "a cut\n"
    assert words in (place / "REJECTED.txt").read_text()
    assert drops.names() == set()


def test_what_the_reader_says_of_a_foreign_file_is_told(drops):
    drops.put("project.prproj", "BROKEN\n")
    (refused,) = of(Refused, drops.look(20))
    assert refused.faults[0].fix == "export it again"


# --------------------------------------------------------------------------- when it is complete


@pytest.mark.parametrize(
    ("network", "every", "taken_after"),
    [(False, 1.0, 20.0), (False, 5.0, 20.0), (False, 30.0, 90.0), (True, 5.0, 60.0)],
)
def test_settling_takes_its_time_and_its_looks(tmp_path, network, every, taken_after):
    drops = Drops(tmp_path, network=network)
    drops.pair()
    began = drops.clock.monotonic()
    while not of(Claim, drops.look()):
        drops.clock.pass_by(every)
    assert drops.clock.monotonic() - began == taken_after


def test_any_change_begins_the_settling_anew(drops):
    drops.pair()
    drops.look(15)
    os.utime(drops.inbox / "cut.otio", ns=(1, 1))  # a copy that keeps its times: size and content are the same
    assert not of(Claim, drops.look(15))
    (drops.inbox / "cut.otio").chmod(0o600)
    assert not of(Claim, drops.look(15))
    (drops.inbox / "cut.shots.yaml").write_text(CAST + "# more\n")
    assert not of(Claim, drops.look(15))
    assert drops.claim(10).name == "cut"


def test_looks_alone_do_not_settle(drops):
    drops.pair()
    assert not of(Claim, [one for _ in range(100) for one in drops.look()])


def test_text_that_may_be_cut_short_settles_three_times_as_long(drops):
    drops.put("cut.otio", "no line end")
    drops.put("cut.shots.yaml", CAST.rstrip())
    found = drops.look(55)
    assert not of(Claim, found)
    assert "cut.shots.yaml does not end with a line end" in told(found)["cut"].why
    assert drops.claim(5).name == "cut"


def test_a_broken_cut_is_waited_for_then_refused_with_its_other_half(drops):
    drops.pair(text="BROKEN\n")
    found = drops.look(UNPARSED_S - 5)
    assert not of(Refused, found)
    assert "cut.otio ends too early" in told(found)["cut"].why
    (refused,) = of(Refused, drops.look(10))
    assert [fault.what for fault in refused.faults] == ["cut.otio ends too early"]
    assert {path.name for path in refused.files} == {"cut.otio", "cut.shots.yaml"}


@pytest.mark.parametrize("name", ["cut.otio", "notes.txt"])
def test_what_cannot_be_read_now_waits_until_it_can(drops, monkeypatch, name):
    drops.put(name)
    drops.put("cut.shots.yaml", CAST)

    def busy(path: Path) -> FarmError | None:
        raise ShareUnavailable("the process that reads it failed: ImportError")

    with monkeypatch.context() as patched:
        patched.setattr(drops, "unreadable", busy)
        drops.hot = drops.restarted()
        found = drops.look(2 * UNPARSED_S)
    assert not of(Refused, found)
    last = told(found)["cut" if name == "cut.otio" else name]
    assert last.state == "waiting"
    assert f"{name} cannot be read now (the process that reads it failed: ImportError)" in last.why
    assert name in drops.names()
    drops.hot = drops.restarted()
    found = drops.look(20)
    assert len(of(Claim, found)) + len(of(Refused, found)) == 1


def test_a_broken_cut_that_is_mended_is_taken(drops):
    drops.pair(text="BROKEN\n")
    drops.look(300)
    drops.put("cut.otio", "whole\n")
    assert edit(drops.claim()).read_text() == "whole\n"


def test_a_file_is_parsed_once_for_each_version(drops):
    drops.put("cut.otio", "BROKEN\n")
    drops.put("fine.otio")
    drops.look(500)
    assert sorted(drops.read) == ["cut.otio", "fine.otio"]
    drops.put("cut.otio", "BROKEN again\n")
    drops.look(100)
    assert sorted(drops.read) == ["cut.otio", "cut.otio", "fine.otio"]


@pytest.mark.parametrize("text", [MANIFEST + "cast:\n- when: {clip: '*'", "", "\0" * 200, "{}\n", "a: [1\n"])
def test_a_broken_manifest_is_refused_after_its_time(drops, text):
    drops.put("cut.shots.yaml", text or " ")
    found = drops.look(UNPARSED_S - 5)
    assert not of(Refused, found)
    assert "cut.shots.yaml cannot be read whole" in told(found)["cut"].why
    (refused,) = of(Refused, drops.look(10))
    assert str(refused.faults[0].where["file"]).endswith("cut.shots.yaml")


def test_a_manifest_with_unknown_keys_is_whole(drops):
    drops.put("cut.otio")
    drops.put("cut.shots.yaml", CAST + "wishes: none\n")
    assert drops.claim().name == "cut"


def test_what_changes_is_told_and_nothing_else(drops):
    drops.put("cut.otio")
    first = drops.look()
    assert [waiting.state for waiting in of(Waiting, first)] == ["arriving"]
    assert first[0].document["state"] == "arriving"
    assert drops.look(15) == []
    assert [waiting.state for waiting in of(Waiting, drops.look(5))] == ["waiting"]
    assert drops.look(3600) == []
    (drops.inbox / "cut.otio").unlink()
    assert [waiting.state for waiting in of(Waiting, drops.look(10))] == ["gone"]
    assert drops.look(10) == []


# --------------------------------------------------------------------------- sidecars


@pytest.mark.parametrize("ending", [".sha256", ".ready", ".SHA256"])
def test_a_sidecar_is_proof_at_once(drops, ending):
    drops.pair()
    drops.vouch("cut.otio", ending)
    drops.vouch("cut.shots.yaml", ending)
    (claim,) = of(Claim, drops.look())
    assert {path.name for path in claim.files} == {
        "cut.otio", "cut.shots.yaml", f"cut.otio{ending}", f"cut.shots.yaml{ending}"
    }  # fmt: skip
    assert drops.read == []


def test_a_sidecar_that_is_wrong_is_waited_for_then_refused(drops):
    drops.pair()
    drops.put("cut.otio.ready", f"6 {'0' * 64}\n")
    found = drops.look(55)
    assert "is not what cut.otio.ready says" in told(found)["cut"].why
    assert not of(Refused, found)
    (refused,) = of(Refused, drops.look(10))
    assert "is not what cut.otio.ready says" in refused.faults[0].what
    assert len(refused.files) == 3


def test_a_slow_copy_with_its_sidecar_there_first(drops):
    whole = "a cut that comes in pieces\n"
    drops.put("cut.shots.yaml", CAST)
    drops.put("cut.otio.ready", f"{len(whole)} {hashlib.sha256(whole.encode()).hexdigest()}")
    for end in range(0, len(whole), 3):
        drops.put("cut.otio", whole[:end])
        assert not of(Claim, drops.look(30))
    drops.put("cut.otio", whole)
    assert edit(drops.claim(0)).read_text() == whole


@pytest.mark.parametrize("text", ["", "hello", "sha256: none", '{"size": 3}', "{", "ff" * 20])
def test_a_sidecar_that_says_nothing_is_told(drops, text):
    drops.pair()
    drops.put("cut.otio.sha256", text or "\n")
    found = drops.look(30)
    assert "cut.otio.sha256 holds no sha256 of cut.otio" in told(found)["cut"].why
    drops.vouch("cut.otio")
    assert drops.claim().name == "cut"


def test_a_sidecar_alone_waits(drops):
    drops.put("cut.otio.sha256", "0" * 64)
    assert told(drops.look(700))["cut.otio.sha256"].why.startswith("cut.otio.sha256 waits for cut.otio")
    drops.put("cut.otio")
    assert "goes with cut" in told(drops.look(5))["cut.otio.sha256"].why


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A" * 64, {"": (None, "a" * 64)}),
        (f"{'a' * 64}  cut.otio\n", {"": (None, "a" * 64)}),
        (f"{'a' * 64} */Volumes/x/cut.otio\r\n", {"": (None, "a" * 64)}),
        (f"\ufeff{'b' * 64}  other.otio\n{'a' * 64}  cut.otio\n".lstrip("\ufeff"), {"": (None, "a" * 64)}),
        (f"{'b' * 64}  other.otio\n", {}),
        (f"12 {'a' * 64}", {"": (12, "a" * 64)}),
        (json.dumps({"size": 12, "sha256": "a" * 64}), {"": (12, "a" * 64)}),
        (json.dumps({"sha256": "a" * 64}), {"": (None, "a" * 64)}),
        (f"{'a' * 64}  cut.otio/content.otio\n", {"content.otio": (None, "a" * 64)}),
        ("[]", {}),
        ('{"a":' + "[" * 100_000, {}),
        (f"{'9' * 5000} {'a' * 64}", {}),
        (f'{{"sha256": "{"a" * 64}", "size": {"9" * 5000}}}', {}),
    ],
)
def test_what_a_sidecar_says(text, said):
    assert vouched(text, "cut.otio") == said


def test_what_a_sidecar_says_of_odd_names():
    assert vouched(f"\\{'a' * 64}  a\\nb\\\\c.otio\n", "a\nb\\c.otio") == {"": (None, "a" * 64)}
    assert vouched(f"{'a' * 64}  e\u0301.otio\n", "\u00e9.otio") == {"": (None, "a" * 64)}


# --------------------------------------------------------------------------- renamed in


def test_renamed_in_is_taken_after_one_more_look(drops):
    for name, text in (("cut.otio", "a cut\n"), (".cut.shots.yaml.x7Gh", CAST)):
        drops.put(f"{name}.part" if name == "cut.otio" else name, text)
    assert drops.look(5) == []
    (drops.inbox / "cut.otio.part").rename(drops.inbox / "cut.otio")
    (drops.inbox / ".cut.shots.yaml.x7Gh").rename(drops.inbox / "cut.shots.yaml")
    assert not of(Claim, drops.look())
    assert drops.claim(5).name == "cut"


def test_renamed_in_and_written_to_settles_like_any_other(drops):
    part = drops.put("cut.otio.part")
    drops.put("cut.shots.yaml", CAST)
    drops.look(30)
    part.rename(drops.inbox / "cut.otio")
    drops.look()
    drops.put("cut.otio", "a cut that goes on\n")
    assert not of(Claim, drops.look(15))
    assert drops.claim(10).name == "cut"


def test_a_file_number_used_again_is_no_rename(drops, monkeypatch):
    part = drops.put("cut.otio.part", "a whole cut\n")
    drops.put("cut.shots.yaml", CAST)
    drops.look(30)
    os.truncate(part, 3)  # as another, smaller file of the same number would be
    part.rename(drops.inbox / "cut.otio")
    assert not of(Claim, drops.look(15))
    assert drops.claim(10).name == "cut"


def test_renamed_in_over_one_that_waits(drops):
    drops.put("cut.otio", "old\n")
    drops.put("cut.otio.part", "new and longer\n")
    drops.put("cut.shots.yaml.part", CAST)
    drops.look(60)
    for name in ("cut.otio", "cut.shots.yaml"):
        (drops.inbox / f"{name}.part").rename(drops.inbox / name)
    drops.look()
    assert edit(drops.claim(5)).read_text() == "new and longer\n"


# --------------------------------------------------------------------------- bundles


def bundle(drops: Drops, name: str = "cut.otiod") -> Path:
    folder = drops.inbox / name
    (folder / "media").mkdir(parents=True)
    (folder / "content.otio").write_text("a cut\n")
    (folder / "media" / "a.exr").write_text("pixels\n")
    return folder


def test_a_bundle_is_claimed_whole(drops):
    folder = bundle(drops)
    drops.put("cut.shots.yaml", CAST)
    drops.look(15)
    (folder / "media" / "a.exr").write_text("pixels and more\n")
    assert not of(Claim, drops.look(15))
    claim = drops.claim(10)
    assert (claim.edit / "media" / "a.exr").read_text() == "pixels and more\n"
    assert drops.names() == set()
    assert drops.hot.unchanged(claim)
    (claim.edit / "media" / "b.exr").write_text("late\n")
    assert not drops.hot.unchanged(claim)


def test_a_bundle_is_vouched_for_file_by_file(drops):
    folder = bundle(drops)
    drops.put("cut.shots.yaml", CAST)
    drops.vouch("cut.shots.yaml")
    inside = {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in ("content.otio", "media/a.exr")
    }
    lines = [f"{digest}  cut.otiod/{path}" for path, digest in inside.items()]
    drops.put("cut.otiod.sha256", lines[0] + "\n")
    assert not of(Claim, drops.look(20))
    drops.put("cut.otiod.sha256", "\n".join(lines))
    assert edit(drops.claim(0)).name == "cut.otiod"


# --------------------------------------------------------------------------- claims


def test_a_file_written_to_while_it_is_claimed_goes_back(drops, monkeypatch):
    drops.pair()
    writing = {"on": True}

    def written_to(path: Path) -> None:
        if writing["on"]:
            with path.open("a") as file:
                file.write("more\n")

    monkeypatch.setattr(drops, "unreadable", written_to)
    drops.hot = drops.restarted()
    words: list[str] = []
    for _ in range(3):
        found = drops.look(20)
        assert not of(Claim, found)
        assert drops.names() == {"cut.otio", "cut.shots.yaml"}
        words += [waiting.why for waiting in of(Waiting, found)]
    assert not any("still being written" in why for why in words)
    assert "still being written 3 times when it was taken" in told(drops.look())["cut"].why
    writing["on"] = False
    assert edit(drops.claim(25)).read_text() == "a cut\nmore\nmore\nmore\n"


def test_a_half_that_goes_while_the_other_is_claimed_goes_back(drops, monkeypatch):
    drops.pair()

    def takes_the_manifest(path: Path) -> None:
        (drops.inbox / "cut.shots.yaml").rename(drops.root / "elsewhere.yaml")

    monkeypatch.setattr(drops, "unreadable", takes_the_manifest)
    drops.hot = drops.restarted()
    assert not of(Claim, drops.look(20))
    assert drops.names() == {"cut.otio"}
    assert list((drops.root / ".farm" / "claimed").iterdir()) == []


def test_a_claim_goes_on_to_its_job_and_is_found_there(drops):
    drops.pair()
    claim = drops.claim()
    place = drops.hot.accept(claim, "cut")
    assert place == drops.root / "accepted" / "cut" == drops.hot.accept(claim, "cut")
    moved = claim.at(place)
    assert moved.edit.read_text() == "a cut\n"
    assert drops.hot.found_in(place) == moved
    drops.pair(text="another\n")
    other = drops.claim()
    assert drops.hot.accept(other, "cut") == drops.root / "accepted" / "cut.2" == drops.hot.accept(other, "cut")


def test_what_was_dropped_before_lies_beside_its_job(drops):
    for number in (0, 1, 2):
        drops.pair()
        claim = drops.claim()
        if number == 0:
            drops.hot.accept(claim, "cut")
        else:
            place = drops.hot.duplicate(claim, "cut")
            assert place == drops.root / "accepted" / "cut" / "again" / str(number) == drops.hot.duplicate(claim, "cut")
    assert len(list((drops.root / "accepted").rglob("cut.otio"))) == 3


def test_what_is_rejected_is_kept_with_words_for_its_editor(drops):
    faults = [
        Fault.of(SubmissionInvalid("the cut is upside down", why="it must not be", fix="turn it", where=None)),
        Fault.of(SubmissionInvalid("and backwards", fix="turn it again")),
    ]
    for number, kept in enumerate(("cut", "cut.2", "cut.3")):
        drops.pair(text=f"cut {number}\n")
        claim = drops.claim()
        place = drops.hot.reject(claim, faults)
        assert place == drops.root / "rejected" / kept == drops.hot.reject(claim, faults)
        assert (place / "cut.otio").read_text() == f"cut {number}\n"
        text = (place / "REJECTED.txt").read_text()
        assert text == (drops.status / "cut.REJECTED.txt").read_text()
        assert f"rejected/{kept}/" in text
        for word in ("cut.otio, cut.shots.yaml", "1. the cut is upside down", "fix: turn it\n", "2. and backwards"):
            assert word in text
        assert "{" not in text
    drops.pair(text="right\n")
    drops.hot.accept(drops.claim(), "cut")
    assert list(drops.status.iterdir()) == []


def test_what_came_back_from_planning_is_rejected_once_and_found_again(drops):
    drops.pair()
    claim = drops.claim()
    accepted = claim.at(drops.hot.accept(claim, "cut"))
    faults = [Fault.of(SubmissionInvalid("no"))]
    place = drops.hot.reject(accepted, faults)
    assert place == drops.root / "rejected" / "cut" == drops.hot.reject(accepted, faults)
    drops.pair(text="another\n")
    other = drops.claim()
    taken = drops.hot.accept(other, "cut")
    assert taken == accepted.folder, "the name is free again"
    assert drops.hot.reject(accepted, faults) == place
    assert (taken / "cut.otio").read_text() == "another\n"
    again = other.at(taken)
    assert drops.hot.duplicate(again, "first") == drops.hot.duplicate(again, "first")


@pytest.mark.parametrize("way", ["accept", "duplicate"])
def test_a_folder_is_renamed_last(drops, way):
    drops.pair()
    claim = drops.claim()
    blocked = drops.status / "cut.REJECTED.txt"
    blocked.mkdir()  # what is a folder cannot be deleted as a file
    with pytest.raises(ShareUnavailable):
        getattr(drops.hot, way)(claim, "cut")
    assert claim.folder.is_dir()
    blocked.rmdir()
    assert (getattr(drops.hot, way)(claim, "cut") / "cut.otio").is_file()


def test_faults_name_dropped_files_by_their_names(drops):
    drops.put("cut.shots.yaml", "characters: [\n")
    (refused,) = of(Refused, drops.look(UNPARSED_S + 20))
    text = (drops.hot.reject(refused, refused.faults) / "REJECTED.txt").read_text()
    assert "(cut.shots.yaml:2" in text
    assert str(drops.root) not in text


def test_a_claim_that_changed_goes_back(drops):
    drops.pair()
    claim = drops.claim()
    assert drops.hot.unchanged(claim)
    edit(claim).write_text("written to meanwhile\n")
    assert not drops.hot.unchanged(claim)
    drops.hot.put_back(claim)
    assert drops.names() == {"cut.otio", "cut.shots.yaml"}
    assert not of(Claim, drops.look(15))
    assert edit(drops.claim(10)).read_text() == "written to meanwhile\n"


def test_a_claim_that_cannot_go_back_is_refused_and_nothing_is_written_over(drops):
    drops.pair(text="old\n")
    claim = drops.claim()
    drops.put("cut.otio", "new\n")
    drops.hot.put_back(claim)
    (refused,) = of(Refused, drops.look())
    assert [path.read_text() for path in refused.files] == ["old\n"]
    assert "another of that name" in refused.faults[0].what
    assert (drops.hot.reject(refused, refused.faults) / "cut.otio").read_text() == "old\n"
    assert edit(drops.claim()).read_text() == "new\n"


def test_a_bundle_goes_back_too_but_not_over_another(drops):
    bundle(drops)
    drops.put("cut.shots.yaml", CAST)
    claim = drops.claim()
    drops.hot.put_back(claim)
    assert (drops.inbox / "cut.otiod" / "media" / "a.exr").is_file()
    claim = drops.claim()
    (drops.inbox / "cut.otiod").mkdir()
    drops.hot.put_back(claim)
    (refused,) = of(Refused, drops.look())
    assert (refused.folder / "cut.otiod" / "media" / "a.exr").is_file()


def test_claims_come_in_the_order_of_arrival(drops):
    for name in ("zebra", "ant", "mole"):
        drops.pair(name)
        drops.look()
    for _ in range(3):
        drops.look()
    drops.clock.pass_by(30)
    assert [claim.name for claim in of(Claim, drops.look())] == ["zebra", "ant", "mole"]


# --------------------------------------------------------------------------- after a crash


@pytest.mark.parametrize("taken", range(5))
def test_a_claim_cut_off_anywhere_is_completed(drops, taken):
    drops.pair()
    drops.vouch("cut.otio")
    drops.vouch("cut.shots.yaml")
    claim = drops.claim(0)
    order = ("cut.otio", "cut.shots.yaml", "cut.otio.sha256", "cut.shots.yaml.sha256")
    for name in order[taken:]:
        (claim.folder / name).rename(drops.inbox / name)
    drops.hot = drops.restarted()
    assert drops.hot.claimed() == ([claim] if taken else [])
    assert len(of(Claim, drops.look(60))) == (0 if taken else 1)
    assert drops.names() == set()


def test_a_claim_whose_other_half_is_another_by_now_goes_back(drops):
    drops.pair()
    claim = drops.claim()
    claim.manifest.unlink()
    drops.put("cut.shots.yaml", CAST + "# new\n")
    drops.hot = drops.restarted()
    assert drops.hot.claimed() == []
    assert drops.names() == {"cut.otio", "cut.shots.yaml"}
    assert drops.claim().manifest.read_text().endswith("# new\n")


def test_a_claim_cut_off_while_it_went_back(drops):
    drops.pair()
    claim = drops.claim()
    os.link(claim.manifest, drops.inbox / "cut.shots.yaml")  # a file goes back by a link, then loses its other name
    drops.hot = drops.restarted()
    assert drops.hot.claimed() == [claim]
    assert drops.names() == set()


def test_claimed_folders_without_a_record_go_back(drops):
    empty, full = (drops.root / ".farm" / "claimed" / name for name in ("empty", "full"))
    empty.mkdir()
    full.mkdir()
    (full / ".claim.json").write_text("{")
    (full / "cut.otio").write_text("a cut\n")
    assert drops.restarted().claimed() == []
    assert drops.names() == {"cut.otio"}
    assert list(empty.parent.iterdir()) == []


def test_what_was_refused_is_refused_again(drops):
    drops.put("notes.txt")
    (refused,) = of(Refused, drops.look(20))
    assert drops.restarted().claimed() == [refused]


def test_a_submission_that_was_brought(drops):
    folder = drops.root / ".farm" / "submitted" / "abc"
    folder.mkdir(parents=True)
    (folder / "cut.otio").write_text("a cut\n")
    (folder / "cast.yaml").write_text(CAST)
    written = Submission(name="cut", edit="/proj/cut.otio", manifest="/proj/cast.yaml", home="/proj")
    (folder / "submission.json").write_text(document_text(written))
    claim = drops.hot.found_in(folder)
    assert isinstance(claim, Claim)
    assert (claim.name, claim.edit, claim.manifest) == ("cut", folder / "cut.otio", folder / "cast.yaml")
    assert drops.hot.unchanged(claim)
    assert drops.hot.found_in(folder) == claim
    place = drops.hot.accept(claim, "cut")
    assert drops.hot.found_in(place) == claim.at(place)
    bare = drops.root / "accepted" / "by hand"
    bare.mkdir()
    assert isinstance(drops.hot.found_in(bare), Refused)


def brought(drops: Drops, **said: str) -> Path:
    """A submission's folder as a client of any honesty would bring it."""
    folder = drops.root / ".farm" / "submitted" / "abc"
    folder.mkdir(parents=True)
    (folder / "cut.otio").write_text("a cut\n")
    (folder / "cast.yaml").write_text(CAST)
    names = {"name": "cut", "edit": "/proj/cut.otio", "manifest": "/proj/cast.yaml"} | said
    (folder / "submission.json").write_text(document_text(Submission.model_validate(names)))
    return folder


@pytest.mark.parametrize("written", ["..", ".", "../../escaped", "/"])
@pytest.mark.parametrize("field", ["name", "edit", "manifest"])
def test_a_submission_that_leads_out_of_its_folder_is_refused(drops, field, written):
    if field != "name" and written == "../../escaped":
        written = "/x/.."
    folder = brought(drops, **{field: written})
    refused = drops.hot.found_in(folder)
    assert isinstance(refused, Refused)
    assert f"the submission's `{field}` is {written}, which" in refused.faults[0].what
    assert refused.faults[0].where["field"] == field
    assert refused.name == "abc"


def test_everything_that_is_wrong_with_a_submission_is_told_at_once(drops):
    folder = brought(drops, name="a/b", edit="/proj/none.otio", manifest="/x/..")
    (folder / "link.otio").symlink_to(folder / "cut.otio")
    refused = drops.hot.found_in(folder)
    assert isinstance(refused, Refused)
    assert [fault.where["field"] for fault in refused.faults] == ["name", "edit", "manifest"]
    assert refused.faults[1].what == "none.otio was not brought with the submission that names it"
    place = drops.hot.reject(refused, refused.faults)
    assert place == drops.root / "rejected" / "abc" == drops.hot.reject(refused, refused.faults)
    assert "none.otio was not brought" in (place / "REJECTED.txt").read_text()
    assert not folder.exists()


@pytest.mark.parametrize("edit_", ["none.otio", "link.otio"])
def test_a_submission_without_its_cut_is_refused(drops, edit_):
    folder = brought(drops, edit=f"/proj/{edit_}")
    (folder / "link.otio").symlink_to(folder / "cut.otio")
    refused = drops.hot.found_in(folder)
    assert isinstance(refused, Refused)
    assert [fault.where["field"] for fault in refused.faults] == ["edit"]


# --------------------------------------------------------------------------- names


def test_names_as_long_as_they_come(drops):
    name = "é" * 119  # 238 bytes; its returned cut while it is written has 255
    drops.put(f"{name}.otio")
    drops.put(f"{name}.shots.yaml", CAST)
    found = drops.look(20)
    for waiting in of(Waiting, found):
        drops.hot.write_status(waiting.name, waiting.document)
    (claim,) = of(Claim, found)
    assert claim.name == name
    place = drops.hot.reject(claim, [Fault.of(SubmissionInvalid("no"))])
    assert {len(os.fsencode(path.name)) <= 255 for path in (*drops.status.iterdir(), place)} == {True}
    assert (place / f"{name}.otio").is_file()
    drops.pair(name)
    accepted = drops.hot.accept(drops.claim(), f"{name}.r2")
    assert (accepted / f"{name}.otio").is_file()
    other = filed("é" * 120 + "y" * 40, ".status.json")
    assert other != filed("é" * 120 + "z" * 40, ".status.json")
    assert len(os.fsencode(other)) <= 250


def test_a_name_that_no_returned_cut_could_have_is_refused(drops):
    drops.pair("x" * 239)
    (refused,) = of(Refused, drops.look(20))
    assert "too long: 239 bytes, at most 238" in refused.faults[0].what
    assert "shorter name" in refused.faults[0].fix


@pytest.mark.parametrize(
    "name", ["a cut", 'it\'s "quoted"', "two\nlines", "tab\tand; rm -rf *", "日本", "-x", "a%20b", "#1"]
)
def test_odd_names(drops, name):
    drops.pair(name)
    found = drops.look(20)
    (claim,) = of(Claim, found)
    assert edit(claim).name == f"{name}.otio"
    assert all("\n" not in waiting.why for waiting in of(Waiting, found))
    drops.hot.write_status(claim.name, {"state": "claimed"})
    (status,) = drops.status.iterdir()
    assert json.loads(status.read_text()) == {
        "schema": "scail2-farm/status@1", "name": claim.name, "state": "claimed"
    }  # fmt: skip
    assert "\n" not in status.name
    assert (drops.hot.accept(claim, claim.name) / f"{name}.otio").is_file()


def test_a_cut_that_is_called_like_our_own_files(drops):
    for name in ("REJECTED.txt", "claim.json"):
        drops.pair(name)
        claim = drops.claim()
        assert [path.name for path in claim.files] == [f"{name}.otio", f"{name}.shots.yaml"]
        (claim.folder / ".DS_Store").write_text("left by a file manager")
        drops.hot.put_back(claim)
        assert drops.names() == {f"{name}.otio", f"{name}.shots.yaml"}
        place = drops.hot.reject(drops.claim(), [Fault.of(SubmissionInvalid("no"))])
        assert (place / f"{name}.otio").read_text() == "a cut\n"


def test_drop_names():
    assert [drop_name(name) for name in ("a.b.otio", "a.shots.yaml", "a.scail2.otio", "e\u0301.edl")] == [
        "a.b", "a", "a", "\u00e9"
    ]  # fmt: skip


# --------------------------------------------------------------------------- disks


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A folder, and a process without special rights in it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        yield Path(folder)
        os.seteuid(before)


def test_what_may_not_be_read_waits(anybody):
    drops = Drops(anybody / "farm")
    drops.pair()
    (drops.inbox / "cut.otio").chmod(0)
    found = drops.look(700)
    assert not of(Refused, found)
    assert "cut.otio cannot be read (Permission denied)" in told(found)["cut"].why
    (drops.inbox / "cut.otio").chmod(0o600)
    assert edit(drops.claim()).read_text() == "a cut\n"


def test_what_may_not_be_moved_waits(anybody):
    drops = Drops(anybody / "farm")
    drops.pair()
    drops.inbox.chmod(0o500)
    assert "cannot be taken now: Permission denied" in told(drops.look(700))["cut"].why
    drops.inbox.chmod(0o700)
    assert drops.claim(5).name == "cut"
    assert len(list((drops.root / ".farm" / "claimed").iterdir())) == 1


def test_an_inbox_that_is_away_for_a_while(drops):
    drops.pair()
    drops.look(10)
    drops.inbox.rename(drops.root / "away")
    with pytest.raises(ShareUnavailable):
        drops.hot.poll()
    (drops.root / "away").rename(drops.inbox)
    assert drops.claim(10).name == "cut"


def test_folders_on_several_volumes_are_refused(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second volume at /dev/shm")
    (tmp_path / "accepted").symlink_to(other)
    with pytest.raises(SettingsInvalid, match="different volumes"):
        Drops(tmp_path)


def test_what_was_taken_is_told_though_the_next_cannot_be(drops):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == drops.root.stat().st_dev:
        pytest.skip("there is no second volume at /dev/shm")
    drops.pair(text="old\n")
    claim = drops.claim()
    drops.put("cut.otio", "new\n")
    drops.hot.put_back(claim)
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        claimed = drops.root / ".farm" / "claimed"
        shutil.copytree(claimed, elsewhere, dirs_exist_ok=True)
        shutil.rmtree(claimed)
        claimed.symlink_to(elsewhere)
        drops.vouch("cut.otio")
        drops.vouch("cut.shots.yaml")
        found = drops.look()
    assert [refused.name for refused in of(Refused, found)] == ["cut"]
    assert "cannot be taken now:" in told(found)["cut"].why
    assert "different volumes" in told(found)["cut"].why
    assert {"cut.otio", "cut.shots.yaml"} <= drops.names()


def test_thousands_that_wait_cost_little(drops):
    for number in range(5000):
        drops.put(f"shot_{number:04d}.otio")
    first = drops.look(24, every=8)
    assert len(told(first)) == 5000
    assert len(drops.read) == 5000
    seconds: list[float] = []
    for _ in range(3):
        began = time.process_time()
        assert drops.look(0) == []
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.2
    assert len(drops.read) == 5000


def test_an_inbox_is_never_entered(drops, monkeypatch):
    bundle(drops, "not a bundle")
    inbox = Inbox(drops.inbox, clock=drops.clock, settle_s=0, suffixes=SUFFIXES, unreadable=drops.unreadable)
    walked: list[object] = []
    monkeypatch.setattr(os, "walk", lambda *arguments, **_: walked.append(arguments) or [])
    inbox.look()
    assert [one.kind for one in inbox] == ["folder"]
    assert walked == []
