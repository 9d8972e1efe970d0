"""Addresses in every form applications write them."""

from pathlib import Path

import pytest

from scail2_farm.documents import PathMapping
from scail2_farm.editorial.paths import folder_url, local_path, locate
from scail2_farm.errors import PlateMissing
from scail2_farm.frames import FramePattern, FrameRange

EDIT = Path("/show/edit")
MAP = (
    PathMapping.model_validate({"from": "C:\\Media", "to": "/mnt/c"}),
    PathMapping.model_validate({"from": "c:\\media\\Deep", "to": "/mnt/deep"}),
    PathMapping.model_validate({"from": "\\\\NAS01\\share", "to": "/mnt/nas"}),
    PathMapping.model_validate({"from": "D:\\", "to": "/mnt/d"}),
    PathMapping.model_validate({"from": "/Volumes/show", "to": "/mnt/show"}),
    PathMapping.model_validate({"from": "file://VSD/raid", "to": "/mnt/raid"}),
)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///mnt/a%20b/clip%23one.mov", "/mnt/a b/clip#one.mov"),
        ("file:///mnt/a#b.mov", "/mnt/a#b.mov"),
        ("file:///mnt/a?b.mov", "/mnt/a?b.mov"),
        ("file:///mnt/50%2525.mov", "/mnt/50%25.mov"),
        ("file:///mnt/%E4%BA%BA.mov", "/mnt/人.mov"),
        ("file://localhost/mnt/x.mov", "/mnt/x.mov"),
        ("FILE://LOCALHOST/mnt/x.mov", "/mnt/x.mov"),
        ("file:/one/slash.mov", "/one/slash.mov"),
        ("file:rel.mov", "/show/edit/rel.mov"),
        ("file://./rel.mov", "/show/edit/rel.mov"),
        ("/abs/pl ain.mov", "/abs/pl ain.mov"),
        ("/abs//twice.mov", "/abs/twice.mov"),
        ("media/rel.mov", "/show/edit/media/rel.mov"),
        ("./media/rel.mov", "/show/edit/media/rel.mov"),
        ("../up.mov", "/show/up.mov"),
        ("media\\rel.mov", "/show/edit/media/rel.mov"),
        ("file:///C:/Media/a%20b.mov", "/mnt/c/a b.mov"),
        ("c:/MEDIA/z.mov", "/mnt/c/z.mov"),
        ("C:\\Media\\deep\\z.mov", "/mnt/deep/z.mov"),
        ("file://localhost/D%3a/media/x.mov", "/mnt/d/media/x.mov"),
        ("file://D:/x.mov", "/mnt/d/x.mov"),
        ("file://NAS01/share/y.mov", "/mnt/nas/y.mov"),
        ("\\\\nas01\\share\\w.mov", "/mnt/nas/w.mov"),
        ("//NAS01/share/w.mov", "/mnt/nas/w.mov"),
        ("file:////nas01//share/w.mov", "/mnt/nas/w.mov"),
        ("////nas01/share/w.mov", "/mnt/nas/w.mov"),
        ("file://VSD/raid/v.mov", "/mnt/raid/v.mov"),
        (
            "file://VSD/raid/Avid%20MediaFiles/MXF/tech.fux%20(loop)59BAB32D.2.mxf",
            "/mnt/raid/Avid MediaFiles/MXF/tech.fux (loop)59BAB32D.2.mxf",
        ),
        ("C:/Media/plates/MER_sq001_sh020_P01\\", "/mnt/c/plates/MER_sq001_sh020_P01"),
        ("file:///C%3A/Media/OMFI%20MediaFiles/700.aif", "/mnt/c/OMFI MediaFiles/700.aif"),
        ("file:///Macintosh%20HD/Users/e/58982c7f.mov", "/Macintosh HD/Users/e/58982c7f.mov"),
        ("file:////nas01/share/root/work/1.aaf", "/mnt/nas/root/work/1.aaf"),
        ("/Volumes/show/p.mov", "/mnt/show/p.mov"),
        ("/Volumes/showreel/p.mov", "/Volumes/showreel/p.mov"),
    ],
)
def test_every_form_of_address(url: str, path: str):
    assert local_path(url, folder=EDIT, path_map=MAP) == Path(path)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("P:\\show\\plates\\a.mov", r"path_map: [{from: 'P:\show', to: /folder/on/this/machine}]"),
        ("file:///P:/a.mov", "path_map: [{from: 'P:\\', to: /folder/on/this/machine}]"),
        ("\\\\FS\\vol'1\\x\\a.mov", r"path_map: [{from: '\\FS\vol''1', to: /folder/on/this/machine}]"),
    ],
)
def test_a_path_of_another_machine_says_the_line_to_add(url: str, line: str):
    with pytest.raises(PlateMissing) as fault:
        local_path(url, folder=EDIT)
    assert line in fault.value.fix


