"""prefetch: what requirements, locks and specs need is held before a client asks for it."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from channels import Channel, make_package
from mirror import Mirror
from pypi_index import Index
from serving import server
from upstream import Body, Status, Upstream


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index") as made:
        made.wheel("lib", "1.0")
        made.wheel("lib", "2.0")
        made.wheel("lib", "3.0rc1")
        made.wheel("app", "1.0", ["lib<2", 'extra; extra == "more"', "gone"])
        made.wheel("app", "2.0", ["lib", 'extra; extra == "more"'])
        made.wheel("extra", "1.0")
        made.wheel("other", "1.0")
        yield made


def pypi(tmp_path: Path, index: Index, **keys: object) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.repos = [{"kind": "pypi", "path": "pypi", "upstream": f"{index.url}/simple/", "download": "on-demand", **keys}]
    made.settings["download"] |= {"retries": 0}
    return made


@pytest.fixture
def on_request(tmp_path: Path, index: Index) -> Mirror:
    return pypi(tmp_path, index, metadata="on-request")


def wheels(upstream: Upstream) -> list[str]:
    """The packages that were asked for, in order of their names."""
    names = [path.rpartition("/")[2] for path in upstream.paths()]
    return sorted(name for name in names if name.endswith((".whl", ".conda", ".tar.bz2")))


def test_requirements_of_pages_that_nobody_has_asked_for(on_request: Mirror, index: Index, tmp_path: Path) -> None:
    """The newest that each allows, no pre-release, what that depends on; then a client needs no upstream."""
    (tmp_path / "requirements.txt").write_text("app[more]>=2\n")
    on_request.run("prefetch", "pypi", "--spec", "other")
    index.clear()
    planned = on_request.run("prefetch", "pypi", "-r", str(tmp_path / "requirements.txt"), "--dry-run", "--json").json
    assert (planned["repo"], planned["dry_run"], planned["files"], planned["problems"]) == ("pypi", True, 6, {})
    assert wheels(index) == []
    done = on_request.run("prefetch", "pypi", "-r", str(tmp_path / "requirements.txt"))
    assert done.out.startswith("pypi: 6 files, ")
    assert "fetched" in done.err
    assert wheels(index) == ["app-2.0-py3-none-any.whl", "extra-1.0-py3-none-any.whl", "lib-2.0-py3-none-any.whl"]
    index.clear()
    again = on_request.run("prefetch", "pypi", "--spec", "app[more]", "--json").json
    assert (again["files"], again["fetch_files"]) == (6, 0)
    assert wheels(index) == []
    with on_request.store() as store:
        assert len(store.fetched.list()) == 8  # as though somebody had asked the server: max_cache may drop them
    on_request.run("gc", "--grace", "0s")
    on_request.repos[0]["offline"] = True
    on_request.write()
    with server(on_request.config) as (url, _):
        page = requests.get(f"{url}/pypi/simple/lib/", timeout=20).text
        assert "lib-2.0-py3-none-any.whl" in page
        path = index.pages["lib"]["files"][1]["url"].removeprefix(index.url)
        assert requests.get(f"{url}/pypi{path}", timeout=20).status_code == 200


def test_what_is_held_counts_as_wanted_again_and_what_has_no_room_is_not_begun(on_request: Mirror, index: Index) -> None:
    """max_cache drops first what nobody has wanted for long; a dry run wants nothing."""

    def wanted() -> float:
        with on_request.store() as store:
            return max(store.fetched.list().values())

    def grow_old() -> None:
        for note in (on_request.store_path / "live" / "fetched").rglob("*"):
            if note.is_file():
                os.utime(note, (1000, 1000))

    on_request.run("prefetch", "pypi", "--spec", "other")
    grow_old()
    on_request.run("prefetch", "pypi", "--spec", "other", "--dry-run")
    assert wanted() == 1000
    on_request.run("prefetch", "pypi", "--spec", "other")
    assert wanted() > 1000
    grow_old()
    on_request.settings["download"]["min_free"] = "100%"
    index.clear()
    assert "nothing was fetched" in on_request.run("prefetch", "pypi", "--spec", "other", "--spec", "extra", status=1).err
    assert (wheels(index), wanted()) == ([], 1000)


def test_a_sealed_state_and_what_is_pinned(tmp_path: Path, index: Index) -> None:
    """Where only a sync reads metadata, what it has sealed counts; a pre-release that is named is meant."""
    mirror = pypi(tmp_path, index, projects=["lib", "app"])
    assert "snapmirror sync pypi" in mirror.run("prefetch", "pypi", "--spec", "lib", status=2).err
    mirror.sync()
    index.wheel("lib", "4.0")
    index.clear()
    specs = ["lib==3.0rc1", "app==1.0", "absent", "lib==99"]  # the last: it says nothing that app needs another version
    result = mirror.run("prefetch", "pypi", *(word for spec in specs for word in ("--spec", spec)), status=3)
    for name in ("absent", "lib==99"):
        assert f"pypi: {name}: nothing that the index lists fulfils it" in result.err
    assert wheels(index) == ["app-1.0-py3-none-any.whl", "lib-1.0-py3-none-any.whl", "lib-3.0rc1-py3-none-any.whl"]


def test_pre_releases_that_installers_take(on_request: Mirror, index: Index) -> None:
    """One that a dependency names, and one of what has nothing else; for others a final version is there."""
    index.wheel("sdk", "1.0", ["conventions==0.48b0", "beta", "lib"])
    for project, version in (("conventions", "0.47"), ("conventions", "0.48b0"), ("beta", "0.1b1"), ("beta", "0.1b2")):
        index.wheel(project, version)
    on_request.run("prefetch", "pypi", "--spec", "sdk")
    files = ["beta-0.1b2", "conventions-0.48b0", "lib-2.0", "sdk-1.0"]
    assert wheels(index) == [f"{file}-py3-none-any.whl" for file in files]


def test_a_lock(on_request: Mirror, index: Index, tmp_path: Path) -> None:
    """Exactly its files; one that is not to be had is told of; what upstream sends wrong is not kept."""
    files = [index.pages[name]["files"][0] for name in ("lib", "other")]
    lock = 'lock-version = "1.0"\ncreated-by = "test"\n'
    for name, file in zip(("lib", "other", "nothing"), [*files, files[0]], strict=True):
        sha256 = file["hashes"]["sha256"] if name != "nothing" else "0" * 64
        lock += f'[[packages]]\nname = "{name}"\nversion = "1.0"\n[[packages.wheels]]\n'
        lock += f'url = "https://x.example/{name}-1.0-py3-none-any.whl"\nhashes = {{sha256 = "{sha256}"}}\n'
    (tmp_path / "pylock.toml").write_text(lock)
    index.fault("*/other-1.0-py3-none-any.whl", Body(b"x"))
    result = on_request.run("prefetch", "pypi", "--lock", str(tmp_path / "pylock.toml"), "--json", status=3).json
    assert set(result["problems"]) == {"nothing", "other-1.0-py3-none-any.whl"}
    assert wheels(index) == ["lib-1.0-py3-none-any.whl", "other-1.0-py3-none-any.whl"]
    with on_request.store() as store:
        sums = [bytes.fromhex(file["hashes"]["sha256"]) for file in files]
        assert [store.blobs.size(digest) is not None for digest in sums] == [True, False]


@pytest.mark.parametrize("metadata", ["sync", "on-request"])
def test_a_channel(tmp_path: Path, metadata: str) -> None:
    """By specs and by an environment file, with dependencies of noarch; what is blocked or denied stays away."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        tool = make_package("tool", "2.0", depends=["lib >=1", "evil"], extra_depends={"old": ["lib <2"]}, subdir="linux-64")
        packages = [make_package(name, version) for name, version in (("lib", "1.0"), ("lib", "2.0"), ("other", "1.0"))]
        channel.add(tool, make_package("tool", "3.0", subdir="linux-64"), *packages, make_package("evil"))
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        keys = {"download": "on-demand", "metadata": metadata, "block": ["/noarch/other-.*"]}
        mirror.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"], **keys)
        mirror.sync(status=None)
        mirror.run("deny", "chan", "evil", "--reason", "malware")
        upstream.clear()
        (tmp_path / "environment.yml").write_text("dependencies: [other, pip: [six]]\n")
        arguments = ["--spec", "tool=2", "--spec", "nosuch", "--environment", str(tmp_path / "environment.yml")]
        result = mirror.run("prefetch", "chan", *arguments, "--json", status=3).json
        assert set(result["problems"]) == {"nosuch", "other-1.0-0.conda"}
        assert wheels(upstream) == ["lib-1.0-0.conda", "lib-2.0-0.conda", "tool-2.0-0.conda"]
        with mirror.store() as store:
            assert store.blobs.size(hashlib.sha256(tool.data).digest()) == len(tool.data)


