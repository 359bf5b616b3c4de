"""The steps by which a process changes a store: it dies at one of them, or one of them fails.

A step is a call that changes a file of the store or the index: write, opening for writing, fdatasync, fsync, syncfs, rename,
link, symlink, unlink, rmdir, mkdir, chmod, utime, truncate, and the beginning and commit of a write of LMDB. They are struck in
`os`, in `open` and in `lmdb` themselves, so that no part of the program gets past. For example, in a forked process:

    steps = Steps(store, Kill(17, "before"))  # or Fail(17, OSError(errno.ENOSPC, ...))
    steps.install()
    run()                                     # never returns, if it has 18 steps
    steps.count
"""

import builtins
import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lmdb

from snapmirror.store import fs
from snapmirror.store import index as store_index

KILLED = 9


class Kill(NamedTuple):
    """End the process at once, with nothing tidied up."""

    at: int
    #: `before`: the call has not been made; `after`: it has; `torn`: half of what is written is
    when: str


class Fail(NamedTuple):
    """Let a call fail, without its being made."""

    at: int
    #: one of `ERRORS`
    error: str
    #: whether all calls after it that can fail so do so too: a disk stays full
    lasts: bool = False


class Meanwhile(NamedTuple):
    """Let something else happen just before a call."""

    at: int
    action: Callable[[], object]


Strike = Kill | Fail | Meanwhile | None

_OPEN = open
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: calls of `os` -> the argument that says which file is changed
_CALLS = {
    "mkdir": 0, "write": 0, "rename": 1, "replace": 1, "link": 1, "symlink": 1, "unlink": 0, "remove": 0, "rmdir": 0,
    "fdatasync": 0, "fsync": 0, "chmod": 0, "utime": 0, "truncate": 0, "ftruncate": 0,
}  # fmt: skip
_TAKES_ROOM = ("open", "mkdir", "write", "rename", "link", "symlink", "fdatasync", "fsync", "syncfs", "truncate")
_CHANGES = ("open", "mkdir", "rename", "link", "symlink", "unlink", "rmdir", "chmod", "utime")
_LMDB = ("lmdb open", "lmdb begin", "lmdb commit")

#: error -> the calls that it can strike, as Linux has it
ERRORS: dict[str, tuple[str, ...]] = {
    "ENOSPC": _TAKES_ROOM,
    "EDQUOT": _TAKES_ROOM,
    "EIO": (*_CHANGES, "write", "fdatasync", "fsync", "syncfs", "truncate"),
    "EROFS": _CHANGES,
    "EACCES": _CHANGES,
    "EMFILE": ("open",),
    "ENFILE": ("open",),
    "EMLINK": ("link", "mkdir"),
    "EXDEV": ("link", "rename"),
    "SHORT": ("write",),
    "MapFullError": ("lmdb commit",),
    "ReadersFullError": ("lmdb begin",),
    "LMDB no space": _LMDB,
    "LMDB i/o error": _LMDB,
}


def _raised(error: str, path: object) -> Exception:
    match error:
        case "MapFullError":
            return lmdb.MapFullError("mdb_put: MDB_MAP_FULL: Environment mapsize limit reached")
        case "ReadersFullError":
            return lmdb.ReadersFullError("mdb_txn_begin: MDB_READERS_FULL: Environment maxreaders limit reached")
        case "LMDB no space":
            return lmdb.Error("mdb_txn_commit: No space left on device")
        case "LMDB i/o error":
            return lmdb.Error("mdb_txn_commit: Input/output error")
    number = getattr(errno, error)
    return OSError(number, os.strerror(number), os.fspath(path) if isinstance(path, str | os.PathLike) else None)


