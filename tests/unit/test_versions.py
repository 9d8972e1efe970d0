"""Versions on disk are found by their names alone, the newest first."""

import pytest

from scail2_farm.errors import StorageError
from scail2_farm.versions import TAKE, newest_version, takes, version_folder


def test_a_shot_without_a_folder_has_none(tmp_path):
    assert newest_version(tmp_path, "SH010") == 0
    assert list(takes(tmp_path, "SH010")) == []
    assert version_folder(tmp_path, "SH010", 7) == tmp_path / "shots/SH010/v007"


def test_versions_are_counted_as_numbers(tmp_path):
    for name in ("v001", "v999", "v1000", "v1001.part", "v12", "vx01", "notes"):
        (tmp_path / "shots/SH010" / name).mkdir(parents=True)
    (tmp_path / "shots/SH010/v999" / TAKE).write_text("{")
    assert newest_version(tmp_path, "SH010") == 1000
    found = list(takes(tmp_path, "SH010"))
    assert [folder.name for folder, _ in found] == ["v1000", "v999", "v001"]
    assert [take for _, take in found] == [None] * 3, "a record that is not there or cannot be read is none"


def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots/SH010").symlink_to("SH010")
    with pytest.raises(StorageError):
        newest_version(tmp_path, "SH010")
