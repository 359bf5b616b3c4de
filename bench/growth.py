"""How a channel grows from day to day: a model fitted to the recorded history of a real one.

    python -m bench.growth FOLDER

FOLDER holds dated states of one repodata.json, `TIME.json.zst`; the defaults of `Growth` are what `fit` finds in the 149 of
main/linux-aarch64 from June 2021 to February 2022. Whoever models a channel of another size replaces `files`.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from snapmirror import clock, codec
from snapmirror.conda.names import leaf_of

#: bytes that a state may expand to
_LIMIT = 1 << 30
#: a step that touches at least this part of all names is a storm
_STORM = 0.5
#: days for which a name is young: it gets the rest of its first builds, which tells nothing of how often it is touched later
_YOUNG = 30


@dataclass(frozen=True)
class Growth:
    """Rates of a channel. A name is touched when it gets files, loses some, or has records changed in place."""

    #: files added on a usual day
    files: float = 10.15
    #: files that a name gets at once when it is touched
    builds: float = 4.25
    #: a name is touched in proportion to its number of files to this power
    exponent: float = 0.80
    #: files removed for one that is added
    removed: float = 0.00405
    #: days a year on which a few records of one name are changed in place, and how many
    fixes: float = 4.55
    fixed: float = 8.67
    #: days a year on which most names are touched, and what part of the names one of these touches
    storms: float = 1.52
    share: float = 0.882


class _Repodata(msgspec.Struct):
    """A repodata.json, its records not decoded."""

    packages: dict[str, msgspec.Raw] = {}
    conda: dict[str, msgspec.Raw] = msgspec.field(name="packages.conda", default_factory=dict)


class _State(NamedTuple):
    time: datetime
    #: {file: its record as text}
    records: Mapping[str, bytes]
    #: {name: number of files}
    sizes: Mapping[str, int]


class _Step(NamedTuple):
    """What came between two states."""

    days: float
    added: int
    removed: int
    #: records changed in place
    changed: int
    #: names that got files
    touched: frozenset[str]
    #: part of the names there before that was touched in any way
    part: float
    before: _State


def fit(folder: Path) -> Growth:
    """The model of a recorded history. Raises ValueError if it has no two states, OSError."""
    states = list(_states(folder))
    steps = [_step(*pair) for pair in pairwise(states)]
    if not steps:
        raise ValueError(f"{folder} does not hold two states (TIME.json.zst)")
    usual = [step for step in steps if step.part < _STORM]
    storms = [step for step in steps if step.part >= _STORM]
    fixes = [step.changed for step in usual if step.changed]
    years = sum(step.days for step in steps) / 365
    added = sum(step.added for step in usual)
    return Growth(
        files=added / sum(step.days for step in usual),
        builds=added / sum(len(step.touched) for step in usual),
        exponent=_exponent(usual),
        removed=sum(step.removed for step in steps) / sum(step.added for step in steps),
        fixes=len(fixes) / years,
        fixed=sum(fixes) / len(fixes) if fixes else 0.0,
        storms=len(storms) / years,
        share=sum(step.part for step in storms) / len(storms) if storms else 0.0,
    )


def _states(folder: Path) -> Iterator[_State]:
    for path in sorted(folder.glob("*.json.zst")):
        time = clock.from_id(path.name.removesuffix(".json.zst"))
        if time is None:
            raise ValueError(f"{path} is not named by its time")
        found = msgspec.json.decode(codec.decompress(path.read_bytes(), _LIMIT), type=_Repodata)
        records = {file: bytes(record) for part in (found.packages, found.conda) for file, record in part.items()}
        yield _State(time, records, Counter(map(leaf_of, records)))


def _step(before: _State, after: _State) -> _Step:
    old, new = before.records, after.records
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    changed = [file for file in old.keys() & new.keys() if old[file] != new[file] and _differ(old[file], new[file])]
    touched = frozenset(map(leaf_of, added))
    there = {*touched, *map(leaf_of, removed), *map(leaf_of, changed)} & before.sizes.keys()
    days = (after.time - before.time).total_seconds() / 86_400
    return _Step(days, len(added), len(removed), len(changed), touched, len(there) / len(before.sizes), before)


def _differ(one: bytes, other: bytes) -> bool:
    """Whether two texts are of different records."""
    return bool(msgspec.json.decode(one) != msgspec.json.decode(other))


def _exponent(steps: Sequence[_Step]) -> float:
    """How the rate at which a name is touched grows with its files: the slope of a line through the logarithms, for names
    grouped by doubling size. A group counts by its touches.
    """
    since: dict[str, datetime] = {}
    touches: dict[int, int] = defaultdict(int)
    exposed: dict[int, float] = defaultdict(float)
    for step in steps:
        for name, size in step.before.sizes.items():
            if (step.before.time - since.setdefault(name, step.before.time)).days >= _YOUNG:
                group = round(math.log2(size))
                touches[group] += name in step.touched
                exposed[group] += step.days
    points = [(group, math.log2(touches[group] / exposed[group]), touches[group]) for group in touches if touches[group]]
    weight = sum(point[2] for point in points)
    x, y = (sum(point[axis] * point[2] for point in points) / weight for axis in (0, 1))
    spread = sum(point[2] * (point[0] - x) ** 2 for point in points)
    return sum(point[2] * (point[0] - x) * (point[1] - y) for point in points) / spread if spread else 0.0


def main() -> None:
    """Print the model of a recorded history."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Fit the model to a recorded history.")
    parser.add_argument("folder", type=Path)
    found = fit(parser.parse_args().folder)
    for field in fields(found):
        print(f"{field.name:9} {getattr(found, field.name):.4g}")


if __name__ == "__main__":
    main()
