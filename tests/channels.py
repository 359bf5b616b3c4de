"""Conda channels for tests: small real packages, and the documents that list them, quirks included.

For example:

    channel = Channel(folder / "conda-forge", variants={"json", "shards"})
    channel.add(make_package("tool", depends=["lib >=1"]), make_package("lib", ext=".tar.bz2"))
    channel.publish()
    channel.hotfix("tool-1.0-0.conda", depends=["lib >=1,<2"])
    channel.publish()
"""

import bz2
import copy
import hashlib
import io
import json
import os
import random
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Extension = Literal[".conda", ".tar.bz2"]
Record = dict[str, Any]
Repodata = dict[str, Any]
Variant = Literal["json", "zst", "bz2", "shards"]

TIMESTAMP = 1_750_000_000_000  # of every package that is not given one, in milliseconds
CREATED_AT = "2026-01-01T00:00:00Z"  # of every shard index that is not given one

_FILES: dict[Variant, str] = {
    "json": "repodata.json",
    "zst": "repodata.json.zst",
    "bz2": "repodata.json.bz2",
    "shards": "repodata_shards.msgpack.zst",
}


@dataclass(frozen=True)
class Package:
    """A conda package: its file name, its bytes, and its record as repodata.json has it."""

    filename: str
    data: bytes
    record: Record

    @property
    def stem(self) -> str:
        """The file name without its extension: the key in a `v3` map."""
        return self.filename.removesuffix(".conda").removesuffix(".tar.bz2")


