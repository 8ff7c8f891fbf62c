"""The standards and laws that a report speaks of, from the one file that says what answers them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from discern.compliance.types import Framework, Standard

_CONTROLS = Path(__file__).parent / "controls.toml"


def standards() -> dict[Framework, Standard]:
    """Return each standard by its short name."""
    return msgspec.convert(tomllib.loads(_CONTROLS.read_text(encoding="utf-8")), dict[Framework, Standard])
