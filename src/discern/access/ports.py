"""What others need of access, and what access needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from discern.access.types import Action, Principal, Resource
from discern.access.types_federation import Attempt, Found, Identity


class Permit(Protocol):
    """Whether somebody may do something."""

    def check(self, principal: Principal, action: Action, resource: Resource) -> None:
        """Raise Forbidden, which is on record then, unless it is permitted."""
        ...

    def check_enrolled(self, principal: Principal, route: str) -> None:
        """Raise SecondFactorNeeded, which is on record then, for whoever must enrol a second factor first."""
        ...

    def check_fresh(self, principal: Principal, route: str) -> None:
        """Raise FreshProofNeeded, which is on record then, for a session whose proof is old."""
        ...

    def allows(self, principal: Principal, action: Action, resource: Resource) -> bool:
        """Tell whether it is permitted; nothing goes on record."""
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


class Fetch(Protocol):
    """The one way out over HTTP, to a provider that the operator named and to what that names."""

    def __call__(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return status and body of the answer. Raises OSError, or MalformedRequest for an address not to be called."""
        ...


class Redirecting(Protocol):
    """An identity provider that browsers are sent to and come back from with an answer."""

    def check(self) -> str:
        """Return a sentence about what is found of it. Raises ProviderUnavailable."""
        ...

    def begin(self, attempt: Attempt) -> str:
        """Return the URL to send the browser to. Raises ProviderUnavailable."""
        ...

    def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Identity:
        """Return whom an answer is about. Raises SignInRefused unless it holds, and ProviderUnavailable."""
        ...


class Asking(Protocol):
    """An identity provider that is asked with the name and the password that somebody typed."""

    def check(self) -> str:
        """Return a sentence about what is found of it. Raises ProviderUnavailable."""
        ...

    def find(self, name: str) -> Found | None:
        """Return who goes by a name. Raises ProviderUnavailable."""
        ...

    def proves(self, found: Found | None, password: str) -> bool:
        """Tell whether a password is theirs; nobody's it never is, but it takes as much. Raises ProviderUnavailable."""
        ...
