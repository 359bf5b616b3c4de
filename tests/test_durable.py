"""What a snapshot names is on the disk before the snapshot has its name, as the calls of real processes show."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels import Channel, make_package
from mirror import Mirror
from upstream import Upstream
from wheels import wheel

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

WRITES = ("write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range")
TRACED = (*WRITES, "fsync", "fdatasync", "syncfs", "rename", "link", "linkat", "symlink", "unlink")
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
#: an open file, or a name in an open folder, or a path
_PATH = re.compile(r'<(/[^>]*)>(?:, "([^"/][^"]*)")?|"(/[^"]*)"')
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>")


class Disk:
    """What a power cut could take away or bring back at any moment of a trace: what nothing has synced yet."""

    def __init__(self) -> None:
        self.bytes: set[Path] = set()
        self.names: set[Path] = set()
        #: names that were taken away
        self.gone: set[Path] = set()

    def apply(self, call: str, paths: list[Path]) -> None:
        """A call that has ended, with the files that it named."""
        if call in WRITES:
            self.bytes.add(paths[0])
        elif call in ("fsync", "fdatasync"):
            self.bytes.discard(paths[0])
            self.names = {name for name in self.names if name.parent != paths[0]}
            self.gone = {name for name in self.gone if name.parent != paths[0]}
        elif call == "syncfs":
            self.bytes.clear()
            self.names.clear()
            self.gone.clear()
        elif call in ("rename", "link", "linkat", "symlink"):
            if call == "rename":
                self.names.discard(paths[0])
                self.gone.add(paths[0])
            if paths[0] in self.bytes:
                self.bytes.add(paths[-1])
            self.names.add(paths[-1])
        elif call == "unlink":
            self.gone.add(paths[0])

    def below(self, folder: Path) -> list[Path]:
        """Of what could be lost, that below a folder."""
        return sorted(path for path in self.bytes | self.names if path.is_relative_to(folder))


def traced(mirror: Mirror, *arguments: str, status: int = 0) -> Iterator[tuple[str, list[Path]]]:
    """Run the command line to this status; its calls in the order in which they ended, and the files that each named."""
    mirror.write()
    log = mirror.root / "trace"
    command = [sys.executable, "-m", "snapmirror", *arguments, "-c", str(mirror.config)]
    strace = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", f"trace={','.join(TRACED)}"]
    done = subprocess.run([*strace, *command], capture_output=True, text=True, timeout=120)
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == status, done.stderr
    begun: dict[tuple[str, str], str] = {}
    for line in log.read_text().splitlines():
        if resumed := _RESUMED.match(line):
            process, call = resumed.groups()
            text = begun.pop((process, call))
        elif found := _CALL.match(line):
            process, call, text = found.groups()
            if text.endswith("<unfinished ...>"):
                begun[process, call] = text
                continue
        else:
            continue
        paths = [Path(one or whole, name) for one, name, whole in _PATH.findall(text)]
        if "= -1" not in line and paths:
            yield call, paths


@pytest.mark.parametrize("count", [3, 40], ids=["few files", "many files"])
def test_all_that_a_snapshot_names_is_durable_before_the_snapshot_has_its_name(
    tmp_path: Path, upstream: Upstream, count: int
) -> None:
    channel = Channel(upstream.root / "chan")
    channel.add(*(make_package(f"tool{number}") for number in range(count)))
    channel.publish()
    mirror = Mirror(tmp_path / "mirror")
    mirror.add("chan", f"{upstream.url}/chan")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "six-1.0-py3-none-any.whl").write_bytes(wheel("six", "1.0")[1])
    mirror.repos.append({"kind": "pypi", "path": "own", "packages": str(tmp_path / "wheels")})
    mirror.settings["publish"] = {"trees": ["chan", "own"]}
    store, disk, sealed = mirror.store_path, Disk(), False
    for call, paths in traced(mirror, "sync"):
        if call == "rename" and paths[-1].parent == store / "snapshots":
            assert disk.below(store / "blobs") == disk.below(store / "published" / ".trees") == []
            assert list((store / "published" / ".trees").glob("*/simple/six/index.html"))
            assert paths[0] not in disk.bytes
            sealed = True
        disk.apply(call, paths)
    assert sealed
    assert disk.below(store / "snapshots") == disk.below(store / "snapmirror.json") == []


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["pin", "paper", "current"], "pins"),
        (["deny", "chan", "lib", "--reason", "broken"], "denied"),
        (["forget", "20260101T000000Z"], "snapshots"),
    ],
    ids=["pin", "deny", "forget"],
)
def test_what_a_verb_has_said_is_done_survives_a_power_cut(mirror: Mirror, arguments: list[str], folder: str) -> None:
    mirror.sync("--seal-as", "20260101T000000Z")
    mirror.sync()
    disk, renamed = Disk(), 0
    for call, paths in traced(mirror, *arguments):
        if call == "rename" and paths[-1].parent == mirror.store_path / folder:
            assert paths[0] not in disk.bytes
            renamed += 1
        disk.apply(call, paths)
    assert renamed
    assert disk.below(mirror.store_path / folder) == []


@pytest.mark.parametrize(
    ("arguments", "status", "folder"),
    [(["unpin", "paper"], 0, "pins"), (["check", "--read-data"], 5, "blobs")],
    ids=["unpin", "check"],
)
def test_what_a_verb_has_taken_away_does_not_come_back_after_a_power_cut(
    mirror: Mirror, arguments: list[str], status: int, folder: str
) -> None:
    """A damaged file, say, which a snapshot lists: it would be served."""
    mirror.sync()
    mirror.run("pin", "paper", "current")
    if status:
        damaged = mirror.tree("chan/noarch") / "lib-1.0-0.conda"
        damaged.chmod(0o644)
        damaged.write_bytes(b"damaged")
    disk, taken = Disk(), set[Path]()
    for call, paths in traced(mirror, *arguments, status=status):
        disk.apply(call, paths)
        taken |= {path for path in disk.gone if path.is_relative_to(mirror.store_path / folder)}
    assert taken
    assert not taken & disk.gone


def test_gc_takes_files_only_once_the_index_no_longer_has_them(mirror: Mirror, channel: Channel) -> None:
    """borg #9748: an index that still named deleted objects made backups of nothing."""
    mirror.sync("--seal-as", "20260101T000000Z")
    channel.remove("lib-1.0-0.conda")
    channel.publish()
    mirror.sync()
    mirror.run("forget", "20260101T000000Z")
    synced, unlinked = False, 0
    for call, paths in traced(mirror, "gc", "--grace", "0s"):
        synced = synced or (call == "fdatasync" and "index.lmdb" in str(paths[0]))
        if call == "unlink" and paths[0].is_relative_to(mirror.store_path / "blobs"):
            assert synced
            unlinked += 1
    assert unlinked
