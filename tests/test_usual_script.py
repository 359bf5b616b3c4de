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

_FILES = (".conda", ".tar.bz2", ".sh")

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

    taken = sorted(path for path in tree.rglob("*") if path.name.endswith(_FILES))
    inodes = [path.stat().st_ino for path in taken]
    assert len(set(inodes)) == 5, "three packages and two installers"
    theirs = Mirror(tmp_path / "theirs")
    theirs.add("anaconda/chan", f"{upstream.url}/chan", subdirs=["linux-64"])
    theirs.add("anaconda/miniconda", f"{upstream.url}/miniconda/", kind="files")
    theirs.run("adopt", str(tree), "--repo", "anaconda")
    [adopted] = theirs.snapshots()
    assert [path.stat().st_ino for path in taken] == inodes
    assert set(inodes) <= _inodes(theirs.store_path)
    before = len(upstream.requests)
    theirs.sync()
    fetched = [request.path for request in upstream.requests[before:] if request.method == "GET"]
    assert {path.split("/")[1] for path in fetched} == {"chan", "miniconda"}, "both were read"
    assert not [path for path in fetched if path.endswith(_FILES)]
    assert theirs.run("diff", adopted, "current").out == ""


def _inodes(store: Path) -> set[int]:
    return {os.stat(path).st_ino for path in (store / "blobs").rglob("*") if path.is_file()}
