"""How commands show tables: fitted to a terminal, and whole wherever else they go.

- A cell shows what it holds: of Rich's markup only our own colours count, and no cell moves the cursor or clears the
  screen, whoever wrote it.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from rich.console import Console
from rich.errors import MarkupError
from rich.table import Table
from rich.text import Text

# Without a terminal there is no edge to fold at, and what reads a pipe takes a line for a row.
_NO_EDGE = 1_000_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NOT_OURS = re.compile(r"(?<!\\)\[(?!(?:green|red|yellow|magenta|/)\])")


class _Plain(Console):
    """A console on which text of elsewhere is text."""

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - they are Rich's
        """Return a text with our colours, and with nothing else that means more than it says."""
        shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
        try:
            return super().render_str(_NOT_OURS.sub(r"\\[", shown), **options)
        except MarkupError:  # it ends a colour that it did not begin
            return super().render_str(shown, **options | {"markup": False})


def print_table(table: Table) -> None:
    """Print a table. Where standard output is no terminal, nothing of it is folded or cut off."""
    _Plain(width=None if sys.stdout.isatty() else _NO_EDGE, emoji=False).print(table)
