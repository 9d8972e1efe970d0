"""Fetching a published snapshot from a hub that lives in this process: what is said, resumed, checked and refused."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import scail2_farm
from scail2_farm.engine import pull as pull_module
from scail2_farm.engine.pull import Announced, pull
from scail2_farm.engine.quantize import quantize_snapshot
from scail2_farm.engine.store import Progress
from scail2_farm.engine.weights import FILES, Tier, Verified, audited
from scail2_farm.errors import DiskFull, HostUnsupported, ShareUnavailable, WeightsMismatch, WeightsMissing

COMMIT = "0123456789abcdef" * 2 + "01234567"
LARGE = 10_000  # bytes from which a file is listed by its sha256, as the hub does with what it keeps apart
TENSORS = "q8/dit.safetensors"


@dataclass
class Hub:
    """The part of a hub's interface that is needed, with the faults of real ones."""

    files: dict[str, bytes]
    repo: str = "someone/scail2"
    endpoint: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """For each file, how many bytes each of the next answers sends before the connection is cut."""
    spoilt: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    """Files of which less is sent than was listed, politely."""
    whole_only: bool = False
    """Answer a request for a part with all of it, as some caches do."""
    elsewhere: bool = False
    """Send whoever asks for a file to another address, as the hub does with large ones."""
    refusal: tuple[int, dict[str, str]] | None = None

    def listing(self) -> bytes:
        siblings: list[dict[str, Any]] = []
        for name, content in self.files.items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            one: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
            if len(content) > LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
            siblings.append(one)
        return json.dumps({"id": self.repo, "sha": COMMIT, "siblings": siblings, "private": False}).encode()

    def ranges(self, name: str) -> list[str]:
        """What was asked of a file, in order."""
        return [wanted for asked, wanted in self.asked if asked == f"/{self.repo}/resolve/{COMMIT}/{name}"]


