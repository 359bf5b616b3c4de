"""Partial mirrors: what a selection keeps is right, complete, and all that any document lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import selecting
from inprocess import records_of, repodata, store_at, sync
from upstream import Upstream

from snapmirror.conda import CondaRepo
from snapmirror.conda.settings import Select
from snapmirror.store.store import Store
from snapmirror.sync.report import Report

SUBSET = Path(__file__).resolve().parents[2] / "shared" / "data" / "conda-forge-subset"
SUBDIRS = ("linux-64", "noarch", "osx-arm64")

CONFIGURATIONS: list[dict[str, Any]] = [
    {"include": ["python >=3.9"]},
    {"include": ["python >=3.9"], "with_dependencies": True},
    {"include": ["python >=3.9"], "with_dependencies": True, "newest": 1},
    {"include": ["python 3.9.*", "curl"], "with_dependencies": True, "newest": 2, "newest_builds": 1},
    {"include": ["pip", "setuptools >=50"], "exclude": ["python <3.8", "certifi <2021"], "with_dependencies": True},
    {"include": ["lib*"], "exclude": ["lib*-ng"], "newest_builds": 2},
    {"exclude": ["setuptools", "*-ng", "python * *_cpython"]},
    {"include": ["openssl 1.1.*", "sqlite >=3.30,<3.36"], "with_dependencies": True, "newest": 1},
    {"include": ["wheel", "tk * h*"], "with_dependencies": True, "newest_builds": 1},
    {"newest": 1, "with_dependencies": True},
]


@pytest.fixture(scope="module")
def subset() -> Iterator[Upstream]:
    if not SUBSET.exists():
        pytest.skip("the recorded channels (../shared) are not beside the project")
    with Upstream(SUBSET) as upstream:
        yield upstream


def select(store: Store, upstream: str, **keys: Any) -> Report:
    repo = CondaRepo(path="c", upstream=upstream, subdirs=["linux-64", "osx-arm64"], download="redirect", select=Select(**keys))
    return sync(store, repo)


def listed(store: Store, subdir: str, path: str = "c") -> set[str]:
    return set(records_of(repodata(store, store.catalog().records[-1], path, subdir)))


@pytest.mark.real_data
@pytest.mark.parametrize("keys", CONFIGURATIONS, ids=repr)
def test_what_is_kept_is_what_the_definition_says(tmp_path: Path, subset: Upstream, keys: dict[str, Any]) -> None:
    channel = {subdir: records_of(json.loads((SUBSET / subdir / "repodata.json").read_bytes())) for subdir in SUBDIRS}
    expected = selecting.kept(channel, ["linux-64", "osx-arm64"], **keys)
    with store_at(tmp_path / "store") as store:
        report = select(store, subset.url, **keys)
        assert not report.repos["c"].problem
        assert {subdir: listed(store, subdir) for subdir in SUBDIRS} == expected
        kept, dropped = (
            sum(map(len, expected.values())),
            sum(sum(one.dropped.values()) for one in report.repos["c"].directories.values()),
        )
        assert 0 < kept < sum(map(len, channel.values()))
        assert dropped
