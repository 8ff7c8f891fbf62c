"""`discern detect`: verdicts in the terminal.

- The exit code of a single input is its decision: 0 clear, 10 review, 20 flag; 1 where it could not be judged.
- Of several inputs it is 0 when all were judged, whatever the verdicts, and 1 when one was not.
- Verdicts come out in the order of the inputs; memory does not grow with their number.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import anyio
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from discern.core.errors import DiscernError, UnknownDetector
from discern.core.verdict import Verdict
from discern.detection.ports import DetectorListing
from discern.detection.sources import Item, items_of
from discern.detection.types import Detect, DetectionRequest
from discern.store.metadata import DEFAULT_WORKSPACE

EXIT_CODES = {"clear": 0, "review": 10, "flag": 20}
_STYLES = {"clear": "green", "review": "yellow", "flag": "red"}
_CHUNK = 32
LOCAL_PRINCIPAL = "local"

Answer = Verdict | DiscernError
Tools = Callable[[], tuple[Detect, DetectorListing]]


def detect_command(cli: typer.Typer, tools: Tools) -> None:
    """Add the command to `cli`; `tools` opens the plane and the list of detectors."""

    @cli.command("detect")
    def detect(
        paths: list[Path] = typer.Argument(exists=True, help="Images, videos, JSON or NDJSON records, or folders."),
        detector: str | None = typer.Option(None, "--detector", "-d", help="Detector, or NAME@VERSION."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    ) -> None:
        """Judge images, videos and records; every verdict is on the ledger before it is printed."""
        plane, listing = tools()
        choose = _chooser(listing, detector)
        total = sum(1 for _ in items_of(paths))
        show = print_json if as_json else _Table()
        answers = _show_all(plane, items_of(paths), choose, show, total)
        if isinstance(show, _Table):
            show.finish()
        if total == 0:
            typer.echo("discern: there is nothing to judge in what was named.", err=True)
            raise typer.Exit(2)
        raise typer.Exit(exit_code(answers, total))


def exit_code(answers: list[str | None], total: int) -> int:
    """Return the exit code for the decisions of a run, None standing for an input that could not be judged."""
    if None in answers:
        return 1
    return EXIT_CODES[answers[0] or ""] if total == 1 else 0


def print_json(item: Item, answer: Answer) -> None:
    """Print one line: the path with the verdict, or with the error's code, detail and facts."""
    row: dict[str, object] = {"path": item.label}
    if isinstance(answer, DiscernError):
        row["error"] = {"code": answer.code, "detail": answer.detail, "mend": answer.mend, **answer.facts}
    else:
        row |= msgspec.to_builtins(answer)
    typer.echo(msgspec.json.encode(row).decode())


class _Table:
    """Collects rows for people."""

    def __init__(self) -> None:
        self._console = Console()
        self._table = Table("Input", "Decision", "Score", "Label", "Decided by", "ms", "Note", box=None, pad_edge=False)
        self._errors: list[tuple[str, DiscernError]] = []

    def __call__(self, item: Item, answer: Answer) -> None:
        if isinstance(answer, DiscernError):
            self._table.add_row(item.label, "[magenta]not judged[/]", "", "", "", "", answer.code)
            self._errors.append((item.label, answer))
            return
        style = _STYLES[answer.decision]
        self._table.add_row(
            item.label,
            f"[{style}]{answer.decision}[/]",
            f"{answer.score:.4f}",
            answer.label or "-",
            answer.decided_by,
            f"{answer.milliseconds:.1f}",
            "; ".join(_notes(answer)),
        )

    def finish(self) -> None:
        """Print the table, and below it what could not be judged and why."""
        if self._table.row_count:
            self._console.print(self._table)
        for label, error in self._errors:
            typer.echo(f"{label}: {error}", err=True)


def _notes(verdict: Verdict) -> Iterator[str]:
    if verdict.input.face == "not_found":
        yield "no face found"
    if verdict.degraded:
        yield f"stage {verdict.degraded} failed"
    if verdict.input.kind == "video":
        yield f"{verdict.input.frames} frames"


def _chooser(listing: DetectorListing, asked: str | None) -> Callable[[Item], tuple[str, str | None]]:
    if asked is not None:
        name, _, version = asked.partition("@")
        listing.find(name, version or None)
        return lambda _item: (name, version or None)

    def choose(item: Item) -> tuple[str, str | None]:
        names = listing.taking(item.kind) if item.kind else []
        if len(names) != 1:
            which = f"{len(names)} detectors take" if names else "No detector takes"
            raise UnknownDetector(
                f"{which} {item.kind or 'this'} input; {', '.join(names) or 'none'}.", mend="Name one with -d NAME."
            )
        return names[0], None

    return choose


def _show_all(
    plane: Detect,
    items: Iterable[Item],
    choose: Callable[[Item], tuple[str, str | None]],
    show: Callable[[Item, Answer], None],
    total: int,
) -> list[str | None]:
    decisions: list[str | None] = []

    async def run() -> None:
        with _progress(total) as advance:
            async for item, answer in _answers(plane, iter(items), choose):
                show(item, answer)
                decisions.append(None if isinstance(answer, DiscernError) else answer.decision)
                advance()

    anyio.run(run)
    return decisions


async def _answers(
    plane: Detect, items: Iterator[Item], choose: Callable[[Item], tuple[str, str | None]]
) -> AsyncIterator[tuple[Item, Answer]]:
    while chunk := list(islice(items, _CHUNK)):
        answers: dict[int, Answer] = {}

        async def answer(position: int, item: Item, into: dict[int, Answer]) -> None:
            into[position] = await _answer(plane, item, choose)

        async with anyio.create_task_group() as group:
            for position, item in enumerate(chunk):
                group.start_soon(answer, position, item, answers)
        for position, item in enumerate(chunk):
            yield item, answers[position]


async def _answer(plane: Detect, item: Item, choose: Callable[[Item], tuple[str, str | None]]) -> Answer:
    if isinstance(item.content, DiscernError):
        return item.content
    try:
        name, version = choose(item)
        return await plane(DetectionRequest(DEFAULT_WORKSPACE, LOCAL_PRINCIPAL, name, item.content, version))
    except DiscernError as error:
        return error


class _progress:  # noqa: N801 - used like a function
    """A progress bar on standard error where a person watches and there is something to wait for."""

    def __init__(self, total: int) -> None:
        self._bar: Progress | None = None
        if total > 1 and sys.stderr.isatty():
            columns = (TextColumn("Judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[], None]:
        if self._bar is None:
            return lambda: None
        bar = self._bar
        bar.start()
        return lambda: bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
