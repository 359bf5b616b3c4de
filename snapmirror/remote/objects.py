"""The objects below one prefix of a bucket: the only importer of obstore.

Of what S3 offers only this is relied on, which every server that we know honours: a PUT replaces an object as a whole, a
single PUT with `If-None-Match: *` into an unversioned bucket creates it for one writer only, and listings show what was
written before. `If-Match`, and conditions at the end of a multipart upload, are not.
"""

import contextlib
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import obstore
import requests
from obstore import exceptions
from obstore.store import S3Store
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from ..errors import ObjectError
from .settings import S3, Address

_Value = TypeVar("_Value")
#: the object that says that there is a store
FORMAT_KEY = "snapmirror.json"
#: requests at a time: of objects of 1 kB a local gateway takes 330 a second one by one, and 1,100 so
_AT_ONCE = 16
_RETRIES = 6
#: parts of a large object that are under way at once, 5 MB each: as many as twelve, for 16 objects, would be a gigabyte
_PARTS = 2
#: how long a request may take, and something that is asked again from the first request on
_LONGEST = timedelta(minutes=10)
#: bytes of a piece that is sent on
_STREAMED = 256 << 10
#: seconds after which a request that keeps failing is given up
_PATIENCE = 60
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
#: what a service calls an error -> what it means, and what to do
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket; create it (without versioning) and try again",
    "RequestTimeTooSkewed": "this machine's clock differs from the service's by over 15 minutes; set it right",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "AccessDenied": "these credentials may not do that",
    "SlowDown": "the service is overloaded and keeps saying so",
    "QuotaExceeded": "the bucket's quota is used up",
}


class Info(NamedTuple):
    """An object as a listing sees it."""

    key: str
    size: int
    #: by the service's clock
    modified: datetime
    etag: str


class _Alike(HTTPAdapter):
    """Trusts whom obstore trusts: the system's authorities, or those of `SSL_CERT_FILE`. requests goes by a list of its own."""

    def init_poolmanager(self, *sizes: Any, **more: Any) -> None:
        super().init_poolmanager(*sizes, **more, ssl_context=ssl.create_default_context())


