"""Selections (`[repo.select]`): the readings of repos that are selected together, cut down to what is kept.

What is kept is found for each platform by itself, in its subdir and noarch, of the repo and of those to which
`dependencies_from` leads.
noarch keeps what any platform needs.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from blake3 import blake3

from ..digests import Digest
from ..errors import SelectionError
from ..readings import Draft, Reading, Selection
from . import leaf, wanted
from .closure import Closure, Shelf, Wanted
from .revisions import counted, has_counts, time_of
from .rules import Rules, Specs
from .settings import CondaRepo, Select

#: part of the source digests of leaves that are not kept whole; raise its number when other leaves come of the same
_SALT = b"selected 1\0"


def select(
    repos: Mapping[str, CondaRepo], readings: Mapping[tuple[str, str], Reading], present: datetime
) -> dict[tuple[str, str], Selection]:
    """See Ecosystem.select. Readings of repos without a selection come back whole.

    Raises SelectionError for a selection that keeps nothing, for a file of `include_from` that can't be used, and for a lock
    that names what no repo has; UpstreamError.
    """
    selecting = {path: repo for path, repo in repos.items() if repo.select != Select()}
    sources = {path: _sources(path, repos) for path in selecting}
    shelves = {
        place: Shelf(place[0], place[1], reading, Rules(repos[place[0]].select, present))
        for place, reading in readings.items()
        if place[0] in selecting or any(place[0] in found for found in sources.values())
    }
    files = wanted.IncludeFiles()
    for path, repo in selecting.items():
        own, others = ([shelf for shelf in shelves.values() if shelf.repo in paths] for paths in ([path], sources[path]))
        if own:
            _keep(repo, own, others, files)
    files.verify(shelves.values())
    for path, repo in selecting.items():
        own = [shelf for shelf in shelves.values() if shelf.repo == path]
        if any(shelf.names for shelf in own) and not any(shelf.kept for shelf in own) and not repo.select.allow_empty:
            raise SelectionError(path, "keeps nothing of what upstream lists; change it, or set allow_empty = true")
    tied = any(_ties(repo.select) for repo in repos.values())
    kept = {
        place: Selection(SelectedReading(shelf), shelf.counts(), tied)
        for place, shelf in shelves.items()
        if shelf.repo in selecting
    }
    return {place: kept.get(place) or Selection(reading, {}) for place, reading in readings.items()}


def _sources(path: str, repos: Mapping[str, CondaRepo]) -> list[str]:
    """Paths of the repos that what a repo keeps may depend on: those that it names, and those that these name in turn."""
    found = [path]
    for one in found:
        found += [name for name in repos[one].select.dependencies_from if name not in found]
    return found[1:]


def _ties(select: Select) -> bool:
    """Whether what is kept of a subdir depends on noarch, or the other way round."""
    return bool(select.with_dependencies or select.include_from or select.newest or select.newest_builds)


def _keep(repo: CondaRepo, own: list[Shelf], others: list[Shelf], files: wanted.IncludeFiles) -> None:
    """Note on the shelves what a repo's selection keeps. own, others: the shelves of this repo, and of its sources"""
    included = files.read(repo)
    specs = Specs([*repo.select.include, *included.specs])
    asked = Wanted(specs, included.files, repo.select.with_dependencies or bool(included.specs))
    for subdir in [one for one in repo.subdirs if one != "noarch"] or ["noarch"]:  # which is no platform of its own
        platform = (subdir, "noarch")
        Closure(
            [shelf for shelf in own if shelf.directory in platform],
            [shelf for shelf in others if shelf.directory in platform],
            asked,
        ).run()


class SelectedReading(Reading):
    """A reading with only the files that are kept. Fulfils `readings.Reading`."""

    def __init__(self, shelf: Shelf) -> None:
        reading = shelf.reading
        self.bases, self.extra = reading.bases, reading.extra
        self.document, self.validators = reading.document, reading.validators
        self.info: dict[str, Any] = reading.info
        if has_counts(reading.info):
            self.info = counted(reading.info, [time_of(record.stated) for record in shelf.all_kept() if record.in_v3])
        if isinstance(signed := reading.extra.get("signatures"), dict):  # of records, by file name (CEP 36, appendix A)
            kept = {file for files in shelf.kept.values() for file in files}
            self.extra = {**reading.extra, "signatures": {file: signed[file] for file in signed if file in kept}}
        #: {name: files that are kept}
        self._kept = {name: files for name in shelf.drafts if (files := shelf.kept.get(name.lower()))}
        self._drafts = {name: shelf.drafts[name] for name in self._kept}
        #: invalid records of names of which something is kept are told by their drafts; those of other names don't matter
        self.invalid: Mapping[str, str] = {}
        self.sources: Mapping[str, Digest] = {name: self._source(reading.sources.get(name), name) for name in self._kept}

    def _source(self, source: Digest | None, name: str) -> Digest:
        """A leaf is a function of what it is read from and of what is kept of that."""
        if source is None:  # upstream has no such name in a file's name, only in records (see flat)
            source = blake3(_SALT + self._drafts[name].content).digest()
        if not self._dropped(name):
            return source
        return blake3(_SALT + source + "\0".join(sorted(self._kept[name])).encode()).digest()

    def _dropped(self, name: str) -> set[str]:
        return {file.name for file in self._drafts[name].files} - self._kept[name]

    def drafts(self, names: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts."""
        for name in names:
            whole = self._drafts[name]
            dropped = self._dropped(name)
            content = leaf.settle(whole.content, {}, dropped) if dropped else whole.content
            files = tuple(file for file in whole.files if file.name not in dropped)
            yield Draft(name, content, files, self.sources[name] if whole.source else None, whole.invalid)
