"""Writing an export file: what snapshots need, less what a base snapshot needs already (see `archive`)."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from .. import codec
from ..digests import Digest, Sums
from ..ecosystem import Ecosystem
from ..errors import DamagedError, UsageError
from ..store import fs, locks
from ..store.catalog import Catalog
from ..store.listing import Listed, Listing, listing_of
from ..store.locks import Waiting
from ..store.mark import read_leaf
from ..store.records import Copied, Pages, Record, decode
from ..store.store import Store
from . import archive
from .archive import END, MANIFEST, Base, Manifest, header, padding
from .bringing import CopyError, choose
from .fetch import Progress

_PIECE = 1 << 20


class ExportReport(msgspec.Struct):
    """What an export came to, as `--json` prints it."""

    #: ids of the snapshots in it, by number
    snapshots: list[str]
    #: id of the snapshot that it builds on
    base: str | None
    blobs: int
    #: of the blobs
    bytes: int
    files: list[str]


class _Blobs(NamedTuple):
    """What directories need."""

    metadata: set[Digest]
    #: what eager directories list
    files: set[Digest]
    #: what others list that are not only redirected; it need not be held
    on_demand: set[Digest]


class Export:
    """One export. Make it, `run` it once."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], progress: Progress, waiting: Waiting) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._progress = progress
        self._waiting = waiting
        self._registration = store.registration()
        #: the files of leaves that were read: what the base has, the snapshots have for the most part as well
        self._listed: dict[Digest, Sequence[Digest]] = {}

    def run(self, target: Path, since: str | None, selectors: Sequence[str], volume_size: int | None) -> ExportReport:
        """Write an export.

        since: selector of the snapshot that the other side has; volume_size: bytes of a volume
        Raises UsageError where there is such a file, or nothing to export; LockedError where another process writes it;
        SelectorError, DamagedError, DiskFull. Then there is no file with its name.
        """
        _refuse_existing(target)
        try:
            with self._store.lock(self._waiting) as catalog:
                catalog.verify()
                listing, chosen, base = self._choose(since, selectors)
                copies = {one.id: self._files(one) for one in chosen}
                directories = {digest for one in copies.values() for digest in _directories(one)}
                base_directories = _base_directories(catalog, base)
                self._registration.write(directories | base_directories)  # from here on no gc takes what we read
            blobs = self._blobs(directories, base_directories)
            manifest = _manifest(listing, chosen, base, copies, blobs, named=bool(selectors))
            paths = self._write(target, manifest, copies, blobs, volume_size)
        finally:
            self._registration.remove()
        carried, size = len(blobs), sum(blobs.values())
        return ExportReport(manifest.snapshots, base.id if base else None, carried, size, [str(path) for path in paths])

    def _choose(self, since: str | None, selectors: Sequence[str]) -> tuple[Listing, list[Listed], Listed | None]:
        """The list of snapshots that goes into the file, those that are in it, and the one that it builds on."""
        store = self._store
        listing = listing_of(store)
        wanted = choose(listing, selectors, store.now())
        base = store.catalog().single(since, store.now()) if since is not None else None
        after = base.number if base else 0
        ids = {*wanted.asked, *wanted.current}
        chosen = sorted((one for one in listing.snapshots if one.id in ids and one.number > after), key=lambda one: one.number)
        if not chosen:
            what = f"nothing was published since {base.id}" if base else "there is no snapshot"
            raise UsageError(f"there is nothing to export: {what}")
        carried = {one.id for one in chosen}
        shown = [
            one if one.id in carried else msgspec.structs.replace(one, signature=None, pages=None) for one in listing.snapshots
        ]
        found = next((one for one in listing.snapshots if base and one.id == base.id), None)
        return msgspec.structs.replace(listing, snapshots=shown), chosen, found

    def _files(self, listed: Listed) -> Copied:
        found = self._store.snapshots.files(listed.id)
        assert found  # the store's lock is held
        return found

    def _leaf_digests(self, kind: str, leaf: bytes) -> Iterator[Digest]:
        return (file.sha256 for file in self._ecosystems[kind].files(leaf) if file.sha256)

    def _files_in(self, kind: str, leaf: Digest) -> Sequence[Digest]:
        if leaf not in self._listed:
            self._listed[leaf] = read_leaf(self._store.metadata, self._leaf_digests, kind, leaf)
        return self._listed[leaf]

    def _walk(self, directories: set[Digest]) -> _Blobs:
        found = _Blobs(set(directories), set(), set())
        buckets: dict[tuple[str, str], set[Digest]] = {}
        for digest in directories:
            document = self._store.metadata.directory(digest).document
            buckets.setdefault((document.kind, document.mode), set()).update(document.buckets)
        for (kind, mode), listed in buckets.items():
            leaves = {leaf for bucket in listed for leaf in self._store.metadata.bucket(bucket).leaves.values()}
            found.metadata.update(listed, leaves)
            if mode != "redirect":
                into = found.files if mode == "eager" else found.on_demand
                for leaf in leaves:
                    into.update(self._files_in(kind, leaf))
        return found

    def _blobs(self, directories: set[Digest], base: set[Digest]) -> dict[Digest, int]:
        """The blobs that go into the file, metadata first, each with its bytes. What is only on demand the other side need
        not have, even if the base lists it.
        """
        needed, there = self._walk(directories), self._walk(base)
        sizes: dict[Digest, int] = {}
        for digest in sorted(needed.metadata - there.metadata):
            sizes[digest] = self._size(digest)
        for digest in sorted(needed.files - there.files - sizes.keys()):
            sizes[digest] = self._size(digest)
        for digest in sorted(needed.on_demand - there.files - needed.files - sizes.keys()):
            size = self._store.blobs.size(digest)
            if size is not None:
                sizes[digest] = size
        return sizes

    def _size(self, digest: Digest) -> int:
        size = self._store.blobs.size(digest)
        if size is None:
            raise DamagedError(f"blob {digest.hex()}", "is missing")
        return size

    def _write(
        self,
        target: Path,
        manifest: Manifest,
        copies: Mapping[str, Copied],
        blobs: Mapping[Digest, int],
        volume_size: int | None,
    ) -> list[Path]:
        first = _partial(archive.volume(target, 1) if volume_size else target)
        with locks.hold(first, f"the export {target}", waiting=None):
            self._progress.begin(len(blobs), sum(blobs.values()))
            writer = _Writer(target, volume_size)
            try:
                _refuse_existing(target)  # a process that has just ended may have made it
                self._write_members(writer, manifest, copies, blobs)
                return writer.finish()
            except BaseException:
                writer.give_up()
                fs.unlink(first)
                raise
            finally:
                self._progress.end()

    def _write_members(
        self, writer: "_Writer", manifest: Manifest, copies: Mapping[str, Copied], blobs: Mapping[Digest, int]
    ) -> None:
        writer.member(MANIFEST, codec.to_json(manifest))
        for name, content in _small(copies):
            writer.member(name, content)
        for digest, size in blobs.items():
            writer.write(header(f"blobs/{digest.hex()}", size))
            self._blob(writer, digest, size)
            writer.write(padding(size))
            self._progress.arrived(size)
        writer.write(END)

    def _blob(self, writer: "_Writer", digest: Digest, size: int) -> None:
        sums = Sums(with_blake3=False)
        with self._store.blobs.open(digest) as file:
            while piece := file.read(_PIECE):
                sums.update(piece)
                writer.write(piece)
        if (sums.sha256, sums.size) != (digest, size):
            raise DamagedError(f"blob {digest.hex()}", "holds other bytes than its name says")


