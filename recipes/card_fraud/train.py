"""Train, measure and write the `card-fraud` detector: `python -m recipes.card_fraud.train --data DIR --out DIR`.

DIR of `--data` holds `transactions.parquet` with the columns of the Fraud Detection Handbook. What is written is a
working folder for `discern detector pack`: detector.yaml, model.onnx, CARD.md and reference.json.

Invariants:
- The test folds are scored once, after the parameters, the calibration and the thresholds are fixed.
- The same data and seed give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discern.detectors.manifest import Manifest
from discern.detectors.manifest_file import dump_manifest, parse_manifest
from discern.detectors.thresholds import bands_of, decide
from discern.evaluation.metrics_calibration import calibration as reliability
from recipes.card_fraud.card import Candidate, ExampleAnswer, FoldReport, Reliability, Report, render
from recipes.card_fraud.decision import (
    FORMER,
    BandCost,
    Decision,
    calibrated_scores,
    cheapest,
    compare_bands,
    fit_calibration,
    operating_point,
    pooled,
    rescored,
    saved,
    starts_of,
)
from recipes.card_fraud.export import checked_onnx, run_onnx
from recipes.card_fraud.features import FEATURES, compute_features
from recipes.card_fraud.manifest import AMOUNT, EXAMPLES, MODEL_FILE, VERSION, Evidence, build_manifest, build_reference
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
    CALIBRATION_STARTS,
    DATA_FILE,
    LONG_TRAIN_DAYS,
    TEST_STARTS,
    VALIDATION_STARTS,
    Fold,
    days_since_epoch,
    last_complete_start,
    make_fold,
)

_DATA_SET = "Fraud Detection Handbook, simulated payments"


@dataclass(frozen=True)
class Payments:
    """All payments as arrays with one entry a payment, features [N, 15]; `customer` counts from 0."""

    features: NDArray[np.float32]
    fraud: NDArray[np.bool_]
    customer: NDArray[np.int64]
    day: NDArray[np.int64]
    threads: int = 2

    def train(self, fold: Fold, parameters: Parameters, seed: int) -> Model:
        """A model of the fold's training payments."""
        rows = fold.train
        return train(self.features[rows], self.fraud[rows], parameters, seed=seed, threads=self.threads)

    def score(self, fold: Fold, model: Model) -> Scored:
        """The fold's test payments as the model scores them."""
        rows = fold.test
        score = model.probability(self.features[rows])
        amount = self.features[rows, FEATURES.index(AMOUNT)].astype(np.float64)
        return Scored(self.fraud[rows], score, self.customer[rows], self.day[rows], amount)


def _say(text: str, since: float) -> None:
    print(f"[{time.monotonic() - since:6.0f} s] {text}", flush=True)


