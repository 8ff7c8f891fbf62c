"""How the scores of a clip's frames become one.

- The pooled score lies between the lowest and the highest score.
- The order of the frames does not matter, to the last bit.
- Equal scores pool to that score, so a clip of one frame scores what its frame scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from discern.inputs.spec import VideoSpec


def pooled_frames(scores: Sequence[float], video: VideoSpec) -> list[int]:
    """Return the positions of the frames that enter the pool: all, the highest, or the `top` highest.

    Where windows decide, what is pooled is only told: all enter. Of equal scores the earlier frame enters first.
    Raises ValueError for no scores, or one that is not finite.
    """
    if not scores or not all(math.isfinite(score) for score in scores):
        raise ValueError("pooling needs at least one score, all of them finite")
    if video.pool in {"mean", "windows"}:
        return list(range(len(scores)))
    count = 1 if video.pool == "max" else video.top
    return sorted(range(len(scores)), key=lambda frame: -scores[frame])[:count]


def pool(scores: Sequence[float], video: VideoSpec) -> float:
    """Return the mean, the maximum, or the mean of the `top` highest scores (of all, where there are fewer).

    Raises ValueError for no scores, or one that is not finite.
    """
    entering = [scores[frame] for frame in pooled_frames(scores, video)]
    mean = math.fsum(entering) / len(entering)
    return min(max(mean, min(entering)), max(entering))
