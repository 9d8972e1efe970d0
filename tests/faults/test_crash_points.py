"""kill -9 at every named moment of a segment's life (farm.md §6, P0-P13): the next farm goes on from what lies there.

One cut is walked through all of them: each farm but the last is ended at its moments, and what it leaves is looked at
before the next one starts.
"""

import http.server
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from farmhouse import (
    FULL,
    Farm,
    assert_at_rest,
    assert_nothing_lost_nothing_twice,
    books,
    many_shots,
    pictures,
    undisturbed,
)
from figures import record
from submissions import Cut

WALKS = 20 if FULL else 2
SHOTS, FRAMES_OF_A_SEGMENT = 3, 4
SCRIPT = Path(__file__).with_name("crashing.py")
SECRET = "s3cret"


@dataclass
class Crashed:
    """A farm that is down, and what was rendered last of what it has under way."""

    farm: Farm
    delivery: Path
    posts: list[int]

    @property
    def job(self) -> str:
        return self.delivery.stem

    def segments(self, state: str) -> list[tuple[Path, Path]]:
        """The places and stages of the segments in a state, the one begun last first."""
        rows = books(self.farm).rows(
            "SELECT key, segment.token FROM segment JOIN attempt ON attempt.id = segment.attempt "
            f"WHERE state = '{state}' ORDER BY attempt.id DESC"
        )
        places = self.farm.places
        return [(places.segment(key), places.stage(key, token)) for key, token in rows]

    def count(self, what: str) -> int:
        """Rows of the ledger."""
        return books(self.farm).rows(f"SELECT count(*) FROM {what}")[0][0]

    # ------------------------------------------------------------------- what must lie there

    def claimed_in_part(self, nth: int) -> None:
        """P0: the claim has its record and the files before this one; the others are in the inbox."""
        (claim,) = (self.farm.places.own / "claimed").iterdir()
        assert (claim / ".claim.json").is_file()
        assert len(self.dropped(claim)) == nth - 1
        assert len(self.dropped(self.farm.places.inbox)) == 3 - nth

    def claimed(self, nth: int) -> None:
        """P1: as many files are claimed, beside those of the farm before, and the ledger knows nothing."""
        (claim,) = (self.farm.places.own / "claimed").iterdir()
        assert len(self.dropped(claim)) >= nth
        assert self.count('"drop"') == 0

    def planned(self, _: int) -> None:
        """P2: accepted and planned, and the transaction that was to take its shots took none."""
        assert (self.farm.places.accepted / self.job).is_dir()
        assert (self.farm.places.plan(self.job) / "shots.jsonl").read_text().count("\n") == SHOTS
        assert self.count("job") == self.count("shot") == self.count("segment") == 0

    def leased(self, _: int) -> None:
        """P3: a segment is leased, and nobody was told."""
        assert not self.segments("leased")[0][1].exists()

    def stepped(self, _: int) -> None:
        """P4: a stage without a frame."""
        stage = self.segments("leased")[0][1]
        assert stage.is_dir()
        assert not list(stage.rglob("*.exr"))

    def writing(self, nth: int) -> None:
        """P5: frames, but not all of it."""
        stage = self.segments("leased")[0][1]
        assert len(list((stage / "frames").glob("*.exr"))) >= nth
        assert not (stage / "report.json").exists()

    def written(self, _: int) -> None:
        """P6: all of it, and no report."""
        stage = self.segments("leased")[0][1]
        assert len(list((stage / "frames").glob("*.exr"))) >= FRAMES_OF_A_SEGMENT
        assert (stage / "history.npy").is_file()
        assert not (stage / "report.json").exists()

    def unpublished(self, _: int) -> None:
        """P7: the report lies in the stage."""
        ((final, stage),) = self.segments("publishing")
        assert (stage / "report.json").is_file()
        assert not final.exists()

    def published(self, _: int) -> None:
        """P8: the frames are in their place, and the ledger does not know."""
        ((final, stage),) = self.segments("publishing")
        assert (final / "report.json").is_file()
        assert not stage.exists()

    def finished(self, _: int) -> None:
        """P9: done, and whatever waited for it is ready."""
        assert not self.segments("publishing")
        assert self.count("event WHERE what = 'done'") > 0
        waiting = "segment JOIN segment AS before ON before.id = segment.prev"
        assert self.count(f"{waiting} WHERE before.state = 'done' AND segment.state = 'blocked'") == 0

    def copying(self, nth: int) -> None:
        """P10: some files of a version, none under its name."""
        (part,) = (self.delivery / "shots").glob("*/*.part")
        copied = [path for path in part.rglob("*") if path.is_file()]
        assert len(copied) == nth
        assert not part.with_suffix("").exists()

    def delivered(self, _: int) -> None:
        """P11: a version that the ledger does not know."""
        there = list((self.delivery / "shots").glob("*/v001/take.json"))
        assert len(there) == self.count("shot WHERE state = 'done'") + 1

    def unsent(self, _: int) -> None:
        """P12: what happened is in the ledger, and the hook does not know."""
        ((seq,),) = books(self.farm).rows("SELECT min(seq) FROM outbox")
        assert seq not in self.posts

    def returned(self, _: int) -> None:
        """P11, the cut: it lies there, and the job is open."""
        assert self.delivery.with_suffix(".scail2.otio").is_file()
        assert self.count("job WHERE state = 'open'") == 1

    def untold(self, _: int) -> None:
        """P11, the receipt: the job is done, and nobody was told."""
        assert self.count("job WHERE state = 'done'") == 1
        assert self.farm.receipt(self.job)["state"] == "open"

    def removing(self, _: int) -> None:
        """P13: something is half removed."""
        assert list(self.farm.places.trash.iterdir())

    @staticmethod
    def dropped(folder: Path) -> list[Path]:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]


