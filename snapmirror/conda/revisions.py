"""The counts in `info.repodata_revisions` (CEP 48): whoever leaves records of `v3` out must count again."""

from collections.abc import Sequence
from typing import Any


def has_counts(info: dict[str, Any]) -> bool:
    """Whether the `info` of a subdir counts the records of `v3`."""
    revisions = info.get("repodata_revisions")
    return isinstance(revisions, dict) and isinstance(revisions.get("v3"), dict)


def recounted(info: dict[str, Any], timestamps: Sequence[object]) -> dict[str, Any]:
    """An `info` that counts records of `v3`, with the counts for these. timestamps: one for each record, whatever it is"""
    times = sorted(time for time in timestamps if isinstance(time, int))
    counted = {**info["repodata_revisions"]["v3"], "n_packages": len(timestamps)}
    counted.update({"oldest": times[0], "newest": times[-1]} if times else {})
    return {**info, "repodata_revisions": {**info["repodata_revisions"], "v3": counted}}
