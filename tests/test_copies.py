"""Copies of snapshots: replicate from a folder and over HTTP, export and import; what they refuse, and what a kill leaves."""

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from channels import Channel, make_package
from inprocess import FAST, Quiet, collect, forget, records_of, store_at, sync, ticking
from mirror import Mirror
from pypi_index import Index
from serving import server, serving
from test_real_data import HISTORY, answers, playback, states, turn

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.errors import Forgotten
from snapmirror.sync.archive import Volumes
from snapmirror.sync.copying import Copying
from snapmirror.sync.exporting import Export
from snapmirror.sync.importing import ExportFile
from snapmirror.sync.origins import Opened
from snapmirror.sync.settings import Publish
from snapmirror.transfer.http import Http

DAYS = ["20261101T000000Z", "20261102T000000Z", "20261103T000000Z"]
SELECTORS = [*DAYS, "2026-11-01", "2026-11-02", "current", "paper", "20261102T120000Z"]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with Index(tmp_path / "index") as made:
        made.upload("Tool", "tool-1.0-py3-none-any.whl")
        yield made


@pytest.fixture
def source(mirror: Mirror, channel: Channel, index: Index, tmp_path: Path) -> Mirror:
    """Three days of a channel, an index and a folder of installers, the second of which has a pin."""
    installers = tmp_path / "installers"
    installers.mkdir()
    (installers / "setup.exe").write_bytes(b"first")
    mirror.add("pypi", f"{index.url}/simple/", kind="pypi", projects=["tool"])
    mirror.add("installers", installers.as_uri(), kind="files")
    for number, day in enumerate(DAYS):
        mirror.sync("--seal-as", day)
        channel.add(make_package(f"new{number}"))
        channel.publish()
        index.upload("Tool", f"tool-1.{number + 1}-py3-none-any.whl")
        (installers / f"more{number}.exe").write_bytes(b"more" * (number + 1))
    mirror.run("pin", "paper", DAYS[1])
    return mirror


@pytest.fixture
def replica(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "replica")


def everything(store: Path) -> dict[str, tuple[int, str | None, str | None, str]]:
    """Every URL of a store below every selector: {path: (status, ETag, snapshot, SHA-256 of the body)}."""
    found = {}
    with serving(store) as url, requests.Session() as session:
        for selector in SELECTORS:
            paths = ["pypi/simple/", "pypi/simple/tool/", "installers/", "installers/setup.exe", "chan/noarch/nothing.conda"]
            paths += [f"installers/more{number}.exe" for number in range(3)]
            for subdir in ("linux-64", "noarch"):
                listing = session.get(f"{url}/{selector}/chan/{subdir}/repodata.json", timeout=30).json()
                names = ["repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst", *records_of(listing)]
                paths += [f"chan/{subdir}/{name}" for name in names]
            page = session.get(f"{url}/{selector}/pypi/simple/tool/", headers={"Accept": "application/json"}, timeout=30)
            for accept in ("text/html", "application/vnd.pypi.simple.v1+json"):
                for path in paths:
                    answer = session.get(f"{url}/{selector}/{path}", headers={"Accept": accept}, timeout=30)
                    state = (answer.status_code, answer.headers.get("ETag"), answer.headers.get("X-Snapmirror-Snapshot"))
                    found[f"{accept} {selector}/{path}"] = (*state, hashlib.sha256(answer.content).hexdigest())
            assert page.ok
    return found


def records(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "snapshots").iterdir()}


def is_copy(replica: Mirror, source: Mirror) -> None:
    assert records(replica.store_path) == records(source.store_path)
    assert everything(replica.store_path) == everything(source.store_path)
    assert replica.published() == source.published()
    replica.run("check", "--read-data")


def test_a_replica_of_a_folder_answers_as_its_source_does(source: Mirror, replica: Mirror, channel: Channel) -> None:
    planned = replica.run("replicate", str(source.store_path), "--dry-run", "--json").json
    assert (planned["snapshots"], planned["dry_run"], replica.store_path.exists()) == (DAYS, True, False)
    first = replica.run("replicate", str(source.store_path), "--json").json
    assert first["snapshots"] == DAYS
    is_copy(replica, source)
    again = replica.run("replicate", str(source.store_path))
    assert "nothing to do" in again.out
    assert "fetch" not in again.err
    source.sync()
    source.run("pin", "paper", DAYS[2], "--move")
    later = replica.run("replicate", str(source.store_path), "--json").json
    assert later["snapshots"] == source.snapshots()[3:]
    assert later["pins"] == ["paper"]
    is_copy(replica, source)


