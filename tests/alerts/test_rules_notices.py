"""Whoever is to know is told once, of all that belongs together, and again only where nobody sees to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from discern.alerts.rules_letters import alertmanager_body, text, title
from discern.alerts.rules_notices import MOST_SHOWN, Plan, mutes, planned
from discern.alerts.rules_states import begun, ended
from discern.alerts.types import Alert, Inhibition, Matcher, Route, Silence, Step
from discern.core.ids import uuid7
from tests.alerts.parts import START, matcher, rule

replace = msgspec.structs.replace


def firing(name: str = "a", said: str = "level-high", **changes: Any) -> Alert:
    found = begun(uuid7(), rule(said), (("name", name),), 11.0, START, workspace=changes.pop("workspace", None))
    return replace(found, state="firing", fired_at=START, **changes)


class Desk:
    """Plans notices, step by step, as the engine does."""

    def __init__(self, *routes: Route) -> None:
        self.routes = routes or (Route(name="all", channels=("mail",)),)
        self.groups: dict[str, datetime] = {}
        self.alerts: dict[Any, Alert] = {}
        self.now = START
        self.room = 10

    def plan(self, *alerts: Alert, after: float = 0.0) -> Plan:
        self.now += timedelta(seconds=after)
        self.alerts |= {one.id: one for one in alerts}
        plan = planned(
            list(self.alerts.values()), self.groups, self.routes, self.now, make_id=uuid7, room=lambda _: self.room
        )
        self.groups |= plan.groups
        self.alerts |= {one.id: one for one in plan.told}
        return plan

    def told(self, *alerts: Alert, after: float = 0.0) -> list[str]:
        plan = self.plan(*alerts, after=after)
        return [
            f"{','.join(channels)}: {notice.reason} {notice.firing}/{notice.ended}" for notice, channels in plan.notices
        ]

    def over(self, alert: Alert) -> Alert:
        return ended(self.alerts[alert.id], self.now).alert


def test_alerts_of_one_name_are_told_together_at_once_and_then_not_for_a_minute() -> None:
    desk = Desk()
    assert desk.told(firing("a"), firing("b")) == ["mail: fired 2/0"]
    assert desk.told(firing("c"), after=5) == []
    assert desk.told(firing("other", "other-rule")) == ["mail: fired 1/0"], "another name waits for nobody"
    assert desk.told(after=55) == ["mail: fired 3/0"]
    assert desk.told(after=60) == []


def test_what_is_not_acknowledged_is_told_again_after_hours() -> None:
    desk = Desk()
    one = firing()
    desk.plan(one)
    assert desk.told(after=4 * 3600 - 1) == []
    assert desk.told(after=1) == ["mail: repeated 1/0"]
    desk.alerts[one.id] = replace(desk.alerts[one.id], acknowledged_at=START, acknowledged_by="user:1")
    assert desk.told(after=5 * 3600) == []
    assert desk.told(desk.over(one)) == ["mail: resolved 0/1"]


def test_whoever_knew_is_told_that_it_is_over_and_nobody_else() -> None:
    desk = Desk()
    one, two = firing("a"), firing("b")
    desk.plan(one, two)
    assert desk.told(desk.over(one), after=70) == ["mail: resolved 1/1"]
    assert desk.told(desk.over(two), after=70) == ["mail: resolved 0/1"]
    assert desk.told(after=9000) == []
    untold = Desk()
    untold.groups["all:x"] = START
    brief = firing("c")
    assert untold.told(ended(brief, START).alert) == []
    assert Desk(Route(name="q", channels=("mail",), resolved=False)).told(replace(desk.over(one), levels=1)) == []


def test_what_nobody_sees_to_goes_to_the_next_person() -> None:
    steps = (Step(600.0, ("second",)), Step(1800.0, ("boss", "pager")))
    desk = Desk(Route(name="all", channels=("mail",), escalate=steps))
    one, seen = firing("a"), firing("b", acknowledged_at=START)
    assert desk.told(one, seen) == ["mail: fired 2/0"]
    assert desk.told(after=599) == []
    assert desk.told(after=1) == ["second: escalated 1/0"]
    assert desk.told(after=600) == []
    assert desk.told(after=600) == ["boss,pager: escalated 1/0"]
    assert desk.told(after=600) == []
    assert sorted(desk.told(desk.over(one))) == [
        "boss,pager: resolved 0/1",
        "mail: resolved 1/1",
        "second: resolved 0/1",
    ]


def test_who_acknowledges_stops_the_escalation() -> None:
    desk = Desk(Route(name="all", channels=("mail",), escalate=(Step(600.0, ("second",)),)))
    one = firing()
    desk.plan(one)
    desk.alerts[one.id] = replace(desk.alerts[one.id], acknowledged_at=START)
    assert desk.told(after=6000) == []


def test_the_first_route_that_takes_an_alert_has_it() -> None:
    critical = Route(name="pager", channels=("pager",), match=(matcher("severity", "critical"),))
    nowhere = Route(name="none", channels=(), match=(matcher("name", "quiet"),))
    desk = Desk(critical, nowhere, Route(name="rest", channels=("mail",), group_by=("alertname", "name")))
    bad = firing("x")
    bad = replace(bad, severity="critical", labels=bad.labels | {"severity": "critical"})
    assert sorted(desk.told(bad, firing("quiet"), firing("a"), firing("b"))) == [
        "mail: fired 1/0",
        "mail: fired 1/0",
        "pager: fired 1/0",
    ]


def silence(*matchers: Matcher, **changes: Any) -> Silence:
    said: dict[str, Any] = {
        "id": uuid7(),
        "workspace": "default",
        "everywhere": True,
        "matchers": matchers,
        "starts_at": START,
        "ends_at": START + timedelta(hours=1),
        "by": "user:1",
        "comment": "upgrade",
        "created_at": START,
    }
    return Silence(**(said | changes))


def muted(alerts: Sequence[Alert], *silences: Silence, at: float = 0.0, inhibitions: Sequence[Inhibition] = ()) -> Any:
    found = mutes(alerts, silences, inhibitions, START + timedelta(seconds=at))
    return {one.labels["name"]: one.muted_by for one in found}


def test_what_is_silenced_is_not_told_while_the_silence_lasts() -> None:
    one, of_a = firing("a"), silence(matcher("name", "a"))
    assert muted([one, firing("b")], of_a) == {"a": f"silence {of_a.id}"}
    assert muted([one], of_a, at=3600) == {}
    assert muted([one], silence(matcher("name", "a"), starts_at=START + timedelta(minutes=1))) == {}
    desk = Desk()
    quiet = replace(one, muted_by="silence 1")
    assert desk.told(quiet) == []
    assert desk.told(replace(quiet, muted_by=None)) == ["mail: fired 1/0"]
    assert desk.told(replace(desk.over(one), muted_by="silence 1"), after=70) == ["mail: resolved 0/1"]


def test_a_silence_of_a_workspace_reaches_its_own_alerts_alone() -> None:
    theirs, ours = firing("a", workspace="other"), firing("b")
    of_other = silence(workspace="other", everywhere=False)
    assert set(muted([theirs, ours], of_other)) == {"a"}
    assert set(muted([theirs, ours], silence(everywhere=False))) == {"b"}


def test_an_alert_keeps_others_from_being_told_that_agree_with_it() -> None:
    down, same, other = firing("down", "part-down"), firing("a"), firing("b")
    down = replace(down, labels=down.labels | {"zone": "1"})
    same = replace(same, labels=same.labels | {"zone": "1"})
    other = replace(other, labels=other.labels | {"zone": "2"})
    word = Inhibition((matcher("alertname", "DiscernPartDown"),), (), ("zone",))
    assert muted([down, same, other], inhibitions=[word]) == {"a": "alert DiscernPartDown"}
    gone = replace(down, state="resolved")
    assert muted([gone, replace(same, muted_by="alert DiscernPartDown")], inhibitions=[word]) == {"a": None}


def test_a_storm_is_few_notices() -> None:
    desk = Desk(Route(name="all", channels=("mail", "pager"), group_by=("alertname", "name")))
    plan = desk.plan(*(firing(f"n{number:05}") for number in range(10_000)))
    assert len(plan.told) == 10_000
    of_mail = [notice for notice, channels in plan.notices if "mail" in channels]
    assert len(of_mail) == 11
    assert sum(one.firing for one in of_mail) == 10_000
    merged = max(of_mail, key=lambda one: one.firing)
    assert len(merged.shown) == MOST_SHOWN
    assert len(msgspec.json.encode(merged)) < 50_000
    assert "9970 more are not shown" in text(merged)
    assert "(and 9989 more)" in title(merged)
    desk.room = 0
    again = desk.plan(*(firing(f"m{number}") for number in range(50)))
    assert len(again.notices) == 2


def test_a_notice_says_what_is_wrong_since_when_and_what_to_do() -> None:
    one = replace(firing("a"), runbook="https://example.org/level")
    plan = Desk().plan(one)
    notice = plan.notices[0].notice
    assert title(notice) == "[FIRING:1] warning: a is 11"
    said = text(notice, "https://discern.example.org")
    for part in ("WARNING a is 11", "It is high.", "Since 2026-05-01T12:00:00Z", "name=a", "https://example.org/level"):
        assert part in said


def test_the_webhook_is_that_of_alertmanager() -> None:
    desk = Desk()
    one, two = firing("a"), firing("b")
    desk.plan(one, two)
    notice = desk.plan(desk.over(two), after=70).notices[0].notice
    body = alertmanager_body(notice, "hook", "https://discern.example.org")
    assert {name: body[name] for name in ("version", "status", "receiver", "truncatedAlerts", "groupLabels")} == {
        "version": "4",
        "status": "firing",
        "receiver": "hook",
        "truncatedAlerts": 0,
        "groupLabels": {"alertname": "DiscernLevelHigh"},
    }
    assert [alert["status"] for alert in body["alerts"]] == ["firing", "resolved"]
    assert body["commonLabels"] == {"alertname": "DiscernLevelHigh", "kind": "metric", "severity": "warning"}
    assert body["alerts"][0]["endsAt"] == "0001-01-01T00:00:00Z"
    assert body["alerts"][1]["endsAt"] == "2026-05-01T12:00:00Z"
    assert body["alerts"][0]["generatorURL"] == f"https://discern.example.org/v1/alerts/{one.id}"


@pytest.mark.parametrize("name", ["<!channel>", "a\nb", "x" * 500, "{value.__class__}", "\u202eevil"])
def test_what_a_label_holds_is_text_and_no_more(name: str) -> None:
    summary = firing(name).summary
    assert "\n" not in summary
    assert "\u202e" not in summary
    assert len(summary) < 250
    assert "class 'float'" not in summary


def test_a_storm_that_goes_on_is_eleven_notices_a_minute_and_what_is_critical_at_once() -> None:
    desk = Desk(Route(name="all", channels=("mail",), group_by=("name",)))
    sent: list[tuple[datetime, int]] = []
    for turn in range(36):
        desk.room = 10 - sum(many for at, many in sent if at > desk.now + timedelta(seconds=5 - 60))
        plan = desk.plan(*(firing(f"{turn}-{number}") for number in range(40)), after=5)
        sent.append((desk.now, len(plan.notices)))
    for at, _ in sent:
        assert sum(many for when, many in sent if at <= when < at + timedelta(minutes=1)) <= 11
    desk.room = -1
    assert desk.told(firing("worst", severity="critical"), after=5) == ["mail: fired 1/0"]
    desk.room = 10
    desk.plan(after=60)
    assert all(alert.levels == 1 for alert in desk.alerts.values())  # in the end everything is told
