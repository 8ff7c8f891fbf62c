from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import sqlite

from discern.app import Services
from discern.core.ids import uuid7
from discern.core.verdict import Decision, FrameScore, InputFacts, StageReading, Thresholds, Verdict
from discern.detection.store import VerdictStore, stretch_statement
from discern.detection.types import LedgerEntry, VerdictQuery
from discern.store import migrations
from discern.store.sqlite import SqliteDatabase


def verdict(workspace: str = "default", detector: str = "toy", decision: Decision = "flag") -> Verdict:
    return Verdict(
        id=str(uuid7()),
        workspace=workspace,
        detector=detector,
        version="1.0.0",
        decision=decision,
        label=None if decision == "review" else "odd",
        score=0.1 + 0.2,
        thresholds=Thresholds(0.4, 0.8),
        decided_by="only",
        stages=(StageReading("only", 0.1 + 0.2, 1.25),),
        input=InputFacts(kind="video", sha256="ab" * 32, bytes=17, seconds=1.5),
        created_at=datetime.now(UTC),
        milliseconds=2.5,
        frames=(FrameScore(0.5, 0.25, "only"),),
    )


def test_what_is_written_is_read_back_equal_to_the_last_bit(services: Services) -> None:
    written = verdict()
    services.verdicts.append([LedgerEntry(written, "key:1")])
    assert services.verdicts.get("default", UUID(written.id)) == written


def test_a_verdict_of_another_workspace_is_not_there(services: Services) -> None:
    with services.database.write() as connection:
        connection.execute(text("INSERT INTO workspaces VALUES ('other', '2026-01-01 00:00:00')"))
    written = verdict("other")
    services.verdicts.append([LedgerEntry(written, "key:1")])
    assert services.verdicts.get("default", UUID(written.id)) is None
    assert services.verdicts.page(VerdictQuery("default")).verdicts == ()
    assert services.verdicts.page(VerdictQuery("other")).verdicts == (written,)


def test_pages_give_every_verdict_once_newest_first_while_new_ones_arrive(services: Services) -> None:
    written = [verdict() for _ in range(25)]
    services.verdicts.append([LedgerEntry(entry, "key:1") for entry in written])
    seen: list[Verdict] = []
    after = None
    while True:
        page = services.verdicts.page(VerdictQuery("default", limit=10, after=after))
        seen.extend(page.verdicts)
        services.verdicts.append([LedgerEntry(verdict(), "key:2")])
        if page.next is None:
            break
        after = UUID(page.next)
    assert seen == written[::-1]


def test_a_last_page_that_is_full_has_no_next(services: Services) -> None:
    services.verdicts.append([LedgerEntry(verdict(), "key:1") for _ in range(10)])
    assert services.verdicts.page(VerdictQuery("default", limit=10)).next is None
    assert services.verdicts.page(VerdictQuery("default", limit=9)).next is not None


def test_filters_narrow_the_page(services: Services) -> None:
    entries = [verdict(detector=name, decision=decision) for name in ("a", "b") for decision in ("clear", "flag")]
    services.verdicts.append([LedgerEntry(entry, "key:1") for entry in entries])
    assert services.verdicts.page(VerdictQuery("default", detector="a")).verdicts == (entries[1], entries[0])
    assert services.verdicts.page(VerdictQuery("default", decision="flag")).verdicts == (entries[3], entries[1])
    assert services.verdicts.page(VerdictQuery("default", detector="b", decision="clear")).verdicts == (entries[2],)


def test_one_verdict_that_cannot_be_written_keeps_the_whole_batch_out(services: Services) -> None:
    good = verdict()
    with pytest.raises(sqlite3.IntegrityError):
        services.verdicts.append(
            [LedgerEntry(good, "key:1"), LedgerEntry(msgspec.structs.replace(verdict(), workspace="nowhere"), "key:1")]
        )
    assert services.verdicts.get("default", UUID(good.id)) is None


def test_every_filter_gives_what_a_look_at_everything_would(services: Services) -> None:
    chance = Random(7)
    names = ("a", "b", "other")
    decisions: tuple[Decision, ...] = ("clear", "review", "flag")
    entries = [verdict(detector=chance.choice(names), decision=chance.choice(decisions)) for _ in range(60)]
    services.verdicts.append([LedgerEntry(entry, "key:1") for entry in entries])
    entries.sort(key=lambda entry: entry.id, reverse=True)
    for detector, decision, start in product((None, *names, "unknown"), (None, *decisions), (None, 20)):
        after = None if start is None else UUID(entries[start].id)
        wanted = [
            entry
            for entry in entries
            if detector in {None, entry.detector} and decision in {None, entry.decision}
            if after is None or entry.id < str(after)
        ]
        page = services.verdicts.page(VerdictQuery("default", 7, after, detector, decision))
        assert list(page.verdicts) == wanted[:7]
        assert page.next == (wanted[6].id if len(wanted) > 7 else None)


@pytest.mark.parametrize("after", [None, uuid4()])
def test_stretches_are_read_off_the_index_and_not_sorted(services: Services, after: UUID | None) -> None:
    statement = stretch_statement(VerdictQuery("default", after=after), "a", "flag")
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with services.database.read() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).all()
    steps = " ".join(str(row[-1]) for row in plan)
    assert "USING COVERING INDEX" in steps
    assert "TEMP B-TREE" not in steps
    assert ("id<?" in steps) == (after is not None)


def test_a_page_costs_the_same_however_many_there_are(services: Services) -> None:
    def steps(query: VerdictQuery) -> int:
        """Return how often SQLite's machine asked whether to go on, which it does every ten instructions."""
        asked: list[int] = []
        with services.database.read() as connection:
            connection.connection.driver_connection.set_progress_handler(lambda: asked.append(1), 10)  # type: ignore[union-attr]
        services.verdicts.page(query)
        with services.database.read() as connection:
            connection.connection.driver_connection.set_progress_handler(None, 10)  # type: ignore[union-attr]
        return len(asked)

    queries = [
        VerdictQuery("default", 5),
        VerdictQuery("default", 5, decision="flag"),
        VerdictQuery("default", 5, detector="a"),
    ]
    entries = [verdict(detector=name, decision=decision) for name in ("a", "b") for decision in ("clear", "flag")] * 5
    fresh = [msgspec.structs.replace(entry, id=str(uuid7())) for entry in entries]
    services.verdicts.append([LedgerEntry(entry, "key:1") for entry in fresh])
    few = [steps(query) for query in queries]
    services.verdicts.append(
        [LedgerEntry(msgspec.structs.replace(entry, id=str(uuid7())), "key:1") for entry in fresh for _ in range(50)]
    )
    assert all(many <= 1.5 * before + 20 for many, before in zip(map(steps, queries), few, strict=True))
    assert min(few) > 0


def test_a_ledger_of_an_earlier_schema_keeps_its_verdicts(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "discern.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'discern.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    old = verdict()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO verdicts VALUES"
                " (:id, 'default', 'key:1', :detector, '1.0.0', 'flag', 0.1, 'x', :at, :body)"
            ),
            {
                "id": old.id.replace("-", ""),
                "detector": old.detector,
                "at": "2026-01-01 00:00:00.000000",
                "body": msgspec.json.encode(old),
            },
        )
        connection.commit()
    engine.dispose()
    database.open()
    store = VerdictStore(database)
    assert store.get("default", UUID(old.id)) == old
    assert store.page(VerdictQuery("default", detector=old.detector, decision=old.decision)).verdicts == (old,)
    database.close()


def test_an_unknown_id_is_not_there(services: Services) -> None:
    assert services.verdicts.get("default", uuid4()) is None
