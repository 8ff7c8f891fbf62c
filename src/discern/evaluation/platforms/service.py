"""Variants of a bundle, made and put to the gate.

- Each stage's variant goes through the gate by itself, in the whole cascade, against the original on the same items;
  where several stages pass, they go through it together, and what does not pass together is left out from the back.
- A variant answers by default only where the cascade with it is 1.5 times as fast; what is merely smaller is there for
  who wants to carry it.
- Nothing is written here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import BundleRefused
from discern.detectors.cascade import Cascade
from discern.detectors.optimise import CONVERSIONS, Converted, Feeds, NotConverted
from discern.detectors.runtime import StageFailed, StageModel
from discern.evaluation.platforms.rules import LEAST_SPEED_UP, LEVEL, Judgement, differences, judge
from discern.evaluation.platforms.types import TOGETHER, Difference, GateResult, LabelledRows, Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Stage

MARGIN = 0.01
_SPEED_ROWS = 24
_ROUNDS = 3
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class AcceptedVariant:
    """A variant that passed: the models by stage, and what the manifest says of it. `speed_up` is of the cascade."""

    name: str
    models: Mapping[str, bytes]
    evidence: dict[str, Any]
    speed_up: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `serves` names the variant that should answer, None for the original models."""

    results: tuple[GateResult, ...]
    accepted: tuple[AcceptedVariant, ...]
    serves: str | None


def optimise(
    bundle: Bundle,
    data: LabelledRows,
    *,
    margin: float = MARGIN,
    kinds: Iterable[str] = tuple(CONVERSIONS),
    watch: Watch,
) -> Outcome:
    """Return which variants of the stages' own models the gate accepts on `data`, at a margin.

    Raises BundleRefused where the original models do not run, and MissingExtra without the extra `optimise`.
    """
    gate = _Gate(bundle.with_variant(None), data, margin, watch)
    results: list[GateResult] = []
    accepted: list[AcceptedVariant] = []
    for kind in kinds:
        stage_results, variant = gate.try_kind(kind)
        results += stage_results
        if variant is not None:
            accepted.append(variant)
    fast = [variant for variant in accepted if variant.speed_up >= LEAST_SPEED_UP]
    serves = max(fast, key=lambda variant: variant.speed_up).name if fast else None
    return Outcome(tuple(results), tuple(accepted), serves)


