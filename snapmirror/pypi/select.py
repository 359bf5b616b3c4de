"""Selections (`[repo.select]`, `requirements`): a reading cut down to what is kept of it.

What is kept of a project depends on its page and on the settings alone, so pages that have not changed need not be read again.
There are two exceptions. With `min_age` it depends on the time too: until when a choice stands is noted. With
`with_dependencies` it depends on other projects too: see `closure`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
from blake3 import blake3

from .. import addresses
from ..digests import Digest
from ..errors import SelectionError
from ..readings import Changes, Draft, Notes, Reading, Selection
from ..validators import Validators
from . import leaf, names, requirements
from .closure import Closure
from .reading import ProjectsReading
from .requirements import Asked, Wanted
from .rules import Choice, Rules, listed
from .settings import PypiRepo, Select

_SALT = b"selected 1\0"


def select(
    repos: Mapping[str, PypiRepo], readings: Mapping[tuple[str, str], Reading], present: datetime
) -> dict[tuple[str, str], Selection]:
    """What is kept of readings {(repo, directory): reading}; those of repos that select nothing come back whole.

    `Selection.dropped` counts files of projects whose drafts were read, and is complete once all are.
    Raises SelectionError for `requirements` that can't be read, UpstreamError if it can't be told what is to be kept.
    """
    return {place: _select(repos[place[0]], reading, present) for place, reading in readings.items()}


def _select(repo: PypiRepo, reading: Any, present: datetime) -> Selection:
    if repo.select == Select() and not repo.requirements:
        return Selection(reading, {})
    rules = Rules(repo.select, present)
    asked = _asked(repo, requirements.read(repo))
    if repo.select.with_dependencies:
        closure = Closure(repo, reading, rules, asked)
        closure.run()
        asked = closure.asked
        reading.sources = {name: source for name, source in reading.sources.items() if name in closure.names}
    selected = SelectedReading(repo, reading, rules, asked, present)
    return Selection(selected, selected.dropped, tied=repo.select.with_dependencies)


def _asked(repo: PypiRepo, wanted: Wanted) -> Callable[[str], Asked]:
    """What the configuration asks of each project."""
    named = set(repo.named)
    everything = repo.projects == "all" or not (repo.projects or repo.requirements)
    return lambda name: wanted.asked(name, whole=everything or name in named)


class _Aged(msgspec.Struct, array_like=True, frozen=True):
    """A choice that stands until some file is old enough (`min_age`), as it is noted."""

    #: digest of what it was made of: the page and what is asked of it
    source: Digest
    #: digest of what it came to: that, and the files; empty if there is nothing to be said of the project
    chosen: Digest
    #: seconds since 1970
    until: int
    #: see Reading.young
    young: bool = False


_AGED = msgspec.msgpack.Decoder(_Aged)


class SelectedReading(Reading):
    """A reading with only the files that are kept. Fulfils `readings.Reading`."""

    def __init__(
        self,
        repo: PypiRepo,
        reading: ProjectsReading,
        rules: Rules,
        asked: Callable[[str], Asked],
        present: datetime,
    ) -> None:
        self._repo = repo
        self._reading = reading
        self._rules = rules
        self._asked = asked
        self._present = int(present.timestamp())
        self.bases, self.info, self.extra = reading.bases, reading.info, reading.extra
        self.document, self.invalid = reading.document, reading.invalid
        self.validators: Mapping[str, Validators] = reading.validators
        self.gone, self.alone = reading.gone, reading.alone
        self._young: set[str] = set()
        self.young: Collection[str] = self._young
        #: see Choice.dropped; of all projects that were read
        self.dropped: Counter[str] = Counter()
        self._settings = blake3(f"{repo.select}".encode()).digest()
        #: whether any file is kept, and whether any was listed
        self._any = self._any_listed = False
        self._notes: Notes | None = reading.notes
        self.sources: Mapping[str, Digest] = _Sources(reading.sources, self._source)
        if repo.select.min_age:
            self.sources = self._aged_sources()

    @property
    def aside(self) -> Mapping[str, str]:
        """See Reading.aside."""
        return self._reading.aside

    def mark(self) -> bytes:
        """See Reading.mark. None with `min_age`, for time changes what is kept of the same list."""
        return b"" if self._repo.select.min_age else self._reading.mark()

    def since(self, mark: bytes) -> Changes | None:
        """See Reading.since. `sync` takes no mark that was made with other settings."""
        return None if self._repo.select.min_age and not self.alone else self._reading.since(mark)

    def _source(self, name: str, source: Digest) -> Digest:
        """A leaf is a function of the page, the rules, and what is asked of the project."""
        return blake3(_SALT + source + self._settings + self._asked(name).text.encode()).digest()

    def _aged_sources(self) -> dict[str, Digest]:
        """Of choices that still stand, what they came to; of the others, what no leaf is known by, so that they are read.

        Projects of which nothing is kept are not in it while that stands, unless there is nothing else, which is an error.
        """
        keys = {self._key(name): name for name in self._reading.sources}
        standing: dict[str, Digest] = {}
        for key, row in (self._notes.get(keys) if self._notes else {}).items():
            name, aged = keys[key], _AGED.decode(row)
            if aged.until > self._present and aged.source == self._source(name, self._reading.sources[name]):
                standing[name] = aged.chosen
                if aged.young:
                    self._young.add(name)
        idle = {name for name, chosen in standing.items() if not chosen}
        if self.alone or idle == standing.keys():
            idle = set()
        return {
            name: standing.get(name) or blake3(f"unread {self._present} {name}".encode()).digest()
            for name in self._reading.sources
            if name not in idle
        }

    def _key(self, name: str) -> str:
        return f"pypi aged {self._repo.path} {addresses.redact(self.bases[0])}{name}{self._reading.left_out}"

    def drafts(self, names_: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. Raises SelectionError if nothing is kept of everything."""
        aged: dict[str, bytes] = {}
        for draft in self._reading.drafts(names_):
            asked = self._asked(draft.name)
            files = listed(draft.content)
            choice = self._rules.choose(draft.name, files, asked)
            self.dropped.update(choice.dropped)
            self._any = self._any or bool(choice.files)
            self._any_listed = self._any_listed or bool(files)
            young = not choice.files and bool(choice.dropped["min_age"])
            if young:
                self._young.add(draft.name)
            left = cut(draft, choice, asked)
            source = self._source(draft.name, draft.source) if draft.source else None
            if source and self._repo.select.min_age:
                chosen = blake3(source + "\0".join(sorted(choice.files)).encode()).digest()
                chosen = chosen if left.content or left.invalid else b""
                aged[self._key(draft.name)] = msgspec.msgpack.encode(_Aged(source, chosen, choice.until, young))
                source = chosen or None
            yield left._replace(source=source)
        if self._notes:
            self._notes.put(aged)
        self.validators = self._reading.validators
        may_be_empty = self._repo.select.allow_empty or self.alone
        if self._any_listed and not self._any and len(names_) >= len(self.sources) and not may_be_empty:
            raise SelectionError(self._repo.path, "keeps nothing of what upstream lists; change it, or set allow_empty = true")


