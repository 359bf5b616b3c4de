"""Running a mirror: what clients are told, what the state of it is, what runs it every night."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from channels import Channel, make_package
from mirror import Mirror
from serving import serving
from upstream import Upstream

from snapmirror.serve.clients import Mirrored, Site, settings

# Clients


@pytest.fixture
def layout(tmp_path: Path, upstream: Upstream) -> Mirror:
    """A synced mirror in the usual layout, of channels that are in it upstream too, and of one that is nowhere else."""
    for path in ("pkgs/main", "pkgs/r", "cloud/conda-forge", "cloud/numba/label/dev", "team"):
        channel = Channel(upstream.root / path, subdirs=["linux-64"])
        channel.add(make_package(path.split("/")[-1]))
        channel.publish()
    made = Mirror(tmp_path / "mirror")
    made.add("anaconda/pkgs", f"{upstream.url}/pkgs", channels=["main", "r"])
    made.add("anaconda/cloud", f"{upstream.url}/cloud", channels=["conda-forge", "numba/label/dev"])
    made.add("team", (upstream.root / "team").as_uri())
    made.sync()
    return made


class Conda:
    """What conda makes of its settings, by the rules of its documentation: names to URLs, and URLs back to names."""

    def __init__(self, condarc: str) -> None:
        self.settings: dict[str, Any] = yaml.safe_load(condarc)
        self.alias = self.settings["channel_alias"]
        self.custom = self.settings.get("custom_channels", {})

    def urls(self, name: str) -> list[str]:
        """Where it looks for a channel."""
        if name == "defaults":
            return list(self.settings["default_channels"])
        for known, location in self.custom.items():
            if name == known or name.startswith(f"{known}/"):
                return [f"{location}/{name}"]
        return [f"{self.alias}/{name}"]

    def name(self, url: str) -> str:
        """The channel from which it says that a package comes that was installed from a URL."""
        migrated = {f"{at}/{name}": name for name, at in self.settings.get("migrated_custom_channels", {}).items()}
        aliases = [*self.settings.get("migrated_channel_aliases", []), self.alias]
        known = migrated | {f"{at}/{name}": name for name, at in self.custom.items()}
        for location, name in known.items():
            if url == location or url.startswith(f"{location}/"):
                return name + url.removeprefix(location)
        return next((url.removeprefix(f"{alias}/") for alias in aliases if url.startswith(f"{alias}/")), url)


def test_conda_finds_every_channel_by_its_name(layout: Mirror) -> None:
    with serving(layout.store_path) as url:
        for selector in ("current", layout.snapshots()[0]):
            text = layout.run("client", "conda", "--base-url", url, "--snapshot", selector).out
            assert requests.get(f"{url}/-/config/{selector}/condarc", timeout=9).text == text
            conda = Conda(text)
            assert conda.settings["channels"] == ["conda-forge"]
            for name, package in {"conda-forge": "conda-forge", "numba/label/dev": "dev", "team": "team"}.items():
                [channel] = conda.urls(name)
                assert conda.name(channel) == name
                assert f"{package}-1.0-0.conda" in requests.get(f"{channel}/noarch/repodata.json", timeout=9).text
            assert [conda.name(channel) for channel in conda.urls("defaults")] == ["pkgs/main", "pkgs/r"]
            assert all(requests.get(f"{one}/noarch/repodata.json", timeout=9).ok for one in conda.urls("defaults"))


def test_another_date_is_the_same_channel_only_if_conda_is_told_the_old_one(layout: Mirror) -> None:
    old = Conda(layout.run("client", "conda", "--snapshot", layout.snapshots()[0]).out)
    silent = layout.run("client", "conda").out
    told = layout.run("client", "conda", "--was", layout.snapshots()[0]).out
    for name in ("conda-forge", "numba/label/dev", "team"):
        [before] = old.urls(name)
        assert Conda(silent).name(before) == before
        assert Conda(told).name(before) == name
    assert [Conda(told).name(url) for url in old.urls("defaults")] == ["pkgs/main", "pkgs/r"]
    assert "--was OLD" in silent
    upstream = layout.run("client", "conda", "--was", "https://conda.anaconda.org").out
    assert Conda(upstream).name("https://conda.anaconda.org/conda-forge") == "conda-forge"


def test_a_mirror_of_one_channel_needs_no_more_than_the_alias(mirror: Mirror) -> None:
    mirror.sync()
    found = yaml.safe_load(mirror.run("client", "conda", "--base-url", "https://example.org/mirror/").out)
    assert found == {"channels": ["chan"], "channel_alias": "https://example.org/mirror/current"}


def test_mamba_is_told_where_each_name_is(layout: Mirror) -> None:
    with serving(layout.store_path) as url:
        text = layout.run("client", "mamba", "--base-url", url).out
        assert requests.get(f"{url}/-/config/current/mambarc", timeout=9).text == text
        found = yaml.safe_load(text)
        assert set(found["mirrored_channels"]) == {"conda-forge", "numba/label/dev", "team"}
        mirrors = [one for channel in found["mirrored_channels"].values() for one in channel]
        for channel in (*found["default_channels"], *mirrors):
            assert requests.get(f"{channel}/noarch/repodata.json", timeout=9).ok


#: pixi's own code, in py-rattler: it reads the configuration, and asks the mirrors in it instead of the channel
_PIXI = textwrap.dedent(
    """
    import asyncio, json, os, sys
    from rattler import Channel, Client, Config, Gateway, Platform
    from rattler.networking import MirrorMiddleware
    config, unused = Config.from_toml_with_unused_keys(sys.stdin.read())
    assert not unused, unused
    async def main():
        gateway = Gateway(cache_dir=sys.argv[1], client=Client([MirrorMiddleware(config.mirrors)]))
        channel = Channel("https://conda.anaconda.org/conda-forge")
        records = await gateway.query([channel], [Platform("noarch")], ["conda-forge"])
        print(json.dumps([record.url for found in records for record in found]), flush=True)
    asyncio.run(main())
    os._exit(0)
    """
)


def test_pixi_asks_the_mirror_and_keeps_the_canonical_urls(layout: Mirror, tmp_path: Path) -> None:
    with serving(layout.store_path) as url:
        text = layout.run("client", "pixi", "--base-url", url).out
        assert requests.get(f"{url}/-/config/current/pixi.toml", timeout=9).text == text
        command = [sys.executable, "-c", _PIXI, str(tmp_path / "cache")]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record == "https://conda.anaconda.org/conda-forge/noarch/conda-forge-1.0-0.conda"
    assert f"only here, to be named by URL: {url}/current/team" in text


def test_pip_and_uv_are_for_mirrors_of_python_packages(layout: Mirror) -> None:
    for name in ("pip", "uv"):
        layout.run("client", name, status=2).line("current holds no PyPI repo, so there is nothing to set for", name)
    found = settings("pip", Site("http://mirror:8080", "2026-11-20"), [Mirrored("pypi", "pypi", "pypi")])
    assert "index-url = http://mirror:8080/2026-11-20/pypi/simple/\ntrusted-host = mirror:8080\n" in found


def test_settings_of_what_is_not_there(layout: Mirror) -> None:
    first = layout.snapshots()[0]
    layout.sync()
    layout.run("forget", first)
    with serving(layout.store_path) as url:
        for path, status, reason in [
            ("nonsense/condarc", 404, "is neither `current`, a date"),
            ("2020-01-01/condarc", 404, "there is no snapshot"),
            (f"{first}/condarc", 410, "was forgotten; the nearest kept: 2"),
            ("current/pip.conf", 404, "holds no PyPI repo"),
            ("current/bashrc", 404, "condarc, mambarc, pixi.toml, pip.conf, uv.toml"),
            ("current", 404, "below a selector"),
        ]:
            answer = requests.get(f"{url}/-/config/{path}", timeout=9)
            assert (answer.status_code, reason in answer.text) == (status, True), answer.text
        forged = requests.get(f"{url}/-/config/current/condarc", headers={"Host": "a\tssl_verify: false"}, timeout=9)
        assert forged.status_code in (400, 404)
    layout.run("client", "conda", "--snapshot", first, status=2).line("was forgotten")
    layout.run("client", "emacs", status=2).line("known: conda, mamba, pixi, pip, uv")
    layout.run("client", "pixi", "--was", "2026-01-01", status=2).line("only conda has to be told")
    layout.run("client", "conda", "--was", "No Date", status=2).line("--was No Date")


def test_the_configured_address_counts(layout: Mirror) -> None:
    layout.settings["serve"] = {"public_url": "https://example.org/mirror"}
    alias = Conda(layout.run("client", "conda").out).alias
    assert alias == "https://example.org/mirror/current/anaconda"
    layout.settings["serve"] = {"host": "::1", "port": 1234}
    assert Conda(layout.run("client", "conda").out).alias == "http://[::1]:1234/current/anaconda"
    layout.settings["serve"] = {"port": 0}
    layout.run("client", "conda", status=2).line("--base-url")
