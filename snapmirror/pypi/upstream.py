"""Where an index is, and what is read of it: the list of all projects (PEP 503, 691), or the pages of named ones."""

import urllib.parse
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from .. import addresses
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Answer, File, Known, Upstream
from . import listing, names, page
from .asking import ACCEPT, ProjectPages
from .listing import Listing
from .reading import ListedReading, OneReading, ProjectsReading
from .settings import PypiRepo

_SIMPLE = "simple/"
#: before a noted base below which no project was found the last time: it is looked for again
_DOUBT = b"?"


def read_one(repo: PypiRepo, name: str, upstream: Upstream) -> OneReading:
    """The present state of one project. Raises AbsentError if there is no such project, or the repo must not have it, and
    UpstreamError.
    """
    if (repo.projects and name not in repo.named) or not repo.may_ask(name):  # not even upstream: it may be a private name
        raise AbsentError(addresses.redact(_candidates(repo.upstreams[0])[0]) + f"{name}/", 404)
    pages, others = _pages(repo, [name], upstream)
    pages.notes_never = False
    reading = OneReading(pages, pages.base, others)
    reading.ask_for([name])
    if name in reading.aside:
        raise reading.errors.get(name) or BadIndexError(addresses.redact(pages.url(name)), reading.aside[name])
    return reading


