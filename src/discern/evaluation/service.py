"""The run: every dataset through the detector, the figures, and the report.

- Nothing is scored before the detector and every dataset have been looked at and the report can be written.
- The report appears when all of it is there; what was scored is removed only then.
- The result depends on the bundle, the datasets and the seed alone; what depends on the machine is in the timings.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import base64
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import discern
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError
from discern.detectors.assessment import Detector, load_detector
from discern.detectors.bundle import Bundle
from discern.evaluation.cascades import cascade_latency
from discern.evaluation.conditions.registry import said
from discern.evaluation.conditions.service import ITEMS, ConditionsAsked, Windows, measure_conditions
from discern.evaluation.datasets import read_manifest
from discern.evaluation.ports import Progress, Watcher
from discern.evaluation.results import DatasetResult, Result, StageTime, Timings
from discern.evaluation.service_results import Picture, compared, crossed, dataset_result, facts_of, verdict
from discern.evaluation.service_scoring import Scoring, score_source
from discern.evaluation.sources import Asked, FrozenSource, flattered, named, source_of
from discern.evaluation.statistics import LEVEL
from discern.evaluation.types_conditions import ConditionCurves
from discern.evaluation.types_platforms import PlatformTable
from discern.inputs.thumbnails import thumbnail
from discern.inputs.types import InputLimits

if TYPE_CHECKING:
    from discern.evaluation.datasets_freezing import Watch
    from discern.evaluation.journal import Journal
    from discern.evaluation.types import Scored
    from discern.evaluation.types_datasets import FrozenManifest
    from discern.inputs.faces import FaceLocator

FORMAT = 2
_LIBRARIES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "av", "scipy", "statsmodels")
_THUMBNAIL = 160
CONDITIONS = "conditions"
"""What the seconds of conditions, streams and attacks together are called in the timings."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with.

    `open_detector` takes a name or a folder, and gives a bundle that may be run; `measure_platforms` gives the table of
    its variants on every runtime, on items of a dataset; `windows` opens those of a live stream by a detector's rule.
    """

    open_detector: Callable[[str], Bundle]
    measure_platforms: Callable[[Bundle, FrozenSource], PlatformTable]
    limits: InputLimits
    locator: FaceLocator
    threads: int
    windows: Windows
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked for.

    `against` is the manifest of the data that the detector was trained on, below its root.
    `conditions` are those of `conditions.registry.named`, on at most `condition_items` of each class; `queries` is what
    an attack may ask of an item.
    """

    detector: str
    data: tuple[str, ...]
    out: Path | None = None
    compare: str | None = None
    seed: int = 1
    show_inputs: bool = False
    asked: Asked = field(default_factory=Asked)
    against: Path | None = None
    against_root: Path | None = None
    pictures: bool = True
    platforms: bool = False
    conditions: tuple[str, ...] = ()
    condition_items: int = ITEMS
    queries: int = 0

    @property
    def tries_conditions(self) -> bool:
        """Whether items are corrupted or attacked."""
        return bool(self.conditions or self.queries)

    @property
    def command(self) -> str:
        """The command that repeats it, with what lies on this machine by its last name."""
        words = ["discern", "evaluate", _bare(self.detector)]
        for option, pairs in (("--data", self.data), ("--root", self.asked.roots)):
            for one in pairs:
                name, place = named(one)
                words += [option, _bare(place) if name is None else f"{name}={_bare(place)}"]
        for side in self.asked.splits:
            words += ["--split", side]
        one_by_one: dict[str, str | None] = {
            "--compare": None if self.compare is None else _bare(self.compare),
            "--against": None if self.against is None else _bare(str(self.against)),
            "--against-root": None if self.against_root is None else _bare(str(self.against_root)),
            "--label": self.asked.label,
            "--group": self.asked.group,
        }
        words += [word for option, value in one_by_one.items() if value is not None for word in (option, value)]
        words += [] if self.pictures else ["--no-pictures"]
        words += ["--show-inputs"] if self.show_inputs else []
        words += ["--platforms"] if self.platforms else []
        words += ["--conditions", said(self.conditions)] if self.conditions else []
        words += ["--adversarial", str(self.queries)] if self.queries else []
        if self.tries_conditions and self.condition_items != ITEMS:
            words += ["--condition-items", str(self.condition_items)]
        return shlex.join([*words, "--seed", str(self.seed)])


