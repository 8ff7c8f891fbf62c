"""`discern detect`: verdicts in the terminal.

- The exit code of a single input is its decision: 0 clear, 10 review, 20 flag; 1 where it could not be judged.
- Of several inputs it is 0 when all were judged, whatever the verdicts, and 1 when one was not.
- Verdicts come out in the order of the inputs, and with `--json` as soon as they are there; only so many inputs are in
  work at a time.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from discern.access.types import LOCAL
from discern.core.errors import DiscernError, UnknownDetector
from discern.core.verdict import Verdict
from discern.detection.ports import DetectorSource
from discern.detection.sources import Item, files_of, items_of
from discern.detection.types import Detect, DetectionRequest
from discern.detectors.timeline import TOO_LITTLE_KNOWN
from discern.inputs.types import InputLimits
from discern.privacy.ports import Subjects
from discern.privacy.types import Subject
from discern.registry.types import split_reference
from discern.tables import print_table

EXIT_CODES = {"clear": 0, "review": 10, "flag": 20}
_STYLES = {"clear": "green", "review": "yellow", "flag": "red"}
_IN_WORK = 32

Answer = Verdict | DiscernError
Outcome = str | DiscernError
Chooser = Callable[[Item], tuple[str, str | None]]


class Tools(NamedTuple):
    """What the command works with."""

    detect: Detect
    detectors: DetectorSource
    limits: InputLimits
    subjects: Subjects


def detect_command(cli: typer.Typer, tools: Callable[[], Tools]) -> None:
    """Add the command to `cli`; `tools` opens the installation."""

    @cli.command("detect")
    def detect(
        paths: list[Path] = typer.Argument(exists=True, help="Images, videos, JSON or NDJSON records, or folders."),
        detector: str | None = typer.Option(None, "--detector", "-d", help="Detector, or NAME@VERSION."),
        subject: str | None = typer.Option(None, "--subject", help="Your name for the person the inputs are about."),
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    ) -> None:
        """Judge images, videos and records; every verdict is on the ledger before it is printed.

        Without -d each input goes to the one detector that takes its kind. The exit code of a single input is its
        decision: 0 clear, 10 review, 20 flag. Of several it is 0 when all were judged. 1 means that an input could not
        be judged, 2 that the command was typed wrongly.
        """
        opened = tools()
        show = _Lines() if as_json else _Table()
        files = list(files_of(paths))
        about = opened.subjects.admit(LOCAL.workspace, subject)
        outcomes = asyncio.run(_run(opened, files, _chooser(opened.detectors, detector), about, show))
        show.finish()
        if not outcomes:
            typer.echo(f"discern: there is no file in {', '.join(map(str, paths))}.", err=True)
            raise typer.Exit(2)
        raise typer.Exit(exit_code(outcomes))


def exit_code(outcomes: list[Outcome]) -> int:
    """Return the exit code for the outcomes of a run: decisions, and the errors of what could not be judged."""
    first = outcomes[0]
    if len(outcomes) == 1 and isinstance(first, UnknownDetector):
        return 2
    if any(isinstance(outcome, DiscernError) for outcome in outcomes):
        return 1
    return EXIT_CODES[str(first)] if len(outcomes) == 1 else 0


class _Lines:
    """Prints one JSON object a line: the path with the verdict, or with the error's code, detail and facts."""

    def __call__(self, item: Item, answer: Answer) -> None:
        row: dict[str, object] = {"path": item.label.encode(errors="replace").decode()}
        if isinstance(answer, DiscernError):
            row["error"] = {"code": answer.code, "detail": answer.detail, "mend": answer.mend, **answer.facts}
        else:
            row |= msgspec.to_builtins(answer)
        typer.echo(msgspec.json.encode(row).decode())

    def finish(self) -> None:
        """Print nothing more."""


