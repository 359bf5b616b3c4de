"""Single records that can't be published: they are withheld and named, and all that is beside them goes on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from channels import Channel, Package, Repodata, make_package
from inprocess import collect, repodata, store_at, sync
from mirror import Mirror, packed, raw_hashes, write_shards
from upstream import Upstream

from snapmirror import codec
from snapmirror.conda import CondaRepo

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKAGE = make_package("sound")
MISSING = object()  # of a key: it is not there

#: how a record is spoilt, by the package's name; MISSING takes a key out
SPOILT: dict[str, Any] = {
    "no-name": {"name": MISSING},
    "empty-name": {"name": ""},
    "name-is-a-number": {"name": 5},
    "no-sums": {"sha256": MISSING, "md5": MISSING, "size": MISSING},
    "null-sums": {"sha256": None, "md5": None, "size": None},
    "size-is-a-text": {"size": "12"},
    "size-is-negative": {"size": -1},
    "size-is-a-boolean": {"size": True},
    "size-is-a-fraction": {"size": 1.5},
    "sha256-is-not-hex": {"sha256": "zz" * 32},
    "sha256-is-short": {"sha256": "ab" * 31},
    "sha256-is-empty": {"sha256": ""},
    "sha256-is-a-number": {"sha256": 5},
    "md5-is-not-hex": {"md5": "zz" * 16, "sha256": MISSING},
    "a-text": "text",
    "a-list": [1, 2],
    "null": None,
}
#: file names that must not come near a file system or a URL
UNSAFE = [
    "../escape-1.0-0.conda",
    "sub/folder-1.0-0.conda",
    "/absolute-1.0-0.conda",
    "back\\slash-1.0-0.conda",
    "nul\0-1.0-0.conda",
    "line\nbreak-1.0-0.conda",
    "\x1b[31mcolour-1.0-0.conda",
    "\u202eevil-1.0-0.conda",
    ".hidden-1.0-0.conda",
    "..",
    "",
    "repodata.json",
    "repodata_shards.msgpack.zst",
    "shards",
    "x" * 205 + "-1.0-0.conda",  # 217 bytes
    "\u00e9" * 103 + "-1.0-0.conda",  # 115 characters, 218 bytes
]
LONGEST = "x" * 199 + "-1.0-0.conda"  # the 211 bytes that CEP 26 allows


def spoilt(package: Package, changes: Any) -> Any:
    """A package's record with these changes, or what stands in its place."""
    if not isinstance(changes, dict):
        return changes
    return {key: value for key, value in (package.record | changes).items() if value is not MISSING}


def listed() -> dict[str, Any]:
    """All bad records, by file name."""
    bad = {f"{name}-1.0-0.conda": spoilt(make_package(name), changes) for name, changes in SPOILT.items()}
    return bad | {file: dict(PACKAGE.record) for file in UNSAFE}


def as_upstream(channel: Channel, form: str, records: dict[str, Any]) -> None:
    """Publish records as they are in noarch, in `packages.conda` of repodata.json or in the shard of one name each."""
    folder = channel.root / "noarch"
    if form == "json":
        channel.edit = lambda subdir, repodata: repodata["packages.conda"].update(records) if subdir == "noarch" else None
        channel.variants = {"json"}
        channel.publish()
        return
    shards: dict[str, bytes] = {}
    for number, (file, record) in enumerate([*channel.records["noarch"].items(), *records.items()]):
        shards[f"name{number}"] = packed({"packages": {}, "packages.conda": {file: raw_hashes(record)}, "removed": []})
    write_shards(folder, shards)


@pytest.fixture
def quiet(upstream: Upstream, mirror: Mirror) -> Channel:
    """A channel `quiet` with one sound package in noarch; the mirror has it as its second repo."""
    channel = Channel(upstream.root / "quiet")
    channel.add(PACKAGE)
    channel.publish()
    mirror.add("quiet", f"{upstream.url}/quiet", current_repodata=True, bz2=True)
    return channel


