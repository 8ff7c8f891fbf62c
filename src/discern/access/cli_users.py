"""`discern user`: the people who sign in with a password."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.markup import escape
from rich.table import Column, Table

from discern.access.cli import known_workspace, role_of
from discern.access.service import Workspaces
from discern.access.service_factors import Factors
from discern.access.service_users import Users
from discern.access.types import ROLES
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Workspace they belong to.")
_NAME = typer.Argument(help="Name or e-mail address.")
_STDIN = typer.Option(False, "--password-stdin", help="Read the password from standard input instead of asking.")


def user_commands(
    users: Callable[[], Users], workspaces: Callable[[], Workspaces], factors: Callable[[], Factors]
) -> typer.Typer:
    """Return the `user` group."""
    group = typer.Typer(name="user", help="People who sign in with a password.", no_args_is_help=True)

    @group.command("create")
    def create(
        name: str = _NAME,
        role: str = typer.Option(..., "--role", "-r", help=f"One of: {', '.join(ROLES)}."),
        detector: list[str] = typer.Option([], "--detector", "-d", help="Only for this one; may be given again."),
        from_stdin: bool = _STDIN,
        workspace: str = _WORKSPACE,
    ) -> None:
        """Make a user."""
        known_workspace(workspaces(), workspace)
        granted = tuple(detector) or None
        user = users().create(workspace, name, _password(from_stdin=from_stdin), role=role_of(role), detectors=granted)
        typer.echo(f"Made {user.name}, {user.role} of {workspace}.")

    @group.command("list")
    def list_users(workspace: str = _WORKSPACE) -> None:
        """List the users."""
        table = Table(
            *("Name", "Role", "Detectors", "From", "Second factors", "State"),
            Column("Id", no_wrap=True),
            box=None,
            pad_edge=False,
        )
        for user in users().list(workspace):
            granted = "all" if user.detectors is None else ", ".join(user.detectors)
            state = "disabled" if user.disabled_at else "locked" if user.locked_until else ""
            kinds = ", ".join(factors().kinds(user))
            cells = (escape(user.name), user.role, escape(granted), user.provider or "", kinds, state, str(user.id))
            table.add_row(*cells)
        print_table(table)

    @group.command("role")
    def role(name: str = _NAME, new: str = typer.Argument(metavar="ROLE"), workspace: str = _WORKSPACE) -> None:
        """Give a user another role; their sessions end."""
        users().change(users().named(workspace, name), role=role_of(new))
        typer.echo(f"{name} is {new} from here on.")

    @group.command("password")
    def password(name: str = _NAME, from_stdin: bool = _STDIN, workspace: str = _WORKSPACE) -> None:
        """Set a user's password; their sessions end, and a lock is lifted."""
        users().change(users().named(workspace, name), password=_password(from_stdin=from_stdin))
        typer.echo(f"Set the password of {name}.")

    _add_ways_in(group, users, factors)
    return group


def _add_ways_in(group: typer.Typer, users: Callable[[], Users], factors: Callable[[], Factors]) -> None:
    @group.command("disable")
    def disable(name: str = _NAME, workspace: str = _WORKSPACE) -> None:
        """Keep a user out; their sessions end."""
        users().change(users().named(workspace, name), disabled=True)
        typer.echo(f"{name} cannot sign in any more.")

    @group.command("enable")
    def enable(name: str = _NAME, workspace: str = _WORKSPACE) -> None:
        """Let a user in again."""
        users().change(users().named(workspace, name), disabled=False)
        typer.echo(f"{name} can sign in again.")

    @group.command("reset-factors")
    def reset_factors(name: str = _NAME, workspace: str = _WORKSPACE) -> None:
        """Remove all second factors and recovery codes of a user; their sessions end."""
        factors().reset(users().named(workspace, name))
        typer.echo(f"{name} has no second factor any more.")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CallerError("There is nobody to ask for the password.", mend="Use --password-stdin.")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
