"""How a bundle is refused: one sentence that names the file and the reason, and what to do about it.

- What a bundle's author chose (names, values) is shown with control characters escaped and cut short.
"""

from __future__ import annotations

from discern.core.errors import BundleRefused, BundleUntrusted

_SHOWN = 300


def printable(text: object, limit: int = _SHOWN) -> str:
    """Return `text` fit for a terminal or a log line: unprintable characters escaped, at most `limit` of them."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def refused(file: str, reason: str, mend: str | None = None) -> BundleRefused:
    """Return the error for a bundle that is not what a bundle must be; `file` is relative to the bundle."""
    name = printable(file)
    return BundleRefused(f"{name}: {reason}.", mend=mend, file=name, reason=reason)


def untrusted(file: str, reason: str, mend: str | None = None) -> BundleUntrusted:
    """Return the error for a bundle whose signature does not hold."""
    name = printable(file)
    return BundleUntrusted(f"{name}: {reason}.", mend=mend, file=name, reason=reason)