@pytest.mark.parametrize("url", ["http://host/a.mov", "https://h/a.mov", "s3://bucket/k.mov", "sftp://h/x.mov"])
def test_an_address_that_is_not_local_is_refused(url: str):
    with pytest.raises(PlateMissing, match="is not local"):
        local_path(url, folder=EDIT)


@pytest.mark.parametrize("url", ["", "  ", "a\0b.mov", "file:///a%00b.mov", "file:///a%ff.mov", "\ud800.mov"])
def test_what_can_be_no_path_is_refused(url: str):
    with pytest.raises(PlateMissing):
        local_path(url, folder=EDIT)


@pytest.mark.parametrize(
    ("url", "name", "padding", "frames"),
    [
        ("file:///p/a.%04d.exr", "a.", 4, None),
        ("file:///p/a.%2504d.exr", "a.", 4, None),
        ("/p/a.####.exr", "a.", 4, None),
        ("/p/a.[1001-1099].exr", "a.", 4, FrameRange(1001, 99)),
        ("file:///p/a.%5B1001-1099%5D.exr", "a.", 4, FrameRange(1001, 99)),
        ("/p/a.<f4>.exr", "a.", 4, None),
        ("/p/a.%d.exr", "a.", 1, None),
    ],
)
def test_sequences_in_an_address(url: str, name: str, padding: int, frames: FrameRange | None):
    found = locate(url, folder=EDIT)
    assert found.pattern == FramePattern(Path("/p"), name, padding, ".exr")
    assert found.frames == frames


def test_a_movie_with_a_hash_in_its_name_is_a_movie():
    assert locate("file:///p/clip%23one.mov", folder=EDIT).path == Path("/p/clip#one.mov")


def test_a_file_that_exists_is_never_read_as_a_pattern(tmp_path: Path):
    (tmp_path / "take#1.exr").touch()
    assert locate("take#1.exr", folder=tmp_path).path == tmp_path / "take#1.exr"


@pytest.mark.parametrize(
    "url", ["/p/a.%0999999999d.exr", "/p/a.<f400>.exr", "/p/a." + "#" * 40 + ".exr", "/p/a.[9-1].exr"]
)
def test_an_absurd_sequence_is_refused(url: str):
    with pytest.raises(PlateMissing):
        locate(url, folder=EDIT)


def test_a_relative_address_is_decoded_only_when_that_is_what_exists(tmp_path: Path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x.mov").touch()
    (tmp_path / "c%20d.mov").touch()
    assert local_path("a%20b/x.mov", folder=tmp_path) == tmp_path / "a b" / "x.mov"
    assert local_path("c%20d.mov", folder=tmp_path) == tmp_path / "c%20d.mov"


def test_a_folder_inside_is_addressed_relatively_and_read_back(tmp_path: Path):
    folder = tmp_path / "my cut#1.scail2" / "50% done"
    folder.mkdir(parents=True)
    url = folder_url(folder, beside=tmp_path)
    assert url == "my%20cut%231.scail2/50%25%20done/"
    assert local_path(url, folder=tmp_path) == folder


def test_a_control_character_in_a_folder_is_no_frame_number(tmp_path: Path):
    folder = tmp_path / "\td"
    assert folder_url(folder, beside=tmp_path) == "%09%64/"
    assert local_path(folder_url(folder, beside=Path("/elsewhere")), folder=EDIT) == folder


def test_a_folder_elsewhere_is_addressed_absolutely_and_read_back(tmp_path: Path):
    url = folder_url(tmp_path / "a b", beside=tmp_path / "edit")
    assert url.startswith("file:///")
    assert url.endswith("/a%20b/")
    assert local_path(url, folder=EDIT) == tmp_path / "a b"


@pytest.mark.parametrize(("to", "path"), [(".", "/show/edit/a.mov"), ("../plates", "/show/plates/a.mov")])
def test_a_relative_to_is_taken_under_the_folder_of_relative_media(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, path: str
):
    monkeypatch.chdir(tmp_path)
    mapping = PathMapping.model_validate({"from": "X:/media", "to": to})
    assert local_path("X:\\media\\a.mov", folder=EDIT, path_map=[mapping]) == Path(path)
