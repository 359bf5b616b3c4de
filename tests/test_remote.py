"""A store of objects: what is true of one on a disk is true of it, on several machines at once.

`make objects` runs all of it against a gateway of Ceph too, where that is installed.
"""

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from channels import Channel, Package, make_package
from disks import small_disk
from mirror import Mirror
from services import Service, can_ceph, ceph, moto, tampered
from serving import free_port, server
from test_web_servers import EXAMPLES, Authority, authority, example, nginx
from upstream import Call, Upstream
from waiting import eventually

from snapmirror import clock
from snapmirror.errors import LockedError, ObjectError, Overtaken
from snapmirror.remote import blobs
from snapmirror.remote import lease as leases
from snapmirror.remote import objects as remote_objects
from snapmirror.remote.objects import Objects
from snapmirror.remote.settings import S3, parse_address
from snapmirror.remote.store import RemoteStore
from snapmirror.store import syncing
from snapmirror.store.blobs import BlobInfo
from snapmirror.store.records import Record

__all__ = ["authority"]

#: not in `make test`, which has the shortest of them, and one of each kind
objects = pytest.mark.objects
#: as `make objects` has it
_REAL = bool(os.environ.get("SNAPMIRROR_OBJECTS"))
_REASON = can_ceph() if _REAL else "a real gateway: make objects"


@pytest.fixture(scope="module", params=["moto", pytest.param("ceph", marks=pytest.mark.skipif(bool(_REASON), reason=_REASON))])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with moto() if request.param == "moto" else ceph(tmp_path_factory.mktemp("ceph")) as started:
        yield started


@pytest.fixture
def store(service: Service) -> str:
    """Where a store is going to be: nothing is there yet."""
    return f"{service.bucket()}/mirrors/one"


@pytest.fixture
def mirror(tmp_path: Path, service: Service, store: str, upstream: Upstream, channel: Channel) -> Mirror:
    """A machine that mirrors the channel into it, not synced yet."""
    return machine(tmp_path / "one", service, store, upstream)


def machine(root: Path, service: Service, store: str, upstream: Upstream, path: str = "chan", endpoint: str = "") -> Mirror:
    """One more machine, with a cache of its own."""
    made = service.use(Mirror(root), store, endpoint=endpoint)
    made.add(path, f"{upstream.url}/chan", subdirs=["linux-64"])
    return made


def opened(mirror: Mirror) -> RemoteStore:
    """The store, as a process of this machine has it open."""
    mirror.write()
    address = parse_address(mirror.settings["store"])
    return RemoteStore.open_remote(address, S3(**mirror.settings["s3"]), Path(mirror.settings["cache"]), write=True)


def large(size: int) -> Package:
    """A package of more than so many bytes."""
    return make_package("large", payload=random.Random(1).randbytes(size))


def files_of(url: str, selector: str) -> dict[str, str]:
    """{file: SHA-256 of its bytes} of the channel, and of its index, as a server gives them."""
    found = {}
    for subdir in ("linux-64", "noarch"):
        base = f"{url}/{selector}/chan/{subdir}"
        repodata = requests.get(f"{base}/repodata.json", timeout=30)
        listed = [*repodata.json()["packages"], *repodata.json()["packages.conda"]]
        for name in ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst", *listed):
            answer = requests.get(f"{base}/{name}", timeout=30)
            assert answer.status_code == 200, (name, answer.text)
            found[f"{subdir}/{name}"] = hashlib.sha256(answer.content).hexdigest()
    return found


def test_the_first_sync_makes_the_store_and_any_machine_has_it(
    mirror: Mirror, service: Service, store: str, tmp_path: Path, upstream: Upstream
) -> None:
    assert f"created the store s3://{store}" in mirror.sync().err
    mirror.run("pin", "paper", "current")
    keys = service.keys(store)
    assert "snapshots/00000001.json" in keys
    assert "pins/paper.json" in keys
    assert {key.rpartition("/")[2] for key in keys if key.startswith("blobs/")} >= {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (upstream.root / "chan").rglob("*.conda")
    }
    other = machine(tmp_path / "two", service, store, upstream)
    assert other.run("snapshots").out == mirror.run("snapshots").out
    assert "paper" in other.run("snapshots").out
    other.sync()  # nothing is there that it would have to fetch again
    assert not [one for one in upstream.requests if one.path.endswith(".conda")][3:]
    assert other.run("check", "--read-data").status == 0
    assert mirror.run("diff", "paper", "current", "--exit-code").status == 0


