"""The nouns of detection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray

from discern.access.types import Principal
from discern.core.errors import DiscernError
from discern.core.verdict import Decision, Verdict
from discern.inputs.types import MediaContent, Record
from discern.privacy.types import Subject


@dataclass(frozen=True, slots=True)
class DetectionRequest:
    """One question: what a detector says of an input.

    `version` None means the version that answers by default. `verdict_id` is the id the verdict is to have, for a door
    that may have to ask again: the ledger keeps one verdict of an id. `subject` is the person it is about, if any.
    `is_live` is set for what comes from a stream, whose inputs are alike; `is_sampled` for the few of those that stand
    for the rest, and for everything else.
    """

    principal: Principal
    detector: str
    content: MediaContent | Record
    version: str | None = None
    verdict_id: UUID | None = None
    subject: Subject | None = None
    is_live: bool = False
    is_sampled: bool = True


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Many questions to one detector at once.

    For a detector of records, bytes are the JSON of one record. An error in the place of a content stands for itself.
    """

    principal: Principal
    detector: str
    contents: Sequence[MediaContent | Record | DiscernError]
    version: str | None = None
    subject: Subject | None = None


Seen = tuple[Any, ...] | NDArray[np.uint8]
"""What a detector was shown: the row of a record, the pixels of a picture, uint8 [height, width, 3]; of a clip ()."""


class LedgerEntry(NamedTuple):
    """A verdict with whoever asked for it, and the person it is about, if any.

    `seen` is for those who watch, and goes nowhere else; None where nothing was judged, such as for known answers.
    """

    verdict: Verdict
    principal: str
    subject: Subject | None = None
    seen: Seen | None = None


Detect = Callable[[DetectionRequest], Awaitable[Verdict]]
"""The plane's one signature; every wrapper has it too."""

DetectBatch = Callable[[BatchRequest], Awaitable[list[Verdict | DiscernError]]]
"""The same for many inputs: one answer or error each, in order. It raises only where the whole cannot be answered."""


class VerdictPage(msgspec.Struct, frozen=True):
    """A page of verdicts, newest first. `next` continues it, None at the end."""

    verdicts: tuple[Verdict, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class VerdictQuery:
    """Which verdicts: after `after` in the order newest first, at most `limit`, filtered by what is not None.

    `may_read` tells of a detector whether its verdicts may be seen, `held_out` of a verdict whether it is in the random
    hold-out; None means all.
    """

    workspace: str
    limit: int = 50
    after: UUID | None = None
    detector: str | None = None
    decision: Decision | None = None
    may_read: Callable[[str], bool] | None = None
    held_out: Callable[[UUID], bool] | None = None
