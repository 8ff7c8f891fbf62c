"""How the page and the Markdown name and write figures: the same words in both."""

from __future__ import annotations

from collections.abc import Mapping

from discern.evaluation.types import Estimate

NONE = "\N{EN DASH}"

METRICS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "tpr_at_fpr_1_percent": "True positives at 1 % false positives",
    "tpr_at_fpr_0_1_percent": "True positives at 0.1 % false positives",
    "card_precision_at_100": "Card precision at 100",
    "ece": "Calibration error (ECE)",
    "flag_precision": "Right when it flags",
    "area_under_roc": "AUC",
    "accuracy of flagging": "Right to flag or not",
}
MEANING = {
    "auc": "How often a positive item scores higher than a negative one; 0.5 is guessing.",
    "average_precision": "Mean precision over all recalls; guessing gives the share of positives.",
    "eer": "Where as many positives are missed as negatives are flagged.",
    "tpr_at_fpr_1_percent": "Share of positives found when 1 of 100 negatives is flagged.",
    "tpr_at_fpr_0_1_percent": "Share of positives found when 1 of 1,000 negatives is flagged.",
    "flag_precision": "Share of positives among what is flagged; it depends on how many the dataset has.",
    "ece": "How far scores lie from the share of positives that they promise.",
    "card_precision_at_100": "Share of defrauded cards among the 100 most suspicious of a day; found ones are blocked.",
}


def metric(name: str) -> str:
    """Return what a figure, or a check, is called."""
    return METRICS.get(name, name.replace("_", " ").capitalize())


def meaning(name: str) -> str:
    """Return what a figure says, in a sentence."""
    return MEANING.get(name, "")


def figure(value: float | None) -> str:
    """Return a figure with three decimals."""
    return NONE if value is None else f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def interval(estimate: Estimate) -> str:
    """Return the interval of an estimate."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{figure(estimate.low)} to {figure(estimate.high)}"


def percent(value: float | None) -> str:
    """Return a share in percent, with a decimal, and two below one percent."""
    if value is None:
        return NONE
    return f"{value * 100:.1f} %" if value >= 0.01 or value == 0 else f"{value * 100:.2f} %"


def percent_interval(estimate: Estimate) -> str:
    """Return the interval of a share."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def figure_within(estimate: Estimate) -> str:
    """Return a figure and its interval, as text of one line."""
    return _within(figure(estimate.value), interval(estimate))


def percent_within(estimate: Estimate) -> str:
    """Return a share in percent and its interval, as text of one line."""
    return _within(percent(estimate.value), percent_interval(estimate))


def _within(value: str, span: str) -> str:
    return value if value == NONE else f"{value} ({span or 'no interval'})"


def chance(p: float | None) -> str:
    """Return a p value."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: int | None) -> str:
    """Return a whole number with its thousands apart."""
    return NONE if number is None else f"{number:,}"


def milliseconds(value: float | None) -> str:
    """Return a duration in milliseconds."""
    return NONE if value is None else f"{value:,.2f} ms"


def found(verdict: str | None) -> str:
    """Return what a comparison says."""
    return verdict or "cannot be told"


def megabytes(value: int | None) -> str:
    """Return a size in megabytes."""
    return NONE if value is None else f"{value / 1e6:,.2f} MB"


def small(value: float | None) -> str:
    """Return a figure that may be tiny."""
    return NONE if value is None else f"{value:.1e}"


def in_order(metrics: Mapping[str, Estimate]) -> list[tuple[str, Estimate]]:
    """Return figures in the order in which they are shown."""
    return [(name, metrics[name]) for name in METRICS if name in metrics]
