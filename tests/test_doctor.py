"""snapmirror doctor: what it finds wrong with a machine, a store and upstreams, and that it leaves nothing behind."""

import contextlib
import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from channels import Channel
from disks import small_disk
from inprocess import in_child, store_at, sync
from mirror import Mirror
from serving import server
from upstream import Body, Html, Status, Upstream

from snapmirror.cli.config import load
from snapmirror.cli.doctor import findings
from snapmirror.clock import now
from snapmirror.conda import CondaRepo
from snapmirror.findings import Finding
from snapmirror.store import suitable
from snapmirror.store.layout import Layout
from snapmirror.store.store import Store

UPSTREAM = "upstream of chan"


@pytest.fixture(autouse=True)
def free_port(mirror: Mirror) -> None:
    mirror.settings["serve"] = {"port": 0}


@pytest.fixture
def store(mirror: Mirror) -> Layout:
    Store.create(mirror.store_path)
    return Layout(mirror.store_path)


def look(mirror: Mirror) -> dict[str, Finding]:
    """What it finds, by what it looked at."""
    mirror.write()
    found = list(findings(load(mirror.config)))
    assert all(one.advice for one in found if one.result == "warn"), found
    return {one.check: one for one in found}


def names(root: Path) -> list[tuple[str, int]]:
    """Every file below a folder with the time of its last change; of folders too, save that in which is tried."""
    return sorted((str(path), path.lstat().st_mtime_ns) for path in root.rglob("*") if path.name != "incoming")


def test_a_mirror_that_is_as_it_should_be(mirror: Mirror) -> None:
    mirror.sync()
    before = names(mirror.store_path)
    lines = mirror.run("doctor", status=None).out.splitlines()
    report = mirror.run("doctor", "--json", status=None)
    assert names(mirror.store_path) == before
    found = {check["check"]: check for check in report.json["checks"]}
    private = {"web server", "file system"}  # pytest's folders are for nobody else; and may be in memory
    assert {name for name, check in found.items() if check["result"] != "ok"} <= private
    assert {"store", "owner", "one file system", "fsync", "hard links", "locks", "case", "free inodes", "free space"} < set(
        found
    )
    assert len(lines) == len(found)
    assert "ok    hard links: can be made" in lines


def test_exit_status(mirror: Mirror) -> None:
    """1 for a failure, else 3 for a warning; what was found is counted."""
    mirror.repos.clear()
    report = mirror.run("doctor", "--json", status=3).json
    assert (report["failures"], report["warnings"]) == (0, sum(one["result"] == "warn" for one in report["checks"]))
    mirror.add("chan", "http://127.0.0.1:9/chan")
    lines = mirror.run("doctor", status=1).out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("fail")] == ["fail  upstream of chan"]
    mirror.settings["stroe"] = "x"
    mirror.run("doctor", status=2).line("did you mean store")


def test_before_there_is_a_store(mirror: Mirror) -> None:
    found = look(mirror)
    assert found["hard links"].result == found["store"].result == found[UPSTREAM].result == "ok"
    assert not mirror.store_path.exists()
    mirror.store_path.mkdir()
    (mirror.store_path / "thesis.txt").write_text("precious")
    assert look(mirror)["store"].result == "fail"
    assert [path.name for path in mirror.root.iterdir() if path.name.startswith("doctor")] == []


def test_who_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        Store.create(root / "store")
        paths = Layout(root / "store")
        (paths.published / "20261120T010000Z").mkdir()
        (paths.published / "current").symlink_to("20261120T010000Z")
        file = paths.published / "current" / "repodata.json"
        file.write_text("{}")

        def told() -> Finding:
            return next(one for one in suitable.findings(paths, now) if one.check == "web server")

        assert (told().result, f"can't read {root}," in told().found, "chmod o+rx" in told().advice) == ("warn", True, True)
        root.chmod(0o755)
        assert told().result == "ok"
        file.chmod(0o640)
        assert (told().result, str(file) in told().found, "chmod o+r)" in told().advice) == ("warn", True, True)
        scandir = os.scandir

        def taken_away(path: Any) -> Any:
            """As by a gc that runs beside it."""
            if path == paths.published / "current":
                shutil.rmtree(paths.published / "20261120T010000Z")
            return scandir(path)

        monkeypatch.setattr("os.scandir", taken_away)
        assert told().result == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user, and look into all")
