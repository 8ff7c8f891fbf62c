"""`discern report`, `discern analytics` and `discern budget`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path

import msgspec
import typer
from rich.table import Column, Table

from discern.core.clock import utc_now
from discern.core.errors import CallerError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.monitoring.analytics.report import html, markdown
from discern.monitoring.analytics.report_pdf import pdf
from discern.monitoring.analytics.rules_page import budget_words, money, page_of
from discern.monitoring.analytics.rules_periods import check_day, moment, period_of, zone_of
from discern.monitoring.analytics.service import Analytics
from discern.monitoring.analytics.service_budgets import Budgets
from discern.monitoring.analytics.service_exports import Exports
from discern.monitoring.analytics.service_reports import Reports
from discern.monitoring.analytics.types import ActivityReport, AnalyticsTable
from discern.tables import print_table

_WORKSPACE = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose.")
_DETECTOR = typer.Option(None, "--detector", "-d", help="Only of this detector.")
_ZONE = typer.Option("UTC", "--time-zone", help="Whose days, such as Europe/Berlin.")
_FROM = typer.Option("", "--from", help="First day, such as 2026-11-02; left out: four weeks ago.")
_TO = typer.Option("", "--to", help="Day to end before; left out: the end of today.")


class _Period(StrEnum):
    day = "day"
    week = "week"
    month = "month"


class _Step(StrEnum):
    hour = "hour"
    day = "day"
    month = "month"


class _Format(StrEnum):
    html = "html"
    pdf = "pdf"
    md = "md"
    json = "json"


def report_command(
    cli: typer.Typer,
    analytics: Callable[[], Analytics],
    reports: Callable[[], Reports],
    check_workspace: Callable[[str], None],
) -> None:
    """Add `report`; `check_workspace` raises UnknownWorkspace."""

    @cli.command("report")
    def report(
        period: _Period = typer.Option(_Period.week, "--period", help="How long."),
        first: str = typer.Option(
            "", "--from", help="Its first day, such as 2026-11-02; left out: of the last that is over."
        ),
        detector: str | None = _DETECTOR,
        output: Path | None = typer.Option(
            None, "--output", "-o", help="File to write; without --format its ending says the format."
        ),
        form: _Format | None = typer.Option(None, "--format", help="Left out: as the file says, else md."),
        time_zone: str = _ZONE,
        workspace: str = _WORKSPACE,
    ) -> None:
        """Tell what happened in a day, a week or a month: verdicts, latency, cost, drift, quality, alerts."""
        check_workspace(workspace)
        form = form or _format_of(output)
        if form is _Format.pdf and output is None:
            raise CallerError("A PDF is not for a terminal.", mend="Name a file: -o report.pdf.")
        asked = period_of(period.value, _day(first), zone_of(time_zone), utc_now())
        analytics().catch_up()
        found = reports().report(workspace, asked, detector)
        content = _content(found, form)
        if output is None:
            typer.echo(content.decode(), nl=False)
        else:
            _write(output, content)
        if not first and not found.verdicts.value:
            runs = f"discern report{'' if period is _Period.week else f' --period {period.value}'} --from {asked.end}"
            typer.echo(f"That is the last {period.value} that is over. Of the one that still runs: {runs}", err=True)


def analytics_commands(
    analytics: Callable[[], Analytics], exports: Callable[[], Exports], check_workspace: Callable[[str], None]
) -> typer.Typer:
    """Return the `analytics` group."""
    group = typer.Typer(name="analytics", help="What was asked for, and what it cost.", no_args_is_help=True)

    @group.command("show")
    def show(
        step: _Step = typer.Option(_Step.day, "--by", help="Hours, days or months."),
        since: str = _FROM,
        until: str = _TO,
        detector: str | None = _DETECTOR,
        as_json: bool = typer.Option(False, "--json", help="As GET /v1/analytics answers."),
        time_zone: str = _ZONE,
        workspace: str = _WORKSPACE,
    ) -> None:
        """Show verdicts, latency, callers and cost by the hour, day or month."""
        check_workspace(workspace)
        start, end = _span(since, until, time_zone)
        analytics().catch_up()
        zone = zone_of(time_zone)
        found = analytics().table(workspace, start, end, step=step.value, detector=detector, zone=zone)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
            return
        if not found.rows:
            typer.echo(f"Nothing was asked for from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} (UTC).")
            return
        _print_rows(found, zone)

    @group.command("roll-up")
    def roll_up() -> None:
        """Roll up the hours that are over and are not yet; the server does it each minute."""
        typer.echo(f"{analytics().roll_up(whole=True):,} rolled up.")

    @group.command("export")
    def export(
        output: Path = typer.Option(..., "--output", "-o", help="Folder; it gets a folder for each month."),
        since: str = _FROM,
        until: str = _TO,
        verdicts: bool = typer.Option(
            False, "--verdicts", help="Single verdicts too, without who asked and what was looked at."
        ),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Write hours as Parquet, a folder a month (UTC)."""
        check_workspace(workspace)
        start, end = _span(since, until, "UTC")
        analytics().catch_up()
        written = exports().write(output, workspace, start, end, verdicts=verdicts)
        told = " and ".join(f"{rows:,} rows of {name}" for name, rows in written.items())
        typer.echo(f"{told} are in {output}.")

    return group


