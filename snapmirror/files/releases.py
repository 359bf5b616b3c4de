"""JSON listings: releases of GitHub, and lists of files. Each item of the list may be in one of these formats:

a release        GitHub's REST API, "Releases": `assets` of {name, browser_download_url, size, digest, updated_at}; a document
                 may also be one release that is in no list. Its files are `<tag>/<name>`, as in GitHub's own addresses:
                 every release has the same names
a file           our own: {url, name?, size?, sha256?, md5?, modified?}; `modified` is seconds since 1970, or a date
a file, folder   nginx's `autoindex_format json` (ngx_http_autoindex_module): {name, type, size, mtime}
a folder         our own, of folders of this machine (`transfer.local`): {url, name, folder: true}
"""

import contextlib
import reprlib
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from .. import addresses
from ..errors import BadIndexError
from . import names
from .entries import Entry, parse_date
from .pages import Page

#: JSON readers disagree about integers from here on
_HUGE = 1 << 53
_BOM = b"\xef\xbb\xbf"


def is_json(body: bytes) -> bool:
    """Whether a listing is JSON, rather than HTML."""
    return body.removeprefix(_BOM).lstrip(b" \t\r\n")[:1] in (b"[", b"{")


def is_empty(body: bytes) -> bool:
    """Whether a listing is JSON of an empty list."""
    return body.removeprefix(_BOM).split() in ([b"[]"], [b"[", b"]"])


def parse(body: bytes, url: str) -> Page:
    """Read a listing in JSON.

    url: its own, for relative addresses
    Raises BadIndexError for what is no listing.
    """
    try:
        content = msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadIndexError(addresses.redact(url), f"is no JSON: {error}") from None
    items = content if isinstance(content, list) else [content]
    if not all(isinstance(item, dict) and _is_known(item) for item in items):
        raise BadIndexError(addresses.redact(url), "is neither a list of releases with `assets` nor a list of files with `url`")
    files: dict[str, Entry] = {}
    invalid: dict[str, str] = {}
    folders: dict[str, None] = {}
    for name, asset in _assets(items):
        if problem := names.problem_with(name):
            invalid[name] = problem
            continue
        if asset.get("folder") is True:
            folders[name] = None
            continue
        try:
            entry = _entry(name, asset, url)
        except ValueError as error:
            invalid[name] = str(error)
            continue
        if files.setdefault(name, entry) != entry:
            invalid[name] = "it is listed twice, with different words"
    return Page(tuple(entry for name, entry in files.items() if name not in invalid), tuple(folders), invalid)


def _is_known(item: dict[str, Any]) -> bool:
    """Whether an item is in one of the formats; GitLab's releases have `assets` too, and nothing of theirs would be found."""
    return bool({"assets", "url", "type"} & item.keys()) and isinstance(item.get("assets") or [], list)


def _assets(items: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and keys of every file and folder, whichever format it is in; each has a `url`."""
    for item in items:
        if "assets" not in item:
            yield _name(item, item.get("url")), _from_server(item) if "url" not in item else item
        elif not item.get("draft"):
            for asset in item["assets"] or ():
                if isinstance(asset, dict):
                    address = asset.get("browser_download_url")
                    yield f"{item.get('tag_name')}/{_name(asset, address)}", {**asset, "url": address}


def _from_server(item: dict[str, Any]) -> dict[str, Any]:
    """An item of nginx's `autoindex_format json`."""
    modified = None
    with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError):  # whatever it is, and whichever year
        modified = int(parsedate_to_datetime(item["mtime"]).timestamp()) if "mtime" in item else None
    address = f"./{addresses.file_url('', str(item.get('name')))}"
    return {**item, "url": address, "folder": item["type"] == "directory", "modified": modified}


def _name(item: dict[str, Any], address: object) -> str:
    stated = item.get("name")
    if isinstance(stated, str):
        return stated
    try:
        path = urllib.parse.urlsplit(address).path if isinstance(address, str) else ""
    except ValueError:  # the address can't be used, and nothing else names the file
        path = ""
    return urllib.parse.unquote(path.rpartition("/")[2])


def _entry(name: str, item: dict[str, Any], base: str) -> Entry:
    """Raises ValueError with the reason to withhold the file."""
    if not isinstance(item["url"], str):
        raise ValueError("it has no address")
    size = item.get("size")
    if size is not None and (type(size) is not int or not 0 <= size < _HUGE):
        raise ValueError(f"its size is {reprlib.repr(size)}")
    url = addresses.redact(addresses.join(base, item["url"]))
    modified = item.get("modified", item.get("updated_at"))
    if isinstance(modified, str):
        modified = parse_date(modified)
    elif type(modified) is not int or not 0 <= modified < _HUGE:
        modified = None
    sha256, md5 = _hash(item, "sha256", 32), _hash(item, "md5", 16)
    return Entry(name, size, modified, sha256, md5, url, text=repr((url, size, modified, sha256, md5)))


def _hash(item: dict[str, Any], kind: str, length: int) -> bytes | None:
    stated, digest = item.get(kind), item.get("digest")
    if stated is None and isinstance(digest, str) and digest.startswith(f"{kind}:"):
        stated = digest.partition(":")[2]
    if stated is None:
        return None
    try:
        found = bytes.fromhex(stated)
    except (TypeError, ValueError):
        found = b""
    if len(found) != length:
        raise ValueError(f"its {kind} is no hexadecimal number of {length} bytes")
    return found


def common_base(files: tuple[Entry, ...], default: str) -> str:
    """The address, ending in a slash, below which most of these files lie under their names; the default if none does."""
    bases = Counter(
        entry.url.removesuffix(quoted)
        for entry in files
        if entry.url and entry.url.endswith(quoted := "/" + addresses.file_url("", entry.name))
    )
    return addresses.as_folder(bases.most_common(1)[0][0]) if bases else default
