"""A power cut at any moment of any command: whatever the disk has lost of what it may lose, no promise is broken."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from channels import Channel, make_package
from hypothesis import HealthCheck, given, settings, strategies
from inprocess import FAST
from power_run import Run, command
from wheels import wheel

from snapmirror import clock
from snapmirror.cli import command_line
from snapmirror.digests import sha256
from snapmirror.readings import File
from snapmirror.serve.pull import Puller, hosts_of
from snapmirror.serve.settings import Origin
from snapmirror.store import fs
from snapmirror.store import gc as gc_
from snapmirror.store.blobs import LocalBlobs, Staged
from snapmirror.store.index import BlobRow, Index
from snapmirror.store.store import Store
from snapmirror.transfer.download import Source

pytestmark = pytest.mark.proof

#: as `make power` has it
_LONG = bool(os.environ.get("SNAPMIRROR_LONG"))
#: a day is long enough ago for `--seal-as`, and few days have links in `published/`
_OLD = clock.to_id(clock.now() - timedelta(days=1))


@pytest.fixture
def prepared() -> "Iterator[Prepared]":
    """In memory if there is a file system of that kind: nothing here needs a disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="power-", dir=memory if os.access(memory, os.W_OK) else None) as made:
        (Path(made) / "world").mkdir()
        yield Prepared(Path(made))


