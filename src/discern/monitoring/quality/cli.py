"""`discern quality`: how good detectors are, as scores and labels tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import typer
from rich.table import Column, Table

from discern.core.clock import utc_now
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.quality.report import NAMES, gap_words, page
from discern.monitoring.quality.rules import ASSUMPTIONS
from discern.monitoring.quality.service import Quality
from discern.monitoring.quality.types import KINDS, MEASURES, Figure, Kind, Measure, ReleaseQuality
from discern.tables import print_table


def quality_command(cli: typer.Typer, quality: Callable[[], Quality], check_workspace: Callable[[str], None]) -> None:
    """Add `quality`; `check_workspace` raises UnknownWorkspace."""

    @cli.command("quality")
    def show(
        detector: str | None = typer.Option(None, "--detector", "-d", help="Only of this detector."),
        version: str | None = typer.Option(None, help="Only of this version."),
        days: int | None = typer.Option(None, min=1, max=730, help="How far back; left out: as quality_days says."),
        html: Path | None = typer.Option(None, "--html", help="Write a page with charts to this file."),
        as_json: bool = typer.Option(False, "--json", help="All windows as JSON instead of a table."),
        workspace: str = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose."),
    ) -> None:
        """Show how good detectors are: estimated from scores, realised by labels, and whether the two agree."""
        check_workspace(workspace)
        quality().refresh()
        report = quality().report(workspace, detector=detector, version=version, days=days)
        if html is not None:
            _write(html, page(report, utc_now()))
            typer.echo(f"Written to {html}.")
        elif as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        elif not report.releases:
            typer.echo("No verdicts were counted yet.")
        else:
            for release in report.releases:
                _print(release)
            for one in ASSUMPTIONS:
                typer.echo(f"- {one}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"{path} cannot be written: {error.strerror}.", mend="Name another file.") from error


def _print(release: ReleaseQuality) -> None:
    title = f"{release.detector} {release.version}"
    verdicts, labels = (Column(name, justify="right") for name in ("Verdicts", "Labels"))
    table = Table(title, "Estimated", "Window", verdicts, "By labels", "Window", labels, box=None, pad_edge=False)
    for measure in MEASURES:
        table.add_row(NAMES[measure], *(cell for kind in KINDS for cell in _cells(release, measure, kind)))
    print_table(table)
    for gap in release.gaps:
        evidence = f"evidence {gap.evidence:,.1f} of {gap.needed:,.0f}"
        typer.echo(f"gap in {NAMES[gap.measure].lower()}: {gap_words(gap)} ({gap.labels:,} labels, {evidence})")
    for one in release.caveats:
        typer.echo(one)


def _cells(release: ReleaseQuality, measure: Measure, kind: Kind) -> Iterator[str]:
    """Yield the figure of the last window that has it, which window that is, and how much it is from."""
    why = "no labels" if kind == "realised" else "no verdicts"
    for window in sorted(release.windows, key=lambda one: (one.is_closed, one.start), reverse=True):
        figure = next((one for one in window.figures if (one.kind, one.measure) == (kind, measure)), None)
        if figure is None:
            continue
        if figure.value is not None and (kind == "estimated" or window.is_mature):
            yield from (_shown(figure), f"{window.start:%Y-%m-%d}")
            yield f"{window.verdicts if kind == 'estimated' else window.labels:,}"
            return
        why = figure.why or "labels are still expected"
    yield from (why, "", "")


def _shown(figure: Figure) -> str:
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"
