"""The nouns of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from discern.core.verdict import InputKind
from discern.detectors.bundle import Bundle
from discern.detectors.manifest import Manifest

Origin = Literal["builtin", "added"]


@dataclass(frozen=True, slots=True)
class Usable:
    """A bundle whose digests and signature hold."""

    name: str
    version: str
    origin: Origin
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Refused:
    """A folder that should be a bundle and is not run, and why."""

    name: str
    version: str
    origin: Origin
    root: Path
    reason: str


Listed = Usable | Refused


def takes(manifest: Manifest) -> tuple[InputKind, ...]:
    """Return the kinds of input a detector takes."""
    return (manifest.input.kind, "video") if manifest.video else (manifest.input.kind,)


def summary(entry: Listed) -> dict[str, Any]:
    """Return what a list says of one bundle."""
    row: dict[str, Any] = {"name": entry.name, "version": entry.version, "origin": entry.origin}
    if isinstance(entry, Refused):
        return row | {"usable": False, "refused": entry.reason}
    manifest = entry.bundle.manifest
    return row | {
        "usable": True,
        "task": manifest.task,
        "takes": takes(manifest),
        "classes": manifest.classes.model_dump(),
    }


def version_order(version: str) -> tuple[int, ...]:
    """Return what sorts `1.9.0` before `1.10.0`."""
    return tuple(int(part) for part in version.split("."))


def split_reference(reference: str) -> tuple[str, str | None]:
    """Return the name and the version of `NAME` or `NAME@VERSION`."""
    name, _, version = reference.partition("@")
    return name, version or None
