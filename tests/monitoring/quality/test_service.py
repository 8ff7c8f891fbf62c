"""Quality is measured from what the ledger counted and from labels, kept as rows, and told through every door."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.clock import utc_now
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.verdict import Decision, Verdict
from discern.detection.types import LedgerEntry
from discern.monitoring.metrics.catalogue import CATALOGUE
from discern.monitoring.quality.report import chart, page
from discern.monitoring.quality.rules import counted, window_start
from discern.monitoring.quality.service import Quality
from discern.monitoring.quality.store import QualityStore, windows
from discern.monitoring.quality.types import (
    CalibrationDoubt,
    Evidence,
    Figure,
    QualityOptions,
    QualityReport,
    QualityWindow,
    Release,
)
from discern.review.types import Counted, Judged, LabelLine
from tests.commands import Run
from tests.detection.test_ledger import verdict
from tests.monitoring.quality.worlds import NOON, Floats, TalliesInMemory, decided, judged, sigmoid

DAY = timedelta(days=1)
TOY = Release("default", "toy", "1.0.0")
EVIDENCE = Evidence(frozenset({"only"}), None, pools_videos=False)


class LabelsInMemory:
    """A twin of the labels."""

    def __init__(self) -> None:
        self.given: list[Judged] = []
        self.reads = 0

    def labelled_detectors(self, since: datetime) -> list[tuple[str, str]]:
        return [("default", "toy")] if self.given else []

    def judged(self, workspace: str, detector: str, since: datetime) -> Any:
        self.reads += 1
        return iter(sorted(one for one in self.given if one.verdict_at >= since))

    def counts(self) -> list[Counted]:
        return [Counted("default", "toy", "odd", len(self.given))]


class Mine:
    """Always ours."""

    def take(self) -> bool:
        return True


class World:
    """Ten days of verdicts, quality over them, and a clock that can be set."""

    def __init__(self, services: Services, **options: Any) -> None:
        self.tallies, self.labels = TalliesInMemory(), LabelsInMemory()
        self.now = NOON
        self.evidence: Evidence | None = EVIDENCE
        self.store = QualityStore(services.database)
        self.quality = Quality(
            self.store, self.tallies, self.labels, lambda *_: self.evidence,
            QualityOptions(**{"days": 30, **options}), Mine(), lambda: self.now,
        )  # fmt: skip

    def ask(self, days_ago: float, scores: Floats, **rest: Any) -> datetime:
        at = NOON - timedelta(days=days_ago)
        self.tallies.add(at, scores, decided(scores), **rest)
        return at

    def report(self, **rest: Any) -> QualityReport:
        self.quality.refresh()
        return self.quality.report("default", **rest)


@pytest.fixture
def world(services: Services) -> World:
    return World(services)


def scores_of(count: int, seed: int = 1) -> Floats:
    return sigmoid(np.random.default_rng(seed).normal(-1, 3, count))


def figure(window: QualityWindow, measure: str, kind: str) -> Figure:
    (found,) = (one for one in window.figures if (one.measure, one.kind) == (measure, kind))
    return found


def test_each_day_is_a_window_with_what_its_scores_let_expect(world: World) -> None:
    days = {number: scores_of(500, number) for number in range(5)}
    for number, scores in days.items():
        world.ask(number, scores)
    (release,) = world.report().releases
    assert (release.detector, release.version) == ("toy", "1.0.0")
    assert [one.start for one in release.windows] == [
        window_start(NOON, 1) - number * DAY for number in (4, 3, 2, 1, 0)
    ]
    assert [one.is_closed for one in release.windows] == [True] * 4 + [False]
    for window, number in zip(release.windows, (4, 3, 2, 1, 0), strict=True):
        scores = days[number]
        flagged = scores >= 0.8
        assert window.verdicts == 500
        assert figure(window, "precision", "estimated").value == pytest.approx(scores[flagged].mean())
        assert figure(window, "true_positive_rate", "estimated").value == pytest.approx(
            scores[flagged].sum() / scores.sum()
        )
        assert not [one for one in window.figures if one.kind == "realised"]


def test_answers_from_memory_and_windows_of_streams_are_left_out_and_said_to_be(world: World) -> None:
    scores = scores_of(300)
    world.ask(1, scores)
    world.ask(1, np.full(40, 0.9), cached=True)
    world.ask(1, np.full(7, 0.9), decided_by="fraction_above")
    (release,) = world.report().releases
    (window,) = release.windows
    assert (window.verdicts, window.left_out) == (300, 47)
    assert figure(window, "positive_rate", "estimated").value == pytest.approx(scores.mean())
    assert "47 verdicts are left out: answers from memory, and windows of streams." in release.caveats
    assert any("does not tell on how much it was calibrated" in one for one in release.caveats)


def test_what_the_bundle_does_not_tell_is_said(world: World) -> None:
    world.ask(1, scores_of(50))
    world.evidence = None
    assert any("not installed here" in one for one in world.report().releases[0].caveats)
    world.evidence = Evidence(frozenset({"only"}), CalibrationDoubt(0.01, 0.01, 0.0), pools_videos=True)
    assert [one[:16] for one in world.report().releases[0].caveats] == ["Scores of clips "]


def test_a_label_is_seen_whose_id_was_made_before_that_of_one_that_was_seen(world: World) -> None:
    at = world.ask(1, scores_of(50))
    late, early = judged(0.9, positive=True, verdict_at=at), judged(0.9, positive=True, verdict_at=at)
    late, early = (one._replace(label_id=made) for one, made in ((late, UUID(int=2)), (early, UUID(int=1))))
    for number, one in enumerate((late, early), start=1):
        world.labels.given.append(one)
        (release,) = world.report().releases
        assert release.windows[0].labels == number


def test_labels_that_have_come_make_a_window_mature_and_late_ones_keep_it_from_being(world: World) -> None:
    """Labels come after five days in the mean; windows of the last days have few of them yet."""
    random = np.random.default_rng(2)
    for number in range(1, 30):
        scores = scores_of(120, number)
        at = world.ask(number, scores)
        for score in scores:
            delay = timedelta(days=float(random.exponential(3)))
            if at + delay <= NOON:
                world.labels.given.append(
                    judged(float(score), bool(random.random() < score), verdict_at=at, labelled_at=at + delay)
                )
    (release,) = world.report().releases
    mature = [(NOON - one.start).days for one in release.windows if one.is_mature]
    assert min(mature) in {7, 8, 9}  # nine in ten exponential delays of three days are within seven
    assert len(mature) > 15
    youngest = release.windows[-1]
    assert not youngest.is_mature
    assert youngest.labels_come is not None
    assert youngest.labels_come < 0.5
    standing = world.store.standings()[TOY]
    realised = next(one for one in standing.figures if (one.measure, one.kind) == ("precision", "realised"))
    last = [one for one in release.windows if one.is_mature][-1]
    assert realised == figure(last, "precision", "realised")


def test_a_shift_of_meaning_shows_as_a_gap_and_a_good_release_has_none(services: Services) -> None:
    for shift, alarmed in ((0.0, False), (1.5, True)):
        world, random = World(services), np.random.default_rng(4)
        for number in range(1, 15):
            scores = scores_of(150, 100 + number)
            at = world.ask(number, scores)
            chances = sigmoid(np.log(scores / (1 - scores)) + shift)
            world.labels.given += [
                judged(float(score), bool(random.random() < chance), verdict_at=at)
                for score, chance in zip(scores, chances, strict=True)
            ]
        (release,) = world.report().releases
        assert any(gap.is_alarm for gap in release.gaps) is alarmed
        assert all(gap.labels > 0 for gap in release.gaps)
        samples = {sample[:2]: sample.value for sample in world.quality.collect()}
        assert samples["discern_quality_gap_alarm", (*TOY, "positive_rate")] == float(alarmed)


def test_labels_of_other_versions_and_of_what_is_left_out_do_not_count(world: World) -> None:
    at = world.ask(2, scores_of(20))
    odd = judged(0.9, positive=True, verdict_at=at)
    world.labels.given = [
        odd._replace(version="2.0.0"),
        odd._replace(cached=True),
        odd._replace(decided_by="fraction_above"),
        odd._replace(positive=None),
    ]
    (window,) = world.report().releases[0].windows
    assert window.labels == 0


def test_a_label_of_a_process_whose_clock_is_behind_counts_at_the_next_turn(world: World) -> None:
    at = world.ask(1, scores_of(50))
    world.labels.given.append(judged(0.9, positive=True, verdict_at=at))
    world.report()
    world.labels.given.append(judged(0.2, positive=False, verdict_at=at, label_id=least_id(NOON - DAY)))
    world.now += timedelta(minutes=1)
    (window,) = world.report().releases[0].windows
    assert window.labels == 2


def test_a_turn_reads_and_writes_what_has_changed_and_nothing_else(world: World, services: Services) -> None:
    for number in range(6):
        world.ask(number, scores_of(50, number))
    world.labels.given.append(judged(0.9, positive=True, verdict_at=NOON - DAY))
    world.report()
    assert world.labels.reads == 1
    with services.database.write() as connection:
        connection.execute(windows.delete())
    world.now += timedelta(minutes=1)
    world.report()
    assert world.labels.reads == 1
    assert world.store.windows(TOY, NOON - 30 * DAY) == []
    world.ask(0, scores_of(10, 77))
    world.labels.given.append(judged(0.9, positive=False, verdict_at=NOON - 3 * DAY))
    world.now += timedelta(minutes=1)
    world.report()
    changed = [one.start for one in world.store.windows(TOY, NOON - 30 * DAY)]
    assert changed == [window_start(NOON, 1) - 3 * DAY, window_start(NOON, 1)]
    assert world.labels.reads == 2


def test_another_process_takes_up_where_one_died_and_old_windows_go(world: World, services: Services) -> None:
    for number in (0, 5, 12):
        world.ask(number, scores_of(50, number))
    world.report()
    other = World(services)
    other.tallies.rows = world.tallies.rows
    assert [one.start for one in other.report().releases[0].windows] == [
        one.start for one in world.report().releases[0].windows
    ]
    other.now = NOON + 22 * DAY
    (release,) = other.report().releases
    assert len(release.windows) == 2
    other.now = NOON + 40 * DAY
    assert other.report().releases == ()
    assert other.store.standings() == {}


def test_a_clock_that_jumps_back_loses_no_window(world: World) -> None:
    for number in range(4):
        world.ask(number, scores_of(50, number))
    world.report()
    world.now -= 2 * DAY
    assert len(world.report().releases[0].windows) == 4
    world.now += 3 * DAY
    assert len(world.report().releases[0].windows) == 4


def test_a_database_that_is_down_leaves_quality_as_it_was(world: World) -> None:
    world.ask(1, scores_of(50))
    before = world.report()

    def down(*_: Any) -> Any:
        raise StorageUnavailable("It is down.")

    world.tallies.since = down  # type: ignore[assignment]
    world.quality.tend()
    assert world.quality.report("default") == before


def test_windows_of_several_days_are_aligned_and_hold_all_of_them() -> None:
    tallies = TalliesInMemory()
    for hours in range(0, 24 * 20, 7):
        tallies.add(NOON + timedelta(hours=hours), np.array([0.9]), ["flag"])
    found = counted(tallies.rows, {("toy", "1.0.0"): None}, 7)[TOY]
    starts = sorted(found)
    assert all(second - first == 7 * DAY for first, second in pairwise(starts))
    assert sum(one.groups["flag"].verdicts for one in found.values()) == len(tallies.rows)


def test_every_sample_is_one_of_the_catalogue_with_its_labels(world: World) -> None:
    at = world.ask(3, scores_of(40))
    world.labels.given = [judged(float(score), score > 0.5, verdict_at=at) for score in scores_of(40)]
    world.report()
    samples = list(world.quality.collect())
    assert {one.name for one in samples} == {
        "discern_quality", "discern_quality_low", "discern_quality_high", "discern_quality_gap_alarm",
        "discern_labels_total",
    }  # fmt: skip
    assert all(len(one.labels) == len(CATALOGUE[one.name].labels) for one in samples)


# ---- The page ------------------------------------------------------------------------------------------------------


def svgs(text: str) -> list[ET.Element]:
    return [ET.fromstring(f"<svg{part.split('</svg>')[0]}</svg>") for part in text.split("<svg")[1:]]


def test_the_page_shows_both_on_one_chart_needs_nothing_and_escapes_what_it_is_given(world: World) -> None:
    for number in range(1, 9):
        at = world.ask(number, scores_of(60, number))
        if number > 3:
            world.labels.given += [judged(float(one), one > 0.5, verdict_at=at) for one in scores_of(60, number)]
        else:
            few = {"verdict_at": at, "selected_by": "unknown", "propensity": None}
            world.labels.given += [judged(0.95, positive=True, **few) for _ in range(2)]
    report = msgspec.structs.replace(world.report(), workspace="<b>")
    text = page(report, NOON)
    assert "<script" not in text
    assert "http" not in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    drawn = svgs(text)
    assert drawn
    (precision, *_) = drawn
    kinds = [one.get("class") for one in precision.iter()]
    assert kinds.count("band") == kinds.count("estimated") == 1
    assert kinds.count("mature") == 5
    assert "estimated" in str(precision.get("aria-label"))
    for one in precision.iter("circle"):
        assert 0 <= float(str(one.get("cx"))) <= 640
        assert 0 <= float(str(one.get("cy"))) <= 220


def test_a_single_window_is_seen_and_its_axis_can_be_read() -> None:
    figures = (Figure("precision", "estimated", 0.999, 0.9987, 1.0),)
    (drawn,) = svgs(chart([QualityWindow(NOON, NOON + DAY, 12, True, figures)], "precision"))
    line = next(one for one in drawn.iter() if one.get("class") == "estimated")
    places = [float(point.split(",")[0]) for point in str(line.get("points")).split()]
    assert places[1] - places[0] > 10
    texts = [one.text for one in drawn.iter("text")]
    assert len(texts) == len(set(texts)) == 6


def test_a_chart_of_nothing_says_why() -> None:
    assert chart([], "precision") == '<p class="none">no verdicts</p>'
    window = QualityWindow(NOON, NOON + DAY, 0, True, (Figure("precision", "estimated", why="too few <verdicts>"),))
    assert "too few &lt;verdicts&gt;" in chart([window], "precision")


# ---- The whole way -------------------------------------------------------------------------------------------------


def aged(days: float, score: float, decision: Decision) -> Verdict:
    moment = utc_now() - timedelta(days=days)
    low = uuid7().int & ((1 << 80) - 1)
    made = verdict("default", "toy-record", decision)
    return msgspec.structs.replace(
        made, id=str(UUID(int=least_id(moment).int | low)), created_at=moment, score=score, decided_by="model"
    )


@pytest.fixture
def filled(two_workspaces: Services) -> Services:
    """Eight days of verdicts with labels for all, on either database."""
    services, random = two_workspaces, np.random.default_rng(6)
    stage = services.catalogue.find("toy-record").bundle.manifest.stages[0].name
    lines = []
    for days in range(1, 9):
        scores = scores_of(80, days)
        made = [msgspec.structs.replace(aged(days, float(score), decision), decided_by=stage)
                for score, decision in zip(scores, decided(scores), strict=True)]  # fmt: skip
        services.verdicts.append([LedgerEntry(one, "key:1") for one in made])
        for one in made:
            label = "odd" if random.random() < one.score else "fine"
            when = one.created_at + timedelta(minutes=9)
            lines.append(LabelLine(verdict_id=UUID(one.id), label=label, labelled_at=when, selected_by="all"))
    taken = services.labels.take(lines, Principal("key:1", "default", "owner"))
    assert taken.taken == 640, taken
    return services


@pytest.mark.system
def test_from_the_ledger_and_labels_to_the_door_the_metrics_and_the_rows(filled: Services) -> None:
    filled.monitoring.quality.tend()
    door = TestClient(create_app(filled), raise_server_exceptions=False)
    door.headers["Authorization"] = f"Bearer {filled.keys.issue('default', 'test', role='analyst').secret}"
    report = msgspec.json.decode(door.get("/v1/quality").content, type=QualityReport)
    (release,) = report.releases
    closed = [one for one in release.windows if one.is_closed]
    assert len(closed) >= 7
    assert all(one.is_mature and one.verdicts == one.labels for one in closed)
    assert sum(one.verdicts for one in release.windows) == 640
    inside = [
        figure(one, name, "estimated").low <= figure(one, name, "realised").value <= figure(one, name, "estimated").high  # type: ignore[operator]
        for one in closed for name in ("precision", "true_positive_rate", "positive_rate")
    ]  # fmt: skip
    assert np.mean(inside) > 0.8
    assert not any(gap.is_alarm for gap in release.gaps)
    assert door.get("/v1/quality?detector=toy-image").json()["releases"] == []
    assert len(door.get("/v1/quality?days=3").json()["releases"][0]["windows"]) in {3, 4}
    for role, detectors, releases in (("reviewer", ("toy-image",), 0), ("auditor", None, 1)):
        door.headers["Authorization"] = (
            f"Bearer {filled.keys.issue('default', 'test', role=role, detectors=detectors).secret}"  # type: ignore[arg-type]
        )
        assert len(door.get("/v1/quality").json()["releases"]) == releases
    door.headers["Authorization"] = f"Bearer {filled.keys.issue('default', 'test', role='service').secret}"
    assert door.get("/v1/quality").status_code == 403
    door.headers["Authorization"] = f"Bearer {filled.keys.issue('other', 'test', role='owner').secret}"
    assert door.get("/v1/quality").json()["releases"] == []
    told = {sample[:2]: sample.value for sample in filled.monitoring.metrics.read()}
    release_labels = ("default", "toy-record", "1.0.0")
    assert told["discern_quality", (*release_labels, "precision", "realised")] > 0.5
    assert sum(told["discern_labels_total", ("default", "toy-record", label)] for label in ("odd", "fine")) == 640
    with filled.database.read() as connection:
        assert len(connection.execute(select(windows)).all()) == len(release.windows)


@pytest.mark.system
def test_one_process_at_a_time_measures(filled: Services) -> None:
    other = build_services(filled.settings)
    other.open()
    filled.monitoring.quality.tend()
    with filled.database.write() as connection:
        connection.execute(windows.delete())
    other.monitoring.quality.tend()
    assert other.monitoring.quality.report("default").releases[0].windows == ()
    other.close()


@pytest.mark.system
def test_the_command_measures_and_shows_and_writes_the_page(
    run: Run, services: Services, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No verdicts were counted yet." in run("quality").out
    stage = services.catalogue.find("toy-record").bundle.manifest.stages[0].name
    scores = scores_of(200)
    made = [msgspec.structs.replace(aged(2, float(score), decision), decided_by=stage)
            for score, decision in zip(scores, decided(scores), strict=True)]  # fmt: skip
    services.verdicts.append([LedgerEntry(one, "key:1") for one in made])
    shown = run("quality")
    assert shown.code == 0
    # The window of an estimate stands beside it, and none beside what has no labels.
    row = next(line for line in shown.out.splitlines() if line.startswith("True-positive rate of flags "))
    assert row.count(f"{made[0].created_at:%Y-%m-%d}") == 1
    assert row.index(f"{made[0].created_at:%Y-%m-%d}") < row.index("no labels")
    assert "toy-record 1.0.0" in shown.out
    assert "Precision of flags" in shown.out
    assert "none found" in shown.out
    assert "Labels that a mature window still lacks" in shown.out
    report = json.loads(run("quality", "--json").out)
    assert report["releases"][0]["windows"][0]["verdicts"] == 200
    assert run("quality", "--html", tmp_path / "page.html").code == 0
    assert len(svgs((tmp_path / "page.html").read_text())) == 7
    assert run("quality", "--html", tmp_path / "none" / "page.html").code == 1
    assert run("quality", "--workspace", "nobody").code == 1
