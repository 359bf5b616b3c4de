"""A store of objects in a gateway of Ceph and four servers behind nginx: files, metadata, how soon a publication is seen.

Files of 10 MB are asked for through nginx from four servers, which keep nothing (all bytes come from the gateway each time),
and then from four that keep what they have sent; and through the same nginx from the gateway itself, with signed URLs. Four
that send clients to the gateway are asked by curl, which follows, and finds the gateway behind that nginx. All of it is on one
machine, so that who needs the processor less leaves more of it to the gateway. Metadata is asked for from one of the servers,
and from a server of a store on the disk that was synced from the same channel.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from snapmirror.remote.objects import Objects
from snapmirror.remote.settings import S3, Address

from . import synthetic
from .measure import ROOT, Bar, Result, Skip, Work, in_turn, need, run
from .servers import free_port, nginx, snapmirror, sync
from .serving import make_files
from .wrk import script, wrk

SERVERS = 4
_ITSELF = "nginx on the gateway itself"
THROUGH = Bar("4 servers behind nginx, files of 10 MB: all from the gateway", _ITSELF, least=0.7)
CACHED = Bar("  from what the servers keep", _ITSELF, least=0.7)
REDIRECTED = Bar("  by servers that send clients to the gateway", _ITSELF, least=0.7)
#: on a machine that does other things as well, shares of the processor say more than times by the clock
COSTS = {
    THROUGH: Bar("  processor of servers, nginx and gateway for a file from the gateway, ms", _ITSELF, unit="ms"),
    CACHED: Bar("  processor for a file that servers keep, ms", _ITSELF, unit="ms"),
}
_ON_DISK = "a store on the disk"
METADATA = {
    "repodata_shards.msgpack.zst": Bar("serve repodata_shards.msgpack.zst of a store of objects", _ON_DISK, least=0.9),
    "repodata.json.zst": Bar("serve repodata.json.zst of a store of objects", _ON_DISK, least=0.9),
}
SEEN = Bar("  until all servers show what was published", most=5.0, unit="s")
BARS = (THROUGH, CACHED, REDIRECTED, *COSTS.values(), *METADATA.values(), SEEN)

_CEPH = ROOT.parent / "shared" / "tools" / "ceph-rgw-up.sh"
_NGINX = """\
    location / {{
        proxy_pass http://{upstream};
        proxy_set_header Host {host};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_max_temp_file_size 0;
    }}
"""
_BUCKET = "bench"
_PATIENCE = 60.0
#: times that curl asks for each file
_TIMES = 10
#: for how long signed URLs are good
_SIGNED = timedelta(hours=6)


class _Gateway(NamedTuple):
    endpoint: str
    access_key: str
    secret_key: str


def measure(work: Work) -> Iterator[Result]:
    """One channel, synced into a store of each kind."""
    need("nginx", "wrk", "curl")
    files, index = work.folder / "channel", work.folder / "index" / "linux-64"
    names = make_files(files, {"10 MB": 10_000_000}, work.size(10, 2))["10 MB"]
    index.mkdir(parents=True)
    synthetic.write(index / "repodata.json", work.size(5_500, 300), work.size(800, 50))
    with _ceph(work.folder / "ceph") as gateway, nginx(work.folder / "upstream", index.parent) as address:
        objects = Objects(Address(_BUCKET, "store"), S3(**gateway._asdict()))
        repos = _repos({"files": (files.as_uri(), "eager"), "index": (address, "redirect")})
        machines = [_Machine(work.folder / f"machine{number}", gateway, repos) for number in range(SERVERS)]
        sync(machines[0].configure())
        yield from _files(work, gateway, objects, machines, names)
        yield from _redirected(work, gateway, repos, names)
        yield from _metadata(work, machines[0], repos)
        yield Result(SEEN, [_seen(machines) for _ in range(work.runs)])


class _Machine:
    """One that has the store of objects, with a cache of its own."""

    def __init__(self, folder: Path, gateway: _Gateway, repos: str, files: str = "proxy") -> None:
        folder.mkdir()
        self._files = files
        self._folder = folder
        self._gateway = gateway
        self._repos = repos

    def configure(self, cache_size: str = "10GB") -> Path:
        """Its configuration."""
        keys = "".join(f'{key} = "{value}"\n' for key, value in self._gateway._asdict().items())
        config = self._folder / "snapmirror.toml"
        config.write_text(
            f'store = "s3://{_BUCKET}/store"\ncache = "cache"\n[s3]\nregion = "us-east-1"\n{keys}'
            f'[serve]\nport = 0\nfiles = "{self._files}"\ncache_size = "{cache_size}"\n{self._repos}'
        )
        return config


def _repos(named: Mapping[str, tuple[str, str]]) -> str:
    """Tables of a configuration. named: {path: upstream, mode}"""
    return "".join(
        f'[[repo]]\nkind = "conda"\npath = "{path}"\nupstream = "{upstream}"\nsubdirs = ["linux-64"]\ndownload = "{mode}"\n'
        for path, (upstream, mode) in named.items()
    )


@contextlib.contextmanager
def _fleet(machines: Sequence[_Machine], folder: Path, cache_size: str = "10GB") -> Iterator[tuple[str, list[str]]]:
    """Servers behind nginx: its address, and theirs."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(snapmirror(machine.configure(cache_size))) for machine in machines]
        yield stack.enter_context(_proxy(folder, [urllib.parse.urlsplit(url).netloc for url in servers], "$http_host")), servers


