"""What drift needs from outside."""

from __future__ import annotations

from typing import Protocol

from discern.detectors.assessment import Detector
from discern.registry.types import Usable


class Bundles(Protocol):
    """Where bundles come from. What cannot be given is UnknownDetector or BundleRefused: it is not watched."""

    def find(self, name: str, version: str | None = None) -> Usable:
        """Return a usable bundle."""
        ...

    def get(self, name: str, version: str | None = None) -> Detector:
        """Return its detector, ready to run."""
        ...
