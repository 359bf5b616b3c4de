"""The version of the API that a document is of (PEP 629)."""

import re

from ..errors import BadIndexError

_VERSION = re.compile(r"(\d+)\.(\d+)")


def check_version(version: object, url: str) -> None:
    """Raises BadIndexError for a major version of the API that we can't know: clients must stop then.

    url: without credentials
    """
    found = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if not found:
        raise BadIndexError(url, f"states {version!r} as its API version")
    if found[1] != "1":
        raise BadIndexError(url, f"has version {version} of the API, and this version of snapmirror knows 1")
