"""Fetching one file into `incoming/`: resumable, and verified while it streams.

A partial file is named by what it is expected to become, so the next sync goes on where this one was killed, whichever
URL it then comes from.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import requests

from .. import addresses
from ..digests import Sums, algorithm
from ..errors import AbsentError, LockedError, MismatchError, TransportError, UpstreamError
from ..readings import File, Upstream
from ..store import fs
from ..store.blobs import Staged
from .hosts import Hosts
from .http import Http, decodes, ends_with_connection, number, status_problem
from .local import file_path, open_file, reading
from .partials import begin_anew, is_at, open_partial, our_disk
from .sessions import RefusedError

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
    #: a client waits for it: the caller takes its BLAKE3, which proves nothing, later (a seventh of the time of a fast fetch)
    awaited: bool = False
    #: looks for further URLs once these have failed; may raise UpstreamError
    others: Callable[[Upstream], Iterable[str]] = field(default=lambda _: (), compare=False)

    @property
    def content(self) -> str:
        """What the file is expected to become, as a name for its partial: equal ones stand for the same bytes."""
        if self.file.sha256:
            return self.file.sha256.hex()
        if self.file.other:
            return f"{algorithm(self.file.other)}-{self.file.other.hex()}"
        return f"url-{hashlib.sha256(addresses.redact(self.urls[0]).encode()).hexdigest()}-{self.file.size}"

    @property
    def key(self) -> str:
        """The content and its stated size, which two repos may state differently: then one of them is wrong."""
        return f"{self.content} {self.file.size}"

    @property
    def can_resume(self) -> bool:
        """Whether what another process or another URL has left may be continued: only a hash tells if the whole is right."""
        return self.file.sha256 is not None or self.file.other is not None

    def is_whole(self, sums: Sums) -> bool:
        """Whether bytes with these sums have the hash that is stated; False where none is."""
        return self.file.sha256 == sums.sha256 or (self.file.sha256 is None and self.file.other == sums.other is not None)

    def new_sums(self) -> Sums:
        """Sums of no bytes yet, of the kinds that can verify it."""
        other = algorithm(self.file.other) if self.file.other and self.file.sha256 is None else ""
        return Sums(other, with_blake3=not self.awaited)


def download(
    http: Http,
    incoming: Path,
    source: Source,
    arrived: Arrived,
    hosts: Hosts | None = None,
    held: Callable[[], bool] = lambda: False,
) -> Staged:
    """Fetch a file from the first URL that has it. Thread-safe. The caller releases what it gets.

    incoming: the store's folder for partial files
    hosts: which of them are given up; told what came of each URL
    held: asked once the partial is locked, whether the store has got the file meanwhile
    Raises UpstreamError if no URL has it: the first TransportError, as another try may help then, else what was wrong with
    the first URL. Raises StoreError, DiskFull; LockedError if another process is fetching the same bytes, or has done so.
    """
    path = incoming / source.content
    with our_disk(path), open_partial(path) as partial:
        if held():
            fs.unlink(path)
            raise LockedError(f"the download of {path.name}")
        problems: list[UpstreamError] = []
        for url in _addresses(http, source, problems):
            try:
                staged = _from(http, url, partial, source, arrived, hosts or Hosts())
            except UpstreamError as error:
                problems.append(error)
                continue
            except OSError:  # of our disk, which is full most likely: others need the room more than this needs its beginning
                fs.unlink(path)
                raise
            if staged.path == path:
                return staged._replace(lock=os.dup(partial.fileno()))
            fs.unlink(path)
            return staged
        if os.fstat(partial.fileno()).st_size == 0:
            fs.unlink(path)
        raise next((error for error in problems if isinstance(error, TransportError)), problems[0])


def _addresses(http: Http, source: Source, problems: list[UpstreamError]) -> Iterator[str]:
    """The URLs of a source; its others are looked for when they are needed. Adds to the problems if that fails."""
    yield from source.urls
    try:
        yield from (url for url in source.others(http) if url not in source.urls)
    except UpstreamError as error:
        problems.append(error)


def _from(http: Http, url: str, partial: BinaryIO, source: Source, arrived: Arrived, hosts: Hosts) -> Staged:
    """Fetch from one URL: into the partial, or as a link with a name of its own."""
    if url.startswith("file:"):
        return (source.link and _link(url, Path(partial.name).parent, source, arrived)) or _take(url, partial, source, arrived)
    hosts.check(url)
    if not source.can_resume:
        begin_anew(partial)
    try:
        staged = _fetch(http, url, partial, source, arrived)
    except UpstreamError as error:
        hosts.note(url, error)
        raise
    hosts.note(url, None)
    return staged


def _fetch(http: Http, url: str, partial: BinaryIO, source: Source, arrived: Arrived) -> Staged:
    """Fetch from one URL, going on with a broken body as often as `retries` says."""
    resumed = os.fstat(partial.fileno()).st_size > 0
    etag, left = "", http.settings.retries
    while True:
        try:
            sums, etag, certain = _transfer(http, url, partial, source, etag, arrived)
            if not certain:  # as with metadata: it is believed if it comes twice
                before, (sums, etag, _) = sums, _transfer(http, url, partial, source, "", arrived)
                if sums.sha256 != before.sha256:
                    raise _Broken("it states no length, and two answers differ", "")
            return _verified(partial, sums, source, url)
        except _Broken as broken:
            etag = broken.etag
            if resumed and os.fstat(partial.fileno()).st_size == 0:  # what an earlier process left was no try of ours
                resumed = False
                continue
            if not left:
                raise TransportError(
                    addresses.redact(url), f"{broken.problem}, after {http.settings.retries + 1} tries"
                ) from None
            left -= 1
        except _ForeignError:  # of which nothing was taken
            raise
        except MismatchError:
            begin_anew(partial)
            if not resumed:
                raise
            resumed = False  # what an earlier process left may be what is wrong


class _Broken(Exception):
    """A body that ended early; what has arrived is kept."""

    def __init__(self, problem: str, etag: str) -> None:
        self.problem = problem
        self.etag = etag


class _ForeignError(MismatchError):
    """A body of another size than the file's, which tells nothing of what has arrived before."""


