"""Writes the reference pages that are made from the code. A test fails where a page differs from what this writes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import typer

from discern.alerts.cli import PROMETHEUS_NOTE
from discern.alerts.rules_prometheus import alert_name, expression, rule_file
from discern.alerts.rules_times import time_of
from discern.alerts.service_running import Alerts
from discern.app import build_services
from discern.app_http import create_app
from discern.cli.main import build_cli
from discern.compliance.service_standards import standards
from discern.compliance.types import Framework, Standard
from discern.core.verdict import Verdict
from discern.detectors.schema import manifest_schema
from discern.evaluation.conditions.registry import table
from discern.http.problems import FRAMEWORK_PROBLEMS, PROBLEMS
from discern.monitoring.analytics.sources_parquet import HOURS, VERDICTS
from discern.monitoring.analytics.types import VIEWS
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.types import Metric
from discern.settings import PREFIX, Settings, load_settings

DOCS = Path(__file__).parent
_NOTE = "<!-- Written by `make docs`; change the code, not this page. -->"

_ANALYTICS = """# Analytics for other tools
{note}

What Superset, Grafana, notebooks and the like read: views in the database, on SQLite and PostgreSQL alike, and files of
Parquet. Views are kept as they are from version to version; the tables below them are not. No person is in them: no
names of who asked, no inputs, no subjects. [Reports, cost and budgets](../how-to/reports.md) says what the numbers are.

Hours are in the views when they are over and were rolled up, some minutes later; `GET /v1/analytics` also has the hour
that runs. Views have the rows of all workspaces: whoever reads them sees all, so give a tenant a view of your own with
a condition on `workspace`.

## A role that reads nothing else

```sql
-- PostgreSQL
CREATE ROLE discern_reader LOGIN PASSWORD 'several words';
GRANT USAGE ON SCHEMA public TO discern_reader;
GRANT SELECT ON discern_verdicts_hourly, discern_decisions_daily, discern_cost_daily, discern_quality,
  discern_budgets TO discern_reader;
```

On SQLite there are no roles: who can read the file reads everything. Export Parquet instead.

## In Superset

Add the database with that role, and a dataset with SQL such as:

```sql
SELECT day, detector, sum(CASE WHEN decision = 'flag' THEN verdicts ELSE 0 END) * 1.0 / sum(verdicts) AS flagged
FROM discern_decisions_daily
WHERE workspace = 'default'
GROUP BY day, detector
HAVING sum(verdicts) > 0
ORDER BY day
```

```sql
SELECT detector, version, max(p99_milliseconds) AS slowest_hour, sum(cost) AS cost
FROM discern_verdicts_hourly
WHERE workspace = 'default'
GROUP BY detector, version
ORDER BY cost DESC
```

Quantiles of hours cannot be averaged to that of a day: take the largest, or `GET /v1/analytics?step=day`, which puts
the histograms together.

## In a notebook

```sh
discern analytics export -o export --from 2026-01-01
```

```python
import pandas as pd

hours = pd.read_parquet("export/hours")
daily = hours.groupby([hours["hour"].dt.date, "detector"])[["verdicts", "flag", "cost"]].sum()
daily["flagged"] = daily["flag"] / daily["verdicts"]
```