@pytest.mark.parametrize("form", ["json", "shards"])
def test_records_that_are_bad_in_themselves_are_withheld_and_named(mirror: Mirror, quiet: Channel, form: str) -> None:
    bad = listed()
    for file in bad:  # whatever could be fetched is there
        if file and "\0" not in file and len(file.encode()) < 250:
            place = (quiet.root / "noarch" / file.lstrip("/")).resolve()
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.write_bytes(PACKAGE.data)
    as_upstream(quiet, form, bad)
    result = mirror.sync(status=3)
    assert mirror.listed("quiet/noarch") == {PACKAGE.filename}
    assert set(mirror.withheld("quiet/noarch")) == set(bad)
    assert all(mirror.withheld("quiet/noarch").values())
    assert set(mirror.published()) >= {"chan/linux-64/tool-1.0-0.conda", f"quiet/noarch/{PACKAGE.filename}"}
    # Twenty are named, the rest is counted; no name can break a line or colour a terminal.
    assert result.err.count(": withheld: ") == 20
    result.line("quiet/noarch: ", f"{len(bad) - 20} more")
    assert not set(result.err) & {"\0", "\x1b", "\u202e"}
    shown = mirror.run("show", "current").out
    assert shown.count("withheld: quiet/noarch/") == len(bad)
    assert not set(shown) & {"\0", "\x1b", "\u202e"}
    names = {path.name for path in mirror.root.rglob("*")} | {path.name for path in mirror.root.parent.iterdir()}
    assert not [name for name in names if "escape" in name or "hidden" in name]
    mirror.sync()  # known by now
    mirror.sync("--strict", status=3)


#: records that clients may dislike, but that we have no reason to take away
ODD: dict[str, dict[str, Any]] = {
    "no-size": {"size": MISSING},
    "null-size": {"size": None},
    "only-size": {"sha256": MISSING, "md5": MISSING},
    "null-md5": {"md5": None},
    "depends-number": {"depends": 5},
    "depends-numbers": {"depends": [5, None]},
    "depends-null": {"depends": None},
    "version-number": {"version": 1.5},
    "no-version": {"version": MISSING, "build": MISSING, "build_number": MISSING},
    "build-number-text": {"build_number": "two"},
    "build-number-huge": {"build_number": 2**63},
    "timestamp-text": {"timestamp": "yesterday"},
    "unknown": {"x-unknown": {"deep": [{"a": None}, [], 1.5, "é\u0000"]}},
    "url-number": {"url": 5},
    "fn-number": {"fn": 5},
    "fn-elsewhere": {"fn": "../../another-1.0-0.conda"},
}


@pytest.mark.parametrize("form", ["json", "shards"])
def test_odd_records_are_published_as_upstream_wrote_them(mirror: Mirror, quiet: Channel, form: str) -> None:
    packages = {make_package(name).filename: make_package(name) for name in ODD}
    records = {file: spoilt(package, ODD[package.record["name"]]) for file, package in packages.items()}
    for file, package in packages.items():
        (quiet.root / "noarch" / file).write_bytes(package.data)
    as_upstream(quiet, form, records)
    mirror.sync("quiet")
    expected = {file: {"sha256": package.record["sha256"], **records[file]} for file, package in packages.items()}
    for _ in range(2):  # the second time: what was stored can be read again
        published = mirror.repodata("quiet/noarch")["packages.conda"]
        assert {file: published.get(file) for file in packages} == expected
        mirror.published()
        mirror.sync("quiet")


def test_longest_file_name_that_is_allowed(mirror: Mirror, quiet: Channel) -> None:
    package = make_package("x" * 199)
    assert package.filename == LONGEST
    quiet.add(package)
    quiet.publish()
    mirror.sync()
    assert f"quiet/noarch/{LONGEST}" in mirror.published()


def test_number_that_no_messagepack_can_hold_does_not_stop_a_sync(mirror: Mirror, quiet: Channel) -> None:
    quiet.hotfix(PACKAGE.filename, build_number=2**70, size=PACKAGE.record["size"])
    quiet.publish()
    mirror.sync()
    record = mirror.repodata("quiet/noarch")["packages.conda"][PACKAGE.filename]
    assert record["build_number"] == 2**70


def test_number_that_no_reader_of_json_can_hold_withholds_its_record(mirror: Mirror, quiet: Channel) -> None:
    quiet.add(make_package("huge"))
    quiet.hotfix("huge-1.0-0.conda", build_number=10**400)
    quiet.publish()
    mirror.sync(status=3)
    assert mirror.listed("quiet/noarch") == {PACKAGE.filename}
    assert "too large" in mirror.withheld("quiet/noarch")["huge-1.0-0.conda"]