def _transfer(http: Http, url: str, partial: BinaryIO, source: Source, etag: str, arrived: Arrived) -> tuple[Sums, str, bool]:
    """One request: append to the partial what it lacks. Returns the sums of the whole, the strong ETag, and whether it may not
    be the beginning of a file of which nothing tells where it ends.
    """
    sums = _beginning(partial, source, etag)
    if sums.size and (sums.size == source.file.size or source.is_whole(sums)):
        return sums, etag, True
    headers = {"Range": f"bytes={sums.size}-", **({"If-Range": etag} if etag else {})} if sums.size else {}
    with http.open(url, headers) as response:
        encoded, is_open = decodes(response, url), ends_with_connection(response)
        _refuse_foreign(response, source, url)
        if _is_beyond(response, url) or not _fits(response, url, sums.size, etag):
            begin_anew(partial)
            raise _Broken("upstream can't continue a broken transfer", "")
        if response.status_code == 200 and sums.size:
            begin_anew(partial)
            sums = _sums_of(partial, source)
        sent = response.headers.get("ETag", "")
        etag = sent if sent.startswith('"') else ""
        try:
            for piece in http.pieces(response, url):
                fs.write_all(partial.fileno(), piece)
                sums.update(piece)
                arrived(len(piece))
                if source.file.size is not None and sums.size > source.file.size:
                    break  # too long already: no need to see the end
        except TransportError as error:
            if source.is_whole(sums):  # more was announced than there is
                return sums, etag, True
            if encoded:  # a range is one of the encoded bytes
                begin_anew(partial)
            raise _Broken(error.problem, etag) from None
    size = _size(response, source) if is_open or response.status_code == 206 else 0
    if sums.size < size and not source.is_whole(sums):
        raise _Broken(f"the answer ended after {sums.size} of {size} bytes", etag)
    return sums, etag, bool(size) or source.can_resume or not is_open


def _is_beyond(response: requests.Response, url: str) -> bool:
    """Whether the file has ended before where we want to go on (416). Raises AbsentError, TransportError for other refusals."""
    status, where = response.status_code, addresses.redact(url)
    if status in (404, 410):
        raise AbsentError(where, status)
    if status == 429 or status >= 500:
        raise TransportError(where, status_problem(status))
    if status not in (200, 206, 416):
        raise RefusedError(where, status_problem(status))
    return status == 416


def _refuse_foreign(response: requests.Response, source: Source, url: str) -> None:
    """Raise _ForeignError for a body of another size than the file's, a login page say: no client is to get its beginning."""
    size, announced = source.file.size, response.raw.length_remaining
    if response.status_code == 200 and size is not None and announced not in (None, size) and not decodes(response, url):
        raise _ForeignError(addresses.redact(url), "size", str(size), str(announced))


