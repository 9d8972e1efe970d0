"""Whether a cut is whole, asked of a process that anything may happen to."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from scail2_farm.errors import ShareUnavailable, TimelineUnreadable
from scail2_farm.farm.reads import Reader

CUT = Path(__file__).parents[2] / "fixtures" / "editorial" / "nested_stack.otio"


@pytest.fixture
def ending(tmp_path, monkeypatch):
    """Put a process in the reader's place that does what a shell is told."""

    def end(script: str) -> None:
        shell = tmp_path / "python"
        shell.write_text(f"#!/bin/sh\n{script}\n")
        shell.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(shell))

    return end


def test_a_whole_cut_reads():
    assert Reader().unreadable(CUT) is None


def test_a_broken_cut_is_told_in_the_words_of_its_reader(tmp_path):
    broken = tmp_path / "cut.otio"
    broken.write_bytes(CUT.read_bytes()[:500])
    fault = Reader().unreadable(broken)
    assert isinstance(fault, TimelineUnreadable)
    assert fault.what.startswith("cut.otio")
    assert fault.where.file == str(broken)


def test_what_an_adapter_prints_is_not_the_answer(tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import os\ndef read_from_file(path):\n    os.write(1, b'\\xff noise\\n')\n    raise ValueError('no mobs')\n"
    )
    adapter = {"OTIO_SCHEMA": "Adapter.1", "name": "AAF", "filepath": "noisy.py", "suffixes": ["aaf"]}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"OTIO_SCHEMA": "PluginManifest.1", "adapters": [adapter]}))
    monkeypatch.setenv("OTIO_PLUGIN_MANIFEST_PATH", str(manifest))
    cut = tmp_path / "cut.aaf"
    cut.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    fault = Reader().unreadable(cut)
    assert isinstance(fault, TimelineUnreadable)
    assert "no mobs" in fault.what


def test_what_a_parser_trips_over_is_the_files(tmp_path):
    bundle = tmp_path / "cut.otioz"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("content.otio", CUT.read_text())
    packed = bytearray(bundle.read_bytes())
    packed[45:60] = b"\xff" * 15  # behind the name, where the packed text begins
    bundle.write_bytes(packed)
    fault = Reader().unreadable(bundle)
    assert isinstance(fault, TimelineUnreadable)
    assert "cut.otioz cannot be read: error: Error -3" in fault.what


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Traceback >&2; echo 'ModuleNotFoundError: no OTIO' >&2; exit 1", "failed: ModuleNotFoundError: no OTIO"),
        ("printf 'caf\\351' >&2; exit 1", "failed: caf\ufffd"),
        ("exit 120", "failed: 120"),
        ("kill -9 $$", "ended from outside, by SIGKILL"),
        ("kill -15 $$", "ended from outside, by SIGTERM"),
    ],
)
def test_a_reader_that_could_not_do_its_work_says_nothing_of_the_cut(ending, script, words):
    ending(script)
    with pytest.raises(ShareUnavailable) as unread:
        Reader().unreadable(CUT)
    assert words in unread.value.what


def test_a_reader_that_cannot_be_started_says_nothing_of_the_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(ShareUnavailable, match="did not start: No such file"):
        Reader().unreadable(CUT)


def test_a_cut_that_crashes_its_reader_is_unreadable(ending):
    ending("kill -SEGV $$")
    fault = Reader().unreadable(CUT)
    assert isinstance(fault, TimelineUnreadable)
    assert "(-11)" in fault.what
