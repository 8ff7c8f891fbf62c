"""Circuit breakers: whoever keeps failing is left alone for a while, then tried once.

- Closed: everything passes. After so many failures in a row it opens.
- Open: nothing passes, for a time that doubles each time it opens again.
- Half-open: one passes; its outcome closes or opens it.
- Times are of a monotonic clock, in seconds: one that people set back or forward changes nothing.
- `Breaker` is pure; a `Guard` keeps one for many threads; `Breakers` has all of a process, and tells of each change.
- `Guards` has those whose names workspaces choose, such as hosts: what fails for one workspace is left alone for
  that one, no more than so many are kept, and a workspace that names many makes room among its own.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

BreakerState = Literal["closed", "half-open", "open"]


class Patience(NamedTuple):
    """After how many failures in a row a breaker opens, for how many seconds at first, and at most."""

    failures: int = 5
    first_seconds: float = 15.0
    most_seconds: float = 300.0


DEFAULT_PATIENCE = Patience()


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

    def failed(self, now: float, patience: Patience = DEFAULT_PATIENCE) -> Breaker:
        """Return it after a failure."""
        failures = self.failures + 1
        if failures < patience.failures and not self.openings:
            return self._replace(failures=failures)
        if self.state(now) == "open":  # one that was under way when it opened
            return self._replace(failures=failures)
        pause = min(patience.most_seconds, patience.first_seconds * 2**self.openings)
        return Breaker(failures, min(self.openings + 1, 10), now + pause)

    def succeeded(self) -> Breaker:
        """Return it after a success."""
        return Breaker()


class BreakerReading(NamedTuple):
    """What is seen of a breaker: `seconds` is how long ago it closed, or first opened since; `reason` why it opened.

    `workspace` is the one that it is of, None where it is the installation's.
    """

    part: str
    name: str
    state: BreakerState
    failures: int
    seconds: float
    reason: str
    workspace: str | None = None


Listener = Callable[[str, str, BreakerState, str], None]
"""Is told part, name, state and reason when a breaker opens or closes. It raises nothing and does not wait."""


class Guard:
    """A breaker that many threads ask. Whoever is let through says what came of it."""

    def __init__(
        self,
        part: str,
        name: str,
        patience: Patience = DEFAULT_PATIENCE,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.part = part
        self.name = name
        self._patience = patience
        self._listener = listener
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = Breaker()
        self._probing_since: float | None = None
        self._since = clock()
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether everything passes; asking costs nothing."""
        return not self._breaker.openings

    def admits(self) -> bool:
        """Tell whether one more may pass. In the half-open state it is the one that is tried."""
        if not self._breaker.openings:
            return True
        with self._lock:
            now = self._clock()
            # Who never said what came of the try is not waited for any longer than a pause.
            lost = self._probing_since is not None and now - self._probing_since > self._patience.first_seconds
            if not self._breaker.room(now, int(self._probing_since is not None and not lost)):
                return False
            if self._breaker.openings:
                self._probing_since = now
            return True

    def seconds_left(self) -> float:
        """Return for how long nothing will pass."""
        return max(0.0, self._breaker.until - self._clock())

    def succeeded(self) -> None:
        """Say that it went well."""
        if not self._breaker.failures:  # the common case, without the lock
            return
        with self._lock:
            was_open = self._breaker.openings > 0
            self._breaker = self._breaker.succeeded()
            self._probing_since = None
            if not was_open:
                return
            self._since = self._clock()
            reason, self._reason = self._reason, ""
        if self._listener is not None:
            self._listener(self.part, self.name, "closed", reason)

    def failed(self, reason: str) -> bool:
        """Say that it did not, and why; tell whether that opened it."""
        with self._lock:
            now, before = self._clock(), self._breaker
            self._breaker = before.failed(now, self._patience)
            self._probing_since = None
            opened = self._breaker.openings > before.openings
            if not opened:
                return False
            if not before.openings:
                self._since = now
            self._reason = reason
        if not before.openings and self._listener is not None:
            self._listener(self.part, self.name, "open", reason)
        return True

    def reading(self) -> BreakerReading:
        """Return what is seen of it."""
        with self._lock:
            now = self._clock()
            state = self._breaker.state(now)
            return BreakerReading(
                self.part, self.name, state, self._breaker.failures, max(0.0, now - self._since), self._reason
            )


class Guards:
    """Guards of one part, for names that workspaces choose: the `most` that were used last."""

    def __init__(
        self, part: str, most: int, patience: Patience = DEFAULT_PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._part = part
        self._most = most
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        # In the order of their last use, the longest ago first.
        self._guards: dict[tuple[str, str], Guard] = {}

    def of(self, workspace: str, name: str) -> Guard:
        """Return what guards a name for a workspace."""
        key = workspace, name
        with self._lock:
            found = self._guards.pop(key, None) or Guard(self._part, name, self._patience, clock=self._clock)
            if len(self._guards) >= self._most:
                del self._guards[self._surplus()]
            self._guards[key] = found
            return found

    def readings(self) -> list[BreakerReading]:
        """Return what is seen of those that are not closed, in the order of workspace and name."""
        with self._lock:
            there = [(key, self._guards[key]) for key in sorted(self._guards)]
        return [guard.reading()._replace(workspace=key[0]) for key, guard in there if not guard.is_closed]

    def worst(self) -> BreakerState:
        """Return the worst state that any of them is in."""
        states = {one.state for one in self.readings()}
        return "open" if "open" in states else "half-open" if states else "closed"

    def _surplus(self) -> tuple[str, str]:
        """Return the one that makes room: the oldest of the workspace that has the most."""
        (largest, _), *_ = Counter(workspace for workspace, _ in self._guards).most_common(1)
        return next(key for key in self._guards if key[0] == largest)


class Breakers:
    """The breakers of one process. `listener` is told of every change; it may be set once all is put together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.listener: Listener | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._guards: dict[tuple[str, str], Guard] = {}
        self._many: dict[str, Guards] = {}

    def guard(self, part: str, name: str, patience: Patience = DEFAULT_PATIENCE) -> Guard:
        """Return a guard for something; it takes the place of what had its name before."""
        made = Guard(part, name, patience, self._tell, self._clock)
        with self._lock:
            self._guards[part, name] = made
        return made

    def guards(self, part: str, most: int, patience: Patience = DEFAULT_PATIENCE) -> Guards:
        """Return guards for names that workspaces choose. Nobody is told when one of them opens."""
        made = Guards(part, most, patience, self._clock)
        with self._lock:
            self._many[part] = made
        return made

    def many(self) -> dict[str, Guards]:
        """Return the guards for names that workspaces choose, by their part."""
        with self._lock:
            return dict(self._many)

    def readings(self) -> list[BreakerReading]:
        """Return what is seen of each of the installation's, in the order of part and name."""
        with self._lock:
            guards = [self._guards[key] for key in sorted(self._guards)]
        return [guard.reading() for guard in guards]

    def _tell(self, part: str, name: str, state: BreakerState, reason: str) -> None:
        if self.listener is not None:
            self.listener(part, name, state, reason)
