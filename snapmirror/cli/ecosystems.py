"""The ecosystems that there are. A new one is a folder of its own, and its names in the two lines here."""

from ..conda import Conda, CondaRepo, Sidecars
from ..ecosystem import Ecosystem
from ..errors import UsageError
from ..files import Files, FilesRepo
from ..pypi import Pypi, PypiRepo

_ALL: tuple[Ecosystem, ...] = (Conda(), Sidecars(), Pypi(), Files())
#: the tables that a `[[repo]]` may be
AnyRepo = CondaRepo | FilesRepo | PypiRepo


class _Ecosystems(dict[str, Ecosystem]):
    def __missing__(self, kind: str) -> Ecosystem:
        """A store that a newer version has written to is no bug of this one, as a KeyError would say."""
        raise UsageError(f"the store holds repos of kind {kind!r}, which this version of snapmirror does not know; upgrade it")


#: by kind
ECOSYSTEMS: dict[str, Ecosystem] = _Ecosystems({one.kind: one for one in _ALL})
