"""Comparing two snapshots, by digest as far as possible: only leaves that differ are read."""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, get_args

import msgspec

from ..digests import Digest
from ..ecosystem import Ecosystem
from ..ecosystem.environments import Environment
from ..store.directories import DirectoryReader
from ..store.records import Record, place_of
from ..store.store import Store
from .which import Lack, directories_of, lacks


class Differences(msgspec.Struct, kw_only=True):
    """What differs between two snapshots: repo, directory and name of each file, sorted.

    That is its path below a snapshot, but for Python projects.
    """

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


What = Literal["added", "removed", "changed"]
WHAT: tuple[What, ...] = get_args(What)


class NameChange(msgspec.Struct, frozen=True, kw_only=True):
    """A package that differs between two snapshots."""

    #: path of the repo, and of the directory below it, which is empty if the repo is one
    repo: str
    directory: str
    name: str
    what: What


def names(store: Store, old: Record, new: Record, repos: Collection[str]) -> list[NameChange]:
    """The packages that differ between two records, in these repos, by repo, directory and name.

    Of a directory no bucket is read but those that differ, and no leaf. Raises DamagedError.
    """
    found = []
    for path, directory, was, now in _differing(store, old, new, repos):
        for name, before, after in changed_names(was, now):
            what: What = "changed" if before and after else "added" if after else "removed"
            found.append(NameChange(repo=path, directory=directory, name=name, what=what))
    return found


def changed_names(
    old: DirectoryReader | None, new: DirectoryReader | None
) -> Iterator[tuple[str, Digest | None, Digest | None]]:
    """The names whose leaves differ between two directories, sorted, each with these leaves: None where no file is listed.

    Raises DamagedError.
    """
    one, other = (reader.document.buckets if reader else () for reader in (old, new))
    if old and new and len(one) == len(other):
        places = [place for place, (was, now) in enumerate(zip(one, other, strict=True)) if was != now]
        before, after = (
            {name: leaf for place in places for name, leaf in reader.bucket(place).listing.items()} for reader in (old, new)
        )
    else:
        before, after = old.listing if old else {}, new.listing if new else {}
    for name in sorted({**before, **after}):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _differing(
    store: Store, old: Record, new: Record, repos: Collection[str]
) -> Iterator[tuple[str, str, DirectoryReader | None, DirectoryReader | None]]:
    """The directories that differ: repo, name, and the old and the new state of each."""
    for path in sorted(repos):
        before, after = old.repos.get(path), new.repos.get(path)
        for name in sorted({*(before.directories if before else ()), *(after.directories if after else ())}):
            was = before.directories.get(name) if before else None
            now = after.directories.get(name) if after else None
            if was is None or now is None or was.digest != now.digest:
                one, other = (store.metadata.directory(state.blob) if state else None for state in (was, now))
                yield path, name, one, other


def records(store: Store, ecosystems: Mapping[str, Ecosystem], old: Record, new: Record, repos: Collection[str]) -> Differences:
    """The files that differ between two records, in these repos."""
    found = Differences(old=old.id, new=new.id)
    for path, name, was, now in _differing(store, old, new, repos):
        # a kind that is unknown is told at once
        one, other = (ecosystems[reader.document.kind] if reader else None for reader in (was, now))
        for _, before, after in changed_names(was, now):
            leaves, place = ((one, before), (other, after)), place_of(path, name)
            old_files, new_files = (_files(store, ecosystem, leaf, place) for ecosystem, leaf in leaves)
            _note(old_files, new_files, found)
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
    """{repo, directory and name: its record} of what a record has of an environment, and what it lacks of it."""
    directories = directories_of(store, record, environment.kind)
    have = environment.find({place: reader for place, reader in directories.items() if place[0] in repos})
    files = {at: held.record for alike in have.files.values() for at, held in alike.items()}
    named = {f"{place_of(repo, directory)}/{file}": record for (repo, directory, file), record in files.items()}
    return dict(sorted(named.items())), lacks(have.missing)


def _note(old: Mapping[str, bytes], new: Mapping[str, bytes], found: Differences) -> None:
    """Note what differs between {file: record} and {file: record}."""
    found.added += sorted(new.keys() - old.keys())
    found.removed += sorted(old.keys() - new.keys())
    found.changed += sorted(path for path in old.keys() & new.keys() if old[path] != new[path])


def _files(store: Store, ecosystem: Ecosystem | None, leaf: Digest | None, path: str) -> dict[str, bytes]:
    """{file: its record}, any change of which counts as one of the file: a hot-fix changes what is installed with it."""
    records = ecosystem.records(store.metadata.leaf(leaf)) if ecosystem and leaf else ()
    return {f"{path}/{file}": record for file, record in records}
