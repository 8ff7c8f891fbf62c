from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from discern.app import Services
from discern.core.ids import uuid7
from discern.core.verdict import Decision, FrameScore, InputFacts, StageReading, Thresholds, Verdict
from discern.detection.store import page_statement
from discern.detection.types import VerdictQuery


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
    services.verdicts.append([(written, "key:1")])
    assert services.verdicts.get("default", UUID(written.id)) == written


def test_a_verdict_of_another_workspace_is_not_there(services: Services) -> None:
    with services.database.write() as connection:
        connection.execute(text("INSERT INTO workspaces VALUES ('other', '2026-01-01 00:00:00')"))
    written = verdict("other")
    services.verdicts.append([(written, "key:1")])
    assert services.verdicts.get("default", UUID(written.id)) is None
    assert services.verdicts.page(VerdictQuery("default")).verdicts == ()
    assert services.verdicts.page(VerdictQuery("other")).verdicts == (written,)


def test_pages_give_every_verdict_once_newest_first_while_new_ones_arrive(services: Services) -> None:
    written = [verdict() for _ in range(25)]
    services.verdicts.append([(entry, "key:1") for entry in written])
    seen: list[Verdict] = []
    after = None
    while True:
        page = services.verdicts.page(VerdictQuery("default", limit=10, after=after))
        seen.extend(page.verdicts)
        services.verdicts.append([(verdict(), "key:2")])
        if page.next is None:
            break
        after = UUID(page.next)
    assert seen == written[::-1]


def test_a_last_page_that_is_full_has_no_next(services: Services) -> None:
    services.verdicts.append([(verdict(), "key:1") for _ in range(10)])
    assert services.verdicts.page(VerdictQuery("default", limit=10)).next is None
    assert services.verdicts.page(VerdictQuery("default", limit=9)).next is not None


def test_filters_narrow_the_page(services: Services) -> None:
    entries = [verdict(detector=name, decision=decision) for name in ("a", "b") for decision in ("clear", "flag")]
    services.verdicts.append([(entry, "key:1") for entry in entries])
    assert services.verdicts.page(VerdictQuery("default", detector="a")).verdicts == (entries[1], entries[0])
    assert services.verdicts.page(VerdictQuery("default", decision="flag")).verdicts == (entries[3], entries[1])
    assert services.verdicts.page(VerdictQuery("default", detector="b", decision="clear")).verdicts == (entries[2],)


def test_one_verdict_that_cannot_be_written_keeps_the_whole_batch_out(services: Services) -> None:
    good = verdict()
    with pytest.raises(sqlite3.IntegrityError):
        services.verdicts.append([(good, "key:1"), (msgspec.structs.replace(verdict(), workspace="nowhere"), "key:1")])
    assert services.verdicts.get("default", UUID(good.id)) is None


@pytest.mark.parametrize(
    "query",
    [
        VerdictQuery("default"),
        VerdictQuery("default", after=uuid4()),
        VerdictQuery("default", detector="a", after=uuid4()),
        VerdictQuery("default", decision="flag", after=uuid4()),
    ],
)
def test_pages_are_read_off_an_index_and_not_sorted(services: Services, query: VerdictQuery) -> None:
    compiled = page_statement(query).compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    with services.database.read() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).all()
    steps = " ".join(str(row[-1]) for row in plan)
    assert "USING INDEX" in steps
    assert "TEMP B-TREE" not in steps
    assert ("id<?" in steps) == (query.after is not None)


def test_an_unknown_id_is_not_there(services: Services) -> None:
    assert services.verdicts.get("default", uuid4()) is None