def make_package(
    name: str,
    version: str = "1.0",
    build: str = "0",
    build_number: int = 0,
    depends: Iterable[str] = (),
    subdir: str = "noarch",
    ext: Extension = ".conda",
    payload: bytes | None = None,
    **extra: Any,
) -> Package:
    """A package that clients can install; the same arguments give the same bytes.

    It holds one file, the executable `bin/<name>`, which is `payload`; by default a shell script that prints
    name, version and build. For a package of some size pass bytes that do not compress. `extra` (constrains,
    license, timestamp, ...) goes into info/index.json and the record.
    """
    stem = f"{name}-{version}-{build}"
    index: Record = {"name": name, "version": version, "build": build, "build_number": build_number}
    index |= {"depends": list(depends), "subdir": subdir, "timestamp": TIMESTAMP}
    if subdir == "noarch":
        index["noarch"] = "generic"
    index |= extra
    if payload is None:
        payload = f"#!/bin/sh\necho {name} {version} {build}\n".encode()
    files = {f"bin/{name}": payload}
    info = _info(index, files)
    data = _conda(stem, info, files) if ext == ".conda" else bz2.compress(_tar(info | files))
    hashes = {
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return Package(stem + ext, data, index | {"size": len(data)} | hashes)


def _info(index: Record, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The info/ folder of a package that holds `files`: what clients need to install it."""
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        for path, data in files.items()
    ]
    return {
        "info/index.json": json.dumps(index, indent=2).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}, indent=2).encode(),
        "info/files": "".join(f"{path}\n" for path in files).encode(),
    }


def _tar(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar archive without times or owners; files below bin/ are executable."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            member.mode = 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def _conda(stem: str, info: Mapping[str, bytes], files: Mapping[str, bytes]) -> bytes:
    """A package in the .conda format: a stored zip of two compressed tar archives."""
    members = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": _zst(_tar(files)),
        f"info-{stem}.tar.zst": _zst(_tar(info)),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name), data)  # its default time is fixed
    return archive.getvalue()


def _zst(data: bytes) -> bytes:
    """`data` in one frame that does not tell its size, as the frames of real channels don't."""
    compressor = zstd.ZstdCompressor(level=3)
    return compressor.compress(data) + compressor.flush()


class Channel:
    """A channel below the folder `root`. `publish` writes its documents; package files come and go at once.

    The other arguments are attributes too, and may be changed between two publications:
    `variants`: the documents that each subdir offers;
    `subdirs`: those to be there even without a package; noarch always is (attribute: `records`);
    `info`: more of the `info` object (base_url, channel_relations); shards_base_url and created_at are for
    the shard index only;
    `extra`: more top-level keys of repodata.json;
    `v3`: {"conda": {"name-version-build": record}, "whl": {...}}, each listed in its `subdir` or noarch;
    `edit`: called with subdir and repodata before it is written; all variants are made of what it leaves;
    `files`: where package files are put (in a folder per subdir), for a channel with a base_url; else `root`.
    """

    def __init__(
        self,
        root: Path,
        *,
        variants: Collection[Variant] = ("json", "zst"),
        subdirs: Iterable[str] = (),
        info: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        v3: Mapping[str, Mapping[str, Record]] | None = None,
        edit: Callable[[str, Repodata], object] | None = None,
        files: Path | None = None,
    ) -> None:
        self.root = root
        self.variants = variants
        self.records: dict[str, dict[str, Record]] = {subdir: {} for subdir in ("noarch", *subdirs)}
        self.removed: dict[str, set[str]] = {}
        self.info = dict(info or {})
        self.extra = dict(extra or {})
        self.v3 = {kind: dict(records) for kind, records in (v3 or {}).items()}
        self.edit = edit
        self.files = root if files is None else files
        self._written = 0

    def add(self, *packages: Package, v3: bool = False) -> None:
        """Put package files in place, over those of the same name; the next publication lists them.

        `v3`: it does so in the `v3` map.
        """
        for package in packages:
            subdir = package.record["subdir"]
            record = copy.deepcopy(package.record)
            if v3:
                kind = package.filename.removeprefix(package.stem + ".")
                self.v3.setdefault(kind, {})[package.stem] = record
            else:
                self.records.setdefault(subdir, {})[package.filename] = record
                self.removed.get(subdir, set()).discard(package.filename)
            self._write(self.files / subdir / package.filename, package.data)

    def remove(self, filename: str, listed: bool = False, removed: bool = True, keep: bool = False) -> None:
        """Delete a package's file; the next publication does not list it, but names it in `removed`.

        `listed`: its record stays, of a file that is not there. `removed=False`: it is named nowhere.
        `keep`: its file stays. A file name that several subdirs list is given as `subdir/filename`.
        """
        subdir, filename = self._find(filename)
        if not listed:
            del self.records[subdir][filename]
            if removed:
                self.removed.setdefault(subdir, set()).add(filename)
        if not keep:
            (self.files / subdir / filename).unlink(missing_ok=True)

    def hotfix(self, filename: str, *, drop: Iterable[str] = (), **changes: Any) -> None:
        """Change a record but not its file: the next publication has it without `drop` and with `changes`.

        A file name that several subdirs list is given as `subdir/filename`.
        """
        subdir, filename = self._find(filename)
        record = self.records[subdir][filename]
        for key in drop:
            del record[key]
        record |= changes

    def publish(self, only: Collection[Variant] | None = None) -> None:
        """Write the documents of every subdir, each in one step: clients may be reading meanwhile.

        Documents of variants not in `variants` are deleted. With `only`, just these are written and the rest
        stays as it is: the variants of a subdir then differ, as they do in real channels at times.
        """
        in_v3 = {_subdir_of(record) for records in self.v3.values() for record in records.values()}
        for subdir in sorted(in_v3.union(self.records)):
            folder = self.root / subdir
            documents = self._documents(subdir, self.variants if only is None else only)
            for path, data in documents.items():
                self._write(path, data)
            if only is None:
                for unwanted in {folder / name for name in _FILES.values()}.difference(documents):
                    unwanted.unlink(missing_ok=True)

    def repodata(self, subdir: str) -> Repodata:
        """What a subdir's repodata.json holds at the next publication; the caller's own copy."""
        listed: dict[str, dict[str, Record]] = {"packages": {}, "packages.conda": {}}
        for filename, record in sorted(self.records.get(subdir, {}).items()):
            listed["packages.conda" if filename.endswith(".conda") else "packages"][filename] = record
        info = {"subdir": subdir, **self.info}
        for key in ("shards_base_url", "created_at"):
            info.pop(key, None)
        repodata: Repodata = {"info": info, **listed}
        if self.removed.get(subdir):
            repodata["removed"] = sorted(self.removed[subdir])
        if v3 := self._v3(subdir):
            repodata["v3"] = v3
            info.setdefault("repodata_revisions", {"v3": _revision(v3)})
        repodata["repodata_version"] = 2 if "base_url" in info else 1
        repodata = copy.deepcopy(repodata | self.extra)
        if self.edit is not None:
            self.edit(subdir, repodata)
        return repodata

    def _v3(self, subdir: str) -> dict[str, dict[str, Record]]:
        """The part of the `v3` map that a subdir lists, without empty kinds."""
        chosen = {
            kind: {key: record for key, record in sorted(records.items()) if _subdir_of(record) == subdir}
            for kind, records in self.v3.items()
        }
        return {kind: records for kind, records in chosen.items() if records}

    def _find(self, filename: str) -> tuple[str, str]:
        """Subdir and plain name of a listed file, given by its name or as `subdir/filename`."""
        within, _, name = filename.rpartition("/")
        subdirs = [within] if within else list(self.records)
        holders = [subdir for subdir in subdirs if name in self.records.get(subdir, {})]
        if len(holders) != 1:
            raise ValueError(f"{filename} is listed in {holders or 'no subdir'}, not in one")
        return holders[0], name

    def _documents(self, subdir: str, variants: Collection[Variant]) -> dict[Path, bytes]:
        """The files that publish a subdir, in the order to write them: shards before their index."""
        folder = self.root / subdir
        repodata = self.repodata(subdir)
        documents = self._shards(folder, repodata) if "shards" in variants else {}
        text = json.dumps(repodata, separators=(",", ":")).encode()
        forms: dict[Variant, Callable[[bytes], bytes]] = {"json": bytes, "zst": _zst, "bz2": bz2.compress}
        plain = {folder / _FILES[form]: make(text) for form, make in forms.items() if form in variants}
        return documents | plain

    def _shards(self, folder: Path, repodata: Repodata) -> dict[Path, bytes]:
        """The shards of a repodata document, and last their index."""
        url = self.info.get("shards_base_url", "./shards/")
        place = _shards_folder(folder, url)
        shards = {name: _zst(msgspec.msgpack.encode(shard)) for name, shard in make_shards(repodata).items()}
        digests = {name: hashlib.sha256(shard).digest() for name, shard in shards.items()}
        info = {"subdir": folder.name, "base_url": "", "shards_base_url": url}
        info |= {"created_at": self.info.get("created_at", CREATED_AT), **repodata.get("info", {})}
        index = _zst(msgspec.msgpack.encode({"info": info, "shards": digests}))
        documents = {place / f"{digests[name].hex()}.msgpack.zst": shard for name, shard in shards.items()}
        return documents | {folder / _FILES["shards"]: index}

    def _write(self, path: Path, data: bytes) -> None:
        """Put a file in place in one step, unless it holds these bytes already.

        Each write is a minute after the one before, from a fixed time on: Last-Modified, which knows whole
        seconds, tells two versions of a file apart however soon they follow each other.
        """
        if path.exists() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(data)
        self._written += 1
        modified = TIMESTAMP // 1000 + 60 * self._written
        os.utime(temporary, (modified, modified))
        temporary.replace(path)


def read_document(path: Path) -> Any:
    """What a document of a channel says, be it JSON or MessagePack, compressed or not: its name tells."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstd.decompress(data)
    elif path.suffix == ".bz2":
        data = bz2.decompress(data)
    return msgspec.msgpack.decode(data) if ".msgpack" in path.suffixes else json.loads(data)


def read_shards(folder: Path) -> dict[str, Any]:
    """The shards in a subdir's folder by package name; each must be in a file named by its bytes' hash."""
    index = read_document(folder / _FILES["shards"])
    place = _shards_folder(folder, index["info"]["shards_base_url"])
    paths = {name: place / f"{digest.hex()}.msgpack.zst" for name, digest in index["shards"].items()}
    for path in paths.values():
        if path.name.partition(".")[0] != hashlib.sha256(path.read_bytes()).hexdigest():
            raise ValueError(f"{path} does not hold the bytes that its name says")
    return {name: read_document(path) for name, path in paths.items()}


def _shards_folder(folder: Path, url: str) -> Path:
    """Where the shards of a subdir's folder are; if `url` is absolute, which a test makes true, as usual."""
    return folder / ("shards" if re.match(r"/|\w+:", url) else url)


def make_shards(repodata: Repodata) -> dict[str, dict[str, Any]]:
    """The CEP 16 shard of each package name, as rattler-index makes them.

    Hashes are raw bytes; `v3` is there if it is not empty; a name that only `removed` knows has a shard too.
    """
    shards: dict[str, dict[str, Any]] = {}

    def shard(name: str) -> dict[str, Any]:
        return shards.setdefault(name, {"packages": {}, "packages.conda": {}, "v3": {}, "removed": []})

    for section in ("packages", "packages.conda"):
        for filename, record in repodata.get(section, {}).items():
            shard(record.get("name", _name_of(filename)))[section][filename] = _with_raw_hashes(record)
    for kind, records in repodata.get("v3", {}).items():
        for key, record in records.items():
            part = shard(record.get("name", _name_of(key)))
            part["v3"].setdefault(kind, {})[key] = _with_raw_hashes(record)
    for filename in repodata.get("removed", []):
        shard(_name_of(filename))["removed"].append(filename)
    for made in shards.values():
        if not made["v3"]:
            del made["v3"]
    return dict(sorted(shards.items()))


def _with_raw_hashes(record: Record) -> Record:
    """A copy of a record, md5 and sha256 turned from hexadecimal into bytes; keys sorted."""
    hashes = {key: bytes.fromhex(record[key]) for key in ("md5", "sha256") if record.get(key) is not None}
    return dict(sorted((record | hashes).items()))


def _revision(v3: Mapping[str, Mapping[str, Record]]) -> dict[str, int]:
    """What `info.repodata_revisions.v3` says of a subdir's `v3` map: how many records, and of what times."""
    records = [record for by_key in v3.values() for record in by_key.values()]
    times = [record.get("indexed_timestamp", record.get("timestamp")) for record in records]
    known = [time for time in times if time is not None]
    return {"n_packages": len(records)} | ({"oldest": min(known), "newest": max(known)} if known else {})


def _name_of(filename: str) -> str:
    """The package name in a file name, or in a key of a `v3` map."""
    return filename.rsplit("-", 2)[0]


def _subdir_of(record: Record) -> str:
    return str(record.get("subdir", "noarch"))


def publish_large(root: Path, size: int) -> Package:
    """A channel of a package with so many bytes that do not compress, and a small one; the large one."""
    channel = Channel(root)
    found = make_package("big", payload=random.Random(1).randbytes(size), subdir="noarch")
    channel.add(found, make_package("small"))
    channel.publish()
    return found
