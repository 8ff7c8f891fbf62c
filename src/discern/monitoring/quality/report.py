"""A page of quality: estimated and realised on one chart a measure, as SVG in HTML that needs nothing else.

- Every text from outside is escaped, nothing is loaded, and nothing runs.
- Every chart has its figures in words, for who cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape

from discern.monitoring.quality.rules import ASSUMPTIONS
from discern.monitoring.quality.types import (
    MEASURES,
    Figure,
    Gap,
    Kind,
    Measure,
    QualityReport,
    QualityWindow,
    ReleaseQuality,
)

_WIDTH, _HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 28
_ACROSS, _DOWN = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_TICKS = 4
_PIECE = 24
_LEAST_AXIS = 0.02
NAMES: dict[Measure, str] = {
    "precision": "Precision of flags",
    "true_positive_rate": "True-positive rate of flags",
    "false_positive_rate": "False-positive rate of flags",
    "positive_rate": "Share of positives",
    "review_precision": "Precision of flags and reviews",
    "review_true_positive_rate": "True-positive rate of flags and reviews",
    "review_false_positive_rate": "False-positive rate of flags and reviews",
}
_KEY = (
    "Line and band: estimated from scores. Dots and whiskers: by labels, hollow where labels are still expected. Bands "
    "and whiskers are 95 % intervals."
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #8a94a3; --line: #dfe4ea; --page: #fff; --est: #2563c9;
  --real: #b4460f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --faint: #8d97a6; --line: #333c49; --page: #14181f;
  --est: #7eb0ff; --real: #ff9d66; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--faint); } .grid { stroke: var(--line); }
.band { fill: var(--est); opacity: .18; } .estimated { fill: none; stroke: var(--est); stroke-width: 2; }
.whisker { stroke: var(--real); stroke-width: 1.5; } .mature { fill: var(--real); }
.immature { fill: var(--page); stroke: var(--real); stroke-width: 1.5; } .none { color: var(--faint); }
.alarm { color: var(--real); font-weight: 600; } table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); }
"""


def page(report: QualityReport, now: datetime) -> str:
    """Return the page, HTML."""
    title = f"Quality of detectors in {report.workspace}"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p>As of {now:%Y-%m-%d %H:%M} UTC, in windows of {report.window_days} d. {_KEY}</p>",
        *(part for release in report.releases for part in _release(release)),
        *([] if report.releases else ['<p class="none">Nothing was measured yet.</p>']),
        "<h2>What the figures rest on</h2><ul>",
        *(f"<li>{escape(one)}</li>" for one in ASSUMPTIONS),
        "</ul></body></html>",
    ]
    return "\n".join(parts)


def _release(release: ReleaseQuality) -> Iterator[str]:
    yield f"<h2>{escape(release.detector)} {escape(release.version)}</h2>"
    yield from (f"<p>{escape(one)}</p>" for one in release.caveats)
    yield '<div class="charts">'
    yield from (
        f"<figure><figcaption>{NAMES[one]}</figcaption>{chart(release.windows, one)}</figure>" for one in MEASURES
    )
    yield "</div>"
    yield "<h3>Gap between estimated and realised</h3><table><tr><th>Measure</th><th>Labels</th><th>Evidence</th>"
    yield "<th>Needed</th><th></th></tr>"
    yield from (f"<tr>{''.join(f'<td>{cell}</td>' for cell in _gap(one))}</tr>" for one in release.gaps)
    yield "</table>"


def gap_words(gap: Gap) -> str:
    """Return what is found of a gap, in words."""
    if not gap.is_alarm:
        return "none found"
    more = "more" if gap.more_positive else "fewer"
    where = {"precision": " of what was flagged", "true_positive_rate": " of what was not flagged"}
    since = "" if gap.since is None else f", seen in the window of {gap.since:%Y-%m-%d}"
    return f"{more} positives{where.get(gap.measure, '')} than scores say{since}"


def _gap(gap: Gap) -> tuple[str, ...]:
    said = escape(gap_words(gap))
    found = f'<span class="alarm">{said}</span>' if gap.is_alarm else said
    return NAMES[gap.measure], f"{gap.labels:,}", f"{gap.evidence:,.1f}", f"{gap.needed:,.0f}", found


