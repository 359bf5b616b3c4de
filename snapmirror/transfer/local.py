"""`file:` upstreams: folders of this machine, or mounted on it."""

import contextlib
import errno
import os
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .. import addresses, codec
from ..errors import AbsentError, BadIndexError, TooManyFiles, TransportError
from ..readings import Answer, Stated
from ..validators import Validators

#: of this process, and of this machine
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)


def file_path(url: str) -> Path:
    """The path that a `file:` URL names."""
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path, errors="surrogateescape"))


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Make errors of reading upstream's file AbsentError or TransportError: they say nothing of our own disk.

    Raises TooManyFiles, which says nothing of upstream.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a null character
        raise AbsentError(url, 404) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise AbsentError(url, 404) from None
        if error.errno in NO_MORE_FILES:
            raise TooManyFiles(url) from None
        raise TransportError(url, error.strerror or str(error)) from None


def open_file(url: str) -> BinaryIO:
    """A file of upstream's, opened for reading; the caller closes it. Raises AbsentError, TransportError."""
    with reading(url):
        file = open(file_path(url), "rb", buffering=0, opener=_open)  # noqa: SIM115 - the caller's
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise TransportError(url, "is no regular file")
        return file


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for who writes into it


def get_file(url: str, limit: int, known: Validators | None) -> Answer | None:
    """What Http.get answers for a `file:` URL; the inode's state is its validator. A folder comes as a list of its names."""
    with reading(url):
        if file_path(url).is_dir():
            return Answer(_list(url), None, url)
    with open_file(url) as file:
        status = os.fstat(file.fileno())
        validators = Validators(f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}", "")
        if known == validators:
            return None
        if status.st_size > limit:
            raise BadIndexError(url, f"is larger than {limit} bytes")
        with reading(url):
            return Answer(file.read(), validators, url)


def _list(url: str) -> bytes:
    """A folder as a JSON list of {url, name, size, modified}, and {folder: true} for folders."""
    found: list[dict[str, object]] = []
    for entry in sorted(os.scandir(file_path(url)), key=lambda entry: entry.name):
        try:
            address = addresses.file_url(addresses.as_folder(url), entry.name)
            status = entry.stat()
        except (OSError, UnicodeEncodeError):
            continue  # a link that leads nowhere; a name that no URL can have
        if stat.S_ISDIR(status.st_mode):
            found.append({"name": entry.name, "url": address, "folder": True})
        elif stat.S_ISREG(status.st_mode):
            found.append({"name": entry.name, "url": address, "size": status.st_size, "modified": int(status.st_mtime)})
    return codec.to_json(found)


def head_file(url: str) -> Stated:
    """What Http.head_many says of a `file:` URL. Raises AbsentError, TransportError."""
    with open_file(url) as file:
        status = os.fstat(file.fileno())
    return Stated(status.st_size, int(status.st_mtime))
