"""What others need of access, and what access needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from discern.access.types import Action, Principal, Resource


class Permit(Protocol):
    """Whether somebody may do something."""

    def check(self, principal: Principal, action: Action, resource: Resource) -> None:
        """Raise Forbidden, which is on record then, unless it is permitted."""
        ...

    def check_enrolled(self, principal: Principal, route: str) -> None:
        """Raise SecondFactorNeeded, which is on record then, for whoever must enrol a second factor first."""
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


class CodeSender(Protocol):
    """Sends a code to a telephone."""

    def check(self) -> None:
        """Raise FactorUnavailable where sending is not set up."""
        ...

    def send(self, number: str, code: str) -> None:
        """Send it. Raises FactorUnavailable where it cannot be sent: who signs in by it does not get in then."""
        ...


Poster = Callable[[str, bytes, Mapping[str, str]], int]
"""Sends a POST of a body and headers to a URL; returns the status of the answer. Raises CallerError and OSError."""
