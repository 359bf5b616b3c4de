"""The paper test: what was installed from an exact id can be installed again, whatever upstream does meanwhile."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from channels import Channel, make_package
from clients import install
from inprocess import collect, forget, store_at, sync, ticking
from pypi_index import Index
from serving import serving
from wheels import wheel

from snapmirror.cli.check import _leaf_files
from snapmirror.conda import CondaRepo
from snapmirror.pypi import PypiRepo
from snapmirror.store import check


def test_a_fresh_client_gets_the_same_bytes_after_upstream_deleted_reuploaded_and_hotfixed(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel", subdirs=("linux-64",))
    channel.add(make_package("libpaper", subdir="linux-64"), make_package("data-of-paper", ext=".tar.bz2"))
    channel.add(make_package("paper", depends=["libpaper", "data-of-paper >=1.0"]))
    channel.publish()
    root = tmp_path / "store"
    repo = CondaRepo(path="chan", upstream=channel.root.as_uri(), subdirs=["linux-64"])
    with store_at(root, ticking()) as store:
        paper = sync(store, repo).snapshot
        assert paper
        with store.lock(None) as catalog:
            _pin(store, paper)
        with serving(root) as url:
            before = install(f"{url}/{paper}/chan", "paper", tmp_path / "first")
        assert set(before) == {"paper", "libpaper", "data-of-paper"}

        dice = random.Random(20)
        for number in range(20):
            _upstream_goes_on(channel, number, dice)
            sync(store, repo, allow_shrink=True)
        snapshots = [record.id for record in store.catalog().records]
        forget(store, *snapshots[1:15])
        assert collect(store) > 0
        with store.lock(None) as catalog:
            store.reindex()
            assert list(check.structure(store, _leaf_files)) == []
            assert paper in catalog.by_id
    with serving(root) as url:
        after = install(f"{url}/{paper}/chan", "paper", tmp_path / "again")
        by_pin = install(f"{url}/the-paper/chan", "paper", tmp_path / "pin")
        today = install(f"{url}/current/chan", "paper", tmp_path / "today")
    assert after == before
    assert by_pin == before
    assert today != before


def _pin(store: object, snapshot: str) -> None:
    from snapmirror.store.records import Pin

    store.snapshots.write_pin(Pin(name="the-paper", snapshot=snapshot, set=snapshot))  # type: ignore[attr-defined]


def _upstream_goes_on(channel: Channel, number: int, dice: random.Random) -> None:
    """Delete, re-upload under the same name, hot-fix, add."""
    if number == 0:
        channel.remove("paper-1.0-0.conda")
        channel.add(make_package("paper", "2.0", depends=["libpaper"]))
    # the same names with other bytes
    channel.add(make_package("libpaper", subdir="linux-64", payload=os.urandom(2000)))
    if dice.random() < 0.5:
        channel.add(make_package("data-of-paper", ext=".tar.bz2", payload=os.urandom(500)))
    channel.hotfix("paper-2.0-0.conda", depends=["libpaper", f"data-of-paper >=0.{number}"])
    channel.add(make_package(f"other{number}"))
    channel.publish()


pytest.importorskip("rattler", reason="py-rattler is not installed")


def test_pip_gets_the_same_bytes_after_upstream_deleted_and_uploaded_anew(tmp_path: Path) -> None:
    """By exact id and by pin: the very files, and pages that say of them what they said then."""
    folder = tmp_path / "index"
    folder.mkdir()
    root = tmp_path / "store"
    with Index(folder) as index, store_at(root, ticking()) as store:
        for name, requires in (("paper", ["helper >=1"]), ("helper", [])):
            index.upload(name, *wheel(name, "1.0", requires))
        repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects="all")
        paper = sync(store, repo).snapshot
        assert paper
        with store.lock(None):
            _pin(store, paper)
        with serving(root) as url:
            before = _pip_installs(f"{url}/{paper}/pypi/simple/", tmp_path / "first")
        assert {path.name for path in before} >= {"paper.py", "helper.py"}

        dice = random.Random(21)
        for number in range(12):
            _index_goes_on(index, number, dice)
            sync(store, repo, allow_shrink=True)
        forget(store, *[record.id for record in store.catalog().records][1:9])
        assert collect(store) > 0
        with store.lock(None):
            store.reindex()
            assert list(check.structure(store, _leaf_files)) == []
    with serving(root) as url:
        again, by_pin, today = (
            _pip_installs(f"{url}/{selector}/pypi/simple/", tmp_path / selector) for selector in (paper, "the-paper", "current")
        )
    assert again == before
    assert by_pin == before
    assert today != before


def _pip_installs(index: str, target: Path) -> dict[Path, bytes]:
    """What is in the folder that `paper` is installed into."""
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir", "--no-compile", "--index-url", index]
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "HOME": str(target.parent)}
    subprocess.run([*command, "--target", target, "paper"], env=environment, check=True, capture_output=True, timeout=120)
    return {
        path.relative_to(target): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file() and path.name not in ("REQUESTED", "INSTALLER", "RECORD", "direct_url.json")
    }


def _index_goes_on(index: Index, number: int, dice: random.Random) -> None:
    """Delete, upload other bytes under the same name, yank, add."""
    files = index.pages["helper"]["files"]
    if number == 0:
        del index.pages["paper"]
        files.clear()
    files[:] = [record for record in files if not record["filename"].startswith("helper-1.0")]
    index.upload("helper", *wheel("helper", "1.0", ["other"] if dice.random() < 0.3 else [], [f"extra{number}"]))
    for name in ("other", f"another{number}"):
        index.upload(name, *wheel(name, f"{number}.0"))
    index.upload("paper", *wheel("paper", f"2.{number}", ["helper"]), yanked=dice.random() < 0.3)
