"""What others need of access, and what access needs of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from discern.access.types import Action, Principal, Resource


class Permit(Protocol):
    """Whether somebody may do something."""

    def check(self, principal: Principal, action: Action, resource: Resource) -> None:
        """Raise Forbidden, which is on record then, unless it is permitted."""
        ...

    def allows(self, principal: Principal, action: Action, resource: Resource) -> bool:
        """Tell whether it is permitted; nothing goes on record."""
        ...


Body = TypeVar("Body")


class BodyReader(Protocol):
    """Reads the JSON body of an HTTP request."""

    async def __call__(self, request: Any, kind: type[Body], /) -> Body:  # noqa: ANN401
        """Return the body as `kind`. Raises MalformedRequest and SlowSender."""
        ...


PrincipalReader = Callable[[Any], Principal]
"""Tells who sent an HTTP request, given as a connection or its scope."""