def test_a_replica_over_http_asks_for_the_list_alone_when_it_has_all(source: Mirror, replica: Mirror, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    config = tmp_path / "serve.toml"
    config.write_text(f'store = "{source.store_path}"\n[serve]\naccess_log = "{log}"\n')
    with server(config) as (url, _):
        replica.run("replicate", url)
        asked = log.read_text().count("/-/")
        assert "nothing to do" in replica.run("replicate", url).out
        time.sleep(0.5)
        assert log.read_text().count("/-/") == asked + 1
    is_copy(replica, source)


def test_an_export_and_one_on_top_of_it_bring_all(source: Mirror, replica: Mirror, tmp_path: Path) -> None:
    whole, later = tmp_path / "whole.tar", tmp_path / "later.tar"
    source.run("export", "--to", str(whole), "--snapshots", DAYS[0])
    source.run("export", "--to", str(later), "--since", DAYS[0])
    assert subprocess.run(["tar", "tf", whole], capture_output=True, check=True).stdout.startswith(b"snapmirror-export.json\n")
    source.run("export", "--to", str(tmp_path / "all.tar"), "--since", "", status=2)  # of a variable that is not set
    refused = replica.run("import", str(later), status=1)
    assert DAYS[0] in refused.err
    assert replica.snapshots() == []
    replica.run("import", str(whole))
    assert replica.snapshots() == DAYS[:1]
    replica.run("import", str(later))
    is_copy(replica, source)
    for file in (whole, later):
        assert "nothing to do" in replica.run("import", str(file)).out
    source.run("pin", "paper", DAYS[2], "--move")
    source.run("export", "--to", str(tmp_path / "moved.tar"))
    assert replica.run("import", str(tmp_path / "moved.tar"), "--json").json["pins"] == ["paper"]
    assert "nothing to do" in replica.run("import", str(later)).out  # again: no reason to move the pin back
    assert replica.record("paper").id == DAYS[2]
    with tarfile.open(later) as tar, tarfile.open(whole) as before:
        assert not {one.name for one in tar if one.name.startswith("blobs/")} & set(before.getnames())


def test_an_export_of_named_snapshots_brings_those_that_stayed_away_before(
    source: Mirror, replica: Mirror, tmp_path: Path
) -> None:
    source.run("export", "--to", str(tmp_path / "early.tar"), "--snapshots", DAYS[0])
    source.sync()
    *_, newest = source.snapshots()
    source.run("export", "--to", str(tmp_path / "late.tar"), "--snapshots", "current")
    replica.run("import", str(tmp_path / "late.tar"))
    assert replica.snapshots() == [newest]
    assert replica.run("import", str(tmp_path / "early.tar"), "--json").json["snapshots"] == DAYS[:1]
    assert replica.snapshots() == [DAYS[0], newest]
    replica.run("check", "--read-data")


def test_an_export_to_a_path_that_is_no_utf_8(source: Mirror, tmp_path: Path) -> None:
    """The path is printed with its own bytes, whatever the locale; JSON can't hold them."""
    target = tmp_path / "all\udcff.tar"
    assert source.run("export", "--to", str(target), "--json").json["files"] == [f"{tmp_path}/all\\udcff.tar"]
    target.unlink()
    command = [sys.executable, "-m", "snapmirror", "export", "--to", str(target), "--config", str(source.config)]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, env=strict, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.split(b"\n")[0]) == (0, os.fsencode(target)), done.stderr


def test_stores_and_upstreams_in_folders_that_are_no_utf_8(channel: Channel, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"of \xff")
    shutil.copytree(channel.root, folder / "chan")
    here, there = Mirror(folder / "here"), Mirror(folder / "there")
    here.add("chan", (folder / "chan").as_uri(), subdirs=["linux-64"])
    here.sync()
    there.run("replicate", str(here.store_path))
    there.run("check", "--read-data")
    assert there.published() == here.published()


