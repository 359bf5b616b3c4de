"""From a body to an HTTP response: conditions, ranges, and the bytes on the wire (RFC 9110, sections 8, 13 and 14).

Headers are written here and not by aiohttp's Response, and what never changes of them is made once for an answer: that
is a third of the time of a small request.
"""

import html
import http
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from .. import codec
from . import negotiate
from .answers import UNCACHED, Cache, Place
from .bodies import Body
from .parts import FilePart, Missing, Part, flush, missing, open_whole, read_small

_log = logging.getLogger(__name__)
IMMUTABLE = "public, max-age=31536000, immutable"
SHORT = "public, max-age=300"
NO_STORE = "no-store"
#: kept, and asked about each time
REVALIDATE = "public, no-cache"
#: bytes; larger parts of files go from the page cache to the socket without passing through this process
_READ = 128 << 10
#: bytes from memory given to a socket at once; the first of them go with the headers
_JOINED = 512 << 10
_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*", re.IGNORECASE | re.ASCII)
#: user and password of a URL; a client's token for a channel (see addresses), also below a selector, and in a whole URL, where
#: it may be below what a proxy has put us at
_USER = re.compile(r"(^|//)[^/?#]*@")
_TOKEN = re.compile(r"^((?:[a-z]+://[^?#]*?|(?:/[^/?]+)?)/t/)[^/?#]+", re.IGNORECASE)
_ACCEPT_RANGES = b"Accept-Ranges: bytes\r\n"
_CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: ".encode() for status in http.HTTPStatus}


@dataclass(slots=True)
class Head:
    """What the headers of one representation say, apart from status and length."""

    etag: str
    #: Last-Modified as an HTTP date, empty if there is none
    modified: str
    #: whether other codings of it are offered
    varies: bool
    #: header lines of every answer that gives or confirms it
    identity: bytes
    #: header lines that go with content
    content: bytes


def head(
    body: Body, place: Place | None, media: str, cache: str, *, modified: str = "", coding: str = "", vary: str = ""
) -> Head:
    """Make the headers of a representation. vary: request fields that choose between this and others, as Vary has them."""
    identity = [f"ETag: {body.etag}", f"Cache-Control: {cache}", *_place_lines(place)]
    identity += [f"Last-Modified: {modified}"] if modified else []
    identity += [f"Vary: {vary}"] if vary else []
    identity += body.further
    content = [f"Content-Type: {media}", "Accept-Ranges: bytes", "X-Content-Type-Options: nosniff"]
    content += [f"Content-Encoding: {coding}"] if coding else []
    return Head(body.etag, modified, bool(vary), _lines(identity), _lines(content))


def _place_lines(place: Place | None) -> Iterator[str]:
    if place:
        yield f"X-Snapmirror-Snapshot: {place.snapshot}"
        if place.provisional:
            yield f"X-Snapmirror-Provisional: until {place.provisional}"


def _lines(fields: list[str]) -> bytes:
    return "".join(f"{field}\r\n" for field in fields).encode("latin-1")


def redact(url: str) -> str:
    """A URL, or the path of one, without what a client might have to keep secret; a query stays."""
    if "@" in url:
        url = _USER.sub(r"\1", url)
    return _TOKEN.sub(r"\1-", url) if "/t/" in url else url


