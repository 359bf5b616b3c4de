"""A folder of wheels and sdists as an index of one's own."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pypi_index import Follower, Remembered, make_wheel

from snapmirror.digests import sha256
from snapmirror.errors import TransportError
from snapmirror.pypi import Pypi, PypiRepo, leaf
from snapmirror.transfer.http import Http
from snapmirror.transfer.settings import Download

WHEN = 1_793_527_200  # 2026-11-01 10:00:00 UTC


def write(path: Path, content: bytes, when: int = WHEN) -> Path:
    """A file with its date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))
    return path


def sdist(stem: str, info: str | None, ending: str = ".tar.gz") -> bytes:
    """An sdist with that PKG-INFO."""
    body = io.BytesIO()
    files = {f"{stem}/setup.py": "x"} | ({f"{stem}/PKG-INFO": info} if info is not None else {})
    if ending == ".zip":
        with zipfile.ZipFile(body, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return body.getvalue()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return body.getvalue()


def linked(stem: str) -> bytes:
    """An sdist whose PKG-INFO is a link to nothing."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"{stem}/PKG-INFO")
        member.type, member.linkname = tarfile.SYMTYPE, "nothing"
        tar.addfile(member)
    return body.getvalue()


def spoilt(wheel: bytes) -> bytes:
    """A wheel whose METADATA can't be unpacked."""
    body = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive, zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as made:
        for name in archive.namelist():
            made.writestr(name, archive.read(name))
    begin = body.getvalue().index(b"METADATA") + len(b"METADATA")
    return body.getvalue()[:begin] + b"\xff" * 9 + body.getvalue()[begin + 9 :]


def own(folder: Path) -> Follower:
    """A follower of a folder."""
    return Follower(PypiRepo(path="own", packages=str(folder)))


def reading(folder: Path) -> Any:
    """Its present state."""
    with Http(Download(), print, Remembered()) as http:
        return Pypi().read(PypiRepo(path="own", packages=str(folder)), "", http, lambda _: None, ())


def test_a_folder(tmp_path: Path) -> None:
    """Becomes pages as PyPI would have them; a file that has not changed is not opened again."""
    _, content, metadata = make_wheel("My.Lib", "1.0", ["six"])
    wheel = write(tmp_path / "My.Lib-1.0-py3-none-any.whl", content)
    info = "Metadata-Version: 2.2\nName: my_lib\nVersion: 1.1\nRequires-Python: >=3.9\n"
    write(tmp_path / "inner" / "my_lib-1.1.tar.gz", sdist("my_lib-1.1", info), WHEN + 1)
    write(tmp_path / "old-0.1.zip", sdist("old-0.1", None, ".zip"))
    write(tmp_path / "inner" / "old-0.1.zip", sdist("old-0.1", None, ".zip"))  # the same file twice is one
    write(tmp_path / ".old-0.2.zip", b"on its way")
    write(tmp_path / "notes.txt", b"not of a release")
    follower = own(tmp_path)
    leaves = follower.sync()
    assert set(leaves) == {"my-lib", "old"}
    page = leaf.decode(leaves["my-lib"])
    assert page["name"] == "my_lib"
    assert page["files"] == [
        {
            "filename": wheel.name,
            "url": wheel.as_uri(),
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "requires-python": None,
            "size": len(content),
            "upload-time": "2026-11-01T10:00:00Z",
            "yanked": False,
            "core-metadata": {"sha256": hashlib.sha256(metadata).hexdigest()},
        },
        page["files"][1],
    ]
    assert (page["files"][1]["requires-python"], page["files"][1]["core-metadata"]) == (">=3.9", False)
    assert not follower.invalid
    (draft,) = reading(tmp_path).drafts(["my-lib"])
    assert draft.bodies == {sha256(metadata): metadata}

    before = dict(leaves)
    wheel.write_bytes(b"x" * len(content))
    os.utime(wheel, (WHEN, WHEN))
    assert follower.sync() == before
    assert not follower.read
    wheel.unlink()
    assert len(leaf.decode(follower.sync()["my-lib"])["files"]) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("foo-1.0-py3-none-any.whl", b"no zip", "can't be read"),
        ("foo-1.0-py3-none-any.whl", make_wheel("bar", "1.0")[1], "has no METADATA"),
        ("foo-1.0-py3.whl", make_wheel("foo", "1.0")[1], "Invalid wheel filename"),
        ("foo.tar.gz", sdist("foo", None), "Invalid sdist filename"),
        ("foo-1.0.tar.gz", sdist("foo-1.0", "Name: foo\n")[:-20], "can't be read"),
        ("foo-1.0.tar.gz", sdist("foo-1.0", "Metadata-Version: 2.1\nName: bar\n"), "says that it is of bar"),
        ("foo-1.0.zip", b"", "can't be read"),
        ("foo-1.0.tar.gz", linked("foo-1.0"), "can't be read"),
        ("foo-1.0-py3-none-any.whl", make_wheel("foo", "1.1")[1], "says that it is version 1.1"),
        ("foo-1.0.tar.gz", sdist("foo-1.0", "Metadata-Version: 2.1\nName: foo\nVersion: 2\n"), "says that it is version 2"),
        ("foo-1.0-py3-none-any.whl", spoilt(make_wheel("foo", "1.0")[1]), "can't be read"),
    ],
)
def test_a_broken_file(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    """Is told of, and is nobody's; the others are there. Once it is whole it is taken."""
    write(tmp_path / name, content)
    write(tmp_path / "good-1.0.tar.gz", sdist("good-1.0", None))
    found = reading(tmp_path)
    assert set(found.sources) == {"good"}
    assert list(found.invalid) == [name]
    assert reason in found.invalid[name]


def test_one_name_for_two_files(tmp_path: Path) -> None:
    """Whichever we published, somebody would get the wrong one."""
    for number, folder in enumerate("abc"):
        write(tmp_path / folder / "foo-1.0.tar.gz", sdist("foo-1.0", f"Name: foo\nSummary: {number}\n"))
    found = reading(tmp_path)
    assert not found.sources
    assert found.invalid == {"foo-1.0.tar.gz": "two files in the folder have that name and another content"}


@pytest.mark.parametrize(("whole", "cut"), [("a", "b"), ("b", "a")])
def test_a_file_that_is_whole_in_one_folder_only(tmp_path: Path, whole: str, cut: str) -> None:
    """It waits for the other, whichever folder is read first."""
    file, content, _ = make_wheel("foo", "1.0")
    write(tmp_path / whole / file, content)
    write(tmp_path / cut / file, content[:-9])
    found = reading(tmp_path)
    assert not found.sources
    assert "can't be read" in found.invalid[file]
    write(tmp_path / cut / file, content)
    assert list(reading(tmp_path).sources) == ["foo"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Is not one without packages."""
    with pytest.raises(TransportError):
        reading(tmp_path / "missing")
    assert not reading(tmp_path).sources
