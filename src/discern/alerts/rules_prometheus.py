"""The rules as rules of Prometheus. Pure.

- Every rule has an expression that fires for the same label sets; a test holds both against promtool.
- What is of a machine goes by the label `instance` besides. What every server exports alike, for it stands in the
  database, counts once.
- The threshold to come back from (`clear`) is told by the series ALERTS, which Prometheus writes of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_times import time_of
from discern.alerts.rules_wording import templated
from discern.alerts.types import Rule, Selector

GROUP = "discern"


def alert_name(rule: str) -> str:
    """Return the name that an alert has in Prometheus and Alertmanager: `DiscernPartDown` for `part-down`."""
    return "Discern" + "".join(part[:1].upper() + part[1:] for part in rule.split("-"))


def rule_file(rules: Iterable[Rule], known: Known, note: str = "") -> str:
    """Return the rules as a file of rules of Prometheus, in YAML."""
    lines = [f"# {note}"] if note else []
    lines += ["groups:", f"  - name: {GROUP}", "    rules:"]
    for rule in rules:
        lines += [f"      - alert: {alert_name(rule.name)}", f"        expr: {_quoted(expression(rule, known))}"]
        if rule.lasting:
            lines.append(f"        for: {time_of(rule.lasting)}")
        if rule.keep_firing:
            lines.append(f"        keep_firing_for: {time_of(rule.keep_firing)}")
        lines += ["        labels:", f"          severity: {rule.severity}", f"          kind: {rule.kind}"]
        lines += ["        annotations:", f"          summary: {_quoted(templated(rule.summary))}"]
        lines.append(f"          description: {_quoted(templated(rule.description))}")
        if rule.runbook:
            lines.append(f"          runbook_url: {_quoted(rule.runbook)}")
    return "\n".join(lines) + "\n"


def expression(rule: Rule, known: Known) -> str:
    """Return the expression in PromQL that has a value for what is over the threshold."""
    words = _Words(rule, known)
    if rule.function == "absent":
        return f"absent({_series(rule.metric)})"
    if rule.function == "stopped":
        least = max(rule.at_least, 0.5)
        before = words.grown("increase", rule.metric, rule.before, f" offset {time_of(rule.window)}")
        return f"({words.grown('increase', rule.metric, rule.window)} == 0) and ({before} >= {least:g})"
    compare, bound = (">", rule.above) if rule.above is not None else ("<", rule.below)
    assert bound is not None  # noqa: S101 - one of both is there
    found = f"{words.judged()} {compare} {bound:g}"
    if rule.clear is None or rule.clear == bound:
        return found
    firing = f'ALERTS{{alertname="{alert_name(rule.name)}",alertstate="firing"}}'
    on = ", ".join(words.by)
    return f"({found}) or (({words.judged()} {compare} {rule.clear:g}) and on ({on}) {firing})"


class _Words:
    """The parts of the expression of one rule."""

    def __init__(self, rule: Rule, known: Known) -> None:
        self._rule = rule
        self._known = known
        self._is_of_machines = known.scope(rule.metric.metric) == "machine"
        self.by = ("instance", *rule.by) if self._is_of_machines else rule.by

    def judged(self) -> str:
        """Return what is measured, where there were enough events to judge."""
        rule, measured = self._rule, self._measured()
        if not rule.at_least or rule.function not in {"ratio", "quantile"}:
            return measured
        counted = rule.over or Selector(f"{rule.metric.metric}_count", rule.metric.matchers)
        return f"(({measured}) and ({self.grown('increase', counted, rule.window)} >= {rule.at_least:g}))"

    def grown(self, function: str, selector: Selector, window: float, offset: str = "", *more: str) -> str:
        """Return the sum of a function of counters over a window; `more` are labels to go by besides."""
        by = (*more, *self.by)
        grown = f"{function}({_series(selector)}[{time_of(window)}]{offset})"
        labels = self._known.labels(selector.metric) or by
        if self._is_of_machines:
            return f"sum by ({', '.join(by)}) ({grown})"
        if set(labels) == set(by):
            return f"max by ({', '.join(by)}) ({grown})"
        return f"sum by ({', '.join(by)}) (max by ({', '.join(labels)}) ({grown}))"

    def _measured(self) -> str:
        rule = self._rule
        if rule.function == "value":
            series = _series(rule.metric)
            labels = self._known.labels(rule.metric.metric)
            if rule.combine == "sum" and not self._is_of_machines and labels is not None:
                series = f"max by ({', '.join(labels)}) ({series})"
            return f"{rule.combine} by ({', '.join(self.by)}) ({series})"
        if rule.function in {"rate", "increase"}:
            return self.grown(rule.function, rule.metric, rule.window)
        if rule.function == "ratio":
            assert rule.over is not None  # noqa: S101 - a ratio has it
            return f"{self.grown('rate', rule.metric, rule.window)} / {self.grown('rate', rule.over, rule.window)}"
        buckets = Selector(f"{rule.metric.metric}_bucket", rule.metric.matchers)
        return f"histogram_quantile({rule.quantile:g}, {self.grown('rate', buckets, rule.window, '', 'le')})"


def _series(selector: Selector) -> str:
    matchers = ",".join(str(matcher) for matcher in selector.matchers)
    return f"{selector.metric}{{{matchers}}}" if matchers else selector.metric


def _quoted(text: str) -> str:
    return "'" + re.sub(r"\s+", " ", text).replace("'", "''") + "'"
