"""Configurations, stores, locks and credentials: what is refused, in which words, and what never leaks."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channels import Channel, make_package
from mirror import Mirror
from upstream import Body, Call, Html, Redirect, Status, Truncate, Upstream
from waiting import eventually

from snapmirror.cli.config import load
from snapmirror.errors import ConfigError

REPO = '[[repo]]\nkind = "conda"\npath = "chan"\nupstream = "http://127.0.0.1:9/chan"\n'
OTHER = '[[repo]]\nkind = "conda"\nupstream = "http://127.0.0.1:9/other"\n'


CONFIGURATIONS = [
    ("stroe = 5", ["line 1", "stroe", "did you mean store"]),
    ("[download]\nretires = 5", ["line 2", "[download]", "retires", "did you mean retries"]),
    ("[downloads]\nretries = 5", ["line 1", "downloads", "did you mean download"]),
    ("[serve]\nport = 80\n[download]\nport = 80", ["snapmirror.toml, [download]: unknown key 'port'"]),  # line 2 has a good one
    (f'{REPO}subdir = ["linux-64"]', ["line 5", "[[repo]] number 1", "subdir", "did you mean subdirs"]),
    ("[download]\nretries = 'many'", ["[download], key retries", "int", "str"]),
    ("[download]\nconnect_timeout = '5 parsecs'", ["5 parsecs", "write for example"]),
    ('[[repo]]\nkind = "conda"\npath = "a"\nupstream = "http://[::1/a"\n', ["[[repo]] number 1", "upstream can't be used"]),
    ("[download]\nmin_free = 'much'", ["min_free", "write for example"]),
    ("[download]\nbandwidth = '0'", ["[download]", "bandwidth", "empty for no limit"]),
    ("[serve]\npublic_url = 'http://[::1'", ["[serve]", "public_url", "http://[::1"]),
    ("[serve]\nhost = ''", ["[serve]", "host is empty", "0.0.0.0"]),
    ("[retention]\ndaily = -1", ["[retention]", "negative", "to keep every snapshot"]),
    (f'{REPO}subdirs = "linux-64"', ["[[repo]] number 1, key subdirs", "array", "str"]),
    (f'{REPO}subdirs = ["linux-64/../../x"]', ["linux-64/../../x", "no subdir"]),
    (f'{REPO}subdirs = ["../noarch"]', ["../noarch", "no subdir"]),
    (f'{REPO}subdirs = ["/etc"]', ["/etc", "no subdir"]),
    (f'{REPO}subdirs = [""]', ["no subdir"]),
    (f'{REPO}subdirs = ["linux-64\\n"]', ["no subdir"]),
    (REPO.replace('"chan"', '"../chan"'), ["number 1", "path"]),
    (REPO.replace('"chan"', '"/chan"'), ["number 1", "path"]),
    (REPO.replace('"chan"', '""'), ["number 1", "path"]),
    (REPO.replace('"chan"', '"current/chan"'), ["path", "current", "reserved"]),
    (REPO.replace('"chan"', '"2026-11-20"'), ["path", "2026-11-20", "names a date"]),
    (REPO.replace("http:", "ftp:"), ["number 1", "upstream", "https://"]),
    (REPO.replace('"http://127.0.0.1:9/chan"', "[]"), ["number 1", "upstream"]),
    (REPO.replace('"http://127.0.0.1:9/chan"', '[""]'), ["number 1", "upstream lists an empty URL", "https://"]),
    (REPO.replace('"conda"', '"rpm"'), ["number 1, key kind", "'rpm'", "'conda', 'files', 'pypi'"]),
    (f'{REPO}download = "lazy"', ["number 1, key download", "'lazy'", "'eager', 'on-demand', 'redirect'"]),
    (REPO.replace('path = "chan"\n', ""), ["number 1", "path"]),
    (REPO + REPO, ["two repos", "path chan"]),
    (f'{REPO}{OTHER}path = "chan/noarch"', ["chan/noarch", "directory of the repo chan"]),
    (f'{REPO}subdirs = ["linux-64"]\n{OTHER}path = "chan/linux-64"', ["chan/linux-64", "directory of the repo chan"]),
    (f'{REPO}{OTHER}path = "chan/noarch/more"', ["chan/noarch", "chan"]),
    (f'{REPO}[publish]\ntrees = ["chan/"]', ["[publish]", "trees has 'chan/'", "without a slash"]),
    (f'{REPO}[serve.auth.ci]\nsha256 = "{"0" * 64}"\nrepos = ["chan/"]', ["[serve]", "repos has 'chan/'", "without a slash"]),
    ('store = "s3://bucket"\n[serve]\naccel = "/internal/"', ["[serve], key accel", "a store on a disk only"]),
    ("store = [", ["not TOML"]),
    ("store = 'gs://bucket/conda'", ["key store", "gs://bucket/conda", "path of its folder, or s3://"]),
]


@pytest.mark.parametrize(("text", "says"), CONFIGURATIONS)
def test_configuration_that_cannot_be_meant_is_refused_with_what_would_be_right(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    path = tmp_path / "snapmirror.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert [part for part in says if part not in str(caught.value)] == []


@pytest.mark.parametrize("verb", ["sync", "snapshots", "gc"])
def test_refused_configuration_changes_nothing(tmp_path: Path, verb: str) -> None:
    mirror = Mirror(tmp_path)
    mirror.config.write_text("stroe = 5")
    result = mirror.run_bare(verb, "-c", str(mirror.config))
    assert result.status == 2
    result.line(str(mirror.config), "line 1", "stroe", "did you mean store")
    assert not mirror.store_path.exists()


def test_missing_configuration_is_named(mirror: Mirror) -> None:
    nowhere = str(mirror.root / "nowhere.toml")
    result = mirror.run_bare("sync", "--config", nowhere)
    assert (result.status, nowhere in result.err, "snapmirror init" in result.err) == (2, True, True)
    mirror.env["SNAPMIRROR_CONFIG"] = nowhere
    assert nowhere in mirror.run_bare("snapshots").err
    mirror.write()
    result = mirror.run_bare("sync", "unknown", "-c", str(mirror.config))
    assert (result.status, "unknown" in result.err, "chan" in result.err) == (2, True, True)


def test_an_empty_host_is_not_every_address(mirror: Mirror) -> None:
    mirror.run("serve", "--host", "", "--port", "0", status=2).line("host is empty")  # of a variable that is not set


def test_name_that_means_something_else_can_be_no_pin(mirror: Mirror) -> None:
    mirror.sync()
    for name, says in {"current": "reserved", "chan": "a repo's path begins with it", "Paper": "lower-case"}.items():
        mirror.run("pin", name, "current", status=2).line(f"'{name}' can't be a pin", says)


@pytest.mark.parametrize("address", ["http://[::1", "http://mirror:80a", "http://", "ftp://mirror"])
def test_an_address_that_no_server_can_have(mirror: Mirror, address: str) -> None:
    mirror.run_bare("init", str(mirror.root / "made"))
    mirror.settings["store"] = str(mirror.root / "made" / "store")
    for arguments in (
        ["replicate", address],
        ["check", "--repair", "--from", address],
        ["client", "conda", "--base-url", address],
        ["client", "conda", "--was", address],
        ["migrate", str(mirror.root / "made" / "store"), address],
    ):
        mirror.run(*arguments, status=2)
    assert mirror.run_bare("verify", address, "--key", "none").status == 2


# Credentials

SECRET = "tk-s3cr3t-of-36-characters-or-some-more"


#: folders of tokens
PLACES = {"token": "/t", "token below a folder": "/api/repo/t"}


def served_with(upstream: Upstream, mirror: Mirror, how: str) -> str:
    """Make the upstream want credentials; the URL that brings them, unless netrc does."""
    if place := PLACES.get(how):
        folder = upstream.root / place.removeprefix("/")
        folder.mkdir(parents=True)
        (folder / SECRET).symlink_to(upstream.root)
        return f"{upstream.url}{place}/{SECRET}"
    upstream.credentials = ("user", SECRET)
    if how == "netrc":
        (mirror.root / "netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
        (mirror.root / "netrc").chmod(0o600)
        return upstream.url
    return upstream.url.replace("://", f"://user:{SECRET}@")


def leaks(mirror: Mirror) -> list[str]:
    """Files and file names of the store that hold the secret."""
    found = []
    for path in mirror.store_path.rglob("*"):
        if SECRET in path.name or (path.is_file() and SECRET.encode() in path.read_bytes()):
            found.append(str(path))
    return found


@pytest.mark.parametrize("how", ["user", *PLACES, "netrc"])
def test_credentials_are_used_and_neither_stored_nor_printed(
    mirror: Mirror, channel: Channel, upstream: Upstream, how: str
) -> None:
    channel.variants = ("json", "shards")
    channel.publish()
    url = served_with(upstream, mirror, how)
    faults: dict[str, tuple[str, Any]] = {
        "index-down": ("/index-down/*", Status(500)),
        "index-html": ("/index-html/*", Html()),
        "index-cut": ("/index-cut/*", Truncate(5)),
        "index-forbidden": ("/index-forbidden/*", Status(403)),
        "index-circles": ("/index-circles/*", Redirect("/index-circles/noarch/repodata.json")),
        "file-down": ("/file-down/*.conda", Status(500)),
        "file-cut": ("/file-cut/*.conda", Truncate(5)),
        "file-altered": ("/file-altered/*.conda", Body(b"other")),
        "file-absent": ("/file-absent/*.conda", Status(404)),
    }
    prefix = f"{PLACES[how]}/{SECRET}" if how in PLACES else ""
    for name, (pattern, fault) in faults.items():
        made = Channel(upstream.root / name, variants={"json"})
        made.add(make_package(name))
        made.publish()
        mirror.add(name, f"{url}/{name}")
        upstream.fault(prefix + pattern, fault)
    mirror.repos[0]["upstream"] = f"{url}/chan"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mirror.add("refused", [f"http://user:{SECRET}@127.0.0.1:{unused.getsockname()[1]}/chan", f"{url}/chan"])
        result = mirror.sync(status=3)
    for text in (result.out, result.err, mirror.run("show", "current", "--json").out, mirror.sync("--json", status=3).out):
        assert SECRET not in text
    for name in faults:
        result.line(name)
    assert mirror.listed("chan/noarch") == mirror.listed("refused/noarch") == {"lib-1.0-0.conda", "data-1.0-0.tar.bz2"}
    mirror.published()
    assert leaks(mirror) == []


@pytest.mark.parametrize("how", ["user", *PLACES, "netrc"])
def test_credentials_reach_files_that_the_index_puts_elsewhere_on_the_same_host(
    mirror: Mirror, channel: Channel, upstream: Upstream, how: str
) -> None:
    url = served_with(upstream, mirror, how)
    mirror.repos[0]["upstream"] = f"{url}/chan"
    for number, target in enumerate(["../files/", "../../files/"]):
        package = make_package(f"far{number}")
        channel.add(package)
        channel.hotfix(package.filename, url=f"{target}{package.filename}")
        place = upstream.root / "chan" / "noarch" / target / package.filename
        place.parent.mkdir(exist_ok=True)
        (upstream.root / "chan/noarch" / package.filename).rename(place)
    channel.publish()
    mirror.sync()
    assert {"far0-1.0-0.conda", "far1-1.0-0.conda"} <= mirror.listed("chan/noarch")
    mirror.published()
    assert leaks(mirror) == []


def test_credentials_are_not_sent_to_another_host(mirror: Mirror, channel: Channel, upstream: Upstream, tmp_path: Path) -> None:
    mirror.repos[0]["upstream"] = served_with(upstream, mirror, "user") + "/chan"
    (tmp_path / "elsewhere").mkdir()
    with Upstream(tmp_path / "elsewhere") as elsewhere:
        channel.info["base_url"] = f"{elsewhere.url}/"
        package = make_package("far")
        channel.files = elsewhere.root
        for listed in (make_package("lib"), make_package("data", ext=".tar.bz2"), package):
            channel.add(listed)
            (elsewhere.root / "noarch" / listed.filename).rename(elsewhere.root / listed.filename)
        tool = make_package("tool", subdir="linux-64", depends=["lib"])
        (elsewhere.root / tool.filename).write_bytes(tool.data)
        channel.publish()
        mirror.sync()
        assert len(elsewhere.requests) == 4
        assert [one for one in elsewhere.requests if "authorization" in one.headers] == []
    mirror.published()
    assert leaks(mirror) == []


def test_wrong_credentials_are_said_to_be_the_problem(mirror: Mirror, upstream: Upstream) -> None:
    mirror.repos[0]["upstream"] = upstream.url.replace("://", f"://user:{SECRET}@") + "/chan"
    upstream.credentials = ("user", "another")
    result = mirror.sync(status=1)
    result.line("chan", f"{upstream.url}/chan/", "401", "credentials")
    assert SECRET not in result.err + result.out
    assert mirror.snapshots() == []


# Stores

VERBS: list[list[str]] = [["sync"], ["sync", "--dry-run"], ["snapshots"], ["show", "current"], ["gc"]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"format": 99, "created": "20260101T000000Z"}', ["99", "upgrade"]),
        (b'{"format": "1"}', ["'1'", "upgrade"]),
        (b"{}", ["None", "upgrade"]),
        (b"[1]", ["can't be read"]),
        (b"", ["can't be read"]),
        (b"\xff\xfe", ["can't be read"]),
        (b'{"format": "\xff"}', ["can't be read"]),
    ],
)
def test_store_of_an_unknown_format_is_left_alone(mirror: Mirror, content: bytes, says: list[str]) -> None:
    mirror.sync()
    mark = mirror.store_path / "snapmirror.json"
    mark.write_bytes(content)
    before = sorted((path, path.lstat().st_mtime_ns) for path in mirror.store_path.rglob("*"))
    for verb in VERBS if content.startswith(b'{"format": 99') else VERBS[:1]:
        mirror.run(*verb, status=1).line(str(mirror.store_path), *says)
    assert sorted((path, path.lstat().st_mtime_ns) for path in mirror.store_path.rglob("*")) == before


def test_folder_that_holds_something_else_is_no_store(mirror: Mirror, upstream: Upstream) -> None:
    mirror.store_path.mkdir()
    (mirror.store_path / "thesis.txt").write_text("precious")
    mirror.sync(status=1).line(str(mirror.store_path), "neither a store", "nor empty")
    assert [path.name for path in mirror.store_path.iterdir()] == ["thesis.txt"]
    (mirror.store_path / "thesis.txt").unlink()
    mirror.sync().line(str(mirror.store_path), "created")
    mirror.store_path.rename(mirror.root / "moved")
    mirror.store_path.write_text("a file")
    mirror.sync(status=1).line(str(mirror.store_path))


def test_the_folder_of_an_index_that_lies_elsewhere_is_made(mirror: Mirror) -> None:
    mirror.settings["index"] = str(mirror.root / "local" / "index.lmdb")
    mirror.sync()
    assert (mirror.root / "local" / "index.lmdb").exists()
    assert not (mirror.store_path / "index.lmdb").exists()


def test_dry_run_needs_no_store_and_makes_none(mirror: Mirror, channel: Channel) -> None:
    planned = mirror.sync("--dry-run").out
    assert "chan/linux-64: would fetch 1 file" in planned
    assert "To fetch: 3 files" in planned
    adopted = mirror.run("adopt", str(channel.root), "--repo", "chan", "--dry-run").out
    assert "3 files" in adopted
    assert [path.name for path in mirror.root.iterdir()] == ["snapmirror.toml"]
    (mirror.store_path / "lost+found").mkdir(parents=True)  # as on a disk of its own
    assert mirror.sync("--dry-run").out.splitlines()[:2] == planned.splitlines()[:2]
    assert [path.name for path in mirror.store_path.iterdir()] == ["lost+found"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_store_of_another_user_can_be_read_but_not_written(mirror: Mirror) -> None:
    mirror.sync()
    os.chown(mirror.store_path, 12345, 12345)
    mirror.sync(status=1).line(str(mirror.store_path), "user 12345", f"user {os.geteuid()}", "owner")
    assert len(mirror.snapshots()) == 1
    assert len(mirror.run("snapshots").out.splitlines()) == 1


# Locks


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a held answer waits for; opened at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


def test_second_sync_of_a_repo_ends_and_syncs_the_others(mirror: Mirror, upstream: Upstream, gate: threading.Event) -> None:
    other = Channel(upstream.root / "other")
    other.add(make_package("thing"))
    other.publish()
    mirror.add("other", f"{upstream.url}/other")
    mirror.settings["download"]["stall"] = "1B/50s"
    upstream.fault("/chan/noarch/lib-1.0-0.conda", Call(lambda: gate.wait(40)))
    first = mirror.start("sync", "chan")
    try:
        eventually(lambda: "/chan/noarch/lib-1.0-0.conda" in [*upstream.paths(), *hits(upstream)])
        second = mirror.sync("--json", status=4)
        assert "locked by another process" in second.json["repos"]["chan"]["problem"]
        assert list(mirror.record().repos) == ["other"]
        assert mirror.listed("other/noarch") == {"thing-1.0-0.conda"}
        mirror.sync("chan", status=4).line("chan", "locked by another process")
        assert len(mirror.snapshots()) == 1
    finally:
        gate.set()
        done = mirror.finish(first)
    assert done.status == 0, done.err
    assert list(mirror.record().repos) == ["chan", "other"]  # rebased onto what was sealed meanwhile
    assert {"other/noarch/thing-1.0-0.conda", "chan/noarch/lib-1.0-0.conda"} <= set(mirror.published())


def hits(upstream: Upstream) -> list[str]:
    """Patterns of the rules that have struck: a held answer is not in the log yet."""
    return [rule.pattern for rule in upstream._rules if rule.hits]


def test_locked_store_is_waited_for_unless_told_not_to(mirror: Mirror) -> None:
    mirror.sync()
    with (mirror.store_path / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = mirror.sync("--no-wait", status=4)
        result.line(str(mirror.store_path), "locked by another process")
        assert len(mirror.snapshots()) == 1
        process = mirror.start("sync")
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "waiting" in said
        assert str(mirror.store_path) in said
        assert process.poll() is None
    done = mirror.finish(process)
    assert (done.status, len(mirror.snapshots())) == (0, 2)


def test_status_of_a_sync_that_is_locked_out_of_all_it_should_do(mirror: Mirror) -> None:
    mirror.sync()
    with (mirror.store_path / "locks" / "chan").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = mirror.sync("--json", status=4)
    assert json.loads(result.out)["snapshot"] is None
    assert len(mirror.snapshots()) == 1


def test_ctrl_c_while_a_run_is_being_loaded_shows_no_traceback() -> None:
    script = """if True:
        import os, signal, sys
        class Interrupting:
            def find_spec(self, name, *_):
                if name == "typer":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupting())
        from snapmirror.__main__ import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", script, "snapshots"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


def test_fault_of_our_own_is_a_line_and_no_traceback() -> None:
    """Nobody should ever see one; somebody will."""
    script = "import snapmirror.cli as cli; cli._run = lambda: 1 // 0; cli.main()"
    environment = {key: value for key, value in os.environ.items() if key != "SNAPMIRROR_DEBUG"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "snapmirror: a fault of snapmirror itself (ZeroDivisionError: integer division or modulo by zero); "
        "SNAPMIRROR_DEBUG=1 shows where. Please report it"
    ]
