"""A stage while it is made: what training hands on to measuring, the card and the export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recipes.synthetic_face.measure import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recipes.synthetic_face.features import ForensicFeatures
    from recipes.synthetic_face.stack import FittedStack, StackSettings

    Floats = NDArray[np.float64]


@dataclass
class Stage:
    """A stage while it is made: its fitted parts, out-of-fold log odds on clean rows, and temperature."""

    name: str
    settings: StackSettings
    features: ForensicFeatures
    fitted: FittedStack
    odds: Floats
    temperature: float

    @property
    def score(self) -> Floats:
        """Calibrated out-of-fold scores of the clean development rows."""
        return sigmoid(self.odds / self.temperature)
