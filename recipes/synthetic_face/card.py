"""CARD.md from a template and figures; every number in the card was computed in the same run.

Invariants:

- A placeholder without a figure, or a figure without a placeholder, is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPLATE = Path(__file__).with_name("card_template.md")
_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three decimals."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def render(figures: Mapping[str, str]) -> str:
    """The card's text. Raises KeyError for a figure that is missing or that no placeholder takes."""
    template = _TEMPLATE.read_text(encoding="utf-8")
    wanted = set(_PLACEHOLDER.findall(template))
    if wanted != set(figures):
        raise KeyError(f"card placeholders without figure or the reverse: {sorted(wanted ^ set(figures))}")
    return _PLACEHOLDER.sub(lambda match: figures[match.group(1)], template)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
