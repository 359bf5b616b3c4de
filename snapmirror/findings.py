"""What a look at the machine, the store or an upstream has found; `snapmirror doctor` prints it."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at."""

    #: what was looked at, in few words that stay the same: `hard links`
    check: str
    #: fine; worth a thought; something that snapmirror does can't work
    result: Literal["ok", "warn", "fail"]
    #: what was found
    found: str
    #: what to do about it; empty if nothing
    advice: str = ""
