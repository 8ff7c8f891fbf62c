"""The quality of a release, window after window, from counts of the ledger and from labels. Pure.

- Figures are of verdicts that were judged anew by a stage of the bundle: an answer from memory is about an input that
  was counted before, and what a window of a stream measures is no probability.
- Quality by labels is taken from a window once enough of its labels have come, as far as delays tell or because nearly
  all are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from discern.core.verdict import Decision
from discern.monitoring.quality.rules_delays import Arrival, Delays
from discern.monitoring.quality.rules_drawing import DECISIONS
from discern.monitoring.quality.rules_estimated import deviation, estimated
from discern.monitoring.quality.rules_gap import LOOKED_AT, Item, gaps
from discern.monitoring.quality.rules_realised import Stratum, realised, stratum
from discern.monitoring.quality.types import (
    GAP_MEASURES,
    KINDS,
    MEASURES,
    NOTHING,
    Evidence,
    Figure,
    Gap,
    Group,
    QualityOptions,
    QualityWindow,
    Release,
    Standing,
)
from discern.monitoring.types import TallyRow
from discern.review.types import Judged

ASSUMPTIONS = (
    "Estimates hold while a score goes on meaning what it meant. A shift of the inputs alone leaves them right.",
    "Another kind of positives, or another share of them, makes estimates wrong, and they do not show it: labels do.",
    "Estimates take verdicts to be independent, and scores to be as well calibrated as the bundle's reference tells.",
    "Quality by labels takes labels to be true, and verdicts to be labelled as `selected_by` and `propensity` say.",
    "Labels that a mature window still lacks are taken to be like those that came.",
)
"""What figures rest on, in words."""


class Counts(NamedTuple):
    """The verdicts of one window: by decision, and how many are left out."""

    groups: Mapping[Decision, Group]
    left_out: int = 0


def window_start(moment: datetime, days: int) -> datetime:
    """Return the start of the window that a moment lies in: windows are aligned to 1970 in UTC."""
    length = days * 86_400
    return datetime.fromtimestamp(int(moment.timestamp()) // length * length, UTC)


def counted(
    rows: Iterable[TallyRow], stages: Mapping[tuple[str, str], frozenset[str] | None], days: int
) -> dict[Release, dict[datetime, Counts]]:
    """Return the verdicts of each release by window; `stages` are those of a detector's version, None if not known."""
    found: dict[Release, dict[datetime, Counts]] = {}
    for row in rows:
        release = Release(row.workspace, row.detector, row.version)
        start = window_start(row.hour, days)
        before = found.setdefault(release, {}).get(start, Counts({}))
        its = stages.get((row.detector, row.version))
        if row.cached or (its is not None and row.decided_by not in its):
            after = Counts(before.groups, before.left_out + row.verdicts)
        else:
            group = before.groups.get(row.decision, NOTHING).plus(Group(row.verdicts, row.scores, row.variances))
            after = Counts({**before.groups, row.decision: group}, before.left_out)
        found[release][start] = after
    return found


def usable(labels: Iterable[Judged], stages: frozenset[str] | None) -> list[Judged]:
    """Return the labels that say something of verdicts which are counted."""
    return [
        one
        for one in labels
        if one.positive is not None and not one.cached and (stages is None or one.decided_by in stages)
    ]


def delays_of(labels: Iterable[Judged], label_share: float) -> Delays:
    """Return how long labels of a detector take."""
    known = (one for one in labels if one.positive is not None)
    return Delays((Arrival(one.source, one.verdict_at, one.labelled_at) for one in known), label_share)


class Measured(NamedTuple):
    """A window with its quality, and the labelled verdicts that its figures are from."""

    window: QualityWindow
    used: tuple[Judged, ...]


