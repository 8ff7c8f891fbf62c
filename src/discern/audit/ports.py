"""What others need of the audit log, and where anchors go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from discern.audit.types import Act, Anchor


class Trail(Protocol):
    """What puts acts on record."""

    def append(self, connection: Any, act: Act) -> None:  # noqa: ANN401 - a transaction of the store's
        """Put an act on record in the transaction that does it: both are there, or neither."""
        ...

    def record(self, act: Act) -> None:
        """Put an act on record by itself. Raises StorageUnavailable when that cannot be."""
        ...


class NoTrail:
    """Keeps nothing: for parts that are tried by themselves."""

    def append(self, connection: Any, act: Act) -> None:  # noqa: ANN401
        """Do nothing."""

    def record(self, act: Act) -> None:
        """Do nothing."""


class AnchorPlace(Protocol):
    """Where anchors are kept, outside the database."""

    def put(self, anchor: Anchor) -> None:
        """Keep an anchor. Raises OperatorError when it cannot be kept; it is tried again later."""
        ...

    def all(self) -> Iterable[Anchor] | None:
        """Return every anchor there is, or None where the place cannot be read back."""
        ...
