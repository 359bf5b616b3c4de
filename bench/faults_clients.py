"""What clients, a killed process and a full disk do to a file that a proxy has to fetch first.

Each is done to a proxy that has just been started, while an index on loopback sends the one file of 50 MB in two seconds.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from .faults_index import JSON, Handler, Index
from .measure import Skip, Work, run
from .servers import await_port, process, snapmirror, sync

#: seconds that a client waits for the next byte, as pip does by default, and for the whole
PATIENCE = 15
_LIMIT = 60
_PIECE = 1 << 16
_ACCEPT = f"{JSON}, text/html;q=0.1"
_PROJECT = "big"
#: steps in which its file is sent, and seconds after each
_STEPS, _PAUSE = 40, 0.05
_CONFIG = """\
store = "store"

[serve]
port = 0
workers = {workers}

[download]
stall = "5000B/5s"

[[repo]]
kind = "pypi"
path = "pypi"
upstream = "{address}/simple/"
download = "on-demand"
metadata = "on-request"
negative_age = "1s"
"""
_EAGER = f"""
[[repo]]
kind = "pypi"
path = "eager"
upstream = "{{address}}/simple/"
projects = ["{_PROJECT}"]
"""

#: starts a proxy of an index; gives what names of projects are appended to
Start = Callable[[Work, str], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def ours(work: Work, address: str) -> Iterator[str]:
    """A proxy of an index; gives what names of projects are appended to."""
    with _served(work, _CONFIG.format(address=address, workers=1)) as (server, _):
        yield f"{server}/pypi/simple/"


@contextlib.contextmanager
def _served(work: Work, text: str) -> Iterator[tuple[str, Path]]:
    """The server of a configuration, and where that is."""
    config = work.folder / "snapmirror.toml"
    config.write_text(text)
    with snapmirror(config) as server:
        yield server, config


# A client


def outcome(base: str, project: str, right: bytes) -> str:
    """What a client gets of a file through a proxy, in words."""
    until, size, same, there = time.monotonic() + _LIMIT, 0, True, ""
    try:
        with _file(base, project) as response:
            if urlsplit(response.url).netloc != urlsplit(base).netloc:
                there = " (sent to upstream)"
            while piece := response.read(_PIECE):
                same = same and right.startswith(piece, size)
                size += len(piece)
                if time.monotonic() > until:
                    return f"too slow{there}"
            if response.length:
                return f"cut short{there}"
    except urllib.error.HTTPError as error:
        return f"refused ({error.code})"
    except (http.client.HTTPException, OSError) as error:
        return _in_words(getattr(error, "reason", error)) + there
    return ("right" if same and size == len(right) else f"WRONG, {size:,} bytes as though whole") + there


class _NoFile(OSError):
    """A page that should have one."""


def _in_words(error: object) -> str:
    match error:
        case _NoFile():
            return "a page without its file"
        case TimeoutError():
            return "time-out"
        case socket.gaierror():
            return "sent to a host that is none"
        case ssl.SSLError():
            return "sent to who can't prove its name"
        case ConnectionRefusedError():
            return "nobody answers"
        case http.client.IncompleteRead() | ConnectionError():
            return "cut short"
    return f"no answer ({type(error).__name__})"


def _file(base: str, project: str) -> http.client.HTTPResponse:
    """The answer that has the one file of a project."""
    page = f"{base}{project}/"
    with _ask(page) as response:
        return _ask(_file_of(response.read(), page))


def _ask(url: str) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"Accept": _ACCEPT})
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=PATIENCE)
    return response


def _file_of(page: bytes, url: str) -> str:
    """The address of the one file of a page."""
    if page.startswith(b"{"):
        links = [str(file["url"]) for file in json.loads(page)["files"]]
    else:
        links = re.findall(r'href="([^"]+)"', page.decode())
    if not links:
        raise _NoFile
    return urljoin(url, links[0].partition("#")[0])


# A file that takes its time, and its clients


class _Upstream(Index):
    """An index of the one file."""

    def __init__(self, size: int) -> None:
        super().__init__([_PROJECT], size)
        #: what was asked for of it, each time: "" for the whole
        self.ranges: list[str] = []
        #: set once a quarter of it has gone out
        self.midway = threading.Event()

    def send(self, handler: Handler, project: str) -> None:
        """All of it, or from where it is wanted; see Index."""
        content = self.contents[project]
        range_: str = handler.headers.get("Range", "")
        self.ranges.append(range_)
        begin = int(range_.removeprefix("bytes=").partition("-")[0] or 0)
        fields = {"ETag": '"only"', "Content_Length": str(len(content) - begin)}
        if begin:
            fields["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        handler.begin(206 if begin else 200, **fields)
        step = len(content) // _STEPS
        for start in range(begin, len(content), step):
            handler.wfile.write(content[start : start + step])
            if start > len(content) // 4:
                self.midway.set()
            time.sleep(_PAUSE)

    @property
    def asked(self) -> str:
        """How often it was, in words."""
        count = len(self.ranges)
        return f"upstream asked {'once' if count == 1 else f'{count} times'}"


class Scene:
    """A proxy, its upstream, and where it keeps what it has."""

    def __init__(self, base: str, upstream: _Upstream, work: Work) -> None:
        self.base = base
        self.upstream = upstream
        self.work = work

    def get(self) -> str:
        """What a client gets, in words."""
        return outcome(self.base, _PROJECT, self.upstream.contents[_PROJECT])

    def get_at_once(self, clients: int) -> str:
        """What so many clients get."""
        with ThreadPoolExecutor(clients) as pool:
            found = Counter(pool.map(lambda _: self.get(), range(clients)))
        return ", ".join(f"{count} {words}" for words, count in found.most_common())

    def sip(self, leave: threading.Event) -> None:
        """Take the first byte, and one a second until it is time to leave."""
        with contextlib.suppress(http.client.HTTPException, OSError), _file(self.base, _PROJECT) as response:
            while response.read(1) and not leave.wait(1):
                pass

    @contextlib.contextmanager
    def begun(self) -> Iterator[Callable[[], str]]:
        """A client has asked, and upstream is in the middle of the file; gives what tells what became of it."""
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(self.get)
            self.upstream.midway.wait(PATIENCE)
            yield first.result


def _many(scene: Scene) -> str:
    got = scene.get_at_once(scene.work.size(200, 20))
    return f"{got}; {scene.upstream.asked}"


def _sips(scene: Scene) -> str:
    leave = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(scene.sip, leave)
        scene.upstream.midway.wait(PATIENCE)
        began = time.monotonic()
        got = scene.get()
        took = time.monotonic() - began
        leave.set()
    return f"{got} after {took:.1f} s; {scene.upstream.asked}"


def _leaves(scene: Scene) -> str:
    leave = threading.Event()
    leave.set()
    scene.sip(leave)
    got = scene.get()
    return f"{got}; {scene.upstream.asked}"


def _killed(scene: Scene) -> str:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(scene.begun())
        [server] = _children(os.getpid())
        *_, holder = [server, *_children(server)]
        command, environment = _started(server)
        os.kill(holder, signal.SIGKILL)
        got = first()
        before = len(scene.upstream.ranges)
        if holder == server:  # else its supervisor starts it again
            os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
            output = scene.work.folder / "again.log"
            again = stack.enter_context(process(command, output, **environment))
            await_port(urlsplit(scene.base).port or 0, again, output)
        then = scene.get()
    anew = scene.upstream.ranges[before:]
    return f"{got}; then {then}, {'anew' if '' in anew else 'resumed' if anew else 'from what was there'}"


def _started(process_: int) -> tuple[list[str], dict[str, str]]:
    """How a process was started: its command, and its environment."""
    read = (Path(f"/proc/{process_}/{name}").read_text() for name in ("cmdline", "environ"))
    command, environment = (text.rstrip("\0").split("\0") for text in read)
    return command, dict(line.split("=", 1) for line in environment)


def _children(parent: int) -> list[int]:
    """The processes that one has started."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    if not listed.is_file():
        raise Skip("/proc has no children of a process")
    return [int(child) for child in listed.read_text().split()]