@dataclass(frozen=True, slots=True)
class Looked:
    """The bundles and datasets of a run, opened and looked at, and nothing scored yet."""

    bundle: Bundle
    other: Bundle | None
    sources: tuple[FrozenSource, ...]
    trained_on: FrozenManifest | None


def look(asked: Evaluation, parts: Parts, watch: Watch | None = None) -> Looked:
    """Open what was asked for. Raises what opening raises, and CallerError for what does not go together."""
    bundle = parts.open_detector(asked.detector)
    other = None if asked.compare is None else parts.open_detector(asked.compare)
    if other is not None and _takes(other) != _takes(bundle):
        raise CallerError(
            "The two detectors do not take the same input or tell the same classes apart.", mend="Name another."
        )
    trained_on = None if asked.against is None else read_manifest(asked.against)
    sources = tuple(source_of(one, bundle.manifest, asked.asked, parts.limits, watch) for one in asked.data)
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise CallerError("Two datasets have the same name.", mend="Name one otherwise: --data NAME=PATH.")
    unused = {named(pair)[0] for pair in (*asked.asked.roots, *asked.asked.splits)} - {None, *names}
    if unused:
        raise CallerError(f"There is no dataset {min(filter(None, unused))}.", mend=f"Name: {', '.join(names)}.")
    hidden = [source.name for source in sources if asked.show_inputs and not source.may_be_shown]
    if hidden:
        raise CallerError(f"What {hidden[0]} holds may not be shown.", mend="Leave out --show-inputs.")
    for source in sources:
        _ = source.examples  # a side that is not there, or a table that changed, is refused here
    return Looked(bundle, other, sources, trained_on)


def run(asked: Evaluation, looked: Looked, parts: Parts, journal: Journal, watch: Watcher) -> tuple[Result, Timings]:
    """Score what was looked at and return what it comes to; what is scored so far is kept in `journal`."""
    bundles = [looked.bundle, *([] if looked.other is None else [looked.other])]
    clocked = _Clocked(parts)
    everything: list[list[Scored]] = []
    for bundle in bundles:
        detector = load_detector(bundle, threads=1)
        everything.append(_scored(detector, looked, parts, journal, watch, clocked))
    ours = everything[0]
    facts = facts_of(looked.bundle)
    datasets = tuple(
        _result_of(scored, source, asked, looked, parts, watch)
        for scored, source in zip(ours, looked.sources, strict=True)
    )
    found = compared(ours, everything[1], asked.seed) if looked.other is not None else ()
    platforms = parts.measure_platforms(looked.bundle, looked.sources[0]) if asked.platforms else None
    result = Result(
        format=FORMAT,
        verdict=verdict(facts, datasets, found),
        detector=facts,
        against=None if looked.other is None else facts_of(looked.other),
        command=asked.command,
        seed=asked.seed,
        level=LEVEL,
        datasets=datasets,
        cross=crossed(ours),
        compared=found,
        platforms=None if platforms is None else platforms.lasting,
        conditions=_conditions(asked, looked, parts, journal, watch, clocked),
        caveats=_caveats(bundles),
        versions={"discern": discern.__version__, **{name: version(name) for name in _LIBRARIES}},
    )
    return result, clocked.timings(ours, platforms)


def _conditions(
    asked: Evaluation, looked: Looked, parts: Parts, journal: Journal, watch: Watcher, clocked: _Clocked
) -> ConditionCurves | None:
    if not asked.tries_conditions:
        return None
    started = time.monotonic()
    scoring = Scoring(load_detector(looked.bundle, threads=1), parts.limits, parts.locator, parts.threads)
    question = ConditionsAsked(asked.conditions, asked.queries, asked.seed, asked.condition_items)
    found = measure_conditions(question, looked.sources, scoring, journal, watch, parts.windows)
    clocked.seconds[CONDITIONS] = time.monotonic() - started
    return found


