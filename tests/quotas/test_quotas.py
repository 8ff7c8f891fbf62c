"""A workspace gets what its quota says in a month: not one verdict more, through whichever door and process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.errors import CallerError, DiscernError, InvalidRecord, QuotaExceeded, StorageUnavailable
from discern.core.months import Month
from discern.core.verdict import Verdict
from discern.detection.types import BatchRequest, DetectionRequest
from discern.quotas.rules import exceeded, grant
from discern.quotas.service import Quotas
from discern.quotas.types import Amount, Quota
from discern.settings import load_settings
from tests.http.test_streams import Served
from tests.media import jpeg

pytestmark = pytest.mark.system
RECORD: Any = {"a": 1, "b": 0.5, "c": -1}
CALLER = Principal("key:1", "default")
ONE = Amount(1)
DETECTOR = "/v1/detectors/toy-record/verdicts"


@pytest.fixture
def services(two_workspaces: Services) -> Services:
    return two_workspaces


def used(services: Services, workspace: str = "default") -> tuple[int, int]:
    usage = services.quotas.usage(workspace)
    return usage.verdicts, usage.bytes


def taken(quotas: Quotas, times: int, amount: Amount = ONE) -> int:
    """How often an amount is to be had."""
    found = 0
    for _ in range(times):
        try:
            quotas.take("default", amount)
        except QuotaExceeded:
            continue
        found += 1
    return found


def test_without_a_quota_everything_is_counted_and_nothing_refused(services: Services) -> None:
    assert taken(services.quotas, 50, Amount(2, 100)) == 50
    assert used(services) == (100, 5000)
    assert used(services, "other") == (0, 0)
    assert services.quotas.usage("default").quota == Quota()


def test_the_last_verdict_is_had_and_the_next_is_refused_until_next_month(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=137))
    assert taken(services.quotas, 200) == 137
    with pytest.raises(QuotaExceeded) as refused:
        services.quotas.take("default", ONE)
    ends = Month.of(datetime.now(UTC)).end
    facts = refused.value.facts
    assert (facts["quota"], facts["allowed"], facts["used"]) == ("verdicts", 137, 137)
    assert facts["resets_at"] == ends.strftime("%Y-%m-%dT00:00:00Z")
    left = (ends - datetime.now(UTC)).total_seconds()
    assert refused.value.retry_after == pytest.approx(left, abs=5)
    assert used(services) == (137, 0)
    services.quotas.take("other", ONE)


def test_bytes_have_a_quota_of_their_own_which_records_need_nothing_of(services: Services) -> None:
    services.quotas.change("default", Quota(bytes=1000))
    assert taken(services.quotas, 20, Amount(1, 99)) == 10
    assert taken(services.quotas, 5) == 5
    assert used(services) == (15, 990)
    services.quotas._refusals.clear()
    assert taken(services.quotas, 1, Amount(1, 10)) == 1
    with pytest.raises(QuotaExceeded, match="1000 bytes of images and videos"):
        services.quotas.take("default", Amount(1, 1))


def test_what_is_given_back_can_be_had_again(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=10))
    assert taken(services.quotas, 10) == 10
    services.quotas.give_back("default", ONE)
    assert taken(services.quotas, 2) == 1
    services.quotas.settle()
    services.quotas.give_back("default", Amount(3))  # what was settled before
    services.quotas.change("default", Quota(verdicts=11))
    services.quotas._refusals.clear()
    assert taken(services.quotas, 1) == 1
    assert used(services) == (8, 0)


def test_threads_and_processes_together_get_what_there_is_and_no_more(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=400))
    others = [build_services(services.settings) for _ in range(2)]
    for other in others:
        other.open()
    found: list[int] = []

    def take(quotas: Quotas) -> None:
        found.append(taken(quotas, 120))

    threads = [threading.Thread(target=take, args=[one.quotas]) for one in (services, *others) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) <= 400
    for one in (services, *others):
        one.quotas.settle()
        one.quotas._refusals.clear()
    assert used(services) == (sum(found), 0)
    # What lay with others near the end is to be had once they have given it back.
    assert sum(found) + taken(services.quotas, 400) == 400
    for other in others:
        other.close()
    assert used(services) == (400, 0)


_TAKES = """
import sys
from discern.app import build_services
from discern.core.errors import QuotaExceeded
from discern.quotas.types import Amount
from discern.settings import load_settings

services = build_services(load_settings({"DISCERN_HOME": sys.argv[1]}))
services.open()
passed = 0
for _ in range(90):
    try:
        services.quotas.take("default", Amount(1))
        passed += 1
    except QuotaExceeded:
        pass
