"""Copying snapshots into this store: byte for byte, with all that they refer to, from wherever they are (see `Origin`).

Order: the list of snapshots, records (their digests and signatures), metadata level by level, registration with gc, files,
trees, and the publication under the store's lock: records by their numbers, then pins. What has arrived is in the store and
is not fetched again; nothing is published before all that it needs is there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from .. import clock
from ..digests import Digest, sha256
from ..ecosystem import Ecosystem
from ..errors import DamagedError, PlanTooLarge, SnapmirrorError
from ..store import records
from ..store.catalog import Catalog
from ..store.directories import Directory
from ..store.listing import Listed, Listing, listing_of
from ..store.locks import Waiting
from ..store.records import Copied, Entry, Pages, Pin, Record, place_of
from ..store.store import Store
from ..store.trees import leads_out
from ..transfer.settings import Download
from . import deny, trees
from .bringing import CopyError, Here, ToBring, Wanted, check_listing, to_bring
from .export import refill
from .fetch import Progress
from .settings import Publish

#: {blob: its bytes, None where that is not known}
Sizes = Mapping[Digest, int | None]
#: (id, a record's bytes, its signature); raises what it makes of a wrong one
Check = Callable[[str, bytes, bytes | None], None]


class Origin(Protocol):
    """Where snapshots come from: another store's folder, a server, an export file."""

    #: for messages
    name: str

    def listing(self) -> Listing:
        """All snapshots that there are. Raises CopyError, UpstreamError."""
        ...

    def wanted(self, listing: Listing, selectors: Sequence[str]) -> Wanted:
        """What is asked for, with what this origin can give."""
        ...

    def snapshot(self, listed: Listed) -> Copied:
        """The files of a snapshot, not compared with anything. Raises CopyError, UpstreamError."""
        ...

    def bring(self, store: Store, blobs: Sizes, progress: Progress) -> dict[Digest, SnapmirrorError]:
        """Bring blobs into the store, verified and durable; those that could not be had, with the reason."""
        ...

    def finish(self, brought: set[Digest]) -> None:
        """Compare what was not brought with what it should be, if that is to be done. Raises CopyError."""
        ...


class CopyReport(msgspec.Struct):
    """What a copy came to, as `--json` prints it."""

    #: ids of the snapshots that were brought, by number
    snapshots: list[str] = []
    #: ids of snapshots that stay away, and have tombstones now
    forgotten: list[str] = []
    #: pins that were made or moved
    pins: list[str] = []
    #: of what was brought
    blobs: int = 0
    bytes: int = 0
    dry_run: bool = False


