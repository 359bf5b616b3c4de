"""Kills and fails every command at every step, and judges what that leaves: `make crash`.

A try is: a copy of a prepared store; the command, in a forked process that is struck; a look at what it left; the command
again, undisturbed; a gc of all that a week would make old; and a last look. What must hold is said in `Judge`.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
from steps import ERRORS, KILLED, Fail, Kill, Meanwhile, Steps, Strike
from worlds import BY_NAME, COMMANDS, Command, World, execute, forked, in_child, world

from snapmirror.cli import config as configuration
from snapmirror.cli.check import _find_problems
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.errors import SnapmirrorError
from snapmirror.store.store import Store

#: what a run may end with: done, failed, done in part, and damaged; never 2, for nobody used it wrongly, nor 4
STATUSES = (0, 1, 3, 5)
#: a disk that is full says so, in words of ours
FULL = ("ENOSPC", "EDQUOT", "LMDB no space")
#: what no user may see
HORRORS = ("Traceback", "internal error", "fault of snapmirror", "Exception ignored")
#: verbs of which a second run has nothing to do, and says so
ONCE = ("forget", "unpin", "allow", "pin", "export")
#: names with a dot that belong to a store
USUAL = ("published/.trees", "published/.views", "locks/.index", "locks/.trees", "locks/.copies")
_WEEK = 8 * 86400
#: lets a process be struck from outside
STRACE = ("strace", "--follow-forks", "--quiet=all", "--output", os.devnull)
#: what can be struck so, in the names that one machine or another has for it
CALLS = {
    "rename": "?rename,?renameat,?renameat2",
    "link": "?link,?linkat",
    "unlink": "?unlink,?unlinkat",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "lmdb commit": "pwrite64,?pwritev",
}


class Look(NamedTuple):
    """What a store is at one moment."""

    #: what `check --read-data` finds
    problems: list[str]
    #: {what clients ask for: SHA-256 of the answer}, of every snapshot, pin and tree
    answers: dict[str, str]
    #: what the command is there to change
    effect: dict[str, Any]
    #: names of blobs that hold the right bytes
    blobs: list[str]
    #: rows of the index, tree objects, and whatever else must not pile up
    rest: dict[str, list[str]]


@functools.cache
def can_strace() -> bool:
    """Whether strace is here and may be used."""
    return shutil.which("strace") is not None and subprocess.run([*STRACE, "true"], capture_output=True).returncode == 0


def look(world: World) -> Look:
    """Look at a store, in this process."""
    root = world.store
    if not (root / "snapmirror.json").exists():
        return Look([], {}, {}, [], {})
    with Store.open(root, write=True) as store:
        names = sorted(blob.digest.hex() for blob in store.blobs.list())
        sums = {name: _sum(root / "blobs" / name[:2] / name) for name in names}
        blobs = [name for name in names if sums[name] == name]
        answers, effect = _answers(store, sums), _effect(store)
        effect["exports"] = {path.name: _sum(path) for path in sorted(world.run.glob("*.tar*"))}
        key = configuration.load(world.config).sign.read_key()
        try:
            problems = [f"{one.what}: {one.problem}" for one in _find_problems(store, key, None, read_data=True)[0]]
        except SnapmirrorError as error:
            problems = [f"check fails: {error}"]
        rows = sorted(digest.hex() for digest, _ in store.index.blobs())
    strays = [os.path.join(folder, name) for folder, folders, files in os.walk(root) for name in folders + files]
    strays = [path for path in strays if os.path.basename(path)[0] == "." and not path.endswith(USUAL)]
    rest = {
        "index": rows,
        "trees": sorted(path.name for path in (root / "published/.trees").iterdir()),
        "incoming": sorted(path.name for path in (root / "incoming").iterdir() if path.name != "CACHEDIR.TAG"),
        "syncing": sorted(path.name for path in (root / "syncing").iterdir()),
        "strays": sorted(os.path.relpath(path, root) for path in strays),
    }
    return Look(problems, answers, effect, blobs, rest)


def _answers(store: Store, sums: dict[str, str]) -> dict[str, str]:
    root, answers = store.layout.root, dict[str, str]()
    catalog = store.catalog()
    for record in catalog.records:
        for ending in ("json", "sig"):
            path = root / "snapshots" / f"{record.id}.{ending}"
            answers[path.name] = _sum(path) if path.exists() else "missing"
        for place, repo in record.repos.items():
            for name, state in repo.directories.items():
                answers |= _directory(store, f"{record.id}/{place}/{name}", state.blob, sums)
        answers |= _tree(root / "published", record.id)
    return answers


def _directory(store: Store, place: str, digest: bytes, sums: dict[str, str]) -> dict[str, str]:
    try:
        reader = store.metadata.directory(digest)
        leaves = list(reader.contents())
    except SnapmirrorError:
        return {place: "missing"}
    answers = {place: digest.hex()}
    for leaf, content in leaves:
        answers[f"{place}: {leaf}"] = hashlib.sha256(content).hexdigest()
        for file in ECOSYSTEMS[reader.document.kind].files(content) if reader.document.mode == "eager" else ():
            if file.sha256:
                answers[f"{place}: {file.name}"] = sums.get(file.sha256.hex(), "missing")
    return answers


def _tree(published: Path, id_: str) -> dict[str, str]:
    """Files of a snapshot's tree; without those that lie in a tree object that is gone, of which `check` tells."""
    found = dict[str, str]()
    for folder, _, files in os.walk(published / id_, followlinks=True):
        paths = [Path(folder, name) for name in files]
        found |= {f"published/{path.relative_to(published)}": _sum(path) for path in paths if path.exists()}
    return found


