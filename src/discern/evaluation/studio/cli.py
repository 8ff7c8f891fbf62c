"""`discern thresholds`: thresholds, exits and calibration chosen on labelled data, with their evidence."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from discern.core.errors import MissingExtra
from discern.detectors.files import taken
from discern.detectors.refusal import printable
from discern.evaluation.studio.types import Costs
from discern.tables import print_table

if TYPE_CHECKING:
    from discern.evaluation.ports import Progress, Watcher
    from discern.evaluation.service import Parts
    from discern.evaluation.studio.service_asked import Asked
    from discern.evaluation.studio.types import ThresholdChoice

_NEEDED = ("jinja2", "scipy", "statsmodels")
_INTERRUPTED = 130
_LINE_SECONDS = 5.0
_SAID = 2000


def thresholds_command(cli: typer.Typer, parts: Callable[[], Parts]) -> None:
    """Add the command to `cli`; `parts` is asked only where what it needs is installed."""

    @cli.command("thresholds")
    def thresholds(
        detector: str = typer.Argument(metavar="DETECTOR", help="NAME[@VERSION], or the folder of a bundle."),
        data: Path = typer.Option(..., "--data", exists=True, dir_okay=False, help="Manifest of a frozen dataset."),
        root: Path | None = typer.Option(None, "--root", help="Folder of the dataset; else that of the manifest."),
        split: str | None = typer.Option(None, "--split", help="Side to choose on; left out: all items."),
        false_alarm: float | None = typer.Option(None, help="What it costs to flag a negative."),
        miss: float | None = typer.Option(None, help="What it costs to clear a positive."),
        review_minute: float = typer.Option(0.0, min=0.0, help="What a minute of review costs."),
        minutes: float = typer.Option(1.0, min=0.0, help="Minutes that a review takes."),
        reviewer_error: float = typer.Option(0.0, help="Share of reviews that decide wrongly."),
        amount_field: str | None = typer.Option(None, help="Field of the record that says what is at stake."),
        amount_share: float | None = typer.Option(
            None, help="Share of the amount that a miss costs besides; left out: all of it where a field is named."
        ),
        bands: int = typer.Option(1, min=1, max=20, help="So many bands of the amount, each with its thresholds."),
        reviews_a_day: float | None = typer.Option(None, help="At most so many reviews a day."),
        cards_a_day: float | None = typer.Option(
            None, help="At most so many different cards a day have a payment reviewed; the data name card and day."
        ),
        items_a_day: float | None = typer.Option(None, help="Items that come a day; else by the days of the data."),
        max_fpr: float | None = typer.Option(None, help="At most this share of the negatives is flagged."),
        upper_end: bool = typer.Option(False, "--upper-end", help="Hold it at the upper end of its 95 % interval."),
        prevalence: float | None = typer.Option(None, help="Share of positives where it runs; else that of the data."),
        calibrate: str | None = typer.Option(None, "--calibrate", help="Side to fit the calibration on first."),
        exit_loss: float = typer.Option(0.01, help="Share that early exits may add to the expected cost."),
        stage_cost: list[float] = typer.Option([], "--stage-cost", help="What each stage costs an item; given again."),
        seed: int = typer.Option(1, min=0, help="Seed of everything that is drawn."),
        out: Path | None = typer.Option(
            None, "--out", "-o", help="Folder of the report; else thresholds-NAME-VERSION."
        ),
        write: Path | None = typer.Option(None, "--write", help="Folder to make: the bundle's next version with it."),
        replace: bool = typer.Option(False, "--replace", help="Replace the report that stands there."),
    ) -> None:
        """Choose thresholds by what errors cost, by how much can be reviewed, or by a limit of false alarms.

        Writes a page and its JSON, and with --write the next version of the bundle, unsigned.
        """
        _check_installed()
        from discern.evaluation.studio.service_asked import Asked  # noqa: PLC0415 - needs an extra

        asked = Asked(
            detector, data, root or data.parent, split,
            _costs(false_alarm, miss, review_minute * minutes, reviewer_error, amount_field, amount_share),
            reviews_a_day, items_a_day, max_fpr, upper_end, prevalence, amount_field, bands, calibrate, exit_loss,
            tuple(stage_cost), seed, cards_a_day,
        )  # fmt: skip
        _choose(asked, parts, out, write, replace=replace)


def _costs(
    false_alarm: float | None,
    miss: float | None,
    review: float,
    reviewer_error: float,
    amount_field: str | None,
    amount_share: float | None,
) -> Costs | None:
    """Return the costs, None where none of an error is said. What is lost with an amount needs no cost besides."""
    share = amount_share if amount_share is not None else 1.0 if amount_field is not None else 0.0
    if false_alarm is None and miss is None and not share:
        return None
    usual = 0.0 if share else 1.0
    return Costs(
        1.0 if false_alarm is None else false_alarm, usual if miss is None else miss, review, reviewer_error, share
    )


def _choose(asked: Asked, parts: Callable[[], Parts], out: Path | None, write: Path | None, *, replace: bool) -> None:
    from discern.evaluation import report as files  # noqa: PLC0415 - needs an extra
    from discern.evaluation.journal import Journal  # noqa: PLC0415
    from discern.evaluation.studio import report  # noqa: PLC0415
    from discern.evaluation.studio.service import look, run  # noqa: PLC0415
    from discern.evaluation.studio.service_bundle import write_next  # noqa: PLC0415

    if write is not None and write.exists():
        raise taken(write)
    opened = parts()
    looked = look(asked, opened)
    manifest = looked.bundle.manifest
    folder = out or Path(f"thresholds-{manifest.name}-{manifest.version}")
    if (folder / report.JSON).exists() and not replace:
        raise taken(folder / report.JSON)
    files.check_free(folder, replace=True)
    journal = Journal(folder)
    try:
        with journal.held():
            if (folder / report.JSON).exists() and not replace:  # of whoever had the folder until just then
                raise taken(folder / report.JSON)
            choice = run(asked, looked, opened, folder, _watcher())
            report.write(folder, choice)
            journal.remove()
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same command goes on from here.", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    _print(choice, asked)
    typer.echo(str(folder / report.PAGE))
    if write is not None:
        made = write_next(looked.bundle, choice, asked.calibrate, write)
        if made.manifest.variants:
            names = ", ".join(one.name for one in made.manifest.variants)
            typer.echo(f"{names} passed the gate at other thresholds: see `discern detector optimise`.", err=True)
        typer.echo(f"{made.root}: {made.manifest.name} {made.manifest.version}. Sign it next.", err=True)


def _check_installed() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"Choosing thresholds needs {', '.join(missing)}, which the extra `evaluate` brings.",
            mend="Install it: pip install 'discern-detectors[evaluate]'.",
            extra="evaluate",
        )


def _watcher() -> Watcher:
    told = time.monotonic()

    def tell(far: Progress) -> None:
        nonlocal told
        if sys.stderr.isatty() and time.monotonic() - told >= _LINE_SECONDS:
            told = time.monotonic()
            typer.echo(f"{printable(far.dataset)}: {far.rows:,} of {far.total:,} items.", err=True)

    return tell


def _print(choice: ThresholdChoice, asked: Asked) -> None:
    from discern.evaluation.studio.report import verdict  # noqa: PLC0415 - needs an extra

    cuts = Table(asked.amount_field or "", "Review from", "Flag from", box=None, pad_edge=False)
    for cut in choice.chosen.cuts:
        start = "" if cut.start is None else f"from {cut.start:g}"
        if cut.start is None and len(choice.chosen.cuts) > 1:
            start = f"below {choice.chosen.cuts[1].start:g}"
        cuts.add_row(start, f"{cut.review_from:g}", f"{cut.flag_from:g}")
    print_table(cuts)
    for exit_, stage in zip(choice.chosen.exits, choice.stages, strict=False):
        decides = "" if stage.decided.value is None else f", decides {stage.decided.value:.1%}"
        typer.echo(f"{stage.stage}: clears below {exit_.clear_below:g}, flags from {exit_.flag_above:g}{decides}")
    flow = Table("Class", "Items", "Cleared", "Reviewed", "Flagged", box=None, pad_edge=False)
    for one in choice.flows:
        shares = ("-" if share.value is None else f"{share.value:.2%}" for share in (one.clear, one.review, one.flag))
        flow.add_row(escape(one.label), f"{one.items:,}", *shares)
    print_table(flow)
    of = f" below {choice.chosen.cuts[1].start:g}" if len(choice.chosen.cuts) > 1 else ""
    table = Table("If", f"Review from{of}", f"Flag from{of}", "Cost", "Cost of the chosen", box=None, pad_edge=False)
    for other in choice.what_if:
        table.add_row(
            escape(printable(other.assumption)),
            f"{other.review_from:g}",
            f"{other.flag_from:g}",
            f"{other.cost:.4g}",
            f"{other.cost_of_chosen:.4g}{'' if other.chosen_keeps else ', over the limit'}",
        )
    print_table(table)
    typer.echo(printable(verdict(choice), _SAID))
    for caveat in choice.caveats:
        typer.echo(f"Note: {printable(caveat, _SAID)}")
