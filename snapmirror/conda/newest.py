"""What current_repodata.json lists, for conda's classic solver: the newest records, and what these need.

Of every name, the builds of the newest version that have the highest build number. Then, again and again until nothing is
missing: for each dependency of a kept record that no kept record fulfils, the newest records that fulfil it. No CEP defines
this; it is what conda-index does.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .leaf import SECTIONS, Record, Shard, texts
from .specs import Build, dependency


class _Listed(NamedTuple):
    section: str
    file: str
    record: Record
    build: Build


def reduce(shards: Iterable[Shard]) -> Iterator[Shard]:
    """Shards, one for each name, with only the records that current_repodata.json lists."""
    builds: dict[str, list[_Listed]] = {}
    for shard in shards:
        for section in SECTIONS:
            for file, record in (shard.get(section) or {}).items():
                build = Build.of(record)
                builds.setdefault(build.name, []).append(_Listed(section, file, record, build))
    kept: dict[str, list[_Listed]] = {name: _newest(found) for name, found in builds.items()}
    missing = {depend for found in kept.values() for one in found for depend in _depends(one)}
    seen: set[str] = set()
    while missing:
        seen |= missing
        added = [one for depend in sorted(missing) for one in _fulfil(depend, builds, kept)]
        missing = {depend for one in added for depend in _depends(one)} - seen
    for name in sorted(kept):
        reduced: Shard = {section: {} for section in SECTIONS}
        for one in kept[name]:
            reduced[one.section][one.file] = one.record
        yield reduced


def _newest(listed: Iterable[_Listed]) -> list[_Listed]:
    listed = list(listed)
    top = max(one.build.order for one in listed)
    return [one for one in listed if one.build.order == top]


def _fulfil(depend: str, listed: dict[str, list[_Listed]], kept: dict[str, list[_Listed]]) -> list[_Listed]:
    """Keep the newest records that fulfil a dependency, unless a kept record does. Returns those that were added."""
    spec = dependency(depend)
    name = spec.name if spec else None
    if spec is None or name not in listed or any(spec.matches(one.build) for one in kept[name]):
        return []
    fitting = [one for one in listed[name] if spec.matches(one.build)]
    added = _newest(fitting) if fitting else []
    kept[name] += added
    return added


def _depends(listed: _Listed) -> list[str]:
    return texts(listed.record.get("depends"))