class Objects:
    """Reads and writes objects by keys, which are relative to the prefix. Every method raises ObjectError."""

    def __init__(self, address: Address, settings: S3) -> None:
        self.address = address
        given = {
            "endpoint": settings.endpoint,
            "region": settings.region,
            "access_key_id": settings.access_key,
            "secret_access_key": settings.secret_key,
        }
        self._store = S3Store(
            address.bucket,
            prefix=address.prefix or None,
            virtual_hosted_style_request=not settings.path_style,
            client_options={"allow_http": True, "connect_timeout": timedelta(seconds=10), "timeout": _LONGEST},
            retry_config={"max_retries": _RETRIES, "retry_timeout": _LONGEST},
            **{key: value for key, value in given.items() if value},  # type: ignore[arg-type]
        )
        self._session = requests.Session()
        self._session.trust_env = False  # no passwords of netrc beside a signature
        self._session.mount("https://", _Alike())
        self._threads: ThreadPoolExecutor | None = None
        self._beginning = threading.Lock()

    @property
    def threads(self) -> ThreadPoolExecutor:
        """For many requests at once."""
        with self._beginning:
            if self._threads is None:  # not before the first of them: a process that has threads must not be forked
                self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="objects")
            return self._threads

    def close(self) -> None:
        """Wait for what is under way."""
        if self._threads is not None:
            self._threads.shutdown()
        self._session.close()

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._error(key, error) from None
            raise
        except (exceptions.BaseError, requests.RequestException, OSError) as error:
            raise self._error(key, error) from None

    def _error(self, key: str, error: Exception) -> ObjectError:
        text = str(error)
        code = _CODE.search(text)
        status = _STATUS.search(text)
        name = code[1] if code else f"status {status[1]}" if status else ""
        meaning = _MEANINGS.get(name, "") or (f"the service answers {name}" if name else "the service can't be reached")
        return ObjectError(f"{self.address}/{key}".rstrip("/"), name, meaning)

    def _insist(self, what: Callable[[], _Value]) -> _Value:
        """Do something harmless again if there is no answer, as obstore does: a service is restarted, or ends a connection that
        it finds idle in the moment in which it is used. What began in time is no last try: if this process, or the machine, was
        stopped meanwhile, the connection is cut and the time over, and nothing is wrong with the service.
        """
        end, pause = time.monotonic() + _PATIENCE, 0.1
        while True:
            began = time.monotonic()
            try:
                return what()
            except ObjectError as error:
                if error.code or began > end:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 5)

    # One object

    def get(self, key: str) -> bytes | None:
        """The bytes of an object, None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._errors(key):
            return bytes(self._store.get(key).bytes())
        return None

    def pieces(self, key: str, start: int, count: int, size: int) -> Iterator[bytes]:
        """So many bytes of an object as they come. Raises FileNotFoundError. size: of the whole"""
        with self._errors(key):
            if (start, count) == (0, size):
                found = self._store.get(key)
            else:
                found = self._store.get(key, options={"range": (start, start + count)})
            for piece in found.stream(min_chunk_size=1 << 20):
                yield bytes(piece)

    async def stream(self, key: str, start: int, count: int, size: int) -> AsyncIterator[bytes]:
        """As `pieces`, in an event loop."""
        with self._errors(key):
            options: Any = {} if (start, count) == (0, size) else {"range": (start, start + count)}
            found = await self._store.get_async(key, options=options)
            async for piece in found.stream(min_chunk_size=_STREAMED):
                yield bytes(piece)

    def size(self, key: str) -> int | None:
        """Bytes of an object, None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._errors(key):
            return int(self._store.head(key)["size"])
        return None

    def put(self, key: str, data: bytes | Path) -> None:
        """Make an object hold these bytes, or those of a file."""
        with self._errors(key):
            self._store.put(key, data, max_concurrency=_PARTS)

    def create(self, key: str, data: bytes) -> bool:
        """Make an object unless there is one; whether it was made.

        An answer that gets lost is asked for again, and then it is ours that is there: its bytes tell. obstore can't know that.
        """

        def put() -> bool:
            with self._errors(key):
                try:
                    self._store.put(key, data, mode="create", use_multipart=False)
                except exceptions.AlreadyExistsError:
                    return self.get(key) == data
            return True

        return self._insist(put)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there, that nobody else writes."""
        self.within("DELETE", key, timedelta(minutes=5))

    # Many

    def list(self, prefix: str, after: str = "") -> Iterator[Info]:
        """The objects below a prefix, by key; those after a key, if one is given."""
        with self._errors(prefix):
            for page in self._store.list(prefix, offset=after or None, chunk_size=1000):
                for one in page:
                    yield Info(one["path"], one["size"], one["last_modified"], one["e_tag"] or "")

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Objects, in the order of their keys; None for one that is not there."""
        keys = list(keys)
        yield from zip(keys, self.threads.map(self.get, keys), strict=True)

    # Within a time

    def now(self) -> datetime:
        """The service's time, to the second."""

        def ask() -> str | None:
            with self._errors(""):
                url = self.sign("HEAD", FORMAT_KEY, timedelta(minutes=1))
                return self._session.head(url, proxies=get_environ_proxies(url), timeout=(10, 30)).headers.get("Date")

        stated = self._insist(ask)
        try:
            return parsedate_to_datetime(stated or "")
        except ValueError:
            raise ObjectError(str(self.address), "", "the service does not say what time it is") from None

    def sign(self, method: str, key: str, lifetime: timedelta) -> str:
        """A URL with which whoever has it may do that for so long, by the service's clock and from ours on."""
        with self._errors(key):
            return str(obstore.sign(self._store, method, key, lifetime))  # type: ignore[call-overload]

    def within(
        self,
        method: str,
        key: str,
        lifetime: timedelta,
        data: bytes | None = None,
        *,
        create: bool = False,
        unanswered: Callable[[], None] = lambda: None,
    ) -> bool:
        """PUT or DELETE an object, refused by the service itself if the request gets there later than `lifetime` from now.

        create: only if there is none; whether it was done
        unanswered: called if a request gets no answer, and so may yet get there, though it is made again
        """
        url = self.sign(method, key, lifetime)
        headers = {"If-None-Match": "*"} if create else {}
        end, pause = time.monotonic() + lifetime.total_seconds(), 0.1
        while True:
            try:
                proxies = get_environ_proxies(url)  # by which obstore goes too
                answer = self._session.request(method, url, data=data, headers=headers, proxies=proxies, timeout=(10, 60))
                status, text = answer.status_code, answer.text
            except requests.RequestException as error:
                status, text = 599, str(error)
            if status >= 500 and status != 503:  # 504 is what a proxy says of a service that may be at it still
                unanswered()
            if status < 300 or (method == "DELETE" and status == 404):
                return True
            if create and status == 412:
                return False
            pause = min(2 * pause, 5)
            if (status < 500 and status != 409) or time.monotonic() + pause > end:
                raise self._error(key, RuntimeError(f"status code: {status} {text}" if status != 599 else text))
            time.sleep(pause)