def test_volumes_are_found_by_the_first_and_a_missing_or_changed_one_changes_nothing(
    source: Mirror, replica: Mirror, tmp_path: Path
) -> None:
    target = tmp_path / "export.tar"
    made = source.run("export", "--to", str(target), "--volume-size", "4kB", "--json").json
    volumes = [Path(file) for file in made["files"]]
    assert len(volumes) > 3
    assert all(volume.stat().st_size == 4000 for volume in volumes[:-1])
    assert not target.exists()
    source.run("export", "--to", str(target), status=2)
    source.run("export", "--to", ".", status=2).line("--to .: is a folder")
    replica.run("import", ".", status=1).line(".: is no file")
    middle = volumes[len(volumes) // 2]
    content = middle.read_bytes()
    for damaged in (content[:-1], content[:2000] + bytes([content[2000] ^ 1]) + content[2001:], None):
        middle.unlink() if damaged is None else middle.write_bytes(damaged)
        replica.run("import", str(volumes[0]), status=1)
        assert replica.snapshots() == []
    replica.run("import", *(str(volume) for volume in volumes if volume != middle), status=1)
    middle.write_bytes(content)
    replica.run("import", str(volumes[0]))
    is_copy(replica, source)


def test_a_file_that_another_export_has_made_or_makes_is_left_alone(source: Mirror, tmp_path: Path) -> None:
    target, partial, second = (tmp_path / f"export.tar{ending}" for ending in ("", ".partial", ".002"))
    partial.write_bytes(b"of a process that lives")
    with partial.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        source.run("export", "--to", str(target), status=4)
        assert (partial.read_bytes(), target.exists()) == (b"of a process that lives", False)
    source.run("export", "--to", str(target))  # it has died
    assert not partial.exists()
    target.rename(second)  # the first volume may have been carried away
    before = second.read_bytes()
    for size in ([], ["--volume-size", "4kB"]):
        source.run("export", "--to", str(target), *size, status=2).line("export.tar.002 is there already")
    assert (second.read_bytes(), sorted(path.name for path in tmp_path.glob("export*"))) == (before, ["export.tar.002"])


def test_a_file_that_grows_too_large_for_its_file_system_is_named_with_what_helps(source: Mirror, tmp_path: Path) -> None:
    source.write()
    target = tmp_path / "export.tar"
    command = [sys.executable, "-m", "snapmirror", "export", "-c", str(source.config), "--to", str(target)]
    done = subprocess.run(
        command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)), capture_output=True, text=True
    )
    assert (done.returncode, list(tmp_path.glob("export*"))) == (1, [])
    assert f"snapmirror: {target}: can't become so large" in done.stderr
    assert "--volume-size" in done.stderr


def _header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE = {
    "dots": _header("../../evil"),
    "absolute": _header("/etc/evil"),
    "a link": _header("blobs/" + "0" * 64, kind=tarfile.SYMTYPE),
    "a folder": _header("blobs/" + "0" * 64, kind=tarfile.DIRTYPE),
    "huge": _header("blobs/" + "0" * 64, size=1 << 62),
    "a second record": _header("snapshots/20261101T000000Z.json"),
    "a long name": _header("x" * 90, kind=tarfile.GNUTYPE_LONGNAME),
    "pax": _header("pax", kind=tarfile.XHDTYPE),
    "garbage": b"no header at all".ljust(512),
}


def test_a_hostile_tar_is_refused(source: Mirror, replica: Mirror, tmp_path: Path) -> None:
    target = tmp_path / "export.tar"
    source.run("export", "--to", str(target))
    content = target.read_bytes()
    members = [content[:-1024] + member + bytes(1024) for member in HOSTILE.values()]
    for hostile in (*members, b"", bytes(512), bytes(1024), content[:512], content[:700], b"x" * 5000):
        target.write_bytes(hostile)
        assert str(target) in replica.run("import", str(target), status=1).err
        assert replica.snapshots() == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("repo", "directory"),
    [("../../../evil", "noarch"), ("chan", "../../../../evil"), ("/evil", "noarch"), ("chan/./x", "noarch")],
)
def test_a_record_whose_names_lead_out_of_the_mirror_is_refused(
    repo: str, directory: str, mirror: Mirror, replica: Mirror, tmp_path: Path
) -> None:
    """Whoever serves it may write what they like, and trees are made of these names."""
    mirror.sync()
    (path,) = (mirror.store_path / "snapshots").iterdir()
    record = json.loads(path.read_text())
    state = record["repos"].pop("chan")
    state["directories"] = {directory: state["directories"]["noarch"]}
    record["repos"] = {repo: state}
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    before = {found for found in tmp_path.rglob("*") if replica.root not in found.parents}
    refused = replica.run("replicate", str(mirror.store_path), status=1)
    assert f"{repo}/{directory}" in refused.err
    assert replica.snapshots() == []
    assert {found for found in tmp_path.rglob("*") if replica.root not in found.parents} == before
    assert not Path("/evil").exists()


