"""What jobs need from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import UUID

from discern.access.types import Principal
from discern.core.verdict import Verdict
from discern.objects.types import Address


class VerdictReader(Protocol):
    """The ledger, to see whether a verdict is there already. When it is down it raises StorageUnavailable."""

    def get(self, workspace: str, verdict_id: UUID) -> Verdict | None:
        """Return a verdict, or None."""
        ...


class TableScorer(Protocol):
    """Scores a table of records that is kept as `given` into the result beside it.

    It goes on where an earlier call ended, on whichever machine that was.
    """

    def __call__(
        self,
        given: Address,
        detector: tuple[str, str],
        principal: Principal,
        watch: Callable[[float, int], None],
    ) -> int:
        """Tell `watch` the share and the rows that are done; return how many could not be judged.

        Raises what `watch` raises, and DiscernError.
        """
        ...


class Poster(Protocol):
    """Sends a POST to an address somebody else chose. Private addresses are refused when it connects."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer. Raises OSError, or CallerError for an address that is refused."""
        ...


ProblemOf = Callable[[Any], dict[str, Any]]
