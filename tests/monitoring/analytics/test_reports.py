"""A report says what happened in its period and nothing of others', in every format, whatever its texts are."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from pypdf import PdfReader

from discern.app import Services
from discern.core.errors import CallerError, StorageUnavailable
from discern.monitoring.analytics import report_pdf
from discern.monitoring.analytics.report import html, markdown
from discern.monitoring.analytics.report_pdf import pdf
from discern.monitoring.analytics.rules_page import Grid, Page, columns_fit, page_of
from discern.monitoring.analytics.rules_periods import period_of, zone_of
from discern.monitoring.analytics.types import ActivityReport, AlertLine, Budget, HappeningLine, LabelCount
from discern.monitoring.drift.types import DriftChange
from discern.monitoring.quality.types import Figure, QualityReport, QualityWindow, ReleaseQuality
from tests.commands import Run
from tests.monitoring.analytics.worlds import NOW, World, asked, busy_hours, verdict

MONDAY = datetime(2026, 3, 9, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NASTY = '<script>alert(1)</script>" onload="x" & <img src=http://evil/>'


class _Tags(HTMLParser):
    """The tags and attributes of a page, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def world(services: Services) -> World:
    """Two weeks, the second with more of everything, and things that happened."""
    world = World(services)
    busy_hours(services, [MONDAY - 7 * DAY + number * 12 * HOUR for number in range(14)], each=6)
    busy_hours(services, [MONDAY + number * 6 * HOUR for number in range(28)], each=9)
    window = QualityWindow(
        MONDAY, MONDAY + DAY, 100, True, (Figure("precision", "estimated", 0.91, 0.88, 0.94),), is_mature=True
    )
    world.quality = QualityReport("default", 1, (ReleaseQuality("toy", "1.0.0", (window,)),))
    at = MONDAY + 2 * DAY
    world.changes = [DriftChange("toy", "1.0.0", "score", "began", at, at - HOUR, 7, shift=0.8)]
    world.alerts = [AlertLine("toy", "critical", "stage-failing", "Stage late of toy fails", at, at + HOUR)]
    world.happenings = [HappeningLine("worker.replaced", "worker 2", 3, at)]
    world.labels = [LabelCount("toy", "odd", 12)]
    world.analytics.roll_up()
    return world


def weekly(world: World) -> ActivityReport:
    return world.reports.report("default", period_of("week", None, UTC, world.now))


def test_a_week_is_told_with_its_days_and_the_change_against_the_week_before(world: World) -> None:
    report = weekly(world)
    assert (report.since, report.until) == (MONDAY, MONDAY + 7 * DAY)
    assert (report.verdicts.value, report.verdicts.before) == (28 * 9, 14 * 6)
    assert report.verdicts.ratio == pytest.approx(2.0)
    assert [day.verdicts for day in report.days] == [36] * 7
    assert sum(one.verdicts.value for one in report.detectors) == 28 * 9
    assert report.callers == 3
    page = page_of(report)
    assert page.lead.startswith("252 verdicts came, +200% against the week before; ")
    assert page.attention[0] == "Alert at 2026-03-11 00:00: Stage late of toy fails"
    assert "toy 1.0.0 drifts in score since 2026-03-10 23:00." in page.attention
    assert f"{len(page.attention)} things need attention." in page.lead


def test_a_week_that_still_runs_is_held_against_as_much_of_the_week_before(world: World) -> None:
    world.now = MONDAY + 2 * DAY + timedelta(minutes=10)
    report = world.reports.report("default", period_of("week", MONDAY.date(), UTC, world.now))
    assert report.verdicts.before == 4 * 6, "two days of the week before, of which each has twice six"
    page = page_of(report)
    assert " against as many hours of the week before; " in page.lead
    over = weekly(world)
    assert (over.since, over.verdicts.value) == (MONDAY - 7 * DAY, 14 * 6)
    assert "as many hours" not in page_of(over).lead


def test_every_format_has_the_same_facts(world: World) -> None:
    page = page_of(weekly(world))
    written = html(page)
    tags = _Tags(written)
    assert not tags.open
    assert {"script", "link", "img", "iframe"}.isdisjoint(tags.tags)
    assert {"style", "src", "href", "onload"}.isdisjoint(tags.attributes)
    assert tags.tags.count("svg") == 3
    text = "\n".join(one.extract_text() for one in PdfReader(BytesIO(pdf(page))).pages)
    for fact in ("Detection in default", "252", "worker.replaced", "0.91 [0.88, 0.94]", "+0.80", "EUR"):
        assert fact in written
        assert fact in text
        assert fact in markdown(page).replace("\\", "")
    assert json.loads(msgspec.json.encode(weekly(world)))["verdicts"]["value"] == 252


def test_a_text_of_somebody_elses_is_never_markup(world: World) -> None:
    world.alerts = [AlertLine("", "critical", NASTY, NASTY, MONDAY, None)]
    world.happenings = [HappeningLine(NASTY, NASTY, 1, MONDAY)]
    world.labels = [LabelCount(NASTY, NASTY, 1)]
    asked(world.services, [verdict(MONDAY, detector="<b>x</b>", version="<i>")])
    world.analytics.roll_up(whole=True)
    page = page_of(weekly(world))
    tags = _Tags(html(page))
    assert {"script", "img", "b", "i"}.isdisjoint(tags.tags)
    assert "onload" not in tags.attributes
    text = "".join(one.extract_text() for one in PdfReader(BytesIO(pdf(page))).pages)
    assert "<script>" in text.replace("\n", "")
    assert "<script>" not in markdown(page)


def test_a_pdf_has_what_its_font_cannot_write_as_question_marks() -> None:
    page = Page("Ⓡ 検出 Grüße", "p", "l", ("\x00",), (), "f")
    assert "?" in PdfReader(BytesIO(pdf(page))).pages[0].extract_text()