@dataclass(frozen=True)
class Life:
    """A farm's: it ends at the last of its moments; each is a point, how often it may come by, and what is left."""

    moments: tuple[tuple[str, int], ...]
    left: Callable[[Crashed, int], None]
    environment: dict[str, str] = field(default_factory=dict)


LIVES = (
    Life((("P0", 2),), Crashed.claimed_in_part),
    Life((("P1", 1),), Crashed.claimed),
    Life((("P2", SHOTS),), Crashed.planned),
    Life((("P12", 1),), Crashed.unsent),
    Life((("P3", 2),), Crashed.leased),
    Life((("P4", 2), ("P5", 4), ("P6", 2), ("P4-daemon", 2)), Crashed.stepped),
    Life((("P5-daemon", 4),), Crashed.writing),
    Life((("P6-daemon", 2),), Crashed.written),
    Life((("P7", 2),), Crashed.unpublished),
    Life((("P8", 2),), Crashed.published),
    Life((("P9", 2),), Crashed.finished),
    Life((("P10", 20), ("P10-daemon", 20)), Crashed.copying),
    Life((("P11", 1),), Crashed.delivered),
    Life((("P11", 1),), Crashed.delivered),
    Life((("P12", 1),), Crashed.unsent),
    Life((("P11-cut", 1),), Crashed.returned),
    Life((("P11-cut", 1),), Crashed.returned),
    Life((("P11-receipt", 1),), Crashed.untold),
    Life((("P13", 40),), Crashed.removing, {"SCAIL2_SCRATCH_DAYS": "0"}),
)
RENDERED_AGAIN = ("P3", "P4", "P5", "P6", "P4-daemon", "P5-daemon", "P6-daemon")
"""Where a segment was begun for nothing."""


@pytest.fixture(scope="module")
def show(tmp_path_factory, weights) -> tuple[Cut, dict[str, str]]:
    """A cut, and its frames as nothing disturbed them."""
    cut = many_shots(Cut(tmp_path_factory.mktemp("show"), weights), SHOTS, frames=21, handles=0)
    return cut, undisturbed(cut)


