"""A table shows what its cells hold, and obeys none of it."""

from __future__ import annotations

import pytest
from rich.markup import escape
from rich.table import Table

from discern.tables import print_table


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("[/foo]", "[/foo]"),
        ("[/]", "[/]"),
        ("[link=https://evil.example]here[/link]", "[link=https://evil.example]here[/link]"),
        ("[bold]loud", "[bold]loud"),
        ("\x1b[2J\x1b[31mpwn", "\ufffd[2J\ufffd[31mpwn"),
        ("a\x00b\u202ec", "a\ufffdb\ufffdc"),
        (":warning: 100 % [x]", ":warning: 100 % [x]"),
        (escape("[refused]"), "[refused]"),
        ("[green]up[/]", "up"),
    ],
)
def test_a_cell_shows_what_it_holds(cell: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("What", box=None, pad_edge=False)
    table.add_row(cell)
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == shown
