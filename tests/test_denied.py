"""`deny`, `allow`, `denied`: what the operator denies is handed out of no snapshot, and published in no later one."""

import hashlib
import io
import json
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from channels import Channel, make_package
from mirror import TIMEOUT, Mirror, Result
from pypi_index import JSON, Index, make_wheel
from serving import serving
from upstream import Body, Call, Upstream
from waiting import eventually

from snapmirror.cli import main
from snapmirror.conda import Conda, Sidecars
from snapmirror.ecosystem import Ecosystem
from snapmirror.files import Files
from snapmirror.pypi import Pypi, PypiRepo
from snapmirror.store.denied import DeniedFile, Rule, reasons
from snapmirror.store.store import Store
from snapmirror.sync.live import LiveMetadata
from snapmirror.transfer.http import Http
from snapmirror.transfer.notes import StoreNotes
from snapmirror.transfer.settings import Download

DAY = "2026-11-01"
REASON = "malware, see advisory 7"
GOOD, BAD, LATER = "tool-1.0-0.conda", "tool-1.2-0.conda", "tool-1.2-1.conda"


class Here(Mirror):
    """A mirror whose command line runs in this process: to start another takes longer than most of what is done here."""

    def run(self, *arguments: str, status: int | None = 0, timeout: float = TIMEOUT) -> Result:
        """See Mirror.run."""
        self.write()
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["snapmirror", *arguments, "--config", str(self.config)])
            patch.setenv("SNAPMIRROR_DEBUG", "1")
            patch.setenv("NO_PROXY", "127.0.0.1")
            code = 0
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        result = Result(code, out.getvalue(), err.getvalue())
        assert status in (None, code), f"exit status {code}, not {status}\n{result.out}\n{result.err}"
        return result


@pytest.fixture
def mirror(tmp_path: Path, upstream: Upstream, channel: Channel) -> Mirror:
    """A mirror of that channel, not synced yet."""
    made = Here(tmp_path / "mirror")
    made.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    return made


@pytest.fixture
def channel(upstream: Upstream) -> Channel:
    """`tool` in two versions, and `lib`."""
    made = Channel(upstream.root / "chan")
    made.add(make_package("tool"), make_package("tool", "1.2"), make_package("lib"))
    made.publish()
    return made


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """`evil` with two wheels of 1.2, which have the same metadata, and `six`."""
    with Index(tmp_path / "index") as made:
        made.root.mkdir()
        made.wheel("evil", "1.0")
        file, content, metadata = make_wheel("evil", "1.2")
        made.upload("evil", file, content, metadata)
        made.upload("evil", "evil-1.2-py3-none-linux_x86_64.whl", content + b"other", metadata)
        made.wheel("six", "1.0")
        yield made


