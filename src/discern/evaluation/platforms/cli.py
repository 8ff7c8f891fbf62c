"""`discern detector optimise`, `platforms` and `fetch-browser-runtime`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.files import replace_file, taken
from discern.detectors.optimise import CONVERSIONS
from discern.detectors.packing import next_version
from discern.detectors.vetting import VettingLimits, vet
from discern.evaluation.datasets_contents import needs_extra
from discern.evaluation.platforms.types import GateResult, LabelledRows, Watch
from discern.evaluation.types_platforms import PlatformTable
from discern.tables import print_table

if TYPE_CHECKING:
    from discern.inputs.faces import FaceLocator
    from discern.inputs.types import InputLimits

_REFUSED = 1
_DATA = "A frozen manifest, a folder with a sub-folder for each class, or a table of records with a column `label`."
_ROOT = "Folder the files of a frozen manifest lie in; else its own."
_SPLIT = "Take this side of the dataset alone."
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Bench:
    """What these commands work with. `find` returns an installed bundle by NAME or NAME@VERSION."""

    find: Callable[[str], Bundle]
    limits: InputLimits
    locator: FaceLocator
    vetting: VettingLimits
    cache: Path


def platform_commands(group: typer.Typer, bench: Callable[[], Bench]) -> None:
    """Add the commands to the group `detector`; `bench` is asked when one runs."""
    _optimising(group, bench)
    _measuring(group, bench)

    @group.command("fetch-browser-runtime")
    def fetch_browser_runtime() -> None:
        """Download onnxruntime-web with npm, so that `platforms` can measure in a browser."""
        from discern.evaluation.platforms.service_browser import fetch  # noqa: PLC0415 - other commands do without

        typer.echo(str(fetch(bench().cache)))


def _optimising(group: typer.Typer, bench: Callable[[], Bench]) -> None:
    @group.command("optimise")
    def optimise_bundle(
        target: str = typer.Argument(help="NAME[@VERSION], or the folder of a bundle."),
        data: Path = typer.Option(..., "--data", exists=True, help=_DATA),
        root: Path | None = typer.Option(None, exists=True, help=_ROOT),
        split: str | None = typer.Option(None, help=_SPLIT),
        margin: float = typer.Option(
            0.01, min=0.0001, max=0.5, help="Share of a class that may be lost at a threshold."
        ),
        kind: list[str] = typer.Option(list(CONVERSIONS), "--kind", help="Kind of variant to try; may be given again."),
        most: int = typer.Option(_MOST, "--most", min=2, help="Most items of a class that are looked at."),
        version: str | None = typer.Option(
            None, "--version", help="Version of what is written; else the next minor one."
        ),
        out: Path | None = typer.Option(None, "--out", "-o", help="Folder to make; left out: NAME-VERSION here."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    ) -> None:
        """Make smaller and faster variants, and write those that the gate accepts into the bundle's next version.

        Exit code: 0 when one was accepted, 1 when none was and nothing is written.
        """
        unknown = [name for name in kind if name not in CONVERSIONS]
        if unknown:
            raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(CONVERSIONS)}", param_hint="--kind")
        needs_extra("scipy")
        from discern.evaluation.platforms.service import optimise  # noqa: PLC0415 - other commands do without
        from discern.evaluation.platforms.service_bundle import write_next  # noqa: PLC0415

        opened = bench()
        bundle = _vetted(opened, target)
        named = version or next_version(bundle.manifest.version)
        destination = out or Path(f"{bundle.manifest.name}-{named}")
        if destination.exists():
            raise taken(destination)
        rows = _rows(opened, bundle, data, root, split, most)
        with _watching() as watch:
            outcome = optimise(bundle, rows, margin=margin, kinds=tuple(dict.fromkeys(kind)), watch=watch)
        _print_results(outcome.results, as_json=as_json)
        if not outcome.accepted:
            typer.echo("No variant was accepted; nothing is written.", err=True)
            raise typer.Exit(_REFUSED)
        made = write_next(bundle, outcome, destination, named)
        names = ", ".join(variant.name for variant in outcome.accepted)
        typer.echo(f"{made.root}: with {names}; {outcome.serves or 'fp32'} answers. Sign it next.", err=True)


def _measuring(group: typer.Typer, bench: Callable[[], Bench]) -> None:
    @group.command("platforms")
    def platforms(
        target: str = typer.Argument(help="NAME[@VERSION], or the folder of a bundle."),
        data: Path = typer.Option(..., "--data", exists=True, help=_DATA),
        root: Path | None = typer.Option(None, exists=True, help=_ROOT),
        split: str | None = typer.Option(None, help=_SPLIT),
        runtime: list[str] = typer.Option([], "--runtime", help="Runtime besides onnxruntime; left out: every one."),
        items: int = typer.Option(100, "--items", min=2, help="Items that are run, one at a time."),
        out: Path | None = typer.Option(None, "--out", "-o", help="File to write the table to as JSON."),
    ) -> None:
        """Measure every variant of a bundle on every runtime: latency, memory, size, agreement."""
        needs_extra("scipy")
        from discern.evaluation.platforms.service_measuring import (  # noqa: PLC0415 - other commands do without
            RUNTIMES,
            measure_platforms,
        )

        unknown = [name for name in runtime if name not in RUNTIMES]
        if unknown:
            raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(RUNTIMES)}", param_hint="--runtime")
        opened = bench()
        bundle = _vetted(opened, target)
        rows = _rows(opened, bundle, data, root, split, items)
        with _watching() as watch:
            table = measure_platforms(
                bundle, rows, cache=opened.cache, runtimes=runtime or tuple(RUNTIMES), items=items, watch=watch
            )
        _print_table(table)
        if out is not None:
            try:
                replace_file(out, msgspec.json.format(msgspec.json.encode(table)) + b"\n")
            except OSError as error:
                raise OperatorError(f"{out} cannot be written: {error.strerror}.", file=str(out)) from error


def _vetted(bench: Bench, target: str) -> Bundle:
    """Return the bundle, whose models have run in a process apart before they run in one without limits."""
    bundle = open_bundle(Path(target), None) if Path(target).is_dir() else bench.find(target)
    vet(bundle, bench.vetting)
    return bundle


def _rows(bench: Bench, bundle: Bundle, data: Path, root: Path | None, split: str | None, most: int) -> LabelledRows:
    from discern.evaluation.platforms.sources import labelled_rows  # noqa: PLC0415 - other commands do without
    from discern.evaluation.sources import Asked, source_of  # noqa: PLC0415

    asked = Asked(() if root is None else (str(root),), () if split is None else (split,))
    source = source_of(str(data), bundle.manifest, asked, bench.limits)
    for caveat in source.caveats:
        typer.echo(caveat, err=True)
    rows = labelled_rows(source, bundle.manifest, bench.limits, bench.locator, most=most)
    for caveat in rows.caveats:
        typer.echo(f"{rows.name}: {caveat}.", err=True)
    return rows


@contextmanager
def _watching() -> Iterator[Watch]:
    """Say on standard error what is being done, where a person watches."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    with Console(stderr=True).status("") as status:
        yield status.update


