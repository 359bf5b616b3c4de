"""An export file as the origin of a copy (see `copying.Origin`)."""

import secrets
from collections.abc import Iterator, Sequence

from ..digests import Digest, Sums
from ..errors import SnapmirrorError
from ..store import fs
from ..store.blobs import Staged
from ..store.listing import Listed, Listing
from ..store.records import Copied
from ..store.store import Store
from . import archive
from .archive import Member, Volumes
from .bringing import CopyError, Wanted
from .copying import Sizes
from .fetch import Progress

#: files, and bytes, that are made durable together
_BATCH_FILES = 512
_BATCH_BYTES = 256 << 20


class ExportFile:
    """An export that lies here."""

    def __init__(self, volumes: Volumes) -> None:
        """Reads what is in it. Raises CopyError if it is not whole."""
        self.name = volumes.name
        self._volumes = volumes
        self.manifest, self._members = archive.index(volumes)

    def listing(self) -> Listing:
        return self.manifest.listing

    def wanted(self, listing: Listing, selectors: Sequence[str]) -> Wanted:
        """Whoever exported it has chosen what is in it."""
        found, base = self.manifest, self.manifest.base
        return Wanted(found.snapshots, named=found.named, base=(base.id, base.sha256) if base else None, dated=True)

    def snapshot(self, listed: Listed) -> Copied:
        record = self._read(f"snapshots/{listed.id}.json")
        if record is None:
            raise CopyError(self.name, f"lacks the record of snapshot {listed.id}")
        return Copied(record, self._read(f"snapshots/{listed.id}.sig"), self._read(f"snapshots/{listed.id}.pages"))

    def _read(self, name: str) -> bytes | None:
        member = self._members.get(name)
        return None if member is None else self._volumes.read(*member)

    def bring(self, store: Store, blobs: Sizes, progress: Progress) -> dict[Digest, SnapmirrorError]:
        found = {digest: member for digest in blobs if (member := self._members.get(f"blobs/{digest.hex()}"))}
        batch: list[Staged] = []
        try:
            for digest, member in sorted(found.items(), key=lambda item: item[1].offset):
                batch.append(self._stage(store, digest, member, progress))
                if len(batch) >= _BATCH_FILES or sum(one.size for one in batch) >= _BATCH_BYTES:
                    store.admit(batch)
                    batch = []
            store.admit(batch)
        except BaseException:
            for one in batch:
                fs.unlink(one.path)
            raise
        return {digest: CopyError(self.name, _absent(digest)) for digest in blobs if digest not in found}

    def _stage(self, store: Store, digest: Digest, member: Member, progress: Progress) -> Staged:
        path = store.layout.incoming / f"put-{secrets.token_hex(8)}"
        sums = Sums()

        def pieces() -> Iterator[bytes]:
            for piece in self._volumes.pieces(member):
                sums.update(piece)
                yield piece
                progress.arrived(len(piece))

        try:
            fs.write_new(path, pieces(), sync=False)
            self._compare(digest, sums)
        except BaseException:
            fs.unlink(path)
            raise
        return Staged(path, sums.sha256, sums.blake3, sums.size)

    def finish(self, brought: set[Digest]) -> None:
        """Compare the other blobs with their names: who imports a file wants to know if it is whole."""
        for name, member in self._members.items():
            folder, _, digest = name.partition("/")
            if folder == "blobs" and bytes.fromhex(digest) not in brought:
                sums = Sums(with_blake3=False)
                for piece in self._volumes.pieces(member):
                    sums.update(piece)
                self._compare(bytes.fromhex(digest), sums)

    def _compare(self, digest: Digest, sums: Sums) -> None:
        if sums.sha256 != digest:
            raise CopyError(
                self.name, f"is damaged: blob {digest.hex()} holds other bytes than its name says; copy the file again"
            )


def _absent(digest: Digest) -> str:
    return f"blob {digest.hex()} is neither in it nor in this store; run `snapmirror check`, or export without --since"
