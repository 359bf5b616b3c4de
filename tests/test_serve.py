"""What URLs mean: selectors, repos, files, documents, listings. Over real HTTP, from small stores.

The stores are built through the store's own interface, so that a test decides what each snapshot holds.
"""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import requests
from channels import Package, make_package

from snapmirror import clock, codec
from snapmirror.conda import Conda
from snapmirror.serve import Serve
from snapmirror.serve.app import Server
from snapmirror.serve.workers import listen, serving
from snapmirror.store import directories, seal
from snapmirror.store.directories import Derived, Directory
from snapmirror.store.store import Store

CONDA = Conda()
FORMS = {"repodata.json": ("", ".zst", ".bz2"), "repodata_shards.msgpack": (".zst",)}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, start: str = "20261120T010000Z") -> None:
        self.set(start)

    def __call__(self) -> datetime:
        return self.now

    def set(self, id_: str) -> None:
        self.now = datetime.strptime(id_, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


class Mirror:
    """A store, and what a sync would have put into it."""

    def __init__(self, root: Path, start: str = "20261120T010000Z") -> None:
        self.root = root
        self.clock = Clock(start)
        Store.create(root, now=self.clock)

    def open(self, *, write: bool = False) -> Store:
        return Store.open(self.root, write=write, now=self.clock)

    def publish(
        self,
        repos: Mapping[str, Mapping[str, Iterable[Package]]],
        *,
        mode: str = "eager",
        at: str | None = None,
        seal_as: str | None = None,
        elsewhere: Mapping[str, str] | None = None,
        keep_documents: bool = True,
    ) -> str:
        """Seal a snapshot of {repo: {subdir: packages}}; its id."""
        if at:
            self.clock.set(at)
        with self.open(write=True) as store:
            synced = {}
            for repo, subdirs in repos.items():
                read = {
                    subdir: seal.Read(
                        self._directory(store, list(packages), mode, elsewhere or {}, keep_documents).hex(),
                        clock.to_id(self.clock()),
                        None,
                    )
                    for subdir, packages in subdirs.items()
                }
                synced[repo] = seal.Synced("conda", read)
            with store.lock(None) as catalog:
                return seal.seal(store, catalog, synced, list(repos), seal_as).id

    def _directory(
        self, store: Store, packages: list[Package], mode: str, elsewhere: Mapping[str, str], keep: bool
    ) -> bytes:
        shards: dict[str, dict] = {}
        for package in packages:
            shard = shards.setdefault(package.record["name"], {"packages": {}, "packages.conda": {}, "removed": []})
            record = dict(package.record)
            record |= {kind: bytes.fromhex(record[kind]) for kind in ("md5", "sha256")}
            shard["packages.conda" if package.filename.endswith(".conda") else "packages"][package.filename] = record
        blobs = {name: codec.compress(codec.to_msgpack(shard), 3) for name, shard in shards.items()}
        if mode == "eager":
            store.put([package.data for package in packages])
        store.put(list(blobs.values()))
        plain = Directory(
            kind="conda",
            form=1,
            mode=mode,
            origin="https://channel.example/main/linux-64/",
            info={"subdir": "noarch"},
            files=len(packages),
            size=sum(len(package.data) for package in packages),
        )
        leaves = {name: hashlib.sha256(blob).digest() for name, blob in blobs.items()}
        outside = {p.filename: (p.record["name"], elsewhere[p.filename]) for p in packages if p.filename in elsewhere}
        assembled = directories.assemble(plain, leaves, outside, {})
        store.put(list(assembled.blobs.values()))
        reader = store.metadata.directory(assembled.digest)
        derived = {name: CONDA.derive(reader, name) for name in FORMS}
        documents = {
            name: Derived(sha256=hashlib.sha256(data).digest(), size=len(data), suffixes=FORMS[name])
            for name, data in derived.items()
        }
        if keep:
            for name, data in derived.items():
                store.documents.put(documents[name].sha256, ".zst", codec.compress(data, 6))
        assembled = directories.assemble(msgspec.structs.replace(plain, documents=documents), leaves, outside, {})
        store.put(list(assembled.blobs.values()))
        return assembled.digest
