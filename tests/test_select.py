"""Partial mirrors: what a selection keeps is right, complete, and all that any document lists."""

import json
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import selecting
from channels import Channel, Package, make_package
from inprocess import records_of, repodata, store_at, sync, ticking
from mirror import Mirror
from serving import serving
from upstream import Status, Upstream

from snapmirror.conda import CondaRepo
from snapmirror.conda.rules import Specs
from snapmirror.conda.settings import Select
from snapmirror.store.store import Store
from snapmirror.sync.report import Report

SUBSET = Path(__file__).resolve().parents[2] / "shared" / "data" / "conda-forge-subset"
SUBDIRS = ("linux-64", "noarch", "osx-arm64")

CONFIGURATIONS: list[dict[str, Any]] = [
    {"include": ["python >=3.9"]},
    {"include": ["python >=3.9"], "with_dependencies": True},
    {"include": ["python >=3.9"], "with_dependencies": True, "newest": 1},
    {"include": ["python 3.9.*", "curl"], "with_dependencies": True, "newest": 2, "newest_builds": 1},
    {"include": ["pip", "setuptools >=50"], "exclude": ["python <3.8", "certifi <2021"], "with_dependencies": True},
    {"include": ["lib*"], "exclude": ["lib*-ng"], "newest_builds": 2},
    {"exclude": ["setuptools", "*-ng", "python * *_cpython"]},
    {"include": ["openssl 1.1.*", "sqlite >=3.30,<3.36"], "with_dependencies": True, "newest": 1},
    {"include": ["wheel", "tk * h*"], "with_dependencies": True, "newest_builds": 1},
    {"newest": 1, "with_dependencies": True},
]


@pytest.fixture(scope="module")
def subset() -> Iterator[Upstream]:
    if not SUBSET.exists():
        pytest.skip("the recorded channels (../shared) are not beside the project")
    with Upstream(SUBSET) as upstream:
        yield upstream


def select(store: Store, upstream: str, **keys: Any) -> Report:
    repo = CondaRepo(path="c", upstream=upstream, subdirs=["linux-64", "osx-arm64"], download="redirect", select=Select(**keys))
    return sync(store, repo)


def listed(store: Store, subdir: str, path: str = "c") -> set[str]:
    return set(records_of(repodata(store, store.catalog().records[-1], path, subdir)))


@pytest.mark.real_data
@pytest.mark.parametrize("keys", CONFIGURATIONS, ids=repr)
def test_what_is_kept_is_what_the_definition_says(tmp_path: Path, subset: Upstream, keys: dict[str, Any]) -> None:
    channel = {subdir: records_of(json.loads((SUBSET / subdir / "repodata.json").read_bytes())) for subdir in SUBDIRS}
    expected = selecting.kept(channel, ["linux-64", "osx-arm64"], **keys)
    with store_at(tmp_path / "store") as store:
        report = select(store, subset.url, **keys)
        assert not report.repos["c"].problem
        assert {subdir: listed(store, subdir) for subdir in SUBDIRS} == expected
        kept, dropped = (
            sum(map(len, expected.values())),
            sum(sum(one.dropped.values()) for one in report.repos["c"].directories.values()),
        )
        assert 0 < kept < sum(map(len, channel.values()))
        assert dropped