@objects
def test_it_answers_as_a_store_on_a_disk_does(
    mirror: Mirror, tmp_path: Path, channel: Channel, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    channel.add(large(3 << 20))
    channel.publish()
    mirror.sync()
    local = Mirror(tmp_path / "local")
    with server(mirror.config, "--workers", "2") as (url, _):
        answers = {selector: files_of(url, selector) for selector in (mirror.snapshots()[0], "current")}
        local.run("replicate", url)
        again = files_of(url, "current")
        pages = ("", "-/page/snapshots", "-/page/packages?q=lib", "-/page/package?name=lib", "-/page/health")
        assert [requests.get(f"{url}/{page}", timeout=60).status_code for page in pages] == [200] * len(pages)
    assert again == answers["current"]
    assert len(answers["current"]) == len(answers[mirror.snapshots()[0]]) + 1
    with server(local.config) as (url, _):
        assert {selector: files_of(url, selector) for selector in answers} == answers
    # and back, into another store of objects
    copy = service.use(Mirror(tmp_path / "copy"), f"{store}-copy")
    copy.run("replicate", str(local.store_path))
    assert copy.run("check", "--read-data").status == 0
    with server(copy.config) as (url, _):
        assert files_of(url, "current") == answers["current"]


@objects
def test_parts_of_a_large_file_come_as_they_are_asked_for(
    mirror: Mirror, channel: Channel, upstream: Upstream, service: Service, store: str
) -> None:
    package = large(3 << 20)
    channel.add(package)
    channel.publish()
    mirror.sync()
    with server(mirror.config) as (url, _):
        address = f"{url}/current/chan/noarch/{package.filename}"
        part = requests.get(address, headers={"Range": "bytes=1000000-2000000"}, timeout=30)
        assert (part.status_code, part.content) == (206, package.data[1000000:2000001])
        assert requests.get(address, timeout=30).content == package.data
        assert requests.get(address, headers={"Range": "bytes=-5"}, timeout=30).content == package.data[-5:]
        head = requests.head(address, timeout=30)
        assert head.headers["Content-Length"] == str(len(package.data))


def test_a_server_whose_cache_has_no_room_answers_from_the_service(
    mirror: Mirror, channel: Channel, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    """Metadata that it had not read before, and files."""
    mirror.sync()
    another, path = machine(tmp_path / "another", service, store, upstream), next((channel.root / "noarch").glob("lib*.conda"))
    with small_disk(tmp_path / "disk", "8m") as disk:
        another.settings["cache"] = str(disk / "cache")
        another.write()
        with server(another.config) as (url, _):
            assert requests.get(f"{url}/chan/linux-64/repodata.json", timeout=30).status_code == 200
            (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free))
            for headers, part in (({}, slice(None)), ({"Range": "bytes=-5"}, slice(-5, None))):
                answer = requests.get(f"{url}/chan/noarch/{path.name}", headers=headers, timeout=30)
                assert answer.content == path.read_bytes()[part], answer.text
            assert path.name in requests.get(f"{url}/chan/noarch/repodata.json", timeout=30).json()["packages.conda"]


def test_clients_are_sent_to_the_service_for_files_if_it_is_so_configured(
    mirror: Mirror, channel: Channel, service: Service
) -> None:
    mirror.sync()
    mirror.settings["serve"] = {"files": "redirect", "redirect_for": "10m"}
    mirror.write()
    name = next(path.name for path in (channel.root / "noarch").glob("lib*.conda"))
    with server(mirror.config) as (url, _):
        sent = requests.get(f"{url}/current/chan/noarch/{name}", allow_redirects=False, timeout=30)
        assert sent.status_code == 307
        assert sent.headers["Location"].startswith(service.endpoint)
        assert sent.headers["Cache-Control"] == "no-store"
        assert requests.get(sent.headers["Location"], timeout=30).content == (channel.root / "noarch" / name).read_bytes()
        assert requests.get(f"{url}/current/chan/noarch/repodata.json", allow_redirects=False, timeout=30).status_code == 200
        assert requests.head(f"{url}/current/chan/noarch/{name}", allow_redirects=False, timeout=30).status_code == 200


@objects
def test_what_one_machine_publishes_others_serve_within_seconds(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    other = machine(tmp_path / "two", service, store, upstream)
    other.write()
    with server(other.config) as (url, _):
        mirror.sync()
        first, newest = mirror.snapshots()
        eventually(lambda: requests.get(f"{url}/-/readyz", timeout=30).json().get("newest") == newest)
        mirror.run("forget", first)
        eventually(lambda: requests.get(f"{url}/{forgotten(mirror)}/chan/noarch/repodata.json", timeout=30).status_code == 410)


def forgotten(mirror: Mirror) -> str:
    """The id of the tombstone."""
    return next(entry.id for entry in mirror.catalog().entries if not isinstance(entry, Record))


@objects
def test_servers_behind_nginx_are_replaced_one_by_one_and_no_request_is_lost(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    fleet = [machine(tmp_path / f"server{one}", service, store, upstream) for one in range(3)]
    for one in fleet:
        one.settings["serve"] = {"port": free_port()}
        one.write()
    text = example("nginx-fleet.conf", {"listen 80;": f"listen 127.0.0.1:{(port := free_port())};"})
    lines = [line for line in text.splitlines() if not line.strip().startswith("server 10.")]
    servers = "".join(f"server 127.0.0.1:{one.settings['serve']['port']} max_fails=0;" for one in fleet)
    text = "\n".join(lines).replace("keepalive 64;", f"{servers} keepalive 64;")
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    answers: list[int] = []
    ended = threading.Event()

    def ask(url: str) -> None:
        with requests.Session() as session:
            while not ended.is_set():
                for name in ("linux-64/repodata.json", "noarch/lib-1.0-0.conda"):
                    answers.append(session.get(f"{url}/current/chan/{name}", timeout=120).status_code)

    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_started(one)) for one in fleet]
        url = stack.enter_context(nginx(folder, port, text))
        asking = [threading.Thread(target=ask, args=(url,)) for _ in range(4)]
        for thread in asking:
            thread.start()
        for one, process in zip(fleet, running, strict=True):
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            stack.enter_context(_started(one))
        before = len(answers)
        eventually(lambda: len(answers) > before + 50)
        ended.set()
        for thread in asking:
            thread.join()
    assert set(answers) == {200}
    assert "timed out" not in (folder / "log").read_text()  # nobody waited for a server that does not answer


def test_units_of_the_examples_run_what_there_is(mirror: Mirror, tmp_path: Path) -> None:
    """The sync makes the store, and gc finds it."""
    program = f"{sys.executable} -m snapmirror"
    paths, ran = [], []
    for unit in sorted((EXAMPLES.parent / "systemd").iterdir()):
        path = tmp_path / unit.name.replace("@.", "@chan.")
        path.write_text(unit.read_text(encoding="utf-8").replace("/usr/local/bin/snapmirror", program), encoding="utf-8")
        paths.append(path)
    mirror.write()
    for name in ("snapmirror-sync@chan.service", "snapmirror-gc.service"):
        [command] = re.findall(r"^ExecStart=(.*)", (tmp_path / name).read_text(), flags=re.MULTILINE)
        command = command.replace("/etc/snapmirror.toml", str(mirror.config)).replace("%I", "chan")
        ran.append(subprocess.run(command.split(), capture_output=True, text=True))
    assert [(one.returncode, "Sealed snapshot" in one.stdout) for one in ran] == [(0, True), (0, False)]
    verify = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([verify, "verify", "--man=no", *paths], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "snapmirror" in line]) == (0, [])


