"""Requests to upstreams: limits, bodies as they arrive, and metadata documents. `sessions` has what differs between hosts.

urllib3's Retry does statuses, back-off and Retry-After; what it can't do, going on with a broken body, is in `download`.
"""

import contextlib
import email.utils
import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Self, TypeVar

import requests
import urllib3

from .. import addresses, clock
from ..errors import AbsentError, BadIndexError, SnapmirrorError, TooManyFiles, TransportError, UpstreamError
from ..readings import Answer, Known, Notes, Stated, Unchanged
from ..validators import Validators
from . import wire
from .local import NO_MORE_FILES, get_file, head_file
from .notes import NoNotes
from .sessions import HostRules, RefusedError, new_session, rules_for
from .settings import Download

#: the statuses 4xx that don't mean that there is no such document: S3 says that with 403, others with 400
_NOT_ABSENT = {401, 407, 408, 429}
#: seconds that a pause between two tries may take in a sync
PATIENCE = 60
#: the same where a client waits
HURRIED = 2
#: bytes that are hashed and written at a time
_PIECE = 1 << 19
#: what requests and urllib3 raise for a bad connection or a nonsensical answer; ValueError: Location: http://[::1
_TROUBLE = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)

_Result = TypeVar("_Result")


class Http:
    """Requests to upstreams from several threads. Fulfils `readings.Upstream`."""

    def __init__(
        self,
        settings: Download,
        warn: Callable[[str], None],
        notes: Notes | None = None,
        now: clock.Clock = clock.now,
        patience: int = PATIENCE,
    ) -> None:
        """warn: takes what does not fail a sync and that the operator should know
        notes: where ecosystems keep what they want to know again; nowhere if None
        patience: seconds that a pause before another try may take, whatever upstream asks for (Retry-After)
        """
        self._patience = patience
        self.settings = settings
        self.notes: Notes = notes or NoNotes()
        self.warn = warn
        self.now = now
        self.pool = ThreadPoolExecutor(settings.connections, thread_name_prefix="fetch")
        self._local = threading.local()
        self._hosts: dict[tuple[str, ...], HostRules] = {}
        self._hosts_lock = threading.Lock()
        self._bandwidth = Bandwidth(settings.bytes_per_second)
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping = kind is not None
        self.pool.shutdown(wait=kind is None, cancel_futures=True)

    def stop(self) -> None:
        """End running transfers at their next piece; what has arrived is kept."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called, or the block has ended in an error."""
        return self._stopping

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = new_session(self._host, self.settings, self._patience)
        session: requests.Session = self._local.session
        return session

    def _host(self, url: str) -> HostRules:
        """What holds for all requests to a host by one scheme. requests would look up netrc and proxies anew for each: a sixth
        of the time of a small file.
        """
        name = urllib.parse.urlsplit(url)[:2]
        with self._hosts_lock:
            if name not in self._hosts:
                self._hosts[name] = rules_for(url, self.settings)
            return self._hosts[name]

    @contextlib.contextmanager
    def open(self, url: str, headers: dict[str, str], method: str = "GET") -> Iterator[requests.Response]:
        """An answer of any status, its body not read yet. Raises TransportError if there is none, TooManyFiles."""
        if self._stopping:
            raise TransportError(addresses.redact(url), "stopped")
        host = self._host(url)
        with host.gate:
            try:
                response = self._session().request(method, url, headers=headers, stream=True, auth=host.auth)
            except _TROUBLE as error:
                refused = isinstance(error, requests.TooManyRedirects | ValueError)
                raise _failure(url, error, RefusedError if refused else TransportError) from None
            with response:
                yield response

    def pieces(self, response: requests.Response, url: str) -> Iterator[bytes]:
        """The body as it arrives, in large pieces or every second. Raises TransportError if it breaks or stalls."""
        stalled = self._host(url).stalled
        mark, since = 0, time.monotonic()
        given = since
        waiting: list[bytes] = []
        size = 0
        try:
            while arrived := _read_some(response, url, stalled.seconds):
                since += self._bandwidth.take(len(arrived))  # we are the slow ones then
                mark += len(arrived)
                size += len(arrived)
                waiting.append(arrived)
                if self._stopping:
                    raise TransportError(addresses.redact(url), "stopped")
                now = time.monotonic()
                if now - since >= stalled.seconds:
                    if mark < stalled.bytes:
                        problem = f"stalled: {mark} bytes in {stalled.seconds:.0f} s"
                        raise TransportError(addresses.redact(url), problem)
                    mark, since = 0, now
                if size >= _PIECE or now - given >= 1.0:
                    whole, waiting, size, given = b"".join(waiting), [], 0, now
                    yield whole
        except GeneratorExit:
            raise
        except BaseException:
            if waiting:
                yield b"".join(waiting)  # what has arrived is kept, however it ends
            raise
        if waiting:
            yield b"".join(waiting)

    def get(self, url: str, *, limit: int, known: Validators | None = None, accept: str = "") -> Answer | None:
        """See `readings.Upstream.get`. A broken body is asked for again as a whole.

        One that nothing shows to be whole is believed if it comes twice, and is never known the next time.
        """
        if url.startswith("file:"):
            return get_file(url, limit, known)
        for left in range(self.settings.retries, -1, -1):
            try:
                answer, is_open = self._get(url, limit, known, accept)
                if is_open and not _same(answer, self._get(url, limit, known, accept)[0]):
                    raise _BrokenBody(addresses.redact(url), "it states no length, and two answers differ")
                return answer
            except _BrokenBody as error:
                if not left:
                    raise TransportError(error.url, error.problem) from None
        raise AssertionError("unreachable")

    def _get(self, url: str, limit: int, known: Validators | None, accept: str) -> tuple[Answer | None, bool]:
        """One request; None if the document is still the known one. And whether the body may be only its beginning."""
        headers = {"Accept": accept}
        if accept:  # what has forms to choose from is text; what has only one is packed already, or is to stay as it is
            headers["Accept-Encoding"] = "gzip"
        if known:
            plain = known.etag.removesuffix('-gzip"')  # Apache adds that to what it packs, and then does not know the tag again
            tags = known.etag if plain == known.etag else f'{known.etag}, {plain}"'
            headers |= {"If-None-Match": tags, "If-Modified-Since": known.modified}
        with self.open(url, {name: value for name, value in headers.items() if value}) as response:
            if response.status_code == 304 and known:
                return None, False
            _check_status(response.status_code, url)
            is_open = ends_with_connection(response)
            body = self._read(response, url, limit)
            stated = {name.lower(): value for name, value in response.headers.items()}
            validators = Validators(stated.get("etag", ""), stated.get("last-modified", ""))
            final = addresses.with_credentials(response.url, url)
        return Answer(body, validators if validators and not is_open else None, final, stated), is_open

    def _read(self, response: requests.Response, url: str, limit: int) -> bytes:
        if (response.raw.length_remaining or 0) > limit:
            raise BadIndexError(addresses.redact(url), f"is larger than {limit} bytes")
        found, size = [], 0
        try:
            for piece in self.pieces(response, url):
                size += len(piece)
                if size > limit:
                    raise BadIndexError(addresses.redact(url), f"is larger than {limit} bytes")
                found.append(piece)
        except TransportError as error:
            raise _BrokenBody(error.url, error.problem) from None
        return b"".join(found)

    def get_many(
        self, urls: Iterable[str], *, limit: int, known: Known | None = None, accept: str = ""
    ) -> Iterator[tuple[str, Answer | Exception]]:
        """See `readings.Upstream.get_many`."""
        running = {
            self.pool.submit(self.get, url, limit=limit, known=known(url) if known else None, accept=accept): url
            for url in urls
        }
        for url, answer in self._many(running):
            yield url, Unchanged() if answer is None else answer

    def head_many(self, urls: Iterable[str]) -> Iterator[tuple[str, Stated | Exception]]:
        """See `readings.Upstream.head_many`."""
        return self._many({self.pool.submit(self._head, url): url for url in urls})

    def _many(self, running: "dict[Future[_Result], str]") -> "Iterator[tuple[str, _Result | Exception]]":
        """What comes of requests under way, as it comes."""
        try:
            for future in as_completed(running):
                url, error = running.pop(future), future.exception()  # of thousands of answers none is kept once it is taken
                if error is None:
                    yield url, future.result()
                elif isinstance(error, UpstreamError):
                    yield url, error
                else:
                    raise error
        finally:
            for future in running:
                future.cancel()

    def _head(self, url: str) -> Stated:
        if url.startswith("file:"):
            return head_file(url)
        with self.open(url, {}, "HEAD") as response:
            headers = response.headers
        _check_status(response.status_code, url)
        length = headers.get("Content-Length", "") if "Content-Encoding" not in headers else ""
        return Stated(number(length), _seconds(headers.get("Last-Modified", "")))


