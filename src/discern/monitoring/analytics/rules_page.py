"""What a report says, in words, tables and charts that HTML, PDF and Markdown are written from. Pure.

- The sentence at the top says what happened and how many things need somebody; these stand below it, worst first.
- Every chart has its figures in a table beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.analytics.rules_periods import zone_of
from discern.monitoring.analytics.types import ActivityReport, BudgetStanding, Change, Spending

_NONE = "-"
_RIGHT = frozenset(
    {"verdicts", "before", "change", "clear", "review", "flag", "degraded", "callers", "cost", "p50", "p95", "p99"}
    | {"labels", "times", "the"}
)
_NOTABLE = 0.25
_MEASURES = {
    "precision": "precision of flags",
    "true_positive_rate": "true-positive rate of flags",
    "false_positive_rate": "false-positive rate of flags",
    "positive_rate": "share of positives",
    "review_precision": "precision of flags and reviews",
    "review_true_positive_rate": "true-positive rate of flags and reviews",
    "review_false_positive_rate": "false-positive rate of flags and reviews",
}


class Series(NamedTuple):
    """One part of every bar, or a line, in the place `colour` of the palette."""

    name: str
    colour: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars that stand on each other, one a label; or lines. `unit` stands at the axis, `words` tells it all."""

    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str
    words: str
    is_lines: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; numbers are to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns are numbers."""
        return tuple(name.lower().split(" (")[0].split(" ")[0] in _RIGHT for name in self.head)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it, in order."""

    heading: str
    parts: tuple[str | Grid | Chart, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A report, ready to be set."""

    title: str
    period: str
    lead: str
    attention: tuple[str, ...]
    sections: tuple[Section, ...]
    foot: str


def page_of(report: ActivityReport) -> Page:
    """Return what a report says."""
    zone = zone_of(report.time_zone)
    attention = tuple(_attention(report, zone))
    about = f" for {report.detector}" if report.detector else ""
    until = report.until.astimezone(zone) - timedelta(seconds=1)
    period = f"{report.since.astimezone(zone):%Y-%m-%d}"
    if f"{until:%Y-%m-%d}" != period:
        period = f"{period} to {until:%Y-%m-%d}"
    return Page(
        title=f"Detection in {report.workspace}{about}",
        period=f"{period}, days in {report.time_zone}",
        lead=_lead(report, len(attention)),
        attention=attention,
        sections=tuple(_sections(report, zone)),
        foot=f"Made {report.made_at.astimezone(zone):%Y-%m-%d %H:%M} ({report.time_zone}) by Discern. Counts are those "
        "of the ledger; latencies are measured on a sample and within 2.5 %.",
    )


def _lead(report: ActivityReport, concerns: int) -> str:
    if not report.verdicts.value:
        about = f"of {report.detector}" if report.detector else "for"
        return f"Nothing was asked {about}." + _needs(concerns)
    change = ""
    if report.verdicts.ratio is not None:
        change = f", {_percent(report.verdicts.ratio)} against {_before(report)}"
    flagged = report.flag.value / report.verdicts.value
    cost = f" It cost {money(report.cost.value, report.currency)}." if report.cost.value else ""
    said = f"{_count(report.verdicts.value, 'verdict')} came{change}; {flagged:.1%} were flagged."
    return said + cost + _needs(concerns)


def _before(report: ActivityReport) -> str:
    part = "as many hours of " if report.made_at < report.until else ""
    return f"{part}the {report.period} before"


def _needs(concerns: int) -> str:
    if not concerns:
        return " Nothing needs attention."
    return f" {concerns} {'thing needs' if concerns == 1 else 'things need'} attention."


def _attention(report: ActivityReport, zone: tzinfo) -> Iterator[str]:
    """Yield what somebody should look at, the worst first."""
    for one in report.alerts:
        if one.severity == "critical":
            open_still = "" if one.resolved_at else ", and goes on"
            yield f"Alert at {_at(one.fired_at, zone)}{open_still}: {one.summary}"
    for side in (report.budget.amount, report.budget.verdicts):
        yield from _of_budget(side, report.budget)
    # In the order of time: what a subject came to last is how it stands.
    standing = {(one.detector, one.version, one.subject): one for one in report.drift}
    for line in standing.values():
        if line.change == "began":
            name = f"{line.detector} {line.version}"
            yield f"{name} drifts in {line.subject} since {_at(line.since, zone)}."
    if report.flag.before and report.verdicts.value and report.verdicts.before:
        share, before = report.flag.value / report.verdicts.value, report.flag.before / report.verdicts.before
        if abs(share / before - 1) > _NOTABLE and report.flag.value + report.flag.before >= 50:
            yield f"The share of flags went from {before:.2%} to {share:.2%}."
    degraded = sum(one.degraded for one in report.detectors)
    if degraded:
        yield f"{_count(degraded, 'verdict')} went to review because a later stage failed."
    for part in report.absent:
        yield f"This report is not whole: {part}"


def _of_budget(side: Spending, standing: BudgetStanding) -> Iterator[str]:
    if side.used_ratio is None or side.budget is None:
        return
    budget = money(side.budget, standing.currency) if side.of == "amount" else f"{side.budget:,.0f} verdicts"
    if side.used_ratio >= 1:
        yield f"The budget of {budget} for {standing.month} is used up: {side.used_ratio:.0%}."
    elif side.forecast_ratio is not None and side.forecast_ratio > 1:
        yield f"{standing.month} is on its way to {side.forecast_ratio:.0%} of the budget of {budget}."


def _sections(report: ActivityReport, zone: tzinfo) -> Iterator[Section]:
    yield Section("Verdicts and decisions", tuple(_verdicts(report)))
    yield Section("Detectors", tuple(_detectors(report)))
    yield Section("Latency", tuple(_latency(report)))
    yield Section("Cost and budget", tuple(_cost(report)))
    yield Section("Drift", (_drift(report, zone),))
    yield Section("Quality", (_quality(report),))
    alerts = tuple(
        (_at(one.fired_at, zone), _NONE if one.resolved_at is None else _at(one.resolved_at, zone), one.severity,
         one.summary)
        for one in report.alerts
    )  # fmt: skip
    yield Section("Alerts", (Grid(("Fired", "Resolved", "Severity", "What"), alerts) if alerts else "No alert fired.",))
    happened = tuple((one.kind, one.about, f"{one.times:,}", _at(one.last_at, zone)) for one in report.happenings)
    yield Section(
        "What the installation did by itself",
        (Grid(("What", "To", "Times", "Last"), happened) if happened else "Nothing.",),
    )
    labels = tuple((one.detector, one.label, f"{one.labels:,}") for one in report.labels)
    yield Section("Labels", (Grid(("Detector", "Label", "Labels"), labels) if labels else "No verdict was labelled.",))


def _verdicts(report: ActivityReport) -> Iterator[str | Grid | Chart]:
    changes = (
        ("Verdicts", report.verdicts),
        ("Flagged", report.flag),
        ("For review", report.review),
    )
    rows = tuple((name, f"{one.value:,.0f}", f"{one.before:,.0f}", _ratio(one)) for name, one in changes)
    yield Grid(("", "Verdicts", f"The {report.period} before", "Change"), rows)
    if report.made_at < report.until:
        yield f"The {report.period} still runs: it is held against {_before(report)}."
    if report.callers:
        yield f"Asked by {_count(report.callers, 'key or user', 'keys and users')}."
    elif report.verdicts.value:
        yield "Who asked is known when an hour is over."
    if len(report.days) < 2:
        return
    names = ("clear", "review", "flag")
    values = {name: tuple(float(getattr(day, name)) for day in report.days) for name in names}
    words = "Verdicts by day: " + "; ".join(f"{one.day}: {one.verdicts:,}" for one in report.days)
    series = tuple(Series(name, name, values[name]) for name in names)
    yield Chart(tuple(f"{day.day:%m-%d}" for day in report.days), series, "verdicts", words)
    cells = tuple(
        (f"{one.day:%a %Y-%m-%d}", *(f"{value:,}" for value in (one.verdicts, one.clear, one.review, one.flag)))
        for one in report.days
    )
    yield Grid(("Day", "Verdicts", "Clear", "Review", "Flag"), cells)


def _detectors(report: ActivityReport) -> Iterator[str | Grid]:
    if not report.detectors:
        yield "None was asked."
        return
    rows = tuple(
        (
            f"{one.detector} {one.version}",
            f"{one.verdicts.value:,.0f}",
            _ratio(one.verdicts),
            f"{one.review:,}",
            f"{one.flag:,}",
            f"{one.degraded:,}",
            f"{one.callers:,}" if one.callers else _NONE,
        )
        for one in report.detectors
    )
    yield Grid(("Detector", "Verdicts", "Change", "Review", "Flag", "Degraded", "Callers"), rows)


def _latency(report: ActivityReport) -> Iterator[str | Grid | Chart]:
    if report.p50 is None:
        yield "Nothing was measured: times are known when an hour is over."
        return
    rows = tuple(
        (f"{one.detector} {one.version}", *(_time(value) for value in (one.p50, one.p95, one.p99)))
        for one in report.detectors
        if one.p50 is not None
    )
    yield Grid(("Detector", "p50", "p95", "p99"), (*rows, ("all", *map(_time, (report.p50, report.p95, report.p99)))))
    days = [one for one in report.days if one.p50 is not None]
    if len(days) < 2:
        return
    series = (
        Series("half", "clear", tuple(one.p50 or 0.0 for one in days)),
        Series("95 %", "flag", tuple(one.p95 or 0.0 for one in days)),
    )
    words = "Milliseconds by day: " + "; ".join(f"{one.day}: {_time(one.p50)}, {_time(one.p95)}" for one in days)
    labels = tuple(f"{one.day:%m-%d}" for one in days)
    yield Chart(labels, series, "milliseconds that so many verdicts do not exceed", words, is_lines=True)


def _cost(report: ActivityReport) -> Iterator[str | Grid | Chart]:
    if report.cost.value or report.cost.before:
        cost, before = (money(one, report.currency) for one in (report.cost.value, report.cost.before))
        change = "" if report.cost.ratio is None else f" ({_ratio(report.cost)})"
        yield f"{cost}, against {before} in {_before(report)}{change}."
        rows = tuple(
            (f"{one.detector} {one.version}", money(one.cost, report.currency)) for one in report.detectors if one.cost
        )
        if rows:
            yield Grid(("Detector", "Cost"), rows)
        if len(report.days) > 1:
            words = "Cost by day: " + "; ".join(f"{one.day}: {one.cost:,.2f}" for one in report.days)
            series = (Series("cost", "cost", tuple(one.cost for one in report.days)),)
            yield Chart(tuple(f"{one.day:%m-%d}" for one in report.days), series, report.currency, words)
    else:
        yield "No prices are set: DISCERN_PRICE_PER_VERDICT and DISCERN_PRICE_PER_HOUR say what is paid."
    sides = [one for one in (report.budget.amount, report.budget.verdicts) if one.budget is not None]
    if not sides:
        yield f"No budget is set. To set one: discern budget set{_of_workspace(report)} --amount 500"
    for side in sides:
        yield budget_words(side, report.budget.currency, report.budget.month)


def _of_workspace(report: ActivityReport) -> str:
    return "" if report.workspace == DEFAULT_WORKSPACE else f" --workspace {report.workspace}"


def budget_words(side: Spending, currency: str, month: str) -> str:
    """Return how one side of a budget stands, in a sentence."""

    def shown(value: float) -> str:
        return money(value, currency) if side.of == "amount" else f"{value:,.0f} verdicts"

    said = f"{month}: {shown(side.used)} used"
    if side.budget is not None and side.used_ratio is not None:
        said = f"{said} of {shown(side.budget)} ({side.used_ratio:.0%})"
    ahead = side.forecast
    if ahead is None:
        return f"{said}; no forecast before one whole day is known."
    said = f"{said}; at the month's end {shown(ahead.value)}"
    if ahead.low is None or ahead.high is None:
        return f"{said}, from {ahead.days} {'day' if ahead.days == 1 else 'days'}: too few for an interval."
    return f"{said} (90 % interval {shown(ahead.low)} to {shown(ahead.high)}, from {ahead.days} days)."


def _drift(report: ActivityReport, zone: tzinfo) -> str | Grid:
    if not report.drift:
        return "No change was found."
    rows = tuple(
        (
            _at(one.at, zone),
            f"{one.detector} {one.version}",
            one.subject,
            {"began": "drifts", "ended": "no longer", "silent": "not asked any more"}.get(one.change, one.change),
            _at(one.since, zone),
            _NONE if one.shift is None else f"{one.shift:+.2f}",
        )
        for one in report.drift
    )
    return Grid(("Found", "Detector", "Subject", "State", "Since", "Shift"), rows)


def _quality(report: ActivityReport) -> str | Grid:
    if not report.quality:
        return "Nothing was measured in a window that lies in the period and is over."
    rows = tuple(
        (
            f"{one.detector} {one.version}",
            _MEASURES.get(one.measure, one.measure),
            "estimated" if one.kind == "estimated" else f"by {one.labels:,} labels",
            f"{one.value:.4g}" + ("" if one.low is None or one.high is None else f" [{one.low:.4g}, {one.high:.4g}]"),
        )
        for one in report.quality
    )
    return Grid(("Detector", "Measure", "From", "Value [95 %]"), rows)


def money(value: float, currency: str) -> str:
    """Return an amount with its currency; small ones with more places."""
    places = 2 if abs(value) >= 0.1 or not value else 4
    return f"{value:,.{places}f} {currency}"


def columns_fit(widths: Sequence[float], room: float) -> list[float]:
    """Return widths of columns that fill no more than the room: those beyond an even share give way."""
    if sum(widths) <= room:
        return list(widths)
    fair = room / len(widths)
    narrow = sum(one for one in widths if one <= fair)
    wide = sum(one for one in widths if one > fair)
    return [one if one <= fair else one * (room - narrow) / wide for one in widths]


def _at(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"


def _time(milliseconds: float | None) -> str:
    return _NONE if milliseconds is None else f"{milliseconds:,.3g} ms"


def _percent(ratio: float) -> str:
    return f"{ratio:+.0%}"


def _ratio(change: Change) -> str:
    return _NONE if change.ratio is None else _percent(change.ratio)


def _count(value: float, one: str, many: str = "") -> str:
    return f"{value:,.0f} {one if value == 1 else many or one + 's'}"
