"""Train, measure and write the `card-fraud` detector: `python -m recipes.card_fraud.train --data DIR --out DIR`.

DIR of `--data` holds `transactions.parquet` with the columns of the Fraud Detection Handbook. What is written is a
working folder for `discern detector pack`: detector.yaml, model.onnx, CARD.md and reference.json.

Invariants:
- The test folds are scored once, after the parameters, the temperature and the thresholds are fixed.
- The same data and seed give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discern.core.verdict import Thresholds
from discern.detectors.calibration import calibrate
from discern.detectors.manifest_file import dump_manifest, parse_manifest
from discern.detectors.thresholds import decide
from recipes.card_fraud.card import Candidate, ExampleAnswer, FoldReport, Report, render
from recipes.card_fraud.decision import Decision, choose, expected_calibration_error, operating_point, rescored
from recipes.card_fraud.export import checked_onnx, run_onnx
from recipes.card_fraud.features import FEATURES, compute_features
from recipes.card_fraud.manifest import EXAMPLES, MODEL_FILE, VERSION, build_manifest, build_reference
from recipes.card_fraud.measure import (
    BOOTSTRAP_DRAWS,
    Figures,
    Scored,
    auc_delong,
    average_precision,
    card_precision,
    measure,
)
from recipes.card_fraud.model import CANDIDATES, PUBLISHED, Model, Parameters, train
from recipes.card_fraud.protocol import (
    TEST_STARTS,
    VALIDATION_STARTS,
    Fold,
    days_since_epoch,
    last_complete_start,
    make_fold,
)

DATA_FILE = "transactions.parquet"
_DATA_SET = "Fraud Detection Handbook, simulated payments"


@dataclass(frozen=True)
class Payments:
    """All payments as arrays with one entry a payment, features [N, 15]; `customer` counts from 0."""

    features: NDArray[np.float32]
    fraud: NDArray[np.bool_]
    customer: NDArray[np.int64]
    day: NDArray[np.int64]

    def train(self, fold: Fold, parameters: Parameters, seed: int) -> Model:
        """A model of the fold's training payments."""
        return train(self.features[fold.train], self.fraud[fold.train], parameters, seed=seed)

    def scored(self, fold: Fold, score: NDArray[np.float64]) -> Scored:
        """The fold's test payments with their scores."""
        return Scored(self.fraud[fold.test], score, self.customer[fold.test], self.day[fold.test])

    def score(self, fold: Fold, model: Model) -> Scored:
        """The fold's test payments as the model scores them."""
        return self.scored(fold, model.probability(self.features[fold.test]))


def _say(text: str, since: float) -> None:
    print(f"[{time.monotonic() - since:6.0f} s] {text}", flush=True)


