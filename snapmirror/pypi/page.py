"""A project's page as upstream wrote it, JSON (PEP 691, 700, 714, 740, 792) or HTML (PEP 503), made into a leaf.

Keys that we don't know are kept. What is wrong with one file takes out that file and nothing else.
"""

import re
import reprlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from .. import addresses
from ..digests import OTHERS, Digest
from ..errors import BadIndexError
from ..readings import Answer, Draft
from . import leaf, names
from .version import check_version

#: bytes of a page; PyPI's largest was 20 MB in 2026
LIMIT = 100 << 20

#: the byte order mark that some servers put before JSON
BOM = b"\xef\xbb\xbf"

_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
#: msgspec counts the nesting of a document and the calls around it against one limit, Python's. A page is decoded this many
#: calls deeper than need be, so that whoever reads its leaf, by way of more calls than are made here, can decode that too
_SPARE = 200
#: an absolute address without anything to be resolved, or to be hidden as a credential, as nearly all are: to join and redact
#: each took half the time of reading a page
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*/(?!t/)[A-Za-z0-9_./%+~!-]*").fullmatch
_HEX = re.compile(r"[0-9a-fA-F]+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
#: hexadecimal digits of the hashes that verify a file
_DIGITS = {kind: 2 * size for size, kind in {32: "sha256", **OTHERS}.items()}


def read(answer: Answer, project: str) -> dict[str, Any]:
    """The page of a project (normalised name), as JSON has it even if it is HTML.

    Raises BadIndexError for what is no page of that project, or of an API version that we can't know.
    """
    if is_json(answer):
        page = _from_json(answer.body, addresses.redact(answer.url))
    else:
        from . import html  # slow to load, and PyPI answers JSON

        page = html.project(answer, project)
    stated = page.get("name", project)
    if not isinstance(stated, str) or names.normalise(stated) != project:
        raise BadIndexError(addresses.redact(answer.url), f"is the page of another project, {reprlib.repr(stated)}")
    page["name"] = stated
    return page


def is_json(answer: Answer) -> bool:
    """Whether a document is JSON rather than HTML. Raises BadIndexError for one that says it is JSON, and is not."""
    begin = answer.body[:64].removeprefix(BOM).lstrip()[:1]
    if "json" in answer.headers.get("content-type", "") and begin != b"{":
        text = answer.body[:40]
        raise BadIndexError(addresses.redact(answer.url), f"says that it is JSON, and begins with {text!r}")
    return begin == b"{"


def decode(body: bytes, url: str) -> dict[str, Any]:
    """The JSON object of a page or a list, with a `meta`. url: its own, without credentials.

    Raises BadIndexError for what is none, or is of an API version that we can't know.
    """
    try:
        may_be_deep = body.count(b"{") + body.count(b"[") > _SPARE
        page = _decode(body.removeprefix(BOM), _SPARE if may_be_deep else 0)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadIndexError(url, f"can't be parsed: {error}") from None
    if not isinstance(page, dict):
        raise BadIndexError(url, "is no JSON object")
    meta = page.setdefault("meta", {})
    if not isinstance(meta, dict):
        raise BadIndexError(url, "its `meta` is no object")
    check_version(meta.get("api-version", "1.0"), url)
    return page


def _decode(body: bytes, spare: int) -> Any:
    return _decode(body, spare - 1) if spare else _JSON.decode(body)


def _from_json(body: bytes, url: str) -> dict[str, Any]:
    page = decode(body, url)
    if not isinstance(page.get("files"), list):
        raise BadIndexError(url, "is no page of a project: it has no list of files")
    return page


def serial(answer: Answer, page: dict[str, Any]) -> int | None:
    """The serial that a page states (PyPI's `_last-serial`), or else the header (X-PyPI-Last-Serial); None if neither does."""
    found = leaf.serial_of(page["meta"].get("_last-serial"))
    return leaf.serial_of(answer.headers.get("x-pypi-last-serial")) if found is None else found


def draft(name: str, page: dict[str, Any], url: str, source: Digest | None, *, provenance: bool = False) -> Draft:
    """Check a page that `read` gave, which is changed in place, and make a leaf of it.

    name: of the project, normalised
    url: where the page was, for relative links
    source: see Reading.sources
    provenance: whether attestations are mirrored
    Raises BadIndexError if no leaf can be made of it.
    """
    invalid: dict[str, str] = {}
    _tidy(page)
    kept: dict[str, dict[str, Any]] = {}
    for record in page["files"]:
        file = record.get("filename") if isinstance(record, dict) else None
        if not isinstance(file, str):
            invalid[f"{name}, a file"] = "it has no file name"  # told once: there is room for millions on a page
            continue
        try:
            _check(record, file, name, url)
        except ValueError as problem:
            invalid[file] = str(problem)
            continue
        if provenance and _is_absolute(record.get("provenance"), url):
            record[leaf.PROVENANCE_KEY] = True
        if file in kept and _promise(kept[file]) != _promise(record):
            invalid[file] = "two records give it different hashes"
        kept.setdefault(file, record)
    page["files"] = [record for file, record in kept.items() if file not in invalid]
    try:
        content = leaf.encode(page)
    except OverflowError:
        raise BadIndexError(addresses.redact(url), "has a number beyond those that JSON's readers know") from None
    return Draft(name, content, leaf.files(content), source, invalid)


def _is_absolute(address: str | None, url: str) -> bool:
    """Whether attestations can be fetched from an address: an absolute one (PEP 740), and not of a file of this machine."""
    try:
        return bool(address) and addresses.redact(addresses.join(url, address or "")) == address
    except ValueError:
        return False


def _tidy(page: dict[str, Any]) -> None:
    """Take out keys of the page itself that clients would refuse it for, and the files of a quarantined project."""
    versions = page.get("versions")
    if "versions" in page:
        if isinstance(versions, list) and all(isinstance(version, str) for version in versions):
            page["versions"] = list(dict.fromkeys(versions))
        else:
            del page["versions"]
    status = page.get("project-status")
    if status is not None and not (isinstance(status, dict) and isinstance(status.get("status"), str)):
        del page["project-status"]
    elif status and status["status"] == "quarantined":
        page["files"] = []  # PEP 792: an index must not offer them


def _check(record: dict[str, Any], file: str, project: str, url: str) -> None:
    """Bring the record of one file into our form. Raises ValueError with the reason to withhold the file."""
    if problem := names.problem_with(file, project):
        raise ValueError(problem)
    stated = record.get("url")
    if not isinstance(stated, str) or not stated:
        raise ValueError("it has no address")
    if not _PLAIN_URL(stated):
        try:
            record["url"] = addresses.redact(addresses.join(url, stated.partition("#")[0]))
        except ValueError as error:
            raise ValueError(f"its address can't be used: {error}") from None
    record.pop(leaf.PROVENANCE_KEY, None)  # upstream is a snapmirror too: the key says what that one holds
    _check_promise(record)
    _check_types(record)


def _check_promise(record: dict[str, Any]) -> None:
    """Raise ValueError unless what verifies the file is sound: `hashes` (PEP 691) or `size` (PEP 700)."""
    size = record.get("size")
    if size is not None and (type(size) is not int or not 0 <= size < 1 << 53):  # beyond, JSON's readers disagree
        raise ValueError(f"its size is {reprlib.repr(size)}")
    hashes = record.setdefault("hashes", {})
    if not _are_hashes(hashes):
        raise ValueError("its hashes are no hexadecimal numbers of the right length")
    if size is None and not any(kind in hashes for kind in _DIGITS):
        raise ValueError("it has neither a hash nor a size")


def _check_types(record: dict[str, Any]) -> None:
    """Raise ValueError for a key of a file whose type clients would refuse the whole page for."""
    for key, allowed in _TYPES.items():
        if not isinstance(record.get(key), allowed):
            raise ValueError(f"its {key} is {reprlib.repr(record[key])}")
    if record.get("upload-time") is not None:
        _check_time(record["upload-time"])
    for key in leaf.METADATA_KEYS:
        value = record.get(key)
        if value is not None and not isinstance(value, bool) and not _are_hashes(value):
            raise ValueError(f"its {key} is {reprlib.repr(value)}")


_NONE = type(None)
_TYPES = {
    "requires-python": (str, _NONE),
    "upload-time": (str, _NONE),
    "yanked": (str, bool, _NONE),
    "provenance": (str, _NONE),
    "gpg-sig": (bool, _NONE),
}


def _are_hashes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(digits, str) and _HEX.fullmatch(digits) and len(digits) == _DIGITS.get(kind, len(digits))
        for kind, digits in value.items()
    )


def _promise(record: dict[str, Any]) -> object:
    """What a record says of the bytes of its file; two records of one file must agree on it."""
    return {kind: digits.lower() for kind, digits in record["hashes"].items()}, record.get("size")


def _check_time(time: str) -> None:
    """Raise ValueError for what is no upload-time (PEP 700)."""
    try:
        if not _TIME.fullmatch(time):
            raise ValueError
        datetime.fromisoformat(time).astimezone(UTC)  # a thirteenth month, a time whose UTC no calendar has
    except (ValueError, OverflowError):
        raise ValueError(f"its upload-time {time[:40]!r} is no time") from None
