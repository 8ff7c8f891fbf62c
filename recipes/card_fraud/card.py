"""The detector's card: what the recipe computed, as Markdown.

Invariants:
- Every figure of the detector is an argument; the only figures written here are the published ones, with their source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from discern.evaluation.types import Estimate
from recipes.card_fraud.decision import COSTS, BandCost, Decision, OperatingPoint, starts_of
from recipes.card_fraud.measure import CARDS_A_DAY, Figures
from recipes.card_fraud.model import PRODUCTS, PUBLISHED, RATIOS, Parameters
from recipes.card_fraud.protocol import DELAY_DAYS, LONG_TRAIN_DAYS, TEST_DAYS, TRAIN_DAYS

PUBLISHED_FIGURES = (
    ("logistic regression", ".871 / .606 / .291", ".868 / .623 / .297"),
    ("decision tree, depth 2 / tuned", ".763 / .496 / .241", ".797 / .579 / .284"),
    ("random forest", ".867 / .658 / .287", ".870 / .678 / .299"),
    ("XGBoost", ".862 / .639 / .273", ".869 / .687 / .303"),
    ("neural network", "-", ".876 / .675 / .303"),
    ("LSTM with attention", "-", ".874 / .667 / .295"),
    ("a perfect score", "1 / 1 / .397", "1 / 1 / .419"),
)
"""Model, baseline fold, mean of four folds; from the handbook's notebooks at commit 81cf7d1."""


@dataclass(frozen=True)
class Candidate:
    """Mean figures of a candidate over the validation folds."""

    parameters: Parameters
    auc: float
    average_precision: float
    card_precision: float

    @property
    def merit(self) -> float:
        """What candidates are ranked by."""
        return self.auc + self.average_precision + self.card_precision

    def __str__(self) -> str:
        figures = f"AUC {self.auc:.4f}  AP {self.average_precision:.4f}  CP@100 {self.card_precision:.4f}"
        return f"{figures}  {self.parameters}"


@dataclass(frozen=True)
class Reliability:
    """Expected calibration error of a period's payments, raw and calibrated, and what a calibrated model would show."""

    period: str
    raw: Estimate
    calibrated: Estimate
    by_chance: float | None


@dataclass(frozen=True)
class FoldReport:
    """One test fold: periods, counts, figures of the detector and of the published model, operating point."""

    train_period: str
    test_period: str
    train_payments: int
    train_frauds: int
    figures: Figures
    published_model: Figures
    point: OperatingPoint


@dataclass(frozen=True)
class ExampleAnswer:
    """A made-up record, by field, and what the detector says of it."""

    title: str
    record: Mapping[str, Any]
    score: float
    decision: str


@dataclass(frozen=True)
class Report:
    """Everything that the card says."""

    version: str
    seed: int
    data_sha256: str
    payments: int
    first_day: str
    last_day: str
    candidates: Sequence[Candidate]
    chosen: Parameters
    longer: Candidate
    decision: Decision
    bands: Sequence[BandCost]
    reliability: Sequence[Reliability]
    calibration_starts: str
    validation_starts: str
    validation_period: str
    bootstrap_draws: int
    validation_point: OperatingPoint
    folds: Sequence[FoldReport]
    test_points: Mapping[str, OperatingPoint]
    saved: Mapping[str, Estimate]
    mean: Figures
    mean_published_model: Figures
    onnx_bytes: int
    onnx_difference: float
    examples: Sequence[ExampleAnswer]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _figures(figures: Figures) -> list[str]:
    return [str(figures.auc), str(figures.average_precision), str(figures.card_precision)]


def _validation_table(report: Report) -> str:
    rows = [
        [
            str(one.parameters) + (" **(chosen)**" if one.parameters == report.chosen else ""),
            f"{one.auc:.4f}",
            f"{one.average_precision:.4f}",
            f"{one.card_precision:.4f}",
        ]
        for one in report.candidates
    ]
    one = report.longer
    name = f"{one.parameters}, trained on {LONG_TRAIN_DAYS} days (not the protocol)"
    rows.append([name, f"{one.auc:.4f}", f"{one.average_precision:.4f}", f"{one.card_precision:.4f}"])
    return _table(["candidate", "AUC", "average precision", "card precision@100"], rows)


