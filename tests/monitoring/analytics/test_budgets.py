"""A budget is watched: it tells what is used and what will be, to its own workspace, and a change is on record."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services
from discern.app_http import create_app
from discern.core.errors import CallerError
from discern.monitoring.analytics.types import Budget
from discern.monitoring.metrics.catalogue import CATALOGUE
from tests.commands import Run
from tests.monitoring.analytics.worlds import NOW, World, asked, verdict

pytestmark = pytest.mark.system
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0, minute=0)


@pytest.fixture
def world(two_workspaces: Services) -> World:
    """Ten verdicts a day for forty days, and five today."""
    for number in range(1, 41):
        asked(two_workspaces, [verdict(MIDNIGHT - number * DAY + DAY / 2, 0.0) for _ in range(10)])
    asked(two_workspaces, [verdict(MIDNIGHT, 0.0) for _ in range(5)])
    world = World(two_workspaces)
    world.analytics.roll_up()
    return world


def test_what_is_used_is_what_the_month_has_and_the_forecast_is_its_end(world: World) -> None:
    world.budgets.change("default", Budget(amount=2.0, verdicts=1000))
    standing = world.budgets.standing("default")
    assert (standing.month, standing.verdicts.used) == ("2026-03", 17 * 10 + 5)
    assert standing.amount.used == pytest.approx(1.75)
    assert standing.amount.used_ratio == pytest.approx(0.875)
    ahead = standing.verdicts.forecast
    assert ahead is not None
    assert ahead.days == 28
    # 11.5 of today's 24 hours and thirteen days are left.
    assert ahead.value == pytest.approx(175 + 10 * (11.5 / 24 + 13))
    assert ahead.low == ahead.high == ahead.value
    samples = {one.name: one.value for one in world.budgets.collect()}
    assert samples["discern_budget_used_ratio"] == pytest.approx(0.875)
    assert samples["discern_budget_forecast_ratio"] == pytest.approx(ahead.value * 0.01 / 2.0)


def test_many_who_set_the_first_budget_at_once_all_have_done_so(two_workspaces: Services) -> None:
    budgets, failures = two_workspaces.monitoring.analytics.budgets, []

    def change(number: int) -> None:
        try:
            budgets.change("default", Budget(amount=float(number)))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    entries = two_workspaces.audit_store.page("default", 50, None).entries
    last, *others = (one.act for one in entries if one.act.act == "budgets.change")
    assert len(others) == 11
    assert msgspec.to_builtins(budgets.budget("default")) == last.after


def test_the_first_moment_of_a_month_has_used_nothing(world: World) -> None:
    world.now = datetime(2026, 4, 1, tzinfo=UTC)
    standing = world.budgets.standing("default")
    assert (standing.month, standing.verdicts.used) == ("2026-04", 0)
    world.now -= timedelta(microseconds=1)
    assert world.budgets.standing("default").verdicts.used == 175


def test_a_workspace_without_a_budget_has_no_metrics_and_no_part_in_anothers(world: World) -> None:
    assert list(world.budgets.collect()) == []
    world.budgets.change("other", Budget(verdicts=10))
    assert [(one.labels, one.value) for one in world.budgets.collect()] == [(("other",), 0.0)]
    world.budgets.change("other", Budget())
    assert list(world.budgets.collect()) == []
    assert world.budgets.budget("other") == Budget()


def test_a_change_is_on_the_audit_log(world: World) -> None:
    world.budgets.change("default", Budget(amount=5.0), Principal("user:7", "default"))
    entries = world.services.audit_store.page("default", 5, None).entries
    act = next(one.act for one in entries if one.act.act == "budgets.change")
    assert (act.who, act.before, act.after) == (
        "user:7",
        {"amount": None, "verdicts": None},
        {"amount": 5.0, "verdicts": None},
    )


@pytest.mark.parametrize(
    "budget",
    [
        *(Budget(amount=one) for one in (0.0, -1.0, 1e300, 5e-324, float("nan"), float("inf"))),
        *(Budget(verdicts=one) for one in (0, -1, 10**400, -(10**400))),
    ],
)
def test_a_budget_that_cannot_be_is_refused(world: World, budget: Budget) -> None:
    with pytest.raises(CallerError, match="cannot be"):
        world.budgets.change("default", budget)


def test_the_shipped_rules_raise_alerts_of_a_budget(world: World) -> None:
    alerts = world.services.monitoring.alerts
    names = {metric for rule in alerts.file.shipped().rules for metric in [rule.metric.metric] if "budget" in metric}
    assert names == {"discern_budget_used_ratio", "discern_budget_forecast_ratio"}
    assert names < set(CATALOGUE)


def test_the_command_sets_and_shows_it(run: Run) -> None:
    assert run("budget", "set").code == 1
    ran = run("budget", "set", "--amount", "500", "--verdicts", "1_000_000")
    assert ran.out == "default means to use 500.00 EUR and 1,000,000 verdicts a month.\n"
    assert "0.00 EUR used of 500.00 EUR (0%)" in run("budget", "show").out
    ran = run("budget", "set", "--amount", "none")
    assert ran.out == "default means to use no bound and 1,000,000 verdicts a month.\n"
    for wrong in ("-5", "nan", "inf", "many", "0"):
        assert run("budget", "set", f"--amount={wrong}").code == 1, wrong
    assert run("budget", "set", "--verdicts", "1.5").code == 1
    assert run("budget", "set", "--amount", "5", "--workspace", "elsewhere").code == 1


@pytest.fixture
def clients(two_workspaces: Services) -> dict[str, TestClient]:
    """A client for each role, and one of the other workspace."""
    app = create_app(two_workspaces)
    found = {}
    for name, workspace, options in (
        ("owner", "default", {"role": "owner"}),
        ("analyst", "default", {"role": "analyst"}),
        ("reviewer", "default", {"role": "reviewer"}),
        ("restricted", "default", {"role": "owner", "detectors": ("toy",)}),
        ("other", "other", {"role": "owner"}),
    ):
        key: Any = options
        client = TestClient(app, raise_server_exceptions=False)
        client.headers["Authorization"] = f"Bearer {two_workspaces.keys.issue(workspace, name, **key).secret}"
        found[name] = client
    return found


def test_a_budget_is_changed_by_owners_and_read_by_who_reads_analytics(clients: dict[str, TestClient]) -> None:
    body = {"amount": 12.5, "verdicts": 100}
    statuses = {name: client.put("/v1/budget", json=body).status_code for name, client in clients.items()}
    assert statuses == {"owner": 200, "analyst": 403, "reviewer": 403, "restricted": 403, "other": 200}
    paths = "/v1/budget", "/v1/analytics", "/v1/reports"
    for path in paths:
        read = {name: client.get(path).status_code for name, client in clients.items()}
        assert read == {"owner": 200, "analyst": 200, "reviewer": 403, "restricted": 403, "other": 200}, path
    assert clients["owner"].put("/v1/budget", json={"amount": 1, "more": 2}).status_code == 400
    assert clients["owner"].put("/v1/budget", json={"amount": -1}).status_code == 400
    clients["owner"].put("/v1/budget", json={"amount": None})
    assert clients["owner"].get("/v1/budget").json()["budget"] == {"amount": None, "verdicts": None}
    assert clients["other"].get("/v1/budget").json()["budget"] == body


def test_the_routes_answer_for_the_workspace_of_who_asks(
    two_workspaces: Services, clients: dict[str, TestClient]
) -> None:
    moment = datetime.now(UTC) - timedelta(hours=1)
    asked(two_workspaces, [verdict(moment) for _ in range(4)])
    rows = clients["owner"].get("/v1/analytics", params={"step": "hour"}).json()["rows"]
    assert [(row["detector"], row["verdicts"]) for row in rows] == [("toy", 4)]
    assert clients["other"].get("/v1/analytics").json()["rows"] == []
    query = {"from": moment.strftime("%Y-%m-%d"), "period": "day"}
    assert clients["analyst"].get("/v1/reports", params=query).json()["verdicts"]["value"] == 4
    page = clients["analyst"].get("/v1/reports", params=query | {"format": "html"})
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.text.startswith("<!DOCTYPE html>")
    assert clients["analyst"].get("/v1/reports", params=query | {"format": "pdf"}).content.startswith(b"%PDF")
    for wrong in (
        {"from": "2026-01-01T00:30:00Z"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"step": "hour", "from": "2020-01-01T00:00:00Z"},
        {"time_zone": "nowhere"},
        {"from": "0001-01-01T00:00:00Z", "step": "month"},
        {"from": "0001-01-01T00:00:00+10:00", "step": "month"},
        {"to": "9999-12-31T23:00:00Z", "from": "9999-12-01T00:00:00Z", "time_zone": "Pacific/Kiritimati"},
    ):
        assert clients["owner"].get("/v1/analytics", params=wrong).status_code == 400, wrong
    assert clients["owner"].get("/v1/analytics", params={"step": "minute"}).status_code == 422
    for odd in ({"from": "0001-01-01"}, {"from": "9999-12-31"}, {"period": "month", "from": "9999-12-01"}):
        assert clients["owner"].get("/v1/reports", params=odd).status_code == 400, odd
