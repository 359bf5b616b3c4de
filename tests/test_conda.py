"""conda's leaves and documents: forms that are frozen, and what is kept of upstream's records."""

import json
import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from channels import Channel, make_package
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import repodata, store_at, sync, ticking
from upstream import Upstream

from snapmirror import codec
from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo, leaf, names, newest
from snapmirror.conda.flat import FlatReading
from snapmirror.digests import sha256
from snapmirror.store.assembly import Amendment, amend, assemble
from snapmirror.store.directories import Derived, Directory
from snapmirror.store.store import Store

CONDA = ECOSYSTEMS["conda"]
RECORD = {
    "name": "pkg",
    "version": "1.0",
    "build": "h1_0",
    "build_number": 0,
    "depends": ["python >=3.9,<3.10.0a0", "zlib"],
    "md5": "d41d8cd98f00b204e9800998ecf8427e",
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "size": 0,
    "subdir": "linux-64",
    "timestamp": 1750000000000,
    "a key of tomorrow": {"deep": [1, 2.5, None, True, "é"]},
}
DOCUMENT = {
    "info": {"subdir": "linux-64", "new": 1},
    "packages": {"pkg-1.0-h1_0.tar.bz2": RECORD},
    "packages.conda": {"pkg-1.0-h1_0.conda": RECORD, "other-2-0.conda": {**RECORD, "name": "other", "sha256": None}},
    "removed": ["pkg-0.9-0.conda"],
    "repodata_version": 1,
    "tomorrow": {"kept": [1]},
}


def read(document: Any) -> FlatReading:
    return FlatReading("https://example.org/chan/linux-64/repodata.json", json.dumps(document).encode(), "", None)


def leaves(document: Any) -> dict[str, bytes]:
    reading = read(document)
    return {draft.name: draft.content for draft in reading.drafts(reading.sources)}


def test_the_bytes_of_leaves_and_directories_are_frozen() -> None:
    """A change of any of these digests is a new `form`: old snapshots would come out differently."""
    made = leaves(DOCUMENT)
    assert sha256(made["pkg"]).hex() == "4dc3f8c1ace319e8ad090812932935b04735b8cb40fd75c739544f99f282952c"
    assembled = assemble(
        Directory(
            kind="conda",
            form=1,
            mode="eager",
            origin="https://example.org/chan/linux-64/",
            info={"subdir": "linux-64"},
            documents={"repodata.json": Derived(sha256=bytes(32), size=1, suffixes=("", ".zst"))},
            files=3,
            size=0,
        ),
        {f"name{number}": sha256(str(number).encode()) for number in range(40)},
        {"elsewhere-1-0.whl": ("elsewhere", "https://example.com/elsewhere-1-0.whl")},
        {"Odd-1-0.conda": "odd"},
    )
    assert len(assembled.directory.buckets) == 4
    assert assembled.digest.hex() == "f9540b3145fd1838e2e7a699dcef37ffba9a0fe4a8ba9429e82f844a7fd5b556"


def test_derived_documents_are_frozen(tmp_path: Path) -> None:
    (tmp_path / "noarch").mkdir()
    (tmp_path / "noarch" / "repodata.json").write_text(json.dumps(DOCUMENT))
    with Upstream(tmp_path) as upstream, store_at(tmp_path / "store", ticking()) as store:
        repo = CondaRepo(path="chan", upstream=upstream.url, download="redirect", current_repodata=True, bz2=True)
        sync(store, repo)
        [record] = store.catalog().records
        found = store.metadata.directory(record.repos["chan"].directories["noarch"].blob).document.documents
    assert {name: derived.suffixes for name, derived in found.items()} == {
        "repodata.json": ("", ".zst", ".bz2"),
        "repodata_shards.msgpack": (".zst",),
        "current_repodata.json": ("", ".zst"),
    }
    # the shard index holds digests of compressed leaves, which are the zstd library's
    assert found["repodata.json"].sha256.hex() == "d9e6050d6858f99a81f4cf9daf9a13734841a2c08beb541824dc7047aaefeab9"
    assert found["current_repodata.json"].sha256.hex() == "0d5c8f7c3f5bbf230abf3668002f997a35f28f7364a6b13bd40601cb18ceaa2e"


