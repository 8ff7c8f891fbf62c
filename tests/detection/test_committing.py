"""An answer leaves after the ledger has it, whoever else is written at the same time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError

from discern.app import Services
from discern.core.counts import Counts
from discern.core.errors import StorageUnavailable
from discern.core.ids import uuid7_text
from discern.core.verdict import Verdict
from discern.detection import committing
from discern.detection.committing import Committer
from discern.detection.types import LedgerEntry, VerdictQuery
from tests.detection.test_ledger import verdict


def fresh(**changes: Any) -> Verdict:
    return msgspec.structs.replace(verdict(), id=uuid7_text(), **changes)


async def write_all(committer: Committer, groups: Sequence[Sequence[Verdict]]) -> list[BaseException | None]:
    return await asyncio.gather(
        *(committer.write([LedgerEntry(one, "key:1") for one in group]) for group in groups), return_exceptions=True
    )


def test_what_is_finished_together_is_one_transaction(services: Services) -> None:
    groups = [[fresh()] for _ in range(50)]
    assert asyncio.run(write_all(services.committer, groups)) == [None] * 50
    assert services.counts.snapshot() == {"ledger.commits": 1, "ledger.verdicts": 50}
    for [one] in groups:
        assert services.verdicts.get("default", UUID(one.id)) == one


def test_many_groups_over_time_are_all_there(services: Services) -> None:
    async def run() -> None:
        for size in (1, 3, 64, 65, 300, 1):
            await write_all(services.committer, [[fresh() for _ in range(size)] for _ in range(4)])

    asyncio.run(run())
    assert services.counts.snapshot()["ledger.verdicts"] == 4 * (1 + 3 + 64 + 65 + 300 + 1)


@pytest.mark.parametrize("size", [1, 100])
def test_one_caller_s_fault_is_not_the_other_s_answer(services: Services, size: int) -> None:
    good = [fresh() for _ in range(size)]
    bad = [fresh(), fresh(workspace="nowhere")]
    outcomes = asyncio.run(write_all(services.committer, [good, bad]))
    assert outcomes[0] is None
    assert isinstance(outcomes[1], sqlite3.IntegrityError | IntegrityError)
    kept = {one.id for one in services.verdicts.page(VerdictQuery("default", limit=500)).verdicts}
    assert kept == {one.id for one in good}


def test_a_ledger_that_another_process_holds_is_waited_for(services: Services) -> None:
    holder = sqlite3.connect(services.settings.home / "discern.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, holder.execute, ["COMMIT"]).start()
    one = fresh()
    assert asyncio.run(write_all(services.committer, [[one]])) == [None]
    assert services.verdicts.get("default", UUID(one.id)) == one


def test_a_ledger_that_does_not_answer_answers_nobody(services: Services) -> None:
    services.database.close()
    outcomes = asyncio.run(write_all(services.committer, [[fresh()], [fresh()]]))
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable, StorageUnavailable]


def test_a_defect_of_the_ledger_leaves_nobody_waiting() -> None:
    class Defective:
        def append(self, verdicts: object) -> None:
            raise ZeroDivisionError

        is_quick = False

        def append_at_once(self, verdicts: object) -> bool:
            return False

        def finish_tidying(self) -> None:
            raise AssertionError

        def tidy(self) -> None:
            raise AssertionError("nothing was written")

    committer = Committer(Defective(), Counts())
    outcomes = asyncio.run(write_all(committer, [[fresh()], [fresh()]]))
    committer.close()
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, ZeroDivisionError]


def test_tidying_lets_the_log_beside_the_database_start_anew(services: Services) -> None:
    log = services.settings.home / "discern.db-wal"

    def written(tidy: bool) -> int:
        for _ in range(30):
            assert services.verdicts.append_at_once([LedgerEntry(fresh(), "key:1") for _ in range(60)])
            if tidy:
                services.verdicts.tidy()
                services.verdicts.finish_tidying()
        return log.stat().st_size

    tidied = written(tidy=True)
    assert written(tidy=False) > 5 * tidied


def test_tidying_is_asked_for_after_so_many_rows(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[str] = []
    monkeypatch.setattr(committing, "_SLOW_SECONDS", 60)
    monkeypatch.setattr(committing, "_TIDY_AFTER_ROWS", 100)
    monkeypatch.setattr(services.verdicts, "tidy", lambda: tidied.append("most"))
    monkeypatch.setattr(services.verdicts, "finish_tidying", lambda: tidied.append("rest"))

    async def run() -> None:
        for number in range(1, 11):
            await write_all(services.committer, [[fresh() for _ in range(50)]])
            # Every second one makes the hundred; the thread takes as long as it takes.
            while len(tidied) < number // 2 * 2:  # noqa: ASYNC110 - the ledger has no event
                await asyncio.sleep(0.001)

    asyncio.run(run())
    services.committer.close()
    assert tidied == ["most", "rest"] * 5


def test_nothing_is_written_while_tidying_is_finished(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    begun, under_way = 0, 0
    monkeypatch.setattr(committing, "_TIDY_AFTER_ROWS", 10)

    def watched(write: Callable[[Sequence[LedgerEntry]], Any]) -> Callable[[Sequence[LedgerEntry]], Any]:
        def call(entries: Sequence[LedgerEntry]) -> Any:
            nonlocal begun, under_way
            begun, under_way = begun + 1, under_way + 1
            try:
                return write(entries)
            finally:
                under_way -= 1

        return call

    def finish() -> None:
        # What is counted is the calls of the ledger: the committer counts a commit only after it has begun the next.
        before = begun
        time.sleep(0.05)
        seen.append((begun - before, under_way))

    for name in ("append", "append_at_once"):
        monkeypatch.setattr(services.verdicts, name, watched(getattr(services.verdicts, name)))
    monkeypatch.setattr(services.verdicts, "finish_tidying", finish)

    async def run() -> None:
        async def some() -> None:
            for _ in range(30):
                await services.committer.write([LedgerEntry(fresh(), "key:1")])
                await asyncio.sleep(0.005)

        await asyncio.gather(*(some() for _ in range(4)))

    asyncio.run(run())
    services.committer.close()
    assert begun > len(seen) > 0
    assert set(seen) == {(0, 0)}
