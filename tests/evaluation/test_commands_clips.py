"""`discern evaluate` on frames of videos and on clips in which something happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.detectors.packing import pack
from tests.commands import Run
from tests.detectors import models
from tests.evaluation.conftest import flat
from tests.inputs.media import clip

pytestmark = pytest.mark.system

RATE = 10
STREAM: dict[str, Any] = {
    "window_seconds": 2,
    "measure": "fraction_above",
    "of": "only",
    "from": 0.5,
    "flag_at": 0.9,
    "events": [
        {"name": "flash", "of": "only", "from": 0.5, "shortest_seconds": 0.4, "least_per_second": 4},
        {"name": "flicker", "of": "only", "from": 0.5, "shortest_seconds": 0.1, "least_per_second": 40},
    ],
}


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A detector of bright pictures that tells of flashes, and of flickers where there are frames enough."""
    changes = {"name": "toy-flash", "stream": STREAM, "video": {"frames": 200, "pool": "windows"}}
    source = models.write_source(tmp_path / "source", models.image_manifest(**changes), models.IMAGE_FILES)
    return pack(source, tmp_path / "toy-flash-1.0.0").root


def film(path: Path, bright: list[tuple[float, float]], seconds: float = 6.0) -> None:
    """Write a clip that is bright from one time to before another."""
    frames = [
        np.full((48, 64, 3), 235 if any(start <= at / RATE < end for start, end in bright) else 20, np.uint8)
        for at in range(round(seconds * RATE))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clip(frames=frames, rate=RATE))


def report(out: Path) -> tuple[dict[str, Any], str, str]:
    """The first dataset of the JSON, the page, and the Markdown."""
    tree = json.loads((out / "report.json").read_text())
    return tree["datasets"][0], (out / "report.html").read_text(), (out / "report.md").read_text()


def test_events_of_clips_are_compared_with_those_of_the_dataset(run: Run, detector: Path, tmp_path: Path) -> None:
    data = tmp_path / "clips"
    film(data / "bright" / "1.mp4", [(1.0, 1.6), (1.9, 2.6), (4.5, 4.7)])
    film(data / "bright" / "2.mp4", [(3.0, 5.9)])
    film(data / "dark" / "1.mp4", [])
    rows = ["bright/1.mp4,flash,1.2,0.6", "bright/1.mp4,flash,4.4,0.5", "bright/2.mp4,flash,3,3", "dark/1.mp4,nod,1,1"]
    (data / "events.csv").write_text("\n".join(["file,name,start,seconds", *rows]) + "\n")
    out = tmp_path / "out"
    ran = run("evaluate", detector, "--data", data, "-o", out)
    assert ran.code == 0, ran.err
    found, page, markdown = report(out)
    (flash,) = found["events"]
    # The second flash lies across the end of a window; what is too short is none.
    assert (flash["name"], flash["scores"]["true_events"], flash["scores"]["found_events"]) == ("flash", 3, 3)
    assert flash["scores"]["recall"]["value"] == pytest.approx(2 / 3, abs=1e-5)
    assert flash["scores"]["precision"]["value"] == pytest.approx(2 / 3, abs=1e-5)
    assert flash["scores"]["onset_error"]["value"] == pytest.approx(0.1, abs=0.02)
    assert flash["scores"]["onset_error"]["low"] is not None
    assert flash["scores"]["hours"] == pytest.approx(18 / 3600, rel=0.01)
    assert (found["kind"], found["videos"], found["cascade"]) == ("video", None, None)
    caveats = " ".join(found["caveats"])
    assert "does not tell of: nod" in caveats
    assert "does not name, so nothing is said of them: flicker" in caveats
    assert "worst window of time" in caveats
    assert "<h3>Events</h3>" in page
    assert "| clips | flash | 3 | 3 | 3 | 0.667" in markdown
    assert "flash" in ran.out
    again = tmp_path / "again"
    assert run("evaluate", detector, "--data", data, "-o", again).code == 0
    assert (again / "report.json").read_bytes() == (out / "report.json").read_bytes()


def test_a_kind_with_too_few_frames_a_second_is_in_no_figure(run: Run, detector: Path, tmp_path: Path) -> None:
    data = tmp_path / "clips"
    film(data / "bright" / "1.mp4", [(1.0, 1.6)])
    film(data / "dark" / "1.mp4", [])
    (data / "events.csv").write_text("file,name,start,seconds\nbright/1.mp4,flicker,1,0.6\n")
    assert run("evaluate", detector, "--data", data, "-o", tmp_path / "out").code == 0
    (flicker,) = report(tmp_path / "out")[0]["events"]
    assert (flicker["not_judged"], flicker["true_not_judged"], flicker["scores"]["recall"]["value"]) == (2, 1, None)


def test_frames_of_videos_are_measured_by_video_too(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "frames"
    for video in range(12):
        for name, level in (("dark", 60), ("bright", 190)):
            for frame in range(3):
                # One frame of each video looks like the other class.
                shown = 250 - level if frame == 0 else level
                flat(data / name / f"v{video}" / f"{frame}.png", shown, 100 * video + 10 * frame + level)
    manifest = tmp_path / "frames.json"
    options = ("-O", "positive=bright", "-O", "levels=class/video")
    assert run("dataset", "freeze", data, "-l", "folder", *options, "-o", manifest).code == 0
    out = tmp_path / "out"
    ran = run("evaluate", "toy-image", "--data", manifest, "--root", data, "-o", out)
    assert ran.code == 0, ran.err
    found, page, markdown = report(out)
    videos = found["videos"]
    assert (found["items"], videos["videos"], videos["frames"], videos["positives"]) == (72, 24, 72, 12)
    assert videos["metrics"]["auc"]["value"] == 1.0
    assert found["metrics"]["auc"]["value"] < 0.9
    assert found["events"] is None
    assert "<h3>By video</h3>" in page
    assert "| frames | 24 | 12 | mean of 4 frames at most | 1.000" in markdown
    assert "frames, by video" in ran.out


def test_frames_for_a_detector_that_needs_their_times_have_a_reason_and_no_figure(
    run: Run, detector: Path, tmp_path: Path
) -> None:
    for name, level in (("dark", 60), ("bright", 190)):
        flat(tmp_path / "frames" / name / "v" / "1.png", level, level)
    manifest = tmp_path / "frames.json"
    options = ("-O", "positive=bright", "-O", "levels=class/video")
    assert run("dataset", "freeze", tmp_path / "frames", "-l", "folder", *options, "-o", manifest).code == 0
    data = ("--data", manifest, "--root", tmp_path / "frames")
    assert run("evaluate", detector, *data, "-o", tmp_path / "out").code == 0
    found, page, markdown = report(tmp_path / "out")
    assert found["videos"]["operating"] is None
    assert "frames of a dataset have no time" in page
    assert "frames of a dataset have no time" in markdown
