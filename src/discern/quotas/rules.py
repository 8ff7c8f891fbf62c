"""What a process is granted of a quota at a time. Pure.

- What all processes are granted is never more than the quota.
- The nearer the quota, the smaller the share, so that little lies with processes that do not need it.
"""

from __future__ import annotations

from typing import Literal

from discern.core.errors import CallerError
from discern.quotas.types import Amount, Quota

_MOST_VERDICTS = 1000
_MOST_BYTES = 100_000_000
_SHARE = 16
Limit = Literal["verdicts", "bytes"]


def exceeded(quota: Quota, used: Amount, asked: Amount) -> Limit | None:
    """Return which of the two limits does not allow `asked` after `used`; None where both do."""
    if quota.verdicts is not None and used.verdicts + asked.verdicts > quota.verdicts:
        return "verdicts"
    # What has no bytes needs none.
    if quota.bytes is not None and asked.bytes and used.bytes + asked.bytes > quota.bytes:
        return "bytes"
    return None


def grant(quota: Quota, used: Amount, asked: Amount) -> Amount:
    """Return what a process that asks for `asked`, which is not too much, is granted: that much, or some in advance."""
    return Amount(
        _granted(quota.verdicts, used.verdicts, asked.verdicts, _MOST_VERDICTS),
        _granted(quota.bytes, used.bytes, asked.bytes, _MOST_BYTES),
    )


def _granted(limit: int | None, used: int, asked: int, most: int) -> int:
    if limit is None or not asked:
        return 0
    return max(asked, min(most, (limit - used) // _SHARE))


def check_quota(quota: Quota) -> None:
    """Raise CallerError for a quota that cannot be."""
    for amount in (quota.verdicts, quota.bytes):
        if amount is not None and not 0 <= amount < 2**62:
            raise CallerError(f"A quota cannot be {amount}.", mend="Give a number from 0 on, or none.")
