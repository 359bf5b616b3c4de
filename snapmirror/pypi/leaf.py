"""Leaves: the page of one project as PEP 691 has it in JSON, as canonical MessagePack.

Everything is as upstream wrote it, known to us or not, but: `url` is absolute, without credentials and fragment; files
that can't be published are missing; the computed SHA-256 is added to `hashes` where it is missing, the size to a file
without one, and the computed SHA-256 of a metadata file to a `core-metadata` that is only `true`, or that is missing where
the metadata was made from the wheel. `_snapmirror-provenance` (PEP 691: such keys are nobody else's) says of a file that its
attestations are mirrored: `true`, and once they are held `{"sha256": …}`.
"""

import re
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from .. import codec
from ..digests import OTHERS, Digest
from ..readings import File
from .names import METADATA, PROVENANCE, SIDECARS, normalise, parse, version_key

#: names of one and the same thing: of the specification (PEP 714), of its first version (PEP 658), and what PyPI writes
METADATA_KEYS = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")
#: key of a page that was told of a snapshot's time after it was sealed
RECONSTRUCTED = "_snapmirror-reconstructed"
#: key of a file whose attestations are mirrored
PROVENANCE_KEY = "_snapmirror-provenance"
#: how PyPI's file addresses end: the BLAKE2b of the content, and the file's name
_PACKAGES = re.compile(r"/packages/([0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60})/([^/?#]+)(?:[?#].*)?\Z")
#: the same, below a repo of ours
PATH = re.compile(r"packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/([^/]+)")


class _Record(msgspec.Struct, gc=False):
    """The part of a record that finds its bytes; decoding the rest is skipped."""

    filename: str
    url: str
    hashes: dict[str, str]
    size: int | None = None
    upload_time: str | None = msgspec.field(name="upload-time", default=None)
    core: bool | dict[str, str] | None = msgspec.field(name="core-metadata", default=None)
    dist_info: bool | dict[str, str] | None = msgspec.field(name="dist-info-metadata", default=None)
    data: bool | dict[str, str] | None = msgspec.field(name="data-dist-info-metadata", default=None)

    provenance: str | None = None
    mirrored: bool | dict[str, str] = msgspec.field(name="_snapmirror-provenance", default=False)

    @property
    def metadata(self) -> bool | dict[str, str]:
        """What is said of its metadata file: that there is none, that there is one, or its hashes."""
        return next((value for value in (self.core, self.dist_info, self.data) if value is not None), False)


class _Files(msgspec.Struct, gc=False):
    files: list[_Record]


class _Meta(msgspec.Struct, gc=False):
    serial: Any = msgspec.field(name="_last-serial", default=None)


class _Head(msgspec.Struct, gc=False):
    name: str
    meta: _Meta


_FILES = msgspec.msgpack.Decoder(_Files)
_HEAD = msgspec.msgpack.Decoder(_Head)
_PAGE: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])
_PROBLEMS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(page: dict[str, Any]) -> bytes:
    """The leaf of a page. Raises OverflowError for a number that is too large even for a float."""
    try:
        return codec.to_msgpack(page)
    except OverflowError:
        _drop_huge_numbers(page)
        return codec.to_msgpack(page)


def _drop_huge_numbers(value: Any) -> None:
    """MessagePack has no integers beyond 64 bits; as a float the number is the same to every JSON reader but Python's."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            value[key] = float(item)
        else:
            _drop_huge_numbers(item)


def decode(leaf: bytes) -> dict[str, Any]:
    """The page of a leaf. Raises ValueError if these are not the bytes of one."""
    try:
        _FILES.decode(leaf)
        return _PAGE.decode(leaf)
    except _PROBLEMS as error:
        raise ValueError(f"not a project's page: {error}") from None


def head(leaf: bytes) -> tuple[str, int | None]:
    """The name of a project as upstream writes it, and the page's serial if it has one."""
    try:
        found = _HEAD.decode(leaf)
    except _PROBLEMS as error:
        raise ValueError(f"not a project's page: {error}") from None
    return found.name, serial_of(found.meta.serial)


def serial_of(stated: object) -> int | None:
    """The serial that a page states: a number that can be noted and compared; some indexes write it as a text."""
    if isinstance(stated, str) and stated.isascii() and stated.isdecimal():
        return int(stated[:18])
    return stated if type(stated) is int and 0 <= stated < 1 << 63 else None


def label(leaf: bytes) -> str:
    """What the list of all projects says of one: its serial, if it has one, a space, and its name as upstream writes it."""
    title, serial = head(leaf)
    return f"{'' if serial is None else serial} {title}"


def files(leaf: bytes) -> tuple[File, ...]:
    """The files that a leaf lists, each followed by what lies beside it. Raises ValueError."""
    try:
        records = _FILES.decode(leaf).files
    except _PROBLEMS as error:
        raise ValueError(f"not a project's page: {error}") from None
    return tuple(file for record in records for file in _files(record))


def _files(record: _Record) -> Iterator[File]:
    modified = _seconds(record.upload_time) if record.upload_time else None
    yield File(record.filename, record.size, *_sums(record.hashes), record.url, modified)
    if record.metadata:
        yield File(record.filename + METADATA, None, *_sums(record.metadata), metadata_url(record.url), modified)
    if record.mirrored and record.provenance:
        yield File(record.filename + PROVENANCE, None, *_sums(record.mirrored), record.provenance, modified)


