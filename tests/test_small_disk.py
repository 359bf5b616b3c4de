"""A disk that is too small, or that fills up on the way. Needs root, to mount a tmpfs of 1 GB."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from channels import Channel, make_package
from disks import small_disk
from inprocess import repodata
from upstream import Upstream

from snapmirror.store.store import Store

MB = 10**6


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 1 GB."""
    with small_disk(tmp_path / "disk", "1g") as made:
        yield made


class Run:
    """The command line on a mirror on the small disk."""

    def __init__(self, folder: Path, upstream: str, *, trees: bool = False) -> None:
        self.store = folder / "store"
        self._config = folder / "snapmirror.toml"
        self._config.write_text(
            f'[[repo]]\nkind = "conda"\npath = "chan"\nupstream = "{upstream}"\n'
            '[download]\nretries = 1\nmin_free = "1%"\n' + ("" if trees else "[publish]\ntrees = []\n")
        )

    def __call__(self, *arguments: str, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        command = [*under, sys.executable, "-m", "snapmirror", *arguments, "-c", str(self._config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ids(self) -> list[str]:
        with Store.open(self.store, write=False) as store:
            return [record.id for record in store.catalog().records]

    def current(self) -> set[str]:
        with Store.open(self.store, write=False) as store:
            record = store.catalog().resolve("current", "chan", store.now())
            return set(repodata(store, record, "chan", "noarch")["packages.conda"])


def packages(channel: Channel, name: str, count: int, size: int) -> None:
    """Replace what a channel holds with `count` packages of about `size` bytes."""
    for filename in list(channel.records.get("noarch", {})):
        channel.remove(filename)
    channel.add(*(make_package(f"{name}{number}", payload=os.urandom(size)) for number in range(count)))
    channel.publish()


def test_a_plan_that_does_not_fit_is_refused_before_the_first_byte(disk: Path, tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel")
    packages(channel, "small", 1, 1000)
    channel.hotfix("small0-1.0-0.conda", size=1_200 * MB)
    channel.publish()
    with Upstream(channel.root) as upstream:
        run = Run(disk, upstream.url)
        done = run("sync")
        assert done.returncode == 1
        needed = int(re.search(r"needs \S+ \((\d+) bytes\)", done.stderr)[1])  # type: ignore[index]
        assert 1_200 * MB <= needed < 1_201 * MB
        free = shutil.disk_usage(disk).free
        available = int(done.stderr.split(" bytes) to spare")[0].rsplit("(", 1)[1])
        assert abs(available - (free - 0.01 * 2**30)) < 5 * MB
        assert not [path for path in upstream.paths() if path.endswith(".conda")]
        assert run.ids() == []


def test_a_disk_that_fills_up_leaves_current_and_is_freed_by_forget_and_gc(disk: Path, tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel")
    with Upstream(channel.root) as upstream:
        run = Run(disk, upstream.url)
        for name in ("a", "b"):
            packages(channel, name, 10, 30 * MB)
            assert run("sync", "--allow-shrink").returncode == 0
        before = run.current()
        packages(channel, "c", 10, 30 * MB)
        for filename in list(channel.records["noarch"]):
            channel.hotfix(filename, drop=("size",))  # upstream does not say, so no plan can tell
        channel.publish()
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 150 * MB))

        failed = run("sync")
        assert failed.returncode == 1
        assert "no space left" in failed.stderr
        assert run.current() == before
        assert run("check").returncode == 0

        with ballast.open("ab") as rest:  # to the last byte: not even a tombstone fits
            rest.write(bytes(max(0, shutil.disk_usage(disk).free)))
        assert shutil.disk_usage(disk).free == 0
        assert run("forget", run.ids()[0]).returncode == 0
        collected = run("gc", "--grace", "0s")
        assert collected.returncode == 0, collected.stderr
        assert shutil.disk_usage(disk).free > 290 * MB

        assert run("sync").returncode == 0
        assert run.current() == {f"c{number}-1.0-0.conda" for number in range(10)}
        assert run("check", "--read-data").returncode == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    "calls",
    ["link,linkat", "pwrite64,pwritev", "fdatasync", "mkdir,mkdirat", "symlink,symlinkat", "rename"],
    ids=["tree link", "LMDB", "sync", "tree folder", "published link", "name"],
)
def test_a_full_disk_at_any_kind_of_call_is_said_and_changes_nothing(calls: str, tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel")
    packages(channel, "a", 3, 1000)
    run = Run(tmp_path, channel.root.as_uri(), trees=True)
    assert run("sync").returncode == 0
    before = run.current()
    packages(channel, "b", 3, 1000)
    failed = run(
        "sync", "--allow-shrink", under=["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:error=ENOSPC"]
    )
    if "ptrace" in failed.stderr.lower():
        pytest.skip("strace may not trace here")
    assert (failed.returncode, "no space left" in failed.stderr) == (1, True), failed.stderr
    if "symlink" in calls:  # comes after the commit: the snapshot is sealed, and the folder for other web servers is behind
        assert {path.name for path in (run.store / "published/current/chan/noarch").glob("*.conda")} == before
    else:
        assert run.current() == before
    assert run("check").returncode == 0
    assert run("sync", "--allow-shrink").returncode == 0
    assert run.current() == {f"b{number}-1.0-0.conda" for number in range(3)}
    assert run("check").returncode == 0
