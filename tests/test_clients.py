"""Real clients against the real server, and the requests that other clients make, as their access logs show them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import make_channel
import msgspec
import pytest
import requests
from clients import install
from inprocess import store_at, sync
from serving import serving

from snapmirror import codec
from snapmirror.conda import CondaRepo
from snapmirror.store.records import Pin

SHARED = Path(__file__).resolve().parents[2] / "shared"

pytest.importorskip("rattler", reason="py-rattler is not installed")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The example channel, synced twice with a change in between; {"url", "first", "second"}; the first is pinned."""
    folder = tmp_path_factory.mktemp("mirror")
    repo = CondaRepo(
        path="demo", upstream=(folder / "upstream").as_uri(), subdirs=["linux-64"], current_repodata=True, bz2=True
    )
    with store_at(folder / "store") as store:
        found = {}
        for state in ("first", "second"):
            make_channel.put_state(make_channel.CHANNEL, state, folder / "upstream")
            found[state] = sync(store, repo).snapshot or ""
        store.snapshots.write_pin(Pin(name="paper", snapshot=found["first"], set=found["first"]))
    with serving(folder / "store") as url:
        yield {"url": url, **found}


@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "flat"])
@pytest.mark.parametrize("selector", ["current", "day", "second", "paper", ""])
def test_py_rattler_solves_noarch_and_one_arch_and_installs(
    mirror: dict[str, str], selector: str, sharded: bool, tmp_path: Path
) -> None:
    day = f"{mirror['second'][:4]}-{mirror['second'][4:6]}-{mirror['second'][6:8]}"
    segment = {"day": f"{day}/", "second": f"{mirror['second']}/", "": ""}.get(selector, f"{selector}/")
    found = install(f"{mirror['url']}/{segment}demo", "hello-snapmirror", tmp_path, sharded=sharded)
    assert set(found) == {"hello-snapmirror", "libgreet", "greeting-data"}
    program = (tmp_path / "prefix" / "bin" / "hello-snapmirror").read_text()
    assert ("1.1" in program) == (selector != "paper")


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.exists(), reason="the recorded channels (../shared) are not beside the project")
@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "flat"])
def test_py_rattler_installs_from_the_tiny_channel(sharded: bool, tmp_path: Path) -> None:
    repo = CondaRepo(path="tiny", upstream=(SHARED / "data" / "tiny-channel").as_uri(), subdirs=["linux-fake"])
    with store_at(tmp_path / "store") as store:
        report = sync(store, repo)
        assert report.exit_status(strict=True) == 0
        store.snapshots.write_pin(Pin(name="paper", snapshot=report.snapshot or "", set=report.snapshot or ""))
    assert report.snapshot
    day = f"{report.snapshot[:4]}-{report.snapshot[4:6]}-{report.snapshot[6:8]}"
    with serving(tmp_path / "store") as url:
        for selector in ("current", day, "paper"):
            channel, folder = f"{url}/{selector}/tiny", tmp_path / selector
            solved = install(channel, "another_dependent=2.0", folder / "solved", sharded=sharded)
            assert set(solved) == {"another_dependent", "dependent", "dependency"}
            assert install(channel, "small-executable", folder / "files", sharded=sharded)["small-executable"]


