"""What a URL path names: selector, repo, directory, and what is left of it.

`Resolver.resolve` reads the store and answers with a value; nothing is sent here and no path of the URL is ever joined
to a folder on disk. One resolver serves one view of the store, so that whatever it has cached stays true.
"""

import logging
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from .. import addresses, clock
from ..ecosystem import Ecosystem, FileAt, LeafAt, PageAt, PageMoved, Site
from ..errors import DamagedError, Forgotten, SelectorError
from ..readings import File
from ..store.catalog import CURRENT
from ..store.directories import DirectoryReader
from ..store.records import Record, RepoState, place_of
from ..store.store import Store
from ..transfer.origin import recorded_address, source_of
from . import listing
from .answers import (
    Answer,
    BlobAnswer,
    DocumentAnswer,
    ElsewhereAnswer,
    Fetchable,
    FolderAnswer,
    PageAnswer,
    Place,
    Refused,
    SlashAnswer,
    UnlistedAnswer,
    damaged,
    not_listed,
    refuse_denied,
)
from .search import Search
from .settings import Origin, Origins
from .view import View, snapshot_of

K = TypeVar("K")
V = TypeVar("V")
_log = logging.getLogger(__name__)
#: answers that are remembered, of paths and of searches
_ANSWERS = 65_536
_MISSES = 16_384
#: characters; longer paths are worked out anew each time, or those that name nothing would fill the memory
_ORDINARY = 512
#: bytes of a name in every file system that a mirror may be copied to
_LONGEST_NAME = 255
#: files that a folder may list without being large: a page of so many takes 20 MB while it is made
_MANY = 20_000
#: segments of a path; every way to part it is tried
_DEEPEST = 64