@pytest.mark.parametrize("form", ["json", "shards"])
@pytest.mark.parametrize("depth", [950, 20_000])  # about as deep as Python can go, and deeper
def test_record_nested_too_deep_to_be_handled_harms_only_its_directory(
    mirror: Mirror, quiet: Channel, depth: int, form: str
) -> None:
    record = {key: value for key, value in PACKAGE.record.items() if key != "depends"} | {"depends": "HERE"}
    as_upstream(quiet, form, {PACKAGE.filename: record})
    folder = quiet.root / "noarch"
    if form == "json":
        text = (folder / "repodata.json").read_text()
        (folder / "repodata.json").write_text(text.replace('"HERE"', "[" * depth + "]" * depth))
    else:
        shard = msgspec.msgpack.encode({"packages.conda": {PACKAGE.filename: raw_hashes(record)}})
        here = msgspec.msgpack.encode("HERE")
        assert here in shard
        write_shards(folder, {"sound": zstd.compress(shard.replace(here, b"\x91" * depth + b"\xc0"))})
    result = mirror.sync(status=None)
    assert result.status in (0, 3), result.err
    assert mirror.listed("chan/linux-64") == {"tool-1.0-0.conda"}
    mirror.sync(status=None)
    mirror.run("show", "current")


def test_name_of_which_upstream_says_more_than_could_be_read_again_harms_only_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was stored, every sync of any repo ended at it, and every gc."""
    monkeypatch.setattr(codec, "HARMLESS", 1 << 14)
    channels = [Channel(tmp_path / name, variants=["json"]) for name in ("sound", "bloated")]
    repos = [CondaRepo(path=channel.root.name, upstream=channel.root.as_uri()) for channel in channels]
    with store_at(tmp_path / "store") as store:
        for number, size in enumerate((1, 1 << 20)):
            for channel in channels:
                channel.add(PACKAGE, make_package(f"new{number}"))
            channels[1].hotfix(PACKAGE.filename, license="x" * size)
            for channel in channels:
                channel.publish()
            report = sync(store, *repos)
        assert "says too much of it" in str(report.repos["bloated"].directories["noarch"].problem)
        assert "new1-1.0-0.conda" in repodata(store, store.catalog().records[-1], "sound", "noarch")["packages.conda"]
        collect(store)


def wheels(*files: str) -> Callable[[str, Repodata], None]:
    """List wheels of these file names in noarch's `v3`."""

    def edit(subdir: str, repodata: Repodata) -> None:
        if subdir == "noarch":
            record = {"name": "idna", "version": "3", "build": "0", "depends": [], "size": 5, "sha256": "ab" * 32}
            repodata["v3"] = {"whl": {f"idna-{number}-0": record | {"fn": file} for number, file in enumerate(files)}}

    return edit


def test_file_names_inside_records_are_checked_as_well(mirror: Mirror, quiet: Channel) -> None:
    quiet.edit = wheels("../idna-3-py3-none-any.whl", "a/b.whl", "nul\0.whl", "y" * 250 + ".whl", "repodata.json", "..")
    quiet.publish()
    mirror.sync(status=3)
    assert len(mirror.withheld("quiet/noarch")) == 6
    assert mirror.listed("quiet/noarch") == {PACKAGE.filename}
    mirror.published()


@pytest.mark.parametrize("place", ["url", "base_url"])
def test_upstream_on_the_network_cannot_have_files_of_this_machine_published(
    mirror: Mirror, quiet: Channel, place: str
) -> None:
    secret = mirror.root / "secret-1.0-0.conda"
    secret.write_bytes(b"not for the world")
    record: dict[str, Any] = {"name": "secret", "version": "1.0", "build": "0", "depends": [], "size": 17}
    quiet.edit = lambda _, repodata: repodata["packages.conda"].update({secret.name: record})
    if place == "url":
        record["url"] = secret.as_uri()
    else:
        quiet.info["base_url"] = mirror.root.as_uri() + "/"
    quiet.publish()
    mirror.sync(status=3)
    blobs = [path.read_bytes() for path in (mirror.store_path / "blobs").rglob("*") if path.is_file()]
    assert secret.read_bytes() not in blobs
    assert not any(path.endswith(secret.name) for path in mirror.published())
