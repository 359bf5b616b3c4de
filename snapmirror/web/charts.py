"""Charts as SVG: no script and no style of their own, so that a strict Content-Security-Policy lets them be."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from .. import units
from ..sync.health import Point

#: units of the drawing; a page scales it
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 220, 64, 24, 10
#: more points than this can't be told apart
_POINTS = 360


class Line(NamedTuple):
    """What is drawn as one line."""

    #: a class of the style sheet
    style: str
    #: from 0 up; None where there is no number
    values: Sequence[int | None]


def _lines(title: str, labels: Sequence[str], drawn: Sequence[Line]) -> Markup:
    """Lines over the same days, in bytes. title: what a screen reader says; labels: of the days, oldest first"""
    keep = range(0, len(labels), max(1, -(-len(labels) // _POINTS)))
    places = sorted({*keep, len(labels) - 1}) if labels else []
    most = max((value for line in drawn for value in line.values if value is not None), default=0) or 1
    across = max(len(labels) - 1, 1)

    def x(place: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 8) * place / across, 1)

    def y(value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / most), 1)

    parts = []
    for part in (0, 0.25, 0.5, 0.75, 1):
        level = y(most * part)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _WIDTH - 8, level, level))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(_LEFT - 6, level + 4, units.size(int(most * part)))
        )
    for line in drawn:
        known = [(place, value) for place in places if (value := line.values[place]) is not None]
        points = " ".join(f"{x(place)},{y(value)}" for place, value in known)
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(line.style, points))
        if len(known) == 1:
            parts.append(
                Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(line.style, x(known[0][0]), y(known[0][1]))
            )
    for place, anchor in ((0, "start"), (len(labels) - 1, "end")):
        if labels:
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x(place), _HEIGHT - 6, anchor, labels[place])
            )
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, title, Markup("").join(parts)
    )


def growth(title: str, points: Sequence[Point]) -> Markup:
    """What the newest snapshot of each day lists, and what the store held then."""
    listed, stored = Line("listed", [one.bytes for one in points]), Line("stored", [one.stored for one in points])
    return _lines(title, [one.day for one in points], [listed, stored])


def bar(title: str, part: int, whole: int) -> Markup:
    """How much a part is of a whole."""
    share = min(1.0, part / whole) if whole else 0.0
    return Markup(
        '<svg class="bar" viewBox="0 0 400 14" role="img" aria-label="{}" preserveAspectRatio="none">'
        '<rect class="whole" width="400" height="14" rx="3"/><rect class="part" width="{}" height="14" rx="3"/></svg>'
    ).format(title, round(400 * share, 1))
