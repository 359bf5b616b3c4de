"""A mirror in one minute: two snapshots of a channel that changes in between, and two projects from PyPI, all served.

    python examples/demo.py                 until Ctrl-C
    python examples/demo.py --seconds 60    ends by itself

Everything is real: the channel of this folder behind an HTTP server on loopback, the `snapmirror` command, and requests
over HTTP. Nothing but two small projects comes from elsewhere: from PyPI, or the index that pip is configured for; where
neither can be reached, that part is left out. All of it lies in a temporary folder, which goes at the end.
"""

import argparse
import contextlib
import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import make_channel

PIN = "before-the-update"
WITHDRAWN = "noarch/greeting-data-0.9-0.tar.bz2"
CORRECTED = "libgreet-1.0-0.tar.bz2"
CONFIG = """\
store = "store"

[[repo]]
kind = "conda"
path = "greetings"
upstream = "{upstream}"
subdirs = ["linux-64", "linux-aarch64", "osx-arm64"]
"""
PROJECTS = ("six", "idna")
PROJECTS_PIN = "packages-of-today"
PYPI_CONFIG = """
[[repo]]
kind = "pypi"
path = "pypi"
upstream = {upstream}
projects = {projects}

[repo.select]
newest = 1

[download]
retries = 1
connect_timeout = "5s"
"""
JSON_PAGE = "application/vnd.pypi.simple.v1+json"


