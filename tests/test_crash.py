"""A process that dies, or a call that fails, at any step of any command: `make crash` tries all of them, this a sample.

What must hold after each is said in `crashes.Judge`. That it would notice is tested too, on programs that
are broken on purpose.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crashes import Judge, can_strace, errors, kills, sampled, scratch
from worlds import BY_NAME, COMMANDS, World, world

from snapmirror.cli import gc as cli_gc
from snapmirror.store import gc, seal
from snapmirror.store.mark import Mark
from snapmirror.store.snapshots import Snapshots
from snapmirror.store.store import Store

pytestmark = pytest.mark.proof

#: kills, and errors, of each command
SAMPLE = 1


@pytest.fixture(scope="module")
def small() -> Iterator[World]:
    """A prepared world, for all tests of this module."""
    with scratch() as folder, world(Path(folder)) as made:
        yield made


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_a_kill_or_an_error_at_any_step_costs_nothing_that_was_published(name: str, small: World) -> None:
    judge = Judge(small, BY_NAME[name])
    for at, when in sampled(kills(judge.kinds), SAMPLE, seed=1):
        assert judge.kill(at, when) == [], (at, when, judge.kinds[at])
    for at, error, lasts in sampled([one for kind in errors(judge.kinds).values() for one in kind], SAMPLE, seed=1):
        assert not judge.fail(at, error, lasts=lasts), (at, error, lasts, judge.kinds[at])


def test_a_process_that_may_open_few_files_says_so(small: World) -> None:
    judge = Judge(small, BY_NAME["sync"])
    for files in (3, 10):
        assert judge.starve(files) == []


# The test of the test: in each of these the program is broken in the process that is struck


def _rows_before_blobs() -> None:
    def admit(store: Store, staged: Any) -> None:
        store._enter(staged)
        store.blobs.admit(staged)

    Store.admit = admit  # type: ignore[method-assign]


def _files_before_rows() -> None:
    def sweep(store: Store, blobs: Any) -> int:
        freed = sum(store.delete(digest) for digest, _ in blobs)
        store.index.drop_blobs(digest for digest, _ in blobs)
        return freed

    gc._sweep = sweep


def _record_before_blobs() -> None:
    write = Snapshots.write

    def early(snapshots: Snapshots, record: Any) -> None:
        blobs = [state.blob.hex() for repo in record.repos.values() for state in repo.directories.values()]
        places = [(snapshots._layout.blobs / name[:2] / name) for name in blobs]
        for place in places:
            os.rename(place, f"{place}.not-named-yet")
        write(snapshots, record)
        for place in places:
            os.rename(f"{place}.not-named-yet", place)

    Snapshots.write = early  # type: ignore[method-assign]


def _leaf_without_its_file() -> None:
    sealed = seal.seal

    def careless(store: Store, *arguments: Any) -> Any:
        name = next(path.name for path in store.layout.blobs.glob("*/*") if path.read_bytes().startswith(b"PK"))
        store.index.drop_blobs([bytes.fromhex(name)])
        store.blobs.delete(bytes.fromhex(name))
        return sealed(store, *arguments)

    seal.seal = careless


def _mark_outside_the_lock() -> None:
    def collect(store: Store, settings: Any, grace: timedelta, cache: object, *, dry_run: bool) -> Any:
        with store.lock(None) as catalog:
            mark = Mark(store.metadata, cli_gc.leaf_digests)
            planned = gc.plan(store, catalog, mark, gc.Terms(settings.retention, timedelta(30), grace))
        with store.lock(None) as catalog:
            return planned, gc.execute(store, catalog, planned)

    cli_gc._collect = collect


@pytest.mark.parametrize(
    ("command", "broken", "kind"),
    [
        ("prefetch", _rows_before_blobs, ""),
        ("gc", _files_before_rows, "unlink"),
        ("first sync", _record_before_blobs, "rename"),
        ("first sync", _leaf_without_its_file, "rename"),
    ],
    ids=["index row before blob", "file before index row", "record before blobs", "leaf without its file"],
)
def test_a_program_that_does_it_in_the_wrong_order_is_caught(
    command: str, broken: Callable[[], None], kind: str, small: World
) -> None:
    judge = Judge(small, BY_NAME[command])
    moments = [at for at, when in kills(judge.kinds) if when == "before" and kind in judge.kinds[at]]
    judge.broken = broken
    assert any(judge.kill(at, "after") for at in reversed(moments))


#: brings back files that gc is about to delete
SYNC = (1, "sync", "chan", "--allow-shrink", "--no-wait")


def test_a_sync_just_before_any_step_of_gc_loses_nothing(small: World) -> None:
    judge = Judge(small, BY_NAME["gc"])
    for at in sampled(_free(judge.kinds), 3, seed=1):
        assert judge.meanwhile(at, *SYNC) == []


def test_a_gc_that_marks_outside_the_lock_is_caught(small: World) -> None:
    judge = Judge(small, BY_NAME["gc"])
    judge.broken = _mark_outside_the_lock
    assert any(judge.meanwhile(at, *SYNC) for at in _free(judge.kinds))


def _free(kinds: list[str]) -> list[int]:
    """Steps at which no writing of the index is under way, for which the other process would have to wait."""
    return [at for at, kind in enumerate(kinds) if not kind.startswith("lmdb")]


@pytest.mark.skipif(not can_strace(), reason="strace is not here, or may not trace")
@pytest.mark.parametrize(
    ("command", "call"), [("first sync", "rename"), ("sync", "lmdb commit"), ("gc", "unlink"), ("import", "link")]
)
def test_the_program_itself_is_killed_at_a_system_call(command: str, call: str, small: World) -> None:
    assert Judge(small, BY_NAME[command]).strace(call, 3) == []
