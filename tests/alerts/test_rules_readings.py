"""What rules make of readings is what is there to be made of them, and what Prometheus makes of them too."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from discern.alerts.rules_prometheus import alert_name, rule_file
from discern.alerts.rules_readings import Memory, quantile_of
from discern.alerts.rules_states import is_broken
from discern.alerts.types import Labels, Matcher, Rule, Selector
from discern.monitoring.types import Sample
from tests.alerts.parts import KNOWN, rule

COUNTED: dict[str, Any] = {"metric": Selector("failures_total"), "by": ("detector",), "summary": "", "window": 60.0}
FIVES = Selector("requests_total", (Matcher("status", "=~", "5.."),))


def counter(value: float, detector: str = "a", workspace: str = "w") -> Sample:
    return Sample("failures_total", (workspace, detector), value)


def observed(said: Rule, *readings: Sequence[Sample], every: float = 5.0) -> dict[Labels, float]:
    memory = Memory([said], KNOWN)
    for number, reading in enumerate(readings):
        memory.add(1000.0 + every * number, reading)
    return memory.observe(said)


def of(found: dict[Labels, float], *values: str) -> float | None:
    return next((value for labels, value in found.items() if tuple(one for _, one in labels) == values), None)


def test_a_counter_that_falls_was_reset_and_nothing_is_lost() -> None:
    said = rule(function="increase", above=0.5, **COUNTED)
    values = [100, 105, 110, 3, 8, 8, 8, 8, 8, 8, 8, 8, 8]
    found = observed(said, *[[counter(value)] for value in values])
    assert of(found, "a") == pytest.approx(10 + 3 + 5)


def test_a_series_that_comes_up_began_at_nought_but_not_at_the_first_reading() -> None:
    said = rule(function="increase", above=0.5, **COUNTED)
    assert observed(said, [counter(1000)]) == {}
    assert of(observed(said, [counter(1000)], [counter(1000)]), "a") == 0
    assert of(observed(said, [counter(7, "b")], [counter(7, "b"), counter(3)]), "a") == pytest.approx(3)
    assert of(observed(said, [], [counter(3)]), "a") is None, "all of it may have been late"
    local = rule(function="increase", above=0.5, summary="", metric=Selector("local_total"), by=("part",))
    assert observed(local, [], [Sample("local_total", ("x",), 3)])[(("part", "x"),)] == pytest.approx(3)
    late = Memory([said], KNOWN)
    late.add(1000.0, [])
    late.add(1500.0, [counter(1000)])
    late.add(1505.0, [counter(1000)])
    assert of(late.observe(said), "a") == 0, "what went before a long pause is not known"


def test_what_is_not_there_has_no_value() -> None:
    for function in ("value", "rate", "increase"):
        assert observed(rule(function=function, **COUNTED), [], []) == {}
    assert observed(rule(), [Sample("level", ("a",), float("nan"))]) == {}
    gone = rule(function="absent", metric=Selector("up", (Matcher("part", "=", "database"),)), by=("part",), summary="")
    assert observed(gone, [Sample("up", ("cache",), 1)]) == {(("part", "database"),): 1.0}
    assert observed(gone, [Sample("up", ("database",), 0)]) == {(("part", "database"),): 0.0}
    assert observed(gone, []) == {}, "where nothing is measured nothing is missing"


def test_a_ratio_needs_something_to_divide_by_and_enough_of_it() -> None:
    said = rule(
        function="ratio", metric=FIVES, over=Selector("requests_total"), by=(), at_least=20, above=0.1, summary=""
    )

    def reading(good: float, bad: float) -> list[Sample]:
        return [Sample("requests_total", ("200",), good), Sample("requests_total", ("503",), bad)]

    for few in (reading(0, 0), reading(5, 5)):
        value = observed(said, reading(0, 0), few)[()]
        assert math.isnan(value)
        assert not is_broken(said, value)
    assert observed(said, reading(0, 0), reading(60, 20))[()] == pytest.approx(0.25)


def test_what_stopped_is_told_from_what_never_was() -> None:
    said = rule(function="stopped", **(COUNTED | {"before": 120.0, "at_least": 10}))
    memory = Memory([said], KNOWN)
    for number in range(61):
        busy = min(number, 30) * 2.0
        memory.add(1000.0 + 5 * number, [counter(busy, "busy"), counter(number * 3.0, "going"), counter(0, "idle")])
        found = memory.observe(said)
        stopped = of(found, "busy")
        assert not stopped or number > 30
        assert stopped or not 43 <= number <= 60
        assert not of(found, "idle")
        assert not of(found, "going")


def test_labels_are_added_up_or_the_worst_counts() -> None:
    samples = [Sample("level", ("a",), 3), Sample("level", ("b",), 8)]
    assert [observed(rule(by=(), combine=how, summary=""), samples)[()] for how in ("sum", "max", "min")] == [11, 8, 3]


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [(1, 10), (2, 20), (float("inf"), 20)], 1.0),
        (0.75, [(1, 10), (2, 20), (float("inf"), 20)], 1.5),
        (0.25, [(1, 10), (2, 20), (float("inf"), 20)], 0.5),
        (0.99, [(1, 10), (2, 20), (float("inf"), 40)], 2.0),
        (0.5, [(1, 0), (2, 0), (float("inf"), 0)], None),
        (0.5, [(1, 10), (2, 9), (float("inf"), 20)], 1.0),
        (0.5, [(1, 10), (2, 20)], None),
    ],
)
def test_a_quantile_lies_on_a_line_in_its_bucket(share: float, buckets: Any, expected: float | None) -> None:
    assert quantile_of(share, buckets) == (None if expected is None else pytest.approx(expected))


def test_memory_is_bounded_however_long_it_runs() -> None:
    said = rule(function="increase", **COUNTED)
    memory = Memory([said], KNOWN)
    for number in range(2000):
        memory.add(1000.0 + number, [counter(number, f"d{number % 50}")])
    past = next(iter(memory._pasts.values()))
    assert len(past.tracks) == 50
    assert max(len(track.points) for track in past.tracks.values()) <= 16
    memory.add(10_000.0, [])
    assert past.tracks == {}


# ---- The same as Prometheus ---------------------------------------------------------------------------------------

PAIRED = [
    rule("value-above"),
    rule("value-below", below=5.0, clear=8.0),
    rule("hysteresis", above=15.0, clear=6.0),
    rule("lasting", above=12.0, lasting=15.0),
    rule("sum-of-all", by=(), combine="sum", above=40.0, summary=""),
    rule("machine", metric=Selector("local_up"), by=("part",), below=0.5, summary=""),
    rule("increase", function="increase", above=20.0, **COUNTED),
    rule("rate", function="rate", above=0.3, clear=0.1, **COUNTED),
    rule("increase-of-all", function="increase", above=24.0, **(COUNTED | {"by": ()})),
    rule(
        "ratio",
        function="ratio",
        metric=FIVES,
        over=Selector("requests_total"),
        by=(),
        above=0.3,
        window=60.0,
        summary="",
    ),
    rule(
        "ratio-of-many",
        function="ratio",
        metric=FIVES,
        over=Selector("requests_total"),
        by=(),
        above=0.2,
        at_least=82,
        window=60.0,
        summary="",
    ),
    rule(
        "quantile",
        function="quantile",
        metric=Selector("seconds"),
        by=("route",),
        above=7.0,
        summary="",
        window=60.0,
        at_least=1,
    ),
    rule("stopped", function="stopped", **(COUNTED | {"before": 120.0, "at_least": 5})),
    rule("absent", function="absent", metric=Selector("up", (Matcher("part", "=", "x"),)), by=("part",), summary=""),
]


def story(seed: int) -> dict[tuple[str, tuple[str, ...]], list[float | None]]:
    """Return series of 60 values, five seconds apart; None where a series is not there."""
    made = random.Random(seed)
    series: dict[tuple[str, tuple[str, ...]], list[float | None]] = {}
    for name in "abc":
        series["level", (name,)] = [round(made.uniform(0, 20)) for _ in range(60)]
    for part in ("cache", "x"):
        series["up", (part,)] = [None if part == "x" and 20 < at < 45 else 1 for at in range(60)]
        series["local_up", (part,)] = [float(made.random() > 0.3) for _ in range(60)]
    for detector in "ab":
        total, values = 50.0, []
        for at in range(60):
            total = 0.0 if at == 33 else total + (made.choice([0, 0, 1, 4]) if at < 30 or detector == "a" else 0)
            values.append(total)
        series["failures_total", ("w", detector)] = list(values)
    for status, most in (("200", 9), ("503", 4)):
        series["requests_total", (status,)] = growing(made, most)
    for le, share in (("0.1", 1), ("1", 3), ("10", 4), ("+Inf", 4)):
        series["seconds_bucket", ("r", le)] = [float(at * share) for at in range(60)]
    series["seconds_bucket", ("r", "10")] = series["seconds_bucket", ("r", "+Inf")] = [
        float(at * 3 + max(0, at - 20) // 9) for at in range(60)
    ]
    for name in ("_count", "_sum"):
        series[f"seconds{name}", ("r",)] = series["seconds_bucket", ("r", "+Inf")]
    return series


def growing(made: random.Random, most: int) -> list[float | None]:
    values: list[float | None] = []
    total = 0.0
    for _ in range(60):
        total += made.randint(0, most)
        values.append(total)
    return values


def written(values: Sequence[float | None]) -> str:
    # A stale marker: the series is not there any more, rather than looked back for.
    return " ".join("stale" if one is None else f"{one:g}" for one in values)


@pytest.mark.system
@pytest.mark.parametrize("said", PAIRED, ids=lambda one: one.name)
def test_prometheus_fires_where_we_do(said: Rule, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    series = story(7)
    steps = fires_with_states(said, series)
    tests: list[dict[str, Any]] = []
    for at in range(4, 60):
        expected = []
        for labels in steps[at]:
            there = {name: value for name, value in labels if value} | {"severity": "warning", "kind": "metric"}
            instance = {"instance": "box"} if KNOWN.scope(said.metric.metric) == "machine" else {}
            expected.append({"exp_labels": there | instance, "exp_annotations": None})
        tests.append({"eval_time": f"{5 * at}s", "alertname": alert_name(said.name), "exp_alerts": expected})
    for one in tests:
        for alert in one["exp_alerts"]:
            alert["exp_annotations"] = {"summary": "s", "description": "d"}
    plain = rule(
        **{name: getattr(said, name) for name in said.__struct_fields__} | {"summary": "s", "description": "d"}
    )
    (tmp_path / "rules.yaml").write_text(rule_file([plain], KNOWN))
    given = []
    for (name, values_of), values in series.items():
        names = (*(KNOWN.labels(name) or ()), "instance")
        written_labels = ",".join(f'{one}="{value}"' for one, value in zip(names, (*values_of, "box"), strict=True))
        given.append({"series": f"{name}{{{written_labels}}}", "values": written(values)})
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5s",
        "tests": [{"interval": "5s", "input_series": given, "alert_rule_test": tests}],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    ran = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert any(steps[4:]), "a story in which it never fires shows nothing"
    assert not all(steps[4:])


def fires_with_states(said: Rule, series: dict[tuple[str, tuple[str, ...]], list[float | None]]) -> list[set[Labels]]:
    """Return what fires at each time, states among it."""
    from tests.alerts.test_rules_states import World

    memory, world, found = Memory([said], KNOWN), World(said), []
    for at in range(60):
        there = [
            Sample(name, labels, one) for (name, labels), values in series.items() if (one := values[at]) is not None
        ]
        memory.add(1000.0 + 5 * at, there)
        world.now += timedelta(seconds=5)
        world.observe(memory.observe(said))
        found.append({labels for labels, alert in world.known.items() if alert.state == "firing"})
    return found