def say(text: str = "") -> None:
    """A line, at once, into a pipe too."""
    print(text, flush=True)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of loopback; its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Mirror:
    """The `snapmirror` command, run in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "SNAPMIRROR_CONFIG": str(folder / "snapmirror.toml"), "NO_PROXY": "127.0.0.1"}

    def run(self, *arguments: str) -> str:
        """Run a verb, show the command line and what it prints; its standard output."""
        status, output = self.attempt(*arguments)
        if status:
            raise SystemExit(f"demo: `snapmirror {arguments[0]}` ended with status {status}")
        return output

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """The same, and it may fail; its status and standard output."""
        say(f"$ snapmirror {' '.join(arguments)}")
        command = [sys.executable, "-m", "snapmirror", *arguments]
        done = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False)
        for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]:
            say(f"  {line}")
        return done.returncode, done.stdout

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self._folder / "snapmirror.toml"

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Run `snapmirror serve` on a free port; its URL."""
        say("$ snapmirror serve --port 0")
        command = [sys.executable, "-m", "snapmirror", "serve", "--port", "0"]
        with subprocess.Popen(command, cwd=self._folder, env=self._environment, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                line = server.stderr.readline().rstrip()
                found = re.fullmatch(r"serving on (http://\S+)/", line)
                if not found:
                    raise SystemExit(f"demo: the server did not start: {line}")
                say(f"  {line}")
                yield found[1]
            finally:
                server.terminate()
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    server.kill()


def get(url: str, accept: str = "*/*") -> tuple[int, bytes]:
    """Status and body of a GET, past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"Accept": accept})
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def records(channel: str, subdir: str) -> dict[str, Any]:
    """What a channel lists in a subdir, by file name."""
    status, body = get(f"{channel}/{subdir}/repodata.json")
    if status != 200:
        raise SystemExit(f"demo: {channel}/{subdir}/repodata.json answers {status}")
    found = json.loads(body)
    return {**found["packages"], **found["packages.conda"]}


def versions(channel: str, name: str) -> str:
    """The versions of a noarch package that a channel lists."""
    return ", ".join(sorted(record["version"] for record in records(channel, "noarch").values() if record["name"] == name))


def prove(mirror: str, origin: str, first: str, second: str) -> None:
    """Ask both snapshots for what makes them different, and print what came."""
    say()
    say("What each snapshot lists (GET .../noarch/repodata.json):")
    for selector in (first, second):
        channel = f"{mirror}/{selector}/greetings"
        for name in ("hello-snapmirror", "greeting-data"):
            say(f"  {selector}  {name:<17} {versions(channel, name)}")
    say()
    say(f"What {CORRECTED} needs (GET .../linux-64/repodata.json); upstream corrected the record, not the package:")
    for selector in (first, second):
        needs = records(f"{mirror}/{selector}/greetings", "linux-64")[CORRECTED]["depends"]
        say(f"  {selector}  {', '.join(needs)}")
    say()
    say(f"A package that upstream has withdrawn ({WITHDRAWN}):")
    say(f"  upstream          {get(f'{origin}/{WITHDRAWN}')[0]}")
    say(f"  {second}  {get(f'{mirror}/{second}/greetings/{WITHDRAWN}')[0]}")
    status, body = get(f"{mirror}/{first}/greetings/{WITHDRAWN}")
    say(f"  {first}  {status}, {len(body)} bytes")
    listed = records(f"{mirror}/{first}/greetings", "noarch")[WITHDRAWN.rpartition("/")[2]]["sha256"]
    came = hashlib.sha256(body).hexdigest()
    say(f"    sha256 that the first snapshot lists  {listed}")
    say(f"    sha256 of the bytes that came         {came}")
    if listed != came:
        raise SystemExit("demo: they differ")
    say("    they are equal")


def mirror_projects(mirror: Mirror) -> str:
    """Mirror two projects of PyPI, and pin the day; that day, empty if PyPI can't be reached."""
    say()
    say(f"Python packages: {' and '.join(PROJECTS)} from PyPI, of each the newest version.")
    before = mirror.config.read_text(encoding="utf-8")
    repo = PYPI_CONFIG.format(upstream=json.dumps(_index()), projects=json.dumps(PROJECTS))
    mirror.config.write_text(before + repo, encoding="utf-8")
    status, output = mirror.attempt("sync", "pypi")
    found = re.search(r"^Sealed snapshot (\d{4})(\d\d)(\d\d)T", output, re.MULTILINE)
    if status or not found:
        mirror.config.write_text(before, encoding="utf-8")
        say("PyPI can't be reached from here, so there are no Python packages in this demo. Nothing else needs it.")
        return ""
    day = "-".join(found.groups())
    mirror.run("pin", PROJECTS_PIN, day)
    return day


def _index() -> str:
    """The index that pip is configured for; `PyPI` if none is."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return os.environ.get("PIP_INDEX_URL") or (done.stdout.strip() if done.returncode == 0 else "") or "PyPI"


def list_projects(mirror: str, day: str) -> None:
    """What is there of the projects, for pip and uv, at a day and by the pin; one file of each is fetched."""
    say()
    say(f"What pip and uv see at {day} and by the pin (GET /{day}/pypi/simple/{PROJECTS[0]}/):")
    for project in PROJECTS:
        pages = [f"{mirror}/{selector}/pypi/simple/{project}/" for selector in (day, PROJECTS_PIN)]
        (status, body), other = (get(page, JSON_PAGE) for page in pages)
        if status != 200 or other != (200, body):
            raise SystemExit(f"demo: {pages[0]} answers {status}, and {pages[1]} answers {other[0]}")
        files = json.loads(body)["files"]
        for file in files:
            say(f"  {file['filename']:<32} {file['size']:>8,} bytes, uploaded {file.get('upload-time', 'nobody says when')}")
        address = urllib.parse.urljoin(pages[0], files[0]["url"])
        _, content = get(address)
        if hashlib.sha256(content).hexdigest() != files[0]["hashes"]["sha256"]:
            raise SystemExit(f"demo: {address} is not what the page says")
        say(f"    fetched and as its SHA-256 says, at an address without a date: {urllib.parse.urlsplit(address).path[:24]}...")


def invite(mirror: str, first: str, second: str, day: str) -> None:
    """The URLs to try."""
    say()
    say("Try it: each of these is a channel URL for conda, mamba and pixi, and a page for a browser.")
    for selector, meaning in (
        ("current", "the newest snapshot"),
        (first, "the first snapshot, for ever"),
        (second, "the second one"),
        (PIN, "the pin: a name for the first"),
        (f"{first[:4]}-{first[4:6]}-{first[6:8]}", "a date: the state at the end of that day (UTC)"),
    ):
        say(f"  {f'{mirror}/{selector}/greetings':<60} {meaning}")
    say(f"  {f'{mirror}/greetings':<60} no selector: current")
    say(f"  {f'{mirror}/':<60} everything there is")
    say()
    say(f"  curl -s {mirror}/{PIN}/greetings/noarch/repodata.json")
    say(f"  conda create -n hello -c {mirror}/{first}/greetings --override-channels hello-snapmirror")
    if day:
        say(f"  pip download --no-deps --dest somewhere --index-url {mirror}/{day}/pypi/simple/ six")
        say(f"  uv pip install --target somewhere --default-index {mirror}/{PROJECTS_PIN}/pypi/simple/ idna")


def demo(folder: Path, seconds: float | None) -> None:
    """The whole of it."""
    channel, home = folder / "upstream", folder / "mirror"
    make_channel.put_state(make_channel.CHANNEL, "first", channel)
    with upstream(channel) as origin:
        say(f"A conda channel, as it was in February, is at {origin}")
        mirror = Mirror(home)
        home.mkdir()
        (home / "snapmirror.toml").write_text(CONFIG.format(upstream=origin), encoding="utf-8")
        first = _sync(mirror)
        say("Upstream moves on: a new version, a withdrawn package, a corrected record.")
        make_channel.put_state(make_channel.CHANNEL, "second", channel)
        second = _sync(mirror)
        mirror.run("diff", first, second)
        mirror.run("pin", PIN, first)
        day = mirror_projects(mirror)
        with mirror.serving() as url:
            prove(url, origin, first, second)
            if day:
                list_projects(url, day)
            invite(url, first, second, day)
            say()
            say("It serves until Ctrl-C." if seconds is None else f"It ends by itself in {seconds:g} seconds, or with Ctrl-C.")
            threading.Event().wait(seconds)
    say("Done; nothing is left of it.")


def _sync(mirror: Mirror) -> str:
    """Sync; the id of the snapshot."""
    found = re.search(r"^Sealed snapshot (\S+)$", mirror.run("sync"), re.MULTILINE)
    if not found:
        raise SystemExit("demo: the sync sealed no snapshot")
    return found[1]


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description="A mirror in one minute: two snapshots of a changing channel, and two projects from PyPI."
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long; until Ctrl-C if not given")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="snapmirror-demo-") as folder:
        try:
            demo(Path(folder), arguments.seconds)
        except KeyboardInterrupt:
            say("Ended; nothing is left of it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
