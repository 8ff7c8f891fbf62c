"""`discern retention`: for how long things are kept."""

from __future__ import annotations

from collections.abc import Callable

import typer
from rich.table import Column, Table

from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.retention.service import Retention
from discern.retention.types import KINDS, Kind
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose.")


def retention_commands(retention: Callable[[], Retention], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `retention` group; `check_workspace` raises UnknownWorkspace."""
    group = typer.Typer(name="retention", help="For how long things are kept.", no_args_is_help=True)

    @group.command("show")
    def show(workspace: str = _WORKSPACE) -> None:
        """Show for how many days a workspace keeps what."""
        check_workspace(workspace)
        keeping = retention().show(workspace)
        table = Table("Kind", Column("Kept", justify="right"), box=None, pad_edge=False)
        for kind in KINDS:
            days = keeping.days(kind)
            table.add_row(kind, "for ever" if days is None else f"{days} days")
        print_table(table)

    @group.command("set")
    def change(
        kind: str = typer.Argument(help=f"One of: {', '.join(KINDS)}."),
        days: str = typer.Argument(help="Days, or `none`: for ever."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Keep something for so many days; what is older is deleted within a day."""
        check_workspace(workspace)
        retention().change(workspace, _kind(kind), _days(days))
        kept = "for ever" if days == "none" else f"for {days} days"
        typer.echo(f"{workspace} keeps its {kind} {kept} from here on.")

    @group.command("run")
    def run(dry_run: bool = typer.Option(False, "--dry-run", help="Only count what would be deleted.")) -> None:
        """Delete what is old in every workspace; the server does so once a day."""
        found = retention().old() if dry_run else retention().run()
        table = Table("Workspace", "Kind", "Before", Column("Rows", justify="right"), box=None, pad_edge=False)
        for one in found:
            table.add_row(one.workspace, one.kind, one.before.isoformat(timespec="seconds"), str(one.rows))
        print_table(table)
        total = sum(one.rows for one in found)
        typer.echo(f"{total} rows {'would be' if dry_run else 'were'} deleted.", err=True)

    return group


def _kind(text: str) -> Kind:
    for kind in KINDS:
        if kind == text:
            return kind
    raise CallerError(f"There is no kind {text[:100]!r}.", mend=f"Use one of: {', '.join(KINDS)}.")


def _days(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise CallerError(f"{text[:100]!r} is no number of days.", mend="Write a number such as 90, or none.")
    return int(text)
