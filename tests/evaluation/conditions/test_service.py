"""Datasets through conditions, streams and attacks, with real models and from end to end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from discern.core.errors import CallerError
from discern.detection.streams.rules import Windows
from discern.detectors.assessment import Detector
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageModel
from discern.evaluation.conditions.encodings import as_packed_png, decode_clip
from discern.evaluation.conditions.media import corrupted
from discern.evaluation.conditions.registry import BY_NAME, STRENGTHS
from discern.evaluation.conditions.service import ConditionsAsked, measure_conditions
from discern.evaluation.conditions.sources import Trial, Tried, some_rows
from discern.evaluation.journal import Journal
from discern.evaluation.ports import Labelled, MediaPiece, Progress, RowsPiece
from discern.evaluation.service import Parts
from discern.evaluation.service_scoring import Scoring
from discern.evaluation.sources import FrozenSource
from discern.evaluation.types import Examples
from discern.evaluation.types_conditions import ConditionCurves, DatasetConditions
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from tests.detectors import models
from tests.evaluation.conditions.conftest import frozen, moving, scene, scoring_of, table


def measured(
    asked: ConditionsAsked, source: Labelled, scoring: Scoring, out: Path, watched: list[Progress] | None = None
) -> DatasetConditions:
    watch = (lambda _: None) if watched is None else watched.append
    (found,) = measure_conditions(asked, [source], scoring, Journal(out), watch, Windows).datasets
    return found


@pytest.fixture
def folder(parts: Parts, pictures: Path) -> FrozenSource:
    return frozen(pictures, parts.open_detector("toy-image").manifest)


@pytest.fixture
def records(parts: Parts, tmp_path: Path) -> FrozenSource:
    return frozen(table(tmp_path / "records.parquet"), parts.open_detector("toy-record").manifest)


def test_curves_stand_beside_the_same_items_as_they_were(parts: Parts, folder: FrozenSource, tmp_path: Path) -> None:
    """The toy judges by brightness: contrast and noise leave that alone, darkness does not."""
    asked = ConditionsAsked(("low_light", "contrast", "frame_drops"), 0, seed=1, items=25)
    found = measured(asked, folder, scoring_of(parts, "toy-image"), tmp_path)
    assert (found.items, found.stream, found.attack) == (50, None, None)
    by_name = {curve.condition: curve for curve in found.curves}
    dark, flat = by_name["low_light"], by_name["contrast"]
    assert [point.strength for point in dark.points] == list(STRENGTHS)
    assert all(point.items == 50 and point.lost.value == 0 for point in dark.points)
    flagged = [point.rates.flagged_positives.value for point in dark.points]
    assert flagged[0] is not None
    assert flagged[-1] == 0
    assert flat.falls_from is None
    assert all(abs(point.difference.value or 0) < 0.02 for point in flat.points)
    assert all((point.difference.low or 0) <= (point.difference.value or 0) for point in flat.points)
    assert by_name["frame_drops"].points == ()
    assert by_name["frame_drops"].caveat == "It takes video."


def test_a_fall_is_told_and_it_is_told_when_it_is_sure(parts: Parts, records: FrozenSource, tmp_path: Path) -> None:
    asked = ConditionsAsked(("shifted_fields", "stale_values", "missing_fields", "blur"), 0, seed=1, items=60)
    found = measured(asked, records, scoring_of(parts, "toy-record"), tmp_path)
    by_name = {curve.condition: curve for curve in found.curves}
    assert set(by_name) == {"shifted_fields", "stale_values", "missing_fields"}
    stale = by_name["stale_values"]
    assert stale.falls_from is not None
    assert stale.surely_falls_from is not None
    assert stale.falls_from <= stale.surely_falls_from
    at = stale.points[stale.surely_falls_from - 1]
    assert at.difference.high is not None
    assert at.difference.high < -0.05
    assert at.p is not None
    assert at.p < 0.05
    assert by_name["missing_fields"].caveat is not None
    assert by_name["missing_fields"].points == ()


def test_what_the_door_refuses_under_a_condition_is_lost_and_says_why(
    parts: Parts, records: FrozenSource, tmp_path: Path
) -> None:
    found = measured(ConditionsAsked(("scaled_units",), 0, seed=1), records, scoring_of(parts, "toy-record"), tmp_path)
    last = found.curves[0].points[-1]
    assert last.lost.value is not None
    assert last.lost.value > 0.1
    assert last.lost_reasons == {"invalid_record": round(last.lost.value * last.items)}


def test_the_same_question_has_the_same_answer_to_the_byte_and_goes_on_where_it_stopped(
    parts: Parts, folder: FrozenSource, tmp_path: Path
) -> None:
    scoring = scoring_of(parts, "toy-cascade")
    asked = ConditionsAsked(("noise", "occlusion"), 20, seed=3, items=10, attacked=4)
    first = measured(asked, folder, scoring, tmp_path / "a")
    watched: list[Progress] = []
    again = measured(asked, folder, replace(scoring, threads=1), tmp_path / "b")
    resumed = measured(asked, folder, scoring, tmp_path / "a", watched)
    assert msgspec.json.encode(first) == msgspec.json.encode(again) == msgspec.json.encode(resumed)
    assert all(far.resumed == far.total for far in watched if "attack" not in far.dataset)
    assert any("attack" in far.dataset for far in watched)
    other = measured(replace(asked, seed=4), folder, scoring, tmp_path / "a")
    assert other != first


def test_the_tree_comes_back_from_its_json(parts: Parts, folder: FrozenSource, tmp_path: Path) -> None:
    scoring, asked = scoring_of(parts, "toy-image"), ConditionsAsked(("jpeg", "live_stream"), 5, seed=1, items=5)
    found = measure_conditions(asked, [folder], scoring, Journal(tmp_path), lambda _: None, Windows)
    assert msgspec.json.decode(msgspec.json.encode(found), type=ConditionCurves) == found
    assert found.datasets[0].stream is not None
    assert found.datasets[0].stream.caveat == "This detector's manifest has no rule for streams of pictures."


def test_pictures_and_records_that_were_not_cleared_are_attacked_within_the_budget(
    parts: Parts, folder: FrozenSource, records: FrozenSource, tmp_path: Path
) -> None:
    asked = ConditionsAsked((), 30, seed=1, attacked=6)
    pictures = measured(asked, folder, scoring_of(parts, "toy-image"), tmp_path).attack
    rows = measured(asked, records, scoring_of(parts, "toy-record"), tmp_path).attack
    assert pictures is not None
    assert rows is not None
    assert pictures.attacked == rows.attacked == 6
    assert 6 <= rows.queries <= 180
    assert rows.points[-1].queries == 30
    # Three fields decide everything here, and all three may be changed.
    assert rows.points[-1].success.value == 1
    assert rows.median_queries is not None


def test_a_dataset_of_clips_loses_frames_and_is_played(tmp_path: Path, parts: Parts, brightness: Detector) -> None:
    for name, levels in (("dark", (40, 90, 150)), ("bright", (120, 190, 230))):
        for place, level in enumerate(levels):
            path = tmp_path / "clips" / name / f"{place}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(moving(20, 4.0, level))
    source = frozen(tmp_path / "clips", brightness.manifest)
    scoring = Scoring(brightness, parts.limits, parts.locator, 2)
    found = measured(
        ConditionsAsked(("h264", "frame_drops", "live_stream"), 3, seed=1), source, scoring, tmp_path / "out"
    )
    assert [curve.condition for curve in found.curves] == ["h264", "frame_drops"]
    assert all(point.lost.value == 0 for curve in found.curves for point in curve.points)
    assert found.stream is not None
    assert (found.stream.clips, len(found.stream.points)) == (6, 5)
    assert found.attack is not None
    assert found.attack.caveat == "No positive picture or record was flagged or sent to review as it was."


def test_a_file_that_changed_ends_the_run(parts: Parts, folder: FrozenSource, pictures: Path, tmp_path: Path) -> None:
    scoring, asked = scoring_of(parts, "toy-image"), ConditionsAsked(("blur",), 0, seed=1)
    measured(replace(asked, names=()), folder, scoring, tmp_path)
    path = next((pictures / "dark").iterdir())
    path.write_bytes(next((pictures / "bright").iterdir()).read_bytes())
    with pytest.raises(CallerError, match="not what was frozen"):
        measured(asked, folder, scoring, tmp_path)


def test_a_picture_that_is_too_large_is_in_no_figure(parts: Parts, pictures: Path, tmp_path: Path) -> None:
    (pictures / "dark" / "large.png").write_bytes(as_packed_png(scene(0, 1000, 1100)))
    source = frozen(pictures, parts.open_detector("toy-image").manifest)
    found = measured(ConditionsAsked(("blur",), 0, seed=1), source, scoring_of(parts, "toy-image"), tmp_path)
    assert (found.items, found.curves[0].points[0].items) == (81, 80)
    assert found.curves[0].points[0].lost.value == 0


def test_frames_that_a_dataset_names_are_those_that_are_judged(tmp_path: Path) -> None:
    content = moving(20, 4.0)
    every = decode_clip(content, InputLimits(), 64)
    hurt = corrupted(content, BY_NAME["contrast"], 1, 0, InputLimits(), (3, 11))
    seen = decode_clip(hurt.content, InputLimits(), 64)
    assert hurt.frames == len(seen.frames) == 2
    assert seen.seconds[1] == pytest.approx(every.seconds[11] - every.seconds[3], abs=1e-3)
    contrast = BY_NAME["contrast"].pixels
    assert contrast is not None
    wanted = [contrast(every.frames[place], np.random.default_rng(0), factor=0.8) for place in (3, 11)]
    assert all(np.array_equal(one, other) for one, other in zip(seen.frames, wanted, strict=True))
    fewer = corrupted(content, BY_NAME["frame_drops"], 5, 0, InputLimits(), tuple(range(20)))
    assert fewer.frames == len(decode_clip(fewer.content, InputLimits(), 64).frames) < 20


class Rows:
    """Records in pieces of three, in two groups that alternate."""

    name, manifest_sha256 = "rows", "0" * 64

    def __init__(self, count: int, labels: int = 2) -> None:
        self._labels = labels
        self.matrix = np.arange(3 * count, dtype=np.float32).reshape(count, 3)

    @property
    def examples(self) -> Examples:
        count = len(self.matrix)
        labels = (np.arange(count) % self._labels).astype(np.int8)
        ids = tuple(map(str, range(count)))
        return Examples("rows", "0" * 64, ids, labels, np.arange(count, dtype=np.int64) % 2)

    def pieces(self, skip: int) -> Iterator[RowsPiece]:
        for start in range(skip, len(self.matrix), 3):
            yield RowsPiece(start, self.matrix[start : start + 3], {1: "bad"} if start == 3 else {})


def test_one_class_has_no_area_and_says_so(parts: Parts, tmp_path: Path) -> None:
    asked = ConditionsAsked(("shifted_fields",), 5, seed=1)
    found = measured(asked, Rows(30, labels=1), scoring_of(parts, "toy-record"), tmp_path)
    point = found.curves[0].points[0]
    assert (found.clean.value, point.auc.value, point.difference.value, point.p) == (None, None, None, None)
    assert point.auc.caveat
    assert (found.curves[0].falls_from, found.curves[0].surely_falls_from) == (None, None)
    assert found.attack is not None
    assert found.attack.attacked == 0


def tried(source: Rows, rows: list[int], trial: Trial | None) -> Tried:
    spec = Manifest.model_validate(models.record_manifest()).input
    assert isinstance(spec, RecordSpec)
    return Tried(source, np.array(rows, np.int64), trial, spec=spec, seed=1, limits=InputLimits(), threads=1)


def pieces_of(part: Tried, skip: int) -> list[RowsPiece]:
    return [piece for piece in part.pieces(skip) if isinstance(piece, RowsPiece)]


def test_a_record_before_is_that_of_its_group_across_pieces_and_of_rows_that_are_not_taken() -> None:
    source = Rows(8)
    taken = [0, 3, 5, 6]
    stale = Trial(BY_NAME["stale_values"], 5)
    found = np.concatenate([piece.matrix for piece in pieces_of(tried(source, taken, stale), 0)])
    assert np.array_equal(found, source.matrix[[0, 1, 3, 4]])


def test_a_part_is_cut_at_the_same_rows_wherever_it_begins_and_keeps_what_was_refused() -> None:
    some = tried(Rows(8), [0, 3, 4, 6, 7], None)
    whole = [(piece.start, piece.matrix.tolist(), piece.refused) for piece in pieces_of(some, 0)]
    assert [(start, refused) for start, _, refused in whole] == [(0, {}), (1, {1: "bad"}), (3, {})]
    assert [(piece.start, piece.matrix.tolist(), piece.refused) for piece in pieces_of(some, 1)] == whole[1:]
    assert some.examples.ids == ("0", "3", "4", "6", "7")
    trial = Trial(BY_NAME["stale_values"], 1)
    assert len({tried(Rows(8), [0], one).manifest_sha256 for one in (None, trial, replace(trial, strength=2))}) == 3


def test_items_keep_their_place_and_have_the_digest_of_what_they_became(folder: FrozenSource) -> None:
    rows = some_rows(folder.examples.labels, 5, 1)
    assert np.array_equal(rows, np.unique(rows))
    part = Tried(folder, rows, Trial(BY_NAME["noise"], 2), spec=None, seed=1, limits=InputLimits(), threads=2)
    pieces = [piece for piece in part.pieces(0) if isinstance(piece, MediaPiece)]
    found = [
        (item.id, item.sha256, content)
        for piece in pieces
        for item, content in zip(piece.items, piece.contents, strict=True)
    ]
    assert tuple(one for one, _, _ in found) == part.examples.ids
    assert all(isinstance(one, bytes) and hashlib.sha256(one).hexdigest() == digest for _, digest, one in found)


@pytest.mark.parametrize("wrong", [{"queries": -1}, {"queries": 10_001}, {"items": 0}, {"attacked": 0}])
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(CallerError):
        ConditionsAsked(**{"names": (), "queries": 1, "seed": 1} | wrong)  # type: ignore[arg-type]


def test_a_cascade_is_what_is_attacked_not_its_first_stage(tmp_path: Path, parts: Parts, folder: FrozenSource) -> None:
    """The models of this cascade answer alike: what passes one query is what the whole cascade clears."""
    manifest = Manifest.model_validate(models.cascade_manifest())
    opened = {
        stage.name: StageModel(stage.name, models.CASCADE_FILES[stage.model], probability=stage.probability)
        for stage in manifest.stages
    }
    detector = Detector(manifest, "1" * 64, opened)
    found = measured(
        ConditionsAsked((), 40, seed=1, attacked=5), folder, Scoring(detector, parts.limits, parts.locator, 1), tmp_path
    )
    assert found.attack is not None
    assert found.attack.attacked == 5
    assert found.attack.queries <= 200
