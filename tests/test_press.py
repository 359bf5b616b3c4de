"""A first sync hands leaves to a process beside it; nobody can tell from what is published, and it never stays behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import store_at

from snapmirror.digests import sha256
from snapmirror.errors import HelperEnded
from snapmirror.readings import FileList
from snapmirror.sync.press import Content, press

MANY = 10_000

#: a sync that is never done with its leaves; it prints the process that works for it
ENDLESS = """
import sys, time, multiprocessing
from pathlib import Path
from snapmirror.store.store import Store
from snapmirror.readings import FileList
from snapmirror.sync.press import Content, press

def contents():
    yield from [Content(f"package-{number}", b"a leaf", FileList(), None) for number in range(200)]
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(60)

if __name__ == "__main__":
    with Store.open(Path(sys.argv[1]), write=True) as store:
        list(press(store, contents(), 10_000))
"""

#: a first sync of a process, of which only the process that works for it is told to stop
STRUCK = """
import os, signal, sys, multiprocessing
from pathlib import Path
from snapmirror.store.store import Store
from snapmirror.readings import FileList
from snapmirror.sync.press import Content, press

def contents():
    yield Content("package", b"a leaf", FileList(), None)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGINT)

if __name__ == "__main__":
    with Store.open(Path(sys.argv[1]), write=True) as store:
        print(len(list(press(store, contents(), 10_000))))
"""


def leaves(count: int = 500) -> list[Content]:
    """Leaves of many sizes; one of which nothing is left, and one that comes twice."""
    made = [Content(f"package-{number}", f"leaf {number} ".encode() * number, FileList(), None) for number in range(count)]
    return [*made, made[7]]


def test_leaves_are_the_same_whoever_compresses_them_and_stored_ones_are_taken(tmp_path: Path) -> None:
    with store_at(tmp_path / "store") as store:
        here = list(press(store, leaves(), 1))
        beside = list(press(store, leaves(), MANY))
        for (leaf, compressed), (same, again) in zip(here, beside, strict=True):
            assert (leaf.name, leaf.canonical, leaf.blob, compressed) == (same.name, same.canonical, same.blob, again)
        assert [compressed for leaf, compressed in here if not leaf.blob] == [None]

        written = b"package-3 as an older zstd wrote it"
        store.put([written])
        older = sha256(written)
        store.index.put_leaves({here[3][0].canonical: older})
        for expected in (1, MANY):
            leaf, compressed = list(press(store, leaves(), expected))[3]
            assert (leaf.blob, compressed) == (older, None)


def test_process_that_is_ended_from_outside_is_an_error_that_says_so(tmp_path: Path) -> None:
    def contents() -> Iterator[Content]:
        yield from leaves(100)
        child = multiprocessing.active_children()[0]
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        yield from leaves()

    with store_at(tmp_path / "store") as store, pytest.raises(HelperEnded, match="ended by signal 9"):
        list(press(store, contents(), MANY))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_process_ends_with_the_sync_that_it_works_for(tmp_path: Path, number: signal.Signals) -> None:
    with store_at(tmp_path / "store"):
        pass
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    command = [sys.executable, str(script), str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) as sync:
        assert sync.stdout
        child = int(sync.stdout.readline())
        os.killpg(sync.pid, number) if number == signal.SIGINT else sync.kill()
        _, said = sync.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child)
    assert said.count(b"Traceback") == (number == signal.SIGINT), "only that of the script, which has no command line around it"


def test_an_interrupt_is_for_the_sync_not_for_the_process_that_works_for_it(tmp_path: Path) -> None:
    with store_at(tmp_path / "store"):
        pass
    script = tmp_path / "struck.py"
    script.write_text(STRUCK)
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "store")], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
