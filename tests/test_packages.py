"""A folder of built packages becomes a channel: indexed by py-rattler, once each, and patched."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from channels import Package, make_package
from mirror import Mirror
from pypi_index import Remembered

from snapmirror.conda import Conda, CondaRepo
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

pytest.importorskip("rattler", reason="py-rattler is not installed")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    return folder


@pytest.fixture
def mirror(tmp_path: Path, built: Path) -> Mirror:
    made = Mirror(tmp_path / "mirror")
    made.repos.append({"kind": "conda", "path": "own", "packages": str(built), "subdirs": ["linux-64"]})
    return made


def put(folder: Path, *packages: Package, flat: bool = False) -> None:
    for package in packages:
        place = folder if flat else folder / package.record["subdir"]
        place.mkdir(exist_ok=True)
        (place / package.filename).write_bytes(package.data)


def records(mirror: Mirror, directory: str) -> dict[str, Any]:
    found = mirror.repodata(directory)
    return {**found["packages"], **found["packages.conda"]}


TOOL = make_package("tool", subdir="linux-64", depends=["lib >=1"], license="MIT", unheard_of={"a": 1})
LIB = make_package("lib")
OLD = make_package("old", ext=".tar.bz2")


@pytest.mark.parametrize("flat", [False, True], ids=["in subdirs", "flat"])
def test_built_packages_become_a_channel(flat: bool, mirror: Mirror, built: Path) -> None:
    """What index.json says is kept to the letter, with size, md5 and sha256."""
    put(built, TOOL, LIB, OLD, flat=flat)
    mirror.sync()
    assert records(mirror, "own/linux-64") == {TOOL.filename: TOOL.record}
    assert records(mirror, "own/noarch") == {LIB.filename: LIB.record, OLD.filename: OLD.record}
    mirror.published()


def test_what_is_unchanged_is_not_opened_again(mirror: Mirror, built: Path) -> None:
    """Even garbage goes unnoticed where size and time are as they were; a new time is enough to be looked at."""
    put(built, TOOL, LIB, OLD)
    mirror.sync()
    before = mirror.directories()
    for path in (path for path in built.glob("*/*") if path.is_file()):
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    mirror.sync()
    assert mirror.directories() == before
    os.utime(built / "noarch" / LIB.filename, (1, 1))
    assert mirror.sync(status=3).line(LIB.filename, "can't be read")
    assert set(records(mirror, "own/noarch")) == {OLD.filename}


def test_a_new_build_under_an_old_name(mirror: Mirror, built: Path) -> None:
    put(built, LIB)
    mirror.sync()
    other = make_package("lib", payload=b"#!/bin/sh\necho other\n")
    put(built, other)
    os.utime(built / "noarch" / LIB.filename, (2_000_000_000, 2_000_000_000))
    mirror.sync()
    assert records(mirror, "own/noarch")[LIB.filename]["sha256"] == other.record["sha256"]
    assert len(mirror.snapshots()) == 2
    first = mirror.repodata("own/noarch", mirror.snapshots()[0])
    assert first["packages.conda"][LIB.filename]["sha256"] == LIB.record["sha256"]


@pytest.mark.parametrize("package", [TOOL, make_package("older", subdir="linux-64", ext=".tar.bz2")], ids=["conda", "tar.bz2"])
def test_a_package_on_its_way_waits_for_the_next_sync(package: Package, mirror: Mirror, built: Path) -> None:
    put(built, LIB, package)
    path = built / "linux-64" / package.filename
    for missing in (1, 20, len(package.data) // 2, len(package.data)):
        path.write_bytes(package.data[: len(package.data) - missing])
        (built / "linux-64" / f".{package.filename}.Xa3.conda").write_bytes(b"rsync")
        mirror.sync("--strict", status=3)
        assert package.filename in mirror.withheld("own/linux-64")
        assert records(mirror, "own/linux-64") == {}
        assert set(records(mirror, "own/noarch")) == {LIB.filename}
    path.write_bytes(package.data)
    mirror.sync("--strict")
    assert set(records(mirror, "own/linux-64")) == {package.filename}


def test_a_package_that_is_deleted_while_its_folder_is_read(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is one less; the others are there."""
    put(built, LIB, OLD, flat=True)
    real = os.scandir

    def scandir(folder: Path) -> Any:
        entries = list(real(folder))
        (built / OLD.filename).unlink()
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    with Http(Download(), print, Remembered()) as http:
        found = Conda().read(CondaRepo(path="own", packages=str(built)), "noarch", http, lambda _: None, ())
    assert found
    assert (set(found.sources), found.invalid) == ({"lib"}, {})


