"""HTTPS by the server itself: real clients, bodies of every size, a new certificate, and what can't be one."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import requests
from channels import make_package
from mirror import Mirror
from serving import server
from test_serve import Built, built
from waiting import eventually

__all__ = ["built"]

TOOL = make_package("tool")
#: more than a socket takes at once
LARGE = make_package("large", payload=os.urandom(8_000_000))


def certify(folder: Path, name: str = "localhost") -> None:
    """Write `cert.pem` and `key.pem` for the loopback."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    new = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
    new += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *new.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def config(built: Built, tmp_path: Path) -> Path:
    """The configuration of a server with a certificate; its paths are relative."""
    built.publish({"main": {"noarch": [TOOL, LARGE]}}, at="20261120T010000Z")
    certify(tmp_path)
    path = tmp_path / "snapmirror.toml"
    path.write_text(f'store = "{built.root}"\n[serve]\ncert = "cert.pem"\nkey = "key.pem"\n')
    return path


def get(url: str, folder: Path, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, verify=str(folder / "cert.pem"), timeout=30)


def test_bodies_of_every_kind_arrive_whole_and_encrypted(config: Path) -> None:
    with server(config) as (url, _):
        assert url.startswith("https://")
        for package in (TOOL, LARGE):
            path = f"{url}/current/main/noarch/{package.filename}"
            assert get(path, config.parent).content == package.data
            assert get(path, config.parent, Range="bytes=5-700000").content == package.data[5:700001]
        assert get(f"{url}/current/main/noarch/repodata.json", config.parent).json()["packages.conda"]
        assert "https://127.0.0.1" in get(f"{url}/-/config/current/condarc", config.parent).text
        if shutil.which("curl"):
            command = ["curl", "-sSf", "--noproxy", "*", "--cacert", str(config.parent / "cert.pem"), path]
            assert subprocess.run(command, check=True, capture_output=True).stdout == LARGE.data


def test_clients_that_leave_early_or_speak_no_tls_disturb_nobody(config: Path) -> None:
    with server(config) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        trusting = ssl.create_default_context(cafile=str(config.parent / "cert.pem"))
        for _ in range(5):
            with trusting.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="localhost") as client:
                client.sendall(f"GET /current/main/noarch/{LARGE.filename} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
            with socket.create_connection(("127.0.0.1", port), 20) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP" not in client.recv(1000)
        assert get(f"{url}/current/main/noarch/{TOOL.filename}", config.parent).content == TOOL.data


def test_sighup_takes_a_new_certificate_and_keeps_the_old_one_if_it_is_none(config: Path) -> None:
    folder = config.parent

    def presented() -> str:
        with contextlib.suppress(OSError):
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
        return ""

    with server(config) as (url, process):
        port = int(url.rsplit(":", 1)[1])
        old = (folder / "cert.pem").read_text()
        assert presented().strip() == old.strip()
        certify(folder, "new")
        new, key = (folder / "cert.pem").read_text(), (folder / "key.pem").read_text()
        process.send_signal(signal.SIGHUP)
        eventually(lambda: presented().strip() == new.strip())
        (folder / "key.pem").write_text("nothing")
        process.send_signal(signal.SIGHUP)
        assert process.stderr
        said = ""
        while "stays as it was" not in said:
            said += (line := process.stderr.readline())
            assert line
        assert presented().strip() == new.strip()
        assert key not in said


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("cert.pem", None, "cert is given and key is not"),
        (None, "key.pem", "key is given and cert is not"),
        ("missing.pem", "key.pem", "missing.pem can't be read: No such file"),
        ("cert.pem", "missing.pem", "missing.pem can't be read: No such file"),
        ("cert.pem", "other.pem", "don't belong together"),
        ("text.pem", "key.pem", "in PEM form"),
        ("cert.pem", "text.pem", "in PEM form"),
        ("cert.pem", "locked.pem", "is encrypted"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(mirror: Mirror, cert: str | None, key: str | None, problem: str) -> None:
    certify(mirror.root)
    shutil.move(mirror.root / "key.pem", mirror.root / "other.pem")
    certify(mirror.root)
    (mirror.root / "text.pem").write_text("nothing")
    lock = ["openssl", "ec", "-in", "key.pem", "-aes256", "-passout", "pass:word", "-out", "locked.pem"]
    subprocess.run(lock, cwd=mirror.root, check=True, capture_output=True)
    mirror.settings["serve"] = {"port": 0} | {name: value for name, value in (("cert", cert), ("key", key)) if value}
    assert problem in mirror.run("serve", status=2).err
