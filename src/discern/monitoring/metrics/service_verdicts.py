"""What is measured of verdicts as they come on the ledger: how long they and their stages took, and what failed."""

from __future__ import annotations

from collections.abc import Sequence

from discern.core.measures import Measures, Note
from discern.core.verdict import Verdict
from discern.detection.types import LedgerEntry


class VerdictTimes:
    """Notes the times of verdicts. It is told of each on the event loop, so it does next to nothing."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._notes: dict[str, Note] = {}
        self._stages: dict[tuple[str, str], Note] = {}

    def recorded(self, entries: Sequence[LedgerEntry]) -> None:
        """Take note of verdicts that are on the ledger."""
        for entry in entries:
            verdict = entry.verdict
            note = self._notes.get(verdict.detector) or self._of(verdict.detector)
            note(verdict.milliseconds / 1000)
            if not verdict.cached:
                self._note_stages(verdict)
            if verdict.input.kind == "stream":
                self._measures.count("discern_stream_windows_total")

    def _note_stages(self, verdict: Verdict) -> None:
        for stage in verdict.stages:
            key = verdict.detector, stage.name
            note = self._stages.get(key)
            if note is None:
                note = self._stages[key] = self._measures.noting("discern_stage_duration_seconds", *key)
            note(stage.milliseconds / 1000)
            if stage.error is not None:
                self._measures.count("discern_stage_failures_total", *key)

    def _of(self, detector: str) -> Note:
        note = self._notes[detector] = self._measures.noting("discern_verdict_duration_seconds", detector)
        return note
