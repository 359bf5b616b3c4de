"""Which pages a repo has, and which form of them a client gets.

simple/               the list of projects (PEP 503, 691); also without the slash, as bandersnatch asks for it
simple/<project>/     the page of a project (PEP 503, 691); without the slash, or with another spelling, a redirect to it
pypi/<project>/json   the project by PyPI's JSON API (`legacy`), as bandersnatch asks for it
"""

import urllib.parse
from collections.abc import Iterator, Sequence

from ..ecosystem import Made, PageAt, PageMoved, Pages, Site
from ..errors import DamagedError
from ..store.directories import DirectoryReader
from . import leaf, legacy, names, negotiate, pages
from .pages import Project

_LEGACY = "application/json"


class Simple(Pages):
    """Fulfils `ecosystem.Pages`; stateless."""

    folders: Sequence[str] = ("simple/",)

    def at(self, reader: DirectoryReader, path: str, *, folder: bool) -> PageAt | PageMoved | None:
        """See Pages.at."""
        match path.split("/"):
            case ["simple"]:
                return PageAt("simple/" if folder else "simple", None)
            case ["simple", project]:
                return _project(reader, project, folder=folder)
            case ["pypi", project, "json"] if not folder and (found := reader.leaf(names.normalise(project))):
                return PageAt(f"pypi/{names.normalise(project)}/json", found)
        return None

    def form(self, page: PageAt, accept: str | None, wanted: str | None) -> str:
        """See Pages.form."""
        return _LEGACY if page.path.startswith("pypi/") else negotiate.media_type(negotiate.choose(accept, wanted))

    def make(self, reader: DirectoryReader, page: PageAt, form: str, site: Site) -> Made:
        """See Pages.make."""
        if page.leaf is None:
            return _list(reader, form, "" if page.path.endswith("/") else "simple/")
        content = _without_denied(reader.read(page.leaf), site)
        try:
            head = leaf.head(content)
            if form == _LEGACY:
                body = legacy.project(content)
            else:
                make = pages.project_json if form.startswith(negotiate.JSON) else pages.project_html
                body = make(content, site.files)
        except ValueError as error:
            raise DamagedError(f"blob {page.leaf.hex()}", str(error)) from None
        told = ("X-Snapmirror-Reconstructed: true",) if head.reconstructed else ()
        return Made(body, _serial_header(head.serial) + told)

    def static(self, reader: DirectoryReader) -> Iterator[tuple[str, bytes]]:
        """See Pages.static. Files are named as bandersnatch names them, so that its configurations of web servers fit."""
        yield from _bodies("", None, reader)
        for name, content in reader.contents():
            yield from _bodies(f"{name}/", content, reader)


def _bodies(name: str, content: bytes | None, reader: DirectoryReader) -> Iterator[tuple[str, bytes]]:
    html = pages.project_html(content) if content else _list(reader, negotiate.TEXT).body
    json = pages.project_json(content) if content else _list(reader, negotiate.JSON).body
    for file, body in (("index.html", html), ("index.v1_html", html), ("index.v1_json", json)):
        yield f"simple/{name}{file}", body


def _project(reader: DirectoryReader, project: str, *, folder: bool) -> PageAt | PageMoved | None:
    name = names.normalise(project)
    found = reader.leaf(name)
    if found is None:
        return None
    if name != project or not folder:
        quoted = urllib.parse.quote(name, safe="")
        return PageMoved(f"../{quoted}/" if folder else f"{quoted}/")
    return PageAt(f"simple/{name}/", found)


def _list(reader: DirectoryReader, form: str, folder: str = "") -> Made:
    """The list of all projects. folder: relative URL from it to the folder of pages, empty or ending in a slash"""
    serial = reader.document.info.get("_last-serial")
    serial = serial if isinstance(serial, int) else None
    projects = _projects(reader)
    is_json = form.startswith(negotiate.JSON)
    body = pages.index_json(projects, serial) if is_json else pages.index_html(projects, serial, folder)
    return Made(body, _serial_header(serial))


def _projects(reader: DirectoryReader) -> Iterator[Project]:
    """All projects, sorted by name. Their leaves are not read: what the list says of 700,000 is in their labels."""
    labels = reader.labels
    for name in sorted(labels):
        serial, _, title = labels[name].partition(" ")
        yield Project(name, title, int(serial) if serial else None)


def _without_denied(content: bytes, site: Site) -> bytes:
    """A leaf without the files that the operator has denied since."""
    withheld = {file.name for file in leaf.files(content) if file.sha256 in site.denied} if site.denied else ()
    return leaf.settle(content, {}, withheld) if withheld else content


def _serial_header(serial: int | None) -> tuple[str, ...]:
    return () if serial is None else (f"X-PyPI-Last-Serial: {serial}",)
