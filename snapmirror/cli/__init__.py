"""The command line: one verb a file; options, wiring, printing.

Only this layer reads the environment and prints. Exit statuses are those of `errors`; see snapmirror(1).
"""

import os
import signal
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import SnapmirrorError
from . import adopt, check, client, deny, diff, forget, gc, init, pin, reindex, schedule, serve, snapshots, status, sync, tree
from .context import say

app = typer.Typer(
    name="snapmirror",
    help="A mirror with a memory: every sync seals an immutable, dated snapshot of conda channels, PyPI and installers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"snapmirror {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


app.command("init")(init.init)
app.command("sync")(sync.sync)
app.command("adopt")(adopt.adopt)
app.command("serve")(serve.serve)
app.command("client")(client.client)
app.command("schedule")(schedule.schedule)
app.command("status")(status.status)
app.command("snapshots")(snapshots.snapshots)
app.command("show")(snapshots.show)
app.command("diff")(diff.diff)
app.command("pin")(pin.pin)
app.command("unpin")(pin.unpin)
app.command("deny")(deny.deny)
app.command("allow")(deny.allow)
app.command("denied")(deny.denied)
app.command("forget")(forget.forget)
app.command("gc")(gc.gc)
app.command("check")(check.check)
app.command("reindex")(reindex.reindex)
app.command("tree")(tree.tree)


class _Interrupted(BaseException):
    """Ctrl-C; typer would turn a KeyboardInterrupt into a silent exit."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def main() -> None:
    """Run the command line; errors become one line on standard error and an exit status."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except SnapmirrorError as error:
        say(f"snapmirror: {error}")
        sys.exit(error.exit_status)
    except PermissionError as error:
        say(f"snapmirror: {error.filename}: {error.strerror}; run as the user who owns it")
        sys.exit(1)
    except OSError as error:
        say(f"snapmirror: {error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(1)
    except _Interrupted:
        say("snapmirror: interrupted; what was published is as it was, and what was fetched is kept")
        os._exit(130)  # a transfer may sit in a pause of many seconds; nothing that is cut short here matters
    except Exception as error:
        if "SNAPMIRROR_DEBUG" in os.environ:
            raise
        kind = type(error).__name__
        say(f"snapmirror: a fault of snapmirror itself ({kind}: {error}); SNAPMIRROR_DEBUG=1 shows where. Please report it")
        sys.exit(1)
