"""Running a mirror: what clients are told, what the state of it is, what runs it every night."""

import getpass
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from channels import Channel, make_package
from mirror import Mirror
from serving import serving
from upstream import Upstream

from snapmirror.ecosystem.clients import Mirror as Used
from snapmirror.ecosystem.clients import Mirrored
from snapmirror.pypi import Pypi

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
    made.add("copy/conda-forge", f"{upstream.url}/cloud/conda-forge")  # once more: it has to go by another name
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
            assert requests.get(f"{url}/-/config/{selector}/condarc", timeout=20).text == text
            conda = Conda(text)
            assert conda.settings["channels"] == ["conda-forge"]
            assert conda.settings["mirrored_channels"] == {"conda-forge": conda.urls("conda-forge")}
            for name in ("conda-forge", "numba/label/dev", "copy/conda-forge", "team"):
                [channel] = conda.urls(name)
                assert conda.name(channel) == name
                assert f"{name.split('/')[-1]}-1.0-0.conda" in requests.get(f"{channel}/noarch/repodata.json", timeout=20).text
            assert [conda.name(channel) for channel in conda.urls("defaults")] == ["pkgs/main", "pkgs/r"]
            assert all(requests.get(f"{one}/noarch/repodata.json", timeout=20).ok for one in conda.urls("defaults"))


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


def test_a_channel_that_is_mirrored_twice_is_found_at_both_places(layout: Mirror, upstream: Upstream) -> None:
    """The one whose path is the channel's name is the channel, whichever comes first; the other is a channel of its own."""
    layout.add("conda-forge", f"{upstream.url}/cloud/conda-forge")
    layout.sync()
    conda = Conda(layout.run("client", "conda", "--base-url", "http://m").out)
    mamba = yaml.safe_load(layout.run("client", "mamba", "--base-url", "http://m").out)
    pixi = layout.run("client", "pixi", "--base-url", "http://m").out
    for name in ("conda-forge", "copy/conda-forge", "anaconda/cloud/conda-forge"):
        assert conda.urls(name) == mamba["mirrored_channels"][name] == [f"http://m/current/{name}"]
        assert f"http://m/current/{name}" in pixi
    assert '"https://conda.anaconda.org/conda-forge" = ["http://m/current/conda-forge"]' in pixi


def test_two_repos_of_one_channel_that_nobody_knows(mirror: Mirror) -> None:
    """pixi reads no configuration that names one address twice."""
    mirror.add("part", mirror.repos[0]["upstream"], select={"include": ["lib"]})
    mirror.sync()
    pixi = mirror.run("client", "pixi", "--base-url", "http://m").out
    assert tomllib.loads(pixi) == {"mirrors": {mirror.repos[0]["upstream"]: ["http://m/current/chan"]}}
    assert "to be named by URL: http://m/current/part" in pixi


def test_a_channel_with_an_adopted_subdir_is_known_by_the_others(mirror: Mirror, upstream: Upstream) -> None:
    mirror.run("adopt", str(upstream.root / "chan"), "--repo", "chan")
    shutil.rmtree(upstream.root / "chan" / "noarch")
    mirror.sync(status=3)
    assert f'"{upstream.url}/chan" = [' in mirror.run("client", "pixi").out


def test_mamba_is_told_where_each_name_is(layout: Mirror) -> None:
    with serving(layout.store_path) as url:
        text = layout.run("client", "mamba", "--base-url", url).out
        assert requests.get(f"{url}/-/config/current/mambarc", timeout=20).text == text
        found = yaml.safe_load(text)
        names = {"conda-forge", "copy/conda-forge", "numba/label/dev", "pkgs/main", "pkgs/r", "team"}
        assert set(found["mirrored_channels"]) == names
        mirrors = [one for channel in found["mirrored_channels"].values() for one in channel]
        for channel in (*found["default_channels"], *mirrors):
            assert requests.get(f"{channel}/noarch/repodata.json", timeout=20).ok


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
        assert requests.get(f"{url}/-/config/current/pixi.toml", timeout=20).text == text
        command = [sys.executable, "-c", _PIXI, str(tmp_path / "cache")]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record == "https://conda.anaconda.org/conda-forge/noarch/conda-forge-1.0-0.conda"
    assert f"only here, to be named by URL: {url}/current/copy/conda-forge, {url}/current/team" in text


