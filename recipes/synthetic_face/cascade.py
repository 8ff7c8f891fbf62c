"""Thresholds and exits of the two stages, chosen on out-of-fold scores.

Invariants:

- `clear_below <= review_from <= flag_from <= flag_above`: an exit never decides otherwise than the thresholds.
- Nothing here sees the held-out side or a test set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.synthetic_face.measure import auc, threshold_at_false_positive_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FLAG_FALSE_POSITIVE_RATE = 0.005
REVIEW_FALSE_POSITIVE_RATE = 0.10
LOST_SYNTHETIC = 0.01
LOST_AUTHENTIC = 0.001
LOST_AUC = 0.001
_STEPS = 60


@dataclass(frozen=True)
class OperatingPoint:
    """The two thresholds and the screen's two exits, all on calibrated scores."""

    review_from: float
    flag_from: float
    clear_below: float
    flag_above: float

    def cascade(self, screen: Floats, expert: Floats) -> Floats:
        """The score a verdict carries: the screen's where it decides, else the expert's."""
        return np.where(self.decided_by_screen(screen), screen, expert)

    def decided_by_screen(self, screen: Floats) -> NDArray[np.bool_]:
        """Rows the screen decides by itself."""
        return np.asarray((screen < self.clear_below) | (screen >= self.flag_above))


def choose(
    screen: Floats, expert: Floats, kind: NDArray[np.str_], label: NDArray[np.int64], pairs: Sequence[tuple[str, str]]
) -> OperatingPoint:
    """Thresholds by false positives of the expert in the worst source; exits as wide as the allowed losses let them be.

    At most `FLAG_FALSE_POSITIVE_RATE` and `REVIEW_FALSE_POSITIVE_RATE` of the photographs of every source. The screen
    may clear at most `LOST_SYNTHETIC` of the synthetic rows that the expert would not clear, and flag at most
    `LOST_AUTHENTIC` of the authentic rows that the expert would not flag; each exit may cost the cascade `LOST_AUC` for
    any pair.
    """
    photographs = [expert[kind == name] for name in sorted(set(kind[label == 0].tolist()))]
    flag_from = max(threshold_at_false_positive_rate(one, FLAG_FALSE_POSITIVE_RATE) for one in photographs)
    review_from = max(threshold_at_false_positive_rate(one, REVIEW_FALSE_POSITIVE_RATE) for one in photographs)
    kept = np.sort(screen[(label == 1) & (expert >= review_from)])
    spared = np.sort(screen[(label == 0) & (expert < flag_from)])[::-1]
    lowest = min(kept[int(LOST_SYNTHETIC * (label == 1).sum())], review_from)
    highest = max(spared[int(LOST_AUTHENTIC * (label == 0).sum())] + 1e-4, flag_from)

    def harmless(point: OperatingPoint) -> bool:
        score = point.cascade(screen, expert)
        return all(_pair_auc(score, kind, pair) >= _pair_auc(expert, kind, pair) - LOST_AUC for pair in pairs)

    clears = np.append(np.floor(np.geomspace(lowest, 0.001, _STEPS) * 1e4) / 1e4, 0.0)
    flags = np.append(1 - np.floor(np.geomspace(max(1 - highest, 0.0002), 0.0002, _STEPS) * 1e4) / 1e4, 1.0)
    points = [OperatingPoint(review_from, flag_from, float(clear), 1.0) for clear in clears]
    clear_below = next((point.clear_below for point in points if harmless(point)), 0.0)
    points = [OperatingPoint(review_from, flag_from, 0.0, round(float(flag), 4)) for flag in flags]
    flag_above = next((point.flag_above for point in points if harmless(point)), 1.0)
    return OperatingPoint(review_from, flag_from, clear_below, flag_above)


def _pair_auc(score: Floats, kind: NDArray[np.str_], pair: tuple[str, str]) -> float:
    return auc(score[kind == pair[0]], score[kind == pair[1]]).value
