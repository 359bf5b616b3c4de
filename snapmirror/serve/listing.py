"""Folder listings for people and scrapers: plain HTML, relative links, one line an entry, sizes in bytes."""

import html
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .. import clock
from ..ecosystem import Ecosystem
from ..store.directories import DirectoryReader
from ..store.records import DirectoryState, RepoState
from ..store.store import Store


class Row(NamedTuple):
    """One line."""

    #: shown, and linked to; ends in a slash for a folder
    name: str
    #: bytes
    size: int | None = None
    #: what else there is to say
    note: str = ""


def leaf_folder(ecosystem: Ecosystem) -> str | None:
    """The folder below a directory in which its leaves are published, if there is one."""
    path = ecosystem.leaf_path(bytes(32))
    return path.rpartition("/")[0] or None if path else None


def _times(id_: str) -> str:
    """An id as UTC and as the local time of this machine."""
    instant = clock.from_id(id_)
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC, {instant.astimezone():%Y-%m-%d %H:%M %Z}" if instant else ""


def repos(title: str, prefix: str, found: Iterable[str]) -> bytes:
    """A folder above repos. found: their paths, of which each begins with `prefix`"""
    names = dict.fromkeys(repo[len(prefix) :].split("/")[0] + "/" for repo in found)
    return _page(title, {"": [Row(name) for name in names]})


def directories(title: str, names: Iterable[str], rows: Iterable[Row], public_url: str) -> bytes:
    """A repo: its directories, and what it has beside them (`rows`). public_url: what clients are to use, may be empty"""
    return _page(title, {"": [*(Row(f"{name}/") for name in names), *rows]}, public_url)


def directory(title: str, store: Store, ecosystem: Ecosystem, state: DirectoryState, rows: Iterable[Row]) -> bytes:
    """A directory: the folder of its leaves, its documents, what the repo has beside it (`rows`), its files."""
    reader = store.metadata.directory(state.blob)
    if ecosystem.pages:
        return _page(title, {"": [Row(folder) for folder in ecosystem.pages.folders]})
    folder = leaf_folder(ecosystem)
    files = [Row(file.name, file.size) for _, leaf in reader.contents() for file in ecosystem.files(leaf)]
    documents = _documents(store, reader, state)
    return _page(title, {"": [*([Row(f"{folder}/")] if folder else []), *documents, *rows, *sorted(files)]})


def _documents(store: Store, reader: DirectoryReader, state: DirectoryState) -> list[Row]:
    return [
        Row(name + suffix, _document_size(store, derived.sha256, suffix, derived.size), _times(state.since))
        for name, derived in sorted(reader.document.documents.items())
        for suffix in derived.suffixes
    ]


def beside(store: Store, ecosystems: Mapping[str, Ecosystem], repo: RepoState, folder: str) -> list[Row]:
    """What a repo has beside its directories, in the folder of one of them; "" for the repo's own."""
    state = repo.directories.get("")
    if state is None or len(repo.directories) == 1:
        return []
    reader = store.metadata.directory(state.blob)
    ecosystem = ecosystems[reader.document.kind]
    files = [Row(file.name, file.size) for _, leaf in reader.contents() for file in ecosystem.files(leaf)]
    return [
        row._replace(name=row.name[len(folder) + 1 :] if folder else row.name)
        for row in [*_documents(store, reader, state), *sorted(files)]
        if next((name for name in repo.directories if name and row.name.startswith(f"{name}/")), "") == folder
    ]


def table(title: str, store: Store, ecosystem: Ecosystem, state: DirectoryState, folder: str) -> bytes:
    """A folder of a directory whose names are paths, as a table with the columns of Anaconda's, which scripts read. There,
    leaves have the names of their files.
    """
    reader = store.metadata.directory(state.blob)
    above = f"{folder}/" if folder else ""
    inside = [(name, leaf) for name, leaf in reader.leaves.items() if name.startswith(above)]
    folders = dict.fromkeys(name[len(above) :].split("/")[0] + "/" for name, _ in inside if "/" in name[len(above) :])
    rows = [_cells(name, "-", "", "&lt;directory&gt;") for name in folders]
    for name, leaf in inside:
        if "/" not in name[len(above) :]:
            for file in ecosystem.files(reader.read(leaf)):
                size = "-" if file.size is None else str(file.size)
                modified = "" if file.modified is None else f"{clock.from_seconds(file.modified):%Y-%m-%d %H:%M:%S}"
                rows.append(_cells(name[len(above) :], size, modified, file.sha256.hex() if file.sha256 else ""))
    return "\n".join(
        [*_begin(_absolute(title)), '<p><a href="../">../</a></p>', "<table>", _HEADINGS, *rows, "</table>", _END]
    ).encode()


_HEADINGS = "<tr><th>Filename</th><th>Size</th><th>Last Modified</th><th>SHA256</th></tr>"
_END = "<hr>\n</body>\n</html>\n"


def _cells(name: str, *cells: str) -> str:
    href = urllib.parse.quote(f"./{name}" if ":" in name else name)
    link = f'<a href="{html.escape(href)}">{html.escape(name)}</a>'
    return f"<tr><td>{link}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _document_size(store: Store, digest: bytes, suffix: str, plain: int) -> int | None:
    """Bytes of a published form; None where that would have to be made first."""
    if not suffix:
        return plain
    try:
        return store.documents.path(digest, suffix).stat().st_size
    except FileNotFoundError:
        return None


def leaves(title: str, store: Store, ecosystem: Ecosystem, state: DirectoryState) -> bytes:
    """The folder of a directory's leaves."""
    leaves = store.metadata.directory(state.blob).leaves
    sizes = store.blobs.sizes(leaves.values())
    rows = []
    for name, leaf in leaves.items():
        path = ecosystem.leaf_path(leaf) or ""
        rows.append(Row(path.rpartition("/")[2], sizes.get(leaf), name))
    return _page(title, {"": sorted(set(rows))})


def _page(title: str, sections: dict[str, list[Row]], example: str = "", *, parent: bool = True) -> bytes:
    """title: the path of the folder, as a person would write it; example: a URL to copy, if there is one."""
    return "\n".join(_lines(_absolute(title), sections, example, parent)).encode()


def _absolute(title: str) -> str:
    return (title.strip("/") and f"/{title.strip('/')}/") or "/"


def _lines(title: str, sections: dict[str, list[Row]], example: str, parent: bool) -> Iterator[str]:
    yield from _begin(title)
    if example:
        yield f"<p>URL for clients: <code>{html.escape(example)}</code></p>"
    up = '<a href="../">../</a>\n' if parent else ""
    for name, rows in sections.items():
        if rows or not name:
            yield (f"<h2>{html.escape(name)}</h2>\n" if name else "") + f"<hr>\n<pre>{up}"
            yield from map(_line, rows)
            yield "</pre>"
    yield _END


def _begin(title: str) -> Iterator[str]:
    heading = html.escape(f"Index of {title}")
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{heading}</title>\n</head>\n<body>\n<h1>{heading}</h1>"


def _line(row: Row) -> str:
    href = urllib.parse.quote(row.name, safe="/")
    padding = " " * max(1, 60 - len(row.name))
    size = "-" if row.size is None else str(row.size)
    return f'<a href="{html.escape(href)}">{html.escape(row.name)}</a>{padding}{size:>14}  {html.escape(row.note)}'.rstrip()