class _Table:
    """Collects rows for people."""

    def __init__(self) -> None:
        short = [Column(name, no_wrap=True) for name in ("Decision", "Score", "Label", "Decided by", "ms")]
        long = [Column(name, overflow="fold") for name in ("Input", "Note")]
        self._table = Table(long[0], *short, long[1], box=None, pad_edge=False)
        self._errors: list[tuple[str, DiscernError]] = []

    def __call__(self, item: Item, answer: Answer) -> None:
        label = escape(printable(item.label))
        if isinstance(answer, DiscernError):
            self._table.add_row(label, "[magenta]not judged[/]", "", "", "", "", answer.code)
            self._errors.append((item.label, answer))
            return
        self._table.add_row(
            label,
            f"[{_STYLES[answer.decision]}]{answer.decision}[/]",
            f"{answer.score:.4f}",
            escape(answer.label or "-"),
            answer.decided_by,
            f"{answer.milliseconds:.1f}",
            "; ".join(_notes(answer)),
        )

    def finish(self) -> None:
        """Print the table, and below it what could not be judged and why."""
        if self._table.row_count:
            print_table(self._table)
        for label, error in self._errors:
            typer.echo(f"{printable(label)}: {error}", err=True)
            faults = error.facts.get("faults")
            for fault in faults if isinstance(faults, list) else ():
                typer.echo(f"  {printable(fault)}", err=True)


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on written out."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _notes(verdict: Verdict) -> Iterator[str]:
    facts = verdict.input
    if facts.face == "not_found":
        yield "no face found"
    if facts.frames_without_face:
        yield f"{facts.frames_without_face} frames without a face"
    if verdict.degraded:
        yield "too little known" if verdict.degraded == TOO_LITTLE_KNOWN else f"stage {verdict.degraded} failed"
    if facts.kind == "video":
        yield f"{facts.frames} frames"
    if verdict.timeline is not None:
        yield from (f"{count.name.replace('_', ' ')}: {count.count}" for count in verdict.timeline.counts)


def _chooser(detectors: DetectorSource, asked: str | None) -> Chooser:
    if asked is not None:
        name, version = split_reference(asked)
        detectors.find(name, version)
        return lambda _item: (name, version)

    def choose(item: Item) -> tuple[str, str | None]:
        names = detectors.taking(item.kind) if item.kind else []
        if len(names) != 1:
            which = f"{', '.join(names)} take" if names else "No detector takes"
            raise UnknownDetector(f"{which} {item.kind or 'this'} input.", mend="Name one with -d NAME.")
        return names[0], None

    return choose


async def _run(
    tools: Tools, files: list[Path], choose: Chooser, about: Subject | None, show: _Lines | _Table
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    numbers: deque[int] = deque()

    def items() -> Iterator[Item]:
        for number, path in enumerate(files, 1):
            for item in items_of(path, tools.limits):
                numbers.append(number)
                yield item

    with _bar(len(files)) as advance_to:
        async for item, answer in _answers(tools.detect, items(), choose, about):
            show(item, answer)
            outcomes.append(answer if isinstance(answer, DiscernError) else answer.decision)
            advance_to(numbers.popleft())
    return outcomes


async def _answers(
    detect: Detect, items: Iterator[Item], choose: Chooser, about: Subject | None
) -> AsyncIterator[tuple[Item, Answer]]:
    """Yield answers in the order of the items."""
    waiting: deque[tuple[Item, asyncio.Task[Answer]]] = deque()
    try:
        for item in items:
            waiting.append((item, asyncio.create_task(_answer(detect, item, choose, about))))
            if len(waiting) >= _IN_WORK:
                first, task = waiting.popleft()
                yield first, await task
        while waiting:
            first, task = waiting.popleft()
            yield first, await task
    finally:
        for _, task in waiting:
            task.cancel()


async def _answer(detect: Detect, item: Item, choose: Chooser, about: Subject | None) -> Answer:
    if isinstance(item.content, DiscernError):
        return item.content
    try:
        name, version = choose(item)
        return await detect(DetectionRequest(LOCAL, name, item.content, version, subject=about))
    except DiscernError as error:
        return error


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many files are done, on standard error, where a person watches and there is something to wait for."""
    columns = (TextColumn("Judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = total > 1 and sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as progress:
        task = progress.add_task("", total=total)
        yield lambda number: progress.update(task, completed=number)