def test_a_record_keeps_every_key_and_gets_its_hashes_as_bytes() -> None:
    shard = msgspec.msgpack.decode(leaves(DOCUMENT)["pkg"])
    record = shard["packages.conda"]["pkg-1.0-h1_0.conda"]
    assert record == {**RECORD, "md5": bytes.fromhex(str(RECORD["md5"])), "sha256": bytes.fromhex(str(RECORD["sha256"]))}
    assert shard["removed"] == ["pkg-0.9-0.conda"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(
    st.text(min_size=1).filter(lambda key: key not in RECORD and key not in ("url", "fn")), json_values, max_size=4
)


@settings(deadline=None)
@given(extras, extras)
def test_whatever_a_record_holds_comes_out_as_it_went_in(first: dict[str, Any], second: dict[str, Any]) -> None:
    records = {"pkg-1.0-h1_0.conda": {**RECORD, **first}, "other-1.0-0.conda": {**RECORD, "name": "other", **second}}
    made = leaves({"packages.conda": records})
    out = {}
    for content in made.values():
        for file, record in msgspec.msgpack.decode(content)["packages.conda"].items():
            out[file] = {**record, "md5": record["md5"].hex(), "sha256": record["sha256"].hex()}
    assert out == records


@settings(deadline=None)
@given(st.permutations(list(DOCUMENT["packages.conda"].items())))  # type: ignore[attr-defined]
def test_the_order_of_upstreams_records_does_not_matter(items: list[tuple[str, Any]]) -> None:
    assert leaves({**DOCUMENT, "packages.conda": dict(items)}) == leaves(DOCUMENT)


def test_a_record_under_another_name_joins_the_leaf_of_its_own() -> None:
    document = {"packages": {"Foo-1-0.tar.bz2": {**RECORD, "name": "foo"}, "foo-2-0.tar.bz2": {**RECORD, "name": "foo"}}}
    reading = read(document)
    made = {draft.name: draft for draft in reading.drafts(reading.sources)}
    assert sorted(file.name for file in made["foo"].files) == ["Foo-1-0.tar.bz2", "foo-2-0.tar.bz2"]
    assert made["foo"].source is None
    assert made["Foo"].content == b""


def test_settle_adds_digests_and_takes_out_what_is_withheld() -> None:
    content = leaves(DOCUMENT)["other"]
    [file] = leaf.files(content)
    assert file.sha256 is None
    completed = leaf.settle(content, {file.name: bytes(32)}, ())
    assert [found.sha256 for found in leaf.files(completed)] == [bytes(32)]
    assert leaf.settle(content, {}, {file.name}) == b""


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("pkg-1.0-0.conda", None),
        ("torchvision-cpu-0.3.0-py27_cuNone_1.tar.bz2", None),
        ("a" * 212, "longer"),
        ("../pkg-1.0-0.conda", "unsafe"),
        ("pkg\n-1.0-0.conda", "unsafe"),
        ("pkg\0-1.0-0.conda", "unsafe"),
        (".hidden-1-0.conda", "unsafe"),
        ("", "no file name"),
        ("repodata.json", "an index"),
        ("repodata_shards.msgpack.zst", "an index"),
        ("shards", "an index"),
    ],
)
def test_file_names_that_are_let_in(file: str, problem: str | None) -> None:
    found = names.problem_with(file)
    assert (found is None) == (problem is None)
    assert problem is None or problem in str(found)


@pytest.mark.parametrize(
    ("url", "file", "published"),
    [
        ("https://x.example/torch-2.0%2Bcpu-py3.whl#sha256=0", "torch-2.0+cpu-py3.whl", "torch-2.0+cpu-py3.whl"),
        ("../torch%2525.whl?a=/b", "torch%25.whl", "torch%2525.whl"),
    ],
)
def test_a_wheel_that_only_its_address_names(url: str, file: str, published: str) -> None:
    wheel = {**RECORD, "name": "torch", "url": url}
    [draft] = read({"v3": {"whl": {"torch-2.0-py3": wheel}}}).drafts(["torch"])
    assert [one.name for one in (*draft.files, *leaf.files(draft.content))] == [file, file]
    assert leaf.decode(draft.content)["v3"]["whl"]["torch-2.0-py3"]["url"] == published