def budget_commands(budgets: Callable[[], Budgets], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `budget` group."""
    group = typer.Typer(name="budget", help="What a workspace means to use in a month.", no_args_is_help=True)

    @group.command("show")
    def show(
        as_json: bool = typer.Option(False, "--json", help="As GET /v1/budget answers."), workspace: str = _WORKSPACE
    ) -> None:
        """Show what this month has used of the budget, and what it will have."""
        check_workspace(workspace)
        standing = budgets().standing(workspace)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(standing), indent=2).decode())
            return
        for side in (standing.amount, standing.verdicts):
            typer.echo(budget_words(side, standing.currency, standing.month))

    @group.command("set")
    def change(
        amount: str = typer.Option("", "--amount", help="Money a calendar month (UTC), or `none`."),
        verdicts: str = typer.Option("", "--verdicts", help="Verdicts a calendar month, or `none`."),
        workspace: str = _WORKSPACE,
    ) -> None:
        """Set what a workspace means to use in a month; what is not named stays as it is. It refuses nothing."""
        check_workspace(workspace)
        if not amount and not verdicts:
            raise CallerError("Nothing was named.", mend="Give --amount, --verdicts or both.")
        budget = budgets().budget(workspace)
        if amount:
            budget = msgspec.structs.replace(budget, amount=_number(amount))
        if verdicts:
            count = _number(verdicts)
            if count is not None and not count.is_integer():
                raise CallerError(f"{verdicts[:100]!r} is no number of verdicts.", mend="Write a whole one, or none.")
            budget = msgspec.structs.replace(budget, verdicts=None if count is None else int(count))
        budgets().change(workspace, budget)
        standing = budgets().standing(workspace)
        shown = "no bound" if budget.amount is None else money(budget.amount, standing.currency)
        count_shown = "any number of" if budget.verdicts is None else f"{budget.verdicts:,}"
        typer.echo(f"{workspace} means to use {shown} and {count_shown} verdicts a month.")

    return group


def _print_rows(found: AnalyticsTable, zone: tzinfo) -> None:
    names = ("Verdicts", "Review", "Flag", "p50 ms", "p95 ms", "p99 ms", "Callers", "Cost")
    table = Table("Begins", "Detector", *(Column(name, justify="right") for name in names), box=None)
    for row in found.rows:
        times = ("" if one is None else f"{one:.3g}" for one in (row.p50, row.p95, row.p99))
        # Who asked is known when an hour is over.
        callers = f"{row.callers:,}" if row.callers else ""
        numbers = (f"{row.verdicts:,}", f"{row.review:,}", f"{row.flag:,}", *times, callers)
        begins = f"{row.start.astimezone(zone):%Y-%m-%d %H:%M}"
        table.add_row(begins, f"{row.detector} {row.version}", *numbers, money(row.cost, found.currency))
    print_table(table)


def _content(report: ActivityReport, form: _Format) -> bytes:
    if form is _Format.json:
        return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    page = page_of(report)
    if form is _Format.pdf:
        return pdf(page)
    return (html(page) if form is _Format.html else markdown(page)).encode()


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise CallerError(f"{output} cannot be written: {error.strerror}.", mend="Name another file.") from error
    typer.echo(f"Written to {output}.")


def _format_of(output: Path | None) -> _Format:
    ending = "" if output is None else output.suffix.lstrip(".").lower()
    if ending in set(_Format):
        return _Format(ending)
    if output is not None:
        mend = f"End its name with one of {', '.join(f'.{one}' for one in _Format)}, or give --format."
        raise CallerError(f"The name of {output} tells no format.", mend=mend)
    return _Format.md


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise CallerError(f"{text[:100]!r} is no day.", mend="Write one such as 2026-11-02.") from error
    check_day(day)
    return day


def _span(since: str, until: str, time_zone: str) -> tuple[datetime, datetime]:
    zone = zone_of(time_zone)
    today = utc_now().astimezone(zone).date()
    start, end = _day(since) or today - timedelta(days=28), _day(until) or today + timedelta(days=1)
    if start >= end:
        raise CallerError(f"{start} is not before {end}.", mend="Give --from a day before --to.")
    return moment(start, zone).astimezone(UTC), moment(end, zone).astimezone(UTC)


def _number(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise CallerError(f"{text[:100]!r} is no amount.", mend="Write a number such as 500, or none.") from error
