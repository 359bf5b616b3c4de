"""One command under the model of a power cut: it is run once and recorded, then every state that the disk may be found in after
any of its calls is laid out and looked at.

    run = Run(folder, "gc", ["gc", "--grace", "0s"])      # folder/world: the store and its configuration, prepared
    run.record()
    run.explore(states=400)
    assert not run.violations
"""

import contextlib
import copy
import hashlib
import os
import pickle
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from inprocess import collect
from power_disk import Call, Choice, Disk, State, Uncertain, choices, count, lay_out, lost
from power_journal import recording

import snapmirror.cli
from snapmirror.cli.check import _leaf_files
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.digests import sha256
from snapmirror.errors import SnapmirrorError
from snapmirror.store import check
from snapmirror.store.published import Links
from snapmirror.store.store import Store
from snapmirror.store.trees import name_of
from snapmirror.sync.repair import tree_problems

#: choices at one call, up to which all are tried
_ALL = 256


def unread(name: str) -> bool:
    """Whether a name is one that the program gives to what is not finished, and never reads."""
    return name.startswith((".", "put-")) and name not in (".trees", ".views", ".index")


class Broken(Exception):
    """A promise that a state does not keep."""


@dataclass(frozen=True)
class Facts:
    """What a store says, and must say again."""

    #: {path: bytes} of records, tombstones, pins and rules
    files: dict[str, bytes]
    #: {snapshot: the links of its tree}
    links: dict[str, Links]

    @classmethod
    def of(cls, root: Path) -> "Facts":
        """As they are now; nothing where there is no store."""
        if not (root / "snapmirror.json").exists():
            return cls({}, {})
        folders = [root / name for name in ("snapshots", "pins", "denied", "live/repos")]
        files = {path: path.read_bytes() for folder in folders for path in folder.glob("[!.]*")}
        with Store.open(root, write=False) as store:
            links = {id_: store.published.links(id_) for id_ in store.published.snapshots()}
        return cls({str(path.relative_to(root)): content for path, content in files.items()}, links)


