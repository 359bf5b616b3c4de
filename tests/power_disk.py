"""A file system at a power cut: from a journal of calls, every state in which the disk may be found.

The model allows all that POSIX lets a file system do, and forgives less than those in use do: what holds here holds on them.

- Bytes belong to the inode. Those written since its last fsync or fdatasync may all be there, or none, be zeros of the new
  length, end anywhere, or be there block by block (fsync(2): only what was synced "can be retrieved even if the system
  crashes").
- The mode of a file is durable by fsync, not by fdatasync: that leaves out what is not needed to read the bytes (fdatasync(2)).
- A name belongs to its folder. Neither fsync of the file nor of a folder above makes it durable, only fsync of the folder that
  it is in (fsync(2): "for that an explicit fsync() on a file descriptor for the directory is also needed"). Until then each
  name is found as it was after any of the calls that changed it since, whatever has become of others, later ones too: the
  persistence properties that ALICE found file systems to differ in (Pillai and others, OSDI 2014).
- A rename within a folder happens as a whole or not at all: the name leads to the old file or to the new one, never to
  neither. A rename from one folder into another is two changes, and either may be lost.
- A new folder's own names are lost with its name. A symbolic link is whole where its name is.
- syncfs(2) makes everything durable.

ext4 in its usual mode (data=ordered) is kinder: names become durable in the order of the calls, and before them bytes that were
appended. So is every journal that holds all metadata. A block is 512 bytes here, the least that a disk writes as a whole, so
that small files can be torn too.

LMDB writes its file through C code of its own, which a journal of Python's calls does not see. Its own guarantee stands for it:
a commit leaves all of the transaction or nothing, and is durable on return (it syncs the pages, then writes one of two
meta pages, which a sector holds). So every commit is one call here that changes the file as a whole and syncs it; the file's
name is a name like any other.
"""

import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 512

# What a call changes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """An inode that is new; it has no name yet."""

    inode: int
    mode: int
    folder: bool = False
    #: where a symbolic link leads to
    target: str | None = None


@dataclass(frozen=True)
class Named:
    """Names of one folder that change together: what each leads to, None for nothing."""

    folder: int
    names: Mapping[str, int | None]


@dataclass(frozen=True)
class Written:
    """Bytes in a file, at an offset."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A file's new length."""

    inode: int
    size: int


@dataclass(frozen=True)
class Mode:
    """A file's new mode."""

    inode: int
    mode: int


@dataclass(frozen=True)
class Synced:
    """An inode that is durable; None: all are."""

    inode: int | None
    #: fdatasync leaves out the mode
    mode: bool = True


@dataclass(frozen=True)
class Committed:
    """All bytes of LMDB's file after a commit."""

    inode: int
    data: bytes


Change = Made | Named | Written | Cut | Mode | Synced | Committed


@dataclass(frozen=True)
class Call:
    """One call, as a person reads it, and what it changes."""

    text: str
    changes: tuple[Change, ...]


# The disk --------------------------------------------------------------------------------------------------------------


@dataclass
class _Inode:
    mode: int
    folder: bool = False
    target: str | None = None
    #: what is durable, and what the calls have made of it
    durable: bytes = b""
    now: bytes = b""
    durable_mode: int = 0
    #: of a folder: what is durable
    names: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Pending:
    """A change of names that nothing has made durable."""

    text: str
    names: Mapping[str, int | None]


@dataclass(frozen=True)
class Alternative:
    """One way in which one thing may be found."""

    #: what of it was lost, in words; "" for nothing
    lost: str
    folder: int = 0
    names: Mapping[str, int | None] = field(default_factory=dict)
    inode: int = 0
    content: bytes | None = None
    mode: int | None = None


#: what is uncertain: all alternatives of each thing; of each, the first is that nothing was lost
Uncertain = list[list[Alternative]]


@dataclass(frozen=True)
class File:
    """What is found under a path."""

    inode: int
    mode: int
    folder: bool
    target: str | None
    content: bytes


#: {path below the root: what is found there}
State = dict[str, File]


