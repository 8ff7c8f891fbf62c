"""What detection needs from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar
from uuid import UUID

from discern.core.errors import DiscernError
from discern.core.verdict import InputKind
from discern.detection.types import LedgerEntry
from discern.detectors.assessment import Detector
from discern.privacy.ports import SUBJECT_PARAMETER
from discern.registry.types import Usable

QUESTION_PARAMETERS: list[dict[str, Any]] = [
    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
    {
        "name": "version",
        "in": "query",
        "required": False,
        "schema": {"type": "string"},
        "description": "A version other than the one that answers by default.",
    },
    SUBJECT_PARAMETER,
]
"""What the OpenAPI document says of the parameters of every route that asks a detector."""


class DetectorSource(Protocol):
    """Where detectors come from. What cannot be given is UnknownDetector or BundleRefused: refuse."""

    def find(self, name: str, version: str | None = None) -> Usable:
        """Return a usable bundle, quickly."""
        ...

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return a detector ready to run, which may take seconds the first time."""
        ...

    def loaded(self, name: str, version: str | None = None) -> Detector | None:
        """Return a detector that is loaded, at once, or None where `get` has to be asked."""
        ...

    def taking(self, kind: InputKind) -> list[str]:
        """Return the names of the usable detectors that take this kind of input, those over time where no others do."""
        ...


class Ledger(Protocol):
    """Where verdicts are kept. When it is down it raises StorageUnavailable, and the answer is refused."""

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Write verdicts with their principals in one transaction; on return they survive the death of the process."""
        ...

    @property
    def is_quick(self) -> bool:
        """Whether `append_at_once` may ever write: False where every write waits for a disk or a network."""
        ...

    def append_at_once(self, entries: Sequence[LedgerEntry]) -> bool:
        """Do the same where it takes no waiting, from the event loop; False where `append` is to do it."""
        ...

    def tidy(self) -> None:
        """Do, now and then and from a thread, the work that writing leaves, beside further writing."""
        ...

    def finish_tidying(self) -> None:
        """Do what is left of it, soon after `tidy` and while nothing is written."""
        ...


class Watcher(Protocol):
    """Whoever takes note of what was answered. It costs next to nothing, and raises nothing."""

    def recorded(self, entries: Sequence[LedgerEntry]) -> None:
        """Take note of verdicts that are on the ledger from here on, those of one transaction.

        Called on the event loop, before they are sent.
        """
        ...


Given_contra = TypeVar("Given_contra", contravariant=True)


class Answering(Protocol[Given_contra]):
    """Where the answer to a question goes: a future, or what does without one."""

    def done(self) -> bool:
        """Tell whether nobody waits for it any more."""
        ...

    def set_result(self, result: Given_contra, /) -> None:
        """Give the answer."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Say that there is none, and why."""
        ...


class InputReader(Protocol):
    """Reads the input of an HTTP request under a limit, and accounts for its memory while it is held."""

    def __call__(self, request: Any, setting: str, most: int) -> AbstractAsyncContextManager[bytes]:  # noqa: ANN401
        """Give the bytes. Raises InputTooLarge naming `setting`, MalformedRequest, or Overloaded before any is read."""
        ...


class InputBodies(Protocol):
    """What of HTTP the route of a single verdict needs: the reader, and the account of bodies that are here whole."""

    async def first(self, receive: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        """Return the first message of a body. Raises SlowSender."""
        ...

    def hold(self, size: int) -> None:
        """Take a place and `size` bytes. Raises Overloaded."""
        ...

    def release(self, size: int) -> None:
        """Give back what `hold` took."""
        ...

    def read(self, request: Any, setting: str, most: int) -> AbstractAsyncContextManager[bytes]:  # noqa: ANN401
        """Do as InputReader does."""
        ...


class HoldsOut(Protocol):
    """The random hold-out."""

    def teller(self) -> Callable[[UUID], bool]:
        """Return what tells whether a verdict is held out. Raises CallerError where nothing is."""
        ...


class WholeBodies(Protocol):
    """Reads the bodies of HTTP requests as they are, multipart ones too."""

    def read(self, request: Any, setting: str, most: int, *, whole: bool) -> AbstractAsyncContextManager[bytes]:  # noqa: ANN401
        """Do as InputReader does; with `whole` the body is given as it came."""
        ...


ProblemReader = Callable[[DiscernError], dict[str, Any]]
"""Tells the members of the problem document that an error has over HTTP."""
