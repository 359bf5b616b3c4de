"""Every form in which an upstream offers a channel is read right, in order of preference, and no more than needed."""

import copy
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from channels import Channel, Package, Repodata, Variant, make_package, read_document, read_shards
from inprocess import repodata, store_at, sync
from mirror import Mirror, packed, raw_hashes, text_hashes, write_shards
from upstream import Status, Upstream

from snapmirror.conda import CondaRepo

FORMS: tuple[Variant, ...] = ("shards", "zst", "json", "bz2")
DOCUMENTS: dict[Variant, str] = {
    "shards": "repodata_shards.msgpack.zst",
    "zst": "repodata.json.zst",
    "json": "repodata.json",
    "bz2": "repodata.json.bz2",
}
TOOL = make_package("tool", subdir="linux-64", depends=["lib"])
LIB, DATA = make_package("lib"), make_package("data", ext=".tar.bz2")


def asked(upstream: Upstream) -> list[str]:
    """The names of what was asked for and answered with a body."""
    return [one.path.rpartition("/")[2] for one in upstream.requests if one.status in (200, 206)]


def packages(upstream: Upstream) -> list[str]:
    """The packages that were asked for."""
    return [path for path in upstream.paths() if path.endswith((".conda", ".tar.bz2", ".whl"))]


def shards(upstream: Upstream) -> list[str]:
    """The shards that were asked for."""
    return [path for path in upstream.paths() if path.endswith(".msgpack.zst") and "/repodata_shards" not in path]


def as_published(upstream_says: Repodata) -> Repodata:
    """What we publish of an upstream's repodata.json: all of it but the addresses."""
    made = copy.deepcopy(upstream_says)
    made["info"].pop("base_url", None)
    made.setdefault("removed", [])
    made["repodata_version"] = 1
    return made


def agree(mirror: Mirror, directory: str, expected: Repodata) -> None:
    """Fail unless repodata.json and the shards of a directory say what is expected, key for key."""
    assert mirror.repodata(directory) == expected
    assert read_document(mirror.tree(directory) / "repodata.json") == expected
    records: dict[str, Any] = {}
    for shard in read_shards(mirror.tree(directory)).values():
        for section in ("packages", "packages.conda"):
            records |= {file: text_hashes(record) for file, record in shard[section].items()}
    assert records == expected["packages"] | expected["packages.conda"]
    mirror.published()


@pytest.mark.parametrize("offered", [FORMS[number:] for number in range(4)], ids=FORMS)
def test_forms_are_preferred_in_order_and_only_one_is_read(
    mirror: Mirror, channel: Channel, upstream: Upstream, offered: tuple[Variant, ...]
) -> None:
    channel.variants = offered
    channel.publish()
    mirror.sync()
    indexes = [name for name in asked(upstream) if name.startswith("repodata")]
    assert indexes == [DOCUMENTS[offered[0]]] * 2
    assert sorted(packages(upstream)) == [
        f"/chan/linux-64/{TOOL.filename}",
        *(f"/chan/noarch/{one.filename}" for one in (DATA, LIB)),
    ]
    for subdir in ("linux-64", "noarch"):
        agree(mirror, f"chan/{subdir}", as_published(channel.repodata(subdir)))


@pytest.mark.parametrize("etags", [True, False], ids=["etag", "date"])
@pytest.mark.parametrize("form", FORMS)
def test_unchanged_channel_costs_nothing_and_is_a_snapshot_all_the_same(
    mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant, etags: bool
) -> None:
    channel.variants = {form}
    channel.publish()
    upstream.etags = etags
    mirror.sync()
    first = mirror.record()
    upstream.clear()
    mirror.sync()
    assert upstream.bytes_sent() == 0
    assert sorted({one.status for one in upstream.requests} - {404}) == [304]
    assert (packages(upstream), shards(upstream)) == ([], [])
    second = mirror.record()
    assert (second.id > first.id, second.number) == (True, 2)
    old, new = first.repos["chan"].directories, second.repos["chan"].directories
    assert {name: state.digest for name, state in old.items()} == {name: state.digest for name, state in new.items()}
    assert {state.since for state in new.values()} == {first.id}
    assert min(state.read for state in new.values()) >= max(state.read for state in old.values())


