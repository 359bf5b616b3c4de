"""Real clients and real channels through `download = "on-demand"`, then once more with upstream stopped."""

import hashlib
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from clients import install
from inprocess import store_at, sync
from mirror import Mirror
from serving import server
from test_pypi_real import pip_setting, the_real_one
from test_real_data import SHARED, playback, states, turn
from upstream import Upstream

from snapmirror.conda import CondaRepo

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not SHARED.exists(), reason="the recorded channels (../shared) are not beside the project"),
]

#: for each line {url, folder}: the newest record of every name, installed without solving; prints {name: file}
_INSTALLER = textwrap.dedent(
    """
    import asyncio, json, pathlib, sys
    from rattler import Channel, Gateway, Platform, SourceConfig, install
    async def one(url, folder, names):
        gateway = Gateway(cache_dir=folder / "repodata", default_config=SourceConfig(sharded_enabled=False))
        found = await gateway.query([Channel(url)], [Platform("linux-64"), Platform("noarch")], names, recursive=False)
        newest = {}
        for record in sorted((one for part in found for one in part), key=lambda one: (one.timestamp or 0, one.file_name)):
            newest[record.name.normalized] = record
        await install(list(newest.values()), target_prefix=folder / "prefix", cache_dir=folder / "pkgs",
                      platform=Platform("linux-64"), show_progress=False)
        return {name: record.file_name for name, record in newest.items()}
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(asyncio.run(one(asked["url"], pathlib.Path(asked["folder"]), asked["names"]))), flush=True)
    """
)


@contextmanager
def installer() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", _INSTALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        yield made
        made.kill()  # it may die at the end of the interpreter, after its work


def installed(process: "subprocess.Popen[str]", url: str, folder: Path) -> dict[str, str]:
    """The records of every name of a channel, installed; {name: file}."""
    assert process.stdin
    assert process.stdout
    listed = [requests.get(f"{url}/{subdir}/repodata.json", timeout=20) for subdir in ("linux-64", "noarch")]
    documents = [answer.json() for answer in listed if answer.status_code == 200]
    names = sorted({record["name"] for one in documents for record in one["packages.conda"].values()})
    process.stdin.write(json.dumps({"url": url, "folder": str(folder), "names": names}) + "\n")
    process.stdin.flush()
    found: dict[str, str] = json.loads(process.stdout.readline())
    assert set(found) == set(names)
    return found


def test_every_state_of_a_channel_is_installed_from_and_again_without_upstream(tmp_path: Path) -> None:
    """What was asked for at each of 21 states is there at each date, when upstream is not."""
    mirror = Mirror(tmp_path / "mirror")
    history = states("mojo-channel")
    with playback("mojo-channel") as upstream, store_at(mirror.store_path) as store, installer() as process:
        repo = CondaRepo(path="mojo", upstream=upstream, subdirs=["linux-64"], download="on-demand")
        mirror.add("mojo", upstream, subdirs=["linux-64"], download="on-demand")
        mirror.write()
        found = {}
        with server(mirror.config) as (url, _):
            for number, at in enumerate(history, 1):
                turn(upstream, number)
                report = sync(store, repo, seal_as=at)
                assert report.exit_status(strict=True) == 0, report
                found[at] = installed(process, f"{url}/{at}/mojo", tmp_path / f"first-{number}")
    with server(mirror.config) as (url, _), installer() as process:
        for number, at in enumerate(history, 1):
            assert installed(process, f"{url}/{at}/mojo", tmp_path / f"second-{number}") == found[at]


def test_a_channel_is_solved_and_installed_from_and_again_without_upstream(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror")
    with Upstream(SHARED / "data" / "tiny-channel") as upstream:
        mirror.add("tiny", upstream.url, subdirs=["linux-fake"], download="on-demand", metadata="on-request")
        mirror.write()
        with server(mirror.config) as (url, _):
            first = install(f"{url}/current/tiny", "another_dependent=2.0", tmp_path / "first", sharded=False)
            assert set(first) == {"another_dependent", "dependent", "dependency"}
            mirror.sync()
    with server(mirror.config) as (url, _):
        at = time.strftime("%Y-%m-%d", time.gmtime())
        assert install(f"{url}/{at}/tiny", "another_dependent=2.0", tmp_path / "second", sharded=False) == first
        assert install(f"{url}/current/tiny", "another_dependent=2.0", tmp_path / "third", sharded=False) == first


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_pypi_itself_from_an_empty_store_and_again_offline(client: str, tmp_path: Path) -> None:
    """Without a word on which projects: the same bytes, once upstream is not asked any more."""
    pytest.importorskip(client)
    certificates = pip_setting("cert", "")
    with the_real_one() as address:
        mirror = Mirror(tmp_path / "mirror")
        mirror.settings["download"] = {"ca_bundle": certificates} if certificates else {}
        mirror.repos = [
            {"kind": "pypi", "path": "pypi", "upstream": address, "download": "on-demand", "metadata": "on-request"}
        ]
        mirror.write()
        with server(mirror.config) as (url, _):
            first = _install(client, f"{url}/pypi/simple/", tmp_path / "first")
            assert {"idna", "requests", "urllib3"} <= {path.split("/")[0] for path in first}
        mirror.repos[0]["offline"] = True
        mirror.write()
        with server(mirror.config) as (url, _):
            assert _install(client, f"{url}/pypi/simple/", tmp_path / "second") == first


def _install(client: str, index: str, target: Path) -> dict[str, str]:
    """requests and what it needs, with nothing of this machine's settings or caches; {file: SHA-256} of modules."""
    python = [sys.executable, "-m"]
    command = {
        "pip": [*python, "pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir", "--no-compile"],
        "uv": [*python, "uv", "pip", "install", "--no-config", "--no-cache", "--python", sys.executable],
    }[client]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(target.parent)}
    done = subprocess.run(
        [*command, "--index-url", index, "--target", target, "requests"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    files = list(target.rglob("*.py"))
    return {str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