class Reply(web.StreamResponse):
    """A response whose header lines and content are settled. It closes its content when it was sent, or can't be."""

    #: for the access log
    cache: Cache = UNCACHED
    #: path of the repo and kind of the selector that it was asked for by, `-` for none; for metrics
    about: tuple[str, str] = ("-", "-")
    #: when its request was there, by time.monotonic
    began = 0.0
    #: called when it is over
    over: "Callable[[Reply], None] | None" = None

    def __init__(self, status: int, lines: bytes, content: bytes | Part | None) -> None:
        super().__init__(status=status)
        self._lines = lines
        self.content = content

    @classmethod
    def whole(cls, request: web.BaseRequest, status: int, head_: Head, content: bytes) -> "Reply":
        """An answer with a representation that tells of something else than success: no condition or range applies to it."""
        lines = head_.identity + head_.content.replace(_ACCEPT_RANGES, b"") + b"Content-Length: %d\r\n" % len(content)
        return cls(status, lines, None if request.method == "HEAD" else content)

    def add(self, *fields: str) -> None:
        """Add header fields, each as `Name: value`."""
        self._lines += _lines(list(fields))

    def keep_private(self) -> None:
        """No cache that serves several clients may keep it."""
        self._lines = self._lines.replace(b"Cache-Control: public", b"Cache-Control: private", 1)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything. Raises ConnectionError if that fails in the middle: the connection can't be used any more."""
        try:
            await self._send(request)
        except ConnectionError:
            raise
        except (OSError, RuntimeError) as error:  # a disk that fails; a transport that was closed a moment ago
            _log.error("%s was cut short: %s", redact(request.raw_path), error)
            raise ConnectionResetError from None
        finally:
            if self.content is not None and not isinstance(self.content, bytes):
                self.content.close()
            if self.over:
                self.over(self)
        self._eof_sent = True
        return None

    async def _send(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._keep_alive = request.keep_alive and self._keep_alive is not False  # force_close() says False
        connection = _connection(request, self._keep_alive)
        start = _STATUS_LINES[self.status] + _date(int(time.time())) + self._lines + connection
        content = self.content
        if content is not None and not isinstance(content, bytes):
            transport.write(start)
            try:
                if not await content.send(transport, request.writer.drain):  # nobody may take it for the whole
                    transport.abort()
                await flush(transport, request.writer.drain)
            finally:
                self._body_length = content.sent
            return
        body = content or b""
        transport.write(start + body[:_JOINED])
        await flush(transport, request.writer.drain)
        self._body_length = min(len(body), _JOINED)
        for step in range(_JOINED, len(body), _JOINED):
            transport.write(memoryview(body)[step : step + _JOINED])
            await flush(transport, request.writer.drain)
            self._body_length = min(len(body), step + _JOINED)

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything was sent."""


def _connection(request: web.BaseRequest, keep_alive: bool) -> bytes:
    if not keep_alive:
        return b"Connection: close\r\n\r\n"
    return b"Connection: keep-alive\r\n\r\n" if request.version < (1, 1) else b"\r\n"


@lru_cache(1)
def _date(now: int) -> bytes:
    """The Date field's value and the end of its line."""
    return formatdate(now, usegmt=True).encode() + b"\r\n"


def problem(
    request: web.BaseRequest, status: int, text: str, place: Place | None = None, *fields: str, media: str = ""
) -> Reply:
    """An answer without a representation: a sentence, never kept by caches.

    fields: further header lines; media: in which form, instead of that which the request asks for
    """
    media, content = _said(media or request.headers.get("Accept", ""), text)
    lines = [f"Cache-Control: {NO_STORE}", *_place_lines(place), *fields]
    lines += [f"Content-Type: {media}", "X-Content-Type-Options: nosniff", f"Content-Length: {len(content)}"]
    return Reply(status, _lines(lines), None if request.method == "HEAD" else content)


def _said(accept: str, text: str) -> tuple[str, bytes]:
    """A sentence as JSON or HTML for who asks for that first (pip and uv; browsers), else as it is."""
    first = accept.partition(",")[0].partition(";")[0].strip().lower()
    if first.endswith(("/json", "+json")):
        return "application/json", codec.to_json({"message": text}) + b"\n"
    if first.endswith(("/html", "+html")):
        page = f"<!DOCTYPE html>\n<title>{html.escape(text)}</title>\n<p>{html.escape(text)}</p>\n"
        return "text/html; charset=utf-8", page.encode()
    return "text/plain; charset=utf-8", f"{text}\n".encode()


def respond(request: web.BaseRequest, head_: Head, body: Body, place: Place | None, accel: str = "") -> Reply:
    """The answer to a GET or HEAD of a representation. Raises Missing.

    accel: where the nginx in front of us finds files; it then sends their bytes, and parts of them
    """
    headers = request.headers
    if (settled := _unless(request, head_, place)) is not None:
        if settled.status == 304:
            _check(body)
        return settled
    if accel and body.path is not None and request.method == "GET":
        _check(body)
        content = head_.content.replace(_ACCEPT_RANGES, b"")  # nginx says that itself
        where = f"X-Accel-Redirect: {accel}{body.path.parent.name}/{body.path.name}\r\nContent-Length: 0\r\n"
        return Reply(200, head_.identity + content + where.encode(), None)
    start, count, status, lines = 0, body.size, 200, head_.identity + head_.content
    if "Range" in headers and request.method == "GET" and _range_holds(request, head_):
        match parse_range(headers["Range"], body.size):
            case (first, last):
                start, count, status = first, last - first + 1, 206
                lines += b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, body.size)
            case ():
                return problem(request, 416, f"there are {body.size} bytes", place, f"Content-Range: bytes */{body.size}")
            case None:
                pass
    lines += b"Content-Length: %d\r\n" % count
    if request.method == "HEAD":
        _check(body)
        return Reply(status, lines, None)
    return Reply(status, lines, _part(body, start, count))


