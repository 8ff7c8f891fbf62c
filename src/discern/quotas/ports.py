"""What those who answer need of quotas."""

from __future__ import annotations

from typing import Protocol

from discern.quotas.types import Amount


class Meter(Protocol):
    """Takes what is asked for out of a quota. Down means refuse, where there is a quota, with StorageUnavailable."""

    def take_at_once(self, workspace: str, amount: Amount) -> bool:
        """Take an amount where nobody has to be asked; False, and nothing taken, where `take` is to do it."""
        ...

    def take(self, workspace: str, amount: Amount) -> None:
        """Take an amount, from a thread that may wait. Raises QuotaExceeded and StorageUnavailable."""
        ...

    def give_back(self, workspace: str, amount: Amount) -> None:
        """Give back what was taken and came to no verdict."""
        ...
