"""Comparing two snapshots, by digest as far as possible: only leaves that differ are read."""

from collections.abc import Collection, Mapping

import msgspec

from ..digests import Digest
from ..ecosystem import Ecosystem
from ..ecosystem.environments import Environment
from ..store.directories import DirectoryReader
from ..store.records import Record, place_of
from ..store.store import Store
from .which import Lack, directories_of, lacks


class Differences(msgspec.Struct, kw_only=True):
    """What differs between two snapshots, as paths of files below a snapshot, sorted."""

    #: their ids
    old: str
    new: str
    added: list[str] = []
    removed: list[str] = []
    #: the same name with other bytes, or with another record
    changed: list[str] = []
    #: of an environment: what the snapshots lack of it
    missing_old: list[Lack] = []
    missing_new: list[Lack] = []


def records(store: Store, ecosystems: Mapping[str, Ecosystem], old: Record, new: Record, repos: Collection[str]) -> Differences:
    """The files that differ between two records, in these repos."""
    found = Differences(old=old.id, new=new.id)
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


def environments(store: Store, environment: Environment, old: Record, new: Record, repos: Collection[str]) -> Differences:
    """The files that differ between what two records have of an environment, in these repos: of a lock its files, else what
    would be installed.
    """
    found = Differences(old=old.id, new=new.id)
    one, found.missing_old = _installed(store, environment, old, repos)
    other, found.missing_new = _installed(store, environment, new, repos)
    _note(one, other, found)
    return found


def _installed(
    store: Store, environment: Environment, record: Record, repos: Collection[str]
) -> tuple[dict[str, bytes], list[Lack]]:
    """{path: its record} of what a record has of an environment, and what it lacks of it."""
    directories = directories_of(store, record, environment.kind)
    have = environment.find({place: reader for place, reader in directories.items() if place[0] in repos})
    files = {at: held.record for alike in have.files.values() for at, held in alike.items()}
    named = {f"{place_of(repo, directory)}/{file}": record for (repo, directory, file), record in files.items()}
    return dict(sorted(named.items())), lacks(have.missing)


def _note(old: Mapping[str, bytes], new: Mapping[str, bytes], found: Differences) -> None:
    """Note what differs between {path: record} and {path: record}."""
    found.added += sorted(new.keys() - old.keys())
    found.removed += sorted(old.keys() - new.keys())
    found.changed += sorted(path for path in old.keys() & new.keys() if old[path] != new[path])


def _directory(
    ecosystem: Ecosystem, old: DirectoryReader | None, new: DirectoryReader | None, path: str, found: Differences
) -> None:
    before, after = old.leaves if old else {}, new.leaves if new else {}
    for name in sorted({**before, **after}):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        _note(_files(ecosystem, old, was, path), _files(ecosystem, new, now, path), found)


def _files(ecosystem: Ecosystem, reader: DirectoryReader | None, leaf: Digest | None, path: str) -> dict[str, bytes]:
    """{path: its record}, any change of which counts as one of the file: a hot-fix changes what is installed with it."""
    if reader is None or leaf is None:
        return {}
    return {f"{path}/{file}": record for file, record in ecosystem.records(reader.read(leaf))}
