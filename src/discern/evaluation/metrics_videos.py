"""A video by its frames: where the items of a dataset are frames, what the detector makes of each video.

- Frames become a video's score by the detector's own rule, as those of a clip do in a detection: as many of them,
  evenly spaced in the order of their names, and the same pool. Without a rule, or where it needs the time of each
  frame, there is no figure and the reason is said.
- A video of which frames have either label is in no figure, and counted.
- Intervals count groups: videos of one person are not independent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from discern.detectors.scoring import DECISIONS, UNDECIDED
from discern.evaluation import metrics
from discern.evaluation.metrics import OperatingPoint
from discern.evaluation.rules_datasets import numbered
from discern.evaluation.types import Estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.core.verdict import Thresholds
    from discern.evaluation.types import Scored
    from discern.inputs.spec import VideoSpec

_FAILED = "detector_failed"
_NO_RULE = "the manifest of the detector has no `video`, which says how frames become one"
_WINDOWS = "the detector judges clips by windows of time, and frames of a dataset have no time: give it the video files"


class VideoResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of videos whose frames are the items.

    `videos` are measured, of which `not_scored` have no frame that could be judged; `torn` more have frames of either
    label. `pool` says how frames become one. Without figures `metrics` is empty and `caveat` says why.
    """

    videos: int
    frames: int
    positives: int
    negatives: int
    groups: int
    not_scored: int
    torn: int
    pool: str
    metrics: dict[str, Estimate]
    operating: OperatingPoint | None
    caveat: str | None = None


def video_result(
    scored: Scored, rule: VideoSpec | None, thresholds: Thresholds, *, seed: int, draws: int
) -> VideoResult | None:
    """Return what becomes of the videos, None where the items are no frames of videos."""
    examples = scored.examples
    if examples.videos is None:
        return None
    position, names = numbered([str(video) for video in examples.videos])
    ones = np.bincount(position, examples.labels, len(names))
    frames = np.bincount(position, minlength=len(names))
    torn = (ones > 0) & (ones < frames)
    why = _NO_RULE if rule is None else _WINDOWS if rule.pool == "windows" else None
    if rule is None or rule.pool == "windows":
        return VideoResult(len(names), len(position), 0, 0, 0, 0, int(torn.sum()), "", {}, None, why)
    kept = ~torn[position] & _evenly(position, rule.frames)
    labels, scores, _ = metrics.pooled(
        examples.labels[kept], scored.score[kept], position[kept], pool=rule.pool, top=rule.top
    )
    of, first = np.unique(position[kept], return_index=True)
    groups = examples.groups[kept][first]
    decisions = _decisions(scored, np.where(kept, position, -1), of, scores, thresholds)
    return VideoResult(
        videos=len(labels),
        frames=int(kept.sum()),
        positives=int(labels.sum()),
        negatives=int((labels == 0).sum()),
        groups=len(np.unique(groups)),
        not_scored=int(np.isnan(scores).sum()),
        torn=int(torn.sum()),
        pool=_words(rule),
        metrics={
            "auc": metrics.area_under_roc(labels, scores, groups),
            "average_precision": metrics.average_precision(labels, scores, groups),
            "eer": metrics.equal_error_rate(labels, scores, groups, seed=seed, draws=draws),
        },
        operating=metrics.operating_point(labels, decisions, groups),
    )


def _evenly(position: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return which rows are taken, at most so many of each video, as `discern dataset freeze --frames` spaces them."""
    taken = np.zeros(len(position), np.bool_)
    order = np.argsort(position, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(position[order])) + 1):
        count = min(most, len(rows))
        taken[rows[(2 * np.arange(count) + 1) * len(rows) // (2 * count)]] = True
    return taken


def _decisions(
    scored: Scored,
    position: NDArray[np.int64],
    of: NDArray[np.int64],
    scores: NDArray[np.float64],
    thresholds: Thresholds,
) -> NDArray[np.int8]:
    """Return what is decided of each video: `review` where a stage failed on a frame, as of a clip.

    `position` is -1 for a frame that is not taken.
    """
    decisions = np.add(scores >= thresholds.review_from, scores >= thresholds.flag_from, dtype=np.int8)
    failed = [row for row, reason in scored.errors.items() if reason.partition(":")[0] == _FAILED]
    there = np.flatnonzero(~np.isnan(scored.score) & (scored.decided_by < len(scored.stages) - 1))
    following = scored.stage_scores[there, scored.decided_by[there] + 1]
    degraded = there[np.isnan(following) & (scored.decision[there] == DECISIONS.index("review"))]
    decisions[np.isin(of, position[[*failed, *degraded.tolist()]])] = DECISIONS.index("review")
    decisions[np.isnan(scores)] = UNDECIDED
    return decisions


def _words(rule: VideoSpec) -> str:
    among = f"{rule.frames} frames at most"
    if rule.pool == "top_mean":
        return f"mean of the {rule.top} highest of {among}"
    return f"highest of {among}" if rule.pool == "max" else f"mean of {among}"