def chart(windows: Sequence[QualityWindow], measure: Measure) -> str:
    """Return one measure over the windows, SVG; in words where there is nothing to draw."""
    estimated, realised = (_points(windows, measure, kind) for kind in ("estimated", "realised"))
    there = [*estimated, *realised]
    if not there:
        why = next((one.why for window in reversed(windows) for one in _of(window, measure) if one.why), "no verdicts")
        return f'<p class="none">{escape(why)}</p>'
    scale = _Scale([window.start for window in windows], [value for _, one in there for value in _ends(one)])
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_words(measure, estimated, realised)}">']
    parts += scale.frame()
    if estimated:
        upper, lower, middle = (
            [f"{x},{scale.y(getattr(one, end))}" for window, one in estimated for x in scale.across(window.start)]
            for end in ("high", "low", "value")
        )
        parts.append(f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>')
        parts.append(f'<polyline class="estimated" points="{" ".join(middle)}"/>')
    for window, one in realised:
        x = scale.x(window.start)
        kind = "mature" if window.is_mature else "immature"
        parts.append(f'<line class="whisker" x1="{x}" y1="{scale.y(one.low)}" x2="{x}" y2="{scale.y(one.high)}"/>')
        parts.append(
            f'<circle class="{kind}" cx="{x}" cy="{scale.y(one.value)}" r="3.5"><title>{window.start:%Y-%m-%d}: '
            f"{_interval(one)}, {window.labels:,} labels, {kind}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


class _Scale:
    """Where times and values lie on a chart; the axis of values is as long as they need, in [0, 1]."""

    def __init__(self, times: Sequence[datetime], values: Sequence[float]) -> None:
        self._first, self._last, self._is_one = min(times), max(times), min(times) == max(times)
        low, high = min(values), max(values)
        room = max((high - low) * 0.08, 1e-6)
        self._low, self._high = max(0.0, low - room), min(1.0, high + room)
        if self._high - self._low < _LEAST_AXIS * self._high:
            # The figures at the axis have three digits, and each must be another.
            self._low, self._high = max(0.0, low - _LEAST_AXIS * high), min(1.0, high + _LEAST_AXIS * high + 1e-6)

    def x(self, moment: datetime) -> float:
        """Return the place of a time."""
        span = (self._last - self._first).total_seconds()
        share = (moment - self._first).total_seconds() / span if span else 0.5
        return round(_LEFT + share * _ACROSS, 1)

    def across(self, moment: datetime) -> tuple[float, ...]:
        """Return the places that a line goes through for a time: a single window has a piece of it, not a point."""
        x = self.x(moment)
        return (x - _PIECE, x + _PIECE) if self._is_one else (x,)

    def y(self, value: float | None) -> float:
        """Return the place of a value."""
        share = ((value or 0.0) - self._low) / (self._high - self._low)
        return round(_TOP + (1 - share) * _DOWN, 1)

    def frame(self) -> Iterator[str]:
        """Yield the lines of the grid and what they stand for."""
        for tick in range(_TICKS + 1):
            value = self._low + (self._high - self._low) * tick / _TICKS
            y = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
        ends = ((self._first, "middle"),) if self._is_one else ((self._first, "start"), (self._last, "end"))
        for moment, anchor in ends:
            yield f'<text x="{self.x(moment)}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{moment:%Y-%m-%d}</text>'


def _points(windows: Sequence[QualityWindow], measure: Measure, kind: Kind) -> list[tuple[QualityWindow, Figure]]:
    return [
        (window, one)
        for window in windows
        for one in _of(window, measure)
        if one.kind == kind and one.value is not None
    ]


def _of(window: QualityWindow, measure: Measure) -> Iterator[Figure]:
    return (one for one in window.figures if one.measure == measure)


def _ends(one: Figure) -> Iterable[float]:
    return (value for value in (one.low, one.value, one.high) if value is not None)


def _interval(one: Figure) -> str:
    return f"{one.value:.3g} [{one.low:.3g}, {one.high:.3g}]"


def _words(
    measure: Measure,
    estimated: Sequence[tuple[QualityWindow, Figure]],
    realised: Sequence[tuple[QualityWindow, Figure]],
) -> str:
    said = [
        f"{name} {_interval(its[-1][1])} in the window of {its[-1][0].start:%Y-%m-%d}"
        for name, its in (("estimated", estimated), ("by labels", realised))
        if its
    ]
    return escape(f"{NAMES[measure]}: {'; '.join(said)}", quote=True)
