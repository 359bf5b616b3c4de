"""The measurements run and print their table; what the figures are is no matter here."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "repodata",
    "selection",
    "index",
    "download",
    "trees",
    "adopt",
    "serving",
    "pages",
    "pull",
    "history",
    "scrub",
    "years",
    "first",
    "fleet",
    "face",
)


def bench(name: str) -> ModuleType:
    """A module of bench/, which is not installed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"bench.{name}")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_all_measurements_are_tested() -> None:
    assert bench("run").NAMES == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.long] * (one == "fleet")) for one in NAMES])
def test_quick_form_prints_all_rows_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, "--quick", name)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("what ")) :]
    for bar in bench(name).BARS:
        rows = [line for line in table if line.startswith(bar.what + "  ") and bar.peer in line and bar.text in line]
        assert rows, f"no row for {bar} in\n{done.stdout}"
    assert "failed:" not in done.stdout
    assert {"machine", "disk", "system", "python"} <= {line.split()[0] for line in lines[:4]}
    assert str(tmp_path) not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--quick", "nothing")
    assert done.returncode == 2
    assert "no such measurement: nothing (there are: repodata" in done.stderr


def test_a_missing_program_leaves_its_rows_with_the_reason(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "trees"],
        cwd=ROOT,
        env={"PATH": "", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("skipped: cp is not installed") == len(bench("trees").BARS)


def test_a_missing_peer_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = bench("measure")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(measure.Skip, match=r"devpi-init is not installed here \(pip install '\.\[bench\]'\)"):
        measure.beside("devpi-init")
    (tmp_path / "devpi-init").touch()
    assert measure.beside("devpi-init") == str(tmp_path / "devpi-init")


def test_a_page_counts_only_with_all_files_on_it() -> None:
    pages = bench("pages")
    json_, html = "application/vnd.pypi.simple.v1+json", "text/html"
    listed = json.dumps({"files": [{"filename": "a-1.0.whl"}, {"filename": "a-2.0.whl"}]}).encode()
    anchors = b'<a href="/a-1.0.whl#sha256=0">a-1.0.whl</a><br>\n<a href="a-2.0.whl"\n >\n a-2.0.whl</a>'
    for media, body in ((json_, listed), (html, anchors)):
        pages.check("page", 200, media, body, ["a-2.0.whl", "a-1.0.whl"])
        with pytest.raises(RuntimeError, match=r"200, 2 files, without \['a-3\.0\.whl'\], with"):
            pages.check("page", 200, media, body, ["a-1.0.whl", "a-2.0.whl", "a-3.0.whl"])
        with pytest.raises(RuntimeError, match=r"with \['a-2\.0\.whl'\]"):
            pages.check("page", 200, media, body, ["a-1.0.whl"])
        with pytest.raises(RuntimeError, match="page: 404"):
            pages.check("page", 404, media, body, ["a-1.0.whl", "a-2.0.whl"])
        with pytest.raises(RuntimeError, match="2 files, without"):
            pages.check("page", 200, media, body.replace(b"a-2.0", b"a-1.0"), ["a-1.0.whl"])


def test_results() -> None:
    measure = bench("measure")
    least = measure.Bar("it", "peer", least=2.0)
    assert measure.Result(least, [1.0, 1.0, 2.0], [3.0, 2.0, 2.0]).ratios == [3.0, 2.0, 1.0]
    assert measure.Result(least, [1.0, 1.0, 2.0], [3.0, 2.0, 2.0]).met is True
    assert measure.Result(least, [3.0], [2.0], rate=True).ratios == [1.5]
    assert measure.Result(least, [3.0], [2.0], rate=True).met is False
    most = measure.Bar("it", most=3, unit="MB")
    assert (measure.Result(most, [3.0]).met, measure.Result(most, [3.1]).met) == (True, False)
    assert measure.Result(measure.Bar("it"), [3.0]).met is None
    assert (least.text, most.text, measure.Bar("it").text) == (">= 2", "<= 3 MB", "-")
    assert measure.spread([3.0, 1234.5, 0.0012]) == "3 [0.0012..1,234]"


def test_steps_take_turns() -> None:
    said: list[str] = []

    def step(name: str, figure: float) -> float:
        said.append(name)
        return figure

    found = bench("measure").in_turn(2, lambda: step("ours", 1.0), lambda: step("peer", 2.0))
    assert said == ["ours", "peer", "ours", "peer"]
    assert found == [[1.0, 1.0], [2.0, 2.0]]


def test_synthetic_repodata_is_the_same_every_time_and_like_a_real_one(tmp_path: Path) -> None:
    synthetic = bench("synthetic")
    for file in ("one", "other"):
        synthetic.write(tmp_path / file, 2000, 100)
    text = (tmp_path / "one").read_bytes()
    assert text == (tmp_path / "other").read_bytes()
    found = json.loads(text)
    records = found["packages"] | found["packages.conda"]
    assert len(records) == 2000
    assert all(file.endswith(".tar.bz2") for file in found["packages"])
    assert all(file.endswith(".conda") for file in found["packages.conda"])
    builds = Counter(record["name"] for record in records.values())
    assert len(builds) == 100
    assert max(builds.values()) > 5 * min(builds.values())
    assert 500 < len(text) / 2000 < 650
    for file, record in records.items():
        name, version, build = file.removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 2)
        assert (record["name"], record["version"], record["build"]) == (name, version, build)
        assert (len(record["sha256"]), len(record["md5"])) == (64, 32)