def test_current_repodata_lists_the_newest_and_what_it_needs(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "channel")
    channel.add(
        make_package("app", "1.9"),
        make_package("app", "1.10", depends=["lib <2", "absent", "blas[flags=[cuda]]", 'lib[version="<1.5",when=absent]']),
        make_package("lib", "1.0"),
        make_package("lib", "1.5"),
        make_package("lib", "2.0"),
        make_package("lib", "2.0", "b1", 1),
        make_package("blas", "1.0", flags=["cuda"]),
        make_package("blas", "2.0"),
    )
    channel.publish()
    with store_at(tmp_path / "store") as store:
        sync(store, CondaRepo(path="chan", upstream=channel.root.as_uri(), current_repodata=True))
        [record] = store.catalog().records
        reader = store.metadata.directory(record.repos["chan"].directories["noarch"].blob)
        found = json.loads(CONDA.derive(reader, "current_repodata.json"))
    stems = ["app-1.10-0", "blas-1.0-0", "blas-2.0-0", "lib-1.0-0", "lib-1.5-0", "lib-2.0-b1"]
    assert sorted(found["packages.conda"]) == [f"{stem}.conda" for stem in stems]


def test_counts_of_v3_match_what_is_published_when_something_is_withheld(tmp_path: Path) -> None:
    good, bad = make_package("good", subdir="noarch"), make_package("bad", subdir="noarch")
    channel = Channel(tmp_path / "channel")
    channel.add(good, bad, v3=True)
    channel.publish()
    (channel.root / "noarch" / bad.filename).unlink()
    with store_at(tmp_path / "store") as store:
        report = sync(store, CondaRepo(path="chan", upstream=channel.root.as_uri()))
        assert report.exit_status(strict=False) == 3
        [record] = store.catalog().records
        found = repodata(store, record, "chan", "noarch")
    assert list(found["v3"]["conda"]) == [good.stem]
    assert found["info"]["repodata_revisions"]["v3"]["n_packages"] == 1


def test_decompression_stops_at_a_ceiling() -> None:
    bomb = codec.compress(bytes(300 << 20), 3)
    with pytest.raises(codec.TooLarge):
        codec.decompress(bomb, 1 << 30)
    assert codec.decompress(codec.compress(b"x" * 1000, 3), 1000) == b"x" * 1000
    with pytest.raises(ValueError, match="ends early"):
        codec.decompress(codec.compress(b"x" * 1000, 3)[:-3], 1 << 20)


def test_newest_records_are_found_among_odd_ones() -> None:
    """A build of no letters, a version that is none, a number too large, a name in capitals: clients see them all."""

    def listed(*records: dict[str, Any]) -> set[str]:
        files = {f"{record['name']}-{record.get('version')}-{record.get('build')}.conda": record for record in records}
        return {file for shard in newest.reduce([{"packages.conda": files}]) for file in shard["packages.conda"]}

    app = {"name": "app", "version": "1", "build": "0", "depends": ["lib <2", "Paddle>=1,<2", "lib[", "gone"]}
    old = [{"name": "lib", "version": "1", "build": "0"}, {"name": "Paddle", "version": "1.5", "build": "0"}]
    odd = [
        {"name": "lib", "version": "2", "build": ""},
        {"name": "lib", "version": "a version!", "build": "0"},
        {"name": "lib", "version": "1.0.1", "build": "0", "build_number": 2**70},
        {"name": "Paddle", "version": "2", "build": "0"},
    ]
    assert listed(app, *old, *odd) == {
        "app-1-0.conda",
        "lib-1-0.conda",
        "lib-2-.conda",
        "Paddle-1.5-0.conda",
        "Paddle-2-0.conda",
    }


@pytest.mark.parametrize("document", [{}, {"info": None}, {"info": {"arch": None}, "v3": None, "packages": None}], ids=repr)
def test_index_that_says_nothing_of_its_subdir_gets_it_from_the_address(document: Any) -> None:
    """CEP 36 lets it out; rattler can't read a shard index without it."""
    assert read(document).info["subdir"] == "linux-64"