def _sums(stated: bool | dict[str, str]) -> tuple[Digest | None, bytes | None]:
    """SHA-256, and the strongest of the other kinds."""
    sums = stated if isinstance(stated, dict) else {}
    sha256, other = sums.get("sha256"), next((digits for kind in OTHERS.values() if (digits := sums.get(kind))), None)
    return bytes.fromhex(sha256) if sha256 else None, bytes.fromhex(other) if other else None


def _seconds(time: str) -> int:
    """Of a time that was checked when the leaf was made."""
    return max(0, int(datetime.fromisoformat(time).timestamp()))


def metadata_url(url: str) -> str:
    """Where the metadata of a file is (PEP 658): its address with an ending, before a query."""
    if "?" not in url:
        return url + METADATA
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=parts.path + METADATA))


def settle(
    leaf: bytes, digests: Mapping[str, Digest], withheld: Collection[str], sizes: Mapping[str, int] | None = None
) -> bytes:
    """A leaf with computed digests and sizes {file: …} added where upstream states none, and withheld files taken out.

    A metadata file that is withheld is no longer advertised; its wheel stays.
    """
    page = decode(leaf)
    page["files"] = [record for record in page["files"] if record["filename"] not in withheld]
    for record in page["files"]:
        file = record["filename"]
        if file in digests:
            record["hashes"].setdefault("sha256", digests[file].hex())
        if sizes and file in sizes and record.get("size") is None:
            record["size"] = sizes[file]
        _settle_metadata(record, digests.get(file + METADATA), file + METADATA in withheld)
        if file + PROVENANCE in withheld:
            record.pop(PROVENANCE_KEY, None)
        elif (digest := digests.get(file + PROVENANCE)) and record.get(PROVENANCE_KEY):
            record[PROVENANCE_KEY] = {"sha256": digest.hex()}
    return encode(page)


def _settle_metadata(record: dict[str, Any], digest: Digest | None, withheld: bool) -> None:
    if digest and not withheld and not advertised(record):
        record["core-metadata"] = {"sha256": digest.hex()}  # it was made from the wheel
        return
    for key in METADATA_KEYS:
        value = record.get(key)
        if withheld and value:
            record[key] = False
        elif digest and value and not (isinstance(value, dict) and "sha256" in value):
            record[key] = {**(value if isinstance(value, dict) else {}), "sha256": digest.hex()}


def without_metadata(leaf: bytes) -> tuple[File, ...]:
    """The wheels of a leaf of whose metadata upstream states no sum: it can be made from them (`wheels.metadata_in`), and what
    upstream has, if it has any, need not be believed.
    """
    listed = files(leaf)
    certain = {file.name for file in listed if file.name.endswith(METADATA) and (file.sha256 or file.other)}
    return tuple(file for file in listed if file.name.endswith(".whl") and file.name + METADATA not in certain)


def as_of(leaf: bytes, instant: int) -> bytes:
    """A leaf as upstream had it at an instant (seconds since 1970), as far as it can be told from what it says later.

    The files that were uploaded by then; a file of which nobody says when may have come later. What was deleted since is
    missing, and what was yanked since is yanked. Empty if no file was there, for then nobody says that the project was.
    """
    page = decode(leaf)
    page["files"] = [record for record in page["files"] if _was_there(record, instant)]
    page["meta"].pop("_last-serial", None)
    if "versions" in page:
        project = normalise(page["name"])
        there = {version_key(parse(record["filename"], project).version) for record in page["files"]}
        page["versions"] = [version for version in page["versions"] if version_key(version) in there]
    return encode(page) if page["files"] else b""


def _was_there(record: dict[str, Any], instant: int) -> bool:
    uploaded = record.get("upload-time")
    return uploaded is not None and _seconds(uploaded) <= instant


def advertised(record: dict[str, Any]) -> bool | dict[str, str]:
    """What a record of a leaf says of its metadata file, under whichever name."""
    found: bool | dict[str, str] = next((record[key] for key in METADATA_KEYS if record.get(key) is not None), False)
    return found


def place(name: str, url: str, sha256: str | None) -> str | None:
    """Where a file is published, below its repo: as upstream's address ends, or in that shape by its SHA-256 (hexadecimal).

    None for a file of which neither is known. What lies beside a file has the path of that file, and its ending.
    """
    found = _PACKAGES.search(url)
    if found and (found[2] == name or urllib.parse.unquote(found[2]) == name):
        return f"packages/{found[1]}/{name}"
    digits = (sha256 or "").lower()
    return f"packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/{name}" if digits else None


def paths(leaf: bytes) -> dict[str, File]:
    """{path below the repo: file} of all files of a leaf that have one."""
    found: dict[str, File] = {}
    above: str | None = None
    for file in files(leaf):
        if file.name.endswith(SIDECARS):
            path = above + file.name[file.name.rindex(".") :] if above else None
        else:
            path = above = place(file.name, file.url or "", file.sha256.hex() if file.sha256 else None)
        if path:
            found[path] = file
    return found
