"""The counts in `info.repodata_revisions` (CEP 48): they must be those of the records of `v3` that the very document lists."""

from collections.abc import Iterator, Sequence
from typing import Any

from .leaf import Shard

#: the keys that count; upstream need not state any of them
_COUNTS = ("n_packages", "oldest", "newest")


def has_counts(info: dict[str, Any]) -> bool:
    """Whether the `info` of a subdir counts the records of `v3`."""
    revisions = info.get("repodata_revisions")
    stated = revisions.get("v3") if isinstance(revisions, dict) else None
    return isinstance(stated, dict) and any(stated.get(key) is not None for key in _COUNTS)


def time_of(record: Any) -> int | None:
    """When upstream first listed a record, else, as indexers do, when it was built; None if it says neither.

    record: with a method `get`
    """
    stated = (record.get(key) for key in ("indexed_timestamp", "timestamp"))
    return next((time for time in stated if isinstance(time, int)), None)


def times(shard: Shard) -> Iterator[int | None]:
    """The `time_of` every record of `v3`."""
    for records in (shard.get("v3") or {}).values():
        yield from (time_of(record) if isinstance(record, dict) else None for record in records.values())


def counted(info: dict[str, Any], listed: Sequence[int | None]) -> dict[str, Any]:
    """An `info` of which whatever it counts is right for a document. listed: the `times` of the records of `v3` in that"""
    if not has_counts(info):
        return info
    known = [time for time in listed if time is not None]
    right = {"n_packages": len(listed), "oldest": min(known, default=None), "newest": max(known, default=None)}
    revision = info["repodata_revisions"]["v3"]
    revision = {key: value if value is None else right.get(key, value) for key, value in revision.items()}
    return {**info, "repodata_revisions": {**info["repodata_revisions"], "v3": revision}}
