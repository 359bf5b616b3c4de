"""What an ecosystem (conda, PyPI, installers) is to the rest. `sync` and `serve` know ecosystems by what stands here alone.

An ecosystem knows its formats and nothing of HTTP serving, LMDB, locks or the other ecosystems. Words: a *repo* has
*directories*, each one listing that upstream publishes as a whole (`conda-forge/linux-64`); a *leaf* is one package name's
part of a directory; a *file* is one artefact that a leaf lists.

protocol    the methods of an ecosystem, in three parts: Reads, Leaves, Shows
repo        the keys of a `[[repo]]` that all kinds have
values      what the methods take and give
environments  what locks and environment files ask of snapshots
pages       pages in several forms
clients     settings of the programs that use a mirror
"""

from .pages import Made as Made
from .pages import PageAt as PageAt
from .pages import PageMoved as PageMoved
from .pages import Pages as Pages
from .pages import Site as Site
from .protocol import Ecosystem as Ecosystem
from .protocol import Follower as Follower
from .protocol import TreeReader as TreeReader
from .repo import Mode as Mode
from .repo import Repo as Repo
from .values import About as About
from .values import DocumentPlan as DocumentPlan
from .values import FileAt as FileAt
from .values import LeafAt as LeafAt
from .values import Naming as Naming
from .values import Needed as Needed
from .values import Want as Want
from .values import Wishes as Wishes