class _Clocked:
    """What the run took."""

    def __init__(self, parts: Parts) -> None:
        self._started = parts.clock()
        self._threads = parts.threads
        self.seconds: dict[str, float] = {}
        self.rates: dict[str, float | None] = {}
        self.resumed: dict[str, int] = {}

    def note(self, name: str, seconds: float, rows: int, resumed: int) -> None:
        """Note what one dataset took."""
        self.seconds[name], self.resumed[name] = seconds, resumed
        self.rates[name] = (rows - resumed) / seconds if rows > resumed and seconds > 0 else None

    def timings(self, scored: Sequence[Scored], platforms: PlatformTable | None) -> Timings:
        """Return it, with the times of the stages, of the cascade and of the platforms."""
        return Timings(
            started_at=self._started.isoformat(),
            machine=f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
            threads=self._threads,
            seconds=self.seconds,
            items_per_second=self.rates,
            resumed=self.resumed,
            stages=tuple(_stage_time(one, position) for one in scored for position in range(len(one.stages))),
            latency={one.examples.dataset: cascade_latency(one) for one in scored},
            platforms=platforms,
        )


def _scored(
    detector: Detector, looked: Looked, parts: Parts, journal: Journal, watch: Watcher, clocked: _Clocked
) -> list[Scored]:
    found = []
    scoring = Scoring(detector, parts.limits, parts.locator, parts.threads)
    for source in looked.sources:
        started = time.monotonic()
        what = (source.manifest_sha256, source.split, parts.limits, detector.variant)
        with journal.sheet(detector.digest, *what) as sheet:
            scored, resumed = score_source(source, scoring, sheet, watch)
        name = f"{detector.manifest.name} {detector.manifest.version} on {source.name}"
        clocked.note(name, time.monotonic() - started, len(scored.score), resumed)
        found.append(scored)
    return found


def _result_of(
    scored: Scored, source: FrozenSource, asked: Evaluation, looked: Looked, parts: Parts, watch: Watcher
) -> DatasetResult:
    started = time.monotonic()

    def tell(done: int, total: int) -> None:
        watch(Progress(f"{source.name}, leakage checks", done, total, 0, time.monotonic() - started))

    beside = asked.against.absolute().parent if asked.against is not None else Path()
    root = asked.against_root or beside
    leakage = source.leakage(looked.trained_on, root, pictures=asked.pictures, watch=tell)
    return dataset_result(
        scored,
        looked.bundle.manifest,
        kind=source.manifest.kind,
        split=source.split,
        caveats=(*source.caveats, *_flattered(source, looked)),
        leakage=leakage,
        seed=asked.seed,
        picture=_pictures(source, asked, parts.limits),
    )


def _flattered(source: FrozenSource, looked: Looked) -> list[str]:
    bundles = [looked.bundle, *([] if looked.other is None else [looked.other])]
    found = (flattered(one.manifest, source.manifest_sha256, source.split) for one in bundles)
    return [f"{source.name}: {caveat}" for caveats in found for caveat in caveats]


def _stage_time(scored: Scored, position: int) -> StageTime:
    took = np.empty(0) if scored.milliseconds is None else scored.milliseconds[:, position]
    took = took[~np.isnan(took)]
    median, p95 = (np.quantile(took, [0.5, 0.95]).tolist()) if len(took) else (None, None)
    return StageTime(scored.examples.dataset, scored.stages[position], len(took), median, p95)


def _pictures(source: FrozenSource, asked: Evaluation, limits: InputLimits) -> Picture:
    def picture(row: int) -> str | None:
        if not asked.show_inputs:
            return None
        content = thumbnail(source.content(row), limits, _THUMBNAIL)
        return None if content is None else f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"

    return picture


def _takes(bundle: Bundle) -> tuple[str, str, str]:
    manifest = bundle.manifest
    return manifest.input.kind, manifest.classes.negative, manifest.classes.positive


def _caveats(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    unsigned = [f"{one.manifest.name} {one.manifest.version}" for one in bundles if one.signer is None]
    return tuple(f"No key that is trusted here signed {name}; its digests hold." for name in unsigned)


def _bare(address: str) -> str:
    """Return an address by its last name: where it lies is this machine's."""
    return Path(address).resolve().name if Path(address).exists() else address
