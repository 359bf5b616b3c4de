"""`snapmirror adopt`: a mirror that other tools have made becomes a store, file by file as it lies there."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from channels import Channel, make_package
from inprocess import in_child, store_at
from mirror import Mirror
from test_files import table, write
from test_killed import _calls, problems
from upstream import Body, Status, Upstream

from snapmirror import units
from snapmirror.cli.adopt import _READERS, _adopt
from snapmirror.cli.config import Config
from snapmirror.conda import CondaRepo
from snapmirror.digests import Sums
from snapmirror.errors import UsageError
from snapmirror.store import fs
from snapmirror.store.blobs import Original, identity
from snapmirror.store.catalog import Catalog
from snapmirror.sync import adopt_trees
from snapmirror.sync.adopt_trees import Tree
from snapmirror.transfer.settings import Download


@pytest.fixture
def tree(upstream: Upstream, channel: Channel, tmp_path: Path) -> Path:
    """What the usual script would have made of the channel: `tool` in linux-64, `lib` and `data` in noarch."""
    shutil.copytree(channel.root, tmp_path / "tree")
    upstream.clear()
    return tmp_path / "tree"


def packages(tree: Path) -> list[Path]:
    return sorted([*tree.rglob("*.conda"), *tree.rglob("*.tar.bz2")])


def state(tree: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Inode, mtime, size and bytes of every file of a tree."""
    found = {}
    for path in tree.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_size, path.read_bytes())
    return found


def blob(mirror: Mirror, path: Path) -> Path:
    with mirror.store() as store:
        digest = next(one.digest for one in store.blobs.list() if store.blobs.read(one.digest) == path.read_bytes())
        return store.blobs.path(digest)