def test_numbers_beyond_64_bits_are_published_as_json_readers_see_them() -> None:
    reading = read({"info": {"subdir": "noarch", "large": 2**70}, "unknown": {"deep": [-(2**70)]}})
    assert reading.info["large"] == float(2**70)
    assert reading.extra["unknown"] == {"deep": [-float(2**70)]}


def test_what_json_has_no_form_for_is_withheld_from_shards() -> None:
    odd = {"bytes": b"xyz", "time": datetime(2026, 1, 1, tzinfo=UTC), "nan": math.nan, "infinite": [-math.inf], "key": {1: 2}}
    shard = {
        "packages": {f"{name}-1-0.conda": {**RECORD, "x": value} for name, value in odd.items()},
        "packages.conda": {"pkg-1.0-h1_0.conda": {**RECORD, "legacy_bz2_md5": bytes(16), "fine": [1.5, None, True, "é", {}]}},
        "unknown": math.nan,
    }
    assert set(leaf.withhold_unsayable(shard)) == {f"{name}-1-0.conda" for name in odd}
    assert shard == {
        "packages": {},
        "packages.conda": {"pkg-1.0-h1_0.conda": {**RECORD, "legacy_bz2_md5": "0" * 32, "fine": [1.5, None, True, "é", {}]}},
    }


def test_record_with_a_size_that_json_readers_disagree_about_is_withheld() -> None:
    document = {"packages.conda": {"pkg-1.0-h1_0.conda": {**RECORD, "size": 2**70}}}
    [draft] = read(document).drafts(["pkg"])
    assert draft.invalid.keys() == {"pkg-1.0-h1_0.conda"}


_NAMES = st.integers(0, 60).map(lambda number: f"n{number}")
_LEAVES = st.dictionaries(_NAMES, st.integers(0, 3).map(lambda number: sha256(str(number).encode())), max_size=60)
_STRAYS = st.dictionaries(st.integers(0, 99).map(lambda number: f"f{number}"), _NAMES, max_size=8)


@settings(deadline=None, max_examples=60)  # each makes a store
@given(_LEAVES, _STRAYS, _LEAVES, st.sets(_NAMES), _STRAYS)
def test_a_directory_amended_is_the_one_assembled_anew(
    leaves: dict[str, bytes], names: dict[str, str], new: dict[str, bytes], gone: set[str], more: dict[str, str]
) -> None:
    """Whatever comes, goes or changes in it; what stays is not written again."""
    empty = Directory(kind="conda", form=1, mode="eager", origin="https://upstream/")
    labels = {name: leaf.hex()[:3] for name, leaf in leaves.items()}
    no_files = sha256(b"0")
    bare, new_bare = ({name for name, leaf in some.items() if leaf == no_files} for some in (leaves, new))
    before = assemble(empty, leaves, {}, {file: name for file, name in names.items() if name in leaves}, labels, bare)
    replaced = {name for name in leaves if name in gone or name in new}
    after = {name: leaf for name, leaf in leaves.items() if name not in replaced} | new
    staying = {file: name for file, name in names.items() if name in leaves and name not in replaced}
    coming = {file: name for file, name in more.items() if name in new and file not in staying}
    labels = {name: label for name, label in labels.items() if name not in replaced} | dict.fromkeys(new, "new")
    whole = assemble(empty, after, {}, staying | coming, labels, bare - replaced | new_bare)
    with tempfile.TemporaryDirectory() as folder:
        Store.create(Path(folder))
        with Store.open(Path(folder), write=True) as store:
            store.put(list(before.blobs.values()))
            unnamed = [file for file, name in names.items() if name in replaced]
            amendment = Amendment(replaced, new, unnamed, coming, dict.fromkeys(new, "new"), new_bare)
            amended = amend(store.metadata.directory(before.digest), empty, len(after), amendment)
    if len(before.directory.buckets) != len(whole.directory.buckets):
        assert amended is None
    else:
        assert amended
        assert (amended.digest, amended.directory) == (whole.digest, whole.directory)
        assert amended.blobs.keys() >= whole.blobs.keys() - before.blobs.keys()
        assert amended.blobs.keys() <= whole.blobs.keys()
