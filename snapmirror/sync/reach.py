"""Whether upstreams can be reached and have what their repos need, seen from the beginning of each index."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import NamedTuple

import msgspec

from .. import addresses, clock, units
from ..ecosystem import Ecosystem, Repo
from ..errors import AbsentError, BadIndexError, SnapmirrorError
from ..findings import Finding
from ..transfer.beginnings import Beginnings, Enough
from ..transfer.local import file_path
from ..transfer.settings import Download

_SIDE_BY_SIDE = 8
#: how far our clock may be from those of upstreams: a day's snapshot is then still of that day
_OFF, _FAR_OFF = timedelta(seconds=30), timedelta(minutes=5)


class _Look(NamedTuple):
    """What came of asking one upstream of a repo."""

    problem: SnapmirrorError | None
    #: see Beginnings.ahead
    ahead: Sequence[timedelta]


def findings(
    ecosystems: Mapping[str, Ecosystem], repos: Sequence[Repo], settings: Download, now: clock.Clock
) -> Iterator[Finding]:
    """One finding for each upstream of each repo that is asked for anything, or folder of packages, and one for the clock."""
    asked = [(repo, address) for repo in repos if repo.upstream and not repo.offline for address in repo.upstreams]

    def look(one: tuple[Repo, str]) -> _Look:
        repo, address = one
        return _look(ecosystems[repo.kind], msgspec.structs.replace(repo, upstream=address), settings, now)

    yield from (_folder(repo) for repo in repos if repo.upstreams and not repo.upstream)
    ahead: list[timedelta] = []
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="reach") as pool:
        for (repo, address), found in zip(asked, pool.map(look, asked), strict=True):
            yield _reached(repo, address, found.problem)
            ahead += found.ahead
    if ahead:
        yield _clock(min(ahead, key=abs))


def _folder(repo: Repo) -> Finding:
    """A folder of packages of the operator's own."""
    check, folder = f"packages of {repo.path}", file_path(repo.upstreams[0])
    if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
        return Finding(check, "ok", f"{folder} can be read")
    return Finding(check, "fail", f"{folder} is no folder that can be read", "correct `packages`, or let this user read it")


def _look(ecosystem: Ecosystem, repo: Repo, settings: Download, now: clock.Clock) -> _Look:
    """Read the first directory that there is, as far as is needed to see that it is one."""
    problem: SnapmirrorError | None = None
    with Beginnings(settings, now) as http:
        for directory in ecosystem.directories(repo):
            try:
                ecosystem.read(repo, directory, http, lambda url: None, ())
            except AbsentError as error:
                problem = problem or error
                continue
            except Enough:
                problem = None
            except SnapmirrorError as error:
                problem = error
            else:
                problem = None
            break
    return _Look(problem, http.ahead)


def _reached(repo: Repo, address: str, problem: SnapmirrorError | None) -> Finding:
    check, where = f"upstream of {repo.path}", addresses.redact(address)
    if problem is None:
        return Finding(check, "ok", f"{where} has an index that can be read")
    if len(repo.upstreams) > 1:
        return Finding(check, "warn", str(problem), f"{where} is one of several; see whether its address is right")
    if isinstance(problem, AbsentError):
        return Finding(check, "fail", str(problem), f"there is no index for a repo of kind {repo.kind} below {where}")
    if isinstance(problem, BadIndexError):
        return Finding(check, "fail", str(problem), "look at what is there: a page to sign in, or an address of something else")
    return Finding(check, "fail", str(problem), "see that this machine may go there (proxy, credentials and certificates)")


def _clock(ahead: timedelta) -> Finding:
    """ahead: how much our clock is, by the upstream that agrees with it best."""
    if abs(ahead) <= _OFF:
        return Finding("clock", "ok", "it agrees with upstream's")
    problem = f"it is {units.span(abs(ahead).total_seconds())} {'ahead of' if ahead > timedelta(0) else 'behind'} upstream's"
    return Finding("clock", "fail" if abs(ahead) > _FAR_OFF else "warn", problem, "set it right, by NTP best")
