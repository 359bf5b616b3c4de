"""Verifying a snapshot from afar: from a signature down to files, each by the digest that names it in what was verified before.

Only the public key is trusted. Nothing of what the server sends is kept: files are hashed while they arrive.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import as_completed
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from .. import addresses, clock, codec
from ..digests import Digest, Sums, sha256
from ..ecosystem import Ecosystem
from ..errors import AbsentError, BadIndexError, DamagedError, TransportError
from ..store.directories import LEAF_LIMIT, Bucket, Directory
from ..store.records import Record, decode, place_of
from ..store.signatures import LIMIT, PublicKey
from ..transfer.http import Http, status_problem
from .bringing import decode_listing

#: bytes of what is read as a whole, which is all but files
_DOCUMENT_LIMIT = 64 << 20
#: blobs that are asked for at a time: so many are in memory
_BATCH = 16


class Failure(msgspec.Struct, frozen=True):
    """One thing that is not what was signed."""

    #: the snapshot, or what of it
    what: str
    problem: str


class Verification(msgspec.Struct, kw_only=True):
    """What came of it; what `--json` prints."""

    snapshot: str
    #: id of the key
    key: str
    #: what was read and compared with its digest
    directories: int = 0
    buckets: int = 0
    leaves: int = 0
    files: int = 0
    bytes: int = 0
    #: files that are listed and were left out, by why
    unchecked: dict[str, int] = {}
    problems: list[Failure] = []


class _Listed(NamedTuple):
    """A file of which the server should have the bytes."""

    sha256: Digest
    #: with its repo and directory
    name: str
    #: bytes, None where its leaf does not say
    size: int | None
    #: whether it need not be held: its directory fetches files when they are asked for
    optional: bool


class Verifier:
    """Verifies one snapshot of a server."""

    def __init__(self, http: Http, url: str, key: PublicKey, ecosystems: Mapping[str, Ecosystem]) -> None:
        """url: of the server, as clients have it without a selector"""
        self._http = http
        self._base = f"{url.rstrip('/')}/-/"
        self._key = key
        self._ecosystems = ecosystems
        #: blobs, with the mode of the directory in which they were seen: what it lists is looked for by that
        self._seen: set[tuple[Digest, str]] = set()

    def find(self, selector: str, present: datetime) -> str:
        """The id that a selector means to the server. Raises SelectorError, Forgotten, CopyError, UpstreamError.

        This is the server's word, and not asked for where an id is named: another snapshot might be put in its place.
        """
        if clock.from_id(selector):
            return selector
        listing = decode_listing(addresses.redact(self._base), self._get(f"{self._base}copies.json"))
        return listing.catalog().single(selector, present).id

    def verify(self, snapshot: str, sample: int | None) -> Verification:
        """Verify a snapshot. Raises UpstreamError if the server can't be asked, or does not have the snapshot.

        snapshot: its id; sample: how many files are read, chosen at random; None: all
        """
        found = Verification(snapshot=snapshot, key=self._key.id)
        record = self._record(found)
        if record is None:  # nothing below it is vouched for
            return found
        listed = self._listed(record, found)
        if sample is None:
            self._files(listed, found)
        else:
            chosen, left = _choose(listed, sample)
            self._files(chosen, found)
            _leave(found, "not in the sample", left)
        return found

    def _record(self, found: Verification) -> Record | None:
        """The record, if it is the one that was signed."""
        data = self._get(f"{self._base}snapshots/{found.snapshot}.json")
        try:
            signature = self._http.get(f"{self._base}snapshots/{found.snapshot}.sig", limit=LIMIT)
        except AbsentError as error:
            if error.status != 404:
                raise
            found.problems.append(Failure(f"record {found.snapshot}", "is not signed"))
            return None
        except BadIndexError as error:
            found.problems.append(Failure(f"signature of {found.snapshot}", error.problem))
            return None
        if problem := self._key.problem(data, signature.body if signature else b""):
            found.problems.append(Failure(f"signature of {found.snapshot}", problem))
            return None
        try:
            record: Record = decode(data, Record, "")
        except DamagedError as error:
            found.problems.append(Failure(f"record {found.snapshot}", error.problem))
            return None
        if record.id != found.snapshot:
            found.problems.append(Failure(f"record {found.snapshot}", f"is that of {record.id}"))
            return None
        return record

    def _listed(self, record: Record, found: Verification) -> Iterator[_Listed]:
        """Every file that can be asked for, while what lists it is verified."""
        for path, repo in record.repos.items():
            for name, state in repo.directories.items():
                place = place_of(path, name)
                for _, data in self._blobs({state.blob: f"directory {place}"}, "", found):
                    found.directories += 1
                    if document := _decoded(data, Directory, f"directory {place}", found):
                        yield from self._in_directory(place, document, found)

    def _in_directory(self, place: str, document: Directory, found: Verification) -> Iterator[_Listed]:
        buckets = {digest: f"bucket {number} of {place}" for number, digest in enumerate(document.buckets)}
        for digest, data in self._blobs(buckets, document.mode, found):
            found.buckets += 1
            if bucket := _decoded(data, Bucket, buckets[digest], found):
                leaves = {leaf: f"leaf {name} of {place}" for name, leaf in bucket.leaves.items()}
                for leaf, content in self._blobs(leaves, document.mode, found):
                    found.leaves += 1
                    yield from self._in_leaf(place, document, leaves[leaf], content, found)

    def _in_leaf(self, place: str, document: Directory, what: str, content: bytes, found: Verification) -> Iterator[_Listed]:
        if document.kind not in self._ecosystems:
            return _leave(found, f"of a kind unknown here ({document.kind})", 1)
        try:
            files = self._ecosystems[document.kind].files(codec.decompress(content, LEAF_LIMIT))
        except ValueError as error:
            return found.problems.append(Failure(what, f"is no leaf: {error}"))
        for file in files:
            if document.mode == "redirect":
                _leave(found, "not on this server (redirect)", 1)
            elif file.sha256 is None:
                _leave(found, "listed without a SHA-256", 1)
            elif (file.sha256, document.mode) not in self._seen:
                self._seen.add((file.sha256, document.mode))
                yield _Listed(file.sha256, f"file {place}/{file.name}", file.size, document.mode == "on-demand")
        return None

    def _blobs(self, wanted: Mapping[Digest, str], mode: str, found: Verification) -> Iterator[tuple[Digest, bytes]]:
        """The bytes of those of these blobs that were not looked at before, and are right.

        wanted: what each of them is; mode: of the directory that they are of
        """
        left = iter([digest for digest in wanted if (digest, mode) not in self._seen])
        while batch := list(islice(left, _BATCH)):
            self._seen.update((digest, mode) for digest in batch)
            urls = {self._url(digest): digest for digest in batch}
            for url, answer in self._http.get_many(urls, limit=_DOCUMENT_LIMIT):
                digest = urls[url]
                if isinstance(answer, AbsentError | BadIndexError):
                    self._refused(answer, wanted[digest], found)
                elif isinstance(answer, Exception):
                    raise answer
                elif (problem := _difference(digest, sha256(answer.body))) is not None:
                    found.problems.append(Failure(wanted[digest], problem))
                else:
                    found.bytes += len(answer.body)
                    yield digest, answer.body

    def _refused(self, error: AbsentError | BadIndexError, what: str, found: Verification) -> None:
        if isinstance(error, AbsentError) and error.status == 403:
            _leave(found, "denied by the server's operator", 1)
        else:
            missing = isinstance(error, AbsentError) and error.status == 404
            found.problems.append(Failure(what, "is missing" if missing else error.problem))

    def _files(self, files: Iterable[_Listed], found: Verification) -> None:
        """Read files, several at a time."""
        left = iter(files)
        while batch := list(islice(left, _BATCH)):
            running = {self._http.pool.submit(self._hash, file): file for file in batch}
            for future in as_completed(running):
                file = running[future]
                try:
                    sums = future.result()
                except AbsentError as error:
                    if error.status == 404 and file.optional:
                        _leave(found, "not held (on-demand)", 1)
                    else:
                        self._refused(error, file.name, found)
                    continue
                if problem := _overlong(file, sums) or _difference(file.sha256, sums.sha256):
                    found.problems.append(Failure(file.name, problem))
                else:
                    found.files += 1
                    found.bytes += sums.size

    def _hash(self, file: _Listed) -> Sums:
        """The sums of a file as the server sends it, or of its beginning where more comes than was signed: it may never end.

        Raises AbsentError, TransportError.
        """
        url = self._url(file.sha256)
        shown = addresses.redact(url)
        for left in range(self._http.settings.retries, -1, -1):
            try:
                with self._http.open(url, {}) as response:
                    if response.status_code in (403, 404, 410):
                        raise AbsentError(shown, response.status_code)
                    if response.status_code != 200:
                        raise TransportError(shown, status_problem(response.status_code))
                    sums = Sums(with_blake3=False)
                    for piece in self._http.pieces(response, url):
                        sums.update(piece)
                        if _overlong(file, sums):
                            break
                    return sums
            except TransportError:
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _url(self, digest: Digest) -> str:
        return f"{self._base}blobs/{digest.hex()}"

    def _get(self, url: str) -> bytes:
        answer = self._http.get(url, limit=_DOCUMENT_LIMIT)
        assert answer is not None
        return answer.body


def _decoded(data: bytes, type_: type[Any], what: str, found: Verification) -> Any:
    """A document of the store, None if it is none, which is then a problem."""
    try:
        return msgspec.msgpack.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found.problems.append(Failure(what, f"can't be read: {error}"))
        return None


def _difference(expected: Digest, actual: Digest) -> str | None:
    return None if actual == expected else f"has other bytes: their SHA-256 is {actual.hex()}, not {expected.hex()}"


def _overlong(file: _Listed, sums: Sums) -> str | None:
    if file.size is None or sums.size <= file.size:
        return None
    return f"has more than the {file.size} bytes that it is listed with"


def _leave(found: Verification, why: str, count: int) -> None:
    if count:
        found.unchecked[why] = found.unchecked.get(why, 0) + count


def _choose(files: Iterable[_Listed], count: int) -> tuple[Collection[_Listed], int]:
    """Some of the files, each with the same chance, and how many are left out. The server can't foresee which."""
    chance, chosen, seen = random.SystemRandom(), list[_Listed](), 0
    for file in files:
        seen += 1
        if len(chosen) < count:
            chosen.append(file)
        elif (place := chance.randrange(seen)) < count:
            chosen[place] = file
    return chosen, seen - len(chosen)
