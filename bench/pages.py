"""Serving the page of one project with 100 files, one process each: against pypiserver, devpi-server and proxpi.

An index on loopback has the project. `snapmirror serve` serves what a real sync took from it, devpi-server and proxpi
mirror it, pypiserver has the same files in a folder; each is started as its own documents say, and none logs requests. wrk
asks them in turn, with one thread, 16 connections, and the Accept field of pip: JSON from all but pypiserver, which has
only HTML. No content coding is asked for: proxpi would compress anew for every request. Before the first figure each has
answered with the names of all files, and until the last the index must not have been asked again.
"""

import base64
import contextlib
import hashlib
import html
import json
import re
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from .measure import Bar, Result, Work, beside, in_turn, need, run
from .servers import Loopback, await_port, free_port, process, snapmirror, sync
from .wrk import command, script, wrk

PEERS = ("pypiserver", "devpi-server", "proxpi")
BARS = tuple(Bar("serve a project's page, 100 files", peer, least=1.0) for peer in PEERS)

_FILES = 100
_PROGRAMS = ("pypi-server", "devpi-init", "devpi-server", "gunicorn")
_PROJECT = "project"
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
_DEVPI = "devpi-server --host 127.0.0.1 --port PORT --argon2-memory-cost 8192 --argon2-time-cost 1"
_QUIET = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
_PROXPI = "gunicorn --workers 1 --threads 2 --no-control-socket --log-level warning --bind 127.0.0.1:PORT proxpi.server:app"

_CONFIG = """\
store = "store"

[serve]
port = 0

[[repo]]
kind = "pypi"
path = "pypi"
upstream = "{address}/simple/"
projects = ["{project}"]
"""


def measure(work: Work) -> Iterator[Result]:
    """All servers run at once, and each is measured while the others have nothing to do."""
    need("wrk")
    for program in _PROGRAMS:
        beside(program)
    files = make_files()
    seconds = work.size(3, 1)
    work.notes["peers of pages"] = ", ".join(f"{peer} {version(peer)}" for peer in (*PEERS, "gunicorn", "waitress"))
    work.notes["wrk for pages"] = f"{command('PATHS.lua', 'ADDRESS', seconds)}\nAccept: {_ACCEPT}"
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(Index(files))
        pages = {
            "ours": stack.enter_context(_ours(work.folder, index.address)),
            "pypiserver": stack.enter_context(_pypiserver(work, files)),
            "devpi-server": stack.enter_context(devpi(work, index.address)) + f"{_PROJECT}/",
            "proxpi": stack.enter_context(proxpi(work, index.address)) + f"{_PROJECT}/",
        }
        for page in pages.values():
            _warm(work, page, files)
        asked = len(index.asked)
        ours, *others = in_turn(work.runs, *(lambda page=page: _speed(work, page, seconds) for page in pages.values()))
        if len(index.asked) > asked:
            raise RuntimeError(f"the index was asked while others were measured: {index.asked[asked:]}")
        for bar, peer in zip(BARS, others, strict=True):
            yield Result(bar, ours, peer, rate=True)


def _speed(work: Work, page: str, seconds: int) -> float:
    """Requests a second of one page."""
    address, _, path = page.removeprefix("http://").partition("/")
    file = work.folder / "pages.lua"
    script(file, [path], {"Accept": _ACCEPT})
    return wrk(file, f"http://{address}", seconds)


def _warm(work: Work, page: str, names: Collection[str]) -> None:
    """What is to be measured is there, and is in memory."""
    request = urllib.request.Request(page, headers={"Accept": _ACCEPT})
    with urllib.request.urlopen(request, timeout=60) as response:
        body: bytes = response.read()
        media = response.headers.get_content_type()
        check(page, response.status, media, body, names)
    work.notes["pages"] = f"{work.notes.get('pages', '')}{page}: {len(body)} bytes of {media}\n"
    _speed(work, page, 1)


def check(page: str, status: int, media: str, body: bytes, names: Collection[str]) -> None:
    """Raise RuntimeError unless a page lists exactly these files."""
    if media == _JSON:
        found = [file["filename"] for file in json.loads(body)["files"]]
    else:
        found = [html.unescape(name) for name in re.findall(r"<a\s[^>]*>\s*([^<>]+?)\s*</a>", body.decode())]
    if status != 200 or sorted(found) != sorted(names):
        missing, more = set(names) - set(found), set(found) - set(names)
        raise RuntimeError(f"{page}: {status}, {len(found)} files, without {sorted(missing)}, with {sorted(more)}")


# The index that all mirror


def make_files() -> dict[str, bytes]:
    """{name: content} of the wheels of a project."""
    random = Random(1)
    return {f"{_PROJECT}-1.{number}.0-py3-none-any.whl": random.randbytes(1000) for number in range(_FILES)}


