"""A real upstream for tests: an HTTP/1.1 server on loopback that serves a folder, and misbehaves if told to.

For example:

    with Upstream(folder) as upstream:
        rule = upstream.fault("*.conda", Truncate(100), times=1)
        ...                                   # point a client at upstream.url; change the folder at any time
        assert rule.hits == 1
        assert upstream.paths() == ["/noarch/repodata.json", "/noarch/a-1.0-0.conda", "/noarch/a-1.0-0.conda"]
"""

import base64
import contextlib
import gzip
import hashlib
import mimetypes
import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Status:
    """Answer with this status, these headers and this body, whatever the folder holds."""

    code: int
    headers: Headers = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Html:
    """Answer 200 with an HTML page, as a captive portal or a careless proxy does."""

    text: str = "<!DOCTYPE html><title>Sign in</title><p>Please sign in to continue.</p>\n"


@dataclass(frozen=True)
class Redirect:
    """Answer with a redirect to `location`."""

    location: str
    code: int = 302


@dataclass(frozen=True)
class Body:
    """Answer as though the file held `data`, whatever it holds and whether or not it is there."""

    data: bytes


@dataclass(frozen=True)
class Truncate:
    """Announce the whole body, send its first `after` bytes, close the connection."""

    after: int


@dataclass(frozen=True)
class Announce:
    """Announce so many bytes more than the body has, or fewer if it is negative; send it, and close the connection."""

    more: int


@dataclass(frozen=True)
class Chunked:
    """Send the body in chunks, without saying how long it is; close the connection after so many bytes, if that is given."""

    after: int | None = None


@dataclass(frozen=True)
class Unframed:
    """Let the end of the connection be that of the body, as HTTP/1.0 does; after so many bytes, if that is given."""

    after: int | None = None


@dataclass(frozen=True)
class Gzip:
    """Send the body as gzip, though nobody asked for that."""


@dataclass(frozen=True)
class Stall:
    """Send the first `after` bytes of the body, nothing for `seconds`, then the rest."""

    after: int
    seconds: float


@dataclass(frozen=True)
class Slow:
    """Send the body at this rate."""

    bytes_per_second: int


@dataclass(frozen=True)
class Call:
    """Call `function`, then answer: what it changed in the folder shows in the answer already."""

    function: Callable[[], object]


Fault = Status | Html | Redirect | Body | Truncate | Announce | Chunked | Unframed | Gzip | Stall | Slow | Call


@dataclass
class Rule:
    """Which requests are struck by which faults. `hits` counts those that were."""

    pattern: str
    faults: tuple[Fault, ...]
    times: int | None
    hits: int = 0


@dataclass(frozen=True)
class Request:
    """One request as it was answered.

    `path` is decoded and without the query; header names are in lower case; `sent` is how many bytes of the
    answer's body went out (so far, while it is under way).
    """

    method: str
    path: str
    headers: dict[str, str]
    status: int
    sent: int = 0


@dataclass
class _Plan:
    """What the faults of a rule make of an answer."""

    answer: Status | None = None  # in place of the file's
    content: bytes | None = None  # in place of the file's bytes
    end: int | None = None  # close the connection after so many bytes
    more: int = 0  # announce so many more bytes
    chunked: bool = False
    unframed: bool = False
    packed: bool = False
    pause_at: int = 0
    pause: float = 0.0
    rate: int | None = None

    def add(self, fault: Fault) -> None:
        """Take one more fault into account; a `Call` is carried out here."""
        match fault:
            case Status():
                self.answer = fault
            case Html(text):
                self.answer = Status(200, {"Content-Type": "text/html; charset=utf-8"}, text.encode())
            case Redirect(location, code):
                self.answer = Status(code, {"Location": location})
            case Body(data):
                self.content = data
            case Truncate(after):
                self.end = after
            case Stall(after, seconds):
                self.pause_at, self.pause = after, seconds
            case Slow(bytes_per_second):
                self.rate = bytes_per_second
            case Call(function):
                function()
            case Announce() | Chunked() | Unframed() | Gzip():
                self._frame(fault)

    def _frame(self, fault: Announce | Chunked | Unframed | Gzip) -> None:
        match fault:
            case Announce(more):
                self.more = more
            case Chunked(after):
                self.chunked, self.end = True, after
            case Unframed(after):
                self.unframed, self.end = True, after
            case Gzip():
                self.packed = True


