"""The ordinary life of a farm, by a real one: what is dropped in its inbox comes back, and everybody is told.

One farm for all of it, as in use. What it renders is as small as can be: one segment of five frames a shot.
"""

import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from submissions import Cut, span

from scail2_farm.farm.outbox import verify

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from farmhouse import Farm, books, many_shots, pictures, undisturbed

SECRET = "between us"
Command = Callable[..., Any]


# --------------------------------------------------------------------------- the farm, and who is told


@dataclass
class Told:
    """Who listens at the farm's hook: every post that was signed by it, in the order they came."""

    posts: list[dict[str, Any]] = field(default_factory=list)
    forged: int = 0

    def of(self, job: str) -> list[str]:
        return [post["event"] for post in self.posts if post["job"] == job]


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Told, str]]:
    """A listener, and its address."""
    heard = Told()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            timestamp, signature = self.headers["X-Scail2-Timestamp"], self.headers["X-Scail2-Signature"]
            if verify(SECRET, timestamp, body, signature):
                heard.posts.append(json.loads(body))
            else:
                heard.forged += 1
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield heard, f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()


@pytest.fixture(scope="module")
def running(tmp_path_factory, weights, told) -> Iterator[Farm]:
    """A farm that runs, and posts what it does."""
    environment = {"SCAIL2_HOOKS": told[1], "SCAIL2_HOOK_SECRET": SECRET}
    with Farm(tmp_path_factory.mktemp("house") / "farm", weights, environment=environment) as farm:
        farm.up()
        yield farm
        assert farm.end() == 0


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Numbers of shots, so that no two tests have the same picture."""
    return iter(range(1, 1000, 10))


@pytest.fixture
def show(tmp_path, weights, numbers) -> Callable[..., Cut]:
    """A cut of some short shots of its own."""

    def make(count: int = 1, *, frames: int = 5, name: str = "show") -> Cut:
        return many_shots(Cut(tmp_path / name, weights), count, frames=frames, handles=0, first=next(numbers))

    return make


def bring(farm: Farm, path: Path, name: str) -> Path:
    """Rename a copy of a file into the inbox, whole; where it is then."""
    farm.until((farm.root / "inbox").is_dir, "inbox")
    part = farm.root / "inbox" / f"{name}.part"
    part.write_bytes(path.read_bytes())
    return part.rename(farm.root / "inbox" / name)


def names(cut: Cut) -> list[str]:
    return [clip["name"] for clip in cut.clips]


def absolute(cut: Cut) -> None:
    """Everything by its absolute path."""
    cut.manifest["characters"] = str(cut.folder / "library.yaml")
    for clip in cut.clips:
        media = clip["media_references"]["DEFAULT_MEDIA"]
        media["target_url_base"] = str(cut.folder / media["target_url_base"]) + "/"


def shown(cut: Path) -> dict[str, str]:
    """What each clip of a returned cut shows now."""
    (track,) = json.loads(cut.read_text())["tracks"]["children"]
    return {
        clip["name"]: clip["media_references"][clip["active_media_reference_key"]]["target_url_base"]
        for clip in track["children"]
    }


def begun(farm: Farm, job: str) -> Counter[str]:
    """How often a segment of each shot of a job was begun."""
    rows = books(farm).rows(f"SELECT subject FROM event WHERE what = 'leased' AND job = '{job}'")
    return Counter(subject.split("/")[1] for (subject,) in rows)


# --------------------------------------------------------------------------- dropped


@pytest.mark.parametrize("first", ["edit", "manifest"])
def test_an_edit_and_its_manifest_in_either_order(running, show, told, first):
    cut, name = show(2), f"{first}-first"
    cut.manifest["source_dir"] = str(cut.folder)
    edit = cut.write()
    files = {f"{name}.otio": edit, f"{name}.shots.yaml": edit.with_name("edit.shots.yaml")}
    before, after = sorted(files, reverse=first == "manifest")
    bring(running, files[before], before)
    waiting = running.until(
        lambda: running.receipt(name).get("state") == "waiting" and running.receipt(name), "receipt"
    )
    lacks = f"{name}.shots.yaml" if first == "edit" else name
    assert lacks in waiting["why"]
    bring(running, files[after], after)
    seen = ["waiting"]

    def done() -> bool:
        state = running.receipt(name)["state"]
        if state != seen[-1]:
            seen.append(state)
        return state == "done"

    running.until(done, "cut")
    order = ("waiting", "arriving", "planning", "open", "done")
    assert seen == sorted(seen, key=order.index), "a quick job's may be told too late to be seen, but in their order"
    receipt = running.receipt(name)
    assert receipt["job"] == name
    assert receipt["why"] == "2 of 2 shots are back"
    assert receipt["shots"] == {"done": 2}
    assert receipt["segments"] == {"done": 2, "of": 2}
    assert receipt["trouble"] == []
    assert receipt["returned"] == str(cut.folder / f"{name}.scail2.otio")
    assert [take["shot"] for take in receipt["takes"]] == names(cut)
    assert [event["event"] for event in receipt["events"]][-1] == "job-done"
    delivery = cut.folder / f"{name}.scail2"
    assert {key.partition("/")[0] for key in pictures(delivery)} == set(names(cut))
    assert shown(cut.folder / f"{name}.scail2.otio") == {
        shot: f"{name}.scail2/shots/{shot}/v001/" for shot in names(cut)
    }
    kept = running.root / "accepted" / name
    assert {path.name: path.read_bytes() for path in kept.glob(f"{name}*")} == {
        file: path.read_bytes() for file, path in files.items()
    }
    assert not list((running.root / "inbox").glob(f"{name}*"))

    listener = told[0]
    running.until(lambda: "job-done" in listener.of(name), "word of it")
    assert listener.of(name) == ["accepted", "started", "shot-done", "shot-done", "job-done"]
    posts = [post for post in listener.posts if post["job"] == name]
    assert [post["seq"] for post in posts] == sorted(post["seq"] for post in posts)
    assert [post["shot"] for post in posts if post["event"] == "shot-done"] == names(cut)
    assert posts[-1]["facts"]["returned"] == receipt["returned"]
    assert listener.forged == 0


def test_a_manifest_alone_with_shots_of_its_own(running, show):
    cut = show()
    (shot,) = names(cut)
    characters = [{"id": "ada", "matte": {"sequence": f"mattes/{shot}/ada.####.png"}}]
    cut.manifest |= {
        "source_dir": str(cut.folder),
        "cast": [],
        "shots": [{"id": "ALONE", "media": f"plates/{shot}/{shot}.####.exr", "characters": characters}],
    }
    cut.write()
    bring(running, cut.folder / "edit.shots.yaml", "alone.shots.yaml")
    receipt = running.returned("alone")
    assert receipt["state"] == "done"
    assert receipt["returned"] is None
    assert {key.partition("/")[0] for key in pictures(cut.folder / "alone.scail2")} == {"ALONE"}
    assert not list(cut.folder.glob("alone*.otio"))


def test_a_performance_drives_a_shot_as_it_does_in_place(running, show):
    """Its paths are the manifest's, which was moved; what the shot's own plate shows is not asked."""
    cut = show(2)
    moved, mover = names(cut)
    roles = {"lead": {"sequence": f"mattes/{mover}/{{role}}.####.png"}}
    for path in (cut.folder / "mattes" / mover).iterdir():
        path.rename(path.with_name(path.name.replace("ada", "lead")))
    del cut.clips[1]
    driving = {"performance": {"media": f"plates/{mover}/{mover}.####.exr", "roles": roles}}
    cut.manifest["defaults"] |= {"mode": "animation", "driving": driving}
    wanted = undisturbed(cut)
    running.drop(cut, "driven")
    assert running.returned("driven")["state"] == "done"
    found = pictures(cut.folder / "driven.scail2")
    assert list(found.values()) == list(wanted.values())
    assert {key.partition("/")[0] for key in found} == {moved}


def test_takes_go_where_the_manifest_says(running, show, tmp_path):
    """To `deliver.to`, else beside the edit's own folder, else to the farm; the same pictures are rendered once."""
    cut = show()
    (shot,) = names(cut)
    running.drop(cut, "beside")
    cut.manifest["deliver"] = {"to": str(tmp_path / "elsewhere"), "movie": "none"}
    running.drop(cut, "told")
    cut.manifest.pop("deliver")
    cut.manifest.pop("source_dir")
    absolute(cut)
    edit = cut.write()
    bring(running, edit, "nowhere.otio")
    bring(running, edit.with_name("edit.shots.yaml"), "nowhere.shots.yaml")
    assert {running.returned(name)["state"] for name in ("beside", "told", "nowhere")} == {"done"}
    places = {
        "beside": cut.folder,
        "told": tmp_path / "elsewhere",
        "nowhere": running.root / "returned" / "nowhere",
    }
    frames: list[set[str]] = []
    for name, place in places.items():
        receipt = running.receipt(name)
        folder = Path(receipt["deliver_to"])
        assert folder.is_relative_to(place)
        assert Path(receipt["returned"]).parent == place
        assert Path(receipt["returned"]).is_file()
        take = json.loads((folder / "shots" / shot / "v001" / "take.json").read_text())
        assert (take["movie"] is None) == (name == "told")
        frames.append({sha for key, sha in pictures(folder).items() if "comp_matte" not in key})
    assert frames[0] == frames[1] == frames[2]
    assert sum((begun(running, name) for name in places), Counter()) == {shot: 1}


