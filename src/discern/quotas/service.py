"""Counting what is asked for, in the process, and settling it with the database in groups.

- A quota is never exceeded, by any number of processes: each is granted a share of what is left before it uses it, and
  what it did not use goes back with the next settling. Near the quota a process may refuse what another still holds.
- Where there is no quota it is counted and written down with the next settling; what a process had not written down
  when it was killed is not counted.
- A quota that is changed holds everywhere after the next settling of each process.
- What was refused a moment ago is refused again without asking the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from discern.access.types import LOCAL, Principal
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import QuotaExceeded, StorageUnavailable
from discern.core.months import Month
from discern.quotas.rules import Limit, check_quota
from discern.quotas.store import QuotaStore
from discern.quotas.types import NOTHING, Amount, Quota, Standing, Usage

log = logging.getLogger(__name__)
_REFUSED_SECONDS = 1.0
_NAMES: dict[Limit, str] = {"verdicts": "verdicts", "bytes": "bytes of images and videos"}


@dataclass(slots=True)
class _Account:
    """A workspace in this process: what it was granted of `month` and what it used since it was last settled.

    `before` is what was taken when it was granted something, of all processes.
    """

    month: Month
    ends: float
    quota: Quota
    before: Amount = NOTHING
    granted: Amount = NOTHING
    used: Amount = NOTHING

    def takes(self, amount: Amount) -> bool:
        """Take an amount, if that needs no further grant; tell whether it was taken."""
        verdicts, size = self.used[0] + amount[0], self.used[1] + amount[1]
        quota = self.quota
        if quota.verdicts is not None and verdicts > self.granted[0]:
            return False
        if quota.bytes is not None and amount[1] and size > self.granted[1]:
            return False
        self.used = Amount(verdicts, size)
        return True


class Quotas:
    """The quotas of an installation, and the meter of this process. Thread-safe."""

    def __init__(
        self, store: QuotaStore, clock: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Held while the database is asked, so that threads which lack the same do not ask for it many times.
        self._asking = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        # Those that were settled since anything was taken from them: what they knew still tells how a workspace stands.
        self._settled: dict[str, _Account] = {}
        self._owed: dict[str, Amount] = {}
        self._refusals: dict[str, tuple[float, Amount, QuotaExceeded]] = {}

    def quota(self, workspace: str) -> Quota:
        """Return what a workspace may ask for in a month."""
        return self._store.quota(workspace)

    def change(self, workspace: str, quota: Quota, by: Principal = LOCAL) -> None:
        """Set what a workspace may ask for in a month. Raises CallerError."""
        check_quota(quota)
        before, after = (msgspec.to_builtins(one) for one in (self._store.quota(workspace), quota))
        act = Act(workspace, by.id, "quotas.change", f"workspace:{workspace}", before=before, after=after)
        self._store.change(workspace, quota, act)

    def usage(self, workspace: str) -> Usage:
        """Return what a workspace has asked for this month, here until now, elsewhere until the last settling."""
        self._settle(workspace)
        month = Month.of(self._clock())
        used = self._store.used(workspace, month)
        return Usage(str(month), used.verdicts, used.bytes, self._store.quota(workspace), month.end)

    def take_at_once(self, workspace: str, amount: Amount) -> bool:
        """Take an amount where nobody has to be asked; False, and nothing taken, where `take` is to do it."""
        with self._lock:
            account = self._accounts.get(workspace)
            if account is None or self._clock().timestamp() >= account.ends:
                return False
            return account.takes(amount)

    def take(self, workspace: str, amount: Amount) -> None:
        """Take an amount, from a thread that may wait. Raises QuotaExceeded and StorageUnavailable."""
        if self.take_at_once(workspace, amount):
            return
        with self._asking:
            if self.take_at_once(workspace, amount):  # somebody else has asked for enough
                return
            self._refuse_again(workspace, amount)
            self._settle_one(workspace)
            month = Month.of(self._clock())
            quota, granted, before, refused = self._store.take(workspace, month, amount)
            if refused is not None:
                raise self._refusal(workspace, month, quota, amount, (refused, before))
            account = _Account(month, month.end.timestamp(), quota, before, granted)
            with self._lock:
                account.takes(amount)
                account.used = account.used.minus(self._owed.pop(workspace, NOTHING))
                self._accounts[workspace] = account

    def standing(self, workspace: str) -> Standing | None:
        """Return how a workspace stands, as far as this process knows, at once; None where it has no quota."""
        with self._lock:
            account = self._accounts.get(workspace) or self._settled.get(workspace)
            # Every answer asks, and most workspaces have no quota.
            if account is None or (account.quota.verdicts is None and account.quota.bytes is None):
                return None
            left = account.ends - self._clock().timestamp()
            if left <= 0:
                return None
            taken = account.before.plus(account.used)
            quota, reset = account.quota, max(1, round(left))
        limits = ((quota.verdicts, taken.verdicts), (quota.bytes, taken.bytes))
        found = [Standing(limit, max(0, limit - gone), reset) for limit, gone in limits if limit is not None]
        return min(found, key=lambda one: one.remaining / max(1, one.amount), default=None)

    def give_back(self, workspace: str, amount: Amount) -> None:
        """Give back what was taken and came to no verdict."""
        with self._lock:
            account = self._accounts.get(workspace)
            # It may have been settled meanwhile: then less than nothing was used since, and that is settled too.
            if account is not None:
                account.used = account.used.minus(amount)
            else:
                self._owed[workspace] = self._owed.get(workspace, NOTHING).plus(amount)

    def settle(self) -> None:
        """Write down what was used, give back what was granted beyond it, and read the quotas anew. Raises nothing."""
        for workspace in list(self._accounts):
            try:
                self._settle(workspace)
            except StorageUnavailable as error:
                log.warning("quota_uses_not_written", extra={"detail": str(error)})
                return

    def _settle(self, workspace: str) -> None:
        with self._asking:
            self._settle_one(workspace)

    def _settle_one(self, workspace: str) -> None:
        """End the account of a workspace; the next who takes something opens another. `_asking` is held."""
        with self._lock:
            account = self._accounts.pop(workspace, None)
            if account is not None:
                self._settled[workspace] = account
        if account is None or account.used == account.granted:
            return
        try:
            limits = account.quota.verdicts is not None, account.quota.bytes is not None
            granted = Amount(*(one if limited else 0 for one, limited in zip(account.granted, limits, strict=True)))
            self._store.add(workspace, account.month, account.used.minus(granted))
        except StorageUnavailable:
            with self._lock:
                self._accounts[workspace] = account
            raise

    def _refuse_again(self, workspace: str, amount: Amount) -> None:
        until, least, error = self._refusals.get(workspace, (0.0, amount, None))
        if error is not None and self._monotonic() < until and amount[0] >= least[0] and amount[1] >= least[1]:
            raise QuotaExceeded(error.detail, mend=error.mend, retry_after=error.retry_after, **error.facts)

    def _refusal(
        self, workspace: str, month: Month, quota: Quota, asked: Amount, refused: tuple[Limit, Amount]
    ) -> QuotaExceeded:
        limit, used = refused
        error = QuotaExceeded(
            f"The workspace may ask for {getattr(quota, limit)} {_NAMES[limit]} in {month}.",
            mend="Ask again next month, or have the operator raise it: `discern quota set`.",
            retry_after=max(1.0, (month.end - self._clock()).total_seconds()),
            quota=limit,
            allowed=getattr(quota, limit),
            used=getattr(used, limit),
            asked=getattr(asked, limit),
            resets_at=month.end.isoformat().replace("+00:00", "Z"),
        )
        self._refusals[workspace] = self._monotonic() + _REFUSED_SECONDS, asked, error
        return error
