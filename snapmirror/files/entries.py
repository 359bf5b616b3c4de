"""What a listing says of one file, whatever the format of the listing."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*"
_TIME = r"(?P<hour{0}>\d\d):(?P<minute{0}>\d\d)(?::(?P<second{0}>\d\d)(?:\.\d+)?)?"
#: 2026-11-20 01:00[:30], 2026-Nov-20 01:00, 20-Nov-2026 01:00, 2026-11-20T01:00:30Z, 20 Nov 2026 01:00:30 GMT,
#: Nov 20, 2026 01:00:30, Nov 20 01:00:30 UTC 2026; the time may be missing. One with AM or PM is not read, only its day
DATE = re.compile(
    rf"(?<![\w-])(?:(?P<year>\d{{4}})-(?P<month>\d\d|{_MONTH})-(?P<day>\d\d)"
    rf"|(?P<day2>\d\d?)[-\s](?P<month2>{_MONTH})[-\s](?P<year2>\d{{4}})"
    rf"|(?P<month3>{_MONTH})\s+(?P<day3>\d\d?),?\s+(?:{_TIME.format(3)}\s+(?:[A-Z]{{3,5}}\s+)?)?(?P<year3>\d{{4}}))"
    rf"(?:[T\s]\s*{_TIME.format('')}(?!\s*[AaPp][Mm])(?:Z|\s*UTC|\s*GMT|\+00:?00)?)?(?![\w:])"
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
    def shows_changes(self) -> bool:
        """Whether the listing looks otherwise once the file has changed: by a hash or a date. A size may stay as it is."""
        return any(value is not None for value in (self.modified, self.sha256, self.md5))

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
    part = {name.rstrip("23"): stated for name, stated in found.groupdict().items() if stated}
    month = int(part["month"]) if part["month"].isdigit() else _MONTHS.index(part["month"][:3]) + 1
    hour, minute, second = (int(part.get(unit, 0)) for unit in ("hour", "minute", "second"))
    try:
        return max(0, int(datetime(int(part["year"]), month, int(part["day"]), hour, minute, second, tzinfo=UTC).timestamp()))
    except ValueError:
        return None
