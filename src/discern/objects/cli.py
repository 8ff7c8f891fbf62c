"""`discern keys`: the versions of the master key that everything kept is encrypted under."""

from __future__ import annotations

from collections.abc import Callable

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from discern.access.types import LOCAL
from discern.objects.service_rotation import Rotation
from discern.objects.types import KeyUse
from discern.tables import print_table


def master_key_commands(rotation: Callable[[], Rotation]) -> typer.Typer:
    """Return the `keys` group."""
    group = typer.Typer(name="keys", help="The master key that what is kept is encrypted under.", no_args_is_help=True)

    @group.command("list")
    def list_versions() -> None:
        """Show every version, and how many keys it wraps."""
        table = Table(Column("Version", overflow="fold"), "Made", Column("Wraps", justify="right"), "", box=None)
        for use in rotation().list():
            made = "" if use.version.made_at is None else use.version.made_at.isoformat(timespec="seconds")
            table.add_row(escape(use.version.id), made, str(use.uses), _state(use))
        print_table(table)

    @group.command("rotate")
    def rotate(
        resume: bool = typer.Option(False, "--resume", help="Make no version; move what an older one wraps still."),
    ) -> None:
        """Make another version, and wrap every key by it; exit code 1 where some could not be."""
        watch = Console(stderr=True)
        with watch.status("Wrapping keys ...") as status:

            def tell(count: int) -> None:
                status.update(f"Wrapped {count} keys ...")

            done = (rotation().resume if resume else rotation().rotate)(LOCAL.id, tell)
        typer.echo(f"{done.key_id} wraps from here on; keys moved to it: {done.keys}.")
        if done.failed:
            typer.echo(
                f"Keys that could not be unwrapped: {done.failed}. `discern keys list` shows what is missing.", err=True
            )
            raise typer.Exit(1)

    @group.command("remove")
    def remove(version: str = typer.Argument(help="Version, as `discern keys list` shows it.")) -> None:
        """Remove a version that wraps nothing any more. Backups made before need it: keep a copy as long as these."""
        rotation().remove(LOCAL.id, version)
        typer.echo(f"{version} is removed.")

    return group


def _state(use: KeyUse) -> str:
    if not use.is_here:
        return "[red]missing: what it wraps cannot be read[/]"
    return "current" if use.version.is_current else ""
