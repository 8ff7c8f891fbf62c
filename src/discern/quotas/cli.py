"""`discern quota`: how much a workspace may ask for in a month.

Quotas are set on the command line alone: they are the operator's word to a workspace.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import typer
from rich.table import Column, Table

from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.quotas.service import Quotas
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose.")


def quota_commands(quotas: Callable[[], Quotas], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `quota` group; `check_workspace` raises UnknownWorkspace."""
    group = typer.Typer(name="quota", help="How much a workspace may ask for in a month.", no_args_is_help=True)

    @group.command("show")
    def show(workspace: str = _WORKSPACE) -> None:
        """Show what a workspace has asked for this month, and what it may."""
        check_workspace(workspace)
        usage = quotas().usage(workspace)
        table = Table("", *(Column(name, justify="right") for name in (usage.month, "Quota")), box=None, pad_edge=False)
        table.add_row("verdicts", f"{usage.verdicts:,}", _shown(usage.quota.verdicts))
        table.add_row("bytes of images and videos", f"{usage.bytes:,}", _shown(usage.quota.bytes))
        print_table(table)

    @group.command("set")
    def change(
        verdicts: str = typer.Option("", "--verdicts", help="Verdicts a calendar month, or `none`."),
        size: str = typer.Option("", "--bytes", help="Bytes of images and videos a calendar month, or `none`."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Set what a workspace may ask for in a calendar month; what is not named stays as it is."""
        check_workspace(workspace)
        if not verdicts and not size:
            raise CallerError("Nothing was named.", mend="Give --verdicts, --bytes or both.")
        quota = quotas().quota(workspace)
        if verdicts:
            quota = msgspec.structs.replace(quota, verdicts=_amount(verdicts))
        if size:
            quota = msgspec.structs.replace(quota, bytes=_amount(size))
        quotas().change(workspace, quota)
        told = f"{_shown(quota.verdicts)} verdicts and {_shown(quota.bytes)} bytes a month"
        typer.echo(f"{workspace} may ask for {told}.")

    return group


def _shown(amount: int | None) -> str:
    return "any number of" if amount is None else f"{amount:,}"


def _amount(text: str) -> int | None:
    if text == "none":
        return None
    digits = text.replace("_", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise CallerError(f"{text[:100]!r} is no amount.", mend="Write a number such as 1_000_000, or none.")
    return int(digits)