class Prepared:
    """A channel, and a world that mirrors it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = folder / "world"
        self.channel = Channel(folder / "channel")
        self.channel.add(make_package("old"), make_package("kept"))
        self.channel.publish()
        (self.world / "snapmirror.toml").write_text(
            f'[[repo]]\nkind = "conda"\npath = "chan"\nupstream = "{self.channel.root.as_uri()}"\n[download]\nmin_free = "0%"\n'
        )

    def configure(self, text: str, after: str = "") -> None:
        """Add to the configuration, at its end or after some text."""
        path = self.world / "snapmirror.toml"
        old = path.read_text()
        path.write_text(old.replace(after, after + text) if after else old + text)

    def change(self, new: int = 1) -> None:
        self.channel.add(*(make_package(f"new{number}") for number in range(new)))
        self.channel.remove("old-1.0-0.conda")
        self.channel.publish()

    def run(self, *arguments: str) -> None:
        command(self.world, *arguments)


def first_sync(prepared: Prepared) -> Run:
    return Run(prepared.folder, "sync (the first)", ["sync"])


def sync(prepared: Prepared) -> Run:
    prepared.run("sync")
    prepared.change()
    return Run(prepared.folder, "sync", ["sync"])


def sync_many(prepared: Prepared) -> Run:
    prepared.run("sync")
    prepared.change(20)
    return Run(prepared.folder, "sync (many files)", ["sync"])


def seal_as(prepared: Prepared) -> Run:
    prepared.run("sync")
    prepared.change()
    return Run(prepared.folder, "sync --seal-as", ["sync", "--seal-as", _OLD], again=(2,))


def two_snapshots(prepared: Prepared) -> None:
    prepared.run("sync", "--seal-as", _OLD)
    prepared.change()
    prepared.run("sync")


def forget(prepared: Prepared) -> Run:
    two_snapshots(prepared)
    return Run(prepared.folder, "forget", ["forget", _OLD], again=(2,))


def gc(prepared: Prepared) -> Run:
    two_snapshots(prepared)
    prepared.run("forget", _OLD)
    return Run(prepared.folder, "gc", ["gc", "--grace", "0s"])


def pin(prepared: Prepared) -> Run:
    two_snapshots(prepared)
    return Run(prepared.folder, "pin", ["pin", "paper", _OLD])


def pin_move(prepared: Prepared) -> Run:
    pin(prepared)
    prepared.run("pin", "paper", _OLD)
    return Run(prepared.folder, "pin --move", ["pin", "--move", "paper", "current"])


def unpin(prepared: Prepared) -> Run:
    pin(prepared)
    prepared.run("pin", "paper", _OLD)
    return Run(prepared.folder, "unpin", ["unpin", "paper"], again=(2,))


def deny(prepared: Prepared) -> Run:
    prepared.run("sync")
    return Run(prepared.folder, "deny", ["deny", "chan", "old", "--reason", "broken"])


def adopt(prepared: Prepared) -> Run:
    shutil.copytree(prepared.channel.root, prepared.world / "mirror")
    return Run(prepared.folder, "adopt", ["adopt", str(prepared.world / "mirror"), "--repo", "chan"])


def reindex(prepared: Prepared) -> Run:
    prepared.run("sync")
    return Run(prepared.folder, "reindex", ["reindex"])


def pages(prepared: Prepared) -> Run:
    """A repo whose tree holds pages, which many documents are put for at once."""
    prepared.run("sync")
    folder = prepared.folder / "wheels"
    folder.mkdir()
    for name in ("six", "seven"):
        (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(wheel(name, "1.0")[1])
    prepared.configure(f'[[repo]]\nkind = "pypi"\npath = "own"\npackages = "{folder}"\n[publish]\ntrees = ["chan", "own"]\n')
    return Run(prepared.folder, "sync (pages)", ["sync"])


def allow(prepared: Prepared) -> Run:
    prepared.run("sync")
    prepared.run("deny", "chan", "old", "--reason", "broken")
    return Run(prepared.folder, "allow", ["allow", "chan", "old"], again=(2,))


def repair(prepared: Prepared) -> Run:
    """One file is torn, another is gone."""
    prepared.run("sync")
    blobs = [sha256((prepared.channel.root / f"noarch/{name}-1.0-0.conda").read_bytes()).hex() for name in ("old", "kept")]
    torn, gone = (prepared.world / "store/blobs" / name[:2] / name for name in blobs)
    torn.chmod(0o644)
    torn.write_bytes(b"torn")
    torn.chmod(0o444)
    gone.unlink()
    return Run(
        prepared.folder, "check --repair", ["check", "--repair", "--read-data"], damaged=(*blobs, "published/", "documents/")
    )


def pull(prepared: Prepared) -> Run:
    """A file comes because somebody asks for it."""
    prepared.configure('download = "on-demand"\n', after='path = "chan"\n')
    prepared.run("sync")
    package = prepared.channel.root / "noarch/old-1.0-0.conda"
    content = package.read_bytes()
    source = Source(File(package.name, len(content), sha256(content), None), (package.as_uri(),))

    async def fetch(store: Store) -> None:
        puller = Puller(store, FAST, hosts_of(store))
        transfer = puller.follow(source, Origin("conda"))
        await transfer.end()
        await puller.close()

    def work(root: Path) -> None:
        with Store.open(root, write=True) as store:
            asyncio.run(fetch(store))
            assert store.blobs.size(sha256(content)) == len(content)

    return Run(prepared.folder, "pull-through", work)


def killed(prepared: Prepared) -> Run:
    """Two runs: the first one is killed when metadata has its names, but not durably; the second one finds it there."""
    return _killed_at(prepared, lambda digest: True)


def killed_later(prepared: Prepared) -> Run:
    """The same with a file that has been fetched."""
    package = sha256(make_package("new0").data).hex()
    return _killed_at(prepared, lambda prefix: prefix == package[:2])


class KilledError(BaseException):
    """Where a process is killed."""


def _killed_at(prepared: Prepared, here: Callable[[str], bool]) -> Run:
    """here: told in which folder of blobs names are about to be made durable"""
    prepared.run("sync")
    prepared.change(2)

    def work(root: Path) -> None:
        arguments, run, sync_folder = (
            ["sync", "--config", str(root.parent / "snapmirror.toml")],
            command_line(["sync"]),
            fs.sync_folder,
        )

        def kill(path: Path) -> None:
            if path.parent == root / "blobs" and here(path.name):
                raise KilledError
            sync_folder(path)

        fs.sync_folder = kill
        with contextlib.suppress(KilledError):
            run(arguments, standalone_mode=False)
        fs.sync_folder = sync_folder
        run(arguments, standalone_mode=False)

    return Run(prepared.folder, "sync (after a kill)", work)


COMMANDS = [
    *(first_sync, sync, sync_many, pages, killed, killed_later, seal_as, forget, gc, pin, pin_move, unpin),
    *(deny, allow, adopt, pull, reindex, repair),
]


def told(run: Run) -> None:
    """A line of the table, which `make power` prints."""
    line = f"{run.name:28} {len(run.calls):7} {run.states:7} {len(run.violations):10}"
    print(line)
    if table := os.environ.get("SNAPMIRROR_TABLE"):
        with open(table, "a") as file:
            file.write(f"{line}\n")


@pytest.mark.parametrize("make", COMMANDS, ids=lambda make: make.__name__)
def test_no_promise_is_broken(prepared: Prepared, make: Callable[[Prepared], Run]) -> None:
    run = make(prepared)
    run.record()
    run.explore(states=1700 if _LONG else 80, again=100 if _LONG else 25)
    told(run)
    assert not run.violations, run.violations[0]


@pytest.mark.parametrize("make", [sync, gc], ids=["publish", "gc"])
@pytest.mark.skipif(not _LONG, reason="every state: make power")
def test_every_state_of_a_publish_and_of_a_batch_of_gc(prepared: Prepared, make: Callable[[Prepared], Run]) -> None:
    run = make(prepared)
    run.name += ", every state"
    run.record()
    run.explore(states=None, again=100)
    told(run)
    assert not run.violations, run.violations[0]
    assert not run.sampled


@pytest.mark.parametrize("make", COMMANDS if _LONG else [sync, gc, pin_move, repair], ids=lambda make: make.__name__)
def test_no_promise_is_broken_whatever_is_chosen_to_break_it(prepared: Prepared, make: Callable[[Prepared], Run]) -> None:
    choose(make(prepared), examples=300 if _LONG else 60)


def choose(run: Run, examples: int) -> None:
    """Hypothesis chooses when the power goes, and what of each thing is lost; of what fails it finds the least."""
    run.record()
    disks = run.disks()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategies.integers(0, len(run.calls)), strategies.data())
    def examine(calls: int, data: strategies.DataObject) -> None:
        def pick(ways: int) -> int:
            return data.draw(strategies.integers(0, ways - 1))

        problem = run.examine(disks[calls], pick, finished=calls == len(run.calls))
        assert problem is None, f"{run.name}, after {calls} calls: {problem}"

    examine()


# The test of the test ----------------------------------------------------------------------------------------------------


def _publish_before_the_bytes_are_durable() -> None:
    fs.sync_files = lambda paths, root: None


def _no_folder_is_synced() -> None:
    fs.sync_folder = lambda path: None


def _the_names_of_blobs_are_not_synced() -> None:
    LocalBlobs.sync_names = lambda self, digests: None


def _an_index_row_before_its_blob() -> None:
    plain = LocalBlobs.put

    def put(self: Store, data: Sequence[bytes]) -> None:
        self.index.put_blobs({sha256(one): BlobRow(len(one)) for one in data})
        plain(self.blobs, data)

    Store.put = put


def _a_record_before_its_directories() -> None:
    """The index, which says the same, would be found out first."""
    LocalBlobs.sync_names = lambda self, digests: None
    Index.put_blobs = lambda *_: None


def _files_before_their_index_rows() -> None:
    def sweep(store: Store, blobs: gc_.Sized) -> int:
        freed = sum(store.delete(digest) for digest, _ in blobs)
        store.index.drop_blobs(digest for digest, _ in blobs)
        return freed

    gc_._sweep = sweep


def _modes_after_the_sync() -> None:
    def admit(self: LocalBlobs, staged: Sequence[Staged]) -> None:
        fs.sync_files([one.path for one in staged], self._layout.root)
        for one in staged:
            os.chmod(one.path, 0o444)
            fs.rename(one.path, self.path(one.sha256))
        self.sync_names(one.sha256 for one in staged)

    LocalBlobs.admit = admit


def _trees_that_go_file_by_file() -> None:
    fs.discard_tree = fs.remove_tree


@pytest.mark.parametrize(
    ("breaking", "make", "lost"),
    [
        (_publish_before_the_bytes_are_durable, sync, "lost: store/blobs/"),  # or their modes
        (_no_folder_is_synced, sync, "rename store/"),
        (_the_names_of_blobs_are_not_synced, sync, "rename store/incoming/"),
        (_an_index_row_before_its_blob, sync, "is in the index and not on the disk"),
        (_a_record_before_its_directories, sync, "is missing"),
        (_files_before_their_index_rows, gc, "is in the index and not on the disk"),
        (_modes_after_the_sync, sync, "mode 0444"),
        (_trees_that_go_file_by_file, gc, "unlink store/published/.trees/"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[1:],
)
def test_a_program_that_is_made_wrong_is_found_out(
    prepared: Prepared, breaking: Callable[[], None], make: Callable[[Prepared], Run], lost: str
) -> None:
    run = make(prepared)
    run.breaking = breaking
    run.record()
    run.explore(states=400)
    assert len(run.violations) == 1
    assert lost in run.violations[0]


def test_what_is_chosen_finds_out_a_program_that_is_made_wrong(prepared: Prepared) -> None:
    run = sync(prepared)
    run.breaking = _no_folder_is_synced
    with pytest.raises(AssertionError, match="sync, after"):
        choose(run, examples=400)
