"""What a selection keeps of an index: rules, files that name what to keep, age, and what all that depends on."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import store_at, sync
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pypi_index import Follower, Index, follow, make_wheel
from test_pypi_packages import linked, sdist
from upstream import Body, Fault, Status

from snapmirror.errors import SelectionError, TransportError
from snapmirror.pypi import Pypi, PypiRepo, leaf, platforms
from snapmirror.pypi.settings import Select
from snapmirror.store.denied import Rule


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index without projects yet."""
    with Index(tmp_path / "index") as made:
        yield made


def kept(follower: Follower, **sync: Any) -> dict[str, list[str]]:
    """{project: files that are kept after a sync}, sorted."""
    leaves = follower.sync(**sync).items()
    return {name: sorted(one["filename"] for one in leaf.decode(content)["files"]) for name, content in leaves}


def selecting(index: Index, *names: str, **select: Any) -> Follower:
    """A follower with a selection."""
    return follow(index, *names, select=msgspec.convert(select, Select))


# Rules

FILES = {
    "foo-1.0.tar.gz": {},
    "foo-1.0-py3-none-any.whl": {"requires-python": ">=3.6"},
    "foo-2.0-cp39-cp39-win_amd64.whl": {},
    "foo-2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": {},
    "foo-2.0-cp38-abi3-macosx_11_0_universal2.whl": {},
    "foo-2.0-cp312-cp312-musllinux_1_2_aarch64.whl": {"size": 5_000_000},
    "foo-3.0rc1-py2.py3-none-any.whl": {"yanked": "broken"},
    "foo-0.9-py2.7.egg": {"upload-time": "2010-01-01T00:00:00Z"},
}


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({"versions": {"Foo": ">=2,<3"}}, ["cp39", "manylinux", "macosx", "musllinux"]),
        ({"newest": 1}, ["cp39", "manylinux", "macosx", "musllinux"]),
        ({"newest": 1, "match": ["rc1|tar"]}, ["tar.gz"]),
        ({"newest": 1, "newest_by": "upload-time", "types": ["sdist"]}, ["tar.gz"]),
        ({"prereleases": False, "types": ["wheel"], "platforms": ["win_amd64"]}, ["1.0-py3", "cp39"]),
        ({"yanked": False, "match": ["-any"]}, ["1.0-py3"]),
        ({"types": ["sdist"]}, ["tar.gz"]),
        ({"python": ["<3"]}, ["tar.gz", "3.0rc1", "egg"]),
        ({"python": [">=3.11,<3.13"], "types": ["wheel"]}, ["1.0-py3", "manylinux", "macosx", "musllinux", "3.0rc1"]),
        ({"platforms": ["manylinux_2_28_x86_64"], "types": ["wheel"]}, ["1.0-py3", "manylinux", "3.0rc1"]),
        ({"platforms": ["manylinux_2_12_x86_64"], "types": ["wheel"], "not_match": ["-any"]}, []),
        ({"platforms": ["macosx_14_0_arm64"], "types": ["wheel"], "not_match": ["-any"]}, ["macosx"]),
        ({"platforms": ["musllinux_1_2_aarch64"], "types": ["wheel"], "not_match": ["-any"]}, ["musllinux"]),
        ({"max_size": "1MB", "match": ["linux"]}, ["manylinux"]),
        ({"match": [r"\.egg$"]}, ["egg"]),
        ({"not_match": [r"\.whl$", "egg"]}, ["tar.gz"]),
        ({"min_age": "1000d"}, ["egg"]),
        ({"min_age": "1000d", "min_age_except": ["FOO"], "types": ["sdist"]}, ["tar.gz"]),
    ],
)
def test_rules(index: Index, select: dict[str, Any], expected: list[str]) -> None:
    """Each drops what it says, and is counted."""
    for file, keys in FILES.items():
        index.upload("foo", file, **keys)
    follower = selecting(index, "foo", **select, allow_empty=True)
    found = kept(follower).get("foo", [])
    assert found == sorted(file for file in FILES if any(part in file for part in expected))
    assert sum(follower.dropped.values()) == len(FILES) - len(found)
    assert set(follower.dropped) <= {key if key != "newest_by" else "newest" for key in select}