def test_the_newest_that_each_spec_of_one_name_allows(tmp_path: Path) -> None:
    """As two environments ask for two Pythons; what else they ask for limits the needs of both."""
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        channel.add(*(make_package("tool", f"{version}.0", depends=[f"lib {version}.*", "extra"]) for version in (1, 2, 3)))
        channel.add(*(make_package(name, f"{version}.0") for name in ("lib", "extra") for version in (1, 2, 3)))
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", download="on-demand")
        mirror.sync()
        upstream.clear()
        for number, spec in enumerate(("tool=1", "tool <3")):
            (tmp_path / f"{number}.yml").write_text(f"dependencies: ['{spec}', 'extra <3']\n")
        files = [str(tmp_path / f"{number}.yml") for number in (0, 1)]
        mirror.run("prefetch", "chan", "--environment", files[0], "--environment", files[1])
        assert wheels(upstream) == [f"{name}-0.conda" for name in ("extra-2.0", "lib-1.0", "lib-2.0", "tool-1.0", "tool-2.0")]
        assert "tool=9" in mirror.run("prefetch", "chan", "--spec", "tool", "--spec", "tool=9", status=3).err


def test_a_lock_of_a_channel_that_names_the_older_of_two_formats(tmp_path: Path) -> None:
    """Exactly its files, though of what specs need the newer format is enough."""
    old, new, lib = make_package("tool", ext=".tar.bz2"), make_package("tool"), make_package("lib", ext=".tar.bz2")
    with Upstream(tmp_path / "upstream") as upstream:
        channel = Channel(upstream.root / "chan")
        channel.add(old, new, lib, make_package("lib"))
        channel.publish()
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("chan", f"{upstream.url}/chan", download="on-demand")
        mirror.sync()
        upstream.clear()
        lock = tmp_path / "explicit.txt"
        lock.write_text(f"@EXPLICIT\nhttps://x.example/chan/noarch/{old.filename}#{old.record['md5']}\n")
        mirror.run("prefetch", "chan", "--lock", str(lock), "--spec", "lib")
        assert wheels(upstream) == ["lib-1.0-0.conda", old.filename]


