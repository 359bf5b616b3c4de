"""What becomes of a listing: the leaves of its files, with hashes, sizes and dates that upstream states outside of it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from blake3 import blake3

from .. import addresses
from ..digests import Digest
from ..errors import AbsentError
from ..readings import Draft, File, Reading, Stated, Upstream
from ..validators import Validators
from . import leaf, sums
from .entries import Entry
from .upstream import Listing, url_of

#: part of every source digest; raise it when other bytes are made of the same listing
_SALT = b"file 2\0"


class FilesReading(Reading):
    """One state of an upstream. Fulfils `readings.Reading`."""

    def __init__(self, listing: Listing, bases: tuple[str, ...], upstream: Upstream | None) -> None:
        """upstream: None for a listing of nothing"""
        self._listing = listing
        self._upstream = upstream
        self.bases = bases
        self.info: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = listing.invalid
        self.document = listing.document
        self.validators: Mapping[str, Validators] = {}  # sums and folders change without the page
        self.sources: Mapping[str, Digest] = {name: self._source(entry) for name, entry in listing.files.items()}

    def _source(self, entry: Entry) -> Digest:
        """A digest of all that decides the leaf: the rows of the file and of its `.sha256`, and what a SHA256SUMS states."""
        beside = self._sidecar(entry)
        parts = (addresses.redact(self.bases[0]), entry, beside.text if beside else "")
        return blake3(_SALT + repr(parts).encode()).digest()

    def _sidecar(self, entry: Entry) -> Entry | None:
        return None if entry.sha256 else self._listing.files.get(entry.name + sums.SIDECAR)

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside: what was in folders that are listed, and that upstream says it does not have."""
        lost, found = self._listing.lost, {}
        for name in self.names_before() if lost else ():
            if folder := next((above for above in _folders_of(name) if above in lost), None):
                found[name] = f"upstream lists the folder {folder}, and answers that it is not there"
        return found

    def drafts(self, names_: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Asks upstream for the `.sha256` of files, and for the sizes and dates that the listing rounds.

        A file whose row would be the same after a change is known by no source: it is asked for in every sync.
        """
        if self._upstream is None:
            return
        entries = {name: self._listing.files[name] for name in names_}
        hashes, unreadable = self._hashes(entries, self._upstream)
        known = {name: entry._replace(sha256=entry.sha256 or hashes.get(name)) for name, entry in entries.items()}
        stated = self._stated(known, self._upstream)
        for name, entry in known.items():
            size, modified = stated.get(name, Stated(entry.size, entry.modified))
            file = File(name, size, entry.sha256, entry.md5, self._elsewhere(entry), modified)
            problem = unreadable.get(name)
            if size is not None and entry.contradicts(size):
                problem = problem or f"upstream's headers state {size} bytes of it, its listing another size"
            if size is None and modified is None and not entry.sha256 and not entry.md5:
                problem = problem or "there is neither a hash, nor a size, nor a date of it"
            if problem:
                yield Draft(name, b"", (), None, {name: problem})
            else:
                shown = (self._sidecar(entries[name]) or entries[name]).shows_changes
                yield Draft(name, leaf.encode(file), (file,), self.sources[name] if shown else None, {})

    def _hashes(self, entries: Mapping[str, Entry], upstream: Upstream) -> tuple[dict[str, bytes], dict[str, str]]:
        """What the `.sha256` files state {file: SHA-256}, and those that could not be used {file: reason}."""
        beside = {url_of(self._listing, sidecar): name for name, entry in entries.items() if (sidecar := self._sidecar(entry))}
        hashes: dict[str, bytes] = {}
        problems: dict[str, str] = {}
        for url, answer in upstream.get_many(beside, limit=sums.LIMIT):
            name = beside[url]
            if isinstance(answer, AbsentError):
                problems[name] = f"its {sums.SIDECAR} file is listed, and upstream answers {answer.status}"
            elif isinstance(answer, Exception):
                raise answer
            elif digest := sums.sidecar(answer.body, name):
                hashes[name] = digest
            else:
                problems[name] = f"its {sums.SIDECAR} file states no SHA-256 of it"
        return hashes, problems

    def _stated(self, entries: Mapping[str, Entry], upstream: Upstream) -> dict[str, Stated]:
        """{file: size and date as upstream's headers state them}, of the files whose listing has no exact size, or no hash and
        no date but HTML's: pages round both, some to a tenth of a gigabyte. JSON does not.
        """
        urls = {
            url_of(self._listing, entry): name
            for name, entry in entries.items()
            if entry.size is None or not (entry.sha256 or entry.md5 or (entry.url and entry.modified is not None))
        }
        found = {}
        for url, answer in upstream.head_many(urls):
            entry = entries[urls[url]]
            if isinstance(answer, Stated):
                size = entry.size if answer.size is None else answer.size
                found[entry.name] = Stated(size, entry.modified if answer.modified is None else answer.modified)
            elif not isinstance(answer, AbsentError):
                raise answer
        return found

    def _elsewhere(self, entry: Entry) -> str | None:
        plain = addresses.redact(addresses.file_url(self.bases[0], entry.name))
        return entry.url if entry.url and entry.url != plain else None


def _folders_of(name: str) -> Iterator[str]:
    return (name[: end + 1] for end, letter in enumerate(name) if letter == "/")


class SelectedReading(Reading):
    """A reading with only the files that are kept. Fulfils `readings.Reading`."""

    def __init__(self, reading: Reading, kept: Collection[str], meant: Collection[str]) -> None:
        """kept: names of files; meant: of those that are invalid or aside the ones that the selection does not leave out"""
        self._reading = reading
        self.bases, self.info, self.extra = reading.bases, reading.info, reading.extra
        self.document, self.validators = reading.document, reading.validators
        self.invalid: Mapping[str, str] = {name: reason for name, reason in reading.invalid.items() if name in meant}
        self._aside = {name: reason for name, reason in reading.aside.items() if name in meant}
        self.sources: Mapping[str, Digest] = {name: reading.sources[name] for name in reading.sources if name in kept}

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside."""
        return self._aside

    def drafts(self, names_: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        return self._reading.drafts(names_)
