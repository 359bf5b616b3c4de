"""A folder of built packages as a channel of one's own (`packages`): its index is made here, then read as any other.

What a package says of itself, its `info/index.json` (CEP 34), is read by py-rattler, once: it is noted with the size and
time of the file, and a package with the same size and time is not opened again. A package that can't be read to its end is
withheld: most likely it is still being copied, and the next sync takes it.
"""

import asyncio
import bz2
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from rattler import IndexJson
from rattler.package_streaming import PackageArchive

from .. import addresses
from ..digests import Sums
from ..errors import TransportError
from ..readings import Notes, Upstream
from . import patches
from .flat import FlatReading
from .leaf import texts
from .settings import CondaRepo
from .specs import dependency

_ENDINGS = (".conda", ".tar.bz2")
_INDEX = "info/index.json"
#: bytes read at once
_PIECE = 4 << 20
#: packages that are opened before what they say is noted: what a kill can cost
_BATCH = 64
#: subdirs are read in several threads: the second finds noted what the first has read of the folder above them
_indexing = threading.Lock()


class _Noted(msgspec.Struct, array_like=True):
    """The record of a package, and the file that it was read from: bytes, and nanoseconds since 1970."""

    size: int
    modified: int
    record: dict[str, Any]


#: a file, and what the file system says of it
_Place = tuple[Path, os.stat_result]
#: the record of a package, or why it can't be listed
_Found = dict[str, Any] | str


def read(repo: CondaRepo, subdir: str, upstream: Upstream) -> FlatReading:
    """The present state of a subdir: the packages in its folder, and those beside the folders that say they are for it.

    Of two with the same name that in the folder of the subdir counts. Raises TransportError if the folder can't be read,
    BadIndexError for patch instructions that can't be used.
    """
    folder = Path(repo.packages)
    with _indexing:
        beside = {path.name: _if_for(subdir, found) for path, found in _index(_list(folder), upstream.notes)}
        inside = {path.name: _check_for(subdir, found) for path, found in _index(_list(folder / subdir), upstream.notes)}
    if not folder.is_dir():
        raise TransportError(folder.as_uri(), "is no folder")
    records: dict[str, Any] = {"packages": {}, "packages.conda": {}, "removed": []}
    invalid = {}
    for name, found in sorted({**beside, **inside}.items()):
        if isinstance(found, str):
            invalid[name] = found
        elif found is not None:
            records["packages.conda" if name.endswith(".conda") else "packages"][name] = {**found, "subdir": subdir}
    for place in (folder, folder / subdir):
        patches.apply(records, place / "patch_instructions.json")
    info: dict[str, Any] = {"subdir": subdir}
    if v3 := _take_new(records):
        records["v3"], info["repodata_revisions"] = v3, {"v3": {"n_packages": sum(map(len, v3.values()))}}
    own, above = (addresses.as_folder(place.as_uri()) for place in (folder / subdir, folder))
    body = msgspec.json.encode({"info": info, **records})
    reading = FlatReading(f"{own}repodata.json", body, "", None)
    reading.bases = (own, above) if (folder / subdir).is_dir() else (above,)
    reading.invalid = invalid
    return reading


def _if_for(subdir: str, found: _Found) -> _Found | None:
    """Of a package beside the folders of subdirs: its record, if it is for this one. noarch tells why it can't be listed."""
    if isinstance(found, str):
        return found if subdir == "noarch" else None
    stated = found.get("subdir")
    if not isinstance(stated, str):
        return f"its {_INDEX} names no subdir" if subdir == "noarch" else None
    return found if stated == subdir else None


def _check_for(subdir: str, found: _Found) -> _Found:
    """Of a package in the folder of a subdir: its record, unless that says that it is for another one."""
    if isinstance(found, dict) and found.get("subdir", subdir) != subdir:
        return f"its {_INDEX} says that it is for {found['subdir']}"
    return found


