"""The choice as files: JSON that is the same byte for byte, and from it one page that loads nothing.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from discern.evaluation import report, report_words
from discern.evaluation.studio.types import CostPoint, Flow, ThresholdChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discern.evaluation.types import Estimate

JSON, PAGE = "thresholds.json", "thresholds.html"
_WIDTH, _HEIGHT = 500, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 42
_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_EDGE = 0.00005
_LEVELS = 5


def write(out: Path, choice: ThresholdChoice) -> None:
    """Write both files, the JSON last. Raises OperatorError."""
    report.write(out, [(PAGE, page(choice)), (JSON, report.canonical(choice))])


def page(choice: ThresholdChoice) -> bytes:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("discern.evaluation", "templates"),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure, percent=report_words.percent, percent_interval=report_words.percent_interval,
        count=report_words.count, interval=_interval,
    )  # fmt: skip
    return (
        environment.get_template("thresholds.html.j2")
        .render(c=choice, plot=plot(choice), verdict=verdict(choice))
        .encode()
    )


def verdict(choice: ThresholdChoice) -> str:
    """Return what was chosen and what it costs, in a sentence."""
    first, *others = choice.chosen.cuts
    more = f" where {choice.amount_field} is below {others[0].start:g} ({len(others)} more bands)" if others else ""
    cost = choice.cost
    expected = (
        f"an item costs {_figure(cost.value)} ({_interval(cost) or 'no interval'})"
        if cost.value is not None
        else cost.caveat
    )
    negative, positive = choice.flows
    shipped = choice.cost_of_shipped.value
    beside = "" if shipped is None else f" With the thresholds that it has an item costs {_figure(shipped)}."
    return (
        f"{choice.detector} {choice.version} reviews from {first.review_from:g} and flags from "
        f"{first.flag_from:g}{more}: {expected}, {report_words.percent(choice.reviews)} of the items are "
        f"reviewed.{beside} It flags {_flagged(positive)} and {_flagged(negative)}."
    )


def _flagged(flow: Flow) -> str:
    return f"{report_words.percent(flow.flag.value)} of {flow.label}"


def plot(choice: ThresholdChoice) -> str:
    """Return the cost of an item over each threshold, as SVG; empty where there are bands."""
    curves = (("review_from", choice.curve_review), ("flag_from", choice.curve_flag))
    costs = [point.cost for _, points in curves for point in points]
    if not costs:
        return ""
    # Where everything is flagged or cleared costs may be a hundred times the least: what matters is near it.
    low, highest = 0.0, max(min(costs) * 6, sorted(costs)[len(costs) // 2]) or 1.0
    step = _round_step(highest / _LEVELS)
    high = step * math.ceil(highest / step)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Expected cost over the thresholds">']
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for tick in _TICKS:
        x = _x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for cost in (step * number for number in range(round(high / step) + 1)):
        y = _y(cost, low, high)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{cost:.3g}</text>')
    cuts = choice.chosen.cuts[0]
    for number, ((_, points), at) in enumerate(zip(curves, (cuts.review_from, cuts.flag_from), strict=True)):
        parts.append(f'<polyline class="series series-{number}" points="{_points(points, low, high)}"/>')
        parts.append(f'<line class="threshold" x1="{_x(at):.1f}" y1="{_TOP}" x2="{_x(at):.1f}" y2="{bottom}"/>')
    middle = (_LEFT + right) / 2
    place = f'x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle"'
    parts.append(f'<text class="axis" {place}>Threshold on the score</text>')
    level = (_TOP + bottom) / 2
    turned = f'x="11" y="{level:.0f}" text-anchor="middle" transform="rotate(-90 11 {level:.0f})"'
    return "".join([*parts, f'<text class="axis" {turned}>Cost of an item</text></svg>'])


def _round_step(least: float) -> float:
    """Return the least of 1, 2, 5, 10, 20 and so on, and their parts, that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _points(points: Sequence[CostPoint], low: float, high: float) -> str:
    return " ".join(f"{_x(point.at):.1f},{_y(min(point.cost, high), low, high):.1f}" for point in points)


def _x(score: float) -> float:
    """Return the place of a score on an axis of log odds, which shows both ends."""
    share = min(max(score, _EDGE), 1 - _EDGE)
    edge = math.log((1 - _EDGE) / _EDGE)
    return _LEFT + (math.log(share / (1 - share)) + edge) / (2 * edge) * (_WIDTH - _LEFT - _RIGHT)


def _y(cost: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (cost - low) / ((high - low) or 1.0) * (_HEIGHT - _TOP - _BOTTOM)


def _figure(value: float | None) -> str:
    return report_words.NONE if value is None else f"{value:.4g}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.4g} to {estimate.high:.4g}"
