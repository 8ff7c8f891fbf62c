"""`discern key`, `discern workspace` and `discern access`: who may come in, and what they may do."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Column, Table

from discern.access.service import Keys, Workspaces, check_role
from discern.access.service_policies import Policies, sources
from discern.access.service_tokens import Tokens
from discern.access.service_users import Users
from discern.access.types import ACTIONS, ROLES, Action, ApiKey, Principal, Resource, ResourceKind, Role
from discern.core.clock import utc_now
from discern.core.errors import CallerError, UnknownWorkspace
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Workspace it belongs to.")
_ROLE_HELP = f"One of: {', '.join(ROLES)}."
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KINDS: dict[str, ResourceKind] = {
    "workspace": "Workspace",
    "detector": "Detector",
    "verdict": "Verdict",
    "job": "Job",
    "key": "Key",
    "user": "User",
}
_LISTED_BY: dict[ResourceKind, str] = {
    "Workspace": "`discern workspace list`",
    "Detector": "`discern detector list`",
    "Verdict": "`discern verdicts list`",
    "Job": "GET /v1/jobs",
    "Key": "`discern key list`",
    "User": "`discern user list`",
}


def key_commands(
    keys: Callable[[], Keys], workspaces: Callable[[], Workspaces], place: Callable[[], object]
) -> typer.Typer:
    """Return the `key` group; `place` tells which installation it is."""
    group = typer.Typer(name="key", help="API keys.", no_args_is_help=True)

    @group.command("create")
    def create(
        name: str = typer.Argument(help="What the key is for."),
        role: str = typer.Option("service", "--role", "-r", help=_ROLE_HELP),
        detector: list[str] = typer.Option([], "--detector", "-d", help="Only for this one; may be given again."),
        expires: str = typer.Option("", "--expires", help="Time after which it ends: 90d, 12h, 30m."),
        certificate: Path | None = typer.Option(
            None, "--certificate", exists=True, dir_okay=False, help="Client certificate (PEM) that stands for it."
        ),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Make a key and print it, this once."""
        known_workspace(workspaces(), workspace)
        issued = keys().issue(
            workspace,
            name,
            role=role_of(role),
            detectors=tuple(detector) or None,
            expires_at=utc_now() + duration(expires) if expires else None,
            certificate_sha256=None if certificate is None else _digest(certificate),
        )
        typer.echo(issued.secret)
        typer.echo(f"Key {issued.key.id} ({name}), {_may(issued.key)}, in {place()}. It is not shown again.", err=True)

    @group.command("list")
    def list_keys(workspace: str = _WORKSPACE) -> None:
        """List the keys; the secrets themselves are not kept."""
        table = Table(
            Column("Id", no_wrap=True), "Name", "May", "Made", "Last used", "Ends", "Revoked", box=None, pad_edge=False
        )
        for key in keys().list(workspace):
            times = (key.created_at, key.last_used_at, key.expires_at, key.revoked_at)
            table.add_row(str(key.id), escape(key.name), escape(_may(key)), *map(_time, times))
        print_table(table)

    @group.command("rotate")
    def rotate(
        key_id: UUID = typer.Argument(help="Id from `discern key list`."),
        overlap: str = typer.Option("24h", "--overlap", help="Time the old one goes on working: 7d, 24h, 0m."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Make a key that may do the same, print it this once, and have the old one end."""
        issued = keys().rotate(workspace, key_id, duration(overlap))
        typer.echo(issued.secret)
        typer.echo(f"Key {issued.key.id} stands in for {key_id}, which ends in {overlap}.", err=True)

    @group.command("revoke")
    def revoke(key_id: UUID = typer.Argument(help="Id from `discern key list`."), workspace: str = _WORKSPACE) -> None:
        """Refuse a key from now on."""
        keys().revoke(workspace, key_id)
        typer.echo(f"Revoked {key_id}.", err=True)

    return group


def token_commands(tokens: Callable[[], Tokens]) -> typer.Typer:
    """Return the `token` group."""
    group = typer.Typer(name="token", help="What signs the short-lived tokens of services.", no_args_is_help=True)

    @group.command("rotate")
    def rotate() -> None:
        """Sign with a new key from here on. What older keys signed holds until their files are deleted."""
        typer.echo(f"Tokens are signed with {tokens().rotate()} from here on.")

    return group


def workspace_commands(workspaces: Callable[[], Workspaces]) -> typer.Typer:
    """Return the `workspace` group."""
    group = typer.Typer(name="workspace", help="Tenants: each sees its own alone.", no_args_is_help=True)

    @group.command("create")
    def create(name: str = typer.Argument(help="Lower-case words with hyphens.")) -> None:
        """Make a workspace; `discern key create --workspace NAME --role owner` lets somebody in."""
        typer.echo(f"Made the workspace {workspaces().create(name).name}.")

    @group.command("list")
    def list_workspaces() -> None:
        """List the workspaces."""
        for workspace in workspaces().list():
            typer.echo(workspace.name)

    return group


def access_commands(
    policies: Callable[[], Policies],
    keys: Callable[[], Keys],
    users: Callable[[], Users],
    find: Callable[[ResourceKind, str, str], Resource | None],
) -> typer.Typer:
    """Return the `access` group.

    `find` returns the resource of a kind and an id or name, of the workspace or else of whichever it belongs to.
    """
    group = typer.Typer(name="access", help="Who may do what, and why.", no_args_is_help=True)

    @group.command("explain")
    def explain(
        who: str = typer.Argument(metavar="USER", help="`key:ID` from `discern key list`, a user's name, or a role."),
        action: str = typer.Argument(help="Such as detect or verdicts.read; `discern access actions` lists them."),
        resource: str = typer.Argument(help="workspace, detector:NAME, verdict:ID, job:ID, key:ID or user:NAME."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Say whether somebody may do something, and which policies decide it; exit code 1 where not."""
        if action not in ACTIONS:
            raise CallerError(f"There is no action {action}.", mend=f"There are: {', '.join(ACTIONS)}.")
        principal = _principal(keys(), users(), who, workspace)
        kind, name = _kind_and_name(resource)
        about = find(kind, name, workspace)
        if about is None:
            raise CallerError(
                f"There is no {resource} in any workspace.", mend=f"{_LISTED_BY[kind]} lists what there is."
            )
        if about.workspace != workspace:
            typer.echo(f"{resource} belongs to the workspace {about.workspace}, not to {workspace}.")
        found = policies().explain(principal, _action(action), about)
        typer.echo(found.sentence)
        if not found.allowed:
            raise typer.Exit(1)

    @group.command("policies")
    def show_policies() -> None:
        """Print the policies that hold, ours and your own."""
        policies().open()
        for name, text in sources(policies().folder).items():
            typer.echo(f"// ==== {name}\n{text}")

    @group.command("actions")
    def list_actions() -> None:
        """List what policies can permit or forbid."""
        for action in ACTIONS:
            typer.echo(action)

    return group


def duration(text: str) -> timedelta:
    """Return the time that a text such as 90d, 12h, 30m or 45s stands for. Raises CallerError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise CallerError(f"{text!r} is not a time.", mend="Write a number and s, m, h or d: 90d, 12h, 30m.")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _digest(certificate: Path) -> str:
    try:
        encoded = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
    except ValueError as error:
        raise CallerError(f"{certificate} is no certificate in PEM.", mend="Give the device's certificate.") from error
    return hashlib.sha256(encoded).hexdigest()


def _principal(keys: Keys, users: Users, who: str, workspace: str) -> Principal:
    if who in ROLES:
        return Principal(f"role:{who}", workspace, role_of(who))
    if not who.startswith("key:"):
        user = users.named(workspace, who)
        return Principal(f"user:{user.id}", workspace, user.role, user.detectors)
    try:
        key = keys.get(workspace, UUID(who.removeprefix("key:")))
    except ValueError as error:
        raise CallerError(f"{who!r} is not the id of a key.", mend="`discern key list` shows them.") from error
    return Principal(who, workspace, key.role, key.detectors)


def _kind_and_name(text: str) -> tuple[ResourceKind, str]:
    kind, _, name = text.partition(":")
    if kind not in _KINDS or not (name or kind == "workspace"):
        raise CallerError(
            f"{text!r} is nothing there is.", mend=f"Write one of: {', '.join(_KINDS)}, and :ID or :NAME."
        )
    return _KINDS[kind], name


def known_workspace(workspaces: Workspaces, name: str) -> None:
    """Raise UnknownWorkspace unless there is one of this name."""
    if name not in {workspace.name for workspace in workspaces.list()}:
        raise UnknownWorkspace(f"There is no workspace {name}.", mend=f"`discern workspace create {name}` makes it.")


def role_of(text: str) -> Role:
    """Return a role that was typed. Raises CallerError."""
    check_role(text)
    return next(role for role in ROLES if role == text)


def _action(text: str) -> Action:
    return next(action for action in ACTIONS if action == text)


def _may(key: ApiKey) -> str:
    return key.role if key.detectors is None else f"{key.role} of {', '.join(key.detectors)}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")