def other_urls(file: File, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
    """Where the pages of today's indexes have a file; the first is asked last, for most likely that is where it was listed.

    asked: how they are asked. Raises TransportError if one of them can't be asked, once all have been.
    """
    project = names.leaf_of(file.name)
    problem: TransportError | None = None
    for address in (*upstreams[1:], *upstreams[:1]):
        try:
            found = ProjectPages(asked, _find_base(address, [project], asked)).files(project)
        except TransportError as error:
            problem = error
        except UpstreamError:
            continue
        else:
            alike = (one for one in found if one.name == file.name and one.sha256 in (file.sha256, None))
            yield from (addresses.with_credentials(one.url, address) for one in alike if one.url)
    if problem:
        raise problem


def _pages(
    repo: PypiRepo, projects: Collection[str], upstream: Upstream
) -> tuple[ProjectPages, list[Callable[[], ProjectPages]]]:
    """The pages of the first upstream, and how to find those of the others."""

    def find(address: str) -> ProjectPages:
        base = _find_base(address, projects, upstream)
        return ProjectPages(upstream, base, alike=_bases(repo), provenance=repo.provenance)

    first, *others = repo.upstreams
    return find(first), [partial(find, other) for other in others]


def read_named(repo: PypiRepo, projects: Collection[str], upstream: Upstream) -> ProjectsReading:
    """The present state of some projects, by their normalised names; the list of all is never asked for. Those for which
    upstream may not be asked are as they were.

    Raises AbsentError if none of the projects is there or ever was, UpstreamError if no upstream answers.
    """
    kept = [name for name in projects if not repo.may_ask(name)]
    projects = [name for name in projects if repo.may_ask(name)]
    pages, others = _pages(repo, projects, upstream)
    reading = ProjectsReading(pages, pages.base, others)
    reading.ask_for(projects)
    if projects and not reading.sources:
        _note_base(repo.upstreams[0], pages.base, upstream, doubtful=True)
        if pages.never.issuperset(projects):
            raise AbsentError(addresses.redact(pages.url(next(iter(projects)))), 404)
        if len(reading.gone - pages.never) > 1:
            reading.gone.clear()  # all at once may be an accident: then `--allow-shrink` is asked for
    for name in sorted(reading.gone & pages.never):
        upstream.warn(f"{addresses.redact(pages.url(name))}: upstream answers 404, as it always has: is the name right?")
    reading.keep(kept)
    return reading


def read_all(repo: PypiRepo, upstream: Upstream, known: Known) -> ListedReading | None:
    """The present state of all projects, by the first upstream with a usable list; None if its list is unchanged.

    Raises AbsentError if every upstream says that there is no list, else the first other UpstreamError.
    """
    problems: list[UpstreamError] = []
    for address in repo.upstreams:
        try:
            return _read_list(address, repo, upstream, known)
        except UpstreamError as error:
            problems.append(error)
            if len(repo.upstreams) > 1:
                upstream.warn(f"{error}; trying the next upstream")
    raise next((error for error in problems if not isinstance(error, AbsentError)), problems[-1])


def empty(repo: PypiRepo) -> ProjectsReading:
    """What is published where upstream has never had anything, or where there is no upstream."""
    return ProjectsReading(None, _candidates(repo.upstreams[0])[0] if repo.upstream else "")


def _candidates(address: str) -> list[str]:
    """The bases that an index may have, in the order in which they are tried: as stated, and `simple/` in that.

    To a base, which ends in a slash, the name of a project is appended; the base itself is the address of the list.
    """
    parts = urllib.parse.urlsplit(address)
    given = addresses.as_folder(urllib.parse.urlunsplit(parts._replace(query="", fragment="")))
    return [given] if given.endswith(f"/{_SIMPLE}") else [given, given + _SIMPLE]


def _bases(repo: PypiRepo) -> list[str]:
    """The bases that the upstreams of a repo may have, without credentials: serials of all of them mean the same."""
    return [addresses.redact(base) for address in repo.upstreams for base in _candidates(address)]


def _noted_base(address: str, upstream: Upstream, *, doubtful: bool = False) -> str | None:
    """The base that was noted for the address of an index. doubtful: also if no project was found there the last time"""
    key = _base_key(address)
    found = upstream.notes.get([key]).get(key)
    if found and doubtful:
        found = found.removeprefix(_DOUBT)
    return next((base for base in _candidates(address) if found == _ending(address, base)), None)


def _note_base(address: str, base: str, upstream: Upstream, *, doubtful: bool = False) -> None:
    upstream.notes.put({_base_key(address): (_DOUBT if doubtful else b"") + _ending(address, base)})


def _ending(address: str, base: str) -> bytes:
    """How a base is noted: what it has after the stated address, which may hold credentials."""
    return base.removeprefix(_candidates(address)[0]).encode()


def _base_key(address: str) -> str:
    return f"pypi base {addresses.redact(_candidates(address)[0])}"


def _find_base(address: str, projects: Collection[str], upstream: Upstream) -> str:
    """The base of an index: the one below which the first of the projects that has a page has it.

    If none has a page, it is the base that was noted, else the one that fails (of the other it is known that the project is
    not there), else the address as stated: an upstream that fails, or deleted projects, prove nothing.
    """
    bases = _candidates(address)
    usual = _noted_base(address, upstream, doubtful=True)
    if len(bases) == 1:
        return bases[0]
    if noted := _noted_base(address, upstream):
        return noted
    for project in projects:
        for base in bases:
            try:
                answer = upstream.get(ProjectPages(upstream, base).url(project), limit=page.LIMIT, accept=ACCEPT)
                assert answer is not None  # nothing was said to be known
                page.read(answer, project)
            except (AbsentError, BadIndexError):
                continue
            except UpstreamError:
                return usual or base
            _note_base(address, base, upstream)
            return base
    return usual or bases[0]


def _read_list(address: str, repo: PypiRepo, upstream: Upstream, known: Known) -> ListedReading | None:
    problems: list[UpstreamError] = []
    doubtful: tuple[str, Answer, Listing] | None = None
    noted = _noted_base(address, upstream)
    for base in sorted(_candidates(address), key=lambda base: base != noted):
        try:
            answer = upstream.get(base, limit=listing.LIMIT, known=known(base), accept=ACCEPT)
            if answer is None:
                return None
            found = listing.read(answer)
        except (AbsentError, BadIndexError) as error:
            problems.append(error)
            continue
        if found.certain or base == noted:
            return _listed(address, base, answer, found, repo, upstream)
        if found.names or not doubtful:  # HTML without a version: the page above the list may look like one
            doubtful = base, answer, found
    if doubtful and not noted:
        return _listed(address, *doubtful, repo, upstream)
    raise next((error for error in problems if noted is None and not isinstance(error, AbsentError)), problems[0])


def _listed(address: str, base: str, answer: Answer, found: Listing, repo: PypiRepo, upstream: Upstream) -> ListedReading:
    if _noted_base(address, upstream) != base:
        _note_base(address, base, upstream)
    alike = _bases(repo)
    _refuse_older(base, answer, found, upstream, alike)
    pages = ProjectPages(upstream, base, found, alike=alike, provenance=repo.provenance)
    return ListedReading(pages, found, base, answer.validators, alike)


def _refuse_older(base: str, answer: Answer, found: Listing, upstream: Upstream, alike: Collection[str]) -> None:
    """Raise BadIndexError for a list with a lower serial than one that was seen before, there or at another upstream.

    To believe a cache that answers an old list, or a mirror that lags, would delete the projects of the time since.
    """
    serial = found.serial if found.serial is not None else page.serial(answer, {"meta": {}})
    if serial is None:
        return
    before = max(map(int, upstream.notes.get([f"pypi list {one}" for one in alike]).values()), default=0)
    if serial < before:
        raise BadIndexError(addresses.redact(base), f"is an old list: its serial is {serial}, and was {before}")
    if serial > before:
        upstream.notes.put({f"pypi list {addresses.redact(base)}": str(serial).encode()})