class Steps:
    """What counts the steps of this process below a folder, and strikes."""

    def __init__(self, root: Path, strike: Strike = None) -> None:
        self.count = 0
        #: the kind of every step
        self.kinds: list[str] = []
        #: whether it was struck
        self.struck = False
        self._root = str(root)
        self._strike = strike
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in (*_CALLS, "open")}

    def install(self) -> None:
        """From now on, for the rest of this process's life."""
        for name, place in _CALLS.items():
            self._wrap(name, place)
        os.open = self._open  # type: ignore[assignment]
        if fs._SYNCFS is not None:
            syncfs = fs._SYNCFS
            fs._SYNCFS = lambda descriptor: self.step("syncfs", descriptor, lambda: syncfs(descriptor))  # type: ignore[assignment]
        builtins.open = self._open_file  # type: ignore[assignment]
        store_index.lmdb = _Lmdb(self)  # type: ignore[assignment]

    def _wrap(self, name: str, place: int) -> None:
        real, kind = self._real[name], {"replace": "rename", "remove": "unlink", "ftruncate": "truncate"}.get(name, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if not self._concerns(arguments[place], named.get("dir_fd", named.get("dst_dir_fd"))):
                return real(*arguments, **named)
            torn = (lambda: real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])) if name == "write" else None
            return self.step(kind, arguments[place], lambda: real(*arguments, **named), torn)

        setattr(os, name, call)
        for known in (os.supports_follow_symlinks, os.supports_dir_fd, os.supports_fd):  # shutil looks there
            if real in known:
                known.add(call)

    def _concerns(self, file: Any, folder: int | None) -> bool:
        """Whether a file, or an open one, or one of an open folder, lies in the store."""
        if isinstance(file, int):
            path = _path_of(file)
        else:
            path = os.fsdecode(file)
            if not path.startswith("/"):
                path = f"{_path_of(folder) if folder is not None else os.getcwd()}/{path}"
        return f"{path}/".startswith(f"{self._root}/")

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def opened() -> int:
            return int(self._real["open"](path, flags, mode, dir_fd=dir_fd))

        if not flags & _WRITING or not self._concerns(path, dir_fd):
            return opened()
        return int(self.step("open", path, opened))

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or not self._concerns(file, None):
            return _OPEN(file, mode, buffering, *rest, **named)
        raw_mode = mode.replace("b", "").replace("t", "")
        if named.get("opener"):
            return _File(self, file, raw_mode, opener=named["opener"])  # which opens by os.open
        raw = self.step("open", file, lambda: _File(self, file, raw_mode))
        return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def step(self, kind: str, path: object, call: Callable[[], Any], torn: Callable[[], Any] | None = None) -> Any:
        """One step: what the call gives, unless it is struck."""
        with self._lock:
            number = self.count
            self.count += 1
            self.kinds.append(kind)
        match self._strike:
            case Kill(at, when) if at == number:
                if when == "torn" and torn:
                    torn()
                elif when == "after":
                    call()
                os._exit(KILLED)
            case Fail(at, error, lasts) if kind in ERRORS[error] and (number == at or (lasts and number > at)):
                self.struck = True
                if error == "SHORT":
                    return torn() if torn else call()
                raise _raised(error, path)
            case Meanwhile(at, action) if at == number:
                action()
        return call()


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


class _File(io.FileIO):
    """A file of the store that is open for writing."""

    def __init__(self, steps: Steps, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._steps = steps

    def write(self, data: Any) -> int:
        whole, real = bytes(data), super().write
        half = whole[: max(1, len(whole) // 2)]
        return int(self._steps.step("write", self.name, lambda: real(whole), lambda: real(half)))

    def truncate(self, size: int | None = None) -> int:
        real = super().truncate
        return int(self._steps.step("truncate", self.name, lambda: real(size)))


class _Lmdb:
    """`lmdb` as store.index sees it."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def open(self, path: str, **named: Any) -> "_Environment":
        return _Environment(self._steps, path, self._steps.step("lmdb open", path, lambda: lmdb.open(path, **named)))

    def __getattr__(self, name: str) -> Any:
        return getattr(lmdb, name)


class _Environment:
    def __init__(self, steps: Steps, path: str, real: Any) -> None:
        self._steps, self._path, self._real = steps, path, real

    def open_db(self, name: bytes) -> Any:
        return self._steps.step("lmdb commit", self._path, lambda: self._real.open_db(name))

    def begin(self, *, write: bool = False, **named: Any) -> Any:
        made = self._steps.step("lmdb begin", self._path, lambda: self._real.begin(write=write, **named))
        return _Transaction(self._steps, self._path, made) if write else made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Transaction:
    def __init__(self, steps: Steps, path: str, real: Any) -> None:
        self._steps, self._path, self._real = steps, path, real

    def __enter__(self) -> "_Transaction":
        self._real.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._real.__exit__(kind, error, trace)
            return
        try:
            self._steps.step("lmdb commit", self._path, lambda: self._real.__exit__(None, None, None))
        except lmdb.Error as failed:
            self._real.__exit__(type(failed), failed, None)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