def cut(draft: Draft, choice: Choice, asked: Asked) -> Draft:
    """A draft with only the chosen files; without content if it has files and none is chosen.

    Files that a lock names and the page does not list are reported as withheld: nobody could install from that lock.
    """
    invalid = {file: reason for file, reason in draft.invalid.items() if _concerns(file, asked)}
    missing = choice.missing - invalid.keys()
    invalid |= dict.fromkeys(sorted(missing), "a lock names it, and there is no such file with that hash to be had")
    if not draft.content:
        return draft._replace(invalid=invalid)
    whole = leaf.decode(draft.content)
    if not choice.files and whole["files"]:
        return draft._replace(content=b"", files=(), invalid=invalid)
    if len(choice.files) == len(whole["files"]):
        return draft._replace(invalid=invalid)
    whole["files"] = [record for record in whole["files"] if record["filename"] in choice.files]
    if "versions" in whole:
        kept = {names.version_key(names.parse(file, draft.name).version) for file in choice.files}
        whole["versions"] = [version for version in whole["versions"] if names.version_key(version) in kept]
    content = leaf.encode(whole)
    return draft._replace(content=content, files=leaf.files(content), invalid=invalid)


def _concerns(file: str, asked: Asked) -> bool:
    """Whether an invalid file is to be reported: if only files of locks are asked for, others would not be kept anyway."""
    return asked.whole or bool(asked.needs) or file in asked.files


class _Sources(Mapping[str, Digest]):
    """Sources, each made when it is looked up: there may be 700,000."""

    def __init__(self, sources: Mapping[str, Digest], make: Callable[[str, Digest], Digest]) -> None:
        self._sources = sources
        self._make = make

    def __getitem__(self, name: str) -> Digest:
        return self._make(name, self._sources[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)