def _directories(copied: Copied) -> Iterator[Digest]:
    record: Record = decode(copied.record, Record, "a record")
    for repo in record.repos.values():
        yield from (state.blob for state in repo.directories.values())
    if copied.pages is not None:
        pages: Pages = decode(copied.pages, Pages, "pages")
        yield from map(bytes.fromhex, pages.values())


def _base_directories(catalog: Catalog, base: Listed | None) -> set[Digest]:
    """What the snapshot leads to that the export builds on: all this the other side has."""
    record = catalog.by_id.get(base.id) if base else None
    if not isinstance(record, Record):
        return set()
    return {state.blob for repo in record.repos.values() for state in repo.directories.values()}


def _small(copies: Mapping[str, Copied]) -> Iterator[tuple[str, bytes]]:
    """Records and what belongs to them: names and contents of members."""
    for id_, copied in copies.items():
        for ending, content in (("json", copied.record), ("sig", copied.signature), ("pages", copied.pages)):
            if content is not None:
                yield f"snapshots/{id_}.{ending}", content


def _manifest(
    listing: Listing,
    chosen: Sequence[Listed],
    base: Listed | None,
    copies: Mapping[str, Copied],
    blobs: Mapping[Digest, int],
    *,
    named: bool,
) -> Manifest:
    sizes = [len(content) for _, content in _small(copies)] + list(blobs.values())
    return Manifest(
        base=Base(base.id, base.sha256) if base and base.sha256 else None,
        snapshots=[one.id for one in chosen],
        named=named,
        members=len(sizes),
        bytes=sum(sizes),
        listing=listing,
    )


