"""The command line: one verb a file; options, wiring, printing.

Only this layer prints and reads the environment. The exit status of an error is that of its class in `errors`; all are in
snapmirror(1).
"""

import importlib
import keyword
import os
import signal
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from .. import version as installed_version
from .context import say, tell

#: verb -> its module, in the order of `--help`
VERBS = {
    "init": "init",
    "sync": "sync",
    "prefetch": "prefetch",
    "adopt": "adopt",
    "serve": "serve",
    "client": "client",
    "token": "token",
    "schedule": "schedule",
    "status": "status",
    "doctor": "doctor",
    "snapshots": "snapshots",
    "show": "snapshots",
    "diff": "diff",
    "log": "log",
    "which": "which",
    "bisect": "bisect",
    "pin": "pin",
    "unpin": "pin",
    "deny": "deny",
    "allow": "deny",
    "denied": "deny",
    "forget": "forget",
    "gc": "gc",
    "check": "check",
    "reindex": "reindex",
    "tree": "tree",
    "export": "copies",
    "import": "copies",
    "replicate": "copies",
    "migrate": "copies",
    "key": "key",
    "verify": "verify",
}

#: loaded by who solves an environment: the solver has threads of its own
_SOLVER = "snapmirror.conda.solving"

#: set by the shell while it completes
_COMPLETING = "_SNAPMIRROR_COMPLETE"


def command_line(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """The command line with some verbs, whose modules are loaded for it. Raises KeyError for what is no verb."""
    app = typer.Typer(
        name="snapmirror",
        help="A mirror with a memory: every sync seals an immutable, dated snapshot of conda channels, PyPI and installers.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb in verbs:
        name = f"{verb}_" if keyword.iskeyword(verb) else verb
        app.command(verb)(getattr(importlib.import_module(f".{VERBS[verb]}", __package__), name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"snapmirror {installed_version()}")
        raise typer.Exit


def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


def _run() -> None:
    """Load only the verb that is called: most runs are short, and all verbs together take twice as long to load."""
    called = _called()
    command_line([called] if called in VERBS else VERBS)(prog_name="snapmirror")


def _called() -> str:
    """The verb that is called, or of which a shell completes what follows; empty if there is none yet."""
    if _COMPLETING not in os.environ:
        return sys.argv[1] if len(sys.argv) > 1 else ""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")  # the former by bash
    words = [*typed.split(), *([""] if typed[-1:].isspace() else [])]
    return words[1] if len(words) > 2 else ""


class _Interrupted(BaseException):
    """Ctrl-C. A KeyboardInterrupt would not do: typer turns it into a silent exit."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def _open_streams() -> None:
    """Let standard streams that are closed lead nowhere: else messages go among the results, and what is opened next, a file
    of the store perhaps, takes the number of one.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False))


def main() -> None:
    """Run the command line. An error becomes one line on standard error, and the exit status."""
    _open_streams()
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _run()
    except _Interrupted:
        say("snapmirror: interrupted; what was published is as it was, and what was fetched is kept")
        os._exit(130)  # a transfer may sit in a pause of many seconds; nothing that is cut short here matters
    except Exception as error:
        sys.exit(tell(error))


def end(ended: SystemExit) -> None:
    """End the process. What can't be written is not tried again by Python's own end, which made the status 120. And if the
    solver was at work there is none: a thread of it that lets go of Python in that moment aborts the process.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if _SOLVER in sys.modules:
        os._exit(int(ended.code or 0))
    raise ended
