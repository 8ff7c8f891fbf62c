"""What is measured of verdicts as they come on the ledger: how long they and their stages took, and what failed."""

from __future__ import annotations

from collections.abc import Sequence

from discern.core.measures import Measures, Note
from discern.detection.types import LedgerEntry


class VerdictTimes:
    """Notes the times of verdicts. It is told of each on the event loop, so it does next to nothing."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        # By detector, and what belongs to each of its stages.
        self._notes: dict[str, tuple[Note, dict[str, Note]]] = {}

    def recorded(self, entries: Sequence[LedgerEntry]) -> None:
        """Take note of verdicts that are on the ledger."""
        known = self._notes
        for entry in entries:
            verdict = entry.verdict
            note, stages = known.get(verdict.detector) or self._of(verdict.detector)
            note(verdict.milliseconds / 1000)
            if not verdict.cached:
                for stage in verdict.stages:
                    note_stage = stages.get(stage.name) or self._of_stage(verdict.detector, stage.name)
                    note_stage(stage.milliseconds / 1000)
                    if stage.error is not None:
                        self._measures.count("discern_stage_failures_total", verdict.detector, stage.name)
            if verdict.input.kind == "stream":
                self._measures.count("discern_stream_windows_total")

    def _of(self, detector: str) -> tuple[Note, dict[str, Note]]:
        found = self._notes[detector] = self._measures.noting("discern_verdict_duration_seconds", detector), {}
        return found

    def _of_stage(self, detector: str, stage: str) -> Note:
        note = self._measures.noting("discern_stage_duration_seconds", detector, stage)
        self._notes[detector][1][stage] = note
        return note