def _fits(response: requests.Response, url: str, offset: int, etag: str) -> bool:
    """Whether an answer can be used: one of a part (206) only if that goes on where ours ends, and is not of other bytes."""
    if response.status_code != 206:
        return True
    same = not etag or response.headers.get("ETag", etag) == etag  # some servers ignore If-Range
    begins = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    return same and begins and not decodes(response, url)


def _beginning(partial: BinaryIO, source: Source, etag: str) -> Sums:
    """Sums of what is there to go on from: nothing where neither a hash nor an ETag would tell that the rest is another's."""
    sums = _sums_of(partial, source)
    if sums.size in (0, source.file.size) or etag or source.can_resume:
        return sums
    begin_anew(partial)
    return source.new_sums()


def _size(response: requests.Response, source: Source) -> int:
    """Bytes of the whole file, of which an answer may have sent a part only: 206 need not hold all that was asked for."""
    stated = response.headers.get("Content-Range", "").rpartition("/")[2]
    sizes = (number(stated), source.file.size)
    return min((size for size in sizes if size is not None), default=0)


def _sums_of(partial: BinaryIO, source: Source) -> Sums:
    """Sums of an opened file, whose position is its end afterwards."""
    sums = source.new_sums()
    partial.seek(0)
    while piece := partial.read(_COPY_PIECE):
        sums.update(piece)
    return sums


def _verified(partial: BinaryIO, sums: Sums, source: Source, url: str) -> Staged:
    verify(sums, source, url)
    return Staged(Path(partial.name), sums.sha256, sums.blake3, sums.size, sums.other)


def verify(sums: Sums, source: Source, url: str) -> None:
    """Compare what was read from a URL with what the metadata says: the size, and the one hash that verifies the file.

    Raises MismatchError.
    """
    file = source.file
    if file.size is not None and sums.size != file.size:
        longer = " or more" if sums.size > file.size else ""
        raise MismatchError(addresses.redact(url), "size", str(file.size), f"{sums.size}{longer}")
    if file.sha256 is not None and sums.sha256 != file.sha256:
        raise MismatchError(addresses.redact(url), "sha256", file.sha256.hex(), sums.sha256.hex())
    if file.sha256 is None and file.other is not None and sums.other != file.other:
        raise MismatchError(addresses.redact(url), algorithm(file.other), file.other.hex(), (sums.other or b"").hex())


def _take(url: str, partial: BinaryIO, source: Source, arrived: Arrived) -> Staged:
    """Copy a file of a local folder; a reflink where the file system can."""
    begin_anew(partial)
    try:
        with open_file(url) as original:
            sums = _sums_of(partial, source) if _reflink(original, partial) else _copy(original, partial, url, source)
        arrived(sums.size)
        return _verified(partial, sums, source, url)
    except UpstreamError:
        begin_anew(partial)
        raise


def _reflink(original: BinaryIO, partial: BinaryIO) -> bool:
    try:
        fcntl.ioctl(partial, _FICLONE, original.fileno())
    except OSError:
        return False
    return True


def _copy(original: BinaryIO, partial: BinaryIO, url: str, source: Source) -> Sums:
    sums = source.new_sums()
    while True:
        with reading(url):
            piece = original.read(_COPY_PIECE)
        if not piece:
            return sums
        fs.write_all(partial.fileno(), piece)
        sums.update(piece)


def _link(url: str, incoming: Path, source: Source, arrived: Arrived) -> Staged | None:
    """Give a local file a second name; None if it has to be copied. The file becomes read-only when it is admitted.

    The name is one that nobody else opens: what lies at a partial's path may be written into. The lock keeps gc from
    it, old as its date may be.
    """
    path = incoming / f"put-{secrets.token_hex(8)}"
    with open_file(url) as original:
        try:
            if os.fstat(original.fileno()).st_uid != os.geteuid():
                return None  # its owner could write into the blob, and we can't make it read-only
            fcntl.flock(original, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fs.link(file_path(url).resolve(), path)
        except OSError:
            return None
        try:
            if not is_at(path, original):
                raise TransportError(url, "was replaced while it was read")
            with reading(url):
                sums = _sums_of(original, source)
            arrived(sums.size)
            staged = _verified(original, sums, source, url)
            return staged._replace(path=path, lock=os.dup(original.fileno()))
        except BaseException:
            fs.unlink(path)
            raise
