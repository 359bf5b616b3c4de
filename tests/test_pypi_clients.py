"""pip, uv and bandersnatch, as people run them, on a mirror of a package index: by `current`, a date and a pin."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mirror import Mirror
from proxy import Proxy
from pypi_index import JSON, Index
from serving import serving
from wheels import sdist, wheel

pytest.importorskip("uv", reason="uv is not installed")
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with Index(tmp_path_factory.mktemp("index")) as made:
        for name, version, requires, extras, day in (
            ("app", "1.0", ["lib >=1", "speed ; extra == 'fast'"], ["fast"], "2026-10-01"),
            ("lib", "1.0", [], [], "2026-10-01"),
            ("speed", "1.0", [], [], "2026-10-01"),
        ):
            file, content, metadata = wheel(name, version, requires, extras)
            made.upload(name, file, content, metadata, upload_time=f"{day}T10:00:00Z")
        made.upload("built", *sdist("built", "1.0"), upload_time="2026-10-01T10:00:00Z")
        yield made


class Site:
    """A mirror that is served, with two days: on the second there is a newer lib."""

    def __init__(self, root: Path, index: Index) -> None:
        self.mirror = Mirror(root / "mirror")
        upstream = f"{index.url}/simple/"
        self.mirror.repos.append(
            {"kind": "pypi", "path": "pypi", "upstream": upstream, "projects": ["app", "lib", "speed", "built"]}
        )
        self.mirror.sync("--seal-as", "2026-11-01")
        file, content, metadata = wheel("lib", "2.0")
        index.upload("lib", file, content, metadata, upload_time="2026-11-10T10:00:00Z")
        self.mirror.sync()
        self.mirror.run("pin", "paper", "2026-11-01")
        self.home = root / "home"
        self.home.mkdir()
        self.url = ""

    def index(self, selector: str = "current") -> str:
        return f"{self.url}/{selector}/pypi/simple/"

    def run(self, *command: str | Path, cwd: Path | None = None, status: int = 0, **more: str) -> str:
        """A client with nothing of this machine's settings; what it printed."""
        environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON": sys.executable,
            "UV_CACHE_DIR": str(self.home / "uv"),
            **more,
        }
        done = subprocess.run(command, env=environment, cwd=cwd or self.home, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, index: Index) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), index)
    with serving(made.mirror.store_path) as url:
        made.url = url
        yield made


def installed(target: Path) -> dict[str, str]:
    """{module: what it says of itself}."""
    return {path.stem: path.read_text().split("'")[1] for path in target.glob("*.py")}


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize(("selector", "lib"), [("current", "2.0"), ("2026-11-01", "1.0"), ("paper", "1.0")])
def test_install_at_any_date(client: str, selector: str, lib: str, site: Site, tmp_path: Path) -> None:
    """Wheels, an extra and a source archive; the same file has the same address at every date."""
    target = tmp_path / "target"
    common = ["install", "--target", target, "--index-url", site.index(selector), "app[fast]", "built"]
    command = [BIN / "pip", *common, "--no-cache-dir"] if client == "pip" else [BIN / "uv", "pip", *common]
    site.run(*command)
    assert installed(target) == {"app": "1.0", "lib": lib, "speed": "1.0", "built": "1.0"}


def test_hashes_downloads_versions_and_times_of_upload(site: Site, tmp_path: Path) -> None:
    page = requests.get(site.index() + "lib/", headers={"Accept": JSON}, timeout=20).json()
    digests = {record["filename"]: record["hashes"]["sha256"] for record in page["files"]}
    required = tmp_path / "requirements.txt"
    required.write_text(f"lib==1.0 --hash=sha256:{digests['lib-1.0-py3-none-any.whl']}\n")
    common = ["--index-url", site.index(), "--no-cache-dir"]
    site.run(BIN / "pip", "install", *common, "--target", tmp_path / "one", "--require-hashes", "-r", required)
    assert installed(tmp_path / "one") == {"lib": "1.0"}
    required.write_text(f"lib==1.0 --hash=sha256:{digests['lib-2.0-py3-none-any.whl']}\n")
    said = site.run(BIN / "pip", "install", *common, "--target", tmp_path / "two", "--require-hashes", "-r", required, status=1)
    assert "DO NOT MATCH" in said
    site.run(BIN / "pip", "download", *common, "--dest", tmp_path / "files", "app")
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"app-1.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl"}
    assert "Available versions: 2.0, 1.0" in site.run(BIN / "pip", "index", "versions", *common, "lib")
    site.run(
        BIN / "pip", "install", *common, "--target", tmp_path / "old", "--uploaded-prior-to", "2026-11-05T00:00:00Z", "lib"
    )
    assert installed(tmp_path / "old") == {"lib": "1.0"}


