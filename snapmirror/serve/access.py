"""The access log: one line for each answer.

A line is one write to a file that was opened for appending: the lines of several processes do not mix, and none waits in a
buffer. The supervisor opens the file, and does so anew on SIGHUP, together with the workers that then write to it.
"""

import logging
import re
import time
from email.utils import formatdate
from functools import lru_cache
from typing import BinaryIO, Self

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from .. import clock
from ..errors import UsageError
from .answers import Cache
from .respond import Reply, redact
from .settings import Serve

_log = logging.getLogger(__name__)
#: what needs no escape between double quotes
_PLAIN = re.compile(r"[ !#-\[\]-~]*")
_STANDARD_OUTPUT = 1


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of an answer, as JSON has it."""

    time: str
    client: str
    method: str
    target: str
    protocol: str
    status: int
    bytes: int
    referer: str | None
    user_agent: str | None
    cache: str | None
    seconds: float
    upstream_seconds: float | None


class AccessLog:
    """An opened log."""

    def __init__(self, file: BinaryIO, *, json: bool) -> None:
        self._file = file
        self._make = _json if json else _combined
        self._failing = False

    @classmethod
    def open(cls, settings: Serve) -> Self | None:
        """What is configured, if anything is. Raises UsageError."""
        if not settings.access_log:
            return None
        json = settings.access_log_format == "json"
        if settings.access_log == "-":
            return cls(open(_STANDARD_OUTPUT, "wb", buffering=0, closefd=False), json=json)
        try:
            return cls(open(settings.access_log, "ab", buffering=0), json=json)
        except OSError as error:
            raise UsageError(f"access_log {settings.access_log} can't be written: {error.strerror}") from None

    def close(self) -> None:
        """Of this process; others that have it go on."""
        self._file.close()

    @property
    def logger(self) -> type[AbstractAccessLogger]:
        """As aiohttp wants it: a class, of which it makes one for each connection."""
        write = self._write

        class Logger(AbstractAccessLogger):
            __slots__ = ()

            def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
                """time: seconds that the answer took"""
                write(request, response, time)

        return Logger

    def _write(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        try:
            self._file.write(self._make(request, response, seconds))
        except OSError as error:  # a full disk is no reason to answer nobody; said once
            if not self._failing:
                _log.error("the access log can't be written: %s", error.strerror)
            self._failing = True
        else:
            self._failing = False


def _combined(request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> bytes:
    """The combined format of Apache and nginx, and three more fields. Its first part is what their readers look for."""
    headers, cache = request.headers, _cache(response)
    version = request.version
    return (
        f"{request.remote or '-'} - - [{_stamp(int(time.time()))}] "
        f'"{_escape(request.method)} {_escape(redact(request.raw_path))} HTTP/{version.major}.{version.minor}" '
        f"{response.status} {response.body_length} "
        f'"{_escape(redact(headers.get("Referer", "-")))}" "{_escape(headers.get("User-Agent", "-"))}" '
        f"{cache.status if cache else '-'} {seconds:.3f} {_seconds(cache)}\n"
    ).encode()


def _json(request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> bytes:
    headers, cache, version, now = request.headers, _cache(response), request.version, time.time()
    referer, agent = headers.get("Referer"), headers.get("User-Agent")
    upstream = cache.upstream if cache else None
    line = Line(
        time=f"{_second(int(now))}.{int(now % 1 * 1000):03d}Z",
        client=request.remote or "-",
        method=_text(request.method),
        target=_text(redact(request.raw_path)),
        protocol=f"HTTP/{version.major}.{version.minor}",
        status=response.status,
        bytes=response.body_length,
        referer=None if referer is None else _text(redact(referer)),
        user_agent=None if agent is None else _text(agent),
        cache=cache.status if cache else None,
        seconds=round(seconds, 3),
        upstream_seconds=None if upstream is None else round(upstream, 3),
    )
    return msgspec.json.encode(line) + b"\n"


def _cache(response: web.StreamResponse) -> Cache | None:
    return response.cache if isinstance(response, Reply) else None  # aiohttp answers itself what is no HTTP


def _seconds(cache: Cache | None) -> str:
    return "-" if cache is None or cache.upstream is None else f"{cache.upstream:.3f}"


@lru_cache(1)
def _stamp(now: int) -> str:
    """`21/Nov/2026:19:46:45 +0000`, whatever the locale."""
    _, day, month, year, hour, _ = formatdate(now, usegmt=True).split()
    return f"{day}/{month}/{year}:{hour} +0000"


@lru_cache(1)
def _second(now: int) -> str:
    return f"{clock.from_seconds(now):%Y-%m-%dT%H:%M:%S}"


def _escape(text: str) -> str:
    """Nothing that a client sends ends a field or a line."""
    if _PLAIN.fullmatch(text):
        return text
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(one) if 32 <= one < 127 and one not in b'"\\' else f"\\x{one:02X}" for one in data)


def _text(text: str) -> str:
    """What JSON can have: bytes that are no UTF-8 are escaped."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
