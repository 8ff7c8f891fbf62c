"""Looking at labels now and then: one process at a time, for it takes seconds. Without `river` nobody does."""

from __future__ import annotations

import logging

import msgspec

from discern.core.clock import Clock, utc_now
from discern.core.errors import StorageUnavailable
from discern.monitoring.drift.rules_labels import MOST_LABELS, concept_of, judged
from discern.monitoring.drift.store import DriftStore, Fold, Standing
from discern.monitoring.drift.types import DriftChange, ReleaseKey
from discern.monitoring.ports import Happenings, LabelledVerdicts
from discern.store.turns import Turn

log = logging.getLogger(__name__)


class LabelWatch:
    """Watches what labels say of every release that is watched."""

    def __init__(
        self,
        store: DriftStore,
        labels: LabelledVerdicts,
        turn: Turn,
        happenings: Happenings,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._labels = labels
        self._turn = turn
        self._happenings = happenings
        self._clock = clock
        self._can = True

    def look(self) -> None:
        """Look at all labels anew, where it is this process's turn. Raises nothing."""
        try:
            if self._can and self._turn.take():
                self.judge()
        except StorageUnavailable as error:
            log.warning("drift_waits", extra={"detail": error.detail})
        except ImportError:
            self._can = False
            log.info("labels_not_watched", extra={"mend": "install the extra `monitoring`"})

    def judge(self) -> None:
        """Look at the labels of every release. Raises StorageUnavailable, and ImportError without `river`."""
        for key, standing in self._store.releases().items():
            self._judge(key, standing)

    def _judge(self, key: ReleaseKey, standing: Standing) -> None:
        before, now = standing.release.concept, self._clock()
        labelled = list(self._labels.labelled_verdicts(*key, MOST_LABELS))
        found = concept_of(labelled) if labelled else None
        if found is None:
            return
        concept, change = judged(found, before, standing.release.windows, now)
        if concept == before:
            return
        changes = []
        if change is not None:
            began = concept.alarm.since if concept.alarm else now
            changes.append(
                DriftChange(
                    key.detector, key.version, "labels", change, now, began, standing.release.windows, concept.labels
                )
            )
        release = msgspec.structs.replace(standing.release, concept=concept)
        if self._store.write(key, standing.revision, Fold(release, standing.seen_at, changes=changes)):
            for one in changes:
                self._happenings.tell(
                    f"drift.{one.change}",
                    f"{key.detector} {key.version} labels",
                    workspace=key.workspace,
                    since=one.since.isoformat(),
                    loss=concept.loss,
                    loss_before=concept.loss_before,
                )
