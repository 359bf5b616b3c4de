"""What others install: what is in it, which version it is, and that pipx, uv and pip install it, into a place where nothing is.

README's first five commands are run in an environment that is empty.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import documents
import pytest
from documents import ROOT, Block, clean
from pypi_index import Index
from serving import free_port
from test_documents import README
from wheels import wheel

pytestmark = pytest.mark.slow
VERSION = "98.7.6"
MANUALS = {"man1/snapmirror.1", "man5/snapmirror.toml.5", "man7/snapmirror-store.7"}


def do(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run something that must succeed; what it prints. environment: more of it"""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what is here, committed or not, without what is ignored, on a commit with a tag."""
    folder = tmp_path_factory.mktemp("sources") / "snapmirror"
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    for name in do("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    nobody = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "-A"), (*nobody, "commit", "-q", "-m", "all"), ("tag", f"v{VERSION}")):
        do("git", *command, folder=folder)
    return folder


class Built(NamedTuple):
    """What is uploaded."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def offline(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options by which uv finds all that it takes: pip knows where that is on this machine, uv does not."""
    folder = tmp_path_factory.mktemp("wheels")
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    do(sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder, sources, *required, folder=folder)
    return ["--no-index", "--find-links", str(folder), "--python", sys.executable]


@pytest.fixture(scope="module")
def built(sources: Path, offline: list[str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both, the wheel made of the sdist."""
    folder = tmp_path_factory.mktemp("built")
    do(sys.executable, "-m", "uv", "build", "--quiet", *offline, "--out-dir", folder, folder=sources)
    assert do("git", "status", "--short", folder=sources) == ""
    return Built(folder / f"snapmirror-{VERSION}.tar.gz", folder / f"snapmirror-{VERSION}-py3-none-any.whl")


def test_what_is_in_them(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel_:
        names = set(wheel_.namelist())
        tracked = do("git", "ls-files", "snapmirror", folder=ROOT).split()
        assert set(tracked) <= names
        assert {name.partition("/data/share/man/")[2] for name in names if "/man/" in name} == MANUALS
        assert not [name for name in names if name.startswith(("tests/", "docs/", "bench/", "examples/"))]
        metadata = wheel_.read(f"snapmirror-{VERSION}.dist-info/METADATA").decode()
    assert f"\nVersion: {VERSION}\n" in metadata
    with tarfile.open(built.sdist) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "Makefile", "man/snapmirror.1", "tests/test_packaging.py"} <= inside


def looked_at(program: Path, folder: Path) -> None:
    """An installed program says its version, completes, and does something."""
    alone = {"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}

    def says(*command: str, **environment: str) -> str:
        done = subprocess.run(command, cwd=folder, env={**alone, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert says("snapmirror", "--version") == f"snapmirror {VERSION}\n"
    assert "complete -o default -F" in says("snapmirror", _SNAPMIRROR_COMPLETE="source_bash")
    says("snapmirror", "init", "mirror")
    assert says("snapmirror", "snapshots", "-c", "mirror/snapmirror.toml") == ""


def test_pipx(built: Built, tmp_path: Path) -> None:
    """It shows the manual pages, too."""
    pytest.importorskip("pipx", reason="pipx is not installed")
    places = {"PIPX_HOME": tmp_path / "pipx", "PIPX_BIN_DIR": tmp_path / "bin", "PIPX_MAN_DIR": tmp_path / "man"}
    environment = {name: str(path) for name, path in places.items()}
    do(sys.executable, "-m", "pipx", "install", "--quiet", "--backend", "pip", built.wheel, folder=tmp_path, **environment)
    looked_at(tmp_path / "bin" / "snapmirror", tmp_path)
    assert {path.relative_to(tmp_path / "man").as_posix() for path in (tmp_path / "man").rglob("*.?")} == MANUALS


def test_uv_tool_install(built: Built, offline: list[str], tmp_path: Path) -> None:
    environment = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    do(sys.executable, "-m", "uv", "tool", "install", "--quiet", *offline, built.wheel, folder=tmp_path, **environment)
    looked_at(tmp_path / "bin" / "snapmirror", tmp_path)
    assert (tmp_path / "tools" / "snapmirror" / "share" / "man" / "man1" / "snapmirror.1").exists()


def test_make_install_and_uninstall(sources: Path, tmp_path: Path) -> None:
    do("make", "install", f"PREFIX={tmp_path}/local", folder=sources)
    looked_at(tmp_path / "local" / "bin" / "snapmirror", tmp_path)
    manuals = tmp_path / "local" / "share" / "man"
    assert {path.relative_to(manuals).as_posix() for path in manuals.rglob("*.?")} == MANUALS
    do("make", "uninstall", f"PREFIX={tmp_path}/local", folder=sources)
    assert not [path for path in (tmp_path / "local").rglob("*") if not path.is_dir()]


def test_a_folder_that_is_no_clone_can_be_installed(sources: Path, offline: list[str], tmp_path: Path) -> None:
    """As in a container: what Containerfile copies is enough. The version is the one that is stated."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(sources / name, tmp_path)
    for name in ("man", "snapmirror"):
        shutil.copytree(sources / name, tmp_path / name)
    stated = {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_SNAPMIRROR": "1.2.3"}
    for environment, version in (({}, "0.0.0"), (stated, "1.2.3")):
        command = (sys.executable, "-m", "uv", "build", "--quiet", *offline, "--wheel", "--out-dir", "out")
        do(*command, folder=tmp_path, **environment)
        assert (tmp_path / "out" / f"snapmirror-{version}-py3-none-any.whl").exists()


def test_five_commands_from_nothing_to_a_client_at_a_pinned_id(sources: Path, tmp_path: Path) -> None:
    """As README has them. The first gets what it needs from where pip is configured to look; the others have nothing of this
    machine's settings, and an index of the tests in the place of PyPI, whose six has a version that no other has."""
    (block,) = (block for block in documents.blocks(README, "sh") if block.text.startswith("pip install ."))
    install, *others = [command for command, _ in documents.commands(block)]
    assert len(others) == 4
    assert README.read_text(encoding="utf-8").index(block.text) < 5000  # on the first screens

    do("python3", "-m", "venv", tmp_path / "env", folder=tmp_path)
    path = f"{tmp_path}/env/bin:/usr/bin:/bin"
    settings = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "XDG_"))}
    subprocess.run(
        ["env", "-i", *(f"{name}={value}" for name, value in settings.items()), f"PATH={path}", f"HOME={tmp_path}",
         "sh", "-c", install], cwd=sources, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "env" / "share" / "man" / "man1" / "snapmirror.1").exists()

    with Index(tmp_path / "index") as index:
        for version in ("1.16.0", VERSION):
            file, content, metadata = wheel("six", version)
            index.upload("six", file, content, metadata)
        changes = {'upstream = "PyPI"': f'upstream = "{index.url}/simple/"'}
        made = documents.Session(changes, (), {"8080": str(free_port())})
        for command in others:
            made.add(Block("sh", command))
        work = tmp_path / "work"
        work.mkdir()
        environment = {**clean(tmp_path), "PATH": path, "HOME": str(work)}
        said = made.run(work, **environment)
    assert f"Successfully installed six-{VERSION}" in said
    assert re.search(r"Looking in indexes: http://127\.0\.0\.1:\d+/\d{8}T\d{6}Z/pypi/simple/\n", said)