def _proxy(folder: Path, servers: Sequence[str], host: str) -> contextlib.AbstractContextManager[str]:
    """nginx in front of servers. host: what it tells them to be asked for"""
    listed = "".join(f"server {server} max_fails=0; " for server in servers)
    location = _NGINX.format(upstream="fleet", host=host)
    return nginx(folder, folder, server=location, http=f"upstream fleet {{ {listed}keepalive 64; }}")


def _files(
    work: Work, gateway: _Gateway, objects: Objects, machines: Sequence[_Machine], names: Sequence[str]
) -> Iterator[Result]:
    itself, ours, seconds = work.folder / "itself.lua", work.folder / "ours.lua", work.size(5, 1)
    signed = [urllib.parse.urlsplit(url) for url in _signed(work, objects, names)]
    script(itself, [f"{url.path.lstrip('/')}?{url.query}" for url in signed])
    script(ours, [f"current/{name}" for name in names])
    host = urllib.parse.urlsplit(gateway.endpoint).netloc
    with _proxy(work.folder / "nginx-itself", [host], host) as direct:
        for bar, cache_size in ((THROUGH, "1B"), (CACHED, "10GB")):
            with _fleet(machines, work.folder / f"nginx-{cache_size}", cache_size) as (address, servers):
                for server in servers:
                    wrk(ours, server, 1)  # each has the metadata, and what it keeps
                wrk(itself, direct, 1)
                costs: list[float] = []

                def ask(file: Path, server: str, costs: list[float] = costs) -> float:
                    before = _processor(work.folder)
                    rate = wrk(file, server, seconds)
                    costs.append(
                        max(_processor(work.folder) - before, 0.01) * 1000 / (rate * seconds)
                    )  # it is counted in ticks
                    return rate

                mine, theirs = in_turn(work.runs, partial(ask, ours, address), partial(ask, itself, direct))
                yield Result(bar, mine, theirs, rate=True)
                yield Result(COSTS[bar], costs[::2], costs[1::2])


def _redirected(work: Work, gateway: _Gateway, repos: str, names: Sequence[str]) -> Iterator[Result]:
    with _proxy(work.folder / "nginx-through", [urllib.parse.urlsplit(gateway.endpoint).netloc], "$http_host") as front:
        through = gateway._replace(endpoint=front)
        machines = [_Machine(work.folder / f"redirecting{number}", through, repos, "redirect") for number in range(SERVERS)]
        itself = _signed(work, Objects(Address(_BUCKET, "store"), S3(**through._asdict())), names)
        with _fleet(machines, work.folder / "nginx-redirect") as (address, servers):
            for server in servers:  # each has the metadata
                _curl(work.folder, [f"{server}/current/{name}" for name in names])
            ours = [f"{address}/current/{name}" for name in names]
            mine, theirs = in_turn(
                work.runs, lambda: _curl(work.folder, ours * _TIMES), lambda: _curl(work.folder, itself * _TIMES)
            )
            yield Result(REDIRECTED, mine, theirs, rate=True)


def _curl(folder: Path, urls: Sequence[str]) -> float:
    """Files a second, of 16 at once; it follows redirects. Raises RuntimeError if one is not had."""
    asked = folder / "curl.conf"
    asked.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
    began = time.perf_counter()
    run(["curl", "--silent", "--show-error", "--fail", "--location", "--parallel", "--parallel-max", "16", "--config", asked])
    return len(urls) / (time.perf_counter() - began)


