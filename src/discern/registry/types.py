"""The nouns of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from discern.core.verdict import InputKind
from discern.detectors.bundle import Bundle
from discern.detectors.manifest import Manifest

Origin = Literal["builtin", "added"]


@dataclass(frozen=True, slots=True)
class Listed:
    """One bundle that was found: usable, or refused with the reason in `refused`."""

    name: str
    version: str
    origin: Origin
    root: Path
    bundle: Bundle | None
    refused: str | None = None


def takes(manifest: Manifest) -> tuple[InputKind, ...]:
    """Return the kinds of input a detector takes."""
    return (manifest.input.kind, "video") if manifest.video else (manifest.input.kind,)


def version_order(version: str) -> tuple[int, ...]:
    """Return what sorts `1.9.0` before `1.10.0`."""
    return tuple(int(part) for part in version.split("."))