def _print_results(results: tuple[GateResult, ...], *, as_json: bool) -> None:
    if as_json:
        for one in results:
            typer.echo(msgspec.json.encode(one).decode())
        return
    table = Table("Variant", "Stage", "Gate", "Size", "Speed", "Why", box=None, pad_edge=False)
    for one in results:
        size = f"{one.size / one.size_before:.0%}" if one.size and one.size_before else ""
        speed = f"{one.speed_up:.2f} x" if one.speed_up else ""
        state = "[green]accepted[/]" if one.accepted else "[red]refused[/]"
        table.add_row(one.variant, escape(one.stage), state, size, speed, escape(one.reason))
    print_table(table)


def _print_table(found: PlatformTable) -> None:
    table = Table(
        "Variant", "Runtime", "p50 ms", "p95 ms", "Memory MB", "Size MB", "Max diff", "Mean diff", "Other", "AUC",
        box=None, pad_edge=False,
    )  # fmt: skip
    for row in found.rows:
        if row.missing is not None:
            table.add_row(row.variant, row.runtime, f"[yellow]{escape(row.missing)}[/]")
            continue
        area = row.area_under_roc.value if row.area_under_roc else None
        table.add_row(
            row.variant,
            f"{row.runtime} {escape(row.version)}",
            _shown(row.latency_p50_milliseconds, ".2f"),
            _shown(row.latency_p95_milliseconds, ".2f"),
            _shown(None if row.peak_bytes is None else row.peak_bytes / 1e6, ".0f"),
            _shown(None if row.size is None else row.size / 1e6, ".2f"),
            _shown(row.largest_difference, ".1e"),
            _shown(row.mean_difference, ".1e"),
            f"{row.decisions_differ} of {found.items}",
            _shown(area, ".4f"),
        )
    print_table(table)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
