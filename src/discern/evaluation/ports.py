"""What the run needs from outside: labelled items, in pieces, and detectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from discern.evaluation.types import Examples, Item
    from discern.inputs.types import MediaContent

Watcher = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class MediaPiece:
    """Items from row `start` on, and the content of each: as `prepare_media` takes it."""

    start: int
    items: tuple[Item, ...]
    contents: tuple[MediaContent, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.items)


@dataclass(frozen=True, slots=True)
class RowsPiece:
    """Records from row `start` on, float32 [rows, fields] in the manifest's order; `refused` says why some are none."""

    start: int
    matrix: NDArray[np.float32]
    refused: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.matrix)


Piece = MediaPiece | RowsPiece


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the scoring of one dataset is. `resumed` rows were scored before."""

    dataset: str
    rows: int
    total: int
    resumed: int
    seconds: float


class ItemSource(Protocol):
    """A dataset that is to be scored.

    Row i of `examples` is the i-th row of the pieces. Pieces are cut at the same rows every time, so that what is
    scored together does not depend on where a run was interrupted. What cannot be read is an error that names it:
    refuse.
    """

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def manifest_sha256(self) -> str:
        """The digest that pins what was measured."""
        ...

    @property
    def may_be_shown(self) -> bool:
        """Whether a report may hold pictures of its items."""
        ...

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader must know of it, a sentence each."""
        ...

    @property
    def leakage(self) -> Any | None:  # noqa: ANN401 - a part of the result that this feature's other files define
        """What its leakage checks found, None where none ran."""
        ...

    def examples(self) -> Examples:
        """Return the labelled items as columns."""
        ...

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield the pieces from row `skip` on, which is where a piece begins."""
        ...

    def content(self, row: int) -> MediaContent:
        """Return the content of one item, for a thumbnail. Only media have it."""
        ...
