"""What a channel has beside its repodata: mirrored, cut down to what is listed, and kept for every date."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from channels import Channel, make_package, read_document
from hypothesis import given
from hypothesis import strategies as st
from mirror import Mirror
from serving import server, serving
from upstream import Html, Status, Upstream

from snapmirror.conda import names, parts
from snapmirror.conda.sidecars import Sidecars
from snapmirror.digests import sha256

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIB, DATA = make_package("lib"), make_package("data", ext=".tar.bz2")
TOOL = make_package("tool", subdir="linux-64", depends=["lib"])
NOTICES = b'{"notices": [{"id": "1",   "message": "hello", "level": "info"}]}\n'


@pytest.fixture
def channel(channel: Channel) -> Channel:
    publish(channel)
    return channel


def publish(channel: Channel, **more: Any) -> None:
    """The channel, with a document of each kind beside it. more: run_exports of some packages."""
    channel.publish()
    every: dict[str, Any] = {}
    for subdir in ("noarch", "linux-64"):
        repodata = channel.repodata(subdir)
        maps = {section: repodata[section] for section in ("packages", "packages.conda")}
        every |= {record["name"]: record for records in maps.values() for record in records.values()}
        exports = {key: {file: _exports(file, more) for file in records} for key, records in maps.items()}
        write(channel, f"{subdir}/run_exports.json", {"info": {"subdir": subdir, "version": 1}, **exports})
        write(channel, f"{subdir}/repodata_from_packages.json", {**repodata, "kept": {"as": "it is"}})
        patch = {key: {file: {"license": "MIT"} for file in records} for key, records in maps.items()}
        write(
            channel, f"{subdir}/patch_instructions.json", {"patch_instructions_version": 1, **patch, "remove": [], "revoke": []}
        )
    about = {name: {"version": record["version"], "subdirs": [record["subdir"], "win-64"]} for name, record in every.items()}
    write(
        channel, "channeldata.json", {"channeldata_version": 1, "packages": about, "subdirs": ["linux-64", "noarch", "win-64"]}
    )
    (channel.root / "notices.json").write_bytes(NOTICES)


def _exports(file: str, more: dict[str, Any]) -> dict[str, Any]:
    name = names.leaf_of(file)
    return {"run_exports": {"weak": [f"{name} {more.get(name, '>=1')}"]}}


def write(channel: Channel, path: str, document: Any) -> None:
    (channel.root / path).write_text(json.dumps(document))


def read(channel: Channel, path: str) -> Any:
    return json.loads((channel.root / path).read_bytes())


@pytest.fixture
def site(mirror: Mirror) -> Iterator[str]:
    """A server of the mirror, once it has been synced."""
    mirror.sync()
    with serving(mirror.store_path) as url:
        yield url


PATHS = [
    *(f"{subdir}/{name}.json" for subdir in ("noarch", "linux-64") for name in ("run_exports", "repodata_from_packages")),
    "linux-64/patch_instructions.json",
]


def test_they_are_served_as_upstream_has_them(channel: Channel, mirror: Mirror, site: str) -> None:
    """At every date, with and without compression, and in the folders for other web servers."""
    snapshot = mirror.snapshots()[0]
    for path in PATHS:
        for url in (f"{site}/current/chan/{path}", f"{site}/{snapshot}/chan/{path}", f"{site}/chan/{path}"):
            assert requests.get(url, timeout=20).json() == read(channel, path)
        compressed = requests.get(f"{site}/current/chan/{path}.zst", timeout=20)
        assert json.loads(zstd.decompress(compressed.content)) == read(channel, path)
        assert compressed.headers["Content-Type"] == "application/zstd"
        assert read_document(mirror.tree("chan") / path) == read(channel, path)
        assert read_document(mirror.tree("chan") / f"{path}.zst") == read(channel, path)
    about = requests.get(f"{site}/current/chan/channeldata.json", timeout=20)
    assert about.json()["subdirs"] == ["linux-64", "noarch"]  # win-64 is not mirrored
    assert about.json()["packages"]["tool"] == {"version": "1.0", "subdirs": ["linux-64"]}
    assert read_document(mirror.tree("chan") / "channeldata.json") == about.json()
    notices = requests.get(f"{site}/current/chan/notices.json", timeout=20)
    assert (notices.content, notices.headers["Content-Type"]) == (NOTICES, "application/json")
    assert (mirror.tree("chan") / "notices.json").read_bytes() == NOTICES
    assert requests.get(f"{site}/current/chan/unheard_of.json", timeout=20).status_code == 404
    page = requests.get(f"{site}/current/chan/", timeout=20).text
    assert all(f'href="{name}"' in page for name in ("linux-64/", "noarch/", "channeldata.json", "notices.json"))
    assert 'href="run_exports.json.zst"' in requests.get(f"{site}/current/chan/linux-64/", timeout=20).text


def test_they_say_nothing_of_what_is_not_listed(channel: Channel, mirror: Mirror) -> None:
    """Be it left out by a selection, or withheld because its bytes are not there."""
    mirror.repos[0]["select"] = {"exclude": ["lib"]}
    (channel.root / "noarch" / DATA.filename).unlink()
    mirror.sync(status=3)
    assert mirror.listed("chan/noarch") == set()
    tree = mirror.tree("chan")
    for name in ("run_exports", "repodata_from_packages", "patch_instructions"):
        found = read_document(tree / f"noarch/{name}.json")
        assert (found["packages"], found["packages.conda"]) == ({}, {})
        assert TOOL.filename in read_document(tree / f"linux-64/{name}.json")["packages.conda"]
    assert set(read_document(tree / "channeldata.json")["packages"]) == {"tool"}


def test_a_date_keeps_what_it_had(channel: Channel, mirror: Mirror) -> None:
    mirror.sync()
    first = mirror.snapshots()[0]
    publish(channel, lib=">=1,<2")
    (channel.root / "notices.json").unlink()
    (channel.root / "linux-64" / "patch_instructions.json").unlink()
    mirror.sync()
    mirror.run("gc", "--grace", "0s")
    mirror.run("check", "--read-data")
    path = "noarch/run_exports.json"
    with serving(mirror.store_path) as site:
        now, then = (requests.get(f"{site}/{at}/chan/{path}", timeout=20).json() for at in ("current", first))
        assert now["packages.conda"][LIB.filename] == {"run_exports": {"weak": ["lib >=1,<2"]}}
        assert then["packages.conda"][LIB.filename] == {"run_exports": {"weak": ["lib >=1"]}}
        assert requests.get(f"{site}/{first}/chan/notices.json", timeout=20).content == NOTICES
        gone = f"{site}/{{}}/chan/linux-64/patch_instructions.json"
        assert [requests.get(gone.format(at), timeout=20).status_code for at in ("current", first)] == [404, 200]


def test_where_the_index_is_read_on_request(channel: Channel, mirror: Mirror) -> None:
    """They are as the newest snapshot has them: only a sync reads them."""
    mirror.repos[0] |= {"download": "on-demand", "metadata": "on-request", "max_metadata_age": "1s"}
    mirror.write()
    with server(mirror.config) as (url, _):

        def listed(document: str) -> list[str] | int:
            answer = requests.get(f"{url}/current/chan/noarch/{document}", timeout=20)
            return sorted(answer.json()["packages.conda"]) if answer.ok else answer.status_code

        new = make_package("new")
        assert (listed("repodata.json"), listed("run_exports.json")) == ([LIB.filename], 404)
        mirror.sync()
        channel.add(new)
        publish(channel)
        time.sleep(1.1)
        both = sorted([LIB.filename, new.filename])
        assert (listed("repodata.json"), listed("run_exports.json")) == (both, [LIB.filename])
        mirror.sync()
        time.sleep(1.1)
        assert (listed("repodata.json"), listed("run_exports.json")) == (both, both)


def test_what_is_unchanged_is_neither_sent_nor_stored_again(channel: Channel, mirror: Mirror, upstream: Upstream) -> None:
    mirror.sync()
    before, blobs = mirror.directories(), _blobs(mirror)
    upstream.clear()
    mirror.sync()
    asked = [request for request in upstream.requests if request.path.endswith(".json") and request.status != 404]
    assert asked
    assert {request.status for request in asked} == {304}
    assert (mirror.directories(), _blobs(mirror)) == (before, blobs)
    publish(channel, lib=">=1,<2")
    mirror.sync()
    changed = {path for path, digest in mirror.directories().items() if before[path] != digest}
    assert changed == {"chan/"}
    assert len(_blobs(mirror) - blobs) == 3  # one part, one bucket, one directory
    assert read_document(mirror.tree("chan") / "noarch/run_exports.json") == read(channel, "noarch/run_exports.json")


def _blobs(mirror: Mirror) -> set[str]:
    return {path.name for path in (mirror.store_path / "blobs").rglob("*") if path.is_file()}


@pytest.mark.parametrize("fault", ["none", "notices.json"])
def test_what_upstream_says_early_is_published_with_the_package(
    fault: str, channel: Channel, mirror: Mirror, upstream: Upstream
) -> None:
    """Its document was the same the day before, when nothing listed the package yet. If another document can't be had on the
    day that brings the package, it is so on the next.
    """
    new = make_package("new")
    path = channel.root / "noarch" / "run_exports.json"
    document = read(channel, "noarch/run_exports.json")
    document["packages.conda"][new.filename] = {"run_exports": {"weak": ["new"]}}
    path.write_text(json.dumps(document))
    mirror.sync()
    assert new.filename not in read_document(mirror.tree("chan") / "noarch/run_exports.json")["packages.conda"]
    channel.add(new)
    channel.publish()
    upstream.fault(f"*/{fault}", Status(503))
    mirror.sync(status=None)
    upstream.heal()
    mirror.sync()
    assert read_document(mirror.tree("chan") / "noarch/run_exports.json") == document


def test_a_signature_is_asked_for_once_a_package(channel: Channel, mirror: Mirror, upstream: Upstream) -> None:
    mirror.repos[0]["sidecars"] = ["*.v0.sigs"]
    signature = b"[\n {} ]"
    (channel.root / "linux-64" / f"{TOOL.filename}.v0.sigs").write_bytes(signature)
    mirror.sync()
    assert (mirror.tree("chan") / "linux-64" / f"{TOOL.filename}.v0.sigs").read_bytes() == signature
    with serving(mirror.store_path) as url:
        assert requests.get(f"{url}/current/chan/linux-64/{TOOL.filename}.v0.sigs", timeout=20).content == signature
    asked = [path for path in upstream.paths() if path.endswith(".v0.sigs")]
    assert sorted(asked) == sorted(f"/chan/{one.record['subdir']}/{one.filename}.v0.sigs" for one in (LIB, TOOL, DATA))
    upstream.clear()
    channel.add(make_package("tool", "2.0", subdir="linux-64"))
    channel.publish()
    mirror.sync()
    assert [path for path in upstream.paths() if path.endswith(".v0.sigs")] == ["/chan/linux-64/tool-2.0-0.conda.v0.sigs"]
    assert (mirror.tree("chan") / "linux-64" / f"{TOOL.filename}.v0.sigs").read_bytes() == signature


def test_a_signature_may_first_be_named_and_then_meant_by_a_pattern(channel: Channel, mirror: Mirror) -> None:
    (channel.root / "noarch" / f"{LIB.filename}.sig").write_bytes(b"signed")
    for name in (f"{LIB.filename}.sig", "*.sig", f"{LIB.filename}.sig"):
        mirror.repos[0]["sidecars"] = [name]
        mirror.sync()
        assert (mirror.tree("chan") / "noarch" / f"{LIB.filename}.sig").read_bytes() == b"signed"


def test_what_knows_no_revisions_names_packages_of_one_by_their_files(channel: Channel, mirror: Mirror) -> None:
    """As indexers write run_exports.json (CEP 12): there is no `v3` in it."""
    new = make_package("new")
    channel.add(new, v3=True)
    publish(channel)
    exports = {"packages.conda": {file: _exports(file, {}) for file in (LIB.filename, new.filename)}}
    write(channel, "noarch/run_exports.json", {"info": {"subdir": "noarch", "version": 1}, "packages": {}, **exports})
    mirror.sync()
    assert read_document(mirror.tree("chan") / "noarch" / "run_exports.json") == read(channel, "noarch/run_exports.json")


def test_a_document_counts_what_is_left_of_it(channel: Channel, mirror: Mirror) -> None:
    """What it says of a package that is not listed is left out, whatever that is."""
    channel.add(make_package("new", timestamp=5_000), v3=True)
    publish(channel)
    whole = read(channel, "noarch/repodata_from_packages.json")
    whole["info"]["repodata_revisions"] = {"v3": {"message": "new", "n_packages": 3, "oldest": 1_000, "newest": 9_000}}
    whole["v3"]["conda"] |= {"gone-1.0-0": {"timestamp": 9_000}, "odd-1.0-0": None}
    write(channel, "noarch/repodata_from_packages.json", whole)
    mirror.sync()
    found = read_document(mirror.tree("chan") / "noarch" / "repodata_from_packages.json")
    assert found["info"]["repodata_revisions"]["v3"] == {"message": "new", "n_packages": 1, "oldest": 5_000, "newest": 5_000}
    assert set(found["v3"]["conda"]) == {"new-1.0-0"}


@pytest.mark.parametrize("instructions", [{"remove": ["bad-1.0-0.tar.bz2"]}, {}], ids=["removals alone", "none"])
def test_patch_instructions_need_not_change_any_record(instructions: dict[str, Any], channel: Channel, mirror: Mirror) -> None:
    mirror.sync()
    write(channel, "noarch/patch_instructions.json", {"patch_instructions_version": 1, **instructions})
    mirror.sync()
    left = {key: [] for key in instructions}  # the file is not listed
    found = read_document(mirror.tree("chan") / "noarch" / "patch_instructions.json")
    assert found == {"patch_instructions_version": 1, **left}


def test_a_document_does_without_the_parts_of_others(channel: Channel, mirror: Mirror) -> None:
    mirror.sync()
    reader = mirror.reader("chan/")
    part = (reader.leaf("linux-64/tool") or b"").hex()
    (mirror.store_path / "blobs" / part[:2] / part).unlink()
    made = Sidecars().derive(reader, "noarch/run_exports.json")
    assert json.loads(made) == read(channel, "noarch/run_exports.json")


def test_sidecars_of_any_name_are_asked_for_at_the_root_and_in_subdirs(channel: Channel, mirror: Mirror) -> None:
    mirror.repos[0] |= {"sidecars": ["keyring.json", "index.html"], "download": "redirect"}
    (channel.root / "keyring.json").write_bytes(b"{}")
    (channel.root / "noarch" / "index.html").write_bytes(b"<p>hello")
    mirror.sync()
    with serving(mirror.store_path) as url:
        assert requests.get(f"{url}/current/chan/keyring.json", timeout=20).content == b"{}"
        page = requests.get(f"{url}/current/chan/noarch/index.html", timeout=20)
        assert (page.content, page.headers["Content-Type"]) == (b"<p>hello", "application/octet-stream")
    mirror.run("gc", "--grace", "0s")
    assert mirror.run("check", "--read-data").out


@pytest.mark.parametrize("fault", [Html(), Status(503)], ids=["login page", "503"])
def test_a_document_that_becomes_unreadable_keeps_its_old_state(
    fault: Any, channel: Channel, mirror: Mirror, upstream: Upstream
) -> None:
    """And the packages go on."""
    mirror.sync()
    before = read_document(mirror.tree("chan") / "channeldata.json")
    channel.add(make_package("new"))
    publish(channel)
    upstream.fault("*/channeldata.json", fault)
    assert "channeldata.json" in mirror.sync(status=3).line("chan: ", "it keeps its old state")
    assert "new-1.0-0.conda" in mirror.listed("chan/noarch")
    assert read_document(mirror.tree("chan") / "channeldata.json") == before
    upstream.heal()
    mirror.sync()
    assert "new" in read_document(mirror.tree("chan") / "channeldata.json")["packages"]


def test_what_one_upstream_cannot_tell_and_another_lacks(channel: Channel, mirror: Mirror, upstream: Upstream) -> None:
    """It keeps what it had, and is no fault where there was nothing."""
    mirror.repos[0]["upstream"] = [f"{upstream.url}/chan", f"{upstream.url}/copy"]
    shutil.copytree(channel.root, channel.root.parent / "copy", ignore=shutil.ignore_patterns("notices.json"))
    mirror.sync()
    upstream.fault("/chan/notices.json", Status(503))
    assert "503" in mirror.sync(status=3).line("chan: ", "it keeps its old state")
    assert (mirror.tree("chan") / "notices.json").read_bytes() == NOTICES
    fresh = Mirror(mirror.root / "fresh")
    fresh.add("chan", mirror.repos[0]["upstream"])
    fresh.sync()
    assert not (fresh.tree("chan") / "notices.json").exists()


def test_a_page_in_the_place_of_one_that_never_was_is_left_out(mirror: Mirror, upstream: Upstream, channel: Channel) -> None:
    """Some servers say "not found" with the status 200."""
    upstream.fault("*/run_exports.json*", Html())
    upstream.fault("*/notices.json", Html())
    result = mirror.sync()
    assert result.line("notices.json", "it is left out")
    assert not (mirror.tree("chan") / "notices.json").exists()
    assert not (mirror.tree("chan") / "noarch" / "run_exports.json").exists()
    assert (mirror.tree("chan") / "channeldata.json").exists()


@pytest.mark.parametrize(("number", "kept"), [(10**23, 1e23), (10**400, None)], ids=["beyond 64 bits", "beyond floats"])
def test_a_number_that_is_too_large_ends_no_sync(number: int, kept: float | None, channel: Channel, mirror: Mirror) -> None:
    """JSON's readers see a float, if there is one; else the document is left out."""
    write(channel, "channeldata.json", {"packages": {"lib": {"version": "1.0"}}, "large": number})
    result = mirror.sync()
    assert mirror.listed("chan/noarch") == {LIB.filename, DATA.filename}
    path = mirror.tree("chan") / "channeldata.json"
    assert (read_document(path)["large"] if path.exists() else None) == kept
    assert kept or result.line("channeldata.json", "too large", "it is left out")