def test_a_tree_becomes_a_snapshot_without_a_byte_being_copied(mirror: Mirror, tree: Path, upstream: Upstream) -> None:
    mirror.repos.append({"kind": "files", "path": "installers", "upstream": f"{upstream.url}/installers/"})
    mirror.settings["download"]["min_free"] = "100%"  # second names take no room
    before = state(tree)
    result = mirror.run("adopt", str(tree), "--repo", "chan", "--json")
    done = result.json["trees"][0]
    assert (done["linked"], done["copied"], done["withheld"]) == (3, 0, {})
    result.line(f"adopted {units.size(sum(path.stat().st_size for path in packages(tree)))} in")
    assert state(tree) == before
    for path in packages(tree):
        assert blob(mirror, path).samefile(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert upstream.paths() == []
    adopted = mirror.published()
    mirror.sync("chan")
    assert not [path for path in upstream.paths() if path.endswith((".conda", ".tar.bz2"))]
    assert mirror.published() == adopted


def test_again_there_is_nothing_to_do(mirror: Mirror, tree: Path) -> None:
    mirror.run("adopt", str(tree), "--repo", "chan")
    before = mirror.published()
    done = mirror.run("adopt", str(tree), "--repo", "chan", "--json").json["trees"][0]
    assert (done["repos"]["chan"]["files"], done["linked"], done["copied"]) == (3, 0, 0)
    assert mirror.published() == before
    assert {path.stat().st_nlink for path in packages(tree)} == {3}  # the tree's, the blob, the published tree


def test_a_sync_fetches_only_what_was_missing(mirror: Mirror, tree: Path, upstream: Upstream) -> None:
    (tree / "noarch/lib-1.0-0.conda").unlink()
    result = mirror.run("adopt", str(tree), "--repo", "chan", status=3)
    assert result.line(str(tree / "noarch/lib-1.0-0.conda"), "not taken", "is not there")
    assert mirror.listed("chan/noarch") == {"data-1.0-0.tar.bz2"}
    mirror.sync()
    assert [path for path in upstream.paths() if path.endswith((".conda", ".tar.bz2"))] == ["/chan/noarch/lib-1.0-0.conda"]


def test_repodata_that_lies_and_files_that_rot(mirror: Mirror, tree: Path, channel: Channel) -> None:
    """Each is named with its path and left as it is; the rest is taken. A wrong size is seen without reading."""
    channel.add(*(make_package(name) for name in ("sound", "flipped", "short", "mislisted")))
    channel.hotfix("mislisted-1.0-0.conda", size=5)
    channel.publish()
    shutil.copytree(channel.root, tree, dirs_exist_ok=True)
    flipped, short = tree / "noarch/flipped-1.0-0.conda", tree / "noarch/short-1.0-0.conda"
    data = bytearray(flipped.read_bytes())
    data[100] ^= 1
    flipped.write_bytes(data)
    short.write_bytes(short.read_bytes()[:-1])
    before = state(tree)
    done = mirror.run("adopt", str(tree), "--repo", "chan", "--json", status=3).json["trees"][0]
    reasons = {Path(path).name.split("-")[0]: reason.split()[0] for path, reason in done["withheld"].items()}
    assert reasons == {"flipped": "sha256", "short": "size", "mislisted": "size"}
    assert all(Path(path).is_file() for path in done["withheld"])
    assert state(tree) == before
    assert mirror.listed("chan/noarch") == {"sound-1.0-0.conda", "lib-1.0-0.conda", "data-1.0-0.tar.bz2"}
    assert flipped.stat().st_nlink == short.stat().st_nlink == 1


@pytest.mark.parametrize("known", ["md5", "size"])
def test_old_records_name_no_sha256(known: str, mirror: Mirror, tree: Path) -> None:
    for path in tree.rglob("repodata.json*"):
        path.unlink() if path.name != "repodata.json" else None
    for path in tree.rglob("repodata.json"):
        document = json.loads(path.read_text())
        for record in [*document["packages"].values(), *document["packages.conda"].values()]:
            del record["sha256"]
            if known == "size":
                del record["md5"]
        path.write_text(json.dumps(document))
    mirror.run("adopt", str(tree), "--repo", "chan")
    mirror.published()  # its records have sha256
    assert all(blob(mirror, path).samefile(path) for path in packages(tree))
    assert mirror.run("adopt", str(tree), "--repo", "chan", "--json").json["trees"][0]["linked"] == 0


def test_how_it_ends_when_nothing_is_taken(mirror: Mirror, tree: Path, upstream: Upstream) -> None:
    """What a directory that keeps its old state withholds is no file of the tree, and makes no failure a success."""
    upstream.fault("*/lib-1.0-0.conda", Status(404))
    assert "lib-1.0-0.conda: withheld" in mirror.sync(status=3).err
    for path in tree.glob("noarch/repodata.json*"):
        path.write_bytes(b"{")
    result = mirror.run("adopt", str(tree), "--repo", "chan", "--json", status=3)
    assert (result.json["trees"][0]["withheld"], set(result.json["trees"][0]["kept"])) == ({}, {"chan/noarch"})
    for path in tree.glob("linux-64/repodata.json*"):
        path.write_bytes(b"{")
    result = mirror.run("adopt", str(tree), "--repo", "chan", "--json", status=1)
    assert (result.json["trees"][0]["withheld"], result.json["trees"][0]["snapshot"]) == ({}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_files_of_another_owner_are_refused(mirror: Mirror, tree: Path) -> None:
    os.chown(tree / "noarch/lib-1.0-0.conda", 12345, -1)
    result = mirror.run("adopt", str(tree), "--repo", "chan", status=3)
    assert result.line("noarch/lib-1.0-0.conda", "belongs to user 12345")
    assert (tree / "noarch/lib-1.0-0.conda").stat().st_nlink == 1
    assert "lib-1.0-0.conda" not in mirror.listed("chan/noarch")


def test_another_file_system(mirror: Mirror, tree: Path) -> None:
    """There can be no second name: the files are copied, verified just the same, and known by their MD5 too."""
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == tree.stat().st_dev:
        pytest.skip("there is no second file system")
    away = place / f"adopt-{os.getpid()}-{random.randrange(2**32)}"
    try:
        shutil.copytree(tree, away)
        (away / "noarch/lib-1.0-0.conda").write_bytes(b"x")
        index, data = away / "noarch/repodata.json", (away / "noarch/data-1.0-0.tar.bz2").read_bytes()
        document = json.loads(index.read_text())
        del document["packages"]["data-1.0-0.tar.bz2"]["sha256"], document["packages"]["data-1.0-0.tar.bz2"]["md5"]
        index.write_text(json.dumps(document))
        before = state(away)
        mirror.settings["download"]["min_free"] = "100%"  # copies take room
        assert "nothing was fetched" in mirror.run("adopt", str(away), "--repo", "chan", status=1).err
        mirror.settings["download"]["min_free"] = "0%"
        done = mirror.run("adopt", str(away), "--repo", "chan", "--json", status=3).json["trees"][0]
        assert (done["linked"], done["copied"], len(done["withheld"])) == (0, 2, 1)
        sizes = {path.name.split("-")[0]: path.stat().st_size for path in packages(away)}
        assert done["copied_bytes"] == sizes["data"] + sizes["tool"]
        assert state(away) == before
        mirror.published()
        with mirror.store() as store:
            assert store.index.by_other(hashlib.md5(data).digest()) == hashlib.sha256(data).digest()
    finally:
        shutil.rmtree(away, ignore_errors=True)


def test_dry_run_says_what_would_be_done_and_does_nothing(mirror: Mirror, tree: Path) -> None:
    (tree / "noarch/lib-1.0-0.conda").unlink()
    with store_at(mirror.store_path):
        pass
    before = state(tree)
    done = mirror.run("adopt", str(tree), "--repo", "chan", "--dry-run", "--json", status=3).json["trees"][0]
    sizes = [path.stat().st_size for path in packages(tree)]
    assert (done["linked"], done["linked_bytes"], done["copied"], done["snapshot"]) == (2, sum(sizes), 0, None)
    assert list(done["withheld"]) == [str(tree / "noarch/lib-1.0-0.conda")]
    assert state(tree) == before
    assert mirror.snapshots() == []
    assert {path.stat().st_nlink for path in packages(tree)} == {1}


def test_a_folder_of_dated_trees_becomes_history(mirror: Mirror, tree: Path, channel: Channel, tmp_path: Path) -> None:
    dated = tmp_path / "dated"
    for day in ("2024-01-01", "2024-01-02", "2024-02-01"):
        channel.add(make_package("lib", version=day.replace("-", ".")))
        channel.publish()
        shutil.copytree(channel.root, dated / day)
    today = datetime.now(UTC).date().isoformat()
    shutil.copytree(channel.root, dated / today)
    trees = mirror.run("adopt", str(dated), "--repo", "chan", "--json").json["trees"]
    assert [one["snapshot"] for one in trees][:3] == ["20240101T235959Z", "20240102T235959Z", "20240201T235959Z"]
    assert mirror.snapshots()[3] > "20250101T000000Z"
    assert "lib-2024.01.02-0.conda" not in mirror.listed("chan/noarch", "2024-01-01")
    assert mirror.listed("chan/noarch", "2024-01-15") == mirror.listed("chan/noarch", "2024-01-02")
    again = mirror.run("adopt", str(dated), "--repo", "chan")
    assert again.line("2024-01-02", "already")
    assert len(mirror.snapshots()) == 4


def test_the_tree_of_a_day_that_has_begun_east_of_utc_is_of_now(channel: Channel, tmp_path: Path) -> None:
    present = datetime(2026, 11, 20, 20, tzinfo=UTC)
    repo = CondaRepo(path="chan", upstream="http://upstream.invalid", subdirs=["noarch"])

    def ids(*days: str) -> list[str | None]:
        for day in days:
            (tmp_path / "dated" / day / "noarch").mkdir(parents=True)
            shutil.copy(channel.root / "noarch/repodata.json", tmp_path / "dated" / day / "noarch")
        found = adopt_trees.find(tmp_path / "dated", "chan", [repo], _READERS, None, Catalog(), present)
        return [tree.seal_as for tree in found.trees]

    assert ids("2026-11-19", "2026-11-20", "2026-11-21") == ["20261119T235959Z", None, None]
    with pytest.raises(UsageError, match="20261122T235959Z: that time has not come yet"):
        ids("2026-11-22")


def test_history_can_be_brought_in_later_and_for_several_repos(mirror: Mirror, channel: Channel, tmp_path: Path) -> None:
    """Before the oldest snapshot of a repo, last date first: so no date changes its answer on the way."""
    mirror.sync()
    newest = mirror.directories()
    for day in ("2024-01-01", "2024-01-02"):
        shutil.copytree(channel.root, tmp_path / "dated" / day)
    mirror.add("other", channel.root.as_uri(), subdirs=["linux-64"])
    for repo in ("chan", "other"):
        mirror.run("adopt", str(tmp_path / "dated"), "--repo", repo)
    assert [entry for entry in mirror.snapshots() if entry < "2025"] == [
        "20240101T235958Z",
        "20240101T235959Z",
        "20240102T235958Z",
        "20240102T235959Z",
    ]
    assert mirror.record("2024-01-01", "other").id == "20240101T235958Z"
    assert mirror.directories()["chan/noarch"] == newest["chan/noarch"]
    shutil.copytree(channel.root, tmp_path / "dated" / "2024-03-01")
    assert "must not change" in mirror.run("adopt", str(tmp_path / "dated"), "--repo", "chan", status=2).err


def test_one_tree_can_be_dated(mirror: Mirror, tree: Path) -> None:
    mirror.run("adopt", str(tree), "--repo", "chan", "--seal-as", "2024-05-06")
    assert mirror.snapshots() == ["20240506T235959Z"]


# Several repos at once


@pytest.fixture
def anaconda(mirror: Mirror, tree: Path, upstream: Upstream, tmp_path: Path) -> Path:
    """A tree in the usual layout, and the configuration of it: a channel, one that has not come, and installers."""
    write(upstream.root / "miniconda", {"Miniconda3-latest-Linux-x86_64.sh": b"installer"})
    upstream.fault("/miniconda/", Body(table(upstream.root / "miniconda", hashes=False)))
    mirror.repos = []
    mirror.add("anaconda/cloud/chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    mirror.add("anaconda/cloud/late", f"{upstream.url}/chan")
    mirror.add("anaconda/miniconda", f"{upstream.url}/miniconda/", kind="files")
    (tmp_path / "usual/cloud").mkdir(parents=True)
    tree.rename(tmp_path / "usual/cloud/chan")
    shutil.copytree(upstream.root / "miniconda", tmp_path / "usual/miniconda")
    return tmp_path / "usual"


def test_all_repos_below_a_path_become_one_snapshot(mirror: Mirror, anaconda: Path, upstream: Upstream) -> None:
    """Those of which nothing is there, or whose files are not kept, are said and stay as they are."""
    mirror.add("anaconda/pointers", f"{upstream.url}/chan", download="redirect")
    mirror.add("elsewhere", f"{upstream.url}/chan")
    before = state(anaconda)
    result = mirror.run("adopt", str(anaconda), "--repo", "anaconda/")
    assert result.line("anaconda/cloud/late", "holds nothing of it", "it stays as it is")
    assert result.line("anaconda/pointers", "redirect", "it stays as it is")
    (record,) = mirror.catalog().records
    assert record.repos.keys() == {"anaconda/cloud/chan", "anaconda/miniconda"}
    assert state(anaconda) == before
    installers = [*anaconda.rglob("*.sh")]
    for path in [*packages(anaconda), *installers]:
        assert (mirror.tree("anaconda") / path.relative_to(anaconda)).samefile(path)
    assert upstream.paths() == []
    mirror.sync("anaconda/cloud/chan", "anaconda/miniconda")
    sent = [request.path for request in upstream.requests if request.method == "GET" and request.sent]
    assert sent == [path for path in sent if "repodata" in path or path.endswith("/")]


def test_a_repo_that_is_locked_and_one_with_a_missing_file(mirror: Mirror, anaconda: Path) -> None:
    """The other is taken; that one is locked counts for more than that a file is not taken."""
    next((anaconda / "cloud/chan").rglob("lib-1.0-0.conda")).unlink()
    with store_at(mirror.store_path) as store, store.lock_repo("anaconda/miniconda", None):
        done = mirror.run("adopt", str(anaconda), "--repo", "anaconda", "--json", status=4).json["trees"][0]
    assert len(done["withheld"]) == 1
    assert done["repos"]["anaconda/cloud/chan"]["files"] == 2


def test_dated_trees_of_several_repos(mirror: Mirror, anaconda: Path, tmp_path: Path) -> None:
    """A date is one snapshot of all that there is of it; what has a snapshot of that date is passed over."""
    mirror.sync("anaconda/miniconda")
    for day in ("2024-01-01", "2024-01-03"):
        shutil.copytree(anaconda, tmp_path / "dated" / day)
    shutil.copytree(anaconda / "cloud", tmp_path / "dated/2024-01-02/cloud")
    mirror.run("adopt", str(tmp_path / "dated"), "--repo", "anaconda")
    before = mirror.snapshots()
    assert before[:-1] == ["20240101T235959Z", "20240102T235959Z", "20240103T235959Z"]
    assert mirror.record("2024-01-03").repos.keys() == {"anaconda/cloud/chan", "anaconda/miniconda"}
    assert mirror.record("2024-01-02", "anaconda/cloud/chan").id == before[1]
    assert mirror.record("2024-01-02", "anaconda/miniconda").id == before[0]
    again = mirror.run("adopt", str(tmp_path / "dated"), "--repo", "anaconda")
    assert again.line("2024-01-01", "anaconda/miniconda", "already")
    assert mirror.snapshots() == before


def test_dates_that_fit_into_no_order_are_refused_before_the_first(mirror: Mirror, anaconda: Path, tmp_path: Path) -> None:
    """One repo has only newer snapshots, which can only be gone back from; the other only older ones."""
    mirror.sync("anaconda/miniconda")
    mirror.run("adopt", str(anaconda / "cloud/chan"), "--repo", "anaconda/cloud/chan", "--seal-as", "2020-01-01")
    before = mirror.snapshots()
    for day in ("2024-01-01", "2024-01-02"):
        shutil.copytree(anaconda, tmp_path / "dated" / day)
    assert "one by one" in mirror.run("adopt", str(tmp_path / "dated"), "--repo", "anaconda", status=2).err
    assert mirror.snapshots() == before


def test_a_folder_with_nothing_of_any_repo(mirror: Mirror, anaconda: Path, tmp_path: Path) -> None:
    (tmp_path / "empty/2024-01-01/cloud/other/noarch").mkdir(parents=True)
    err = mirror.run("adopt", str(tmp_path / "empty"), "--repo", "anaconda", status=2).err
    assert "holds no tree of a repo at or below anaconda (these would be its folders cloud/chan, cloud/late, miniconda)" in err
    assert "holds none of the files" in mirror.run("adopt", str(anaconda), "--repo", "anaconda/miniconda", status=2).err
    assert mirror.snapshots() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--repo", "chan"], "is no folder"),
        (["tree", "--repo", "none"], "configured: chan"),
        (["empty", "--repo", "chan"], "holds none of the subdirs"),
        (["dated", "--repo", "chan", "--seal-as", "2024-01-01"], "named by their dates"),
        (["tree", "--repo", "chan", "--seal-as", "soon"], "write an id"),
    ],
)
def test_what_can_not_be_adopted(arguments: list[str], message: str, mirror: Mirror, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(tree, tmp_path / "dated/2024-01-01")
    result = mirror.run("adopt", str(tmp_path / arguments[0]), *arguments[1:], status=2)
    assert message in result.err
    assert mirror.snapshots() == []


@pytest.mark.parametrize(
    ("change", "says"), [(lambda path: path.write_bytes(b"other bytes"), "was changed"), (Path.unlink, "No such file")]
)
def test_a_file_that_changes_or_goes_while_it_is_read_is_left(
    change: Callable[[Path], object], says: str, tmp_path: Path, tree: Path
) -> None:
    """Between its hash and its second name it is another: the blob's name never leads to bytes that were not verified."""
    path = tree / "noarch/lib-1.0-0.conda"
    sums = Sums()
    sums.update(path.read_bytes())
    original = Original(str(path), sums.sha256, sums.blake3, sums.size, None, identity(path.stat()))
    change(path)
    with store_at(tmp_path / "store") as store:
        (problem,) = store.adopt([original])
        assert says in str(problem)
        assert store.blobs.size(sums.sha256) is None
        assert [entry.name for entry in store.layout.incoming.iterdir()] == ["CACHEDIR.TAG"]
    assert not path.exists() or path.stat().st_nlink == 1


def adopt_in_process(root: Path, repo: CondaRepo, tree: Path) -> None:
    with store_at(root) as store:
        settings = Config(repo=[repo], download=Download(min_free="0%"))
        _, status = _adopt(Tree(tree, {repo.path: tree}, None), settings, store, dry_run=False)
        assert status == 0


@pytest.mark.proof
def test_dying_at_any_call_that_changes_the_disk(tmp_path: Path, tree: Path) -> None:
    """The tree is as it was, the store is sound, and the next run completes it."""
    base, before = tmp_path / "base", state(tree)
    repo = CondaRepo(path="chan", upstream="http://127.0.0.1/chan", subdirs=["linux-64"])
    with store_at(base):
        pass
    total = _calls(tmp_path, base, repo, lambda root, repo: adopt_in_process(root, repo, tree), dies_at=None)
    assert total > 20
    step = 1 if os.environ.get("SNAPMIRROR_LONG") else max(1, total // 25)
    for number in range(0, total, step):
        root = tmp_path / f"crash-{number}"
        shutil.copytree(base, root)
        _calls(tmp_path, root, repo, lambda root, repo: adopt_in_process(root, repo, tree), dies_at=number)
        assert state(tree) == before
        assert [found for found in problems(root) if not found.index] == [], number
        in_child(lambda root=root: adopt_in_process(root, repo, tree))  # type: ignore[misc]
        assert problems(root) == [], number
        fs.remove_tree(root)
    assert state(tree) == before


def test_a_file_with_as_many_names_as_its_file_system_allows_is_copied(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of hard links of many days has such files (ext4: 65,000 names); one that can't be linked at all is withheld."""
    real, full, broken = fs.link, tree / "noarch/lib-1.0-0.conda", tree / "noarch/data-1.0-0.tar.bz2"

    def link(source: Path | str, target: Path | str) -> None:
        for path, number in ((full, errno.EMLINK), (broken, errno.EIO)):
            if str(source) == str(path):
                raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(fs, "link", link)
    repo = CondaRepo(path="chan", upstream="http://127.0.0.1/chan", subdirs=["linux-64"])
    with store_at(tmp_path / "store") as store:
        settings = Config(repo=[repo], download=Download(min_free="0%"))
        found, status = _adopt(Tree(tree, {repo.path: tree}, None), settings, store, dry_run=False)
        assert (status, found.linked, found.copied) == (3, 1, 1)
        assert [(Path(path).name, "Input/output error" in reason) for path, reason in found.withheld.items()] == [
            ("data-1.0-0.tar.bz2", True)
        ]


@pytest.mark.proof
def test_kill_9_and_go_on(mirror: Mirror, tree: Path, channel: Channel) -> None:
    channel.add(*(make_package(f"big{number}", payload=random.randbytes(400_000)) for number in range(60)))
    channel.publish()
    shutil.copytree(channel.root, tree, dirs_exist_ok=True)
    before = state(tree)
    for _ in range(4):
        process = mirror.start("adopt", str(tree), "--repo", "chan")
        time.sleep(random.uniform(0.3, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert state(tree) == before
    mirror.run("adopt", str(tree), "--repo", "chan")
    assert problems(mirror.store_path) == []
    assert state(tree) == before
    assert len(mirror.published()) > 60
