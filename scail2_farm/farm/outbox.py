"""Signed posts: what became of jobs and shots, told to the addresses in `hooks`.

The ledger says what is to be posted and remembers what was; here is only the posting, one thread for each address,
so that a slow one holds up neither the farm nor the others. An address gets one post at a time, in the order of the
events, and the same one again until it has answered 2xx: at least once, so a receiver that must not act twice keeps
X-Scail2-Delivery, which is the event's number in this farm. With each post come::

    Content-Type       application/json
    X-Scail2-Event     accepted, started, shot-done, job-done, failed, held
    X-Scail2-Delivery  the number of the event
    X-Scail2-Timestamp UTC seconds of this try
    X-Scail2-Signature sha256=HEX, the HMAC-SHA256 of TIMESTAMP.BODY under `hook_secret`

`verify` is what a receiver does with the last two. The standard library posts: one request without cookies, sessions
or a body to read needs no other, and urllib knows proxies and certificates. What it lacks is a time limit on the
answer as a whole.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import json
import socket
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from email.message import Message
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Protocol
from urllib.error import HTTPError, URLError

from scail2_farm import __version__
from scail2_farm.farm.ledger import Outgoing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

TIMEOUT_S = 10.0
"""For connecting, for sending, and for the head of the answer as a whole."""
ENDS_WITHIN_S = 0.5
MOST_WORDS = 200
"""Characters of a stranger's words that are passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An event was taken by an address."""

    seq: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """An event was not taken by an address, as far as is known."""

    seq: int
    url: str
    why: str


class Answers(Protocol):
    """Where answers are put: the daemon's queue of events."""

    def put(self, item: Sent | Unsent, /) -> object: ...


# --------------------------------------------------------------------------- signatures


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Scail2-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(secret: str, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether a post is from the farm that knows the secret: for receivers.

    `timestamp` and `signature` are the headers as they came, `body` the bytes as they came, before anything parses
    them. Also refuse a timestamp that is minutes old: it may be a true post that somebody kept.
    """
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode(errors="replace"))


# --------------------------------------------------------------------------- posting


class Outbox:
    """The threads that post; made, given work and told of answers by one thread, the daemon's."""

    def __init__(self, answers: Answers, *, secret: str, timeout_s: float = TIMEOUT_S):
        self._answers, self._secret, self._timeout_s = answers, secret, timeout_s
        self._opener = urllib.request.build_opener(_Http(), _Https(), _NoRedirects())
        self._lines: dict[str, SimpleQueue[Outgoing | None]] = {}
        self._threads: list[threading.Thread] = []
        self._away: dict[str, int] = {}

    def post(self, outgoing: Outgoing) -> None:
        """Post an event; its answer comes into the queue. While the address has one under way nothing is done: the
        ledger will have it again."""
        if outgoing.url in self._away:
            return
        self._away[outgoing.url] = outgoing.seq
        if outgoing.url not in self._lines:
            line = self._lines[outgoing.url] = SimpleQueue()
            thread = threading.Thread(target=self._work_off, args=(line,), daemon=True, name=f"hook-{len(self._lines)}")
            self._threads.append(thread)
            thread.start()
        self._lines[outgoing.url].put(outgoing)

    def heard(self, said: Sent | Unsent) -> None:
        """The ledger knows of this answer by now: the address can be posted to again."""
        if self._away.get(said.url) == said.seq:
            del self._away[said.url]

    def stop(self) -> None:
        """End the threads, within a second. A post without an answer by then is sent again after the next start."""
        until = time.monotonic() + ENDS_WITHIN_S
        for line in self._lines.values():
            line.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work_off(self, line: SimpleQueue[Outgoing | None]) -> None:
        while outgoing := line.get():
            why = self._posted(outgoing)
            if why is None:
                self._answers.put(Sent(seq=outgoing.seq, url=outgoing.url))
            else:
                self._answers.put(Unsent(seq=outgoing.seq, url=outgoing.url, why=why[:MOST_WORDS]))

    def _posted(self, outgoing: Outgoing) -> str | None:
        """Post once; None when it was taken, else why not."""
        try:
            with self._opener.open(self._request(outgoing), timeout=self._timeout_s):
                return None  # whatever the answer says after its head
        except HTTPError as error:
            with error:
                if 300 <= error.code < 400:
                    place = error.headers.get("Location", "somewhere else")
                    return f"it answered {error.code} and points to {place!r}; redirects are not followed"
                return f"it answered {error.code} {error.reason!r}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                return f"no answer within {self._timeout_s:g} s"
            return f"it cannot be posted to: {cause or type(cause).__name__}"

    def _request(self, outgoing: Outgoing) -> urllib.request.Request:
        body, timestamp = outgoing.body.encode(), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"scail2-farm/{__version__}",
            "X-Scail2-Event": str(json.loads(outgoing.body)["event"]),
            "X-Scail2-Delivery": str(outgoing.seq),
            "X-Scail2-Timestamp": timestamp,
            "X-Scail2-Signature": sign(self._secret, timestamp, body),
        }
        return urllib.request.Request(outgoing.url, data=body, headers=headers, method="POST")


# --------------------------------------------------------------------------- what urllib lacks


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: urllib would follow with a GET, without the body."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class _Timely(io.RawIOBase):
    """What comes out of a socket until its time-out has passed in all; by itself it begins anew with every byte."""

    def __init__(self, sock: socket.socket):
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._until = time.monotonic() + (sock.gettimeout() or TIMEOUT_S)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any):
        super().__init__(sock, *arguments, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Timely(sock))


class _Connection(http.client.HTTPConnection):
    response_class = _Answer


class _TlsConnection(http.client.HTTPSConnection):
    response_class = _Answer


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self):
        super().__init__()
        self._certificates = ssl.create_default_context()

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req, context=self._certificates)