@contextlib.contextmanager
def _started(machine: Mirror) -> "Iterator[subprocess.Popen[str]]":
    with server(machine.config, "--port", str(machine.settings["serve"]["port"])) as (_, process):
        yield process


@pytest.mark.parametrize("writers", [2, pytest.param(16, marks=pytest.mark.skipif(not _REAL, reason="make objects"))])
def test_syncs_of_several_machines_at_once_publish_all(
    tmp_path: Path, service: Service, store: str, upstream: Upstream, channel: Channel, writers: int
) -> None:
    machines = [machine(tmp_path / str(one), service, store, upstream, f"chan{one}") for one in range(writers)]
    repos = [one.repos[0] for one in machines]
    for one in machines:
        one.repos = repos
    running = [one.start("sync", repo["path"]) for one, repo in zip(machines, repos, strict=True)]
    ended = [Mirror.finish(process, timeout=240) for process in running]  # sixteen on two cores
    assert [result.status for result in ended] == [0] * writers, ended
    shown = machines[0].run("show", "current", "--json").json
    assert set(shown["repos"]) == {f"chan{one}" for one in range(writers)}
    numbers = [entry.number for entry in machines[0].catalog().entries]
    assert numbers == list(range(1, writers + 1))
    assert machines[0].run("check", "--read-data").status == 0


