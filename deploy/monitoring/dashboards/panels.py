"""The nouns of dashboards, and the series that are recorded for them.

- A panel that may have no data says why, and Grafana shows it.
- What looks back over days reads recorded series; everything else reads what was scraped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from deploy.monitoring.dashboards.expressions import or_none, rate

Look = Literal["graph", "number", "states"]
RECORDED = {
    "discern:verdicts:rate5m": rate(
        "discern_verdicts_total", "workspace, detector, version, decision", window="5m", chosen=False
    ),
    "discern:http_requests:rate5m": rate("discern_http_request_duration_seconds_count", window="5m"),
    "discern:http_errors:rate5m": or_none(
        rate("discern_http_request_duration_seconds_count", match='status=~"5.."', window="5m")
    ),
}
"""The recorded series by their names."""


class Curve(NamedTuple):
    """An expression, and the words beside what it gives."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One question and its answer.

    `unit` is Grafana's name of it, `may_lack` says when there are no data, `signed`
    that values may be below 0.
    """

    title: str
    says: str
    curves: tuple[Curve, ...]
    unit: str = "short"
    look: Look = "graph"
    may_lack: str = ""
    most: float | None = None
    bad_from: float | None = None
    bad_below: float | None = None
    signed: bool = False


@dataclass(frozen=True)
class Board:
    """A dashboard: its `rows` of panels have titles."""

    name: str
    title: str
    answers: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    since: str = "now-1h"


def graph(
    title: str,
    says: str,
    *curves: Curve,
    unit: str = "short",
    may_lack: str = "",
    most: float | None = None,
    signed: bool = False,
) -> Panel:
    """Return a panel of curves over time."""
    return Panel(title, says, curves, unit, may_lack=may_lack, most=most, signed=signed)


def number(
    title: str,
    says: str,
    expression: str,
    unit: str = "short",
    *,
    may_lack: str = "",
    bad_from: float | None = None,
    bad_below: float | None = None,
) -> Panel:
    """Return a panel with one number; it is red from `bad_from` on, or below `bad_below`."""
    return Panel(title, says, (Curve(expression),), unit, "number", may_lack, bad_from=bad_from, bad_below=bad_below)


def states(title: str, says: str, expression: str, legend: str, *, may_lack: str = "") -> Panel:
    """Return a panel of what is on and off over time."""
    return Panel(title, says, (Curve(expression, legend),), "short", "states", may_lack)


HTTP = "discern_http_request_duration_seconds"
VERDICTS = "discern_verdicts_total"
UNTIL = "Nothing until the first."
