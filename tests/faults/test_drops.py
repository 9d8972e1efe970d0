"""Drops as people, networks and crashes make them: nothing is taken early, nothing twice, nothing is lost.

Files, processes and kills are real. Windows are scaled where real time is the point, and the clock is stepped where it
is not. SCAIL2_FULL=1 asks for the larger numbers.
"""

import hashlib
import json
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from dropping import CAST, Found, Stepper, drop, killed_everywhere, race, vouch

from scail2_farm.editorial.formats import open_cut
from scail2_farm.editorial.suffixes import SUFFIXES
from scail2_farm.errors import FarmError
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.hotfolder import Claim, HotFolder, Refused, Waiting

FULL = bool(os.environ.get("SCAIL2_FULL"))
FIXTURES = Path(__file__).parents[1] / "fixtures"
CUT = (FIXTURES / "editorial" / "nested_stack.otio").read_bytes()
SETTLE_S, POLL_S = 1.0, 0.05


def unreadable(path: Path) -> FarmError | None:
    """What the real reader says."""
    try:
        open_cut(path)
    except FarmError as fault:
        return fault
    return None


def claims(found: Found) -> list[Claim]:
    return [one for one in found if isinstance(one, Claim)]


# --------------------------------------------------------------------------- cut short


@pytest.mark.parametrize(
    ("fixture", "points"),
    [("editorial/nested_stack.otio", 200), ("formats/retimes.xml", 40), ("formats/project.fcpxml", 40)],
)
def test_a_timeline_cut_short_is_never_accepted(tmp_path, fixture, points):
    whole = (FIXTURES / fixture).read_bytes().rstrip()
    ending = Path(fixture).suffix
    stepper = Stepper(tmp_path, unreadable=unreadable)
    stepper.hot = HotFolder(
        tmp_path, clock=stepper.clock, network=False, suffixes=tuple(SUFFIXES), unreadable=unreadable
    )
    step = 1 if FULL else max(1, (len(whole) - 1) // points)
    cuts = range(1, len(whole), step)[: None if FULL else points]
    assert len(cuts) >= points
    for at in cuts:
        (tmp_path / "inbox" / f"at{at}{ending}").write_bytes(whole[:at])
        (tmp_path / "inbox" / f"at{at}.shots.yaml").write_text(CAST)
    (tmp_path / "inbox" / f"whole{ending}").write_bytes(whole)
    (tmp_path / "inbox" / "whole.shots.yaml").write_text(CAST)
    found = stepper.look(300)
    assert [claim.name for claim in claims(found)] == ["whole"]
    assert not any(isinstance(one, Refused) for one in found)
    stepper.clock.pass_by(300)
    refused = [one for one in stepper.look(0) if isinstance(one, Refused)]
    assert {one.name for one in refused} == {f"at{at}" for at in cuts}
    kept = [stepper.hot.reject(one, one.faults) for one in refused]
    assert {place.name: (place / f"{place.name}{ending}").read_bytes() for place in kept} == {
        f"at{at}": whole[:at] for at in cuts
    }


# --------------------------------------------------------------------------- writers, in real time


def slowly(path: Path) -> None:
    """Small pieces, none of which takes as long as the settling."""
    with path.open("wb", buffering=0) as file:
        for begin in range(0, len(CUT), 200):
            file.write(CUT[begin : begin + 200])
            time.sleep(0.06)


def stalling(path: Path) -> None:
    """A stop in the middle that is longer than the settling."""
    with path.open("wb", buffering=0) as file:
        file.write(CUT[:3000])
        time.sleep(2.2 * SETTLE_S)
        file.write(CUT[3000:])


def preallocated(path: Path) -> None:
    """All of its length at once, and the content after a stop."""
    with path.open("wb", buffering=0) as file:
        file.truncate(len(CUT))
        time.sleep(1.8 * SETTLE_S)
        for begin in range(0, len(CUT), 1000):
            file.write(CUT[begin : begin + 1000])
            time.sleep(0.1)


def keeping_times(path: Path) -> None:
    """The times of the original from the first piece on, as some copies keep them."""
    for end in range(0, len(CUT) + 1000, 1000):
        path.write_bytes(CUT[:end])
        os.utime(path, ns=(10**18, 10**18))
        time.sleep(0.3)


def renaming(path: Path) -> None:
    """Under a temporary name, with stops, then renamed."""
    part = path.with_name(f"{path.name}.part")
    stalling(part)
    part.rename(path)


def vouching(path: Path) -> None:
    """Slowly, and the sidecar last."""
    stalling(path)
    vouch(path)


def again_and_again(path: Path) -> None:
    """Whole, then once more from the beginning: an export that is repeated."""
    path.write_bytes(CUT[:-1] + b" }")
    time.sleep(0.7 * SETTLE_S)
    slowly(path)


WRITERS: tuple[Callable[[Path], None], ...] = (
    slowly, stalling, preallocated, keeping_times, renaming, vouching, again_and_again
)  # fmt: skip


def test_nobody_is_interrupted(tmp_path):
    hot = HotFolder(
        tmp_path, clock=SystemClock(), network=False, suffixes=tuple(SUFFIXES), unreadable=unreadable,
        settle_s=SETTLE_S, poll_s=POLL_S,
    )  # fmt: skip
    done: dict[str, float] = {}

    def write(writer: Callable[[Path], None]) -> None:
        writer(tmp_path / "inbox" / f"{writer.__name__}.otio")
        done[writer.__name__] = time.monotonic()

    for writer in WRITERS:
        (tmp_path / "inbox" / f"{writer.__name__}.shots.yaml").write_text(CAST)
    threads = [threading.Thread(target=write, args=(writer,)) for writer in WRITERS]
    for thread in threads:
        thread.start()
    taken: dict[str, float] = {}
    looked: list[float] = []
    until = time.monotonic() + 15
    while len(taken) < len(WRITERS) and time.monotonic() < until:
        looked.append(time.monotonic())
        found = hot.poll()
        assert not any(isinstance(one, Refused) for one in found)
        for claim in claims(found):
            assert claim.name not in taken
            assert claim.edit is not None
            assert claim.edit.read_bytes() == CUT
            taken[claim.name] = time.monotonic()
        time.sleep(POLL_S)
    for thread in threads:
        thread.join()
    assert set(taken) == {writer.__name__ for writer in WRITERS}
    waited = {name: taken[name] - done[name] for name in taken}
    assert min(waited.values()) > -0.2  # the last bytes may be there a moment before the writer says so
    for name in ("renaming", "vouching"):  # counted in looks: the machine may stand still for longer than the settling
        assert sum(done[name] < look <= taken[name] for look in looked) < SETTLE_S / POLL_S / 2
    assert all(waited[name] > 0.5 * SETTLE_S for name in ("slowly", "stalling", "preallocated", "keeping_times"))


def test_written_to_after_the_claim(tmp_path):
    """By its open file, which came along; and by its name, which is a new drop."""
    stepper = Stepper(tmp_path)
    inbox = tmp_path / "inbox"
    (inbox / "cut.shots.yaml").write_text(CAST)
    with (inbox / "cut.otio").open("w") as file:
        file.write("first\n")
        file.flush()
        (claim,) = claims(stepper.look(20))
        assert stepper.hot.unchanged(claim)
        file.write("and more\n")
        file.flush()
        assert not stepper.hot.unchanged(claim)
        stepper.hot.put_back(claim)
        assert claims(stepper.look(10)) == []
        file.write("and the end\n")
    (claim,) = claims(stepper.look(20))
    assert claim.edit is not None
    assert claim.edit.read_text() == "first\nand more\nand the end\n"
    drop(inbox, "cut", "second\n")
    (newer,) = claims(stepper.look(0))
    assert newer.sha256 != claim.sha256
    assert [stepper.hot.accept(one, f"cut.r{number}").name for number, one in enumerate((claim, newer))] == [
        "cut.r0", "cut.r1"
    ]  # fmt: skip


def test_what_is_deleted_under_way_leaves_nothing_half_taken(tmp_path):
    count = 2000 if FULL else 150
    inbox = tmp_path / "inbox"
    rng = random.Random(5)
    asked: list[str] = []

    def deleting(path: Path) -> None:
        asked.append(path.stem)
        for victim in rng.sample((path, path.with_suffix(".shots.yaml"), inbox / f"n{rng.randrange(count)}.otio"), 1):
            if rng.random() < 0.5:
                victim.unlink(missing_ok=True)

    stepper = Stepper(tmp_path, unreadable=deleting)
    for number in range(count):
        (inbox / f"n{number}.otio").write_text(f"{number}\n")
        (inbox / f"n{number}.shots.yaml").write_text(CAST)
    found = stepper.look(60)
    taken = {claim.name: claim for claim in claims(found)}
    left = {path.name for path in inbox.iterdir()}
    assert len(asked) >= count // 2
    assert 0 < len(taken) < count
    for number in range(count):
        name = f"n{number}"
        halves = {f"{name}.otio", f"{name}.shots.yaml"}
        if name in taken:
            assert {path.name for path in taken[name].files} == halves
            assert not halves & left
        else:
            assert len(halves & left) < 2
    assert len(list((tmp_path / ".farm" / "claimed").iterdir())) == len(taken)
    gone = {one.name for one in found if isinstance(one, Waiting) and one.state == "gone"}
    assert not gone & taken.keys()


# --------------------------------------------------------------------------- the same again


@pytest.fixture
def no_power_cuts(monkeypatch):
    """Syncing to the disk thousands of times proves nothing where no power is cut, and takes a busy disk minutes."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("no_power_cuts")
def test_the_same_bytes_under_a_thousand_names_are_one(tmp_path):
    stepper = Stepper(tmp_path)
    for number in range(1000):
        (tmp_path / "inbox" / f"n{number}.otio").write_bytes(CUT)
        (tmp_path / "inbox" / f"n{number}.shots.yaml").write_text(CAST)
    accepted: dict[str, str] = {}
    for claim in claims(stepper.look(20)):
        if claim.sha256 in accepted:
            stepper.hot.duplicate(claim, accepted[claim.sha256])
        else:
            accepted[claim.sha256] = stepper.hot.accept(claim, claim.name).name
    assert len(accepted) == 1
    (job,) = accepted.values()
    assert len(list((tmp_path / "accepted" / job / "again").iterdir())) == 999
    assert len(list((tmp_path / "accepted").rglob("*.otio"))) == 1000


@pytest.mark.usefixtures("no_power_cuts")
def test_the_same_name_a_thousand_times(tmp_path):
    stepper = Stepper(tmp_path)
    seen: Counter[str] = Counter()
    for number in range(1000):
        drop(tmp_path / "inbox", "cut", f"{number // 2}\n")
        (claim,) = claims(stepper.look(0))
        seen[claim.sha256] += 1
        if seen[claim.sha256] == 1:
            stepper.hot.accept(claim, "cut" if number == 0 else f"cut.r{number // 2 + 1}")
        else:
            stepper.hot.duplicate(claim, "cut" if number == 1 else f"cut.r{number // 2 + 1}")
    assert set(seen.values()) == {2}
    kept = sorted(int(path.read_text()) for path in (tmp_path / "accepted").rglob("cut.otio"))
    assert kept == [number // 2 for number in range(1000)]


# --------------------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that begin quickly: forked from one that has loaded the hot folder and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dropping"])
    return context


def test_watchers_that_race_take_every_drop_once(tmp_path, processes):
    watchers, count = (100, 2500) if FULL else (4, 1000)
    root, until = tmp_path / "farm", tmp_path / "stop"
    inbox = Stepper(root).hot.inbox
    racers = [
        processes.Process(target=race, args=(root, until, tmp_path / f"{number}.json")) for number in range(watchers)
    ]
    for racer in racers:
        racer.start()
    for number in range(count):
        (inbox / f"n{number}.otio").write_text(f"{number}\n")
        (inbox / f"n{number}.shots.yaml").write_text(CAST)
    give_up = time.monotonic() + (600 if FULL else 60)
    while next(inbox.iterdir(), None) is not None and time.monotonic() < give_up:
        time.sleep(0.05)
    time.sleep(0.3)  # whoever renamed the last file also says so
    until.touch()
    for racer in racers:
        racer.join()
    told = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(watchers)]
    names = Counter(name for one in told for name in one["names"])
    assert names == {f"n{number}": 1 for number in range(count)}
    assert sum(one["refused"] for one in told) == 0
    folders = list((root / ".farm" / "claimed").iterdir())
    assert len(folders) == count
    assert all(len([path for path in folder.iterdir() if path.name[0] == "n"]) == 2 for folder in folders)


@pytest.mark.parametrize(
    ("what", "calls"), [("claim", 7), ("torn", 12), ("back", 8), ("accept", 1), ("duplicate", 2), ("reject", 5)]
)
def test_killed_at_every_call_that_changes_a_folder(tmp_path, processes, what, calls):
    """The hot folder is killed before each such call in turn; the next one finds every drop whole, once."""
    child = processes.Process(target=killed_everywhere, args=(tmp_path, what))
    child.start()
    child.join()
    assert child.exitcode == 0
    roots = sorted(tmp_path.iterdir())
    assert len(roots) > calls
    for root in roots:
        stepper = Stepper(root)
        found = [*stepper.hot.claimed(), *stepper.look(60)]
        (claim,) = claims(found) or [None]
        assert not any(isinstance(one, Refused) for one in found)
        (whole,) = [place for place in places(root) if (place / "cut.otio").exists()]
        assert (whole / "cut.otio").read_bytes().removesuffix(b"torn\n") == b"a cut\n"
        assert (whole / "cut.shots.yaml").read_text() == CAST
        assert Counter(path.name for path in root.rglob("cut.*") if path.parent.name != "STATUS") == Counter(
            path.name for path in whole.glob("cut.*")
        )
        assert claim is not None or whole.parent != root / ".farm" / "claimed"
        assert not list(root.rglob("*.part"))
        if claim is not None:
            assert claim.folder == whole
            assert (stepper.hot.accept(claim, "cut") / "cut.otio").is_file()


def places(root: Path) -> Iterator[Path]:
    """Every folder a drop can lie in."""
    yield root / "inbox"
    for parent in (".farm/claimed", "accepted", "accepted/cut/again", "rejected"):
        if (root / parent).is_dir():
            yield from (path for path in (root / parent).iterdir() if path.is_dir())


def test_hashes_are_of_what_was_claimed(tmp_path):
    stepper = Stepper(tmp_path)
    drop(tmp_path / "inbox", "cut")
    (claim,) = claims(stepper.look(0))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (claim.edit, claim.manifest) if path]
    assert claim.sha256 == hashlib.sha256("\n".join(digests).encode()).hexdigest()
