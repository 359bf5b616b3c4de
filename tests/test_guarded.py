"""A mirror with HTTPS and tokens, from end to end: real clients, copies, `verify`, transfers under way, and its end."""

import hashlib
import http.client
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from channels import Channel, make_package, publish_large
from clients import install
from mirror import Mirror
from pypi_index import Index
from serving import server
from test_auth import secret
from upstream import Slow, Upstream
from wheels import wheel

LARGE = 4 << 20
PATIENT = 30.0


def authorize(folder: Path) -> None:
    """Write `ca.pem`, and `cert.pem` with `key.pem` for the loopback, which it vouches for: what clients take as a server's."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    leaf = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    for rest in (
        "-subj /CN=authority -keyout ca.key -out ca.pem",
        f"-CA ca.pem -CAkey ca.key {leaf} -keyout key.pem -out cert.pem",
    ):
        subprocess.run(["openssl", *f"{new} {rest}".split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def guarded(mirror: Mirror) -> Mirror:
    """The configuration of a mirror that speaks HTTPS; tokens are for the test to make."""
    authorize(mirror.root)
    mirror.settings["serve"] = {"cert": "cert.pem", "key": "key.pem", "access_log": "access.log"}
    return mirror


@pytest.fixture
def trusting(guarded: Mirror, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The same, and clients of this process and of those that it starts know its authority."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        monkeypatch.setenv(name, str(guarded.root / "ca.pem"))
    return guarded


def log(mirror: Mirror) -> str:
    return (mirror.root / "access.log").read_text()


# Clients


@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "flat"])
def test_conda_clients_install_at_a_date_below_a_token(
    trusting: Mirror, channel: Channel, tmp_path: Path, sharded: bool
) -> None:
    pytest.importorskip("rattler", reason="py-rattler is not installed")
    trusting.sync("--seal-as", "2026-11-01")
    channel.add(make_package("tool", version="2.0", subdir="linux-64"))
    channel.publish()
    trusting.sync()
    token = secret(trusting, "ci", repos=["chan"])
    trusting.write()
    then, now = {"tool", "lib"}, {"tool"}
    paths = {f"t/{token}/2026-11-01/chan": then, f"2026-11-01/t/{token}/chan": then, f"t/{token}/chan": now}
    with server(trusting.config) as (url, _):
        for number, (path, needed) in enumerate(paths.items()):
            assert set(install(f"{url}/{path}", "tool", tmp_path / str(number), sharded=sharded)) == needed
    assert "/t/-/2026-11-01/chan/" in log(trusting)
    assert token not in log(trusting)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    with Index(tmp_path / "index") as made:
        made.upload("app", *wheel("app", "1.0", ["lib >=1"]), upload_time="2026-10-01T10:00:00Z")
        made.upload("lib", *wheel("lib", "1.0"), upload_time="2026-10-01T10:00:00Z")
        yield made


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_pip_and_uv_install_at_a_date_with_a_token(trusting: Mirror, index: Index, tmp_path: Path, client: str) -> None:
    """As password, and below `/t/`: links of pages lead to files below the same token."""
    if client == "uv":
        pytest.importorskip("uv", reason="uv is not installed")
    trusting.add("pypi", f"{index.url}/simple/", kind="pypi", projects=["app", "lib"])
    trusting.sync("--seal-as", "2026-11-01")
    index.upload("lib", *wheel("lib", "2.0"), upload_time="2026-11-10T10:00:00Z")
    trusting.sync()
    token = secret(trusting, "ci", repos=["pypi"])
    trusting.write()
    folder = Path(sys.executable).parent
    with server(trusting.config) as (url, _):
        with_password = url.replace("https://", f"https://anybody:{token}@")
        for number, (address, lib) in enumerate(
            (
                (f"{with_password}/2026-11-01/pypi/simple/", "1.0"),
                (f"{url}/t/{token}/2026-11-01/pypi/simple/", "1.0"),
                (f"{url}/t/{token}/pypi/simple/", "2.0"),
                (f"{url}/pypi/simple/", None),
            )
        ):
            target = tmp_path / str(number)
            common = ["install", "--target", target, "--index-url", address, "--no-cache-dir", "app"]
            command = [folder / "pip", *common] if client == "pip" else [folder / "uv", "pip", *common]
            more = {"UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable, "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INPUT": "1"}
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **more}
            environment |= {name: str(trusting.root / "ca.pem") for name in ("SSL_CERT_FILE", "PIP_CERT")}
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            if lib is None:
                assert done.returncode != 0
                continue
            assert done.returncode == 0, done.stderr
            assert lib in (target / "lib.py").read_text()
    assert token not in log(trusting)


# Other snapmirrors


def test_verify_shows_a_token_and_trusts_what_the_environment_says(guarded: Mirror) -> None:
    guarded.settings["sign"] = {"key": "mirror.key"}
    guarded.run_bare("key", "generate", str(guarded.root / "mirror.key"))
    guarded.sync()
    token, partial = secret(guarded, "all"), secret(guarded, "some", repos=["chan"])
    guarded.write()
    said = ""

    def verify(url: str, *more: str, status: int = 0) -> str:
        nonlocal said
        found = guarded.run_bare("verify", url, "--key", str(guarded.root / "mirror.key.pub"), "--all", *more)
        assert found.status == status, found
        said += found.out + found.err
        return found.out + found.err

    with server(guarded.config) as (url, _):
        assert "certificate" in verify(f"{url}/t/{token}", status=1)
        guarded.env["REQUESTS_CA_BUNDLE"] = str(guarded.root / "ca.pem")
        assert "401" in verify(url, status=1)
        for address in (f"{url}/t/{token}", url.replace("https://", f"https://me:{token}@")):
            assert "is as signed" in verify(address)
            assert "404" in verify(address, "--snapshot", "20200101T000000Z", status=1)
        assert "403" in verify(f"{url}/t/{partial}", status=1)
        (guarded.root / "netrc").write_text(f"machine 127.0.0.1 login me password {token}\n")
        (guarded.root / "netrc").chmod(0o600)
        assert "is as signed" in verify(url)
        blob = hashlib.sha256(next(guarded.store_path.glob("blobs/*/*")).read_bytes()).hexdigest()
        (guarded.store_path / "blobs" / blob[:2] / blob).unlink()
        verify(f"{url}/t/{token}", status=5)
    assert token not in said
    assert partial not in said
    assert token not in log(guarded)


def test_a_replica_shows_a_token_from_its_environment_and_goes_by_its_configuration(guarded: Mirror, tmp_path: Path) -> None:
    guarded.sync()
    token, partial = secret(guarded, "replica"), secret(guarded, "some", repos=["chan"])
    guarded.write()
    replica = Mirror(tmp_path / "replica")
    with server(guarded.config) as (url, _):
        host = url.removeprefix("https://")
        hosts = {host: {"auth": {"env": "MIRROR_TOKEN"}, "ca_bundle": str(guarded.root / "ca.pem")}}
        assert "certificate" in replica.run("replicate", url, status=1).err
        replica.settings["download"]["hosts"] = hosts
        assert "MIRROR_TOKEN" in replica.run("replicate", url, status=1).err
        replica.env["MIRROR_TOKEN"] = partial
        refused = replica.run("replicate", url, status=1).err
        assert "a token has to be one for all repos" in refused
        assert partial not in refused
        assert replica.snapshots() == []
        replica.env["MIRROR_TOKEN"] = token
        brought = replica.run("replicate", url)
        assert token not in brought.out + brought.err
    assert replica.snapshots() == guarded.snapshots()
    replica.run("check", "--read-data")


def test_the_very_bytes_need_a_token_for_all_repos(trusting: Mirror) -> None:
    """A blob has no repo: the same bytes may be of several."""
    trusting.sync()
    token, partial = secret(trusting, "all"), secret(trusting, "some", repos=["chan"])
    trusting.write()
    id_, blob = trusting.snapshots()[0], next(trusting.store_path.glob("blobs/*/*")).name
    found = {"copies.json": 200, f"blobs/{blob}": 200, f"snapshots/{id_}.json": 200}
    found |= {f"snapshots/{id_}.sig": 404, f"snapshots/{id_}.pages": 404}
    with server(trusting.config) as (url, _), requests.Session() as session:
        for path, status in found.items():
            assert session.get(f"{url}/-/{path}", timeout=PATIENT).status_code == 401
            assert session.get(f"{url}/t/{partial}/-/{path}", timeout=PATIENT).status_code == 403
            answer = session.get(f"{url}/t/{token}/-/{path}", timeout=PATIENT)
            assert answer.status_code == status
            assert answer.headers["Cache-Control"].startswith(("private", "no-store"))


# Transfers under way


@pytest.fixture
def on_demand(trusting: Mirror, upstream: Upstream) -> Mirror:
    publish_large(upstream.root / "big", LARGE)
    trusting.add("big", f"{upstream.url}/big", subdirs=["noarch"], download="on-demand")
    trusting.sync()
    upstream.clear()
    return trusting


def test_many_clients_follow_one_transfer_over_tls(on_demand: Mirror, upstream: Upstream) -> None:
    """Its bytes, and parts of them, while they arrive; upstream is asked once."""
    big = publish_large(upstream.root / "same", LARGE)
    upstream.fault("*.conda", Slow(8 << 20))
    token = secret(on_demand, "ci", repos=["big"])
    on_demand.write()
    with server(on_demand.config, "--workers", "2") as (url, _), ThreadPoolExecutor(20) as pool:
        path = f"{url}/t/{token}/current/big/noarch/{big.filename}"

        def get(number: int) -> bool:
            start = 1_000_000 * (number % 4)
            answer = requests.get(path, headers={"Range": f"bytes={start}-"} if start else {}, timeout=PATIENT)
            return bytes(answer.content) == big.data[start:]

        assert all(pool.map(get, range(20)))
    assert upstream.paths() == [f"/big/noarch/{big.filename}"]


def begun(mirror: Mirror, url: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    """A download of which only the beginning is taken."""
    plain = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), PATIENT)
    connection = http.client.HTTPConnection("localhost")
    trusting = ssl.create_default_context(cafile=str(mirror.root / "ca.pem"))
    connection.sock = trusting.wrap_socket(plain, server_hostname="localhost")
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()  # takes the socket over
    return answer, answer.read(1000)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_being_sent_over_tls_is_sent_to_its_end(on_demand: Mirror, upstream: Upstream, stop: signal.Signals) -> None:
    """By two workers, when the server is told to end, or to begin anew. What is encrypted already waits in the server."""
    big = publish_large(upstream.root / "same", LARGE)
    upstream.fault("*.conda", Slow(2 << 20))
    on_demand.write()
    with server(on_demand.config, "--workers", "2") as (url, process):
        path = f"/current/big/noarch/{big.filename}"
        downloads = [begun(on_demand, url, path) for _ in range(4)]
        process.send_signal(stop)
        for answer, begin in downloads:
            assert begin + answer.read() == big.data
        if stop == signal.SIGTERM:
            assert process.wait(PATIENT) == 0
        else:
            assert requests.get(url + path, timeout=PATIENT).content == big.data