class Disk:
    """What is durable and what is not, after some calls of a journal."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._inodes: dict[int, _Inode] = {}
        self._pending: dict[int, list[_Pending]] = {}

    @classmethod
    def scan(cls, root: Path) -> "Disk":
        """A folder as it lies there, all of it durable."""
        disk = cls(os.stat(root).st_ino)
        disk._inodes[disk._root] = _Inode(0o755, folder=True, durable_mode=0o755)
        for parent, folders, files in os.walk(root):
            above = disk._inodes[os.stat(parent).st_ino]
            for name in folders + files:
                path = os.path.join(parent, name)
                status = os.lstat(path)
                above.names[name] = status.st_ino
                mode = status.st_mode & 0o777
                target = os.readlink(path) if os.path.islink(path) else None
                folder = target is None and os.path.isdir(path)
                content = b"" if folder or target is not None else Path(path).read_bytes()
                disk._inodes[status.st_ino] = _Inode(mode, folder, target, content, content, mode)
        return disk

    def apply(self, call: Call) -> None:
        """A call that has ended."""
        for change in call.changes:
            self._change(change, call.text)

    def _change(self, change: Change, text: str) -> None:
        match change:
            case Made(inode, mode, folder, target):
                self._inodes[inode] = _Inode(mode, folder, target, durable_mode=mode)
            case Named(folder_inode, names):
                self._pending.setdefault(folder_inode, []).append(_Pending(text, names))
            case Written(inode, offset, data):
                old = self._inodes[inode].now
                self._inodes[inode].now = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
            case Cut(inode, size):
                self._inodes[inode].now = self._inodes[inode].now[:size].ljust(size, b"\0")
            case Mode(inode, mode):
                self._inodes[inode].mode = mode
            case Committed(inode, data):
                self._inodes[inode].durable = self._inodes[inode].now = data
            case Synced(None):
                for inode in self._inodes:
                    self._sync(inode, mode=True)
            case Synced(int() as inode, with_mode):
                self._sync(inode, mode=with_mode)

    def _sync(self, inode: int, *, mode: bool) -> None:
        found = self._inodes[inode]
        found.durable = found.now
        if mode:
            found.durable_mode = found.mode
        for pending in self._pending.pop(inode, []):
            _change_names(found.names, pending.names)

    # What may be found

    def uncertain(self, passed_over: Callable[[str], bool] = lambda _: False) -> Uncertain:
        """All that a power cut now may take away or leave, each for itself.

        passed_over: names that nobody reads; whether they are there, and what they alone lead to, is not asked
        """
        seen = self._seen(passed_over)
        found = [
            ways
            for folder, pending in self._pending.items()
            if folder in seen
            for ways in _name_ways(folder, self._inodes[folder].names, pending, passed_over)
        ]
        for number, inode in self._inodes.items():
            if number not in seen:
                continue
            if inode.durable != inode.now:
                found.append([Alternative(lost, inode=number, content=content) for lost, content in _contents(inode)])
            if inode.durable_mode != inode.mode:
                lost = f"mode {inode.mode:04o}"
                found.append(
                    [Alternative("", inode=number, mode=inode.mode), Alternative(lost, inode=number, mode=inode.durable_mode)]
                )
        return [ways for ways in found if len(ways) > 1]

    def _seen(self, passed_over: Callable[[str], bool]) -> set[int]:
        """The inodes that a name which somebody reads may lead to."""
        seen, stack = {self._root}, [self._root]
        while stack:
            folder = stack.pop()
            pending = [item for one in self._pending.get(folder, []) for item in one.names.items()]
            for name, number in [*self._inodes[folder].names.items(), *pending]:
                if number is not None and number not in seen and not passed_over(name):
                    seen.add(number)
                    stack.append(number)
        return seen

    def state(self, chosen: Sequence[Alternative]) -> State:
        """The state that these alternatives make."""
        names = {number: dict(inode.names) for number, inode in self._inodes.items() if inode.folder}
        for folder, pending in self._pending.items():  # what has but one alternative
            for one in pending:
                _change_names(names[folder], one.names)
        contents: dict[int, bytes] = {}
        modes: dict[int, int] = {}
        for taken in chosen:
            if taken.folder:
                _change_names(names[taken.folder], taken.names)
            if taken.content is not None:
                contents[taken.inode] = taken.content
            if taken.mode is not None:
                modes[taken.inode] = taken.mode
        state: State = {}
        stack = [("", self._root)]
        while stack:
            path, folder = stack.pop()
            for name, number in names[folder].items():
                inode = self._inodes[number]
                below = f"{path}{name}"
                content = contents.get(number, inode.now)
                state[below] = File(number, modes.get(number, inode.mode), inode.folder, inode.target, content)
                if inode.folder:
                    stack.append((f"{below}/", number))
        return state

    def places(self) -> dict[int, str]:
        """A path of every inode that has one if nothing is lost, for messages."""
        return {file.inode: path for path, file in self.state([]).items()}


def _change_names(names: dict[str, int], change: Mapping[str, int | None]) -> None:
    for name, inode in change.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _name_ways(
    folder: int, durable: Mapping[str, int], pending: Sequence[_Pending], passed_over: Callable[[str], bool]
) -> Iterator[list[Alternative]]:
    """Of names that a rename ties together, every set of changes in which none stands without the one before it of the name."""
    for group in _tied(pending):
        touched = {name for one in group for name in one.names}
        ways: dict[tuple[int | None, ...], Alternative] = {}
        for kept in _closed(group):
            names = {name: durable.get(name) for name in touched}
            for number in kept:
                names |= group[number].names
            undone = "; ".join(one.text for number, one in enumerate(group) if number not in kept)
            key = tuple(number for name, number in names.items() if not passed_over(name))
            ways.setdefault(key, Alternative(undone, folder=folder, names=names))
        yield list(ways.values())


def _tied(pending: Sequence[_Pending]) -> list[list[_Pending]]:
    groups: list[list[_Pending]] = []
    for one in pending:
        tied = [group for group in groups if any(other.names.keys() & one.names.keys() for other in group)]
        groups = [group for group in groups if group not in tied]
        groups.append([*itertools.chain(*tied), one])
    return groups


def _closed(group: Sequence[_Pending]) -> Iterator[tuple[int, ...]]:
    """Every set of changes that may be all that happened; first the set of all."""
    before: list[set[int]] = []
    for number, one in enumerate(group):
        before.append({other for other in range(number) if group[other].names.keys() & one.names.keys()})

    def extend(number: int, kept: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if number == len(group):
            yield kept
            return
        if before[number] <= set(kept):
            yield from extend(number + 1, (*kept, number))
        yield from extend(number + 1, kept)

    yield from extend(0, ())


def _contents(inode: _Inode) -> Iterator[tuple[str, bytes]]:
    """What may be found in a file, and what of it was lost in words."""
    old, new = inode.durable, inode.now
    size = len(new)
    blocks = range(0, size, _BLOCK)
    cut = min(size - 1, max(1, size // 2))
    made = {
        "": new,
        "all bytes": old,
        "all bytes but not the length": bytes(size),
        f"bytes from {cut} on": new[:cut],
        "the length and all bytes": b"",
        "the first block": old[:_BLOCK].ljust(min(_BLOCK, size), b"\0") + new[_BLOCK:],
        "the last block": new[: blocks[-1]] + bytes(size - blocks[-1]) if size else b"",
        "every second block": b"".join(
            (old[at : at + _BLOCK].ljust(min(_BLOCK, size - at), b"\0") if number % 2 else new[at : at + _BLOCK])
            for number, at in enumerate(blocks)
        ),
    }
    seen: set[bytes] = set()
    for lost, content in made.items():
        if content not in seen:
            seen.add(content)
            yield lost, content


# Choosing ---------------------------------------------------------------------------------------------------------------

#: which alternative of each thing
Choice = tuple[int, ...]


def choices(uncertain: Uncertain, most: int, dice: random.Random) -> Iterator[Choice]:
    """All choices if there are at most so many, else: all kept, all lost, each thing alone lost, each alone kept, and the
    rest of `most` at random.
    """
    sizes = [len(ways) for ways in uncertain]
    if count(uncertain) <= most:
        yield from itertools.product(*map(range, sizes))
        return
    lost = tuple(size - 1 for size in sizes)
    chosen: dict[Choice, None] = {tuple(0 for _ in sizes): None, lost: None}
    for number, size in enumerate(sizes):
        for way in range(1, size):
            chosen[tuple(way if other == number else 0 for other in range(len(sizes)))] = None
        chosen[tuple(0 if other == number else last for other, last in enumerate(lost))] = None
    if len(chosen) > most:
        chosen = dict.fromkeys(dice.sample(list(chosen), most))
    while len(chosen) < most:
        share = dice.choice((0.1, 0.3, 0.5, 0.8))
        chosen[tuple(dice.randrange(1, size) if dice.random() < share else 0 for size in sizes)] = None
    yield from chosen


def count(uncertain: Uncertain) -> int:
    """How many states there are."""
    product = 1
    for ways in uncertain:
        product *= len(ways)
    return product


def lost(uncertain: Uncertain, choice: Choice, places: Mapping[int, str]) -> list[str]:
    """What a choice leaves out, in words."""
    chosen = [ways[way] for ways, way in zip(uncertain, choice, strict=True)]
    return [
        f"{places.get(one.inode, f'inode {one.inode}')}: {one.lost}" if one.inode else one.lost for one in chosen if one.lost
    ]


# On a real disk ----------------------------------------------------------------------------------------------------------


def lay_out(state: State, root: Path) -> None:
    """Make a folder hold a state, and nothing else. Folders that are there already are used again."""
    _clear(root, {path for path, file in state.items() if file.folder})
    first: dict[int, str] = {}
    for path in sorted(state):
        file, target = state[path], f"{root}/{path}"
        if file.folder:
            if not os.path.isdir(target):
                os.mkdir(target)
        elif file.target is not None:
            os.symlink(file.target, target)
        elif file.inode in first:
            os.link(first[file.inode], target)
        else:
            first[file.inode] = target
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, file.content)
            os.fchmod(descriptor, file.mode)
            os.close(descriptor)


def _clear(root: Path, folders: set[str], path: str = "") -> None:
    with os.scandir(root / path) as scan:
        entries = list(scan)
    for entry in entries:
        below = f"{path}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            _clear(root, folders, f"{below}/")
            if below not in folders:
                os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def replaced(uncertain: Uncertain, choice: Choice, number: int) -> Choice:
    """The choice with one thing kept."""
    return (*choice[:number], 0, *choice[number + 1 :])
