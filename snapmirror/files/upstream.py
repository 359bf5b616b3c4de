"""What an upstream lists: HTML or JSON folder by folder, or one JSON for all, with the hashes in its SHA256SUMS files."""

import urllib.parse
from collections.abc import Collection
from typing import NamedTuple

from .. import addresses
from ..errors import AbsentError, BadIndexError, TransportError, UpstreamError
from ..readings import Upstream
from . import names, pages, releases, sums
from .entries import Entry
from .pages import Page
from .settings import FilesRepo

#: bytes of a listing
_LIMIT = 64 << 20
_MOST_FOLDERS = 10_000
#: of a list of releases
_MOST_PAGES = 1000
#: how addresses of pages end; others are those of folders
_PAGES = (".html", ".htm", ".php", ".json")
#: statuses by which an upstream says that there is no such folder
_GONE = (404, 410)


class Listing(NamedTuple):
    """All that an upstream lists. Names are paths below the repo."""

    #: where files are, ending in a slash; may hold credentials
    base: str
    #: the listing's own address; may hold credentials
    document: str
    files: dict[str, Entry]
    #: what can't be published: {name: reason}
    invalid: dict[str, str]
    #: folders, each ending in a slash, that are listed and are not there
    lost: Collection[str] = ()


def read(repo: FilesRepo, upstream: Upstream) -> tuple[Listing, tuple[str, ...]]:
    """The present state, from the first upstream with a usable listing, and the base addresses of all, that one's first.

    Raises AbsentError if every upstream says that there is no listing, else the first other UpstreamError.
    """
    problems: list[UpstreamError] = []
    for address in repo.upstreams:
        try:
            listing = _read_one(address, repo, upstream)
        except UpstreamError as error:
            if isinstance(error, AbsentError) and error.status not in _GONE:  # GitHub's 403: too many requests
                error = TransportError(error.url, error.problem)
            problems.append(error)
            if len(repo.upstreams) > 1:
                upstream.warn(f"{error}; trying the next upstream")
            continue
        others = tuple(folder_of(other) for other in repo.upstreams if other != address)
        return listing, (listing.base, *others)
    raise next((error for error in problems if not isinstance(error, AbsentError)), problems[-1])


def folder_of(address: str) -> str:
    """The folder that an address names, or the folder of the page that it names, ending in a slash."""
    parts = urllib.parse.urlsplit(address)
    if parts.path.lower().endswith(_PAGES):
        parts = parts._replace(path=parts.path.rpartition("/")[0] + "/")
    return addresses.as_folder(urllib.parse.urlunsplit(parts._replace(query="", fragment="")))


def _get(address: str, upstream: Upstream) -> bytes:
    answer = upstream.get(address, limit=_LIMIT)
    assert answer is not None  # nothing was said to be known
    return answer.body


def _read_one(address: str, repo: FilesRepo, upstream: Upstream) -> Listing:
    try:
        body = _get(address, upstream)
    except AbsentError:
        if folder_of(address) == address:
            raise
        body = _get(folder_of(address), upstream)  # a server that does not lead on to the folder
    if not releases.is_json(body):
        return _with_sums(_walk(address, body, repo, upstream), upstream)
    if urllib.parse.urlsplit(address).path.endswith("/releases"):
        page = _all_pages(address, upstream)
    else:
        page = releases.parse(body, address)
    if page.folders:  # one folder of several
        return _with_sums(_walk(address, body, repo, upstream), upstream)
    base = addresses.with_credentials(releases.common_base(page.files, folder_of(address)), address)
    invalid = dict(page.invalid)
    return _with_sums(Listing(base, address, _publishable(page.files, invalid), invalid), upstream)


def _parse(body: bytes, url: str) -> Page:
    return releases.parse(body, url) if releases.is_json(body) else pages.parse(body, url)


def _all_pages(address: str, upstream: Upstream) -> Page:
    """GitHub gives its releases in pages of at most 100; after the last one come empty lists.

    A server that gives the same for every page is left too. A page without any file means neither: releases may have none.
    """
    files: dict[str, Entry] = {}
    invalid: dict[str, str] = {}
    before = b""
    for number in range(1, _MOST_PAGES + 1):
        parts = urllib.parse.urlsplit(address)
        url = urllib.parse.urlunsplit(parts._replace(query=f"per_page=100&page={number}"))
        body = _get(url, upstream)
        page = _parse(body, url)
        here = {*(entry.name for entry in page.files), *page.invalid}
        if releases.is_empty(body) or body == before or (here and here <= files.keys() | invalid.keys()):
            return Page(tuple(files.values()), (), invalid)
        files.update({entry.name: entry for entry in page.files})
        invalid.update(page.invalid)
        before = body
    raise BadIndexError(addresses.redact(address), f"has more than {_MOST_PAGES} pages")


