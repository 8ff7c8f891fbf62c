"""What parts, breakers and a certificate amount to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from discern.monitoring.health.types import BreakerHealth, PartHealth, Status

CERTIFICATE_WARNING = timedelta(days=14)


def concluded(
    parts: Sequence[PartHealth],
    breakers: Sequence[BreakerHealth],
    certificate_expires_at: datetime | None,
    now: datetime,
) -> tuple[Status, str]:
    """Return the status and the sentence that says it; the worst is said first."""
    down = [part for part in parts if not part.up]
    said = [
        f"{part.name} does not answer ({part.reason or part.code})"
        for part in sorted(down, key=lambda part: not part.needed)
    ]
    said += [
        f"{one.part} {one.name} is left alone{f' ({one.reason})' if one.reason else ''}"
        for one in breakers
        if one.state != "closed"
    ]
    if certificate_expires_at is not None and certificate_expires_at - now < CERTIFICATE_WARNING:
        word = "has expired" if certificate_expires_at <= now else "expires"
        said.append(f"the certificate {word} at {certificate_expires_at.isoformat(timespec='minutes')}")
    if not said:
        return "ok", "Every part answers."
    sentence = "; ".join(said)
    return "failing" if any(part.needed for part in down) else "degraded", f"{sentence[0].upper()}{sentence[1:]}."
