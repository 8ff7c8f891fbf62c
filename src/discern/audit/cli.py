"""`discern audit`: read, export and verify the audit log, and continue it after a restore."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from discern.access.types import LOCAL
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import read_anchors
from discern.audit.store import AuditStore
from discern.audit.types import Anchor, Verification
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.tables import print_table

_MOST_FAULTS = 20
_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose log.")
_ONE_OR_ALL = typer.Option(None, "--workspace", "-w", help="Whose log; every workspace's where it is left out.")
_ANCHORS = typer.Option(
    None, "--anchors", help="File of anchors to hold it against, instead of what `audit_anchor` names."
)


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
        print_table(table)

    @group.command("export")
    def export(workspace: str = _WORKSPACE) -> None:
        """Print every entry as a JSON line, oldest first."""
        check_workspace(workspace)
        for entry in store().all(workspace):
            sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")

    _add_verifying(group, trail, check_workspace)
    return group


def _add_verifying(group: typer.Typer, trail: Callable[[], AuditTrail], check_workspace: Callable[[str], None]) -> None:
    def asked(workspace: str | None, anchors: Path | None) -> tuple[list[str], list[Anchor] | None]:
        known = trail().anchors() if anchors is None else read_anchors(anchors)
        if workspace is None:
            return trail().workspaces(known), known
        if workspace not in {anchor.workspace for anchor in known or ()}:
            check_workspace(workspace)
        return [workspace], known

    @group.command("verify")
    def verify(workspace: str = _ONE_OR_ALL, anchors: Path = _ANCHORS) -> None:
        """Tell whether the log holds; exit code 1 where that of some workspace does not."""
        names, known = asked(workspace, anchors)
        found = [_told(name, trail().verify(name, known)) for name in names]
        if not all(found):
            raise typer.Exit(1)

    @group.command("resume")
    def resume(
        reason: str = typer.Option(..., "--reason", help="Which backup was restored, and why."),
        workspace: str = _ONE_OR_ALL,
        anchors: Path = _ANCHORS,
    ) -> None:
        """Acknowledge after a restore that entries are lost; it goes on record, and `verify` tells of it for good."""
        names, known = asked(workspace, anchors)
        torn = [name for name in names if workspace is not None or trail().verify(name, known).lost]
        if not torn:
            raise CallerError(
                "Nothing that was anchored is lost, so there is nothing to acknowledge.",
                mend="See `discern audit verify`.",
            )
        for name in torn:
            check_workspace(name)
        for name in torn:
            typer.echo(f"{name}: {trail().resume(name, LOCAL.id, reason, known).what}")


def _told(workspace: str, seen: Verification) -> bool:
    """Say what was found in a log; return whether it holds."""
    for gap in seen.gaps:
        typer.echo(f"{workspace}: acknowledged gap: {gap.what}")
    for fault in islice(seen.faults, _MOST_FAULTS):
        typer.echo(f"{workspace}: {fault.what}")
    if len(seen.faults) > _MOST_FAULTS:
        typer.echo(f"{workspace}: ... and {len(seen.faults) - _MOST_FAULTS} more.")
    against = "no anchors could be read back" if seen.anchors is None else f"{seen.anchors} anchors"
    gaps = f", but for {len(seen.gaps)} acknowledged {'gap' if len(seen.gaps) == 1 else 'gaps'}" if seen.gaps else ""
    verdict = "IT DOES NOT HOLD" if seen.faults else f"it holds{gaps}"
    typer.echo(f"{workspace}: {seen.entries} entries, {against}: {verdict}.")
    if seen.anchors == 0 and seen.entries:
        typer.echo(f"{workspace}: Without an anchor nobody can tell whether its end was cut off.", err=True)
    return not seen.faults
