import os

import pytest

from scail2_farm.digests import Digests, sha256_of
from scail2_farm.errors import StorageError


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    memory, file = tmp_path / "digests.json", tmp_path / "a.exr"
    file.write_bytes(b"one")
    digests = Digests(memory)
    first = digests.of(file)
    digests.save()
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Digests(memory).of(file) == first, "same size and time: remembered"
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert Digests(memory).of(file).sha256 == sha256_of(file) != first.sha256


def test_damaged_memory_costs_time_only(tmp_path):
    memory, file = tmp_path / "digests.json", tmp_path / "a.exr"
    file.write_bytes(b"one")
    memory.write_text('{"x": ')
    assert Digests(memory).of(file).sha256 == sha256_of(file)


def test_a_file_that_went_away(tmp_path):
    with pytest.raises(StorageError):
        Digests(tmp_path / "d.json").of(tmp_path / "none")


def test_a_folder_is_known_by_names_and_contents(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    digests = Digests(tmp_path / "d.json")
    one = digests.of_folder(tmp_path, ["a", "b"])
    assert one == digests.of_folder(tmp_path, ["b", "a"])
    (tmp_path / "c").write_text("a")
    assert one.sha256 != digests.of_folder(tmp_path, ["c", "b"]).sha256
