"""The API for programs, `/-/api/v1/`: requests in, JSON out. What can be asked is not known here."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from aiohttp import web

from ..errors import Forgotten, SelectorError, UsageError
from ..store.catalog import Catalog
from .bodies import Bodies, Body, in_memory
from .respond import REVALIDATE, SHORT, Reply, head, problem, respond

#: below `/-/`
PREFIX = "api/v1/"
#: a question may take seconds, and pages must not wait for it
_THREADS = 2
_JSON = "application/json"


class _NoQuestion(Exception):
    """A path that asks nothing."""


class Api(Protocol):
    """What answers."""

    def answer(self, path: str, query: Mapping[str, str], catalog: Catalog) -> bytes | None:
        """The JSON for a raw path below PREFIX; None if there is nothing of that kind.

        Raises SelectorError, UsageError, DamagedError.
        """
        ...

    def lasts(self, path: str) -> bool:
        """Whether the answer for a raw path stays as it is while the catalog does."""
        ...


class ApiSender:
    """Answers of one process."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._bodies = Bodies(ThreadPoolExecutor(_THREADS, thread_name_prefix="api"))

    def beside(self) -> Bodies:
        """A cache of answers, for one view of the store."""
        return self._bodies.beside()

    def close(self) -> None:
        """Wait for what is being worked out."""
        self._bodies.close()

    async def answer(self, request: web.BaseRequest, path: str, catalog: Catalog, bodies: Bodies) -> Reply:
        """The answer for a raw path below PREFIX. bodies: of the view that has this catalog. Raises DamagedError."""
        query = dict(request.query)

        def make() -> Body:
            found = self._api.answer(path, query, catalog)
            if found is None:
                raise _NoQuestion
            return in_memory(found)

        try:
            lasts = self._api.lasts(path)
            if not lasts:
                bodies = self._bodies.beside()
            body = await bodies.get((path, *sorted(query.items())), make)
        except Forgotten as error:
            return problem(request, 410, str(error), media=_JSON)
        except SelectorError as error:
            return problem(request, 404, str(error), media=_JSON)
        except _NoQuestion:
            return problem(request, 404, f"{path}: there is no such question; openapi.json lists them all", media=_JSON)
        except UsageError as error:
            return problem(request, 400, str(error), media=_JSON)
        return respond(request, head(body, None, _JSON, SHORT if lasts else REVALIDATE), body, None)
