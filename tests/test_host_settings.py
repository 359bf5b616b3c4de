"""[download.hosts.NAME]: what is different for one host, and that what is secret about it stays so."""

import time
from pathlib import Path
from typing import Any

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from proxy import Proxy, make_certificate
from serving import free_port, server
from upstream import Redirect, Stall, Status, Upstream

from snapmirror.cli.config import load
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download, Host

SECRET = "s3cr3t-t0ken"


def name_of(url: str) -> str:
    return url.partition("//")[2]


@pytest.mark.parametrize("proof", [f"user:{SECRET}", f"{SECRET}\n"], ids=["password", "token"])
def test_credentials_from_the_environment(
    mirror: Mirror, channel: Channel, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proof: str
) -> None:
    """Are sent to that host and to no other one, and are in nothing that is stored, printed or answered."""
    monkeypatch.setenv("CHAN_AUTH", proof)
    mirror.settings["download"]["hosts"] = {name_of(upstream.url): {"auth": {"env": "CHAN_AUTH"}}}
    dead = f"http://127.0.0.1:{free_port()}/t/{SECRET}/chan"  # a token in a path, which libraries may log
    mirror.repos[0] |= {"download": "on-demand", "negative_age": "0s", "upstream": [mirror.repos[0]["upstream"], dead]}
    if ":" in proof:
        upstream.credentials = ("user", SECRET)
    said = [mirror.sync(), mirror.sync("--json"), mirror.run("status", "--json"), mirror.run("show", "current", "--json")]
    package = make_package("lib")
    address = f"current/chan/noarch/{package.filename}"
    with Upstream(tmp_path / "elsewhere") as elsewhere, server(mirror.config) as (url, process):
        (elsewhere.root / "file").parent.mkdir(exist_ok=True)
        (elsewhere.root / "file").write_bytes(b"x")
        other = elsewhere.url.replace("127.0.0.1", "localhost")
        for fault in (Status(401), Status(500), Redirect(f"{other}/file"), Redirect("/chan/noarch/" + package.filename)):
            upstream.fault("*.conda", fault)
            answer = requests.get(f"{url}/{address}", timeout=20)
            assert (answer.status_code, SECRET in answer.text) == (502, False)
            upstream.heal()
        assert [("authorization" in request.headers) for request in elsewhere.requests] == [False]
        assert requests.get(f"{url}/{address}", timeout=20).content == package.data
        for page in ("", "-/snapshots.json", "-/config/current/condarc", "current/chan/noarch/"):
            assert SECRET not in requests.get(f"{url}/{page}", timeout=20).text
        process.terminate()
        assert process.stderr
        log = process.stderr.read()
    assert package.filename in log
    assert SECRET not in log + "".join(result.out + result.err for result in said)
    if ":" not in proof:
        assert {request.headers.get("authorization") for request in upstream.requests} == {f"Bearer {SECRET}"}
    assert not [path for path in mirror.store_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_credentials_do_not_go_in_clear_because_upstream_links_there(
    mirror: Mirror, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever listens on the way would have what the configuration sends by https: alone."""
    monkeypatch.setenv("CHAN_AUTH", f"user:{SECRET}")
    host = name_of(upstream.url)
    mirror.settings["download"]["hosts"] = {host: {"auth": {"env": "CHAN_AUTH"}}}
    sent = []
    for scheme in ("https", "http"):
        mirror.repos[0]["upstream"] = f"{scheme}://{host}/chan"
        mirror.write()
        with Http(load(mirror.config).download, print) as http:
            http.get(f"{upstream.url}/chan/noarch/repodata.json", limit=1_000_000)
        sent.append("authorization" in upstream.requests[-1].headers)
    assert sent == [False, True]


@pytest.mark.parametrize("command", [["replicate"], ["check", "--repair", "--from"]], ids=["replicate", "check"])
def test_credentials_go_in_clear_to_whom_a_command_names_so(mirror: Mirror, upstream: Upstream, command: list[str]) -> None:
    mirror.sync()
    next(mirror.store_path.glob("blobs/*/*")).unlink()
    mirror.repos[0]["upstream"] = "https://example.invalid/chan"
    mirror.settings["download"] |= {"retries": 0, "hosts": {name_of(upstream.url): {"auth": {"env": "CHAN_AUTH"}}}}
    mirror.env["CHAN_AUTH"] = f"user:{SECRET}"
    upstream.clear()
    mirror.run(*command, upstream.url, status=None)
    assert ["authorization" in request.headers for request in upstream.requests[:1]] == [True]


def test_a_variable_that_is_not_there(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """Is named; and it is needed only by who asks that host."""
    mirror.settings["download"]["hosts"] = {name_of(upstream.url): {"auth": {"env": "CHAN_AUTH"}}}
    for nothing in ({}, {"CHAN_AUTH": " \n"}):
        mirror.env = nothing
        assert "CHAN_AUTH of the environment" in mirror.sync(status=1).err
        assert upstream.requests == []
    mirror.run("status", status=None)
    mirror.env["CHAN_AUTH"] = "user:password"
    mirror.sync()


def test_certificates_of_both_sides(mirror: Mirror, channel: Channel, upstream: Upstream, tmp_path: Path) -> None:
    """Those of one host are nobody else's; paths are relative to the configuration."""
    theirs, ours = make_certificate(tmp_path / "theirs", "localhost"), make_certificate(mirror.root / "ours", "mirror")
    with Proxy(f"{upstream.url}/chan", certificate=theirs, clients=ours.parent / "cert") as proxy:
        mirror.repos[0]["upstream"] = proxy.url
        assert "certificate verify failed" in mirror.sync(status=1).err
        host = {"ca_bundle": str(theirs.parent / "cert")}
        mirror.settings["download"]["hosts"] = {name_of(proxy.url).partition("/")[0]: host}
        assert mirror.sync(status=1).err
        host["client_cert"] = "ours/both.pem"
        mirror.sync()
        assert mirror.listed("chan/noarch")


def test_proxy_and_name(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """A proxy for one host, and none for another where all others have one; a word more in User-Agent."""
    far = upstream.root / "http:" / "far.invalid"
    far.mkdir(parents=True)
    (far / "chan").symlink_to(upstream.root / "chan")
    mirror.add("far", "http://far.invalid/chan")
    hosts: dict[str, Any] = {"far.invalid": {"proxy": upstream.url, "user_agent": "(team@example.org)"}}
    mirror.settings["download"] |= {"hosts": hosts | {name_of(upstream.url): {"proxy": ""}}, "proxy": "http://127.0.0.1:9"}
    mirror.sync()
    agents = {(request.path[:5] == "http:", request.headers["user-agent"].partition(" ")[2]) for request in upstream.requests}
    assert agents == {(True, "(team@example.org)"), (False, "")}


def test_times(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """Of one host, which has less of it than all others."""
    mirror.settings["download"] |= {"stall": "1B/60s", "retries": 0, "hosts": {name_of(upstream.url): {"stall": "1B/1s"}}}
    upstream.fault("*.conda", Stall(10, 30))
    began = time.monotonic()
    assert "stalled" in mirror.sync(status=1).err
    assert time.monotonic() - began < 20


def test_what_is_not_given_is_as_for_all() -> None:
    settings = Download(stall="1B/9s", hosts={"slow.example:8080": Host(connect_timeout="1m"), "other": Host(stall="5B/1s")})
    slow = settings.for_host("https://user:password@SLOW.example:8080/x")
    assert (slow.connect_seconds, slow.stalled.seconds) == (60.0, 9.0)
    assert settings.for_host("http://other/").stalled.seconds == 1.0
    assert settings.for_host("http://slow.example/") is settings


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ('"https://h.example"', "write a host's name"),
        ('"H.example"', "write a host's name"),
        ('h]\nstall = "x"\n[download.hosts.g', "hosts, h: 'x' is no size"),
        ('h]\nstall = "1B/0s"\n[download.hosts.g', "hosts, h: connect_timeout and stall must be of some time"),
        ("h]\nca_bundel = 'x'\n[download.hosts.g", "did you mean ca_bundle"),
        ("h.auth]\nenvironment = 'x'\n[download.hosts.g", "known here: env"),
    ],
)
def test_what_can_not_be_meant(mirror: Mirror, host: str, says: str) -> None:
    mirror.write()
    mirror.config.write_text(f"[download.hosts.{host}]\n" + mirror.config.read_text())
    assert says in mirror.run_bare("status", "-c", str(mirror.config)).err
