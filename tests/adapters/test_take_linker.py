"""The media linker, as any host uses it: plain OpenTimelineIO in a process of its own, told of the manifest alone."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import opentimelineio as otio
import pytest

from scail2_farm.engine import write_tiny_snapshot
from scail2_farm.media.movies import write_movie

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from submissions import FIRST_TC, HEIGHT, WIDTH, Cut, span

GUEST = Path(__file__).resolve().parents[2] / "adapters" / "otio"
HOST = """
import json, sys
import opentimelineio as otio
edit, arguments = sys.argv[1], json.loads(sys.argv[2])
linker = {"media_linker_name": "scail2_takes", "media_linker_argument_map": arguments} if arguments else {}
cut = otio.adapters.read_from_file(edit, **linker)
assert not [name for name in sys.modules if name.startswith("scail2_farm")]
print(cut.to_json_string())
"""
Place = Callable[[dict[str, Any]], None]


def host(edit: Path, arguments: dict[str, Any], **environment: str) -> subprocess.CompletedProcess[str]:
    """A host that reads a cut through the linker, run in another folder than the cut's."""
    manifest = {"OTIO_PLUGIN_MANIFEST_PATH": str(GUEST / "plugin_manifest.json")}
    return subprocess.run(
        [sys.executable, "-I", "-c", HOST, str(edit), json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | manifest | environment,
        check=False,
    )


def seen(edit: Path, arguments: dict[str, Any], **environment: str) -> list[Any]:
    """The clips of a cut as the host sees them."""
    done = host(edit, arguments, **environment)
    assert done.returncode == 0, done.stderr
    timeline: Any = otio.adapters.read_from_string(done.stdout, "otio_json")
    return list(timeline.find_clips())


def frames(clip: Any, beside: Path) -> dict[float, Path]:
    """The file that a clip's media gives for every time it has."""
    media = clip.media_reference
    start, rate = media.available_range.start_time.value, media.available_range.start_time.rate
    urls = [media.target_url_for_image_number(k) for k in range(media.number_of_images_in_sequence())]
    paths = [Path(url.removeprefix("file://")) for url in urls]
    assert media.frame_for_time(media.available_range.start_time) == media.start_frame
    return {(start + k) / rate: beside / path for k, path in enumerate(paths)}


def is_take(clip: Any) -> bool:
    return "scail2_farm" in clip.media_reference.metadata


@dataclass(frozen=True)
class Show:
    """A rendered submission: SH010 twice, SH020 at double speed, SH030 not cast, SH040 of a movie, SH050 on twos."""

    cut: Cut

    @property
    def folder(self) -> Path:
        return self.cut.folder

    @property
    def returned(self) -> list[Any]:
        timeline: Any = otio.adapters.read_from_file(str(self.folder / "edit.scail2.otio"))
        return list(timeline.find_clips())

    def other(self, *changes: Place, clip: int = 0) -> Path:
        """Another cut beside the edit, of one of its clips, changed."""
        document = json.loads((self.folder / "edit.otio").read_text(encoding="utf-8"))
        (track,) = document["tracks"]["children"]
        track["children"] = [track["children"][clip]]
        for change in changes:
            change(track["children"][0])
        path = self.folder / "other.otio"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def link(self, *changes: Place, clip: int = 0, **arguments: Any) -> Any:
        """The one clip of such a cut as the host sees it."""
        edit = self.other(*changes, clip=clip)
        (found,) = seen(edit, {"timeline": str(edit)} | arguments)
        return found


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Show:
    folder = tmp_path_factory.mktemp("linker")
    write_tiny_snapshot(folder / "tiny", seed=5)
    cut = Cut(folder / "show", folder / "tiny")
    cut.character("ada", "blue", (220, 30, 30))
    for seed, shot in enumerate(("SH010", "SH020", "SH030", "SH050")):
        cut.plate(shot, 16, seed=seed)
        cut.matte(shot, "ada", 16, (20, 10, 20, 30))
    cut.clip("SH010", first=3, count=4, available=16)
    double = {"OTIO_SCHEMA": "LinearTimeWarp.1", "metadata": {}, "name": "", "effect_name": "", "time_scalar": 2.0}
    cut.clip("SH020", first=4, count=4, available=16, effects=[double])
    cut.clip("SH030", first=0, count=4, available=16)
    cut.clip("SH010", first=6, count=3, available=16)
    write_movie(folder / "show" / "A001 take#1.mov", movie_pictures(), rate=Fraction(24), timecode="01:00:00:00")
    cut.matte("SH040", "ada", 16, (20, 10, 20, 30), first=1)
    movie = {"OTIO_SCHEMA": "ExternalReference.1", "metadata": {}, "name": "", "target_url": "A001%20take%231.mov"}
    movie |= {"available_range": span(FIRST_TC, 16), "available_image_bounds": None}
    cut.clip("SH040", first=5, count=4, available=16, media_references={"DEFAULT_MEDIA": movie})
    twos = cut.clip("SH050", first=2, count=3, available=8)
    twos["media_references"]["DEFAULT_MEDIA"]["frame_step"] = 2
    cut.manifest["cast"] = [{"when": {"clip": "SH0[1245]0"}, "characters": [{"id": "ada"}]}]
    cut.manifest["defaults"]["steps"] = 1
    render(cut)
    return Show(cut)


def movie_pictures() -> Iterator[np.ndarray]:
    for index in range(16):
        yield np.full((HEIGHT, WIDTH, 3), 0.1 + index / 32, np.float32)


def render(cut: Cut) -> None:
    done = cut.run("submit", str(cut.write()), "--weights", str(cut.weights))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def show(rendered, tmp_path) -> Show:
    """A copy of the show that the test may change; its takes say where the plates were before."""
    shutil.copytree(rendered.folder, tmp_path / "show")
    cut = Cut(tmp_path / "show", rendered.cut.weights, clips=rendered.cut.clips, manifest=rendered.cut.manifest)
    cut.library, cut.manifest = rendered.cut.library, rendered.cut.manifest
    return Show(cut)


# --------------------------------------------------------------------------- the takes of the returned cut


def test_a_cut_without_our_metadata_shows_what_the_returned_cut_shows(rendered: Show):
    edit = rendered.folder / "edit.otio"
    assert "scail2_farm" not in edit.read_text(encoding="utf-8")
    found = seen(edit, {"timeline": str(edit)})
    assert [is_take(clip) for clip in found] == [True, True, False, True, True, True]
    for clip, wanted in zip(found, rendered.returned, strict=True):
        given, kept = clip.media_reference, wanted.media_reference
        given.metadata.clear()
        kept.metadata.clear()
        given.name = kept.name
        assert given.is_equivalent_to(kept), f"{given}\n{kept}"
        assert clip.source_range == wanted.source_range
        assert len(clip.effects) == len(wanted.effects)
        assert all(path.is_file() for path in frames(clip, rendered.folder).values())
    assert [len(frames(clip, rendered.folder)) for clip in found] == [10, 16, 16, 10, 8, 7]


def test_the_takes_folder_is_enough(rendered: Show):
    found = seen(rendered.folder / "edit.otio", {"takes": str(rendered.folder / "edit.scail2")})
    for clip, wanted in zip(found, rendered.returned, strict=True):
        assert frames(clip, rendered.folder) == frames(wanted, rendered.folder)


def test_a_host_without_arguments_reads_the_environment(rendered: Show):
    takes = str(rendered.folder / "edit.scail2")
    found = seen(rendered.folder / "edit.otio", {}, OTIO_DEFAULT_MEDIA_LINKER="scail2_takes", SCAIL2_TAKES=takes)
    assert [is_take(clip) for clip in found] == [True, True, False, True, True, True]


def test_the_review_movie(rendered: Show):
    clip, frame = rendered.link(style="movie"), rendered.link()
    movie = clip.media_reference
    assert isinstance(movie, otio.schema.ExternalReference)
    assert (rendered.folder / movie.target_url).is_file()
    assert movie.available_range == frame.media_reference.available_range


def test_a_returned_cut_is_brought_up_to_the_newest_take(show: Show):
    show.cut.manifest["defaults"] = show.cut.manifest["defaults"] | {"seed": 12}
    shutil.copy(show.folder / "edit.scail2.otio", show.folder / "old.otio")
    render(show.cut)
    newest = seen(show.folder / "old.otio", {"timeline": str(show.folder / "old.otio")})
    for clip, wanted in zip(newest, show.returned, strict=True):
        assert frames(clip, show.folder) == frames(wanted, show.folder)
    assert {path.parent.name for path in frames(newest[0], show.folder).values()} == {"v002"}


# --------------------------------------------------------------------------- which take is a clip's


def starts(first: int, count: int) -> Place:
    return lambda clip: clip.update(source_range=span(FIRST_TC + first, count))


def address(base: str) -> Place:
    return lambda clip: clip["media_references"]["DEFAULT_MEDIA"].update(target_url_base=base)


def named(name: str) -> Place:
    return lambda clip: clip.update(name=name)


def part_known(clip: dict[str, Any]) -> None:
    clip["media_references"]["DEFAULT_MEDIA"]["available_range"] = span(FIRST_TC + 4, 8)


def offline(clip: dict[str, Any]) -> None:
    missing = {"OTIO_SCHEMA": "MissingReference.1", "metadata": {}, "name": "", "available_range": None}
    clip["media_references"]["DEFAULT_MEDIA"] = missing | {"available_image_bounds": None}


@pytest.mark.parametrize(("first", "count", "held"), [(1, 10, True), (0, 10, False), (1, 11, False)])
def test_a_take_must_hold_all_that_is_used(rendered: Show, first: int, count: int, held: bool):
    assert is_take(rendered.link(starts(first, count))) == held


@pytest.mark.parametrize(("count", "held"), [(7, True), (8, False)])
def test_speed_is_counted_in(rendered: Show, count: int, held: bool):
    assert is_take(rendered.link(starts(2, count), clip=1)) == held


def test_media_is_known_by_its_address_whatever_the_clip_is_called(rendered: Show):
    absolute = (rendered.folder / "plates" / "SH010").as_uri()
    assert is_take(rendered.link(named("renamed")))
    assert is_take(rendered.link(named("renamed"), address(absolute)))


def test_moved_media_is_known_by_its_file_name_and_the_clip_s(rendered: Show):
    assert is_take(rendered.link(address("file:///elsewhere/")))
    assert not is_take(rendered.link(address("file:///elsewhere/"), named("renamed")))


def test_a_moved_show_is_found(show: Show):
    assert is_take(show.link(named("renamed")))


def test_a_cut_may_know_a_part_of_a_movie(rendered: Show):
    part, whole = rendered.link(part_known, clip=4), rendered.link(clip=4)
    assert is_take(part)
    assert frames(part, rendered.folder) == frames(whole, rendered.folder)


def test_offline_media_is_known_by_the_clip_s_name_and_timecode(rendered: Show):
    clip, online = rendered.link(offline), rendered.link()
    assert frames(clip, rendered.folder) == frames(online, rendered.folder)
    assert not is_take(rendered.link(offline, starts(-20, 4)))
    assert not is_take(rendered.link(offline, named("renamed")))


def test_a_name_that_two_shots_have_says_nothing(show: Show):
    path = show.folder / "edit.scail2/shots/SH020/v001/take.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"clip": "SH020"', '"clip": "SH010"'), encoding="utf-8")
    assert not is_take(show.link(offline))
    assert is_take(show.link())


# --------------------------------------------------------------------------- what is wrong is told


def test_an_unreadable_record_is_told_and_left_out(show: Show):
    path = show.folder / "edit.scail2/shots/SH010/v001/take.json"
    path.write_text("{", encoding="utf-8")
    edit = show.other()
    done = host(edit, {"timeline": str(edit)})
    assert f"{path} cannot be read and is left out" in done.stderr
    assert "scail2_farm" not in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"style": "films"}, "not films"),
        ({"takse": "x", "timeline": "x"}, "takse"),
        ({"takes": "/nowhere.scail2"}, "/nowhere.scail2 is not a folder of takes"),
        ({"style": "movie"}, "nothing says where the takes are"),
    ],
)
def test_wrong_arguments_are_told(rendered: Show, arguments: dict[str, Any], told: str):
    done = host(rendered.folder / "edit.otio", arguments)
    assert done.returncode != 0
    assert "ValueError" in done.stderr
    assert told in done.stderr


# --------------------------------------------------------------------------- a guest


def test_a_guest_is_small_and_brings_nothing():
    (guest,) = GUEST.glob("*.py")
    text = guest.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    tree = ast.parse(text, feature_version=(3, 9))
    nodes = list(ast.walk(tree))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | {"opentimelineio"}