def test_who_owns_it(mirror: Mirror, store: Layout) -> None:
    os.chown(store.incoming, 12345, 12345)
    found = look(mirror)
    assert found["owner"].result == "warn"
    assert "user 12345" in found["owner"].advice
    assert "hard links" not in found  # only the owner tries: what another one leaves could not be removed

    def barred() -> None:
        os.setuid(54321)
        (found,) = suitable.findings(store, now)
        assert (found.result, "chmod o+x" in found.advice) == ("fail", True)

    in_child(barred)


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
22 21 0:50 / {0}/net\\040disk rw - nfs4 filer:/x rw
23 21 0:51 / {0}/bucket rw - fuse.s3fs s3fs rw
24 21 0:52 / {0}/memory rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "store", "index"),
    [
        ("", "ext4", "ok", "ok"),
        ("net disk", "nfs4", "warn", "fail"),
        ("bucket", "s3fs", "warn", "fail"),
        ("memory", "tmpfs", "warn", "ok"),
    ],
)
def test_kinds_of_file_systems(tmp_path: Path, folder: str, kind: str, store: str, index: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp_path.resolve()))
    (tmp_path / folder).mkdir(exist_ok=True)
    root = tmp_path / folder / "store"
    found = {one.check: one for one in suitable.findings(Layout(root), now, mounts)}
    assert (found["file system"].result, kind in found["file system"].found) == (store, True)
    assert ("index" in found) == (index == "fail")
    elsewhere = {one.check for one in suitable.findings(Layout(root, tmp_path / "index.lmdb"), now, mounts)}
    assert "index" not in elsewhere


