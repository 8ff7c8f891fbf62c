"""Conditions as the command measures them, and as the page and the Markdown have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from discern.evaluation import report, report_conditions, report_pages
from discern.evaluation.conditions.registry import named
from discern.evaluation.journal import Journal
from discern.evaluation.results import Result, Timings
from discern.evaluation.service import Parts, look
from discern.evaluation.service import run as run_evaluation
from discern.evaluation.types import Estimate
from discern.evaluation.types_conditions import ConditionCurve, ConditionPoint, DatasetConditions, Rates
from tests.commands import Ran
from tests.evaluation.conftest import asked


@pytest.fixture
def both(parts: Parts, pictures: Path, tmp_path: Path) -> tuple[Result, Timings]:
    renamed = pictures.rename(tmp_path / "<i>pictures*x*")
    conditions = ("low_light", "frame_drops", "live_stream")
    question = asked(tmp_path / "out", renamed, detector="toy-image", conditions=conditions, queries=5)
    found, timings = run_evaluation(question, look(question, parts), parts, Journal(tmp_path / "out"), lambda _: None)
    return report.rounded(found), report.rounded(timings)


def test_the_page_draws_every_curve_and_escapes_names(both: tuple[Result, Timings]) -> None:
    page = report_pages.html(*both).decode()
    page = page[page.index("<h2>Under conditions</h2>") : page.index("<h2>How to repeat it</h2>")]
    assert page.count("<svg") == 1
    assert "Not tried: frame drops. It takes video." in page
    assert "&lt;i&gt;pictures*x*" in page
    assert "<i>pictures" not in page
    assert "Low light 5" in page
    assert "exposure 0.04" in page
    assert "no rule for streams of pictures" in page
    assert "Square Attack" in page
    assert '<th scope="col">Queries an item</th>' in page
    for axis in ("Strength</text>", "AUC</text>"):
        assert page.count(axis) == 1
    assert page.count("<table>") == page.count("<caption>") == page.count("</table>") == 2


def test_the_markdown_has_a_row_for_every_condition_and_whole_tables(both: tuple[Result, Timings]) -> None:
    text = report_pages.markdown(both[0]).decode()
    text = text[text.index("Under conditions") : text.index("Datasets by the SHA-256")]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert sum(line.startswith("| Low light |") for line in rows) == 1
    assert all(line.endswith("|") for line in rows)
    widths = [line.replace("\\|", "").count("|") for line in rows]
    assert widths[:3] == [10, 10, 10]
    assert widths[3:] == [4, 4, 4]
    assert "\\<i\\>pictures\\*x\\*" in text


def test_the_command_measures_conditions_and_says_how_to_repeat_them(
    run: Callable[..., Ran], pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    line = [
        "evaluate",
        "toy-image",
        "--data",
        pictures,
        "--conditions",
        "contrast,jpeg",
        "--adversarial",
        "3",
        "--condition-items",
        "7",
        "-o",
        out,
    ]
    ran = run(*line)
    assert ran.code == 0, ran.err
    tree = json.loads((out / "report.json").read_bytes())
    (dataset,) = tree["conditions"]["datasets"]
    assert [curve["condition"] for curve in dataset["curves"]] == ["jpeg", "contrast"]
    assert dataset["attack"]["budget"] == 3
    assert dataset["items"] == 14
    assert "--conditions jpeg,contrast --adversarial 3 --condition-items 7" in tree["command"]
    assert json.loads((out / "timings.json").read_bytes())["seconds"]["conditions"] > 0
    assert b"Under conditions" in (out / "report.html").read_bytes()


def test_all_conditions_are_called_so_in_the_command_that_repeats_them(tmp_path: Path) -> None:
    every = asked(tmp_path / "out", tmp_path, detector="toy-image", conditions=named("all"))
    assert "--conditions all " in every.command
    some = asked(tmp_path / "out", tmp_path, detector="toy-image", conditions=named("blur,jpeg"))
    assert "--conditions jpeg,blur " in some.command


def test_a_condition_that_does_not_exist_is_refused_before_anything_is_scored(
    run: Callable[..., Ran], pictures: Path, tmp_path: Path
) -> None:
    ran = run("evaluate", "toy-image", "--data", pictures, "--conditions", "fog", "-o", tmp_path / "report")
    assert ran.code == 1
    assert "There is no condition 'fog'." in ran.err
    assert not (tmp_path / "report").exists()


def curve(falls: int | None, surely: int | None) -> ConditionCurve:
    none = Estimate(None)
    point = ConditionPoint(1, "", 5, none, none, None, Rates(none, none, none), none, {})
    return ConditionCurve("low_light", "", (point,), falls, surely)


@pytest.mark.parametrize(
    ("falls", "surely", "said"),
    [
        (None, None, "under none of 1."),
        (3, 3, "under low light from strength 3."),
        (3, 4, "under low light from strength 3 (sure from 4)."),
        (3, None, "under low light from strength 3 (not sure)."),
    ],
)
def test_the_summary_tells_what_is_sure(falls: int | None, surely: int | None, said: str) -> None:
    dataset = DatasetConditions("x", 5, Estimate(0.9), (curve(falls, surely),), None, None)
    assert report_conditions.summary(dataset) == f"The AUC falls by more than 0.05 {said}"
    nothing = DatasetConditions("x", 5, Estimate(0.9), (), None, None)
    assert report_conditions.summary(nothing) == "No condition could be tried."