@dataclass
class Run:
    """A command in a prepared world."""

    folder: Path
    name: str
    #: of the command line, or what to do in its place
    action: list[str] | Callable[[Path], None]
    #: makes the program wrong, for the test of the test
    breaking: Callable[[], None] = lambda: None
    #: exit statuses that are right, and those of a run that finds it done already
    status: int = 0
    again: tuple[int, ...] = (0,)
    seed: int = 0
    #: what the prepared store is damaged by: parts of what `check` says of it
    damaged: tuple[str, ...] = ()

    calls: list[Call] = field(default_factory=list)
    #: states that were laid out and looked at, and calls after which there were too many to try all
    states: int = 0
    sampled: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def world(self) -> Path:
        """Where the command runs, and then the states are laid out."""
        return self.folder / "world"

    @property
    def store(self) -> Path:
        """The store of the world."""
        return self.world / "store"

    def record(self) -> None:
        """Run the command to its end, and keep its journal."""
        self._disk = Disk.scan(self.world)
        self.before = Facts.of(self.store)
        journal = self.folder / "journal"

        def work() -> int:
            self.breaking()
            with recording(self.world) as found:
                try:
                    return self._act()
                finally:
                    journal.write_bytes(pickle.dumps(found.calls))

        status, err = _in_child(work, self.folder)
        assert status == self.status, err
        self.calls = pickle.loads(journal.read_bytes())
        self.after = Facts.of(self.store)

    def _act(self) -> int:
        if callable(self.action):
            self.action(self.store)
            return 0
        sys.argv = ["snapmirror", *self.action, "--config", str(self.world / "snapmirror.toml")]
        try:
            snapmirror.cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(bool(end.code))
        return 0

    # Exploring

    def explore(self, states: int | None, again: int = 50) -> None:
        """Look at about so many states, spread over all calls; None: at all, but that names which nobody reads are passed over.

        again: in one of so many the command is run once more. Stops at the first violation, which is made small.
        """
        dice = random.Random(self.seed)
        seen = set[bytes]()
        for number, call in enumerate([None, *self.calls]):
            if call:
                self._disk.apply(call)
            finished = number == len(self.calls)
            uncertain = self._disk.uncertain(unread) if states is None else self._disk.uncertain()
            most = self._share(states, number, finished=finished) if states else count(uncertain)
            self.sampled += count(uncertain) > most
            for choice in choices(uncertain, most, dice):
                state = self._state(uncertain, choice)
                key = _key(state, finished)
                if key in seen:
                    continue
                seen.add(key)
                self.states += 1
                then = self._run_again if self.states % again == 1 else dice.choice(self._afterwards)
                if problem := self._problem(state, then, finished=finished):
                    self._report(uncertain, choice, problem, then, finished=finished, number=number)
                    return

    def disks(self) -> list[Disk]:
        """What is durable and what is not before the first call, and after each."""
        found = [self._disk]
        for call in self.calls:
            found.append(copy.deepcopy(found[-1]))
            found[-1].apply(call)
        return found

    def examine(self, disk: Disk, pick: Callable[[int], int], *, finished: bool) -> str | None:
        """What is wrong with one state that a power cut may leave; None if nothing is.

        disk: of `disks`; pick: chooses one of so many ways, the first of which loses nothing
        finished: whether the command had ended
        """
        state = disk.state([ways[pick(len(ways))] for ways in disk.uncertain()])
        return self._problem(state, self._afterwards[-1 - pick(len(self._afterwards))], finished=finished)

    def _share(self, states: int, number: int, *, finished: bool) -> int:
        """How many of so many states to look at after a call: also those that earlier calls have left. The end counts most."""
        due = states * (number + 1) // (len(self.calls) + 1) - self.states
        return max(due, states // 10, 8) if finished else max(0, min(due, states // 8))

    @property
    def _afterwards(self) -> "list[Callable[[], None]]":
        """What may be done with a state once it has been looked at."""
        return [self._collect, self._collect, self._reindex, self._lose_the_index, *[lambda: None] * 8]

    def _state(self, uncertain: Uncertain, choice: Choice) -> State:
        return self._disk.state([ways[way] for ways, way in zip(uncertain, choice, strict=True)])

    def _problem(self, state: State, then: Callable[[], None], *, finished: bool) -> str | None:
        """What is wrong with a state, None if nothing is. then: what is done with it afterwards"""
        lay_out(state, self.world)
        try:
            self._look(finished=finished)
            if self._is_store() or then == self._run_again:
                then()
        except (Broken, SnapmirrorError, OSError) as error:
            where = "" if isinstance(error, Broken) else "".join(traceback.format_tb(error.__traceback__)[-3:])
            return f"{type(error).__name__}: {error}\n{where}"
        return None

    def _report(
        self, uncertain: Uncertain, choice: Choice, problem: str, then: Callable[[], None], *, finished: bool, number: int
    ) -> None:
        """Keep all that may be kept so that it still fails, and say what is left."""
        for place in range(len(choice)):
            fewer = (*choice[:place], 0, *choice[place + 1 :])
            if fewer != choice:
                state = self._state(uncertain, fewer)
                found = self._problem(state, then, finished=finished)
                if found:
                    choice, problem = fewer, found
        gone = lost(uncertain, choice, self._disk.places()) or ["nothing"]
        after = self.calls[number - 1].text if number else "nothing"
        self.violations.append(
            f"{self.name}: power cut after call {number} of {len(self.calls)} ({after})\n  lost: "
            + "\n        ".join(gone)
            + f"\n  then: {problem}"
        )

    # Promises

    def _is_store(self) -> bool:
        return (self.store / "snapmirror.json").exists()

    def _look(self, *, finished: bool) -> None:
        if not self._is_store():
            _must(not self.before.files, "there is no store any more")
            _must(not finished, "the command is done, and there is no store")
            return
        self._check_bytes(finished=finished)
        self._check_files(finished=finished)
        with Store.open(self.store, write=True) as store:
            self._check_links(store)
            self._check_clean(store, finished=finished)

    def _check_files(self, *, finished: bool) -> None:
        found = Facts.of(self.store).files
        if finished:
            _must(found == self.after.files, f"what the command has done is not there: {_differing(found, self.after.files)}")
        for path, content in found.items():
            _must(content in (self.before.files.get(path), self.after.files.get(path)), f"{path} holds what it never held")
        for path in self.before.files.keys() & self.after.files.keys():
            _must(path in found, f"{path} was there before and after, and is gone")

    def _check_bytes(self, *, finished: bool) -> None:
        """What has a name made of its bytes has these bytes: blobs, documents, tree objects."""
        expected = () if finished else self.damaged
        for path in _files(self.store / "blobs"):
            right = sha256(path.read_bytes()).hex() == path.name
            _must(right or path.name in expected, f"blobs/{path.name} holds other bytes than its name says")
        with Store.open(self.store, write=False) as store:
            for path in _files(self.store / "documents"):
                _must(store.documents.is_whole(path), f"documents/{path.name} holds other bytes than its name says")
        for tree in () if expected else self.store.glob("published/.trees/[!.]*"):
            listing = {str(path.relative_to(tree)): sha256(path.read_bytes()) for path in _files(tree)}
            _must(name_of(listing) == tree.name, f"published/.trees/{tree.name} has not the files that its name says")

    def _check_links(self, store: Store) -> None:
        """A snapshot that was sealed with a tree has it, and `current` leads to one."""
        records = {record.id for record in store.catalog().records}
        for id_ in records & (self.before.links.keys() | self.after.links.keys()):
            known = (self.before.links.get(id_), self.after.links.get(id_))
            gone = not store.published.links(id_) and self._is_forgotten(id_)
            _must(gone or store.published.links(id_) in known, f"published/{id_} has not the links that it was sealed with")
        for path in self.store.joinpath("published").glob("[!.]*"):
            _must(path.exists(), f"published/{path.name} is a link to nothing")
        if self.before.links:
            _must((self.store / "published/current").exists(), "published/current is gone")

    def _is_forgotten(self, id_: str) -> bool:
        """Whether the command forgets a snapshot: its links go before its record."""
        path = f"snapshots/{id_}.json"
        return self.before.files.get(path) != self.after.files.get(path)

    def _check_clean(self, store: Store, *, finished: bool = False) -> None:
        with store.lock(None):
            problems = [*check.structure(store, _leaf_files), *tree_problems(store, ECOSYSTEMS)]
        wrong = [f"{one.what}: {one.problem}" for one in problems]
        expected = () if finished else self.damaged
        _must(not (wrong := [text for text in wrong if not any(part in text for part in expected)]), "; ".join(wrong))

    def _collect(self) -> None:
        """gc without a grace deletes nothing that is needed."""
        if self.damaged:
            return
        with Store.open(self.store, write=True) as store:
            collect(store, timedelta(0))
            self._check_clean(store)

    def _lose_the_index(self) -> None:
        """It is made again from the files by whoever needs it."""
        for path in self.store.glob("index.lmdb*"):
            path.unlink()
        with Store.open(self.store, write=True) as store:
            self._check_clean(store)

    def _reindex(self) -> None:
        with Store.open(self.store, write=True) as store:
            with store.lock(None):
                store.reindex()
            self._check_clean(store)

    def _run_again(self) -> None:
        status, err = _in_child(self._act, self.folder)
        _must(status in (self.status, *self.again), f"the same command, run again, ends with {status}: {err[-1500:]}")
        _must("Traceback" not in err, f"the same command, run again: {err[-1500:]}")
        self._check_bytes(finished=True)
        with Store.open(self.store, write=True) as store:
            self._check_clean(store, finished=True)


def _must(true: object, problem: str) -> None:
    if not true:
        raise Broken(problem)


def _differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> str:
    return ", ".join(sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path)))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _key(state: State, finished: bool) -> bytes:
    """Equal for equal states."""
    running = hashlib.blake2b(bytes([finished]), digest_size=16)
    for path, file in sorted(state.items()):
        running.update(f"{path}\0{file.inode} {file.mode} {file.target}\0".encode())
        running.update(file.content)
    return running.digest()


def _in_child(work: Callable[[], int], folder: Path) -> tuple[int, str]:
    """Do something in a fork of this process; its exit status, and what it wrote to standard error."""
    messages = folder / "messages"
    child = os.fork()
    if child == 0:
        status = 99
        try:
            descriptor = os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - as long as the process
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended), messages.read_text()


def command(world: Path, *arguments: str) -> None:
    """Run the command line in a world to status 0."""
    run = Run(world.parent, arguments[0], list(arguments))
    status, err = _in_child(run._act, world.parent)
    assert status == 0, err
