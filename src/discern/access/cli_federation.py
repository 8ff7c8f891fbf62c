"""`discern sign-in`: the identity providers that people come in through."""

from __future__ import annotations

from collections.abc import Callable

import typer
from rich.markup import escape
from rich.table import Table

from discern.access.service_federation import Federation
from discern.tables import print_table

_PROVIDER = typer.Argument(metavar="PROVIDER", help="Its name in sign-in.toml.")


def sign_in_commands(federation: Callable[[], Federation]) -> typer.Typer:
    """Return the `sign-in` group. `federation` is open."""
    group = typer.Typer(name="sign-in", help="Identity providers: OIDC, SAML, LDAP.", no_args_is_help=True)

    @group.command("list")
    def list_providers() -> None:
        """List the identity providers of sign-in.toml."""
        table = Table("Name", "Kind", "Title", "Workspace", "Grants", box=None, pad_edge=False)
        providers = federation().providers
        for one in federation().listed():
            provider = providers[one.name]
            table.add_row(one.name, one.kind, escape(one.title), provider.workspace, str(len(provider.grants)))
        print_table(table)

    @group.command("check")
    def check(provider: str = _PROVIDER) -> None:
        """Ask an identity provider whether it would do; exit code 1 where not."""
        typer.echo(federation().check(provider))

    @group.command("explain")
    def explain(
        provider: str = _PROVIDER,
        group: list[str] = typer.Option([], "--group", "-g", help="One they are in; may be given again."),
    ) -> None:
        """Say what somebody in these groups may; exit code 1 where nothing."""
        grant = federation().granted(provider, group)
        if grant is None:
            typer.echo("Nothing: no grant is of one of these groups, so they are not let in.")
            raise typer.Exit(1)
        detectors = "all detectors" if grant.detectors is None else ", ".join(grant.detectors) or "no detector"
        typer.echo(f"{grant.role}, {detectors}, by the grant of {grant.group}.")

    return group
