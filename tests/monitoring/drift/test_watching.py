"""What is looked at of what was answered, what is left out, and what is never written."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services
from discern.core.errors import StorageUnavailable
from discern.core.verdict import FrameScore
from discern.detection.types import BatchRequest, DetectionRequest, LedgerEntry
from discern.detectors.manifest import Manifest
from discern.inputs.picture_statistics import picture_statistics
from discern.monitoring.drift.service_watching import FEWEST, DriftWatch
from discern.monitoring.drift.sources import MOST_SUBJECTS, values_of, watched_of
from discern.monitoring.drift.types import ReleaseKey
from discern.settings import load_settings
from tests.detection.test_ledger import verdict
from tests.detectors import models
from tests.media import clip, jpeg
from tests.monitoring.drift.conftest import KEY, Rig, entry, records

pytestmark = pytest.mark.system
CALLER = Principal("key:1", "default")


@pytest.fixture
def watch(services: Services) -> DriftWatch:
    (found,) = (one for one in services.committer._watchers if isinstance(one, DriftWatch))
    return found


def noted(watch: DriftWatch) -> list[LedgerEntry]:
    return watch._noted


def record(number: float) -> Any:
    return {"a": number, "b": 0.5, "c": -1.0}


def test_a_record_is_noted_through_every_door_with_what_the_detector_saw(
    services: Services, client: TestClient, watch: DriftWatch
) -> None:
    async def ask() -> None:
        await services.detect(DetectionRequest(CALLER, "toy-record", record(1.0)))
        await services.detect_batch(BatchRequest(CALLER, "toy-record", [record(2.0), {"a": 1}, record(3.0)]))

    asyncio.run(ask())
    assert client.post("/v1/detectors/toy-record/verdicts", json=record(4.0)).status_code == 200
    body = {"inputs": [{"name": "record", "shape": [1, 3], "datatype": "FP32", "data": [5.0, 0.5, -1.0]}]}
    client.post("/v2/models/toy-record/infer", json=body)
    seen = [one.seen for one in noted(watch)]
    assert [values[0] for values in seen if isinstance(values, tuple)][:4] == [1.0, 2.0, 3.0, 4.0]
    for one in noted(watch):
        assert isinstance(one.seen, tuple)
        assert one.seen[1:] == (0.5, -1.0)


def test_an_answer_that_was_known_is_not_looked_at_again(services: Services, watch: DriftWatch) -> None:
    async def ask() -> list[bool]:
        same = DetectionRequest(CALLER, "toy-record", record(1.0))
        return [(await services.detect(same)).cached for _ in range(3)]

    assert asyncio.run(ask()) == [False, True, True]
    watch.look()
    assert watch._held[KEY].verdicts == 1


def test_of_a_live_stream_one_input_stands_for_those_around_it(services: Services, watch: DriftWatch) -> None:
    from discern.detection.streams.service import Held, Parts, Stream
    from discern.detection.streams.types import StreamLimits
    from discern.http.problems import problem_members

    async def send(_: bytes) -> None: ...

    async def keep(_: LedgerEntry) -> None: ...

    async def play() -> None:
        limits = StreamLimits(10, 10, 100, 10_000_000, 60.0)
        parts = Parts(services.detect, keep, limits, Held(10_000_000), services.counts, problem_members)
        detector = services.catalogue.get("toy-record")
        stream = Stream(parts, detector, CALLER, None, lambda: True, send)  # type: ignore[arg-type, return-value]
        for number in range(20):
            await stream.take(msgspec.json.encode(record(number / 10)))
        await stream.finish()

    asyncio.run(play())
    assert len(noted(watch)) == 1


def test_a_picture_is_what_the_detector_saw_of_it_and_a_clip_its_middle_frame(
    services: Services, watch: DriftWatch
) -> None:
    async def ask() -> None:
        for seed in range(3):
            await services.detect(DetectionRequest(CALLER, "toy-image", jpeg(seed)))
        await services.detect(DetectionRequest(CALLER, "toy-image", clip()))

    asyncio.run(ask())
    pictures = [one.seen for one in noted(watch)]
    assert [isinstance(seen, np.ndarray) and seen.shape for seen in pictures] == [(32, 32, 3)] * 3 + [False]
    watch.look()
    held = watch._held[ReleaseKey("default", "toy-image", "1.0.0")]
    names = [one.name for one in held.watched]
    values = dict(zip(names, np.concatenate(held.values).T, strict=True))
    first = pictures[0]
    assert isinstance(first, np.ndarray)
    assert values["image:brightness"][0] == pytest.approx(first.mean() / 255, abs=0.05)
    # The embedding of the toy is the mean of each channel.
    assert values["embedding:mean"][:3] == pytest.approx(
        [seen.mean() for seen in pictures if isinstance(seen, np.ndarray)], rel=0.01
    )
    assert np.isnan(values["embedding:mean"][3])
    assert np.isnan(values["image:brightness"][3])
    assert values["image:aspect"][3] == pytest.approx(64 / 48)


def test_of_a_clip_the_middle_frame_counts_and_of_a_degraded_verdict_no_score() -> None:
    watched = watched_of(Manifest.model_validate(models.image_manifest()))
    frames = tuple(FrameScore(second, second / 10, "only") for second in range(3))
    plain = msgspec.structs.replace(verdict(), frames=frames, score=0.9)
    degraded = msgspec.structs.replace(verdict(), degraded="expert")
    values = values_of([LedgerEntry(one, "key:1", None, ()) for one in (plain, degraded)], watched)
    assert values[0, 0] == pytest.approx(0.1)
    assert np.isnan(values[1, 0])


def test_statistics_of_pictures_tell_light_colour_and_blur_apart() -> None:
    drawn = np.random.default_rng(1)
    noise = drawn.integers(0, 256, (224, 224, 3)).astype(np.uint8)
    grey = np.full((224, 224, 3), 128, np.uint8)
    red = np.zeros((300, 100, 3), np.uint8)
    red[..., 0] = 255
    assert picture_statistics(grey) == pytest.approx((128 / 255, 0.0, 0.0, 0.0), abs=1e-6)
    assert picture_statistics(red).saturation == 1.0
    assert picture_statistics(noise).sharpness > 100
    assert picture_statistics(noise).contrast > 0.2
    tiny = picture_statistics(np.full((1, 1, 3), 255, np.uint8))
    assert tiny.brightness == 1.0


def test_nothing_is_written_of_fewer_than_twenty_verdicts(rig: Rig) -> None:
    rig.show(records(1, FEWEST - 1))
    assert rig.store.waiting(10) == []
    rig.show(records(2, 1))
    assert [one.piece.verdicts for one in rig.store.waiting(10)] == [FEWEST]


def test_no_value_of_a_field_lies_in_the_database_as_it_was(rig: Rig) -> None:
    values = records(1, 400) * 1000
    rig.show(values, 0.3)
    rig.windows.fold()
    found = b""
    with rig.services.database.read() as connection:
        from sqlalchemy import text

        for table in ("drift_releases", "drift_pieces", "drift_windows", "drift_periods"):
            found += b"".join(bytes(row[0]) for row in connection.execute(text(f"SELECT body FROM {table}")))
    exact = [struct.pack("<f", float(value)) for value in values.ravel()]
    assert len(found) > 5000
    assert sum(one in found for one in exact) == 0


def test_what_identifies_or_is_left_out_has_no_sketch() -> None:
    manifest = models.record_manifest()
    manifest["input"]["fields"][0]["identifies"] = True
    manifest["input"]["fields"][2]["missing"] = "nan"
    found = Manifest.model_validate(manifest)
    names = [one.name for one in watched_of(found)]
    assert names == ["score", "decision", "field:b", "field:c", "missing:c"]
    assert [one.name for one in watched_of(found, {"toy-record:b", "other:c"})][2:] == ["field:c", "missing:c"]


def test_fields_of_the_shipped_detector_that_tell_the_time_are_left_out_unless_one_says_otherwise(
    services: Services, tmp_path: Path
) -> None:
    left_out = load_settings({"DISCERN_HOME": str(tmp_path)}).drift_left_out.split(",")
    manifest = services.catalogue.find("card-fraud").bundle.manifest
    names = {one.name for one in watched_of(manifest)} - {one.name for one in watched_of(manifest, left_out)}
    assert names == {"field:night", "field:weekend"}


def test_of_a_long_record_the_first_fields_are_watched() -> None:
    fields = [{"name": f"f{number}", "type": "number"} for number in range(500)]
    manifest = models.record_manifest(input={"kind": "record", "fields": fields})
    assert len(watched_of(Manifest.model_validate(manifest))) == MOST_SUBJECTS


def test_what_misses_is_counted_by_itself() -> None:
    manifest = models.record_manifest()
    manifest["input"]["fields"][0]["missing"] = "nan"
    watched = watched_of(Manifest.model_validate(manifest))
    entries = [entry([number, 0.0, 0.0], 0.5) for number in (1.0, float("nan"))]
    holed = entries[0]._replace(seen=(None, 0.0, 0.0))
    values = values_of([*entries, holed], watched)
    assert values[:, [one.name for one in watched].index("missing:a")].tolist() == [0.0, 1.0, 1.0]


def test_what_went_into_one_transaction_is_looked_at_by_release(rig: Rig) -> None:
    other = KEY._replace(workspace="other")
    known = entry([9.0, 9.0, 9.0])._replace(seen=None)
    rig.watch.recorded([known, *(entry(row, 0.5, key) for key in (KEY, other) for row in records(1, 30)), known])
    rig.watch.look()
    rig.watch.write()
    assert {(one.key, one.piece.verdicts) for one in rig.store.waiting(10)} == {(KEY, 30), (other, 30)}


def test_of_a_release_a_burst_is_looked_at_and_then_so_many_a_second(watch: DriftWatch) -> None:
    one = entry([1.0, 2.0, 3.0])
    picture = one._replace(seen=np.zeros((8, 8, 3), np.uint8))
    other = entry([1.0, 2.0, 3.0], 0.5, KEY._replace(workspace="other"))
    found = []
    for entries in ([one] * 5000, [one] * 5000, [picture] * 200, [*[one] * 5000, *[other] * 50]):
        watch.recorded(entries)
        found.append(Counter(noted.verdict.workspace for noted in noted(watch)))
        watch.look()
    assert found == [{"default": 4000}, {"default": 250}, {"default": 8}, {"default": 244, "other": 50}]
    for _ in range(16):
        watch.look()
    watch.recorded([picture] * 200)
    assert len(noted(watch)) == 125


def test_of_all_releases_together_no_more_is_looked_at_than_of_one_burst(watch: DriftWatch) -> None:
    for number in range(100):
        watch.recorded([entry([1.0, 2.0, 3.0], 0.5, KEY._replace(workspace=f"w{number}"))] * 50)
    assert len(noted(watch)) == 4000


def test_while_the_database_is_down_what_was_seen_waits_up_to_a_bound(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise StorageUnavailable("down")

    monkeypatch.setattr(rig.store, "add", down)
    for start in range(25):
        rig.show(records(start, 1000))
    assert 20_000 <= rig.watch._held[KEY].verdicts < 21_000
    monkeypatch.undo()
    rig.watch.write()
    assert rig.store.waiting(10)[0].piece.verdicts >= 20_000
    assert rig.watch._held[KEY].verdicts == rig.watch._numbers == 0


def test_a_release_whose_bundle_is_gone_is_not_watched_until_it_is_there_again(rig: Rig) -> None:
    gone = KEY._replace(version="9.9.9")
    rig.show(records(1, 100), key=gone)
    assert rig.store.waiting(10) == []
    assert rig.watch._unknown == set()


def test_of_a_release_that_nobody_asks_nothing_is_kept(rig: Rig) -> None:
    rig.show(records(1, 100))
    rig.show(records(2, 1))
    rig.watch.write()
    assert rig.watch._held[KEY].verdicts == 1  # it waits for others
    rig.show(records(3, 100))
    rig.watch.write()
    assert rig.watch._held == {}
    rig.show(records(4, 100))
    assert [one.piece.verdicts for one in rig.store.waiting(10)] == [100, 101, 100]
