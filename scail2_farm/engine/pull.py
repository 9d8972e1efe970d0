"""A published snapshot from a model hub into a folder: the one place of the product that reaches outside, when told to.

What will be fetched is said before the first connection, and again, with exact sizes, before the first byte of it. A
run that was cut goes on where it stopped: pieces stay in TARGET.part, named after the digest they should come to. Every
file is hashed and compared with what the hub says of it, the whole is verified as any snapshot, and only then does it
appear under its name.

huggingface_hub (the extra `hub`) is imported when it is used. It answers where files are, what they should hash to and
who is asking; the bytes are read here, because its own downloads begin anew in each process.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from scail2_farm.engine.store import (
    CHUNK,
    SUMS,
    Progress,
    counted_bytes,
    hashed,
    new_folder,
    require_new,
    require_room,
    sums_text,
)
from scail2_farm.engine.weights import CONFIG, DIT, FILES, TIERS, Tier, Verified, audited, bits_said
from scail2_farm.errors import FarmError, HostUnsupported, ShareUnavailable, WeightsMismatch, WeightsMissing, Where

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
TIER_BITS: Mapping[Tier, int | None] = {"q4": 4, "q8": 8, "bf16": None}
TRANSFORMER_BYTES: Mapping[Tier, int] = {"q4": 9_578_237_568, "q8": 17_652_272_768, "bf16": 32_791_088_768}
OTHER_BYTES = 507_570_124 + 11_361_820_672 + 2_528_307_200 + 16_837_417
"""As published (engine.md §1.1): what is said of the size before the hub can be asked."""
PATIENCE_S = 60.0  # without a byte from the other side
TRIES, PAUSE_S = 5, 1.0  # in a row without a new byte; between two of them
AGAIN = "run the same command again: what has arrived is kept, and it goes on from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What will be fetched: said before anything is asked, with the published size, and again with the exact one."""

    repo: str
    revision: str
    endpoint: str
    files: tuple[str, ...]
    bytes: int
    exact: bool
    kept: int = 0
    """Of these bytes, how many an earlier run has fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remote:
    """A file as the hub describes it; large ones by the sha256 of their content, small ones by their git object."""

    path: str
    size: int
    digest: str
    is_sha256: bool

    def hashing(self, path: Path) -> Generator[int, None, str]:
        if self.is_sha256:
            return hashed(path)
        return hashed(path, kind="sha1", opening=f"blob {self.size}\0".encode())


def pull(
    repo: str, *, tier: Tier, target: Path, revision: str = "main", endpoint: str | None = None
) -> Generator[Announced | Progress, None, Verified]:
    """Fetch a tier of a published snapshot into a new folder, as its progress is asked for.

    `repo` is OWNER/NAME; `endpoint` replaces the hub's address. What is yielded first is an Announced, and nothing is
    connected before more is asked for. Raises at once: FileExistsError when `target` holds anything, HostUnsupported
    without huggingface_hub, WeightsMissing for a name that is none. While it runs: WeightsMissing when repository,
    revision, tier or files are not there, WeightsMismatch when they are not what they should be, ShareUnavailable when
    the hub cannot be reached or the connection is lost for good, DiskFull and other StorageErrors.
    """
    if not REPOSITORY.fullmatch(repo):
        raise WeightsMissing(f"{repo!r} is not the name of a repository", fix="name it as OWNER/NAME")
    require_new(target)
    return _Pull(repo, tier, revision, endpoint).into(target)


class _Pull:
    """One run; `done` and `of` count each byte twice, when it is fetched and when it is hashed."""

    def __init__(self, repo: str, tier: Tier, revision: str, endpoint: str | None) -> None:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the library is imported, which is now
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise HostUnsupported(
                f"huggingface_hub cannot be imported: {error}",
                why="published snapshots are fetched with the hub's own library, which is an extra",
                fix="pip install 'scail2-farm[hub]', or fetch the files in another way and run `weights verify`",
            ) from error
        self._api = HfApi(endpoint=endpoint)
        self._repo, self._revision = repo, revision
        self._tier: Tier = tier
        self._done = self._of = 0

    def into(self, target: Path) -> Generator[Announced | Progress, None, Verified]:
        announced = Announced(
            repo=self._repo,
            revision=self._revision,
            endpoint=self._api.endpoint,
            files=FILES,
            bytes=TRANSFORMER_BYTES[self._tier] + OTHER_BYTES,
            exact=False,
        )
        yield announced
        from huggingface_hub.utils import close_session

        try:
            with self._reaching():
                listed = self._api.model_info(
                    self._repo, revision=self._revision, files_metadata=True, timeout=PATIENCE_S
                )
            remote = self._wanted(listed)
            with new_folder(target, keep=True) as part:
                kept = sum(min(one.size, _size(self._partial(part, name, one))) for name, one in remote.items())
                size = sum(one.size for one in remote.values())
                require_room(target, size - kept)
                self._of = 2 * size
                yield replace(
                    announced, files=tuple(one.path for one in remote.values()), bytes=size, exact=True, kept=kept
                )
                return (yield from self._all(remote, part, target, commit=listed.sha or self._revision))
        finally:
            close_session()

    def _wanted(self, listed: ModelInfo) -> dict[str, _Remote]:
        """The files of the tier by the name they are kept under, config.json first; from its folder or the root."""
        found: dict[str, _Remote] = {}
        for one in listed.siblings or []:
            digest = one.lfs.sha256 if one.lfs else one.blob_id
            if one.size is not None and digest:
                found[one.rfilename] = _Remote(
                    path=one.rfilename, size=one.size, digest=digest, is_sha256=one.lfs is not None
                )
        held = [tier for tier in TIERS if f"{tier}/{DIT}" in found]
        where = Where(file=self._repo)
        if self._tier not in held and DIT not in found:
            what = f"it holds {' and '.join(held)}" if held else "it holds no snapshot"
            fix = f"name one that is there: --tier {held[0]}" if held else "name a repository of SCAIL-2 for MLX"
            raise WeightsMissing(f"{self._tier} is not in {self._repo}: {what}", fix=fix, where=where)
        folder = f"{self._tier}/" if self._tier in held else ""
        if missing := [name for name in FILES if f"{folder}{name}" not in found]:
            raise WeightsMissing(f"{self._repo} is not complete: it lacks {', '.join(missing)}", where=where)
        return {name: found[f"{folder}{name}"] for name in FILES}

    def _all(
        self, remote: Mapping[str, _Remote], part: Path, target: Path, *, commit: str
    ) -> Generator[Announced | Progress, None, Verified]:
        digests: dict[str, str] = {}
        for name, one in remote.items():
            yield from self._checked(one, self._partial(part, name, one), commit=commit)
            self._partial(part, name, one).replace(part / name)
            if name == CONFIG:
                self._require_tier(part / name)
            digests[name] = one.digest
            if not one.is_sha256:
                digests[name], _ = yield from counted_bytes(
                    hashed(part / name), what=f"checking {name}", done=self._done - one.size, of=self._of
                )
        for path in part.iterdir():  # pieces of another revision
            if path.name not in FILES:
                path.unlink()
        (part / SUMS).write_text(sums_text(digests), encoding="utf-8")
        verified = audited(part, tier=self._tier)
        if verified.error:
            raise verified.error
        return replace(verified, folder=target, digests=digests)

    def _partial(self, part: Path, name: str, one: _Remote) -> Path:
        """Where a file is collected: under a name only this content has. One that was finished is checked again."""
        partial = part / f"{name}.{one.digest[:16]}"
        if (part / name).is_file() and not partial.exists():
            (part / name).rename(partial)
        return partial

    def _checked(self, one: _Remote, partial: Path, *, commit: str) -> Generator[Progress, None, None]:
        """Fetch what is lacking of a file and hash it; one that began in another run has a second try."""
        before, digest = self._done, ""
        for resumed in (_size(partial) > 0, False):
            self._done = before
            yield from self._fetched(one, partial, commit=commit)
            pieces = one.hashing(partial)
            digest, self._done = yield from counted_bytes(
                pieces, what=f"checking {one.path}", done=self._done, of=self._of
            )
            if digest == one.digest:
                return
            partial.unlink()
            if not resumed:
                break
        raise WeightsMismatch(
            f"{one.path} arrived whole, and is not what the hub says it is",
            why=f"its digest is {digest}, not {one.digest}; nothing of it is kept",
            fix="run the same command again; if it happens again, tell whoever publishes the repository",
            where=Where(file=self._repo),
        )

    def _fetched(self, one: _Remote, partial: Path, *, commit: str) -> Generator[Progress, None, None]:
        """The bytes that are not there yet, with a few tries whenever the connection is cut."""
        before, tries, most = self._done, 0, _size(partial)
        partial.touch()
        while most < one.size:
            lost: ShareUnavailable | None = None
            try:
                with closing(self._pieces(one, partial, commit=commit)) as pieces:
                    for have in pieces:
                        self._done = before + have
                        yield Progress(what=f"fetching {one.path}", done=self._done, of=self._of)
            except ShareUnavailable as error:
                lost = error
            have = _size(partial)
            tries, most = 0 if have > most else tries + 1, max(most, have)
            if tries == TRIES:
                raise lost or self._told(EOFError(f"{one.path} ends before its end"))
            if most < one.size:
                time.sleep(PAUSE_S)
        self._done = before + one.size

    def _pieces(self, one: _Remote, partial: Path, *, commit: str) -> Generator[int, None, None]:
        """Append what is lacking, in one request; yields how many bytes are there."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (
            build_hf_headers,  # pyright: ignore[reportUnknownVariableType]
            hf_raise_for_status,
        )

        have = _size(partial)
        url = hf_hub_url(self._repo, one.path, revision=commit, endpoint=self._api.endpoint)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={have}-"}
        with self._reaching(), get_session().stream("GET", url, headers=headers, timeout=PATIENCE_S) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            partly = response.status_code == 206
            have = have if partly else 0  # the other side sends all of it again
            received = response.iter_bytes(CHUNK)
            with partial.open("ab" if partly else "wb") as file:
                while piece := next(received, b""):
                    file.write(piece)
                    have += len(piece)
                    yield have
                    if have > one.size:
                        return  # not what was promised: its digest tells

    def _require_tier(self, path: Path) -> None:
        """Before gigabytes are fetched: raise WeightsMissing when config.json is of another tier."""
        try:
            document: object = json.loads(path.read_bytes())
            if not isinstance(document, dict):
                raise ValueError(f"{CONFIG} is not a JSON object")
            bits = bits_said(cast("dict[str, object]", document))
        except ValueError as error:
            raise WeightsMismatch(f"{self._repo}: {error}", where=Where(file=self._repo)) from error
        if bits != TIER_BITS[self._tier]:
            held = f"q{bits}" if bits else "bf16"
            raise WeightsMissing(
                f"{self._tier} is not in {self._repo}: it holds {held}",
                fix=f"name what is there: --tier {held}",
                where=Where(file=self._repo),
            )

    @contextmanager
    def _reaching(self) -> Generator[None]:
        """What the hub and the way to it may answer, as errors in words."""
        from httpx2 import HTTPError
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            yield
        except (HTTPError, OfflineModeIsEnabled) as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> FarmError:
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        where = Where(file=self._repo)
        why = "the hub answers for what it publishes, and shows private repositories to their readers alone"
        log_in = "log in with `hf auth login` or HF_TOKEN"
        match error:
            case GatedRepoError():
                what, fix = f"{self._repo} is gated", f"accept its terms on the page of the repository, and {log_in}"
            case RepositoryNotFoundError():
                what = f"there is no repository {self._repo}, or it is private"
                fix = f"correct the name; if it is private, {log_in}"
            case RevisionNotFoundError():
                what, fix = f"{self._repo} has no revision {self._revision}", "name a branch, tag or commit it has"
            case HfHubHTTPError() if error.response.status_code in (401, 403, 404):
                what, fix = f"{self._repo}: {_first_line(error)}", f"correct the name; if it is private, {log_in}"
            case _:
                return ShareUnavailable(
                    f"{self._api.endpoint} cannot be read: {_first_line(error)}",
                    why="`weights pull` needs a connection to the hub for as long as it runs",
                    fix=AGAIN,
                    where=where,
                )
        return WeightsMissing(what, why=why, fix=fix, where=where)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