@pytest.mark.parametrize("form", ["shards", "zst"])
def test_server_without_validators_is_read_again_but_no_file_is(
    mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant
) -> None:
    channel.variants = {form}
    channel.publish()
    upstream.etags = upstream.last_modified = False
    mirror.sync()
    before = mirror.directories()
    upstream.clear()
    mirror.sync()
    assert (packages(upstream), shards(upstream)) == ([], [])
    assert mirror.directories() == before


def test_only_shards_that_are_new_are_fetched(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    channel.variants = {"shards"}
    channel.add(*[make_package(f"pad{number}") for number in range(40)])
    channel.publish()
    mirror.sync()
    assert len(shards(upstream)) == 43
    upstream.clear()
    channel.hotfix("pad7-1.0-0.conda", depends=["lib <2"])
    channel.add(make_package("new"))
    channel.publish()
    mirror.sync()
    assert len(shards(upstream)) == 2
    assert packages(upstream) == ["/chan/noarch/new-1.0-0.conda"]
    agree(mirror, "chan/noarch", as_published(channel.repodata("noarch")))


def test_all_forms_of_a_channel_come_to_the_same_leaves(mirror: Mirror, upstream: Upstream) -> None:
    mirror.repos.clear()
    for form in FORMS:
        made = Channel(upstream.root / form, variants={form}, info={"x": [1, {"b": None, "a": 1.5}]})
        made.add(LIB, DATA, make_package("lib", "2.0", license="Ünïcode", extra_depends={"b": [], "a": ["c"]}))
        made.add(make_package("odd", "1.0"), make_package("gone"), make_package("future"), v3=False)
        made.add(make_package("new", build="py3"), v3=True)
        made.hotfix("odd-1.0-0.conda", name="lib")
        made.hotfix("data-1.0-0.tar.bz2", drop=["sha256"])
        made.remove("gone-1.0-0.conda")
        made.publish()
        mirror.add(form, f"{upstream.url}/{form}")
    mirror.sync()
    leaves = {form: mirror.reader(f"{form}/noarch").leaves for form in FORMS}
    assert leaves["shards"]
    assert all(found == leaves["shards"] for found in leaves.values())
    assert len({str(mirror.repodata(f"{form}/noarch")) for form in FORMS}) == 1
    mirror.published()


def test_keys_that_nobody_knows_survive_at_every_level(mirror: Mirror, upstream: Upstream) -> None:
    unknown = {"deep": [{"b": None, "a": [True, 1.5, "é \u0000 \U0001f40d", {}]}], "": ""}
    relations = {"base": ["../other"], "overrides": {}}
    changes: dict[str, Any] = {"x-record": unknown, "purls": None, "legacy_bz2_size": 5, "track_features": ""}
    mirror.repos.clear()
    for form in FORMS:
        info = {"x-info": unknown, "arch": None, "channel_relations": relations}
        made = Channel(upstream.root / form, variants={form}, info=info, extra={"x-top": unknown, "signatures": {"a": {}}})
        made.add(LIB)
        made.hotfix(LIB.filename, drop=(), **changes)
        made.publish()
        mirror.add(form, f"{upstream.url}/{form}")
    mirror.sync()
    for form in FORMS:
        published = mirror.repodata(f"{form}/noarch")
        index = read_document(mirror.tree(f"{form}/noarch") / "repodata_shards.msgpack.zst")
        for document in (published, index):
            assert {**info, "subdir": "noarch"}.items() <= document["info"].items()
            if form != "shards":  # a shard index says nothing at the top
                assert (document["x-top"], document["signatures"]) == (unknown, {"a": {}})
        assert index["info"]["base_url"] == ""
        agree(mirror, f"{form}/noarch", published)
        assert published["packages.conda"] == {LIB.filename: LIB.record | changes}


def test_unknown_keys_of_a_shard_and_of_a_shard_index_survive_in_shards(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    shard = {"packages": {}, "packages.conda": {LIB.filename: raw_hashes(LIB.record)}, "removed": [], "x-shard": {"a": [1]}}
    info = {"created_at": "2026-01-01T00:00:00Z", "x-info": 1}
    write_shards(upstream.root / "chan/noarch", {"lib": packed(shard)}, info=info, **{"x-top": {"b": 2}})
    mirror.sync()
    assert read_shards(mirror.tree("chan/noarch"))["lib"]["x-shard"] == {"a": [1]}
    published = read_document(mirror.tree("chan/noarch") / "repodata_shards.msgpack.zst")
    assert (published["version"], published["x-top"], published["info"]["x-info"]) == (1, {"b": 2}, 1)
    assert mirror.repodata("chan/noarch")["packages.conda"] == {LIB.filename: LIB.record}


def test_what_a_shard_index_says_of_its_own_form_is_not_said_of_ours(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """As conda-index 0.6 to 0.9 writes it: conda before 24.5 refuses repodata of version 2."""
    shard = {"packages": {}, "packages.conda": {LIB.filename: raw_hashes(LIB.record)}, "removed": []}
    top = {"repodata_version": 2, "removed": ["never-1-0.conda"], "v3": {"conda": {"never-1-0": {}}}}
    write_shards(upstream.root / "chan/noarch", {"lib": packed(shard)}, **top)
    mirror.sync()
    published = mirror.repodata("chan/noarch")
    assert (published["repodata_version"], published["removed"], published.get("v3", {})) == (1, [], {})
    assert set(read_document(mirror.tree("chan/noarch") / "repodata_shards.msgpack.zst")) == {"version", "info", "shards"}


@pytest.mark.parametrize("form", ["shards", "json"])
@pytest.mark.parametrize("base", ["absolute", "relative", "rooted"])
def test_base_url_says_where_the_files_are(
    mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant, base: str
) -> None:
    urls = {"absolute": f"{upstream.url}/store/", "relative": "../../store", "rooted": "/store/"}
    (upstream.root / "store").mkdir()
    for package in (TOOL, LIB, DATA):
        (upstream.root / "chan" / package.record["subdir"] / package.filename).rename(
            upstream.root / "store" / package.filename
        )
    channel.info["base_url"] = urls[base]
    channel.variants = {form}
    channel.publish()
    mirror.sync()
    assert sorted(packages(upstream)) == sorted(f"/store/{package.filename}" for package in (TOOL, LIB, DATA))
    agree(mirror, "chan/noarch", as_published(channel.repodata("noarch")))
    assert mirror.repodata("chan/noarch")["info"] == {"subdir": "noarch"}


def test_shards_that_lie_on_another_host(mirror: Mirror, channel: Channel, upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with Upstream(tmp_path / "elsewhere") as elsewhere:
        channel.info["shards_base_url"] = f"{elsewhere.url}/shards"
        channel.variants = {"shards"}
        channel.publish()
        for subdir in ("linux-64", "noarch"):
            for shard in (upstream.root / "chan" / subdir / "shards").iterdir():
                (elsewhere.root / "shards").mkdir(exist_ok=True)
                shard.rename(elsewhere.root / "shards" / shard.name)
        mirror.sync()
        assert (len(shards(elsewhere)), shards(upstream)) == (3, [])
    agree(mirror, "chan/noarch", as_published(channel.repodata("noarch")))


@pytest.mark.parametrize("form", ["shards", "json"])
def test_record_may_say_where_its_file_is(mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant) -> None:
    channel.variants = {form}
    (upstream.root / "far").mkdir()
    for package, url in ((LIB, f"{upstream.url}/far/{LIB.filename}?download=1"), (DATA, f"../../far/{DATA.filename}")):
        (upstream.root / "chan/noarch" / package.filename).rename(upstream.root / "far" / package.filename)
        channel.hotfix(package.filename, url=url)
    channel.hotfix(TOOL.filename, url=f"{upstream.url}/chan/linux-64/{TOOL.filename}")
    channel.publish()
    mirror.sync("--strict")
    assert sorted(packages(upstream)) == [f"/chan/linux-64/{TOOL.filename}", f"/far/{DATA.filename}", f"/far/{LIB.filename}"]
    expected = as_published(channel.repodata("noarch"))
    expected["packages.conda"][LIB.filename]["url"] = LIB.filename
    expected["packages"][DATA.filename]["url"] = DATA.filename
    agree(mirror, "chan/noarch", expected)
    upstream.clear()
    mirror.sync()
    assert packages(upstream) == []


def test_removed_files_are_named_but_not_listed_and_stay_in_old_snapshots(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    for form in FORMS:
        channel.variants = {form}
        channel.add(LIB)
        channel.publish()
        mirror.sync()
        old = mirror.snapshots()[-1]
        channel.remove(LIB.filename)
        channel.publish()
        mirror.sync()
        repodata = mirror.repodata("chan/noarch")
        assert (repodata["removed"], mirror.listed("chan/noarch")) == ([LIB.filename], {DATA.filename})
        assert mirror.shards("chan/noarch")["lib"]["removed"] == [LIB.filename]
        assert f"chan/noarch/{LIB.filename}" in mirror.published(old)
        mirror.published()


def wheel(upstream: Upstream) -> dict[str, Any]:
    """A record of a wheel that lies beside the channel, as CEP 48 and rattler's test channel have them."""
    data = b"PK wheel"
    file = "idna-3.10-py3-none-any.whl"
    (upstream.root / "wheels").mkdir()
    (upstream.root / "wheels" / file).write_bytes(data)
    return {
        "name": "idna",
        "version": "3.10",
        "build": "py3_none_any_0",
        "build_number": 0,
        "depends": ["python >=3.6"],
        "extra_depends": {"all": ["ruff[when='python >=3.9']"]},
        "subdir": "noarch",
        "noarch": "python",
        "fn": file,
        "url": f"{upstream.url}/wheels/{file}",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "record_version": 3,
    }


@pytest.mark.parametrize("form", FORMS)
def test_new_revision_of_repodata_with_a_wheel(mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant) -> None:
    record = wheel(upstream)
    channel.variants = {form}
    channel.v3 = {"whl": {"idna-3.10-py3_none_any_0": record}}
    channel.add(make_package("fresh"), make_package("fresh", ext=".tar.bz2"), v3=True)
    channel.publish()
    mirror.sync("--strict")
    expected = as_published(channel.repodata("noarch"))
    expected["v3"]["whl"]["idna-3.10-py3_none_any_0"]["url"] = record["fn"]
    agree(mirror, "chan/noarch", expected)
    published = mirror.published()
    for file in (record["fn"], "fresh-1.0-0.conda", "fresh-1.0-0.tar.bz2"):
        assert f"chan/noarch/{file}" in published
    assert mirror.shards("chan/noarch")["idna"]["v3"]["whl"]["idna-3.10-py3_none_any_0"]["record_version"] == 3
    upstream.clear()
    mirror.sync()
    assert packages(upstream) == []


def test_counts_of_a_revision_tell_what_is_published(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    """CEP 48: their times are those at which upstream first listed what is there."""
    mirror.repos[0]["current_repodata"] = True
    one, two = (make_package(name, timestamp=1_000, indexed_timestamp=time) for name, time in (("one", 9_000), ("two", 8_000)))
    channel.add(one, two, make_package("three", timestamp=3_000), v3=True)
    channel.publish()
    upstream.fault("/chan/noarch/two-1.0-0.conda", Status(404))
    mirror.sync(status=3)
    assert revision_in(mirror, "repodata.json") == {"n_packages": 2, "oldest": 3_000, "newest": 9_000}
    mirror.published()
    mirror.run("deny", "chan", "three", "--reason", "malware")
    mirror.sync()
    for document in ("repodata.json", "repodata_shards.msgpack.zst"):
        assert revision_in(mirror, document) == {"n_packages": 1, "oldest": 9_000, "newest": 9_000}
    assert revision_in(mirror, "current_repodata.json") == {"n_packages": 0, "oldest": None, "newest": None}


def revision_in(mirror: Mirror, document: str) -> Any:
    return read_document(mirror.tree("chan/noarch") / document)["info"]["repodata_revisions"]["v3"]


@pytest.mark.parametrize("form", ["shards", "json"])
def test_file_known_by_md5_alone_is_verified_by_it_and_fetched_once(
    mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant
) -> None:
    channel.variants = {form}
    for package in (LIB, DATA):
        channel.hotfix(package.filename, drop=["sha256"])
    channel.publish()
    mirror.sync()
    expected = as_published(channel.repodata("noarch"))
    for section, package in (("packages.conda", LIB), ("packages", DATA)):
        expected[section][package.filename]["sha256"] = package.record["sha256"]
    agree(mirror, "chan/noarch", expected)
    before = mirror.directories()
    upstream.clear()
    upstream.etags = upstream.last_modified = False  # so that all of it is read again
    mirror.repos.append(mirror.repos[0] | {"path": "twin"})
    mirror.sync()
    mirror.repos.pop()
    mirror.run("reindex")
    mirror.sync()
    assert packages(upstream) == []
    assert mirror.directories() == before
    channel.add(make_package("lib", "2.0"))
    channel.hotfix(LIB.filename, drop=["size"])
    channel.publish()
    mirror.sync()
    assert packages(upstream) == ["/chan/noarch/lib-2.0-0.conda"]
    del expected["packages.conda"][LIB.filename]["size"]
    expected["packages.conda"]["lib-2.0-0.conda"] = make_package("lib", "2.0").record
    agree(mirror, "chan/noarch", expected)


@pytest.mark.parametrize("form", ["shards", "json"])
def test_record_whose_name_is_not_that_of_its_file(mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant) -> None:
    channel.variants = {form}
    channel.add(make_package("alias"), make_package("alias", "2.0"))
    channel.hotfix("alias-1.0-0.conda", name="lib")
    for step in range(3):
        if step == 1:  # the leaf that it is in changes, its own group of file names does not
            channel.add(make_package("lib", "2.0"))
        if step == 2:  # it comes to have the name that its file has
            channel.hotfix("alias-1.0-0.conda", name="alias")
        channel.publish()
        mirror.sync()
        agree(mirror, "chan/noarch", as_published(channel.repodata("noarch")))
        owner = "lib" if step < 2 else "alias"
        assert "alias-1.0-0.conda" in mirror.shards("chan/noarch")[owner]["packages.conda"]
        assert f"chan/noarch/{'alias-1.0-0.conda'}" in mirror.published()


def test_label_is_a_path_below_its_channel(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    label = Channel(upstream.root / "chan/label/dev")
    label.add(make_package("lib", "3.0.dev0"))
    label.publish()
    mirror.add("chan/label/dev", f"{upstream.url}/chan/label/dev")
    mirror.sync()
    assert mirror.listed("chan/label/dev/noarch") == {"lib-3.0.dev0-0.conda"}
    assert {"chan/label/dev/noarch/lib-3.0.dev0-0.conda", f"chan/noarch/{LIB.filename}"} <= set(mirror.published())
    upstream.clear()
    mirror.sync("chan/label")
    assert upstream.paths() != []
    assert all(path.startswith("/chan/label/dev/") for path in upstream.paths())
    assert list(mirror.record().repos) == ["chan", "chan/label/dev"]


@pytest.mark.parametrize("form", ["shards", "json"])
@pytest.mark.parametrize("link", [True, False], ids=["linked", "copied"])
def test_upstream_may_be_a_folder(mirror: Mirror, channel: Channel, upstream: Upstream, form: Variant, link: bool) -> None:
    folder = upstream.root / "a channel 100%"
    (upstream.root / "chan").rename(folder)
    channel.root = channel.files = folder
    channel.variants = {form}
    channel.publish()
    mirror.repos[0] |= {"upstream": folder.as_uri(), "link": link}
    mirror.sync()
    agree(mirror, "chan/noarch", as_published(channel.repodata("noarch")))
    for package in (TOOL, LIB, DATA):
        original = folder / package.record["subdir"] / package.filename
        published = mirror.tree(f"chan/{package.record['subdir']}") / package.filename
        assert os.path.samefile(original, published) == link
        assert original.read_bytes() == package.data
    before = mirror.directories()
    mirror.sync()
    assert mirror.directories() == before
    assert upstream.requests == []


def test_many_channels_in_one_table_one_of_which_vanishes(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    other = Channel(upstream.root / "other" / "label" / "dev", subdirs=["win-64"])
    other.add(make_package("win", subdir="win-64"))
    other.publish()
    mirror.repos.clear()
    channels = ["chan", {"name": "other/label/dev", "subdirs": ["win-64"]}]
    mirror.add("cloud", upstream.url, channels=channels, subdirs=["linux-64"])
    mirror.sync("cloud")
    assert mirror.listed("cloud/chan/linux-64") == {"tool-1.0-0.conda"}
    assert mirror.listed("cloud/other/label/dev/win-64") == {"win-1.0-0.conda"}

    shutil.rmtree(upstream.root / "other")
    channel.add(make_package("newer"))
    channel.publish()
    result = mirror.sync("cloud", status=3)
    result.line("cloud/other/label/dev/win-64", "404", "keeps its old state")
    assert mirror.listed("cloud/other/label/dev/win-64") == {"win-1.0-0.conda"}
    assert "newer-1.0-0.conda" in mirror.listed("cloud/chan/noarch")


def test_redirect_repo_keeps_the_metadata_and_fetches_no_file(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    channel.hotfix(DATA.filename, drop=["sha256"])
    channel.publish()
    mirror.repos[0]["download"] = "redirect"
    mirror.sync()
    assert packages(upstream) == []
    assert mirror.repodata("chan/noarch") == as_published(channel.repodata("noarch"))
    mirror.repos[0]["download"] = "eager"  # later all of it is wanted
    mirror.sync()
    assert len(packages(upstream)) == 3
    mirror.published()


def test_bytes_that_two_repos_list_come_from_whichever_upstream_has_them(tmp_path: Path) -> None:
    """The same package under two paths, and under two names in one: one address that lacks it withholds nothing."""
    having, lacking = Channel(tmp_path / "having"), Channel(tmp_path / "lacking")
    package = make_package("shared")
    twin = Package("shared-1.0-1.conda", package.data, {**package.record, "build": "1"})
    for channel in (having, lacking):
        channel.add(package, twin)
        channel.publish()
    (lacking.root / "noarch" / package.filename).unlink()
    (lacking.root / "noarch" / twin.filename).unlink()
    (having.root / "noarch" / package.filename).unlink()
    with store_at(tmp_path / "store") as store:
        repos = [CondaRepo(path=channel.root.name, upstream=channel.root.as_uri()) for channel in (having, lacking)]
        report = sync(store, *repos)
        assert report.exit_status(strict=True) == 0, report
        [record] = store.catalog().records
        for repo in repos:
            listed = repodata(store, record, repo.path, "noarch")["packages.conda"]
            assert set(listed) == {package.filename, twin.filename}


def test_a_repo_whose_path_leads_below_another_is_synced_alone(mirror: Mirror, channel: Channel) -> None:
    """As a channel and its labels are: the folders of both stay what they were."""
    mirror.add("chan/label/dev", channel.root.as_uri())
    mirror.sync()
    before = mirror.published()
    assert any(path.startswith("chan/label/dev/noarch/") for path in before)
    mirror.sync("chan/label/dev")
    assert mirror.published() == before