def test_what_is_told_later_of_a_snapshot_only_adds_to_it(source: Mirror, replica: Mirror) -> None:
    """No signature covers it: a date could answer what its server likes, or nothing."""
    pages = source.store_path / "snapshots" / f"{DAYS[0]}.pages"
    old, new = (source.record(day, "pypi").repos["pypi"].directories[""].digest for day in DAYS[::2])
    for path in ("pypi", "chan"):
        pages.write_text(json.dumps({path: new}))
        refused = replica.run("replicate", str(source.store_path), status=1).err
        assert f"told later of snapshot {DAYS[0]} is not what {path} was sealed with" in refused
        assert replica.snapshots() == []
    pages.write_text(json.dumps({"pypi": old}))
    replica.run("replicate", str(source.store_path))
    assert replica.snapshots() == DAYS


def test_a_store_with_snapshots_of_its_own_is_refused(source: Mirror, replica: Mirror) -> None:
    replica.run("replicate", str(source.store_path))
    replica.repos = source.repos
    replica.sync()
    own = replica.snapshots()[-1]
    message = replica.run("replicate", str(source.store_path), status=1).err
    assert own in message
    assert "snapshots of its own" in message
    assert replica.snapshots() == [*DAYS, own]


def test_another_record_under_the_same_id_is_refused(source: Mirror, replica: Mirror) -> None:
    replica.repos = [source.repos[0]]
    replica.sync("--seal-as", DAYS[0])
    assert DAYS[0] in replica.run("replicate", str(source.store_path), status=1).err
    assert replica.snapshots() == DAYS[:1]


def test_only_named_snapshots_come_and_the_others_before_them_are_410(source: Mirror, replica: Mirror) -> None:
    source.sync()
    replica.run("replicate", str(source.store_path), "--snapshots", "paper")
    assert replica.snapshots() == [DAYS[1]]
    with serving(replica.store_path) as url:
        gone = requests.get(f"{url}/{DAYS[0]}/chan/noarch/repodata.json", timeout=30)
        assert gone.status_code == 410
        assert requests.get(f"{url}/paper/chan/noarch/repodata.json", timeout=30).ok
    replica.run("gc", "--grace", "0s")
    replica.run("check")
    replica.run("replicate", str(source.store_path))
    assert replica.snapshots() == source.snapshots()[1:]
    replica.run("replicate", str(source.store_path), "--snapshots", DAYS[0])
    assert replica.snapshots() == source.snapshots()
    is_copy(replica, source)


def test_what_was_forgotten_and_denied_at_the_source_is_so_at_the_replica(source: Mirror, replica: Mirror) -> None:
    source.run("forget", DAYS[0])
    source.run("deny", "pypi", "tool==1.1", "--reason", "malware")
    with serving(source.store_path) as url:
        replica.run("replicate", url)
    is_copy_of = records(replica.store_path)
    assert is_copy_of == records(source.store_path)
    source.run("forget", DAYS[1], status=2)  # pinned
    source.run("unpin", "paper")
    source.run("forget", DAYS[1])
    replica.run("replicate", str(source.store_path))
    assert replica.snapshots() == DAYS[1:]  # nothing is deleted here because it was there


def test_what_is_denied_on_one_side_is_so_in_snapshots_of_the_other(source: Mirror, replica: Mirror, channel: Channel) -> None:
    """A replica keeps snapshots that are forgotten at its source, and gets new ones of what it denies itself."""
    channel.remove("new1-1.0-0.conda")  # the third day alone has it
    channel.publish()
    source.sync()
    replica.run("replicate", str(source.store_path))
    source.run("forget", DAYS[2])
    source.run("deny", "chan", "new1", "--reason", "malware")
    replica.run("deny", "chan", "new9", "--reason", "malware")
    channel.add(make_package("new9"))
    channel.publish()
    source.sync()
    replica.run("replicate", str(source.store_path))
    with serving(replica.store_path) as url:
        for path in (f"{DAYS[2]}/chan/noarch/new1-1.0-0.conda", "current/chan/noarch/new9-1.0-0.conda"):
            assert requests.get(f"{url}/{path}", timeout=30).status_code == 403, path
    assert "nothing to do" in replica.run("replicate", str(source.store_path)).out