def _test_table(report: Report) -> str:
    rows = []
    for number, fold in enumerate(report.folds):
        name = f"{fold.test_period}" + (" (baseline fold)" if number == 0 else "")
        rows.append([name, "this detector", *_figures(fold.figures)])
        rows.append(["", "XGBoost as published, run here", *_figures(fold.published_model)])
    rows.append(["**mean of the four**", "this detector", *_figures(report.mean)])
    rows.append(["", "XGBoost as published, run here", *_figures(report.mean_published_model)])
    return _table(["test week", "model", "AUC", "average precision", "card precision@100"], rows)


def _counts_table(report: Report) -> str:
    rows = [
        [
            fold.train_period,
            f"{fold.train_payments:,} / {fold.train_frauds:,}",
            fold.test_period,
            f"{fold.point.payments:,} / {fold.point.frauds:,}",
        ]
        for fold in report.folds
    ]
    return _table(["trained on", "payments / frauds", "tested on", "payments / frauds"], rows)


def _estimate(estimate: Estimate, scale: float, digits: int) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        raise ValueError(f"a figure of the card could not be measured: {estimate.caveat}")
    value, low, high = (f"{scale * one:.{digits}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _thousand(cost: Estimate) -> str:
    """The cost of a thousand payments."""
    return _estimate(cost, 1000, 1)


def _point_row(name: str, point: OperatingPoint) -> list[str]:
    return [
        name,
        f"{point.flagged_share:.2%}",
        f"{point.flag_precision:.1%}",
        f"{point.flag_recall:.1%}",
        f"{point.false_positive_rate:.3%}",
        f"{point.reviewed_share:.2%}",
        f"{point.review_precision:.1%}",
        f"{point.recall_with_review:.1%}",
        f"{point.amount_lost:.1%}",
        f"{point.cards_a_day:.0f}",
        _thousand(point.cost),
    ]


def _points_table(points: Mapping[str, OperatingPoint], first: str) -> str:
    header = [first, "flagged", "of them fraud", "frauds flagged", "genuine flagged", "review", "of them fraud"]
    header += ["frauds flagged or in review", "of the frauds' amount cleared", "cards a day", "cost of 1,000 payments"]
    return _table(header, [_point_row(name, point) for name, point in points.items()])


def _cuts_table(report: Report) -> str:
    cuts = report.decision.cuts
    rows = []
    for one, above in zip(cuts, [*cuts[1:], None], strict=True):
        parts = [f"from {one.start:g}"] if one.start is not None else []
        parts += [f"below {above.start:g}"] if above is not None else []
        rows.append([" and ".join(parts) or "any", f"{one.review_from:g}", f"{one.flag_from:g}"])
    return _table(["amount", "review from", "flag from"], rows)


def _bands_table(report: Report) -> str:
    rows = []
    for one in report.bands:
        starts = ", ".join(f"{start:g}" for start in starts_of(one.cuts))
        chosen = " **(chosen)**" if one.cuts == report.decision.cuts else ""
        bands = f"bands from {starts}" if starts else "one pair for all amounts"
        rows.append([bands + chosen, "searched" if one.searched else "computed", _thousand(one.cost)])
    return _table(["thresholds", "how", "cost of 1,000 payments on customers they were not searched on"], rows)


def _calibration_table(report: Report) -> str:
    rows = [
        [one.kind + (" **(chosen)**" if one.kind == report.decision.calibration.kind else "")]
        + (
            ["-", one.caveat or "", ""]
            if one.log_loss is None or one.above is None or one.error is None
            else [f"{one.log_loss:.6f}", f"{one.above:.6f}", f"{one.error:.6f}"]
        )
        for one in report.decision.calibration.tried
    ]
    return _table(["calibration", "log loss on other customers", "above the best", "standard error of that"], rows)


def _reliability_table(report: Report) -> str:
    rows = [
        [
            one.period,
            _estimate(one.raw, 1, 5),
            _estimate(one.calibrated, 1, 5),
            "-" if one.by_chance is None else f"{one.by_chance:.5f}",
        ]
        for one in report.reliability
    ]
    return _table(["payments of", "raw", "calibrated", "a calibrated model would show"], rows)


def _text_of_data(report: Report) -> str:
    return f"""## Data and terms

{report.payments:,} simulated card payments from {report.first_day} to {report.last_day}:
the data set of the *Reproducible Machine Learning for Credit Card Fraud Detection: Practical Handbook* (Le Borgne,
Siblini, Lebichot, Bontempi; Université Libre de Bruxelles and Worldline). No real person, card or terminal is in it.
The handbook's notebooks are GPL-3.0 and its text is CC BY-SA 4.0; neither is part of this bundle, nor are the payments.
SHA-256 of the file: `{report.data_sha256}`.

Frauds follow three simulated scenarios: any amount above 220; a terminal that is compromised for 28 days; a customer
whose card data leaked and of whose payments in 14 days one in three has five times its amount. The scenario is never a
feature."""


def _text_of_use(report: Report) -> str:
    last = report.folds[-1]
    return f"""# card-fraud {report.version}

Scores a card payment between genuine and fraud from fifteen numbers: the payment, the customer's habits over 1, 7 and
30 days, and the terminal's count and share of frauds over the 1, 7 and 30 days that ended a week before.

The shipped model was trained on {last.train_period}, the last complete window of the data.
Its figures are those of the test week {last.test_period} below;
the other rows are the same recipe on earlier windows.

## Intended use

A worked example and a starting point: it shows what a detector on records looks like and what the published protocol
gives. **Retrain it on your own payments before it decides about anybody's money**: it has seen simulated fraud only.
The recipe is one command and takes transactions in the same columns. The caller computes the fifteen values; the
recipe's `features.py` is the definition, and labels must be used seven days late, as it does."""


def _text_of_model(report: Report) -> str:
    ratios = "".join(f"\n- `{over}` / `{under}`" for over, under in RATIOS)
    ratio_text = f"\n\nThe graph itself adds six ratios of the fifteen:\n{ratios}" if report.chosen.ratios else ""
    if report.chosen.products:
        products = "".join(f"\n- `{count}` x `{share}`" for count, share in PRODUCTS)
        ratio_text += f"\n\nand two products, the frauds known of the terminal:\n{products}"
    return f"""## Model

Gradient-boosted trees (XGBoost, exact splits):
{report.chosen}.
ONNX, {report.onnx_bytes:,} bytes; its largest difference from the trained model on the test week is
{report.onnx_difference:.1e}. Seed {report.seed}.{ratio_text}

Protocol: {TRAIN_DAYS} days of training, {DELAY_DAYS} days of delay, {TEST_DAYS} days of test; customers known to be
defrauded before a test day are left out of it.

{_counts_table(report)}

Parameters were chosen on four validation folds only (training starts {report.validation_starts}),
by the highest sum of the three figures' means. The list of candidates was drawn up on the same folds, so these figures
are a little optimistic; those of the test weeks are not. The last row says what four weeks of training would give; it
was not a candidate.

{_validation_table(report)}"""


def _text_of_figures(report: Report) -> str:
    published = _table(["published", "baseline fold", "tuned, mean of four folds"], PUBLISHED_FIGURES)
    return f"""## Figures

Area under the ROC curve with DeLong's 95 % interval; average precision and card precision@{CARDS_A_DAY} with a 95 %
bootstrap interval over customers ({report.bootstrap_draws:,} draws).
"XGBoost as published" is {PUBLISHED}, the same code otherwise.

{_test_table(report)}

For comparison, the handbook's own figures (AUC / average precision / card precision@100):

{published}"""


def _text_of_calibration(report: Report) -> str:
    found = report.decision.calibration
    values = found.calibration.get("beta") or {found.kind: found.calibration.get(found.kind)}
    shown = "" if found.kind == "isotonic" else f" ({', '.join(f'{name} {value:g}' for name, value in values.items())})"
    return f"""## Calibration

Fitted on four folds of its own (training starts {report.calibration_starts}), whose test
weeks lie before those of the validation folds. Each kind was tried on customers it was not fitted on; the first within
one standard error of the best was taken: {found.kind}{shown}.

{_calibration_table(report)}

Expected calibration error (15 bins of equal count) with a 95 % interval by bootstrap over customers:

{_reliability_table(report)}"""


def _text_of_decision(report: Report) -> str:
    saved = "\n".join(
        f"- Against {name}, those above save {_thousand(one)} on 1,000 payments." for name, one in report.saved.items()
    )
    points = {f"validation, {report.validation_period}": report.validation_point}
    points |= {fold.test_period: fold.point for fold in report.folds}
    return f"""## Operating point

Thresholds are for these costs, in the currency of the simulation:

- a fraud that is cleared: its amount;
- a genuine payment that is flagged: {COSTS.false_alarm:g};
- a review: {COSTS.review:g}, and {COSTS.reviewer_error:.0%} of the reviews end in the wrong decision.

They are an example: with costs of yours the thresholds are others, and `discern thresholds` finds them.

{_cuts_table(report)}

A large payment is looked at on less suspicion than a small one. Thresholds were searched on the validation folds, or
computed from the costs and the mean amount of each band, which takes the score for the probability it is calibrated to
be and needs no label. What costs least on customers of the validation weeks was taken; searched thresholds were
measured there on the fifth of the customers that they were not searched on.

{_bands_table(report)}

All was fixed on the validation folds; the other rows show what comes of it afterwards:

{_points_table(points, "payments of")}

The four test weeks together, and other thresholds on the same scores:

{_points_table(report.test_points, "thresholds")}

{saved}

Intervals are 95 % by Student's quantile over sums of customers; differences are of the same payments. Version 1.0 had
thresholds that flag at most 0.5 % of payments and show people at most {CARDS_A_DAY} cards a day:
more frauds are seen that way, for more than these costs say they are worth.

At first only searched thresholds were compared, and those for bands were seen to cost more on the test weeks than one
pair: they follow the few frauds of a band too closely. Computed ones were tried after that, on the validation folds, so
that the test weeks are not quite untouched for the choice between the two."""


def _text_of_examples(report: Report) -> str:
    parts = ["## Records to try"]
    for one in report.examples:
        parts.append(f"{one.title}: {one.decision}, score {one.score:.4f}.")
        parts.append("```json\n" + json.dumps(one.record, indent=1) + "\n```")
    return "\n\n".join(parts)


_LIMITS = """## Limits

- Simulated data: three kinds of fraud, known to be there. Real fraud changes its kind; expect worse, and measure.
- A terminal's first frauds cannot be seen by its risk, which is a week old by design.
- One week of training follows the season closely and forgets fast: retrain weekly, and watch drift against
  `reference.json`.
- Amounts are in the currency of the simulation; another currency or price level moves the trees' splits.
- Test weeks and validation weeks follow each other: customers and terminals appear in both, as they do in practice.
- A missing value is refused, not imputed."""


def render(report: Report) -> str:
    """The card as Markdown."""
    parts = [
        _text_of_use(report),
        _text_of_data(report),
        _text_of_model(report),
        _text_of_figures(report),
        _text_of_calibration(report),
        _text_of_decision(report),
        _text_of_examples(report),
        _LIMITS,
        "Made by `python -m recipes.card_fraud.train`, which prints every figure above.",
    ]
    return "\n\n".join(parts) + "\n"
