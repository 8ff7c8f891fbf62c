"""What the run is given, in pieces, and what it tells of how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class Labelled(Protocol):
    """Labelled items in pieces; row i of the pieces is row i of `examples`, and `manifest_sha256` pins them."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def manifest_sha256(self) -> str:
        """The digest of what is measured."""
        ...

    @property
    def examples(self) -> Examples:
        """The items as columns."""
        ...

    def pieces(self, skip: int) -> Iterator[Piece]:
        """Yield the pieces from row `skip` on, which is where a piece begins."""
        ...