def test_a_copy_leaves_free_on_the_disk_what_is_to_stay_free(source: Mirror, replica: Mirror, tmp_path: Path) -> None:
    source.run("export", "--to", str(tmp_path / "all.tar"))
    replica.settings["download"]["min_free"] = "100%"
    for command in (["replicate", str(source.store_path)], ["import", str(tmp_path / "all.tar")]):
        assert "to spare above min_free" in replica.run(*command, status=1).err
        assert replica.snapshots() == []


def test_gc_at_the_source_and_here_leaves_a_replica_whole(tmp_path: Path, channel: Channel) -> None:

    class Collecting(Opened):
        """An origin during whose transfers a gc without grace runs here, once before each blob comes."""

        once: set[bytes] = set()  # noqa: RUF012

        def bring(self, store: Any, blobs: Any, progress: Any) -> Any:
            if not blobs.keys() <= self.once:
                self.once |= blobs.keys()
                collect(store)
            found = super().bring(store, blobs, progress)
            if any(size is not None for size in blobs.values()):  # of files, which are registered by then
                assert collect(store) == 0
            return found

    repo = CondaRepo(path="chan", upstream=channel.root.as_uri(), subdirs=["linux-64"])
    with store_at(tmp_path / "one") as one, store_at(tmp_path / "two") as two:
        sync(one, repo)
        with Http(FAST, lambda _: None) as http:
            report = Copying(two, ECOSYSTEMS, Publish(), FAST, Quiet(), None).run(Collecting("one", one, http, two), [])
        assert report.snapshots == [record.id for record in one.catalog().records]
        collect(two)
        assert everything_held(two) >= everything_held(one)


def test_a_snapshot_of_the_past_is_copied_though_what_was_current_when_it_was_sealed_is_forgotten(
    channel: Channel, tmp_path: Path
) -> None:
    """In the copy `current` is forgotten then, which ends neither gc nor a sync."""
    repo = CondaRepo(path="chan", upstream=channel.root.as_uri(), subdirs=["linux-64"])
    with store_at(tmp_path / "one", ticking()) as one, store_at(tmp_path / "two", ticking()) as two:
        first, past, _ = (sync(one, repo, seal_as=at).snapshot for at in (None, DAYS[0], None))
        assert first
        assert past == DAYS[0]
        forget(one, first)
        Export(one, ECOSYSTEMS, Quiet(), None).run(tmp_path / "export.tar", None, [past], None)
        with contextlib.closing(Volumes([tmp_path / "export.tar"])) as volumes:
            Copying(two, ECOSYSTEMS, Publish(), FAST, Quiet(), None).run(ExportFile(volumes), [])
        with Http(FAST, lambda _: None) as http:
            assert not Copying(two, ECOSYSTEMS, Publish(), FAST, Quiet(), None).run(Opened("one", one, http, two), [past]).blobs
        assert [record.id for record in two.catalog().records] == [past]
        with pytest.raises(Forgotten):
            two.catalog().resolve("current", "chan", two.now())
        collect(two)
        assert everything_held(two) == everything_held(one)
        assert sync(two, repo).exit_status(strict=True) == 0


def everything_held(store: Any) -> set[bytes]:
    return {blob.digest for blob in store.blobs.list()}


def test_snapshots_that_migrate_into_the_configured_store_are_in_its_index(mirror: Mirror, replica: Mirror) -> None:
    mirror.sync()
    index = replica.root / "index.lmdb"
    replica.settings["index"] = str(index)
    replica.run("migrate", str(mirror.store_path), str(replica.store_path))
    assert (index.exists(), (replica.store_path / "index.lmdb").exists()) == (True, False)


