"""The conda ecosystem: reads channels (CEP 16, 36, 48), makes leaves that are CEP 16 shards, derives what clients ask for.

Start with `leaf` (the one form that everything is kept in), `flat` and `sharded` (how upstream is read into it),
`derive` (how documents are made of it), `conda` (the protocol of `ecosystem`).
"""

from .conda import Conda
from .settings import CondaRepo
from .sidecars import Sidecars

__all__ = ["Conda", "CondaRepo", "Sidecars"]
