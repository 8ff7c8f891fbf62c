"""Who feels a detector's way is noticed; who asks about many things is not."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from discern.access.types import Principal
from discern.app import Services
from discern.audit.ports import NoTrail
from discern.core.counts import Counts
from discern.detection.rules_probing import most_alike_pictures, most_alike_records
from discern.detection.service_probing import ProbingWatch
from discern.inputs.sketches import sketch_of

RANDOM = np.random.default_rng(20260102)
ASK = "/v1/detectors/toy-image/verdicts"


def scene(seed: int) -> NDArray[np.uint8]:
    """A picture with large shapes, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=95)
    return out.getvalue()


def perturbed(picture: NDArray[np.uint8], strength: float = 4.0) -> NDArray[np.uint8]:
    """One step of an attack that sees scores alone: a little noise on every pixel."""
    return np.clip(picture + RANDOM.normal(0, strength, picture.shape), 0, 255).astype(np.uint8)


def noticed(services: Services) -> list[tuple[str, str, dict[str, int]]]:
    services.plane.watch.look()
    acts = [entry.act for entry in services.audit_store.page("default", 500, None).entries]
    return [(act.who, act.target, act.after or {}) for act in acts if act.act == "detect.probing"]


@pytest.mark.system
def test_an_attack_by_noise_is_noticed_once_and_still_answered(client: TestClient, services: Services) -> None:
    picture = scene(1)
    for _ in range(80):
        assert client.post(ASK, content=jpeg(perturbed(picture))).status_code == 200
    ((who, target, facts),) = noticed(services)
    assert who == client.get("/v1/whoami").json()["id"]
    assert (target, facts["among"]) == ("detector:toy-image", 80)
    assert facts["near_duplicates"] >= 64
    client.post(ASK, content=jpeg(perturbed(picture)))
    assert len(noticed(services)) == 1
    assert services.counts.snapshot()["probing.noticed"] == 1


@pytest.mark.system
def test_many_different_pictures_are_nothing_to_notice(client: TestClient, services: Services) -> None:
    for seed in range(120):
        client.post(ASK, content=jpeg(scene(seed)))
    assert noticed(services) == []


@pytest.mark.system
def test_an_attack_on_a_detector_of_records_is_noticed(client: TestClient, services: Services) -> None:
    base = np.array([3.0, -2.0, 0.7])
    for _ in range(4):
        tried = base * (1 + RANDOM.uniform(-0.02, 0.02, (100, 3)))
        records = [dict(zip("abc", row, strict=True)) for row in tried.tolist()]
        assert client.post("/v1/detectors/toy-record/verdicts:batch", json=records).status_code == 200
    ((_, target, facts),) = noticed(services)
    assert (target, facts["among"]) == ("detector:toy-record", 100)


@pytest.mark.system
def test_records_of_many_customers_and_the_same_record_again_are_nothing_to_notice(
    client: TestClient, services: Services
) -> None:
    for _ in range(4):
        tried = RANDOM.lognormal(3, 1, (100, 3))
        records = [dict(zip("abc", row, strict=True)) for row in tried.tolist()]
        records += [{"a": 1.0, "b": 2.0, "c": 3.0}] * 100
        client.post("/v1/detectors/toy-record/verdicts:batch", json=records)
    assert noticed(services) == []


@pytest.mark.system
def test_the_frames_of_a_stream_are_alike_and_nothing_to_notice(client: TestClient, services: Services) -> None:
    with client.websocket_connect("/v1/detectors/toy-record/stream") as stream:
        for step in range(400):
            stream.send_text(json.dumps({"a": 3 + step / 10_000, "b": 1, "c": 1}))
            stream.receive_json()
    assert noticed(services) == []


@pytest.fixture
def seen() -> tuple[ProbingWatch, Counts]:
    counts = Counts()
    return ProbingWatch(64, NoTrail(), counts), counts


def test_each_principal_and_each_detector_is_looked_at_by_itself(seen: tuple[ProbingWatch, Counts]) -> None:
    watch, counts = seen
    for number in range(200):
        watch.see_picture(Principal(f"key:{number % 4}", "default"), f"d{number % 2}", 12345)
    watch.look()
    assert counts.snapshot().get("probing.noticed", 0) == 0


def test_what_is_held_is_bounded(seen: tuple[ProbingWatch, Counts]) -> None:
    watch, _ = seen
    for number in range(20_000):
        watch.see_picture(Principal(f"key:{number}", "default"), "d", number)
    watch.look()
    assert len(watch._windows) <= 1000


def test_turned_off_it_holds_nothing() -> None:
    watch = ProbingWatch(0, NoTrail(), Counts())
    for _ in range(1000):
        watch.see_picture(Principal("key:1", "default"), "d", 1)
        watch.see_record(Principal("key:1", "default"), "d", (1.0,))
    assert not watch._pending


def test_noise_recompression_and_scaling_leave_a_sketch_nearly_as_it_is() -> None:
    for seed in range(20):
        picture = scene(seed)
        small = cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA).astype(np.uint8)
        for other in (perturbed(picture), np.asarray(Image.open(io.BytesIO(jpeg(picture)))), small):
            assert (sketch_of(picture) ^ sketch_of(other)).bit_count() <= 6


def test_different_pictures_have_different_sketches() -> None:
    sketches = np.array([sketch_of(scene(seed)) for seed in range(200)], np.uint64)
    assert most_alike_pictures(sketches) <= 2


def test_what_misses_in_both_is_alike_and_what_misses_in_one_is_not() -> None:
    nan = float("nan")
    assert most_alike_records(np.array([[1, nan], [1.05, nan]], np.float32)) == 1
    assert most_alike_records(np.array([[1, nan], [1.05, 5]], np.float32)) == 0
