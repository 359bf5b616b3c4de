"""snapmirror bisect: the first snapshot with which a command fails."""

import contextlib
import hashlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from .. import addresses, units
from ..ecosystem.clients import Mirror
from ..errors import SnapmirrorError, UsageError
from ..serve.clients import known, settings
from ..serve.settings import Serve, Token
from ..store.records import Record
from ..store.store import Store
from ..sync.bisect import Bisected, Bisection
from .config import Config
from .context import ConfigOption, JsonOption, complete_snapshot, opened, output, output_json, say
from .diff import print_changes
from .ecosystems import ECOSYSTEMS
from .serve import setup_of

_CLIENTS = known(ECOSYSTEMS).values()
#: exit statuses from here on end the search, as in `git bisect run`
_ENDS = 128


class CommandEnded(SnapmirrorError):
    """The command asked for the end of the search, or somebody ended it."""

    def __init__(self, snapshot: str, status: int) -> None:
        self.snapshot = snapshot
        #: its exit status; negative: the signal that ended it
        self.status = status

    def __str__(self) -> str:
        how = f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"
        return f"the command {how} at {self.snapshot}, so the search ends; 1 to 127 would mean bad, 125 skip"


def bisect(
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="What to run, after `--`; its exit status decides.")],
    good: Annotated[
        str,
        typer.Option(
            "--good", metavar="SNAPSHOT", help="With this one the command succeeds.", autocompletion=complete_snapshot
        ),
    ],
    bad: Annotated[
        str, typer.Option("--bad", metavar="SNAPSHOT", help="With this later one it fails.", autocompletion=complete_snapshot)
    ],
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="A server of these snapshots; by default one is started meanwhile.")
    ] = "",
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find the first snapshot with which a command fails, in as few runs as can be, and show what changed in it."""
    if url and not addresses.is_web(url):
        raise UsageError(f"--url {url}: write a URL that begins with http:// or https://")
    with opened(config, write=False) as (found, store):
        catalog, now = store.catalog(), store.now()
        search = Bisection(catalog, catalog.single(good, now), catalog.single(bad, now))
        with _server(found, url) as base, tempfile.TemporaryDirectory(prefix="snapmirror-") as folder:
            result = _search(search, store, _Runner(store, command, base, Path(folder)))
    if json:
        output_json(result)
    else:
        _print(result)
    raise typer.Exit(1 if result.skipped else 0)


@contextlib.contextmanager
def _server(config: Config, url: str) -> Iterator[str]:
    """Where the snapshots are served meanwhile. url: where they are already; empty for nowhere"""
    if url:
        yield url.rstrip("/")
        return
    from ..serve.within import within  # aiohttp takes 0.2 s to load

    auth, path = {}, ""
    if config.serve.auth:  # what is not for everybody is not for everybody on this machine
        token = secrets.token_hex(32)
        auth, path = {"bisect": Token(sha256=hashlib.sha256(token.encode()).hexdigest())}, f"/t/{token}"
    with within(setup_of(config, Serve(port=0, auth=auth)), ECOSYSTEMS) as base:
        yield base + path


def _search(search: Bisection, store: Store, runner: "_Runner") -> Bisected:
    for end in search.ends:
        say(f"{end.id}: trying this end")
        say(f"{end.id}: {search.verify(end, runner.run(end))}")
    while record := search.next():
        say(f"{record.id}: trying; {units.plural(search.steps, 'step')} to go at most, if none is skipped")
        outcome = search.note(record, runner.run(record))
        say(f"{record.id}: {outcome}")
    return search.result(store, ECOSYSTEMS)


class _Runner:
    """Runs the command with one snapshot after the other."""

    def __init__(self, store: Store, command: Sequence[str], base: str, folder: Path) -> None:
        """base: URL of the server; folder: where settings of clients are written"""
        self._store = store
        self._command = command
        self._base = base
        self._folder = folder

    def run(self, record: Record) -> int:
        """The command's exit status, below 128. What it prints goes to standard error.

        Raises CommandEnded, UsageError if it can't be run.
        """
        try:
            status = subprocess.call(self._command, env=self._environment(record), stdout=sys.stderr)
        except OSError as error:
            raise UsageError(f"{self._command[0]}: it can't be run: {error.strerror}") from None
        if not 0 <= status < _ENDS:
            raise CommandEnded(record.id, status)
        return status

    def _environment(self, record: Record) -> dict[str, str]:
        """Our own environment, in which clients use one snapshot."""
        environment = dict(os.environ, SNAPMIRROR_URL=f"{self._base}/{record.id}")
        for name in ("NO_PROXY", "no_proxy"):
            environment[name] = ",".join(filter(None, (environment.get(name), "127.0.0.1")))
        folder = self._folder / record.id
        folder.mkdir(exist_ok=True)
        catalog = self._store.catalog()
        for client in _CLIENTS:
            with contextlib.suppress(UsageError):  # there is no repo for it in this snapshot
                text = settings(self._store, ECOSYSTEMS, client, Mirror(self._base, record.id), catalog)
                (folder / client.file).write_text(text, encoding="utf-8")
                if client.variable:
                    environment = {name: value for name, value in environment.items() if name not in client.overruling}
                    environment[client.variable] = str(folder / client.file)
        return environment


def _print(result: Bisected) -> None:
    if result.skipped:
        output(f"the first bad snapshot is one of {', '.join([*result.skipped, result.bad])}; {result.good} is good")
    else:
        output(f"{result.bad} is the first bad snapshot; {result.good} is good")
    if result.forgotten:
        say(f"forgotten between these, so that it may have begun there: {', '.join(result.forgotten)}")
    print_changes(result.changes)
