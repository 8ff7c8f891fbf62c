"""What others need of privacy, and what it needs from outside."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from discern.core.verdict import Verdict
from discern.objects.ports import HeldKey, KeyWrapper
from discern.privacy.types import Subject, SubjectJob, SubjectLabel


class Subjects(Protocol):
    """Who asks about whom, at the doors."""

    def admit(self, workspace: str, name: str | None) -> Subject | None:
        """Return the subject of a question, None where none is named. It may wait for the database.

        Raises MalformedRequest for what cannot be a name, ConsentMissing where the workspace asks for consent and there
        is none, SubjectsUnavailable, and StorageUnavailable: without an answer nobody is judged.
        """
        ...

    def may_be_unnamed(self, workspace: str) -> bool:
        """Tell, without waiting, whether questions of a workspace need no subject; False where that is not known."""
        ...

    def again(self, workspace: str, reference: str) -> Subject | None:
        """Return a subject who was admitted before; None where they were erased since. Raises StorageUnavailable."""
        ...


SUBJECT_HEADER = b"discern-subject"
SUBJECT_PARAMETER: dict[str, Any] = {
    "name": "Discern-Subject",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 200},
    "description": "The person that the input is about, by a name that you have for them, in UTF-8. What is kept of "
    "them can be exported and erased.",
}
"""What the OpenAPI document says of the header."""


KEY_KIND = "subject"
"""What the ids of subjects' keys begin with, where these wrap other keys."""


def wrapper_of(subject: Subject) -> KeyWrapper:
    """Return what wraps the keys of objects about a subject: erased with them, these are gone too."""
    return HeldKey(f"{KEY_KIND}:{subject.key_id.hex()}", subject.key)


def subject_of(scope: Any) -> Subject | None:  # noqa: ANN401 - an ASGI scope
    """Return the subject that a question names, as whoever let it in has put it into the scope's state."""
    subject = scope["state"].get("subject")
    assert subject is None or isinstance(subject, Subject)  # noqa: S101 - likewise
    return subject


class Seals(Protocol):
    """What opens the bodies on the ledger."""

    def keys(self, workspace: str, key_ids: Collection[bytes]) -> dict[bytes, bytes]:
        """Return those keys that have not been shredded. Raises StorageUnavailable."""
        ...


class NoSubjects:
    """Knows nobody: for parts that are tried by themselves, and installations without names."""

    def admit(self, workspace: str, name: str | None) -> Subject | None:  # noqa: ARG002
        """Return None."""
        return None

    def may_be_unnamed(self, workspace: str) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def again(self, workspace: str, reference: str) -> Subject | None:  # noqa: ARG002
        """Return None."""
        return None

    def keys(self, workspace: str, key_ids: Collection[bytes]) -> dict[bytes, bytes]:  # noqa: ARG002
        """Return none."""
        return {}


class HeldVerdicts(Protocol):
    """The verdicts that were given about subjects."""

    def about(self, workspace: str, key_id: bytes) -> Iterable[Verdict]:
        """Return those sealed with a key, oldest first. Raises StorageUnavailable."""
        ...

    def forget_about(self, workspace: str, key_id: bytes) -> int:
        """Delete those sealed with a key; return how many there were. Raises StorageUnavailable."""
        ...

    def keys_in_use(self, workspace: str, key_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of the keys that some verdict is sealed with. Raises StorageUnavailable."""
        ...


class HeldJobs(Protocol):
    """The jobs over inputs of subjects."""

    def about(self, workspace: str, reference: str) -> Sequence[SubjectJob]:
        """Return those about a subject, oldest first. Raises StorageUnavailable."""
        ...

    def forget_about(self, workspace: str, reference: str, *, before: datetime) -> int:
        """End those about a subject from before a time, and leave nothing of inputs, errors and webhooks.

        Return how many there were. Raises StorageUnavailable.
        """
        ...


class HeldLabels(Protocol):
    """The labels that verdicts about subjects were given."""

    def about(self, workspace: str, key_id: bytes) -> Sequence[SubjectLabel]:
        """Return those of verdicts that are sealed with a key, oldest first. Raises StorageUnavailable."""
        ...

    def forget_about(self, workspace: str, key_id: bytes) -> int:
        """Delete those of verdicts that are sealed with a key; return how many. Raises StorageUnavailable."""
        ...

    def keys_in_use(self, workspace: str, key_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of the keys that seal a verdict which has a label. Raises StorageUnavailable."""
        ...
