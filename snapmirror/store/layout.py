"""Where everything lies below a store's root, and the format number that guards it (man snapmirror-store, section LAYOUT)."""

import os
import urllib.parse
from datetime import datetime
from pathlib import Path

import msgspec

from .. import clock
from ..digests import Digest
from ..errors import StoreError, UnknownFormat
from . import fs

FORMAT = 1
#: https://bford.info/cachedir/ : backup programs leave such folders out
_CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by snapmirror; can be made again.\n"


class _Format(msgspec.Struct):
    """What `snapmirror.json` holds."""

    format: int
    #: when the store was made, in the form of an id
    created: str


class Layout:
    """Paths of one store; nothing is looked for. What each of them holds is in man snapmirror-store, section LAYOUT."""

    def __init__(self, root: Path, index: Path | None = None) -> None:
        """index: where the index lies, if not below the root."""
        self.root = root
        self.format = root / "snapmirror.json"
        self.blobs = root / "blobs"
        self.snapshots = root / "snapshots"
        self.pins = root / "pins"
        self.denied = root / "denied"
        self.syncing = root / "syncing"
        self.live = root / "live"
        self.published = root / "published"
        self.trees = root / "published" / ".trees"
        self.views = root / "published" / ".views"
        self.documents = root / "documents"
        self.incoming = root / "incoming"
        self.quarantine = root / "quarantine"
        self.locks = root / "locks"
        #: held for the moments in which the index is opened, or another takes its place
        self.opening_lock = self.locks / ".opening"
        self.lock = root / "lock"
        self.index = index or root / "index.lmdb"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders directly below the root."""
        return (
            *(self.blobs, self.snapshots, self.pins, self.denied, self.syncing, self.live),
            *(self.published, self.documents, self.incoming, self.quarantine, self.locks),
        )

    def blob(self, digest: Digest) -> Path:
        """Path of a blob."""
        name = digest.hex()
        return self.blobs / name[:2] / name

    def record(self, snapshot: str) -> Path:
        """Path of a sealed record or its tombstone."""
        return self.snapshots / f"{snapshot}.json"

    def signature(self, snapshot: str) -> Path:
        """Path of the signature of a sealed record."""
        return self.snapshots / f"{snapshot}.sig"

    def pages(self, snapshot: str) -> Path:
        """Path of what was told of a snapshot's time after it was sealed (records.Pages)."""
        return self.snapshots / f"{snapshot}.pages"

    def pin(self, name: str) -> Path:
        """Path of a pin."""
        return self.pins / f"{name}.json"

    def repo_lock(self, repo: str) -> Path:
        """Path of the lock that a sync of a repo holds throughout."""
        return self.locks / urllib.parse.quote(repo, safe="")


def format_of(present: datetime) -> bytes:
    """What `snapmirror.json` of a store that is made now holds."""
    return msgspec.json.format(msgspec.json.encode(_Format(FORMAT, clock.to_id(present))), indent=2) + b"\n"


def is_vacant(layout: Layout) -> bool:
    """Whether a store can be made in the root: it is missing or empty, or a process died in it that made one."""
    root = layout.root
    if not root.is_dir():
        return not root.exists()
    unfinished = f".{layout.format.name}."  # what fs.replace calls it before it has its name
    foreign = set(os.listdir(root)) - {folder.name for folder in layout.folders} - {"lost+found"}
    return all(name.startswith(unfinished) for name in foreign)


def create(layout: Layout, content: bytes) -> None:
    """Make an empty store in a folder that is vacant.

    content: of its `snapmirror.json`
    Nothing if it is a store: two processes may have found none at the same time. Raises StoreError if it holds anything else,
    or may not be written to.
    """
    root = layout.root
    if layout.format.exists():
        return
    if not is_vacant(layout):
        raise StoreError(root, "is neither a store (no snapmirror.json in it) nor empty; choose another folder for `store`")
    try:
        fs.make_folder(root)
        _make_folders(layout)
        fs.replace(layout.format, content)  # last: with it the folder is a store
    except PermissionError as error:
        raise StoreError(root, f"can't be created: {error.strerror} ({error.filename})") from None


def _make_folders(layout: Layout) -> None:
    prefixes = (layout.blobs / f"{number:02x}" for number in range(256))
    for folder in (*layout.folders, layout.trees, layout.views, *prefixes):
        if not folder.is_dir():
            fs.make_folder(folder)
    for folder in (layout.published, layout.incoming):
        if not (folder / "CACHEDIR.TAG").exists():
            fs.replace(folder / "CACHEDIR.TAG", _CACHEDIR_TAG)


def verify(layout: Layout, *, write: bool) -> None:
    """Raise StoreError unless the root is a store of a known format that this process may use.

    write: it must be the user's own, and folders that are missing are made: a backup need not hold what can be made again
    """
    try:
        found = msgspec.json.decode(layout.format.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        raise StoreError(layout.root, "is no store: it has no snapmirror.json (`snapmirror sync` makes one)") from None
    except PermissionError:
        raise StoreError(layout.root, "can't be read by this user") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotADirectoryError):
        raise StoreError(layout.root, "is no store: its snapmirror.json can't be read") from None
    if found.get("format") != FORMAT:
        raise UnknownFormat(layout.root, found.get("format"), FORMAT)
    owner = layout.root.stat().st_uid
    if write and owner != os.geteuid():
        raise StoreError(
            layout.root,
            f"belongs to user {owner} and this process runs as user {os.geteuid()}; "
            "run it as the owner, or files would appear that the owner can't replace",
        )
    if write:
        _make_folders(layout)