#: py-rattler 0.28 may die at the end of the interpreter, after its work: what it printed counts
SOLVE = textwrap.dedent(
    """
    import asyncio, json, pathlib, sys
    from rattler import BuildString, Channel, Gateway, GenericVirtualPackage, MatchSpec
    from rattler import PackageName, Platform, SourceConfig, Version, solve
    url, cache, platform, *specs = sys.argv[1:]
    async def main():
        gateway = Gateway(cache_dir=pathlib.Path(cache), default_config=SourceConfig())
        virtual = [GenericVirtualPackage(PackageName("__" + name), Version(version), BuildString("0"))
                   for name, version in (("glibc", "2.36"), ("osx", "13.0"), ("unix", "0"), ("linux", "6.0"))]
        for spec in specs:
            found = await solve([Channel(url)], [MatchSpec(spec)], gateway=gateway, virtual_packages=virtual,
                                platforms=[Platform(platform), Platform("noarch")])
            print(spec, len(found), flush=True)
    asyncio.run(main())
    """
)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "keys",
    [
        {"include": ["python >=3.9"], "with_dependencies": True},
        {"include": ["python >=3.9"], "with_dependencies": True, "newest": 1},
        {"include": ["python 3.9.*", "curl"], "with_dependencies": True, "newest": 2, "newest_builds": 1},
        {"include": ["pip", "setuptools >=50"], "exclude": ["certifi <2021"], "with_dependencies": True, "newest": 3},
        {"include": ["openssl 1.1.*", "sqlite >=3.30,<3.36"], "with_dependencies": True, "newest": 1},
    ],
    ids=repr,
)
def test_every_included_spec_can_be_installed_from_the_mirror_alone(
    tmp_path: Path, subset: Upstream, keys: dict[str, Any]
) -> None:
    with store_at(tmp_path / "store") as store:
        select(store, subset.url, **keys)
        with serving(tmp_path / "store") as url:
            command = [sys.executable, "-c", SOLVE, f"{url}/current/c", str(tmp_path / "cache"), "linux-64", *keys["include"]]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert len(done.stdout.splitlines()) == len(keys["include"]), done.stderr


# The rules, one by one


DAY = 86_400_000
TODAY = 1_795_000_000_000
OLD = make_package("tool", "1.0", timestamp=TODAY - 100 * DAY)
TWIN = make_package("tool", "1.0", ext=".tar.bz2", timestamp=TODAY - 100 * DAY)
NEWER = make_package("tool", "2.0", timestamp=TODAY - 10 * DAY, depends=["lib >=1"])
BUILT_AGAIN = make_package("tool", "2.0", build="1", build_number=1, timestamp=TODAY - DAY, depends=["lib >=1"])
LARGE = make_package("large", payload=random.Random(1).randbytes(600_000), timestamp=TODAY - 50 * DAY)
UNDATED = make_package("undated")
LIB = make_package("lib", "1.5", timestamp=TODAY - 200 * DAY)
ALL = [OLD, TWIN, NEWER, BUILT_AGAIN, LARGE, UNDATED, LIB]


@pytest.fixture
def own(upstream: Upstream) -> Channel:
    """A channel with all of these packages in noarch."""
    made = Channel(upstream.root / "own")
    made.add(*ALL)
    made.hotfix(UNDATED.filename, timestamp=0)
    made.publish()
    return made


def kept(tmp_path: Path, upstream: Upstream, **keys: Any) -> tuple[set[str], dict[str, int]]:
    """What is listed, and what was left out by which rule, of a sync on the day TODAY."""
    now = ticking("2026-11-18T12:26:40")
    with store_at(tmp_path / "store", now) as store:
        report = sync(store, CondaRepo(path="own", upstream=f"{upstream.url}/own", select=Select(**keys)))
        assert not report.repos["own"].problem, report.repos["own"].problem
        return listed(store, "noarch", "own"), report.repos["own"].directories["noarch"].dropped


