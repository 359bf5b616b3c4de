"""Sizes, durations and rates as people write them, and back.

Sizes are powers of 1000 when read (`2 GB`), and powers of 1024 with one letter when printed (`1.23T`), because
the tunasync job runner reads `Total size is 1.23T` in that form.
"""

import re
from datetime import timedelta

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGTP]?)(i?)B?\s*")
_DURATION = re.compile(r"\s*(\d+)\s*(s|m|h|d|w)\s*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: more than this no disk has, and no file offset can say
_MOST_BYTES = 2**63 - 1
#: a longer time can't be waited for, nor taken off a date
_LONGEST = timedelta(days=36500)


def parse_size(text: str) -> int:
    """Bytes of `500`, `20kB`, `1.5 GB`, `2GiB`. Raises ValueError."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no size; write for example 500MB or 2GiB")
    number, prefix, binary = found.groups()
    count = float(number) * (1024 if binary else 1000) ** " KMGTP".index(prefix.upper() or " ")
    if count > _MOST_BYTES:
        raise ValueError(f"{_short(text)!r} is more than any disk has")
    return int(count)


def parse_duration(text: str) -> timedelta:
    """`90s`, `15m`, `24h`, `30d`, `2w`. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no duration; write for example 90s, 15m, 24h, 30d or 2w")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"{_short(text)!r} is over 100 years; write at most {_LONGEST.days}d")
    return timedelta(seconds=seconds)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:36]}..."


def size(count: int) -> str:
    """Bytes for people and for tunasync: `0`, `812`, `1.50K`, `1.23T`."""
    if count < 1024:
        return str(count)
    value = float(count)
    for letter in "KMGTP":
        value /= 1024
        if value < 1024 or letter == "P":
            break
    return f"{value:.2f}{letter}"


def span(seconds: float) -> str:
    """A time for people, in whole units, the largest of which it has two: `0s`, `90m`, `3d`."""
    whole = max(int(seconds), 0)
    for letter, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * length:
            return f"{whole // length}{letter}"
    return f"{whole}s"


def files(count: int, stated: int) -> str:
    """Files that are to be fetched; stated: their bytes, as far as upstream states them: `2 files, 1.50K`."""
    return f"{plural(count, 'file')}, {size(stated) if stated or not count else 'sizes not stated'}"


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
