"""The cascade: exits, wiring, failures, accounting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from discern.core.errors import BundleRefused
from discern.detectors import cascade as cascade_module
from discern.detectors.calibration import calibrate
from discern.detectors.cascade import Cascade, RowOutcome
from discern.detectors.manifest import Manifest
from discern.detectors.runtime import StageFailed, StageModel
from tests.detectors import models

SCREEN, EXPERT, JUDGE = "screen", "expert", "judge"
values = st.floats(0, 1, width=32)


class CountedModel(StageModel):
    """A real model that notes how many rows each run had."""

    def __init__(self, name: str, model_bytes: bytes, **options: Any) -> None:
        super().__init__(name, model_bytes, **options)
        self.runs: list[int] = []

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        self.runs.append(len(next(iter(feeds.values()))))
        return super().run(feeds, outputs)


def column_model(column: int, fields: int = 3) -> bytes:
    """Probability = one field of the record, whatever it is."""
    pick = helper.make_node("Gather", ["record", "column"], ["probability"], axis=1)
    inputs, outputs = [models.tensor("record", ["rows", fields])], [models.tensor("probability", ["rows"])]
    return models.build([pick], inputs, outputs, [models.constant("column", column, np.int64)]).SerializeToString()


def table_model(column: int, fields: int = 3) -> bytes:
    """Probability = the field itself where it is in [0, 1); the whole run fails when any row has 1 or more there."""
    nodes = [
        helper.make_node("Gather", ["record", "column"], ["field"], axis=1),
        helper.make_node("Cast", ["field"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["nothing"], axis=0),
        helper.make_node("Add", ["field", "nothing"], ["probability"]),
    ]
    initializers = [models.constant("column", column, np.int64), models.constant("table", [0.0])]
    inputs, outputs = [models.tensor("record", ["rows", fields])], [models.tensor("probability", ["rows"])]
    return models.build(nodes, inputs, outputs, initializers).SerializeToString()


def manifest(*stages: dict[str, Any], thresholds: tuple[float, float] = (0.4, 0.8)) -> Manifest:
    """Record stages that exit below 0.2 and from 0.9, the last one excepted."""
    listed: list[dict[str, Any]] = [
        {"model": f"{stage['name']}.onnx", "exits": {"clear_below": 0.2, "flag_above": 0.9}} | stage for stage in stages
    ]
    listed[-1].pop("exits")
    decision = {"review_from": thresholds[0], "flag_from": thresholds[1]}
    return Manifest.model_validate(models.record_manifest(stages=listed, decision=decision))


def by_columns(
    *models_bytes: bytes, temperatures: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Cascade, list[CountedModel]]:
    """A cascade of record stages called screen, expert, judge."""
    names = [SCREEN, EXPERT, JUDGE][: len(models_bytes)]
    opened = [CountedModel(name, content) for name, content in zip(names, models_bytes, strict=True)]
    stages = [
        {"name": name, "calibration": {"temperature": temperature}}
        for name, temperature in zip(names, temperatures, strict=False)
    ]
    return Cascade(manifest(*stages), {model.name: model for model in opened}), opened


def rows(*records: Sequence[float]) -> NDArray[np.float32]:
    return np.array(records, dtype=np.float32)


def described(outcomes: Sequence[RowOutcome]) -> list[tuple[str, float | None]]:
    return [(o.decided_by, None if o.score is None else round(o.score, 6)) for o in outcomes]


def test_clear_cases_end_at_the_first_stage_and_the_rest_go_on() -> None:
    cascade, (screen, expert) = by_columns(column_model(0), column_model(1))
    outcomes = cascade.run(rows((0.1, 0.5, 0), (0.5, 0.7, 0), (0.95, 0.2, 0), (0.3, 0.25, 0)))
    assert described(outcomes) == [(SCREEN, 0.1), (EXPERT, 0.7), (SCREEN, 0.95), (EXPERT, 0.25)]
    assert (screen.runs, expert.runs) == ([4], [2])
    assert [[(r.name, r.rows) for r in o.readings] for o in outcomes[:2]] == [[(SCREEN, 1)], [(SCREEN, 1), (EXPERT, 1)]]


def test_a_stage_that_no_row_reaches_does_not_run() -> None:
    cascade, (screen, expert, judge) = by_columns(column_model(0), column_model(1), column_model(2))
    assert described(cascade.run(rows((0.0, 0.5, 0.5), (1.0, 0.5, 0.5)))) == [(SCREEN, 0.0), (SCREEN, 1.0)]
    assert (screen.runs, expert.runs, judge.runs) == ([2], [], [])


def test_an_exit_is_below_one_cut_and_from_the_other() -> None:
    quarter_cuts = {"clear_below": 0.25, "flag_above": 0.75}
    stages: list[dict[str, Any]] = [{"name": SCREEN, "exits": quarter_cuts}, {"name": EXPERT}]
    opened = {SCREEN: StageModel(SCREEN, column_model(0)), EXPERT: StageModel(EXPERT, column_model(1))}
    cascade = Cascade(manifest(*stages, thresholds=(0.4, 0.6)), opened)
    below, above = np.nextafter(np.float32(0.25), np.float32(0)), np.nextafter(np.float32(0.75), np.float32(0))
    outcomes = cascade.run(rows((0.25, 0.5, 0), (below, 0.5, 0), (0.75, 0.5, 0), (above, 0.5, 0)))
    assert [outcome.decided_by for outcome in outcomes] == [EXPERT, SCREEN, SCREEN, EXPERT]


def test_exits_look_at_the_calibrated_score() -> None:
    # 0.15 is below the exit as it is, and 0.36 at temperature 3.
    cascade, _ = by_columns(column_model(0), column_model(1), temperatures=(3.0, 0.5))
    (outcome,) = cascade.run(rows((0.15, 0.6, 0)))
    assert outcome.decided_by == EXPERT
    assert outcome.readings[0].score == calibrate(np.array([0.15], np.float32), 3.0)[0]
    assert outcome.score == calibrate(np.array([0.6], np.float32), 0.5)[0]


def test_without_exits_every_stage_sees_every_row() -> None:
    opened = {SCREEN: CountedModel(SCREEN, column_model(0)), EXPERT: CountedModel(EXPERT, column_model(1))}
    cascade = Cascade(manifest({"name": SCREEN}, {"name": EXPERT}), opened, early_exits=False)
    outcomes = cascade.run(rows((0.0, 0.3, 0), (1.0, 0.7, 0)))
    assert described(outcomes) == [(EXPERT, 0.3), (EXPERT, 0.7)]
    assert [len(outcome.readings) for outcome in outcomes] == [2, 2]


def test_rows_that_reach_a_stage_are_the_rows_the_one_before_left_open() -> None:
    cascade, opened = by_columns(column_model(0), column_model(1), column_model(2))
    table = np.random.default_rng(5).random((200, 3)).astype(np.float32)
    outcomes = cascade.run(table)
    for position, model in enumerate(opened):
        reached = [o for o in outcomes if len(o.readings) > position]
        assert sum(model.runs) == len(reached)
        if position:
            before = [o.readings[position - 1].score for o in outcomes if len(o.readings) >= position]
            assert len(reached) == sum(1 for score in before if score is not None and 0.2 <= score < 0.9)


def test_each_row_carries_its_share_of_the_time_of_the_stages_it_reached() -> None:
    cascade, _ = by_columns(column_model(0), column_model(1))
    outcomes = cascade.run(rows((0.0, 0.5, 0), (0.5, 0.5, 0), (0.5, 0.5, 0)))
    screen = [outcome.readings[0].milliseconds for outcome in outcomes]
    assert len(set(screen)) == 1
    assert 0 < screen[0] < 1000
    assert outcomes[1].readings[1].milliseconds == outcomes[2].readings[1].milliseconds > 0


# Wiring.


def stacked(takes: dict[str, str], nodes: list[Any], inputs: dict[str, list[int | str]], *constants: Any) -> Cascade:
    """Screen: column 0 with the whole record as `embedding`; expert: the given graph of `probability`."""
    screen = models.build(
        [
            helper.make_node("Gather", ["record", "column"], ["probability"], axis=1),
            helper.make_node("Identity", ["record"], ["embedding"]),
        ],
        [models.tensor("record", ["rows", 3])],
        [models.tensor("probability", ["rows"]), models.tensor("embedding", ["rows", 3])],
        [models.constant("column", 0, np.int64)],
    )
    expert = models.build(
        nodes,
        [models.tensor(name, shape) for name, shape in inputs.items()],
        [models.tensor("probability", ["rows"])],
        list(constants),
    )
    stages = [{"name": SCREEN, "calibration": {"temperature": 2.0}}, {"name": EXPERT, "takes": takes}]
    opened = {
        SCREEN: StageModel(SCREEN, screen.SerializeToString()),
        EXPERT: StageModel(EXPERT, expert.SerializeToString()),
    }
    return Cascade(manifest(*stages), opened)


TABLE = rows((0.0, 0.1, 0.2), (0.5, 0.3, 0.4), (1.0, 0.5, 0.6), (0.25, 0.75, 0.8))
OPEN = [1, 3]


def open_scores(cascade: Cascade) -> list[float | None]:
    outcomes = cascade.run(TABLE)
    assert [o.decided_by for o in outcomes] == [SCREEN, EXPERT, SCREEN, EXPERT]
    return [outcomes[row].score for row in OPEN]


def test_a_later_stage_may_take_the_calibrated_score() -> None:
    copy = helper.make_node("Identity", ["before"], ["probability"])
    found = open_scores(stacked({"before": "screen.score"}, [copy], {"before": ["rows"]}))
    assert found == pytest.approx(calibrate(TABLE[OPEN, 0], 2.0).tolist(), abs=1e-7)


def test_a_later_stage_may_take_the_raw_probability() -> None:
    copy = helper.make_node("Identity", ["before"], ["probability"])
    found = open_scores(stacked({"before": "screen.probability"}, [copy], {"before": ["rows"]}))
    assert found == TABLE[OPEN, 0].tolist()


def test_a_score_may_be_taken_as_a_column() -> None:
    flatten = helper.make_node("Squeeze", ["before", "axis"], ["probability"])
    axis = models.constant("axis", [1], np.int64)
    found = open_scores(stacked({"before": "screen.probability"}, [flatten], {"before": ["rows", 1]}, axis))
    assert found == TABLE[OPEN, 0].tolist()


def test_a_later_stage_may_take_an_embedding_beside_the_input() -> None:
    nodes = [
        helper.make_node("Gather", ["vector", "one"], ["left"], axis=1),
        helper.make_node("Gather", ["record", "two"], ["right"], axis=1),
        helper.make_node("Mul", ["left", "right"], ["probability"]),
    ]
    constants = [models.constant("one", 1, np.int64), models.constant("two", 2, np.int64)]
    takes = {"vector": "screen.embedding", "record": "input"}
    found = open_scores(stacked(takes, nodes, {"vector": ["rows", 3], "record": ["rows", 3]}, *constants))
    assert found == pytest.approx([0.3 * 0.4, 0.75 * 0.8], abs=1e-6)


def test_a_stage_may_take_what_a_stage_two_before_it_gave() -> None:
    copy = helper.make_node("Identity", ["before"], ["probability"])
    judge = models.build([copy], [models.tensor("before", ["rows"])], [models.tensor("probability", ["rows"])])
    stages: list[dict[str, Any]] = [
        {"name": SCREEN},
        {"name": EXPERT},
        {"name": JUDGE, "takes": {"before": "screen.score"}},
    ]
    opened = {
        SCREEN: StageModel(SCREEN, column_model(0)),
        EXPERT: StageModel(EXPERT, column_model(1)),
        JUDGE: StageModel(JUDGE, judge.SerializeToString()),
    }
    outcomes = Cascade(manifest(*stages), opened).run(rows((0.3, 0.1, 0), (0.4, 0.5, 0), (0.6, 0.7, 0), (0.0, 0.5, 0)))
    assert described(outcomes) == [(EXPERT, 0.1), (JUDGE, 0.4), (JUDGE, 0.6), (SCREEN, 0.0)]


@pytest.mark.parametrize(
    ("takes", "inputs", "reason"),
    [
        (None, {"record": ["rows", 3], "other": ["rows"]}, "say in `takes`"),
        ({"record": "input", "nothing": "screen.score"}, {"record": ["rows", 3]}, "`takes` names the inputs"),
        (
            {"record": "input"},
            {"record": ["rows", 4]},
            r"float32 \[rows, 4\], but the detector.s input is float32 \[rows, 3\]",
        ),
        ({"record": "input"}, {"record": ["rows", 3, 1]}, r"\[rows, 3, 1\]"),
        ({"record": "screen.score"}, {"record": ["rows", 3]}, "must be floats of shape"),
        ({"record": "screen.absent"}, {"record": ["rows", 3]}, "the graph of screen has no such tensor"),
        ({"record": "screen.embedding"}, {"record": ["rows", 2]}, r"but screen.embedding is float32 \[rows, 3\]"),
    ],
)
def test_a_graph_that_does_not_fit_the_manifest_is_refused(
    takes: dict[str, str] | None, inputs: dict[str, list[int | str]], reason: str
) -> None:
    sums = [helper.make_node("ReduceSum", ["record"], ["probability"], keepdims=0)]
    with pytest.raises(BundleRefused, match=reason) as caught:
        stacked(takes, sums, inputs)  # type: ignore[arg-type]
    assert caught.value.facts["file"] == "expert.onnx"


def test_an_image_graph_that_wants_floats_is_refused() -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["probability"], axes=[1, 2, 3], keepdims=0)]
    floats = models.build(
        nodes, [models.tensor("image", ["rows", 32, 32, 3])], [models.tensor("probability", ["rows"])]
    )
    opened = {"only": StageModel("only", floats.SerializeToString())}
    with pytest.raises(BundleRefused, match=r"image is float32 \[rows, 32, 32, 3\], but the detector.s input is uint8"):
        Cascade(Manifest.model_validate(models.image_manifest()), opened)


# Failures.


def test_a_later_stage_without_a_usable_answer_leaves_only_that_row_degraded() -> None:
    cascade, _ = by_columns(column_model(0), column_model(1))
    outcomes = cascade.run(rows((0.5, np.nan, 0), (0.5, 0.6, 0), (0.6, 1.7, 0), (0.7, -np.inf, 0), (0.0, np.nan, 0)))
    assert [outcome.degraded for outcome in outcomes] == [EXPERT, None, EXPERT, EXPERT, None]
    assert described(outcomes) == [(SCREEN, 0.5), (EXPERT, 0.6), (SCREEN, 0.6), (SCREEN, 0.7), (SCREEN, 0.0)]
    expert = outcomes[0].readings[1]
    assert (expert.name, expert.score, expert.error) == (EXPERT, None, "the probability is not finite (nan)")
    assert outcomes[2].readings[1].error == "the probability 1.7 is outside [0, 1]"
    assert all(outcome.error is None for outcome in outcomes)


def test_a_row_that_makes_a_later_stage_raise_does_not_spoil_its_neighbours() -> None:
    cascade, (_, expert) = by_columns(column_model(0), table_model(1))
    outcomes = cascade.run(rows((0.5, 0.3, 0), (0.5, 5.0, 0), (0.5, 0.4, 0)))
    assert described(outcomes) == [(EXPERT, 0.3), (SCREEN, 0.5), (EXPERT, 0.4)]
    assert [outcome.degraded for outcome in outcomes] == [None, EXPERT, None]
    assert "ONNX Runtime failed" in str(outcomes[1].readings[1].error)
    assert expert.runs == [3, 1, 1, 1]


def test_a_lone_row_that_makes_a_stage_raise_is_not_tried_twice() -> None:
    cascade, (_, expert) = by_columns(column_model(0), table_model(1))
    (outcome,) = cascade.run(rows((0.5, 5.0, 0)))
    assert outcome.degraded == EXPERT
    assert expert.runs == [1]


def test_a_row_that_a_middle_stage_failed_on_goes_no_further() -> None:
    cascade, (_, _, judge) = by_columns(column_model(0), table_model(1), column_model(2))
    outcomes = cascade.run(rows((0.5, 5.0, 0.7), (0.5, 0.5, 0.6)))
    assert described(outcomes) == [(SCREEN, 0.5), (JUDGE, 0.6)]
    assert [reading.name for reading in outcomes[0].readings] == [SCREEN, EXPERT]
    assert judge.runs == [1]


@pytest.mark.parametrize("bad", [5.0, -5.0])
def test_a_first_stage_that_fails_leaves_no_score_for_that_row_only(bad: float) -> None:
    cascade, _ = by_columns(table_model(0), column_model(1))
    outcomes = cascade.run(rows((0.5, 0.3, 0), (bad, 0.5, 0), (0.1, 0.4, 0)))
    assert described(outcomes) == [(EXPERT, 0.3), (SCREEN, None), (SCREEN, 0.1)]
    assert "ONNX Runtime failed" in str(outcomes[1].error)
    assert outcomes[1].degraded is None
    assert outcomes[1].readings[0].score is None


def test_a_first_stage_without_a_usable_answer_leaves_no_score_for_that_row_only() -> None:
    cascade, _ = by_columns(column_model(0), column_model(1))
    outcomes = cascade.run(rows((np.nan, 0.3, 0), (0.5, 0.5, 0)))
    assert described(outcomes) == [(SCREEN, None), (EXPERT, 0.5)]
    assert outcomes[0].error == "the probability is not finite (nan)"


def test_a_model_that_always_fails_gives_every_row_its_own_failure() -> None:
    class Down(StageModel):
        def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
            raise StageFailed(self.name, f"down for {len(next(iter(feeds.values())))} of {outputs}")

    opened = {SCREEN: StageModel(SCREEN, column_model(0)), EXPERT: Down(EXPERT, column_model(1))}
    outcomes = Cascade(manifest({"name": SCREEN}, {"name": EXPERT}), opened).run(
        rows((0.5, 0.5, 0), (0.0, 0.5, 0), (0.6, 0, 0))
    )
    assert described(outcomes) == [(SCREEN, 0.5), (SCREEN, 0.0), (SCREEN, 0.6)]
    assert [outcome.degraded for outcome in outcomes] == [EXPERT, None, EXPERT]


def test_the_rounding_of_float32_sums_is_no_failure() -> None:
    cascade, _ = by_columns(column_model(0))
    outcomes = cascade.run(rows((1.000001, 0, 0), (-0.000001, 0, 0), (1.001, 0, 0)))
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0, None]


# Rows never influence each other.


def image_cascade() -> Cascade:
    opened = {
        SCREEN: StageModel(SCREEN, models.image_model(slope=20)),
        EXPERT: StageModel(EXPERT, models.CASCADE_FILES["expert.onnx"]),
    }
    return Cascade(Manifest.model_validate(models.cascade_manifest()), opened)


def images(count: int, seed: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    brightness = rng.integers(0, 256, (count, 1, 1, 1))
    noisy: NDArray[np.int64] = brightness + rng.integers(-20, 21, (count, 32, 32, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_a_batch_gives_what_its_rows_give_alone() -> None:
    cascade, pictures = image_cascade(), images(40)
    together = cascade.run(pictures)
    assert {outcome.decided_by for outcome in together} == {SCREEN, EXPERT}
    for row, outcome in enumerate(together):
        (alone,) = cascade.run(pictures[row : row + 1])
        assert alone.decided_by == outcome.decided_by
        assert alone.score == pytest.approx(outcome.score, abs=1e-6)


@given(st.lists(st.tuples(values, st.one_of(values, st.just(5.0))), min_size=1, max_size=12), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_changes_nothing_for_any_of_them(records: list[tuple[float, float]], random: Any) -> None:
    cascade = PROPERTY_CASCADE
    order = list(range(len(records)))
    random.shuffle(order)
    table = rows(*((one, other, 0.0) for one, other in records))
    straight, shuffled = cascade.run(table), cascade.run(table[order])
    assert [summary(straight[row]) for row in order] == [summary(outcome) for outcome in shuffled]


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_every_row_takes_the_path_that_its_scores_say(records: list[tuple[float, float]]) -> None:
    table = rows(*((one, other, 0.0) for one, other in records))
    for (first, second, _), outcome in zip(table.tolist(), PROPERTY_CASCADE.run(table), strict=True):
        if 0.2 <= first < 0.9 and second < 1:
            assert summary(outcome) == (EXPERT, second, None, 2)
        elif 0.2 <= first < 0.9:
            assert summary(outcome) == (SCREEN, first, EXPERT, 2)
        else:
            assert summary(outcome) == (SCREEN, first, None, 1)


def summary(outcome: RowOutcome) -> tuple[str, float | None, str | None, int]:
    return outcome.decided_by, outcome.score, outcome.degraded, len(outcome.readings)


PROPERTY_CASCADE, _ = by_columns(column_model(0), table_model(1))


def test_chunks_bound_the_rows_of_a_run_and_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(5).random((23, 3)).astype(np.float32)
    whole, _ = by_columns(column_model(0), column_model(1))
    expected = [summary(outcome) for outcome in whole.run(table)]
    monkeypatch.setattr(cascade_module, "CHUNK_ROWS", 5)
    chunked, (screen, _) = by_columns(column_model(0), column_model(1))
    assert [summary(outcome) for outcome in chunked.run(table)] == expected
    assert screen.runs == [5, 5, 5, 5, 3]


def test_large_rows_run_in_small_chunks() -> None:
    model = CountedModel("only", models.image_model(height=256, width=256))
    manifest_of_large = Manifest.model_validate(
        models.image_manifest(input={"kind": "image", "width": 256, "height": 256})
    )
    outcomes = Cascade(manifest_of_large, {"only": model}).run(np.zeros((7, 256, 256, 3), dtype=np.uint8))
    assert len(outcomes) == 7
    assert model.runs == [3, 3, 1]


def test_no_rows_give_no_outcomes() -> None:
    cascade, (screen, _) = by_columns(column_model(0), column_model(1))
    assert cascade.run(np.empty((0, 3), dtype=np.float32)) == []
    assert screen.runs == []


def test_rows_are_not_changed() -> None:
    cascade, pictures = image_cascade(), images(8)
    before = pictures.copy()
    cascade.run(pictures)
    assert (pictures == before).all()
