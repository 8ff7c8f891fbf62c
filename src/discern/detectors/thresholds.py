"""From a calibrated score to a decision.

- A score below `review_from` is clear, from `flag_from` on flag, between them review.
- A higher score never gets a milder decision.
- What is not a score (NaN, below 0, above 1) gets no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from discern.core.verdict import Decision, Thresholds


def decide(score: float, thresholds: Thresholds) -> Decision:
    """Return the decision for a calibrated score in [0, 1]. Raises ValueError for anything else, NaN included."""
    if not 0.0 <= score <= 1.0:
        raise ValueError(f"{score} is not a score in [0, 1]")
    if score >= thresholds.flag_from:
        return "flag"
    return "clear" if score < thresholds.review_from else "review"
