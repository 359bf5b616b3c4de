"""Recorded histories of real channels, played back as an upstream (they lie beside the project, see `real_data`)."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from inprocess import FAST, collect, forget, records_of, repodata, store_at, sync
from serving import serving

from snapmirror import codec
from snapmirror.cli.gc import leaf_digests
from snapmirror.conda import CondaRepo
from snapmirror.store.mark import Mark, roots
from snapmirror.store.store import Store

SHARED = Path(__file__).resolve().parents[2] / "shared"
HISTORY = SHARED / "tools" / "channel_history.py"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not HISTORY.exists(), reason="the recorded channels (../shared) are not beside the project"),
]


@contextmanager
def playback(history: str) -> Iterator[str]:
    """The channel at its first state; POST /_state/N turns to another."""
    command = [sys.executable, HISTORY, "serve", history, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[0].rstrip("/")
        finally:
            process.send_signal(signal.SIGINT)  # it removes its folder only on Ctrl-C


def turn(upstream: str, number: int) -> str:
    """Turn to a state; its time, as an id."""
    return requests.post(f"{upstream}/_state/{number}", timeout=30).text.strip()


def states(history: str) -> list[str]:
    listed = subprocess.run([sys.executable, HISTORY, "list", history], capture_output=True, text=True, check=True)
    return [line.split()[1] for line in listed.stdout.splitlines()]


def answers(url: str, snapshot: str) -> dict[str, str]:
    """Every document and package of a snapshot over HTTP: {path: SHA-256}."""
    found = {}
    with requests.Session() as session:
        for subdir in ("linux-64", "linux-aarch64", "noarch", "osx-arm64"):
            base = f"{url}/{snapshot}/mojo/{subdir}"
            documents = ["repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"]
            listing = session.get(f"{base}/repodata.json", timeout=30)
            if listing.status_code == 404:
                continue
            for name in [*documents, *records_of(listing.json())]:
                answer = session.get(f"{base}/{name}", timeout=30)
                assert answer.status_code == 200, (name, answer.text)
                found[f"{subdir}/{name}"] = hashlib.sha256(answer.content).hexdigest()
    return found


def test_mojo_channel_every_state_is_served_as_upstream_had_it_and_outlives_gc(tmp_path: Path) -> None:
    times = states("mojo-channel")
    repo_for = {
        time: sorted({row["path"].split("/")[0] for row in rows}) for time, rows in _upstream_rows("mojo-channel").items()
    }
    with playback("mojo-channel") as upstream, store_at(tmp_path / "store") as store:
        for number, at in enumerate(times, 1):
            turn(upstream, number)
            subdirs = [subdir for subdir in repo_for[at] if subdir != "noarch"]
            report = sync(store, CondaRepo(path="mojo", upstream=upstream, subdirs=subdirs), seal_as=at)
            assert report.exit_status(strict=True) == 0, report
        with serving(tmp_path / "store") as url:
            before = {at: answers(url, at) for at in times}
            for at in times:
                _equals_upstream(url, at, before[at])
            forget(store, *times[:10])
            assert collect(store) > 0
            time.sleep(1.1)  # a server sees news within a second
            assert {at: answers(url, at) for at in times[10:]} == {at: before[at] for at in times[10:]}
            for at in times[:10]:
                gone = requests.get(f"{url}/{at}/mojo/noarch/repodata.json", timeout=30)
                assert gone.status_code == 410
                assert times[10] in gone.text


def _upstream_rows(history: str) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    with (SHARED / "data" / history / "STATES.tsv").open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            rows.setdefault(row["time_utc"], []).append(row)
    return rows


def _equals_upstream(url: str, at: str, served: dict[str, str]) -> None:
    """Packages byte for byte, records key for key."""
    blobs = SHARED / "data" / "mojo-channel" / "blobs"
    for row in _upstream_rows("mojo-channel")[at]:
        path, content = row["path"], (blobs / row["blob"]).read_bytes()
        if path.endswith(".conda"):
            assert served[path] == hashlib.sha256(content).hexdigest()
        elif path.endswith("/repodata.json"):
            ours = requests.get(f"{url}/{at}/mojo/{path}", timeout=30).json()
            assert records_of(ours) == records_of(json.loads(content))


@pytest.mark.slow
def test_149_dated_versions_of_main_linux_aarch64_cost_under_3_megabytes(tmp_path: Path) -> None:
    times = states("main-linux-aarch64")
    with playback("main-linux-aarch64") as upstream, store_at(tmp_path / "store") as store:
        repo = CondaRepo(path="main", upstream=upstream, subdirs=["linux-aarch64"], download="redirect")
        began = time.monotonic()
        for number, at in enumerate(times, 1):
            turn(upstream, number)
            report = sync(store, repo, seal_as=at, download=FAST)
            assert report.exit_status(strict=True) == 0, report
        took = time.monotonic() - began
        catalog = store.catalog()
        assert len(catalog.records) == len(times) == 149
        step = 1 if os.environ.get("SNAPMIRROR_LONG") else 37  # the first and the last are among them
        for record in catalog.records[::-step]:
            theirs = codec.decompress((SHARED / "data" / "main-linux-aarch64" / f"{record.id}.json.zst").read_bytes(), 1 << 30)
            assert records_of(repodata(store, record, "main", "linux-aarch64")) == records_of(json.loads(theirs))
        marked = time.monotonic()
        fresh = Store.open(tmp_path / "store", write=False).metadata
        Mark(fresh, leaf_digests).add(roots(store, catalog.records, ()))
        marking = time.monotonic() - marked
    metadata = sum(
        path.stat().st_size
        for folder in ("blobs", "snapshots")
        for path in (tmp_path / "store" / folder).rglob("*")
        if path.is_file()
    )
    used = int(subprocess.run(["du", "-sk", tmp_path / "store"], capture_output=True, text=True, check=True).stdout.split()[0])
    print(f"149 syncs {took:.1f} s, mark {marking:.2f} s; records, directories and leaves {metadata} bytes; du {used} KiB")
    assert metadata <= 3_000_000
