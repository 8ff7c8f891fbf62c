"""What other tools read: views and Parquet with the columns that are documented, and no person in them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyarrow import parquet
from sqlalchemy import inspect, text
from sqlalchemy.exc import ProgrammingError

from discern.app import Services
from discern.core.errors import CallerError
from discern.detection.store_hours import LedgerByHour
from discern.monitoring.analytics.service_exports import Exports
from discern.monitoring.analytics.sources_parquet import HOURS, VERDICTS
from discern.monitoring.analytics.types import VIEWS, Budget
from discern.monitoring.quality.store import QualityStore
from discern.monitoring.quality.types import Figure, QualityWindow, Standing
from discern.monitoring.quality.types import Release as QualityRelease
from discern.store.turns import Turn
from tests.commands import Run
from tests.monitoring.analytics.worlds import World, asked, busy_hours, verdict

pytestmark = pytest.mark.system
DAY = datetime(2026, 2, 27, tzinfo=UTC)
PERSONAL = ("principal", "caller_hash", "subject", "sha256", "key", "user", "body")


@pytest.fixture
def world(two_workspaces: Services) -> World:
    world = World(two_workspaces)
    busy_hours(two_workspaces, [DAY + timedelta(hours=7 * number) for number in range(12)])
    world.analytics.roll_up()
    return world


def rows(services: Services, query: str) -> list[Any]:
    with services.database.read() as connection:
        return list(connection.execute(text(query)).all())


def test_every_view_has_the_columns_that_are_documented(world: World) -> None:
    with world.services.database.read() as connection:
        there = inspect(connection)
        assert set(there.get_view_names()) == {view.name for view in VIEWS}
        for view in VIEWS:
            columns = [column["name"] for column in there.get_columns(view.name)]
            assert columns == [name for name, _ in view.columns]
            assert not [name for name in columns for word in PERSONAL if word in name]


def test_views_tell_what_hours_do(world: World) -> None:
    services = world.services
    hourly = rows(services, "SELECT sum(verdicts), sum(flag), sum(cost) FROM discern_verdicts_hourly")[0]
    known = world.analytics.hours(DAY - timedelta(days=9), DAY + timedelta(days=9))
    assert hourly[0] == 240
    assert hourly[1] == sum(row.numbers.flag for row in known)
    assert hourly[2] == pytest.approx(sum(row.cost for row in known))
    daily = rows(services, "SELECT day, sum(verdicts) FROM discern_decisions_daily GROUP BY day ORDER BY day")
    assert [(str(day), count) for day, count in daily] == [
        ("2026-02-27", 80),
        ("2026-02-28", 60),
        ("2026-03-01", 80),
        ("2026-03-02", 20),
    ]
    flagged = rows(services, "SELECT sum(verdicts) FROM discern_decisions_daily WHERE decision = 'flag'")[0][0]
    assert flagged == hourly[1]
    cost = rows(services, "SELECT sum(cost), min(currency) FROM discern_cost_daily")[0]
    assert tuple(cost) == (pytest.approx(hourly[2]), "EUR")


def test_the_view_of_quality_has_a_row_a_figure(world: World) -> None:
    figures = Figure("precision", "estimated", 0.9, 0.85, 0.95), Figure("precision", "realised", why="no labels")
    window = QualityWindow(DAY, DAY + timedelta(days=1), 100, True, figures)
    store = QualityStore(world.services.database)
    store.write(QualityRelease("default", "toy", "1.0.0"), [window], Standing(DAY, figures, (), ()))
    found = rows(world.services, "SELECT measure, kind, value, low, high FROM discern_quality ORDER BY kind")
    assert [tuple(row) for row in found] == [
        ("precision", "estimated", 0.9, 0.85, 0.95),
        ("precision", "realised", None, None, None),
    ]
    world.budgets.change("other", Budget(verdicts=7))
    assert [tuple(row) for row in rows(world.services, "SELECT * FROM discern_budgets")] == [("other", None, 7)]


def test_parquet_has_a_folder_a_month_and_the_same_columns_each_time(world: World, tmp_path: Path) -> None:
    exports = Exports(world.analytics, LedgerByHour(world.services.database))
    span = DAY - timedelta(days=3), DAY + timedelta(days=5)
    written = exports.write(tmp_path, "default", *span, verdicts=True)
    assert written["verdicts"] == 240
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert files == [
        f"{name}/month={month}/part-0.parquet" for name in ("hours", "verdicts") for month in ("2026-02", "2026-03")
    ]
    hours = parquet.read_table(tmp_path / "hours")
    assert hours.column_names == [name for name, _ in HOURS] + ["month"]
    assert sum(hours["verdicts"].to_pylist()) == 240
    single = parquet.read_table(tmp_path / "verdicts")
    assert single.column_names == [name for name, _ in VERDICTS] + ["month"]
    assert not [name for name in single.column_names for word in PERSONAL if word in name]
    assert len(set(single["id"].to_pylist())) == 240
    assert str(single.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    # Again, with one more: what was there is replaced.
    asked(world.services, [verdict(DAY)])
    world.analytics.roll_up(whole=True)
    assert exports.write(tmp_path, "default", *span)["hours"] == written["hours"]
    assert sum(parquet.read_table(tmp_path / "hours")["verdicts"].to_pylist()) == 241
    with world.services.database.write() as connection:
        connection.execute(text("DELETE FROM verdicts"))
    assert exports.write(tmp_path, "default", *span, verdicts=True)["verdicts"] == 0
    assert list((tmp_path / "verdicts").rglob("*.parquet*")) == [], "what is gone from the ledger is not left there"
    assert exports.write(tmp_path / "other", "other", *span, verdicts=True) == {"hours": 0, "verdicts": 0}
    assert list((tmp_path / "other").rglob("*.parquet*")) == []


def test_an_export_that_cannot_be_written_says_so_and_leaves_what_was_there(world: World, tmp_path: Path) -> None:
    exports = Exports(world.analytics, LedgerByHour(world.services.database))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CallerError, match="cannot be written"):
        exports.write(tmp_path / "file", "default", DAY, DAY + timedelta(days=1))


def test_the_commands_show_and_export(run: Run, tmp_path: Path, services: Services) -> None:
    assert "Nothing was asked for" in run("analytics", "show").out
    moment = datetime.now(UTC) - timedelta(hours=3)
    asked(services, [verdict(moment) for _ in range(4)])
    assert "1 rolled up" in run("analytics", "roll-up").out
    shown = run("analytics", "show", "--by", "hour").out
    assert "toy 1.0.0" in shown
    assert run("analytics", "show", "--json").out.startswith("{")
    assert "1 rows of hours and 4 rows of verdicts" in run("analytics", "export", "-o", tmp_path, "--verdicts").out
    today = date.today().isoformat()  # noqa: DTZ011 - any day does
    assert run("analytics", "show", "--from", today, "--to", today).code == 1


def test_a_command_leaves_hours_to_the_server_that_knows_the_prices(run: Run, services: Services) -> None:
    asked(services, [verdict(datetime.now(UTC) - timedelta(hours=3))])
    server = Turn(services.database, "analytics")
    assert server.take()
    assert run("analytics", "show").code == run("report").code == 0
    assert World(services).store.latest() is None
    server.give_back()
    assert run("report").code == 0
    assert World(services).store.latest() is not None
    assert server.take()


def blocks(language: str) -> list[str]:
    """The code of a language in the reference page."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "analytics.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_what_the_documentation_shows_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [one for one in blocks("sql") if not one.startswith("-- PostgreSQL")]
    found = [rows(world.services, query) for query in queries]
    assert len(found[0]) == 8
    assert {row[0] for row in found[1]} == {"toy", "other"}
    span = DAY - timedelta(days=3), DAY + timedelta(days=5)
    Exports(world.analytics, LedgerByHour(world.services.database)).write(tmp_path / "export", "default", *span)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    assert names["daily"]["verdicts"].sum() == 240


# SQLite has no roles.
@pytest.mark.parametrize("two_workspaces", ["postgresql"], indirect=True)
def test_the_role_of_the_documentation_reads_the_views_and_nothing_else(world: World) -> None:
    role = f"reader_{uuid4().hex}"
    (made,) = [one for one in blocks("sql") if one.startswith("-- PostgreSQL")]
    with world.services.database.write() as connection:
        for statement in made.replace("discern_reader", role).split(";"):
            if statement.strip():
                connection.execute(text(statement))
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        assert connection.execute(text("SELECT sum(verdicts) FROM discern_verdicts_hourly")).scalar() == 240
        for view in VIEWS:
            connection.execute(text(f"SELECT * FROM {view.name}")).all()
        for table in ("verdicts", "analytics_hours", "api_keys", "budgets"):
            with pytest.raises(ProgrammingError, match="permission denied"), connection.begin_nested():
                connection.execute(text(f"SELECT * FROM {table}"))
