"""How large a made-up channel becomes, and in how many days."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from .growth import Growth

#: the rates of a real channel, with as many files as conda-forge gets
_GROWTH = replace(Growth(), files=1900.0)


class Subdir(NamedTuple):
    """One directory at full size."""

    #: part of the channel's files
    part: float
    #: names at the end
    names: int


@dataclass(frozen=True)
class Size:
    """A channel at its end: the defaults are conda-forge's after ten years. It has 2,766,431 files of 31,088 names (conda-forge
    by the numbers, end of 2025); the parts of subdirs follow the sizes of their indexes.
    """

    files: int = 2_800_000
    days: int = 3650
    #: whether every snapshot has a tree, and the files for it
    trees: bool = False
    growth: Growth = _GROWTH
    #: names grow as files to this power: 23,427 at 1,602,024 files, 24,617 at 1,746,363, 31,088 at 2,766,431 (same source)
    breadth: float = 0.51
    subdirs: Mapping[str, Subdir] = field(
        default_factory=lambda: {
            "linux-64": Subdir(0.24, 14_000),
            "linux-aarch64": Subdir(0.12, 10_000),
            "noarch": Subdir(0.14, 23_000),
            "osx-64": Subdir(0.20, 12_000),
            "osx-arm64": Subdir(0.12, 10_000),
            "win-64": Subdir(0.18, 11_000),
        }
    )

    @property
    def mode(self) -> str:
        """Of the directories."""
        return "eager" if self.trees else "redirect"

    def scaled(self, scale: float) -> Self:
        """The same with this part of the names and the files: each name has as many."""
        subdirs = {name: one._replace(names=max(1, round(one.names * scale))) for name, one in self.subdirs.items()}
        growth = replace(self.growth, files=self.growth.files * scale)
        return replace(self, files=round(self.files * scale), growth=growth, subdirs=subdirs)

    def within(self, days: int) -> Self:
        """The same in so many days: each brings more files."""
        growth = replace(self.growth, files=self.growth.files * self.days / days)
        return replace(self, days=days, growth=growth)

    def files_after(self, days: float) -> float:
        """Files that were ever added after so many days: a power of the time that ends with the files a day of the model."""
        power: float = (days / self.days) ** (self.growth.files * self.days / self.files)
        return self.files * power
