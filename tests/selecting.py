"""What a selection keeps, computed as slowly and plainly as its definition in snapmirror.toml(5) reads."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from rattler import BuildString, MatchSpec, PackageRecord, Version

Record = dict[str, Any]
#: {subdir: {file: record}}
Channel = Mapping[str, Mapping[str, Record]]


def kept(channel: Channel, platforms: Iterable[str], **select: Any) -> dict[str, set[str]]:
    """The files that are kept of each subdir, for `include`, `exclude`, `newest`, `newest_builds` and `with_dependencies`."""
    found: dict[str, set[str]] = {subdir: set() for subdir in channel}
    for platform in platforms:
        records = {(subdir, file): channel[subdir][file] for subdir in {platform, "noarch"} for file in channel[subdir]}
        for subdir, file in _kept(records, **select):
            found[subdir].add(file)
    return found


def _kept(
    records: dict[Any, Record],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    newest: int = 0,
    newest_builds: int = 0,
    with_dependencies: bool = False,
) -> set[Any]:
    include, exclude = list(include), list(exclude)
    allowed = {at: record for at, record in records.items() if not any(_means(spec, record) for spec in exclude)}
    by_name: dict[str, dict[Any, Record]] = {}
    for at, record in allowed.items():
        by_name.setdefault(record["name"], {})[at] = record
    included = {at: record for at, record in allowed.items() if not include or any(_means(spec, record) for spec in include)}
    result = set()
    for name in {record["name"] for record in included.values()}:
        result |= _newest({at: record for at, record in included.items() if record["name"] == name}, newest, newest_builds)
    named = {record["name"] for record in records.values() if any(_names(spec, record["name"]) for spec in include)}
    met = set()
    while with_dependencies:
        more = set()
        for at in result:
            for name in {spec.split()[0] for spec in records[at].get("depends", [])} - named:
                specs = [
                    spec for key in ("depends", "constrains") for spec in records[at].get(key, []) if spec.split()[0] == name
                ]
                if (name, *specs) in met:
                    continue
                met.add((name, *specs))
                fulfil = {
                    other: record
                    for other, record in by_name.get(name, {}).items()
                    if all(_means(spec, record) for spec in specs)
                }
                more |= _newest(fulfil, newest, newest_builds)
        if more <= result:
            break
        result |= more
    return result


def _newest(records: dict[Any, Record], versions: int, builds: int) -> set[Any]:
    if versions:
        top = sorted({Version(record["version"]) for record in records.values()}, reverse=True)[:versions]
        records = {at: record for at, record in records.items() if Version(record["version"]) in top}
    if builds:
        numbers: dict[Version, set[int]] = {}
        for record in records.values():
            numbers.setdefault(Version(record["version"]), set()).add(record["build_number"])
        records = {
            at: record
            for at, record in records.items()
            if record["build_number"] in sorted(numbers[Version(record["version"])], reverse=True)[:builds]
        }
    return set(records)


_spec = functools.cache(functools.partial(MatchSpec, exact_names_only=False))


@functools.cache
def _package(name: str, version: str, build: str, build_number: int, subdir: str) -> PackageRecord:
    return PackageRecord(name, version, BuildString(build), build_number, subdir)


def _means(spec: str, record: Record) -> bool:
    package = _package(*(record[key] for key in ("name", "version", "build", "build_number", "subdir")))
    return bool(_spec(spec).matches(package))


def _names(spec: str, name: str) -> bool:
    return _means(spec.split()[0].split("=")[0].split(">")[0].split("<")[0], _record(name))


def _record(name: str) -> Record:
    return {"name": name, "version": "1", "build": "0", "build_number": 0, "subdir": "noarch"}
