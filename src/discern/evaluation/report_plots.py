"""The plots of the page, as SVG that takes its colours from the page: light, dark and printed alike.

- Nothing is loaded, no font is drawn as paths, and every plot has its words for who cannot see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from discern.evaluation.metrics_calibration import ReliabilityBin
from discern.evaluation.results import CrossCell, DatasetResult, DetectorFacts
from discern.evaluation.types import Bar, Estimate, Point

_WIDTH, _HEIGHT = 360, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 40
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLOURS = 6
"""So many series have a colour of their own in the page's style: `series-0` and so on."""


class Series(NamedTuple):
    """A named line of points whose coordinates lie in [0, 1]."""

    name: str
    points: Sequence[Point]


def roc(results: Sequence[DatasetResult]) -> str:
    """Return the ROC curves of the datasets."""
    lines = [Series(one.name, one.roc) for one in results if one.roc]
    return _chart(lines, "False-positive rate", "True-positive rate", _line((0, 0), (1, 1), "guess"), "ROC curves")


def precision_recall(results: Sequence[DatasetResult]) -> str:
    """Return the curves of precision over recall."""
    lines = [Series(one.name, one.precision_recall) for one in results if one.precision_recall]
    return _chart(lines, "Recall", "Precision", "", "Precision over recall")


def reliability(bins: Sequence[ReliabilityBin]) -> str:
    """Return the share of positives over the mean score, with intervals."""
    parts = [_line((0, 0), (1, 1), "guess")]
    most = max((one.items for one in bins), default=1)
    for one in bins:
        x, low, high = one.mean_score, one.positives.low, one.positives.high
        if low is not None and high is not None:
            parts.append(_line((x, low), (x, high), "whisker"))
    for one in bins:
        radius = 3 + 5 * (one.items / most) ** 0.5
        parts.append(
            f'<circle class="dot" cx="{_x(one.mean_score):.1f}" cy="{_y(one.positives.value or 0):.1f}" '
            f'r="{radius:.1f}"><title>{one.items:,} items</title></circle>'
        )
    return _framed("".join(parts), "Mean score", "Share of positives", "Reliability")


def thresholds(detector: DetectorFacts) -> list[float]:
    """Return where review and flag begin, in every band."""
    steps = () if detector.bands is None else detector.bands.steps
    own = (detector.review_from, detector.flag_from)
    return sorted({*own, *(at for one in steps for at in (one.review_from, one.flag_from))})


def histogram(bars: Sequence[Bar], thresholds: Sequence[float]) -> str:
    """Return how the scores of the two classes lie, each class as a share of its own, with the thresholds."""
    negatives, positives = sum(one.negatives for one in bars), sum(one.positives for one in bars)
    shares = [(one, one.negatives / max(1, negatives), one.positives / max(1, positives)) for one in bars]
    most = max((max(low, high) for _, low, high in shares), default=0.0) or 1.0
    parts = []
    for one, low, high in shares:
        half = (one.high - one.low) / 2
        for share, start, kind in ((low, one.low, "negative"), (high, one.low + half, "positive")):
            if share:
                top = share / most
                parts.append(
                    f'<rect class="{kind}" x="{_x(start) + 0.5:.1f}" y="{_y(top):.1f}" '
                    f'width="{half * _ACROSS - 1:.1f}" height="{_y(0) - _y(top):.1f}"/>'
                )
    parts += [_line((at, 0), (at, 1), "threshold") for at in thresholds]
    ticks = tuple(f"{tick * most:.0%}" for tick in _TICKS)
    return _framed("".join(parts), "Score", "Share of the class", "Scores of the two classes", ticks)


def matrix_shade(estimate: Estimate) -> int:
    """Return how strongly a cell of the matrix is shaded, 0 (guessing or worse) to 10."""
    return 0 if estimate.value is None else max(0, min(10, round((estimate.value - 0.5) * 20)))


def rows_of(cells: Sequence[CrossCell]) -> list[list[CrossCell]]:
    """Return the cells of the matrix, a list for each dataset of negatives."""
    names = list(dict.fromkeys(cell.negatives_of for cell in cells))
    return [[cell for cell in cells if cell.negatives_of == name] for name in names]


def _chart(lines: Sequence[Series], x_name: str, y_name: str, below: str, title: str) -> str:
    drawn = [below]
    for place, line in enumerate(lines):
        points = " ".join(f"{_x(point.x):.1f},{_y(point.y):.1f}" for point in line.points)
        drawn.append(f'<polyline class="series series-{place % COLOURS}" points="{points}"/>')
    return _framed("".join(drawn), x_name, y_name, title)


def _framed(inside: str, x_name: str, y_name: str, title: str, y_ticks: Sequence[str] | None = None) -> str:
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    for place, tick in enumerate(_TICKS):
        said = f"{tick:g}" if y_ticks is None else y_ticks[place]
        parts += [
            _line((0, tick), (1, tick), "grid"),
            f'<text class="tick" x="{_LEFT - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{said}</text>',
            f'<text class="tick" x="{_x(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>',
        ]
    middle = _TOP + _DOWN / 2
    beside = f'x="10" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 10 {middle:.0f})"'
    parts += [
        inside,
        f'<text class="axis" x="{_LEFT + _ACROSS / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{x_name}</text>',
        f'<text class="axis" {beside}>{y_name}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    return (
        f'<line class="{kind}" x1="{_x(start[0]):.1f}" y1="{_y(start[1]):.1f}" '
        f'x2="{_x(end[0]):.1f}" y2="{_y(end[1]):.1f}"/>'
    )


def _x(share: float) -> float:
    return _LEFT + share * _ACROSS


def _y(share: float) -> float:
    return _TOP + (1 - share) * _DOWN
