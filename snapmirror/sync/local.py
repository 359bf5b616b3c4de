"""`file:` upstreams: folders of this machine, or mounted on it."""

import contextlib
import errno
import os
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..ecosystem import Answer
from ..errors import AbsentError, BadIndexError, TransportError
from ..validators import Validators


def file_path(url: str) -> Path:
    """The path of a `file:` URL."""
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Errors of reading upstream's file become UpstreamErrors: they say nothing of our own disk."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a null character
        raise AbsentError(url, 404) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise AbsentError(url, 404) from None
        raise TransportError(url, error.strerror or str(error)) from None


def open_file(url: str) -> BinaryIO:
    """A file of upstream's for reading. Raises AbsentError, TransportError."""
    with reading(url):
        file = open(file_path(url), "rb", buffering=0, opener=_open)  # noqa: SIM115 - the caller's
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise TransportError(url, "is no regular file")
        return file


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for who writes into it


def get_file(url: str, limit: int, known: Validators | None) -> Answer | None:
    """As Http.get for a `file:` URL; the state of the inode is its validator."""
    with open_file(url) as file:
        status = os.fstat(file.fileno())
        validators = Validators(f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}", "")
        if known == validators:
            return None
        if status.st_size > limit:
            raise BadIndexError(url, f"is larger than {limit} bytes")
        with reading(url):
            return Answer(file.read(), validators)