def measure(
    start: datetime,
    counts: Counts,
    labels: Sequence[Judged],
    delays: Delays,
    evidence: Evidence | None,
    options: QualityOptions,
    now: datetime,
) -> Measured:
    """Return the quality of one window; `labels` are the usable ones in it."""
    end = start + timedelta(days=options.window_days)
    by_decision = {one: [label for label in labels if label.decision == one] for one in DECISIONS}
    groups = {one: counts.groups.get(one, NOTHING) for one in DECISIONS}
    # What was labelled was there, whether or not it was counted when it came.
    verdicts = {one: max(groups[one].verdicts, len(by_decision[one])) for one in DECISIONS}
    figures = estimated(groups, None if evidence is None else evidence.doubt)
    come, is_mature = None, False
    used: tuple[Judged, ...] = ()
    if labels:
        strata = {one: stratum(verdicts[one], by_decision[one], options.label_share) for one in DECISIONS}
        figures += realised(verdicts, strata)
        come = delays.come(end)
        is_mature = end <= now and _is_mature(strata, come, options.label_share)
        used = tuple(label for one in strata.values() if isinstance(one, Stratum) for label in one.used)
    window = QualityWindow(
        start=start,
        end=end,
        verdicts=sum(group.verdicts for group in groups.values()),
        is_closed=end <= now,
        figures=figures,
        labels=len(labels),
        labels_come=come,
        is_mature=is_mature,
        left_out=counts.left_out,
    )
    return Measured(window, used)


def _is_mature(strata: Mapping[Decision, Stratum | str], come: float | None, label_share: float) -> bool:
    if come is not None and come >= label_share:
        return True
    return all(isinstance(one, Stratum) and one.stands_for >= label_share for one in strata.values())


def gaps_of(
    measured: Sequence[Measured], groups: Iterable[Mapping[Decision, Group]], evidence: Evidence | None,
    options: QualityOptions, began: datetime,
) -> tuple[Gap, ...]:  # fmt: skip
    """Return what the labels of mature windows, oldest first, say against scores; `groups` are of all windows.

    `began` is the start of the first window of the release's life.
    """
    length = timedelta(days=options.window_days)
    items = [
        Item(window.start, (window.start - began) // length + 1, label.decision, label.score, bool(label.positive))
        for window, used in measured
        if window.is_mature
        for label in sorted(used, key=lambda one: one.label_id)
    ]
    total: dict[Decision, Group] = {}
    for one in groups:
        for decision, group in one.items():
            total[decision] = total.get(decision, NOTHING).plus(group)
    doubt = None if evidence is None else evidence.doubt
    doubts = {
        which: deviation(doubt, _together(total.get(decision, NOTHING) for decision in LOOKED_AT[which]))
        for which in GAP_MEASURES
    }
    return gaps(items, odds=options.gap_odds, doubts=doubts, false_alarms=options.false_alarms)


def _together(groups: Iterable[Group]) -> Group:
    found = NOTHING
    for group in groups:
        found = found.plus(group)
    return found


def standing_of(
    windows: Sequence[QualityWindow], its_gaps: tuple[Gap, ...], evidence: Evidence | None, began: datetime
) -> Standing:
    """Return how a release stands by its windows, oldest first."""
    figures = []
    for kind in KINDS:
        for which in MEASURES:
            # The window that goes on has few verdicts: it counts where none is over.
            order = sorted(windows, key=lambda one: (one.is_closed, one.start), reverse=True)
            there = (one for one in order if kind == "estimated" or one.is_mature)
            values = (
                figure for one in there for figure in one.figures if (figure.kind, figure.measure) == (kind, which)
            )
            figures.append(next((one for one in values if one.value is not None), Figure(which, kind, why="none yet")))
    return Standing(began, tuple(figures), its_gaps, _caveats(windows, evidence))


def _caveats(windows: Sequence[QualityWindow], evidence: Evidence | None) -> tuple[str, ...]:
    found = []
    if evidence is None:
        found.append(
            "The bundle is not installed here: estimates take all scores to be calibrated, those of streams too."
        )
    elif evidence.doubt is None:
        found.append("The bundle does not tell on how much it was calibrated: estimates take it to be exact.")
    if evidence is not None and evidence.pools_videos:
        found.append("Scores of clips are pooled over their frames: estimates hold for pictures, not for clips.")
    left_out = sum(one.left_out for one in windows)
    if left_out:
        found.append(f"{left_out:,} verdicts are left out: answers from memory, and windows of streams.")
    return tuple(found)
