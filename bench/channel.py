"""Years of daily history of a channel of any size, made up from a model of its growth.

Leaves are real CEP 16 shards and every day is a sealed snapshot: what is made is a valid store. Package bytes there are none,
for the directories are of the mode `redirect`; records state sizes as real ones do. With trees, the mode is `eager`, and a
package is a file that holds its own path. A day takes the way of a sync from where upstream is read and compared to the seal:
the leaves of touched names, `directories.amend`, `Store.put`, the trees, `seal.seal`. Of documents it has the shard index, not
repodata.json, which would take most of the time.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from snapmirror import clock, codec
from snapmirror.cli.gc import leaf_digests
from snapmirror.conda import Conda, leaf
from snapmirror.digests import sha256
from snapmirror.store import gc, seal
from snapmirror.store.assembly import Amendment, Assembled, amend, assemble, with_documents
from snapmirror.store.directories import Derived, Directory, DirectoryReader
from snapmirror.store.mark import Mark
from snapmirror.store.retention import Retention
from snapmirror.store.store import Store
from snapmirror.sync.settings import Publish
from snapmirror.sync.trees import RepoTrees

from . import synthetic
from .size import Size, Subdir

REPO = "conda-forge"
#: what the metadata of a day consists of
PARTS = ("leaves", "buckets", "directories", "record")
#: when the first day is sealed, so that ten years are over
START = datetime(2015, 1, 1, 1, tzinfo=UTC)
_ORIGIN = "https://packages.invalid/conda-forge"
_INDEX = "repodata_shards.msgpack"
_WHOLE = "repodata.json"
#: days after which trees that are no longer kept are dropped
_DROPPING = 10
#: builds of a name in one version, in turn
_BUILDS = ("py310", "py311", "py312", "py313", "h")


class Day(NamedTuple):
    """What one day has come to."""

    #: whether most names were touched
    storm: bool
    #: leaves made, and the files that they list
    touched: int
    listed: int
    #: bytes of new leaves, buckets and directories, and of the record
    leaves: int
    buckets: int
    directories: int
    record: int


class _Records(msgspec.Struct):
    """The records of a leaf, not decoded."""

    conda: dict[str, msgspec.Raw] = msgspec.field(name="packages.conda", default_factory=dict)


@dataclass
class _Changes:
    """What a day brings to one name."""

    added: int = 0
    removed: int = 0
    #: records changed in place
    fixed: int = 0


class _Listing:
    """One directory between two days: its names, and how many files each has."""

    def __init__(self, name: str, end: Subdir, reader: DirectoryReader | None) -> None:
        self.name = name
        self.end = end
        self.reader = reader
        self.names: list[str] = []
        self.places: dict[str, int] = {}
        self.sizes: list[int] = []
        #: the place of a name, once for each file: a choice among these is one by size
        self._files: list[int] = []
        for known, content in reader.contents() if reader else ():
            self.count(known, len(_records(content)))

    def count(self, name: str, files: int) -> None:
        """A name has so many files more."""
        if name not in self.places:
            self.places[name] = len(self.names)
            self.names.append(name)
            self.sizes.append(0)
        place = self.places[name]
        self.sizes[place] += files
        self._files += [place] * files

    def choose(self, random: Random, exponent: float) -> str:
        """A name that gets files, by its size to a power of at most 1."""
        while True:
            place = random.choice(self._files)
            if random.random() < max(self.sizes[place], 1) ** (exponent - 1):
                return self.names[place]


class Channel:
    """A channel in a store of its own, to which days are added. The same calls make the same snapshots."""

    def __init__(self, store: Store, size: Size, calendar: "_Calendar") -> None:
        """store: opened with this calendar as its clock"""
        self._store = store
        self._calendar = calendar
        self._size = size
        self._ecosystem = Conda()
        records = store.catalog().records
        self._states = dict(records[-1].repos[REPO].directories) if records else {}
        readers = {name: store.metadata.directory(state.blob) for name, state in self._states.items()}
        self._listings = [_Listing(name, end, readers.get(name)) for name, end in size.subdirs.items()]
        newest = clock.from_id(records[-1].id) if records else None
        #: days that are over, whether they have a snapshot or not
        self.days = (newest - START).days + 1 if newest else 0
        self._specs = [json.loads(spec) for spec in synthetic.specs(Random(0), [f"lib{number}" for number in range(2000)])]
        self._compress = codec.compressor(codec.LEAF_LEVEL)
        #: the bytes of those that come on a day
        self._packages: list[bytes] = []

    def add(self, whole: str = "") -> Day:
        """Seal one more day. whole: the directory that gets repodata.json too"""
        self._calendar.day = self.days
        random = Random(self.days)
        growth = self._size.growth
        storm = random.random() < growth.storms / 365
        fix = random.random() < growth.fixes / 365
        if self._size.trees and self.days % _DROPPING == 0:
            self._drop_trees()
        self._packages = []
        made = [self._make(listing, random, storm=storm, fix=fix) for listing in self._listings]
        self._store.put([blob for one in made for blob in one.blobs] + self._packages)
        finals = {one.listing.name: self._finish(one, whole) for one in made}
        self._store.put([final.blobs[final.digest] for final in finals.values()])
        self._store.index.put_leaves({sha256(text): sha256(blob) for one in made for text, blob in one.leaves.values()})
        id_ = clock.to_id(self._store.now())
        read = {name: seal.Read(final.digest.hex(), id_) for name, final in finals.items()}
        trees = self._build_trees(finals) if self._size.trees else {}
        with self._store.lock(None) as catalog:
            synced = {REPO: seal.Synced(Conda.kind, read, trees, self._states)}
            record = seal.seal(self._store, catalog, synced, [REPO], None)
        self._states = dict(record.repos[REPO].directories)
        for listing in self._listings:
            listing.reader = self._store.metadata.directory(finals[listing.name].digest)
        self.days += 1
        return Day(
            storm,
            sum(len(one.leaves) for one in made),
            sum(one.listed for one in made),
            sum(len(blob) for one in made for _, blob in one.leaves.values()),
            sum(len(bucket) for one in made for bucket in one.buckets),
            sum(len(final.blobs[final.digest]) for final in finals.values()),
            self._store.layout.record(id_).stat().st_size,
        )

    def counts(self) -> dict[str, float]:
        """What the newest snapshot lists, and what the store holds."""
        return {
            "snapshots_held": len(self._store.catalog().records),
            "names": sum(len(listing.names) for listing in self._listings),
            "files": sum(sum(listing.sizes) for listing in self._listings),
            "blobs": sum(1 for _ in self._store.blobs.list()),
        }

    def _drop_trees(self) -> None:
        """Let gc take the trees that are no longer kept: each has a link for every file."""
        terms = gc.Terms(retention=Retention(), keep_trees=Publish().tree_age, grace=timedelta(0))
        with self._store.lock(None) as catalog:
            gc.execute(self._store, catalog, gc.plan(self._store, catalog, Mark(self._store.metadata, leaf_digests), terms))

    def _build_trees(self, finals: Mapping[str, Assembled]) -> dict[str, str]:
        """The tree objects of a day; those of directories that are as before stand."""
        newest = self._store.catalog().newest(REPO)
        links = self._store.published.links(newest.id) if newest else {}
        before = {name: state.digest for name, state in self._states.items()}
        standing = {name: links[f"{REPO}/{name}"] for name, one in finals.items() if before.get(name) == one.digest.hex()}
        readers = {name: self._store.metadata.directory(final.digest) for name, final in finals.items()}
        return RepoTrees(self._store, {Conda.kind: self._ecosystem}, readers).build(standing, plain=True)

    def _make(self, listing: _Listing, random: Random, *, storm: bool, fix: bool) -> "_Made":
        """The leaves of the names that a day touches, and the directory that lists them."""
        changes = self._changes(listing, random, storm=storm, fix=fix)
        before, files, size, listed = listing.reader, 0, 0, 0
        leaves: dict[str, tuple[bytes, bytes]] = {}
        for name, change in sorted(changes.items()):
            old = _records((before.read_leaf(name) if before else None) or b"")
            new = self._touch(name, listing.name, dict(old), change, random)
            content = codec.to_msgpack({"packages": {}, "packages.conda": new, "removed": []})
            leaves[name] = content, self._compress(content)
            listing.count(name, len(new) - len(old))
            files += len(new) - len(old)
            listed += len(new)
            size += sum(map(_size, new.values())) - sum(map(_size, old.values()))
        was = before.document if before else None
        directory = Directory(
            kind=Conda.kind,
            form=Conda.form,
            mode=self._size.mode,
            origin=f"{_ORIGIN}/{listing.name}/",
            info={"subdir": listing.name},
            files=files + (was.files if was else 0),
            size=size + (was.size if was else 0),
        )
        digests = {name: sha256(blob) for name, (_, blob) in leaves.items()}
        amendment = Amendment([name for name in digests if before and before.leaf(name)], digests, (), {})
        bare = amend(before, directory, len(listing.names), amendment) if before else None
        if bare is None:
            bare = assemble(directory, {**(before.leaves if before else {}), **digests}, {}, {})
        return _Made(listing, leaves, listed, bare)

    def _finish(self, made: "_Made", whole: str) -> Assembled:
        """The directory with the shard index, as `DirectorySync.finish` completes it."""
        reader = DirectoryReader(self._store.metadata, made.bare.digest, made.bare.directory)
        documents = {}
        for name in (_INDEX, *([_WHOLE] if made.listing.name == whole else [])):
            content = self._ecosystem.derive(reader, name)
            documents[name] = Derived(sha256=sha256(content), size=len(content), suffixes=(".zst",))
        return with_documents(made.bare, documents)

    def _changes(self, listing: _Listing, random: Random, *, storm: bool, fix: bool) -> dict[str, _Changes]:
        """What a day brings, by name. New names come as long as there are fewer than so many files have."""
        growth, end = self._size.growth, listing.end
        due = self._size.files_after(self.days + 1) * end.part
        count = math.floor(due) - math.floor(self._size.files_after(self.days) * end.part)
        names = min(due, end.names * (due / (self._size.files * end.part)) ** self._size.breadth)
        changes: dict[str, _Changes] = {}
        known = len(listing.names)
        if storm:
            changes = {name: _Changes(fixed=1) for name in listing.names if random.random() < growth.share}
        if fix and known:
            changes.setdefault(random.choice(listing.names), _Changes()).fixed += round(growth.fixed)
        while count > 0:
            if known < names or not listing.names:
                name, known = f"{random.choice(('lib', 'py', 'r-', ''))}{listing.name[:3]}{known:05}", known + 1
            else:
                name = listing.choose(random, growth.exponent)
            builds = min(count, 1 + int(math.log(1 - random.random()) / math.log(1 - 1 / growth.builds)))
            change = changes.setdefault(name, _Changes())
            change.added += builds
            change.removed += sum(random.random() < growth.removed for _ in range(builds))
            count -= builds
        return changes

    def _touch(
        self, name: str, subdir: str, records: dict[str, msgspec.Raw], change: _Changes, random: Random
    ) -> dict[str, msgspec.Raw]:
        """The records of a name after a day: the oldest files go, the newest are those that are fixed."""
        for file in list(records)[: min(change.removed, len(records) - 1)]:
            del records[file]
        for file in list(records)[-change.fixed :] if change.fixed else ():
            record = msgspec.msgpack.decode(records[file])
            record["depends"] = [*record["depends"], random.choice(self._specs)]
            records[file] = msgspec.Raw(codec.to_msgpack(record))
        new = dict(self._builds(name, subdir, len(records), change.added, random))
        return {**records, **_records(leaf.draft(name, {"packages.conda": new}, f"{_ORIGIN}/{subdir}/", None).content)}

    def _builds(self, name: str, subdir: str, before: int, count: int, random: Random) -> Iterator[tuple[str, dict[str, Any]]]:
        """Records as upstream has them, of one version. before: files that the name had"""
        depends = random.choices(self._specs, k=2 + before % 5)
        constrains = random.choices(self._specs, k=1)
        version = f"{1 + self.days // 365}.{self.days % 365}.{before}"
        for number in range(count):
            digests = random.randbytes(52).hex()
            build = f"{_BUILDS[number % len(_BUILDS)]}h{digests[96:103]}_{number // len(_BUILDS)}"
            file = f"{name}-{version}-{build}.conda"
            checksum, size = digests[:64], round(random.lognormvariate(12.5, 2.5)) % (1 << 30)
            if self._size.trees:
                package = f"{subdir}/{file}".encode()
                checksum, size = sha256(package).hex(), len(package)
                self._packages.append(package)
            yield (
                file,
                {
                    "build": build,
                    "build_number": number // len(_BUILDS),
                    "constrains": constrains,
                    "depends": depends,
                    "license": "BSD-3-Clause",
                    "license_family": "BSD",
                    "md5": digests[64:96],
                    "name": name,
                    "sha256": checksum,
                    "size": size,
                    "subdir": subdir,
                    "timestamp": int(self._store.now().timestamp() * 1000) - random.randrange(86_400_000),
                    "version": version,
                },
            )


class _Made(NamedTuple):
    listing: _Listing
    #: {name: (canonical, compressed)} of the leaves that are new
    leaves: dict[str, tuple[bytes, bytes]]
    #: the files that these list
    listed: int
    #: the directory without documents
    bare: Assembled

    @property
    def buckets(self) -> list[bytes]:
        """The buckets that are new."""
        return [content for digest, content in self.bare.blobs.items() if digest != self.bare.digest]

    @property
    def blobs(self) -> list[bytes]:
        """What is stored before the directory is complete."""
        return [*(blob for _, blob in self.leaves.values()), *self.buckets]


def _records(content: bytes) -> dict[str, msgspec.Raw]:
    """The records of a leaf; of no bytes, none."""
    return msgspec.msgpack.decode(content, type=_Records).conda if content else {}


class _Sized(msgspec.Struct):
    size: int


def _size(record: msgspec.Raw) -> int:
    return msgspec.msgpack.decode(record, type=_Sized).size


class _Calendar:
    """The clock of a made-up store, which stands until it is set."""

    day = 0

    def __call__(self) -> datetime:
        """When the next day is sealed. Fulfils `clock.Clock`."""
        return START + timedelta(days=self.day)


@contextlib.contextmanager
def opened(root: Path, size: Size) -> Iterator[Channel]:
    """The channel in a store, which is made if there is none."""
    if not root.exists():
        Store.create(root, now=_Calendar())
    calendar = _Calendar()
    with Store.open(root, write=True, now=calendar) as store:
        yield Channel(store, size, calendar)
