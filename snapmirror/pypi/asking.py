"""Asking an index for the pages of projects: conditionally, many side by side; what one answers says nothing of the others.

Noted of each page are its validators, the source digest that came of it, its serial, and since when it is 404. Notes may be
lost at any time; then the whole page is asked for again.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import msgspec
from blake3 import blake3

from .. import addresses, clock
from ..digests import Digest
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Answer, Draft, File, Unchanged, Upstream
from ..validators import Validators
from . import page
from .listing import Listing, source_of

#: the forms of a page (PEP 691): JSON says all; HTML is read from indexes that have no JSON
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

#: pages asked for at a time: those that have arrived wait in memory until they are made leaves
_BATCH = 256
#: after so many pages in a row that fail in transport the others are not asked for: each would take all its retries
_PATIENCE = 16
#: seconds that a project must be 404 before it counts as deleted
_HOUR = 3600
_GONE = (404, 410)


class Same(NamedTuple):
    """The page is as it was."""

    #: see Reading.sources
    source: Digest


class Gone(NamedTuple):
    """Upstream has deleted the project for certain, or never had it."""


class Aside(NamedTuple):
    """The page can't be used: the project keeps its old state."""

    reason: str
    error: UpstreamError | None = None
    #: whether upstream lags behind what was seen before, there or at another upstream
    behind: bool = False


Outcome = Draft | Same | Gone | Aside


class _Noted(msgspec.Struct, array_like=True, frozen=True):
    #: empty if the page was never read
    source: Digest = b""
    #: -1 if it had none
    serial: int = -1
    validators: Validators = Validators()
    #: seconds since 1970 of the first of an unbroken row of 404; 0 if it was not 404
    missing: int = 0


_NOTED = msgspec.msgpack.Decoder(_Noted)


