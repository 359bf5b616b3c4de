"""The configurations that `init` writes are usable as they are, and with every comment of a table taken away."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from channels import Channel
from clients import install
from mirror import Mirror
from pypi_index import Index
from serving import server
from upstream import Upstream
from wheels import wheel

from snapmirror.cli import config
from snapmirror.cli.ecosystems import AnyRepo
from snapmirror.cli.presets import PRESETS
from snapmirror.conda import CondaRepo
from snapmirror.pypi import PypiRepo

NAMES = [name for name in PRESETS if name]


def loaded(tmp_path: Path, name: str, *, bare: bool) -> list[AnyRepo]:
    """The repos of a preset; bare: with everything on that a comment turns off."""
    mirror = Mirror(tmp_path / "runner")
    done = mirror.run_bare("init", str(tmp_path / "made"), "--preset", name)
    assert done.status == 0, done.err
    assert ("serve -c" if name == "nexus" else "sync --dry-run -c") in done.err
    path = tmp_path / "made" / "snapmirror.toml"
    text = path.read_text(encoding="utf-8")
    if bare:
        path.write_text(re.sub(r'^( *)# (?=\w+ = |\[|"|\{)', r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    return config.load(path).repo


def is_small(repo: AnyRepo) -> bool:
    """Whether a sync of a repo does not copy the whole of a big upstream."""
    if repo.metadata == "on-request":
        return repo.download == "on-demand"
    if isinstance(repo, CondaRepo):
        return repo.download == "redirect" or bool(repo.select.include and repo.select.newest)
    if isinstance(repo, PypiRepo):
        return repo.projects != "all"
    return bool(repo.include and repo.newest)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_preset_starts_a_huge_download(tmp_path: Path, name: str, bare: bool) -> None:
    repos = loaded(tmp_path, name, bare=bare)
    assert repos
    assert all(is_small(repo) for repo in repos)


def test_the_layout_of_the_usual_mirror(tmp_path: Path) -> None:
    on = {repo.path for repo in loaded(tmp_path / "on", "anaconda", bare=False)}
    assert on == {"anaconda/cloud/conda-forge", "anaconda/cloud/bioconda"}  # Anaconda's own need a licence
    repos = {repo.path: repo for repo in loaded(tmp_path / "all", "anaconda", bare=True)}
    own = {
        *(f"anaconda/pkgs/{name}" for name in ("main", "free", "r", "msys2")),
        "anaconda/archive",
        "anaconda/miniconda",
        "pypi",
    }
    assert own < set(repos)
    assert len([path for path in repos if path.startswith("anaconda/cloud/")]) > 30
    label = repos["anaconda/cloud/numba/label/dev"]
    assert isinstance(label, CondaRepo)
    assert (label.subdirs, label.upstreams) == (["win-64"], ["https://conda.anaconda.org/numba/label/dev"])
    assert all(repo.bz2 and repo.current_repodata for repo in repos.values() if isinstance(repo, CondaRepo))


def test_clients_of_a_nexus(tmp_path: Path, upstream: Upstream, channel: Channel) -> None:
    """Their addresses are those of its repositories, with the channel's label or without; a file is fetched once for both."""
    with Index(tmp_path / "index") as index:
        index.upload("nowhere-else", *wheel("nowhere_else", "1.0"))
        Mirror(tmp_path / "runner").run_bare("init", str(tmp_path / "made"), "--preset", "nexus")
        config_ = tmp_path / "made" / "snapmirror.toml"
        text = config_.read_text(encoding="utf-8")
        for known, here in (
            ("https://conda.anaconda.org/conda-forge", f"{upstream.url}/chan"),
            ("PyPI", f"{index.url}/simple/"),
        ):
            assert f'upstream = "{known}"' in text
            text = text.replace(f'upstream = "{known}"', f'upstream = "{here}"')
        config_.write_text(text, encoding="utf-8")
        with server(config_, "--host", "127.0.0.1") as (url, _):
            options = ["--isolated", "--no-cache-dir", "--index-url", f"{url}/repository/pypi/simple"]
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", tmp_path / "pip", *options, "nowhere-else"]
            subprocess.run(pip, check=True, timeout=60)
            for number, address in enumerate(("conda-forge", "conda-forge/", "conda-forge/main")):
                folder = tmp_path / str(number)
                folder.mkdir()
                assert sorted(install(f"{url}/repository/{address}", "tool", folder)) == ["lib", "tool"]
            options = ["--spec", "tool", "-c", str(config_)]
            done = Mirror(tmp_path / "runner").run_bare("prefetch", "repository/conda-forge", *options)
            assert "2 files" in done.out, done.err
    packages = [path for path in upstream.paths() if path.endswith((".conda", ".tar.bz2"))]
    assert len(packages) == len(set(packages)) == 2


def test_an_unknown_preset(tmp_path: Path) -> None:
    done = Mirror(tmp_path / "runner").run_bare("init", str(tmp_path / "made"), "--preset", "debian")
    assert (done.status, not (tmp_path / "made").exists()) == (2, True)
    assert "write one of anaconda, conda-forge, nexus" in done.err