services.close()
print(passed)
"""


def test_processes_of_their_own_keep_to_one_quota(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.quotas.change("default", Quota(verdicts=100))
    processes = [
        subprocess.Popen([sys.executable, "-c", _TAKES, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    passed = sum(int(process.communicate()[0]) for process in processes)
    assert passed <= 100
    assert used(services) == (passed, 0)
    assert passed + taken(services.quotas, 100) == 100
    services.close()


def test_a_month_begins_anew(services: Services) -> None:
    moment = [datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)]
    quotas = Quotas(services.quotas._store, lambda: moment[0])
    quotas.change("default", Quota(verdicts=5))
    assert taken(quotas, 7) == 5
    moment[0] += timedelta(seconds=1)
    quotas._refusals.clear()
    assert taken(quotas, 7) == 5
    assert quotas.usage("default").month == "2026-12"
    assert services.quotas._store.used("default", Month(2026, 11)) == Amount(5)


def test_a_quota_that_is_changed_holds_after_the_next_settling(services: Services) -> None:
    assert taken(services.quotas, 5) == 5
    other = build_services(services.settings)
    other.open()
    other.quotas.change("default", Quota(verdicts=6))
    other.close()
    services.quotas.settle()
    assert taken(services.quotas, 5) == 1
    services.quotas.change("default", Quota())
    services.quotas._refusals.clear()
    assert taken(services.quotas, 5) == 5


def test_while_the_database_is_away_uses_are_kept_and_written_later(services: Services) -> None:
    assert taken(services.quotas, 5) == 5
    add = services.quotas._store.add

    def away(*_: object) -> None:
        raise StorageUnavailable("gone")

    services.quotas._store.add = away  # type: ignore[method-assign, assignment]
    services.quotas.settle()
    assert taken(services.quotas, 5) == 5
    services.quotas._store.add = add  # type: ignore[method-assign]
    assert used(services) == (10, 0)


def test_every_door_of_the_plane_counts_what_came_to_a_verdict(services: Services) -> None:
    async def run() -> list[Any]:
        # Asked before: from memory it counts too.
        found: list[Any] = [await services.detect(DetectionRequest(CALLER, "toy-record", RECORD)) for _ in range(2)]
        with pytest.raises(InvalidRecord):
            await services.detect(DetectionRequest(CALLER, "toy-record", {"a": "x"}))
        wrong = InvalidRecord("no")
        found += await services.detect_batch(BatchRequest(CALLER, "toy-record", [RECORD, wrong, {"a": "x"}, RECORD]))
        found += await services.detect_batch(BatchRequest(CALLER, "toy-image", [jpeg(3), b"no image", jpeg(4)]))
        return found

    found = asyncio.run(run())
    assert sum(isinstance(one, Verdict) for one in found) == 6
    assert found[1].cached
    assert used(services) == (6, len(jpeg(3)) + len(jpeg(4)))


def test_a_batch_that_is_more_than_there_is_comes_to_nothing_and_costs_nothing(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=3))

    async def run() -> list[Verdict | DiscernError]:
        with pytest.raises(QuotaExceeded):
            await services.detect_batch(BatchRequest(CALLER, "toy-record", [RECORD] * 4))
        return await services.detect_batch(BatchRequest(CALLER, "toy-record", [RECORD] * 3))

    assert len(asyncio.run(run())) == 3
    assert used(services) == (3, 0)


def test_over_http_it_is_429_with_the_start_of_next_month_and_usage_tells(services: Services) -> None:
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    services.quotas.change("default", Quota(verdicts=2))
    answers = [client.post(DETECTOR, json=RECORD) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    refused = answers[2].json()
    assert (refused["code"], refused["quota"], refused["allowed"]) == ("quota_exceeded", "verdicts", 2)
    left = (Month.of(datetime.now(UTC)).end - datetime.now(UTC)).total_seconds()
    assert int(answers[2].headers["retry-after"]) == pytest.approx(left, abs=5)
    batch = client.post(f"{DETECTOR}:batch", json=[RECORD])
    assert (batch.status_code, batch.json()["code"]) == (429, "quota_exceeded")
    usage = client.get("/v1/usage").json()
    assert (usage["verdicts"], usage["quota"]) == (2, {"verdicts": 2, "bytes": None})
    assert usage["resets_at"] == Month.of(datetime.now(UTC)).end.isoformat().replace("+00:00", "Z")


def test_records_that_are_answered_directly_are_counted_like_the_others(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.quotas.change("default", Quota(verdicts=40))
    with Served(home) as served, served.client() as client:
        answers = [client.post(DETECTOR, json=RECORD | {"a": number / 100}) for number in range(50)]
    assert [answer.status_code for answer in answers] == [200] * 40 + [429] * 10
    assert any("x-request-id" not in answer.headers for answer in answers[:40])  # some were answered directly
    assert all(answer.json()["code"] == "quota_exceeded" for answer in answers[40:])
    assert used(services) == (40, 0)
    services.close()


def test_a_job_over_the_quota_fails_and_says_so(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.quotas.change("default", Quota(verdicts=0))
    with Served(home) as served, served.client() as client:
        job = client.post("/v1/detectors/toy-record/jobs", json=RECORD).json()
        for _ in range(300):
            job = client.get(f"/v1/jobs/{job['id']}").json()
            if job["state"] in {"done", "failed"}:
                break
            time.sleep(0.05)
    assert (job["state"], job["error"]["code"]) == ("failed", "quota_exceeded")
    services.close()


def test_scoring_a_file_stops_at_the_quota_and_goes_on_from_there(services: Services, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Bulk scoring is not installed: pip install -e .[bulk]")
    from discern.app import bulk_parts
    from discern.detection.bulk.service import score_file
    from discern.detection.bulk.types import Job, Report

    lines = tmp_path / "in.ndjson"
    lines.write_text('{"a": 1, "b": 0.5, "c": -1}\n' * 30_000)

    def score() -> Report:
        job = Job(str(lines), tmp_path / "out.parquet")
        parts = bulk_parts(services)
        return score_file(job, ("toy-record", None), parts, watch=lambda _: None, note=lambda _: None)

    services.quotas.change("default", Quota(verdicts=20_000))
    with pytest.raises(QuotaExceeded):
        score()
    before = used(services)[0]
    assert 0 < before <= 20_000
    services.quotas.change("default", Quota(verdicts=30_000))
    services.quotas._refusals.clear()
    report = score()
    assert (report.totals.rows, report.scored) == (30_000, 30_000 - before)
    assert used(services) == (30_000, 0)


@pytest.mark.parametrize("quota", [Quota(verdicts=-1), Quota(bytes=2**62)])
def test_a_quota_that_cannot_be_is_refused(services: Services, quota: Quota) -> None:
    with pytest.raises(CallerError, match="quota cannot be"):
        services.quotas.change("default", quota)


def test_changing_a_quota_is_on_record(services: Services) -> None:
    services.quotas.change("other", Quota(verdicts=7))
    act = services.audit_store.page("other", 1, None).entries[0].act
    assert (act.act, act.who) == ("quotas.change", "local")
    assert (act.before, act.after) == ({"verdicts": None, "bytes": None}, {"verdicts": 7, "bytes": None})


def test_what_is_granted_is_never_more_than_what_is_left() -> None:
    for limit in (0, 1, 15, 16, 17, 100, 50_000):
        for had in range(0, limit + 1, max(1, limit // 40)):
            left = limit - had
            for asked in (1, 3, 1500):
                refused = exceeded(Quota(limit), Amount(had), Amount(asked))
                assert (refused is None) == (asked <= left)
                if refused is None:
                    assert asked <= grant(Quota(limit), Amount(had), Amount(asked)).verdicts <= left
    assert exceeded(Quota(), Amount(10**9, 10**9), Amount(1, 1)) is None
    assert exceeded(Quota(bytes=5), Amount(0, 9), Amount(1, 0)) is None


def told(answer: Any) -> tuple[int, ...]:
    assert len([name for name in answer.headers if name.lower().startswith("ratelimit-")]) == 3, answer.headers
    return tuple(int(answer.headers[f"RateLimit-{name}"]) for name in ("Limit", "Remaining"))


def test_answers_and_refusals_tell_how_the_quota_stands(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=3))
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'k').secret}"
        answers = [client.post(DETECTOR, json=RECORD) for _ in range(4)]
        assert [(answer.status_code, told(answer)) for answer in answers] == [
            (200, (3, 2)),
            (200, (3, 1)),
            (200, (3, 0)),
            (429, (3, 0)),
        ]
        left = (Month.of(datetime.now(UTC)).end - datetime.now(UTC)).total_seconds()
        for answer in answers:
            assert int(answer.headers["RateLimit-Reset"]) == pytest.approx(left, abs=10)
        client.headers["Authorization"] = f"Bearer {services.keys.issue('other', 'k').secret}"
        assert "RateLimit-Limit" not in client.post(DETECTOR, json=RECORD).headers


def test_how_a_quota_stands_is_known_while_it_is_settled_too(services: Services) -> None:
    services.quotas.change("default", Quota(verdicts=50))
    assert taken(services.quotas, 3) == 3
    services.quotas.settle()
    standing = services.quotas.standing("default")
    assert standing is not None
    assert standing[:2] == (50, 47)
    services.quotas.change("default", Quota())
    assert taken(services.quotas, 1) == 1
    assert services.quotas.standing("default") is None


def test_of_a_quota_and_a_rate_limit_the_nearer_one_is_told(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_RATE_LIMITS": "key 4/hour"}))
    services.open()
    services.quotas.change("default", Quota(verdicts=1000))
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'k').secret}"
        assert told(client.post(DETECTOR, json=RECORD)) == (4, 3)
        services.quotas.change("default", Quota(verdicts=2))
        services.quotas.settle()
        assert told(client.post(DETECTOR, json=RECORD)) == (2, 0)
        assert told(client.post(DETECTOR, json=RECORD)) == (2, 0)
    services.close()


def test_records_that_are_answered_directly_tell_it_too(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.quotas.change("default", Quota(verdicts=100))
    services.close()
    with Served(home) as served, served.client() as client:
        found = [told(client.post(DETECTOR, json=RECORD | {"a": number})) for number in range(5)]
    assert found == [(100, 99 - number) for number in range(5)]
