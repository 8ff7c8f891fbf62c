"""Curves begin and end where they must, and a few hundred points have the area of all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from discern.evaluation.metrics_curves import histogram, precision_recall, roc
from discern.evaluation.statistics import rows_of


def test_a_thinned_curve_has_the_area_of_the_whole() -> None:
    random = np.random.default_rng(0)
    labels = random.random(5000) < 0.4
    scores = 1 / (1 + np.exp(-random.normal(0, 1.5, 5000) - labels))
    rows = rows_of(labels, scores)
    curve = roc(rows)
    assert (curve[0].x, curve[0].y, curve[0].score) == (0.0, 0.0, None)
    assert (curve[-1].x, curve[-1].y) == (1.0, 1.0)
    assert len(curve) <= 202
    area = float(np.trapezoid([point.y for point in curve], [point.x for point in curve]))
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=0.005)
    precisions = precision_recall(rows)
    assert precisions[-1].x == 1.0
    assert precisions[-1].y == pytest.approx(labels.mean())
    bars = histogram(rows)
    assert sum(one.negatives + one.positives for one in bars) == 5000
    assert sum(one.positives for one in bars) == labels.sum()


def test_rows_without_a_score_are_in_no_bar_and_one_class_has_no_curve() -> None:
    rows = rows_of([0, 0, 1], [0.0, 1.0, np.nan])
    assert roc(rows) == precision_recall(rows) == ()
    bars = histogram(rows)
    assert (bars[0].negatives, bars[-1].negatives, sum(one.positives for one in bars)) == (1, 1, 0)