def _refuse_existing(target: Path) -> None:
    """Raise UsageError if there is such an export: one half old, half new would be worth nothing."""
    if target.is_dir():
        raise UsageError(f"--to {target}: is a folder; give the name of a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"--to {target}: there is no folder {target.parent}")
    first = archive.volume(target, 1)
    # A process that died while it gave volumes their names had not come to the first; those are worth nothing.
    others = [] if _partial(first).exists() else archive.volumes_in(target)
    for path in (target, first, *others):
        if path.exists():
            raise UsageError(f"--to {target}: {path.name} is there already; move it away or give another name")


class _Writer:
    """Writes one file or several volumes under other names, and gives them theirs when all are whole."""

    def __init__(self, target: Path, volume_size: int | None) -> None:
        self._target = target
        self._volume_size = volume_size
        self._paths: list[Path] = []
        self._descriptor: int | None = None
        self._room = 0

    def member(self, name: str, content: bytes) -> None:
        """A small member."""
        self.write(header(name, len(content)) + content + padding(len(content)))

    def write(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while view:
            if self._descriptor is None or (self._volume_size and not self._room):
                self._next()
            assert self._descriptor is not None
            piece = view[: self._room] if self._volume_size else view
            try:
                with fs.full_disk(self._paths[-1]):
                    fs.write_all(self._descriptor, piece)
            except OSError as error:
                raise CopyError(str(self._paths[-1]), _unwritten(error)) from None
            self._room -= len(piece)
            view = view[len(piece) :]

    def _next(self) -> None:
        self._close()
        path = archive.volume(self._target, len(self._paths) + 1) if self._volume_size else self._target
        self._descriptor = fs.open_new(_partial(path))
        self._paths.append(path)
        self._room = self._volume_size or 0

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def finish(self) -> list[Path]:
        """All is written: make it durable and give the files their names, the first last: by it all are found."""
        self._close()
        for path in self._paths:
            fs.sync_file(_partial(path))
        for path in reversed(self._paths):
            fs.rename(_partial(path), path)
        fs.sync_folder(self._target.parent)
        return self._paths

    def give_up(self) -> None:
        """Leave nothing."""
        self._close()
        for path in self._paths:
            fs.unlink(_partial(path))
            fs.unlink(path)


def _unwritten(error: OSError) -> str:
    """Why bytes could not be written, and what helps."""
    if error.errno == errno.EFBIG:  # FAT, mostly: 4 GiB less one byte
        return "can't become so large on that file system: cut it into volumes, --volume-size 4GB"
    return f"can't be written: {error.strerror}"


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")
