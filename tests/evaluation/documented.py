"""The figures of the simulations that the documentation states."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "statistics.md"


@cache
def figures() -> dict[str, float]:
    """Return by the name of the case what the page says of it."""
    rows = re.findall(r"^\| ([^|]+) \| (0\.\d{3}) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: float(value) for name, value in rows}