class Copying:
    """One copy. Make it, `run` it once."""

    def __init__(
        self,
        store: Store,
        ecosystems: Mapping[str, Ecosystem],
        publish: Publish,
        download: Download,
        progress: Progress,
        waiting: Waiting | None,
        *,
        taken: Iterable[str] = (),
        check: Check | None = None,
    ) -> None:
        """taken: names that no pin may have here; check: of signatures"""
        self._store = store
        self._ecosystems = ecosystems
        self._publish = publish
        self._download = download
        self._progress = progress
        self._waiting = waiting
        self._taken = frozenset(taken)
        self._check = check
        self._registration = store.registration()
        self._brought: set[Digest] = set()
        self._report = CopyReport()

    def run(self, origin: Origin, selectors: Sequence[str], *, dry_run: bool = False) -> CopyReport:
        """Bring the snapshots that selectors mean there; none: all.

        Raises CopyError, UpstreamError, SelectorError, PlanTooLarge, UsageError for a kind of repo that is not known, and
        errors of the store; nothing more is published then.
        """
        with self._store.lock_copies(self._waiting):
            listing = origin.listing()
            check_listing(origin.name, listing)
            wanted = origin.wanted(listing, selectors)
            lacking = self._lacking(origin, listing, wanted)
            self._report.dry_run = dry_run
            self._describe(lacking)
            if lacking and not dry_run:
                try:
                    self._bring(origin, listing, wanted, lacking)
                finally:
                    self._registration.abandon()
        return self._report

    def _lacking(self, origin: Origin, listing: Listing, wanted: Wanted, catalog: Catalog | None = None) -> ToBring:
        store = self._store
        own = listing_of(store)
        here = Here(
            catalog or store.catalog(),
            {one.id: one.sha256 for one in own.snapshots if one.sha256},
            {one.id: one.pages for one in own.snapshots if one.pages},
            own.denied,
        )
        found = to_bring(origin.name, listing, wanted, here)
        if clash := next((pin.name for pin in found.pins if pin.name in self._taken), None):
            raise CopyError(
                origin.name, f"its pin {clash} has the name of a repo of this configuration; choose another path for that"
            )
        return found

    def _describe(self, lacking: ToBring) -> None:
        self._report.snapshots = [one.id for one in lacking.records]
        self._report.forgotten = [one.id for one in lacking.tombstones]
        self._report.pins = [pin.name for pin in lacking.pins]

    def _bring(self, origin: Origin, listing: Listing, wanted: Wanted, lacking: ToBring) -> None:
        copies = {one.id: self._snapshot(origin, one) for one in (*lacking.records, *lacking.pages)}
        sealed = {one.id: self._record(origin, one.id, copies[one.id]) for one in lacking.records}
        told = {id_: self._pages(origin, id_, copied) for id_, copied in copies.items()}
        directories = {
            state.blob for record in sealed.values() for repo in record.repos.values() for state in repo.directories.values()
        }
        directories |= {bytes.fromhex(digest) for pages in told.values() for digest in pages.values()}
        self._bring_metadata(origin, directories)
        for id_, pages in told.items():
            self._refuse_rewritten(origin, id_, sealed, pages)
        denied = {file.digest for rule in listing.denied for file in rule.files}
        self._bring_files(origin, directories, denied)
        origin.finish(self._brought)
        links = self._build_trees(lacking, sealed)
        with self._store.lock(self._waiting) as catalog:
            if self._lacking(origin, listing, wanted, catalog) != lacking:
                raise CopyError(origin.name, "another process has changed this store meanwhile; run it again")
            self._registration.verify()
            self._deny(listing, lacking, catalog.records, sealed.values())
            self._publish_all(lacking, copies, told, links)
            self._registration.remove()

    # Records

    def _snapshot(self, origin: Origin, listed: Listed) -> Copied:
        """The files of a snapshot, as the listing states them."""
        copied = origin.snapshot(listed)
        for what, content, stated in (
            ("record", copied.record, listed.sha256),
            ("signature", copied.signature, listed.signature),
            ("later pages", copied.pages, listed.pages),
        ):
            if (None if content is None else sha256(content).hex()) != stated:
                raise CopyError(origin.name, f"the {what} of snapshot {listed.id} is not what its list says; run it again")
        if self._check:
            self._check(listed.id, copied.record, copied.signature)
        return copied

    def _record(self, origin: Origin, id_: str, copied: Copied) -> Record:
        try:
            entry: Entry = records.decode(copied.record, Entry, id_)
        except DamagedError as error:
            raise CopyError(origin.name, f"the record of snapshot {id_} {error.problem}") from None
        if not isinstance(entry, Record) or entry.id != id_:
            raise CopyError(origin.name, f"the record of snapshot {id_} is of another one")
        for path, repo in entry.repos.items():
            _ = self._ecosystems[repo.kind]  # raises UsageError for one that we don't know
            for place in (place_of(path, name) for name in repo.directories):
                if leads_out(place):  # trees are made of these names, and whoever serves the record may write what they like
                    raise CopyError(origin.name, f"the record of snapshot {id_} names {place!r}, which leads out of the mirror")
        return entry

    def _pages(self, origin: Origin, id_: str, copied: Copied) -> Pages:
        if copied.pages is None:
            return {}
        try:
            pages: Pages = records.decode(copied.pages, Pages, id_)
        except DamagedError as error:
            raise CopyError(origin.name, f"what was told later of snapshot {id_} {error.problem}") from None
        return pages

    def _refuse_rewritten(self, origin: Origin, id_: str, sealed: Mapping[str, Record], pages: Pages) -> None:
        """Refuse what was told later of a snapshot unless it adds to what was sealed, and no more: no signature covers it."""
        record = sealed.get(id_) or self._store.catalog().by_id[id_]
        repos = record.repos if isinstance(record, Record) else {}
        for path, digest in pages.items():
            state = repos[path].directories.get("") if path in repos else None
            if state is None or not self._adds(state.blob, bytes.fromhex(digest)):
                problem = f"what was told later of snapshot {id_} is not what {path} was sealed with, and more"
                raise CopyError(origin.name, problem)

    def _adds(self, before: Digest, after: Digest) -> bool:
        """Whether a directory has all that another one has, as it is there."""
        old, new = map(self._store.metadata.directory, (before, after))
        was, now = ((one.kind, one.form, one.mode, one.origin) for one in (old.document, new.document))
        return was == now and old.leaves.items() <= new.leaves.items()

    # Blobs

    def _bring_metadata(self, origin: Origin, directories: set[Digest]) -> None:
        """Bring directories, buckets and leaves, and make them roots of gc.

        A gc without grace may take what is not registered yet, and what is registered must be whole: hence the loop.
        """
        while True:
            self._fetch(origin, dict.fromkeys(directories))
            documents = [self._document(origin, digest) for digest in sorted(directories)]
            buckets = {bucket for document in documents for bucket in document.buckets}
            self._fetch(origin, dict.fromkeys(buckets))
            leaves = {leaf for bucket in buckets for leaf in self._leaves(origin, bucket)}
            self._fetch(origin, dict.fromkeys(leaves))
            with self._store.lock(self._waiting):
                if all(self._store.blobs.size(digest) is not None for digest in directories | buckets | leaves):
                    self._registration.write(directories)
                    return

    def _document(self, origin: Origin, digest: Digest) -> Directory:
        try:
            document = self._store.metadata.directory(digest).document
        except DamagedError as error:
            raise CopyError(origin.name, f"{error.what} {error.problem}") from None
        _ = self._ecosystems[document.kind]
        return document

    def _leaves(self, origin: Origin, bucket: Digest) -> Iterable[Digest]:
        try:
            return self._store.metadata.bucket(bucket).leaves.values()
        except DamagedError as error:
            raise CopyError(origin.name, f"{error.what} {error.problem}") from None

    def _bring_files(self, origin: Origin, directories: set[Digest], denied: set[Digest]) -> None:
        """Bring the files that leaves list: of eager directories all, of those on demand what the origin holds."""
        needed: dict[Digest, int | None] = {}
        welcome: dict[Digest, int | None] = {}
        seen: set[tuple[str, Digest]] = set()
        for document in (self._document(origin, digest) for digest in directories):
            if document.mode == "redirect":
                continue
            for leaf in (leaf for bucket in document.buckets for leaf in self._leaves(origin, bucket)):
                if (document.mode, leaf) not in seen:
                    seen.add((document.mode, leaf))
                    (needed if document.mode == "eager" else welcome).update(self._files(origin, document.kind, leaf))
        allowed = denied | (welcome.keys() - needed.keys())
        self._fetch(origin, welcome | needed, allowed)

    def _files(self, origin: Origin, kind: str, leaf: Digest) -> Iterable[tuple[Digest, int | None]]:
        try:
            found = self._ecosystems[kind].files(self._store.metadata.leaf(leaf))
        except (DamagedError, ValueError) as error:
            raise CopyError(origin.name, f"leaf {leaf.hex()}: {error}") from None
        return ((file.sha256, file.size) for file in found if file.sha256)

    def _fetch(self, origin: Origin, blobs: dict[Digest, int | None], optional: Iterable[Digest] = ()) -> None:
        """Bring those of the blobs that are not held. Raises the first problem with one that is not optional."""
        held = self._store.held(blobs)
        lacking = {digest: size for digest, size in blobs.items() if digest not in held}
        if not lacking:
            return
        expected = sum(size or 0 for size in lacking.values())
        if expected > (available := self._store.room(self._download.room)):
            raise PlanTooLarge(origin.name, expected, available)
        self._progress.begin(len(lacking), expected)
        try:
            missing = origin.bring(self._store, lacking, self._progress)
        finally:
            self._progress.end()
        optional = set(optional)
        for digest, problem in missing.items():
            if digest not in optional:
                raise problem
        came = self._store.held(lacking.keys() - missing.keys())
        self._brought |= came.keys()
        self._report.blobs += len(came)
        self._report.bytes += sum(came.values())

    # Publication

    def _build_trees(self, lacking: ToBring, sealed: Mapping[str, Record]) -> dict[str, Mapping[str, str]]:
        """The trees of what is brought, where [publish] wants them and keeps them; {id: {place: tree}}."""
        store, publish = self._store, self._publish
        entries = {entry.id: entry for entry in (*store.catalog().entries, *sealed.values())}
        entries |= {one.id: one.tombstone("") for one in lacking.tombstones}
        pins = store.catalog().pins | {pin.name: pin for pin in lacking.pins}
        after = Catalog(tuple(entries[id_] for id_ in sorted(entries)), pins)
        oldest = clock.to_id(store.now() - max(publish.tree_age, timedelta(0)))
        protected = after.protected()
        for repo in after.repos:  # so that no server has to make what everybody asks for
            if (newest := after.newest(repo)) and newest.id in sealed:
                for state in newest.repos[repo].directories.values():
                    reader = store.metadata.directory(state.blob)
                    refill(store, self._ecosystems[reader.document.kind], reader, plain=False)
        kept = [record for id_, record in sealed.items() if id_ >= oldest or id_ in protected]
        return {record.id: trees.of_record(store, self._ecosystems, record, publish) for record in kept}

    def _deny(self, listing: Listing, lacking: ToBring, kept: Collection[Record], brought: Collection[Record]) -> None:
        """Before anything is published, lest it be served: what is denied there also in snapshots that are kept here alone, and
        what is denied here alone also in those that come.
        """
        store, there = self._store, {(rule.repo, rule.spec) for rule in listing.denied}
        here = {(rule.repo, rule.spec): rule for rule in store.denied.rules()}
        for rule in lacking.denied:
            ours = here.get((rule.repo, rule.spec), rule).files
            files = tuple({file.sha256: file for file in (*ours, *rule.files)}.values())
            both = msgspec.structs.replace(rule, files=files)
            store.denied.write(both)
            deny.extend(store, self._ecosystems, both, _states(kept, rule.repo))
        for key in here.keys() - there:
            deny.extend(store, self._ecosystems, here[key], _states(brought, here[key].repo))

    def _publish_all(
        self, lacking: ToBring, copies: Mapping[str, Copied], told: Mapping[str, Pages], links: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Snapshots in the order in which they were published there."""
        store = self._store
        for one in lacking.pages:
            if self._tells_more(one.id, told[one.id]):
                store.snapshots.write_pages(one.id, told[one.id])
        for one in sorted([*lacking.records, *lacking.tombstones], key=lambda one: one.number):
            if one in lacking.records:
                store.published.publish(one.id, links.get(one.id, {}))
                store.snapshots.write_copy(one.id, copies[one.id])
            else:
                store.snapshots.write(one.tombstone(clock.to_id(store.now())))
        for pin in lacking.pins:
            store.snapshots.write_pin(Pin(name=pin.name, snapshot=pin.snapshot, set=pin.set))
        store.published.refresh(store.catalog(), store.now())

    def _tells_more(self, snapshot: str, pages: Pages) -> bool:
        """Whether pages have all that was told here of a snapshot: a leaf that was told must stay."""
        told = self._store.snapshots.pages().get(snapshot, {})
        return all(
            repo in pages and self._adds(bytes.fromhex(digest), bytes.fromhex(pages[repo])) for repo, digest in told.items()
        )


def _states(records: Collection[Record], repo: str) -> list[list[Digest]]:
    """The directories of a repo in each snapshot that holds it."""
    return [deny.blobs_of(record.repos[repo]) for record in records if repo in record.repos]
