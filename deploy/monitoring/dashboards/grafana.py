"""Panels and dashboards as Grafana's own types. The Foundation SDK checks names and kinds of what it is given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

from deploy.monitoring.dashboards.detectors import CASCADE, DETECTOR, DRIFT
from deploy.monitoring.dashboards.operations import BUSINESS, SECURITY
from deploy.monitoring.dashboards.panels import RECORDED, Board, Panel
from deploy.monitoring.dashboards.service import SERVICE

BOARDS = (SERVICE, DETECTOR, CASCADE, DRIFT, SECURITY, BUSINESS)
SOURCE = models.DataSourceRef(type_val="prometheus", uid="discern-prometheus")
REFRESH = "1s"
RECORDED_SECONDS = 15
_WIDTHS = {"number": 4, "graph": 8, "states": 8}
_CHOICES = (("workspace", "Workspace"), ("detector", "Detector"))
_Builder = timeseries.Panel | stat.Panel | statetimeline.Panel


def files() -> Iterator[tuple[str, str]]:
    """Yield the files by their paths below `deploy/monitoring`."""
    for board in BOARDS:
        text = json.dumps(built(board), cls=JSONEncoder, indent=1, sort_keys=True)
        yield f"grafana/dashboards/discern-{board.name}.json", text + "\n"
    yield "recording-rules.yaml", recording_rules()


def recording_rules() -> str:
    """Return what Prometheus records for panels that look back over days."""
    lines = ["# Written by `make dashboards`; change deploy/monitoring/dashboards, not this file."]
    lines += ["groups:", "  - name: discern-recorded", f"    interval: {RECORDED_SECONDS}s", "    rules:"]
    for name, expression in RECORDED.items():
        lines += [f"      - record: {name}", "        expr: '" + expression.replace("'", "''") + "'"]
    return "\n".join(lines) + "\n"


def built(board: Board) -> models.Dashboard:
    """Return a dashboard in Grafana's types."""
    made = builders.Dashboard(board.title).uid(f"discern-{board.name}").description(board.answers).tags(["discern"])
    made = made.readonly().refresh(REFRESH).time(board.since, "now").timezone("browser")
    made = made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    others = builders.DashboardLink("Discern").type(models.DashboardLinkType.DASHBOARDS).tags(["discern"])
    made = made.link(others.as_dropdown(True).keep_time(True).include_vars(True))
    text = " ".join(curve.expression for _, panels in board.rows for panel in panels for curve in panel.curves)
    for name, label in _CHOICES:
        if f"${name}" in text:
            made = made.with_variable(_choice(name, label))
    number = count(1)
    for title, panels in board.rows:
        made = made.with_row(builders.Row(title).id(next(number)))
        for panel in panels:
            made = made.with_panel(_panel(panel).id(next(number)))
    return made.build()


def _choice(name: str, label: str) -> builders.QueryVariable:
    query = f"label_values(discern_verdicts_total, {name})"
    made = builders.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made = made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    everything = models.VariableOption(text="All", value="$__all")
    return made.multi(True).include_all(True).all_value(".*").current(everything)


def _panel(panel: Panel) -> _Builder:
    made = _looks(panel).title(panel.title).description(" ".join(filter(None, (panel.says, panel.may_lack))))
    made = made.datasource(SOURCE).unit(panel.unit).span(_WIDTHS[panel.look]).height(4 if panel.look == "number" else 8)
    if panel.may_lack:
        made = made.no_value(panel.may_lack)
    if panel.look == "graph" and not panel.signed:
        made = made.min(0)
    if panel.most is not None:
        made = made.max(panel.most)
    for letter, curve in zip("ABCDEFGH", panel.curves, strict=False):
        query = prometheus.Dataquery().expr(curve.expression).legend_format(curve.legend).ref_id(letter)
        made = made.with_target(query.instant() if panel.look == "number" else query.range())
    return made


def _looks(panel: Panel) -> _Builder:
    if panel.look == "states":
        return statetimeline.Panel().show_value(looks.VisibilityMode.NEVER)
    if panel.look == "graph":
        legend = common.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM)
        return timeseries.Panel().legend(legend).fill_opacity(8)
    steps = [models.Threshold(value=None, color="red" if panel.bad_below is not None else "green")]
    if panel.bad_below is not None:
        steps.append(models.Threshold(value=panel.bad_below, color="green"))
    if panel.bad_from is not None:
        steps.append(models.Threshold(value=panel.bad_from, color="red"))
    bounds = builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    return stat.Panel().thresholds(bounds).graph_mode(looks.BigValueGraphMode.NONE)