def load(transactions: pd.DataFrame) -> Payments:
    """Features and labels of the transactions."""
    return Payments(
        features=compute_features(transactions),
        fraud=transactions["TX_FRAUD"].to_numpy() == 1,
        customer=np.unique(transactions["CUSTOMER_ID"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        day=days_since_epoch(transactions),
    )


def compare_candidates(
    payments: Payments, folds: Sequence[Fold], seed: int, since: float
) -> tuple[list[Candidate], list[Scored]]:
    """Every candidate's figures on the validation folds, and the scored folds of the best one."""
    candidates: list[Candidate] = []
    best: list[Scored] = []
    for parameters in CANDIDATES:
        scored = [payments.score(fold, payments.train(fold, parameters, seed)) for fold in folds]
        rows = [(auc_delong(s.fraud, s.score)[0], average_precision(s), card_precision(s)) for s in scored]
        auc, precision, cards = (float(value) for value in np.mean(rows, axis=0))
        candidate = Candidate(parameters, auc, precision, cards)
        _say(f"validation: AUC {auc:.4f}  AP {precision:.4f}  CP@100 {cards:.4f}  {parameters}", since)
        if not candidates or candidate.merit > max(one.merit for one in candidates):
            best = scored
        candidates.append(candidate)
    return candidates, best


def pooled(folds: Sequence[Scored]) -> Scored:
    """The payments of all folds as one."""
    return Scored(
        np.concatenate([fold.fraud for fold in folds]),
        np.concatenate([fold.score for fold in folds]),
        np.concatenate([fold.customer for fold in folds]),
        np.concatenate([fold.day for fold in folds]),
    )


@dataclass(frozen=True)
class Tested:
    """The test folds, each with its scored payments, and the last fold's model."""

    folds: Sequence[Fold]
    detector: Sequence[Scored]
    published_model: Sequence[Scored]
    shipped: Model


def run_tests(payments: Payments, folds: Sequence[Fold], chosen: Parameters, seed: int, since: float) -> Tested:
    """Train the chosen and the published parameters on each test fold and score its test payments."""
    detector, published_model, models = [], [], []
    for fold in folds:
        models.append(payments.train(fold, chosen, seed))
        detector.append(payments.score(fold, models[-1]))
        published_model.append(payments.score(fold, payments.train(fold, PUBLISHED, seed)))
        _say(f"test fold {fold.test_period} scored", since)
    return Tested(folds, detector, published_model, models[-1])


def _fold_reports(
    payments: Payments, tested: Tested, decision: Decision, seed: int
) -> tuple[list[FoldReport], Figures, Figures]:
    """Reports of the test folds, and the mean figures of the detector and of the published model."""
    each, mean = measure(tested.detector, seed=seed)
    each_published, mean_published = measure(tested.published_model, seed=seed)
    reports = [
        FoldReport(
            train_period=fold.train_period,
            test_period=fold.test_period,
            train_payments=len(fold.train),
            train_frauds=int(payments.fraud[fold.train].sum()),
            figures=figures,
            published_model=published,
            point=operating_point(rescored(scored, decision.temperature), decision),
        )
        for fold, scored, figures, published in zip(tested.folds, tested.detector, each, each_published, strict=True)
    ]
    return reports, mean, mean_published


def write(out: Path, files: dict[str, bytes]) -> None:
    """Write the files into the folder `out`, which is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)


def answer_examples(model_bytes: bytes, decision: Decision) -> list[ExampleAnswer]:
    """What the detector says of the made-up records."""
    rows = np.array([[record[name] for name in FEATURES] for record in EXAMPLES.values()], dtype=np.float32)
    scores = calibrate(run_onnx(model_bytes, rows), decision.temperature)
    thresholds = Thresholds(review_from=decision.review_from, flag_from=decision.flag_from)
    return [
        ExampleAnswer(title, record, float(score), decide(float(score), thresholds))
        for (title, record), score in zip(EXAMPLES.items(), scores, strict=True)
    ]


def _bundle_files(report: Report, payments: Payments, last: Fold, model_bytes: bytes, card: str) -> dict[str, bytes]:
    """The working folder's files. Raises BundleRefused when the manifest is not one."""
    manifest = dump_manifest(
        build_manifest(
            report.decision,
            validation=f"{_DATA_SET}, validation weeks {report.validation_period}",
            data_sha256=report.data_sha256,
        )
    )
    parse_manifest(manifest)
    features = payments.features[last.test]
    reference = build_reference(
        calibrate(run_onnx(model_bytes, features), report.decision.temperature),
        payments.fraud[last.test],
        features,
        payments=f"{_DATA_SET}, test week {last.test_period}",
    )
    return {
        "detector.yaml": manifest,
        MODEL_FILE: model_bytes,
        "CARD.md": card.encode(),
        "reference.json": (json.dumps(reference, indent=1) + "\n").encode(),
    }


def run(data: Path, out: Path, seed: int) -> None:
    """The whole recipe, from the transactions in the folder `data` to the working folder `out`."""
    since = time.monotonic()
    source = data / DATA_FILE
    transactions = pd.read_parquet(source)
    if last_complete_start(transactions) != TEST_STARTS[-1]:
        raise SystemExit(f"{source}: its last complete window does not start on {TEST_STARTS[-1]}, see protocol.py")
    payments = load(transactions)
    _say(f"features of {len(payments.fraud):,} payments, {int(payments.fraud.sum()):,} frauds", since)

    validation_folds = [make_fold(transactions, start) for start in VALIDATION_STARTS]
    candidates, validation = compare_candidates(payments, validation_folds, seed, since)
    chosen = max(candidates, key=lambda one: one.merit).parameters
    decision = choose(validation)
    calibrated = pooled([rescored(fold, decision.temperature) for fold in validation])
    _say(f"chosen: {chosen}; {decision}", since)

    tested = run_tests(payments, [make_fold(transactions, start) for start in TEST_STARTS], chosen, seed, since)
    last = tested.folds[-1]
    model_bytes, difference = checked_onnx(tested.shipped, payments.features[last.test])
    folds, mean, mean_published = _fold_reports(payments, tested, decision, seed)
    report = Report(
        version=VERSION,
        seed=seed,
        data_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        payments=len(transactions),
        first_day=str(transactions["TX_DATETIME"].min().date()),
        last_day=str(transactions["TX_DATETIME"].max().date()),
        candidates=candidates,
        chosen=chosen,
        decision=decision,
        calibration_error=(expected_calibration_error(pooled(validation)), expected_calibration_error(calibrated)),
        validation_starts=", ".join(str(start) for start in VALIDATION_STARTS),
        validation_period=f"{validation_folds[0].test_days[0]} to {validation_folds[-1].test_days[1]}",
        bootstrap_draws=BOOTSTRAP_DRAWS,
        validation_point=operating_point(calibrated, decision),
        folds=folds,
        mean=mean,
        mean_published_model=mean_published,
        onnx_bytes=len(model_bytes),
        onnx_difference=difference,
        examples=answer_examples(model_bytes, decision),
    )
    card = render(report)
    write(out, _bundle_files(report, payments, last, model_bytes, card))
    print(card)
    _say(f"written to {out}", since)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, measure and write the card-fraud detector.")
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {DATA_FILE}")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the detector into")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    run(arguments.data, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
