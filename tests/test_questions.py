"""Questions that only a mirror with a memory can answer: `log`, `which`, `diff --for`, `bisect`."""

from pathlib import Path

from channels import Channel, make_package
from inprocess import store_at
from mirror import Mirror
from pypi_index import Index
from upstream import Upstream

from snapmirror.cli.ecosystems import ECOSYSTEMS
from snapmirror.digests import Digest
from snapmirror.store.blobs import LocalBlobs
from snapmirror.store.directories import Metadata
from snapmirror.store.layout import Layout
from snapmirror.sync import history

DAYS = [f"202611{day:02}T120000Z" for day in range(1, 10)]


def happened(text: str) -> list[str]:
    """The lines that `log` prints, with the number of the day for the snapshot."""
    lines = (line.split() for line in text.splitlines())
    return [" ".join([str(DAYS.index(id_) + 1), *rest]) for id_, *rest in lines]


# log


def test_the_history_of_a_package(mirror: Mirror, channel: Channel) -> None:
    mirror.sync("--seal-as", DAYS[0])
    channel.add(make_package("tool", "2.0", subdir="linux-64"))
    channel.publish()
    mirror.sync("--seal-as", DAYS[1])
    channel.hotfix("tool-1.0-0.conda", depends=["lib >=1"], license="MIT")
    channel.add(make_package("lib", "9.0"))  # nobody asks for it
    channel.publish()
    mirror.sync("--seal-as", DAYS[2])
    channel.add(make_package("tool", "2.0", subdir="linux-64", payload=b"other bytes under the same name"))
    channel.publish()
    mirror.sync("--seal-as", DAYS[3])
    mirror.sync("--seal-as", DAYS[4])
    channel.remove("tool-1.0-0.conda")
    channel.publish()
    mirror.sync("--seal-as", DAYS[5])
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
    assert (
        one["was"]
        != one["sha256"]
        == mirror.shards("chan/linux-64")["tool"]["packages.conda"]["tool-2.0-0.conda"]["sha256"].hex()
    )
    assert happened(mirror.run("log", "tool==2.0").out) == [before[1], changed]
    assert happened(mirror.run("log", "tool-1.0-0.conda").out) == [before[0], before[2], vanished]

    mirror.run("forget", DAYS[3])  # what it alone showed is shown by the next one
    assert happened(mirror.run("log", "tool==2.0").out)[1].startswith(f"5 changed {new}: ")


def test_the_history_of_a_project(tmp_path: Path) -> None:
    with Index(tmp_path / "index") as index:
        mirror = Mirror(tmp_path / "mirror")
        mirror.add("pypi", f"{index.url}/simple/", kind="pypi", projects=["my-tool"])
        mirror.add("own", f"{index.url}/simple/", kind="pypi", projects=["other"])
        index.wheel("other", "1.0")
        one, two = index.wheel("my-tool", "1.0"), index.wheel("my-tool", "2.0", yanked=True)
        mirror.sync("--seal-as", DAYS[0])
        files = index.pages["my-tool"]["files"]
        files[0]["yanked"] = "it breaks\ntools"
        files[1]["yanked"] = False
        index.touch("my-tool")
        mirror.sync("--seal-as", DAYS[1])
        del files[0]
        index.touch("my-tool")
        mirror.sync("--seal-as", DAYS[2])
    for written in ("my-tool", "My_Tool"):
        assert happened(mirror.run("log", written).out) == [
            f"1 appeared pypi/{one}",
            f"1 appeared pypi/{two}",
            f"1 yanked pypi/{two}",
            rf"2 yanked pypi/{one}: it breaks\ntools",
            f"2 unyanked pypi/{two}",
            f"3 vanished pypi/{one}",
        ]
    assert happened(mirror.run("log", "my-tool==2").out) == [
        f"1 appeared pypi/{two}",
        f"1 yanked pypi/{two}",
        f"2 unyanked pypi/{two}",
    ]
    mirror.run("log", "my-tool", "own", status=2).line("my-tool: no kept snapshot lists it in own")


def test_log_says_that_a_file_is_withheld_or_its_repo_gone(mirror: Mirror, channel: Channel, upstream: Upstream) -> None:
    mirror.add("two", f"{upstream.url}/chan", subdirs=["linux-64"])
    mirror.sync()
    (channel.root / "noarch" / "lib-1.0-0.conda").write_bytes(b"not what is listed")
    channel.hotfix("lib-1.0-0.conda", sha256="0" * 64, md5="0" * 32)
    channel.publish()
    mirror.sync("chan", status=3)
    del mirror.repos[1]
    mirror.sync(status=None)
    one, two = (json["events"][-1] for json in (mirror.run("log", "lib", repo, "--json").json for repo in ("chan", "two")))
    assert (one["what"], one["snapshot"]) == ("vanished", mirror.snapshots()[1])
    assert "the metadata says" in one["reason"]
    assert (two["what"], two["snapshot"], two["reason"]) == ("vanished", mirror.snapshots()[2], None)


def test_log_of_what_is_nowhere(mirror: Mirror) -> None:
    mirror.run_bare("init", str(mirror.root))
    mirror.run("log", "tool", status=2).line("tool: no kept snapshot lists it in any repo")
    mirror.sync()
    mirror.run("log", "toool", status=2).line("toool: no kept snapshot lists it in chan")
    mirror.run("log", "tool", "nowhere", status=2).line("nowhere: no kept snapshot holds a repo at or below it", "chan")
    mirror.run("log", "to ol !", status=2).line("'to ol !' names nothing: write a package's name")


class Counting(LocalBlobs):
    """Blobs, and how often each was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(Layout(root))
        self.reads: dict[Digest, int] = {}

    def read(self, digest: Digest) -> bytes:
        self.reads[digest] = self.reads.get(digest, 0) + 1
        return super().read(digest)


def test_log_reads_each_leaf_once_and_no_bucket_of_other_names(mirror: Mirror, channel: Channel) -> None:
    mirror.repos[0]["download"] = "redirect"
    channel.add(*(make_package(f"other{number}", subdir="linux-64") for number in range(60)))
    states: set[Digest] = set()
    for number, day in enumerate(DAYS[:6]):
        channel.hotfix("tool-1.0-0.conda", license="A" if number % 2 else "B")  # and what it was before, again
        channel.hotfix("other1-1.0-0.conda", license=str(number))
        channel.publish()
        mirror.sync("--seal-as", day)
        states.add(mirror.reader("chan/linux-64", day).leaf("tool") or b"")
    every = {leaf for day in DAYS[:6] for leaf in mirror.reader("chan/linux-64", day).leaves.values()}
    buckets = {bucket for day in DAYS[:6] for bucket in mirror.reader("chan/linux-64", day).document.buckets}
    with store_at(mirror.store_path) as store:
        blobs = Counting(mirror.store_path)
        store.metadata = Metadata(blobs)
        found = history.log(store, ECOSYSTEMS, store.catalog(), "tool", {"chan"})
    assert [event.what for event in found.events] == ["appeared", *["hot-fixed"] * 5]
    assert len(states) == 2
    assert {leaf: blobs.reads[leaf] for leaf in every & blobs.reads.keys()} == dict.fromkeys(states, 1)
    assert max(blobs.reads.values()) == 1
    assert len(buckets & blobs.reads.keys()) < len(buckets)