def _effect(store: Store) -> dict[str, Any]:
    catalog = store.catalog()
    newest = catalog.records[-1].repos if catalog.records else {}
    return {
        "newest": {f"{path}/{name}": state.digest for path, repo in newest.items() for name, state in repo.directories.items()},
        "pins": {name: pin.snapshot for name, pin in catalog.pins.items()},
        "denied": sorted(f"{rule.repo} {rule.spec}" for rule in store.denied.rules()),
        "tombstones": sorted(entry.id for entry in catalog.entries if entry not in catalog.records),
    }


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


#: what is random in a name
_RANDOM = re.compile(r"(?<![0-9a-f])([0-9a-f]{16}|[0-9a-f]{8})(?![0-9a-f])")
_ID = re.compile(rb"\d{8}T\d{6}Z")
#: of a row of the index that says when a blob was last checked
_CHECKED = slice(8, 16)


def fingerprint(world: World) -> str:
    """Equal for two stores of which all that is judged is equal: they differ in when they were made, and in random names."""
    running = hashlib.sha256()
    known = {id_.encode() for id_ in world.ids}

    def plain(content: bytes) -> bytes:
        return _ID.sub(lambda found: found[0] if found[0] in known else b"new", content)

    entries = list[bytes]()
    names = dict[int, str]()
    for folder, folders, files in os.walk(world.run):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            said = plain(_RANDOM.sub("random", path).encode())
            if os.path.islink(path):
                entries.append(b"%s -> %s" % (said, plain(os.readlink(path).encode())))
            elif name in folders:
                entries.append(said)
            elif name not in ("index.lmdb", "index.lmdb-lock"):
                first = names.setdefault(status.st_ino, name)
                held = plain(_RANDOM.sub("random", Path(path).read_bytes().decode("latin-1")).encode("latin-1"))
                entries.append(b"%s %o %s %s" % (said, status.st_mode, first.encode(), hashlib.sha256(held).digest()))
    for entry in sorted(entries):
        running.update(entry + b"\n")
    for entry in _rows(world.store / "index.lmdb"):
        running.update(plain(entry) + b"\n")
    return running.hexdigest()


def _rows(index: Path) -> Iterator[bytes]:
    """All that an index holds, but when blobs were checked."""
    try:
        with lmdb.open(str(index), subdir=False, readonly=True, lock=False, max_dbs=8) as opened:
            with opened.begin() as transaction:
                tables = [bytes(name) for name, _ in transaction.cursor()]
            for table in tables:
                database = opened.open_db(table, create=False)
                with opened.begin() as transaction:
                    for key, value in transaction.cursor(database):
                        row = bytes(value)
                        if table == b"blobs":
                            row = row[: _CHECKED.start] + row[_CHECKED.stop :]
                        yield b"%s %s %s" % (table, bytes(key), row)
    except lmdb.Error as error:
        yield str(error).encode()


