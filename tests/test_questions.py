"""Questions that only a mirror with a memory can answer: `log`, `which`, `diff --for`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from channels import Channel, Package, make_package
from inprocess import forget, store_at, sync, ticking
from mirror import Mirror
from pypi_index import Index
from upstream import Upstream

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.conda import CondaRepo
from snapmirror.digests import Digest
from snapmirror.errors import UsageError
from snapmirror.pypi import PypiRepo
from snapmirror.pypi.settings import Select
from snapmirror.serve.answers import BlobAnswer
from snapmirror.serve.resolve import Resolver
from snapmirror.serve.view import Watch
from snapmirror.store.blobs import LocalBlobs
from snapmirror.store.directories import Metadata, bucket_of
from snapmirror.store.layout import Layout
from snapmirror.store.store import Store
from snapmirror.sync import compare, history
from snapmirror.sync.settings import Publish
from snapmirror.sync.which import Lack, Questions, Which

DAYS = [f"202405{day:02}T120000Z" for day in range(1, 10)]


def happened(text: str) -> list[str]:
    """The lines that `log` prints, with the number of the day for the snapshot."""
    lines = (line.split() for line in text.splitlines())
    return [" ".join([str(DAYS.index(id_) + 1), *rest]) for id_, *rest in lines]


def told(store: Store, name: str, *repos: str) -> list[str]:
    """The day and the kind of each event."""
    events = history.log(store, ECOSYSTEMS, store.catalog(), name, repos).events
    return [f"{DAYS.index(event.snapshot) + 1} {event.what}" for event in events]


# log


def seal(mirror: Mirror, day: int, *repos: Any) -> None:
    """Sync, in this process, a snapshot of a day."""
    with store_at(mirror.store_path) as store:
        sync(store, *repos, seal_as=DAYS[day - 1], allow_shrink=True, publish=Publish(trees=[]))


def of(channel: Channel) -> CondaRepo:
    """The repo of a channel."""
    return CondaRepo(path=channel.root.name, upstream=channel.root.as_uri(), subdirs=["linux-64"])


def test_the_history_of_a_package(mirror: Mirror, channel: Channel) -> None:
    for day in range(1, 7):
        match day:
            case 2:
                channel.add(make_package("tool", "2.0", subdir="linux-64"))
            case 3:
                channel.hotfix("tool-1.0-0.conda", depends=["lib >=1"], license="MIT")
                channel.add(make_package("lib", "9.0"))  # nobody asks for it
            case 4:
                channel.add(make_package("tool", "2.0", subdir="linux-64", payload=b"other bytes under the same name"))
            case 6:
                channel.remove("tool-1.0-0.conda")
        channel.publish()
        seal(mirror, day, of(channel))
    old, new = "chan/linux-64/tool-1.0-0.conda", "chan/linux-64/tool-2.0-0.conda"
    *before, changed, vanished = happened(mirror.run("log", "tool").out)
    assert before == [f"1 appeared {old}", f"2 appeared {new}", f"3 hot-fixed {old}: depends, license"]
    assert changed.startswith(f"4 changed {new}: ")
    assert vanished == f"6 vanished {old}"

    found = mirror.run("log", "tool", "chan", "--json").json
    assert found["name"] == "tool"
    assert [(one["snapshot"], one["previous"]) for one in found["events"]] == [
        (DAYS[0], None),
        (DAYS[1], DAYS[0]),
        (DAYS[2], DAYS[1]),
        (DAYS[3], DAYS[2]),
        (DAYS[5], DAYS[4]),
    ]
    one = found["events"][3]
    assert (one["repo"], one["file"], one["what"], len(one["was"])) == ("chan", new, "changed", 64)
    digest = mirror.shards("chan/linux-64")["tool"]["packages.conda"]["tool-2.0-0.conda"]["sha256"].hex()
    assert one["was"] != one["sha256"] == digest
    with store_at(mirror.store_path) as store:
        assert told(store, "tool==2.0", "chan") == ["2 appeared", "4 changed"]
        assert told(store, "tool-1.0-0.conda", "chan") == ["1 appeared", "3 hot-fixed", "6 vanished"]
        forget(store, DAYS[3])  # what it alone showed is shown by the next one
        assert told(store, "tool==2.0", "chan") == ["2 appeared", "5 changed"]


def test_the_history_of_a_project(tmp_path: Path) -> None:
    with Index(tmp_path / "index") as index:
        mirror = Mirror(tmp_path / "mirror")
        upstream = f"{index.url}/simple/"
        repos = [PypiRepo(path="pypi", upstream=upstream, projects=["my-tool"])]
        repos += [PypiRepo(path="own", upstream=upstream, projects=["other"])]
        index.wheel("other", "1.0")
        one, two = index.wheel("my-tool", "1.0"), index.wheel("my-tool", "2.0", yanked=True)
        seal(mirror, 1, *repos)
        files = index.pages["my-tool"]["files"]
        files[0]["yanked"] = "it breaks\ntools"
        files[1]["yanked"] = False
        index.touch("my-tool")
        seal(mirror, 2, *repos)
        del files[0]
        index.touch("my-tool")
        seal(mirror, 3, *repos)
    assert happened(mirror.run("log", "My_Tool").out) == [
        f"1 appeared pypi/{one}",
        f"1 appeared pypi/{two}",
        f"1 yanked pypi/{two}",
        rf"2 yanked pypi/{one}: it breaks\ntools",
        f"2 unyanked pypi/{two}",
        f"3 vanished pypi/{one}",
    ]
    with store_at(mirror.store_path) as store:
        assert told(store, "my-tool==2", "own", "pypi") == ["1 appeared", "1 yanked", "2 unyanked"]
    with store_at(mirror.store_path) as store:
        resolver = Resolver(store, ECOSYSTEMS, Watch(store).view(), "", {})
        events = history.log(store, ECOSYSTEMS, store.catalog(), "my-tool", ["pypi"]).events
        paths = [f"{event.snapshot}/{event.path}" for event in events if event.what != "vanished"]
        paths += [f"current/{path}" for path in mirror.run("which", two, "--json").json["files"]]
        assert [type(resolver.resolve(f"/{path}")) for path in paths] == [BlobAnswer] * 6
    mirror.run("log", "my-tool", "own", status=2).line("my-tool: no kept snapshot lists it in own")


def test_log_says_that_a_file_is_withheld_or_its_repo_gone(tmp_path: Path, channel: Channel) -> None:
    one = of(channel)
    two = msgspec.structs.replace(one, path="two")
    with store_at(tmp_path / "store", ticking()) as store:
        sync(store, one)
        sync(store, one, two)
        (channel.root / "noarch" / "lib-1.0-0.conda").write_bytes(b"not what is listed")
        channel.hotfix("lib-1.0-0.conda", sha256="0" * 64, md5="0" * 32)
        channel.publish()
        sync(store, one, two, only=["chan"])
        sync(store, one)
        catalog = store.catalog()
        ids = [record.id for record in catalog.records]
        *_, withheld = history.log(store, ECOSYSTEMS, catalog, "lib", {"chan"}).events
        added, gone = history.log(store, ECOSYSTEMS, catalog, "lib", {"two"}).events
    assert (withheld.what, withheld.snapshot, withheld.previous) == ("vanished", ids[2], ids[1])
    assert withheld.reason
    assert "the metadata says" in withheld.reason
    assert (added.what, added.snapshot, added.previous) == ("appeared", ids[1], None)
    assert (gone.what, gone.snapshot, gone.reason) == ("vanished", ids[3], None)


def test_log_of_what_is_nowhere(mirror: Mirror, channel: Channel) -> None:
    with store_at(mirror.store_path) as store:
        with pytest.raises(UsageError, match="tool: no kept snapshot lists it in any repo"):
            told(store, "tool")
        sync(store, of(channel))
        with pytest.raises(UsageError, match="'to ol !' names nothing: write a package's name"):
            told(store, "to ol !", "chan")
    mirror.run("log", "toool", status=2).line("toool: no kept snapshot lists it in chan")
    mirror.run("log", "tool", "nowhere", status=2).line("nowhere: no kept snapshot holds a repo at or below it", "chan")


class Counting(LocalBlobs):
    """Blobs, and how often each was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(Layout(root))
        self.reads: dict[Digest, int] = {}

    def read(self, digest: Digest, most: int | None = None) -> bytes:
        self.reads[digest] = self.reads.get(digest, 0) + 1
        return super().read(digest, most)