# --------------------------------------------------------------------------- rejected


def test_what_cannot_be_rendered_is_rejected_in_plain_words(running, show, told):
    cut = show()
    edit = cut.write()
    (shot,) = names(cut)
    manifest = edit.with_name("edit.shots.yaml")
    inbox = running.root / "inbox"

    bring(running, edit, "relative.otio")
    bring(running, manifest, "relative.shots.yaml")

    bare = {key: value for key, value in cut.manifest.items() if key != "characters"} | {"charcters": "library.yaml"}
    wrong = cut.folder / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(bare, sort_keys=False))
    bring(running, edit, "fields.otio")
    bring(running, wrong, "fields.shots.yaml")

    torn = cut.folder / "torn.otio"
    torn.write_bytes(edit.read_bytes()[:-200])
    bring(running, torn, "torn.otio")
    bring(running, manifest, "torn.shots.yaml")

    for name, file, path in (("fields", "fields.shots.yaml", wrong), ("torn", "torn.otio", torn)):
        why = running.until(lambda name=name: _cannot_be_read(running, name), "word of what is wrong")["why"]
        assert f"{file} cannot be read whole, perhaps because it is still being copied: " in why
        assert "Rejected at " in why
        sidecar = cut.folder / f"{file}.sha256"
        sidecar.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {file}\n")
        bring(running, sidecar, sidecar.name)  # says that nothing more comes

    expected = {
        "relative": ("relative path", "add `source_dir: /the/folder/the/edit/was/in` to relative.shots.yaml"),
        "fields": ("charcters", "characters"),
        "torn": ("torn.otio", "export the timeline again"),
    }
    for name, words in expected.items():
        receipt = running.returned(name)
        assert receipt["state"] == "rejected"
        assert receipt["faults"]
        assert Path(receipt["folder"]) == running.root / "rejected" / name
        text = (running.root / "STATUS" / f"{name}.REJECTED.txt").read_text()
        assert text == (running.root / "rejected" / name / "REJECTED.txt").read_text()
        assert text.startswith(f"{name} was not accepted. Nothing of it is rendered.\n")
        assert f"Kept in:   rejected/{name}/ (nothing was deleted)" in text
        assert all(word in text for word in words), text
        assert "fix: " in text
        assert str(running.root) not in text, "where it lay for a while is nobody's affair"
        assert not list(inbox.glob(f"{name}*"))
    assert (running.root / "rejected/torn/torn.otio").read_bytes() == torn.read_bytes()
    assert (running.root / "rejected/fields/fields.shots.yaml").read_bytes() == wrong.read_bytes()
    listed = {path.name for path in (running.root / "rejected/relative").iterdir() if path.name[0] != "."}
    assert listed == {"relative.otio", "relative.shots.yaml", "REJECTED.txt"}
    assert not begun(running, "relative")

    cut.manifest["source_dir"] = str(cut.folder)
    running.drop(cut, "relative")
    running.until(lambda: running.receipt("relative")["state"] == "done", "mended drop")
    assert running.receipt("relative")["takes"][0]["shot"] == shot
    assert not (running.root / "STATUS" / "relative.REJECTED.txt").exists()