def test_nginx_is_configured_as_debian_does_but_for_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = bench("servers")
    default = tmp_path / "default.conf"
    default.write_text(
        "user www-data;\nworker_processes auto;\npid /run/nginx.pid;\nevents {\n\tworker_connections 768;\n}\n\n"
        "http {\n\t# a comment\n\tsendfile on;\n\ttcp_nopush on;\n\taccess_log /var/log/nginx/access.log;\n"
        "\tinclude /etc/nginx/mime.types;\n\tinclude /etc/nginx/sites-enabled/*;\n}\n"
    )
    monkeypatch.setattr(servers, "DEFAULT_CONF", default)
    text = servers.nginx_conf(tmp_path, tmp_path / "root", 8999)
    lines = [line.strip() for line in text.splitlines()]
    assert {"worker_processes 1;", "worker_connections 768;", "sendfile on;", "tcp_nopush on;", "access_log off;"} <= set(lines)
    assert {"listen 127.0.0.1:8999;", f"root {tmp_path / 'root'};", "include /etc/nginx/mime.types;"} <= set(lines)
    assert not any("www-data" in line or "sites-enabled" in line or "/run/nginx.pid" in line for line in lines)
    assert "tcp_nopush off;" in servers.nginx_conf(tmp_path, tmp_path, 8999, nopush=False)


def test_what_a_client_gets_without_a_proxy_is_told_in_words(tmp_path: Path) -> None:
    faults = bench("faults")
    expected = {
        "healthy": "right",
        "moved": "right (sent to upstream)",
        "early": "cut short",
        "chunks": "cut short",
        "short": "WRONG, 150,000 bytes as though whole",
        "wrong": "WRONG, 300,000 bytes as though whole",
        "tls": "sent to who can't prove its name",
        "ill": "refused (503)",
    }
    try:
        index = faults.FaultyIndex(tmp_path)
    except faults.Skip as skip:
        pytest.skip(str(skip))
    with index:
        base = f"{index.address}/simple/"
        assert {name: faults.outcome(base, name, index.contents[name]) for name in expected} == expected
        index.healed = True
        assert {faults.outcome(base, name, index.contents[name]) for name in expected} == {"right"}


def test_a_client_that_leaves_costs_the_next_one_nothing(tmp_path: Path) -> None:
    """One of the rows about clients; what ours get in all of them is tested where pulling is."""
    clients, measure = bench("faults_clients"), bench("measure")
    title = "a client that leaves after 1 byte, and another"
    assert clients.play(measure.Work(tmp_path, quick=True, runs=1), title, clients.ours) == "right; upstream asked once"
