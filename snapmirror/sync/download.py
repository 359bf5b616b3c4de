"""Fetching one file: resumable, verified while it streams, finished in `incoming/`.

A partial file is named by what it is expected to become, so the next sync goes on where this one was killed, whichever
URL it then comes from. It is flocked while written; whoever finds it locked leaves it alone.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3

from .. import addresses
from ..digests import Sums
from ..ecosystem import File
from ..errors import AbsentError, LockedError, MismatchError, TransportError, UpstreamError
from ..store import fs
from ..store.blobs import Staged
from .http import Http, file_path, status_problem

_COPY_PIECE = 4 << 20
#: ioctl_ficlone(2): share the blocks of a file, on btrfs and XFS
_FICLONE = 0x40049409

#: called with the number of bytes that have just arrived
Arrived = Callable[[int], None]


@dataclass(frozen=True)
class Source:
    """Where a file may come from, and what it must be."""

    file: File
    #: absolute URLs, tried in order; may hold credentials
    urls: tuple[str, ...]
    #: hard-link a local file instead of copying it
    link: bool = False

    @property
    def key(self) -> str:
        """What the file is expected to become: the same key, the same bytes."""
        if self.file.sha256:
            return self.file.sha256.hex()
        if self.file.md5:
            return f"md5-{self.file.md5.hex()}"
        return f"url-{hashlib.sha256(addresses.redact(self.urls[0]).encode()).hexdigest()}"

    @property
    def can_resume(self) -> bool:
        """Whether a partial of an earlier process may be continued: only a hash tells if the whole is right."""
        return self.file.sha256 is not None or self.file.md5 is not None


def download(http: Http, incoming: Path, source: Source, arrived: Arrived) -> Staged:
    """Fetch a file from the first URL that has it. Thread-safe. The caller releases what it gets.

    Raises the UpstreamError of the first URL that failed for a lasting reason, else the last one; DiskFull; LockedError if
    another process is fetching the same bytes.
    """
    with _partial(incoming / source.key, keep=source.can_resume) as partial:
        problems: list[UpstreamError] = []
        for url in source.urls:
            try:
                if url.startswith("file:"):
                    staged = _take(url, partial, source, arrived)
                else:
                    staged = _fetch(http, url, partial, source, arrived)
                return staged._replace(lock=os.dup(partial.fileno()))
            except UpstreamError as error:
                problems.append(error)
        if os.fstat(partial.fileno()).st_size == 0:
            fs.unlink(Path(partial.name))
        raise next((error for error in problems if isinstance(error, TransportError)), problems[0])


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextlib.contextmanager
def _partial(path: Path, *, keep: bool) -> Iterator[BinaryIO]:
    """The partial file, locked and open for reading and writing."""
    with fs.full_disk(path):
        file = open(path, "r+b", buffering=0, opener=_open)  # noqa: SIM115 - closed below; an error of the block is not ours
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"the download of {path.name}") from None
        if not keep:
            file.truncate(0)
        yield file


def _fetch(http: Http, url: str, partial: BinaryIO, source: Source, arrived: Arrived) -> Staged:
    """Fetch from one URL, going on with a broken body as often as `retries` says."""
    resumed = os.fstat(partial.fileno()).st_size > 0
    etag, left = "", http.settings.retries
    while True:
        try:
            sums, etag = _transfer(http, url, partial, source, etag, arrived)
            return _verified(partial, sums, source, url)
        except _Broken as broken:
            etag = broken.etag
            if not left:
                raise TransportError(
                    addresses.redact(url), f"{broken.problem}, after {http.settings.retries + 1} tries"
                ) from None
            left -= 1
        except MismatchError:
            partial.truncate(0)
            if not resumed:
                raise
            resumed = False  # what an earlier process left may be what is wrong


class _Broken(Exception):
    """A body that ended early; what has arrived is kept."""

    def __init__(self, problem: str, etag: str) -> None:
        self.problem = problem
        self.etag = etag


def _transfer(http: Http, url: str, partial: BinaryIO, source: Source, etag: str, arrived: Arrived) -> tuple[Sums, str]:
    """One request: append to the partial what it lacks. Returns the sums of the whole, and the strong ETag."""
    sums = _sums_of(partial, source)
    headers = {"Range": f"bytes={sums.size}-", **({"If-Range": etag} if etag else {})} if sums.size else {}
    if sums.size and sums.size == source.file.size:
        return sums, etag
    with http.open(url, headers) as response:
        if response.status_code in (404, 410):
            raise AbsentError(addresses.redact(url), response.status_code)
        if response.status_code == 416 or (response.status_code == 206 and not _continues(response, sums.size)):
            partial.truncate(0)
            raise _Broken("upstream can't continue a broken transfer", "")
        if response.status_code not in (200, 206):
            raise TransportError(addresses.redact(url), status_problem(response.status_code))
        if response.status_code == 200 and sums.size:
            partial.truncate(0)
            sums = _sums_of(partial, source)
        sent = response.headers.get("ETag", "")
        etag = sent if sent.startswith('"') else ""
        try:
            for piece in http.pieces(response, url):
                _append(partial, piece, sums)
                arrived(len(piece))
                if source.file.size is not None and sums.size > source.file.size:
                    break  # too long already: no need to see the end
        except TransportError as error:
            raise _Broken(error.problem, etag) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _Broken(f"the connection broke after {sums.size} bytes ({type(error).__name__})", etag) from None
    return sums, etag


def _continues(response: requests.Response, offset: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _sums_of(partial: BinaryIO, source: Source) -> Sums:
    """Sums of what has arrived; the file is left positioned at its end."""
    sums = Sums(md5=source.file.sha256 is None and source.file.md5 is not None)
    partial.seek(0)
    while piece := partial.read(_COPY_PIECE):
        sums.update(piece)
    return sums


def _append(partial: BinaryIO, piece: bytes, sums: Sums) -> None:
    with fs.full_disk(Path(partial.name)):
        fs.write_all(partial.fileno(), piece)
    sums.update(piece)


def _verified(partial: BinaryIO, sums: Sums, source: Source, url: str) -> Staged:
    """Compare with what the metadata says. Raises MismatchError."""
    file, where = source.file, addresses.redact(url)
    if file.size is not None and sums.size != file.size:
        longer = " or more" if sums.size > file.size else ""
        raise MismatchError(where, "size", str(file.size), f"{sums.size}{longer}")
    if file.sha256 is not None and sums.sha256 != file.sha256:
        raise MismatchError(where, "sha256", file.sha256.hex(), sums.sha256.hex())
    if file.sha256 is None and file.md5 is not None and sums.md5 != file.md5:
        raise MismatchError(where, "md5", file.md5.hex(), (sums.md5 or b"").hex())
    return Staged(Path(partial.name), sums.sha256, sums.blake3, sums.size, sums.md5)


def _take(url: str, partial: BinaryIO, source: Source, arrived: Arrived) -> Staged:
    """Take a file from a local folder: a copy (a reflink where the file system can), or a link if asked for."""
    path = file_path(url)
    try:
        if source.link and _link(path, Path(partial.name)):
            with open(path, "rb", buffering=0) as linked:
                sums = _sums_of(linked, source)
        else:
            _copy(path, partial)
            sums = _sums_of(partial, source)
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError(url, 404) from None
    except PermissionError as error:
        raise TransportError(url, error.strerror or str(error)) from None
    arrived(sums.size)
    try:
        return _verified(partial, sums, source, url)
    except MismatchError:
        fs.unlink(Path(partial.name))  # never truncate it: it may be a link to somebody's file
        raise


def _link(path: Path, partial: Path) -> bool:
    """Put a hard link in the partial's place; False if these are two file systems, or it may not be linked."""
    try:
        temporary = partial.with_name(f"{partial.name}.link")
        fs.unlink(temporary)
        fs.link(path, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    fs.rename(temporary, partial)
    return True


def _copy(path: Path, partial: BinaryIO) -> None:
    with open(path, "rb") as original:
        partial.seek(0)
        partial.truncate(0)
        try:
            fcntl.ioctl(partial, _FICLONE, original.fileno())
        except OSError:
            with fs.full_disk(Path(partial.name)):
                shutil.copyfileobj(original, partial, _COPY_PIECE)