`--verdicts` also writes single verdicts, without who asked and what was looked at. An erasure does not reach files that
were exported: delete them as your own rules say."""


def pages() -> dict[str, str]:
    """Return every generated page by its path in this folder."""
    services = build_services(load_settings({}))
    return {
        "reference/settings.md": _settings(),
        "reference/errors.md": _errors(),
        "reference/commands.md": _commands(),
        "reference/metrics.md": _metrics(),
        "reference/conditions.md": _conditions(),
        "reference/analytics.md": _analytics(),
        "reference/alerts.md": _alerts(services.monitoring.alerts),
        "../deploy/monitoring/discern-rules.yaml": _rule_file(services.monitoring.alerts),
        "reference/openapi.json": _json(create_app(services).openapi()),
        "reference/detector.schema.json": _json(manifest_schema()),
        "reference/verdict.schema.json": _json(msgspec.json.schema(Verdict)),
    } | {f"compliance/{name}.md": _standard(name, standard) for name, standard in standards().items()}


def _settings() -> str:
    lines = [
        "# Settings",
        _NOTE,
        "",
        "Each comes from the environment, else from `discern.toml` in the home folder (in lower case, without the",
        "prefix), else from its default. An unknown name is refused.",
        "",
        "| variable | default | unit | meaning |",
        "|---|---|---|---|",
    ]
    for entry in fields(Settings):
        default = "" if entry.default is None else f"`{entry.default}`"
        lines.append(
            f"| `{PREFIX}{entry.name.upper()}` | {default} | {entry.metadata['unit']} | {entry.metadata['help']} |"
        )
    return "\n".join(lines) + "\n"


def _errors() -> str:
    lines = [
        "# Errors",
        _NOTE,
        "",
        "Over HTTP every error of a request that can be parsed is a problem document (RFC 9457): `type`, `title`,",
        "`status`, `code`, `detail`, where it",
        "helps `mend` (what to do), and facts such as `limit`, `allowed`, `found` or `faults`. `code` is stable.",
        "",
        "| code | status | title |",
        "|---|---|---|",
    ]
    rows = {kind.code: problem for kind, problem in reversed(PROBLEMS.items())}
    rows |= FRAMEWORK_PROBLEMS
    table = [(code, problem.status, problem.title) for code, problem in rows.items()]
    lines += [f"| `{code}` | {status} | {title} |" for code, status, title in sorted(table)]
    return "\n".join(lines) + "\n"


def _conditions() -> str:
    intro = "What each strength does to an item; [how to use them](../how-to/conditions.md)."
    return f"# Conditions\n{_NOTE}\n\n{intro}\n\n{table()}"


def _alerts(alerts: Alerts) -> str:
    intro = (
        "The rules that are shipped, and what each is told for. [How to change them](../how-to/alerts.md), and where "
        "notices go."
    )
    lines = ["# Alerts", _NOTE, "", intro, ""]
    for rule in alerts.file.shipped().rules:
        keeps = [
            f"for {time_of(rule.lasting)}" if rule.lasting else "at once",
            *([f"back at {rule.clear:g}"] if rule.clear is not None else []),
            *([f"goes on for {time_of(rule.keep_firing)}"] if rule.keep_firing else []),
        ]
        lines += [
            f"## {rule.name}",
            "",
            f"{rule.severity}, {rule.kind}; {', '.join(keeps)}. In Prometheus: `{alert_name(rule.name)}`.",
            "",
            f"**{rule.summary}.** {rule.description}",
            "",
            f"    {expression(rule, alerts.known)}",
            "",
        ]
    return "\n".join(lines)


def _rule_file(alerts: Alerts) -> str:
    return rule_file(alerts.file.shipped().rules, alerts.known, PROMETHEUS_NOTE)


def _metrics() -> str:
    lines = [
        "# Metrics",
        _NOTE,
        "",
        "What `/metrics` tells; [how to read it](../how-to/monitor.md). Histograms are classic: each has a series for",
        "every bound.",
        "",
        "What is known of the *machine* that answers is summed over its processes; add it up over machines. What is",
        "known of the *installation* stands in its database: every machine tells the same, so take the `max`.",
    ]
    parts: dict[str, list[Metric]] = {}
    for metric in CATALOGUE.values():
        parts.setdefault(metric.of, []).append(metric)
    for part, metrics in parts.items():
        lines += ["", f"## {part[0].upper()}{part[1:]}", "", "| metric | kind | labels | of the | what |"]
        lines.append("|---|---|---|---|---|")
        for one in metrics:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            bounds = f" Bounds: {', '.join(f'{bound:g}' for bound in one.buckets)}." if one.buckets else ""
            lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.scope} | {one.help}{bounds} |")
    return "\n".join(lines) + "\n"


def _analytics() -> str:
    lines = [_ANALYTICS.format(note=_NOTE).rstrip(), "", "## Views"]
    for view in VIEWS:
        lines += ["", f"### `{view.name}`", "", view.help, "", "| column | what |", "|---|---|"]
        lines += [f"| `{name}` | {text} |" for name, text in view.columns]
    lines += [
        "",
        "## Parquet",
        "",
        "A folder a month: `hours/month=2026-11/part-0.parquet`. Times are in UTC; costs in the",
    ]
    lines += ["currency of the settings. Columns may be added at the end, none is renamed or changes its type.", ""]
    for name, columns in (("hours", HOURS), ("verdicts", VERDICTS)):
        listed = ", ".join(f"`{column}` {kind}" for column, kind in columns)
        lines += [f"- `{name}`: {listed}."]
    return "\n".join(lines) + "\n"


def _commands() -> str:
    root = typer.main.get_command(build_cli())
    lines = ["# Commands", _NOTE, ""]
    _describe(root, "discern", lines)
    return "\n".join(lines).rstrip() + "\n"


def _describe(command: Any, name: str, lines: list[str]) -> None:  # noqa: ANN401 - typer's own copy of click
    context = command.make_context(name, [], resilient_parsing=True)
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        lines += [f"## `{name}`", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            record = parameter.get_help_record(context)
            label = record[0] if record else parameter.make_metavar(context)
            text = record[1] if record else getattr(parameter, "help", "")
            if "--help" not in label:
                lines.append(f"- `{' '.join(label.split())}`: {' '.join((text or '').split())}")
        lines.append("")
    for child, inner in children.items():
        _describe(inner, f"{name} {child}", lines)


def _standard(name: Framework, standard: Standard) -> str:
    lines = [
        f"# {standard.title}",
        _NOTE,
        "",
        f"{standard.source}. {standard.scope}",
        "",
        "The numbers are the source's, the words are ours: read it beside this page. The last column is what is left",
        "to whoever runs the installation.",
        f"`discern compliance report --framework {name}` says what a running installation shows for each row.",
        "",
        "| no. | what it is about | what Discern does | shown by | left to the operator |",
        "|---|---|---|---|---|",
    ]
    for control in standard.controls:
        shown = "; ".join(f"`{one}`" for one in control.shown_by)
        cells = (control.number, control.asks, control.discern, shown, control.operator)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
