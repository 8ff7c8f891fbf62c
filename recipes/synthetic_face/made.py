"""A stage while it is made: what training hands on to measuring, the card and the export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.synthetic_face.measure import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.network import StageNetwork

    Floats = NDArray[np.float64]


@dataclass
class Stage:
    """A stage while it is made: its network, out-of-fold log odds of the development side, and temperature."""

    name: str
    network: StageNetwork
    odds: Floats
    temperature: float

    @property
    def score(self) -> Floats:
        """Calibrated out-of-fold scores of the development side."""
        return sigmoid(self.odds / self.temperature)
