"""What a selection keeps: the included records, and all that they need, over several directories together.

    included   the records that an `include` spec matches (all, if there is none), of each name the newest
    needed     for every kept record, and every name that it depends on: the records that fulfil all its specs of that name,
               those in `constrains` too; of these the newest. Of a name that an `include` spec matches, only records that
               the spec matches as well. What is asked under a condition (`when`) or for an extra (`extra_depends`) is a need
               by itself, with the specs that hold in any case: two conditions, or two extras, may exclude each other.

"The newest" are those that `newest` and `newest_builds` leave (see Rules.aged). They are counted for each need by itself: so
two records that need overlapping ranges of a third can be installed together, for the newest of the lower range is in both.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ..readings import Draft, Reading
from .listed import Listed, listed
from .names import leaf_of
from .rules import RULES, Rules, Specs
from .specs import Locked, allows, dependency

#: {name: specs}
_Texts = dict[str, list[str]]

_NAME = re.compile(r"\s*(?:[^\s:\[]*::)?([A-Za-z0-9_.\-]+)").match


class Shelf:
    """One directory that is selected from: the records that were read so far, and which of them are kept.

    Names are in lower case here, as conda compares them.
    """

    def __init__(self, repo: str, directory: str, reading: Reading, rules: Rules) -> None:
        self.repo = repo
        self.directory = directory
        self.reading = reading
        self.rules = rules
        #: by the name as upstream has it
        self.drafts: dict[str, Draft] = {}
        #: {name: files that are kept}
        self.kept: dict[str, set[str]] = {}
        #: {record: the rule that drops it}
        self.dropped: dict[Listed, str] = {}
        self._records: dict[str, list[Listed]] = {}
        #: {name: as upstream writes it, once or in several ways}
        self._names: dict[str, list[str]] = {}
        for name in reading.sources:
            self._names.setdefault(name.lower(), []).append(name)

    @property
    def names(self) -> Collection[str]:
        """Every name in it, read or not."""
        return self._names.keys()

    def read(self, names: Iterable[str]) -> None:
        """Read the records of names, if these are in it and were not read yet. Raises UpstreamError."""
        wanted = [found for name in names for found in self._names.get(name, ()) if found not in self.drafts]
        for draft in self.reading.drafts(wanted) if wanted else ():
            self.drafts[draft.name] = draft
            self._names.setdefault(draft.name.lower(), [draft.name])  # a record may have another name than its file
            records = list(listed(draft.content)) if draft.content else []
            self.dropped |= self.rules.dropped(records)
            left = [record for record in records if record not in self.dropped]
            self._records.setdefault(draft.name.lower(), []).extend(left)

    def records(self, name: str) -> list[Listed]:
        """The records of a name that was read, without those that a rule of single records drops."""
        return self._records.get(name, [])

    def all_kept(self) -> Iterator[Listed]:
        """Every record that is kept."""
        for name, files in self.kept.items():
            yield from (record for record in self.records(name) if record.file in files)

    def keep(self, name: str, record: Listed) -> None:
        """Keep a record."""
        self.kept.setdefault(name, set()).add(record.file)
        self.dropped.pop(record, None)

    def drop(self, name: str, record: Listed, rule: str) -> None:
        """Note the rule that drops a record, unless the record is kept for another reason."""
        if record.file not in self.kept.get(name, ()):
            self.dropped.setdefault(record, rule)

    def counts(self) -> dict[str, int]:
        """How many records each rule has dropped; `include`: those that nobody asked for; `names`: names that nobody read."""
        rules = Counter(self.dropped.values())
        for name, records in self._records.items():
            kept = self.kept.get(name, ())
            rules["include"] += sum(record.file not in kept and record not in self.dropped for record in records)
        rules["names"] = len(self._names) - len(self._records)
        return {rule: rules[rule] for rule in (*RULES, "names") if rules[rule]}


class Wanted(NamedTuple):
    """What one repo's selection asks for."""

    #: none: everything, or the files alone if there are some
    include: Specs
    #: {directory: {file: its hashes}}, to be kept exactly
    files: Mapping[str, Mapping[str, tuple[Locked, ...]]]
    #: whether also what kept records depend on
    dependencies: bool


class _Need(NamedTuple):
    """What a record asks of another name."""

    name: str
    specs: tuple[str, ...]


