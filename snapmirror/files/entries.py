"""What a listing says of one file, whatever the format of the listing."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: 2026-11-20 01:00[:30], 2026-Nov-20 01:00, 20-Nov-2026 01:00, 2026-11-20T01:00:30Z; the time may be missing
DATE = re.compile(
    r"(?<![\w-])(?:(?P<year>\d{4})-(?P<month>\d\d|[A-Z][a-z]{2})-(?P<day>\d\d)|(?P<day2>\d\d)-(?P<month2>[A-Z][a-z]{2})-(?P<year2>\d{4}))"
    r"(?:[T\s]\s*(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?(?:Z|\s*UTC|\s*GMT|\+00:?00)?)?(?![\w:])"
)


class Entry(NamedTuple):
    """One file of a listing."""

    #: path below the repo
    name: str
    #: bytes, if stated exactly
    size: int | None = None
    #: seconds since 1970 of upstream's last change
    modified: int | None = None
    sha256: bytes | None = None
    md5: bytes | None = None
    #: absolute, where the listing states it
    url: str | None = None
    #: bytes, if stated in rounded units (`1.5M`)
    about: int | None = None
    #: all that the listing says of the file; while it is the same, the file counts as unchanged
    text: str = ""

    def contradicts(self, size: int) -> bool:
        """Whether a size in bytes can't be the one that the listing states, exactly or rounded."""
        if self.size is not None:
            return size != self.size
        return self.about is not None and not self.about / 2 <= size <= self.about * 2 + 1024

    @property
    def says_something(self) -> bool:
        """Whether the listing states more than the name."""
        return any(value is not None for value in (self.size, self.modified, self.sha256, self.md5))


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of the first date in a text, read as UTC; None if there is none, or if no calendar has it."""
    found = DATE.search(text)
    return seconds(found) if found else None


def seconds(found: "re.Match[str]") -> int | None:
    """Seconds since 1970 of a match of `DATE`, read as UTC; None if no calendar has that date."""
    part = found.groupdict()
    year, month, day = part["year"] or part["year2"], part["month"] or part["month2"], part["day"] or part["day2"]
    if not month.isdigit():
        if month.lower() not in _MONTHS:
            return None
        month = str(_MONTHS.index(month.lower()) + 1)
    hour, minute, second = (int(part[unit] or 0) for unit in ("hour", "minute", "second"))
    try:
        return max(0, int(datetime(int(year), int(month), int(day), hour, minute, second, tzinfo=UTC).timestamp()))
    except ValueError:
        return None