def _full(scene: Scene) -> str:
    ballast = scene.work.folder / "ballast"
    with scene.begun() as first:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        got = first()
    then = scene.get()
    ballast.unlink()
    time.sleep(1.1)  # who remembers what has failed does so for a second
    room = dict.fromkeys([scene.get(), scene.get()])
    return f"{got}; then {then}; with room {', then '.join(room)}"


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """Mount an empty file system of 300 MB. Raises Skip where that is not allowed."""
    try:
        run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder])
    except (OSError, RuntimeError) as error:
        raise Skip(f"no small disk can be mounted here: {error}") from None
    try:
        yield
    finally:
        run(["umount", folder])


#: what happens -> how it is done to a proxy
SCENES: dict[str, Callable[[Scene], str]] = {
    "200 clients at once": _many,
    "a client that reads 1 byte/s, and another": _sips,
    "a client that leaves after 1 byte, and another": _leaves,
    "kill -9 of the process that fetches": _killed,
    "the disk is full half-way": _full,
}
TOGETHER = "two workers and a sync at once"


def play(work: Work, title: str, start: Start) -> str:
    """What becomes of the file through one proxy, in words."""
    stage = Work(work.fresh("scene"), work.quick, runs=1)
    with contextlib.ExitStack() as stack:
        if SCENES[title] is _full:
            stack.enter_context(_small_disk(stage.folder))
        upstream = stack.enter_context(_Upstream(work.size(50_000_000, 5_000_000)))
        base = stack.enter_context(start(stage, upstream.address))
        _ask(f"{base}{_PROJECT}/").close()  # what pages cost is no matter here
        return SCENES[title](Scene(base, upstream, stage))


def together(work: Work) -> str:
    """What becomes of the file if clients of two workers of ours ask for it while a sync of another repo fetches it too."""
    stage = Work(work.fresh("scene"), work.quick, runs=1)
    with _Upstream(work.size(50_000_000, 5_000_000)) as upstream:
        text = (_CONFIG + _EAGER).format(address=upstream.address, workers=2)
        with _served(stage, text) as (server, config), ThreadPoolExecutor(1) as pool:
            clients = pool.submit(Scene(f"{server}/pypi/simple/", upstream, stage).get_at_once, 16)
            sync(config)
            synced = Scene(f"{server}/eager/simple/", upstream, stage).get()
            return f"{clients.result()}, of the sync {synced}; {upstream.asked}"