@pytest.mark.parametrize("name", ["repodata.json.sig", "../secret", "*", "*conda", "a/b", "", "shards"])
def test_a_name_that_can_be_no_sidecar_is_refused(name: str, mirror: Mirror) -> None:
    mirror.repos[0]["sidecars"] = [name]
    assert "sidecar" in mirror.sync(status=2).err


def test_their_bytes_are_frozen(channel: Channel, mirror: Mirror) -> None:
    """In stores that there are, equal leaves and documents must stay equal: raise `form` with any change here."""
    mirror.sync()
    reader = mirror.reader("chan/")
    leaf = sha256(reader.read_leaf("noarch/lib") or b"").hex()
    documents = "".join(f"{path} {derived.sha256.hex()}\n" for path, derived in sorted(reader.document.documents.items()))
    assert leaf == "eea0623940215e73588a82fb95797a4835e689b8baa62a91be79145fa2e242eb"
    assert sha256(documents.encode()).hex() == "572270c1311549c3ebf880d19cc0a26f9a7af27855429302d7a775038dbfd2cc"


_FILES = st.sampled_from([f"{name}-{version}-0.conda" for name in ("a", "b-c", "d") for version in "123"])
_MAPS = st.dictionaries(
    _FILES, st.dictionaries(st.text(max_size=3), st.integers() | st.none() | st.text(max_size=3), max_size=2)
)
_DOCUMENTS = st.fixed_dictionaries(
    {"packages.conda": _MAPS},
    optional={
        "packages": _MAPS,
        "v3": st.dictionaries(st.sampled_from(["conda", "whl"]), _MAPS, max_size=2),
        "remove": st.lists(_FILES, unique=True),
        "info": st.dictionaries(st.text(max_size=3), st.booleans()),
    },
)


@given(_DOCUMENTS, st.sets(_FILES))
def test_the_parts_of_a_document_make_it_whole_again(document: dict[str, Any], listed: set[str]) -> None:
    """Less what is not listed: in a map, a list, or `v3`."""
    keys = listed | {f"{kind}/{file}" for kind in ("conda", "whl") for file in listed}
    cut = parts.Cut(json.dumps(document).encode(), by_name=False)
    made = json.loads(parts.whole(cut.skeleton, [cut.part(name, keys) for name in sorted(cut.names)]))
    expected = dict(document)
    for section in ("packages", "packages.conda"):
        if section in document:
            expected[section] = {file: value for file, value in document[section].items() if file in listed}
    if "v3" in document:
        expected["v3"] = {kind: {key: v for key, v in one.items() if key in listed} for kind, one in document["v3"].items()}
    if "remove" in document:
        expected["remove"] = sorted(set(document["remove"]) & listed)
    assert made == {key: value for key, value in expected.items() if key != "v3" or value}
