"""Scores that are no longer right are found by labels, and nothing is where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest

from discern.monitoring.drift.rules_labels import concept_of, judged
from discern.monitoring.drift.service_labels import LabelWatch
from discern.monitoring.ports import NoLabels
from discern.monitoring.types import LabelledVerdict
from discern.store.turns import Turn
from tests.monitoring.drift.conftest import CALLER, KEY, Rig, records
from tests.monitoring.drift.simulations import labels_alarm

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Labels:
    """A twin of those who label: as many verdicts as were said, worse from `worse_from` on."""

    def __init__(self, count: int, worse_from: int) -> None:
        self.count, self.worse_from = count, worse_from

    def labelled_verdicts(self, workspace: str, detector: str, version: str, most: int) -> Iterator[LabelledVerdict]:
        drawn = np.random.default_rng(1)
        scores = drawn.beta(0.3, 2.0, 5000)
        chances = np.where(np.arange(5000) < self.worse_from, scores, np.minimum(1, scores + 0.3))
        for place in range(max(0, self.count - most), self.count):
            at = BEGIN + timedelta(minutes=place)
            label = bool(drawn.random() < chances[place])
            yield LabelledVerdict(UUID(int=place), float(scores[place]), "clear", label, at)


def test_labels_that_stay_as_right_raise_no_alarm_and_worse_ones_do() -> None:
    assert labels_alarm(10, 1000, None)[0] == 0.0
    share, delay = labels_alarm(5, 1500, 500)
    assert share == 1.0
    assert delay <= 400


def test_without_labels_there_is_nothing_to_say() -> None:
    assert concept_of([]) is None
    assert list(NoLabels().labelled_verdicts(*KEY, 10)) == []


def test_scores_that_become_better_end_an_alarm_and_raise_none() -> None:
    better = [LabelledVerdict(UUID(int=0), 0.9 if place < 500 else 0.1, "clear", False, BEGIN) for place in range(1000)]
    found = concept_of(better)
    assert found is not None
    assert found.loss_before is not None
    assert found.loss < found.loss_before
    assert judged(found, None, 1, BEGIN)[1] is None


@pytest.mark.system
def test_an_alarm_by_labels_is_told_once_and_shown(rig: Rig) -> None:
    rig.after(records(1, 40))
    labels = Labels(1500, 800)
    watch = LabelWatch(rig.store, labels, Turn(rig.services.database, "drift_labels"), rig.told, rig.clock)
    for _ in range(3):
        watch.look()
    assert rig.told.happenings == [("drift.began", "toy-record 1.0.0 labels", "default")]
    concept = rig.drift.report(CALLER).releases[0].labels
    assert concept is not None
    assert concept.alarm is not None
    assert abs(concept.alarm.since - (BEGIN + timedelta(minutes=800))) < timedelta(minutes=200)
    samples = {(one.name, one.labels[3:]): one.value for one in rig.drift.collect()}
    assert samples["discern_drift_alarm", ("labels",)] == 1.0
    labels.worse_from = 5000  # the labels were wrong, and were mended
    watch.look()
    assert rig.told.happenings[-1][0] == "drift.ended"
    assert [one.change for one in rig.store.changes("default", 10)] == ["ended", "began"]
