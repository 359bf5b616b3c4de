"""States of an index, as `sync` plans with them: of named projects, or of all that a list has."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from blake3 import blake3

from .. import addresses
from ..digests import Digest
from ..errors import TransportError, UpstreamError
from ..readings import Changes, Draft, Notes, Reading, Upstream
from ..validators import Validators
from . import listing
from .asking import Aside, Gone, Pages, Same
from .listing import Listing, Sources

#: bytes of leaves that wait in memory until they are planned; beyond, a page is asked for again
_WAITING = 256 << 20

#: where the list was, names, serials
_MARK = msgspec.msgpack.Decoder(tuple[str, list[str], list[int | None]])


class ProjectsReading(Reading):
    """One state of some projects, or of all. Fulfils `readings.Reading`."""

    #: whether it says nothing of other projects
    alone = False

    def __init__(self, pages: Pages | None, document: str, others: Sequence[Callable[[], Pages]] = ()) -> None:
        """pages: of the first upstream, None for a state of nothing
        others: of those after it: each is asked where those before it fail, and only then looked for
        """
        self._upstreams: list[Callable[[], Pages | None]] = [lambda: pages, *map(cache, others)]
        self.bases: tuple[str, ...] = (pages.base if pages else document,)
        self.info: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = {}
        self.document = document
        self.sources: Mapping[str, Digest] = {}
        self._aside: dict[str, str] = {}
        #: what came of asking for names that are aside, if that was an error
        self.errors: dict[str, UpstreamError] = {}
        #: named projects that upstream has deleted for certain
        self.gone: set[str] = set()
        #: through which it was read; None for a state of nothing
        self.upstream: Upstream | None = pages.upstream if pages else None
        #: see Reading.validators; none once a project keeps its old state: it must be asked for again
        self.validators: Mapping[str, Validators] = {}
        self._ready: dict[str, Draft] = {}
        self._waiting = 0

    @property
    def aside(self) -> dict[str, str]:
        """See Reading.aside."""
        return self._aside

    @property
    def notes(self) -> Notes | None:
        """Where what is found out of this upstream is noted."""
        return self.upstream.notes if self.upstream else None

    def ask_for(self, names: Collection[str]) -> None:
        """Ask for the pages of these projects as well, each if it has changed. Raises UpstreamError if none answers."""
        sources = dict(self.sources)
        for name, found in self._ask(names, conditionally=True):
            if isinstance(found, Same):
                sources[name] = found.source
            elif found.source:
                sources[name] = found.source
                if self._waiting < _WAITING:
                    self._ready[name] = found
                    self._waiting += len(found.content)
        self.sources = sources

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Of projects whose page can't be used there is none, and a reason in `aside`."""
        yield from (self._ready[name] for name in names if name in self._ready)
        rest = [name for name in names if name not in self._ready and name not in self._aside]
        for _, found in self._ask(rest, conditionally=False):
            if isinstance(found, Draft):
                yield found

    def _ask(self, names: Collection[str], *, conditionally: bool) -> Iterator[tuple[str, Draft | Same]]:
        """Pages that can be used; of the others `aside` and `gone` tell. Raises UpstreamError if there is no answer at all."""
        answered, left = False, list(names)
        problem: UpstreamError | None = None
        for place, find in enumerate(self._upstreams):
            pages = find() if left else None
            failed = []
            for name, outcome in pages.ask(left, conditionally=conditionally) if pages else ():
                if place and isinstance(outcome, Gone):
                    continue  # it stays aside: the upstream before this one only failed, and may have it
                self._aside.pop(name, None)
                self.errors.pop(name, None)
                if isinstance(outcome, Aside):
                    self._aside[name] = outcome.reason
                    if outcome.error:
                        self.errors[name] = outcome.error
                    self.validators = {}
                    if isinstance(outcome.error, TransportError):
                        problem = outcome.error
                        failed.append(name)
                        continue
                elif isinstance(outcome, Gone):
                    self.gone.add(name)
                else:
                    yield name, outcome
                answered = True
            left = failed
        if problem and not answered:
            raise problem


class OneReading(ProjectsReading):
    """One state of one project, beside others that nobody has asked for."""

    alone = True

    def since(self, mark: bytes) -> Changes:
        """See Reading.since: whatever the others were, that they are."""
        return Changes(self.sources.keys(), self.gone, sourced=True)


class ListedReading(ProjectsReading):
    """One state of all that an index lists. A list is read when it has changed, a page when its serial has."""

    def __init__(
        self, pages: Pages, listed: Listing, document: str, validators: Validators | None, alike: Collection[str] = ()
    ) -> None:
        """alike: where the upstreams of the repo may be, without credentials: their serials mean the same"""
        super().__init__(pages, document)
        self._alike = {addresses.redact(document), *alike}
        self._listed = pages
        self._listing = listed
        unknown = [name for name, serial in zip(listed.names, listed.numbers, strict=True) if serial is None]
        #: a list without serials says nothing of pages that have changed
        self.validators = {document: validators} if validators and not unknown else {}
        if listed.serial is not None:
            self.info = {"_last-serial": listed.serial}
        others = self._ask_without_serials(unknown) if unknown else {}
        self.sources = Sources(pages.salt, listed, others)

    def _ask_without_serials(self, names: list[str]) -> dict[str, Digest]:
        """The sources of projects of which the list says nothing: pages that were read before are asked for if changed.

        Those that were not are left to `drafts`: nobody knows the bytes of 700,000 of them, and nothing is called so.
        """
        known = self._listed.known(names)
        self.ask_for([name for name in names if name in known])
        found = self.sources
        return {name: found.get(name) or blake3(b"unread\0" + name.encode()).digest() for name in names}

    def mark(self) -> bytes:
        """The state in short, for `since`: to be taken when all is planned, kept with the directory that came of it."""
        names, numbers = self._listing.names, self._listing.numbers
        if None in numbers:
            return b""  # a list that does not tell what has changed
        if self._aside:  # they stay in it: what is aside now may be deleted next
            numbers = [None if name in self._aside else number for name, number in zip(names, numbers, strict=True)]
        return msgspec.msgpack.encode((addresses.redact(self.document), names, numbers))

    def since(self, mark: bytes) -> Changes | None:
        """What differs from an earlier state; None if the mark is none. Then only changed projects can be asked for.

        700,000 serials are compared in less time than it takes to parse the list; digests of them take three times that.
        """
        if None in self._listing.numbers:
            return None
        try:
            place, names, numbers = _MARK.decode(mark)
        except msgspec.DecodeError:
            return None
        if place not in self._alike:
            return None  # of an upstream that the repo had before
        changed, gone = listing.differences((names, numbers), (self._listing.names, self._listing.numbers))
        self._listed.listed = changed
        return Changes(changed, gone)
