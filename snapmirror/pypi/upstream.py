"""Where an index is, and what is read of it: a list of all projects, or the pages of those that are named."""

import urllib.parse
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from .. import addresses
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Answer, File, Known, Upstream
from . import listing, names, page
from .asking import ACCEPT, Pages
from .listing import Listing
from .reading import ListedReading, OneReading, ProjectsReading
from .settings import PypiRepo, address_of

_SIMPLE = "simple/"
#: before what is noted of the place of an index in which nothing was the last time: it is looked for again
_DOUBT = b"?"


def read_one(repo: PypiRepo, name: str, upstream: Upstream) -> OneReading:
    """The present state of one project. Raises UpstreamError, AbsentError if there is no such project."""
    pages, others = _pages(repo, [name], upstream)
    if repo.projects and name not in repo.named:
        raise AbsentError(addresses.redact(pages.url(name)), 404)
    reading = OneReading(pages, pages.base, others)
    reading.ask_for([name])
    if name in reading.aside:
        raise reading.errors.get(name) or BadIndexError(addresses.redact(pages.url(name)), reading.aside[name])
    return reading


def others(file: File, upstreams: Sequence[str], asked: Upstream) -> Iterator[str]:
    """Where the pages of these indexes have a file, those of the first last: it is where the file was listed, most likely.

    Raises TransportError for one that can't be asked, after those that can.
    """
    project = names.leaf_of(file.name)
    problem: TransportError | None = None
    for address in (*upstreams[1:], upstreams[0]) if len(upstreams) > 1 else ():
        try:
            found = Pages(asked, _find_base(address, [project], asked)).files(project)
        except TransportError as error:
            problem = error
        except UpstreamError:
            continue
        else:
            alike = (one for one in found if one.name == file.name and one.sha256 in (file.sha256, None))
            yield from (addresses.with_credentials(one.url, address) for one in alike if one.url)
    if problem:
        raise problem


def _pages(repo: PypiRepo, names: Collection[str], upstream: Upstream) -> tuple[Pages, list[Callable[[], Pages]]]:
    """The pages of the first upstream, and how to find those of the others."""

    def find(address: str) -> Pages:
        return Pages(upstream, _find_base(address, names, upstream), provenance=repo.provenance)

    first, *others = repo.upstreams
    return find(first), [partial(find, other) for other in others]


def read_named(repo: PypiRepo, names: Collection[str], upstream: Upstream) -> ProjectsReading:
    """The present state of some projects; the list of all is never asked for.

    Raises UpstreamError if nobody answers, AbsentError if none of the projects is there or ever was.
    """
    first = repo.upstreams[0]
    pages, others = _pages(repo, names, upstream)
    reading = ProjectsReading(pages, pages.base, others)
    reading.ask_for(names)
    if names and not reading.sources:
        _note_base(first, pages.base, upstream, doubtful=True)
        if pages.never.issuperset(names):
            raise AbsentError(addresses.redact(pages.url(next(iter(names)))), 404)  # nothing was ever there
        if len(reading.gone - pages.never) > 1:
            reading.gone.clear()  # all at once: whether that is no accident is for the operator to say
    for name in sorted(reading.gone & pages.never):
        upstream.warn(f"{addresses.redact(pages.url(name))}: upstream answers 404, as it always has: is the name right?")
    return reading


def read_all(repo: PypiRepo, upstream: Upstream, known: Known) -> ListedReading | None:
    """The present state of all projects, by the first upstream with a usable list; None if its list is unchanged.

    Raises AbsentError if every upstream says that there is none, else the last UpstreamError.
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
    """What is published where upstream has never had anything."""
    return ProjectsReading(None, candidates(repo.upstreams[0])[0] if repo.upstream else "")


def candidates(address: str) -> list[str]:
    """Where an index may be, in the order in which that is tried: as stated, and in the folder that most have it in."""
    parts = urllib.parse.urlsplit(address_of(address))
    given = addresses.as_folder(urllib.parse.urlunsplit(parts._replace(query="", fragment="")))
    return [given] if given.endswith(f"/{_SIMPLE}") else [given, given + _SIMPLE]


def _noted_base(address: str, upstream: Upstream, *, doubtful: bool = False) -> str | None:
    """Where the index was found. doubtful: even if nothing was there the last time"""
    key = _base_key(address)
    found = upstream.notes.get([key]).get(key)
    if found and doubtful:
        found = found.removeprefix(_DOUBT)
    return next((base for base in candidates(address) if found == _ending(address, base)), None)


def _note_base(address: str, base: str, upstream: Upstream, *, doubtful: bool = False) -> None:
    upstream.notes.put({_base_key(address): (_DOUBT if doubtful else b"") + _ending(address, base)})


def _ending(address: str, base: str) -> bytes:
    return base.removeprefix(candidates(address)[0]).encode()


def _base_key(address: str) -> str:
    return f"pypi base {addresses.redact(candidates(address)[0])}"


def _find_base(address: str, names: Collection[str], upstream: Upstream) -> str:
    """What names are appended to: where the first of the projects that has a page anywhere has it.

    If no page is found it is where it was, else the address as stated: an upstream that fails, or deleted projects, prove
    nothing.
    """
    bases = candidates(address)
    usual = _noted_base(address, upstream, doubtful=True) or bases[0]
    if len(bases) == 1:
        return bases[0]
    if noted := _noted_base(address, upstream):
        return noted
    for name in names:
        for base in bases:
            try:
                answer = upstream.get(Pages(upstream, base).url(name), limit=page.LIMIT, accept=ACCEPT)
                assert answer is not None  # nothing was said to be known
                page.read(answer, name)
            except (AbsentError, BadIndexError):
                continue
            except UpstreamError:
                return usual
            _note_base(address, base, upstream)
            return base
    return usual


def _read_list(address: str, repo: PypiRepo, upstream: Upstream, known: Known) -> ListedReading | None:
    problems: list[UpstreamError] = []
    doubtful: tuple[str, Answer, Listing] | None = None
    noted = _noted_base(address, upstream)
    for base in sorted(candidates(address), key=lambda base: base != noted):
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
        if found.names or not doubtful:  # a page with a link to the folder may be above it
            doubtful = base, answer, found
    if doubtful and not noted:
        return _listed(address, *doubtful, repo, upstream)
    raise next((error for error in problems if noted is None and not isinstance(error, AbsentError)), problems[0])


def _listed(address: str, base: str, answer: Answer, found: Listing, repo: PypiRepo, upstream: Upstream) -> ListedReading:
    if _noted_base(address, upstream) != base:
        _note_base(address, base, upstream)
    _refuse_older(base, answer, found, upstream)
    alike = [addresses.redact(place) for one in repo.upstreams for place in candidates(one)]
    return ListedReading(Pages(upstream, base, found, provenance=repo.provenance), found, base, answer.validators, alike)


def _refuse_older(base: str, answer: Answer, found: Listing, upstream: Upstream) -> None:
    """A cache that answers an old list would make the projects of the time since seem deleted. Raises BadIndexError."""
    serial = found.serial if found.serial is not None else page.serial(answer, {"meta": {}})
    if serial is None:
        return
    key = f"pypi list {addresses.redact(base)}"
    before = int(upstream.notes.get([key]).get(key, b"0"))
    if serial < before:
        raise BadIndexError(addresses.redact(base), f"is an old list: its serial is {serial}, and was {before}")
    if serial > before:
        upstream.notes.put({key: str(serial).encode()})
