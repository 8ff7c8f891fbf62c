"""`discern score` and `discern runs`: whole files, and what was done with them.

- The exit code is 0 when every row was judged, whatever the verdicts; 1 when one was not or the run failed; 2 when the
  command was typed wrongly; 130 when it was interrupted.
- Progress is on standard error: a bar where a person watches, a line now and then with `--verbose`, else nothing. The
  summary is on standard output.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from discern.core.errors import UnknownRun
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.bulk.sources import missing_bulk
from discern.detection.bulk.store import RunStore
from discern.detection.bulk.types import Cluster, Job, Report, Watcher
from discern.detection.bulk.types import Progress as Far
from discern.registry.types import split_reference
from discern.tables import print_table

if TYPE_CHECKING:
    from discern.detection.bulk.service import Parts

_LINE_SECONDS = 5.0
_INTERRUPTED = 130


def score_command(cli: typer.Typer, parts: Callable[[], Parts]) -> None:
    """Add the command to `cli`; `parts` opens the installation, and is asked only where pyarrow is installed."""

    @cli.command("score")
    def score(
        source: str = typer.Argument(
            metavar="INPUT", help="Parquet, CSV or NDJSON of records; a folder, a glob or a file of media; s3:// too."
        ),
        detector: str = typer.Option(..., "--detector", "-d", help="Detector, or NAME@VERSION."),
        output: Path = typer.Option(..., "--output", "-o", help="Parquet file to write."),
        id_column: str | None = typer.Option(None, "--id", help="Column to carry over, so that rows can be joined."),
        strict: bool = typer.Option(False, "--strict", help="Refuse columns that the detector does not know."),
        restart: bool = typer.Option(False, "--restart", help="Forget an interrupted run, and replace the output."),
        scheduler: str | None = typer.Option(None, "--on", help="Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT."),
        tls_ca: Path | None = typer.Option(None, exists=True, help="Certificate authority of the cluster."),
        tls_certificate: Path | None = typer.Option(None, exists=True, help="Our certificate for the cluster."),
        tls_key: Path | None = typer.Option(None, exists=True, help="Key of that certificate."),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Say every few seconds how far it is."),
    ) -> None:
        """Score a whole file into a Parquet file of verdicts; the run is on the ledger.

        An interrupted run goes on where it stopped when the same command is given again. Exit code: 0 when every row
        was judged, 1 when one was not, 2 when the command was typed wrongly.
        """
        if importlib.util.find_spec("pyarrow") is None:
            raise missing_bulk("scoring files")
        from discern.detection.bulk.service import score_file  # noqa: PLC0415 - needs an extra

        if output.suffix.lower() != ".parquet":
            raise typer.BadParameter(f"{output}: what is written is Parquet; name it so, with .parquet at the end.")
        cluster = None if scheduler is None else Cluster(scheduler, tls_ca, tls_certificate, tls_key)
        job = Job(source, output, id_column, strict, restart, cluster)
        opened = parts()
        try:
            with _watching(verbose) as watch:
                report = score_file(job, split_reference(detector), opened, watch=watch, note=_note)
        except KeyboardInterrupt:
            _note("Interrupted. The same command goes on from here.")
            raise typer.Exit(_INTERRUPTED) from None
        _print_summary(report, output)
        raise typer.Exit(1 if report.totals.refused else 0)


def run_commands(runs: Callable[[], RunStore]) -> typer.Typer:
    """Return the `runs` group."""
    group = typer.Typer(name="runs", help="What `discern score` did.", no_args_is_help=True)

    @group.command("list")
    def list_runs(
        limit: int = typer.Option(20, min=1, max=500, help="How many."),
        after: UUID | None = typer.Option(None, help="Go on after this id."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    ) -> None:
        """List runs, newest first."""
        page = runs().page(DEFAULT_WORKSPACE, limit, after)
        if as_json:
            for run in page:
                typer.echo(msgspec.json.encode(run).decode())
            return
        short = [Column(name, no_wrap=True) for name in ("Id", "When", "Rows")]
        long = [Column(name, overflow="fold") for name in ("Detector", "State", "Input")]
        table = Table(*short, *long, box=None, pad_edge=False)
        for run in page:
            table.add_row(
                run.id,
                run.started_at.strftime("%Y-%m-%d %H:%M:%S"),
                f"{run.rows:,}",
                f"{run.detector} {run.version}",
                "done" if run.finished_at else "unfinished",
                escape(_printable(run.input)),
            )
        print_table(table)

    @group.command("show")
    def show(run_id: UUID = typer.Argument(help="Id of the run.")) -> None:
        """Print one run as JSON."""
        run = runs().get(DEFAULT_WORKSPACE, run_id)
        if run is None:
            raise UnknownRun(f"There is no run {run_id}.", mend="`discern runs list` lists them.")
        typer.echo(msgspec.json.format(msgspec.json.encode(run), indent=2).decode())

    return group


@contextmanager
def _watching(verbose: bool) -> Iterator[Watcher]:
    if sys.stderr.isatty():
        columns = (
            TextColumn("Scoring"),
            BarColumn(),
            TextColumn("{task.fields[rows]} rows, {task.fields[rate]} rows/s,"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, rows="0", rate="-")

            def show(far: Far) -> None:
                total = None if far.share is None else 1.0
                bar.update(
                    task, completed=far.share or 0.0, total=total, rows=f"{far.rows:,}", rate=f"{_rate(far):,.0f}"
                )

            yield show
        return
    told = time.monotonic()

    def tell(far: Far) -> None:
        nonlocal told
        if verbose and time.monotonic() - told >= _LINE_SECONDS:
            told = time.monotonic()
            _note(_line(far))

    yield tell


def _rate(far: Far) -> float:
    return (far.rows - far.resumed) / max(far.seconds, 1e-9)


def _line(far: Far) -> str:
    line = f"{far.rows:,} rows, {_rate(far):,.0f} rows/s"
    if far.share is None:
        return f"{line}."
    line += f", {far.share:.0%}"
    if far.total is not None and far.rows > far.resumed:
        return f"{line}, {_duration((far.total - far.rows) / _rate(far))} left."
    return f"{line}."


def _print_summary(report: Report, output: Path) -> None:
    totals, run = report.totals, report.run
    rows = max(1, totals.rows)
    lines = [
        ("Run", run.id),
        ("Detector", f"{run.detector} {run.version}"),
        ("Output", str(output)),
        (
            "Rows",
            f"{totals.rows:,}" + (f", {report.scored:,} of them this time" if report.scored < totals.rows else ""),
        ),
        *((name.capitalize(), f"{count:,} ({count / rows:.2%})") for name, count in totals.decisions.items()),
        *((f"Decided by {name}", f"{count:,} ({count / rows:.2%})") for name, count in totals.decided_by.items()),
    ]
    if totals.degraded:
        lines.append(("Degraded", f"{totals.degraded:,}"))
    lines += [(f"Not judged: {code}", f"{count:,}") for code, count in sorted(totals.errors.items())]
    lines.append(("Time", f"{_duration(report.seconds)}, {report.scored / max(report.seconds, 1e-9):,.0f} rows/s"))
    table = Table.grid(padding=(0, 2))
    for name, text in lines:
        table.add_row(escape(name), escape(_printable(text)))
    print_table(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _note(text: str) -> None:
    typer.echo(_printable(text), err=True)
