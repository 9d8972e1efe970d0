"""Every cut in shared/editorial through `check`: planned, or refused with the code the table says; never a traceback.

The table is tests/fixtures/real_cuts.tsv: the file and its flags, how many video clips were found, how many of them a
rule for every clip casts, and the codes of the faults (almost all media is offline here, which is a fault of each
clip). When a difference is meant, run this file: `python tests/e2e/test_real_cuts.py`.
"""

import contextlib
import copy
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scail2_farm.editorial.takes import TakeLink, link_takes, write_edit
from scail2_farm.editorial.timeline import read_edit
from scail2_farm.errors import FarmError, TimelineUnreadable

ROOT = Path(__file__).resolve().parents[2]
EDITORIAL = ROOT.parent / "shared" / "editorial"
TABLE = ROOT / "tests" / "fixtures" / "real_cuts.tsv"
HEADER = "file\tflags\tclips\tcast\tcodes"
MORE = {
    # files that need a flag, run again with it
    "cmx3600/25fps.edl": ["--rate", "25"],
    "cmx3600/timecode_mismatch.edl": ["--rate", "25"],
    "fcpx/fcpx_example.fcpxml": ["--timeline", "OpenTimeline_Project 1"],
}


def files() -> list[Path]:
    names = (path for path in EDITORIAL.rglob("*") if path.is_file() and path.name not in ("README.md", "INDEX.tsv"))
    return sorted(path for path in names if path.suffix != ".tsv")


def rows() -> list[tuple[Path, list[str]]]:
    found = [(path, []) for path in files()]
    return found + [(EDITORIAL / name, flags) for name, flags in MORE.items()]


def write_manifest(folder: Path) -> Path:
    """A manifest that casts one character in every clip."""
    Image.fromarray(np.full((64, 48, 3), 119, np.uint8)).save(folder / "hero.png")
    hero = {"references": [{"image": "hero.png"}], "matte": {"sequence": "mattes/{shot}/{character}.####.png"}}
    library = {"schema": "scail2-farm/characters@1", "characters": {"hero": hero}}
    (folder / "library.json").write_text(json.dumps(library))
    manifest = {
        "schema": "scail2-farm/shot-manifest@1",
        "characters": "library.json",
        "cast": [{"when": {"clip": "*"}, "characters": [{"id": "hero"}]}],
    }
    path = folder / "all.shots.json"
    path.write_text(json.dumps(manifest))
    return path


def checked(path: Path, flags: list[str], manifest: Path) -> str:
    """The row of a file, as `check --json` says it."""
    from scail2_farm.cli import main

    out = io.StringIO()
    before = sys.argv
    sys.argv = ["scail2-farm", "check", str(path), "--manifest", str(manifest), "--json", *flags]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    name = path.relative_to(EDITORIAL).as_posix()
    document = json.loads(out.getvalue())
    clips, faults = document["plan"]["clips"], document["faults"]
    assert code == (3 if faults else 0)
    for fault in faults:
        assert fault["what"], fault
        assert fault["fix"], fault
    cast = sum(clip["state"] == "rendered" for clip in clips)
    codes = ",".join(sorted({fault["code"] for fault in faults}))
    return f"{name}\t{' '.join(flags)}\t{len(clips)}\t{cast}\t{codes}"


def expected() -> dict[tuple[str, str], str]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    return {(line.split("\t")[0], line.split("\t")[1]): line for line in lines[1:]}


def test_every_file_is_in_the_table():
    if not EDITORIAL.is_dir():
        if os.environ.get("SCAIL2_REQUIRE_ALL"):
            pytest.fail("the folder shared/editorial is not beside the repository")
        pytest.skip("the folder shared/editorial is not beside the repository")
    assert {(path.relative_to(EDITORIAL).as_posix(), " ".join(flags)) for path, flags in rows()} == set(expected())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("all"))


@pytest.mark.parametrize(
    ("path", "flags"), rows(), ids=lambda part: part.name if isinstance(part, Path) else "_".join(part)
)
def test_a_real_cut_is_planned_or_refused_as_the_table_says(path: Path, flags: list[str], manifest: Path):
    name = path.relative_to(EDITORIAL).as_posix()
    repair = "if this is meant: python tests/e2e/test_real_cuts.py"
    assert checked(path, flags, manifest) == expected()[name, " ".join(flags)], repair


def readable() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every file that reads, and what it is read with; .otio files have a test of their own."""
    for path, flags in rows():
        options: dict[str, Any] = {}
        if flags:
            options = {"rate": int(flags[1])} if flags[0] == "--rate" else {"timeline": flags[1]}
        if path.suffix in (".edl", ".xml", ".aaf", ".fcpxml"):
            yield path, options


@pytest.mark.parametrize(
    ("path", "options"), list(readable()), ids=lambda part: part.name if isinstance(part, Path) else "_".join(part)
)
def test_a_foreign_cut_is_returned_with_nothing_changed_but_our_takes(path: Path, options: Any, tmp_path: Path):
    try:
        edit = read_edit(path, **options)
    except TimelineUnreadable:
        row = expected()[path.relative_to(EDITORIAL).as_posix(), ""]
        assert "SF-TIMELINE-UNREADABLE" in row, "what the table says is planned is read here too"
        return
    links: dict[str, TakeLink] = {}
    for clip in edit.clips:
        with contextlib.suppress(FarmError):  # offline media of unknown length has no frames to link
            used = clip.used()
            if clip.skipped is None and used.frames.count:
                links[clip.id] = TakeLink(
                    folder=tmp_path / "cut.scail2" / clip.id,
                    prefix=f"{clip.id}_scail2_v001.",
                    padding=4,
                    suffix=".exr",
                    first_file=used.frames.first,
                    count=used.frames.count,
                    start=used.start,
                )
    returned = tmp_path / "cut.scail2.otio"
    write_edit(link_takes(edit, links, beside=tmp_path), returned)
    again = read_edit(returned, source_dir=path.parent, timeline=options.get("timeline"))
    plain = copy.deepcopy(again.document)
    linked = [clip.place for clip in edit.clips if clip.id in links]
    for place in linked:
        node: Any = plain
        for step in place:
            node = node[step]
        taken = node["media_references"].pop("scail2_farm")
        node["active_media_reference_key"] = taken["metadata"]["scail2_farm"]["active_before"]
    assert plain == edit.document
    for before, after in zip(edit.clips, again.clips, strict=True):
        if before.id in links:
            assert after.used().frames == before.used().frames


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        all_cast = write_manifest(Path(folder))
        written = [checked(path, flags, all_cast) for path, flags in rows()]
    TABLE.write_text("\n".join([HEADER, *written]) + "\n", encoding="utf-8")
