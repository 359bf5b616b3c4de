"""Whether a folder can hold a store: its file system, its owner, who may read it.

What is tried leaves files in `incoming/` (or beside where the store is to be made) for a moment. If the process dies in that
moment, gc removes them as it does all that is left there.
"""

import itertools
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from .. import clock, units
from ..errors import DamagedError, DiskFull, LockedError, StoreError
from ..findings import Finding
from . import fs, layout, locks
from .layout import Layout
from .seal import TOLERATED
from .store import Store

#: file systems of other machines, as /proc/self/mountinfo calls them; what FUSE has is one if its name says so
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs"}
_NETWORK_FUSE = ("sshfs", "s3fs", "rclone", "glusterfs", "ceph", "gcsfuse", "juicefs", "goofys", "curlftpfs", "davfs")
#: file systems that are gone after a restart
_VOLATILE = {"tmpfs", "ramfs", "overlay"}
#: the kernel's list of what is mounted where; Linux only
MOUNTS = Path("/proc/self/mountinfo")
#: free inodes below which it is time to think of them: each blob is one
_FEW_INODES = 100_000
#: names of a folder that are looked at
_SAMPLE = 100


def findings(paths: Layout, now: clock.Clock, mounts: Path = MOUNTS) -> Iterator[Finding]:
    """All that can be told of the place of a store, whether or not there is one yet. mounts: the kernel's list"""
    if barred := _barred(paths.root):
        yield barred
        return
    there = paths.format.exists()
    yield _store(paths) if there else _place(paths)
    folder = paths.incoming if there and paths.incoming.is_dir() else _nearest(paths.root)
    yield _owner(folder)
    yield from _kinds(paths, mounts)
    if there:
        yield _one_file_system(paths)
    if folder.stat().st_uid == os.geteuid():  # root could too, and leave files that the owner can't remove
        yield from _tried(folder)
    yield _inodes(folder)
    if there:
        yield _clock(paths, now)
        yield _readable(paths)


def _barred(root: Path) -> Finding | None:
    """What keeps this user from looking into the store's folder."""
    for folder in (*reversed(root.absolute().parents), root):
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK if folder == root else os.X_OK):
            advice = f"run this as the user who owns the store, or chmod o+{'rx' if folder == root else 'x'} {folder}"
            return Finding("store", "fail", f"user {os.geteuid()} may not look into {folder}", advice)
    return None


def _store(paths: Layout) -> Finding:
    try:
        layout.verify(paths, write=False)
    except StoreError as error:
        return Finding("store", "fail", str(error))
    return Finding("store", "ok", f"{paths.root} is a store of a known format")


def _place(paths: Layout) -> Finding:
    root = paths.root
    if not layout.is_vacant(paths):
        return Finding("store", "fail", f"{root} is no store, and not empty", "choose another folder for `store`")
    return Finding("store", "ok", f"{root} is not there yet, or empty; the first `snapmirror sync` makes it a store")


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that there is."""
    return next(one for one in (path, *path.absolute().parents) if one.is_dir())


def _owner(folder: Path) -> Finding:
    owner, user = folder.stat().st_uid, os.geteuid()
    if owner == user:
        return Finding("owner", "ok", f"{folder} belongs to user {user}, who runs this")
    advice = f"run doctor, sync and gc as user {owner}; serve may stay with this one, unless it fetches what is asked for"
    return Finding("owner", "warn", f"{folder} belongs to user {owner}, this runs as user {user}", advice)


def _kinds(paths: Layout, mounts: Path) -> Iterator[Finding]:
    """On which kinds of file systems the store and its index are."""
    root, index = (file_system(_nearest(path), mounts) for path in (paths.root, paths.index.parent))
    if not root:
        yield Finding("file system", "ok", "of a kind that can't be told here; it should be a local one")
    elif _is_network(root):
        yield Finding("file system", "warn", f"{root}, on another machine", "a local disk is faster, and loses no lock")
    elif root in _VOLATILE:
        yield Finding("file system", "warn", f"{root}: gone after a restart", "put `store` on a disk")
    else:
        yield Finding("file system", "ok", f"{root}, a local one")
    if _is_network(index):
        problem = f"{paths.index} is on {index}, a file system of another machine, where LMDB can lose data"
        yield Finding("index", "fail", problem, "set `index` to a path on a local disk, then `snapmirror reindex`")


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or (kind.startswith("fuse.") and any(name in kind for name in _NETWORK_FUSE))


def file_system(folder: Path, mounts: Path) -> str:
    """The kind of file system that a folder is on, as the kernel calls it (proc(5), mountinfo); empty if that can't be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place, best, kind = folder.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4]))
        if place.is_relative_to(point) and len(point.parts) >= best:  # of two mounts at one place the later one counts
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


def _one_file_system(paths: Layout) -> Finding:
    """Blobs come to their names by rename, and to trees by links: neither crosses file systems."""
    folders = [one for one in paths.folders if one.is_dir()]
    device = paths.root.stat().st_dev
    if others := [one.name for one in folders if one.stat().st_dev != device]:
        problem = f"{', '.join(others)} of the store are on other file systems than {paths.root}"
        return Finding("one file system", "fail", problem, "keep all of the store on one; only `index` may lie elsewhere")
    return Finding("one file system", "ok", "all of the store is on one")


