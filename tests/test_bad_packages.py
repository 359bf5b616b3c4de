"""Package files that can't be had, or are not what the index says: what is withheld, what is kept, what is fetched again."""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from channels import Channel, make_package
from mirror import Mirror
from upstream import Body, Call, Fault, Html, Redirect, Slow, Stall, Status, Truncate, Upstream

BIG = make_package("big", payload=os.urandom(300_000))
SMALL = make_package("small")
LIB, DATA = make_package("lib"), make_package("data", ext=".tar.bz2")
BIG_PATH = f"/chan/noarch/{BIG.filename}"


@pytest.fixture
def synced(mirror: Mirror, channel: Channel, upstream: Upstream) -> Mirror:
    """The mirror after a sync; since then `big` and `small` have come to noarch, `tool` 2.0 to linux-64."""
    mirror.sync()
    channel.add(BIG, SMALL, make_package("tool", "2.0", subdir="linux-64"))
    channel.publish()
    upstream.clear()
    return mirror


def flipped(data: bytes) -> bytes:
    """The same number of bytes, one of them another."""
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


WRONG: dict[str, tuple[Callable[[bytes], Fault], str]] = {
    "absent": (lambda _: Status(404), "404"),
    "gone": (lambda _: Status(410), "410"),
    "short": (lambda data: Body(data[:-1]), "size is"),
    "long": (lambda data: Body(data + b"x"), "size is"),
    "empty": (lambda _: Body(b""), "size is 0"),
    "altered": (lambda data: Body(flipped(data)), "sha256 is"),
    "html": (lambda _: Html(), "size is"),
}


