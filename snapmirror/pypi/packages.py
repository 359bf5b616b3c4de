"""A folder of wheels (PEP 427) and sdists (PEP 625) as an index of one's own: read as an upstream is, but its pages are made
here.

Files lie in the folder, or in folders in it. What a file says of itself is noted with its size and time; while both are
unchanged it is not opened again. A file that can't be read to its end is withheld: if it is still being copied, the next
sync takes it.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from packaging.metadata import parse_email
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

from .. import addresses
from ..digests import Digest, Sums, sha256
from ..errors import TransportError
from ..readings import Draft, Notes, Reading
from ..validators import Validators
from . import names, page, wheels

_ENDINGS = (".whl", ".tar.gz", ".zip")
_PIECE = 4 << 20


class _Said(msgspec.Struct, array_like=True, frozen=True):
    """What a file says of itself, as it is noted; it holds while the file has this size and time."""

    size: int
    #: nanoseconds since 1970
    modified: int
    sha256: Digest
    #: of the project, as its metadata writes it
    name: str
    requires_python: str | None
    #: METADATA of a wheel, empty for an sdist
    metadata: bytes


_SAID = msgspec.msgpack.Decoder(_Said)


class FolderReading(Reading):
    """One state of a folder. Fulfils `readings.Reading`."""

    def __init__(self, folder: Path, notes: Notes) -> None:
        """notes: where what files say of themselves is noted. Raises TransportError if the folder can't be read."""
        base = addresses.as_folder(folder.absolute().as_uri())
        self.bases: tuple[str, ...] = (base,)
        self.info: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.document = base
        self.validators: Mapping[str, Validators] = {}
        self._invalid: dict[str, str] = {}
        self.invalid: Mapping[str, str] = self._invalid
        self._files: dict[str, dict[str, tuple[Path, _Said]]] = {}
        for path, said in _read(_list(folder), notes):
            self._take(path, said)
        for files in self._files.values():
            for name in files.keys() & self._invalid.keys():
                del files[name]
        self._pages = {name: self._page(files) for name, files in sorted(self._files.items()) if files}
        self.sources: Mapping[str, Digest] = {
            name: blake3(b"pypi folder 1\0" + msgspec.json.encode(made, order="sorted")).digest()
            for name, made in self._pages.items()
        }

    def _take(self, path: Path, said: _Said | str) -> None:
        """Note a file, or why it is withheld. Of one name in two folders both are, unless the content is the same."""
        if isinstance(said, str):
            self._invalid[path.name] = said
            return
        listed = self._files.setdefault(names.normalise(said.name), {})
        other = listed.get(path.name)
        if other and other[1].sha256 != said.sha256:
            self._invalid[path.name] = "two files in the folder have that name and another content"
        listed[path.name] = path, said

    def _page(self, files: Mapping[str, tuple[Path, _Said]]) -> dict[str, Any]:
        """The page of a project (PEP 691), as an upstream would write it. The name is as the newest file writes it."""
        listed = [_record(path, said) for _, (path, said) in sorted(files.items())]
        newest = max((said for _, said in files.values()), key=lambda said: (said.modified, said.sha256))
        return {"meta": {"api-version": "1.4"}, "name": newest.name, "files": listed}

    def drafts(self, names_: Collection[str]) -> Iterator[Draft]:
        """See Reading.drafts. The metadata of wheels is in `Draft.bodies`: the folder has no file of it."""
        for name in names_:
            metadata = {sha256(said.metadata): said.metadata for _, said in self._files[name].values() if said.metadata}
            made = msgspec.json.decode(msgspec.json.encode(self._pages[name]))  # a draft changes it
            yield page.draft(name, made, self.bases[0], self.sources[name])._replace(bodies=metadata)


def _record(path: Path, said: _Said) -> dict[str, Any]:
    """The record of a file. It counts as uploaded when it was last written."""
    uploaded = datetime.fromtimestamp(said.modified // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "filename": path.name,
        "url": path.absolute().as_uri(),
        "hashes": {"sha256": said.sha256.hex()},
        "requires-python": said.requires_python,
        "size": said.size,
        "upload-time": uploaded,
        "yanked": False,
        "core-metadata": {"sha256": sha256(said.metadata).hex()} if said.metadata else False,
    }


def _list(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files, with size and time, sorted. Names that begin with a dot are left out: copying tools use them meanwhile."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        inner = [one for entry in entries if entry.is_dir() for one in os.scandir(entry.path) if not one.name.startswith(".")]
        found = [entry for entry in (*entries, *inner) if entry.name.endswith(_ENDINGS) and entry.is_file()]
        return sorted((Path(entry.path), entry.stat()) for entry in found)
    except OSError as error:
        raise TransportError(folder.absolute().as_uri(), error.strerror or str(error)) from None


def _read(files: list[tuple[Path, os.stat_result]], notes: Notes) -> Iterator[tuple[Path, _Said | str]]:
    """What each file says of itself, or why it can't be listed. Only files of which that is not noted are opened."""
    known = notes.get([_key(path) for path, _ in files])
    for path, status in files:
        said = _noted(known.get(_key(path)))
        if said and (said.size, said.modified) == (status.st_size, status.st_mtime_ns):
            yield path, said
            continue
        try:
            said = _open(path, status)
        except (OSError, ValueError) as error:
            yield path, f"can't be read: {error}"
            continue
        notes.put({_key(path): msgspec.msgpack.encode(said)})
        yield path, said


def _key(path: Path) -> str:
    return f"pypi file 1 {path.absolute()}"


def _noted(row: bytes | None) -> _Said | None:
    try:
        return _SAID.decode(row) if row else None
    except (msgspec.DecodeError, RecursionError):
        return None  # of another version of snapmirror


def _open(path: Path, before: os.stat_result) -> _Said:
    """What a file says of itself. before: its status when it was listed

    Raises OSError; ValueError for what is no whole wheel or sdist, or is by its metadata of another project or version.
    """
    try:
        parse = parse_wheel_filename if path.name.endswith(".whl") else parse_sdist_filename
        project, version, *_ = parse(path.name)
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise ValueError(str(error)) from None
    sums = Sums()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            sums.update(piece)
        file.seek(0)
        metadata = wheels.metadata_in(file, path.name) if path.name.endswith(".whl") else wheels.pkg_info_in(file, path.name)
    after = path.stat()
    if (after.st_size, after.st_mtime_ns, sums.size) != (before.st_size, before.st_mtime_ns, before.st_size):
        raise ValueError("it is being written")
    raw, _ = parse_email(metadata)
    name = raw.get("name", project)
    if names.normalise(name) != project:
        raise ValueError(f"its metadata says that it is of {name}")
    if names.version_key(raw.get("version", str(version))) != version:  # pip and uv refuse such a file
        raise ValueError(f"its metadata says that it is version {raw['version']}")
    kept = metadata if path.name.endswith(".whl") else b""
    return _Said(sums.size, before.st_mtime_ns, sums.sha256, name, raw.get("requires_python"), kept)