def _take_new(records: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Take out what belongs into `v3` (CEP 48), {kind: {key: record}}: beside one such record older clients read none."""
    v3: dict[str, dict[str, Any]] = {}
    for section, ending in (("packages", ".tar.bz2"), ("packages.conda", ".conda")):
        for file in [file for file, record in records[section].items() if _is_new(record)]:
            v3.setdefault(ending[1:], {})[file.removesuffix(ending)] = records[section].pop(file)
    return v3


def _is_new(record: dict[str, Any]) -> bool:
    """Whether a package says so itself, or needs what only newer clients can read."""
    version = record.get("schema_version")
    if isinstance(version, int) and version >= 3:
        return True
    needs = (*texts(record.get("depends")), *texts(record.get("constrains")))
    return any((spec := dependency(text)) is not None and spec.is_new for text in needs if "[" in text)


def _list(folder: Path) -> list[_Place]:
    """The packages in a folder, none if there is no such folder. Names of files that are being copied begin with a dot."""
    found: list[_Place] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(_ENDINGS) and not entry.name.startswith(".") and entry.is_file():
                    with contextlib.suppress(FileNotFoundError):  # it was deleted after it was listed
                        found.append((Path(entry.path), entry.stat()))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TransportError(folder.as_uri(), error.strerror or str(error)) from None
    return found


def _index(files: Sequence[_Place], notes: Notes) -> Iterator[tuple[Path, _Found]]:
    """The record of each package. Only packages of which nothing is noted are opened."""
    known = notes.get([_key(path) for path, _ in files])
    fresh = []
    for path, status in files:
        noted = msgspec.json.decode(known[_key(path)], type=_Noted) if _key(path) in known else None
        if noted and (noted.size, noted.modified) == (status.st_size, status.st_mtime_ns):
            yield path, noted.record
        else:
            fresh.append((path, status))
    with ThreadPoolExecutor(thread_name_prefix="index") as pool:
        for start in range(0, len(fresh), _BATCH):
            batch = fresh[start : start + _BATCH]
            found = list(pool.map(_record_of, batch))
            rows = [(path, status, one) for (path, status), one in zip(batch, found, strict=True) if not isinstance(one, str)]
            notes.put({_key(path): msgspec.json.encode(_Noted(at.st_size, at.st_mtime_ns, one)) for path, at, one in rows})
            yield from zip((path for path, _ in batch), found, strict=True)


def _key(path: Path) -> str:
    return f"conda package {path}"


def _record_of(place: _Place) -> _Found:
    try:
        return _open(*place)
    except Exception as error:  # py-rattler promises no types; whatever it is, it stops no other package
        return f"can't be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _open(path: Path, before: os.stat_result) -> dict[str, Any]:
    """The record of a package as repodata.json has it (CEP 36): its index.json, and size and hashes of the file.

    before: the file's state when it was listed. Raises an exception of any type for what is no whole package.
    """
    text = asyncio.run(_read_to_the_end(path))
    if text is None:
        raise ValueError(f"it has no {_INDEX}")
    IndexJson.from_str(text.decode())  # raises for what rattler could not use
    record: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    sums = Sums("md5")
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sums.update(piece)
    if path.name.endswith(".bz2"):
        with bz2.open(path) as stream:  # rattler stops at the end of the archive; the stream may be cut off after that
            while stream.read(_PIECE):
                pass
    after = path.stat()
    if (after.st_size, after.st_mtime_ns, sums.size) != (before.st_size, before.st_mtime_ns, before.st_size):
        raise ValueError("it is being written")
    assert sums.other is not None
    return {**record, "size": sums.size, "md5": sums.other.hex(), "sha256": sums.sha256.hex()}


async def _read_to_the_end(path: Path) -> bytes | None:
    """A package's index.json, None if it has none. Names that can't be found make rattler read both parts of the archive."""
    archive = await PackageArchive.from_path(path)
    found = await archive.read_files([_INDEX, "info/there is none", "there is none"])
    return found[_INDEX]