def _cannot_be_read(farm: Farm, name: str) -> dict[str, Any] | None:
    receipt = farm.receipt(name)
    return receipt if "cannot be read" in receipt.get("why", "") else None


# --------------------------------------------------------------------------- again


def test_the_same_again_renders_nothing(running, show):
    cut = show()
    running.drop(cut, "once")
    assert running.returned("once")["state"] == "done"
    frames, attempts = pictures(cut.folder / "once.scail2"), books(running).attempts
    running.drop(cut, "once")
    again = running.root / "accepted" / "once" / "again"
    running.until((again / "1").is_dir, "second drop put aside")
    running.drop(cut, "twice")
    running.until((again / "2").is_dir, "third drop put aside")
    receipt = running.until(
        lambda: running.receipt("twice").get("state") == "duplicate" and running.receipt("twice"), "it"
    )
    assert receipt["job"] == "once"
    assert receipt["why"].startswith("duplicate of once: the same cut with the same manifest")
    assert running.receipt("once")["state"] == "done"
    assert (again / "1" / "once.otio").is_file()
    assert (again / "2" / "twice.otio").is_file()
    assert books(running).attempts == attempts
    assert [
        job["id"] for job in running.ask("status").document["jobs"] if job["id"] in ("once", "once.r2", "twice")
    ] == ["once"]
    assert pictures(cut.folder / "once.scail2") == frames
    assert not (cut.folder / "twice.scail2").exists()