@pytest.mark.parametrize(
    ("keys", "gone", "rule"),
    [
        ({"exclude": ["tool >=2"]}, [NEWER, BUILT_AGAIN], "exclude"),
        ({"include": ["tool", "lib"], "exclude": ["tool 1.0"]}, [OLD, TWIN], "exclude"),
        ({"formats": ["conda", "tar.bz2"]}, [TWIN], "formats"),
        ({"formats": ["tar.bz2"]}, [OLD, NEWER, BUILT_AGAIN, LARGE, UNDATED, LIB], "formats"),
        ({"after": "2026-11-01"}, [OLD, TWIN, LARGE, UNDATED, LIB], "after"),
        ({"before": "2026-11-01"}, [NEWER, BUILT_AGAIN], "before"),
        ({"max_size": "500kB"}, [LARGE], "max_size"),
        ({"min_age": "7d"}, [BUILT_AGAIN, UNDATED], "min_age"),
        ({"min_age": "7d", "min_age_except": ["undated"]}, [BUILT_AGAIN], "min_age"),
        ({"newest": 1}, [OLD, TWIN], "newest"),
        ({"newest_builds": 1}, [NEWER], "newest_builds"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_each_rule_leaves_out_what_it_says(
    tmp_path: Path, upstream: Upstream, own: Channel, keys: dict[str, Any], gone: list[Package], rule: str
) -> None:
    files, dropped = kept(tmp_path, upstream, **keys)
    left = {package.filename for package in ALL} - {package.filename for package in gone}
    if "include" in keys:
        left -= {LARGE.filename, UNDATED.filename}
    assert files == left
    assert dropped[rule] == len(gone)


@pytest.mark.parametrize("subdirs", [["linux-64"], ["linux-64", "noarch"]])
def test_noarch_may_be_listed_or_not(tmp_path: Path, upstream: Upstream, subdirs: list[str]) -> None:
    """What is newest is so in a subdir and noarch together, and a package may move from one to the other."""
    made = Channel(upstream.root / "own")
    made.add(make_package("tool"), make_package("tool", "2.0", subdir="linux-64"), make_package("lib"))
    made.publish()
    with store_at(tmp_path / "store") as store:
        sync(store, CondaRepo(path="own", upstream=f"{upstream.url}/own", subdirs=subdirs, select=Select(newest=1)))
        assert listed(store, "linux-64", "own") == {"tool-2.0-0.conda"}
        assert listed(store, "noarch", "own") == {"lib-1.0-0.conda"}


def test_formats_leave_out_wheels_too(tmp_path: Path, upstream: Upstream, own: Channel) -> None:
    """A channel may list them (CEP 48); no client of conda packages asked for them."""
    wheel = {"name": "tool", "version": "3.0", "build": "py3", "build_number": 0, "fn": "tool-3.0-py3-none-any.whl"}
    own.v3["whl"] = {"tool-3.0-py3": {**wheel, "sha256": "0" * 64, "size": 1, "depends": [], "subdir": "noarch"}}
    own.publish()
    files, dropped = kept(tmp_path, upstream, formats=["conda", "tar.bz2"])
    assert (wheel["fn"] in files, dropped["formats"]) == (False, 2)


def test_a_pattern_is_asked_once_for_all_records_of_a_name() -> None:
    """Asked for each, an `exclude` of five patterns took minutes of every sync of conda-forge."""
    specs = Specs(["lib*", "*-ng", "tool >=1"])
    assert [spec.text for spec in specs.of("libgcc-ng")] == ["lib*", "*-ng"]
    assert specs.of("libgcc-ng") is specs.of("libgcc-ng")


def test_what_is_left_out_is_in_no_document_and_gives_404(mirror: Mirror, upstream: Upstream, own: Channel) -> None:
    own.extra = {"signatures": {package.filename: {"key": {"signature": "0"}} for package in ALL}}
    own.publish()
    mirror.sync()
    mirror.add("own", f"{upstream.url}/own", bz2=True, current_repodata=True, select={"include": ["lib"]})
    assert "own/noarch: keeps 1 file; left out: 3 names that nothing needs" in mirror.sync("--dry-run", "own").out
    mirror.sync()
    found = {path for path in mirror.published() if path.startswith("own/noarch/") and path.endswith((".conda", ".tar.bz2"))}
    assert found == {f"own/noarch/{LIB.filename}"}
    assert mirror.listed("own/noarch") == {LIB.filename}
    assert set(mirror.repodata("own/noarch")["signatures"]) == {LIB.filename}


def test_dry_run_says_how_many_bytes_are_then_fetched(mirror: Mirror, upstream: Upstream, own: Channel) -> None:
    mirror.sync()
    mirror.add("own", f"{upstream.url}/own", select={"include": ["tool", "large"], "with_dependencies": True, "newest": 1})
    planned = mirror.sync("--dry-run", "--json", "own").json["repos"]["own"]["directories"]["noarch"]
    before = len(upstream.requests)
    mirror.sync("own")
    fetched = [request for request in upstream.requests[before:] if request.path.endswith((".conda", ".tar.bz2"))]
    assert planned["fetch_files"] == len(fetched) == 4
    assert planned["fetch_bytes"] == sum(request.sent for request in fetched)


@pytest.mark.real_data
def test_dry_run_says_what_python_and_all_that_it_needs_would_take(tmp_path: Path, subset: Upstream) -> None:
    repo = CondaRepo(
        path="c",
        upstream=subset.url,
        subdirs=["linux-64"],
        select=Select(include=["python >=3.9"], with_dependencies=True, newest=1),
    )
    with store_at(tmp_path / "store") as store:
        report = sync(store, repo, dry_run=True)
    directories = report.repos["c"].directories.values()
    assert sum(directory.fetch_files for directory in directories) == sum(directory.files for directory in directories) > 20
    assert 50_000_000 < sum(directory.fetch_bytes for directory in directories) < 500_000_000


def test_counts_of_a_revision_are_those_of_what_is_kept(tmp_path: Path, upstream: Upstream) -> None:
    """CEP 48: a mirror that leaves records out must count again."""
    made = Channel(upstream.root / "own")
    made.add(make_package("tool"), make_package("tool", "2.0", timestamp=2_000, indexed_timestamp=7_000), v3=True)
    made.publish()
    with store_at(tmp_path / "store") as store:
        sync(store, CondaRepo(path="own", upstream=f"{upstream.url}/own", select=Select(newest=1)))
        found = repodata(store, store.catalog().records[-1], "own", "noarch")
    assert found["info"]["repodata_revisions"]["v3"] == {"n_packages": 1, "oldest": 7_000, "newest": 7_000}
    assert set(found["v3"]["conda"]) == {"tool-2.0-0"}


def test_record_with_another_name_than_its_file_is_selected_by_its_own(tmp_path: Path, upstream: Upstream) -> None:
    made = Channel(upstream.root / "own")
    made.add(make_package("tool"), make_package("lib"), make_package("old"))
    made.hotfix("tool-1.0-0.conda", name="renamed")
    made.publish({"json"})
    assert kept(tmp_path, upstream, exclude=["old"])[0] == {"tool-1.0-0.conda", "lib-1.0-0.conda"}


def test_names_that_differ_in_case_only_are_one_name(tmp_path: Path, upstream: Upstream) -> None:
    """As conda compares them; the files of both are kept, and counted where a rule leaves them out."""
    made = Channel(upstream.root / "chan")
    made.add(make_package("Foo", "1.0"), make_package("foo", "2.0"), make_package("bar"))
    made.publish()
    with store_at(tmp_path / "store") as store:
        select(store, f"{upstream.url}/chan", exclude=["zzz"])
        assert listed(store, "noarch") == {"Foo-1.0-0.conda", "foo-2.0-0.conda", "bar-1.0-0.conda"}
        report = select(store, f"{upstream.url}/chan", include=["foo", "bar"], newest=1)
        assert listed(store, "noarch") == {"foo-2.0-0.conda", "bar-1.0-0.conda"}
        assert report.repos["c"].directories["noarch"].dropped == {"newest": 1}


def test_changed_selection_takes_effect_though_upstream_has_not_changed_and_is_no_shrinking(
    tmp_path: Path, upstream: Upstream, own: Channel
) -> None:
    with store_at(tmp_path / "store", ticking()) as store:
        for keys, expected in (
            ({}, {package.filename for package in ALL}),
            ({"include": ["lib"]}, {LIB.filename}),
            ({"include": ["lib", "large"]}, {LIB.filename, LARGE.filename}),
        ):
            report = sync(store, CondaRepo(path="own", upstream=f"{upstream.url}/own", select=Select(**keys)))
            assert report.exit_status(strict=True) == 0, report
            assert listed(store, "noarch", "own") == expected
        first = store.catalog().records[0]
        assert len(records_of(repodata(store, first, "own", "noarch"))) == len(ALL)
        own.records["noarch"] = {LIB.filename: LIB.record}
        own.publish()
        report = sync(store, CondaRepo(path="own", upstream=f"{upstream.url}/own", select=Select(newest=9)))
        assert report.repos["own"].directories["noarch"].state == "changed"


def test_unchanged_channel_is_not_sent_again_for_a_selection(tmp_path: Path, upstream: Upstream, own: Channel) -> None:
    repo = CondaRepo(path="own", upstream=f"{upstream.url}/own", select=Select(include=["tool"], with_dependencies=True))
    with store_at(tmp_path / "store", ticking()) as store:
        sync(store, repo)
        before = len(upstream.requests)
        sync(store, repo)
    assert {request.status for request in upstream.requests[before:]} == {304, 404}


def test_dependencies_may_come_from_another_repo_which_keeps_them_whoever_is_synced(tmp_path: Path, upstream: Upstream) -> None:
    base, extra = Channel(upstream.root / "base"), Channel(upstream.root / "extra")
    base.add(make_package("lib", "1.0"), make_package("lib", "2.0"), make_package("own"), make_package("other"))
    extra.add(make_package("app", depends=["lib <2"]))
    base.publish()
    extra.publish()
    repos = [
        CondaRepo(path="base", upstream=f"{upstream.url}/base", select=Select(include=["own"])),
        CondaRepo(
            path="extra",
            upstream=f"{upstream.url}/extra",
            select=Select(include=["app"], with_dependencies=True, dependencies_from=["base"]),
        ),
    ]
    with store_at(tmp_path / "store", ticking()) as store:
        sync(store, *repos)
        assert listed(store, "noarch", "base") == {"lib-1.0-0.conda", "own-1.0-0.conda"}
        base.add(make_package("lib", "1.5"))
        base.publish()
        sync(store, *repos, only=["base"])
        assert listed(store, "noarch", "base") == {"lib-1.0-0.conda", "lib-1.5-0.conda", "own-1.0-0.conda"}


@pytest.mark.parametrize(
    "select",
    [Select(), Select(include=["own"]), Select(include=["own"], with_dependencies=True, dependencies_from=["third", "app"])],
    ids=["whole", "selected", "chained"],
)
def test_what_dependencies_of_another_repo_need_in_turn_is_kept(tmp_path: Path, upstream: Upstream, select: Select) -> None:
    """In the repo that they are for, and in those that the other one names."""
    app, middle, third = (Channel(upstream.root / name) for name in ("app", "middle", "third"))
    app.add(make_package("app", depends=["lib"]), make_package("data"), make_package("other"))
    middle.add(make_package("lib", depends=["base", "data"]), make_package("own"))
    third.add(make_package("base"), make_package("own"))
    for channel in (app, middle, third):
        channel.publish()
    selects = {
        "app": Select(include=["app"], with_dependencies=True, dependencies_from=["middle"]),
        "middle": select,
        "third": Select(include=["own"]),
    }
    repos = [CondaRepo(path=path, upstream=f"{upstream.url}/{path}", select=one) for path, one in selects.items()]
    with store_at(tmp_path / "store") as store:
        assert sync(store, *repos).exit_status(strict=True) == 0
        found = {path: listed(store, "noarch", path) for path in selects}
    assert found["app"] == {"app-1.0-0.conda", "data-1.0-0.conda"}
    assert found["middle"] == {"lib-1.0-0.conda", "own-1.0-0.conda"}
    chained = {"base-1.0-0.conda"} if select.dependencies_from else set()
    assert found["third"] == {"own-1.0-0.conda"} | chained


def test_what_is_needed_is_kept_though_a_third_repo_has_to_be_read_in_another_form(tmp_path: Path, upstream: Upstream) -> None:
    """It shows only when the first of the repos that are selected together is planned already."""
    app, whole, base = (Channel(upstream.root / name) for name in ("app", "whole", "base"))
    app.add(make_package("app", depends=["lib"]))
    whole.add(make_package("data"))
    base.add(make_package("lib"), make_package("own"))
    whole.variants = ("shards", "zst")
    for channel in (app, whole, base):
        channel.publish()
    upstream.fault("/whole/noarch/shards/*", Status(404))
    select = Select(include=["app"], with_dependencies=True, dependencies_from=["whole", "base"])
    repos = [
        CondaRepo(path="app", upstream=f"{upstream.url}/app", select=select),
        CondaRepo(path="whole", upstream=f"{upstream.url}/whole"),
        CondaRepo(path="base", upstream=f"{upstream.url}/base", select=Select(include=["own"])),
    ]
    with store_at(tmp_path / "store") as store:
        assert sync(store, *repos).exit_status(strict=True) == 0
        assert listed(store, "noarch", "whole") == {"data-1.0-0.conda"}
        assert listed(store, "noarch", "base") == {"lib-1.0-0.conda", "own-1.0-0.conda"}


def test_whatever_a_spec_asks_for_is_compared(tmp_path: Path, upstream: Upstream) -> None:
    sums = make_package("sums"), make_package("sums", "2.0")
    asked = {
        '*[license="MIT"]': {"license": "MIT"},
        "*[license_family=GPL]": {"license_family": "GPL"},
        "*[track_features=nogpu]": {"track_features": "mkl nogpu"},
        "*[flags=[cuda, mpi]]": {"flags": ["mpi", "cuda"]},
        '*[build_number=">6"]': {"build_number": 7},
        "*[build=special]": {"build": "special"},
        "*[version=2.5]": {"version": "2.5"},
    }
    unlike = {"license": "GPL", "license_family": "MIT", "track_features": "mkl", "flags": ["cuda"]}
    made = Channel(upstream.root / "own")
    made.add(*sums, *(make_package(f"tool{number}", **facts) for number, facts in enumerate(asked.values())))
    made.add(make_package("other", **unlike), make_package("plain"))
    made.publish()
    exclude = [*asked, f"sums[sha256={sums[0].record['sha256']}]", f"*[md5={sums[1].record['md5']}]"]
    assert kept(tmp_path, upstream, exclude=exclude)[0] == {"other-1.0-0.conda", "plain-1.0-0.conda"}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("http://h/noarch/tool-9.0-0.conda", "an address"),
        ("/h/noarch/tool-9.0-0.conda", "an address"),
        ('tool[license="a, b",url="http://h/noarch/tool-9.0-0.conda"]', "an address"),
        ("tool[channel=x]", "a channel"),
        ("x:tool", "a namespace"),
        ("tool[fn=tool-1.0-0.conda]", "a file name"),
        ("tool[when=python]", "a condition"),
        ("tool[extras=[test]]", "extras"),
        ('*[license="GPL*"]', "a pattern as license"),
        ('*[license_family="^L?GPL$"]', "a pattern as license_family"),
        ("*[subdir='linux-*']", "a pattern as subdir"),
    ],
)
def test_what_a_spec_can_not_ask_for_is_refused(spec: str, named: str) -> None:
    """Rather than that it excludes nothing, or more than was meant."""
    with pytest.raises(ValueError, match=f" names {named}, which says nothing"):
        Select(exclude=[spec])


BOTH = {"numpy-1.5-0.conda", "numpy-2.1-0.conda"}


@pytest.mark.parametrize(
    ("record", "keys", "needed"),
    [
        ({"depends": ["numpy"], "extra_depends": {"old": ["numpy <2"], "new": ["numpy >=2"]}}, {}, BOTH),
        (
            {"depends": ["numpy >=2"], "extra_depends": {"more": ["numpy <=2.1", "blas <2"]}},
            {},
            {"numpy-2.1-0.conda", "blas-1.0-0.conda"},
        ),
        ({"depends": ['numpy[version="<2",when="python <3.9"]', 'numpy[version=">=2",when="python >=3.9"]']}, {}, BOTH),
        ({"depends": ["numpy", 'numpy[version="<2",when="python <3.9"]']}, {"newest": 1}, BOTH),
        ({"depends": ["numpy <2", 'numpy[version=">=2",when="python <3.9"]']}, {}, {"numpy-1.5-0.conda"}),
        ({"depends": ["numpy"], "constrains": ['numpy[version="<2",when="python <3.9"]']}, {}, BOTH),
        ({"depends": [], "extra_depends": {"old": ["numpy"]}, "constrains": ["numpy <2"]}, {}, {"numpy-1.5-0.conda"}),
        ({"depends": ['blas[flags=["cuda"]]']}, {}, {"blas-2.0-0.conda"}),
    ],
)
def test_what_is_needed_for_an_extra_or_under_a_condition_is_kept(
    tmp_path: Path, upstream: Upstream, record: dict[str, Any], keys: dict[str, Any], needed: set[str]
) -> None:
    """CEP 44, CEP 48: extras and conditions may exclude each other, and none of them limits what is installed without it."""
    made = Channel(upstream.root / "own")
    made.add(make_package("tool", **record), v3=True)
    made.add(make_package("numpy", "1.5"), make_package("numpy", "2.1"))
    made.add(make_package("blas"), make_package("blas", "2.0", flags=["cuda"]))
    made.publish()
    assert kept(tmp_path, upstream, include=["tool"], with_dependencies=True, **keys)[0] - {"tool-1.0-0.conda"} == needed


# Locks and environments


def write_lock(folder: Path, form: str, *packages: Package) -> str:
    """A lock file that names packages of the channel `own`."""
    urls = [f"https://example.org/own/{package.record['subdir']}/{package.filename}" for package in packages]
    sums = [package.record["sha256"] for package in packages]
    path = folder / {"explicit": "explicit.txt", "conda-lock": "conda-lock.yml", "pixi": "pixi.lock"}[form]
    if form == "explicit":
        path.write_text(
            "# made by hand\n@EXPLICIT\n" + "".join(f"{url}#sha256:{sum_}\n" for url, sum_ in zip(urls, sums, strict=True))
        )
    elif form == "conda-lock":
        entries = [
            {"name": package.record["name"], "version": package.record["version"], "manager": "conda", "platform": "linux-64",
             "dependencies": {}, "url": url, "hash": {"md5": package.record["md5"], "sha256": sum_},
             "category": "main", "optional": False}
            for package, url, sum_ in zip(packages, urls, sums, strict=True)
        ]  # fmt: skip
        metadata = {"content_hash": {"linux-64": "0"}, "channels": [{"url": "own", "used_env_vars": []}],
                    "platforms": ["linux-64"], "sources": ["environment.yml"]}  # fmt: skip
        path.write_text(json.dumps({"version": 1, "metadata": metadata, "package": entries}))
    else:
        environments = {"default": {"channels": [{"url": "https://example.org/own/"}],
                                    "packages": {"linux-64": [{"conda": url} for url in urls]}}}  # fmt: skip
        stated = zip(urls, packages, strict=True)
        records = [{"conda": url, "sha256": one.record["sha256"], "md5": one.record["md5"]} for url, one in stated]
        path.write_text(json.dumps({"version": 6, "environments": environments, "packages": records}))
    return str(path)


@pytest.mark.parametrize(
    ("form", "lost"), [("explicit", []), ("conda-lock", []), ("pixi", []), ("conda-lock", ["sha256"]), ("pixi", ["sha256"])]
)
def test_lock_keeps_exactly_the_files_that_it_names(
    tmp_path: Path, upstream: Upstream, own: Channel, form: str, lost: list[str]
) -> None:
    """If upstream states no SHA-256, the MD5 of the lock tells: made from a mirror, which computes them, it has both."""
    own.hotfix(LIB.filename, drop=lost)
    own.publish()
    lock = write_lock(tmp_path, form, NEWER, LIB)
    assert kept(tmp_path, upstream, include_from=[lock])[0] == {NEWER.filename, LIB.filename}


def test_a_lock_may_name_files_of_several_channels(tmp_path: Path, upstream: Upstream) -> None:
    """As that of a project which takes packages from conda-forge and bioconda: each keeps its own, whoever is synced."""
    lock = write_lock(tmp_path, "pixi", LIB, NEWER)
    for name, package in (("one", LIB), ("other", NEWER)):
        made = Channel(upstream.root / name)
        made.add(package, OLD)
        made.publish()
    repos = [
        CondaRepo(path=name, upstream=f"{upstream.url}/{name}", select=Select(include_from=[lock])) for name in ("one", "other")
    ]
    with store_at(tmp_path / "store", ticking()) as store:
        sync(store, *repos, only=["one"])
        assert [listed(store, "noarch", repo.path) for repo in repos] == [{LIB.filename}, {NEWER.filename}]
        write_lock(tmp_path, "pixi", LIB, NEWER, LARGE)
        report = sync(store, *repos)
        assert all(f"noarch/{LARGE.filename}: no repo" in (report.repos[repo.path].problem or "") for repo in repos)


@pytest.mark.parametrize("files", [1, 2])
def test_channels_may_have_files_of_one_name(tmp_path: Path, upstream: Upstream, files: int) -> None:
    """As where each has built the same version: of the lock of two environments, or of two locks, each keeps its own."""
    built = [make_package("lib"), make_package("lib", payload=b"other")]
    for name, package in zip(("one", "other"), built, strict=True):
        made = Channel(upstream.root / name)
        made.add(package, OLD)
        made.publish()
    parts = [built] if files == 1 else [[package] for package in built]
    locks = []
    for number, packages in enumerate(parts):
        (tmp_path / str(number)).mkdir()
        locks.append(write_lock(tmp_path / str(number), "explicit", *packages))
    repos = [
        CondaRepo(path=name, upstream=f"{upstream.url}/{name}", select=Select(include_from=locks)) for name in ("one", "other")
    ]
    with store_at(tmp_path / "store") as store:
        assert sync(store, *repos).exit_status(strict=True) == 0
        assert [listed(store, "noarch", repo.path) for repo in repos] == [{built[0].filename}] * 2


def test_a_lock_is_asked_for_of_no_repo_that_does_not_include_from_it(tmp_path: Path, upstream: Upstream) -> None:
    """It names files of a platform that another repo alone has, from which dependencies may come."""
    elsewhere = make_package("elsewhere", subdir="osx-arm64")
    for name, package in (("own", LIB), ("base", make_package("other", subdir="osx-arm64"))):
        made = Channel(upstream.root / name)
        made.add(package)
        made.publish()
    lock = write_lock(tmp_path, "explicit", LIB, elsewhere)
    select = Select(include_from=[lock], with_dependencies=True, dependencies_from=["base"])
    repos = [
        CondaRepo(path="own", upstream=f"{upstream.url}/own", select=select),
        CondaRepo(path="base", upstream=f"{upstream.url}/base", subdirs=["osx-arm64"], select=Select(include=["other"])),
    ]
    with store_at(tmp_path / "store") as store:
        assert sync(store, *repos).exit_status(strict=True) == 0
        assert listed(store, "noarch", "own") == {LIB.filename}


def test_channels_that_include_from_an_environment_do_not_wait_for_each_other(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "environment.yml").write_text("name: x\ndependencies:\n- lib\n")
    select = Select(include_from=[str(tmp_path / "environment.yml")])
    for name in ("one", "other"):
        made = Channel(upstream.root / name)
        made.add(LIB, OLD)
        made.publish()
    upstream.fault("/other/*", Status(403))
    with store_at(tmp_path / "store") as store:
        sync(store, *(CondaRepo(path=name, upstream=f"{upstream.url}/{name}", select=select) for name in ("one", "other")))
        assert listed(store, "noarch", "one") == {LIB.filename}


def test_environment_file_keeps_its_specs_and_all_that_they_need(tmp_path: Path, upstream: Upstream, own: Channel) -> None:
    file = tmp_path / "environment.yml"
    file.write_text("name: x\nchannels: [own]\ndependencies:\n  - own::tool >=2\n  - pip:\n    - six\n")
    assert kept(tmp_path, upstream, include_from=[str(file)])[0] == {NEWER.filename, BUILT_AGAIN.filename, LIB.filename}


# Selections that can't be meant so


@pytest.mark.parametrize("mistake", ["nothing", "unknown file", "other bytes", "other MD5", "not a lock", "no file", "no spec"])
def test_selection_that_can_not_be_meant_so_changes_nothing_and_is_named(
    tmp_path: Path, mirror: Mirror, upstream: Upstream, own: Channel, mistake: str
) -> None:
    mirror.add("own", f"{upstream.url}/own")
    mirror.sync()
    before = mirror.published()
    unknown = make_package("unknown")
    lock = tmp_path / "lock"
    lock.mkdir()
    other = Package(LIB.filename, b"", {**LIB.record, "sha256": "0" * 64})
    (lock / "md5.txt").write_text(f"@EXPLICIT\nhttps://example.org/own/noarch/{LIB.filename}#{'0' * 32}\n")
    select, said = {
        "nothing": ({"include": ["lib >7"]}, "keeps nothing"),
        "unknown file": ({"include_from": [write_lock(tmp_path, "explicit", LIB, unknown)]}, f"noarch/{unknown.filename}"),
        "other bytes": ({"include_from": [write_lock(lock, "explicit", other)]}, f"noarch/{LIB.filename}"),
        "other MD5": ({"include_from": [str(lock / "md5.txt")]}, f"noarch/{LIB.filename}"),
        "not a lock": ({"include_from": [__file__]}, "can't be used"),
        "no file": ({"include_from": ["nowhere.yml"]}, "No such file"),
        "no spec": ({"include": ["tool >=="]}, "is no MatchSpec"),
    }[mistake]
    mirror.repos[-1]["select"] = select
    result = mirror.run("sync", status=None)
    assert result.status == (2 if mistake == "no spec" else 3)
    assert said in result.err
    assert "own" in result.err or "[[repo]] number 2" in result.err
    assert mirror.published() == before
