"""`discern alert`: what is wrong, who was told, and what is not to be told for a while."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import typer
from rich.table import Table

from discern.access.types import LOCAL
from discern.alerts.rules_prometheus import rule_file
from discern.alerts.rules_times import seconds_of, shown, time_of
from discern.alerts.service_running import Alerts
from discern.alerts.types import ALERT_STATES, Alert, AlertState, Rule, SilenceRequest
from discern.core.errors import CallerError, InvalidSettings
from discern.tables import print_table

PROMETHEUS_NOTE = "Written by `discern alert rules --prometheus`; change the rules, not this file."


def alert_commands(closed: Callable[[], Alerts], opened: Callable[[], Alerts]) -> typer.Typer:
    """Return the `alert` group; `closed` needs no database, `opened` has it open."""
    group = typer.Typer(name="alert", help="What is wrong, and who was told.", no_args_is_help=True)

    @group.command("list")
    def list_alerts(
        state: str = typer.Option("", "--state", help=f"Only those that are: {', '.join(ALERT_STATES)}."),
        limit: int = typer.Option(50, "--limit", min=1, max=1000, help="How many at most."),
    ) -> None:
        """List alerts of all workspaces, newest first."""
        found = opened().desk.page(LOCAL, limit, None, _state(state)).alerts
        if not found:
            typer.echo(f"No alert is {state}." if state else "There is no alert.")
            return
        table = Table("Id", "State", "Severity", "Since", "Workspace", "What", "Seen to by", box=None, pad_edge=False)
        for alert in found:
            table.add_row(
                str(alert.id),
                _state_of(alert),
                alert.severity,
                alert.began_at.isoformat(timespec="seconds"),
                "" if alert.everywhere else alert.workspace,
                alert.summary,
                alert.acknowledged_by or "",
            )
        print_table(table)

    @group.command("show")
    def show(alert_id: str = typer.Argument(help="Its id.")) -> None:
        """Show one alert, what happened to it, and how it was told."""
        found = opened().desk.details(LOCAL, _id(alert_id))
        alert = found.alert
        typer.echo(f"{alert.summary}\n{alert.description}")
        typer.echo(f"{_state_of(alert)}, {alert.severity}; value {shown(alert.value)}")
        typer.echo(", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items())))
        if alert.runbook:
            typer.echo(f"What to do: {alert.runbook}")
        for event in found.history:
            more = " ".join(part for part in (event.by or "", event.detail or "") if part)
            typer.echo(f"  {event.at.isoformat(timespec='seconds')} {event.what} {more}".rstrip())
        table = Table("Channel", "Notice", "State", "Attempts", "Last answer", box=None, pad_edge=False)
        for one in found.deliveries:
            last = one.attempts[-1] if one.attempts else None
            answer = "" if last is None else last.error or last.outcome
            table.add_row(one.channel, one.reason, one.state, str(len(one.attempts)), answer)
        print_table(table)

    @group.command("ack")
    def acknowledge(
        alert_id: str = typer.Argument(help="Its id."),
        comment: str = typer.Option("", "--comment", "-c", help="What is being done."),
    ) -> None:
        """Say that somebody sees to an alert: it is neither repeated nor escalated."""
        alert = opened().desk.acknowledge(LOCAL, _id(alert_id), comment)
        typer.echo(f"{alert.id} is seen to by {alert.acknowledged_by}.")

    _add_silences(group, opened)
    _add_rules(group, closed)
    _add_channels(group, closed, opened)
    return group


def _add_silences(group: typer.Typer, opened: Callable[[], Alerts]) -> None:
    @group.command("silence")
    def silence(
        matchers: list[str] = typer.Argument(None, help="Which alerts: 'alertname=\"DiscernPartDown\"'. None lists."),
        last: str = typer.Option("2h", "--for", help="For how long: 30m, 2h, 1d."),
        comment: str = typer.Option("", "--comment", "-c", help="Why."),
        everywhere: bool = typer.Option(True, "--everywhere/--default-only", help="Of all workspaces."),
    ) -> None:
        """Tell nobody of some alerts for a time; without matchers list the silences there are."""
        desk = opened().desk
        if not matchers:
            table = Table("Id", "Until", "Of", "By", "Alerts", "Why", box=None, pad_edge=False)
            for one in desk.silences(LOCAL).silences:
                until, of = one.ends_at.isoformat(timespec="seconds"), "all" if one.everywhere else one.workspace
                table.add_row(str(one.id), until, of, one.by, ", ".join(map(str, one.matchers)), one.comment)
            print_table(table)
            return
        try:
            seconds = seconds_of(last)
        except ValueError as error:
            raise CallerError(f"{error}.", mend="Give a time such as 2h.") from error
        made = desk.add_silence(LOCAL, SilenceRequest(tuple(matchers), comment, seconds=seconds, everywhere=everywhere))
        typer.echo(f"{made.id} lasts until {made.ends_at.isoformat(timespec='seconds')}.")

    @group.command("unsilence")
    def unsilence(silence_id: str = typer.Argument(help="Its id.")) -> None:
        """End a silence."""
        found = opened().desk.end_silence(LOCAL, _id(silence_id, "discern alert silence"))
        typer.echo(f"{found.id} has ended.")


def _add_rules(group: typer.Typer, closed: Callable[[], Alerts]) -> None:
    @group.command("rules")
    def rules(
        check: bool = typer.Option(False, "--check", help="Only say whether alerts.toml is right."),
        prometheus: bool = typer.Option(False, "--prometheus", help="Print them as a file of rules of Prometheus."),
    ) -> None:
        """List the rules, those of alerts.toml among them."""
        alerts = closed()
        table = alerts.file.read()
        if check:
            own = alerts.file.path if alerts.file.path.exists() else "the shipped table (there is no alerts.toml)"
            counted = f"{len(table.rules)} rules, {len(table.channels)} channels, {len(table.routes)} routes"
            typer.echo(f"{own} is right: {counted}.")
            return
        if prometheus:
            typer.echo(rule_file(table.rules, alerts.known, PROMETHEUS_NOTE), nl=False)
            return
        shown_table = Table("Rule", "Kind", "Severity", "What", "For", "Measures", "From", box=None, pad_edge=False)
        for rule in table.rules:
            lasting = time_of(rule.lasting) if rule.lasting else ""
            measures = "" if alerts.known.has(rule.metric.metric) else "nothing: there is no such metric here"
            origin = "shipped" if rule.shipped else "alerts.toml"
            shown_table.add_row(rule.name, rule.kind, rule.severity, _condition(rule), lasting, measures, origin)
        for name in table.off:
            shown_table.add_row(name, "", "", "switched off", "", "", "alerts.toml")
        print_table(shown_table)


def _add_channels(group: typer.Typer, closed: Callable[[], Alerts], opened: Callable[[], Alerts]) -> None:
    @group.command("channels")
    def channels() -> None:
        """List the channels and where alerts go. URLs are secret, and not shown."""
        said = closed().file.read()
        table = Table("Channel", "Kind", "Routes", box=None, pad_edge=False)
        table.add_row("console", "rows", "every alert: `discern alert list`, GET /v1/alerts")
        for channel in said.channels:
            routes = [route.name for route in said.routes if channel.name in route.channels]
            steps = [
                f"{route.name} after {time_of(step.after)}"
                for route in said.routes
                for step in route.escalate
                if channel.name in step.channels
            ]
            table.add_row(channel.name, channel.kind, ", ".join([*routes, *steps]))
        print_table(table)

    @group.command("test")
    def test(channel: str = typer.Argument(help="Its name.")) -> None:
        """Send a notice by one channel at once, and say what came of it."""
        found = opened().desk.test(LOCAL, channel)
        last = found.attempts[-1] if found.attempts else None
        if last is None or last.outcome != "delivered":
            reason = "it is not known what came of it" if last is None else last.error or last.outcome
            raise InvalidSettings(
                f"The channel {channel} did not take it: {reason.rstrip('.')}.", mend="See alerts.toml."
            )
        typer.echo(f"{channel} took it after {last.milliseconds:.0f} ms.")


def _condition(rule: Rule) -> str:
    of = rule.metric.metric + (f"{{{','.join(map(str, rule.metric.matchers))}}}" if rule.metric.matchers else "")
    over = f" / {rule.over.metric}" if rule.over is not None else ""
    window = f"[{time_of(rule.window)}]" if rule.is_counted else ""
    by = f" by {', '.join(rule.by)}" if rule.by else ""
    bound = f" > {rule.above:g}" if rule.above is not None else "" if rule.below is None else f" < {rule.below:g}"
    return f"{rule.function}({of}{window}){over}{by}{bound}"


def _state_of(alert: Alert) -> str:
    return f"{alert.state} ({alert.muted_by})" if alert.muted_by and alert.state == "firing" else alert.state


def _state(text: str) -> AlertState | None:
    if not text:
        return None
    for state in ALERT_STATES:
        if state == text:
            return state
    raise CallerError(f"There is no state {text[:100]!r}.", mend=f"Use one of: {', '.join(ALERT_STATES)}.")


def _id(text: str, where: str = "discern alert list") -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise CallerError(f"{text[:100]!r} is no id.", mend=f"`{where}` shows them.") from error
