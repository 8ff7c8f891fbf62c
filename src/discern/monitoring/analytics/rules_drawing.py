"""A chart as lines, rectangles and words in a plane, which every kind of page can draw. Pure.

The plane is WIDTH by HEIGHT, from its upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from discern.monitoring.analytics.rules_page import Chart

WIDTH, HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 12.0, 26.0, 24.0
_TICKS = 4
_MOST_LABELS = 10
_LETTER = 6.0
Anchor = Literal["start", "middle", "end"]


class Line(NamedTuple):
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    colour: str


class Box(NamedTuple):
    """A rectangle, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    colour: str


class Dot(NamedTuple):
    """A disc."""

    x: float
    y: float
    colour: str


class Word(NamedTuple):
    """Words that stand at a point of their base line."""

    x: float
    y: float
    text: str
    anchor: Anchor


Shape = Line | Box | Dot | Word


def shapes(chart: Chart) -> Iterator[Shape]:
    """Yield what is drawn, the lowest first."""
    top = _round_up(max([sum(values) if not chart.is_lines else max(values) for values in _columns(chart)] or [0.0]))
    for tick in range(_TICKS + 1):
        y = _y(top * tick / _TICKS, top)
        yield Line(((_LEFT, y), (WIDTH - _RIGHT, y)), "grid")
        yield Word(_LEFT - 6, y + 4, _short(top * tick / _TICKS), "end")
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(chart.labels))
    every = math.ceil(len(chart.labels) / _MOST_LABELS)
    for place, label in enumerate(chart.labels):
        if place % every == 0:
            yield Word(_LEFT + width * (place + 0.5), HEIGHT - 8, label, "middle")
    yield from _lines(chart, top, width) if chart.is_lines else _bars(chart, top, width)
    yield from _key(chart)


def _bars(chart: Chart, top: float, width: float) -> Iterator[Shape]:
    thickness = min(width * 0.72, 48.0)
    for place, values in enumerate(_columns(chart)):
        below = 0.0
        for series, value in zip(chart.series, values, strict=True):
            upper, lower = _y(below + value, top), _y(below, top)
            if lower - upper > 0.05:
                x = _LEFT + width * (place + 0.5) - thickness / 2
                yield Box(round(x, 1), upper, round(thickness, 1), round(lower - upper, 1), series.colour)
            below += value


def _lines(chart: Chart, top: float, width: float) -> Iterator[Shape]:
    for series in chart.series:
        points = tuple(
            (round(_LEFT + width * (place + 0.5), 1), _y(value, top)) for place, value in enumerate(series.values)
        )
        yield Line(points, series.colour)
        yield from (Dot(x, y, series.colour) for x, y in points)


def _key(chart: Chart) -> Iterator[Shape]:
    x = _LEFT
    for series in chart.series if len(chart.series) > 1 else ():
        yield Box(x, 6.0, 9.0, 9.0, series.colour)
        yield Word(x + 13, 14.0, series.name, "start")
        x += 30 + _LETTER * len(series.name)
    yield Word(WIDTH - _RIGHT, 14.0, chart.unit, "end")


def _columns(chart: Chart) -> list[tuple[float, ...]]:
    return list(zip(*(series.values for series in chart.series), strict=True))


def _y(value: float, top: float) -> float:
    return round(_TOP + (1 - value / top) * (HEIGHT - _TOP - _BOTTOM), 1)


def _round_up(value: float) -> float:
    """Return the least of 1, 2, 4, 5 and 8 times a power of ten that is not below."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-12))


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.3g}"
