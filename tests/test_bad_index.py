"""Upstreams whose index is bad: the directory keeps its old state and says so, all others go on, nothing is half-written."""

import bz2
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from channels import Channel, Variant, make_package
from mirror import Mirror, Result, packed, raw_hashes, write_shards
from upstream import Body, Fault, Html, Stall, Status, Truncate, Upstream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
#: more than a small body may expand to
BOMB = 80


@dataclass(frozen=True)
class Case:
    """One way of being bad: what the channel offers, and what happens to the documents of its noarch."""

    variant: Variant
    fault: Fault
    #: in the message, beside directory and URL
    says: str


FILES: dict[Variant, str] = {
    "json": "repodata.json",
    "zst": "repodata.json.zst",
    "bz2": "repodata.json.bz2",
    "shards": "repodata_shards.msgpack.zst",
}
INDEX = {"subdir": "noarch", "base_url": "", "shards_base_url": ""}
CASES = {
    "truncated": Case("json", Body(b'{"info": {"subdir": "noarch"}, "packages": {"lib-1.0'), "can't be parsed"),
    "no-json": Case("json", Body(b"\x00\xff\x80 nothing"), "can't be parsed"),
    "array": Case("json", Body(b"[]"), "can't be parsed"),
    "number": Case("json", Body(b"12"), "can't be parsed"),
    "html": Case("json", Html(), "can't be parsed"),
    "packages-list": Case("json", Body(b'{"packages": []}'), "can't be parsed"),
    "packages-text": Case("json", Body(b'{"packages.conda": "none"}'), "can't be parsed"),
    "removed-number": Case("json", Body(b'{"removed": 5}'), "can't be parsed"),
    "info-list": Case("json", Body(b'{"info": []}'), "can't be parsed"),
    "v3-list": Case("json", Body(b'{"v3": {"conda": []}}'), "can't be parsed"),
    "no-unicode": Case("json", Body(b'{"packages": {"\\ud800-1-0.tar.bz2": {}}}'), "can't be parsed"),
    "huge-number": Case("json", Body(b'{"info": {"x": 1' + b"0" * 400 + b"}}"), "too large"),
    "endless-nesting": Case("json", Body(b'{"packages": ' + b"[" * 100_000), "can't be parsed"),
    "zst-html": Case("zst", Html(), "no valid zstd"),
    "zst-cut": Case("zst", Body(zstd.compress(b'{"packages": {}}' + bytes(10_000))[:-7]), "ends early"),
    "zst-empty": Case("zst", Body(b""), "ends early"),
    "zst-bomb": Case("zst", Body(zstd.compress(bytes(MIB)) * BOMB), "expands past"),
    "bz2-html": Case("bz2", Html(), "no valid bz2"),
    "bz2-cut": Case("bz2", Body(bz2.compress(bytes(10_000))[:-7]), "ends early"),
    "bz2-bomb": Case("bz2", Body(bz2.compress(bytes(MIB)) * BOMB), "expands past"),
    "shards-html": Case("shards", Html(), "no valid zstd"),
    "shards-no-msgpack": Case("shards", Body(zstd.compress(b"\xc1")), "can't be parsed"),
    "shards-list": Case("shards", Body(packed({"info": INDEX, "shards": []})), "can't be parsed"),
    "shards-short-hash": Case("shards", Body(packed({"info": INDEX, "shards": {"lib": b"short"}})), "32 bytes"),
    "shards-no-text": Case(
        "shards", Body(packed({"info": INDEX, "shards": {}, "x": msgspec.Raw(b"\xa1\xff")})), "can't be parsed"
    ),
    "shards-map-as-key": Case(
        "shards", Body(packed({"info": INDEX, "shards": {}, "x": msgspec.Raw(b"\x81\x81\xa1a\x01\x02")})), "can't be parsed"
    ),
    "shards-bomb": Case("shards", Body(zstd.compress(bytes(MIB)) * BOMB), "expands past"),
    "forbidden": Case("json", Status(403), "403"),
    "unauthorized": Case("json", Status(401), "401"),
    "down": Case("zst", Status(500, body=b"oops"), "500"),
    "throttled": Case("json", Status(429), "429"),
    "teapot": Case("json", Status(418), "418"),
    "gone": Case("json", Status(404), "404"),
    "cut-off": Case("json", Truncate(10), ""),
    "stalled": Case("json", Stall(10, 30), "stalled"),
    "shrunk": Case("json", Body(b"{}"), "--allow-shrink"),
    "empty-file": Case("json", Body(b""), "--allow-shrink"),
}