def test_a_killed_copy_goes_on_and_fetches_nothing_twice(
    source: Mirror, replica: Mirror, tmp_path: Path, channel: Channel
) -> None:
    channel.add(*(make_package(f"many{number}", payload=os.urandom(20_000)) for number in range(40)))
    channel.publish()
    source.sync()
    log = tmp_path / "access.log"
    config = tmp_path / "serve.toml"
    config.write_text(f'store = "{source.store_path}"\n[serve]\naccess_log = "{log}"\n')
    replica.settings["download"]["bandwidth"] = "400kB/s"
    with server(config) as (url, _):
        process = replica.start("replicate", url)
        held: set[str] = set()
        for _ in range(600):
            held = {path.name for path in (replica.store_path / "blobs").rglob("*") if path.is_file()}
            if len(held) > 60 or process.poll() is not None:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert replica.snapshots() == []
        held = {path.name for path in (replica.store_path / "blobs").rglob("*") if path.is_file()}
        time.sleep(1)
        before = len(log.read_text().splitlines())
        del replica.settings["download"]["bandwidth"]
        replica.run("replicate", url)
        time.sleep(1)
        asked = "\n".join(log.read_text().splitlines()[before:])
        assert not [name for name in held if name in asked]
    assert records(replica.store_path) == records(source.store_path)
    replica.run("check", "--read-data")


@pytest.mark.real_data
@pytest.mark.long
@pytest.mark.skipif(not HISTORY.exists(), reason="the recorded channels (../shared) are not beside the project")
@pytest.mark.parametrize("history", ["mojo-channel", "main-linux-aarch64"])
def test_recorded_histories_are_copied_over_http_and_in_a_file(history: str, tmp_path: Path) -> None:
    times = states(history)
    with playback(history) as upstream, store_at(tmp_path / "source") as store:
        subdirs = ["linux-64", "linux-aarch64", "osx-arm64"] if history == "mojo-channel" else ["linux-aarch64"]
        mode = "eager" if history == "mojo-channel" else "redirect"
        for number, at in enumerate(times, 1):
            turn(upstream, number)
            sync(store, CondaRepo(path="mojo", upstream=upstream, subdirs=subdirs, download=mode), seal_as=at)
    source, served, imported = (Mirror(tmp_path / name) for name in ("one", "served", "imported"))
    source.store_path = tmp_path / "source"
    source.settings["store"] = str(source.store_path)
    source.run("export", "--to", str(tmp_path / "all.tar"), timeout=600)
    with serving(source.store_path) as url:
        for _ in range(2):
            last = served.run("replicate", url, "--json", timeout=600).json
        assert (last["snapshots"], last["blobs"]) == ([], 0)
        before = {at: _answers(url, at, mode) for at in times}
    for _ in range(2):
        last = imported.run("import", str(tmp_path / "all.tar"), "--json", timeout=600).json
    assert (last["snapshots"], last["blobs"]) == ([], 0)
    for replica in (served, imported):
        assert records(replica.store_path) == records(source.store_path)
        with serving(replica.store_path) as url:
            assert {at: _answers(url, at, mode) for at in times} == before


def _answers(url: str, at: str, mode: str) -> dict[str, str]:
    if mode == "eager":
        return answers(url, at)
    found = {}
    for name in ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"):
        answer = requests.get(f"{url}/{at}/mojo/linux-aarch64/{name}", timeout=60)
        assert answer.ok
        found[name] = answer.headers["ETag"] + hashlib.sha256(answer.content).hexdigest()
    return found


def test_with_a_key_what_is_not_signed_with_it_is_refused_and_signatures_travel(
    mirror: Mirror, replica: Mirror, tmp_path: Path
) -> None:
    keys = [tmp_path / name for name in ("own", "other")]
    for key in keys:
        mirror.run_bare("key", "generate", str(key))
    mirror.settings["sign"] = {"key": str(keys[0])}
    mirror.sync()
    replica.run("replicate", str(mirror.store_path), "--key", f"{keys[1]}.pub", status=1)
    assert not list((replica.store_path / "blobs").glob("*/*"))
    mirror.run("export", "--to", str(tmp_path / "all.tar"))
    replica.run("import", str(tmp_path / "all.tar"), "--key", f"{keys[1]}.pub", status=1)
    assert not list((replica.store_path / "blobs").glob("*/*"))
    imported = Mirror(tmp_path / "imported")
    imported.run("import", str(tmp_path / "all.tar"), "--key", f"{keys[0]}.pub")
    assert records(imported.store_path) == records(mirror.store_path)
    replica.run("replicate", str(mirror.store_path), "--key", f"{keys[0]}.pub")
    assert records(replica.store_path) == records(mirror.store_path)
    assert list(replica.store_path.glob("snapshots/*.sig"))