class Closure:
    """Finds the records that one repo's selection keeps for one platform."""

    def __init__(self, own: Sequence[Shelf], others: Sequence[Shelf], wanted: Wanted) -> None:
        """own: the repo's shelves; others: those of other repos, which dependencies may come from too"""
        self._own = own
        self._shelves = [*own, *others]
        self._wanted = wanted
        self._seen: set[_Need] = set()
        #: for this platform; shelves of noarch also have what other platforms keep
        self._kept: set[Listed] = set()

    def run(self) -> None:
        """Note on the shelves what is included, and what that needs. Raises UpstreamError."""
        kept = [*self._keep_files(), *self._include()]
        while kept and self._wanted.dependencies:
            needs = {need for record in kept for need in _needs(record)} - self._seen
            self._seen |= needs
            names = sorted({need.name for need in needs})
            for shelf in self._shelves:
                shelf.read(names)
            kept = [record for need in sorted(needs) for record in self._fulfil(need)]

    def _keep_files(self) -> Iterator[Listed]:
        for shelf in self._own:
            files = self._wanted.files.get(shelf.directory, {})
            by_name: dict[str, list[str]] = {}
            for file in files:
                by_name.setdefault(leaf_of(file).lower(), []).append(file)
            shelf.read(by_name)
            for name, found in by_name.items():
                for record in shelf.records(name):
                    if record.file in found and allows(files[record.file], record.sha256, record.md5):
                        yield from self._keep(name, shelf, record)

    def _include(self) -> Iterator[Listed]:
        include = self._wanted.include
        if not include and self._wanted.files:
            return
        names = {name for shelf in self._own for name in (include.names(shelf.names) if include else shelf.names)}
        for shelf in self._own:
            shelf.read(sorted(names))
        if not include:
            names = {name for shelf in self._own for name in shelf.names}
        for name in sorted(names):
            found = {shelf: [one for one in shelf.records(name) if not include or include.match(one)] for shelf in self._own}
            yield from self._keep_newest(name, found)

    def _fulfil(self, need: _Need) -> Iterator[Listed]:
        specs = [spec for text in need.specs if (spec := dependency(text))]
        if len(specs) < len(need.specs):
            return  # one of them is no spec, and nothing fulfils that
        bound = self._wanted.include.of(need.name)
        fitting = {
            shelf: [
                record
                for record in shelf.records(need.name)
                if all(spec.matches(record.build) for spec in specs)
                and (not bound or any(spec.matches(record.build) for spec in bound))
            ]
            for shelf in self._shelves
            if not (bound and shelf in self._own)  # of that name these keep what is included, and no more
        }
        for repo in dict.fromkeys(shelf.repo for shelf in fitting):
            yield from self._keep_newest(need.name, {shelf: found for shelf, found in fitting.items() if shelf.repo == repo})

    def _keep_newest(self, name: str, found: Mapping[Shelf, Sequence[Listed]]) -> Iterator[Listed]:
        """Keep the newest of the records of one name in one repo. Yields those that this platform did not keep yet."""
        rules = next(iter(found)).rules
        aged = rules.aged([record for records in found.values() for record in records])
        for shelf, records in found.items():
            for record in records:
                if record in aged:
                    shelf.drop(name, record, aged[record])
                else:
                    yield from self._keep(name, shelf, record)

    def _keep(self, name: str, shelf: Shelf, record: Listed) -> Iterator[Listed]:
        shelf.keep(name, record)
        if record not in self._kept:
            self._kept.add(record)
            yield record


def _needs(record: Listed) -> Iterator[_Need]:
    always, conditional = _by_name(record.depends)
    limits, _ = _by_name(record.constrains)  # one with a condition limits only what is installed under it
    for name, texts in always.items():
        if name in limits:
            texts.extend(limits[name])
        yield _Need(name, tuple(texts))
    parts = [_by_name(texts) for texts in record.extras.values()]
    if conditional:
        parts.append(({}, conditional))
    for own, whens in parts:
        others = {name: [*(always.get(name) or limits.get(name, [])), *own.get(name, [])] for name in own.keys() | whens}
        yield from (_Need(name, tuple(others[name])) for name in own)
        yield from (_Need(name, (*others[name], text)) for name, texts in whens.items() for text in texts)


def _by_name(texts: Iterable[str]) -> tuple[_Texts, _Texts]:
    """Specs by the name that they mean: those that hold in any case, and those with a condition."""
    always: _Texts = {}
    conditional: _Texts = {}
    for text in texts:
        name, is_conditional = _name_in(text)
        if name:
            (conditional if is_conditional else always).setdefault(name, []).append(text)
    return always, conditional


@lru_cache(100_000)
def _name_in(text: str) -> tuple[str, bool]:
    """The name in a dependency, empty if there is none, and whether that has a condition.

    One without brackets is not parsed for this: there may be no records of that name.
    """
    found = _NAME(text)
    spec = dependency(text) if "[" in text else None
    return found[1].lower() if found else "", spec is not None and spec.is_conditional