def test_a_full_disk(mirror: Mirror, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        mirror.store_path = disk / "store"
        mirror.settings["store"] = str(mirror.store_path)
        mirror.settings["download"]["min_free"] = "1GB"
        Store.create(mirror.store_path)
        found = look(mirror)
        assert (found["free space"].result, "min_free" in found["free space"].found) == ("fail", True)
        assert (found["file system"].result, "restart" in found["file system"].found) == ("warn", True)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        assert (look(mirror)["fsync"].result, list(mirror.store_path.glob("incoming/doctor*"))) == ("fail", [])


def test_parts_of_a_store_on_another_disk(mirror: Mirror, store: Layout) -> None:
    store.documents.rmdir()
    with small_disk(store.documents, "1m"):
        found = look(mirror)["one file system"]
    assert (found.result, "documents" in found.found) == ("fail", True)


def test_snapshots_of_the_future(mirror: Mirror, upstream: Upstream) -> None:
    store = mirror.store_path
    with store_at(store) as opened:
        sync(opened, CondaRepo(path="chan", upstream=f"{upstream.url}/chan", subdirs=["linux-64"]))
    for ahead, result in ((timedelta(minutes=2), "warn"), (timedelta(days=2), "fail")):
        with store_at(store) as opened:
            newest = opened.catalog().records[-1]
            found = {one.check: one for one in suitable.findings(opened.layout, lambda ahead=ahead: now() - ahead)}
        assert (found["newest snapshot"].result, newest.id in found["newest snapshot"].found) == (result, True)


# Upstreams


def test_upstreams_that_have_no_index(mirror: Mirror, upstream: Upstream) -> None:
    mirror.add("none", f"{upstream.url}/chann")
    mirror.add("several", [f"{upstream.url}/chan", f"{upstream.url}/chann"])
    mirror.add("off", f"{upstream.url}/chann", offline=True, download="redirect")
    mirror.add("own", "", packages=str(mirror.root / "packages"))
    del mirror.repos[-1]["upstream"]
    found = look(mirror)
    assert (found[UPSTREAM].result, found["upstream of none"].result) == ("ok", "fail")
    assert "upstream answers 404" in found["upstream of none"].found
    assert found["upstream of several"].result == "warn"  # the last that was told of: its second one
    assert "upstream of off" not in found
    assert found["packages of own"].result == "fail"
    upstream.fault("*", Html())
    portal = look(mirror)[UPSTREAM]
    assert (portal.result, "a page to sign in" in portal.advice) == ("fail", True)
    upstream.heal()
    upstream.fault("*", Status(401))
    assert "credentials" in look(mirror)[UPSTREAM].found


@pytest.mark.parametrize(("begin", "result"), [(b'{"packages": {', "ok"), (b"<html>", "fail")])
def test_of_a_large_index_the_beginning_is_enough(mirror: Mirror, upstream: Upstream, begin: bytes, result: str) -> None:
    upstream.fault("/chan/noarch/repodata.json", Body(begin + bytes(64 << 20)))
    upstream.fault("/chan/linux-64/repodata.json", Body(begin + bytes(64 << 20)))
    upstream.fault("/chan/*/repodata_shards*", Status(404))
    upstream.fault("/chan/*.zst", Status(404))
    assert look(mirror)[UPSTREAM].result == result
    assert upstream.bytes_sent() < 32 << 20


def test_other_kinds(mirror: Mirror, upstream: Upstream) -> None:
    (upstream.root / "installers").mkdir()
    (upstream.root / "installers" / "index.html").write_text('<h1>Index of /</h1><a href="setup.sh">setup.sh</a>')
    mirror.repos.append({"kind": "files", "path": "installers", "upstream": f"{upstream.url}/installers/index.html"})
    (upstream.root / "simple").mkdir()
    (upstream.root / "simple" / "index.html").write_text("<!DOCTYPE html><a href='six/'>six</a>")
    upstream.fault("/simple/", Body(b"<!DOCTYPE html><a href='six/'>six</a>"))
    upstream.fault(
        "/simple/six/", Body(b"<!DOCTYPE html><a href='six-1.0.tar.gz#sha256=" + b"0" * 64 + b"'>six-1.0.tar.gz</a>")
    )
    for path, projects in (("whole", "all"), ("few", ["six"])):
        mirror.repos.append({"kind": "pypi", "path": path, "upstream": f"{upstream.url}/simple/", "projects": projects})
    found = look(mirror)
    assert [found[f"upstream of {one}"].result for one in ("installers", "whole", "few")] == ["ok"] * 3
    assert not any("six-1.0" in path for path in upstream.paths())  # no file was fetched


@pytest.mark.parametrize(("age", "result"), [("0", "ok"), ("120", "warn"), ("7200", "fail")])
def test_a_clock_that_is_wrong(mirror: Mirror, upstream: Upstream, channel: Channel, age: str, result: str) -> None:
    body = (upstream.root / "chan" / "noarch" / "repodata.json").read_bytes()
    for subdir in ("noarch", "linux-64"):
        upstream.fault(f"/chan/{subdir}/repodata_shards*", Status(404))
        upstream.fault(f"/chan/{subdir}/*.zst", Status(404))
        upstream.fault(f"/chan/{subdir}/repodata.json", Status(200, {"Age": age}, body))
    assert look(mirror)["clock"].result == result


# Serving


def test_ports(mirror: Mirror, upstream: Upstream) -> None:
    mirror.settings["serve"] = {"port": int(upstream.url.rpartition(":")[2])}
    found = look(mirror)["port"]
    assert (found.result, upstream.url.rpartition(":")[2] in found.found) == ("fail", True)
    with server(mirror.config) as (url, _):
        mirror.settings["serve"] = {"port": int(url.rpartition(":")[2])}
        found = look(mirror)["port"]
    assert (found.result, "snapmirror serves" in found.found) == ("ok", True)


def test_keys(mirror: Mirror) -> None:
    key = mirror.root / "key"
    mirror.settings["sign"] = {"key": str(key)}
    assert look(mirror)["signing key"].result == "fail"
    assert mirror.run_bare("key", "generate", str(key)).status == 0
    assert look(mirror)["signing key"].result == "ok"
    key.chmod(0o644)
    assert "chmod 600" in look(mirror)["signing key"].advice
