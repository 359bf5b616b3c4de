"""Verbs one after the other, in sequences that Hypothesis makes up: after each, every snapshot answers as the model says.

`races` does the same at once; here what fails is cut down to the shortest sequence. SNAPMIRROR_LONG=1 tries many.
"""

import contextlib
import os
import signal
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from races import ALWAYS, REPOS, SOMETIMES, Storm, records, state
from seams import Seams

pytestmark = pytest.mark.proof

REPO = st.sampled_from(list(REPOS))
#: places among the kept snapshots, from the newest on
PLACE = st.integers(0, 5)


class Sequence(RuleBasedStateMachine):
    """One store, its upstreams, and a server of one worker."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="sequence-"))
        self._storm = Storm(Path(folder), seed=0)
        self._stack.enter_context(self._storm.begun())
        self._past = date(2020, 12, 31)

    def teardown(self) -> None:
        self._stack.close()

    def _run(self, verb: str, *arguments: str, also: tuple[int, ...] = ()) -> None:
        self._storm.run(verb, list(arguments), Seams(share=0), *also)

    def _kept(self, place: int) -> str:
        kept = [id_ for id_, one in self._storm.known.items() if not one.forgotten]
        return sorted(kept)[-1 - place % len(kept)]

    @rule(repos=st.sets(REPO, min_size=1))
    def sync(self, repos: set[str]) -> None:
        """Of some repos; the others stay as they are."""
        self._storm.sync(sorted(repos), Seams(share=0))

    @rule(repo=REPO, times=st.integers(1, 4))
    def change(self, repo: str, times: int) -> None:
        """Upstream moves on."""
        for _ in range(times):
            self._storm.upstreams.advance(repo)

    @rule(repo=REPO)
    def seal_as(self, repo: str) -> None:
        """A snapshot before all others."""
        self._past -= timedelta(days=1)
        self._storm.sync([repo], Seams(share=0), "--seal-as", f"{self._past:%Y%m%d}T000000Z")

    @rule(place=PLACE)
    def forget(self, place: int) -> None:
        """What is current or pinned is refused."""
        self._storm.named.add(self._kept(place))
        self._run("forget", self._kept(place), also=(2,))

    @rule(grace=st.sampled_from(["0s", "24h"]))
    def gc(self, grace: str) -> None:
        """It may take all that no snapshot needs."""
        self._run("gc", "--grace", grace)

    @rule(name=st.sampled_from([ALWAYS, SOMETIMES]), place=PLACE)
    def pin(self, name: str, place: int) -> None:
        """Or move a pin."""
        snapshot = self._kept(place)
        self._run("pin", name, snapshot, "--move")
        self._storm.server_looks()
        [repo, *_] = self._storm.known[snapshot].states
        assert self._storm.get(f"/{name}/{repo}/noarch/repodata.json")[1] == snapshot

    @rule()
    def unpin(self) -> None:
        """If it is there."""
        self._run("unpin", SOMETIMES, also=(2,))

    @rule(repo=REPO, place=PLACE)
    def deny_and_allow(self, repo: str, place: int) -> None:
        """What is denied is handed out at no date; what is allowed again is as it was."""
        snapshot = self._kept(place)
        number = self._storm.known[snapshot].states.get(repo)
        if number is None:
            return
        name = next(iter(records(repo, number)))
        path = f"/{snapshot}/{repo}/noarch/{name}"
        self._run("deny", repo, name, "--reason", "a test")
        self._storm.server_looks()
        assert self._storm.get(path)[0] == 403
        self._run("allow", repo, name)
        self._storm.server_looks()
        status, _, body = self._storm.get(path)
        assert (status, body) == (200, state(repo, number)[name].data)

    @rule(repo=st.sampled_from("ab"))
    def adopt(self, repo: str) -> None:
        """The folder that upstream serves."""
        self._storm.adopt(repo, Seams(share=0))

    @rule()
    def reindex(self) -> None:
        """The index can be thrown away."""
        self._run("reindex")

    @rule()
    def restart(self) -> None:
        """New workers take the place of the old ones."""
        os.kill(self._storm.server, signal.SIGHUP)

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        """Nothing is amiss, nothing has changed, and what is new is what upstream had."""
        self._storm.server_looks()
        self._storm.judge_all()
        assert self._storm.wrong == []


@pytest.mark.timeout(3600)
def test_sequences_of_verbs() -> None:
    long = bool(os.environ.get("SNAPMIRROR_LONG"))
    run_state_machine_as_test(
        Sequence,
        settings=settings(
            max_examples=60 if long else 2,
            stateful_step_count=30 if long else 5,
            derandomize=not long,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
