"""Which metrics there are, so that a rule over none of them is told from one that has nothing to tell. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from discern.alerts.types import Rule, Selector
from discern.monitoring.types import Metric, Scope

_SUFFIXES = ("_bucket", "_sum", "_count")
_COUNTED = {"rate", "increase", "ratio", "stopped"}


class Known:
    """The metrics of an installation by name, with the samples that histograms have."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}

    def labels(self, sample: str) -> tuple[str, ...] | None:
        """Return the names of the labels of a sample, in order; None for one that is not known.

        A bucket of a histogram has `le` besides, as the last.
        """
        metric = self._metrics.get(sample)
        if metric is not None:
            return metric.labels
        for suffix in _SUFFIXES:
            metric = self._metrics.get(sample.removesuffix(suffix))
            if sample.endswith(suffix) and metric is not None and metric.kind == "histogram":
                return (*metric.labels, "le") if suffix == "_bucket" else metric.labels
        return None

    def scope(self, sample: str) -> Scope:
        """Return whether a sample is of the installation, or of the machine that exports it."""
        for name in (sample, *(sample.removesuffix(suffix) for suffix in _SUFFIXES)):
            if name in self._metrics:
                return self._metrics[name].scope
        return "installation"

    def has(self, metric: str) -> bool:
        """Tell whether there is such a metric."""
        return self.labels(metric) is not None or metric in self._metrics

    def faults(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with what a rule looks at: the key, and what."""
        for key, selector in (("metric", rule.metric), ("over", rule.over)):
            if selector is not None:
                yield from self._faults_of(key, selector, rule)

    def _faults_of(self, key: str, selector: Selector, rule: Rule) -> Iterator[tuple[str, str]]:
        metric = self._metrics.get(selector.metric)
        if rule.function == "quantile":
            if metric is None or metric.kind != "histogram":
                yield key, f"{selector.metric} is no histogram{self._near(selector.metric)}"
                return
            labels: tuple[str, ...] = metric.labels
        else:
            found = self.labels(selector.metric)
            if found is None or (metric is not None and metric.kind == "histogram"):
                yield key, f"there is no metric {selector.metric}{self._near(selector.metric)}"
                return
            if rule.function in _COUNTED and metric is not None and metric.kind == "gauge":
                yield "function", f"{selector.metric} is a gauge, and the function {rule.function} is of counters"
            labels = found
        for label in rule.by:
            if label not in labels:
                yield "by", f"{selector.metric} has no label {label}; it has: {', '.join(labels) or 'none'}"
        for matcher in selector.matchers:
            if matcher.label not in labels:
                where = "match" if key == "metric" else key
                yield where, f"{selector.metric} has no label {matcher.label}; it has: {', '.join(labels) or 'none'}"

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._metrics, n=1)
        return f"; did you mean {near[0]}" if near else ""
