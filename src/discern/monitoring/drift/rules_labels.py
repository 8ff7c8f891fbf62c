"""Whether scores are as right as they were, by labels: a change of the mean of (score - label)^2. Pure.

- Labels are looked at in the order they came. Whoever labels chooses what is looked at: a change of what is labelled
  looks like a change of the detector.
- By ADWIN, which keeps a window as long as its mean has not changed: A. Bifet and R. Gavalda, "Learning from
  time-changing data with adaptive windowing", SDM 2007; by `river`.
- What raises an alarm is that scores became worse. That they became better ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from importlib import import_module
from typing import Any

import msgspec

from discern.monitoring.drift.types import Alarm, Change, Concept
from discern.monitoring.types import LabelledVerdict

MOST_LABELS = 10_000
DELTA = 0.05
"""ADWIN's confidence. How often it is wrong with it is simulated: see `docs/reference/drift.md`."""


def concept_of(labelled: Iterable[LabelledVerdict]) -> Concept | None:
    """Return what labels say, oldest first; None where there are none. Raises ImportError without `river`."""
    river: Any = import_module("river.drift")  # of an extra, and it takes seconds
    adwin = river.ADWIN(delta=DELTA)
    losses: list[float] = []
    times: list[datetime] = []
    begins = 0
    for one in labelled:
        loss = (one.score - one.label) ** 2
        losses.append(loss)
        times.append(one.labelled_at)
        adwin.update(loss)
        if adwin.drift_detected:
            begins = len(losses) - int(adwin.width)
    if not losses:
        return None
    lately = losses[begins:]
    return Concept(
        len(losses),
        len(lately),
        sum(lately) / len(lately),
        sum(losses[:begins]) / begins if begins else None,
        times[begins] if begins else None,
    )


def judged(concept: Concept, before: Concept | None, window: int, now: datetime) -> tuple[Concept, Change | None]:
    """Return what labels say with its alarm, if any, and what changed."""
    was = None if before is None else before.alarm
    if concept.since is None or concept.loss_before is None or concept.loss <= concept.loss_before:
        return concept, None if was is None else "ended"
    if was is not None:
        return msgspec.structs.replace(concept, alarm=was), None
    return msgspec.structs.replace(concept, alarm=Alarm(now, concept.since, window)), "began"
