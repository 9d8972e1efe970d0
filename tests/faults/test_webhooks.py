"""Posts to sinks that fail in every way: nothing is lost, nothing overtakes, nobody waits for another's sink."""

import http.server
import json
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from queue import Empty, SimpleQueue

import pytest
from farm_shots import StandingClock

from scail2_farm.documents import Fault
from scail2_farm.farm.ledger import Ledger, NewHeld, NewJob, Outgoing
from scail2_farm.farm.outbox import Outbox, Sent, Unsent, verify

SECRET = "s3cret"
SHORT_S = 0.4
PATIENCE_S = 20.0

LOCALHOST = """\
-----BEGIN CERTIFICATE-----
MIIBaDCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOF16ooU1k5o0PR9
JVV/yW4pSobMQa0dnaG7wX2v5UB8w7NBPRFXR6MtAk2JsYdJKzo8Y8HW2AslZPpW
+XlEUQWjTjBMMA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJbG9jYWxob3N0
hwR/AAABMB0GA1UdDgQWBBS642cvUEU3vkk4X93baFjbx0qoxzAKBggqhkjOPQQD
AgNJADBGAiEAuosQq+Qda0d7Ug1Nc6v+mhF830DYT2Kc6o6kDSiKvCYCIQDIpH7j
vbALXHC7RdN27Az95lsQ+PPMvrkfWdHZEt7B7g==
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaUbIHXebW0gapcoh
7JtlHYqgsZORFDAvN4j4QSphijGhRANCAAThdeqKFNZOaND0fSVVf8luKUqGzEGt
HZ2hu8F9r+VAfMOzQT0RV0ejLQJNibGHSSs6PGPB1tgLJWT6Vvl5RFEF
-----END PRIVATE KEY-----
"""
"""A certificate of localhost that nobody has signed, and its key."""


class Call(http.server.BaseHTTPRequestHandler):
    """One post as it comes in, answered as the sink says."""

    sink: "Sink"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.sink.posted(Post(path=self.path, headers=dict(self.headers.items()), body=body)) as answer:
            answer(self)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


Answer = Callable[[Call], object]


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def number(self) -> int:
        return int(self.headers["X-Scail2-Delivery"])

    def verifies(self, secret: str) -> bool:
        return verify(secret, self.headers["X-Scail2-Timestamp"], self.body, self.headers["X-Scail2-Signature"])


def status(code: int, **headers: str) -> Answer:
    def answer(call: Call) -> None:
        call.send_response(code)
        for name, value in headers.items():
            call.send_header(name, value)
        call.send_header("Content-Length", "0")
        call.end_headers()

    return answer


def raw(said: bytes) -> Answer:
    return lambda call: call.wfile.write(said)


def dribble(head: bytes) -> Answer:
    """Something at once, and then a byte now and then, far beyond any time-out."""

    def answer(call: Call) -> None:
        call.wfile.write(head)
        while not call.sink.closing.wait(SHORT_S / 4):
            call.wfile.write(b"x")

    return answer


def late(call: Call) -> None:
    """An answer that comes when the sink is let go."""
    call.sink.let_go.wait(PATIENCE_S)
    status(200)(call)


hang_up = raw(b"")
OK = status(200)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        assert isinstance(sys.exception(), OSError)  # the farm has hung up


@dataclass
class Sink:
    """Somebody's server: answers with `answers` in turn, then 200; keeps what came."""

    answers: list[Answer] = field(default_factory=list)
    posts: list[Post] = field(default_factory=list)
    at_once: int = 0
    let_go: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    url: str = ""
    _now: int = 0

    @contextmanager
    def posted(self, post: Post) -> Iterator[Answer]:
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        self.posts.append(post)
        self.came.release()
        try:
            yield self.answers.pop(0) if self.answers else OK
        finally:
            self._now -= 1

    @property
    def numbers(self) -> list[int]:
        return [post.number for post in self.posts]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def sinks() -> Iterator[Callable[..., Sink]]:
    servers: list[tuple[Sink, Server, threading.Thread]] = []

    def start(*answers: Answer, tls: ssl.SSLContext | None = None) -> Sink:
        sink = Sink(answers=list(answers))
        server = Server(("127.0.0.1", 0), type("Call", (Call,), {"sink": sink}))
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        sink.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((sink, server, thread))
        return sink

    yield start
    for sink, server, thread in servers:
        sink.let_go.set()
        sink.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def answers() -> "SimpleQueue[Sent | Unsent]":
    return SimpleQueue()


@pytest.fixture
def outbox(answers) -> Iterator[Outbox]:
    outbox = Outbox(answers, secret=SECRET, timeout_s=SHORT_S)
    yield outbox
    outbox.stop()


