"""The ONNX graph of the fraud recipe says what the trained model says, and the manifest fits it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.detectors.manifest import Manifest
from discern.detectors.manifest_file import dump_manifest, parse_manifest
from discern.detectors.runtime import StageModel
from discern.detectors.thresholds import bands_of
from discern.evaluation.studio.types import Cuts, KindLoss, StageCalibration
from discern.evaluation.types import Estimate
from discern.inputs.spec import RecordSpec
from recipes.card_fraud.decision import Decision
from recipes.card_fraud.features import FEATURES
from recipes.card_fraud.manifest import Evidence, build_manifest

pytest.importorskip("xgboost", reason="the recipe needs xgboost: pip install 'discern-detectors[train]'")

from recipes.card_fraud import export, model


def make_payments(count: int = 1500) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features [count, 15] in plausible ranges and labels that depend on a ratio and on a risk."""
    random = np.random.default_rng(11)
    features = random.gamma(2.0, 20.0, (count, len(FEATURES)))
    features[:, 1:3] = random.integers(0, 2, (count, 2))
    risk = FEATURES.index("terminal_risk_7d")
    features[:, risk] = random.random(count) * (random.random(count) < 0.3)
    unusual = features[:, 0] > 3 * features[:, FEATURES.index("customer_mean_amount_30d")]
    return features.astype(np.float32), unusual | (features[:, risk] > 0.7)


@pytest.mark.parametrize(
    "parameters",
    [
        model.Parameters(n_estimators=10, ratios=False),
        model.Parameters(n_estimators=10, max_depth=4, subsample=0.6, colsample_bytree=0.6, members=2),
        model.Parameters(n_estimators=10, ratios=False, products=True),
        model.Parameters(n_estimators=10, products=True),
    ],
    ids=str,
)
def test_graph_equals_trained_model(parameters: model.Parameters) -> None:
    features, fraud = make_payments()
    trained = model.train(features[:1000], fraud[:1000], parameters, seed=7, threads=1)
    content, difference = export.checked_onnx(trained, features[1000:])
    assert difference < 1e-6
    assert content == export.to_onnx(model.train(features[:1000], fraud[:1000], parameters, seed=7, threads=2))

    # A customer whose payments were all 0.00, and values that stand exactly on a split.
    odd = features[:40].copy()
    odd[:20, [FEATURES.index(f"customer_mean_amount_{days}d") for days in (1, 7, 30)]] = 0.0
    trees = trained.trees()
    branch = np.flatnonzero((trees.left >= 0) & (trees.column < len(FEATURES)))[:20]
    odd[np.arange(20, 20 + len(branch)), trees.column[branch]] = trees.threshold[branch]
    np.testing.assert_allclose(export.run_onnx(content, odd), trained.probability(odd), atol=1e-6)


def test_a_graph_that_differs_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    features, fraud = make_payments()
    trained = model.train(features, fraud, model.Parameters(n_estimators=3), seed=7, threads=1)
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differs from the trained model"):
        export.checked_onnx(trained, features)


def test_the_products_are_the_frauds_of_the_terminal() -> None:
    features, _ = make_payments(50)
    columns = model.model_columns(features, model.Parameters(ratios=False, products=True))
    assert columns.dtype == np.float32
    count, share = (features[:, FEATURES.index(f"terminal_{name}_30d")] for name in ("count", "risk"))
    np.testing.assert_array_equal(columns[:, -1], count * share)


CALIBRATION = StageCalibration(
    "trees", "temperature", {"temperature": 1.1}, (KindLoss("temperature", 0.02, 0.0, 0.0),), 100
)
EVIDENCE = Evidence(
    "weeks before a test", "weeks of a test", "0" * 64, 1000, 12, Estimate(0.1, 0.05, 0.2), "searched", 7
)


def made_manifest(*cuts: Cuts) -> Manifest:
    return parse_manifest(dump_manifest(build_manifest(Decision(CALIBRATION, cuts), EVIDENCE)))


def test_the_manifest_has_the_thresholds_of_every_band() -> None:
    plain = made_manifest(Cuts(0.02, 0.4))
    assert plain.decision.bands is None
    assert plain.stages[0].calibration.temperature == 1.1

    manifest = made_manifest(Cuts(0.2, 0.8), Cuts(0.1, 0.7, 50.0), Cuts(0.03, 0.5, 100.0))
    bands = bands_of(manifest)
    assert bands is not None
    rows = np.zeros((4, len(FEATURES)), np.float32)
    rows[:, 0] = [49.99, 50.0, 99.5, 2000.0]
    applied = bands.applied(rows)
    assert applied.review_from.tolist() == [0.2, 0.1, 0.1, 0.03]
    assert applied.flag_from.tolist() == [0.8, 0.7, 0.7, 0.5]
    assert manifest.decision.chosen_by["costs"]["amount_share"] == 1
    assert manifest.decision.chosen_by["expected_cost"] == {"value": 0.1, "low": 0.05, "high": 0.2}


def test_the_manifest_lists_the_columns_of_the_model() -> None:
    manifest = made_manifest(Cuts(0.02, 0.4))
    assert isinstance(manifest.input, RecordSpec)
    assert tuple(field.name for field in manifest.input.fields) == FEATURES

    features, fraud = make_payments(200)
    content = export.to_onnx(model.train(features, fraud, model.Parameters(n_estimators=2), seed=7, threads=1))
    stage = StageModel("trees", content)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in stage.inputs] == [
        ("record", np.dtype(np.float32), (None, len(FEATURES)))
    ]
    assert stage.run({"record": features})[stage.probability].shape == (200,)
