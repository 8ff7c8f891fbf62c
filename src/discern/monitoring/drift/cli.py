"""`discern drift`: whether detectors are shown, and say, what they were made on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import typer
from rich.table import Column, Table

from discern.access.types import LOCAL, Principal
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.drift.service import Drift
from discern.monitoring.drift.types import DriftReport, ReleaseReport, Source, SubjectReport
from discern.registry.types import split_reference
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose.")
_SOURCES: tuple[Source, ...] = ("traffic", "bundle")
_MEDIAN = 2


def drift_commands(drift: Callable[[], Drift], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `drift` group; `check_workspace` raises UnknownWorkspace."""
    group = typer.Typer(
        name="drift",
        help="Whether inputs and answers are still what detectors were made on. Without a command it shows how they "
        "stand.",
        invoke_without_command=True,
    )

    @group.callback()
    def show(
        context: typer.Context,
        workspace: str = _WORKSPACE,
        detector: str = typer.Option("", "--detector", "-d", help="One alone, as NAME or NAME@VERSION."),
        changes: bool = typer.Option(False, "--changes", help="Show what began and ended instead."),
        as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    ) -> None:
        """Show of each release what its last window of verdicts said."""
        if context.invoked_subcommand is not None:
            return
        check_workspace(workspace)
        name, version = split_reference(detector)
        report = drift().report(_of(workspace), name or None, version)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        elif changes:
            _print_changes(report)
        else:
            _print_releases(report)

    @group.command("baseline")
    def baseline(
        detector: str = typer.Argument(help="NAME or NAME@VERSION."),
        subject: str = typer.Option("", "--subject", help="One subject, such as `score`; without it all."),
        source: str = typer.Option(
            "traffic", "--of", help="`traffic`: learn from the verdicts to come; `bundle`: take the bundle's again."
        ),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Have a release compared with something else from here on; it goes on the audit log."""
        check_workspace(workspace)
        name, version = split_reference(detector)
        found = drift().learn(workspace, name, version, subject or None, _source(source))
        told = "is learned from the verdicts to come" if source == "traffic" else "is the bundle's"
        typer.echo(f"{detector}: the reference of {', '.join(found)} {told}.")

    return group


def _of(workspace: str) -> Principal:
    return msgspec.structs.replace(LOCAL, workspace=workspace)


def _source(text: str) -> Source:
    for source in _SOURCES:
        if source == text:
            return source
    raise CallerError(f"There is no reference of {text[:100]!r}.", mend=f"Use one of: {', '.join(_SOURCES)}.")


def _print_releases(report: DriftReport) -> None:
    if not report.releases:
        typer.echo("No verdicts were looked at yet.")
        return
    right = [Column(name, justify="right") for name in ("Median", "before", "Shift", "Distance", "p-value")]
    table = Table("Release", "Subject", "State", *right, "Reference", box=None, pad_edge=False)
    for release in report.releases:
        for subject in release.subjects:
            table.add_row(f"{release.detector} {release.version}", subject.name, *_row(subject))
    print_table(table)
    for release in report.releases:
        typer.echo(_open(release, report))
        moved = [subject for subject in release.subjects if subject.mend is not None]
        if moved:
            typer.echo(f"  {', '.join(one.name for one in moved)} moved. Of the first: {moved[0].mend}")
        if release.labels is not None:
            state = "scores are less right than before" if release.labels.alarm else "as before"
            typer.echo(f"  {release.labels.labels:,} labels: {state}; mean squared error {release.labels.loss:.4f}.")
    typer.echo(report.promise)


def _row(subject: SubjectReport) -> tuple[str, ...]:
    reference, last = subject.reference, subject.last
    if reference is None:
        return ("learning", "", "", "", "", "", f"{subject.learned_windows} windows learned")
    since = "" if reference.since is None else f" from {_day(reference.since)}"
    of = f"{reference.verdicts:,} of {reference.source}{since}"
    if last is None:
        return ("no window yet", "", _median(reference.quantiles), "", "", "", of)
    state = "as before" if subject.alarm is None else f"moved, since {_minute(subject.alarm.since)}"
    shift = "" if last.shift is None else f"{last.shift:+.2f}"
    medians = _median(last.quantiles), _median(reference.quantiles)
    return (state, *medians, shift, f"{last.distance:.3f}", f"{last.p_value:.2g}", of)


def _median(quantiles: tuple[float, ...]) -> str:
    return f"{quantiles[_MEDIAN]:.4g}" if quantiles else ""


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _open(release: ReleaseReport, report: DriftReport) -> str:
    windows = f"{release.detector} {release.version}: {release.windows:,} windows"
    gathered = f"{release.open_verdicts:,} verdicts since {_minute(release.open_since)}"
    closes = f"it is compared once it has {report.window_verdicts:,} and {report.window_seconds:g} s are over"
    return f"{windows} compared; the open one has {gathered}, and {closes}."


def _print_changes(report: DriftReport) -> None:
    if not report.changes:
        typer.echo("Nothing began or ended.")
        return
    right = (Column(name, justify="right") for name in ("Shift", "Distance"))
    table = Table("At", "Release", "Subject", "Change", "Since", *right, box=None, pad_edge=False)
    for change in report.changes:
        shift = "" if change.shift is None else f"{change.shift:+.2f}"
        table.add_row(
            _minute(change.at),
            f"{change.detector} {change.version}",
            change.subject,
            change.change,
            _minute(change.since),
            shift,
            f"{change.distance:.3f}",
        )
    print_table(table)
