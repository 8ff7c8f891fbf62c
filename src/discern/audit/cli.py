"""`discern audit`: read, export and verify the audit log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from discern.audit.service import AuditTrail
from discern.audit.service_anchors import read_anchors
from discern.audit.store import AuditStore
from discern.core.workspace import DEFAULT_WORKSPACE

_MOST_FAULTS = 20
_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose log.")


def audit_commands(
    trail: Callable[[], AuditTrail], store: Callable[[], AuditStore], check_workspace: Callable[[str], None]
) -> typer.Typer:
    """Return the `audit` group; `check_workspace` raises for a workspace there is not."""
    group = typer.Typer(name="audit", help="Who did what.", no_args_is_help=True)

    @group.command("list")
    def list_entries(workspace: str = _WORKSPACE, limit: int = typer.Option(50, min=1, max=500)) -> None:
        """Show the latest entries."""
        check_workspace(workspace)
        table = Table(Column("No.", justify="right"), "When", "Who", "From", "Act", "To", "", box=None, pad_edge=False)
        for entry in store().page(workspace, limit, None).entries:
            act = entry.act
            when = entry.at.isoformat(timespec="seconds")
            outcome = "" if act.outcome == "done" else act.outcome
            cells = (str(entry.number), when, act.who, entry.address, act.act, act.target, outcome)
            table.add_row(*map(escape, cells))
        Console().print(table)

    @group.command("export")
    def export(workspace: str = _WORKSPACE) -> None:
        """Print every entry as a JSON line, oldest first."""
        check_workspace(workspace)
        for entry in store().all(workspace):
            sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")

    @group.command("verify")
    def verify(
        workspace: str = _WORKSPACE,
        anchors: Path = typer.Option(
            None, "--anchors", help="File of anchors to hold it against, instead of what `audit_anchor` names."
        ),
    ) -> None:
        """Tell whether the log of a workspace holds; exit code 1 where it does not."""
        check_workspace(workspace)
        known = read_anchors(anchors) if anchors is not None else None
        count, faults, held = trail().faults(workspace, known)
        for fault in islice(faults, _MOST_FAULTS):
            typer.echo(fault.what)
        if len(faults) > _MOST_FAULTS:
            typer.echo(f"... and {len(faults) - _MOST_FAULTS} more.")
        against = "no anchors could be read back" if held is None else f"{held} anchors"
        typer.echo(f"{workspace}: {count} entries, {against}: {'it holds' if not faults else 'IT DOES NOT HOLD'}.")
        if held == 0 and count:
            typer.echo("Without an anchor nobody can tell whether its end was cut off.", err=True)
        if faults:
            raise typer.Exit(1)

    return group
