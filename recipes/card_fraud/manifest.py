"""The bundle's manifest and reference of the fraud detector, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.evaluation.types import Estimate
from recipes.card_fraud.decision import COSTS, STAGE, Decision
from recipes.card_fraud.features import FEATURES, LABEL_DELAY_DAYS

NAME = "card-fraud"
VERSION = "1.1.0"
MODEL_FILE = "model.onnx"
AMOUNT = "amount"
"""The field that the bands of thresholds go by."""

_USUAL_CUSTOMER: dict[str, Any] = {
    "customer_count_1d": 2,
    "customer_mean_amount_1d": 41.5,
    "customer_count_7d": 13,
    "customer_mean_amount_7d": 47.2,
    "customer_count_30d": 55,
    "customer_mean_amount_30d": 45.8,
}
_QUIET_TERMINAL: dict[str, Any] = {
    "terminal_count_1d": 1,
    "terminal_risk_1d": 0.0,
    "terminal_count_7d": 7,
    "terminal_risk_7d": 0.0,
    "terminal_count_30d": 29,
    "terminal_risk_30d": 0.0,
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "An everyday payment": {
        "amount": 38.9,
        "weekend": False,
        "night": False,
        **_USUAL_CUSTOMER,
        **_QUIET_TERMINAL,
    },
    "Three times what the customer usually pays": {
        "amount": 140.0,
        "weekend": True,
        "night": False,
        **_USUAL_CUSTOMER,
        "customer_mean_amount_1d": 90.75,
        "customer_mean_amount_7d": 54.3,
        "customer_mean_amount_30d": 47.5,
        **_QUIET_TERMINAL,
    },
    "Five times what the customer usually pays": {
        "amount": 214.0,
        "weekend": True,
        "night": False,
        **_USUAL_CUSTOMER,
        "customer_mean_amount_1d": 127.0,
        "customer_mean_amount_7d": 60.3,
        "customer_mean_amount_30d": 48.9,
        **_QUIET_TERMINAL,
    },
    "An everyday amount at a terminal where frauds came to light": {
        "amount": 52.0,
        "weekend": False,
        "night": True,
        **_USUAL_CUSTOMER,
        **_QUIET_TERMINAL,
        "terminal_risk_1d": 1.0,
        "terminal_risk_7d": 0.857,
        "terminal_risk_30d": 0.207,
    },
}
"""Made-up records, for the card."""

_MOST_MONEY = 1_000_000.0
_MOST_PAYMENTS = 1_000_000
_QUANTILES = 101


def _amount_field(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "number",
        "minimum": 0.0,
        "maximum": _MOST_MONEY,
        "unit": "currency units",
        "description": description,
    }


def _count_field(name: str, minimum: int, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "integer",
        "minimum": minimum,
        "maximum": _MOST_PAYMENTS,
        "unit": "payments",
        "description": description,
    }


def _window_field(name: str) -> dict[str, Any]:
    """Field of a feature named `customer_count_7d` and the like."""
    who, _, rest = name.partition("_")
    measure, _, length = rest.rpartition("_")
    days = length.removesuffix("d")
    window = f"the last {days} days" if days != "1" else "the last 24 hours"
    if who == "customer" and measure == "count":
        return _count_field(name, 1, f"Payments of the customer in {window}, this one included.")
    if who == "customer":
        return _amount_field(name, f"Mean amount of the customer's payments in {window}, this one included.")
    delayed = f"{window} that ended {LABEL_DELAY_DAYS} days before this payment"
    if measure == "count":
        return _count_field(name, 0, f"Payments at the terminal in {delayed}.")
    return {
        "name": name,
        "type": "number",
        "minimum": 0.0,
        "maximum": 1.0,
        "unit": "share",
        "description": f"Share of the terminal's payments in {delayed} that were fraud; 0 without payments.",
    }


def record_fields() -> list[dict[str, Any]]:
    """The fields of the record, in the order of the model's input columns."""
    first = [
        _amount_field(AMOUNT, "Amount of the payment."),
        {"name": "weekend", "type": "boolean", "description": "The payment was made on a Saturday or Sunday."},
        {"name": "night", "type": "boolean", "description": "The payment was made between 00:00 and 06:59."},
    ]
    return first + [_window_field(name) for name in FEATURES[len(first) :]]


@dataclass(frozen=True)
class Evidence:
    """What the manifest names as evidence: the payments, their data set, and the expected cost of a payment."""

    calibrated_on: str
    chosen_on: str
    data_sha256: str
    payments: int
    frauds: int
    cost: Estimate
    rule: str
    seed: int


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _calibration(decision: Decision, evidence: Evidence) -> dict[str, Any]:
    losses = {one.kind: _short(one.log_loss) for one in decision.calibration.tried if one.log_loss is not None}
    fitted_by = {"dataset": evidence.calibrated_on, "dataset_sha256": evidence.data_sha256, "log_loss": losses}
    return {**decision.calibration.calibration, "fitted_by": {**fitted_by, "seed": evidence.seed}}


def _decision(decision: Decision, evidence: Evidence) -> dict[str, Any]:
    first, *others = decision.cuts
    rule: dict[str, Any] = {"review_from": first.review_from, "flag_from": first.flag_from}
    if others:
        steps = [{"from": one.start, "review_from": one.review_from, "flag_from": one.flag_from} for one in others]
        rule["bands"] = {"field": AMOUNT, "steps": steps}
    cost = evidence.cost
    rule["chosen_by"] = {
        "rule": evidence.rule,
        "costs": {name: value for name, value in msgspec.to_builtins(COSTS).items() if value},
        "dataset": evidence.chosen_on,
        "dataset_sha256": evidence.data_sha256,
        "items": evidence.payments,
        "positives": evidence.frauds,
        "expected_cost": {"value": _short(cost.value), "low": _short(cost.low), "high": _short(cost.high)},
        "seed": evidence.seed,
    }
    return rule


def build_manifest(decision: Decision, evidence: Evidence) -> dict[str, Any]:
    """The manifest without `files`, which packing fills in."""
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "task": "Tells fraudulent card payments from genuine ones by payment, customer and terminal.",
        "input": {"kind": "record", "fields": record_fields()},
        "classes": {"negative": "genuine", "positive": "fraud"},
        "stages": [{"name": STAGE, "model": MODEL_FILE, "calibration": _calibration(decision, evidence)}],
        "decision": _decision(decision, evidence),
        "reference": "reference.json",
        "card": "CARD.md",
    }


def _quantiles(values: NDArray[np.floating[Any]]) -> list[float]:
    return [float(f"{value:.7g}") for value in np.quantile(values, np.linspace(0.0, 1.0, _QUANTILES))]


def build_reference(
    score: NDArray[np.float64], fraud: NDArray[np.bool_], features: NDArray[np.float32], *, payments: str
) -> dict[str, Any]:
    """Quantiles (0 %, 1 % ... 100 %) of calibrated scores [N] and of each feature [N, 15] on held-out payments."""
    return {
        "of": payments,
        "count": len(score),
        "positive_rate": float(fraud.mean()),
        "scores": {"quantiles": _quantiles(score)},
        "features": {
            name: {"quantiles": _quantiles(features[:, position].astype(np.float64))}
            for position, name in enumerate(FEATURES)
        },
    }