def test_a_long_report_has_pages_and_one_of_nothing_says_so(services: Services) -> None:
    world = World(services)
    empty = page_of(weekly(world))
    assert empty.lead == "Nothing was asked for. Nothing needs attention."
    assert len(PdfReader(BytesIO(pdf(empty))).pages) >= 1
    assert not _Tags(html(empty)).open
    world.happenings = [HappeningLine("breaker.opened", f"part {number} " + "x" * 150, 1, NOW) for number in range(300)]
    assert len(PdfReader(BytesIO(pdf(page_of(weekly(world))))).pages) > 5


def test_a_part_that_does_not_answer_is_said_to_be_absent(world: World) -> None:
    def down(*_: object) -> list[AlertLine]:
        raise StorageUnavailable("The database did not answer.", mend="See to it.")

    object.__setattr__(world.reports._sources, "alerts", down)
    report = weekly(world)
    assert report.verdicts.value == 252
    assert report.absent[0].startswith("alerts: The database did not answer.")
    assert any(one.startswith("This report is not whole: alerts") for one in page_of(report).attention)


def test_a_report_of_a_detector_has_nothing_of_others(world: World) -> None:
    report = world.reports.report("default", period_of("week", None, UTC, world.now), "other")
    assert {one.detector for one in report.detectors} == {"other"}
    assert (report.drift, report.quality, report.alerts, report.labels) == ((), (), (), ())


def test_days_are_those_of_the_time_zone(services: Services) -> None:
    world = World(services)
    asked(services, [verdict(MONDAY - timedelta(minutes=30)), verdict(MONDAY + 7 * DAY - timedelta(minutes=30))])
    world.analytics.roll_up()
    zone = zone_of("Europe/Berlin")
    report = world.reports.report("default", period_of("week", date(2026, 3, 9), zone, NOW))
    assert [one.verdicts for one in report.days] == [1, 0, 0, 0, 0, 0, 0]
    assert weekly(world).days[6].verdicts == 1


def test_a_budget_that_is_passed_or_will_be_is_told(world: World) -> None:
    world.budgets.change("default", Budget(amount=0.001))
    assert any("for 2026-03 is used up" in one for one in page_of(weekly(world)).attention)
    used = world.budgets.standing("default").amount
    assert used.forecast is not None
    world.budgets.change("default", Budget(amount=(used.used + used.forecast.value) / 2))
    assert any("on its way to" in one for one in page_of(weekly(world)).attention)


def test_columns_give_way_where_there_is_no_room() -> None:
    assert columns_fit([10, 20], 100) == [10, 20]
    found = columns_fit([10, 300, 100], 120)
    assert sum(found) == pytest.approx(120)
    assert found[0] == 10


@pytest.mark.parametrize("ending", ["html", "pdf", "md", "json"])
def test_the_command_writes_the_format_that_the_file_says(run: Run, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"report.{ending}"
    ran = run("report", "--period", "day", "-o", file)
    assert (ran.code, ran.out) == (0, f"Written to {file}.\n")
    beginnings = {"html": b"<!DOCTYPE html>", "pdf": b"%PDF", "md": b"# Detection", "json": b"{"}
    assert file.read_bytes().startswith(beginnings[ending])


def test_the_command_says_what_is_wrong_and_how_to_mend_it(run: Run, tmp_path: Path) -> None:
    for arguments, said in (
        (("--format", "pdf"), "Name a file"),
        (("-o", tmp_path / "report.doc"), "--format"),
        (("--from", "yesterday"), "2026-11-02"),
        (("--time-zone", "Asia/Kolkata"), "whole hours"),
        (("-o", tmp_path / "no" / "report.md"), "Name another file"),
        (("--workspace", "elsewhere"), "elsewhere"),
    ):
        ran = run("report", *arguments)
        assert ran.code == 1, arguments
        assert said in ran.err
    assert run("report").out.startswith("# Detection in default")


def test_words_of_commands_and_settings_can_be_copied_from_a_terminal(run: Run) -> None:
    said = run("report").out
    assert "discern budget set --amount 500" in said
    assert "DISCERN_PRICE_PER_VERDICT" in said
    assert markdown(Page("_a_ b_c", "p", "l", (), (), "f")).startswith("# \\_a\\_ b_c")


def test_where_last_week_had_nothing_the_command_says_how_to_ask_for_the_one_that_runs(run: Run) -> None:
    today = datetime.now(UTC).date()
    assert f"discern report --from {today - timedelta(days=today.weekday())}\n" in run("report").err
    assert "--period day --from " in run("report", "--period", "day").err
    assert run("report", "--from", "2026-01-05").err == ""


def test_what_is_not_known_yet_of_an_hour_is_no_zero(services: Services) -> None:
    world = World(services, now=NOW)
    asked(services, [verdict(MONDAY + timedelta(minutes=5))])
    page = page_of(world.reports.report("default", period_of("week", MONDAY.date(), UTC, NOW)))
    grid = next(part for one in page.sections if one.heading == "Detectors" for part in one.parts)
    assert isinstance(grid, Grid)
    assert grid.rows[0][grid.head.index("Callers")] == "-"
    assert not any("(-)" in part for one in page.sections for part in one.parts if isinstance(part, str))


def test_without_the_library_a_pdf_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pdf, "find_spec", lambda _: None)
    with pytest.raises(Exception, match="reportlab"):
        pdf(Page("t", "p", "l", (), (), "f"))


def test_a_month_that_cannot_be_cut_at_hours_is_refused(world: World) -> None:
    with pytest.raises(CallerError, match="whole hours"):
        world.reports.report("default", period_of("month", None, zone_of("Asia/Kolkata"), NOW))
