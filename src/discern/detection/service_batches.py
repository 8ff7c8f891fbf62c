"""Many inputs of one request, judged in parts: records at once, media a group after the other.

- A part is small enough that others get their turn between two of them, and large enough to be worth its while.
- Only one group of media is unpacked at a time.
- What happens to one part is the answer of its items where another one has been judged, and is on the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from anyio import to_thread

from discern.core.errors import CallerError, DiscernError
from discern.core.verdict import Verdict
from discern.detection.batches import groups
from discern.detection.types import BatchRequest, DetectBatch
from discern.inputs.uploads import Member

_RECORDS_A_PART = 1000


async def judged_records(detect_batch: DetectBatch, batch: BatchRequest) -> list[Verdict | DiscernError]:
    """Return the answers to the contents of `batch`, in order. Raises what `detect_batch` raises for all of them."""
    contents = batch.contents
    if len(contents) <= _RECORDS_A_PART:
        return await detect_batch(batch)
    starts = range(0, len(contents), _RECORDS_A_PART)
    parts = [replace(batch, contents=contents[start : start + _RECORDS_A_PART]) for start in starts]
    found = await asyncio.gather(*(_answers(detect_batch, part) for part in parts))
    first = found[0]
    if isinstance(first, DiscernError) and all(isinstance(answers, DiscernError) for answers in found):
        raise first
    return [
        answer
        for part, answers in zip(parts, found, strict=True)
        for answer in ([answers] * len(part.contents) if isinstance(answers, DiscernError) else answers)
    ]


async def judged_media(
    detect_batch: DetectBatch, batch: BatchRequest, members: Sequence[Member]
) -> AsyncGenerator[list[Verdict | DiscernError], None]:
    """Yield the answers to `members`, in order, group by group; `batch` says who asks what, its contents are not used.

    Raises what `detect_batch` raises where nothing has been judged yet.
    """
    answered = False
    for group in groups(members):
        contents = await to_thread.run_sync(_contents, group)
        answers = await _answers(detect_batch, replace(batch, contents=contents))
        if isinstance(answers, DiscernError):
            if not answered:
                raise answers
            answers = [answers] * len(group)
        answered = True
        yield answers


async def _answers(detect_batch: DetectBatch, batch: BatchRequest) -> list[Verdict | DiscernError] | DiscernError:
    try:
        return await detect_batch(batch)
    except DiscernError as error:
        return error


def _contents(group: Sequence[Member]) -> list[bytes | DiscernError]:
    return [_content(member) for member in group]


def _content(member: Member) -> bytes | DiscernError:
    try:
        return member.read()
    except CallerError as error:
        return error