def test_a_revision_renders_what_changed(running, show):
    cut = show(3, frames=13)
    first, trimmed, gone = names(cut)
    running.drop(cut, "rev")
    assert running.returned("rev")["state"] == "done"
    assert begun(running, "rev") == {first: 2, trimmed: 2, gone: 2}
    kept = pictures(cut.folder / "rev.scail2")

    del cut.clips[2]
    cut.clips[1]["source_range"] = span(86400, 11)  # two frames shorter at its tail
    running.drop(cut, "rev")
    receipt = running.until(lambda: running.receipt("rev").get("revision") == 2 and _over(running, "rev"), "revision")
    assert receipt["job"] == "rev.r2"
    assert receipt["state"] == "done"
    assert [(take["shot"], take["version"]) for take in receipt["takes"]] == [(first, 1), (trimmed, 2)]
    assert begun(running, "rev.r2") == {trimmed: 1}, "its first segment is as it was"
    assert shown(cut.folder / "rev.scail2.otio") == {
        first: f"rev.scail2/shots/{first}/v001/",
        trimmed: f"rev.scail2/shots/{trimmed}/v002/",
    }
    now = pictures(cut.folder / "rev.scail2")
    assert {key: now[key] for key in kept} == kept, "what was delivered stays"
    assert {path.name for path in (cut.folder / "rev.scail2/shots").glob("*/v002")} == {"v002"}
    assert (running.root / "accepted" / "rev").is_dir()
    assert (running.root / "accepted" / "rev.r2").is_dir()


def _over(farm: Farm, name: str) -> dict[str, Any] | None:
    receipt = farm.receipt(name)
    return receipt if receipt["state"] in ("done", "failed", "cancelled") else None


