"""`discern verdicts`: read the ledger."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec
import typer
from rich.table import Column, Table

from discern.core.errors import UnknownVerdict
from discern.core.verdict import Decision
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.ports import HoldsOut
from discern.detection.store import VerdictStore
from discern.detection.types import VerdictQuery
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose verdicts.")


def verdict_commands(
    ledger: Callable[[], VerdictStore], check_workspace: Callable[[str], None], hold_out: Callable[[], HoldsOut]
) -> typer.Typer:
    """Return the `verdicts` group; `check_workspace` raises UnknownWorkspace."""
    group = typer.Typer(name="verdicts", help="The ledger.", no_args_is_help=True)

    @group.command("list")
    def list_verdicts(
        limit: int = typer.Option(20, min=1, max=500, help="How many."),
        detector: str | None = typer.Option(None, "--detector", "-d", help="Only of this detector."),
        decision: Decision | None = typer.Option(None, help="Only with this decision."),
        after: UUID | None = typer.Option(None, help="Go on after this id."),
        holdout: bool = typer.Option(False, "--holdout", help="Only of the random hold-out, labelled or not."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """List verdicts, newest first."""
        check_workspace(workspace)
        is_held_out = hold_out().teller() if holdout else None
        page = ledger().page(VerdictQuery(workspace, limit, after, detector, decision, held_out=is_held_out))
        if as_json:
            for verdict in page.verdicts:
                typer.echo(msgspec.json.encode(verdict).decode())
            return
        short = [Column(name, no_wrap=True) for name in ("Id", "Decision", "Score")]
        long = [Column(name, overflow="fold") for name in ("When", "Detector", "Input")]
        table = Table(*short, *long, box=None, pad_edge=False)
        for verdict in page.verdicts:
            table.add_row(
                verdict.id,
                verdict.decision,
                f"{verdict.score:.4f}",
                verdict.created_at.strftime("%Y-%m-%d %H:%M:%S"),
                f"{verdict.detector} {verdict.version}",
                f"{verdict.input.kind} {verdict.input.sha256[:12]}",
            )
        print_table(table)
        if page.next:
            typer.echo(f"There are more: --after {page.next}", err=True)

    @group.command("show")
    def show(verdict_id: UUID = typer.Argument(help="Id of the verdict."), workspace: str = _WORKSPACE) -> None:
        """Print one verdict as JSON."""
        check_workspace(workspace)
        verdict = ledger().get(workspace, verdict_id)
        if verdict is None:
            raise UnknownVerdict(f"There is no verdict {verdict_id}.", mend="`discern verdicts list` lists them.")
        typer.echo(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode())

    return group
