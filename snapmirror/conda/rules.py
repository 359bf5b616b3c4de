"""The rules of a selection that look at one record, or at the records of one name: all but `include` and what that needs."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from .. import clock, units
from .listed import Listed
from .settings import Select
from .specs import Spec, version_order

#: why a record is dropped: keys of `[repo.select]`, in the order in which they are asked; of these `include` is asked elsewhere
RULES = ("exclude", "formats", "after", "before", "max_size", "min_age", "include", "newest", "newest_builds")


class Specs:
    """Several MatchSpecs (CEP 29), found by the package name that they mean."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises ValueError for a text that is no spec."""
        specs = [Spec(text) for text in texts]
        self._exact: dict[str, list[Spec]] = {}
        for spec in specs:
            if spec.name is not None:
                self._exact.setdefault(spec.name, []).append(spec)
        self._patterns = [spec for spec in specs if spec.name is None]
        #: what was found of names: a channel has a hundred records of each, and to ask a pattern takes 15 us
        self._known: dict[str, list[Spec]] = {}

    def __bool__(self) -> bool:
        return bool(self._exact or self._patterns)

    def of(self, name: str) -> list[Spec]:
        """Those that can match records of a name."""
        found = self._known.get(name)
        if found is None:
            spoken = (spec for spec in self._patterns if spec.speaks_of(name))
            found = self._known[name] = [*self._exact.get(name.lower(), ()), *spoken]
        return found

    def names(self, known: Collection[str]) -> set[str]:
        """Those of the known names of which one of them can match records."""
        if self._patterns:
            return {name for name in known if self.of(name)}
        return {name for name in known if name.lower() in self._exact}

    def match(self, record: Listed) -> bool:
        """Whether one of them matches a record."""
        return any(spec.matches(record.build) for spec in self.of(record.build.name))


class Rules:
    """The rules of one repo's selection."""

    def __init__(self, select: Select, present: datetime) -> None:
        """present: the time from which `min_age` is counted, UTC"""
        self._select = select
        self._exclude = Specs(select.exclude)
        self._endings = tuple(f".{kind}" for kind in select.formats)
        self._after, self._before = _begin(select.after), _begin(select.before)
        self._max_size = units.parse_size(select.max_size) if select.max_size else None
        self._youngest = (present - units.parse_duration(select.min_age)).timestamp() if select.min_age else None
        self._exempt = {name.lower() for name in select.min_age_except}

    def dropped(self, records: Collection[Listed]) -> dict[Listed, str]:
        """{record: why it is dropped}, of the records of one name in one directory."""
        found = {record: rule for record in records if (rule := self._rule(record))}
        if self._select.formats:
            found.update(dict.fromkeys(self._twins([record for record in records if record not in found]), "formats"))
        return found

    def _rule(self, record: Listed) -> str | None:
        if self._exclude and self._exclude.match(record):
            return "exclude"
        if self._endings and not record.file.endswith(self._endings):
            return "formats"
        if self._after and (record.time or 0) < self._after:
            return "after"
        if self._before and (record.time or 0) >= self._before:
            return "before"
        if self._max_size is not None and record.size > self._max_size:
            return "max_size"
        return "min_age" if self._too_young(record) else None

    def _too_young(self, record: Listed) -> bool:
        if self._youngest is None or record.build.name in self._exempt:
            return False
        return record.time is None or record.time > self._youngest

    def _twins(self, records: Collection[Listed]) -> Iterator[Listed]:
        """Records whose content is also there in a format that is preferred, under the same name with another ending."""
        there = {record.file for record in records}
        for place, kind in enumerate(self._select.formats):
            for record in records:
                stem = record.file.removesuffix(f".{kind}")
                if stem != record.file and any(f"{stem}.{better}" in there for better in self._select.formats[:place]):
                    yield record

    def aged(self, records: Collection[Listed]) -> dict[Listed, str]:
        """{record: why it is dropped}, of records of one name that would be kept together, if some are not new enough."""
        dropped: dict[Listed, str] = {}
        if self._select.newest:
            tops = _top((version_order(record.build.version) for record in records), self._select.newest)
            dropped = {record: "newest" for record in records if version_order(record.build.version) not in tops}
        if self._select.newest_builds:
            versions: dict[object, list[Listed]] = {}
            for record in records:
                if record not in dropped:
                    versions.setdefault(version_order(record.build.version), []).append(record)
            for builds in versions.values():
                numbers = _top((record.build.number for record in builds), self._select.newest_builds)
                dropped |= {record: "newest_builds" for record in builds if record.build.number not in numbers}
        return dropped


def _top(values: Iterable[object], count: int) -> set[object]:
    return set(sorted(set(values), reverse=True)[:count])  # type: ignore[type-var]


def _begin(day: str) -> float | None:
    parsed = clock.parse_day(day)
    return clock.begin_of(parsed).timestamp() if parsed else None