@pytest.mark.parametrize("supersede", [False, True])
def test_a_shot_that_a_revision_removes_while_it_is_under_way(running, show, supersede):
    """It goes on and that is told, or it is cancelled with `supersede: true`."""
    cut, name = show(2), f"removed-{supersede}".lower()
    stays, goes = names(cut)
    cut.manifest["handles"] = {"head": 0, "tail": 0}
    running.drop(cut, name)
    running.until(lambda: running.ask("pause", name).fault is None, "job to pause")
    del cut.clips[1]
    cut.manifest["supersede"] = supersede
    running.drop(cut, name)
    receipt = running.until(lambda: running.receipt(name).get("revision") == 2 and _over(running, name), "revision")
    assert receipt["state"] == "done"
    assert [take["shot"] for take in receipt["takes"]] == [stays]
    became = "is cancelled" if supersede else "goes on; `supersede: true` in the manifest would cancel it"
    assert receipt["warnings"][-1] == f"{name}/{goes} is not in this cut any more and {became}"
    said = running.ask("why", f"{name}/{stays}").said
    assert f"{name}/{stays} is cancelled: goes on in {name}.r2" in said
    if supersede:
        assert f"{name}/{goes} is cancelled: {name}.r2 does not have it" in running.ask("why", f"{name}/{goes}").said[0]
        assert goes not in begun(running, f"{name}.r2")
    else:
        running.ask("resume", name)
        running.until(lambda: running.ask("why", goes).said[0].startswith(f"{name}/{goes} is done"), "removed shot")
        assert set(shown(cut.folder / f"{name}.scail2.otio")) == {stays}, "the cut is the newest revision's"
    running.until(lambda: _state(running, name) in ("done", "cancelled"), "end of the first revision")


def _state(farm: Farm, job: str) -> str:
    document: dict[str, Any] = farm.ask("status").document
    return next(one["state"] for one in document["jobs"] if one["id"] == job)


# --------------------------------------------------------------------------- held


def test_media_that_is_not_whole_holds_its_shot_alone(running, show, told):
    cut = show(3)
    there, lacks, torn = names(cut)
    plate = cut.folder / "plates" / lacks / f"{lacks}.1003.exr"
    away = plate.rename(cut.folder / "away.exr")
    half = cut.folder / "plates" / torn / f"{torn}.1001.exr"
    whole = half.read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    running.drop(cut, "lack")
    receipt = running.until(
        lambda: running.receipt("lack").get("returned") and running.receipt("lack"), "what there is"
    )
    assert receipt["state"] == "open"
    assert receipt["shots"] == {"done": 1, "held": 2}
    assert receipt["why"] == "1 of 3 shots are back, 2 held"
    for trouble, shot, code, words in zip(
        sorted(receipt["trouble"], key=lambda one: one["shot"]),
        (lacks, torn),
        ("SF-PLATE-MISSING", "SF-PLATE-UNREADABLE"),
        ("1003", f"{torn}.1001.exr"),
        strict=True,
    ):
        assert (trouble["shot"], trouble["state"]) == (shot, "held")
        assert trouble["fault"]["code"] == code
        assert words in trouble["fault"]["what"]
        assert trouble["why"].endswith(f"`scail2-farm job retry lack/{shot}`")
        assert not trouble["goes_on_by_itself"]
        assert running.ask("why", shot).said[0].startswith(f"lack/{shot} is held: ")
    assert shown(cut.folder / "lack.scail2.otio") == {
        there: f"lack.scail2/shots/{there}/v001/",
        lacks: f"plates/{lacks}/",
        torn: f"plates/{torn}/",
    }

    away.rename(plate)
    assert running.ask("retry", f"lack/{lacks}").said == (f"lack/{lacks} is planned again and then rendered",)
    running.until(lambda: running.receipt("lack")["shots"] == {"done": 2, "held": 1}, "shot that was mended")
    half.write_bytes(whole)
    assert running.ask("retry", "lack").said == (f"lack/{torn} is planned again and then rendered",)
    assert running.returned("lack")["shots"] == {"done": 3}
    assert shown(cut.folder / "lack.scail2.otio") == {
        shot: f"lack.scail2/shots/{shot}/v001/" for shot in (there, lacks, torn)
    }
    assert begun(running, "lack") == {there: 1, lacks: 1, torn: 1}
    running.until(lambda: "job-done" in told[0].of("lack"), "word of it")
    assert told[0].of("lack") == ["accepted", "held", "held", "started", *["shot-done"] * 3, "job-done"]


# --------------------------------------------------------------------------- submitted


