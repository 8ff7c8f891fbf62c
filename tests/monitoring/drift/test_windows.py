"""What was seen is compared once, alarms begin and end, and all of it is on record: on either database."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services
from discern.app_http import create_app
from discern.core.errors import CallerError, UnknownDetector
from discern.monitoring.drift.rules import MOST_VERSIONS, QUIET_WINDOWS, closed, is_full, started
from discern.monitoring.drift.types import DriftChange, Plan, ReleaseKey, Window
from tests.commands import Run
from tests.monitoring.drift.conftest import CALLER, KEY, PLAN, Rig, entry, records

pytestmark = pytest.mark.system
LEARNED = (1 + PLAN.baseline_windows) * PLAN.window_verdicts


def changes(rig: Rig) -> list[tuple[str, str]]:
    return [(one.subject, one.change) for one in rig.store.changes("default", 100)]


def moved(seed: int, count: int) -> NDArray[np.float64]:
    found = records(seed, count)
    found[:, 1] += 1
    return found


def test_a_subject_that_moves_is_told_from_where_it_began_until_it_is_back(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    assert {rig.subject(name).reference is not None for name in ("score", "decision", "field:b")} == {True}
    rig.after(records(2, 1000))
    assert changes(rig) == []
    began = rig.now
    rig.after(moved(3, 600))
    found = rig.store.changes("default", 100)
    assert [(one.subject, one.change) for one in found] == [("field:b", "began")]
    assert found[0].since == began
    assert found[0].shift == pytest.approx(1.0, abs=0.25)
    assert found[0].distance > 0.3
    assert rig.told.happenings == [("drift.began", "toy-record 1.0.0 field:b", "default")]
    rig.after(records(4, (QUIET_WINDOWS - 1) * PLAN.window_verdicts))
    assert rig.subject("field:b").alarm is not None
    rig.after(records(5, PLAN.window_verdicts))
    assert rig.subject("field:b").alarm is None
    assert changes(rig) == [("field:b", "ended"), ("field:b", "began")]
    assert rig.told.happenings[-1][0] == "drift.ended"


def test_without_change_nothing_is_told(rig: Rig) -> None:
    rig.after(records(1, LEARNED + 4000))
    assert changes(rig) == []
    assert rig.told.happenings == []
    standing = rig.store.release(KEY)
    assert standing is not None
    assert standing.release.windows == (LEARNED + 4000) / PLAN.window_verdicts


def test_what_two_processes_fold_is_in_one_window(rig: Rig) -> None:
    rig.show(records(1, 150))
    waiting = rig.store.waiting(100)
    other = rig.another_process()
    standing = rig.store.release(KEY)
    assert standing is not None
    other._fold(KEY, waiting)
    rig.windows._fold(KEY, waiting)  # it has read them too, and comes too late
    window = rig.store.windows(KEY, 10)[-1]
    assert window.verdicts == 150
    assert sum(window.sketches["decision"].cells) == 150
    assert rig.store.waiting(100) == []
    assert sum(period.verdicts for period in rig.store.periods(KEY)) == 150


def test_one_process_at_a_time_folds(rig: Rig) -> None:
    other = rig.another_process()
    rig.windows.look()
    rig.show(records(1, 50))
    other.look()
    assert len(rig.store.waiting(10)) == 1
    rig.windows.look()
    assert rig.store.waiting(10) == []


def test_a_window_is_closed_by_number_and_time_and_not_by_a_clock_that_is_set_back() -> None:
    from datetime import UTC, datetime

    plan = Plan(100, 60.0, 1000, 0.05, 3)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(1, begin, 100)
    assert not is_full(window, begin + timedelta(seconds=59), plan)
    assert is_full(window, begin + timedelta(seconds=60), plan)
    assert not is_full(msgspec.structs.replace(window, verdicts=99), begin + timedelta(days=99), plan)
    back = started(window, begin - timedelta(days=400))
    assert not is_full(back, begin - timedelta(days=400), plan)
    assert is_full(back, begin - timedelta(days=399), plan)


def test_a_window_that_has_enough_is_closed_when_it_is_time_though_nothing_more_comes(rig: Rig) -> None:
    plan = PLAN._replace(window_seconds=60.0)
    rig.another_process(plan).fold()
    rig.show(records(1, 250))
    first = rig.another_process(plan)
    first.fold()
    rig.now += timedelta(seconds=59)
    first.fold()
    standing = rig.store.release(KEY)
    assert standing is not None
    assert standing.release.windows == 0
    seen_at = standing.seen_at
    rig.now += timedelta(seconds=1)
    rig.another_process(plan).fold()  # one that looks for the first time, after the other has died
    second = rig.another_process(plan)
    second.fold()
    second.fold()
    standing = rig.store.release(KEY)
    assert standing is not None
    assert standing.release.windows == 1
    assert standing.seen_at == seen_at


def test_a_clock_that_is_set_back_by_a_day_does_not_keep_a_window_open_for_a_day(rig: Rig) -> None:
    plan = PLAN._replace(window_seconds=60.0)
    windows = rig.another_process(plan)
    windows.fold()
    rig.show(records(1, 250))
    windows.fold()
    rig.now -= timedelta(days=1)
    windows.fold()
    rig.now += timedelta(seconds=60)
    windows.fold()
    standing = rig.store.release(KEY)
    assert standing is not None
    assert standing.release.windows == 1


def test_a_difference_that_is_sure_and_small_is_no_alarm(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    standing = rig.store.release(KEY)
    assert standing is not None
    rig.show(moved(2, 200))
    piece = rig.store.waiting(10)[0].piece
    window = Window(99, rig.now, 200, sketches=piece.sketches)
    for least, alarms in ((0.05, 1), (0.9, 0)):
        found = closed(KEY, standing.release, window, [], rig.now, PLAN._replace(least_distance=least))
        assert len(found.changes) == alarms


def test_a_release_that_nobody_asks_any_more_alarms_nobody(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    rig.after(moved(2, 400))
    assert rig.subject("field:b").alarm is not None
    rig.now += timedelta(days=8)
    rig.windows.fold()
    assert rig.subject("field:b").alarm is None
    assert changes(rig)[0] == ("field:b", "silent")


def test_of_versions_the_last_ones_are_kept(rig: Rig) -> None:
    standing = None
    rig.show(records(1, 40))
    rig.windows.fold()
    standing = rig.store.release(KEY)
    assert standing is not None
    for number in range(MOST_VERSIONS + 3):
        rig.store.begin(KEY._replace(version=f"2.0.{number}"), standing.release, rig.now + timedelta(hours=number))
    rig.now += timedelta(days=3)
    rig.windows.fold()
    kept = [key.version for key in rig.store.releases()]
    assert len(kept) == MOST_VERSIONS
    assert "1.0.0" not in kept
    assert "2.0.12" in kept
    assert rig.store.windows(KEY, 10) == []
    assert rig.store.periods(KEY) == []


def test_what_was_seen_of_a_release_that_was_forgotten_goes_too(rig: Rig) -> None:
    rig.show(records(1, 40))
    rig.store.forget(KEY)
    rig.show(records(2, 40))
    rig.store.forget(KEY)
    rig.windows.fold()
    assert rig.store.releases() == {}


def test_a_reference_is_learned_anew_on_purpose_and_that_is_on_the_audit_log(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    rig.after(moved(2, 400))
    assert rig.drift.learn("default", "toy-record", None, "field:b", "traffic") == ["field:b"]
    assert rig.subject("field:b").reference is None
    assert changes(rig)[0] == ("field:b", "ended")
    # What was counted at the old edges is no part of what is learned.
    rig.after(moved(3, LEARNED))
    reference = rig.subject("field:b").reference
    assert reference is not None
    assert reference.source == "traffic"
    assert reference.mean == pytest.approx(1.0, abs=0.15)
    rig.after(moved(4, 1000))
    assert changes(rig)[0] == ("field:b", "ended")
    acts = [one.act for one in rig.services.audit_store.page("default", 5, None).entries]
    act = next(act for act in acts if act.act == "drift.baseline")
    assert (act.who, act.target) == ("local", "detector:toy-record@1.0.0")
    assert act.before == {"field:b": "traffic"}
    assert act.after == {"subjects": ["field:b"], "of": "traffic"}


def test_what_cannot_be_learned_is_said(rig: Rig) -> None:
    with pytest.raises(UnknownDetector, match="Nothing was asked"):
        rig.drift.learn("default", "toy-record", None, None, "traffic")
    rig.after(records(1, 40))
    with pytest.raises(CallerError, match="no such subject"):
        rig.drift.learn("default", "toy-record", None, "field:z", "traffic")
    with pytest.raises(CallerError, match="the bundle has a reference for none"):
        rig.drift.learn("default", "toy-record", None, None, "bundle")


def test_a_workspace_is_told_of_its_own_and_who_was_granted_single_detectors_of_these(rig: Rig) -> None:
    rig.after(records(1, 40))
    other = ReleaseKey("other", "toy-record", "1.0.0")
    rig.show(records(2, 60), key=other)
    rig.windows.fold()
    assert [one.open_verdicts for one in rig.drift.report(CALLER).releases] == [40]
    assert [one.open_verdicts for one in rig.drift.report(Principal("key:2", "other")).releases] == [60]
    assert rig.drift.report(msgspec.structs.replace(CALLER, detectors=("toy-image",))).releases == ()
    assert len(rig.drift.report(msgspec.structs.replace(CALLER, detectors=("toy-record",))).releases) == 1


def test_the_history_of_a_subject_is_by_hour_and_day(rig: Rig) -> None:
    for hour in range(30):
        rig.show(records(hour, 100))
        rig.now += timedelta(hours=1)
        rig.windows.fold()
    found = rig.drift.report(CALLER, "toy-record", None, "field:a").history
    assert [one.span for one in found].count("hour") == 24
    assert sum(one.verdicts for one in found) == 3000
    assert all(one.mean == pytest.approx(0, abs=0.4) for one in found)
    assert all(one.quantiles[2] == pytest.approx(0, abs=0.4) for one in found)
    with pytest.raises(CallerError, match="of one release"):
        rig.drift.report(CALLER, "nobody", None, "field:a")


def test_the_metrics_are_those_of_the_catalogue(rig: Rig) -> None:
    from discern.monitoring.drift.types import METRICS

    rig.after(records(1, LEARNED))
    rig.after(moved(2, 400))
    labels = {metric.name: metric.labels for metric in METRICS}
    samples = list(rig.drift.collect())
    assert all(len(sample.labels) == len(labels[sample.name]) for sample in samples)
    found = {(sample.name, sample.labels[3:]): sample.value for sample in samples}
    assert found["discern_drift_alarm", ("field:b",)] == 1
    assert found["discern_drift_alarm", ("field:a",)] == 0
    assert found["discern_drift_shift", ("field:b",)] == pytest.approx(1, abs=0.3)
    assert found["discern_drift_windows_total", ()] == LEARNED / PLAN.window_verdicts + 2


def test_the_route_tells_as_much_as_whoever_asks_may_know(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    client = TestClient(create_app(rig.services), raise_server_exceptions=False)

    def asked(role: str, path: str = "/v1/drift") -> tuple[int, dict[str, object]]:
        secret = rig.services.keys.issue("default", role, role=role).secret  # type: ignore[arg-type]
        answer = client.get(path, headers={"Authorization": f"Bearer {secret}"})
        return answer.status_code, answer.json()

    status, body = asked("analyst")
    assert status == 200
    assert "at most one false alarm in 10,000 windows of 1,000 verdicts" in str(body["promise"])
    assert [release["detector"] for release in body["releases"]] == ["toy-record"]  # type: ignore[attr-defined]
    assert asked("device")[0] == 403
    assert asked("reviewer")[0] == 403
    status, body = asked("auditor", "/v1/drift?detector=toy-record&subject=score")
    assert (status, len(body["history"])) == (200, 1)  # type: ignore[arg-type]
    assert asked("auditor", "/v1/drift?detector=toy-image&subject=score")[0] == 400


def test_the_command_shows_changes_and_learns(run: Run, services: Services) -> None:
    rig = Rig(services)
    assert run("drift").out == "No verdicts were looked at yet.\n"
    assert run("drift", "--changes").out == "Nothing began or ended.\n"
    rig.after(records(1, LEARNED))
    rig.after(moved(2, 400))
    services.close()
    shown = run("drift")
    assert shown.code == 0, shown.err
    assert "it is compared once it has " in shown.out
    # What moved is told in one line, with what to type once.
    assert shown.out.count("discern drift baseline") == 1
    assert "moved, since 2026-03-01" in next(line for line in shown.out.splitlines() if "field:b" in line)
    assert "at most one false alarm in 10,000 windows" in shown.out
    assert "discern drift baseline toy-record@1.0.0 --subject field:b`" in shown.out
    assert "DISCERN_DRIFT_WINDOW_SECONDS" in shown.out
    assert "field:b" in run("drift", "--changes").out
    report = msgspec.json.decode(run("drift", "--json").out)
    assert report["releases"][0]["windows"] == LEARNED / PLAN.window_verdicts + 2
    assert run("drift", "--workspace", "nowhere").code == 1
    learned = run("drift", "baseline", "toy-record", "--subject", "field:b")
    assert (learned.code, learned.out.split(": ")[0]) == (0, "toy-record")
    assert "--subject field:b" not in run("drift").out
    assert "learning" in next(line for line in run("drift").out.splitlines() if "field:b" in line)
    refused = run("drift", "baseline", "toy-record", "--of", "air")
    assert refused.code == 1
    assert "traffic, bundle" in refused.err


def test_a_change_has_all_that_is_known_of_it(rig: Rig) -> None:
    rig.after(records(1, LEARNED))
    rig.after(moved(2, 200))
    (change,) = rig.store.changes("default", 1)
    assert change == DriftChange(
        "toy-record",
        "1.0.0",
        "field:b",
        "began",
        rig.now,
        rig.now - timedelta(minutes=1),
        change.window,
        200,
        change.distance,
        change.p_value,
        change.shift,
    )
    assert change.p_value < 1e-4
    assert entry([0.0, 0.0, 0.0]).seen == (0.0, 0.0, 0.0)
