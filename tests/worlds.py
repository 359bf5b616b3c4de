"""Small stores, prepared once and copied for every try, their upstreams, and the commands to be tried on them.

A command is one entry of `COMMANDS`: add one here, and it is killed and struck by errors at every step.
"""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from channels import Channel, make_package
from pypi_index import Index

import snapmirror.cli
from snapmirror.cli import config as configuration
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.digests import sha256
from snapmirror.serve.app import Server
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import Serve, origins_of
from snapmirror.serve.workers import serving
from snapmirror.store.signatures import PrivateKey
from snapmirror.store.store import Store
from snapmirror.web import faces

CONFIG = """
store = "run/store"
[sign]
key = "key"
[download]
retries = 0
connect_timeout = "5s"
stall = "1B/20s"
min_free = "0%"
connections = 2
[publish]
trees = ["chan", "py", "built", "old"]
[[repo]]
kind = "conda"
path = "chan"
upstream = "{url}/chan"
[[repo]]
kind = "pypi"
path = "py"
upstream = "{url}/simple/"
projects = ["one", "two"]
download = "eager"
[[repo]]
kind = "files"
path = "built"
upstream = "file://{root}/upstream/built"
depth = 1
[[repo]]
kind = "conda"
path = "lazy"
upstream = "{url}/rest"
download = "on-demand"
[[repo]]
kind = "conda"
path = "old"
upstream = "{url}/chan"
"""
#: of upstream; in the last there are more files than are made durable one by one
STATES = (1, 2, 3)
#: seconds after which a process that is still running is killed: it hangs
_PATIENCE = 300
MANY = 24
SYNCED = ("chan", "py", "built", "lazy")
snapmirror.cli.command_line()  # loads all verbs, before this process is forked


@dataclass(frozen=True)
class Command:
    """What is tried."""

    name: str
    #: the prepared store that it begins with
    base: str
    #: its arguments, `{first}` and `{second}` being ids of snapshots and `{mirror}` the URL of another snapmirror, which has
    #: both, or a function of the world
    run: "tuple[str, ...] | Callable[[World], int]"
    #: what upstream has then
    state: int = 2
    #: snapshots that it may turn into tombstones: 0 is the oldest
    forgets: int | None = None
    #: exit status when nothing is wrong
    status: int = 0
    #: whether the store is damaged before
    damaged: bool = False


def _pull(world: "World") -> int:
    """A server in this process is asked for a file that it has to fetch."""
    return asyncio.run(_ask(world))


