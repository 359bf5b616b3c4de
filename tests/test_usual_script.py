"""The script that most Anaconda mirrors run, as a client of ours; then what it has mirrored is taken over."""

import os
import shutil
from pathlib import Path

import pytest
from channels import Channel
from mirror import Mirror
from serving import serving
from test_files import WHEN, table
from upstream import Body, Upstream
from usual_script import Mirror as UsualScript

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing")


def test_it_mirrors_channel_and_installers_from_us_twice_and_its_tree_is_adopted(
    tmp_path: Path, mirror: Mirror, channel: Channel, upstream: Upstream
) -> None:
    installers = upstream.root / "miniconda"
    installers.mkdir()
    for name in ("Miniconda3-latest-Linux-x86_64.sh", "Miniconda3-py312_25.5.1-0-Linux-x86_64.sh"):
        (installers / name).write_bytes(name.encode() * 1000)
        os.utime(installers / name, (WHEN, WHEN))
    upstream.fault("/miniconda/", Body(table(installers)))
    mirror.repos[0] |= {"bz2": True, "current_repodata": True}
    mirror.add("miniconda", f"{upstream.url}/miniconda/", kind="files")
    mirror.sync()
    tree = tmp_path / "tree"
    tree.mkdir()
    with serving(mirror.store_path) as url:
        for expected in (5, 0):
            run = UsualScript(tree)
            run.channel(f"{url}/current/chan", "chan", ["linux-64", "noarch"])
            run.installers(f"{url}/current/miniconda", "miniconda")
            assert (run.files, run.failed) == (expected, [])
    assert {path.stat().st_mtime for path in (tree / "miniconda").iterdir()} == {WHEN}, "curl --remote-time"

    packages = sorted(path for path in tree.rglob("*") if path.name.endswith((".conda", ".tar.bz2")))
    inodes = [path.stat().st_ino for path in packages]
    theirs = Mirror(tmp_path / "theirs")
    theirs.add("chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    theirs.run("adopt", str(tree / "chan"), "--repo", "chan")
    assert [path.stat().st_ino for path in packages] == inodes
    assert sorted(inode for inode in inodes if inode in _inodes(theirs.store_path)) == sorted(inodes)
    before = len(upstream.requests)
    theirs.sync()
    assert not [request.path for request in upstream.requests[before:] if request.path.endswith((".conda", ".tar.bz2"))]


def _inodes(store: Path) -> set[int]:
    return {os.stat(path).st_ino for path in (store / "blobs").rglob("*") if path.is_file()}
