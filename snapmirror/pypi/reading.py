"""States of an index, as `sync` plans with them: of named projects, of one, or of all that a list has."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from blake3 import blake3

from .. import addresses
from ..digests import Digest
from ..errors import AbsentError, TransportError, UpstreamError
from ..readings import Changes, Draft, Notes, Reading, Upstream
from ..validators import Validators
from . import leaf, listing
from .asking import Aside, Gone, Outcome, ProjectPages, Same
from .listing import Listing, Sources

#: bytes of leaves that are kept in memory until `drafts` wants them; the pages of further ones are asked for again
_WAITING = 256 << 20

#: a mark: where the list was, without credentials; the projects in it; their serials
_MARK = msgspec.msgpack.Decoder(tuple[str, list[str], list[int | None]])


class ProjectsReading(Reading):
    """One state of some projects. Fulfils `readings.Reading`."""

    #: whether upstream has answered; the list of projects is an answer
    answered = False

    def __init__(self, pages: ProjectPages | None, document: str, others: Sequence[Callable[[], ProjectPages]] = ()) -> None:
        """pages: of the first upstream, None for a state of nothing
        document: see Reading.document
        others: find the pages of the further upstreams; they are asked for what those before them fail to answer, or only know
        as it was
        """
        self._upstreams: list[Callable[[], ProjectPages | None]] = [lambda: pages, *map(cache, others)]
        self.bases: tuple[str, ...] = (pages.base if pages else document,)
        self.info: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.invalid: Mapping[str, str] = {}
        self.document = document
        self.sources: Mapping[str, Digest] = {}
        self._aside: dict[str, str] = {}
        #: {name that is aside: the error}, if an error is why
        self.errors: dict[str, UpstreamError] = {}
        #: see Reading.gone; also named projects that upstream never had
        self.gone: set[str] = set()
        #: how the index is asked; None for a state of nothing
        self.upstream: Upstream | None = pages.upstream if pages else None
        #: see Reading.validators; empty once a project is aside, for it must be asked for the next time
        self.validators: Mapping[str, Validators] = {}
        self._ready: dict[str, Draft] = {}
        self._waiting = 0
        #: names that are not asked for, and have their old leaves
        self._kept: frozenset[str] = frozenset()

    @property
    def aside(self) -> dict[str, str]:
        """See Reading.aside."""
        return self._aside

    def set_aside(self, names: Mapping[str, str]) -> None:
        """See Reading.set_aside."""
        self._aside.update(names)
        self._ready = {name: draft for name, draft in self._ready.items() if name not in names}
        self.sources = {name: source for name, source in self.sources.items() if name not in names}
        self.validators = {}

    @property
    def notes(self) -> Notes | None:
        """Where what is found out about this upstream is noted; None for a state of nothing."""
        return self.upstream.notes if self.upstream else None

    def ask_for(self, names: Collection[str]) -> None:
        """Ask for the pages of these projects too, conditionally; `sources` then has those that are there.

        Those that are aside are not asked for again. Raises UpstreamError if there is no answer at all.
        """
        sources = dict(self.sources)
        for name, found in self._ask([name for name in names if name not in self._aside], conditionally=True):
            if isinstance(found, Same):
                sources[name] = found.source
            elif found.source:
                sources[name] = found.source
                if self._waiting < _WAITING:
                    self._ready[name] = found
                    self._waiting += len(found.content)
        self.sources = sources

    def keep(self, names: Collection[str]) -> None:
        """Have these projects too, as they were before."""
        self._kept = frozenset(names)
        self.sources = {**self.sources, **{name: blake3(b"kept\0" + name.encode()).digest() for name in names}}

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Of projects whose page can't be used there is none, and a reason in `aside`."""
        yield from (self._ready[name] for name in names if name in self._ready)
        for name in self._kept.intersection(names):
            if old := self.before(name):
                yield Draft(name, old, leaf.files(old), None, {})
        rest = [name for name in names if name not in self._ready and name not in self._aside and name not in self._kept]
        for _, found in self._ask(rest, conditionally=False):
            if isinstance(found, Draft):
                yield found

    def _ask(self, names: Collection[str], *, conditionally: bool) -> Iterator[tuple[str, Draft | Same]]:
        """The pages that can be used; the others go into `aside` or `gone`.

        Raises UpstreamError if none is answered, and none was before.
        """
        left = list(names)
        problem: UpstreamError | None = None
        for place, find in enumerate(self._upstreams):
            pages = find() if left else None
            failed = []
            for name, outcome in pages.ask(left, conditionally=conditionally) if pages else ():
                if place and _is_missing(outcome):
                    continue  # it stays aside: the upstream before this one only failed, and may have the project
                self._aside.pop(name, None)
                self.errors.pop(name, None)
                if isinstance(outcome, Aside):
                    self._aside[name] = outcome.reason
                    if outcome.error:
                        self.errors[name] = outcome.error
                    self.validators = {}
                    if outcome.behind or isinstance(outcome.error, TransportError):
                        failed.append(name)
                    if isinstance(outcome.error, TransportError):
                        problem = outcome.error
                        continue
                elif isinstance(outcome, Gone):
                    self.gone.add(name)
                else:
                    yield name, outcome
                self.answered = True
            left = failed
        if problem and not self.answered:
            raise problem