def test_packages_that_lie_or_are_none(mirror: Mirror, built: Path) -> None:
    put(built, TOOL, LIB, make_package("odd", license={"a": 1}, noarch=7))
    shutil.copy(built / "noarch" / LIB.filename, built / "linux-64")
    (built / "noarch/page-1.0-0.conda").write_bytes(b"<html>not found</html>")
    (built / "noarch/notes.txt").write_text("not a package")
    result = mirror.sync(status=3)
    assert result.line("own/linux-64/lib-1.0-0.conda", "is for noarch")
    assert result.line("own/noarch/page-1.0-0.conda", "can't be read")
    assert result.line("own/noarch/odd-1.0-0.conda", "can't be read")
    assert set(records(mirror, "own/linux-64")) == {TOOL.filename}


def test_patches(mirror: Mirror, built: Path) -> None:
    """For all subdirs from the folder, then for one from its own; what is said of .tar.bz2 holds for its twin."""
    twin = make_package("twin", ext=".tar.bz2")
    put(built, TOOL, LIB, OLD, twin, make_package("twin"), make_package("bad"))
    everywhere = {
        "patch_instructions_version": 1,
        "packages": {
            twin.filename: {"license": "BSD"},
            "nothing-1-0.tar.bz2": {"license": "x"},
            OLD.filename: {"depends": 5},  # no list, and revoked below all the same
        },
        "packages.conda": {TOOL.filename: {"depends": ["lib >=1,<2"], "license": None}},
        "remove": ["bad-1.0-0.tar.bz2"],
    }
    (built / "patch_instructions.json").write_text(json.dumps(everywhere))
    noarch = {"patch_instructions_version": 1, "revoke": [OLD.filename]}
    (built / "noarch/patch_instructions.json").write_text(json.dumps(noarch))
    mirror.sync()
    (tool,) = records(mirror, "own/linux-64").values()
    assert (tool["depends"], "license" in tool) == (["lib >=1,<2"], False)
    found = records(mirror, "own/noarch")
    assert [record.get("license") for name, record in sorted(found.items()) if name.startswith("twin")] == ["BSD", "BSD"]
    assert "bad-1.0-0.conda" not in found
    assert mirror.repodata("own/noarch")["removed"] == ["bad-1.0-0.conda"]
    assert found[OLD.filename]["revoked"] is True
    assert found[OLD.filename]["depends"] == ["package_has_been_revoked"]
    mirror.published()
    (built / "noarch/patch_instructions.json").write_text('{"patch_instructions_version": 7}')
    assert mirror.sync(status=3).line("own/noarch", "version 7", "keeps its old state")


@pytest.mark.parametrize(
    "keys",
    [{"depends": ['lib[when="__unix"]']}, {"constrains": ["lib[flags=[cuda]]"]}, {"schema_version": 3}],
    ids=["condition", "flags", "stated"],
)
def test_what_older_clients_can_not_read_is_where_they_do_not_look(keys: dict[str, Any], mirror: Mirror, built: Path) -> None:
    """CEP 43, CEP 48: of one such record they would read no other."""
    new = [make_package("new", ext=".tar.bz2", **keys), make_package("new", **keys)]
    put(built, LIB, *new, make_package("old", depends=["lib[version='>=1']"]))
    patch = {"patch_instructions_version": 1, "packages": {new[0].filename: {"license": "BSD"}}}
    (built / "patch_instructions.json").write_text(json.dumps(patch))
    mirror.sync()
    found = mirror.repodata("own/noarch")
    assert [*found["packages"], *found["packages.conda"]] == [LIB.filename, "old-1.0-0.conda"]
    expected = [{new[0].stem: {**one.record, "license": "BSD"}} for one in new]
    assert found["v3"] == dict(zip(("tar.bz2", "conda"), expected, strict=True))
    assert found["info"]["repodata_revisions"] == {"v3": {"n_packages": 2}}
    mirror.published()


def test_files_can_be_linked(mirror: Mirror, built: Path) -> None:
    put(built, LIB)
    mirror.repos[0]["link"] = True
    mirror.sync()
    assert (mirror.tree("own/noarch") / LIB.filename).samefile(built / "noarch" / LIB.filename)


def test_a_folder_that_is_gone_keeps_the_old_state(mirror: Mirror, built: Path) -> None:
    put(built, LIB)
    mirror.sync()
    before = mirror.published()
    built.rename(built.with_name("unmounted"))
    assert "is no folder" in mirror.sync(status=1).err
    assert mirror.published() == before


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"upstream": "http://127.0.0.1:9/c", "packages": "built"}, "both upstream and packages"),
        ({}, "neither upstream nor packages"),
        ({"packages": "built", "download": "redirect"}, "all kept"),
        ({"packages": "built", "channels": ["a"]}, "one channel"),
    ],
)
def test_configurations_that_can_not_be(keys: dict[str, Any], message: str, mirror: Mirror) -> None:
    mirror.repos[0] = {"kind": "conda", "path": "own", **keys}
    error = mirror.sync(status=2).err
    assert message in error
    assert "number 1" in error


def test_the_folder_is_relative_to_the_configuration(mirror: Mirror, built: Path) -> None:
    put(built, LIB)
    mirror.repos[0]["packages"] = "../built"
    mirror.sync()
    assert set(records(mirror, "own/noarch")) == {LIB.filename}
