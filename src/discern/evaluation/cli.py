"""`discern evaluate`: how good a detector is, on which data.

- The exit code is 0 when the report is written, whatever it says; 1 when it is not; 2 when the command was typed
  wrongly; 130 when it was interrupted, and the same command goes on from there.
- Progress is on standard error, the verdict on standard output.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from discern.core.errors import MissingExtra
from discern.detectors.refusal import printable
from discern.evaluation.datasets_contents import needs_extra
from discern.evaluation.ports import Progress as Far
from discern.evaluation.ports import Watcher
from discern.tables import print_table

if TYPE_CHECKING:
    from discern.evaluation.metrics import OperatingPoint
    from discern.evaluation.results import Result, Timings
    from discern.evaluation.service import Evaluation, Looked, Parts
    from discern.evaluation.types import Estimate

_INTERRUPTED = 130
_LINE_SECONDS = 5.0
_SAID = 2000
"""Characters of a sentence that holds names of a dataset."""

_DATA_HELP = (
    "[NAME=]PATH: a frozen manifest, a folder with a sub-folder for each class, Parquet or CSV. May be repeated."
)
_ROOT_HELP = "[NAME=]DIR the files of a frozen manifest lie in; else the manifest's own folder."
_CONDITIONS_HELP = "all, none, or names with commas: corrupt the items at five strengths each, too."


def evaluate_command(cli: typer.Typer, parts: Callable[[], Parts]) -> None:
    """Add the command to `cli`; `parts` is asked only where what it needs is installed."""

    @cli.command("evaluate")
    def evaluate(
        detector: str = typer.Argument(metavar="DETECTOR", help="NAME[@VERSION], or the folder of a bundle."),
        data: list[str] = typer.Option(..., "--data", help=_DATA_HELP),
        root: list[str] = typer.Option([], "--root", help=_ROOT_HELP),
        split: list[str] = typer.Option([], "--split", help="[NAME=]SIDE: measure this side of the dataset alone."),
        compare: str | None = typer.Option(None, "--compare", help="A second detector, on the same items."),
        out: Path | None = typer.Option(
            None, "--out", "-o", help="Folder of the report; else evaluation-NAME-VERSION."
        ),
        seed: int = typer.Option(1, min=0, help="Seed of everything that is drawn."),
        label: str | None = typer.Option(None, help="Column with the label, in a table that nobody froze."),
        group: str | None = typer.Option(None, help="Column that says which of its rows belong together."),
        against: Path | None = typer.Option(None, help="Manifest of the training data, to check for leakage."),
        against_root: Path | None = typer.Option(None, help="Folder of the training data; else its manifest's."),
        pictures: bool = typer.Option(True, help="Compare pictures for leakage, for which every one is decoded."),
        platforms: bool = typer.Option(False, "--platforms", help="Measure its variants on every runtime too."),
        conditions: str = typer.Option("none", help=_CONDITIONS_HELP),
        condition_items: int = typer.Option(
            500, "--condition-items", min=1, help="Most items of each class that conditions and attacks take."
        ),
        adversarial: int = typer.Option(
            0, min=0, max=10_000, help="Attack positives with so many queries an item; 0: do not."
        ),
        show_inputs: bool = typer.Option(False, "--show-inputs", help="Put small pictures of the worst mistakes in."),
        mlflow: str | None = typer.Option(None, "--mlflow", help="Log the run to this MLflow tracking URI too."),
        plan: bool = typer.Option(False, "--plan", help="Say what would be done, and do nothing."),
        replace: bool = typer.Option(False, "--replace", help="Replace the report that stands there."),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Say every few seconds how far it is."),
    ) -> None:
        """Measure a detector on labelled data; write a page to sign, its JSON, and Markdown for the card.

        No server needs to run. An interrupted run goes on where it stopped when the same command is given again.
        """
        _check_installed(mlflow is not None)
        from discern.evaluation.conditions.registry import named  # noqa: PLC0415 - other commands do without
        from discern.evaluation.service import Evaluation  # noqa: PLC0415 - needs an extra
        from discern.evaluation.sources import Asked  # noqa: PLC0415

        asked = Evaluation(
            detector=detector,
            data=tuple(data),
            out=out,
            compare=compare,
            seed=seed,
            show_inputs=show_inputs,
            asked=Asked(tuple(root), tuple(split), label, group),
            against=against,
            against_root=against_root,
            pictures=pictures,
            platforms=platforms,
            conditions=named(conditions),
            condition_items=condition_items,
            queries=adversarial,
        )
        _evaluate(asked, parts(), plan=plan, replace=replace, verbose=verbose, mlflow=mlflow)


def _evaluate(asked: Evaluation, parts: Parts, *, plan: bool, replace: bool, verbose: bool, mlflow: str | None) -> None:
    from discern.evaluation import report  # noqa: PLC0415 - needs an extra
    from discern.evaluation.journal import Journal  # noqa: PLC0415
    from discern.evaluation.service import look, run  # noqa: PLC0415

    try:
        with _watching(verbose) as watch:
            looked = look(asked, parts, _freezing(watch))
        manifest = looked.bundle.manifest
        out = asked.out or Path(f"evaluation-{manifest.name}-{manifest.version}")
        if plan:
            _print_plan(asked, looked, out)
            return
        report.check_free(out, replace=replace)
        journal = Journal(out)
        with journal.held():
            report.check_free(out, replace=replace)  # whoever had the folder until just then may have written
            with _watching(verbose) as watch:
                result, timings = run(asked, looked, parts, journal, watch)
            _write(out, result, timings, looked)
            journal.remove()
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same command goes on from here.", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    if mlflow is not None:
        from discern.evaluation.service_mlflow import log_run  # noqa: PLC0415 - needs an extra

        log_run(mlflow, report.rounded(result), out)
    _print_result(result, out)


def _write(out: Path, result: Result, timings: Timings, looked: Looked) -> None:
    from discern.evaluation import report, report_pages  # noqa: PLC0415 - needs an extra

    shown = report.rounded(result)
    made = [source for source in looked.sources if source.made]
    names = report.manifest_names([source.name for source in made])
    report.write(
        out,
        [
            *((name, source.manifest.encoded) for name, source in zip(names, made, strict=True)),
            (report.TIMINGS, report.canonical(timings)),
            (report.PAGE, report_pages.html(shown, report.rounded(timings))),
            (report.MARKDOWN, report_pages.markdown(shown)),
            (report.JSON, report.canonical(result)),
        ],
    )


def _check_installed(mlflow: bool) -> None:
    needs_extra("jinja2", "pyarrow", "scipy", "statsmodels")
    if mlflow and importlib.util.find_spec("mlflow") is None:
        raise MissingExtra(
            "Logging to MLflow needs what the extra `mlflow` brings.",
            mend="Install it: pip install 'discern-detectors[mlflow]'.",
            extra="mlflow",
        )


def _print_plan(asked: Evaluation, looked: Looked, out: Path) -> None:
    table = Table.grid(padding=(0, 2))
    for what, bundle in (("Detector", looked.bundle), ("Compared with", looked.other)):
        if bundle is not None:
            table.add_row(what, escape(f"{bundle.manifest.name} {bundle.manifest.version}, {bundle.digest}"))
    for source in looked.sources:
        examples = source.examples
        positives = int(examples.labels.sum())
        text = f"{len(examples.ids):,} items, {positives:,} positive, {source.manifest_sha256}"
        table.add_row(escape(printable(source.name)), escape(text))
        for caveat in source.caveats:
            table.add_row("", escape(printable(caveat, _SAID)))
    table.add_row("Report", escape(printable(out)))
    table.add_row("Command", escape(printable(asked.command, _SAID)))
    print_table(table)


def _print_result(result: Result, out: Path) -> None:
    table = Table("Dataset", "Items", "AUC", "Flagged +", "Cleared +", "Flagged -", box=None, pad_edge=False)
    for one in result.datasets:
        table.add_row(escape(printable(one.name)), f"{one.items:,}", *_figures(one.metrics["auc"], one.operating))
        if one.videos is not None and one.videos.operating is not None:
            videos = f"{one.videos.videos:,}"
            table.add_row(
                f"{escape(printable(one.name))}, by video",
                videos,
                *_figures(one.videos.metrics["auc"], one.videos.operating),
            )
    print_table(table)
    _print_events(result)
    typer.echo(printable(result.verdict, _SAID))
    for caveat in (*result.caveats, *(caveat for one in result.datasets for caveat in one.caveats)):
        typer.echo(f"Note: {printable(caveat, _SAID)}")
    typer.echo(str(out / "report.html"))


def _figures(area: Estimate, operating: OperatingPoint) -> list[str]:
    shares = (operating.positive.flag, operating.positive.clear, operating.negative.flag)
    return [
        "-" if area.value is None else f"{area.value:.3f}",
        *("-" if share.value is None else f"{share.value:.1%}" for share in shares),
    ]


def _print_events(result: Result) -> None:
    table = Table("Dataset", "Event", "True", "Seen", "Recall", "Precision", "Onset error", box=None, pad_edge=False)
    for one in result.datasets:
        for event in one.events or ():
            scores = event.scores
            shares = ("-" if e.value is None else f"{e.value:.1%}" for e in (scores.recall, scores.precision))
            onset = "-" if scores.onset_error.value is None else f"{scores.onset_error.value:.2f} s"
            counts = (f"{scores.true_events:,}", f"{scores.found_events:,}")
            table.add_row(escape(printable(one.name)), escape(printable(event.name)), *counts, *shares, onset)
    if table.row_count:
        print_table(table)


def _freezing(watch: Watcher) -> Callable[[int, int], None]:
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        watch(Far("reading", done, total, 0, time.monotonic() - started))

    return tell


@contextmanager
def _watching(verbose: bool) -> Iterator[Watcher]:
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]} items/s,"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, rate="-")

            def show(far: Far) -> None:
                bar.update(
                    task,
                    description=escape(f"{printable(far.dataset)}: {far.rows:,} of {far.total:,}"),
                    completed=far.rows,
                    total=far.total,
                    rate=f"{_rate(far):,.0f}",
                )

            yield show
        return
    told = time.monotonic()

    def tell(far: Far) -> None:
        nonlocal told
        if verbose and time.monotonic() - told >= _LINE_SECONDS:
            told = time.monotonic()
            typer.echo(f"{printable(far.dataset)}: {far.rows:,} of {far.total:,} items, {_rate(far):,.0f}/s.", err=True)

    yield tell


def _rate(far: Far) -> float:
    return (far.rows - far.resumed) / max(far.seconds, 1e-9)