async def _ask(world: "World") -> int:
    config = configuration.load(world.config)
    with Store.open(world.store, write=True) as store, socket.create_server(("127.0.0.1", 0)) as listener:
        puller = Puller(store, config.download, hosts_of(store))
        server = Server(
            store, ECOSYSTEMS, config.serve, origins_of(ECOSYSTEMS, config.repo), puller, faces=faces(store, ECOSYSTEMS)
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/lazy/noarch/new0-1.0-0.conda"
        async with serving(server, [listener]), aiohttp.ClientSession() as client, client.get(url) as answer:
            try:
                body = await answer.read()
            except aiohttp.ClientPayloadError:  # cut off, as it must be where what has arrived is not right
                print("the answer was cut off", file=sys.stderr)
                return 1
            if answer.status == 200:
                assert sha256(body) == sha256((world.root / "state2/rest/noarch/new0-1.0-0.conda").read_bytes())
                return 0
            print(body.decode(), file=sys.stderr)
            return 1


COMMANDS = (
    Command("first sync", "none", ("sync", *SYNCED), state=1),
    Command("sync", "one", ("sync", "--allow-shrink", *SYNCED)),
    Command("sync of many", "two", ("sync", *SYNCED), state=3),
    Command("sync again", "two", ("sync", *SYNCED)),
    Command("forget", "unpinned", ("forget", "{first}"), forgets=0),
    Command("gc", "forgotten", ("gc", "--grace", "0s")),
    Command("repair", "damaged", ("check", "--read-data", "--repair"), damaged=True),
    Command("reindex", "two", ("reindex",)),
    Command("adopt", "two", ("adopt", "run/old", "--repo", "old")),
    Command("pull", "two", _pull),
    Command("prefetch", "two", ("prefetch", "lazy", "--spec", "new0")),
    Command("pin", "two", ("pin", "fresh", "{first}")),
    Command("move a pin", "two", ("pin", "paper", "{second}", "--move")),
    Command("unpin", "two", ("unpin", "paper")),
    Command("tree", "treeless", ("tree", "{second}")),
    Command("export", "two", ("export", "--to", "run/export.tar")),
    Command("export in parts", "two", ("export", "--to", "run/export.tar", "--since", "{first}", "--volume-size", "16KiB")),
    Command("import", "none", ("import", "whole.tar")),
    Command("import the next", "one", ("import", "next.tar")),
    Command("replicate", "none", ("replicate", "{mirror}")),
    Command("replicate the next", "one", ("replicate", "{mirror}")),
    Command("replicate a folder", "none", ("replicate", "bases/two/store")),
    Command("deny", "two", ("deny", "chan", "new0", "--reason", "broken")),
    Command("allow", "denied", ("allow", "chan", "new1")),
)
BY_NAME = {command.name: command for command in COMMANDS}


class World:
    """A folder with the upstreams, the configuration, the prepared stores, and `run`, in which the present try takes place."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.config = root / "snapmirror.toml"
        self.run = root / "run"
        self.store = self.run / "store"
        self.log = root / "requests"
        #: ids of the two snapshots
        self.ids: list[str] = []
        #: URL of a snapmirror that has them
        self.mirror = ""
        self.config.write_text(CONFIG.format(url=url, root=root))

    def upstream_is(self, state: int) -> None:
        """What upstream has from now on."""
        link = self.root / ".upstream"
        link.symlink_to(f"state{state}")
        link.rename(self.root / "upstream")

    def asked(self) -> list[str]:
        """The paths that were asked of upstream, and of the other snapmirror, since this was asked last."""
        found = self.log.read_text().splitlines()
        os.truncate(self.log, 0)
        return found

    def content(self, path: str, state: int) -> str:
        """Name of the blob that a path of upstream is; empty if that is no file, but an index of them."""
        if path.startswith("/-/"):
            return path.removeprefix("/-/blobs/")
        file = self.root / f"state{state}" / path.lstrip("/")
        if not file.is_file() or "repodata" in file.name or file.suffix == ".json":
            return ""
        return sha256(file.read_bytes()).hex()

    def begin(self, base: str) -> None:
        """A fresh copy of a prepared store, with its hard links."""
        shutil.rmtree(self.run, ignore_errors=True)
        subprocess.run(["cp", "-a", self.root / "bases" / base, self.run], check=True)

    def arguments(self, command: Command) -> Sequence[str]:
        """The command line of a command."""
        assert isinstance(command.run, tuple)
        names = dict(zip(("first", "second"), self.ids, strict=False), mirror=self.mirror)
        return [argument.format(**names) for argument in command.run]

    def execute(self, command: Command) -> int:
        """Run a command in this process; its exit status."""
        return execute(self, *self.arguments(command)) if isinstance(command.run, tuple) else command.run(self)

    def prepare(self) -> None:
        """Make the prepared stores."""
        bases = self.root / "bases"
        (bases / "none").mkdir(parents=True)
        (self.root / "key").write_bytes(PrivateKey.generate().encode())
        (self.root / "key").chmod(0o600)
        self.upstream_is(1)
        self.begin("none")
        self._made("one", ("sync", *SYNCED), ("pin", "paper", "current"))
        self.upstream_is(2)
        self.begin("one")
        shutil.copytree(self.root / "state1/chan", self.run / "old")
        self._made("two", ("sync", "--allow-shrink", *SYNCED))
        with Store.open(self.store, write=False) as store:
            self.ids = [record.id for record in store.catalog().records]
        first, second = self.ids
        self.begin("two")
        self._done("export", "--to", "whole.tar")
        self._done("export", "--to", "next.tar", "--since", first)
        self.begin("two")
        self._made("unpinned", ("unpin", "paper"))
        self.begin("unpinned")
        self._made("forgotten", ("forget", first))
        self.begin("two")
        self._made("denied", ("deny", "chan", "new1", "--reason", "broken"), ("sync", *SYNCED))
        self.begin("two")
        shutil.rmtree(self.store / "published" / second)
        self._made("treeless")
        self.begin("two")
        bad, missing = (self._blob(f"state2/chan/noarch/new{number}-1.0-0.conda") for number in (0, 1))
        content = bad.read_bytes()
        bad.chmod(0o644)
        bad.write_bytes(bytes(len(content)))
        bad.chmod(0o444)
        missing.unlink()
        self._made("damaged")
        self.asked()

    def _blob(self, path: str) -> Path:
        name = sha256((self.root / path).read_bytes()).hex()
        return self.store / "blobs" / name[:2] / name

    def _made(self, name: str, *commands: tuple[str, ...]) -> None:
        for command in commands:
            self._done(*command)
        subprocess.run(["cp", "-a", self.run, self.root / "bases" / name], check=True)

    def _done(self, *arguments: str) -> None:
        def run() -> int:
            status = execute(self, *arguments)
            self.say_what_is_loaded()
            return status

        status = in_child(run, self.root / "err")
        assert status == 0, (self.root / "err").read_text()
        self.load()

    def say_what_is_loaded(self) -> None:
        """In a forked process, at its end: what `load` is to load."""
        (self.root / "modules").write_text(json.dumps(sorted(sys.modules)))

    def load(self) -> None:
        """Load what a command has loaded, so that the processes that are forked need not."""
        for name in json.loads((self.root / "modules").read_text()):
            importlib.import_module(name)
        gc.freeze()


def execute(world: World, *arguments: str) -> int:
    """Run the command line in this process, as a user would; its exit status."""
    sys.argv = [str(Path(snapmirror.cli.__file__).parent.with_name("__main__.py")), *arguments, "-c", str(world.config)]
    os.chdir(world.root)
    try:
        snapmirror.cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def in_child(action: Callable[[], Any], messages: Path) -> int:
    """Run in a forked process, whose messages go to a file; its exit status, which is 99 if the action raised."""
    _, ended = os.waitpid(forked(action, messages), 0)
    return os.waitstatus_to_exitcode(ended)


def forked(action: Callable[[], Any], messages: Path) -> int:
    """The id of a forked process that does this."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            out = os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(out, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # pytest has put another in its place
            signal.alarm(_PATIENCE)
            status = action() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)
    return child


