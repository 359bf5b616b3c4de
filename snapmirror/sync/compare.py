"""Comparing two snapshots, by digest as far as possible: only leaves that differ are read."""

from collections.abc import Collection, Mapping
from typing import TypedDict

from ..digests import Digest
from ..ecosystem import Ecosystem
from ..store.directories import DirectoryReader
from ..store.records import Record, place_of
from ..store.store import Store


class Differences(TypedDict):
    """Paths of files below a snapshot, sorted."""

    added: list[str]
    removed: list[str]
    #: the same name with other bytes, or with another record
    changed: list[str]


def records(store: Store, ecosystems: Mapping[str, Ecosystem], old: Record, new: Record, repos: Collection[str]) -> Differences:
    """The files that differ between two records, in these repos."""
    found: Differences = {"added": [], "removed": [], "changed": []}
    for path in sorted(repos):
        before, after = old.repos.get(path), new.repos.get(path)
        for name in sorted({*(before.directories if before else ()), *(after.directories if after else ())}):
            was = before.directories.get(name) if before else None
            now = after.directories.get(name) if after else None
            if was and now and was.digest == now.digest:
                continue
            one, other = (store.metadata.directory(state.blob) if state else None for state in (was, now))
            kind = (other or one).document.kind  # type: ignore[union-attr]
            _directory(ecosystems[kind], one, other, place_of(path, name), found)
    return found


def _directory(
    ecosystem: Ecosystem, old: DirectoryReader | None, new: DirectoryReader | None, path: str, found: Differences
) -> None:
    before, after = old.leaves if old else {}, new.leaves if new else {}
    for name in sorted({**before, **after}):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        one, other = _files(ecosystem, old, was), _files(ecosystem, new, now)
        found["added"] += [f"{path}/{file}" for file in sorted(other.keys() - one.keys())]
        found["removed"] += [f"{path}/{file}" for file in sorted(one.keys() - other.keys())]
        found["changed"] += [f"{path}/{file}" for file in sorted(one.keys() & other.keys()) if one[file] != other[file]]


def _files(ecosystem: Ecosystem, reader: DirectoryReader | None, leaf: Digest | None) -> dict[str, bytes]:
    """{file: its record}, any change of which counts as one of the file: a hot-fix changes what is installed with it."""
    if reader is None or leaf is None:
        return {}
    return dict(ecosystem.records(reader.read(leaf)))
