"""The ONNX graph of the fraud recipe says what the trained model says, and the manifest fits it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.detectors.manifest_file import dump_manifest, parse_manifest
from discern.detectors.runtime import StageModel
from discern.inputs.spec import RecordSpec
from recipes.card_fraud.decision import Decision
from recipes.card_fraud.features import FEATURES
from recipes.card_fraud.manifest import build_manifest

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


def test_the_manifest_lists_the_columns_of_the_model() -> None:
    decision = Decision(temperature=1.1, review_from=0.02, flag_from=0.4)
    manifest = parse_manifest(dump_manifest(build_manifest(decision, validation="a test", data_sha256="0" * 64)))
    assert isinstance(manifest.input, RecordSpec)
    assert tuple(field.name for field in manifest.input.fields) == FEATURES

    features, fraud = make_payments(200)
    content = export.to_onnx(model.train(features, fraud, model.Parameters(n_estimators=2), seed=7, threads=1))
    stage = StageModel("trees", content)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in stage.inputs] == [
        ("record", np.dtype(np.float32), (None, len(FEATURES)))
    ]
    assert stage.run({"record": features})[stage.probability].shape == (200,)