def test_a_lock_of_uv_holds_at_another_date(site: Site, tmp_path: Path) -> None:
    """It names files by addresses without a date. Only files that the other date has not are missing from it."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["app[fast]"]\n'
    )
    index = ("--default-index", site.index("2026-11-01"))
    site.run(BIN / "uv", "lock", *index, cwd=tmp_path)
    lock = (tmp_path / "uv.lock").read_text()
    assert f"{site.url}/pypi/packages/" in lock
    site.run(BIN / "uv", "sync", *index, "--locked", "--no-install-project", cwd=tmp_path)
    assert (next((tmp_path / ".venv").glob("lib/python*/site-packages")) / "lib.py").read_text() == "version = '1.0'\n"


def test_times_of_upload_bound_what_uv_resolves(site: Site, tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.in"
    wanted.write_text("app\n")
    compile_ = [BIN / "uv", "pip", "compile", "--index-url", site.index(), wanted]
    assert "lib==2.0" in site.run(*compile_)
    assert "lib==1.0" in site.run(*compile_, "--exclude-newer", "2026-11-05T00:00:00Z")


def test_an_unknown_project_is_said_as_the_client_asks(site: Site) -> None:
    """Installers go on to their next index at a 404, and show people what it says."""
    url = site.index() + "nowhere/"
    said = requests.get(url, headers={"Accept": f"{JSON}, text/html;q=0.1"}, timeout=20)
    assert (said.status_code, said.headers["Content-Type"]) == (404, "application/json")
    assert "nowhere" in said.json()["message"]
    said = requests.get(url.replace("nowhere", "%3Cb%3E"), headers={"Accept": "text/html,*/*"}, timeout=20)
    assert (said.status_code, said.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "<b>" not in said.text
    assert requests.get(url, timeout=20).headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_no_wheel_is_fetched_to_resolve(client: str, site: Site, tmp_path: Path) -> None:
    """PEP 658: what a wheel requires is in a file beside it."""
    (tmp_path / "requirements.in").write_text("app[fast]\n")
    with Proxy(site.url) as proxy:
        index = ["--index-url", f"{proxy.url}/current/pypi/simple/"]
        if client == "pip":
            site.run(BIN / "pip", "install", "--dry-run", "--no-cache-dir", "--ignore-installed", *index, "app[fast]")
        else:
            site.run(BIN / "uv", "pip", "compile", "--no-cache", *index, tmp_path / "requirements.in")
    assert [path for path in proxy.paths if path.endswith(".whl.metadata")]
    assert not [path for path in proxy.paths if path.endswith(".whl")]


def test_bandersnatch_mirrors_from_here(site: Site, tmp_path: Path) -> None:
    """It takes nothing but https. The second time it finds that it has everything."""
    certificate, folder, config = tmp_path / "both.pem", tmp_path / "copy", tmp_path / "bandersnatch.conf"
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(["openssl", *new.split(), "-keyout", "key", "-out", "cert"], cwd=tmp_path, check=True, capture_output=True)
    certificate.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "cert").read_bytes())
    with Proxy(f"{site.url}/current/pypi", certificate=certificate) as proxy:
        settings = {
            "directory": folder,
            "master": proxy.url,
            "json": "true",
            "timeout": 10,
            "global-timeout": 60,
            "workers": 2,
            "hash-index": "false",
            "stop-on-error": "true",
            "verifiers": 1,
            "storage-backend": "filesystem",
            "compare-method": "hash",
            "simple-format": "ALL",
            "api-method": "simple",
        }
        lines = ["[mirror]", *(f"{key} = {value}" for key, value in settings.items())]
        lines += ["[plugins]", "enabled = allowlist_project", "[allowlist]", "packages =", "    app", "    lib", "    built"]
        config.write_text("\n".join(lines) + "\n")
        mirror = [BIN / "bandersnatch", "-c", config, "mirror"]
        assert "ERROR" not in site.run(*mirror, SSL_CERT_FILE=str(certificate))
        copied = {path: path.stat().st_mtime_ns for path in (folder / "web/packages").rglob("*") if path.is_file()}
        proxy.asked.clear()
        assert "ERROR" not in site.run(*mirror, SSL_CERT_FILE=str(certificate))
        assert proxy.paths == ["/current/pypi/simple"]
    page = json.loads((folder / "web/simple/lib/index.v1_json").read_text())
    assert {record["filename"] for record in page["files"]} == {"lib-1.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl"}
    ours = {
        record["filename"]: record["hashes"]["sha256"]
        for name in ("app", "lib", "built")
        for record in requests.get(f"{site.index()}{name}/", headers={"Accept": JSON}, timeout=20).json()["files"]
    }
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in copied} == ours
    assert copied == {path: path.stat().st_mtime_ns for path in (folder / "web/packages").rglob("*") if path.is_file()}