class Resolver:
    """Answers for the paths of one view.

    What it remembers must not refer back to it: a view that is replaced, with a catalog of thousands of snapshots, would wait
    for Python's collector of cycles, which counts objects and not bytes.
    """

    def __init__(
        self, store: Store, ecosystems: Mapping[str, Ecosystem], view: View, public_url: str, origins: Origins
    ) -> None:
        """public_url: see settings.Serve; origins: of the configured repos"""
        self._store = store
        self._ecosystems = ecosystems
        self.view = view
        self._catalog = view.answering
        self._origins = origins
        self._public_url = public_url.rstrip("/")
        self._search = Search(store, ecosystems, view)
        self._answers: dict[str, Answer] = {}
        self._found: dict[UnlistedAnswer, Answer | None] = {}

    def resolve(self, path: str) -> Answer:
        """What a raw path (still percent-encoded, without a query) names. Raises Refused."""
        return _remembered(self._answers, _ANSWERS, path, self._resolve) if len(path) <= _ORDINARY else self._resolve(path)

    def search(self, unlisted: UnlistedAnswer) -> Answer | None:
        """What an UnlistedAnswer comes to, None if there is no such thing. Raises Refused, DamagedError."""
        if len(unlisted.inner) > _ORDINARY:
            return self._looked_for(unlisted)
        return _remembered(self._found, _MISSES, unlisted, self._looked_for)

    def _looked_for(self, unlisted: UnlistedAnswer) -> Answer | None:
        return self._search.answer(unlisted, self._listed)

    def _resolve(self, path: str) -> Answer:
        segments, folder = split(path)
        try:
            answer = self._below(segments, folder)
        except Forgotten as error:
            raise Refused(410, str(error)) from None
        except SelectorError as error:
            raise Refused(404, str(error)) from None
        except DamagedError as error:
            _log.error("%s: %s", path, error)
            raise Refused(503, str(error)) from None
        if isinstance(answer, FolderAnswer) and not folder:
            return SlashAnswer(answer.place, urllib.parse.quote(segments[-1], safe="") + "/")
        return answer

    def _below(self, segments: list[str], folder: bool) -> Answer:
        """What a path names. folder: whether it ends in a slash"""
        selected = self._catalog.is_selector(segments[0])
        selector, inner = (segments[0], segments[1:]) if selected else (CURRENT, segments)
        try:
            found = self._repo(selector, inner)
        except Forgotten:
            raise
        except SelectorError:
            if selector == CURRENT and not folder and (repo := self._gone(inner)):
                place = self._place(selector, self._catalog.resolve(selector, None, self._store.now()))
                return UnlistedAnswer(place, repo, "/".join(inner[repo.count("/") + 1 :]), current=True)
            raise
        if found:
            repo, record = found
            root = "../" * (len(segments) if folder else len(segments) - 1)
            return self._in_repo(selector, repo, record, inner[repo.count("/") + 1 :], folder, f"{root}{repo}/")
        return self._above(selector, inner, selected)

    def _repo(self, selector: str, inner: list[str]) -> tuple[str, Record] | None:
        """The repo with the longest path that begins a path, and its snapshot. Raises SelectorError if none answers."""
        refusal: SelectorError | None = None
        for length in range(len(inner), 0, -1):
            repo = "/".join(inner[:length])
            if repo not in self._catalog.repos:
                continue
            try:
                return repo, self._catalog.resolve(selector, repo, self._store.now())
            except Forgotten:
                raise
            except SelectorError as error:
                refusal = refusal or error
        if refusal:
            raise refusal
        return None

    def _gone(self, inner: list[str]) -> str | None:
        """The repo of which a path may name a file although `current` no longer has it: pages of old dates lead there."""
        begins = ("/".join(inner[:length]) for length in range(len(inner) - 1, 0, -1))
        return next((repo for repo in begins if repo in self._catalog.repos), None)

    def _above(self, selector: str, inner: list[str], selected: bool) -> Answer:
        """A folder above repos: `current/`, or `current/anaconda/` of the repo `anaconda/pkgs/main`.

        selected: whether the path begins with the selector
        """
        if not inner or selected:
            place = self._place(selector, self._catalog.resolve(selector, None, self._store.now()))
        else:
            place = None
        prefix = "".join(f"{segment}/" for segment in inner)
        repos = sorted(repo for repo in self._answering(selector) if repo.startswith(prefix))
        if inner and not repos:
            what = "is no snapshot, pin or repo" if not selected else f"is no repo of {selector}"
            raise Refused(404, f"{inner[0]}: {what}", place)
        title = f"{selector}/{prefix}" if selected else prefix
        return FolderAnswer(place, (title, *repos), lambda: listing.repos(title, prefix, repos))

    def _answering(self, selector: str) -> Iterator[str]:
        """The repos that a selector has."""
        for repo in self._catalog.repos:
            try:
                self._catalog.resolve(selector, repo, self._store.now())
            except SelectorError:
                continue
            yield repo

    def _place(self, selector: str, record: Record) -> Place:
        day = clock.parse_day(selector)
        provisional = clock.to_id(clock.end_of(day)) if day and clock.end_of(day) >= self._store.now() else ""
        return Place(snapshot_of(record), provisional, selector == record.id)

    def _in_repo(self, selector: str, repo: str, record: Record, inner: list[str], folder: bool, undated: str) -> Answer:
        """What a path below a repo names. undated: what leads from the path to the repo without a selector"""
        place = self._place(selector, record)
        state = record.repos[repo]
        if state.kind not in self._ecosystems:
            raise Refused(503, f"{repo}: this version can't serve repos of kind {state.kind}", place)
        beside = state.directories.get("") if len(state.directories) > 1 else None
        for length in range(len(inner), -1, -1) if inner or beside is None else ():
            name, rest = "/".join(inner[:length]), "/".join(inner[length:])
            if name in state.directories:
                if page := self._page(place, state, name, rest, folder, undated):
                    return page
                answer = self._in_directory(place, selector, repo, name, state, rest, folder)
                if beside is None or not name or not isinstance(answer, UnlistedAnswer):
                    return answer
        if not inner:
            others = [other.removeprefix(f"{repo}/") for other in self._answering(selector) if other.startswith(f"{repo}/")]
            names = sorted({*filter(None, state.directories), *(other.split("/")[0] for other in others)})
            public = f"{self._public_url}/{selector}/{repo}" if self._public_url else ""
            title = f"{selector}/{repo}/"
            key = (title, beside.digest if beside else "", *names)
            rows = partial(listing.beside, self._store, self._ecosystems, state, "")
            return FolderAnswer(place, key, lambda: listing.directories(title, names, rows(), public))
        if selector == CURRENT and len(inner) > 1 and not folder:
            return UnlistedAnswer(place, repo, "/".join(inner), current=True)
        raise not_listed(place, repo, "/".join(inner))

    def _page(
        self, place: Place, state: RepoState, name: str, rest: str, folder: bool, undated: str
    ) -> PageAnswer | SlashAnswer | None:
        """The page that a path below a directory names, of an ecosystem that makes its own."""
        reader = self._store.metadata.directory(state.directories[name].blob)
        ecosystem = self._ecosystems[reader.document.kind]
        match ecosystem.pages.at(reader, rest, folder=folder) if ecosystem.pages else None:
            case PageAt() as page:
                return PageAnswer(place, reader.digest, ecosystem, page, Site(undated, self.view.denied_files))
            case PageMoved(location):
                return SlashAnswer(place, location)
        return None

    def _in_directory(
        self, place: Place, selector: str, repo: str, name: str, states: RepoState, rest: str, folder: bool
    ) -> Answer:
        """What a path below a directory names, other than a page. name: of the directory; rest: the path below it"""
        state = states.directories[name]
        reader = self._store.metadata.directory(state.blob)
        ecosystem = self._ecosystems[reader.document.kind]
        title = f"{selector}/{place_of(repo, name)}/"
        large = reader.document.files > _MANY
        if ecosystem.nested:
            if rest and not folder and (found := self._listed(place, repo, name, reader, rest)):
                return found  # asked first: to tell folders, all names have to be read
            if not rest or reader.has_folder(rest):
                title += f"{rest}/" if rest else ""
                page = partial(listing.table, title, self._store, ecosystem, state, rest)
                return FolderAnswer(place, (title, state.digest, ""), page, large)
        if not rest:
            key = (title, state.digest, state.since, *(one.digest for other, one in states.directories.items() if not other))
            rows = partial(listing.beside, self._store, self._ecosystems, states, name)
            store = self._store
            return FolderAnswer(place, key, lambda: listing.directory(title, store, ecosystem, state, rows()), large)
        if rest == listing.leaf_folder(ecosystem):
            title += f"{rest}/"
            key = (title, state.digest, "")
            return FolderAnswer(place, key, partial(listing.leaves, title, self._store, ecosystem, state), large)
        if folder:
            raise Refused(404, f"{rest}: is no folder of {place_of(repo, name)}", place)
        for document, derived in reader.document.documents.items():
            if rest.startswith(document) and (suffix := rest[len(document) :]) in derived.suffixes:
                media = ecosystem.media_type(rest)
                return DocumentAnswer(place, state.blob, ecosystem, document, suffix, derived, media, state.since, place.exact)
        unlisted = UnlistedAnswer(place, repo, f"{name}/{rest}".lstrip("/"), selector == CURRENT)
        return self._listed(place, repo, name, reader, rest) or unlisted

    def _listed(self, place: Place, repo: str, name: str, reader: DirectoryReader, rest: str) -> Answer | None:
        """A leaf or a file, if a directory lists it. Raises Refused for what is denied."""
        ecosystem = self._ecosystems[reader.document.kind]
        match ecosystem.locate(reader, rest):
            case None:
                return None
            case LeafAt(digest):
                refuse_denied(self.view, digest, rest, place)
                return BlobAnswer(place, digest, ecosystem.media_type(rest), None, immutable=True)
            case FileAt(file, immutable):
                refuse_denied(self.view, file.sha256, rest, place)
                document = reader.document
                if document.mode == "redirect":
                    recorded = recorded_address(file, document.origin, ())
                    url = urllib.parse.quote(addresses.redact(recorded), safe="!#$%&'()*+,/:;=?@[]~")
                    return ElsewhereAnswer(place, url)
                found = _file(place, ecosystem, file, immutable=immutable or place.exact)
                if document.mode != "on-demand":
                    return found
                origin = self._origins.get(repo)
                known = origin or Origin(document.kind)
                source = source_of(ecosystem, file, name, document.origin, known.upstreams, known.alike)
                return replace(found, fetchable=Fetchable(source, origin, f"{name}/{rest}".lstrip("/")))


