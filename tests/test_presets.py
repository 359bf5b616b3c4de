"""The configurations that `init` writes are usable as they are, and with every comment of a table taken away."""

import re
from pathlib import Path

import pytest
from mirror import Mirror

from snapmirror.cli import config
from snapmirror.cli.config import AnyRepo
from snapmirror.cli.presets import PRESETS
from snapmirror.conda import CondaRepo
from snapmirror.pypi import PypiRepo

NAMES = [name for name in PRESETS if name]


def loaded(tmp_path: Path, name: str, *, bare: bool) -> list[AnyRepo]:
    """The repos of a preset; bare: with everything on that a comment turns off."""
    mirror = Mirror(tmp_path / "runner")
    done = mirror.run_bare("init", str(tmp_path / "made"), "--preset", name)
    assert done.status == 0, done.err
    path = tmp_path / "made" / "snapmirror.toml"
    text = path.read_text(encoding="utf-8")
    if bare:
        path.write_text(re.sub(r'^( *)# (?=\w+ = |\[|"|\{)', r"\1", text, flags=re.MULTILINE), encoding="utf-8")
    return config.load(path).repo


def is_small(repo: AnyRepo) -> bool:
    """Whether a sync of a repo does not copy the whole of a big upstream."""
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


def test_an_unknown_preset(tmp_path: Path) -> None:
    done = Mirror(tmp_path / "runner").run_bare("init", str(tmp_path / "made"), "--preset", "debian")
    assert (done.status, not (tmp_path / "made").exists()) == (2, True)
    assert "write one of anaconda, conda-forge" in done.err
