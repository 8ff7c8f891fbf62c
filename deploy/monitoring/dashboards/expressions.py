"""Expressions in PromQL over the metrics of the catalogue.

- What every server of an installation exports alike, for it stands in the database, counts once; what is of a machine
  is added up.
- Whatever has a label `workspace` or `detector` goes by what is chosen above the dashboard.
"""

from __future__ import annotations

from discern.alerts.rules_catalogue import Known
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.types import Metric

AWAITED = (
    Metric("discern_backup_age_seconds", "gauge", "Age of the last backup; absent until there is one.", of="backup"),
)
"""What shipped rules look at and no part exports yet; the catalogue's own word goes before."""
METRICS = {metric.name: metric for metric in AWAITED} | CATALOGUE
KNOWN = Known(METRICS.values())
WINDOW = "$__rate_interval"
_CHOSEN = ("workspace", "detector")


def series(metric: str, match: str = "", *, chosen: bool = True) -> str:
    """Return the selector of a metric's series."""
    labels = KNOWN.labels(metric)
    if labels is None:
        raise ValueError(f"{metric} is not in the catalogue.")
    matchers = [match] if match else []
    matchers += [f'{name}=~"${name}"' for name in _CHOSEN if chosen and name in labels]
    return f"{metric}{{{','.join(matchers)}}}" if matchers else metric


def added(metric: str, found: str, by: str = "") -> str:
    """Return the sum, by some labels, of an expression over each series of a metric."""
    if KNOWN.scope(metric) == "machine":
        return _by("sum", by, found)
    labels = ", ".join(KNOWN.labels(metric) or ())
    return _by("max", labels, found) if labels == by else _by("sum", by, _by("max", labels, found))


def total(metric: str, by: str = "", match: str = "") -> str:
    """Return the present value of a gauge, or of a counter, added up."""
    return added(metric, series(metric, match), by)


def rate(metric: str, by: str = "", match: str = "", window: str = WINDOW, *, chosen: bool = True) -> str:
    """Return how fast a counter grows, a second."""
    return added(metric, f"rate({series(metric, match, chosen=chosen)}[{window}])", by)


def increase(metric: str, by: str = "", match: str = "", window: str = "$__range") -> str:
    """Return how much a counter grew."""
    return added(metric, f"increase({series(metric, match)}[{window}])", by)


def quantile(share: float, metric: str, by: str = "", match: str = "") -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({share:g}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le', match)})"


def mean(metric: str, by: str = "") -> str:
    """Return the mean of a histogram."""
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


def worst(operator: str, metric: str, by: str, match: str = "") -> str:
    """Return the largest (`max`) or smallest (`min`) value of a gauge."""
    return _by(operator, by, series(metric, match))


def or_none(expression: str) -> str:
    """Return the expression, 0 where there is no series: of a counter whose labels have not come about."""
    return f"({expression} or vector(0))"


def _by(operator: str, by: str, found: str) -> str:
    return f"{operator} by ({by}) ({found})" if by else f"{operator}({found})"