class ProjectPages:
    """The pages of the projects of one index. Names of projects are normalised ones."""

    def __init__(
        self,
        upstream: Upstream,
        base: str,
        listing: Listing | None = None,
        *,
        alike: Collection[str] = (),
        provenance: bool = False,
    ) -> None:
        """base: what names of projects are appended to, ending in a slash; may hold credentials
        listing: of all projects; None where only named projects are asked for
        alike: bases whose serials mean the same, without credentials
        provenance: whether attestations are mirrored
        """
        #: part of every source (`listing.source_of`): with and without attestations other leaves are made
        self.salt = addresses.redact(base) + (" with provenance" if provenance else "")
        self._provenance = provenance
        self.base = base
        #: without credentials
        self._plain = addresses.redact(base)
        self._alike = {self._plain, *alike}
        self.upstream = upstream
        self._listing = listing
        #: {project: serial} of the listed projects that have changed, once these are known: to look up in this map spares
        #: making `Listing.serials` of 700,000
        self.changed: Mapping[str, int | None] = {}
        #: projects that are 404 and whose page was never read
        self.never: set[str] = set()
        #: whether that is noted of them; not where anybody may ask for any name
        self.notes_never = True
        #: requests in a row that failed in transport, and how the last of them did
        self._failed = 0
        self._problem: UpstreamError | None = None

    def _stated(self, name: str) -> tuple[bool, int | None]:
        """Whether a project is listed, and the serial that the list states for it, if any."""
        if name in self.changed:
            return True, self.changed[name]
        serials = self._listing.serials if self._listing else {}
        return name in serials, serials.get(name)

    def url(self, name: str) -> str:
        """The URL of the page of a project; may hold credentials."""
        return f"{addresses.file_url(self.base, name)}/"

    def known(self, names: Iterable[str]) -> set[str]:
        """Those of these projects whose pages can be asked for conditionally."""
        return {name for name, noted in self._notes(list(names)).items() if noted.source and noted.validators}

    def ask(self, names: Iterable[str], *, conditionally: bool) -> Iterator[tuple[str, Outcome]]:
        """What comes of the pages of these projects, in any order. Errors of upstream's are in the outcome, not raised.

        conditionally: whether `Same` may be the outcome
        """
        left = iter(names)
        while batch := list(islice(left, _BATCH)):
            yield from self._ask(batch, conditionally)

    def _ask(self, names: list[str], conditionally: bool) -> Iterator[tuple[str, Outcome]]:
        urls = {self.url(name): name for name in names}
        noted = self._notes(names)
        known = {url: noted[name].validators for url, name in urls.items() if name in noted and noted[name].source}
        changed: dict[str, bytes] = {}
        asked = known.get if conditionally else None
        answers = self.upstream.get_many(list(urls), limit=page.LIMIT, known=asked, accept=ACCEPT)
        while self._failed < _PATIENCE and (found := next(answers, None)):
            name = urls.pop(found[0])
            before = noted.get(name, _Noted())
            outcome, after = self._judge(name, found[1], before)
            self._problem = outcome.error if isinstance(outcome, Aside) else None
            self._failed = self._failed + 1 if isinstance(self._problem, TransportError) else 0
            if after != before and (after.source or self.notes_never):
                changed[self._key(name, self._plain)] = msgspec.msgpack.encode(after)
            yield name, outcome
        for name in urls.values():
            yield name, Aside("not asked for: upstream fails again and again", self._problem)
        self.upstream.notes.put(changed)

    def files(self, name: str) -> tuple[File, ...]:
        """What the page of a project lists now. Raises UpstreamError, AbsentError if there is no page."""
        answer = self.upstream.get(self.url(name), limit=page.LIMIT, accept=ACCEPT)
        assert answer is not None  # nothing was said to be known
        return page.draft(name, page.read(answer, name), answer.url, None).files

    def _key(self, name: str, base: str) -> str:
        return f"pypi page 1 {addresses.file_url(base, name)}/{' with provenance' if self._provenance else ''}"

    def _notes(self, names: list[str]) -> dict[str, _Noted]:
        """What is noted of these pages; the serial is the highest that any upstream has answered, for some lag behind."""
        keys = {self._key(name, base): (name, base) for base in self._alike for name in names}
        found: dict[str, _Noted] = {}
        serials: dict[str, int] = {}
        for key, row in self.upstream.notes.get(keys).items():
            name, base = keys[key]
            try:
                noted = _NOTED.decode(row)
            except (msgspec.DecodeError, RecursionError):
                continue  # of another version
            serials[name] = max(noted.serial, serials.get(name, -1))
            if base == self._plain:
                found[name] = noted
        return {name: msgspec.structs.replace(found.get(name, _Noted()), serial=serial) for name, serial in serials.items()}

    def _judge(self, name: str, answer: Answer | Exception, before: _Noted) -> tuple[Outcome, _Noted]:
        """What an answer means, and what to note of it."""
        if isinstance(answer, Unchanged):
            return Same(before.source), msgspec.structs.replace(before, missing=0)
        if isinstance(answer, AbsentError) and answer.status in _GONE:
            return self._missing(name, answer, before)
        if isinstance(answer, UpstreamError):
            return Aside(answer.problem, answer), before
        if isinstance(answer, Exception):
            raise answer
        try:
            return self._read(name, answer, before)
        except BadIndexError as error:
            return Aside(error.problem, error), before

    def _missing(self, name: str, error: AbsentError, before: _Noted) -> tuple[Outcome, _Noted]:
        """What a 404 means. A cache or a deployment may have lost a page for a minute; a project that is still listed is
        not deleted at all.
        """
        if self._stated(name)[0]:
            return Aside(f"upstream lists it, and answers {error.status}", error), before
        if not before.source:
            self.never.add(name)
        present = int(self.upstream.now().timestamp())
        since = min(before.missing or present, present)  # the clock may have been ahead
        after = msgspec.structs.replace(before, missing=since)
        if before.missing and present - since >= _HOUR:
            return Gone(), after
        begin = clock.to_id(clock.from_seconds(since))
        reason = f"upstream answers {error.status} since {begin}; if it still does an hour later, it is deleted"
        return Aside(reason, error), after

    def _read(self, name: str, answer: Answer, before: _Noted) -> tuple[Outcome, _Noted]:
        found = page.read(answer, name)
        serial = page.serial(answer, found)
        _, listed = self._stated(name)
        newest = max(before.serial, -1 if listed is None else listed)
        if serial is not None and serial < newest:
            reason = f"upstream answers an old page of it: its serial is {serial}, and was {newest}"
            return Aside(reason, behind=True), before
        if listed is None:
            stated = addresses.redact(answer.url).encode() + b"\0" + blake3(answer.body).digest()
        else:
            stated = str(listed if serial is None else serial).encode()
        source = source_of(self.salt, name, stated)
        noted = _Noted(source, newest if serial is None else serial, answer.validators or Validators())
        return page.draft(name, found, answer.url, source, provenance=self._provenance), noted
