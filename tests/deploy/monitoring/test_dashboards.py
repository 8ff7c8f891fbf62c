"""The dashboards are what their code writes, and ask for nothing that is not measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring.dashboards.expressions import AWAITED, KNOWN, METRICS, rate, series
from deploy.monitoring.dashboards.panels import RECORDED
from discern.monitoring.metrics.catalogue import CATALOGUE

grafana: Any = pytest.importorskip(
    "deploy.monitoring.dashboards.grafana",
    reason="the extra `test` has grafana-foundation-sdk",
    exc_type=ModuleNotFoundError,
)
FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
BOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target


def test_what_is_shipped_is_what_the_code_writes() -> None:
    written = dict(grafana.files())
    for name, text in written.items():
        assert (FOLDER / name).read_text() == text, f"{name} is out of date: run `make dashboards`"
    assert {f"grafana/dashboards/{path.name}" for path in BOARDS} == {name for name in written if name.endswith("json")}


def test_there_is_one_for_each_question() -> None:
    assert {path.stem.removeprefix("discern-") for path in BOARDS} == {
        *("service", "detector", "cascade", "drift", "security", "business")
    }


def test_every_metric_and_label_that_is_asked_for_is_measured() -> None:
    for where, target in targets():
        labels = {"le", "instance"}
        for name in re.findall(r"discern[\w:]+", target["expr"]):
            recorded = RECORDED.get(name)
            if recorded is not None:
                labels |= {one for by in re.findall(r"by \(([^)]*)\)", recorded) for one in by.split(", ")}
                continue
            of = KNOWN.labels(name)
            assert of is not None, f"{where}: {name} is not in the catalogue"
            labels |= set(of)
        asked = {one for by in re.findall(r"(?:by|on) \(([^)]*)\)", target["expr"]) for one in by.split(", ") if one}
        asked |= set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", target["expr"]))
        shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
        assert asked <= labels, f"{where}: {asked - labels}"
        assert shown <= asked, f"{where}: {shown - asked}"


def test_every_metric_stands_on_a_dashboard() -> None:
    text = " ".join(target["expr"] for _, target in targets())
    assert [name for name in METRICS if name not in text] == []


def test_what_is_awaited_is_as_the_catalogue_has_it() -> None:
    for metric in AWAITED:
        there = CATALOGUE.get(metric.name)
        assert there is None or (there.kind, there.labels) == (metric.kind, metric.labels)


def test_what_the_installation_knows_is_not_added_up_over_servers() -> None:
    assert rate("discern_verdicts_total", "detector", window="5m", chosen=False) == (
        "sum by (detector) (max by (workspace, detector, version, decision) (rate(discern_verdicts_total[5m])))"
    )
    assert rate("discern_batches_total", "reason", window="5m") == ("sum by (reason) (rate(discern_batches_total[5m]))")
    with pytest.raises(ValueError, match="not in the catalogue"):
        series("discern_dreams_total")


def test_panels_know_their_source_and_have_numbers_of_their_own() -> None:
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/discern.yaml").read_text())["datasources"]
    known = {one["uid"] for one in sources}
    for path in BOARDS:
        board = json.loads(path.read_text())
        numbers = [panel["id"] for panel in board["panels"]]
        assert len(numbers) == len(set(numbers))
        assert board["refresh"] == "1s"
        chosen = {one["name"] for one in board["templating"].get("list", [])}
        for panel in board["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"]["uid"] in known
                assert panel["title"]
                used = {name for one in panel["targets"] for name in re.findall(r"\$(\w+)", one["expr"])}
                assert used - {"__rate_interval", "__range"} <= chosen
