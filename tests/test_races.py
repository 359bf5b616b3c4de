"""Everything at once on one store: a few rounds of `make races` and `make soak`, and the faults that these must find."""

from pathlib import Path

import pytest
from races import REPOS, Storm, play
from seams import BROKEN, Seams
from soak import Soak, raise_limit

pytestmark = pytest.mark.proof


def test_rounds_of_everything_at_once_answer_as_the_model_says(tmp_path: Path) -> None:
    storm = play(tmp_path, seed=1, seconds=60, rounds=2)
    assert storm.wrong == []
    assert storm.counts["rounds"] >= 1
    assert storm.counts["answers 200"]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param({"stop_by": "Z.json"}, id="commit of the snapshot"),
        pytest.param({"stop_by": "commit"}, id="commit of the index", marks=pytest.mark.long),
        pytest.param({"stop_at": 40}, id="middle", marks=pytest.mark.long),
    ],
)
def test_a_sync_that_stops_for_longer_than_the_grace_publishes_only_what_is_there(
    place: dict[str, object], tmp_path: Path
) -> None:
    storm = Storm(tmp_path, seed=1)
    with storm.begun():
        for repo in REPOS:
            storm.upstreams.advance(repo)
        storm.stopped(["a", "d"], Seams(share=0, pause=2.5, **place))  # type: ignore[arg-type]
        storm.judge_all()
        assert storm.wrong == []
        assert storm.counts["stops"] == 1
        assert storm.counts["sync 0"] + storm.counts["sync 3"] == 2


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broken", BROKEN)
def test_the_rounds_notice_what_is_broken(broken: str, tmp_path: Path) -> None:
    assert play(tmp_path, seed=3, seconds=600, rounds=60, broken=broken).wrong


@pytest.mark.long
def test_clients_that_keep_their_connections_get_what_the_model_says(tmp_path: Path) -> None:
    if not raise_limit(300):
        pytest.skip("this machine allows no 300 open files a process (ulimit -Hn)")
    soak = Soak(tmp_path, seed=1, connections=100)
    soak.run(4, 1, tell=False)
    assert soak.judge() == []
    assert soak.counts["GET 206"]
