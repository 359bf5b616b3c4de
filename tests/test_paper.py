"""The paper test: what was installed from an exact id can be installed again, whatever upstream does meanwhile."""

import os
import random
from pathlib import Path

import pytest
from channels import Channel, make_package
from clients import install
from inprocess import collect, forget, store_at, sync, ticking
from serving import serving

from snapmirror.cli.check import _leaf_files
from snapmirror.conda import CondaRepo
from snapmirror.store import check, reindex


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
            reindex.execute(store)
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