@pytest.fixture
def pypi(tmp_path: Path, index: Index) -> Mirror:
    """A mirror of that index, not synced yet."""
    made = Here(tmp_path / "pypi")
    made.repos.append({"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "projects": "all"})
    return made


def history(mirror: Mirror) -> str:
    """Seal a snapshot of a day in the past, pin it, and seal the present; the id of the first."""
    mirror.sync("--seal-as", DAY)
    mirror.run("pin", "paper", DAY)
    mirror.sync()
    return mirror.snapshots()[0]


def deny(mirror: Mirror, repo: str, spec: str, reason: str = REASON) -> str:
    """Deny; what was said."""
    return mirror.run("deny", repo, spec, "--reason", reason).err


def status(url: str) -> int:
    return requests.get(url, timeout=20).status_code


def refused(urls: Collection[str], reason: str = REASON) -> None:
    """Wait until the first is refused, and see that all are, with the reason."""
    first, *_ = urls
    eventually(lambda: status(first) == 403)
    for url in urls:
        answer = requests.get(url, timeout=20)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (403, "no-store"), url
        assert reason in answer.text, url


# What each ecosystem makes of a text


@pytest.mark.parametrize(
    ("ecosystem", "spec", "text", "leaf", "covered"),
    [
        (Conda(), "tool", "tool", "tool", {GOOD, BAD, LATER, "tool-1.2.1-0.tar.bz2"}),
        (Conda(), "Tool", "tool", "tool", {GOOD, BAD, LATER, "tool-1.2.1-0.tar.bz2"}),
        (Conda(), "tool==1.2", "tool==1.2", "tool", {BAD, LATER}),
        (Conda(), "tool == 1.2.0", "tool==1.2.0", "tool", {BAD, LATER}),
        (Conda(), "tool=1.2", "tool=1.2", "tool", {BAD, LATER, "tool-1.2.1-0.tar.bz2"}),
        (Conda(), BAD, BAD, "tool", {BAD}),
        (Conda(), "other==1.2", "other==1.2", "tool", set()),
        (Sidecars(), f"noarch/{BAD}.sig", f"noarch/{BAD}.sig", "noarch/tool", {f"noarch/{BAD}.sig"}),
        (Files(), "old/a.sh", "old/a.sh", "old/a.sh", {"old/a.sh"}),
        (Files(), "/old/a.sh", "old/a.sh", "old/a.sh", {"old/a.sh"}),
        (
            Pypi(),
            "Foo.Bar",
            "foo-bar",
            "foo-bar",
            {"foo_bar-1.2-py3-none-any.whl", "foo_bar-1.2.0.tar.gz", "foo.bar-1.3.zip"},
        ),
        (Pypi(), "foo_bar==1.2", "foo-bar==1.2", "foo-bar", {"foo_bar-1.2-py3-none-any.whl", "foo_bar-1.2.0.tar.gz"}),
        (Pypi(), "foo_bar-1.2.0.tar.gz", "foo_bar-1.2.0.tar.gz", "foo-bar", {"foo_bar-1.2.0.tar.gz"}),
    ],
)
def test_what_a_text_names(ecosystem: Ecosystem, spec: str, text: str, leaf: str, covered: set[str]) -> None:
    files = {GOOD, BAD, LATER, "tool-1.2.1-0.tar.bz2", f"noarch/{BAD}.sig", "old/a.sh", "a.sh"}
    files |= {"foo_bar-1.2-py3-none-any.whl", "foo_bar-1.2-py3-none-any.whl.metadata", "foo_bar-1.2.0.tar.gz"}
    files |= {"foo.bar-1.3.zip"}
    files = {file for file in files if ecosystem.leaf_of(file) == leaf}
    naming = ecosystem.naming(spec)
    assert naming.text == text
    assert {file for file in files if naming.text == file or naming.covers(leaf, file)} == covered
    assert not any(naming.covers("another", file) for file in files - {naming.text})


@pytest.mark.parametrize(
    ("ecosystem", "spec"),
    [
        (Conda(), "tool>=1"),
        (Conda(), ""),
        (Conda(), f"noarch/{BAD}"),
        (Conda(), "a tool"),
        (Pypi(), "foo>=1"),
        (Pypi(), "foo==1.*"),
        (Pypi(), "foo-1.0-py3-none-any.whl.metadata"),
        (Pypi(), "a/b.whl"),
        (Files(), "../a"),
        (Files(), ""),
    ],
)
def test_what_names_nothing(ecosystem: Ecosystem, spec: str) -> None:
    with pytest.raises(ValueError, match="write"):
        ecosystem.naming(spec)


# Channels


def test_a_version_of_a_package(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    first = history(mirror)
    selectors = ["current/", f"{DAY}/", f"{first}/", "paper/", ""]
    with serving(mirror.store_path) as url:
        files = [f"{url}/{selector}chan/noarch/{BAD}" for selector in selectors]
        assert {status(file) for file in files} == {200}
        sealed = {name: requests.get(f"{url}/{first}/chan/noarch/{name}", timeout=20).content for name in DOCUMENTS}
        assert "denied tool==1.2 of chan: 1 file in 2 snapshots" in deny(mirror, "chan", "tool==1.2")
        refused(files)
        assert status(f"{url}/current/chan/noarch/{GOOD}") == 200

        channel.add(make_package("tool", "1.2", "1"))  # after the rule
        channel.publish()
        upstream.clear()
        assert "withheld" not in mirror.sync().err
        assert mirror.listed("chan/noarch") == {GOOD, "lib-1.0-0.conda"}
        assert f"/chan/noarch/{LATER}" not in upstream.paths()
        repodata = f"{url}/current/chan/noarch/repodata.json"
        left = {GOOD, "lib-1.0-0.conda"}
        eventually(lambda: requests.get(repodata, timeout=20).json()["packages.conda"].keys() == left)
        assert status(f"{url}/current/chan/noarch/{LATER}") == 404
        refused(files)
        same = {name: requests.get(f"{url}/{first}/chan/noarch/{name}", timeout=20).content for name in DOCUMENTS}
        assert same == sealed

        before = mirror.directories()
        upstream.clear()
        mirror.sync()
        assert mirror.directories() == before
        asked = {request.path: request.status for request in upstream.requests}
        assert asked["/chan/noarch/repodata.json.zst"] == 304

        mirror.run("gc", "--grace", "0s")
        mirror.run("check", "--read-data")
        assert mirror.listed("chan/noarch", first) == {GOOD, BAD, "lib-1.0-0.conda"}
        refused(files)

        assert "allowed tool==1.2 of chan" in mirror.run("allow", "chan", "tool==1.2").err
        eventually(lambda: {status(file) for file in files} == {200})
        mirror.sync()
        assert mirror.listed("chan/noarch") == {GOOD, BAD, LATER, "lib-1.0-0.conda"}
        assert mirror.run("denied").out == ""


DOCUMENTS = ("repodata.json", "repodata_shards.msgpack.zst")


def test_a_package_without_any_exception(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """It may be most of a channel: that less is listed is no accident of upstream's, but what upstream loses is one."""
    channel.add(*(make_package("tool", f"2.{number}") for number in range(9)))
    channel.publish()
    history(mirror)
    deny(mirror, "chan", "tool")
    channel.add(make_package("tool", "3.0"))
    channel.publish()
    upstream.clear()
    mirror.sync()
    assert mirror.listed("chan/noarch") == {"lib-1.0-0.conda"}
    assert "tool" not in mirror.shards("chan/noarch")
    assert not [path for path in upstream.paths() if "tool" in path]
    mirror.run("allow", "chan", "tool")
    mirror.sync()
    assert len(mirror.listed("chan/noarch")) == 13
    deny(mirror, "chan", BAD)
    for number in range(9):
        channel.remove(f"tool-2.{number}-0.conda")
    channel.publish()
    assert "lists 3 files, the newest snapshot 12" in mirror.sync(status=3).err


def test_what_a_channel_has_beside_follows(mirror: Mirror, channel: Channel) -> None:
    folder = channel.root / "noarch"
    exports = {file: {"weak": [file]} for file in (GOOD, BAD, "lib-1.0-0.conda")}
    (folder / "run_exports.json").write_text(json.dumps({"info": {}, "packages": {}, "packages.conda": exports}))
    (folder / f"{GOOD}.sig").write_bytes(b"good")
    (folder / f"{BAD}.sig").write_bytes(b"bad")
    (channel.root / "notices.json").write_text('{"notices": []}')
    mirror.repos[0]["sidecars"] = ["run_exports.json", "*.sig", "notices.json"]
    first = history(mirror)

    def beside(selector: str) -> tuple[set[str], set[str]]:
        reader = mirror.reader("chan/", selector)
        files = {file.name for _, content in reader.contents() for file in Sidecars().files(content)}
        document = json.loads(Sidecars().derive(reader, "noarch/run_exports.json"))
        return files, set(document["packages.conda"])

    whole = beside(first)
    assert whole == ({f"noarch/{GOOD}.sig", f"noarch/{BAD}.sig", "notices.json"}, set(exports))
    deny(mirror, "chan", BAD)
    assert "denied notices.json of chan: 1 file in 2 snapshots" in deny(mirror, "chan", "notices.json")
    mirror.sync()
    assert beside("current") == ({f"noarch/{GOOD}.sig"}, {GOOD, "lib-1.0-0.conda"})
    assert beside(first) == whole
    deny(mirror, "chan", f"noarch/{GOOD}.sig")
    mirror.sync()
    assert beside("current") == (set(), {GOOD, "lib-1.0-0.conda"})
    for spec in (BAD, "notices.json", f"noarch/{GOOD}.sig"):
        mirror.run("allow", "chan", spec)
    mirror.sync()
    assert beside("current") == whole


def test_the_same_bytes_in_another_repo(mirror: Mirror, channel: Channel) -> None:
    """They are no better there, nor for those who are sent elsewhere for them; a name is denied in one repo alone."""
    mirror.repos.append({**mirror.repos[0], "path": "again", "download": "redirect"})
    history(mirror)
    with serving(mirror.store_path) as url:
        files = [f"{url}/{selector}again/noarch/{BAD}" for selector in ("", f"{DAY}/")]
        assert {requests.get(file, timeout=20, allow_redirects=False).status_code for file in files} == {307}
        deny(mirror, "chan", "tool=1.2")
        refused(files)
        channel.add(make_package("tool", "1.2", "1"))
        channel.publish()
        mirror.sync()
        assert mirror.listed("again/noarch") == {GOOD, LATER, "lib-1.0-0.conda"}
        assert mirror.listed("chan/noarch") == {GOOD, "lib-1.0-0.conda"}
        eventually(lambda: requests.get(f"{url}/again/noarch/{LATER}", timeout=20, allow_redirects=False).status_code == 307)


def test_a_sync_that_has_begun_before_the_rule(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """It publishes what it has planned; the rule then stands for that too."""
    mirror.sync()
    channel.add(make_package("tool", "1.2", "1"))
    channel.publish()
    asked, denied = threading.Event(), threading.Event()
    upstream.fault(f"*{LATER}", Call(asked.set), Call(lambda: denied.wait(30)), times=1)
    running = mirror.start("sync")
    assert asked.wait(30)
    said = deny(mirror, "chan", "tool==1.2")
    denied.set()
    assert "1 file in 1 snapshot" in said
    assert mirror.finish(running).status == 0
    assert LATER in mirror.listed("chan/noarch")
    with serving(mirror.store_path) as url:
        refused([f"{url}/current/chan/noarch/{LATER}", f"{url}/current/chan/noarch/{BAD}"])
    (rule,) = mirror.run("denied", "--json").json["denied"]
    assert [file["name"] for file in rule["files"]] == [BAD, LATER]


def test_names_as_channels_write_them(mirror: Mirror, channel: Channel) -> None:
    """In any case, and of files whose record states another name than theirs; what is invalid of it is nobody's business."""
    odd, late = make_package("odd"), make_package("odd", "2.0")
    channel.add(replace(odd, record=odd.record | {"name": "other"}), make_package("MyPkg"))
    channel.publish()
    first = history(mirror)
    assert "1 file in 2 snapshots" in deny(mirror, "chan", "odd-1.0-0.conda")
    for spec in ("mypkg", "odd-2.0-0.conda", "third==1.0", "tool==1.2"):
        deny(mirror, "chan", spec)
    channel.add(replace(late, record=late.record | {"name": "other"}), make_package("Third"), make_package("Third", "2.0"))
    channel.add(make_package("tool", "1.2", "1"), make_package("lib", "2.0"))
    for file in (LATER, "lib-2.0-0.conda"):
        channel.hotfix(file, size=-1)
    channel.publish()
    mirror.sync(status=3)
    assert mirror.listed("chan/noarch") == {GOOD, "lib-1.0-0.conda", "Third-2.0-0.conda"}
    assert set(mirror.withheld("chan/noarch")) == {"lib-2.0-0.conda"}
    assert "odd-1.0-0.conda" in mirror.listed("chan/noarch", first)
    for spec in ("odd-1.0-0.conda", "odd-2.0-0.conda"):
        mirror.run("allow", "chan", spec)
    mirror.sync()
    assert {"odd-1.0-0.conda", "odd-2.0-0.conda"} < mirror.listed("chan/noarch")


def test_bytes_that_come_with_the_index_are_not_stored(mirror: Mirror, channel: Channel) -> None:
    mirror.repos[0]["sidecars"] = ["*.sig"]
    (channel.root / "noarch" / f"{GOOD}.sig").write_bytes(b"good")
    (channel.root / "noarch" / f"{BAD}.sig").write_bytes(b"bad")
    Store.create(mirror.store_path)
    deny(mirror, "chan", hashlib.sha256(b"bad").hexdigest())
    mirror.sync()
    blobs = {path.name for path in (mirror.store_path / "blobs").glob("*/*")}
    assert hashlib.sha256(b"good").hexdigest() in blobs
    assert hashlib.sha256(b"bad").hexdigest() not in blobs


# Package indexes


class Pages:
    """What pages list."""

    def __init__(self, url: str) -> None:
        self.url = url

    def json(self, project: str, selector: str = "current") -> dict[str, Any]:
        """{file: record} of a page; the page in HTML lists the same files, the API from before too."""
        page = f"{self.url}/{selector}/pypi/simple/{project}/"
        records = requests.get(page, headers={"Accept": JSON}, timeout=20).json()["files"]
        text = requests.get(page, headers={"Accept": "text/html"}, timeout=20).text
        assert text.count("<a ") == len(records)
        legacy = requests.get(f"{self.url}/{selector}/pypi/pypi/{project}/json", timeout=20).json()
        assert sum(map(len, legacy["releases"].values())) == len(records)
        return {record["filename"]: record for record in records}

    def projects(self, selector: str = "current") -> set[str]:
        listed = requests.get(f"{self.url}/{selector}/pypi/simple/", headers={"Accept": JSON}, timeout=20).json()
        return {project["name"] for project in listed["projects"]}

    def file(self, record: dict[str, Any], selector: str = "") -> str:
        """The address of a file: without a date, as pages have it, or below a selector."""
        return f"{self.url}/{selector}pypi/packages/{record['url'].partition('packages/')[2]}"


def test_a_version_of_a_project(pypi: Mirror, index: Index) -> None:
    first = history(pypi)
    with serving(pypi.store_path) as url:
        pages = Pages(url)
        whole = pages.json("evil", first)
        assert len(whole) == 3
        bad = [file for file in whole if "-1.2-" in file]
        files = [pages.file(whole[file], selector) for file in bad for selector in ("", "current/", f"{DAY}/", f"{first}/")]
        assert {status(file) for file in files} == {200}
        leaf = pypi.reader("pypi/", first).leaf("evil")
        assert "denied evil==1.2 of pypi: 2 files in 2 snapshots" in deny(pypi, "pypi", "Evil==1.2")
        refused(files)
        for selector in ("current", DAY, first, "paper"):
            assert set(pages.json("evil", selector)) == {"evil-1.0-py3-none-any.whl"}
        assert pypi.reader("pypi/", first).leaf("evil") == leaf

        index.upload("evil", "evil-1.2.tar.gz", b"sdist")
        index.wheel("evil", "1.3")
        index.clear()
        pypi.sync()
        assert not any("1.2" in path for path in index.paths())
        listed = {file.name for file in Pypi().files(pypi.reader("pypi/").read_leaf("evil") or b"")}
        assert listed == {f"evil-{v}-py3-none-any.whl{end}" for v in ("1.0", "1.3") for end in ("", ".metadata")}
        refused(files)
        assert set(pages.json("evil", first)) == {"evil-1.0-py3-none-any.whl"}
        pypi.run("gc", "--grace", "0s")
        pypi.run("check", "--read-data")

        index.clear()
        pypi.sync()
        assert index.asked() == ["the list 304"]
        pypi.run("allow", "pypi", "evil==1.2")
        pypi.sync()
        eventually(lambda: len(pages.json("evil")) == 5)
        assert pages.json("evil", first) == whole
        assert {status(file) for file in files} == {200}


def test_a_file_by_its_name(pypi: Mirror, index: Index) -> None:
    """The other files of the version stay as they are, with their metadata, though that is the same."""
    first = history(pypi)
    with serving(pypi.store_path) as url:
        pages = Pages(url)
        whole = pages.json("evil")
        one, other = "evil-1.2-py3-none-any.whl", "evil-1.2-py3-none-linux_x86_64.whl"
        assert whole[one]["core-metadata"] == whole[other]["core-metadata"]
        assert "1 file in 2 snapshots" in deny(pypi, "pypi", one)
        refused([pages.file(whole[one])])
        for _ in range(2):
            for selector in ("current", first):
                found = pages.json("evil", selector)
                assert found == {file: record for file, record in whole.items() if file != one}
            assert status(pages.file(whole[other])) == status(pages.file(whole[other]) + ".metadata") == 200
            pypi.sync()
        assert {file.name for file in Pypi().files(pypi.reader("pypi/").read_leaf("evil") or b"")} == {
            file + end for file in whole if file != one for end in ("", ".metadata")
        }


def test_what_was_read_because_somebody_asked(pypi: Mirror, index: Index) -> None:
    """As it is known now, as it was told of a date, and as it is just read when the rule is made: no sync has sealed it."""
    keys: dict[str, Any] = {"path": "pypi", "download": "on-demand", "metadata": "on-request"}
    keys["upstream"] = f"{index.url}/simple/"
    pypi.repos = [{"kind": "pypi", **keys}]
    pypi.sync()
    (date,) = pypi.snapshots()
    for record in index.pages["evil"]["files"]:
        record["upload-time"] = "2020-01-01T10:00:00Z"
    with (
        Store.open(pypi.store_path, write=True) as store,
        Http(Download(retries=0), print, StoreNotes(store)) as http,
    ):
        live = LiveMetadata(store, {"pypi": Pypi()}, [PypiRepo(**keys)], lambda: http)
        live.refresh("pypi", "evil")
        live.reconstruct("pypi", date, "evil")
        told = index.pages["evil"]["files"].pop(1)["filename"]
        live.refresh("pypi", "evil")
        rule = Rule(repo="pypi", spec="six", reason="", since="")
        index.fault("/simple/six/", Call(lambda: store.denied.write(rule)))
        live.refresh("pypi", "six")
    deny(pypi, "pypi", "evil==1.2")
    evil, six = pypi.run("denied", "--json").json["denied"]
    assert {file["name"] for file in evil["files"]} == {told, "evil-1.2-py3-none-linux_x86_64.whl"}
    assert "six-1.0-py3-none-any.whl" in {file["name"] for file in six["files"]}


def test_a_file_by_its_bytes(pypi: Mirror, index: Index) -> None:
    """Also under another name, in another project, and before there is such a file."""
    history(pypi)
    content = b"known to be bad"
    digest = hashlib.sha256(content).hexdigest()
    assert "no kept snapshot lists it" in deny(pypi, "pypi", digest.upper())
    index.upload("good", "good-1.0.tar.gz", content)
    index.wheel("good", "2.0")
    index.clear()
    pypi.sync()
    assert not any("good-1.0" in path for path in index.paths())
    with serving(pypi.store_path) as url:
        pages = Pages(url)
        assert set(pages.json("good")) == {"good-2.0-py3-none-any.whl"}
        pypi.run("allow", "pypi", digest)
        pypi.sync()
        eventually(lambda: len(pages.json("good")) == 2)
        assert "1 file in 1 snapshot" in deny(pypi, "pypi", digest)
        refused([f"{url}/pypi/packages/{path.partition('packages/')[2]}" for path in index.paths() if "good-1.0" in path])
        index.clear()
        pypi.sync()
        assert set(pages.json("good")) == {"good-2.0-py3-none-any.whl"}
        assert {file.name for file in Pypi().files(pypi.reader("pypi/").read_leaf("good") or b"")} == {
            "good-2.0-py3-none-any.whl",
            "good-2.0-py3-none-any.whl.metadata",
        }


def test_a_project(pypi: Mirror, index: Index) -> None:
    """It leaves the list; older snapshots list it, with nothing in it; what is uploaded later is not even asked for. Nor does
    it come back when upstream can't say anything of it at the moment.
    """
    first = history(pypi)
    with serving(pypi.store_path) as url:
        pages = Pages(url)
        files = [pages.file(record) for record in pages.json("evil").values()]
        assert "3 files in 2 snapshots" in deny(pypi, "pypi", "evil")
        refused(files)
        index.wheel("evil", "2.0")
        index.wheel("six", "2.0")
        index.clear()
        pypi.sync()
        assert index.asked() == ["six 200", "the list 200"]
        eventually(lambda: pages.projects() == {"six"})
        assert status(f"{url}/current/pypi/simple/evil/") == 404
        assert pages.projects(first) == {"six", "evil"}
        assert pages.json("evil", first) == {}
        refused(files)
    pypi.repos[0]["projects"] = ["evil", "six"]
    index.fault("/simple/evil/", Body(b"{"))
    pypi.sync()
    assert set(pypi.reader("pypi/").leaves) == {"six"}


# Folders of files


def listing(*names: str) -> Body:
    """A listing with nothing but names."""
    rows = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    return Body(f"<html><title>Index of /x/</title><h1>Index of /x/</h1><pre>{rows}</pre></html>".encode())


@pytest.fixture
def folder(tmp_path: Path, upstream: Upstream) -> Mirror:
    """A mirror of a folder of three files, of which no hash is stated."""
    (upstream.root / "x").mkdir()
    names = ("A.sh", "a.sh", "b.sh")
    for name in names:
        (upstream.root / "x" / name).write_text(name)
    upstream.fault("/x/", listing(*names))
    made = Here(tmp_path / "folder")
    made.add("x", f"{upstream.url}/x/", kind="files")
    return made


def test_a_path(folder: Mirror, upstream: Upstream) -> None:
    """And no other, however like it that is written."""
    first = history(folder)
    with serving(folder.store_path) as url:
        files = [f"{url}/{selector}x/a.sh" for selector in ("", "current/", f"{DAY}/", f"{first}/", "paper/")]
        assert "1 file in 2 snapshots" in deny(folder, "x", "a.sh")
        refused(files)
        upstream.clear()
        folder.sync()
        assert set(folder.reader("x/").leaves) == {"A.sh", "b.sh"}
        assert not any("a.sh" in path for path in upstream.paths())
        assert set(folder.reader("x/", first).leaves) == {"A.sh", "a.sh", "b.sh"}
        folder.run("allow", "x", "/a.sh")
        folder.sync()
        assert set(folder.reader("x/").leaves) == {"A.sh", "a.sh", "b.sh"}
        eventually(lambda: {status(file) for file in files} == {200})


def test_bytes_that_only_fetching_tells(folder: Mirror, upstream: Upstream) -> None:
    """Where upstream states no hash: never published; and what had the SHA-256 when it was denied is not fetched again."""
    history(folder)
    bad = hashlib.sha256(b"bad").hexdigest()
    deny(folder, "x", bad)
    deny(folder, "x", hashlib.sha256(b"a.sh").hexdigest())
    (upstream.root / "x" / "c.sh").write_bytes(b"bad")
    upstream.heal()
    upstream.fault("/x/", listing("a.sh", "b.sh", "c.sh"))
    upstream.clear()
    for _ in range(2):
        assert "withheld" not in folder.sync().err
        assert set(folder.reader("x/").leaves) == {"b.sh"}
    assert not [request for request in upstream.requests if request.path == "/x/a.sh" and request.sent]


# The verbs


def test_the_list(mirror: Mirror, pypi: Mirror) -> None:
    history(mirror)
    assert mirror.run("denied").out == ""
    assert mirror.run("denied", "--json").json == {"denied": []}
    assert "the reason was another" not in deny(mirror, "chan", "tool")
    (since,) = (rule["since"] for rule in mirror.run("denied", "--json").json["denied"])
    time.sleep(1.01)
    assert "the reason was another" in deny(mirror, "/chan/", "tool", "advisory 8")
    plain = hashlib.sha256(b"plain").hexdigest()
    (mirror.store_path / "denied" / f"{plain}.json").write_text('{"reason": "by hand"}')
    deny(mirror, "chan", "never==1")
    lines = mirror.run("denied").out.splitlines()
    assert lines[0] == f"any repo {plain}: by hand"
    assert lines[1].startswith("chan never==1 since 2")
    assert lines[1].endswith(f", 0 files: {REASON}")
    assert lines[2] == f"chan tool since {since}, 2 files: advisory 8"
    _, _, rule = mirror.run("denied", "--json").json["denied"]
    assert {file["name"] for file in rule.pop("files")} == {GOOD, BAD}
    assert rule == {"repo": "chan", "spec": "tool", "reason": "advisory 8", "since": since}

    mirror.repos.clear()  # a repo that is gone can be allowed still
    for spec in ("tool", "never==1", plain):
        mirror.run("allow", "chan", spec)
    assert mirror.run("denied").out == ""
    assert "is not denied by itself (denied of it: nothing)" in mirror.run("allow", "chan", "tool", status=2).err


def test_what_several_rules_deny(mirror: Mirror) -> None:
    history(mirror)
    deny(mirror, "chan", "tool")
    deny(mirror, "chan", BAD)
    assert "denied of it: tool, tool-1.2-0.conda" in mirror.run("allow", "chan", "tool==1.2", status=2).err
    assert "1 file of it stays denied: tool-1.2-0.conda of chan is" in mirror.run("allow", "chan", "tool").err
    mirror.sync()
    assert mirror.listed("chan/noarch") == {GOOD, "lib-1.0-0.conda"}


def test_of_several_reasons_one_is_told() -> None:
    file = DeniedFile(sha256="0" * 64)
    said = [Rule(repo="chan", spec=spec, reason=spec, since="", files=(file,)) for spec in ("", "one", "", "two")]
    assert reasons(said) == {"0" * 64: "one"}


def test_what_cannot_be_meant(mirror: Mirror) -> None:
    mirror.sync()
    for arguments, problem in (
        (["deny", "other", "tool", "--reason", "x"], "other: no such repo is configured or in a snapshot (there are: chan)"),
        (["deny", "chan", "tool>=1", "--reason", "x"], "'tool>=1' names nothing that can be denied: write a package's name"),
        (["deny", "chan", "noarch/tool-1.0-0.conda", "--reason", "x"], "without a folder"),
        (["deny", "chan", "tool", "--reason", " "], "--reason: write one line of text"),
        (["deny", "chan", "tool", "--reason", "a\nb"], "--reason: write one line of text"),
        (["deny", "chan", "tool"], "--reason"),
        (["allow", "other", "tool"], "other: no such repo"),
        (["allow", "chan", "tool"], "tool of chan is not denied by itself (denied of it: nothing)"),
    ):
        assert problem in " ".join(mirror.run(*arguments, status=2).err.replace("│", " ").split()), arguments
    assert not list((mirror.store_path / "denied").iterdir())


def test_before_the_first_sync_and_after_the_last(mirror: Mirror, channel: Channel) -> None:
    """The rule is for the future; that of a repo that is no longer configured stays in force for what is kept of it."""
    mirror.run("deny", "chan", "tool", "--reason", REASON, status=1)  # no store yet
    mirror.sync("--seal-as", DAY)
    assert "no kept snapshot lists it; it is left out when upstream does" in deny(mirror, "chan", "never")
    deny(mirror, "chan", "lib")
    mirror.repos[0]["path"] = "moved"
    mirror.sync()
    assert "1 file in 1 snapshot" in deny(mirror, "chan", BAD)
    with serving(mirror.store_path) as url:
        refused([f"{url}/{DAY}/chan/noarch/{BAD}", f"{url}/{DAY}/chan/noarch/lib-1.0-0.conda"])


def test_a_snapshot_that_cannot_be_read(mirror: Mirror, channel: Channel) -> None:
    """That is said; what the others list is denied all the same."""
    first = history(mirror)
    channel.add(make_package("tool", "1.2", "1"))
    channel.publish()
    mirror.sync()
    digest = mirror.record(first).repos["chan"].directories["noarch"].digest
    next((mirror.store_path / "blobs").rglob(digest)).unlink()
    said = mirror.run("deny", "chan", "tool==1.2", "--reason", REASON, status=5)
    said.line("chan", digest, "what it lists may still be handed out")
    said.line("denied tool==1.2 of chan: 2 files in 1 snapshot")


def test_a_rule_that_cannot_be_read(mirror: Mirror) -> None:
    """What it denies is not known, so nothing is published, and what serves goes on with what it knew."""
    first = history(mirror)
    deny(mirror, "chan", BAD)
    (rule,) = (mirror.store_path / "denied").iterdir()
    with serving(mirror.store_path) as url:
        assert status(f"{url}/{first}/chan/noarch/{BAD}") == 403
        whole = rule.read_bytes()
        rule.write_bytes(whole[:20])
        (mirror.store_path / "denied" / "other").touch()
        before = mirror.snapshots()
        assert f"denied/{rule.name}: can't be read" in mirror.sync(status=5).err
        assert f"denied/{rule.name}" in mirror.run("check", status=5).out
        assert mirror.snapshots() == before
        time.sleep(1)
        assert status(f"{url}/{first}/chan/noarch/{BAD}") == 403
        rule.write_bytes(whole)
        mirror.sync()
        mirror.run("check")