@dataclass
class Count:
    """What was tried of one command."""

    kills: int = 0
    #: of these the program itself, by strace
    real: int = 0
    errors: int = 0
    #: different ones that were left
    states: int = 0
    violations: list[str] = field(default_factory=list)


class Judge:
    """Tries one command, and says what was wrong."""

    def __init__(self, world: World, command: Command) -> None:
        self._world, self._command = world, command
        #: called in the process that is struck, to break the program
        self.broken: Callable[[], object] = lambda: None
        self._before = self._look_at(command.base)
        #: what a damaged store answered while it was whole
        self._whole = self._look_at("two").answers if command.damaged else self._before.answers
        self.kinds: list[str] = []
        #: fingerprint of what was left, and of that after the next run -> what came of it: a state is judged once
        self._known: dict[str, dict[str, Any]] = {}
        self._later_known: dict[str, dict[str, Any]] = {}
        status, said, undisturbed = self._try(None)
        assert (status, undisturbed["status"]) in ((command.status, command.status), (command.status, 2)), (
            status,
            said,
            undisturbed,
        )
        self._end, self._after = Look(*undisturbed["end"]), Look(*undisturbed["left"])

    @property
    def is_program(self) -> bool:
        """Whether the command is one that a user gives, and strace can be used on it."""
        return isinstance(self._command.run, tuple) and can_strace()

    @property
    def states(self) -> int:
        """How many different states were left."""
        return len(self._known)

    def _look_at(self, base: str) -> Look:
        self._world.begin(base)
        return Look(*self._told(lambda: look(self._world)))

    def _told(self, action: Callable[[], Any]) -> Any:
        """What an action in a forked process gives."""
        told = self._world.root / "told"

        def tell() -> None:
            told.write_text(json.dumps(action()))

        status = in_child(tell, self._world.root / "judge")
        if status:
            raise AssertionError(f"looking ended with {status}: {(self._world.root / 'judge').read_text()[-1500:]}")
        return json.loads(told.read_text())

    def _try(self, strike: Strike, files: int | None = None) -> tuple[int, str, dict[str, Any]]:
        """Exit status and messages of the process that was struck, and what came after.

        files: how many it may open; None: as many as it likes
        """
        world, command = self._world, self._command
        counted = world.root / "counted"
        counted.unlink(missing_ok=True)

        def struck() -> int:
            steps = Steps(world.run, strike)
            steps.install()
            self.broken()
            try:
                with few_files(files):
                    return world.execute(command)
            finally:
                counted.write_text(json.dumps([steps.kinds, steps.struck]), encoding="utf-8")
                world.say_what_is_loaded()

        self._begin()
        status = in_child(struck, world.root / "said")
        self._kinds_now, self._struck_now = json.loads(counted.read_text()) if counted.exists() else ([], False)
        if strike is None and files is None:
            self.kinds = self._kinds_now
            world.load()
        return status, (world.root / "said").read_text(), self._came_of_it()

    def _begin(self) -> None:
        self._world.upstream_is(self._command.state)
        self._world.begin(self._command.base)

    def _came_of_it(self) -> dict[str, Any]:
        self._world.asked()
        state, after = self._told(self._afterwards)
        if after is not None:
            later = after.pop("later")
            after |= self._later_known.setdefault(after.pop("finished"), later)
        return self._known.setdefault(state, after)

    def _afterwards(self) -> tuple[str, dict[str, Any] | None]:
        """In a process of its own: what is left; the command once more; a gc; what is left then. None for what is known."""
        world = self._world
        state = fingerprint(world)
        if state in self._known:
            return state, None
        left = look(world)
        status = world.execute(self._command)
        asked = world.asked()
        finished = fingerprint(world)
        later = None if finished in self._later_known else self._collected()
        return state, {"left": left, "status": status, "asked": asked, "finished": finished, "later": later}

    def _collected(self) -> dict[str, Any]:
        world = self._world
        again = look(world)
        long_ago = time.time() - _WEEK
        for folder in ("incoming", "syncing"):
            for path in (world.store / folder).iterdir():
                os.utime(path, (long_ago, long_ago))
        collected = execute(world, "gc", "--grace", "0s")
        return {"again": again, "collected": collected, "end": look(world)}

    def kill(self, at: int, when: str) -> list[str]:
        """What was wrong after a kill at a step; None of it if the process was through before."""
        status, said, after = self._try(Kill(at, when))
        wrong = [] if status == KILLED else self._ended_well(status, said, "")
        return wrong + self._left(after) + self._later(after)

    def strace(self, call: str, at: int) -> list[str] | None:
        """What was wrong after strace has killed the program itself at a system call, the first being 1; None if no thread of
        it made so many. call: one of `CALLS`
        """
        world = self._world
        program = [sys.executable, "-m", "snapmirror", *world.arguments(self._command), "-c", str(world.config)]
        inject = f"inject={CALLS[call]}:signal=KILL:when={at}"
        self._begin()
        ended = subprocess.run(
            [*STRACE, "-e", inject, *program], cwd=world.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        after = self._came_of_it()
        if ended.returncode != -signal.SIGKILL:
            assert ended.returncode == self._command.status, ended.stderr
            return None
        return self._left(after) + self._later(after)

    def meanwhile(self, at: int, state: int, *arguments: str) -> list[str]:
        """What was wrong when another process ran to its end just before a step; it does not wait for locks.

        state: of upstream for it; arguments: of its command line
        """
        world = self._world
        ours, theirs = socket.socketpair()

        def other() -> None:
            if theirs.recv(1):
                try:
                    world.upstream_is(state)
                    execute(world, *arguments)
                finally:
                    theirs.send(b".")

        def let_it() -> None:
            ours.send(b".")
            ours.recv(1)

        with ours, theirs:
            waiting = forked(other, world.root / "said by the other")
            status, said, after = self._try(Meanwhile(at, let_it))
            ours.shutdown(socket.SHUT_RDWR)
            os.waitpid(waiting, 0)
        left = [f"{when}, check: {problem}" for when in ("again", "end") for problem in Look(*after[when]).problems]
        return self._ended_well(status, said, "") + self._left(after) + left

    def fail(self, at: int, error: str, *, lasts: bool = False) -> list[str] | None:
        """What was wrong after an error at a step; None if it was not reached."""
        status, said, after = self._try(Fail(at, error, lasts))
        return self._failed(status, said, error, after) if self._struck_now else None

    def starve(self, files: int) -> list[str]:
        """What was wrong with a process that may open only so many files, for reading and writing, and connections."""
        status, said, after = self._try(None, files)
        return self._failed(status, said, "", after)

    def _failed(self, status: int, said: str, error: str, after: dict[str, Any]) -> list[str]:
        wrong = self._ended_well(status, said, error) + self._left(after) + self._later(after)
        if status == 0 and self._command.status == 0 and Look(*after["left"]).effect != self._after.effect:
            wrong.append(f"it said that it was done, and was not: {said!r}")
        return wrong

    def _ended_well(self, status: int, said: str, error: str) -> list[str]:
        """Exit status and messages of a run that was not killed."""
        wrong = [f"a user saw {horror!r}: {said[-600:]}" for horror in HORRORS if horror in said]
        if status not in STATUSES:
            wrong.append(f"exit status {status}: {said[-300:]}")
        if status and not said.strip():
            wrong.append(f"exit status {status} without a word")
        if status and error in FULL and "no space left" not in said:
            wrong.append(f"does not say that the disk is full: {said[-300:]}")
        return wrong

    def _left(self, after: dict[str, Any]) -> list[str]:
        """Promises 1, 2 and 4: what was published answers as before, and what is published is whole."""
        left = Look(*after["left"])
        return self._whole_store(left) + self._changed(left, "left")

    def _whole_store(self, found: Look) -> list[str]:
        if self._command.damaged:
            return []
        wrong = [f"check: {problem}" for problem in found.problems]
        return wrong + [f"{what} is missing" for what, answer in found.answers.items() if answer == "missing"]

    def _changed(self, found: Look, when: str) -> list[str]:
        wrong, forgets = [], self._command.forgets
        gone = {self._world.ids[forgets]} & set(found.effect.get("tombstones", ())) if forgets is not None else set()
        for what, answer in self._before.answers.items():
            whole, now = self._whole.get(what, answer), found.answers.get(what)
            if now in (answer, whole) or any(id_ in what for id_ in gone):
                continue
            if whole != answer and now in (None, "missing"):
                continue  # it was damaged, and is answered by nothing until it is repaired
            if now is None and self._may_go(what):
                continue
            wrong.append(f"{when}: {what} was {answer[:8]} and is {now and now[:8]}")
        return wrong[:5]

    def _may_go(self, what: str) -> bool:
        """Folders for other web servers are made from the records: those of a snapshot that is being forgotten go before its
        record does, and a damaged one is taken down before it is linked again. The next run has to put that right.
        """
        forgets = self._command.forgets
        forgotten = forgets is not None and what.startswith(f"published/{self._world.ids[forgets]}/")
        return forgotten or (self._command.damaged and what.startswith("published/"))

    def _later(self, after: dict[str, Any]) -> list[str]:
        """The next run finishes, fetches nothing that was there, and leaves what an undisturbed one does."""
        left, again, end, wrong = Look(*after["left"]), Look(*after["again"]), Look(*after["end"]), list[str]()
        verb = self._command.run[0] if isinstance(self._command.run, tuple) else ""
        if after["status"] != self._command.status and not (after["status"] == 2 and verb in ONCE):
            wrong.append(f"the next run ended with {after['status']}")
        if after["collected"]:
            wrong.append(f"gc ended with {after['collected']}")
        twice = [path for path in after["asked"] if self._world.content(path, self._command.state) in left.blobs]
        wrong += [f"{path} was fetched again" for path in twice]
        wrong += [f"after the next run, check: {problem}" for problem in again.problems] + self._changed(again, "again")
        wrong += [f"after gc, check: {problem}" for problem in end.problems]
        if end.effect != self._end.effect:
            wrong.append(f"the next run left {_difference(end.effect, self._end.effect)}")
        if end.blobs != self._end.blobs:
            wrong.append(f"blobs differ: {set(end.blobs) ^ set(self._end.blobs)}")
        if end.rest != self._end.rest:
            wrong.append(f"leftovers: {_difference(end.rest, self._end.rest)}")
        return wrong


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return str({key: (one.get(key), other.get(key)) for key in {*one, *other} if one.get(key) != other.get(key)})[:600]


# What is tried


def kills(kinds: list[str]) -> list[tuple[int, str]]:
    """Every moment at which a run can be killed: before each step that changes anything, in the middle of those that write, and
    after the last. (After any other is before the next.)
    """
    changing = [number for number, kind in enumerate(kinds) if kind != "lmdb begin"]
    moments = [(number, "before") for number in changing] + [(number, "after") for number in changing[-1:]]
    return moments + [(number, "torn") for number in changing if kinds[number] == "write"]


def real_kills(kinds: list[str]) -> list[tuple[str, int]]:
    """System calls at which the program itself can be killed."""
    return [(call, at) for call in CALLS for at in range(1, kinds.count(call) + 1)]


def errors(kinds: list[str]) -> dict[str, list[tuple[int, str, bool]]]:
    """Every step with every error that can strike it, by error; those of a disk also for good."""
    return {
        error: [
            (number, error, lasts)
            for number, kind in enumerate(kinds)
            for lasts in ((False, True) if error in ("ENOSPC", "EROFS", "EIO") else (False,))
            if kind in ERRORS[error]
        ]
        for error in ERRORS
    }


class Most(NamedTuple):
    """How much is tried of each command."""

    #: None: all
    kills: int | None
    #: by strace
    real: int
    #: of each kind
    errors: int


def campaign(folder: Path, names: list[str], share: tuple[int, int], most: Most, seed: int) -> dict[str, Count]:
    """Try commands. share: (which, of how many) of what there is to try"""
    counts: dict[str, Count] = {}
    with world(folder) as made:
        for name in names:
            judge, count = Judge(made, BY_NAME[name]), counts.setdefault(name, Count())
            for number, (how, wrong) in enumerate(_tries(judge, share, most, seed), 1):
                count.kills += how.startswith("killed")
                count.real += how.startswith("killed by strace")
                count.errors += not how.startswith("killed")
                told = [f"{name}, {how}: {one}" for one in wrong]
                count.violations += told
                for one in told:
                    print(f"  {one}", flush=True)
                if not number % 200:
                    print(f"{name}: {number} tried so far", flush=True)
            count.states = judge.states
            print(f"{name}: {count.kills} kills, {count.errors} errors, {len(count.violations)} violations", flush=True)
    return counts


def _tries(judge: Judge, share: tuple[int, int], most: Most, seed: int) -> Iterator[tuple[str, list[str]]]:
    """What was done to a command, and what was wrong then."""
    kinds = judge.kinds
    for at, when in _share(sampled(kills(kinds), most.kills, seed), share):
        yield f"killed {when} {kinds[at]} {at}", judge.kill(at, when)
    for call, at in _share(sampled(real_kills(kinds) if judge.is_program else [], most.real, seed), share):
        wrong = judge.strace(call, at)
        if wrong is not None:
            yield f"killed by strace at {call} {at}", wrong
    for one_kind in errors(kinds).values():
        for at, error, lasts in _share(sampled(one_kind, most.errors, seed), share):
            wrong = judge.fail(at, error, lasts=lasts)
            if wrong is not None:
                yield f"{error}{' for good' if lasts else ''} at {kinds[at]} {at}", wrong
    for files in _share(list(range(2, 2 + most.errors)) if judge.is_program else [], share):
        yield f"{files} files that can be opened", judge.starve(files)


def _share(what: list[Any], share: tuple[int, int]) -> list[Any]:
    """Neighbours, which leave equal states more often."""
    which, parts = share
    return what[which * len(what) // parts : (which + 1) * len(what) // parts]


def sampled(what: list[Any], most: int | None, seed: int) -> list[Any]:
    """So many of them, None for all; the same ones for the same seed."""
    return what if most is None or len(what) <= most else sorted(random.Random(seed).sample(what, most))


def table(counts: dict[str, Count]) -> str:
    """What was tried, a line a command."""
    total = Count(*(sum(getattr(count, what) for count in counts.values()) for what in ("kills", "real", "errors", "states")))
    total.violations = [violation for count in counts.values() for violation in count.violations]
    lines = [f"{'command':<18} {'kill points':>11} {'by strace':>9} {'errors':>6} {'states left':>11} {'violations':>10}"]
    for name, count in (counts | {"together": total}).items():
        tried = f"{count.kills:>11} {count.real:>9} {count.errors:>6}"
        lines.append(f"{name:<18} {tried} {count.states:>11} {len(count.violations):>10}")
    return "\n".join(lines)


@contextlib.contextmanager
def few_files(most: int | None) -> Iterator[None]:
    """While it lasts this process can open only so many files; None: as many as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most is not None:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder in memory if there is one: what is durable is not the question here (see `make power`), and tries are many."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="crashes-", dir=memory if os.access(memory, os.W_OK) else None)


def main() -> None:
    """Try all commands, in as many processes as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, help="of each command try only so many")
    parser.add_argument("--errors", type=int, default=12, help="of each command try so many of each kind")
    parser.add_argument("--strace", type=int, default=6, help="of each command kill the program itself so many times")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("commands", nargs="*", default=[command.name for command in COMMANDS])
    asked = parser.parse_args()
    most = Most(asked.kills, asked.strace, asked.errors)
    begun, together = time.monotonic(), dict[str, Count]()
    with scratch() as folder:
        children = []
        for job in range(asked.jobs):
            result, part = Path(folder, f"result{job}"), Path(folder, str(job))
            part.mkdir()
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    counts = campaign(part, asked.commands, (job, asked.jobs), most, asked.seed)
                    result.write_text(json.dumps({name: vars(count) for name, count in counts.items()}))
                    status = 0
                finally:
                    sys.stdout.flush()
                    if status:
                        sys.excepthook(*sys.exc_info())
                    os._exit(status)
            children.append((child, result))
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in children]
        for _, result in children:
            for name, count in json.loads(result.read_text() if result.exists() else "{}").items():
                sofar = together.setdefault(name, Count())
                sofar.kills += count["kills"]
                sofar.real += count["real"]
                sofar.errors += count["errors"]
                sofar.states += count["states"]
                sofar.violations += count["violations"]
    print(f"\n{table(together)}\n{time.monotonic() - begun:.0f} s; the kinds of errors: {', '.join(ERRORS)}")
    kinds = Counter(violation.split(",")[0] for count in together.values() for violation in count.violations)
    sys.exit(bool(kinds or any(ended)))


if __name__ == "__main__":
    main()
