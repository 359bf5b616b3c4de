"""Serving a store over HTTP, read-only.

In the order of a request: `workers` (processes and signals), `app` (one process), `view` (what is being served), `resolve`
(what a path names), `documents` and `listing` (bodies that are made; kept by `bodies`), `respond` (conditions, ranges,
headers, the bytes on the wire).
"""

from .settings import Serve
from .workers import run

__all__ = ["Serve", "run"]