def outgoing(url: str, seq: int = 7, event: str = "shot-done") -> Outgoing:
    return Outgoing(seq=seq, url=url, tries=0, body=json.dumps({"event": event, "shot": "SH010 ä"}, ensure_ascii=False))


def unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


# --------------------------------------------------------------------------- one post


def test_a_post_says_what_and_is_signed(sinks, outbox, answers):
    sink = sinks()
    before = int(time.time())
    outbox.post(outgoing(sink.url))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=sink.url)
    [post] = sink.posts
    assert post.path == "/hook"
    assert json.loads(post.body) == {"event": "shot-done", "shot": "SH010 ä"}
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["X-Scail2-Event"] == "shot-done"
    assert post.headers["X-Scail2-Delivery"] == "7"
    assert before <= int(post.headers["X-Scail2-Timestamp"]) <= time.time()
    assert post.verifies(SECRET)
    assert not post.verifies("another")
    post.body += b" "
    assert not post.verifies(SECRET)


@pytest.mark.parametrize(
    "answer",
    [status(200), status(201), status(204), status(299), dribble(b"HTTP/1.1 200 OK\r\n\r\n")],
    ids=["200", "201", "204", "299", "a body without end"],
)
def test_sent(sinks, outbox, answers, answer):
    sink = sinks(answer)
    outbox.post(outgoing(sink.url))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=sink.url)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(500), "it answered 500 'Internal Server Error'"),
        (status(404), "it answered 404 'Not Found'"),
        (status(101), "it answered 101 'Switching Protocols'"),
        (status(304), "it answered 304"),
        (late, "no answer within 0.4 s"),
        (dribble(b"HTTP/1.1 200 O"), "no answer within 0.4 s"),
        (dribble(b"HTTP/1.1 200 OK\r\nX-Slow: "), "no answer within 0.4 s"),
        (dribble(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "), "no answer within 0.4 s"),
        (hang_up, "it cannot be posted to: Remote end closed connection without response"),
        (raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "it cannot be posted to: SSH-2.0-OpenSSH_9.9"),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), "it cannot be posted to: got more than 65536 bytes"),
        (raw(b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\n\r\n"), "it answered 500 'xxx"),
    ],
)
def test_unsent_and_why(sinks, outbox, answers, answer, why):
    sink = sinks(answer)
    began = time.monotonic()
    outbox.post(outgoing(sink.url))
    unsent = answers.get(timeout=PATIENCE_S)
    assert isinstance(unsent, Unsent)
    assert (unsent.seq, unsent.url) == (7, sink.url)
    assert unsent.why.startswith(why)
    assert len(unsent.why) <= 200
    assert time.monotonic() - began < SHORT_S + 2
    outbox.heard(unsent)
    outbox.post(outgoing(sink.url))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=sink.url)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(sinks, outbox, answers, code):
    other = sinks()
    sink = sinks(status(code, Location=other.url))
    outbox.post(outgoing(sink.url))
    assert (
        answers.get(timeout=PATIENCE_S).why
        == f"it answered {code} and points to {other.url!r}; redirects are not followed"
    )
    assert other.posts == []


def test_nobody_there(outbox, answers):
    for url, why in (
        (unused_url(), "Connection refused"),
        ("http://no-such-host.invalid/", "it cannot be posted to: "),
    ):
        outbox.post(outgoing(url))
        assert why in answers.get(timeout=PATIENCE_S).why


def test_certificates_are_checked(sinks, answers, monkeypatch, tmp_path):
    pem = tmp_path / "localhost.pem"
    pem.write_text(LOCALHOST, encoding="ascii")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    sink = sinks(tls=tls)
    unsure = Outbox(answers, secret=SECRET, timeout_s=PATIENCE_S)
    unsure.post(outgoing(sink.url))
    assert "CERTIFICATE_VERIFY_FAILED" in answers.get(timeout=PATIENCE_S).why
    assert sink.posts == []
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    sure = Outbox(answers, secret=SECRET, timeout_s=PATIENCE_S)
    sure.post(outgoing(sink.url))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=sink.url)
    assert sink.posts[0].verifies(SECRET)
    unsure.stop()
    sure.stop()


def test_proxies_are_asked_as_the_environment_says(sinks, answers, monkeypatch):
    proxy, direct = sinks(), sinks()
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/hook"))
    monkeypatch.setenv("no_proxy", direct.url.split("/")[2])
    outbox = Outbox(answers, secret=SECRET, timeout_s=PATIENCE_S)
    for url in ("http://somewhere.invalid/hook", direct.url):
        outbox.post(outgoing(url))
        assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=url)
    assert [post.path for post in proxy.posts] == ["http://somewhere.invalid/hook"]
    assert [post.path for post in direct.posts] == ["/hook"]
    outbox.stop()


# --------------------------------------------------------------------------- many