class Answering(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append((path, self.headers.get("Range", "")))
        if hub.refusal:
            code, headers = hub.refusal
            self.answer(code, b"", headers)
        elif path == f"/api/models/{hub.repo}/revision/main":
            self.answer(200, hub.listing(), {"Content-Type": "application/json"})
        elif path.startswith("/api/models/"):
            kind = "RevisionNotFound" if path.startswith(f"/api/models/{hub.repo}/") else "RepoNotFound"
            self.answer(404, b"", {"X-Error-Code": kind})
        elif hub.elsewhere and not path.startswith("/elsewhere"):
            self.answer(302, b"", {"Location": f"{hub.endpoint}/elsewhere{path}"})
        else:
            self.send(path.removeprefix("/elsewhere").removeprefix(f"/{hub.repo}/resolve/{COMMIT}/"))

    def send(self, name: str) -> None:
        content = self.hub.files[name]
        if name in self.hub.spoilt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if name in self.hub.short:
            content = content[:300_000]
        start = 0 if self.hub.whole_only else int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        length = len(content) - start
        cuts = self.hub.cut_after.get(name)
        self.send_response(206 if start or not self.hub.whole_only else 200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content[start:][: cuts.pop(0) if cuts else length])

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def tiers(snapshot_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a repository with the tiers q4 and q8, and what else lies in one."""
    root = tmp_path_factory.mktemp("tiers")
    files = {"README.md": b"# weights\n", ".gitattributes": b""}
    for tier, bits in (("q4", 4), ("q8", 8)):
        for _ in quantize_snapshot(snapshot_folder, root / tier, bits=bits):
            pass
        files |= {f"{tier}/{name}": (root / tier / name).read_bytes() for name in FILES}
    return files


@pytest.fixture
def hub(tiers: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(pull_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(pull_module, "CHUNK", 1 << 16)
    hub = Hub(dict(tiers))
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Answering,), {"hub": hub})) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


@dataclass
class Pulled:
    announced: list[Announced]
    progress: list[Progress]
    verified: Verified


def fetch(hub: Hub, target: Path, *, tier: Tier = "q8", **options: str) -> Pulled:
    told: list[Announced | Progress] = []
    steps = pull(options.pop("repo", hub.repo), tier=tier, target=target, endpoint=hub.endpoint, **options)
    while True:
        try:
            told.append(next(steps))
        except StopIteration as stop:
            announced = [one for one in told if isinstance(one, Announced)]
            return Pulled(announced, [one for one in told if isinstance(one, Progress)], stop.value)


def test_a_tier_arrives_whole(hub: Hub, tmp_path: Path):
    """The six files of the tier alone, with their digests, under the name only when all are there."""
    pulled = fetch(hub, tmp_path / "here")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {*FILES, "SHA256SUMS"}
    for name in FILES:
        content = hub.files[f"q8/{name}"]
        assert (tmp_path / "here" / name).read_bytes() == content
        assert f"{hashlib.sha256(content).hexdigest()}  {name}\n" in (tmp_path / "here" / "SHA256SUMS").read_text()
    assert (pulled.verified.folder, pulled.verified.tier) == (tmp_path / "here", "q8")
    assert audited(tmp_path / "here", tier="q8").error is None
    done = [one.done for one in pulled.progress]
    assert done == sorted(done)
    assert {one.of for one in pulled.progress} == {done[-1]}
    assert sorted({path for path, _ in hub.asked}) == sorted(
        [f"/api/models/{hub.repo}/revision/main", *(f"/{hub.repo}/resolve/{COMMIT}/q8/{name}" for name in FILES)]
    )


def test_what_will_be_fetched_is_said_before_anything_is_asked(hub: Hub, tmp_path: Path):
    """Names and the published size first, exact sizes before the first byte."""
    steps = pull(hub.repo, tier="q4", target=tmp_path / "here", endpoint=hub.endpoint)
    first = next(steps)
    assert isinstance(first, Announced)
    assert (first.repo, first.endpoint, first.files, first.exact) == (hub.repo, hub.endpoint, FILES, False)
    assert first.bytes == 23_992_772_981
    assert hub.asked == []
    second = next(steps)
    assert isinstance(second, Announced)
    assert (second.exact, second.kept, len(hub.asked)) == (True, 0, 1)
    assert second.files == tuple(f"q4/{name}" for name in FILES)
    assert second.bytes == sum(len(hub.files[name]) for name in second.files)
    steps.close()


def test_a_cut_connection_is_resumed(hub: Hub, tmp_path: Path):
    """Within one run: what arrived is not asked for again."""
    hub.cut_after[TENSORS] = [200_000, 300_000]
    fetch(hub, tmp_path / "here")
    starts = [int(wanted[6:-1]) for wanted in hub.ranges(TENSORS)]
    assert starts[0] == 0
    assert 0 < starts[1] <= 200_000 < starts[2] <= 500_000
    assert (tmp_path / "here" / "dit.safetensors").read_bytes() == hub.files[TENSORS]


def test_a_run_goes_on_where_the_last_one_stopped(hub: Hub, tmp_path: Path):
    """Tries end, an error says what to do, nothing is under the name; the next run asks for the rest alone."""
    hub.cut_after[TENSORS] = [200_000] + [0] * pull_module.TRIES
    with pytest.raises(ShareUnavailable) as caught:
        fetch(hub, tmp_path / "here")
    assert "run the same command again" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["here.part"]
    hub.asked.clear()
    hub.cut_after.clear()
    pulled = fetch(hub, tmp_path / "here")
    assert 100_000 < pulled.announced[1].kept < 300_000
    assert [0 < int(wanted[6:-1]) <= 200_000 for wanted in hub.ranges(TENSORS)] == [True]
    assert hub.ranges("q8/config.json") == [], "finished files are checked, not fetched again"
    assert pulled.verified.error is None
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_pieces_of_another_revision_are_not_mixed_in(hub: Hub, tmp_path: Path):
    """The repository changed between two runs."""
    now = hub.files[TENSORS]
    hub.files[TENSORS] = now[:-1] + b"\0"
    hub.cut_after[TENSORS] = [200_000] + [0] * pull_module.TRIES
    with pytest.raises(ShareUnavailable):
        fetch(hub, tmp_path / "here")
    hub.files[TENSORS] = now
    hub.asked.clear()
    fetch(hub, tmp_path / "here")
    assert hub.ranges(TENSORS) == ["bytes=0-"]
    assert (tmp_path / "here" / "dit.safetensors").read_bytes() == now
    assert len(list((tmp_path / "here").iterdir())) == 7


def test_an_answer_that_begins_anew_replaces_what_was_there(hub: Hub, tmp_path: Path):
    """Not every cache between here and there knows parts of a file."""
    hub.whole_only = True
    hub.cut_after[TENSORS] = [200_000]
    fetch(hub, tmp_path / "here")
    assert (tmp_path / "here" / "dit.safetensors").read_bytes() == hub.files[TENSORS]


def test_a_redirect_is_followed_to_the_same_part(hub: Hub, tmp_path: Path):
    hub.elsewhere = True
    hub.cut_after[TENSORS] = [200_000]
    fetch(hub, tmp_path / "here")
    assert (tmp_path / "here" / "dit.safetensors").read_bytes() == hub.files[TENSORS]
    there = [wanted for path, wanted in hub.asked if path == f"/elsewhere/{hub.repo}/resolve/{COMMIT}/{TENSORS}"]
    assert there == hub.ranges(TENSORS)
    assert len(there) == 2


@pytest.mark.parametrize("whole_only", [False, True])
def test_a_file_that_ends_too_early_is_given_up(hub: Hub, tmp_path: Path, whole_only: bool):
    hub.short.add(TENSORS)
    hub.whole_only = whole_only
    with pytest.raises(ShareUnavailable, match=r"q8/dit\.safetensors ends before its end"):
        fetch(hub, tmp_path / "here")
    assert len(hub.ranges(TENSORS)) == 1 + pull_module.TRIES


def test_a_damaged_piece_is_fetched_anew(hub: Hub, tmp_path: Path):
    """What an earlier run left is hashed like the rest."""
    hub.cut_after[TENSORS] = [200_000] + [0] * pull_module.TRIES
    with pytest.raises(ShareUnavailable):
        fetch(hub, tmp_path / "here")
    (piece,) = (tmp_path / "here.part").glob("dit.safetensors.*")
    piece.write_bytes(bytes(piece.stat().st_size))
    (tmp_path / "here.part" / "config.json").write_text("{}")
    fetch(hub, tmp_path / "here")
    assert (tmp_path / "here" / "dit.safetensors").read_bytes() == hub.files[TENSORS]


@pytest.mark.parametrize("name", [TENSORS, "q8/config.json"])
def test_a_wrong_digest_is_refused(hub: Hub, tmp_path: Path, name: str):
    """Large files by their sha256, small ones by their git object; nothing wrong is kept for the next run."""
    hub.spoilt.add(name)
    with pytest.raises(WeightsMismatch, match=f"{name} arrived whole, and is not what the hub says it is"):
        fetch(hub, tmp_path / "here")
    assert not (tmp_path / "here").exists()
    assert not list((tmp_path / "here.part").glob(f"{name.removeprefix('q8/')}*"))


def test_files_that_are_no_snapshot_are_not_put_under_the_name(hub: Hub, tmp_path: Path):
    """Whole and as published, and yet of another model."""
    hub.files["q8/clip.safetensors"] = hub.files["q8/vae.safetensors"]
    with pytest.raises(WeightsMismatch, match=r"clip\.safetensors holds what belongs in vae\.safetensors"):
        fetch(hub, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_what_is_not_there_is_told(hub: Hub, tmp_path: Path):
    """A tier, a repository, a revision, a file, and what is no name at all."""
    target = tmp_path / "here"
    with pytest.raises(WeightsMissing, match=r"bf16 is not in someone/scail2: it holds q4 and q8"):
        fetch(hub, target, tier="bf16")
    with pytest.raises(WeightsMissing, match="there is no repository someone/else, or it is private"):
        fetch(hub, target, repo="someone/else")
    with pytest.raises(WeightsMissing, match="someone/scail2 has no revision v9"):
        fetch(hub, target, revision="v9")
    with pytest.raises(WeightsMissing, match="'scail2' is not the name of a repository"):
        fetch(hub, target, repo="scail2")
    del hub.files["q8/tokenizer.json"]
    with pytest.raises(WeightsMissing, match=r"is not complete: it lacks tokenizer\.json"):
        fetch(hub, target)
    hub.files.clear()
    with pytest.raises(WeightsMissing, match="q8 is not in someone/scail2: it holds no snapshot"):
        fetch(hub, target)
    assert list(tmp_path.iterdir()) == []


def test_a_flat_repository_is_one_tier(hub: Hub, tmp_path: Path):
    """The older shape: which tier it is stands in its config.json, which is read before the rest is fetched."""
    hub.files = {name.removeprefix("q4/"): content for name, content in hub.files.items() if "q8/" not in name}
    with pytest.raises(WeightsMissing, match="q8 is not in someone/scail2: it holds q4"):
        fetch(hub, tmp_path / "q8")
    assert [path for path, _ in hub.asked if "safetensors" in path] == []
    assert fetch(hub, tmp_path / "q4", tier="q4").verified.tier == "q4"


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ((401, {}), WeightsMissing, "401"),
        ((401, {"X-Error-Code": "RepoNotFound"}), WeightsMissing, "there is no repository"),
        ((403, {"X-Error-Code": "GatedRepo"}), WeightsMissing, "is gated"),
        ((403, {}), WeightsMissing, "403"),
        ((503, {}), ShareUnavailable, "503"),
    ],
)
def test_refusals_of_the_hub(hub: Hub, tmp_path: Path, refusal: Any, error: type[Exception], words: str):
    hub.refusal = refusal
    with pytest.raises(error, match=words):
        fetch(hub, tmp_path / "here")


def test_a_hub_that_is_not_there(hub: Hub, tmp_path: Path):
    """Nobody answers."""
    hub.endpoint = "http://127.0.0.1:9"
    with pytest.raises(ShareUnavailable, match=r"http://127\.0\.0\.1:9 cannot be read"):
        fetch(hub, tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_room_is_needed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        fetch(hub, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 1_000_000))  # type: ignore[attr-defined]
    with pytest.raises(DiskFull, match="here takes"):
        fetch(hub, tmp_path / "here")
    assert hub.ranges("q8/config.json") == []


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HostUnsupported) as caught:
        pull("someone/scail2", tier="q8", target=tmp_path / "here")
    assert "scail2-farm[hub]" in caught.value.fix


def test_importing_it_loads_no_network_library_and_telemetry_is_off():
    code = (
        "import sys, scail2_farm.engine.pull as p, pathlib\n"
        "assert not {'huggingface_hub', 'httpx2', 'http'} & set(sys.modules)\n"
        "next(p.pull('a/b', tier='q8', target=pathlib.Path('nowhere')))\n"
        "from huggingface_hub import constants\n"
        "assert constants.HF_HUB_DISABLE_TELEMETRY\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


REACHING = {"huggingface_hub", "httpx2", "httpx", "requests", "aiohttp", "urllib3", "socket", "ssl", "http", "ftplib"}
REACHING |= {"smtplib", "imaplib", "poplib", "telnetlib", "xmlrpc", "asyncio", "socketserver", "hf_xet", "truststore"}


def imported(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by full name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_other_module_reaches_outside():
    """The farm's outbox posts to the addresses it was given; all else stays on this machine."""
    package = Path(scail2_farm.__file__).parent
    reaching = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(name.partition(".")[0] in REACHING or name.startswith("urllib.request") for name in imported(path))
    }
    assert reaching == {"engine/pull.py", "farm/outbox.py"}