def no_lease_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases run out after three seconds, and a process renews none, as one that is stopped does not."""
    monkeypatch.setattr(leases, "LIFETIME", timedelta(seconds=3))
    monkeypatch.setattr(leases, "_ROUGH", timedelta(seconds=0.5))
    monkeypatch.setattr(leases, "_RENEWED", 3600.0)


@objects
def test_a_writer_that_was_thought_dead_seals_on_top_of_what_was_published_meanwhile(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    no_lease_lasts(monkeypatch)
    other = machine(tmp_path / "two", service, store, upstream)
    with opened(mirror) as ours, opened(other) as theirs:
        with ours.lock(None) as catalog:
            late = catalog.records[-1]
            with pytest.raises(LockedError), theirs.lock(None):
                pass
            with theirs.lock(lambda _: None) as seen:  # waits until the lease has run out
                theirs.snapshots.write(_after(seen.records[-1], seen.next_number, "29991231T000000Z"))
            with pytest.raises(Overtaken):
                ours.snapshots.write(_after(late, late.number + 1, "29991231T000001Z"))
            with pytest.raises((LockedError, ObjectError)):
                ours.blobs.delete(next(iter(ours.blobs.list())).digest)
        with ours.lock(None) as catalog:
            assert catalog.entries[-1].id == "29991231T000000Z"
            assert catalog.next_number == late.number + 2
    assert mirror.run("check", status=None).out.count("is missing") == 0


@objects
def test_a_list_of_what_a_gc_takes_does_not_come_so_late_that_it_replaces_that_of_another(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway of Ceph waits for the bytes of a request that it has admitted for 65 seconds."""
    mirror.sync()
    no_lease_lasts(monkeypatch)
    within, late = Objects.within, list[str]()
    first, second = hashlib.sha256(b"first").digest(), hashlib.sha256(b"second").digest()

    def come_late(self: Objects, method: str, key: str, *rest: Any, **more: Any) -> bool:
        if key.startswith("swept/") and not late:
            late.append(key)
            with theirs.lock(lambda _: None):
                theirs.remove([second])
        return within(self, method, key, *rest, **more)

    machines = [machine(tmp_path / name, service, store, upstream) for name in ("two", "three")]
    with opened(mirror) as ours, opened(machines[0]) as theirs, opened(machines[1]) as others:
        others.put([b"first", b"second"])
        monkeypatch.setattr(Objects, "within", come_late)
        with pytest.raises(Overtaken), ours.lock(None):
            ours.remove([first])
        with others.lock(lambda _: None):
            assert others.held([first, second]) == {first: 5}


def _after(record: Record, number: int, id_: str) -> Record:
    return msgspec.structs.replace(record, number=number, id=id_)


