"""The nouns of review."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec

from discern.core.errors import CallerError
from discern.core.verdict import Decision, InputFacts, Verdict

Selection = Literal["holdout", "flagged", "unblocked", "sampled", "all", "unknown"]
"""How a verdict came to be labelled.

`holdout`: it was in the random hold-out, whatever was decided. `flagged`: all with its decision are labelled.
`unblocked`: it was flagged, and let through at random to see what comes of it. `sampled`: drawn at random by whoever
labels. `all`: every verdict is labelled. `unknown`: it is not known, as of a complaint, and says nothing of others.
"""

UNKNOWN = "unknown"
"""The word for a verdict of which nobody can tell."""

_Utc = Annotated[datetime, msgspec.Meta(tz=True)]
# Less is nobody's draw: such a label would stand for more verdicts than there are, and its square for no number.
Propensity = Annotated[float, msgspec.Meta(ge=1e-6, le=1)]
Source = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")]
Note = Annotated[str, msgspec.Meta(max_length=1000)]


class LabelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is true of a verdict: one of the detector's two classes by name; null or "unknown" where nobody can tell.

    `source` is who says so, such as reviewer, chargeback or appeal. `labelled_at` is when it became true; left out:
    when it came. `selected_by` says how the verdict came to be labelled, and `propensity` with which probability.
    """

    label: str | None
    source: Source = "reviewer"
    selected_by: Selection = "unknown"
    propensity: Propensity | None = None
    labelled_at: _Utc | None = None
    note: Note = ""


class LabelLine(LabelRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The same for one of many verdicts: a row of a file, or a line of JSON."""

    verdict_id: UUID


Line = LabelLine | CallerError
"""A line that was read, or what is wrong with it."""


class Label(msgspec.Struct, frozen=True):
    """What was said of a verdict. It never changes: what is said later is another, with the next `number`.

    The one with the highest number holds. `label` is None where nobody could tell.
    """

    verdict_id: str
    number: int
    label: str | None
    source: str
    selected_by: Selection
    propensity: float | None
    labelled_at: _Utc
    note: str
    by: str
    created_at: _Utc


class LabelHistory(msgspec.Struct, frozen=True):
    """All that was said of a verdict, oldest first; the last one holds."""

    verdict_id: str
    detector: str
    version: str
    labels: tuple[Label, ...]


class WantedVerdict(msgspec.Struct, frozen=True):
    """A held-out verdict that wants a label, without what was decided: whoever labels is not to be led by it."""

    id: str
    detector: str
    version: str
    input: InputFacts
    created_at: _Utc


class WantedList(msgspec.Struct, frozen=True):
    """A page of them, newest first. `next` continues it, None at the end."""

    verdicts: tuple[WantedVerdict, ...]
    next: str | None = None


class RefusedLine(msgspec.Struct, frozen=True):
    """A line that was not taken: which, counted from 1, why, and how to mend it."""

    line: int
    code: str
    detail: str
    mend: str | None = None


class Taken(msgspec.Struct, frozen=True):
    """What came of many labels: how many are kept, how many were known before, and which were refused.

    Of those that were refused, `refused` has the first hundred and `refusals` the number.
    """

    taken: int
    known: int
    refusals: int
    refused: tuple[RefusedLine, ...]


class Draft(NamedTuple):
    """A label that holds together, before it is kept. `verdict` is what it is about.

    `positive` is None where nobody can tell. `held_out` is the share of the random hold-out that the verdict is in,
    None for one that is not. `note` is sealed where `key_id` is given.
    """

    verdict: Verdict
    key_id: bytes | None
    label: str | None
    positive: bool | None
    source: str
    selected_by: Selection
    propensity: float | None
    held_out: float | None
    labelled_at: datetime | None
    note: str
    sealed_note: bytes


class Judged(NamedTuple):
    """A verdict and what holds of it, as quality counts it. The label is the last, the selection the first known one.

    `positive` is None where nobody could tell. `label_id` rises with the time at which labels came.
    """

    verdict_id: UUID
    label_id: UUID
    version: str
    decision: Decision
    score: float
    decided_by: str
    cached: bool
    verdict_at: datetime
    positive: bool | None
    source: str
    selected_by: Selection
    propensity: float | None
    held_out: float | None
    labelled_at: datetime


class Counted(NamedTuple):
    """How many labels of a kind a detector was given."""

    workspace: str
    detector: str
    label: str
    labels: int