def _is_missing(outcome: Outcome) -> bool:
    """Whether an upstream says that it does not have a project, for the first time or for long."""
    return isinstance(outcome, Gone) or (isinstance(outcome, Aside) and isinstance(outcome.error, AbsentError))


class OneReading(ProjectsReading):
    """One state of one project, which says nothing of the others. Fulfils `readings.Reading`."""

    alone = True

    def since(self, mark: bytes) -> Changes:
        """See Reading.since: all other projects are taken to be as they were."""
        return Changes(self.sources.keys(), self.gone, sourced=True)


class ListedReading(ProjectsReading):
    """One state of all that an index lists. Fulfils `readings.Reading`.

    The list is read if it has changed, a page if its serial in the list has. It counts though no page can be had: it tells
    which names are there.
    """

    answered = True

    def __init__(
        self, pages: ProjectPages, listed: Listing, document: str, validators: Validators | None, alike: Collection[str] = ()
    ) -> None:
        """alike: bases that the upstreams of the repo may have, without credentials: serials of all of them mean the same"""
        super().__init__(pages, document)
        self._alike = {addresses.redact(document), *alike}
        self._pages = pages
        self._listing = listed
        unknown = [name for name, serial in zip(listed.names, listed.numbers, strict=True) if serial is None]
        # a list without serials may be unchanged while pages have changed
        self.validators = {document: validators} if validators and not unknown else {}
        if listed.serial is not None:
            self.info = {"_last-serial": listed.serial}
        others = self._ask_without_serials(unknown) if unknown else {}
        self.sources = Sources(pages.salt, listed, others)

    def _ask_without_serials(self, names: list[str]) -> dict[str, Digest]:
        """The sources of projects without a serial. Pages that were read before are asked for, conditionally.

        The others, of which there may be 700,000, are left to `drafts`: their sources here are like no other's.
        """
        known = self._pages.known(names)
        self.ask_for([name for name in names if name in known])
        found = self.sources
        return {name: found.get(name) or blake3(b"unread\0" + name.encode()).digest() for name in names}

    def mark(self) -> bytes:
        """See Reading.mark: the list without the serials of projects that are aside, which so count as changed next time."""
        names, numbers = self._listing.names, self._listing.numbers
        if None in numbers:
            return b""  # the list does not tell what has changed
        if self._aside:  # the names stay in it, for they may be deleted next
            numbers = [None if name in self._aside else number for name, number in zip(names, numbers, strict=True)]
        return msgspec.msgpack.encode((addresses.redact(self.document), names, numbers))

    def since(self, mark: bytes) -> Changes | None:
        """See Reading.since.

        To compare 700,000 serials takes less time than to parse the list; digests of them would take three times that.
        """
        if None in self._listing.numbers:
            return None
        try:
            place, names, numbers = _MARK.decode(mark)
        except (msgspec.DecodeError, RecursionError):
            return None
        if place not in self._alike:
            return None  # the list of an upstream that the repo has no more
        changed, gone = listing.differences((names, numbers), (self._listing.names, self._listing.numbers))
        self._pages.changed = changed
        return Changes(changed, gone)