class Index(Loopback):
    """An index of one project on loopback, in JSON."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        #: the paths that were asked for
        self.asked: list[str] = []
        super().__init__(self._handler())

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Media type and content of a path, None if there is no such thing."""
        match path.split("/")[1:]:
            case ["simple", ""]:
                return _JSON, json.dumps({"meta": {"api-version": "1.4"}, "projects": [{"name": _PROJECT}]}).encode()
            case ["simple", name, ""] if name == _PROJECT:
                return _JSON, json.dumps(self._page()).encode()
            case ["files", name] if name in self._files:
                return "application/octet-stream", self._files[name]
            case ["files", name] if name.removesuffix(".metadata") in self._files:
                return "text/plain", _metadata(name)
        return None

    def _page(self) -> dict[str, Any]:
        """What PyPI says of the files of a project too."""
        records = [
            {
                "filename": name,
                "url": f"{self.address}/files/{name}",
                "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                "size": len(content),
                "upload-time": "2026-11-01T10:00:00.123456Z",
                "requires-python": ">=3.9",
                "yanked": False,
                "core-metadata": {"sha256": hashlib.sha256(_metadata(f"{name}.metadata")).hexdigest()},
            }
            for name, content in self._files.items()
        ]
        versions = [name.split("-")[1] for name in self._files]
        return {"meta": {"api-version": "1.4"}, "name": _PROJECT, "versions": versions, "files": records}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                media, content = index.answer(self.path) or ("", b"")
                self.send_response(200 if media else 404)
                self.send_header("Content-Type", media or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _metadata(name: str) -> bytes:
    number = name.split("-")[1]
    return f"Metadata-Version: 2.1\nName: {_PROJECT}\nVersion: {number}\nRequires-Python: >=3.9\n".encode()


# The servers: each gives the address of the page


@contextlib.contextmanager
def _ours(folder: Path, address: str) -> Iterator[str]:
    config = folder / "snapmirror.toml"
    config.write_text(_CONFIG.format(address=address, project=_PROJECT))
    sync(config)
    with snapmirror(config) as server:
        yield f"{server}/pypi/simple/{_PROJECT}/"


@contextlib.contextmanager
def _pypiserver(work: Work, files: Mapping[str, bytes]) -> Iterator[str]:
    """With waitress, which it prefers to what else it may find, and its cache of what the folder has."""
    packages = work.fresh("packages")
    for name, content in files.items():
        (packages / name).write_bytes(content)
    started = [beside("pypi-server"), "run", "-i", "127.0.0.1", "-p", "PORT", "--disable-fallback", str(packages)]
    with _peer(work, "pypiserver", started) as server:
        yield f"{server}/simple/{_PROJECT}/"


@contextlib.contextmanager
def devpi(work: Work, address: str) -> Iterator[str]:
    """A mirror of an index; gives what names of projects are appended to.

    As it is, but for the lines that it logs of every request, and 600 MB and 15 s for a key when it starts.
    """
    state = work.folder / "devpi"
    run([beside("devpi-init"), "--no-root-pypi", "--serverdir", state])
    logger = work.folder / "devpi.json"
    logger.write_text(json.dumps(_QUIET))
    started = [beside("devpi-server"), *_DEVPI.split()[1:], "--serverdir", str(state), "--logger-cfg", str(logger)]
    with _peer(work, "devpi-server", started) as server:
        login = _ask("POST", f"{server}/+login", {"user": "root", "password": ""})["result"]["password"]
        proof = base64.b64encode(f"root:{login}".encode()).decode()
        mirror = {"type": "mirror", "mirror_url": f"{address}/simple/", "volatile": True}
        _ask("PUT", f"{server}/root/local", mirror, {"X-Devpi-Auth": proof})
        yield f"{server}/root/local/+simple/"


def _ask(method: str, url: str, content: Any, fields: Mapping[str, str] | None = None) -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json", **(fields or {})}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@contextlib.contextmanager
def proxpi(work: Work, address: str) -> Iterator[str]:
    """A proxy of an index; gives what names of projects are appended to.

    As its container image starts it, but for the lines that it logs of every request.
    """
    started = [beside("gunicorn"), *_PROXPI.split()[1:]]
    variables = {"PROXPI_INDEX_URL": f"{address}/simple/", "PROXPI_LOGGING_LEVEL": "WARNING"}
    with _peer(work, "proxpi", started, **variables) as server:
        yield f"{server}/index/"


@contextlib.contextmanager
def _peer(work: Work, name: str, started: list[str], **variables: str) -> Iterator[str]:
    """Start a peer with a free port in place of PORT."""
    port = free_port()
    output = work.folder / f"{name}.log"
    set_ = "".join(f"{key}={value} " for key, value in variables.items())
    work.note(name, set_ + " ".join([Path(started[0]).name, *started[1:]]))
    with process([part.replace("PORT", str(port)) for part in started], output, **variables) as server:
        await_port(port, server, output)
        yield f"http://127.0.0.1:{port}"
