"""`indexed_timestamp = "first-seen"` (CEP 47): a record says when this mirror first saw the file, and never another time."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from serving import serving

from snapmirror import clock

LIB, DATA, TOOL = "lib-1.0-0.conda", "data-1.0-0.tar.bz2", "tool-1.0-0.conda"
EARLY = 1_700_000_000_000


@pytest.fixture
def mirror(mirror: Mirror) -> Mirror:
    mirror.repos[0]["indexed_timestamp"] = "first-seen"
    return mirror


def stamps(mirror: Mirror) -> dict[str, Any]:
    """{file: its indexed_timestamp} of the newest snapshot; the shards say the same."""
    repodata = mirror.repodata("chan/noarch")
    found = {
        file: record.get("indexed_timestamp")
        for key in ("packages", "packages.conda")
        for file, record in repodata[key].items()
    }
    shards = mirror.shards("chan/noarch").values()
    in_shards = {
        file: record for shard in shards for key in ("packages", "packages.conda") for file, record in shard[key].items()
    }
    assert found == {file: record.get("indexed_timestamp") for file, record in in_shards.items()}
    return found


def sync(mirror: Mirror, repo: str = "chan") -> int:
    """Sync in a second of its own; when the upstream of a repo was read, milliseconds."""
    time.sleep(1.01)
    mirror.sync()
    read = clock.from_id(mirror.record().repos[repo].directories["noarch"].read)
    assert read
    return int(read.timestamp() * 1000)


def test_a_file_keeps_the_time_of_the_sync_that_brought_it(mirror: Mirror, channel: Channel) -> None:
    """Through hot-fixes, absence, and syncs that change nothing; other bytes of the same name are another file."""
    first = sync(mirror)
    assert stamps(mirror) == {LIB: first, DATA: first}
    before = mirror.directories()
    sync(mirror)
    assert mirror.directories() == before
    channel.add(make_package("lib", "2.0"))
    channel.hotfix(LIB, license="MIT", drop=["sha256"])
    channel.remove(DATA)
    channel.publish()
    second = sync(mirror)
    assert stamps(mirror) == {LIB: first, "lib-2.0-0.conda": second}
    channel.add(make_package("data", ext=".tar.bz2"), make_package("lib", "2.0", payload=b"other"))
    channel.publish()
    third = sync(mirror)
    assert stamps(mirror) == {LIB: first, DATA: first, "lib-2.0-0.conda": third}


@pytest.mark.parametrize("download", ["eager", "redirect"])
def test_what_upstream_says_is_kept(download: str, mirror: Mirror, channel: Channel) -> None:
    """As it said it first: what it says later of the same file is no news, be the file held or not."""
    mirror.repos[0]["download"] = download
    channel.hotfix(LIB, indexed_timestamp=EARLY)
    channel.publish()
    first = sync(mirror)
    assert stamps(mirror) == {LIB: EARLY, DATA: first}
    channel.hotfix(LIB, indexed_timestamp=EARLY + 5)
    channel.hotfix(DATA, indexed_timestamp=EARLY)
    channel.publish()
    sync(mirror)
    assert stamps(mirror) == {LIB: EARLY, DATA: first}


def test_when_it_is_switched_on_history_tells(mirror: Mirror, channel: Channel) -> None:
    mirror.repos[0]["indexed_timestamp"] = "upstream"
    first = sync(mirror)
    assert stamps(mirror) == {LIB: None, DATA: None}
    channel.add(make_package("late"))
    channel.publish()
    second = sync(mirror)
    mirror.repos[0]["indexed_timestamp"] = "first-seen"
    sync(mirror)
    assert stamps(mirror) == {LIB: first, DATA: first, "late-1.0-0.conda": second}


def test_a_snapshot_of_the_past_has_the_time_it_is_dated(mirror: Mirror) -> None:
    mirror.sync("--seal-as", "2024-05-01")
    assert set(stamps(mirror).values()) == {1_714_607_999_000}


def test_a_snapshot_of_the_past_knows_nothing_of_what_came_later(mirror: Mirror, channel: Channel) -> None:
    first = sync(mirror)
    mirror.sync("--seal-as", "2024-05-01")
    past, now = (mirror.repodata("chan/noarch", id_)["packages.conda"][LIB] for id_ in mirror.snapshots())
    assert (past["indexed_timestamp"], now["indexed_timestamp"]) == (1_714_607_999_000, first)


def test_a_subdir_that_was_not_mirrored_for_a_while_has_its_old_times(mirror: Mirror, channel: Channel) -> None:
    sync(mirror)
    before = mirror.repodata("chan/linux-64")["packages.conda"][TOOL]["indexed_timestamp"]
    mirror.repos[0]["subdirs"] = []
    sync(mirror)
    mirror.repos[0]["subdirs"] = ["linux-64"]
    sync(mirror)
    assert mirror.repodata("chan/linux-64")["packages.conda"][TOOL]["indexed_timestamp"] == before


def test_two_repos_of_one_upstream_have_their_own_times(mirror: Mirror, channel: Channel) -> None:
    first = sync(mirror)
    mirror.repos.append({**mirror.repos[0], "path": "again"})
    second = sync(mirror, "again")
    for _ in range(2):
        assert stamps(mirror) == {LIB: first, DATA: first}
        again = mirror.repodata("again/noarch")
        assert {record["indexed_timestamp"] for record in again["packages.conda"].values()} == {second}
        sync(mirror)


def test_an_id_is_answered_the_moment_it_is_sealed(mirror: Mirror, channel: Channel) -> None:
    """Servers look for news twice a second; until then it would mean the snapshot before it."""
    mirror.sync()
    with serving(mirror.store_path) as url, ThreadPoolExecutor() as pool:
        for number in range(3):
            channel.add(make_package(f"new{number}"))
            channel.publish()
            before = mirror.snapshots()
            sync = pool.submit(mirror.sync)
            while (now := mirror.snapshots()) == before:
                requests.get(f"{url}/-/healthz", timeout=20)  # so that the server has just looked
            answer = requests.get(f"{url}/{now[-1]}/chan/noarch/repodata.json", timeout=20)
            assert answer.headers["X-Snapmirror-Snapshot"] == now[-1]
            assert f"new{number}-1.0-0.conda" in answer.json()["packages.conda"]
            sync.result()