def test_files_that_are_not_there_or_not_right_are_withheld_and_named(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    bad = {name: make_package("big", build=name, payload=os.urandom(3000)) for name in WRONG}
    for name, package in bad.items():
        channel.add(package)
        upstream.fault(f"/chan/noarch/{package.filename}", WRONG[name][0](package.data))
    channel.publish()
    result = synced.sync(status=3)
    for name, package in bad.items():
        result.line(f"chan/noarch/{package.filename}: ", "withheld", WRONG[name][1])
    sound = {LIB.filename, DATA.filename, BIG.filename, SMALL.filename}
    assert synced.listed("chan/noarch") == sound
    assert set(synced.withheld("chan/noarch")) == {package.filename for package in bad.values()}
    assert "chan/linux-64/tool-2.0-0.conda" in synced.published()
    synced.sync()  # no news: they are withheld as before
    synced.sync("--strict", status=3)
    assert len(synced.withheld("chan/noarch")) == len(bad)
    upstream.heal()
    synced.sync("--strict")
    assert synced.withheld("chan/noarch") == {}
    assert synced.listed("chan/noarch") == sound | {package.filename for package in bad.values()}
    synced.published()


FAILING: dict[str, tuple[Fault, str]] = {
    "forbidden": (Status(403), "403"),
    "broken": (Status(500), "500"),
    "down": (Status(503, {"Retry-After": "0"}), "503"),
    "throttled": (Status(429, {"Retry-After": "0"}), "429"),
    "cut-off": (Truncate(1000), "after 2 tries"),
    "stalled": (Stall(1000, 30), "stalled"),
    "circles": (Redirect(BIG_PATH), "redirects without end"),
}


def test_files_that_fail_in_transport_keep_their_directories_as_they_were(mirror: Mirror, upstream: Upstream) -> None:
    mirror.settings["download"]["stall"] = "1B/3s"
    channels = {name: Channel(upstream.root / name, subdirs=["linux-64"]) for name in FAILING}
    for name, made in channels.items():
        made.add(LIB)
        made.publish()
        mirror.add(name, f"{upstream.url}/{name}", subdirs=["linux-64"])
    mirror.sync()
    before = mirror.published()
    for number, (name, made) in enumerate(channels.items()):
        made.add(make_package("big", payload=bytes([number]) + os.urandom(3000)), make_package(name, subdir="linux-64"))
        made.add(make_package(f"beside-{name}"))
        made.publish()
        fault = Redirect(f"/{name}/noarch/{BIG.filename}") if name == "circles" else FAILING[name][0]
        upstream.fault(f"/{name}/noarch/{BIG.filename}", fault)
    result = mirror.sync(status=3)
    after = mirror.published()
    assert {path for path in after if "/noarch/" in path} == {path for path in before if "/noarch/" in path}
    for name, (_, says) in FAILING.items():
        line = result.line(f"{name}/noarch: ", f"{upstream.url}/{name}/noarch/{BIG.filename}", says)
        assert line.endswith("keeps its old state")
        assert f"{name}/linux-64/{name}-1.0-0.conda" in after
    assert len(mirror.snapshots()) == 2
    upstream.heal()
    upstream.clear()
    mirror.sync()
    # What was fetched beside them is held, though nothing listed it until now.
    assert [path for path in upstream.paths() if "beside" in path] == []
    healed = mirror.published()
    for name in FAILING:
        assert {f"{name}/noarch/{BIG.filename}", f"{name}/noarch/beside-{name}-1.0-0.conda"} <= set(healed)


def ranges(upstream: Upstream) -> list[tuple[int, str | None]]:
    """Status and Range of each request for the big package."""
    return [(one.status, one.headers.get("range")) for one in upstream.requests if one.path == BIG_PATH]


def test_broken_connection_is_resumed_where_it_broke(synced: Mirror, upstream: Upstream) -> None:
    upstream.fault(BIG_PATH, Truncate(200_000), times=1)
    synced.sync()
    assert ranges(upstream) == [(200, None), (206, "bytes=200000-")]
    assert upstream.bytes_sent(BIG_PATH) == len(BIG.data)
    resumed = [one for one in upstream.requests if one.path == BIG_PATH][-1]
    assert resumed.headers["if-range"].startswith('"')
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def test_stalled_connection_is_resumed_where_it_stalled(synced: Mirror, upstream: Upstream) -> None:
    synced.settings["download"]["stall"] = "1B/3s"
    upstream.fault(BIG_PATH, Stall(200_000, 30), times=1)
    synced.sync()
    assert ranges(upstream) == [(200, None), (206, "bytes=200000-")]
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def test_connection_that_trickles_counts_as_stalled(synced: Mirror, upstream: Upstream) -> None:
    synced.settings["download"] |= {"stall": "50kB/2s", "retries": 0}
    upstream.fault(BIG_PATH, Slow(100))
    synced.sync(status=3, timeout=40).line("chan/noarch: ", upstream.url + BIG_PATH, "stalled")


def test_next_sync_goes_on_where_the_last_one_failed(synced: Mirror, upstream: Upstream) -> None:
    synced.settings["download"]["retries"] = 0
    upstream.fault(BIG_PATH, Truncate(200_000), times=1)
    synced.sync(status=3)
    upstream.clear()
    synced.sync()
    assert ranges(upstream) == [(206, "bytes=200000-")]
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def test_partial_file_that_is_wrong_is_fetched_from_its_begin(synced: Mirror, upstream: Upstream) -> None:
    synced.settings["download"]["retries"] = 0
    upstream.fault(BIG_PATH, Body(flipped(BIG.data)), Truncate(200_000), times=1)
    synced.sync(status=3)
    upstream.clear()
    synced.sync()
    assert ranges(upstream) == [(206, "bytes=200000-"), (200, None)]
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def test_server_without_ranges_is_asked_for_all_of_it_again(synced: Mirror, upstream: Upstream) -> None:
    upstream.ranges = False
    upstream.fault(BIG_PATH, Truncate(200_000), times=1)
    synced.sync()
    assert [status for status, _ in ranges(upstream)] == [200, 200]
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def test_file_replaced_while_it_is_fetched_is_not_patched_together(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    other = make_package("big", payload=os.urandom(300_000))

    def replace_it() -> None:
        channel.add(other)
        channel.publish()

    upstream.fault(BIG_PATH, Truncate(200_000), times=1)
    upstream.fault(BIG_PATH, Call(replace_it), times=1)
    synced.sync()
    assert synced.repodata("chan/noarch")["packages.conda"][BIG.filename]["sha256"] == other.record["sha256"]
    synced.published()


def test_server_that_asks_to_wait_is_given_the_time(synced: Mirror, upstream: Upstream) -> None:
    times: list[float] = []
    tick = Call(lambda: times.append(time.monotonic()))
    upstream.fault(BIG_PATH, tick, Status(429, {"Retry-After": "2"}), times=1)
    upstream.fault(BIG_PATH, tick)
    synced.sync()
    assert len(times) == 2
    assert times[1] - times[0] >= 2
    assert f"chan/noarch/{BIG.filename}" in synced.published()


def hotfix(channel: Channel) -> Callable[[], None]:
    """Publish other bytes under the same name."""

    def publish() -> None:
        channel.add(replace(make_package("big", payload=b"another"), filename=BIG.filename))
        channel.publish()

    return publish


def test_upstream_that_changes_after_its_index_was_read_is_read_again(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    upstream.fault(BIG_PATH, Call(hotfix(channel)), times=1)
    synced.sync("--strict")
    read = [upstream.paths().count(f"/chan/{subdir}/repodata.json.zst") for subdir in ("noarch", "linux-64")]
    assert read == [2, 1]  # nothing was amiss in the other
    record = make_package("big", payload=b"another").record
    assert synced.repodata("chan/noarch")["packages.conda"][BIG.filename] == record
    assert synced.withheld("chan/noarch") == {}
    synced.published()


def test_upstream_that_removes_a_file_after_its_index_was_read_is_read_again(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    def remove() -> None:
        channel.remove(BIG.filename)
        channel.publish()

    upstream.fault(BIG_PATH, Call(remove), times=1)
    synced.sync("--strict")
    repodata = synced.repodata("chan/noarch")
    assert (BIG.filename in repodata["packages.conda"], repodata["removed"]) == (False, [BIG.filename])
    synced.published()


def test_same_name_with_other_bytes_leaves_the_old_snapshot_alone(synced: Mirror, channel: Channel, upstream: Upstream) -> None:
    synced.sync()
    old = synced.snapshots()[-1]
    before = synced.published(old)
    hotfix(channel)()
    upstream.clear()
    name = f"chan/noarch/{BIG.filename}"
    synced.sync().line(f"{name}: upstream has other bytes than before under this name")
    assert [path for path in upstream.paths() if not path.endswith(("json", "zst"))] == [BIG_PATH]
    assert synced.published(old) == before
    assert synced.published()[name] != before[name]
    assert synced.run("diff", old, "current", "--json").json["changed"] == [name]


def test_withheld_file_of_the_newest_snapshot_is_no_longer_published_but_kept_in_the_old(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    synced.sync()
    old = synced.snapshots()[-1]
    hotfix(channel)()
    upstream.fault(BIG_PATH, Status(404))
    synced.sync(status=3)
    assert BIG.filename not in synced.listed("chan/noarch")
    assert f"chan/noarch/{BIG.filename}" in synced.published(old)
    synced.published()


@pytest.mark.parametrize("how", ["reserve", "huge-file"])
def test_plan_larger_than_the_disk_is_refused_before_the_first_byte(
    synced: Mirror, channel: Channel, upstream: Upstream, how: str
) -> None:
    other = Channel(upstream.root / "other")
    other.add(make_package("thing"))
    other.publish()
    synced.add("other", f"{upstream.url}/other")
    before = synced.published()
    if how == "reserve":
        synced.settings["download"]["min_free"] = "99.9%"
        result = synced.sync(status=1)
        result.line("other: ", "bytes", "min_free")
        assert len(synced.snapshots()) == 1
    else:
        size = shutil.disk_usage(synced.root).total * 2
        channel.hotfix(BIG.filename, size=size)
        channel.publish()
        result = synced.sync(status=3)
        assert str(size)[:3] in result.line("chan: ", "min_free")
        assert list(synced.record().repos) == ["chan", "other"]
        assert "other/noarch/thing-1.0-0.conda" in synced.published()
    line = result.line("chan: ", "the plan needs", "the disk has", "nothing was fetched")
    assert len(re.findall(r"\(\d+ bytes\)", line)) == 2
    assert not [path for path in upstream.paths() if path.startswith("/chan/") and path.endswith((".conda", ".bz2"))]
    after = synced.published()
    assert {path: digest for path, digest in after.items() if path.startswith("chan/")} == before


def test_plan_that_is_refused_keeps_those_as_they_were_that_are_selected_with_it(
    synced: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """What would be new in them may need what is refused."""
    app = Channel(upstream.root / "app")
    app.add(make_package("app", depends=["big >=2"]))
    app.publish()
    select = {"include": ["app"], "with_dependencies": True, "dependencies_from": ["chan"]}
    synced.add("app", f"{upstream.url}/app", select=select)
    channel.hotfix(BIG.filename, size=shutil.disk_usage(synced.root).total * 2)
    channel.publish()
    before = synced.directories()
    result = synced.sync(status=1)
    result.line("chan: ", "nothing was fetched")
    result.line("app: ", "nothing was fetched")
    assert synced.directories() == before
    assert not [path for path in upstream.paths() if path.endswith((".conda", ".bz2"))]


@pytest.mark.parametrize("bad", [Status(503), "shrinks"], ids=["503", "shrinks"])
def test_a_selection_of_which_one_subdir_keeps_its_old_state_keeps_the_others_too(
    mirror: Mirror, upstream: Upstream, bad: Fault | str
) -> None:
    """The old `tool` of linux-64 needs what noarch of another repo has only for its sake."""
    app, base = Channel(upstream.root / "app", subdirs=["linux-64"]), Channel(upstream.root / "base", subdirs=["linux-64"])
    old = [make_package(f"tool{n}", depends=["lib <2"], subdir="linux-64") for n in range(3)]
    app.add(*old)
    base.add(make_package("lib"), make_package("lib", "2.0"), make_package("own"))
    select = {"include": ["tool*"], "newest": 1, "with_dependencies": True, "dependencies_from": ["base"]}
    mirror.repos = []
    mirror.add("app", f"{upstream.url}/app", subdirs=["linux-64"], select=select)
    mirror.add("base", f"{upstream.url}/base", subdirs=["linux-64"], select={"include": ["own"]})
    for channel in (app, base):
        channel.publish()
    mirror.sync()
    assert mirror.listed("base/noarch") == {"lib-1.0-0.conda", "own-1.0-0.conda"}
    before = mirror.directories()
    for package in old:
        app.remove(package.filename)
    new = make_package("tool0", "2.0", depends=["lib >=2"], subdir="linux-64")
    app.add(new)
    app.publish()
    if not isinstance(bad, str):
        app.add(*(make_package(f"tool{n}", "2.0", depends=["lib >=2"], subdir="linux-64") for n in range(1, 3)))
        app.publish()
        upstream.fault(f"/app/linux-64/{new.filename}", bad)
    result = mirror.sync(status=1)
    for path in ("app/linux-64", "app/noarch", "base/linux-64", "base/noarch"):
        result.line(f"{path}: ", "app/linux-64", "keeps its old state")
    assert mirror.directories() == before
    upstream.heal()
    mirror.sync("--allow-shrink")
    assert mirror.listed("base/noarch") == {"lib-2.0-0.conda", "own-1.0-0.conda"}


def test_repo_with_nothing_to_fetch_needs_no_room(mirror: Mirror) -> None:
    mirror.sync()
    mirror.settings["download"]["min_free"] = "99.9%"
    mirror.sync()
    assert len(mirror.snapshots()) == 2


def test_one_file_that_several_repos_list_is_fetched_once(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    twin = Channel(upstream.root / "twin")
    twin.add(make_package("lib"))
    twin.publish()
    mirror.add("twin", f"{upstream.url}/twin")
    mirror.sync()
    assert len([path for path in upstream.paths() if path.endswith("lib-1.0-0.conda")]) == 1
    assert {"chan/noarch/lib-1.0-0.conda", "twin/noarch/lib-1.0-0.conda"} <= set(mirror.published())


@pytest.mark.parametrize("first", ["refused", "500", "404", "html"])
def test_second_upstream_stands_in_for_the_first(mirror: Mirror, channel: Channel, upstream: Upstream, first: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls = {"refused": f"http://127.0.0.1:{unused.getsockname()[1]}/chan"}
        upstream.fault("/500/*", Status(500))
        upstream.fault("/html/*", Status(200, {}, b"<!DOCTYPE html>"))
        mirror.repos[0]["upstream"] = [urls.get(first, f"{upstream.url}/{first}"), f"{upstream.url}/chan"]
        result = mirror.sync()
    result.line(mirror.repos[0]["upstream"][0], "next upstream")
    assert mirror.listed("chan/noarch") == {LIB.filename, DATA.filename}
    mirror.published()


def test_file_that_the_first_upstream_lacks_comes_from_the_second(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    (upstream.root / "twin").symlink_to(upstream.root / "chan")
    mirror.repos[0]["upstream"] = [f"{upstream.url}/twin", f"{upstream.url}/chan"]
    upstream.fault(f"/twin/noarch/{LIB.filename}", Status(404))
    upstream.fault(f"/twin/noarch/{DATA.filename}", Status(500))
    mirror.sync("--strict")
    from_second = {path for path in upstream.paths() if path.startswith("/chan/") and path.endswith((".conda", ".tar.bz2"))}
    assert from_second == {f"/chan/noarch/{package.filename}" for package in (LIB, DATA)}
    mirror.published()


@pytest.mark.parametrize("variant", ["json", "shards"])
def test_record_that_is_invalid_is_told_of_by_every_sync(variant: str, mirror: Mirror, channel: Channel) -> None:
    """Also by those that find only other packages changed, or nothing."""
    channel.variants = {variant}
    channel.hotfix("lib-1.0-0.conda", drop=["sha256", "md5", "size"])
    for number in range(2):
        channel.add(make_package(f"new{number}"))
        channel.publish()
        for _ in range(2):
            result = mirror.sync("--strict", "--json", status=3).json["repos"]["chan"]["directories"]["noarch"]
            assert result["withheld"] == {"lib-1.0-0.conda": "its record has neither a hash nor a size"}
    assert mirror.listed("chan/noarch") == {"data-1.0-0.tar.bz2", "new0-1.0-0.conda", "new1-1.0-0.conda"}


def test_file_that_its_md5_does_not_verify_is_withheld(mirror: Mirror, channel: Channel) -> None:
    channel.hotfix(LIB.filename, drop=["sha256"], md5="00" * 16)
    channel.publish()
    mirror.sync(status=3).line(f"chan/noarch/{LIB.filename}", "withheld", "md5 is", LIB.record["md5"])
    assert mirror.listed("chan/noarch") == {DATA.filename}
    mirror.published()


def test_linked_file_that_is_not_what_the_index_says_is_left_as_it_is(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    theirs = upstream.root / "chan/noarch" / LIB.filename
    theirs.write_bytes(b"something else")
    mirror.repos[0] |= {"upstream": (upstream.root / "chan").as_uri(), "link": True}
    mirror.sync(status=3).line(f"chan/noarch/{LIB.filename}", "withheld")
    assert theirs.read_bytes() == b"something else"
    mirror.published()