def test_pip_and_uv_are_for_mirrors_of_python_packages(layout: Mirror) -> None:
    for name in ("pip", "uv"):
        layout.run("client", name, status=2).line("current holds no repo of kind pypi, so there is nothing to set for", name)
    pip, _ = Pypi.clients
    found = pip.settings(Used("http://mirror:8080", "2026-11-20"), [Mirrored("pypi", {})])
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
            ("current/pip.conf", 404, "holds no repo of kind pypi"),
            ("current/bashrc", 404, "condarc, mambarc, pixi.toml, pip.conf, uv.toml"),
            ("current", 404, "below a selector"),
        ]:
            answer = requests.get(f"{url}/-/config/{path}", timeout=20)
            assert (answer.status_code, reason in answer.text) == (status, True), answer.text
        forged = requests.get(f"{url}/-/config/current/condarc", headers={"Host": "a\tssl_verify: false"}, timeout=20)
        assert forged.status_code in (400, 404)
    layout.run("client", "conda", "--snapshot", first, status=2).line("was forgotten")
    layout.run("client", "emacs", status=2).line("known: conda, mamba, pixi, pip, uv")
    layout.run("client", "pixi", "--was", "2026-01-01", status=2).line("only conda has to be told of these")
    layout.run("client", "conda", "--was", "No Date", status=2).line("--was No Date")


def test_the_configured_address_counts(layout: Mirror) -> None:
    layout.settings["serve"] = {"public_url": "https://example.org/mirror"}
    alias = Conda(layout.run("client", "conda").out).alias
    assert alias == "https://example.org/mirror/current/anaconda"
    layout.settings["serve"] = {"host": "::1", "port": 1234}
    assert Conda(layout.run("client", "conda").out).alias == "http://[::1]:1234/current/anaconda"
    layout.settings["serve"] = {"host": "mirror", "cert": "server.pem", "key": "server.key"}
    assert Conda(layout.run("client", "conda").out).alias == "https://mirror:8080/current/anaconda"
    layout.settings["serve"] = {"port": 0}
    layout.run("client", "conda", status=2).line("--base-url")


# The state of it


def test_a_lost_configuration_is_made_anew_for_the_store_that_is_there(mirror: Mirror) -> None:
    mirror.sync()
    mirror.config.unlink()
    done = mirror.run_bare("init", str(mirror.root))
    assert (done.status, f"kept the store {mirror.store_path}" in done.err) == (0, True)
    assert mirror.run_bare("snapshots").out.split()[0] == mirror.snapshots()[0]


def test_snapshots_since(mirror: Mirror) -> None:
    last_of_first, midnight, last_of_second = ids = ["20240501T235959Z", "20240502T000000Z", "20240502T235959Z"]
    for id_ in ids:
        mirror.sync("--seal-as", id_)

    def listed(*since: str) -> list[str]:
        return [line.split()[0] for line in mirror.run("snapshots", *since).out.splitlines()]

    assert listed() == ids
    assert listed("--since", "2024-05-01") == ids
    assert listed("--since", "2024-05-02") == [midnight, last_of_second]  # a day begins with its first second
    assert listed("--since", last_of_first) == ids
    assert listed("--since", "20240502T000001Z") == [last_of_second]
    assert listed("--since", "2024-05-03") == []
    mirror.run("forget", midnight)
    assert listed("--since", "2024-05-02") == [midnight, last_of_second]  # what was forgotten is marked here too
    found = mirror.run("snapshots", "--json", "--since", "2024-05-02").json
    assert [snapshot["id"] for snapshot in found["snapshots"]] == [last_of_second]
    for wrong in ("soon", "2024-02-30", ""):
        mirror.run("snapshots", "--since", wrong, status=2).line("--since", "write an id")