def load(transactions: pd.DataFrame, threads: int = 2) -> Payments:
    """Features and labels of the transactions."""
    return Payments(
        features=compute_features(transactions),
        fraud=transactions["TX_FRAUD"].to_numpy() == 1,
        customer=np.unique(transactions["CUSTOMER_ID"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        day=days_since_epoch(transactions),
        threads=threads,
    )


def try_candidate(
    payments: Payments, folds: Sequence[Fold], parameters: Parameters, seed: int
) -> tuple[Candidate, list[Scored]]:
    """A candidate's mean figures on the folds, and the folds as it scores them."""
    scored = [payments.score(fold, payments.train(fold, parameters, seed)) for fold in folds]
    rows = [(auc_delong(s.fraud, s.score)[0], average_precision(s), card_precision(s)) for s in scored]
    auc, precision, cards = (float(value) for value in np.mean(rows, axis=0))
    return Candidate(parameters, auc, precision, cards), scored


def compare_candidates(
    payments: Payments, folds: Sequence[Fold], seed: int, since: float
) -> tuple[list[Candidate], list[Scored]]:
    """Every candidate's figures on the validation folds, and the scored folds of the best one."""
    candidates: list[Candidate] = []
    best: list[Scored] = []
    for parameters in CANDIDATES:
        candidate, scored = try_candidate(payments, folds, parameters, seed)
        _say(f"validation: {candidate}", since)
        if not candidates or candidate.merit > max(one.merit for one in candidates):
            best = scored
        candidates.append(candidate)
    return candidates, best


def decide_by_cost(
    payments: Payments, folds: Sequence[Fold], chosen: Parameters, validation: Sequence[Scored], seed: int, since: float
) -> tuple[Decision, list[BandCost], Scored]:
    """The decision, the bands it was chosen among, and the raw scores of the calibration folds.

    The calibration is fitted on `folds`, the thresholds are chosen on the scored `validation` folds.
    """
    held = pooled([payments.score(fold, payments.train(fold, chosen, seed)) for fold in folds])
    calibration = fit_calibration(held, seed=seed)
    _say(f"calibration: {calibration.calibration}", since)
    bands = compare_bands(rescored(pooled(validation), calibration), seed=seed)
    decision = Decision(calibration, cheapest(bands).cuts)
    _say(f"thresholds: {decision.cuts}", since)
    return decision, bands, held


def how_reliable(period: str, raw: Scored, decision: Decision, seed: int) -> Reliability:
    """The calibration error of a period's payments."""
    before, after = (
        reliability(raw.fraud, score, raw.customer, seed=seed)
        for score in (raw.score, rescored(raw, decision.calibration).score)
    )
    return Reliability(period, before.error, after.error, after.expected_if_calibrated)


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
    calibrated = [rescored(scored, decision.calibration) for scored in tested.detector]
    each, mean = measure(calibrated, seed=seed)
    each_published, mean_published = measure(tested.published_model, seed=seed)
    reports = [
        FoldReport(
            train_period=fold.train_period,
            test_period=fold.test_period,
            train_payments=len(fold.train),
            train_frauds=int(payments.fraud[fold.train].sum()),
            figures=figures,
            published_model=published,
            point=operating_point(scored, decision.cuts),
        )
        for fold, scored, figures, published in zip(tested.folds, calibrated, each, each_published, strict=True)
    ]
    return reports, mean, mean_published


def write(out: Path, files: dict[str, bytes]) -> None:
    """Write the files into the folder `out`, which is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)


def answer_examples(model_bytes: bytes, decision: Decision, manifest: Manifest) -> list[ExampleAnswer]:
    """What the detector says of the made-up records."""
    rows = np.array([[record[name] for name in FEATURES] for record in EXAMPLES.values()], dtype=np.float32)
    scores = calibrated_scores(run_onnx(model_bytes, rows), decision.calibration)
    bands = bands_of(manifest)
    applied = None if bands is None else bands.applied(rows)
    answers = []
    for row, (title, record) in enumerate(EXAMPLES.items()):
        thresholds = manifest.decision.thresholds if applied is None else applied.of(row)
        answers.append(ExampleAnswer(title, record, float(scores[row]), decide(float(scores[row]), thresholds)))
    return answers


def _bundle_files(
    report: Report, payments: Payments, last: Fold, model_bytes: bytes, manifest: bytes, card: str
) -> dict[str, bytes]:
    """The working folder's files."""
    features = payments.features[last.test]
    reference = build_reference(
        calibrated_scores(run_onnx(model_bytes, features), report.decision.calibration),
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


def _period(folds: Sequence[Fold]) -> str:
    """First and last test day of folds that follow each other."""
    return f"{folds[0].test_days[0]} to {folds[-1].test_days[1]}"


@dataclass(frozen=True)
class Choices:
    """Everything that was fixed before a test fold was looked at, and the raw scores it was fixed by."""

    candidates: list[Candidate]
    chosen: Parameters
    longer: Candidate
    decision: Decision
    bands: list[BandCost]
    calibration: Scored
    validation: Scored
    calibration_period: str
    validation_period: str


def choose(transactions: pd.DataFrame, payments: Payments, seed: int, since: float) -> Choices:
    """Parameters, calibration and thresholds."""
    calibration_folds = [make_fold(transactions, start) for start in CALIBRATION_STARTS]
    folds = [make_fold(transactions, start) for start in VALIDATION_STARTS]
    candidates, validation = compare_candidates(payments, folds, seed, since)
    chosen = max(candidates, key=lambda one: one.merit).parameters
    decision, bands, held = decide_by_cost(payments, calibration_folds, chosen, validation, seed, since)
    long_folds = [make_fold(transactions, start, train_days=LONG_TRAIN_DAYS) for start in VALIDATION_STARTS]
    longer, _ = try_candidate(payments, long_folds, replace(chosen, members=1), seed)
    _say(f"validation, {LONG_TRAIN_DAYS} days of training: {longer}", since)
    return Choices(
        candidates,
        chosen,
        longer,
        decision,
        bands,
        held,
        pooled(validation),
        _period(calibration_folds),
        _period(folds),
    )


def make_report(
    transactions: pd.DataFrame,
    payments: Payments,
    choices: Choices,
    tested: Tested,
    model: tuple[bytes, float],
    sha: str,
    seed: int,
) -> tuple[Report, bytes]:
    """Everything that the card says, and the manifest. Raises BundleRefused when the manifest is not one."""
    decision = choices.decision
    test = pooled(tested.detector)
    best = cheapest(choices.bands)
    plain = choices.bands[0].cuts
    rivals = {"one pair for all amounts, searched": plain, "the thresholds of version 1.0": FORMER}
    if not best.searched:
        rivals["the same bands, searched"] = next(
            one.cuts for one in choices.bands if one.searched and starts_of(one.cuts) == starts_of(best.cuts)
        )
    evidence = Evidence(
        calibrated_on=f"{_DATA_SET}, calibration weeks {choices.calibration_period}",
        chosen_on=f"{_DATA_SET}, validation weeks {choices.validation_period}",
        data_sha256=sha,
        payments=len(choices.validation.fraud),
        frauds=int(choices.validation.fraud.sum()),
        cost=best.cost,
        rule="searched" if best.searched else "computed from the costs for the mean amount of each band",
        seed=seed,
    )
    manifest = dump_manifest(build_manifest(decision, evidence))
    folds, mean, mean_published = _fold_reports(payments, tested, decision, seed)
    calibrated = rescored(test, decision.calibration)
    report = Report(
        version=VERSION,
        seed=seed,
        data_sha256=sha,
        payments=len(transactions),
        first_day=str(transactions["TX_DATETIME"].min().date()),
        last_day=str(transactions["TX_DATETIME"].max().date()),
        candidates=choices.candidates,
        chosen=choices.chosen,
        longer=choices.longer,
        decision=decision,
        bands=choices.bands,
        reliability=[
            how_reliable(f"calibration, {choices.calibration_period}", choices.calibration, decision, seed),
            how_reliable(f"validation, {choices.validation_period}", choices.validation, decision, seed),
            how_reliable(f"test, {_period(tested.folds)}", test, decision, seed),
        ],
        calibration_starts=", ".join(str(start) for start in CALIBRATION_STARTS),
        validation_starts=", ".join(str(start) for start in VALIDATION_STARTS),
        validation_period=choices.validation_period,
        bootstrap_draws=BOOTSTRAP_DRAWS,
        validation_point=operating_point(rescored(choices.validation, decision.calibration), decision.cuts),
        folds=folds,
        test_points={
            name: operating_point(calibrated, cuts) for name, cuts in {"those above": decision.cuts, **rivals}.items()
        },
        saved={name: saved(calibrated, decision.cuts, cuts) for name, cuts in rivals.items()},
        mean=mean,
        mean_published_model=mean_published,
        onnx_bytes=len(model[0]),
        onnx_difference=model[1],
        examples=answer_examples(model[0], decision, parse_manifest(manifest)),
    )
    return report, manifest


def run(data: Path, out: Path, seed: int, threads: int) -> None:
    """The whole recipe, from the transactions in the folder `data` to the working folder `out`."""
    since = time.monotonic()
    source = data / DATA_FILE
    transactions = pd.read_parquet(source)
    if last_complete_start(transactions) != TEST_STARTS[-1]:
        raise SystemExit(f"{source}: its last complete window does not start on {TEST_STARTS[-1]}, see protocol.py")
    payments = load(transactions, threads)
    _say(f"features of {len(payments.fraud):,} payments, {int(payments.fraud.sum()):,} frauds", since)

    choices = choose(transactions, payments, seed, since)
    test_folds = [make_fold(transactions, start) for start in TEST_STARTS]
    tested = run_tests(payments, test_folds, choices.chosen, seed, since)
    last = tested.folds[-1]
    model = checked_onnx(tested.shipped, payments.features[last.test])
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    report, manifest = make_report(transactions, payments, choices, tested, model, sha, seed)
    card = render(report)
    write(out, _bundle_files(report, payments, last, model[0], manifest, card))
    print(card)
    _say(f"written to {out}", since)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, measure and write the card-fraud detector.")
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {DATA_FILE}")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the detector into")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="they change how long it takes, and nothing else")
    arguments = parser.parse_args()
    run(arguments.data, arguments.out, arguments.seed, arguments.threads)


if __name__ == "__main__":
    main()
