"""How often somebody may ask: requests a time of a key or a workspace, altogether or on a route, or of an address.

- Windows are fixed: so many requests from the first on, then anew. Over the edge of two windows twice as many may come.
- With Redis a limit holds exactly over all processes. Without it each process counts for itself.
- While Redis is silent each process counts for itself, too: a limit must not become an outage, nor an open door.
- Requests are counted, not inputs: a batch is one. What is in work is bounded by other settings.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from discern.core.errors import InvalidSettings, MissingExtra, RateLimited

if TYPE_CHECKING:
    from collections.abc import Container

    from limits import RateLimitItem

    from discern.access.types import Principal
    from discern.core.counts import Counts

log = logging.getLogger(__name__)
Scope = Literal["key", "workspace", "address"]
_PAUSE_SECONDS = 5.0
_WAIT_SECONDS = 0.25


class Standing(NamedTuple):
    """How somebody stands with the limit that is nearest: of `amount` requests `remaining`, anew in `reset` seconds."""

    amount: int
    remaining: int
    reset: int


@dataclass(frozen=True, slots=True)
class Rule:
    """At most so many requests a time. `route` is a method and a path template; None means all together."""

    item: RateLimitItem
    scope: Scope
    route: str | None
    text: str


class RateLimits:
    """The limits of an installation; `redis_url` empty means that each process counts for itself."""

    def __init__(self, text: str, redis_url: str, counts: Counts) -> None:
        self.rules = rules_of(text)
        self._counts = counts
        self._shared: Any = None
        self._silent_until = 0.0
        if not self.rules:
            return
        from limits.storage import MemoryStorage  # noqa: PLC0415 - an extra, and there: the rules were read with it
        from limits.strategies import FixedWindowRateLimiter  # noqa: PLC0415

        self._local = FixedWindowRateLimiter(MemoryStorage())
        if redis_url:
            from limits.aio.storage import RedisStorage  # noqa: PLC0415
            from limits.aio.strategies import FixedWindowRateLimiter as Shared  # noqa: PLC0415

            self._shared = Shared(
                RedisStorage(
                    f"async+{redis_url}",
                    wrap_exceptions=True,
                    implementation="redispy",
                    key_prefix="discern:limits",
                    socket_timeout=_WAIT_SECONDS,
                    socket_connect_timeout=_WAIT_SECONDS,
                )
            )

    @property
    def is_local(self) -> bool:
        """Whether nobody needs to be asked: `hit_here` answers."""
        return self._shared is None

    def check_routes(self, known: Container[str]) -> None:
        """Raise InvalidSettings for a rule of a route that there is not."""
        for rule in self.rules:
            if rule.route is not None and rule.route not in known:
                mend = "Write it as in the API description: `POST /v1/detectors/{name}/verdicts`."
                raise InvalidSettings(f"rate_limits: there is no route {rule.route!r}.", mend=mend)

    async def hit(self, route: str, address: str, principal: Principal | None) -> Standing | None:
        """Count a request, of an address where `principal` is None, else of its key and workspace.

        Return the standing, None where no limit applies. Raises RateLimited.
        """
        if self._shared is None or time.monotonic() < self._silent_until:
            return self.hit_here(route, address, principal)
        from limits.errors import StorageError  # noqa: PLC0415 - an extra

        nearest = None
        try:
            for rule, whose in self._applying(route, address, principal):
                good = await self._shared.hit(rule.item, *whose)
                stats = await self._shared.get_window_stats(rule.item, *whose)
                nearest = self._judged(rule, stats, nearest, principal, good=good)
        except StorageError as error:
            self._silent_until = time.monotonic() + _PAUSE_SECONDS
            self._counts.add("limits.redis_faults")
            log.warning("rate_limits_counted_here", extra={"fault": type(error).__name__})
            return self.hit_here(route, address, principal)
        return nearest

    def hit_here(self, route: str, address: str, principal: Principal | None) -> Standing | None:
        """Do the same by what this process has counted."""
        nearest = None
        for rule, whose in self._applying(route, address, principal):
            good = self._local.hit(rule.item, *whose)
            stats = self._local.get_window_stats(rule.item, *whose)
            nearest = self._judged(rule, stats, nearest, principal, good=good)
        return nearest

    def _applying(self, route: str, address: str, principal: Principal | None) -> list[tuple[Rule, tuple[str, ...]]]:
        found: list[tuple[Rule, tuple[str, ...]]] = []
        for rule in self.rules:
            if rule.route not in {None, route} or (rule.scope == "address") != (principal is None):
                continue
            whose = address if principal is None else principal.id if rule.scope == "key" else principal.workspace
            found.append((rule, (rule.scope, rule.route or "", whose)))
        return found

    def _judged(
        self,
        rule: Rule,
        stats: Any,  # noqa: ANN401 - the library says no type
        nearest: Standing | None,
        principal: Principal | None,
        *,
        good: bool,
    ) -> Standing:
        reset = max(1, round(stats.reset_time - time.time()))
        if not good:
            self._counts.add("limits.rate_limits", workspace=None if principal is None else principal.workspace)
            raise RateLimited(
                f"More requests than `rate_limits` allows: {rule.text}.",
                mend="Ask more slowly, or have the operator raise it.",
                retry_after=float(reset),
                limit="rate_limits",
                rule=rule.text,
                allowed=rule.item.amount,
            )
        found = Standing(rule.item.amount, max(0, stats.remaining), reset)
        if nearest is None or found.remaining / found.amount < nearest.remaining / nearest.amount:
            return found
        return nearest


def rules_of(text: str) -> tuple[Rule, ...]:
    """Return the rules of a setting such as `key 100/second, workspace 5000/minute, key 10/second POST /v1/keys`.

    Raises InvalidSettings for what is none, MissingExtra where the library is not installed.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        return ()
    try:
        from limits import parse  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "`rate_limits` is set, but its library is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    found = []
    for part in parts:
        scope, _, rest = part.partition(" ")
        rate, _, route = rest.strip().partition(" ")
        try:
            item = parse(rate)
        except ValueError as error:
            raise _no_limit(part) from error
        # Of whoever asks nothing but the address is known before the route is.
        if scope not in get_args(Scope) or (scope == "address" and route):
            raise _no_limit(part)
        found.append(Rule(item, next(one for one in get_args(Scope) if one == scope), route.strip() or None, part))
    return tuple(found)


def _no_limit(part: str) -> InvalidSettings:
    return InvalidSettings(
        f"rate_limits: {part!r} is no limit.",
        mend="Write key, workspace or address, and a rate; of keys and workspaces also the one route it is for: "
        "`key 100/second, address 50/second, key 10/minute POST /v1/keys`.",
        setting="rate_limits",
    )
