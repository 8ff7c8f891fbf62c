"""A stage's model that is left alone while it fails, and replaced when its session is what is broken.

- Failures alone do not say whose fault they are: after several in a row the model runs once on zeros, which it did when
  it was vetted. If it does, the inputs were to blame, and nobody else is refused for them.
- If it does not, a session is opened anew from the verified bytes. If that one runs, it takes the old one's place;
  if not, the breaker opens, and what asks meanwhile fails at once.
- After the pause it is tried on zeros again, so nobody's input is the one that finds out.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.breakers import Patience
from discern.detectors.runtime import StageFailed, StageModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from discern.core.breakers import Guard

log = logging.getLogger(__name__)
# Failures in a row after which it is found out whose fault they are.
_FAILURES = 5
STAGE_PATIENCE = Patience(failures=1, first_seconds=15.0, most_seconds=300.0)
"""That of the guard: what it is told of has been found out already."""


class GuardedModel(StageModel):
    """A stage's model behind a guard. `reopen` gives another of the same; `tell` hears that one was replaced.

    `inner` is what runs; its inputs and outputs are those of this one.
    """

    def __init__(
        self, inner: StageModel, guard: Guard, reopen: Callable[[], StageModel], tell: Callable[[str, str], None]
    ) -> None:
        self.name, self.probability = inner.name, inner.probability
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self._inner = inner
        self._guard = guard
        self._reopen = reopen
        self._tell = tell
        self._looking = threading.Lock()
        self._failures = 0
        self._row_shapes: dict[str, tuple[int, ...]] | None = None

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Return what the model does, or raise StageFailed: at once while it is left alone."""
        if not self._guard.is_closed:
            self._try_again()
        try:
            found = self._inner.run(feeds, outputs)
        except StageFailed as failure:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._examine(failure.reason)
            raise
        if self._failures:
            self._failures = 0
        if self._row_shapes is None:
            self._row_shapes = {name: values.shape[1:] for name, values in feeds.items()}
        return found

    def _try_again(self) -> None:
        """Return where the model runs again; raise StageFailed where it is to be left alone."""
        if self._guard.admits():
            self._examine(self._guard.reading().reason)
            if self._guard.is_closed:
                return
        raise StageFailed(
            self.name,
            f"it is left alone for {max(1, round(self._guard.seconds_left()))} s more, because it does not run: "
            f"{self._guard.reading().reason}",
        )

    def _examine(self, reason: str) -> None:
        """Find out whose fault it is, put right what can be, and tell the guard."""
        if not self._looking.acquire(blocking=False):
            return  # another thread is at it
        try:
            self._failures = 0
            if self._fault(self._inner) is None:
                if self._guard.is_closed:
                    log.warning("stage_fails_on_inputs", extra={"stage": self.name, "reason": reason})
                self._guard.succeeded()
            elif self._is_replaced():
                self._guard.succeeded()
                self._tell(self._guard.name, reason)
            else:
                self._guard.failed(reason)
        finally:
            self._looking.release()

    def _is_replaced(self) -> bool:
        """Open the model anew, and tell whether that one runs and has taken its place."""
        try:
            fresh = self._reopen()
        except StageFailed:
            return False
        if self._fault(fresh) is not None:
            return False
        self._inner = fresh
        return True

    def _fault(self, model: StageModel) -> str | None:
        """Return why a model does not run on a row of zeros; None where it does."""
        shapes = self._row_shapes or {info.name: tuple(size or 1 for size in info.shape[1:]) for info in self.inputs}
        feeds = {info.name: np.zeros((1, *shapes[info.name]), info.dtype) for info in self.inputs}
        try:
            model.run(feeds)
        except StageFailed as failure:
            return failure.reason
        return None
