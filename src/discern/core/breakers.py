"""A circuit breaker: whoever keeps failing is left alone for a while, then tried once. Pure.

- Closed: everything passes. After so many failures in a row it opens.
- Open: nothing passes, for a time that doubles each time it opens again.
- Half-open: one passes; its outcome closes or opens it.
- Times are of a monotonic clock, in seconds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

BreakerState = Literal["closed", "half-open", "open"]
_FAILURES = 5
_FIRST_SECONDS = 15.0
_MOST_SECONDS = 300.0


class Breaker(NamedTuple):
    """A breaker as it is: failures in a row, how often it has opened since it was closed, and until when it is."""

    failures: int = 0
    openings: int = 0
    until: float = 0.0

    def state(self, now: float) -> BreakerState:
        """Return its state."""
        if not self.openings:
            return "closed"
        return "open" if now < self.until else "half-open"

    def room(self, now: float, under_way: int) -> bool:
        """Tell whether one more may pass, where so many are under way."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not under_way)

    def failed(self, now: float) -> Breaker:
        """Return it after a failure."""
        failures = self.failures + 1
        if failures < _FAILURES and not self.openings:
            return self._replace(failures=failures)
        if self.state(now) == "open":  # one that was under way when it opened
            return self._replace(failures=failures)
        pause = min(_MOST_SECONDS, _FIRST_SECONDS * 2**self.openings)
        return Breaker(failures, min(self.openings + 1, 10), now + pause)

    def succeeded(self) -> Breaker:
        """Return it after a success."""
        return Breaker()