def test_a_channel_of_which_nothing_is_known(tmp_path: Path) -> None:
    """It says what is wrong with upstream, as long as nothing is held."""
    mirror = Mirror(tmp_path / "mirror")
    mirror.settings["download"] |= {"retries": 0}
    with Upstream(tmp_path / "up") as upstream:
        channel = Channel(upstream.root)
        channel.add(make_package("tool", subdir="linux-64"))
        channel.publish()
        mirror.add("chan", upstream.url, subdirs=["linux-64"], download="on-demand", metadata="on-request")
        upstream.fault("*", Status(500))
        assert "upstream answers 500" in mirror.run("prefetch", "chan", "--spec", "tool", status=1).err
        upstream.heal()
        assert "1 file" in mirror.run("prefetch", "chan", "--spec", "tool").out
    done = mirror.run("prefetch", "chan", "--spec", "tool")
    assert "going by what is held" in done.err
    assert "1 file" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pypi"], "nothing to look for"),
        (["nosuch", "--spec", "six"], "no [[repo]]"),
        (["pypi", "--spec", "six >="], "is no requirement"),
        (["pypi", "-r", "absent.txt"], "absent.txt"),
        (["pypi", "--environment", "environment.yml"], "for repos of kind conda"),
        (["eager", "--spec", "six"], 'its download is "eager"'),
        (["chan", "--spec", "other::tool"], "names a channel"),
        (["chan", "-r", "requirements.txt"], "for repos of kind pypi"),
    ],
)
def test_bad_input(on_request: Mirror, index: Index, arguments: list[str], said: str) -> None:
    on_request.repos.append({"kind": "pypi", "path": "eager", "upstream": index.url, "projects": ["six"]})
    on_request.add("chan", f"{index.url}/chan", subdirs=["noarch"], download="on-demand", metadata="on-request")
    assert said in on_request.run("prefetch", *arguments, status=2).err
