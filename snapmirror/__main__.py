"""Where a run begins, and ends: `snapmirror`, and `python -m snapmirror`."""

import contextlib
import os
import signal
import sys

#: loaded by who solves an environment: the solver has threads of its own
_SOLVER = "snapmirror.conda.solving"


def main() -> None:
    """Run the command line. What it is made of takes a moment to load, in which Ctrl-C ends without a word."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from .cli import main as run

    try:
        run()
    except SystemExit as ended:
        _end(ended)


def _end(ended: SystemExit) -> None:
    """End the process. Without Python's own end if the solver was at work: a thread of it that lets go of Python in that moment
    aborts the process, which then has another status.
    """
    if _SOLVER not in sys.modules:
        raise ended
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(int(ended.code or 0))


if __name__ == "__main__":
    main()