@dataclass(eq=False)
class Upstream:
    """A folder served over HTTP while the `with` block lasts. What it is given may be changed at any time."""

    root: Path
    _: KW_ONLY
    etags: bool = True  # whether answers have an ETag, and If-None-Match works
    last_modified: bool = True  # whether they have Last-Modified, and If-Modified-Since works
    ranges: bool = True  # whether Range is honoured
    credentials: tuple[str, str] | None = None  # user and password that every request must bring
    url: str = field(init=False)  # such as http://127.0.0.1:43210, known within the block
    _log: list[tuple[Request, list[int]]] = field(init=False, default_factory=list)  # with the pieces sent
    _rules: list[Rule] = field(init=False, default_factory=list)
    _rules_lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._server.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        # An error of our own (most likely of a Call) must fail the test, but not hide why it failed already.
        if self._server.errors and error is None:
            raise RuntimeError("the upstream server failed to answer a request") from self._server.errors[0]

    @property
    def requests(self) -> list[Request]:
        """The requests up to now, in the order in which their answers began."""
        return [replace(request, sent=sum(pieces)) for request, pieces in self._log.copy()]

    def paths(self) -> list[str]:
        """The path of each of `requests`."""
        return [request.path for request in self.requests]

    def bytes_sent(self, prefix: str = "") -> int:
        """How many bytes of bodies went out to requests whose path begins with `prefix`."""
        return sum(request.sent for request in self.requests if request.path.startswith(prefix))

    def clear(self) -> None:
        """Forget the requests up to now."""
        self._log.clear()

    def fault(self, path_glob: str, *faults: Fault, times: int | None = None) -> Rule:
        """Strike the requests (`times` of them, or all) whose path matches the glob; `*` matches slashes too.

        The first rule that matches and is not used up is the one that counts. Several faults strike together:
        `fault("*.conda", Call(publish), Truncate(10))`.
        """
        if not path_glob.startswith(("/", "*")):
            raise ValueError(f"{path_glob!r} can match no path: paths begin with a slash")
        rule = Rule(path_glob, faults, times)
        with self._rules_lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Take back all faults; answers under way keep theirs."""
        with self._rules_lock:
            self._rules.clear()

    def _faults(self, path: str) -> tuple[Fault, ...]:
        with self._rules_lock:
            for rule in self._rules:
                if fnmatchcase(path, rule.pattern) and (rule.times is None or rule.hits < rule.times):
                    rule.hits += 1
                    return rule.faults
        return ()

    def _answer(self, method: str, path: str, headers: Headers) -> tuple[Status, _Plan]:
        """The answer to a request, and what is to go wrong while it is sent."""
        plan = _Plan()
        if self.credentials is not None:
            proof = base64.b64encode(":".join(self.credentials).encode()).decode()
            if headers.get("authorization") != f"Basic {proof}":
                return Status(401, {"WWW-Authenticate": 'Basic realm="upstream"'}), plan
        for fault in self._faults(path):
            plan.add(fault)
        if plan.answer is not None:
            return plan.answer, plan
        # Bytes that are in no file have no time either.
        found = _read(self.root, path) if plan.content is None else (plan.content, None)
        if found is None:
            return Status(404), plan
        return self._serve(method, path, headers, *found), plan

    def _serve(self, method: str, path: str, headers: Headers, data: bytes, modified: int | None) -> Status:
        """The answer (200, 206, 304, 416) that holds `data`, last modified at that time if it has one."""
        validators = {}
        if self.etags:
            validators["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        if self.last_modified and modified is not None:
            validators["Last-Modified"] = formatdate(modified, usegmt=True)
        if _is_known(headers, validators):
            return Status(304, validators)
        fields = validators | {"Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream"}
        if self.ranges:
            fields["Accept-Ranges"] = "bytes"
        span = None
        if self.ranges and method == "GET" and headers.get("if-range") in (None, *validators.values()):
            span = _span(headers.get("range", ""), len(data))
        if span is None:
            return Status(200, fields, data)
        first, end = span
        if first >= end:
            return Status(416, {"Content-Range": f"bytes */{len(data)}"})
        fields["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
        return Status(206, fields, data[first:end])


def _read(root: Path, path: str) -> tuple[bytes, int] | None:
    """The bytes and the modification time (whole seconds) of the file at a URL path, if there is one."""
    if ".." in path.split("/"):
        return None
    try:
        with (root / path.lstrip("/")).open("rb") as file:
            return file.read(), int(os.fstat(file.fileno()).st_mtime)
    except (OSError, ValueError):  # a ValueError: the path holds a null character
        return None


def _is_known(headers: Headers, validators: Headers) -> bool:
    """Whether a request says that its client holds what `validators` describe; a tag outranks a date."""
    if "if-none-match" in headers and "ETag" in validators:
        tags = [tag.strip().removeprefix("W/") for tag in headers["if-none-match"].split(",")]
        return "*" in tags or validators["ETag"] in tags
    if "if-modified-since" in headers and "Last-Modified" in validators:
        # A malformed date is an error and fails the test: no client of ours may send one.
        since = parsedate_to_datetime(headers["if-modified-since"])
        return parsedate_to_datetime(validators["Last-Modified"]) <= since
    return False


def _span(value: str, size: int) -> tuple[int, int] | None:
    """First and end (exclusive) of what a Range header asks of `size` bytes.

    None if it is not one valid range, and so to be ignored; first >= end if it can't be satisfied.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", value)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


