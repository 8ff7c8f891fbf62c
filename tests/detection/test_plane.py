from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from discern.access.types import Principal
from discern.app import Services
from discern.core.errors import InvalidRecord, StorageUnavailable, UnknownDetector, UnsupportedInput
from discern.core.verdict import Verdict
from discern.detection.committing import Committer
from discern.detection.service import on_ledger
from discern.detection.types import DetectionRequest, LedgerEntry, VerdictQuery
from discern.inputs.types import MediaContent, Record
from tests.media import clip, jpeg

CALLER = Principal(id="key:test", workspace="default")
RECORD: Record = {"a": 1.0, "b": -2.0, "c": 0.5}


def ask(services: Services, detector: str, content: MediaContent | Record, version: str | None = None) -> Verdict:
    request = DetectionRequest(CALLER, detector, content, version)

    async def run() -> Verdict:
        return await services.detect(request)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("detector", "content"),
    [("toy-record", RECORD), ("toy-image", jpeg(3)), ("toy-cascade", jpeg(6)), ("toy-image", clip())],
)
def test_a_verdict_is_on_the_ledger_as_it_was_answered(
    services: Services, detector: str, content: MediaContent | Record
) -> None:
    verdict = ask(services, detector, content)
    assert services.verdicts.page(VerdictQuery("default")).verdicts == (verdict,)


def test_no_answer_leaves_that_the_ledger_does_not_have(services: Services) -> None:
    class Broken:
        def append(self, entries: Sequence[LedgerEntry]) -> None:
            raise StorageUnavailable("The disk is full.")

        is_quick = False

        def append_at_once(self, entries: Sequence[LedgerEntry]) -> bool:
            return False

        def finish_tidying(self) -> None:
            raise AssertionError("nothing was written")

        def tidy(self) -> None:
            raise AssertionError("nothing was written")

    answered = []

    committer = Committer(Broken(), services.counts)

    async def run() -> None:
        detect = services.plane.asking(on_ledger(services.plane.assess, committer))
        answered.append(await detect(DetectionRequest(CALLER, "toy-record", RECORD)))

    with pytest.raises(StorageUnavailable):
        asyncio.run(run())
    committer.close()
    assert answered == []


def test_the_verdict_says_what_was_judged_and_how(services: Services) -> None:
    before = datetime.now(UTC)
    verdict = ask(services, "toy-cascade", jpeg(4))
    assert (verdict.detector, verdict.version, verdict.workspace) == ("toy-cascade", "1.0.0", "default")
    assert (verdict.input.kind, verdict.input.width, verdict.input.height) == ("image", 64, 48)
    assert before <= verdict.created_at <= datetime.now(UTC)
    assert verdict.decided_by == verdict.stages[-1].name
    assert verdict.score == verdict.stages[-1].score
    assert sum(stage.milliseconds for stage in verdict.stages) <= verdict.milliseconds
    assert verdict.input.sha256 == hashlib.sha256(jpeg(4)).hexdigest()


def test_a_file_and_its_bytes_get_the_same_score_to_the_last_bit(services: Services, tmp_path: Path) -> None:
    (tmp_path / "named.txt").write_bytes(jpeg(5))
    by_path = ask(services, "toy-cascade", tmp_path / "named.txt")
    by_bytes = ask(services, "toy-cascade", jpeg(5))
    assert (by_path.score, by_path.input) == (by_bytes.score, by_bytes.input)


def test_many_callers_at_once_each_get_the_answer_to_their_own_input(services: Services) -> None:
    generator = np.random.default_rng(7)
    rows = generator.uniform(-3, 3, (200, 3))
    records: list[Record] = [{name: float(value) for name, value in zip("abc", row, strict=True)} for row in rows]
    alone = [ask(services, "toy-record", record) for record in records]

    async def run() -> list[Verdict]:
        requests = [DetectionRequest(CALLER, "toy-record", record) for record in records]
        return await asyncio.gather(*(services.detect(request) for request in requests))

    together = asyncio.run(run())
    assert [verdict.input.sha256 for verdict in together] == [verdict.input.sha256 for verdict in alone]
    assert [verdict.score for verdict in together] == [verdict.score for verdict in alone]
    assert len({verdict.score for verdict in alone}) > 190
    assert len({verdict.id for verdict in together}) == 200


def test_a_record_given_to_a_detector_of_images_is_named(services: Services) -> None:
    with pytest.raises(UnsupportedInput, match="takes an image, not a record"):
        ask(services, "toy-image", {"a": 1})


def test_a_record_may_be_given_as_bytes_or_as_a_file(services: Services, tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(msgspec.json.encode(RECORD))
    verdicts = [
        ask(services, "toy-record", given) for given in (RECORD, msgspec.json.encode(RECORD), tmp_path / "record")
    ]
    assert len({(verdict.score, verdict.input.sha256) for verdict in verdicts}) == 1


def test_what_cannot_be_judged_is_not_on_the_ledger(services: Services) -> None:
    with pytest.raises(InvalidRecord):
        ask(services, "toy-record", {"a": 1})
    with pytest.raises(UnknownDetector):
        ask(services, "nobody", RECORD)
    with pytest.raises(UnknownDetector, match=r"no version '9\.9\.9'"):
        ask(services, "toy-record", RECORD, "9.9.9")
    assert services.verdicts.page(VerdictQuery("default")).verdicts == ()