def test_a_slow_sink_holds_up_no_other(sinks, answers):
    slow, quick = sinks(late), sinks()
    outbox = Outbox(answers, secret=SECRET)
    outbox.post(outgoing(slow.url, 1))
    assert slow.came.acquire(timeout=PATIENCE_S)
    for seq in range(1, 21):
        outbox.post(outgoing(quick.url, seq))
        said = answers.get(timeout=PATIENCE_S)
        assert said == Sent(seq=seq, url=quick.url)
        outbox.heard(said)
    slow.let_go.set()
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=1, url=slow.url)
    outbox.stop()


def test_one_post_at_a_time(sinks, answers):
    sink = sinks(late)
    outbox = Outbox(answers, secret=SECRET)
    for seq in (1, 1, 2):
        outbox.post(outgoing(sink.url, seq))
    sink.let_go.set()
    said = answers.get(timeout=PATIENCE_S)
    outbox.post(outgoing(sink.url, 1))  # the ledger does not know yet
    with pytest.raises(Empty):
        answers.get(timeout=0.2)
    outbox.heard(said)
    outbox.post(outgoing(sink.url, 2))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=2, url=sink.url)
    assert sink.numbers == [1, 2]
    assert sink.at_once == 1
    outbox.stop()


def test_it_stops_within_a_second(sinks, answers):
    idle, hanging = sinks(), sinks(late)
    outbox = Outbox(answers, secret=SECRET)
    outbox.post(outgoing(idle.url))
    assert answers.get(timeout=PATIENCE_S) == Sent(seq=7, url=idle.url)
    outbox.post(outgoing(hanging.url))
    assert hanging.came.acquire(timeout=PATIENCE_S)
    began = time.monotonic()
    outbox.stop()
    assert time.monotonic() - began < 1


def test_a_process_ends_while_a_sink_hangs(sinks):
    sink = sinks(late)
    code = f"""
from queue import SimpleQueue
from scail2_farm.farm.ledger import Outgoing
from scail2_farm.farm.outbox import Outbox
outbox = Outbox(SimpleQueue(), secret="s")
outbox.post(Outgoing(seq=1, url={sink.url!r}, tries=0, body='{{"event": "held"}}'))
input()
outbox.stop()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as farm:
        assert farm.stdin
        assert sink.came.acquire(timeout=PATIENCE_S)
        farm.stdin.write(b"\n")
        farm.stdin.close()
        began = time.monotonic()
        assert farm.wait(PATIENCE_S) == 0
        assert time.monotonic() - began < 3


# --------------------------------------------------------------------------- with a ledger

TOLD = ("accepted", "started", "shot-done", "job-done", "failed", "held")


def accept(ledger: Ledger, name: str) -> None:
    """A job with one shot that is on hold: two events."""
    fault = Fault(code="SF-PLATE-MISSING", what="frame 1003 is not there", why="none is invented", fix="copy it")
    job = NewJob(
        id=name,
        name=name,
        sha256=sha256(name.encode()).hexdigest(),
        priority=50,
        folder=f"/plans/{name}",
        deliver_to="/shots",
        cut=None,
        raw=False,
        movie=None,
        submission="{}",
        warnings=(),
        seen=0,
    )
    ledger.accept(job, (), [NewHeld(shot="SH010", fault=fault)], supersede=False)


def told(ledger: Ledger) -> list[int]:
    return [event.seq for event in ledger.events() if event.what in TOLD]


def turn(ledger: Ledger, outbox: Outbox, answers: "SimpleQueue[Sent | Unsent]") -> list[Sent | Unsent]:
    """What a farm does again and again: post what is due, hear what came of it."""
    due = ledger.outbox()
    for outgoing in due:
        outbox.post(outgoing)
    heard = [answers.get(timeout=PATIENCE_S) for _ in due]
    for said in heard:
        if isinstance(said, Sent):
            ledger.sent(said.seq, said.url)
        else:
            ledger.unsent(said.seq, said.url, why=said.why)
        outbox.heard(said)
    return heard


def send_all(ledger: Ledger, outbox: Outbox, answers: "SimpleQueue[Sent | Unsent]", clock: StandingClock) -> int:
    """Turns until nothing is left, whatever the pauses between tries; how many posts failed."""
    failed = 0
    for _ in range(200):
        heard = turn(ledger, outbox, answers)
        failed += sum(isinstance(said, Unsent) for said in heard)
        if not heard:
            clock.pass_by(3601)
            if not ledger.outbox():
                return failed
    raise AssertionError(f"still not sent: {ledger.outbox()}")


def test_each_sink_gets_everything_in_order_whatever_it_answers(tmp_path, sinks, outbox, answers):
    lost = raw(b"")  # it was taken, and the answer is lost
    odd = sinks(status(500), status(500), OK, lost, OK, status(302, Location="/"), late, lost, OK, status(404))
    even, clock = sinks(), StandingClock()
    ledger = Ledger(tmp_path / "ledger.db", clock=clock, hooks=(odd.url, even.url))
    for number in range(4):
        accept(ledger, f"cut{number}")
    assert len(told(ledger)) == 8
    assert send_all(ledger, outbox, answers, clock) == 7
    assert even.numbers == told(ledger)
    assert odd.numbers == sorted(odd.numbers)
    assert sorted(set(odd.numbers)) == told(ledger)
    assert len(odd.numbers) == 8 + 7
    assert even.at_once == 1
    assert all(post.verifies(SECRET) for post in odd.posts + even.posts)
    assert [post.headers["X-Scail2-Event"] for post in even.posts] == ["accepted", "held"] * 4
    assert all(json.loads(post.body)["seq"] == post.number for post in even.posts)
    ledger.close()


def test_a_sink_that_is_never_there_keeps_nothing_from_another(tmp_path, sinks, outbox, answers):
    there, dead, clock = sinks(), unused_url(), StandingClock()
    ledger = Ledger(tmp_path / "ledger.db", clock=clock, hooks=(dead, there.url))
    accept(ledger, "cut")
    heard = turn(ledger, outbox, answers) + turn(ledger, outbox, answers)
    assert there.numbers == told(ledger)
    assert [said for said in heard if said.url == dead and isinstance(said, Sent)] == []
    clock.pass_by(3601)
    assert [(waiting.url, waiting.seq) for waiting in ledger.outbox()] == [(dead, told(ledger)[0])]
    ledger.close()


FARM = """
import sys
from pathlib import Path
from queue import SimpleQueue
from scail2_farm.farm.host import SystemClock
from scail2_farm.farm.ledger import Ledger
from scail2_farm.farm.outbox import Outbox, Sent
ledger = Ledger(Path(sys.argv[1]), clock=SystemClock(), hooks=sys.argv[2:])
answers = SimpleQueue()
outbox = Outbox(answers, secret="s3cret")
print("begins", flush=True)
while due := ledger.outbox():
    for outgoing in due:
        outbox.post(outgoing)
    for _ in due:
        said = answers.get()
        assert isinstance(said, Sent)
        ledger.sent(said.seq, said.url)
        outbox.heard(said)
