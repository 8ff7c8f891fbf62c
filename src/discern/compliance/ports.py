"""What compliance looks at in other features. Each raises DiscernError when it cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from discern.access.types import ApiKey, User
from discern.audit.types import Verification
from discern.compliance.types import Kept
from discern.registry.types import Listed


class KeyList(Protocol):
    """The API keys."""

    def list(self, workspace: str) -> list[ApiKey]:
        """Return every key of a workspace, ended ones too."""
        ...


class UserList(Protocol):
    """The users."""

    def list(self, workspace: str) -> list[User]:
        """Return every user of a workspace, disabled ones too."""
        ...


class AuditLog(Protocol):
    """The audit log."""

    def verify(self, workspace: str) -> Verification:
        """Return what is found in the log of a workspace."""
        ...


class DetectorList(Protocol):
    """The detectors."""

    def all(self) -> list[Listed]:
        """Return every bundle that was found, refused ones too."""
        ...


WaysIn = Callable[[User], Sequence[str]]
"""Tells by what a user can come in, such as `password`."""

WhatIsKept = Callable[[str], Sequence[Kept]]
"""Tells for how long a workspace keeps what."""

PolicyTexts = Callable[[], Mapping[str, str]]
"""Returns the text of each policy file in force by its name."""