class _Recording(StageModel):
    """A stage's model that keeps what it was given, row by row."""

    def __init__(self, stage: Stage, content: bytes) -> None:
        super().__init__(stage.name, content, probability=stage.probability)
        self.given: list[Feeds] = []

    def run(self, feeds: Feeds, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        rows = len(next(iter(feeds.values())))
        self.given += [{name: values[row : row + 1].copy() for name, values in feeds.items()} for row in range(rows)]
        return super().run(feeds, outputs)


class _Gate:
    """The original, what it says of the data, and what each of its stages is given."""

    def __init__(self, bundle: Bundle, data: LabelledRows, margin: float, watch: Watch) -> None:
        self._bundle, self._data, self._margin, self._watch = bundle, data, margin, watch
        self._manifest = bundle.manifest
        self._contents = {stage.name: bundle.read(stage.model) for stage in self._manifest.stages}
        try:
            self._originals = {
                stage.name: StageModel(stage.name, self._contents[stage.name], probability=stage.probability)
                for stage in self._manifest.stages
            }
            recording = {stage.name: _Recording(stage, self._contents[stage.name]) for stage in self._manifest.stages}
        except StageFailed as failure:
            raise BundleRefused(f"{failure.stage}: {failure.reason}.") from failure
        Cascade(self._manifest, recording, early_exits=False).run(data.rows[: data.calibration])
        self._feeds = {name: model.given for name, model in recording.items()}
        self._rows = data.rows[data.calibration :]
        self._labels = data.labels[data.calibration :]
        self._groups = None if data.groups is None else data.groups[data.calibration :]
        watch(f"fp32 on {len(self._rows)} items")
        self._before = Cascade(self._manifest, self._originals).score(self._rows).decision

    def try_kind(self, kind: str) -> tuple[list[GateResult], AcceptedVariant | None]:
        """Return what came of one kind of variant, stage by stage and together."""
        results: list[GateResult] = []
        passed: dict[str, tuple[Converted, StageModel]] = {}
        found: dict[str, tuple[Difference, ...]] = {}
        for stage in self._manifest.stages:
            self._watch(f"{kind} of {stage.name}")
            result, converted = self._try_stage(kind, stage)
            results.append(result)
            if converted is not None:
                passed[stage.name] = converted
                found[stage.name] = result.differences
        alone = found
        while len(passed) > 1:
            self._watch(f"{kind} of {' and '.join(passed)} together")
            result = self._judged(kind, TOGETHER, {name: model for name, (_, model) in passed.items()}, passed, "")
            results.append(result)
            if result.accepted:
                alone = {TOGETHER: result.differences}
                break
            passed.popitem()
        if not passed:
            return results, None
        models = {name: model for name, (_, model) in passed.items()}
        reported = alone if TOGETHER in alone else {name: alone[name] for name in passed}
        evidence = self._evidence({name: converted for name, (converted, _) in passed.items()}, reported)
        contents = {name: converted.model for name, (converted, _) in passed.items()}
        return results, AcceptedVariant(kind, contents, evidence, self._speed_up(models))

    def _try_stage(self, kind: str, stage: Stage) -> tuple[GateResult, tuple[Converted, StageModel] | None]:
        try:
            converted = CONVERSIONS[kind](self._contents[stage.name], iter(self._feeds[stage.name]))
            model = StageModel(stage.name, converted.model, probability=stage.probability)
        except NotConverted as fault:
            return GateResult(kind, stage.name, accepted=False, reason=f"not converted: {fault}"), None
        except StageFailed as failure:
            return GateResult(kind, stage.name, accepted=False, reason=f"not converted: {failure.reason}"), None
        passed = {stage.name: (converted, model)}
        result = self._judged(kind, stage.name, {stage.name: model}, passed, converted.note)
        return result, passed[stage.name] if result.accepted else None

    def _judged(
        self,
        kind: str,
        stage: str,
        models: Mapping[str, StageModel],
        converted: Mapping[str, tuple[Converted, StageModel]],
        note: str,
    ) -> GateResult:
        """Return the gate's result for a cascade in which `models` stand for the originals of their stages."""
        manifest = self._manifest
        try:
            after = Cascade(manifest, {**self._originals, **models}).score(self._rows).decision
        except BundleRefused as error:
            return GateResult(kind, stage, accepted=False, reason=f"it does not fit: {error.detail}", note=note)
        names = (manifest.classes.negative, manifest.classes.positive)
        found = differences(self._before, after, self._labels, names, self._margin, self._groups)
        size = sum(len(converted[name][0].model) for name in models)
        size_before = sum(len(self._contents[name]) for name in models)
        speed_up = self._speed_up(models) if stage == TOGETHER else self._stage_speed_up(stage, models[stage])
        word: Judgement = judge(found, size=size, size_before=size_before, speed_up=speed_up, margin=self._margin)
        return GateResult(kind, stage, word.accepted, word.reason, note, word.gain, size, size_before, speed_up, found)

    def _stage_speed_up(self, stage: str, model: StageModel) -> float:
        given = self._feeds[stage][:_SPEED_ROWS]
        original = self._originals[stage]
        return times_as_fast([(partial(original.run, feeds), partial(model.run, feeds)) for feeds in given])

    def _speed_up(self, models: Mapping[str, StageModel]) -> float:
        before = Cascade(self._manifest, self._originals)
        after = Cascade(self._manifest, {**self._originals, **models})
        rows = self._data.rows[: self._data.calibration]
        # As many of either class: the first are all of one.
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SPEED_ROWS)).astype(int)]
        return times_as_fast([(partial(before.score, row), partial(after.score, row)) for row in rows[:, None]])

    def _evidence(
        self, converted: Mapping[str, Converted], found: Mapping[str, tuple[Difference, ...]]
    ) -> dict[str, Any]:
        return {
            "margin": self._margin,
            "level": LEVEL,
            "dataset": self._data.name,
            "dataset_sha256": self._data.sha256,
            "seed": self._data.seed,
            "calibration_items": self._data.calibration,
            "bytes": {name: len(one.model) for name, one in converted.items()},
            "bytes_before": {name: len(self._contents[name]) for name in converted},
            "conversion": {name: one.note for name, one in converted.items()},
            "differences": [_plain(stage, one) for stage, several in found.items() for one in several],
        }


def _plain(stage: str, one: Difference) -> dict[str, Any]:
    return {
        "stage": stage,
        "at": one.point,
        "class": one.label,
        "items": one.items,
        "worse": one.worse,
        "better": one.better,
        "upper": float(f"{one.upper:.6g}"),
    }


def times_as_fast(pairs: Sequence[tuple[Call, Call]], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how many times as fast the second of two calls is.

    The median of the ratios of calls made right after each other, either one first in turn: where other work takes the
    machine away for a while, it takes it from both, and the medians of either alone would differ by when it did.
    """
    ratios = []
    for number, pair in enumerate(pair for _ in range(_ROUNDS) for pair in pairs):
        took = [0.0, 0.0]
        for place in (0, 1) if number % 2 else (1, 0):
            pair[place]()  # so that neither finds the other's memory
            started = clock()
            pair[place]()
            took[place] = clock() - started
        ratios.append(took[0] / took[1])
    return median(ratios)