@contextlib.contextmanager
def world(root: Path) -> Iterator[World]:
    """A prepared world in an empty folder, its upstream a process of its own: this one is forked, and so has no threads."""
    for state in STATES:
        _channel(root / f"state{state}" / "chan", state)
        _channel(root / f"state{state}" / "rest", state, "rest of the world")
        built = root / f"state{state}" / "built"
        built.mkdir()
        for number in range(state):
            (built / f"tool-{number}.sh").write_bytes(f"tool {number}".encode() * 100)
            os.utime(built / f"tool-{number}.sh", (1_700_000_000, 1_700_000_000))
    log = root / "requests"
    log.touch()
    (root / "upstream").symlink_to("state1")
    with _process(lambda told: _serve(root, log, told)) as url:
        made = World(root, url)
        made.prepare()
        with _process(lambda told: _serve_copies(root / "bases" / "two" / "store", log, told)) as made.mirror:
            yield made


@contextlib.contextmanager
def _process(run: Callable[[int], None]) -> Iterator[str]:
    """A forked process, which writes a line to the descriptor that it is given; gives that line."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            run(theirs)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(theirs)
    try:
        with open(ours, "rb", buffering=0) as told:
            yield told.readline().decode().strip()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _channel(folder: Path, state: int, terms: str = "BSD") -> None:
    folder.mkdir(parents=True)
    channel = Channel(folder, subdirs=["linux-64"])
    channel.add(make_package("lib", license=terms), make_package("tool", subdir="linux-64", license=terms))
    name, count = {1: ("old", 2), 2: ("new", 2), 3: ("new", MANY)}[state]
    channel.add(*(make_package(f"{name}{number}", license=terms) for number in range(count)))
    channel.publish()


class _Logged(Index):
    """An index whose pages lie in its folder, and which notes what it is asked for in a file."""

    log = -1

    def _answer(self, method: str, path: str, headers: Any) -> Any:
        os.write(self.log, f"{path}\n".encode())
        self.pages = json.loads((self.root / "pages.json").read_bytes())
        return super()._answer(method, path, headers)


def _serve(root: Path, log: Path, told: int) -> None:
    with _Logged(root / "upstream") as index:
        index.log = os.open(log, os.O_WRONLY | os.O_APPEND)
        for state in STATES:
            index.root, index.pages = root / f"state{state}", {}
            for project in ("one", "two"):
                for version in range(1, state + 1):
                    index.wheel(project, f"{version}.0")
            (index.root / "pages.json").write_text(json.dumps(index.pages))
        index.root = root / "upstream"
        os.write(told, f"{index.url}\n".encode())
        while os.getppid() != 1:
            signal.sigtimedwait({signal.SIGUSR1}, 1)
    os._exit(0)


class _Noting(Server):
    """A server that notes what it is asked for."""

    log = -1

    async def handle(self, request: Any) -> Any:
        os.write(self.log, f"{request.path}\n".encode())
        return await super().handle(request)


def _serve_copies(store: Path, log: Path, told: int) -> None:
    async def serve() -> None:
        with Store.open(store, write=False) as opened, socket.create_server(("127.0.0.1", 0)) as listener:
            server = _Noting(opened, ECOSYSTEMS, Serve(), {}, None, faces=faces(opened, ECOSYSTEMS))
            server.log = os.open(log, os.O_WRONLY | os.O_APPEND)
            async with serving(server, [listener]):
                os.write(told, f"http://127.0.0.1:{listener.getsockname()[1]}\n".encode())
                while os.getppid() != 1:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(1)
        os._exit(0)

    asyncio.run(serve())