def test_log_reads_each_leaf_once_and_no_bucket_of_other_names(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    channel.add(*(make_package(f"other{number}", subdir="linux-64") for number in range(60)))
    for day in range(1, 7):
        channel.hotfix("tool-1.0-0.conda", license="A" if day % 2 else "B")  # so it becomes what it was before, again
        channel.hotfix("other1-1.0-0.conda", license=str(day))
        channel.publish()
        seal(mirror, day, msgspec.structs.replace(of(channel), upstream=f"{upstream.url}/chan", download="redirect"))
    readers = [mirror.reader("chan/linux-64", day) for day in DAYS[:6]]
    every = {leaf for reader in readers for leaf in reader.leaves.values()}
    buckets = {bucket for reader in readers for bucket in reader.document.buckets}
    leaves = {reader.leaf("tool") for reader in readers}
    place = bucket_of("tool", len(readers[0].document.buckets))
    with store_at(mirror.store_path) as store:
        blobs = Counting(mirror.store_path)
        store.metadata = Metadata(blobs)
        found = history.log(store, ECOSYSTEMS, store.catalog(), "tool", {"chan"})
    assert [event.what for event in found.events] == ["appeared", *["hot-fixed"] * 5]
    assert len(leaves) == 2
    assert every & blobs.reads.keys() == leaves
    noarch = {mirror.reader("chan/noarch", day).document.buckets[0] for day in DAYS[:6]}
    its = {reader.document.buckets[place] for reader in readers}
    assert (buckets & blobs.reads.keys()) - noarch == its < buckets
    assert max(blobs.reads.values()) == 1


# which, and diff --for: a channel and an index over six days

TOOL, NEWER = (
    make_package("tool", subdir="linux-64", depends=["lib"]),
    make_package("tool", "2.0", subdir="linux-64", depends=["lib >=2"]),
)
LIB, OTHER, LIB2 = make_package("lib"), make_package("lib", payload=b"other bytes"), make_package("lib", "2.0")


class World:
    """A mirror, and what was in the index."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mirror = Mirror(root / "mirror")
        self.channel = Channel(root / "chan", subdirs=["linux-64"])
        self.store: Store
        self.repos: list[Any] = []
        #: {file: its record}
        self.files: dict[str, dict[str, Any]] = {}

    def write(self, name: str, text: str) -> str:
        """A file, and its path."""
        (self.root / name).write_text(text)
        return str(self.root / name)

    def ask(self, what: str, platform: str = "") -> Which:
        """The answer of `which`."""
        return self.questions(platform).which(what)

    def questions(self, platform: str = "") -> Questions:
        return Questions(self.store, ECOSYSTEMS, self.store.catalog(), self.repos, platform)

    def which(self, what: str) -> list[str]:
        """Days, each range with what is missing."""
        return [
            " ".join(
                [
                    f"{DAYS.index(one.first) + 1}-{DAYS.index(one.last) + 1}",
                    *(f"{lack.what}: {lack.why}" for lack in one.missing),
                ]
            )
            for one in self.ask(what).ranges
        ]

    def diff(self, old: int, new: int, path: str) -> list[str]:
        """What `diff --for` tells of two days."""
        environment = self.questions().environment(Path(path))
        assert environment
        first, second = (self.store.catalog().by_id[DAYS[day - 1]] for day in (old, new))
        found = compare.environments(self.store, environment, first, second, {"chan", "pypi"})
        lines = [
            f"{mark} {path}"
            for mark, paths in (("+", found.added), ("-", found.removed), ("~", found.changed))
            for path in paths
        ]
        return lines + [f"lacks {lack.what}: {lack.why}" for lack in found.missing_new]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    channel, mirror = made.channel, made.mirror
    linux = ["manylinux_2_28_x86_64"]
    with Index(made.root / "index") as index, store_at(mirror.store_path) as made.store:
        upstream = f"{index.url}/simple/"
        mirror.add("chan", channel.root.as_uri(), subdirs=["linux-64"])
        mirror.add("pypi", upstream, kind="pypi", projects=["app", "lib"], select={"platforms": linux})
        made.repos = [
            CondaRepo(path="chan", upstream=channel.root.as_uri(), subdirs=["linux-64"]),
            PypiRepo(path="pypi", upstream=upstream, projects=["app", "lib"], select=Select(platforms=linux)),
        ]
        for day in range(1, 7):
            _turn(day, channel, index, made)
            channel.publish()
            sync(made.store, *made.repos, seal_as=DAYS[day - 1], allow_shrink=True, publish=Publish(trees=[]))
        yield made


def _turn(day: int, channel: Channel, index: Index, made: World) -> None:
    match day:
        case 1:
            channel.add(TOOL, LIB)
            for name, requires in (("app", ["lib"]), ("lib", [])):
                index.wheel(name, "1.0", requires)
                index.wheel(name, "1.0", requires, "cp312-cp312-win_amd64")
        case 3:
            channel.add(LIB2)
            index.wheel("lib", "1.1")
        case 4:
            channel.remove(TOOL.filename)
            channel.add(NEWER)
            made.files = {one["filename"]: one for page in index.pages.values() for one in page["files"]}
            index.pages["lib"]["files"][:2] = []
            index.touch("lib")
        case 5:
            channel.add(OTHER)
        case 6:
            channel.add(TOOL, LIB)
            index.pages["lib"]["files"].append(made.files["lib-1.0-py3-none-any.whl"])
            index.touch("lib")


def conda_lock(*packages: Package, platform: str = "linux-64") -> str:
    """The text of a conda-lock.yml, with a package of another platform."""
    elsewhere = make_package("tool", subdir="osx-arm64")
    entries = [
        {"name": one.record["name"], "version": one.record["version"], "manager": "conda", "platform": where,
         "dependencies": {}, "url": f"https://example.org/chan/{one.record['subdir']}/{one.filename}",
         "hash": {"sha256": one.record["sha256"]}, "category": "main", "optional": False}
        for where, chosen in ((platform, packages), ("osx-arm64", [elsewhere]))
        for one in chosen
    ]  # fmt: skip
    metadata = {"content_hash": {platform: "0", "osx-arm64": "0"}, "channels": [{"url": "chan", "used_env_vars": []}],
                "platforms": [platform, "osx-arm64"], "sources": ["environment.yml"]}  # fmt: skip
    return json.dumps({"version": 1, "metadata": metadata, "package": entries})


def explicit(kind: str, *packages: Package) -> str:
    """The text of an explicit list."""
    prefix = "sha256:" if kind == "sha256" else ""
    urls = (f"https://x.example/chan/{one.record['subdir']}/{one.filename}#{prefix}{one.record[kind]}" for one in packages)
    return "@EXPLICIT\n" + "\n".join(urls) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conda-lock.yml", conda_lock(TOOL, LIB)),
        ("explicit.txt", explicit("sha256", TOOL, LIB)),
        ("with-md5.txt", explicit("md5", TOOL, LIB)),
    ],
)
def test_which_dates_hold_a_lock_of_conda_packages(world: World, name: str, text: str) -> None:
    assert world.which(world.write(name, text)) == [
        "1-3",
        "4-4 linux-64/tool-1.0-0.conda: it is not listed",
        "5-5 linux-64/tool-1.0-0.conda: it is not listed noarch/lib-1.0-0.conda: it is listed with other bytes",
        "6-6",
    ]


def test_files_for_other_platforms_do_not_count(world: World) -> None:
    found = world.ask(world.write("conda-lock.yml", conda_lock(TOOL, LIB)))
    assert found.aside == [Lack("osx-arm64/tool-1.0-0.conda", "no snapshot has osx-arm64")]
    only = world.write("elsewhere.txt", explicit("sha256", make_package("tool", subdir="osx-arm64")))
    with pytest.raises(UsageError, match=r"elsewhere.txt: it is for osx-arm64, which no snapshot has"):
        world.ask(only)


def locked(world: World, name: str) -> str:
    """The text of a lock with all files of app 1.0 and lib 1.0."""
    files = [one for file, one in sorted(world.files.items()) if "-1.0-" in file]
    sums = {one["filename"]: one["hashes"]["sha256"] for one in files}
    if name == "requirements.txt":
        lines = {
            project: [f"--hash=sha256:{sums[file]}" for file in sums if file.startswith(project)] for project in ("app", "lib")
        }
        return "".join(f"{project}==1.0 {' '.join(hashes)}\n" for project, hashes in lines.items())
    if name == "uv.lock":
        text = "version = 1\n"
        for project in ("app", "lib"):
            wheels = [
                f'{{ url = "https://x/{file}", hash = "sha256:{sums[file]}" }}' for file in sums if file.startswith(project)
            ]
            text += f'[[package]]\nname = "{project}"\nsource = {{ registry = "x" }}\nwheels = [{", ".join(wheels)}]\n'
        return text
    text = 'lock-version = "1.0"\ncreated-by = "test"\n'
    for project in ("app", "lib"):
        wheels = [
            f'{{url = "https://x/{file}", hashes = {{sha256 = "{sums[file]}"}}}}' for file in sums if file.startswith(project)
        ]
        text += f'[[packages]]\nname = "{project}"\nversion = "1.0"\nwheels = [{", ".join(wheels)}]\n'
    return text


@pytest.mark.parametrize(
    ("name", "what"),
    [("requirements.txt", "lib==1.0"), ("pylock.toml", "lib-1.0-py3-none-any.whl"), ("uv.lock", "lib-1.0-py3-none-any.whl")],
)
def test_which_dates_hold_a_lock_of_python_packages(world: World, name: str, what: str) -> None:
    """What the lock names for Windows does not count: the index is not mirrored for that."""
    assert world.which(world.write(name, locked(world, name))) == [
        "1-3",
        f"4-5 {what}: it is not listed",
        "6-6",
    ]
    aside = {lack.what for lack in world.ask(world.write(name, locked(world, name))).aside}
    assert aside == (
        set() if name == "requirements.txt" else {f"{one}-1.0-cp312-cp312-win_amd64.whl" for one in ("app", "lib")}
    )


def test_requirements_need_no_hashes(world: World) -> None:
    assert world.which(
        world.write("requirements.in", "lib >=1.1\napp ; sys_platform == 'linux'\nnone ; os_name == 'nt'\n")
    ) == [
        "1-2 lib>=1.1: it is not listed",
        "3-6",
    ]
    wrong = world.write("requirements.txt", f"lib==1.1 --hash=sha256:{'0' * 64}\n")
    assert world.which(wrong)[-1] == "3-6 lib==1.1: it is listed with other bytes"


def test_in_which_snapshots_an_environment_solves(world: World) -> None:
    asked = world.write("environment.yml", "channels: [chan, conda-forge]\ndependencies:\n  - tool\n  - chan::lib <2\n")
    found = world.ask(asked)
    assert [(one.first, one.last, bool(one.missing)) for one in found.ranges] == [
        (DAYS[0], DAYS[2], False),
        (DAYS[3], DAYS[4], True),
        (DAYS[5], DAYS[5], False),
    ]
    [lack] = found.ranges[1].missing
    assert lack.what == "environment.yml"
    assert "tool 2.0 would require" in lack.why
    assert found.aside == [Lack("conda-forge", "no repo is this channel")]
    printed = world.mirror.run("which", asked, "--platform", "linux-64")
    assert printed.out.splitlines()[::2] == [
        f"holds  {DAYS[0]} .. {DAYS[2]}  3 snapshots",
        f"holds  {DAYS[5]} .. {DAYS[5]}  1 snapshot",
    ]
    assert printed.out.splitlines()[1].startswith(f"lacks  {DAYS[3]} .. {DAYS[4]}  2 snapshots: environment.yml (Cannot solve")
    assert printed.line("does not count: conda-forge (no repo is this channel)")
    with pytest.raises(UsageError, match=r"--platform osx-64: no snapshot has it .there are: linux-64"):
        world.ask(asked, "osx-64")


def test_what_no_solver_can_be_asked_is_passed_over(mirror: Mirror, channel: Channel, tmp_path: Path) -> None:
    """py-rattler's ends the process when it reads what is nested too deeply, and panics at a pattern."""
    deep = "lib " + "(" * 6000 + ">=1" + ")" * 6000
    channel.add(make_package("tool", "7.0", depends=[deep]), make_package("tool", "8.0", constrains=[deep]))
    channel.add(make_package("tool", "9.0", depends=["lib*"]))
    channel.publish()
    seal(mirror, 1, of(channel))
    asked = tmp_path / "environment.yml"
    asked.write_text("dependencies: [tool]\n")
    assert mirror.run("which", str(asked)).out == f"holds  {DAYS[0]} .. {DAYS[0]}  1 snapshot\n"
    asked.write_text("dependencies: [tool >=7]\n")
    assert "No candidates were found for tool >=7" in mirror.run("which", str(asked), status=1).out


def test_an_environment_asks_for_flags_extras_and_digests(mirror: Mirror, channel: Channel, tmp_path: Path) -> None:
    for new in (False, True):  # it is listed in `v3` as well
        channel.add(make_package("blas", flags=["cuda"], license_family="GPL"), v3=new)
    channel.add(
        make_package("app", depends=["blas[flags=[cuda]]"], extra_depends={"more": ["tool"], "gone": ["absent"]}), v3=True
    )
    channel.publish()
    seal(mirror, 1, of(channel))
    asked = tmp_path / "environment.yml"
    for spec, holds in (
        ("app[extras=[more]]", True),
        ("app[extras=[gone]]", False),
        ("blas[license_family=GPL]", True),
        (f"lib[sha256={LIB.record['sha256']}]", True),
        (f"lib[sha256={'0' * 64}]", False),
    ):
        asked.write_text(f"dependencies: ['{spec}']\n")
        assert mirror.run("which", str(asked), status=None).status == (0 if holds else 1), spec


def test_which_snapshots_have_a_file(world: World, tmp_path: Path) -> None:
    here, renamed = tmp_path / LIB.filename, tmp_path / "download"
    here.write_bytes(LIB.data)
    shutil.copy(here, renamed)
    for what, missing in (
        (str(here), f"{LIB.filename}: it is listed with other bytes"),
        (str(renamed), f"{LIB.record['sha256']}: it is not listed"),
        (LIB.record["sha256"].upper(), f"{LIB.record['sha256']}: it is not listed"),
    ):
        assert world.which(what) == ["1-4", f"5-5 {missing}", "6-6"]
        assert world.ask(what).files == ["chan/noarch/lib-1.0-0.conda"]
    assert world.which("lib-1.1-py3-none-any.whl")[-1] == "3-6"
    here.write_bytes(b"never in any snapshot")
    assert world.which(str(here)) == [f"1-6 {LIB.filename}: it is listed with other bytes"]
    assert world.mirror.run("which", "nothing-1.0-0.conda", status=1).out.endswith(" 6 snapshots: nothing-1.0-0.conda\n")
    for nothing in ("", "/"):
        with pytest.raises(UsageError, match="which file"):
            world.ask(nothing)
    for absent in ("no/such.whl", "environment.yml"):
        with pytest.raises(UsageError, match=f"{absent}: there is no such file here"):
            world.ask(absent)


def test_which_snapshots_have_a_file_of_a_repo_of_files(mirror: Mirror, tmp_path: Path) -> None:
    """In any folder, and with a name as a lock or an environment has one."""
    built, here = tmp_path / "built", tmp_path / "latest-linux.yml"
    for name, content in {"old/tool-1.sh": "1", "old/notes.txt": "==\n", "latest-linux.yml": "path: tool\n"}.items():
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(content)
    mirror.repos = []
    mirror.add("tools", built.as_uri(), kind="files", depth=2)
    mirror.sync("--seal-as", DAYS[0])
    (built / "tool-1.sh").write_text("another")
    mirror.sync("--seal-as", DAYS[1])

    def which(what: Path | str) -> list[str]:
        result = mirror.run("which", str(what))
        assert result.out.splitlines()[-1].startswith("holds")
        return [line.removeprefix("found as ") for line in result.err.splitlines()]

    assert which("tool-1.sh") == ["tools/old/tool-1.sh", "tools/tool-1.sh"]
    assert which("old/tool-1.sh") == which("/old/tool-1.sh") == which(built / "old" / "tool-1.sh") == ["tools/old/tool-1.sh"]
    assert which("notes.txt") == which(built / "old" / "notes.txt") == ["tools/old/notes.txt"]
    assert which("latest-linux.yml") == which(shutil.copy(built / "latest-linux.yml", here)) == ["tools/latest-linux.yml"]
    here.write_text("path: other\n")
    assert "version" in mirror.run("which", str(here), status=2).err
    mirror.run("which", "other/tool-1.sh", status=2).line("no kept snapshot lists one")
    mirror.run("deny", "tools", "old/tool-1.sh", "--reason", "malware")
    assert "it is denied: malware" in mirror.run("which", "old/tool-1.sh", status=1).out


def test_names_that_are_no_utf_8(mirror: Mirror, channel: Channel) -> None:
    """Nothing in a mirror has one; files on this machine may."""
    seal(mirror, 1, of(channel))
    asked, here = "a\udcff.conda", mirror.root / "here\udcff.conda"
    assert mirror.run("which", asked, status=1).out.endswith(" 1 snapshot: a\\udcff.conda\n")
    assert mirror.run("which", asked, "--json", status=1).json["asked"] == "a\\udcff.conda"
    mirror.run("log", asked, status=2).line("a\\udcff.conda: no kept snapshot lists it")
    mirror.run("log", "a\udcff", status=2).line("a\\udcff", "names nothing")
    here.write_bytes(make_package("lib").data)
    mirror.run("which", str(here)).line("found as chan/noarch/lib-1.0-0.conda")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("environment.yml", "dependencies: [", "it is not YAML"),
        ("environment.yml", "dependencies:\n  - 'tool ==='\n", "'tool ===' is no MatchSpec"),
        ("environment.yml", "dependencies: ['lib*']", "'lib.*' is a pattern"),
        ("environment.yml", "dependencies: ['https://x.example/a-1-0.conda']", "names an address"),
        ("environment.yml", "dependencies: ['/x/noarch/a-1-0.conda']", "names an address"),
        ("environment.yml", "dependencies: ['tool[fn=tool-1.0-0.conda]']", "names a file name"),
        ("environment.yml", "dependencies: ['tool[subdir=linux-64]']", "names a subdir"),
        ("environment.yml", "dependencies: ['tool[when=\"lib*\"]']", "could not parse condition"),
        ("explicit.txt", "@EXPLICIT\n", "it names no package"),
        ("paths.txt", explicit("md5", TOOL, LIB) + "\n./noarch/mine-1.0-0.conda", "'./noarch/mine-1.0-0.conda' is no URL"),
        ("requirements.txt", "lib ==\n", "'lib ==' is no requirement"),
        ("requirements.txt", "-r other.txt\n", r"other\.txt: it can't be read: No such file"),
        ("requirements.txt", "# nothing\n", "it names nothing"),
        ("requirements.txt", "\udcff", "codec can't decode"),
        ("uv.lock", "version = 7", "it is no uv.lock that this version of snapmirror knows"),
        ("pylock.toml", "[", "Invalid"),
        ("poetry.lock", "package: []", "version"),
        ("pixi.lock", "version: &in_itself [*in_itself]", "version"),
    ],
)
def test_files_that_describe_nothing(world: World, tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=problem) as refused:
        world.ask(str(tmp_path / name))
    assert str(refused.value).startswith(f"{tmp_path}/")


