"""/-/metrics: what was asked for is what is counted, by several workers too; what the store says; how sync, gc, check went."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from channels import Channel, make_package
from mirror import Mirror
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as families
from serving import server
from upstream import Status, Upstream
from waiting import eventually

from snapmirror.store.live import Blocked

ROOT = Path(__file__).resolve().parent.parent
Labels = frozenset[tuple[str, str]]
Numbers = dict[tuple[str, Labels], float]


class Metrics:
    """One answer, read by Prometheus' own parser."""

    def __init__(self, url: str) -> None:
        answer = requests.get(f"{url}/-/metrics", timeout=10)
        assert answer.status_code == 200
        self.media = answer.headers["Content-Type"]
        self.families = list(families(answer.text))
        self.numbers: Numbers = {
            (sample.name, frozenset(sample.labels.items())): sample.value for one in self.families for sample in one.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """The number under exactly these labels; None if there is none."""
        return self.numbers.get((f"snapmirror_{name}", frozenset(labels.items())))

    def all(self, name: str) -> dict[Labels, float]:
        """Every number of this name, by its labels."""
        return {labels: number for (one, labels), number in self.numbers.items() if one == f"snapmirror_{name}"}

    @property
    def requests(self) -> Mapping[tuple[str, ...], float]:
        """By repo, selector, status and cache; without what was asked of the server itself."""
        found = {tuple(dict(labels)[key] for key in REQUEST): n for labels, n in self.all("http_requests_total").items()}
        return {key: number for key, number in found.items() if key[1] != "internal"}


REQUEST = ("repo", "selector", "status", "cache")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A repo with all files, one that fetches them when they are asked for, and one that was never synced."""
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "upstream").mkdir()
    with Upstream(folder / "upstream") as upstream:
        for path in ("chan", "lazy"):
            channel = Channel(upstream.root / path)
            channel.add(*(make_package(f"{path}{number}") for number in range(8)))
            channel.publish()
        upstream.fault("/lazy/noarch/lazy7-*", Status(404))
        upstream.fault("/lazy/noarch/lazy6-*", Status(200, {}, b"wrong"))
        upstream.fault("/chan/noarch/chan7-*", Status(404))
        made = Mirror(folder / "mirror")
        made.add("chan", f"{upstream.url}/chan", max_age="2d")
        made.add("lazy", f"{upstream.url}/lazy", download="on-demand", allow=[".*/lazy[0-8].*"])
        made.settings["serve"] = {"access_log": "access.log"}
        made.sync(status=3)
        made.run("pin", "paper", "current")
        made.add("never", f"{upstream.url}/never", max_age="1d")
        made.write()
        yield made


@pytest.fixture(scope="module")
def url(mirror: Mirror) -> Iterator[str]:
    """A server of it, for tests that only look."""
    with server(mirror.config) as (made, _):
        yield made


def asked_for(mirror: Mirror) -> list[tuple[str, str, str, dict[str, str], str]]:
    """What a load generator may ask for: path, repo, selector and headers of a request, and the cache status if it is known."""
    (id_,) = mirror.snapshots()
    day = f"{id_[:4]}-{id_[4:6]}-{id_[6:8]}"
    file = "noarch/chan1-1.0-0.conda"
    return [
        (f"/current/chan/{file}", "chan", "current", {}, "-"),
        (f"/chan/{file}", "chan", "none", {}, "-"),
        (f"/{id_}/chan/{file}", "chan", "id", {}, "-"),
        (f"/{id_[:9]}235959Z/chan/{file}", "chan", "time", {}, "-"),
        (f"/{day}/chan/{file}", "chan", "date", {}, "-"),
        (f"/paper/chan/{file}", "chan", "pin", {"Range": "bytes=3-9"}, "-"),
        ("/current/chan/noarch/repodata.json", "chan", "current", {"Accept-Encoding": "gzip"}, "-"),
        ("/current/chan/noarch/missing", "chan", "current", {}, "-"),
        ("/current/lazy/noarch/lazy1-1.0-0.conda", "lazy", "current", {}, ""),
        ("/current/lazy/noarch/lazy7-1.0-0.conda", "lazy", "current", {}, ""),
        ("/current/nothing/at/all", "-", "current", {}, "-"),
        ("/nothing/at/all", "-", "none", {}, "-"),
        ("/%63han/", "chan", "none", {}, "-"),
    ]


def test_logs_and_metrics_agree_with_what_was_sent(mirror: Mirror) -> None:
    """Every answer is once in the log and in the metrics of several workers, with its bytes, whatever a client asked for."""
    log = mirror.root / "access.log"
    load = random.Random(9).choices(asked_for(mirror), k=400)
    with server(mirror.config, "--workers", "2") as (url, _):

        def send(one: tuple[str, str, str, dict[str, str], str]) -> tuple[tuple[str, str, str], int]:
            path, repo, selector, headers, _ = one
            with requests.get(url + path, headers=headers, stream=True, timeout=20) as answer:
                return (repo, selector, str(answer.status_code)), len(answer.raw.read())

        with ThreadPoolExecutor(8) as pool:
            sent = list(pool.map(send, load))
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 10) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            size = len(connection.makefile("rb").read().partition(b"\r\n\r\n")[2])
        sent.append((("-", "-", "400"), size))
        eventually(lambda: sum(Metrics(url).requests.values()) == len(sent))
        told = Metrics(url)
        eventually(lambda: len([line for line in log.read_text().splitlines() if "/-/" not in line]) == len(sent))
    lines = [
        re.search(r'" (\d{3}) (\d+) "[^"]*" "[^"]*" (\S+) ', line) for line in log.read_text().splitlines() if "/-/" not in line
    ]
    logged = [found.groups() for found in lines if found]
    counted = told.requests
    by_labels: Counter[tuple[str, ...]] = Counter()
    for key, number in counted.items():
        by_labels[key[:3]] += int(number)
    assert by_labels == Counter(key for key, _ in sent)
    assert Counter((status, cache) for status, _, cache in logged) == Counter(
        {key: sum(int(n) for one, n in counted.items() if one[2:] == key) for key in {one[2:] for one in counted}}
    )
    bytes_ = {repo: told.get("http_sent_bytes_total", repo=repo) for repo in ("chan", "lazy")}
    assert bytes_ == {repo: sum(size for key, size in sent if key[0] == repo) for repo in bytes_}
    assert sum(int(size) for _, size, _ in logged) == sum(size for _, size in sent)
    took = told.all("http_request_seconds_count")
    internal = sum(n for labels, n in told.all("http_requests_total").items() if ("selector", "internal") in labels)
    assert sum(took.values()) == len(sent) + internal
    assert (
        {cache for _, _, cache in logged}
        == {dict(labels)["cache"] for labels in took}
        == {"-", "hit", "miss"} | ({cache for _, _, cache in logged} & {"follow"})
    )


def test_nobody_can_make_them_grow(url: str) -> None:
    with requests.Session() as session:
        paths = [
            "/x{}/y",
            "/current/x{}",
            "/chan/x{}",
            "/2001-01-{:02}/chan/z",
            "/%00{}",
            "/chan{}/z",
            "/-/x{}",
            "/{:04}0101T000000Z/x",
        ]
        for number in (1, 2):
            for path in paths:
                session.get(url + path.format(number), timeout=10)
        session.get(f"{url}/-/metrics", timeout=10)
        before = set(Metrics(url).numbers)
        for number in range(3, 29):
            for path in paths:
                session.get(url + path.format(number), timeout=10)
        after = Metrics(url)
        assert set(after.numbers) == before
        assert after.get("uncounted_total") == 0


def test_a_worker_that_dies_takes_nothing_with_it(mirror: Mirror) -> None:
    """Nor one that a reload replaces: what was counted stays counted, once."""
    with server(mirror.config, "--workers", "2") as (url, process):

        def total() -> float:
            return sum(Metrics(url).requests.values())

        def ask(count: int) -> None:
            for _ in range(count):
                assert requests.get(f"{url}/chan/noarch/repodata.json", timeout=10).status_code == 200

        ask(10)
        eventually(lambda: total() == 10)
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGKILL)
            eventually(lambda worker=worker: worker not in workers(process.pid) and len(workers(process.pid)) == 2)
        assert total() == 10
        ask(5)
        eventually(lambda: total() == 15)
        before = workers(process.pid)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: not workers(process.pid) & before)
        assert total() == 15


#: one process counts, and several threads of another look at once, for the first time
LOOKED_AT = """
import os, sys, threading
from snapmirror.serve.cells import Regions
regions = Regions()
region = regions.free()
if os.fork() == 0:
    for number in range(5000):
        region.numbers[region.cell((str(number),))] += 1
    os._exit(0)
os.wait()
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=regions.totals) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(regions.totals().values()))
"""


def test_who_looks_while_another_looks_counts_nothing_twice() -> None:
    told = subprocess.run([sys.executable, "-c", LOOKED_AT], capture_output=True, text=True, check=True)
    assert float(told.stdout) == 5000


def workers(process: int) -> set[int]:
    done = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return {int(line) for line in done.stdout.split()}


def test_what_came_of_asking_upstream(mirror: Mirror) -> None:
    with server(mirror.config) as (url, _):
        for number, status in ((2, 200), (3, 200), (6, 502), (7, 404)):
            answer = requests.get(f"{url}/lazy/noarch/lazy{number}-1.0-0.conda", timeout=20)
            assert answer.status_code == status
        eventually(lambda: Metrics(url).get("pull_seconds_count") == 4)  # a client has all of a file before it is stored
        told = Metrics(url)
        size = sum((mirror.root.parent / f"upstream/lazy/noarch/lazy{n}-1.0-0.conda").stat().st_size for n in (2, 3))
        assert {outcome: told.get("pulls_total", outcome=outcome) for outcome in ("ok", "absent", "mismatch", "full")} == {
            "ok": 2,
            "absent": 1,
            "mismatch": 1,
            "full": None,
        }
        assert told.get("pulled_bytes_total") == size
        assert told.get("pull_seconds_count") == 4
        assert told.get("upstream_errors_total", what="file", error="mismatch") == 1
        assert told.all("upstream_left_alone") == {}
        with mirror.store() as store:
            store.live.note_blocked(Blocked(host="a.example", until="99990101T000000Z", problem="fails"))
            store.live.note_blocked(Blocked(host="b.example", until="20010101T000000Z", problem="failed"))
        assert Metrics(url).all("upstream_left_alone") == {frozenset({("host", "a.example")}): 1}


def test_what_the_store_says_and_how_the_verbs_went(mirror: Mirror) -> None:
    """Without opening the index: a server that only reads must not."""
    mirror.run("gc")
    mirror.run("gc", "--dry-run")
    status = mirror.run("status", "--json", status=None).json
    index = mirror.store_path / "index.lmdb"
    index.rename(mirror.root / "aside")
    eager = mirror.repos[1]["download"]
    mirror.repos[1] |= {"download": "redirect"}
    del mirror.repos[1]["allow"]
    mirror.write()
    with server(mirror.config) as (url, _):
        told = Metrics(url)
        assert not index.exists()
    (mirror.root / "aside").rename(index)
    mirror.repos[1] |= {"download": eager, "allow": [".*/lazy[0-8].*"]}
    for name, repo in status["repos"].items():
        if name != "never":
            assert (told.get("repo_files", repo=name), told.get("repo_bytes", repo=name)) == (repo["files"], repo["bytes"])
            assert 0 <= (told.get("repo_age_seconds", repo=name) or 0) - repo["age"] < 600
    assert told.get("repo_age_seconds", repo="never") is None
    assert [told.get("repo_max_age_seconds", repo=name) for name in ("chan", "lazy", "never")] == [172800, None, 86400]
    assert [told.get("withheld_files", repo=name) for name in ("chan", "lazy")] == [1, 0]
    assert (told.get("snapshots"), told.get("pins"), told.get("store_readable")) == (1, 1, 1)
    assert told.get("snapshots_bytes") == status["bytes"]
    blobs = [path.stat().st_size for path in (mirror.store_path / "blobs").rglob("*") if path.is_file()]
    assert (told.get("store_blobs"), told.get("store_bytes")) == (len(blobs), sum(blobs))
    runs = {tuple(sorted(labels)): count for labels, count in told.all("runs_total").items()}
    assert {(dict(key)["verb"], dict(key)["repo"], dict(key)["outcome"]): count for key, count in runs.items()} == {
        ("gc", "", "done"): 1,
        ("sync", "chan", "complete"): 1,
        ("sync", "lazy", "complete"): 1,
    }
    newest = told.get("last_success_timestamp_seconds", verb="gc", repo="")
    assert newest == told.get("last_run_timestamp_seconds", verb="gc", repo="")


def test_runs_that_go_wrong(tmp_path: Path, upstream: Upstream, channel: Channel) -> None:
    mirror = Mirror(tmp_path / "mirror")
    mirror.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    mirror.settings["download"]["retries"] = 0
    mirror.sync()
    upstream.fault("/chan/noarch/*", Status(500, {"Retry-After": "0"}))
    mirror.sync(status=3)
    upstream.fault("*", Status(500, {"Retry-After": "0"}))
    mirror.sync("--dry-run", status=None)
    (blob,) = (mirror.store_path / "blobs").rglob(mirror.reader("chan/noarch").leaves["lib"].hex())
    blob.chmod(0o644)
    blob.write_bytes(b"rotten")
    problems = mirror.run("check", "--json", status=5).json["problems"]
    with server(mirror.config) as (url, _):
        told = Metrics(url)
    assert [told.get("runs_total", verb="sync", repo="chan", outcome=how) for how in ("complete", "kept", "failed")] == [
        1,
        1,
        None,
    ]
    assert told.get("runs_total", verb="check", repo="", outcome="damaged") == 1
    assert told.get("check_problems") == len(problems) > 0
    assert told.get("last_success_timestamp_seconds", verb="check", repo="") is None


def test_forms(url: str) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
    answer = requests.get(f"{url}/-/metrics", headers=accept, timeout=10)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    found = {one.name for one in open_families(answer.text)}
    told = Metrics(url)
    assert told.media.startswith("text/plain; version=0.0.4")
    names = {one.name.removesuffix("_total") for one in told.families}
    assert names == {name.removesuffix("_total") for name in found}
    assert all(name.startswith("snapmirror_") for name in names)
    manual = (ROOT / "man" / "snapmirror.1").read_text().partition("\n.Sh METRICS\n")[2].partition("\n.Sh ")[0]
    stated = {name for line in re.findall(r"^\.It (.*)$", manual, re.MULTILINE) for name in re.findall(r"Va (\w+)", line)}
    assert {name.removesuffix("_total") for name in stated} == names


def test_alert_rules(url: str) -> None:
    """The example loads, and names only what there is."""
    rules = [
        rule for group in yaml.safe_load((ROOT / "examples" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    told = Metrics(url)
    kinds = {one.name: one for one in told.families}
    known = {*kinds, *(f"{name}_total" for name, one in kinds.items() if one.type == "counter")}
    known |= {f"{name}_bucket" for name, one in kinds.items() if one.type == "histogram"}
    for rule in rules:
        named = set(re.findall(r"snapmirror_\w+", rule["expr"]))
        assert named, rule
        assert named <= known, rule
        assert rule["annotations"]["summary"]