"""


def killed_farm(*arguments: object, after: Callable[[], object]) -> None:
    """A farm's process that posts what its ledger has, until it is killed."""
    command = [sys.executable, "-c", FARM, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as farm:
        assert farm.stdout
        assert farm.stdout.readline() == b"begins\n"
        after()
        farm.kill()


@pytest.mark.parametrize("moment", ["before the post", "before the answer"])
def test_committed_and_killed_is_sent_by_the_next_farm(tmp_path, sinks, outbox, answers, moment):
    """P12: the event stands in the ledger, and the process dies before its post is known to be taken."""
    sink, clock, path = sinks(late), StandingClock(time.time()), tmp_path / "ledger.db"
    ledger = Ledger(path, clock=clock, hooks=[sink.url])
    for number in range(3):
        accept(ledger, f"cut{number}")
    ledger.close()
    if moment == "before the answer":
        killed_farm(path, sink.url, after=lambda: sink.came.acquire(timeout=PATIENCE_S))
        assert len(sink.posts) == 1
    sink.let_go.set()
    ledger = Ledger(path, clock=clock, hooks=[sink.url])
    assert ledger.integrity() == []
    assert send_all(ledger, outbox, answers, clock) == 0
    again = [told(ledger)[0]] if moment == "before the answer" else []
    assert sink.numbers == again + told(ledger)
    assert len({post.body for post in sink.posts}) == 6
    ledger.close()


def test_killed_at_random_while_posting(tmp_path, sinks, outbox, answers):
    """However often the farm dies: everything at least once, nothing overtaken, at most one post more for each kill."""
    chance, kills = random.Random(12), 6
    both, clock, path = (sinks(), sinks()), StandingClock(time.time()), tmp_path / "ledger.db"
    urls = [sink.url for sink in both]
    ledger = Ledger(path, clock=clock, hooks=urls)
    for number in range(100):
        accept(ledger, f"cut{number}")
    ledger.close()
    for _ in range(kills):
        killed_farm(path, *urls, after=lambda: time.sleep(chance.random() * 0.1))
    ledger = Ledger(path, clock=clock, hooks=urls)
    sent_before = [len(sink.posts) for sink in both]
    assert ledger.integrity() == []
    assert send_all(ledger, outbox, answers, clock) == 0
    assert all(0 < posts < 200 + kills for posts in sent_before)
    for sink in both:
        assert sink.numbers == sorted(sink.numbers)
        assert sorted(set(sink.numbers)) == told(ledger)
        assert len(sink.numbers) <= 200 + kills
    ledger.close()
