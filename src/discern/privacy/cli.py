"""`discern privacy`: what a person may ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import typer

from discern.core.errors import CallerError, OperatorError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detectors.files import OWNER, make_file
from discern.privacy.service_privacy import Privacy
from discern.privacy.types import PrivacyRules

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose subjects.")
_SUBJECT = typer.Argument(metavar="SUBJECT", help="The name that questions give the person.")


def privacy_commands(privacy: Callable[[], Privacy]) -> typer.Typer:
    """Return the `privacy` group."""
    group = typer.Typer(name="privacy", help="What a person may ask for.", no_args_is_help=True)

    @group.command("show")
    def show(workspace: str = _WORKSPACE) -> None:
        """Say what holds in a workspace, and how many subjects are known in it."""
        subjects, erasures = privacy().counts(workspace)
        required = privacy().rules(workspace).consent_required
        typer.echo(f"Consent is {'required' if required else 'not required'} in {workspace}.")
        typer.echo(f"{subjects} subjects are known, {erasures} erasures are remembered.")

    @group.command("export")
    def export(
        subject: str = _SUBJECT,
        output: Path = typer.Option(None, "--output", "-o", help="File to write; standard output otherwise."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Write all that is kept of a person, as JSON."""
        found = privacy().export(workspace, subject)
        text = msgspec.json.format(msgspec.json.encode(found), indent=2)
        if output is None:
            sys.stdout.buffer.write(text + b"\n")
            return
        try:
            make_file(output.absolute(), text + b"\n", OWNER)
        except FileExistsError as error:
            raise CallerError(f"{output} is there already.", mend="Name another file.") from error
        except OSError as error:
            raise OperatorError(
                f"{output} cannot be written: {error.strerror}.", mend="Name a file in a folder you may write to."
            ) from error
        kept = f"{len(found.verdicts)} verdicts, {len(found.jobs)} jobs and {len(found.consents)} consents"
        typer.echo(f"Wrote {kept} to {output}.", err=True)

    @group.command("erase")
    def erase(
        subject: str = _SUBJECT,
        workspace: str = _WORKSPACE,
        yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    ) -> None:
        """Forget a person: what is kept of them cannot be read from then on, and is deleted."""
        if not yes:
            typer.confirm("This cannot be undone. Go on?", abort=True)
        done = privacy().erase(workspace, subject)
        typer.echo(f"Erased: {done.verdicts} verdicts, {done.jobs} jobs. On record as subject:{done.reference}.")

    @group.command("reapply")
    def reapply() -> None:
        """Delete what was erased and a restored database has brought back. The server does it by itself."""
        typer.echo(f"Deleted {privacy().reapply()} verdicts that were erased before.")

    group.add_typer(_consent_commands(privacy))
    return group


def _consent_commands(privacy: Callable[[], Privacy]) -> typer.Typer:
    group = typer.Typer(name="consent", help="Who may be judged.", no_args_is_help=True)
    source = typer.Option("", "--source", help="Where it can be looked up, such as a form.")

    @group.command("require")
    def require(workspace: str = _WORKSPACE) -> None:
        """Judge nobody in a workspace who has not consented."""
        privacy().set_rules(workspace, PrivacyRules(consent_required=True))
        typer.echo(f"Nobody is judged in {workspace} without consent from here on.")

    @group.command("waive")
    def waive(workspace: str = _WORKSPACE) -> None:
        """Ask for no consent in a workspace."""
        privacy().set_rules(workspace, PrivacyRules(consent_required=False))
        typer.echo(f"Consent is not asked for in {workspace}.")

    @group.command("give")
    def give(subject: str = _SUBJECT, source: str = source, workspace: str = _WORKSPACE) -> None:
        """Record that a person has consented."""
        privacy().record(workspace, subject, given=True, source=source)
        typer.echo("Recorded.")

    @group.command("withdraw")
    def withdraw(subject: str = _SUBJECT, source: str = source, workspace: str = _WORKSPACE) -> None:
        """Record that a person has withdrawn their consent."""
        privacy().record(workspace, subject, given=False, source=source)
        typer.echo("Recorded.")

    return group