def _remembered(known: dict[K, V], most: int, key: K, make: Callable[[K], V]) -> V:
    """What `make` has returned for a key, or returns now. When so many are remembered, all are forgotten."""
    try:
        return known[key]
    except KeyError:
        made = make(key)
    if len(known) >= most:
        known.clear()
    known[key] = made
    return made


def _file(place: Place, ecosystem: Ecosystem, file: File, *, immutable: bool) -> BlobAnswer:
    """A file that is held, or can be fetched. Raises Refused."""
    if file.sha256 is None:
        raise damaged(place, file.name, "its record has no sha256")
    return BlobAnswer(place, file.sha256, ecosystem.media_type(file.name), file.size, immutable, file.modified)


def split(path: str) -> tuple[list[str], bool]:
    """The decoded segments of a raw path, and whether it ends in a slash. Raises Refused for what can name nothing."""
    raw = path.split("/")[1:]
    folder = raw[-1:] == [""]
    segments: list[str] = []
    if len(raw) > _DEEPEST:
        raise Refused(404, "the path names nothing: it is deeper than any repo")
    for part in raw[:-1] if folder else raw:
        try:
            segment = urllib.parse.unquote(part, errors="strict")
            length = len(segment.encode())
        except UnicodeError:
            raise Refused(404, "the path is not UTF-8") from None
        if length > _LONGEST_NAME:
            raise Refused(404, f"the path names nothing: {segment[:20]}... is longer than any name")
        if segment in ("", ".", "..") or "/" in segment or "\0" in segment:
            raise Refused(404, "the path names nothing: it has an empty segment, dots, or a character that no name has")
        segments.append(segment)
    return segments, folder
