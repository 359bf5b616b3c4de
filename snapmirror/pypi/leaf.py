"""Leaves: the page of one project.

A leaf is canonical MessagePack of the page's JSON (PEP 691, with the keys of PEP 700, 714, 740 and 792). All keys are kept as
upstream wrote them, known to us or not, but for these changes:

files                    those that can't be published are taken out
url                      made absolute; without credentials and fragment
hashes, size             the computed SHA-256 and size are added where upstream states none
core-metadata            the computed SHA-256 of the metadata file is added where upstream states only `true`, or where the file
                         was made from the wheel
_snapmirror-provenance   added to a file whose attestations are mirrored: `true`, and once they are held `{"sha256": …}`
                         (PEP 691: a key that begins with `_` is private to the index)
"""

import re
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from .. import codec
from ..digests import OTHERS, Digest
from ..readings import File
from .names import METADATA, PROVENANCE, SIDECARS, normalise, parse, version_key

#: names of one and the same thing: of the specification (PEP 714), of its first version (PEP 658), and what PyPI writes
METADATA_KEYS = ("core-metadata", "dist-info-metadata", "data-dist-info-metadata")
#: key of a page that was added to a snapshot after that was sealed (`Ecosystem.reconstruct`)
RECONSTRUCTED = "_snapmirror-reconstructed"
#: key of a file whose attestations are mirrored
PROVENANCE_KEY = "_snapmirror-provenance"
#: how PyPI's file addresses end: the BLAKE2b of the content, and the file's name
_PACKAGES = re.compile(r"/packages/([0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60})/([^/?#]+)(?:[?#].*)?\Z")
#: the same, below a repo of ours
PATH = re.compile(r"packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/([^/]+)")


class _Record(msgspec.Struct, gc=False):
    """What of a record leads to its bytes; decoding the rest is skipped."""

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
    reconstructed: Any = msgspec.field(name=RECONSTRUCTED, default=msgspec.UNSET)


class Head(NamedTuple):
    """What a page says beside its files."""

    #: the project's name as upstream writes it
    title: str
    serial: int | None
    #: whether it has the key RECONSTRUCTED
    reconstructed: bool


_T = TypeVar("_T")
_FILES = msgspec.msgpack.Decoder(_Files)
_HEAD = msgspec.msgpack.Decoder(_Head)
_PAGE: msgspec.msgpack.Decoder[dict[str, Any]] = msgspec.msgpack.Decoder(dict[str, Any])


def _decode(decoder: msgspec.msgpack.Decoder[_T], leaf: bytes) -> _T:
    try:
        return decoder.decode(leaf)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a project's page: {error}") from None


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
    """The page of a leaf. Raises ValueError if these are not the bytes of a leaf."""
    _decode(_FILES, leaf)  # records have the keys and types that we rely on
    return _decode(_PAGE, leaf)


def head(leaf: bytes) -> Head:
    """What a page says beside its files; far sooner than `decode`. Raises ValueError if these are not the bytes of a leaf."""
    found = _decode(_HEAD, leaf)
    return Head(found.name, serial_of(found.meta.serial), found.reconstructed is not msgspec.UNSET)


def serial_of(stated: object) -> int | None:
    """The serial that a page or a list states (PyPI's `_last-serial`), which some indexes write as a text; None for none."""
    if isinstance(stated, str) and stated.isascii() and stated.isdecimal():
        return int(stated[:18])
    return stated if type(stated) is int and 0 <= stated < 1 << 63 else None


def label(leaf: bytes) -> str:
    """What the list of all projects says of this one: its serial, if it has one, a space, and its name as upstream writes it.

    Raises ValueError if these are not the bytes of a leaf.
    """
    found = head(leaf)
    return f"{'' if found.serial is None else found.serial} {found.title}"


def files(leaf: bytes) -> tuple[File, ...]:
    """The files that a leaf lists, each followed by its metadata (PEP 658) and its attestations (PEP 740), if there are any.

    Raises ValueError if these are not the bytes of a leaf.
    """
    return tuple(file for record in _decode(_FILES, leaf).files for file in _files(record))


def _files(record: _Record) -> Iterator[File]:
    modified = seconds(record.upload_time) if record.upload_time else None
    yield File(record.filename, record.size, *_sums(record.hashes), record.url, modified)
    if record.metadata:
        yield File(record.filename + METADATA, None, *_sums(record.metadata), metadata_url(record.url), modified)
    if record.mirrored and record.provenance:
        yield File(record.filename + PROVENANCE, None, *_sums(record.mirrored), record.provenance, modified)


def _sums(stated: bool | dict[str, str]) -> tuple[Digest | None, bytes | None]:
    """SHA-256, and the strongest of the other hashes, as far as they are stated."""
    sums = stated if isinstance(stated, dict) else {}
    sha256, other = sums.get("sha256"), next((digits for kind in OTHERS.values() if (digits := sums.get(kind))), None)
    return bytes.fromhex(sha256) if sha256 else None, bytes.fromhex(other) if other else None


def seconds(time: str) -> int:
    """Seconds since 1970, without fractions, of an upload-time (PEP 700) in a leaf, which was checked when that was made."""
    return max(0, int(datetime.fromisoformat(time).timestamp()))


def metadata_url(url: str) -> str:
    """Where the metadata of a file is (PEP 658): its address with an ending, which goes before a query."""
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
    """The wheels whose metadata has no hash in the leaf. `wheels.metadata_in` makes it from the wheel, which is verified; a
    metadata file of upstream's without a hash is not.
    """
    listed = files(leaf)
    certain = {file.name for file in listed if file.name.endswith(METADATA) and (file.sha256 or file.other)}
    return tuple(file for file in listed if file.name.endswith(".whl") and file.name + METADATA not in certain)


def as_of(leaf: bytes, instant: int) -> bytes:
    """A leaf as upstream had it at an instant (seconds since 1970), as far as a later page tells.

    It has the files that were uploaded by then, without those whose upload time nobody states. Files that were deleted since
    are missing, files that were yanked since are yanked. Empty if no file is left: then nothing says that the project existed.
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
    return uploaded is not None and seconds(uploaded) <= instant


def advertised(record: dict[str, Any]) -> bool | dict[str, str]:
    """What a record says of its metadata file, under whichever key: its hashes, `True`, or `False` for none (PEP 714)."""
    found: bool | dict[str, str] = next((record[key] for key in METADATA_KEYS if record.get(key) is not None), False)
    return found


def place(name: str, url: str, sha256: str | None) -> str | None:
    """The path below the repo at which a file is published; None if it has none.

    The end of upstream's address, if that ends as PyPI's do; else a path of the same shape, from the SHA-256 (hexadecimal).
    """
    found = _PACKAGES.search(url)
    if found and (found[2] == name or urllib.parse.unquote(found[2]) == name):
        return f"packages/{found[1]}/{name}"
    digits = (sha256 or "").lower()
    return f"packages/{digits[:2]}/{digits[2:4]}/{digits[4:]}/{name}" if digits else None


def paths(leaf: bytes) -> dict[str, File]:
    """{path below the repo: file} of all files of a leaf that are published; of a file's metadata, its path and an ending."""
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
