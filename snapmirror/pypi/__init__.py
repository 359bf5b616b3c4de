"""The Python ecosystem: reads package indexes (PEP 503, 691), PyPI above all, and shows what it keeps as such an index.

Start with `leaf` (the one form that everything is kept in), `page` and `listing` (how upstream's documents are read),
`reading` (what becomes of them), `pages` (how documents are made of leaves), `pypi` (the protocol of `ecosystem`).
"""

from .pypi import Pypi as Pypi
from .settings import PypiRepo as PypiRepo
