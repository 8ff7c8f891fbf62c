"""The shipped models of `driver-drowsiness` behind a real server: a picture, a clip, and a live stream.

The bundle is signed with a key of the test's own, its window shortened so that nobody waits a minute.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml
from PIL import Image

import discern.detectors
from discern.detectors.bundle import open_bundle
from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import vetting_mark
from tests.http.test_streams import Served, received
from tests.inputs.media import clip, encoded
from tests.inputs.test_faces import drawn_face

pytestmark = pytest.mark.system

SHIPPED = Path(discern.detectors.__file__).parent / "builtin" / "driver-drowsiness"
NAME = "toy-driver"
FACE = np.full((240, 320, 3), 120, np.uint8)
FACE[:, 40:280] = drawn_face(240, (120, 120), 60)
NOBODY = np.full((240, 320, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Served]:
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("driver") / "home"))
    source = Path(shutil.copytree(SHIPPED, home / "sources" / NAME))
    manifest: dict[str, Any] = yaml.safe_load((source / "detector.yaml").read_text(encoding="utf-8"))
    manifest |= {"name": NAME, "files": {}}
    manifest["stream"] |= {"window_seconds": 1.0, "every_seconds": 0.5, "least": 5}
    (source / "detector.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    (source / "signature.json").unlink(missing_ok=True)
    root = home / "detectors" / NAME / manifest["version"]
    root.parent.mkdir(parents=True)
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    (home / "vetted" / vetting_mark(open_bundle(root, TrustStore((home / "trust",))))).touch()
    with Served(home) as served:
        yield served


def jpeg(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return encoded(Image.fromarray(picture), "JPEG")


def posted(served: Served, content: bytes) -> httpx2.Response:
    address = f"http://127.0.0.1:{served.port}/v1/detectors/{NAME}/verdicts"
    headers = {"Authorization": f"Bearer {served.secret}"}
    return httpx2.post(address, content=content, headers=headers, timeout=60)


def windows_of(served: Served, picture: bytes, seconds: float = 2.5) -> list[dict[str, Any]]:
    """Send one picture ten times a second and return the windows that are told."""
    windows = []
    with served.stream(NAME) as stream:
        for _ in range(round(seconds * 10)):
            stream.send(picture)
            time.sleep(0.1)
            answer = received(stream)
            while answer["type"] == "window":
                windows.append(answer["verdict"])
                answer = received(stream)
            assert answer["type"] in {"verdict", "error"}
    return windows


def test_a_picture_is_judged_by_eyes_and_mouth_and_one_without_a_face_is_not_judged(served: Served) -> None:
    verdict = posted(served, jpeg(FACE)).json()
    readings = {reading["name"]: reading["score"] for reading in verdict["stages"]}
    assert list(readings) == ["eyes", "mouth", "frame"]
    assert verdict["score"] == pytest.approx(1 - (1 - readings["eyes"]) * (1 - readings["mouth"]), abs=1e-5)
    assert (verdict["input"]["face"], verdict["timeline"]) == ("found", None)
    refused = posted(served, jpeg(NOBODY))
    assert (refused.status_code, refused.json()["code"]) == (422, "no_face_found")


def test_a_clip_is_judged_by_its_worst_window_and_what_shows_nobody_makes_it_no_clearer(served: Served) -> None:
    seen = posted(served, clip(frames=[FACE] * 50)).json()
    assert (seen["input"]["kind"], seen["decided_by"]) == ("video", "window")
    assert seen["timeline"]["known"] == 1.0
    assert {count["name"] for count in seen["timeline"]["counts"]} == {"blink", "long_closure", "yawn"}
    assert len(seen["frames"]) == 50
    hidden = posted(served, clip(frames=[FACE] * 10 + [NOBODY] * 40)).json()
    assert (hidden["decision"], hidden["degraded"], hidden["label"]) == ("review", "known", None)
    assert (hidden["input"]["frames"], hidden["input"]["frames_without_face"]) == (10, 40)
    assert hidden["timeline"]["known"] <= 0.4
    assert posted(served, clip(frames=[NOBODY] * 30)).json()["code"] == "no_face_found"
    assert served.get(f"/v1/verdicts/{hidden['id']}") == hidden


def test_a_stream_tells_of_windows_and_one_that_sees_nobody_is_for_review(served: Served) -> None:
    seen = windows_of(served, jpeg(FACE))
    assert len(seen) >= 2
    for window in seen:
        assert (window["input"]["kind"], window["timeline"]["known"]) == ("stream", 1.0)
        assert window["input"]["frames"] >= 5
    nobody = windows_of(served, jpeg(NOBODY))
    assert len(nobody) >= 2
    for window in nobody:
        assert (window["decision"], window["degraded"], window["input"]["frames"]) == ("review", "known", 0)
    assert served.get(f"/v1/verdicts/{nobody[0]['id']}") == json.loads(json.dumps(nobody[0]))
