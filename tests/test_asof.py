"""`sync --as-of`: a snapshot of what upstream had at a time, as far as its metadata tells today."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels import Channel, make_package
from mirror import Mirror
from pypi_index import Index, make_wheel
from test_pypi_packages import spoilt

from snapmirror.pypi import leaf

DAY = "2024-05-01"
BEFORE, AFTER = 1_714_000_000_000, 1_720_000_000_000


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as made:
        made.root.mkdir()
        yield made


def test_a_channel_as_it_was(mirror: Mirror, channel: Channel) -> None:
    """By the time when a server first listed a package, else when it was built; of the rest nobody knows."""
    channel.hotfix("lib-1.0-0.conda", timestamp=BEFORE)
    channel.hotfix("data-1.0-0.tar.bz2", timestamp=BEFORE, indexed_timestamp=AFTER)
    channel.hotfix("linux-64/tool-1.0-0.conda", timestamp=BEFORE // 1000)  # some builders write seconds
    channel.add(make_package("late", timestamp=AFTER), make_package("unknown"))
    channel.hotfix("unknown-1.0-0.conda", drop=["timestamp"])
    channel.publish()
    mirror.sync("--as-of", DAY)
    assert mirror.listed("chan/noarch", DAY) == {"lib-1.0-0.conda"}
    assert mirror.listed("chan/linux-64", DAY) == {"tool-1.0-0.conda"}
    shown = json.loads(mirror.run("show", DAY, "--json").out)
    assert "deleted since" in shown["reconstructed"]["chan"]
    assert "not known" in mirror.run("show", DAY).out
    mirror.sync()
    assert len(mirror.listed("chan/noarch")) == 4
    assert json.loads(mirror.run("show", "current", "--json").out)["reconstructed"] == {}
    assert mirror.listed("chan/noarch", DAY) == {"lib-1.0-0.conda"}


def test_an_index_as_it_was(tmp_path: Path, index: Index) -> None:
    index.wheel("six", "1.0", upload_time="2024-01-01T00:00:00Z")
    index.wheel("six", "2.0", upload_time="2024-06-01T00:00:00Z")
    index.wheel("new", "1.0", upload_time="2024-06-01T00:00:00Z")
    mirror = Mirror(tmp_path / "mirror")
    mirror.repos.append({"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": "all"})
    mirror.sync("--as-of", DAY)
    reader = mirror.reader("pypi/", DAY)
    assert {name: [record["filename"] for record in leaf.decode(content)["files"]] for name, content in reader.contents()} == {
        "six": ["six-1.0-py3-none-any.whl"]
    }
    mirror.sync()
    assert set(mirror.reader("pypi/").leaves) == {"six", "new"}


def test_what_is_newest_is_counted_among_what_was_there(tmp_path: Path, index: Index, mirror: Mirror, channel: Channel) -> None:
    """A selection of today is made of what upstream had then."""
    for version, day in (("1.0", "2024-01-01"), ("2.0", "2024-02-01"), ("3.0", "2024-06-01")):
        index.wheel("six", version, upload_time=f"{day}T00:00:00Z")
        channel.add(make_package("lib", version, timestamp=BEFORE if version != "3.0" else AFTER))
    channel.publish()
    mirror.repos[0]["select"] = {"newest": 1}
    pypi = {"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": ["six"], "select": {"newest": 1}}
    mirror.repos.append(pypi)
    mirror.sync("--as-of", DAY)
    assert mirror.listed("chan/noarch", DAY) == {"lib-2.0-0.conda"}
    page = leaf.decode(mirror.reader("pypi/", DAY).read_leaf("six") or b"")
    assert [record["filename"] for record in page["files"]] == ["six-2.0-py3-none-any.whl"]
    mirror.sync()
    assert "lib-3.0-0.conda" in mirror.listed("chan/noarch")


def test_what_a_selection_needed_then(tmp_path: Path, index: Index) -> None:
    """Ages and dependencies are those of that day, also when today's were found out before."""
    index.wheel("app", "1.0", ["lib"], upload_time="2024-01-01T00:00:00Z")
    index.wheel("app", "1.1", ["young"], upload_time="2024-04-30T00:00:00Z")
    index.wheel("app", "2.0", ["other"], upload_time="2024-06-01T00:00:00Z")
    for name in ("lib", "young", "other"):
        index.wheel(name, "1.0", upload_time="2023-01-01T00:00:00Z")
    index.wheel("new", "1.0", upload_time="2024-06-01T00:00:00Z")
    mirror = Mirror(tmp_path / "mirror")
    pypi = {"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": ["app", "new"]}
    mirror.repos.append(pypi | {"select": {"newest": 1, "min_age": "7d", "with_dependencies": True}})
    mirror.sync()
    mirror.sync("--as-of", DAY)
    assert set(mirror.reader("pypi/", DAY).leaves) == {"app", "lib"}
    mirror.run("deny", "pypi", "app==2.0", "--reason", "broken")
    mirror.sync()
    assert set(mirror.reader("pypi/").leaves) == {"app", "young", "new"}


def test_what_cannot_be_meant(mirror: Mirror) -> None:
    assert "give only one of them" in mirror.sync("--as-of", DAY, "--seal-as", DAY, status=2).err
    assert "--as-of yesterday" in mirror.sync("--as-of", "yesterday", status=2).err
    for option in ("--as-of", "--seal-as"):  # of a variable that is not set
        assert f"{option} : write an id" in mirror.sync(option, "", status=2).err
    assert mirror.snapshots() == []
    assert "can be dated 29990101T235959Z: that time has not come yet" in mirror.sync("--as-of", "2999-01-01", status=2).err
    mirror.sync()
    mirror.sync("--as-of", DAY)
    assert "has snapshots before and after it" in mirror.sync("--as-of", "2025-01-01", status=2).err


def test_metadata_is_made_from_wheels_that_have_none_beside_them(tmp_path: Path, index: Index) -> None:
    """Byte for byte what is in the wheel, for pip compares; a wheel without any is published without."""
    file, content, metadata = make_wheel("six", "1.0", ["idna"])
    index.upload("six", file, content)
    index.upload("six", "six-2.0-py3-none-any.whl", spoilt(make_wheel("six", "2.0")[1]))
    mirror = Mirror(tmp_path / "mirror")
    mirror.repos.append({"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": ["six"]})
    for _ in range(2):
        mirror.sync()
        page = leaf.decode(mirror.reader("pypi/").read_leaf("six") or b"")
        stated = {record["filename"]: leaf.advertised(record) for record in page["files"]}
        assert isinstance(digests := stated[file], dict)
        assert stated["six-2.0-py3-none-any.whl"] is False
        with mirror.store() as store:
            assert store.blobs.read(bytes.fromhex(digests["sha256"])) == metadata
        index.upload("six", "six-3.0.tar.gz", b"sdist")  # the page changes, and still says that there is none
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")