def test_gc_notes_what_is_of_no_use_and_removes_it_when_nobody_can_come_for_it(
    mirror: Mirror, tmp_path: Path, channel: Channel, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    other = machine(tmp_path / "two", service, store, upstream)
    other.sync()
    channel.remove("lib-1.0-0.conda")
    channel.publish()
    mirror.sync()
    for id_ in mirror.snapshots()[:-1]:
        mirror.run("forget", id_)
    before = service.keys(store, "blobs/")
    assert "freed 0 blobs" in mirror.run("gc").out  # all of it is younger than the grace
    assert service.keys(store, "blobs/") == before
    freed = mirror.run("gc", "--grace", "0s", "--json").json
    after = service.keys(store, "blobs/")
    assert freed["blobs"] == len(before) - len(after) > 0
    assert freed["bytes"] == sum(before.values()) - sum(after.values())
    # The other machine's index and cache said that it has what is gone now: it fetches it anew.
    channel.add(make_package("lib"))
    channel.publish()
    other.sync()
    assert other.run("check", "--read-data").status == 0
    mirror.run("check", "--read-data")


def test_a_gc_elsewhere_sees_what_a_sync_is_about_to_publish_each_time_that_it_is_written(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    with opened(mirror) as ours, opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        entry = ours.registration()
        for digest in (bytes(32), bytes([1] * 32)):  # planned, then finished
            with ours.lock(None):
                entry.write([digest])
            with theirs.lock(None):
                assert [one.directories for one in syncing.entries(theirs.layout)] == [(digest,)]
        entry.remove()
        with theirs.lock(None):
            assert list(syncing.entries(theirs.layout)) == []


@objects
def test_a_blob_that_comes_again_while_a_gc_elsewhere_takes_it_is_not_taken_for_there(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    content, digest = b"of no use", hashlib.sha256(b"of no use").digest()
    with opened(mirror) as ours, opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        delete = theirs.blobs.delete_many

        def come_again_and_go(digests: list[bytes]) -> int:
            ours.far.refresh()  # told already that it goes
            ours.put([content])
            assert ours.blobs.ask(digest)
            return delete(digests)

        monkeypatch.setattr(theirs.blobs, "delete_many", come_again_and_go)
        with theirs.lock(None):
            theirs.remove([digest])
        with ours.lock(None):
            assert ours.blobs.size(digest) is None
            assert ours.held([digest]) == {}
        ours.put([content])  # that gc is done: what comes now stays
        assert ours.index.held([digest])


@objects
def test_a_gc_that_is_interrupted_takes_nothing_more_and_keeps_the_lock_as_long_as_it_might(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    useless = [b"of no use %d" % number for number in range(100)]
    within, asked, go_on = Objects.within, list[str](), threading.Event()

    def wait_first(self: Objects, method: str, key: str, *rest: Any, **more: Any) -> bool:
        if method == "DELETE" and key.startswith("blobs/"):
            asked.append(key)
            go_on.wait()
        return within(self, method, key, *rest, **more)

    def interrupt(_: object) -> None:
        eventually(lambda: asked)
        raise KeyboardInterrupt

    with opened(mirror) as ours, opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        ours.put(useless)
        monkeypatch.setattr(Objects, "within", wait_first)
        monkeypatch.setattr(blobs, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt), theirs.lock(None):
            theirs.remove([hashlib.sha256(content).digest() for content in useless])
        with pytest.raises(LockedError), ours.lock(None):
            pass
        go_on.set()
        theirs.close()
        left = service.keys(store, "blobs/")
        there = [content for content in useless if blobs.key_of(hashlib.sha256(content).digest()) in left]
        assert len(there) >= len(useless) - len(asked)
        assert len(asked) <= 16


@objects
def test_a_deletion_that_got_no_answer_may_yet_come_so_nobody_counts_on_what_it_names(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    content, digest = b"of no use", hashlib.sha256(b"of no use").digest()
    cut: list[str] = []

    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        if method == "DELETE" and "/blobs/" in path and not cut:
            cut.append(path)
            return -1
        return None

    with tampered(service, tamper) as endpoint, opened(mirror) as ours:
        ours.put([content])
        with opened(machine(tmp_path / "two", service, store, upstream, endpoint=endpoint)) as theirs, theirs.lock(None):
            assert theirs.remove([digest]) == len(content)
        assert cut
        with pytest.raises(LockedError), ours.lock(None):
            pass
        ours.far.refresh()
        ours.put([content])
        assert ours.index.held([digest]) == {}


@objects
@pytest.mark.parametrize("answer", [-1, 504])
def test_a_pin_that_got_no_answer_may_yet_come_so_nobody_moves_it_meanwhile(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, answer: int
) -> None:
    mirror.sync()
    cut: list[str] = []

    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        if method == "PUT" and "/pins/" in path and not cut:
            cut.append(path)
            return answer
        return None

    with tampered(service, tamper) as endpoint:
        machine(tmp_path / "two", service, store, upstream, endpoint=endpoint).run("pin", "rc", "current")
    assert cut
    with opened(mirror) as ours, pytest.raises(LockedError), ours.lock(None):
        pass


@objects
def test_who_has_not_seen_what_a_gc_elsewhere_took_trusts_nothing_that_it_knew(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    bucket, _, prefix = store.partition("/")
    digest = hashlib.sha256(b"of no use").digest()
    with opened(mirror) as ours, opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        ours.put([b"of no use"])
        with theirs.lock(None):
            theirs.remove([digest])
        service.client.delete_object(Bucket=bucket, Key=f"{prefix}/swept/00000001.json")  # as after ninety days
        with ours.lock(None):
            assert ours.index.held([digest]) == {}


@objects
def test_an_index_is_told_of_all_that_went_though_another_one_shares_its_cache(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    digest = hashlib.sha256(b"of no use").digest()
    with opened(mirror) as ours:
        ours.put([b"of no use"])
    with opened(machine(tmp_path / "two", service, store, upstream)) as theirs, theirs.lock(None):
        theirs.remove([digest])
    mirror.settings["index"] = str(tmp_path / "fast" / "index.lmdb")
    mirror.run("snapshots")  # as `migrate` with another configuration does: both have the usual cache
    with opened(mirror) as ours, ours.lock(None):
        assert ours.index.held([digest]) == {}


@objects
@pytest.mark.parametrize("sealed", [False, True], ids=["as it was", "with another snapshot since"])
def test_of_a_store_that_came_back_from_a_backup_nothing_is_taken_for_there_that_is_not(
    mirror: Mirror, tmp_path: Path, channel: Channel, service: Service, store: str, upstream: Upstream, sealed: bool
) -> None:
    mirror.sync()
    backup = service.contents(store)
    channel.add(make_package("later"))
    channel.publish()
    mirror.sync()
    service.restore(store, backup)
    channel.remove("later-1.0-0.conda")
    channel.publish()
    if sealed:
        machine(tmp_path / "two", service, store, upstream).sync()
        mirror.run("snapshots")
    channel.add(make_package("later"))
    channel.publish()
    mirror.sync()
    assert len(mirror.snapshots()) == 2 + sealed
    mirror.run("check", "--read-data")


@objects
def test_a_copy_that_was_made_before_its_pull_died_goes_with_its_object(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    get_many = Objects.get_many

    def die(self: Objects, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        yield from get_many(self, keys)
        raise ObjectError(str(self.address), "", "the service can't be reached")

    with opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        mirror.run("pin", "rc", "current")
        with monkeypatch.context() as dying:
            dying.setattr(Objects, "get_many", die)
            with pytest.raises(ObjectError):
                theirs.far.refresh()
        assert "rc" in theirs.catalog().pins
        mirror.run("unpin", "rc")
        theirs.far.refresh()
        assert theirs.catalog().pins == {}


@objects
def test_a_pin_that_goes_between_two_requests_of_a_pull_goes_here_too(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    mirror.run("pin", "rc", "current")
    mirror.sync()
    get_many = Objects.get_many

    def come_late(self: Objects, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        mirror.run("unpin", "rc")
        yield from get_many(self, keys)

    with opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        mirror.run("pin", "rc", "current", "--move")
        with monkeypatch.context() as slow:
            slow.setattr(Objects, "get_many", come_late)
            theirs.far.refresh()
        theirs.far.refresh()
        assert theirs.catalog().pins == {}


@objects
def test_a_sync_that_slept_until_a_gc_took_it_for_dead_publishes_nothing(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    with contextlib.ExitStack() as stack:

        def bury() -> None:
            if not service.keys(store, "snapshots/"):
                theirs = stack.enter_context(opened(machine(tmp_path / "two", service, store, upstream)))
                with theirs.lock(None):
                    for entry in syncing.entries(theirs.layout):
                        theirs.drop_registration(entry.path)

        upstream.fault("*.conda", Call(bury), times=1)
        assert "nothing was heard of it for seven days" in mirror.sync(status=1).err
    assert service.keys(store, "snapshots/") == {}
    mirror.sync()
    mirror.run("check", "--read-data")


@objects
def test_objects_that_the_service_has_lost_are_told_of_and_mended(
    mirror: Mirror, channel: Channel, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    bucket, _, prefix = store.partition("/")
    package = hashlib.sha256(next((channel.root / "noarch").glob("lib*.conda")).read_bytes()).hexdigest()
    cached = [path.name for path in (mirror.root / "cache" / "blobs").glob("??/*")]
    assert package not in cached
    for name in (package, *cached):
        service.client.delete_object(Bucket=bucket, Key=f"{prefix}/blobs/{name[:2]}/{name}")
    found = mirror.run("check", status=5)
    assert all(f"blob {name}: is " in found.out + found.err for name in (package, *cached))
    mirror.run("check", "--repair")
    mirror.run("check", "--read-data")
    shutil.rmtree(mirror.root / "cache")
    mirror.run("check", "--read-data")


@objects
def test_a_snapshot_that_was_forgotten_comes_back_from_a_replica(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.sync()
    mirror.sync()
    first, _ = mirror.snapshots()
    replica = Mirror(tmp_path / "replica")
    with server(mirror.config) as (url, _):
        replica.run("replicate", url)
    mirror.run("forget", first)
    mirror.run("gc", "--grace", "0s")
    with server(replica.config) as (url, _):
        mirror.run("replicate", url, "--snapshots", first)
    assert first in mirror.snapshots()
    mirror.run("check", "--read-data")


@objects
def test_a_signature_goes_with_its_record(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    mirror.run_bare("key", "generate", str(tmp_path / "key"))
    mirror.settings["sign"] = {"key": str(tmp_path / "key")}
    mirror.sync()
    other = machine(tmp_path / "two", service, store, upstream)
    other.write()
    with server(other.config) as (url, _):
        assert "Snapshot" in other.run_bare("verify", url, "--key", str(tmp_path / "key.pub"), "--all").out
    assert len(service.keys(store, "signatures/")) == 1
    mirror.sync()
    mirror.run("forget", mirror.snapshots()[0])
    assert len(service.keys(store, "signatures/")) == 1
    other.run("check")


@objects
def test_an_index_that_is_made_while_a_gc_runs_elsewhere_names_nothing_that_is_gone(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.sync()
    with opened(mirror) as ours, opened(machine(tmp_path / "two", service, store, upstream)) as theirs:
        ours.put([b"of no use"])
        digest, listing = hashlib.sha256(b"of no use").digest(), ours.blobs.list

        def list_and_lose() -> Iterator[BlobInfo]:
            yield from listing()
            with theirs.lock(None):
                assert theirs.remove([digest]) == 9

        monkeypatch.setattr(ours.blobs, "list", list_and_lose)
        ours.reindex()
        assert ours.index.held([digest])
        with ours.lock(None):
            assert ours.held([digest]) == {}


@objects
def test_a_cache_can_be_thrown_away_and_one_of_another_store_is_refused(
    mirror: Mirror, service: Service, store: str, tmp_path: Path, upstream: Upstream
) -> None:
    mirror.sync()
    assert list((tmp_path / "one" / "cache" / "blobs").glob("??/*"))  # metadata is at hand
    (tmp_path / "one" / "cache").rename(tmp_path / "old")
    mirror.sync()
    assert len(mirror.snapshots()) == 2
    mirror.run("reindex")
    mirror.run("check", "--read-data")
    mirror.settings["store"] += "-other"
    assert "is a cache of another store" in mirror.sync(status=1).err


@objects
def test_an_object_that_was_changed_behind_our_back_is_never_served_and_is_mended(
    mirror: Mirror, channel: Channel, service: Service, store: str, upstream: Upstream
) -> None:
    package = large(3 << 20)
    channel.add(package)
    channel.publish()
    mirror.sync()
    bucket, _, prefix = store.partition("/")
    digest = hashlib.sha256(package.data).hexdigest()
    small = next((channel.root / "noarch").glob("lib*.conda"))
    wrong = bytearray(package.data)
    wrong[2 << 20] ^= 1
    keys = {hashlib.sha256(small.read_bytes()).hexdigest(): b"x" * small.stat().st_size, digest: bytes(wrong)}
    for name, data in keys.items():
        service.client.put_object(Bucket=bucket, Key=f"{prefix}/blobs/{name[:2]}/{name}", Body=data)
    with server(mirror.config) as (url, _):
        assert requests.get(f"{url}/current/chan/noarch/{small.name}", timeout=30).status_code == 503
        with pytest.raises(requests.RequestException):
            requests.get(f"{url}/current/chan/noarch/{package.filename}", timeout=30)
    found = mirror.run("check", "--read-data", status=5)
    assert all(name in found.out + found.err for name in keys)
    mirror.run("check", "--repair")
    mirror.run("check", "--read-data")
    with server(mirror.config) as (url, _):
        assert requests.get(f"{url}/current/chan/noarch/{package.filename}", timeout=30).content == package.data


@objects
def test_snapshots_migrate_from_a_folder_and_back(
    tmp_path: Path, service: Service, store: str, upstream: Upstream, channel: Channel
) -> None:
    local = Mirror(tmp_path / "local")
    local.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    local.sync()
    local.run("pin", "paper", "current")
    local.sync()
    remote = machine(tmp_path / "remote", service, store, upstream)
    table = {"s3": remote.settings["s3"]}
    local.settings |= table
    local.env["XDG_CACHE_HOME"] = str(tmp_path / "caches")
    moved = local.run("migrate", str(local.store_path), f"s3://{store}", "--json").json
    assert moved["snapshots"] == local.snapshots()
    assert "nothing to do" in local.run("migrate", str(local.store_path), f"s3://{store}").out
    remote.run("check", "--read-data")
    assert remote.run("snapshots").out == local.run("snapshots").out
    again = Mirror(tmp_path / "again")
    remote.run("migrate", f"s3://{store}", str(again.store_path))
    assert again.run("snapshots").out == local.run("snapshots").out
    assert [again.published(name) for name in ("current", "paper")] == [local.published(name) for name in ("current", "paper")]
    again.run("check", "--read-data")
    assert "is the store that snapshots" in local.run("migrate", f"s3://{store}", f"s3://{store}/", status=2).err


# What can be wrong with a service --------------------------------------------------------------------------------------


def test_a_service_that_ignores_conditions_is_refused(mirror: Mirror, service: Service, store: str) -> None:
    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        for name in [name for name in headers if name.lower() == "if-none-match"]:
            del headers[name]
        return None

    if service.strict:
        pytest.skip("the header is signed: taking it away is noticed")
    with tampered(service, tamper) as endpoint:
        service.use(mirror, store, endpoint=endpoint)
        message = mirror.sync(status=1).err
    assert "does not honour If-None-Match" in message
    assert service.keys(store) == {}


@objects
def test_a_versioned_bucket_is_refused_where_it_ignores_conditions(mirror: Mirror, service: Service) -> None:
    if not service.strict:
        pytest.skip("this service honours them there too")
    service.use(mirror, f"{service.bucket(versioned=True)}/x")
    assert "without versioning" in " ".join(mirror.sync(status=1).err.split())


@objects
def test_a_missing_bucket_wrong_keys_and_nobody_there_are_said(mirror: Mirror, service: Service, store: str) -> None:
    service.use(mirror, "there-is-no-such-bucket/x")
    assert "there is no such bucket; create it" in mirror.sync(status=1).err
    service.use(mirror, store, endpoint="http://127.0.0.1:9")
    assert "can't be reached" in mirror.run("snapshots", status=1, timeout=120).err
    if service.strict:
        service.use(mirror, store)
        mirror.settings["s3"]["secret_key"] = "another"
        assert "the secret key is not that of the access key (SignatureDoesNotMatch)" in mirror.sync(status=1).err
    mirror.settings["store"] = "s3://UPPER/x"
    assert "is no address of a store" in mirror.sync(status=2).err


@objects
def test_a_prefix_that_holds_anything_else_is_refused(mirror: Mirror, service: Service, store: str) -> None:
    bucket, _, prefix = store.partition("/")
    service.client.put_object(Bucket=bucket, Key=f"{prefix}/photos/cat.jpg", Body=b"meow")
    assert "it holds photos/cat.jpg; choose another prefix" in mirror.sync(status=1).err


@objects
def test_a_service_that_is_busy_or_cuts_connections_is_asked_again(
    mirror: Mirror, service: Service, store: str, channel: Channel
) -> None:
    channel.add(large(12 << 20))  # in several parts
    channel.publish()
    lock, told = threading.Lock(), dict[str, int]()

    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        with lock:
            key = f"{method} {path}"
            told[key] = told.get(key, 0) + 1
            if method == "PUT" and "blobs/" in path and told[key] == 1:
                return -1 if "partNumber" in path else 503
            if method == "PUT" and "snapshots/" in path and told[key] == 1:
                return 409  # two at once, says the service, and neither has been done
        return None

    with tampered(service, tamper) as endpoint:
        service.use(mirror, store, endpoint=endpoint)
        mirror.sync(timeout=120)
        mirror.run("check", "--read-data", timeout=120)
        assert len(mirror.snapshots()) == 1
    assert any("partNumber" in key for key in told)


@objects
@pytest.mark.parametrize("way", ["certificate", "proxy"])
def test_what_files_are_reached_by_the_lease_is_reached_by_too(
    service: Service,
    store: str,
    mirror: Mirror,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """A certificate of one's own authority, which the system trusts; a proxy that the environment names."""
    context, seen = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), set[str]()
    context.load_cert_chain(authority.certificate, authority.key)
    with tampered(service, lambda method, *_: seen.add(method), context if way == "certificate" else None) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        endpoint = proxy if way == "certificate" else "http://127.0.0.1:9"
        there = Objects(parse_address(f"s3://{store}"), S3(**service.use(mirror, store, endpoint=endpoint).settings["s3"]))
        assert there.create("probe/one", b"ours")
        assert there.within("PUT", "probe/two", timedelta(seconds=30), b"ours")
        assert there.get("probe/two") == b"ours"
        assert clock.now() - there.now() < timedelta(minutes=5)
        there.close()
    assert seen == {"GET", "HEAD", "PUT"}


#: some of the requests of which the first two are cut
CUT = {("PUT", "probe"), ("DELETE", "probe"), ("PUT", "lease"), ("PUT", "blobs"), ("PUT", "snapshots"), ("GET", "blobs")}
#: and some that are not: the lock is kept for a minute then, as it is after a deletion
WAITS = {("PUT", "syncing"), ("PUT", "swept")}


@objects
def test_connections_that_are_cut_are_no_failure(
    mirror: Mirror, tmp_path: Path, service: Service, store: str, upstream: Upstream
) -> None:
    """A service that is restarted, or ends a connection that it finds idle, in the moment in which it is used."""
    lock, seen = threading.Lock(), Counter[tuple[str, str]]()

    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        kind = method, path.partition(f"/{store}/")[2].partition("/")[0].partition("?")[0]
        with lock:
            seen[kind] += 1
            return -1 if seen[kind] <= 2 and kind not in WAITS else None

    with tampered(service, tamper) as endpoint:
        service.use(mirror, store, endpoint=endpoint)
        mirror.sync(timeout=120)
        mirror.run("check", "--read-data", timeout=120)
        mirror.run("gc", "--grace", "0s", timeout=120)
        another = machine(tmp_path / "another", service, store, upstream)
        service.use(another, store, endpoint=endpoint)
        another.write()
        assert seen.keys() >= CUT
        seen.clear()
        with server(another.config) as (url, _):
            assert requests.get(f"{url}/current/chan/noarch/lib-1.0-0.conda", timeout=60).status_code == 200


@objects
def test_a_connection_that_is_cut_while_the_process_is_stopped_is_no_failure(
    mirror: Mirror, service: Service, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than something is tried again."""
    monkeypatch.setattr(remote_objects, "_PATIENCE", 0.2)
    seen: list[str] = []

    def tamper(method: str, path: str, headers: dict[str, str]) -> int | None:
        seen.append(method)
        time.sleep(1 if len(seen) == 1 else 0)
        return -1 if len(seen) == 1 else None

    with tampered(service, tamper) as endpoint:
        there = Objects(parse_address(f"s3://{store}"), S3(**service.use(mirror, store, endpoint=endpoint).settings["s3"]))
        assert there.create("probe/one", b"ours")
        there.close()
    assert seen == ["PUT", "PUT"]


@objects
def test_a_clock_that_is_wrong_is_said_before_anything_is_written(mirror: Mirror, service: Service, store: str) -> None:
    mirror.sync()
    address = parse_address(mirror.settings["store"])
    before = service.keys(store, "snapshots/")
    settings, cache = S3(**mirror.settings["s3"]), Path(mirror.settings["cache"])
    with RemoteStore.open_remote(address, settings, cache, write=True, now=_twenty_minutes_ahead) as ahead:
        said = r"this machine's clock is 0:(19|20):\d+.* ahead of the service's; set it right"
        with pytest.raises(ObjectError, match=said), ahead.lock(None):
            pass
    assert service.keys(store, "snapshots/") == before
    mirror.sync()


def _twenty_minutes_ahead() -> datetime:
    return clock.now() + timedelta(minutes=20)


@objects
def test_listings_of_many_pages_are_read_to_their_end(mirror: Mirror, service: Service, store: str) -> None:
    objects = Objects(parse_address(f"s3://{store}"), S3(**mirror.settings["s3"]))
    keys = [f"many/{number:05d}" for number in range(2345)]
    for _ in objects.threads.map(lambda key: objects.put(key, b""), keys):
        pass
    assert [one.key for one in objects.list("many")] == keys
    assert [one.key for one in objects.list("many", after="many/02000")] == keys[2001:]
    objects.close()
