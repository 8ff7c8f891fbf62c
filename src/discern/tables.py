"""How commands show tables: fitted to a terminal, and whole wherever else they go."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

# Without a terminal there is no edge to fold at, and what reads a pipe takes a line for a row.
_NO_EDGE = 1_000_000


def print_table(table: Table) -> None:
    """Print a table. Where standard output is no terminal, nothing of it is folded or cut off."""
    Console(width=None if sys.stdout.isatty() else _NO_EDGE).print(table)
