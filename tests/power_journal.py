"""A journal of what a command does to a folder: every call of this process that changes it, with its bytes, in order.

`recording` puts functions of its own in the place of those of `os` by which snapmirror/store/fs.py, and the few exceptions that
tests/test_layers.py lists, change files, and reads the index's file after every commit of LMDB. It is for a process that
ends afterwards (`power_run` forks one).
"""

import builtins
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from power_disk import Call, Change, Committed, Cut, Made, Mode, Named, Synced, Written

from snapmirror.store import fs
from snapmirror.store.index import Index


class Journal:
    """The calls so far. Threads take turns, so that their order is that in which they ended."""

    def __init__(self, root: Path) -> None:
        self.calls: list[Call] = []
        self._root = f"{root}/"
        self.turn = threading.RLock()
        self._os = {name: getattr(os, name) for name in _OS}
        #: the inodes that have been noted, or were there before
        self._known = {path.lstat().st_ino for path in root.rglob("*")}

    # Where a path leads

    def _at(self, path: Any, folder: int | None = None) -> str | None:
        """A path that lies below the root, None for any other."""
        text = os.fspath(path)
        if folder is not None and not os.path.isabs(text):
            text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
        text = os.path.abspath(text)
        return text if text.startswith(self._root) else None

    def _open_at(self, descriptor: int) -> str | None:
        found = os.readlink(f"/proc/self/fd/{descriptor}")
        return found if f"{found}/".startswith(self._root) else None

    def _short(self, path: str) -> str:
        return path.removeprefix(self._root)

    def _note(self, text: str, *changes: Change) -> None:
        self.calls.append(Call(text, changes))

    # The calls

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        at = self._at(path, dir_fd)
        with self.turn:
            there = at is not None and os.path.lexists(at)
            descriptor: int = self._os["open"](path, flags, mode, dir_fd=dir_fd)
            if at is not None and not there and flags & os.O_CREAT:
                self._made(f"create {self._short(at)}", at)
            elif at is not None and flags & os.O_TRUNC and os.fstat(descriptor).st_size:
                self._note(f"truncate {self._short(at)}", Cut(os.fstat(descriptor).st_ino, 0))
            return descriptor

    def _made(self, text: str, at: str, target: str | None = None) -> None:
        status = os.lstat(at)
        made = Made(status.st_ino, status.st_mode & 0o777, folder=os.path.isdir(at) and target is None, target=target)
        self._note(text, made, _named(at, status.st_ino))

    def write(self, descriptor: int, data: Any) -> int:
        with self.turn:
            at = self._open_at(descriptor)
            offset = 0 if at is None else os.lseek(descriptor, 0, os.SEEK_CUR)
            count: int = self._os["write"](descriptor, data)
            if at is not None:
                changed = Written(os.fstat(descriptor).st_ino, offset, bytes(memoryview(data)[:count]))
                self._note(f"write {count} bytes at {offset} of {self._short(at)}", changed)
            return count

    def rename(self, source: Any, target: Any) -> None:
        with self.turn:
            old, new = self._at(source), self._at(target)
            inode = os.lstat(source).st_ino
            self._os["rename"](source, target)
            assert old is not None
            assert new is not None
            above, below = _named(old, None), _named(new, inode)
            text = f"rename {self._short(old)} -> {self._short(new)}"
            if above.folder == below.folder:
                self._note(text, Named(above.folder, {**above.names, **below.names}))
            else:
                self._note(text, below, above)

    def link(self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self.turn:
            self._os["link"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            at = self._at(target, dst_dir_fd)
            assert at is not None
            self._note(f"link {self._short(at)}", _named(at, os.lstat(at).st_ino))

    def symlink(self, source: Any, target: Any) -> None:
        with self.turn:
            self._os["symlink"](source, target)
            at = self._at(target)
            assert at is not None
            self._made(f"symlink {self._short(at)}", at, os.fspath(source))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, call: str, path: Any, folder: int | None) -> None:
        with self.turn:
            at = self._at(path, folder)
            self._os[call](path, dir_fd=folder)
            if at is not None:
                self._note(f"{call} {self._short(at)}", _named(at, None))

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        with self.turn:
            self._os["mkdir"](path, mode)
            at = self._at(path)
            if at is not None:
                self._made(f"mkdir {self._short(at)}", at)

    def chmod(self, path: Any, mode: int) -> None:
        with self.turn:
            self._os["chmod"](path, mode)
            if at := self._at(path):
                self._note(f"chmod {mode:04o} {self._short(at)}", Mode(os.stat(path).st_ino, mode))

    def fchmod(self, descriptor: int, mode: int) -> None:
        with self.turn:
            self._os["fchmod"](descriptor, mode)
            if at := self._open_at(descriptor):
                self._note(f"chmod {mode:04o} {self._short(at)}", Mode(os.fstat(descriptor).st_ino, mode))

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def _sync(self, call: str, descriptor: int) -> None:
        with self.turn:
            self._os[call](descriptor)
            if at := self._open_at(descriptor):
                self._note(f"{call} {self._short(at)}", Synced(os.fstat(descriptor).st_ino, mode=call == "fsync"))

    def syncfs(self, descriptor: int) -> int:
        with self.turn:
            self._note("syncfs", Synced(None))
            return 0

    def committed(self, path: Path) -> None:
        """LMDB has committed: its files as they are now."""
        with self.turn:
            for file in (path, path.with_name(f"{path.name}-lock")):
                if file.exists() and file.stat().st_ino not in self._known:
                    self._known.add(file.stat().st_ino)
                    self._made(f"create {self._short(str(file))}", str(file))
            self._note(f"commit of {path.name}", Committed(path.stat().st_ino, path.read_bytes()))


_OS = ("open", "write", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "chmod", "fchmod", "fsync", "fdatasync")


def _named(path: str, inode: int | None) -> Named:
    folder, name = os.path.split(path)
    return Named(os.stat(folder).st_ino, {name: inode})


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Journal]:
    """Record all that this process does below a folder."""
    journal = Journal(root)
    replaced: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, function: Any) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)

    for name in _OS:
        put(os, name, getattr(journal, name))
    put(fs, "_SYNCFS", journal.syncfs)
    put(builtins, "open", _opening(builtins.open))
    put(Index, "__init__", _noting_open(Index.__init__, journal))
    put(Index, "_transaction", _noting_commits(Index._transaction, journal))
    try:
        yield journal
    finally:
        for owner, name, function in reversed(replaced):
            setattr(owner, name, function)


def _opening(plain: Callable[..., Any]) -> Callable[..., Any]:
    """`open` that makes files through `os.open`."""

    def opening(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if not isinstance(file, int) and set(mode) & set("wax+"):
            named.setdefault("opener", lambda path, flags: os.open(path, flags, 0o666))
        return plain(file, mode, *arguments, **named)

    return opening


def _noting_open(plain: Callable[..., None], journal: Journal) -> Callable[..., None]:
    def opened(index: Index, path: Path) -> None:
        plain(index, path)
        journal.committed(path)

    return opened


def _noting_commits(plain: Callable[..., Any], journal: Journal) -> Callable[..., Any]:
    @contextlib.contextmanager
    def transaction(index: Index, *, write: bool = False) -> Iterator[Any]:
        with journal.turn if write else contextlib.nullcontext():
            with plain(index, write=write) as found:
                yield found
            if write:
                journal.committed(index.path)

    return transaction
