"""`discern key`: make, list and revoke API keys."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from discern.access.service import Keys
from discern.core.workspace import DEFAULT_WORKSPACE


def key_commands(keys: Callable[[], Keys]) -> typer.Typer:
    """Return the `key` group."""
    group = typer.Typer(name="key", help="API keys.", no_args_is_help=True)

    @group.command("create")
    def create(name: str = typer.Argument(help="What the key is for.")) -> None:
        """Make a key and print it, this once."""
        issued = keys().issue(DEFAULT_WORKSPACE, name)
        typer.echo(issued.secret)
        typer.echo(f"Key {issued.key.id} ({name}). It is not shown again.", err=True)

    @group.command("list")
    def list_keys() -> None:
        """List the keys; the secrets themselves are not kept."""
        table = Table(Column("Id", no_wrap=True), "Name", "Made", "Revoked", box=None, pad_edge=False)
        for key in keys().list(DEFAULT_WORKSPACE):
            revoked = key.revoked_at.isoformat(timespec="seconds") if key.revoked_at else ""
            table.add_row(str(key.id), escape(key.name), key.created_at.isoformat(timespec="seconds"), revoked)
        Console().print(table)

    @group.command("revoke")
    def revoke(key_id: UUID = typer.Argument(help="Id from `discern key list`.")) -> None:
        """Refuse a key from now on."""
        keys().revoke(DEFAULT_WORKSPACE, key_id)
        typer.echo(f"Revoked {key_id}.", err=True)

    return group