@pytest.mark.parametrize(
    "select",
    [
        {"newest": -1},
        {"versions": {"foo": "four"}},
        {"versions": {"foo/bar": ">4"}},
        {"python": ["3.11"]},
        {"platforms": ["linux-64"]},
        {"match": ["("]},
        {"max_size": "big"},
        {"min_age": "a week"},
        {"types": ["egg"]},
        {"unknown": 1},
    ],
)
def test_selections_that_cannot_be_meant(select: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(select, Select)


@pytest.mark.parametrize(
    ("repo", "problem"),
    [
        ({"projects": ["six"]}, "neither upstream nor packages nor merge"),
        ({"upstream": "x", "packages": "y", "projects": ["six"]}, "both upstream and packages"),
        ({"upstream": "PyPI"}, "names no projects"),
        ({"upstream": "PyPI", "projects": ["a/b"]}, "no name of a project"),
        ({"upstream": "PyPI", "projects": "all", "requirements": ["x"]}, "nothing for requirements to add"),
        ({"upstream": "PyPI", "projects": "all", "select": {"with_dependencies": True}}, "nothing for with_dependencies"),
        ({"merge": ["a", "b"], "projects": ["six"]}, "merge has none"),
        ({"packages": "wheels", "select": {"newest": 1}}, "published whole"),
    ],
)
def test_repos_that_cannot_be_meant(repo: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert({"kind": "pypi", "path": "pypi"} | repo, PypiRepo)


def test_what_is_yanked_is_not_the_newest(index: Index) -> None:
    """No client takes it unless it is asked for by its version: with it alone there would be nothing to install."""
    index.wheel("foo", "1.0", yanked=True)
    index.wheel("foo", "1.1")
    index.upload("foo", "foo-2.0.tar.gz", yanked="")
    assert kept(selecting(index, "foo", newest=1)) == {"foo": ["foo-1.1-py3-none-any.whl"]}
    assert len(kept(selecting(index, "foo", newest=2))["foo"]) == 2


def test_machines_by_other_names(index: Index) -> None:
    """Names from before PEP 600 mean what they mean to pip; a universal2 is both kinds of Mac."""
    for tag in ("manylinux1_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "macosx_11_0_arm64"):
        index.wheel("foo", "1.0", tag=f"cp312-cp312-{tag}")
    for platform, tags in {
        "manylinux2014_x86_64": ["manylinux1_x86_64", "manylinux_2_17_x86_64"],
        "macosx_12_0_universal2": ["macosx_11_0_arm64"],
    }.items():
        assert kept(selecting(index, "foo", platforms=[platform])) == {
            "foo": [f"foo-1.0-cp312-cp312-{tag}.whl" for tag in sorted(tags)]
        }
    assert platforms.Machines([(3, 12)], ["macosx_12_0_universal2"]).need(Marker('platform_machine == "arm64"'), frozenset())


def test_newest_in_two_orders(index: Index) -> None:
    """A repair of an old line is newest by time; a wheel that is added later makes a version no newer."""
    for day, version in enumerate(["1.0", "2.0", "1.0.1"], 1):
        index.upload("foo", f"foo-{version}.tar.gz", upload_time=f"2026-01-0{day}T00:00:00Z")
    index.upload("foo", "foo-1.0-py3-none-any.whl", upload_time="2026-02-01T00:00:00Z")
    index.pages["foo"]["versions"] = ["1.0", "1.0.1", "2.0"]
    by_time = selecting(index, "foo", newest=2, newest_by="upload-time")
    assert kept(by_time) == {"foo": ["foo-1.0.1.tar.gz", "foo-2.0.tar.gz"]}
    assert leaf.decode(by_time.leaves["foo"])["versions"] == ["1.0.1", "2.0"]
    assert kept(selecting(index, "foo", newest=1)) == {"foo": ["foo-2.0.tar.gz"]}


def test_a_selection_reads_only_what_changed(index: Index) -> None:
    """And a project of which nothing is kept is not published; one that is empty upstream is."""
    index.wheel("six", "1.0")
    index.wheel("idna", "1.0rc1")
    index.pages["empty"] = {"meta": {"_last-serial": 1}, "name": "empty", "files": []}
    follower = selecting(index, prereleases=False)
    assert kept(follower) == {"six": ["six-1.0-py3-none-any.whl"], "empty": []}
    follower.sync()
    assert follower.read <= {"idna"}  # what is empty has no leaf to be known by
    index.wheel("six", "2.0")
    assert len(kept(follower)["six"]) == 2


def test_a_selection_that_keeps_nothing(index: Index) -> None:
    index.wheel("six", "1.0")
    with pytest.raises(SelectionError, match="keeps nothing"):
        selecting(index, "six", versions={"six": ">9"}).sync()


def test_age(index: Index) -> None:
    """A file is published once it is old enough, though its page has not changed since; one without a time never is."""
    index.upload("six", "six-1.0.tar.gz", upload_time="2026-11-01T00:00:00Z")
    index.upload("six", "six-2.0.tar.gz", upload_time="2026-11-19T12:00:00Z")
    index.upload("six", "six-3.0.tar.gz", upload_time=None)
    index.upload("idna", "idna-1.0.tar.gz", upload_time="2026-11-01T00:00:00Z")
    index.upload("beta", "beta-1.0rc1.tar.gz", upload_time="2026-11-01T00:00:00Z")
    index.upload("new", "new-1.0.tar.gz", upload_time="2026-11-19T12:00:00Z")
    follower = selecting(index, min_age="2d", prereleases=False)
    old = {"six": ["six-1.0.tar.gz"], "idna": ["idna-1.0.tar.gz"]}
    assert kept(follower) == old
    follower._known = {}  # as a sync does where time changes what is kept
    assert kept(follower, later=timedelta(hours=23)) == old
    assert not follower.read  # nor what nothing is kept of
    follower._known = {}
    index.clear()
    late = {"new": ["new-1.0.tar.gz"], "six": ["six-1.0.tar.gz", "six-2.0.tar.gz"]}
    assert kept(follower, later=timedelta(hours=1)) == old | late
    assert follower.read == {"six", "new"}
    assert index.asked() == ["new 200", "six 200", "the list 200"]


def test_age_of_what_was_denied_meanwhile(index: Index, tmp_path: Path) -> None:
    """What was chosen of the rest is not what is chosen when it is allowed again."""
    time = datetime(2026, 11, 20, tzinfo=UTC)
    index.upload("six", "six-1.0.tar.gz", upload_time="2026-11-01T00:00:00Z")
    index.upload("six", "six-2.0.tar.gz", upload_time="2026-11-19T00:00:00Z")
    repo = PypiRepo(path="pypi", upstream=f"{index.url}/simple/", projects="all", select=Select(min_age="2d"))
    with store_at(tmp_path / "store", lambda: time) as store:

        def files() -> int:
            return sync(store, repo).repos["pypi"].directories[""].files

        assert files() == 1
        time += timedelta(days=2)
        assert files() == 2
        rule = Rule(repo="pypi", spec="six==2.0", reason="", since="")
        store.denied.write(rule)
        assert files() == 1
        store.denied.remove(rule)
        assert files() == 2


# Files that name what to keep


def test_requirements(index: Index, tmp_path: Path) -> None:
    """pip's format: includes, constraints, markers, hashes, extras, continued lines; what no index has is skipped."""
    for version in ("1.0", "1.5", "2.0"):
        for project in ("aa", "bb", "cc", "dd", "ee"):
            index.upload(project, f"{project}-{version}.tar.gz")
    digest = hashlib.sha256(b"cc-1.5.tar.gz").hexdigest()
    (tmp_path / "requirements.txt").write_text(
        f"""# comment
        --index-url https://index.example/simple
        -r more.txt
        -c constraints.txt
        Aa[extra] >= 1.5 ; sys_platform == "linux"  # why
        cc \\
            --hash=sha256:{digest} --hash=sha256:{"0" * 64}
        dd ; sys_platform == "os2"
        ee == 1.0 --config-settings="setup-args=-Dblas=/usr/lib"
        ee == 2.0 -C a=/b
        -i https://index.example/simple
        --pre
        .
        .[tests]
        ./local
        wheels/local --config-settings=a=b
        -e git+https://x/y --config-settings=a=b
        x @ https://host/x-1.0.whl
        """
    )
    (tmp_path / "more.txt").write_text(f"-r ../{tmp_path.name}/requirements.txt\nbb == 1.*\n")
    (tmp_path / "constraints.txt").write_text("aa<2\nunused==1\n")
    follower = follow(index, "dd", requirements=[str(tmp_path / "requirements.txt")])
    follower.repo.projects = []
    assert kept(follower) == {
        "aa": ["aa-1.5.tar.gz"],
        "bb": ["bb-1.0.tar.gz", "bb-1.5.tar.gz"],
        "cc": ["cc-1.5.tar.gz"],
        "ee": ["ee-1.0.tar.gz", "ee-2.0.tar.gz"],
    }
    assert follower.dropped == {"requirements": 6}
    (tmp_path / "more.txt").write_text("bb == 2.0\n")
    assert kept(follower)["bb"] == ["bb-2.0.tar.gz"]


def test_constraints(index: Index, tmp_path: Path) -> None:
    """Of other machines they do not bear on each other; they bound what is needed too, also when nothing else has changed."""
    for version in ("1.0", "2.0", "3.0"):
        index.wheel("lib", version)
    index.wheel("app", "1.0", ["lib"])
    path = tmp_path / "constraints.txt"
    path.write_text('lib==1.0 ; python_version < "3.12"\nlib<3 ; python_version < "3.12"\nlib==2.0 ; python_version >= "3.12"')
    select = Select(with_dependencies=True, python=[">=3.11"])
    follower = follow(index, "app", requirements=[str(path)], select=select)
    patch = 'lib<2 ; python_full_version != "3.11.4"\nlib>2 ; python_full_version == "3.11.4"'
    for versions, text in ((["1.0", "2.0"], "lib>2"), (["3.0"], patch), (["1.0", "3.0"], "")):
        assert kept(follower)["lib"] == [f"lib-{version}-py3-none-any.whl" for version in versions]
        path.write_text(text)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("requirements.txt", "a ==== b", r"requirements\.txt: 'a ==== b' is no requirement"),
        ("requirements.txt", "a; what", r"requirements\.txt: 'a; what' is no requirement"),
        ("requirements.txt", "\x80", r"requirements\.txt: 'utf-8' codec"),
        ("requirements.txt", "-r bad.txt", r"bad\.txt: 'b ==== c' is no requirement"),
        ("requirements.txt", "-r missing.txt", r"missing\.txt, which can't be read"),
        ("missing.txt", None, r"missing\.txt, which can't be read"),
        ("uv.lock", "version = 1\npackage = [1]", r"uv\.lock: it is no uv\.lock"),
        ("uv.lock", "version = 1\n[[package]]\nsource = {registry = 'x'}", r"uv\.lock: it is no uv\.lock: .* `name`"),
        ("uv.lock", "version = 1\n[[package]]\nname = 'a'\nsource = 'registry'\nwheels = [1]", r"uv\.lock: it is no uv\.lock"),
    ],
)
def test_requirements_that_are_none(index: Index, tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    """The file that is to blame is named."""
    (tmp_path / "bad.txt").write_text("b ==== c")
    if content is not None:
        (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(SelectionError, match=problem):
        follow(index, "six", requirements=[str(tmp_path / name)]).sync()


PYLOCK = """lock-version = "1.0"
created-by = "test"
[[packages]]
name = "aa"
version = "1.0"
wheels = [{{url = "https://host/aa-1.0-py3-none-any.whl", hashes = {{sha256 = "{wheel}"}}}}]
sdist = {{name = "aa-1.0.tar.gz", url = "https://host/x", hashes = {{sha256 = "{sdist}"}}}}
[[packages]]
name = "local"
directory = {{path = "."}}
"""
UV = """version = 1
[[package]]
name = "aa"
version = "1.0"
source = {{ registry = "https://host/simple" }}
sdist = {{ url = "https://host/x/aa-1.0.tar.gz", hash = "sha256:{sdist}", size = 1 }}
wheels = [{{ url = "https://host/x/aa-1.0-py3-none-any.whl", hash = "sha256:{wheel}", size = 1 }}]
[[package]]
name = "local"
version = "0"
source = {{ editable = "." }}
"""


@pytest.mark.parametrize(("name", "text"), [("pylock.toml", PYLOCK), ("pylock.dev.toml", PYLOCK), ("uv.lock", UV)])
def test_locks(index: Index, tmp_path: Path, name: str, text: str) -> None:
    """Exactly their files, by hash, whatever the rules say; what upstream has otherwise now is said to be missing."""
    for file in ("aa-1.0-py3-none-any.whl", "aa-1.0.tar.gz", "aa-1.0-cp312-cp312-win32.whl", "aa-2.0.tar.gz"):
        index.upload("aa", file)
    sums = {kind: hashlib.sha256(file.encode()).hexdigest() for kind, file in _FILES_OF_LOCK.items()}
    (tmp_path / name).write_text(text.format(**sums))
    follower = follow(index, "zz", requirements=[str(tmp_path / name)], select=Select(types=["sdist"]))
    follower.repo.projects = []
    assert kept(follower) == {"aa": ["aa-1.0-py3-none-any.whl", "aa-1.0.tar.gz"]}
    assert not follower.invalid
    other = tmp_path / "pylock.other.toml"  # as uv writes names
    other.write_text(PYLOCK.format(**sums).replace('"aa-1.0.tar.gz"', '"AA-1.0.tar.gz"'))
    follower.repo.requirements.append(str(other))
    assert kept(follower) == {"aa": ["aa-1.0-py3-none-any.whl", "aa-1.0.tar.gz"]}
    assert not follower.invalid
    follower.repo.requirements.pop()
    (tmp_path / name).write_text(text.format(**sums | {"wheel": "0" * 64}))
    assert kept(follower) == {"aa": ["aa-1.0.tar.gz"]}
    assert list(follower.invalid) == ["aa-1.0-py3-none-any.whl"]
    (tmp_path / name).write_text("version = 99")
    with pytest.raises(SelectionError):
        follower.sync()


def test_a_lock_names_all_that_it_needs(index: Index, tmp_path: Path) -> None:
    """With dependencies, other versions of these are nobody's."""
    for project, requires in (("aa", ["bb"]), ("bb", [])):
        for version in ("1.0", "2.0"):
            index.wheel(project, version, requires)
    (tmp_path / "uv.lock").write_text(
        "version = 1\n"
        + "".join(
            f'[[package]]\nname = "{name}"\nversion = "1.0"\nsource = {{ registry = "https://host/simple" }}\n'
            f'wheels = [{{ url = "https://host/{name}-1.0-py3-none-any.whl" }}]\n'
            for name in ("aa", "bb")
        )
    )
    follower = follow(index, "aa", requirements=[str(tmp_path / "uv.lock")], select=Select(with_dependencies=True))
    follower.repo.projects = []
    assert kept(follower) == {name: [f"{name}-1.0-py3-none-any.whl"] for name in ("aa", "bb")}


_FILES_OF_LOCK = {"wheel": "aa-1.0-py3-none-any.whl", "sdist": "aa-1.0.tar.gz"}


# Dependencies


def test_dependencies(index: Index) -> None:
    """What the kept files need, on the configured machines, with the extras that are asked for; and nothing else."""
    index.wheel(
        "app", "1.0", ["lib[fast]>=1,<3", 'win ; sys_platform == "win32"', 'old ; python_version < "3"', "x @ https://h/x"]
    )
    index.wheel("app", "0.1", ["gone"])
    for version in ("0.9", "1.0", "2.0", "3.0"):
        index.wheel("lib", version, ["base", 'speed==1.* ; extra == "fast"', 'slow ; extra == "never"'])
    index.wheel("speed", "1.0", ["app"])
    index.wheel("speed", "2.0")
    for project in ("base", "win", "old", "slow", "gone"):
        index.wheel(project, "1.0")
    select = {"with_dependencies": True, "newest": 1, "platforms": ["manylinux_2_28_x86_64"], "python": [">=3.11"]}
    follower = selecting(index, "app", **select)
    expected = {
        "app": ["app-1.0-py3-none-any.whl"],
        "lib": ["lib-2.0-py3-none-any.whl"],
        "base": ["base-1.0-py3-none-any.whl"],
        "speed": ["speed-1.0-py3-none-any.whl"],
    }
    assert kept(follower) == expected
    paths = index.paths()
    assert not any(path.endswith(".whl") for path in paths)
    assert sum(path.endswith(".metadata") for path in paths) == 4

    index.clear()
    assert kept(follower) == expected
    assert {request.status for request in index.requests} == {304}
    assert len(index.requests) == 4

    index.wheel("base", "1.1", ["gone"])
    assert kept(follower) == {**expected, "base": ["base-1.1-py3-none-any.whl"], "gone": ["gone-1.0-py3-none-any.whl"]}


def test_dependencies_without_metadata_files(index: Index) -> None:
    """The wheel itself is read then, also where the metadata is not what is promised; a broken one is told of."""
    for project in ("one", "two", "three"):
        file, content, metadata = make_wheel(project, "1.0", ["base"])
        index.upload(project, file, content, metadata if project == "two" else None)
    index.pages["two"]["files"][0]["core-metadata"] = {"sha256": "0" * 64}
    index.fault("*/three-1.0-*.whl", Status(200, {}, b"no zip"))
    index.upload("src", "src-1.0.tar.gz")
    index.upload("linked", "linked-1.0.tar.gz", linked("linked-1.0"))
    index.wheel("base", "1.0")
    for project, found in {"one": {"base"}, "two": {"base"}, "three": set(), "src": set(), "linked": set()}.items():
        follower = selecting(index, project, with_dependencies=True)
        assert set(kept(follower)) == {project, *found}
        assert bool(follower.warnings) == (project != "one")


@pytest.mark.parametrize("fault", [Status(503), Status(404), Body(make_wheel("app", "1.0", ["other"])[1])])
def test_metadata_that_cannot_be_had_once(index: Index, fault: Fault) -> None:
    """Is not noted as that of what needs nothing, nor that of other bytes as that of these."""
    file, content, _ = make_wheel("app", "1.0", ["base"])
    index.upload("app", file, content)
    index.wheel("base", "1.0")
    index.wheel("other", "1.0")
    index.fault("*/app-1.0-*.whl", fault, times=1)
    follower = selecting(index, "app", with_dependencies=True)
    assert set(kept(follower)) == {"app"}
    assert set(kept(follower)) == {"app", "base"}


@pytest.mark.parametrize(
    ("info", "told"),
    [("2.2", True), ("2.4\nDynamic: Version", True), ("2.2\nDynamic: requires-dist", False), ("2.1", False)],
)
def test_what_an_sdist_says(index: Index, info: str, told: bool) -> None:
    """Is what it needs, if it promises that; it is not opened where a wheel of that version says it."""
    text = f"Metadata-Version: {info}\nName: src\nVersion: 1.0\nRequires-Dist: base\n"
    index.upload("src", "src-1.0.tar.gz", sdist("src-1.0", text))
    index.upload("src", "src-2.0.tar.gz", b"never opened")
    index.wheel("src", "2.0")
    index.wheel("base", "1.0")
    follower = selecting(index, "src", with_dependencies=True)
    assert set(kept(follower)) == {"src", "base"}
    assert len([path for path in index.paths() if path.endswith(".tar.gz")]) == 1
    assert bool(follower.warnings) != told


def test_an_older_version_of_what_is_named(index: Index) -> None:
    """The newest of it may not be what others need."""
    index.wheel("app", "1.0", ["lib<2"])
    for version in ("0.9", "1.0", "3.0"):
        index.wheel("lib", version)
    index.wheel("lib", "4.0rc1")
    found = kept(selecting(index, "app", "lib", newest=1, with_dependencies=True))
    assert found["lib"] == ["lib-1.0-py3-none-any.whl", "lib-4.0rc1-py3-none-any.whl"]


@pytest.mark.parametrize("status", [404, 503])
def test_a_dependency_that_nobody_has(index: Index, status: int) -> None:
    """Keeps its old state, of which there is none; all else goes on."""
    index.wheel("app", "1.0", ["nothing", "Not A Requirement (("])
    index.fault("/simple/nothing/", Status(status))
    follower = selecting(index, "app", with_dependencies=True)
    assert kept(follower) == {"app": ["app-1.0-py3-none-any.whl"]}
    assert set(follower.aside) == {"nothing"}


@pytest.mark.parametrize("failing", [["app"], ["lib"], ["app", "lib"], ["app", "lib", "base"], ["base"]], ids=" ".join)
@pytest.mark.parametrize("fault", [Status(503), Status(403), Status(404), Body(b"<what")], ids=["503", "403", "404", "no page"])
def test_what_a_project_needs_that_keeps_its_old_state(index: Index, fault: Fault, failing: list[str]) -> None:
    """Stays too, as the old state needs it and whatever fails: else nobody could install that any more."""
    index.wheel("other", "1.0")
    index.wheel("app", "1.0", ["lib[fast]<2"])
    index.wheel("lib", "1.0", ["base", 'speed; extra == "fast"', 'slow; extra == "never"'])
    for project in ("base", "speed", "slow"):
        index.wheel(project, "1.0")
    follower = selecting(index, "app", "other", with_dependencies=True, newest=1)
    before = kept(follower)
    assert set(before) == {"app", "lib", "base", "speed", "other"}
    index.wheel("lib", "2.0")
    index.wheel("other", "2.0")
    for project in failing:
        index.fault(f"/simple/{project}/", fault)
    assert kept(follower) == before | {"other": ["other-2.0-py3-none-any.whl"]}
    assert set(follower.aside) == {*failing}
    index.heal()
    assert kept(follower) == before | {"other": ["other-2.0-py3-none-any.whl"]}


def test_a_project_whose_new_needs_cannot_be_had(index: Index) -> None:
    """Keeps its old state, if it has one; nothing does if what that needs can't be had either and was forgotten."""
    index.wheel("app", "1.0", ["lib"])
    index.wheel("lib", "1.0")
    follower = selecting(index, "app", with_dependencies=True, newest=1)
    before = kept(follower)
    index.wheel("app", "2.0", ["other"])
    index.wheel("other", "1.0")
    index.fault("/packages/*/app-*", Status(503))
    assert kept(follower) == before
    assert set(follower.aside) == {"app"}
    follower.notes.rows.clear()
    with pytest.raises(TransportError, match="503"):
        follower.sync()
    index.heal()
    assert set(kept(follower)) == {"app", "other"}


# Pythons and platforms


@pytest.mark.parametrize("specifier", ["==3.8.10", ">3.8.20,<3.8.22", "~=3.8.6", "<=3.8", "!=3.8.0,<3.8.2", ">=3.8.100"])
def test_a_python_is_meant_by_any_of_its_releases(specifier: str) -> None:
    assert platforms.means(specifier, (3, 8))
    assert not platforms.means(specifier, (3, 9)) or specifier.startswith(">=")


@given(
    st.sampled_from([3, 2]), st.integers(0, 15), st.sampled_from([">=3.{}", "<3.{}", "==3.{}.*", ">=2.7,!=3.{}.*", "~=3.{}.0"])
)
@settings(max_examples=100, deadline=None)
def test_a_python_means_its_releases(major: int, minor: int, form: str) -> None:
    specifier = form.format(8)
    releases = [Version(f"{major}.{minor}.{patch}") for patch in (0, 4, 8, 12, 99)]
    assert platforms.means(specifier, (major, minor)) == any(one in SpecifierSet(specifier) for one in releases)


def test_machines() -> None:
    """Markers hold if they hold on one of them; those that ask what nobody knows hold."""
    linux = platforms.Machines(platforms.pythons([">=3.11,<3.13"]), ["manylinux_2_28_aarch64"])
    for marker, holds in {
        'sys_platform == "linux"': True,
        'os_name == "nt"': False,
        'platform_machine == "aarch64"': True,
        'platform_machine == "x86_64"': False,
        'python_version < "3.12"': True,
        'python_version < "3.11"': False,
        'python_full_version >= "3.12.0"': True,
        'python_full_version >= "3.12.4"': True,
        'python_full_version < "3.11.3"': True,
        'python_full_version == "3.11.4"': True,
        'python_full_version == "3.10.4"': False,
        'python_full_version >= "3.11.3" and python_full_version < "3.11.5"': True,
        'python_full_version > "3.12.3" and python_full_version < "3.12.5" and python_version < "3.12"': False,
        'platform_release >= "20.0"': True,
        'extra == "tests"': True,
        'extra == "docs"': False,
        'implementation_name == "pypy"': False,
    }.items():
        assert linux.need(Marker(marker), frozenset({"tests"})) == holds, marker
    every = " or ".join(f'python_full_version == "3.10.{number}"' for number in range(1000))
    assert linux.need(Marker(every))  # more is mirrored then, not less
    everywhere = platforms.Machines(platforms.pythons([]), [])
    assert everywhere.need(Marker('sys_platform == "win32"'), frozenset())
    assert everywhere.need(None, frozenset())


def test_settings_tell_selections_apart(tmp_path: Path) -> None:
    """What was kept with other settings, or with other requirements, is made anew."""
    path = tmp_path / "requirements.txt"
    path.write_text("six")
    repo = PypiRepo(path="pypi", upstream="PyPI", requirements=[str(path)])
    texts = {Pypi().settings(repo), Pypi().settings(msgspec.structs.replace(repo, select=Select(newest=1)))}
    path.write_text("-r more.txt\nsix>1", "utf-8-sig")
    texts |= {Pypi().settings(repo), Pypi().settings(msgspec.structs.replace(repo, projects=["six"]))}
    (tmp_path / "more.txt").write_text("-r requirements.txt")
    texts.add(Pypi().settings(repo))
    assert len(texts) == 5
