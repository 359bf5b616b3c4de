"""The settings that the mirror gives out for pip and uv: with nothing else, they install from the mirror alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from proxy import Proxy
from pypi_index import Index
from serving import free_port, running, serving
from test_pypi_clients import Site, installed
from wheels import wheel

pytest.importorskip("uv", reason="uv is not installed")
BIN = Path(sys.executable).parent
#: name of a client -> its file below `/-/config/<selector>/`, and what tells it where that is
FILES = {"pip": ("pip.conf", "PIP_CONFIG_FILE"), "uv": ("uv.toml", "UV_CONFIG_FILE")}
#: whoever asks another server gets no answer
NOWHERE_ELSE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A mirror with a package index, on two days, and now also a folder of wheels and both as one, which has no more files."""
    folder = tmp_path_factory.mktemp("own")
    file, content, _ = wheel("speed", "0.1")
    (folder / file).write_bytes(content)
    with Index(tmp_path_factory.mktemp("index")) as index:
        for name, requires in (("app", ["lib"]), ("lib", []), ("speed", []), ("built", [])):
            index.upload(name, *wheel(name, "1.0", requires), upload_time="2026-10-01T10:00:00Z")
        made = Site(tmp_path_factory.mktemp("site"), index)
        made.mirror.repos.append({"kind": "pypi", "path": "own", "packages": str(folder)})
        made.mirror.repos.append({"kind": "pypi", "path": "python", "merge": ["own", "pypi"]})
        made.mirror.settings["publish"] = {"trees": ["python"]}
        made.mirror.sync()
    with serving(made.mirror.store_path) as url:
        made.url = url
        yield made


def fetched(site: Site, client: str, selector: str, folder: Path) -> dict[str, str]:
    """What tells a client where its settings are, after they were fetched into a folder."""
    name, variable = FILES[client]
    answer = requests.get(f"{site.url}/-/config/{selector}/{name}", timeout=20)
    assert answer.status_code == 200
    assert answer.text == site.mirror.run("client", client, "--snapshot", selector, "--base-url", site.url).out
    (folder / name).write_text(answer.text)
    return {variable: str(folder / name), **({"UV_NO_CONFIG": "0"} if client == "uv" else {})}


@pytest.mark.parametrize("client", ["pip", "uv"])
@pytest.mark.parametrize(
    ("selector", "repo", "lib", "speed"),
    [("current", "python", "2.0", "0.1"), ("2026-11-01", "pypi", "1.0", "1.0"), ("paper", "pypi", "1.0", "1.0")],
)
def test_the_settings_are_enough(
    client: str, selector: str, repo: str, lib: str, speed: str, site: Site, tmp_path: Path
) -> None:
    """What is set is both as one, where that is: then one's own package is installed, however new another is."""
    environment = fetched(site, client, selector, tmp_path)
    command = [BIN / "pip"] if client == "pip" else [BIN / "uv", "pip"]
    said = site.run(*command, "install", "-v", "--target", tmp_path / "target", "app", "speed", **environment, **NOWHERE_ELSE)
    assert installed(tmp_path / "target") == {"app": "1.0", "lib": lib, "speed": speed}
    index = f"/{selector}/{repo}/simple/"
    assert (f"Looking in indexes: {site.url}{index}\n" if client == "pip" else f"{index}app/") in said


def test_one_index_is_set_and_the_others_are_named(site: Site) -> None:
    for client in FILES:
        text = site.mirror.run("client", client, "--base-url", site.url).out
        stated = [line for line in text.splitlines() if "/simple/" in line]
        others = ", ".join(f"{site.url}/current/{repo}/simple/" for repo in ("pypi", "own"))
        assert len(stated) == 2
        assert stated[0] == f"# other indexes that there are: {others}"
        assert f"{site.url}/current/python/simple/" in stated[1]
    past = site.mirror.run("client", "uv", "--base-url", "https://mirror.example", "--snapshot", "2026-11-01").out
    assert "/own/" not in past
    assert "trusted-host" not in site.mirror.run("client", "pip", "--base-url", "https://mirror.example").out


def test_pip_takes_from_its_cache_what_it_had_at_another_date(site: Site, tmp_path: Path) -> None:
    """It keeps files by their address, and trusts the host, as it is told to."""
    asked = []
    with Proxy(site.url) as counting:
        for selector in ("2026-11-01", "paper"):
            config = tmp_path / f"{selector}.conf"
            config.write_text(site.mirror.run("client", "pip", "--snapshot", selector, "--base-url", counting.url).out)
            site.run(BIN / "pip", "install", "--target", tmp_path / selector, "app", PIP_CONFIG_FILE=str(config))
            asked.append([path for path in counting.paths if "/packages/" in path])
            counting.asked.clear()
    assert [len(paths) for paths in asked] == [4, 0]


def test_a_lock_of_uv_is_installed_whatever_the_date(site: Site, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = ["app"]\n'
    )
    site.run(BIN / "uv", "lock", cwd=tmp_path, **fetched(site, "uv", "2026-11-01", tmp_path))
    later = fetched(site, "uv", "current", tmp_path)
    site.run(BIN / "uv", "sync", "--frozen", "--no-install-project", cwd=tmp_path, **later)
    assert (next((tmp_path / ".venv").glob("lib/python*/site-packages")) / "lib.py").read_text() == "version = '1.0'\n"
    said = site.run(BIN / "uv", "sync", "--locked", "--no-install-project", cwd=tmp_path, status=1, **later)
    assert "needs to be updated" in said  # it names the index too, with its date


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_any_web_server_is_an_index_where_there_is_a_tree(client: str, site: Site, tmp_path: Path) -> None:
    port = free_port()
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    command = [BIN / "pip"] if client == "pip" else [BIN / "uv", "pip"]
    with running([*server, "--directory", site.mirror.store_path / "published"], port) as url:
        index = f"{url}/current/python/simple/"
        site.run(*command, "install", "--target", tmp_path / "target", "--index-url", index, "app", "speed", **NOWHERE_ELSE)
    assert installed(tmp_path / "target") == {"app": "1.0", "lib": "2.0", "speed": "0.1"}