def _signed(work: Work, objects: Objects, names: Sequence[str]) -> list[str]:
    """URLs of files at the gateway."""
    digests = _digests(work.folder / "channel" / "linux-64" / "repodata.json")
    found = [digests[Path(name).name] for name in names]
    return [objects.sign("GET", f"blobs/{digest[:2]}/{digest}", _SIGNED) for digest in found]


def _processor(folder: Path) -> float:
    """Seconds of the processor that all programs have taken by now whose command lines name a folder, with their children."""
    listed = [line.split(maxsplit=2) for line in run(["ps", "-A", "-o", "pid=,ppid=,args="]).splitlines()]
    ours = {pid for pid, _, command in listed if str(folder) in command}
    return sum(_ticks(pid) for pid, parent, _ in listed if pid in ours or parent in ours)


def _ticks(pid: str) -> float:
    """Seconds of the processor that a program has taken by now (proc(5)); ps tells only whole ones."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _digests(repodata: Path) -> Mapping[str, str]:
    """{file: SHA-256}"""
    return {name: record["sha256"] for name, record in json.loads(repodata.read_text())["packages.conda"].items()}


def _metadata(work: Work, machine: _Machine, repos: str) -> Iterator[Result]:
    local = work.folder / "local.toml"
    local.write_text(f'store = "local"\n[serve]\nport = 0\n{repos}')
    sync(local)
    paths, seconds = work.folder / "metadata.lua", work.size(3, 1)
    with snapmirror(machine.configure()) as ours, snapmirror(local) as theirs:
        for name, bar in METADATA.items():
            script(paths, [f"current/index/linux-64/{name}"])
            for address in (ours, theirs):
                wrk(paths, address, 1)
            mine, others = in_turn(work.runs, lambda: wrk(paths, ours, seconds), lambda: wrk(paths, theirs, seconds))
            yield Result(bar, mine, others, rate=True)


def _seen(machines: Sequence[_Machine]) -> float:
    """Seconds from the end of a sync until all servers, which clients ask meanwhile, answer from its snapshot."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(snapmirror(machine.configure())) for machine in machines[1:]]
        before = {_newest(server) for server in servers}
        sync(machines[0].configure())
        began = time.perf_counter()
        waiting = set(servers)
        while waiting:
            waiting = {server for server in waiting if _newest(server) in before}
            if time.perf_counter() > began + _PATIENCE:
                raise RuntimeError("a server does not see what was published")
            time.sleep(0.02)
        return time.perf_counter() - began


def _newest(server: str) -> str:
    """The id of the snapshot from which a server answers."""
    with urllib.request.urlopen(f"{server}/current/index/linux-64/repodata_shards.msgpack.zst", timeout=_PATIENCE) as answer:
        return str(answer.headers["X-Snapmirror-Snapshot"])


@contextlib.contextmanager
def _ceph(folder: Path) -> Iterator[_Gateway]:
    """A gateway with one disk, which is a file, and a bucket. Raises Skip if there is none to be had."""
    need("ceph-mon", "ceph-osd", "radosgw", "uuidgen", "curl")
    if not _CEPH.exists():
        raise Skip("what starts Ceph (../shared) is not beside the project")
    try:
        import boto3
    except ImportError:
        raise Skip("boto3 is not installed (pip install '.[test]')") from None
    started = subprocess.run(["bash", _CEPH, "start", folder, str(_three_ports())], capture_output=True, text=True, timeout=120)
    try:
        said = dict(re.findall(r"(\w+)=(\S+)", started.stdout))
        if started.returncode:
            raise Skip(f"Ceph does not start: {started.stderr[-500:]}")
        found = _Gateway(said["AWS_ENDPOINT_URL"], said["AWS_ACCESS_KEY_ID"], said["AWS_SECRET_ACCESS_KEY"])
        keys = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
        boto3.client("s3", endpoint_url=found.endpoint, region_name="us-east-1", **keys).create_bucket(Bucket=_BUCKET)
        yield found
    finally:
        subprocess.run(["bash", _CEPH, "stop", folder], capture_output=True, timeout=60)


def _three_ports() -> int:
    """The first of three ports in a row that nobody listens on."""
    while True:
        first = free_port()
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as opened:
            for port in range(first, first + 3):
                opened.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