def _walk(address: str, body: bytes, repo: FilesRepo, upstream: Upstream) -> Listing:
    """All folders, one level after the other. A folder that lists the same as one above it is a loop (a link to `.`)."""
    base = folder_of(address)
    listed: list[Entry] = []
    invalid: dict[str, str] = {}
    seen: dict[str, Page] = {}
    lost: set[str] = set()
    level = {"": body}
    unwanted = [pattern for pattern in repo.exclude if pattern.endswith("/")]
    while level:
        below: dict[str, None] = {}
        for path, content in sorted(level.items()):
            page = _parse_folder(content, base, path)
            if page.files and any(path.startswith(above) and seen[above] == page for above in seen):
                upstream.warn(
                    f"{addresses.redact(addresses.file_url(base, path))}: lists what a folder above it lists; a loop?"
                )
                continue
            seen[path] = page
            room = repo.depth - path.count("/")
            listed += [entry._replace(name=path + entry.name) for entry in page.files if entry.name.count("/") <= room]
            invalid.update({path + name: reason for name, reason in page.invalid.items()})
            folders = (f"{path}{folder}/" for folder in page.folders if folder.count("/") < room)
            below.update({folder: None for folder in folders if not names.matches_any(folder, unwanted)})
        if len(below) + len(seen) > _MOST_FOLDERS:
            raise BadIndexError(addresses.redact(base), f"has more than {_MOST_FOLDERS} folders")
        wanted = [path for path in below if path not in seen]
        level = _read_level(base, wanted, upstream)
        lost.update(path for path in wanted if path not in level)
    return Listing(base, address, _publishable(listed, invalid), invalid, lost)


def _parse_folder(content: bytes, base: str, path: str) -> Page:
    try:
        return _parse(content, addresses.file_url(base, path))
    except BadIndexError as error:
        if path:
            raise BadIndexError(error.url, f'{error.problem}; exclude = ["/{path}"] leaves it out') from None
        raise


def _read_level(base: str, paths: list[str], upstream: Upstream) -> dict[str, bytes]:
    """{folder: its listing}; a folder that is not there is left out, with a warning."""
    urls = {addresses.file_url(base, path): path for path in paths}
    found = {}
    for url, answer in upstream.get_many(urls, limit=_LIMIT):
        if isinstance(answer, AbsentError) and answer.status in _GONE:
            upstream.warn(f"{answer}, though the folder above lists it")
        elif isinstance(answer, AbsentError):
            raise TransportError(answer.url, answer.problem)
        elif isinstance(answer, Exception):
            raise answer
        else:
            found[urls[url]] = answer.body
    return found


def _publishable(listed: Collection[Entry], invalid: dict[str, str]) -> dict[str, Entry]:
    """Entries by name. Those that can't be published go into `invalid`: in their folder alone nothing is wrong with them."""
    files = {}
    for entry in listed:
        if problem := names.problem_with(entry.name):
            invalid[entry.name] = problem
        else:
            files[entry.name] = entry
    folders = {name[:end] for name in files for end, letter in enumerate(name) if letter == "/"}
    for name in files.keys() & folders:
        invalid[name] = "it has the name of a folder"
        del files[name]
    return files


def _with_sums(listing: Listing, upstream: Upstream) -> Listing:
    """Give the files that have no SHA-256 the hash that a SHA256SUMS of their folder, or of a folder above, states."""
    found = {name for name in listing.files if sums.is_sums(name.rpartition("/")[2])}
    if not found or all(entry.sha256 for name, entry in listing.files.items() if name not in found):
        return listing
    urls = {url_of(listing, listing.files[name]): name for name in found}
    # {file: (length of the hash, which file states it, the hash)}: answers come in any order, and the choice must not
    stated: dict[str, tuple[int, str, bytes]] = {}
    for url, answer in upstream.get_many(urls, limit=sums.LIMIT):
        if isinstance(answer, AbsentError):
            upstream.warn(f"{answer}, though it is listed")
            continue
        if isinstance(answer, Exception):
            raise answer
        folder = urls[url].rpartition("/")[0]
        for name, digest in sums.parse(answer.body).items():
            path = f"{folder}/{name}".lstrip("/")
            stated[path] = max(stated.get(path, (0, "", b"")), (len(digest), urls[url], digest))
    files = {name: _complete(entry, stated[name][2]) if name in stated else entry for name, entry in listing.files.items()}
    return listing._replace(files=files)


def _complete(entry: Entry, digest: bytes) -> Entry:
    if entry.sha256:
        return entry
    return entry._replace(sha256=digest) if len(digest) == 32 else entry._replace(md5=entry.md5 or digest)


def url_of(listing: Listing, entry: Entry) -> str:
    """Where a file is, with the credentials of the upstream if the file is on the same server."""
    plain = addresses.file_url(listing.base, entry.name)
    return addresses.with_credentials(entry.url, listing.document) if entry.url else plain