def test_status_of_a_mirror_that_is_as_it_should_be(mirror: Mirror) -> None:
    mirror.repos[0]["max_age"] = "1d"
    mirror.sync()
    found = mirror.run("status", "--json").json
    repo = found["repos"]["chan"]
    assert found["current"] == mirror.snapshots()[-1]
    assert (found["files"], found["withheld"]) == (3, {})
    assert found["bytes"] == sum(directory["bytes"] for directory in repo["directories"].values()) > 0
    assert 0 <= repo["age"] < 86400
    assert (repo["outcome"], repo["late"], repo["max_age"]) == ("complete", False, "1d")
    assert found["free"] > 0
    assert "chan: read 2" in mirror.run("status").out


def test_check_says_when_bytes_were_read(mirror: Mirror) -> None:
    mirror.sync()
    found = mirror.run("check", "--json").json
    assert (found["never_read"] > 3, found["oldest_read"]) == (True, None)
    found = mirror.run("check", "--read-data", "--json").json
    assert (found["never_read"], len(found["oldest_read"])) == (0, 16)
    assert "bytes were last compared with their names at 2" in mirror.run("check").out


def test_status_before_the_first_sync(mirror: Mirror) -> None:
    mirror.run_bare("init", str(mirror.root / "made"))
    mirror.store_path = mirror.root / "made" / "store"
    mirror.settings["store"] = str(mirror.store_path)
    assert mirror.run("status").out.startswith("current: there is no snapshot yet\nchan: never synced\n")
    mirror.repos[0]["max_age"] = "30d"
    assert mirror.run("status", "--json", status=3).json["repos"]["chan"]["outcome"] == "never"
    mirror.repos[0]["max_age"] = "soon"
    mirror.run("status", status=2).line("'soon' is no duration")


def test_status_names_what_was_not_read_and_what_is_too_old(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    first = mirror.record().repos["chan"].read
    shutil.rmtree(channel.root / "linux-64")
    time.sleep(1.1)  # times of reading are in seconds
    mirror.sync(status=3)
    repo = mirror.run("status", "--json").json["repos"]["chan"]
    assert (repo["outcome"], repo["read"] > first) == ("kept", True)
    assert {name: directory["kept"] for name, directory in repo["directories"].items()} == {"linux-64": True, "noarch": False}
    mirror.repos[0]["max_age"] = "0s"
    time.sleep(1.1)
    printed = mirror.run("status", status=3).out
    assert "older than its max_age of 0s" in printed
    assert "chan/linux-64: the last sync could not read it; it keeps the state of" in printed


def test_status_says_since_when_a_file_is_withheld(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    channel.add(make_package("other"))
    channel.remove("other-1.0-0.conda", listed=True)
    channel.publish()
    mirror.sync(status=3)
    since = mirror.snapshots()[-1]
    channel.add(make_package("more"))
    channel.publish()
    mirror.sync()
    [(directory, files)] = mirror.run("status", "--json").json["withheld"].items()
    assert (directory, list(files)) == ("chan/noarch", ["other-1.0-0.conda"])
    assert files["other-1.0-0.conda"]["since"] == since != mirror.snapshots()[-1]
    assert f"withheld: chan/noarch/other-1.0-0.conda: since {since}: " in mirror.run("status").out


# Every night


@pytest.mark.parametrize("where", [{}, {"store": "s3://bucket/store", "cache": "store"}])
def test_units_for_systemd(where: dict[str, str], mirror: Mirror, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed")
    mirror.root = tmp_path / "100% mirror"
    mirror.root.mkdir()
    mirror.settings |= where
    mirror.repos[0]["link"] = True
    told = mirror.run("schedule", "--at", "1:30", "--weekly", "sat")
    told.line("chan: link = true copies there")
    printed = told.out
    assert (f"{mirror.root}/store is not there yet" in told.err) is (not where)
    files = re.split(r"^# /etc/systemd/system/(\S+)\n", printed, flags=re.MULTILINE)[1:]
    paths = []
    for name, text in zip(files[::2], files[1::2], strict=True):
        paths.append(tmp_path / name)
        paths[-1].write_text(text, encoding="utf-8")
    assert [path.suffix for path in paths] == [".service", ".timer"]
    assert "OnCalendar=Sat *-*-* 01:30:00\n" in printed
    store = f'"{tmp_path}/100%% mirror/store"\n'
    assert f"ReadWritePaths={store}" in printed
    assert (f"ExecStartPre=+/usr/bin/install -d -o {getpass.getuser()} {store}" in printed) is bool(where)
    done = subprocess.run([verify, "verify", "--man=no", *paths], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "snapmirror-sync" in line]) == (0, [])


def test_the_service_of_systemd_collects_garbage_even_if_the_sync_fails(mirror: Mirror, upstream: Upstream) -> None:
    """On a full disk that is what helps; and whoever is told of failures is told of this one."""
    printed = mirror.run("schedule", "--at", "01:00").out
    [line] = re.findall("^ExecStart=(.*)$", printed, re.MULTILINE)
    words = shlex.split(line.replace("$$", "$").replace("%%", "%"))  # as systemd.service(5) says
    upstream.credentials = ("somebody", "else")
    for status in (1, 0):
        done = subprocess.run(words, cwd=mirror.root, capture_output=True, text=True)
        assert (done.returncode, "freed" in done.stdout) == (status, True), done.stderr
        upstream.credentials = None


@pytest.mark.parametrize("closed", ["2>&-", ">&- <&-"])
def test_closed_streams_end_nothing_and_no_message_is_among_results(mirror: Mirror, closed: str) -> None:
    mirror.write()
    sync = [sys.executable, "-m", "snapmirror", "sync", "--json", "-c", str(mirror.config)]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *sync], capture_output=True, text=True)
    [sealed] = mirror.snapshots()
    assert done.returncode == 0
    assert json.loads(done.stdout or "{}").get("snapshot", sealed) == sealed