def get(mirror: dict[str, str], path: str, method: str = "GET", **headers: str) -> requests.Response:
    """As the client's own library asks; bytes are not decoded for us."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, f"{mirror['url']}/{path}", headers=sent, timeout=30, allow_redirects=False)


def test_conda_4_12_gets_current_repodata_then_repodata_plain_or_gzipped(mirror: dict[str, str]) -> None:
    for name in ("current_repodata.json", "repodata.json"):
        found = get(mirror, f"current/demo/noarch/{name}", Accept_Encoding="gzip, deflate")
        assert found.status_code == 200
        assert found.headers["Content-Type"] == "application/json"
        assert found.headers["Cache-Control"] == "public, max-age=300"
        assert set(found.json()["packages.conda"]) <= {"hello-snapmirror-1.0-0.conda", "hello-snapmirror-1.1-0.conda"}
        again = get(
            mirror,
            f"current/demo/noarch/{name}",
            Accept_Encoding="gzip, deflate",
            If_None_Match=found.headers["ETag"],
            If_Modified_Since=found.headers["Last-Modified"],
        )
        assert (again.status_code, again.content) == (304, b"")
    only_new = get(mirror, "current/demo/noarch/current_repodata.json").json()["packages.conda"]
    assert list(only_new) == ["hello-snapmirror-1.1-0.conda"]


def test_conda_24_11_and_26_7_get_zst_with_only_an_etag(mirror: dict[str, str]) -> None:
    for name in ("current_repodata.json.zst", "repodata.json.zst"):
        found = get(mirror, f"current/demo/linux-64/{name}", Accept_Encoding="gzip, deflate, br, zstd")
        assert found.status_code == 200
        assert "Content-Encoding" not in found.headers
        assert json.loads(codec.decompress(found.content, 1 << 20))["info"]["subdir"] == "linux-64"
        again = get(mirror, f"current/demo/linux-64/{name}", If_None_Match=found.headers["ETag"])
        assert again.status_code == 304


def test_conda_26_7_search_and_mamba_2_8_get_the_index_and_the_shards(mirror: dict[str, str]) -> None:
    base = f"{mirror['second']}/demo/noarch"
    for name in ("repodata.json.zst", "repodata_shards.msgpack.zst"):  # mamba asks for both heads first
        head = get(mirror, f"{base}/{name}", "HEAD")
        body = get(mirror, f"{base}/{name}")
        assert (head.status_code, head.content) == (200, b"")
        same = ("ETag", "Content-Length", "Content-Type", "Last-Modified", "Cache-Control", "X-Snapmirror-Snapshot")
        assert {name: head.headers[name] for name in same} == {name: body.headers[name] for name in same}
    index = msgspec.msgpack.decode(codec.decompress(body.content, 1 << 20))
    assert (index["version"], index["info"]) == (1, {"subdir": "noarch", "base_url": "", "shards_base_url": "./shards/"})
    assert sorted(index["shards"]) == ["greeting-data", "hello-snapmirror"]
    for digest in index["shards"].values():
        shard = get(mirror, f"{base}/shards/{digest.hex()}.msgpack.zst")
        assert hashlib.sha256(shard.content).digest() == digest
        assert shard.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        found = msgspec.msgpack.decode(codec.decompress(shard.content, 1 << 20))
        assert all(len(record["sha256"]) == 32 for record in found["packages.conda"].values())
    again = get(mirror, f"{base}/repodata_shards.msgpack.zst", If_None_Match=body.headers["ETag"])
    assert again.status_code == 304


def test_a_package_is_sent_whole_in_parts_and_as_upstream_had_it(mirror: dict[str, str]) -> None:
    path = "current/demo/noarch/hello-snapmirror-1.1-0.conda"
    whole = get(mirror, path, Accept_Encoding="gzip")
    original = (make_channel.CHANNEL / "packages" / "noarch" / "hello-snapmirror-1.1-0.conda").read_bytes()
    assert whole.content == original
    assert whole.headers["ETag"] == f'"{hashlib.sha256(original).hexdigest()}"'
    assert "Last-Modified" not in whole.headers
    rest = get(mirror, path, Range="bytes=100-", If_Range=whole.headers["ETag"])  # how conda goes on with a partial file
    assert (rest.status_code, rest.content) == (206, original[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(original) - 1}/{len(original)}"


def test_the_common_mirror_script_and_conda_mirror_get_bz2_and_true_404s(mirror: dict[str, str]) -> None:
    assert get(mirror, "current/demo/noarch/repodata.json.bz2").status_code == 200
    for path in (
        "current/demo/osx-64/repodata.json",
        "current/demo/noarch/absent-1-0.conda",
        "current/nothing/noarch/repodata.json",
    ):
        found = get(mirror, path)
        assert found.status_code == 404
        assert "html" not in found.headers["Content-Type"]
        assert found.headers["Cache-Control"] == "no-store"


def test_what_upstream_deleted_is_still_found_under_current_but_not_listed(mirror: dict[str, str]) -> None:
    """Lock files name files long gone."""
    name = "greeting-data-0.9-0.tar.bz2"
    assert name not in get(mirror, "current/demo/noarch/repodata.json").json()["packages"]
    assert get(mirror, f"current/demo/noarch/{name}").status_code == 200
    assert get(mirror, f"{mirror['second']}/demo/noarch/{name}").status_code == 404
    assert get(mirror, f"{mirror['first']}/demo/noarch/{name}").status_code == 200
