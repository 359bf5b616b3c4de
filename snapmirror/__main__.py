"""Where a run begins, and ends: `snapmirror`, and `python -m snapmirror`."""

import os
import signal


def main() -> None:
    """Run the command line. What it is made of takes a moment to load, in which Ctrl-C ends without a word."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from .cli import end
    from .cli import main as run

    try:
        run()
    except SystemExit as ended:
        end(ended)


if __name__ == "__main__":
    main()