def _tried(folder: Path) -> Iterator[Finding]:
    """What has to be tried to be known."""
    name = f"doctor-{secrets.token_hex(8)}"
    probe, second = folder / name, folder / f"{name}-link"
    try:
        yield _synced(probe)
        if probe.exists():
            yield _linked(probe, second)
            yield _locked(probe)
            yield _cased(folder / name.upper())
    finally:
        for path in (second, probe):
            fs.unlink(path)


def _synced(probe: Path) -> Finding:
    try:
        fs.write_new(probe, b"snapmirror doctor\n")
        fs.sync_folder(probe.parent)
    except (OSError, DiskFull) as error:
        problem = error.strerror if isinstance(error, OSError) else "no space left"
        return Finding("fsync", "fail", f"a file can't be written durably: {problem}", "free space, or use another disk")
    return Finding("fsync", "ok", "files and folders can be made durable")


def _linked(probe: Path, second: Path) -> Finding:
    try:
        fs.link(probe, second)
    except (OSError, DiskFull) as error:
        advice = "use a file system with hard links, or set `[publish] trees = []` and let `serve` serve"
        return Finding("hard links", "fail", f"can't be made: {error}", advice)
    if not probe.samefile(second):
        return Finding("hard links", "fail", "a link is another file", "use a file system with hard links")
    return Finding("hard links", "ok", "can be made")


def _locked(probe: Path) -> Finding:
    try:
        with locks.hold(probe, "a file", waiting=None):
            held = locks.is_held(probe)
    except (OSError, LockedError) as error:
        held, problem = False, f"can't be taken: {error}"
    else:
        problem = "hold nobody off"
    if held:
        return Finding("locks", "ok", "hold others off")
    return Finding("locks", "fail", problem, "mount the file system with locks (NFS: version 4, or without `nolock`)")


def _cased(other: Path) -> Finding:
    if other.exists():
        advice = "serve with `snapmirror serve`; in trees, of two such files only one would be there"
        return Finding("case", "warn", "names that differ only in case are one file here", advice)
    return Finding("case", "ok", "names that differ only in case are two files")


def space(folder: Path, room_of: Callable[[Path], int]) -> Finding:
    """room_of: gives the bytes that a sync may still write to the disk of a folder, see transfer.settings.Download.room"""
    place = _nearest(folder)
    room = room_of(place)
    free = f"{units.size(shutil.disk_usage(place).free)} free on the disk of {place}"
    if room == 0:
        advice = "make room (snapmirror forget, then gc), use a larger disk, or lower min_free"
        return Finding("free space", "fail", f"{free}, and min_free of [download] keeps all of it", advice)
    return Finding("free space", "ok", f"{free}, of which a sync may fill {units.size(room)}")


def _inodes(folder: Path) -> Finding:
    status = os.statvfs(folder)
    if not status.f_files:  # btrfs and others make them as they go
        return Finding("free inodes", "ok", "as many as there is space for")
    left = f"{status.f_favail:,} of {status.f_files:,} free"
    if status.f_favail < _FEW_INODES:
        advice = "each stored file takes one: make a file system with more (mkfs.ext4 -i 16384), or one without a limit (xfs)"
        return Finding("free inodes", "fail" if not status.f_favail else "warn", left, advice)
    return Finding("free inodes", "ok", left)


def _clock(paths: Layout, now: clock.Clock) -> Finding:
    """Snapshots are dated by our clock."""
    check = "newest snapshot"
    try:
        entries = Store(paths, now).catalog().entries
    except (DamagedError, OSError) as error:
        return Finding(check, "fail", f"the snapshots can't be read: {error}", "run `snapmirror check`")
    newest = clock.from_id(entries[-1].id) if entries else None
    ahead = newest - now() if newest else timedelta(0)
    if newest is None or ahead <= timedelta(0):
        return Finding(check, "ok", "none is dated later than now")
    problem = f"{clock.to_id(newest)} is {units.span(ahead.total_seconds())} ahead of the clock"
    return Finding(check, "fail" if ahead > TOLERATED else "warn", problem, "set the clock right, by NTP best")


def _readable(paths: Layout) -> Finding:
    """Whether a web server that runs as a user of its own can serve `published/`."""
    check, begin = "web server", paths.published.resolve()
    tree = paths.published / "current"
    closed = next((one for one in (*reversed(begin.parents), begin) if not one.stat().st_mode & stat.S_IXOTH), None)
    if closed is None and tree.exists():
        closed = next((one for one in _sample(tree) if not _is_open(one)), None)
    if closed:
        advice = f"let others read it (chmod o+{'rx' if closed.is_dir() else 'r'}); `snapmirror serve` does not need that"
        return Finding(check, "warn", f"one that runs as another user can't read {closed}, so it can't serve trees", advice)
    return Finding(check, "ok", f"any can read {begin}")


def _sample(folder: Path) -> Iterator[Path]:
    """A folder and some of what is in it, at all depths; a tree of conda-forge has millions of names."""
    yield folder
    try:
        with os.scandir(folder) as found:
            entries = list(itertools.islice(found, _SAMPLE))
    except FileNotFoundError:  # gc has just taken it away
        return
    for entry in entries:
        if entry.is_dir():
            yield from _sample(Path(entry.path))
        else:
            yield Path(entry.path)


def _is_open(path: Path) -> bool:
    """Whether others may read it; what gc has just taken away keeps nobody out."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & wanted == wanted
