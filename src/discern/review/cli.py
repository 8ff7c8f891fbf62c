"""`discern label`: say what is true of verdicts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import get_args
from uuid import UUID

import msgspec
import typer
from rich.table import Column, Table

from discern.access.types import LOCAL, Principal
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.review.service import Labels
from discern.review.sources import file_lines
from discern.review.types import LabelRequest, Selection
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose verdicts.")
_SELECTIONS = ", ".join(get_args(Selection))


def label_commands(labels: Callable[[], Labels], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `label` group; `check_workspace` raises UnknownWorkspace."""
    group = typer.Typer(name="label", help="What is true of verdicts.", no_args_is_help=True)

    def local(workspace: str) -> Principal:
        check_workspace(workspace)
        return msgspec.structs.replace(LOCAL, workspace=workspace)

    @group.command("set")
    def label_one(
        verdict_id: UUID = typer.Argument(help="Id of the verdict."),
        label: str = typer.Argument(help="One of the detector's two classes, or `unknown`."),
        source: str = typer.Option("reviewer", help="Who says so: reviewer, chargeback, appeal, ..."),
        selected_by: str = typer.Option("unknown", help=f"How it came to be labelled: {_SELECTIONS}."),
        propensity: float | None = typer.Option(None, help="With which probability it came to be labelled."),
        at: datetime | None = typer.Option(None, help="When it became true, in UTC; left out: at this moment."),
        note: str = typer.Option("", help="What else there is to say."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Say what is true of one verdict; what was said before stays in its history."""
        fields = {"label": label, "source": source, "selected_by": selected_by, "note": note, "propensity": propensity}
        if at is not None:
            fields["labelled_at"] = f"{at.isoformat()}Z"
        try:
            request = msgspec.convert(fields, LabelRequest)
        except msgspec.ValidationError as error:
            raise CallerError(f"That is no label: {error}.", mend="See `discern label set --help`.") from error
        kept, was_known = labels().label(verdict_id, request, local(workspace))
        said = kept.label or "unknown"
        typer.echo(f"{verdict_id} was {said} already." if was_known else f"{verdict_id} is {said} from here on.")

    @group.command("show")
    def show(verdict_id: UUID = typer.Argument(help="Id of the verdict."), workspace: str = _WORKSPACE) -> None:
        """Print all that was said of a verdict as JSON, oldest first; the last one holds."""
        check_workspace(workspace)
        history = labels().history(workspace, verdict_id)
        typer.echo(msgspec.json.format(msgspec.json.encode(history), indent=2).decode())

    @group.command("import")
    def take(
        file: Path = typer.Argument(help="A .csv or .parquet file with the columns verdict_id and label, and others."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Say what is true of many verdicts. Rows that cannot be kept are told, and the others are kept."""
        taken = labels().take(file_lines(file), local(workspace))
        for one in taken.refused:
            typer.echo(f"row {one.line}: {one.detail}{'' if one.mend is None else f' {one.mend}'}", err=True)
        if taken.refusals > len(taken.refused):
            typer.echo(f"... and {taken.refusals - len(taken.refused):,} more rows.", err=True)
        typer.echo(f"{taken.taken:,} labels are kept, {taken.known:,} were known, {taken.refusals:,} were refused.")
        if taken.refusals:
            raise typer.Exit(1)

    _add_wanted(group, labels, check_workspace)
    return group


def _add_wanted(group: typer.Typer, labels: Callable[[], Labels], check_workspace: Callable[[str], None]) -> None:
    @group.command("wanted")
    def wanted(
        limit: int = typer.Option(20, min=1, max=500, help="How many."),
        detector: str | None = typer.Option(None, "--detector", "-d", help="Only of this detector."),
        after: UUID | None = typer.Option(None, help="Go on after this id."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """List verdicts of the random hold-out that have no label, newest first, without what was decided."""
        check_workspace(workspace)
        page = labels().wanted(workspace, limit=limit, detector=detector, after=after)
        if as_json:
            for verdict in page.verdicts:
                typer.echo(msgspec.json.encode(verdict).decode())
        else:
            table = Table(Column("Id", no_wrap=True), "When", "Detector", "Input", box=None, pad_edge=False)
            for verdict in page.verdicts:
                when, detector_name = f"{verdict.created_at:%Y-%m-%d %H:%M:%S}", f"{verdict.detector} {verdict.version}"
                table.add_row(verdict.id, when, detector_name, f"{verdict.input.kind} {verdict.input.sha256[:12]}")
            print_table(table)
        if page.next is not None:
            typer.echo(f"There may be more: --after {page.next}", err=True)