@dataclass
class Stricken:
    """A mirror of one repo a case and a healthy one, after a good sync, a stricken one, and a good one."""

    mirror: Mirror
    url: str
    stricken: Result
    healed: Result
    before: dict[str, str]
    during: dict[str, str]
    after: dict[str, str]


def offer(channel: Channel, version: str) -> None:
    """Publish another version of what each subdir of a channel lists."""
    channel.add(make_package("tool", version, subdir="linux-64"), make_package("lib", version))
    channel.publish()


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stricken]:
    """Three syncs stand for all cases: what is tested too is that none of them disturbs another."""
    folder = tmp_path_factory.mktemp("bad")
    with Upstream(folder / "upstream") as upstream:
        mirror = Mirror(folder / "mirror")
        mirror.settings["download"]["stall"] = "1B/3s"
        channels = {
            name: Channel(upstream.root / name, variants={case.variant}, subdirs=["linux-64"]) for name, case in CASES.items()
        } | {"healthy": Channel(upstream.root / "healthy")}
        for name, channel in channels.items():
            offer(channel, "1.0")
            mirror.add(name, f"{upstream.url}/{name}", subdirs=["linux-64"])
        mirror.sync()
        before = mirror.published()
        for name, channel in channels.items():
            offer(channel, "2.0")
            if name in CASES:
                upstream.fault(f"/{name}/noarch/{FILES[CASES[name].variant]}", CASES[name].fault)
        stricken = mirror.sync(status=None)
        during = mirror.published()
        upstream.heal()
        healed = mirror.sync(status=None)
        yield Stricken(mirror, upstream.url, stricken, healed, before, during, mirror.published())


@pytest.mark.parametrize("name", CASES)
def test_directory_whose_index_is_bad_keeps_its_old_state_and_says_why(bad: Stricken, name: str) -> None:
    line = bad.stricken.line(f"{name}/noarch: ", f"{bad.url}/{name}/noarch/", CASES[name].says)
    assert line.endswith("keeps its old state")
    below = f"{name}/noarch/"
    old = {path: digest for path, digest in bad.before.items() if path.startswith(below)}
    assert f"{below}lib-1.0-0.conda" in old
    assert {path: digest for path, digest in bad.during.items() if path.startswith(below)} == old
    assert f"{below}lib-2.0-0.conda" in bad.after


def test_bad_indexes_hold_up_no_other_directory(bad: Stricken) -> None:
    assert bad.stricken.status == 3
    others = [f"{name}/linux-64/tool-2.0-0.conda" for name in (*CASES, "healthy")]
    assert [path for path in others if path not in bad.during] == []
    assert "healthy/noarch/lib-2.0-0.conda" in bad.during
    assert (bad.healed.status, bad.healed.err.count("keeps its old state")) == (0, 0)


def test_bad_indexes_leave_no_rubbish(bad: Stricken) -> None:
    rubbish = [path.name for path in (bad.mirror.store_path / "incoming").iterdir() if path.name != "CACHEDIR.TAG"]
    assert rubbish == []
    assert list((bad.mirror.store_path / "syncing").iterdir()) == []


def test_repo_that_was_never_there_is_a_typing_error(mirror: Mirror, upstream: Upstream) -> None:
    mirror.add("missspelt", f"{upstream.url}/missspelt")
    mirror.sync(status=3).line("missspelt: ", f"{upstream.url}/missspelt", "404")
    assert list(mirror.record().repos) == ["chan"]
    assert mirror.sync("missspelt", status=1).out.count("Sealed") == 0
    assert len(mirror.snapshots()) == 1


def test_subdir_that_upstream_has_not_yet_is_published_empty_with_a_note(mirror: Mirror) -> None:
    mirror.repos[0]["subdirs"] = ["linux-64", "osx-arm64"]
    mirror.sync().line("chan/osx-arm64: ", "published empty")
    assert mirror.listed("chan/osx-arm64") == set()
    mirror.published()


@pytest.mark.parametrize("fault", [Status(404), Status(503), Html()], ids=["404", "503", "html"])
def test_repo_that_vanishes_for_an_hour_is_as_it_was_and_comes_back(
    mirror: Mirror, upstream: Upstream, channel: Channel, fault: Fault
) -> None:
    mirror.sync()
    before = mirror.published()
    upstream.fault("/chan/*", fault)
    result = mirror.sync(status=1)  # none of the repos could be read
    result.line("chan", f"{upstream.url}/chan/")
    assert mirror.published() == before
    upstream.heal()
    offer(channel, "2.0")
    mirror.sync()
    assert mirror.listed("chan/noarch") == {"lib-1.0-0.conda", "lib-2.0-0.conda", "data-1.0-0.tar.bz2"}


