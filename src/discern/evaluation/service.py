"""The run: every dataset through the detector, the figures, and the report.

- Nothing is scored before the detector and every dataset have been looked at and the report can be written.
- The report appears when all of it is there; what was scored is removed only then.
- The result depends on the bundle, the datasets and the seed alone; what depends on the machine is in the timings.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import base64
import platform
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import discern
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, UnsupportedInput
from discern.detectors.assessment import Detector, load_detector
from discern.detectors.bundle import Bundle
from discern.evaluation.journal import Journal
from discern.evaluation.measures import LEVEL
from discern.evaluation.ports import ItemSource, Watcher
from discern.evaluation.service_results import Picture, compared, crossed, dataset_result, facts_of, verdict
from discern.evaluation.service_scoring import Scoring, score_source
from discern.evaluation.sources import FolderSource, TableSource
from discern.evaluation.types_result import Result, StageTime, Timings
from discern.inputs.spec import RecordSpec
from discern.inputs.thumbnails import thumbnail
from discern.inputs.types import InputLimits

if TYPE_CHECKING:
    from discern.evaluation.types import Examples, Scored
    from discern.inputs.faces import FaceLocator

FORMAT = 1
_LIBRARIES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "av", "scipy", "statsmodels")
_THUMBNAIL = 160
_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with. `open_detector` takes a name or a folder, and gives a bundle that may be run."""

    open_detector: Callable[[str], Bundle]
    limits: InputLimits
    locator: FaceLocator
    threads: int
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked for."""

    detector: str
    data: tuple[str, ...]
    compare: str | None
    out: Path
    seed: int
    show_inputs: bool
    label: str
    group: str | None

    def into(self, out: Path) -> Evaluation:
        """Return the same with its report in another folder."""
        return replace(self, out=out)

    @property
    def command(self) -> str:
        """The command that repeats it, with what lies on this machine by its last name."""
        words = ["discern", "evaluate", _bare(self.detector)]
        for one in self.data:
            name, place = _named(one)
            words += ["--data", _bare(place) if name is None else f"{name}={_bare(place)}"]
        if self.compare is not None:
            words += ["--compare", _bare(self.compare)]
        if any(one.endswith(".parquet") for one in self.data):
            words += ["--label", self.label, *(["--group", self.group] if self.group else [])]
        return shlex.join([*words, "--seed", str(self.seed)])


@dataclass(frozen=True, slots=True)
class Looked:
    """The bundles and datasets of a run, opened and looked at, and nothing scored yet."""

    bundle: Bundle
    other: Bundle | None
    sources: tuple[ItemSource, ...]
    examples: tuple[Examples, ...]


def look(asked: Evaluation, parts: Parts) -> Looked:
    """Open what was asked for. Raises what opening raises, and CallerError for what does not go together."""
    bundle = parts.open_detector(asked.detector)
    other = None if asked.compare is None else parts.open_detector(asked.compare)
    if other is not None and _takes(other) != _takes(bundle):
        raise CallerError(
            "The two detectors do not take the same input or tell the same classes apart.", mend="Name another."
        )
    sources = tuple(source_of(one, bundle, asked) for one in asked.data)
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise CallerError("Two datasets have the same name.", mend="Name one otherwise: --data NAME=PATH.")
    hidden = [source.name for source in sources if asked.show_inputs and not source.may_be_shown]
    if hidden:
        raise CallerError(f"What {hidden[0]} holds may not be shown.", mend="Leave out --show-inputs.")
    return Looked(bundle, other, sources, tuple(source.examples() for source in sources))


def source_of(address: str, bundle: Bundle, asked: Evaluation) -> ItemSource:
    """Return the dataset that an address names. Raises CallerError, and UnsupportedInput where it does not fit."""
    name, place = _named(address)
    path, manifest = Path(place), bundle.manifest
    if path.is_dir():
        if isinstance(manifest.input, RecordSpec):
            raise UnsupportedInput(f"{manifest.name} takes records, {path} is a folder.", mend="Name a Parquet file.")
        return FolderSource(path, manifest.classes, name=name)
    if path.suffix == ".parquet" and path.is_file():
        if not isinstance(manifest.input, RecordSpec):
            raise UnsupportedInput(f"{manifest.name} takes images, {path} is a table.", mend="Name a folder.")
        return TableSource(path, manifest.input, manifest.classes, label=asked.label, group=asked.group, name=name)
    raise CallerError(
        f"{address} is no dataset.", mend="Name a folder with a sub-folder for each class, or a Parquet file."
    )


def run(asked: Evaluation, looked: Looked, parts: Parts, watch: Watcher) -> tuple[Result, Timings]:
    """Score what was looked at and return what it comes to."""
    journal = Journal(asked.out)
    bundles = [looked.bundle, *([] if looked.other is None else [looked.other])]
    clocked = _Clocked(parts)
    everything: list[list[Scored]] = []
    for bundle in bundles:
        detector = load_detector(bundle, threads=1)
        everything.append(_scored(detector, looked, parts, journal, watch, clocked))
    ours = everything[0]
    facts = facts_of(looked.bundle)
    datasets = tuple(
        dataset_result(scored, source, facts, asked.seed, _pictures(source, asked, parts.limits))
        for scored, source in zip(ours, looked.sources, strict=True)
    )
    found = compared(ours, everything[1]) if looked.other is not None else ()
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
        platforms=None,
        conditions=None,
        caveats=_caveats(bundles),
        versions={"discern": discern.__version__, **{name: version(name) for name in _LIBRARIES}},
    )
    return result, clocked.timings(ours)


def finish(asked: Evaluation) -> None:
    """Remove what was kept for going on: the report is written."""
    Journal(asked.out).remove()


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

    def timings(self, scored: Sequence[Scored]) -> Timings:
        """Return it, with the times of the stages."""
        return Timings(
            started_at=self._started.isoformat(),
            machine=f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
            threads=self._threads,
            seconds=self.seconds,
            items_per_second=self.rates,
            resumed=self.resumed,
            stages=tuple(_stage_time(one, position) for one in scored for position in range(len(one.stages))),
        )


def _scored(
    detector: Detector, looked: Looked, parts: Parts, journal: Journal, watch: Watcher, clocked: _Clocked
) -> list[Scored]:
    found = []
    scoring = Scoring(detector, parts.limits, parts.locator, parts.threads)
    for source, examples in zip(looked.sources, looked.examples, strict=True):
        started = time.monotonic()
        with journal.sheet(detector.digest, examples.manifest_sha256) as sheet:
            scored, resumed = score_source(source, examples, scoring, sheet, watch)
        name = f"{detector.manifest.name} {detector.manifest.version} on {examples.dataset}"
        clocked.note(name, time.monotonic() - started, len(examples.ids), resumed)
        found.append(scored)
    return found


def _stage_time(scored: Scored, position: int) -> StageTime:
    took = np.empty(0) if scored.milliseconds is None else scored.milliseconds[:, position]
    took = took[~np.isnan(took)]
    median, p95 = (np.quantile(took, [0.5, 0.95]).tolist()) if len(took) else (None, None)
    return StageTime(scored.examples.dataset, scored.stages[position], len(took), median, p95)


def _pictures(source: ItemSource, asked: Evaluation, limits: InputLimits) -> Picture:
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


def _named(address: str) -> tuple[str | None, str]:
    """Return the name that stands before a path, where one does, and the path."""
    name, equals, place = address.partition("=")
    return (name, place) if equals and _NAME.fullmatch(name) and not Path(address).exists() else (None, address)


def _bare(address: str) -> str:
    """Return an address by its last name: where it lies is this machine's."""
    return Path(address).resolve().name if Path(address).exists() else address
