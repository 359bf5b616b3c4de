"""Python package indexes: PyPI, and those that speak as it does.

settings      the keys of a `[[repo]]`
pypi          what `sync` and `serve` call
upstream      where an index is, and what of it is read
asking        pages of projects, conditionally, side by side
reading       what becomes of a state of an index
listing       the list of all projects
page          a project's page made a leaf; html: one that is no JSON; version: of the API
leaf          the page of one project, and its files
packages      a folder of wheels and sdists as an index
merge         several indexes as one
wheels        the metadata in a wheel
names         names of projects, and of files
select        what is kept; rules: of one project; closure: of what that needs; requirements: of what files name
platforms     Pythons and platforms that a mirror is for
clients       settings of pip and uv
pages         pages as they are served; legacy: of the API from before; negotiate: which one a client wants
"""

from .pypi import Pypi as Pypi
from .settings import PypiRepo as PypiRepo