# Not a ThreadingHTTPServer: that adds only a look-up of the host's full name, which can take seconds.
class _Server(socketserver.ThreadingTCPServer):
    """Accepts connections, one thread each, and knows them all so that it can end them."""

    request_queue_size = 128

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        self._connections: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        arguments = (request, client_address)
        work = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        work.start()
        alive = {thread: its for thread, its in self._connections.items() if thread.is_alive()}
        self._connections = alive | {work: request}

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that went away, or our own hanging up, is what tests are about.
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)

    def server_close(self) -> None:
        """Stop listening, break all connections and see their threads end."""
        super().server_close()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 10.0
        for thread in self._connections:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.errors.append(TimeoutError("a request was still being answered ten seconds after the end"))


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, has them answered by the `Upstream`, sends the answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, plan = self.server.upstream._answer(self.command, path, headers)
        # Logged before any of it is sent: a client that has the answer finds it in the log.
        pieces: list[int] = []
        self.server.upstream._log.append((Request(self.command, path, headers, answer.code), pieces))
        self.send_response(answer.code)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        body = gzip.compress(answer.body) if plan.packed else answer.body
        bodiless = answer.code in (204, 304)
        if plan.packed:
            self.send_header("Content-Encoding", "gzip")
        if plan.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif plan.unframed:
            self.send_header("Connection", "close")
        elif not bodiless:
            self.send_header("Content-Length", str(len(body) + plan.more))
        self.end_headers()
        if not bodiless and self.command != "HEAD":
            self._send(body[: plan.end][: plan.pause_at], plan, pieces)
            self.server.stopping.wait(plan.pause)
            self._send(body[: plan.end][plan.pause_at :], plan, pieces)
            if plan.chunked and plan.end is None:
                self.wfile.write(b"0\r\n\r\n")
        if plan.end is not None or plan.more:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, data: bytes, plan: _Plan, pieces: list[int]) -> None:
        """Send a part of the body as the plan has it, and count it in `pieces`."""
        rate = plan.rate
        size = 1 << 16 if rate is None else max(1, rate // 20)
        for start in range(0, len(data), size):
            chunk = data[start : start + size]
            # Counted first: a client that has it must find it counted.
            pieces.append(len(chunk))
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if plan.chunked else chunk)
            except OSError:
                pieces.pop()
                raise
            if rate is not None:
                self.server.stopping.wait(len(chunk) / rate)

    def log_message(self, *message: object) -> None:
        """Say nothing: what was asked is in `Upstream.requests`."""
