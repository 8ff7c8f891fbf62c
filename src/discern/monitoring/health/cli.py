"""`discern health`: how the installation is, read from its parts."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from discern.monitoring.health.service import HealthService
from discern.monitoring.health.types import Health
from discern.tables import print_table


def health_command(cli: typer.Typer, health: Callable[[], HealthService]) -> None:
    """Add the command to `cli`."""

    @cli.command("health")
    def show(as_json: bool = typer.Option(False, "--json", help="Print one JSON object.")) -> None:
        """Say how the installation is, and what it did by itself; exit 1 where it cannot answer.

        It asks the parts itself. Circuit breakers are of a server's processes: `GET /v1/health` shows them.
        """
        found = health().look(None)
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            _print(found)
        raise typer.Exit(1 if found.status == "failing" else 0)


def _print(found: Health) -> None:
    typer.echo(f"{found.status}: {found.sentence}")
    parts = Table("Part", "State", Column("Reason", overflow="fold"), box=None, pad_edge=False)
    for part in found.parts:
        parts.add_row(part.name, "[green]up[/]" if part.up else "[red]down[/]", escape(part.reason or ""))
    print_table(parts)
    if found.happenings:
        typer.echo("")
        table = Table("When", "What", "About", Column("Facts", overflow="fold"), box=None, pad_edge=False)
        for one in found.happenings:
            facts = ", ".join(f"{name} {value}" for name, value in one.facts.items())
            table.add_row(one.at.isoformat(timespec="seconds"), one.kind, escape(one.about), escape(facts))
        print_table(table)
