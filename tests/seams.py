"""What happens between two steps of a process: delays, a clock that jumps, a long pause, and faults of our own making.

A process that has `SNAPMIRROR_SEAMS` in its environment (see `forks` and `serve`) calls `install` before it does anything.
Its seams are where processes meet: rename, link, unlink, symlink, flock, and each commit of the index.
"""

import contextlib
import fcntl
import functools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

NAME = "SNAPMIRROR_SEAMS"
#: what a process says that stops
STOPPED = "stopped at a seam\n"
#: seconds, at most, at a seam
DELAY = 0.02


@dataclass
class Seams:
    """What is to happen in one process."""

    seed: int = 0
    #: of the seams at which it waits
    share: float = 0.3
    #: a file that holds by how many seconds the clock is wrong; it may change at any time
    clock: str = ""
    #: the seam at which it stops for `pause` seconds, as SIGSTOP stops it; 0 for none
    stop_at: int = 0
    pause: float = 0.0
    #: it stops at the seam whose path ends with this, not at one by its number
    stop_by: str = ""
    #: bytes of pages and documents that a server keeps at most, if not as many as it does by itself: so that what still grows
    #: when so many are there is no cache
    room: int = 0
    #: names of functions here that break the program
    broken: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What hands this to a process."""
        return {NAME: json.dumps(asdict(self))}


def install() -> None:
    """Have happen in this process what its environment says."""
    here = Seams(**json.loads(os.environ[NAME]))
    if here.clock:
        _jump(Path(here.clock))
    _change(here)
    chance, count, lock = random.Random(here.seed), 0, threading.Lock()

    def seam(path: object = "") -> None:
        nonlocal count
        with lock:
            count += 1
            stop = count == here.stop_at or bool(here.stop_by and str(path).endswith(here.stop_by))
            if stop:
                here.stop_by = ""
            wait = chance.random() * DELAY if chance.random() < here.share else 0
        if stop:
            _stop(here.pause)
        if wait:
            time.sleep(wait)

    for module, name, place in ((os, "rename", 1), (os, "link", 1), (os, "unlink", 0), (os, "symlink", 1), (fcntl, "flock", 0)):
        setattr(module, name, _with(getattr(module, name), seam, place))
    from snapmirror.store.index import Index

    begin = Index._transaction

    @contextlib.contextmanager
    def transaction(self: Index, *, write: bool = False) -> Iterator[Any]:
        with begin(self, write=write) as opened:
            yield opened
            if write:
                seam("commit")

    Index._transaction = transaction  # type: ignore[method-assign]


def _change(here: Seams) -> None:
    """Change the program as is asked for."""
    if here.room:
        from snapmirror.serve import bodies
        from snapmirror.store import directories

        bodies._ROOM = here.room
        directories._DECODED = directories._MOST_COUNTS = here.room >> 11  # a kilobyte or two each
    if here.broken:
        BROKEN[here.broken]()


def _with(real: Callable[..., Any], seam: Callable[[object], None], place: int) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*arguments: Any, **named: Any) -> Any:
        seam(arguments[place])
        return real(*arguments, **named)

    return call


def _stop(seconds: float) -> None:
    """Stop this process as SIGSTOP does; somebody else lets it go on."""
    os.write(2, STOPPED.encode())
    script = f"sleep {seconds}; kill -CONT {os.getpid()}"
    os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)
    os.kill(os.getpid(), signal.SIGSTOP)


def _jump(file: Path) -> None:
    """Read the clock as it is wrong."""
    from snapmirror import clock

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=float(file.read_text() or 0))

    clock.datetime = Wrong  # type: ignore[misc]


# What would go wrong if a line of the program were missing


def _mark_outside_the_lock() -> None:
    """gc takes for its mark what it has read ahead."""
    from snapmirror.store.mark import Mark

    real = Mark.add

    def once(self: Mark, start: Any) -> None:
        real(self, start)
        Mark.add = lambda *_: None  # type: ignore[method-assign]

    Mark.add = once  # type: ignore[method-assign]


def _no_registration() -> None:
    """A sync tells nobody what it is going to publish."""
    from snapmirror.store.syncing import Registration

    Registration.write = lambda *_: None  # type: ignore[method-assign]


def _no_rebase() -> None:
    """A sync seals other repos as they were when it began."""
    from snapmirror.store import seal
    from snapmirror.sync.engine import Sync

    run, carry, began = Sync.run, seal._carry, list[Any]()

    def first(self: Sync, repos: Any) -> Any:
        began.append(self._store.catalog())
        return run(self, repos)

    Sync.run = first  # type: ignore[method-assign]
    seal._carry = lambda store, catalog, *others: carry(store, began[0], *others)  # type: ignore[assignment]


BROKEN: dict[str, Callable[[], None]] = {
    "gc marks outside the lock": _mark_outside_the_lock,
    "a sync is not registered": _no_registration,
    "a sync does not rebase": _no_rebase,
}


def serve() -> None:
    """`python tests/seams.py serve ...`: `snapmirror` with seams, whose workers inherit them."""
    from snapmirror.cli import main

    install()
    main()


if __name__ == "__main__":
    serve()