def number(text: str) -> int | None:
    """Bytes that a header field states, None if it states none, or more than any file has: Python reads only so many digits."""
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _seconds(date: str) -> int | None:
    """An HTTP date as seconds since 1970, None if it is none."""
    try:
        return max(0, int(email.utils.parsedate_to_datetime(date).timestamp()))
    except (ValueError, OverflowError):
        return None


class _BrokenBody(TransportError):
    """A body that ended early; worth asking again."""


class Bandwidth:
    """A limit on bytes a second, shared by all threads."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int) -> float:
        """Wait until `count` more bytes fit under the limit; the seconds waited."""
        if self._limit is None:
            return 0.0
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + count / self._limit
            wait = max(0.0, start - time.monotonic())
        time.sleep(wait)
        return wait


def ends_with_connection(response: requests.Response) -> bool:
    """Whether only the end of the connection ends a body: then one that a server breaks off looks whole. Before it is read."""
    return response.raw.length_remaining is None and not response.raw.chunked


def _same(one: Answer | None, other: Answer | None) -> bool:
    return one is not None and other is not None and one.body == other.body


def decodes(response: requests.Response, url: str) -> bool:
    """Whether a body has to be decoded. Not if its encoding is only that of the file: `x.zst` is to stay as it is."""
    encoding = response.headers.get("Content-Encoding", "").lower()
    path = urllib.parse.urlsplit(url).path
    named = (encoding == "zstd" and path.endswith(".zst")) or ("gzip" in encoding and path.endswith(".gz"))
    return encoding not in ("", "identity") and not named


def _read_some(response: requests.Response, url: str, seconds: float) -> bytes:
    """What has arrived; read() would wait for more. Decoded piece by piece, so that a bomb meets the limit on the whole."""
    wire.expect(seconds)
    try:
        found: bytes = response.raw.read1(_PIECE, decode_content=decodes(response, url))
    except _TROUBLE as error:
        raise _failure(url, error, TransportError) from None
    return found


def _check_status(status: int, url: str) -> None:
    """Raise AbsentError or TransportError for what comes instead of a document."""
    if status == 501 or (400 <= status < 500 and status not in _NOT_ABSENT):
        raise AbsentError(addresses.redact(url), status)
    if status != 200:
        raise TransportError(addresses.redact(url), status_problem(status))


def status_problem(status: int) -> str:
    """A status that is no answer, in words."""
    hint = {
        401: " (credentials are missing or wrong: see auth, netrc and upstream in the manual)",
        403: " (forbidden)",
        429: " (too many requests)",
    }
    return f"upstream answers {status}{hint.get(status, '')}"


def _failure(url: str, error: BaseException, kind: type[TransportError]) -> SnapmirrorError:
    """What a request that got no answer, or half of one, is to raise. kind: unless the fault is ours

    A sync that withheld files because it could open no connection would publish by halves what upstream has.
    """
    if any(isinstance(cause, OSError) and cause.errno in NO_MORE_FILES for cause in _causes(error)):
        return TooManyFiles(addresses.redact(url))
    return kind(addresses.redact(url), _why(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it: the libraries keep these in three places."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        nested = cause.args[0] if cause.args and isinstance(cause.args[0], BaseException) else None
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else nested or cause.__cause__


def _why(error: BaseException) -> str:
    """What went wrong, without the URL that requests puts into its messages: it may hold credentials."""
    if isinstance(error, requests.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError):
        return "the connection timed out"
    if isinstance(error, requests.TooManyRedirects):
        return "redirects without end"
    if isinstance(error, urllib3.exceptions.DecodeError):
        return "its body is not in the encoding that it states"
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return "the proxy is a SOCKS proxy; that needs the package PySocks"
    if isinstance(error, ValueError):
        return f"an address or a header in its answer can't be used ({type(error).__name__})"
    if type(error) is OSError and error.errno is None:
        return str(error)  # requests' own: it does not find ca_bundle
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError | TimeoutError):
            return "stalled: too little arrived in time"
    return f"the connection broke ({type(error).__name__})"
