"""Conditions as the page and the Markdown have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from discern.detection.streams.rules import Windows
from discern.detectors.assessment import Detector
from discern.evaluation import report_conditions, report_pages
from discern.evaluation.conditions.service import ConditionsAsked, measure_conditions
from discern.evaluation.journal import Journal
from discern.evaluation.service import Parts
from discern.evaluation.service_scoring import Scoring
from discern.evaluation.types import Estimate
from discern.evaluation.types_conditions import ConditionCurve, ConditionCurves, DatasetConditions
from tests.evaluation.conditions.conftest import frozen, moving

TEMPLATES = Path(report_pages.__file__).parent / "templates"


@pytest.fixture
def found(tmp_path: Path, parts: Parts, pictures: Path, brightness: Detector) -> ConditionCurves:
    (pictures / "bright" / "clip.mp4").write_bytes(moving(20, 4.0, 200))
    source = replace(frozen(pictures, brightness.manifest), name="<i>pictures*x*")
    scoring = Scoring(brightness, parts.limits, parts.locator, 2)
    asked = ConditionsAsked(("low_light", "frame_drops", "live_stream"), 10, seed=1, attacked=3)
    return measure_conditions(asked, [source], scoring, Journal(tmp_path / "out"), lambda _: None, Windows)


def rendered(name: str, found: ConditionCurves) -> str:
    """The report's slot, with the macros that stand at the top of the report."""
    environment = report_pages._environment()
    macros = [line for line in (TEMPLATES / "report.html.j2").read_text().splitlines() if line.startswith("{% macro")]
    content = "\n".join(macros) + f'{{% include "{name}" %}}'
    slot = {f"slot.{name.split('.', 1)[1]}": content}
    assert environment.loader is not None
    environment.loader = jinja2.ChoiceLoader([jinja2.DictLoader(slot), environment.loader])
    detector = SimpleNamespace(positive="bright", negative="dark")
    return environment.get_template(next(iter(slot))).render(r=SimpleNamespace(detector=detector, conditions=found))


def test_the_page_draws_every_curve_and_escapes_names(found: ConditionCurves) -> None:
    page = rendered("conditions.html.j2", found)
    assert page.count("<svg") == 2
    assert "&lt;i&gt;pictures*x*" in page
    assert "<i>pictures" not in page
    assert "Low light 5" in page
    assert "exposure 0.04" in page
    assert "As a live stream" in page
    assert "Square Attack" in page
    assert page.count("<table>") == page.count("<caption>") == page.count("</table>") == 3


def test_the_markdown_has_a_row_for_every_condition_and_whole_tables(found: ConditionCurves) -> None:
    text = rendered("conditions.md.j2", found)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert sum(line.startswith("| Low light |") for line in rows) == 1
    assert all(line.endswith("|") for line in rows)
    widths = [line.replace("\\|", "").count("|") for line in rows]
    assert widths[:4] == [10, 10, 10, 10]
    assert "\\<i\\>pictures\\*x\\*" in text


def curve(falls: int | None, surely: int | None) -> ConditionCurve:
    from discern.evaluation.types_conditions import ConditionPoint, Rates

    none = Estimate(None)
    point = ConditionPoint(1, "", 5, none, none, None, Rates(none, none, none), none, {})
    return ConditionCurve("low_light", "", (point,), falls, surely)


@pytest.mark.parametrize(
    ("falls", "surely", "said"),
    [
        (None, None, "under none of 1."),
        (3, 3, "under Low light from strength 3."),
        (3, 4, "under Low light from strength 3 (sure from 4)."),
        (3, None, "under Low light from strength 3 (not sure)."),
    ],
)
def test_the_summary_tells_what_is_sure(falls: int | None, surely: int | None, said: str) -> None:
    dataset = DatasetConditions("x", 5, Estimate(0.9), (curve(falls, surely),), None, None)
    assert report_conditions.summary(dataset) == f"The AUC falls by more than 0.05 {said}"
    nothing = DatasetConditions("x", 5, Estimate(0.9), (), None, None)
    assert report_conditions.summary(nothing) == "No condition could be tried."