def test_submit_queues_to_a_farm(running, show, farm: Command):
    """Relative paths begin beside the edit, and there the result comes, as in place."""
    cut = show(2)
    edit = cut.write()
    said = farm("submit", edit, "--farm", running.root, "--priority", 70)
    assert (said.code, said.err) == (0, "")
    assert said.out == "edit is accepted: 2 shots, 2 segments to render, 0 found\n"
    assert running.returned("edit")["state"] == "done"
    assert running.receipt("edit")["returned"] == str(cut.folder / "edit.scail2.otio")
    assert {key.partition("/")[0] for key in pictures(cut.folder / "edit.scail2")} == set(names(cut))
    assert shown(cut.folder / "edit.scail2.otio") == {shot: f"edit.scail2/shots/{shot}/v001/" for shot in names(cut)}
    (job,) = [one for one in running.ask("status").document["jobs"] if one["id"] == "edit"]
    assert job["priority"] == 70

    again = farm("submit", edit, "--farm", running.root, "--priority", 70)
    assert again.code == 0
    assert again.out.startswith("nothing is queued: edit has the very cut and manifest of job edit, which is done; ")

    document = farm("submit", edit, "--farm", running.root, "--keep", "raw", "--json").document
    assert document["job"] == "edit.r2"
    assert document["revision"] == 2
    assert (document["queued"], document["found"]) == (0, 2)
    running.until(lambda: running.receipt("edit").get("revision") == 2 and _over(running, "edit"), "raw frames")
    assert {take["version"] for take in running.receipt("edit")["takes"]} == {2}
    assert not begun(running, "edit.r2"), "they were there"


def test_faults_are_told_as_in_place(running, show, farm: Command):
    cut = show(2)
    cut.manifest["cast"][0]["characters"] = [{"id": "adda"}]
    cut.manifest["color"] = {"spaces": [{"media": "*", "space": "ACEScgg"}]}
    edit = cut.write()
    here, there = farm("submit", edit, "--here", "--weights", cut.weights), farm("submit", edit, "--farm", running.root)
    assert here.code == there.code == 3
    assert "SF-CHARACTER-UNKNOWN" in there.err
    assert "did you mean" in there.err or "ada" in there.err
    assert _faults(there.err) == _faults(here.err)
    document = farm("submit", edit, "--farm", running.root, "--json")
    assert document.code == 3
    assert [one["code"] for one in document.document["faults"]] == [
        one["code"] for one in farm("submit", edit, "--here", "--weights", cut.weights, "--json").document["faults"]
    ]
    assert edit.is_file(), "what was submitted stays where it is"


def _faults(text: str) -> list[str]:
    """Codes, what and fix of every fault; not where, since a farm reads a copy."""
    return [line.split(" /")[0] for line in text.splitlines() if line.startswith(("scail2-farm: ", "  what", "  fix"))]


def test_the_farm_of_the_settings(running, show, farm: Command, monkeypatch, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text(f'farm = "{running.root}"\nweights = "{tmp_path / "none"}"\n')
    monkeypatch.setenv("SCAIL2_SETTINGS", str(settings))
    cut = show()
    edit = cut.write().rename(cut.folder / "home.otio")
    (cut.folder / "edit.shots.yaml").rename(cut.folder / "home.shots.yaml")
    here = farm("submit", edit, "--here")
    assert here.code == 4, "rendered in place it would need the weights of the settings"
    assert "SF-WEIGHTS-MISSING" in here.err
    assert farm("submit", edit).out == "home is accepted: 1 shot, 1 segment to render, 0 found\n"
    assert farm("why", "home").out.startswith("home is ")


def test_what_is_not_there_is_not_queued(running, show, farm: Command, tmp_path):
    said = farm("submit", tmp_path / "none.otio", "--farm", running.root)
    assert said.code == 3
    assert "what  none.otio is not there" in said.err
    cut = show()
    edit = cut.write()
    (cut.folder / "edit.shots.yaml").unlink()
    said = farm("submit", edit, "--farm", running.root)
    assert said.code == 3
    assert "edit.shots.yaml" in said.err
    assert not list((running.root / ".farm" / "submitted").iterdir())
