"""What a label may say, and which verdicts are held out for labelling. Pure.

- Whether a verdict is held out follows from its id and a secret of the installation, whatever was decided: nobody who
  asks can tell, and the share of the held out among any verdicts is the share that is set.
- A larger share holds out what a smaller one does, and more.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from discern.core.errors import CallerError
from discern.review.types import UNKNOWN, LabelLine, LabelRequest, Line, Selection

# Clocks differ, and no label is from the day after tomorrow.
_AHEAD = timedelta(minutes=5)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def draw_of(secret: bytes, verdict_id: UUID) -> float:
    """Return a number in [0, 1) that is as good as drawn at random for each id: HMAC-SHA256 (RFC 2104) of it."""
    digest = hmac.new(secret, b"hold-out\0" + verdict_id.bytes, hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def class_of(label: str | None, classes: tuple[str, str]) -> bool | None:
    """Return whether a label says the positive class, of (negative, positive); None where nobody can tell.

    Raises CallerError for what is neither.
    """
    negative, positive = classes
    if label == positive:
        return True
    if label == negative:
        return False
    if label is None or label == UNKNOWN:
        return None
    raise CallerError(
        f"The label {label[:100]!r} is no class of the detector.",
        mend=f"Say {negative!r}, {positive!r}, or {UNKNOWN!r} where nobody can tell.",
    )


def check_time(labelled_at: datetime | None, now: datetime) -> None:
    """Raise CallerError for a time at which nothing can have become true."""
    if labelled_at is None or _EARLIEST <= labelled_at <= now + _AHEAD:
        return
    when = "ahead of the server's clock" if labelled_at > now else "before the year 2000"
    raise CallerError(f"`labelled_at` {labelled_at.isoformat()} is {when}.", mend="Give the time it became true.")


def propensity_of(request: LabelRequest, draw: float, share: float) -> tuple[Selection, float | None]:
    """Return how a verdict came to be labelled, and with which probability.

    `draw` is the verdict's own, `share` that of the hold-out, 0 where there is none. Raises CallerError for what
    cannot be.
    """
    selected, given = request.selected_by, request.propensity
    if selected == "unknown":
        if given is not None:
            raise CallerError(
                "A propensity is given without how the verdict was selected.",
                mend="Say `selected_by`: sampled, unblocked, flagged or holdout.",
            )
        return selected, None
    if selected == "holdout":
        if draw >= (share if given is None else given):
            raise CallerError(
                f"The verdict is not in the random hold-out of {share if given is None else given:g}.",
                mend="`discern label wanted` lists those that are. Say otherwise how it was selected.",
            )
        return selected, share if given is None else given
    if selected in {"sampled", "unblocked"} and given is None:
        raise CallerError(
            f"A verdict that was {selected} needs the probability with which it was.", mend="Give `propensity`."
        )
    return selected, 1.0 if given is None else given


def line_of(fields: object, *, strict: bool) -> Line:
    """Return a line as labels take it, or what is wrong with it. Where it is not `strict`, numbers may be text."""
    try:
        return msgspec.convert(fields, LabelLine, strict=strict)
    except msgspec.ValidationError as error:
        return CallerError(f"The line is no label: {error}.", mend="It has verdict_id and label: see /docs.")
