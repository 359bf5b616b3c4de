"""Which pages there are. A page is a function that gives what its template shows; it asks what programs can ask too."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
import msgspec

from .. import units, version
from ..ecosystem import Ecosystem
from ..errors import Forgotten, SelectorError, UsageError
from ..serve.web import Faces
from ..store.catalog import Catalog
from ..store.store import Store
from ..sync.api import Api
from . import charts, health, packages, setup, snapshots, words
from .visit import Visit, quoted

#: path below `/-/page/`, `` for `/`: (template, what gives its values). Values may have `status`, that of the answer.
PAGES: Mapping[str, tuple[str, Callable[[Visit], Mapping[str, Any]]]] = {
    "": ("setup.html", setup.setup),
    "snapshots": ("snapshots.html", snapshots.every),
    "snapshot": ("snapshot.html", snapshots.one),
    "compare": ("compare.html", snapshots.compare),
    "packages": ("packages.html", packages.search),
    "package": ("package.html", packages.package),
    "file": ("file.html", packages.file),
    "browse": ("browse.html", snapshots.browse),
    "health": ("health.html", health.health),
}
_MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def faces(store: Store, ecosystems: Mapping[str, Ecosystem]) -> Faces:
    """What a server of this store shows beside the files."""
    api = Api(store, ecosystems)
    return Faces(api, Pages(store, ecosystems, api))


class Pages:
    """Answers requests. Fulfils serve.web.Web."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], api: Api) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._api = api
        self._templates = jinja2.Environment(
            # All are read at the start: those of a package that is replaced meanwhile belong to other code
            loader=jinja2.DictLoader({file.name: file.read_text("utf-8") for file in _files("templates")}),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(
            units=units, charts=charts, quoted=quoted, version=version(), languages=words.LANGUAGES, static=_static_names()
        )

    def language(self, accept: str, query: Sequence[tuple[str, str]]) -> str:
        """The language of an answer. accept: the request's Accept-Language field"""
        chosen = next((value for name, value in reversed(query) if name == "lang"), "")
        return chosen if chosen in words.LANGUAGES else words.choose(accept)

    def file(self, name: str) -> tuple[str, bytes] | None:
        """See serve.web.Web."""
        stored = {address: file for file, address in _static_names().items()}.get(name)
        return (_MEDIA[stored.rpartition(".")[2]], _static(stored)) if stored else None

    def page(
        self, page: str, query: Sequence[tuple[str, str]], language: str, base: str, catalog: Catalog
    ) -> tuple[int, bytes] | None:
        """See serve.web.Web."""
        if page not in PAGES:
            return None

        def ask(path: str, asked: Mapping[str, str]) -> msgspec.Struct | None:
            return self._api.ask(path, asked, catalog)

        visit = Visit(self._store, self._ecosystems, catalog, page, query, language, base, ask)
        template, values = PAGES[page]
        try:
            return self._render(template, visit, values(visit))
        except Forgotten as error:
            return self._render("problem.html", visit, {"status": 410, "problem": str(error)})
        except SelectorError as error:
            return self._render("problem.html", visit, {"status": 404, "problem": str(error)})
        except UsageError as error:
            return self._render("problem.html", visit, {"status": 400, "problem": str(error)})

    def _render(self, template: str, visit: Visit, values: Mapping[str, Any]) -> tuple[int, bytes]:
        text = self._templates.get_template(template).render(visit=visit, t=visit.t, link=visit.link, root=visit.root, **values)
        return values.get("status", 200), text.encode("utf-8", "replace")


@cache
def _static_names() -> Mapping[str, str]:
    """{name of a file of ours: the name by which pages call it}. That changes with the file, so caches may keep it for ever."""
    names = ("style.css", "page.js", "icon.svg")
    return {name: name.replace(".", f".{hashlib.sha256(_static(name)).hexdigest()[:12]}.") for name in names}


@cache
def _static(name: str) -> bytes:
    return next(file.read_bytes() for file in _files("static") if file.name == name)


def _files(folder: str) -> Iterator[Traversable]:
    return (resources.files(__package__) / folder).iterdir()