def test_a_line_for_cron_does_what_it_says(mirror: Mirror) -> None:
    [line] = mirror.run("schedule", "--at", "01:05", "--weekly", "Sun", "--cron").out.splitlines()
    assert mirror.run("schedule", "--at", "23:00", "--cron").out.startswith("0 23 * * * {")
    fields, _, command = line.partition(" {")
    assert fields == "5 1 * * 0"
    subprocess.run(["sh", "-c", "{" + command.replace("\\%", "%")], cwd=mirror.root, check=True)
    log = (mirror.root / "snapmirror.log").read_text(encoding="utf-8")
    assert "created the store" in log  # standard error
    assert "Sealed snapshot" in log
    assert "freed" in log
    for wrong in (["--at", "25:00"], ["--at", "1"], ["--at", "01:00", "--weekly", "someday"]):
        mirror.run("schedule", *wrong, status=2).line(wrong[-2], wrong[-1])


def test_a_tunasync_job(mirror: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    mirror.repos[0]["upstream"] = "http://127.0.0.1:9/not-there"
    mirror.write()
    job = {"TUNASYNC_WORKING_DIR": str(mirror.root), "TUNASYNC_UPSTREAM_URL": f"{upstream.url}/chan"}
    runner = Mirror(tmp_path / "elsewhere")
    runner.env = job
    done = runner.run_bare("sync")
    assert done.status == 0, done.err
    assert re.search(r"^Total size is ([0-9\.]+[KMGTP]?)$", done.out, re.MULTILINE)
    assert len(mirror.snapshots()) == 1
    runner.env = job | {"SNAPMIRROR_CONFIG": ""}  # names none
    assert runner.run_bare("sync").status == 0
    runner.env = job | {"TUNASYNC_UPSTREAM_URL": "ftp://127.0.0.1/chan"}
    done = runner.run_bare("sync")
    assert (done.status, "[[repo]] number 1 (chan): upstream must be a URL" in done.err) == (2, True)
    runner.env = job | {"SNAPMIRROR_CONFIG": str(mirror.config)}  # then it is not the job that says what to mirror
    assert runner.run_bare("sync").status == 1
    mirror.add("more", "http://127.0.0.1:9/not-there")  # of two repos the job's upstream can't be both
    mirror.write()
    runner.env = job
    assert runner.run_bare("sync").status == 1
    (tmp_path / "built").mkdir()
    mirror.repos = [{"kind": "conda", "path": "own", "packages": str(tmp_path / "built")}]  # it has none to take the place of
    mirror.write()
    assert runner.run_bare("sync").status == 0
    runner.env = {"TUNASYNC_WORKING_DIR": str(tmp_path)}
    assert f"{tmp_path / 'snapmirror.toml'}: there is no such file" in runner.run_bare("sync").err
