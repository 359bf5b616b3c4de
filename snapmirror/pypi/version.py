"""The version of the API that a document is of (PEP 629)."""

import re
import reprlib

from ..errors import BadIndexError

_VERSION = re.compile(r"(\d+)\.(\d+)")


def check_version(version: object, url: str) -> None:
    """Raise BadIndexError for what is no version, and for a major version that we can't know: PEP 629 wants clients to stop.

    url: of the document, without credentials
    """
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if not found:
        raise BadIndexError(url, f"states {reprlib.repr(version)} as its API version")
    if found[1] != "1":
        raise unknown_version(found[0], url)


def unknown_version(version: str, url: str) -> BadIndexError:
    """The error for a document of a version that we can't know. url: without credentials"""
    return BadIndexError(url, f"has version {version} of the API, and this version of snapmirror knows 1")