@pytest.mark.parametrize("walk", range(WALKS))
def test_every_moment(tmp_path, show, walk):
    """The first walk is ended at the first of each, the others at another."""
    chance = random.Random(walk)
    (cut, wanted), job = show, f"walk{walk}"
    with _sink() as (url, posts):
        farm = Farm(tmp_path / "farm", cut.weights, script=SCRIPT)
        farm.drop(cut, job)
        crashes = 0
        for number, life in enumerate(LIVES):
            nths = [chance.randint(1, most) if walk else 1 for _, most in life.moments]
            farm.environment = {"SCAIL2_HOOKS": url, "SCAIL2_HOOK_SECRET": SECRET} | life.environment
            crashes += _live(farm, life, nths, tmp_path / f"crashed.{number}")
            life.left(Crashed(farm, cut.folder / f"{job}.scail2", posts), nths[-1])
        farm.environment = {"SCAIL2_HOOKS": url, "SCAIL2_HOOK_SECRET": SECRET}
        farm.script = None
        with farm:
            farm.up()
            receipt = farm.returned(job)
            farm.until(lambda: not books(farm).rows("SELECT * FROM outbox"), "end of the posts")
            assert farm.end() == 0
    assert receipt["shots"] == {"done": SHOTS}
    assert_nothing_lost_nothing_twice(farm, cut=cut, wanted=wanted, job=job)
    ledger = books(farm)
    assert ledger.integrity == "ok"
    again = ledger.attempts - ledger.done.total()
    assert len(RENDERED_AGAIN) <= again <= crashes
    owed = "SELECT seq FROM event WHERE what IN ('accepted', 'started', 'shot-done', 'job-done', 'failed', 'held')"
    assert list(dict.fromkeys(posts)) == [seq for (seq,) in ledger.rows(owed)]
    assert_at_rest(farm, cut.folder)
    record(f"crash-points-{walk}", crashes=crashes, segments=ledger.done.total(), rendered_again=again)


def test_a_take_that_is_there_is_not_rendered_again_when_its_volume_goes(tmp_path, weights):
    """Its segments are nowhere in this farm, and need not be: the shot waits for the volume."""
    cut = many_shots(Cut(tmp_path / "show", weights), 1, frames=5, handles=0)
    cut.write()
    assert cut.run("submit", "edit.otio", "--weights", str(weights)).returncode == 0
    delivery, away = cut.folder / "edit.scail2", cut.folder / "away"
    there = pictures(delivery)
    with Farm(tmp_path / "farm", weights) as farm:
        farm.drop(cut)
        farm.until(lambda: "a job is accepted" in farm.said, "job")
        delivery.rename(away)
        farm.until(lambda: books(farm).told("held"), "shot that is held")
        away.rename(delivery)
        assert farm.returned()["state"] == "done"
        assert books(farm).attempts == 0
    assert pictures(delivery) == there


def _live(farm: Farm, life: Life, nths: list[int], crashed: Path) -> int:
    """A farm until its end; how many of its processes were ended."""
    moments = [f"{point}:{nth}" for (point, _), nth in zip(life.moments, nths, strict=True)]
    farm.environment |= {"CRASHES": " ".join(moments), "CRASHED": str(crashed)}
    with farm:
        assert farm.process is not None
        assert farm.process.wait(90) == -signal.SIGKILL, farm.said[-4000:]
        farm.alone()
    ended = [line.strip(".").split() for line in crashed.read_text().splitlines()]
    assert [moment for moment, _, _ in ended] == moments
    assert int(ended[-1][2]) == farm.process.pid
    assert len({pid for _, _, pid in ended}) == len(moments)
    return len(moments)


@contextmanager
def _sink() -> Iterator[tuple[str, list[int]]]:
    """A server that takes posts, and the numbers of the events that came."""
    posts: list[int] = []

    class Call(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["seq"] == int(self.headers["X-Scail2-Delivery"])
            posts.append(body["seq"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the farm was killed while it posted

    server = Server(("127.0.0.1", 0), Call)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", posts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
