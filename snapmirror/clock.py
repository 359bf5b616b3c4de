"""The one source of time. All times are UTC, in whole seconds; an instant is an aware `datetime`.

A snapshot id is an instant written as `20261120T010000Z`, so ids sort as times do.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

Clock = Callable[[], datetime]

_ID = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def now() -> datetime:
    """The present instant, cut to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def to_id(instant: datetime) -> str:
    """The id form of an instant: `20261120T010000Z`."""
    utc = instant.astimezone(UTC)
    return f"{utc.year:04}{utc:%m%dT%H%M%SZ}"  # "%Y" does not pad years before 1000, and ids sort as texts


def from_id(text: str) -> datetime | None:
    """The instant that an id names, or None if the text has not the form of an id or is no real time."""
    if not _ID.fullmatch(text):
        return None
    year, month, day, hour, minute, second = map(int, (text[:4], text[4:6], text[6:8], text[9:11], text[11:13], text[13:15]))
    try:  # strptime takes five times as long, and records come by thousands
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def parse_day(text: str) -> date | None:
    """The day of `2026-11-20`, or None if the text has not that form or is no real day."""
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def begin_of(day: date) -> datetime:
    """The first second of a UTC day."""
    return datetime.combine(day, time(), UTC)


def end_of(day: date) -> datetime:
    """The last second of a UTC day."""
    return datetime.combine(day, time(23, 59, 59), UTC)


def begun_somewhere(day: date, present: datetime) -> bool:
    """Whether a calendar day has begun in any time zone (the earliest is UTC+14)."""
    return day <= (present + timedelta(hours=14)).date()


def parse_time(text: str, *, begin: bool = False) -> datetime | None:
    """The instant of a TIME of the command line, an id or a day; None if it is neither.

    begin: whether a day means its first second, not its last
    """
    if day := parse_day(text):
        return begin_of(day) if begin else end_of(day)
    return from_id(text)


def from_seconds(seconds: int) -> datetime:
    """The instant so many seconds after 1970 began, at most the end of the year 9999: no date can be later."""
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), UTC)


def http_date(instant: datetime) -> str:
    """An instant as RFC 9110 section 5.6.7 writes it."""
    return instant.astimezone(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
