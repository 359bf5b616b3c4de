"""The server of one process: takes a request, finds what it names, sends it."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from .. import clock, codec
from ..ecosystem import Ecosystem
from ..errors import DamagedError
from ..store.store import Store
from . import internal, negotiate
from .bodies import Bodies, Body, in_memory
from .documents import GZIP, DocumentBodies
from .resolve import (
    Answer,
    BlobAnswer,
    DocumentAnswer,
    ElsewhereAnswer,
    FolderAnswer,
    Place,
    Refused,
    Resolver,
    SlashAnswer,
    UnlistedAnswer,
)
from .respond import IMMUTABLE, NO_STORE, SHORT, Head, Missing, Reply, head, problem, respond
from .settings import Serve
from .view import Watch

_log = logging.getLogger(__name__)
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_ENDINGS = {"": "", "gzip": GZIP, "zstd": ".zst"}


class Server:
    """Answers requests from a store that it only reads. `handle` is what aiohttp calls."""

    def __init__(self, store: Store, ecosystems: Mapping[str, Ecosystem], settings: Serve) -> None:
        self._store = store
        self._ecosystems = ecosystems
        self._public_url = settings.public_url
        self._watch = Watch(store)
        self._resolver = Resolver(store, ecosystems, self._watch.view(), settings.public_url)
        self._bodies = Bodies()
        self._documents = DocumentBodies(store.documents, self._bodies)
        self._snapshots = internal.Snapshots(store)
        #: headers that were made for this view, by raw path and coding
        self._heads: dict[tuple[str, str], Head] = {}

    def close(self) -> None:
        """Wait for threads."""
        self._bodies.close()