@pytest.mark.parametrize(
    ("select", "happened"),
    [
        ({}, []),
        ({"exclude": ["other"]}, []),
        ({"exclude": ["other"]}, ["reindex"]),
        ({"exclude": ["other"]}, ["deny", "chan", "third", "--reason", "stolen key"]),
    ],
    ids=["all", "a selection", "a selection, and the index is lost", "a selection, and another package is denied"],
)
def test_upstream_that_shrinks_is_kept_until_that_is_accepted(
    select: dict[str, list[str]], happened: list[str], mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """With a selection too, as long as it is not known to be another one."""
    mirror.repos[0]["select"] = select
    channel.add(*[make_package("lib", f"{number}.0") for number in range(2, 6)])
    channel.publish()
    mirror.sync()
    before = mirror.directories()
    if happened:
        mirror.run(*happened)
    for file in [file for file in channel.records["noarch"] if file.startswith("lib")]:
        channel.remove(file, removed=False)
    channel.publish()
    result = mirror.sync(status=3)
    line = result.line("chan/noarch: ", f"{upstream.url}/chan/noarch/repodata.json", "lists 1 files", "6", "--allow-shrink")
    assert line.endswith("keeps its old state")
    assert mirror.directories() == before
    mirror.sync(status=3)  # it does not get used to it
    mirror.sync("--allow-shrink")
    assert mirror.listed("chan/noarch") == {"data-1.0-0.tar.bz2"}
    assert set(mirror.published()) >= {"chan/linux-64/tool-1.0-0.conda", "chan/noarch/data-1.0-0.tar.bz2"}


@pytest.mark.parametrize("select", [{}, {"exclude": ["other"]}], ids=["all before", "a selection before"])
def test_another_selection_may_keep_less(select: dict[str, list[str]], mirror: Mirror, channel: Channel) -> None:
    """Whatever is denied, or sealed of the past; if nobody knows any more what it was made with, that has to be accepted."""
    mirror.repos[0]["select"] = select
    channel.add(*[make_package("lib", f"{number}.0") for number in range(2, 8)])
    channel.publish()
    mirror.sync()
    channel.add(make_package("more"))
    channel.publish()
    mirror.sync("--seal-as", "2020-01-01")
    mirror.run("deny", "chan", "third", "--reason", "stolen key")
    mirror.repos[0]["select"] = {"include": ["lib >=5", "tool"]}
    mirror.sync()
    assert mirror.listed("chan/noarch") == {f"lib-{number}.0-0.conda" for number in (5, 6, 7)}
    mirror.run("allow", "chan", "third")
    mirror.run("reindex")
    mirror.repos[0]["select"] = {"include": ["lib >=7", "tool"]}
    mirror.sync(status=3).line("chan/noarch", "lists 1 files", "3", "--allow-shrink")
    mirror.sync("--allow-shrink")
    assert mirror.listed("chan/noarch") == {"lib-7.0-0.conda"}


def test_a_selection_of_which_one_subdir_fails_keeps_the_others_as_they_were_too(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """What is kept of one depends on all: `tool` of linux-64 needs `lib` of noarch."""
    mirror.repos[0]["select"] = {"include": ["tool"], "with_dependencies": True}
    mirror.sync()
    before = mirror.directories()
    channel.add(make_package("lib", "2.0"))
    channel.publish()
    upstream.fault("/chan/linux-64/*", Status(500))
    result = mirror.sync(status=1)
    for subdir in ("linux-64", "noarch"):
        assert "500" in result.line(f"chan/{subdir}: ", f"{upstream.url}/chan/linux-64/", "keeps its old state")
    assert mirror.directories() == before
    upstream.heal()
    mirror.sync()
    assert mirror.listed("chan/noarch") == {"lib-1.0-0.conda", "lib-2.0-0.conda"}


def test_losing_exactly_half_is_no_accident(mirror: Mirror, channel: Channel) -> None:
    mirror.sync()
    channel.remove("lib-1.0-0.conda")
    channel.publish()
    mirror.sync()
    assert mirror.listed("chan/noarch") == {"data-1.0-0.tar.bz2"}


def spoil(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change the bytes of a file."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(spoil(lambda data: data[:-1] + bytes([data[-1] ^ 1])), id="altered"),
        pytest.param(spoil(lambda data: data[: len(data) // 2]), id="truncated"),
        pytest.param(spoil(lambda _: b"<!DOCTYPE html><title>404</title>"), id="html"),
        pytest.param(spoil(lambda _: b""), id="empty"),
    ],
)
def test_channel_whose_shards_are_bad_is_read_from_another_form(
    mirror: Mirror, channel: Channel, upstream: Upstream, spoilt: Callable[[Path], object]
) -> None:
    channel.variants = ("shards", "zst", "json")
    channel.publish()
    shards = list((upstream.root / "chan/noarch/shards").iterdir())
    for shard in shards:
        spoilt(shard)
    result = mirror.sync()
    named = result.line("chan/noarch: ", f"{upstream.url}/chan/noarch/shards/", "another form")
    assert any(shard.name in named for shard in shards)
    assert mirror.listed("chan/noarch") == {"lib-1.0-0.conda", "data-1.0-0.tar.bz2"}
    mirror.published()
    channel.variants = {"shards"}  # nothing to fall back on: as any index that can't be read
    offer(channel, "2.0")
    upstream.fault("/chan/noarch/shards/*", Status(404))
    before = mirror.directories()["chan/noarch"]
    mirror.sync(status=3).line("chan/noarch: ", "keeps its old state")
    assert mirror.directories()["chan/noarch"] == before


def test_promised_shard_that_is_a_bomb_is_not_expanded(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    mirror.sync()
    before = mirror.published()
    bomb = zstd.compress(bytes(MIB)) * BOMB
    write_shards(upstream.root / "chan/noarch", {"lib": bomb})
    (upstream.root / "chan/noarch/repodata.json.zst").unlink()
    (upstream.root / "chan/noarch/repodata.json").unlink()
    result = mirror.sync(status=3)
    result.line("chan/noarch: ", f"{upstream.url}/chan/noarch/", "expands past")
    result.line("chan/noarch: ", "keeps its old state")
    assert mirror.published() == before


def test_directory_is_not_published_empty_because_its_shards_are_missing(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    channel.variants = {"shards"}
    channel.publish()
    upstream.fault("/chan/noarch/*/*.msgpack.zst", Status(404))
    result = mirror.sync(status=3)
    result.line("chan/noarch: ", f"{upstream.url}/chan/noarch/shards/", "404")
    assert list(mirror.directories()) == ["chan/linux-64"]


LIB = {"name": "lib", "version": "1", "build": "0", "size": 3, "sha256": bytes(32)}
WEIRD_SHARDS: dict[str, Any] = {
    "no-map": [1, 2],
    "packages-list": {"packages": []},
    "removed-number": {"packages": {}, "removed": 5},
    "removed-numbers": {"packages": {}, "removed": [1, None]},
    "v3-kind-number": {"v3": {"conda": 5}},
    "file-number": {"packages": {5: LIB}},
    "record-number-keys": {"packages": {"lib-1-0.tar.bz2": LIB | {"x": {1: 2, "a": 3}}}},
    "record-extension": {"packages": {"lib-1-0.tar.bz2": LIB | {"x": msgspec.msgpack.Ext(5, b"data")}}},
    "section-number": {"packages": {}, 7: 8},
}


def test_shards_that_no_json_can_say_disturb_nothing_else(mirror: Mirror, upstream: Upstream) -> None:
    good = make_package("good")
    healthy = packed({"packages": {}, "packages.conda": {good.filename: raw_hashes(good.record)}, "removed": []})
    for name, shard in WEIRD_SHARDS.items():
        channel = Channel(upstream.root / name, variants=())
        channel.add(good)
        write_shards(upstream.root / name / "noarch", {"lib": packed(shard), "good": healthy})
        mirror.add(name, f"{upstream.url}/{name}")
    result = mirror.sync(status=3)
    assert mirror.listed("chan/linux-64") == {"tool-1.0-0.conda"}
    directories = mirror.directories()
    mirror.published()
    for name in WEIRD_SHARDS:
        if f"{name}/noarch" in directories:  # the strange part is withheld, or all of the directory is not there
            assert mirror.listed(f"{name}/noarch") == {good.filename}
        else:
            result.line(f"{name}/noarch: ", f"{upstream.url}/{name}/noarch/")
    mirror.sync(status=None)  # whatever was stored can be read again
    assert mirror.directories() == directories