def respond_unsized(request: web.BaseRequest, head_: Head, coming: Callable[[], Part], place: Place | None) -> Reply:
    """The answer for what is on its way and of unknown size: as a whole, in chunks (RFC 9112 section 7.1)."""
    if (settled := _unless(request, head_, place)) is not None:
        return settled
    lines = head_.identity + head_.content.replace(_ACCEPT_RANGES, b"")
    if request.method == "HEAD":
        return Reply(200, lines, None)
    return Reply(200, lines + b"Transfer-Encoding: chunked\r\n", coming())


def _unless(request: web.BaseRequest, head_: Head, place: Place | None) -> Reply | None:
    """The answer that the conditions of a request lead to; None to go on."""
    if not any(name in request.headers for name in _CONDITIONS):
        return None
    status = _condition(request, head_)
    if status == 304:
        return Reply(304, head_.identity, None)
    return problem(request, status, "the condition of the request does not hold", place) if status else None


def _condition(request: web.BaseRequest, head_: Head) -> int:
    """The status that preconditions lead to, 0 to go on (RFC 9110 section 13.2.2)."""
    headers = request.headers
    if (tags := headers.get("If-Match")) is not None:
        if not _matches(tags, head_.etag, weak=False):
            return 412
    elif (dates := _dates(head_, headers.get("If-Unmodified-Since"))) and dates.modified > dates.stated:
        return 412
    if (tags := headers.get("If-None-Match")) is not None:
        return 304 if _matches(tags, head_.etag, weak=True) else 0
    # Unchanged means the very date that we gave, as nginx has it: a pin moved back makes the older state the new one.
    return 304 if (dates := _dates(head_, headers.get("If-Modified-Since"))) and dates.modified == dates.stated else 0


class _Dates(NamedTuple):
    """What can be compared: since when a representation is as it is, and a date that a client states."""

    modified: datetime
    stated: datetime


def _dates(head_: Head, stated: str | None) -> _Dates | None:
    modified, instant = _instant(head_.modified), _instant(stated)
    return _Dates(modified, instant) if modified and instant else None


def _matches(tags: str, etag: str, *, weak: bool) -> bool:
    """Whether a list of entity tags, or `*`, covers one (RFC 9110 section 8.8.3.2). Ours are hexadecimal: no commas."""
    found = [tag.strip() for tag in tags.split(",")]
    return found == ["*"] or etag in ([tag.removeprefix("W/") for tag in found] if weak else found)


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for years and offsets beyond all calendars
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _range_holds(request: web.BaseRequest, head_: Head) -> bool:
    """If-Range: the very same entity tag, or the very same date."""
    stated = request.headers.get("If-Range")
    if stated is None or stated.strip() == head_.etag:
        return True
    if head_.varies and negotiate.coding(request.headers.get("Accept-Encoding")):
        return False  # all codings have one date, parts are of the plain form, and what the client has may be of another
    return bool(head_.modified) and stated.strip() == head_.modified


def parse_range(text: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """First and last byte of a Range field; () if it can't be satisfied, None if it is to be ignored.

    Several ranges are ignored, as RFC 9110 section 14.2 allows.
    """
    found = _RANGE.fullmatch(text.strip())
    if not found:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        return (max(0, size - int(suffix)), size - 1) if int(suffix) and size else ()
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return ()
    return int(first), min(int(last), size - 1) if last else size - 1


def _check(body: Body) -> None:
    """Raise Missing if a body is a file that is not there, or of another size: the answer vouches for it unread."""
    if body.path is not None:
        try:
            size = os.stat(body.path).st_size
        except OSError as error:
            raise missing(error) from None
        if size != body.size:
            raise Missing(f"has {size} bytes instead of {body.size}")


def _part(body: Body, start: int, count: int) -> bytes | Part:
    """So many bytes of a body, or what sends them. Raises Missing."""
    if body.coming is not None:
        return body.coming(start, count)
    if body.data is not None:
        return body.data if count == body.size else body.data[start : start + count]
    assert body.path is not None
    if count <= _READ:
        return read_small(body.path, body.size, start, count)
    return FilePart(open_whole(body.path, body.size), start, count)