def test_what_is_denied_or_forgotten(mirror: Mirror, channel: Channel) -> None:
    for day in range(1, 5):
        seal(mirror, day, of(channel))
    with store_at(mirror.store_path) as store:
        forget(store, *DAYS[1:3])
    assert mirror.run("which", "tool-1.0-0.conda").out == f"holds  {DAYS[0]} .. {DAYS[3]}  2 snapshots, 2 forgotten\n"
    mirror.run("deny", "chan", "tool", "--reason", "malware")
    assert mirror.run("which", "tool-1.0-0.conda", status=1).out.endswith("tool-1.0-0.conda (it is denied: malware)\n")


def test_snapshots_of_other_repos_alone_are_passed_over(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    other = Channel(upstream.root / "other")
    other.publish()
    for day, one in enumerate((channel, other, channel), 1):
        seal(mirror, day, of(one))
    assert mirror.run("which", "tool-1.0-0.conda").out == f"holds  {DAYS[0]} .. {DAYS[2]}  2 snapshots\n"


def test_diff_for_an_environment(world: World) -> None:
    """Only what would be installed otherwise: not that lib 2.0 is there on the third day, as long as nothing needs it."""
    asked = world.write("environment.yml", "dependencies:\n  - tool\n")
    old = world.write("old.yml", "dependencies:\n  - tool\n  - lib <2\n")

    assert world.diff(1, 3, old) == []
    assert world.diff(1, 3, asked) == ["+ chan/noarch/lib-2.0-0.conda", "- chan/noarch/lib-1.0-0.conda"]
    assert world.diff(3, 4, asked) == ["+ chan/linux-64/tool-2.0-0.conda", "- chan/linux-64/tool-1.0-0.conda"]
    *lines, why = world.diff(3, 4, old)
    assert lines == ["- chan/linux-64/tool-1.0-0.conda", "- chan/noarch/lib-1.0-0.conda"]
    assert why.startswith("lacks old.yml: Cannot solve")
    printed = world.mirror.run("diff", DAYS[2], DAYS[3], "--for", old, "--exit-code", status=1)
    assert printed.out.splitlines() == lines
    assert printed.line(f"{DAYS[3]} lacks old.yml (Cannot solve")


def test_who_has_solved_an_environment_ends_with_his_own_status(world: World) -> None:
    """A thread of the solver that lets go of Python while that ends aborts the process: every third time on a busy machine."""
    asked = world.write("environment.yml", "dependencies:\n  - tool\n")
    found = world.mirror.run("which", asked).out
    script = "import atexit, snapmirror.__main__ as run; atexit.register(print, 'Python ends'); run.main()"
    command = [sys.executable, "-c", script, "which", asked, "--config", str(world.mirror.config)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, found)


def test_a_diff_that_fails_does_not_say_that_they_differ(mirror: Mirror, channel: Channel) -> None:
    """Whatever it is: a full disk under its output, or a fault of ours."""
    for day in (1, 2):
        channel.add(make_package("tool", f"{day}.0", subdir="linux-64"))
        channel.publish()
        seal(mirror, day, of(channel))
    mirror.write()
    faulty = "import snapmirror.cli.diff as diff; diff.compare.records = lambda *_: 1 // 0"
    for before, problem in (("", "No space left on device"), (faulty, "a fault of snapmirror itself (ZeroDivisionError")):
        script = f"{before}\nimport snapmirror.__main__ as run; run.main()"
        arguments = ["diff", *DAYS[:2], "--exit-code", "--config", str(mirror.config)]
        environment = {key: value for key, value in os.environ.items() if key not in ("SNAPMIRROR_DEBUG", "PYTHONUNBUFFERED")}
        for options in ([], ["--json"]):
            with open("/dev/full", "wb") as full:
                command = [sys.executable, "-c", script, *arguments, *options]
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
            assert (done.returncode, problem in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_diff_for_a_lock(world: World) -> None:
    lock = world.write("explicit.txt", explicit("sha256", TOOL))
    named = world.write("by-name.txt", "@EXPLICIT\nhttps://x.example/chan/noarch/lib-1.0-0.conda\n")
    ranges = world.write("requirements.txt", "lib >=1\n")
    assert world.diff(1, 3, lock) == []
    assert world.diff(1, 5, named) == ["~ chan/noarch/lib-1.0-0.conda"]
    assert world.diff(1, 4, lock) == ["- chan/linux-64/tool-1.0-0.conda", "lacks linux-64/tool-1.0-0.conda: it is not listed"]
    assert world.diff(3, 4, ranges) == ["- pypi/lib-1.0-py3-none-any.whl"]
    world.mirror.run("diff", DAYS[0], DAYS[1], "--for", str(world.root / "index"), status=2).line("--for", "that is no lock")


def test_what_was_forgotten_is_not_taken_for_a_repo_that_was_not_there(
    mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    """The second repo comes on the second day; of the first one all is forgotten but what is current."""
    other = Channel(upstream.root / "other")
    other.add(make_package("app"))
    other.publish()
    for day, one in enumerate((channel, other, channel, channel), 1):
        seal(mirror, day, of(one))
    with store_at(mirror.store_path) as store:
        forget(store, DAYS[0], DAYS[2])
    third, fourth = "2024-05-03", "2024-05-04"
    gone = f"{DAYS[2]} was forgotten; the nearest kept: {DAYS[3]}"
    for old, new, *options in (
        (third, fourth, "chan"),
        (fourth, third),
        ("2024-05-02", third, "--exit-code"),
        (DAYS[2], DAYS[3], "--exit-code"),
    ):
        printed = mirror.run("diff", old, new, *options, status=2)
        assert printed.line("was forgotten; the nearest kept")
        assert printed.out == ""
    mirror.run("diff", third, fourth, "chan", status=2).line(third, gone)
    assert mirror.run("diff", third, fourth, "other").out == ""
    added = "+ other/noarch/app-1.0-0.conda\n"
    assert mirror.run("diff", DAYS[3], fourth, "other").out == added  # the id is of a snapshot that never held it
    shown = mirror.run("show", third)
    assert (f"\nchan is left out: snapshot {gone}\n" in shown.out, "\nother: " in shown.out) == (True, True)
    assert list(mirror.run("show", third, "--json").json["forgotten"]) == ["chan"]
    assert mirror.run("show", fourth, "--json").json["forgotten"] == {}
    settings = mirror.run("client", "conda", "--snapshot", third).out
    assert (f"\n# without chan: snapshot {gone}\n" in settings, yaml.safe_load(settings)["channels"]) == (True, ["other"])
    assert "# without" not in mirror.run("client", "conda", "--snapshot", fourth).out
    for verb in (("pin", "name", third), ("forget", third)):  # not the second day, which is what the other repo had then
        mirror.run(*verb, status=2).line(third, gone)
    assert DAYS[1] in mirror.snapshots()


def test_a_repo_that_came_later_is_one_that_was_not_there(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    other = Channel(upstream.root / "other")
    other.add(make_package("app"))
    other.publish()
    for day, one in enumerate((channel, other), 1):
        seal(mirror, day, of(one))
    assert mirror.run("diff", "2024-05-01", "2024-05-02").out == "+ other/noarch/app-1.0-0.conda\n"
