"""How a detector holds up: every condition, the live stream and the attack on some items of every dataset.

- The items are the same under every condition, and what is compared is what was judged as it was.
- What was scored is kept in the journal of the run, so that an interrupted one goes on.
- The result depends on the bundle, the datasets and what was asked for alone.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from discern.core.errors import CallerError
from discern.evaluation.conditions import attacks, records
from discern.evaluation.conditions.measuring import compared, curves
from discern.evaluation.conditions.media import item_seed
from discern.evaluation.conditions.registry import BY_NAME, LIVE_STREAM, STRENGTHS
from discern.evaluation.conditions.sources import Trial, Tried, first_kind, kind_of, some_rows
from discern.evaluation.conditions.streams import OpenWindows, Player, stream_curve
from discern.evaluation.metrics import area_under_roc
from discern.evaluation.ports import Labelled, MediaPiece, Progress, RowsPiece, Watcher
from discern.evaluation.service_scoring import score_source
from discern.evaluation.sources import locator_for
from discern.evaluation.types_conditions import (
    FALL,
    AttackResult,
    ConditionCurve,
    ConditionCurves,
    DatasetConditions,
    StreamCurve,
)
from discern.inputs.prepare import prepare_media
from discern.inputs.spec import ImageSpec, RecordSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.manifest import StreamRule
    from discern.evaluation.conditions.registry import Condition
    from discern.evaluation.journal import Journal
    from discern.evaluation.service_scoring import Scoring
    from discern.evaluation.types import Item, ItemKind, Scored
    from discern.inputs.types import MediaContent

Windows = Callable[["StreamRule"], OpenWindows]

ITEMS = 500
ATTACKED = 50
MOST_ATTACKED = 10_000
_NEVER_MISSING = "No field of this detector may miss: the door refuses such a record."
_ALONE = "Every record is a group of its own, so none has a record before it (name their column with --group)."


@dataclass(frozen=True, slots=True)
class ConditionsAsked:
    """What was asked for: conditions by `registry.named`, and queries an item that an attack may ask, 0 for none.

    `items` are at most taken of each class; of the positives that are not cleared, `attacked` are attacked.
    """

    names: tuple[str, ...]
    queries: int
    seed: int
    items: int = ITEMS
    attacked: int = ATTACKED

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.items < 1 or self.attacked < 1:
            raise CallerError("Conditions need at least one item of each class.", mend="Ask for more items.")
        if not 0 <= self.queries <= MOST_ATTACKED:
            raise CallerError(f"{self.queries} queries an item cannot be asked.", mend=f"0 to {MOST_ATTACKED:,} can.")


def measure_conditions(
    asked: ConditionsAsked,
    sources: Sequence[Labelled],
    scoring: Scoring,
    journal: Journal,
    watch: Watcher,
    windows: Windows,
) -> ConditionCurves:
    """Return how the detector of `scoring` holds up on each dataset.

    `windows` opens the windows of a live stream by a detector's rule. Raises what scoring raises.
    """
    found = tuple(_Dataset(asked, source, scoring, journal, watch).measured(windows) for source in sources)
    return ConditionCurves(seed=asked.seed, fall=FALL, datasets=found)


@dataclass
class _Dataset:
    """One dataset and what it is tried with."""

    asked: ConditionsAsked
    source: Labelled
    scoring: Scoring
    journal: Journal
    watch: Watcher
    rows: NDArray[np.int64] = field(init=False)
    kind: ItemKind | None = field(init=False)

    def __post_init__(self) -> None:
        self.rows = some_rows(self.source.examples.labels, self.asked.items, self.asked.seed)
        self.kind = first_kind(self.source)

    def measured(self, windows: Windows) -> DatasetConditions:
        clean = self._scored(None)
        return DatasetConditions(
            dataset=self.source.name,
            items=len(self.rows),
            clean=area_under_roc(clean.examples.labels, clean.score, clean.examples.groups),
            curves=self._curves(clean),
            stream=self._stream(windows) if LIVE_STREAM in self.asked.names and self._spec is None else None,
            attack=self._attack(clean) if self.asked.queries else None,
        )

    @property
    def _spec(self) -> RecordSpec | None:
        spec = self.scoring.detector.manifest.input
        return spec if isinstance(spec, RecordSpec) else None

    def _tried(self, trial: Trial | None) -> Tried:
        return Tried(
            self.source,
            self.rows,
            trial,
            spec=self._spec,
            seed=self.asked.seed,
            limits=self.scoring.limits,
            threads=self.scoring.threads,
        )

    def _scored(self, trial: Trial | None) -> Scored:
        tried = self._tried(trial)
        scoring = self.scoring
        if trial is not None:
            # What is written without loss is larger than what was sent; the pixels are still limited.
            limits = scoring.limits
            most = 4 * max(limits.image_pixels, limits.image_bytes)
            scoring = replace(
                scoring, limits=replace(limits, image_bytes=most, video_bytes=max(limits.video_bytes, 1 << 40))
            )
        detector = scoring.detector
        what = (tried.manifest_sha256, None, scoring.limits, detector.variant)
        with self.journal.sheet(detector.digest, *what) as sheet:
            return score_source(tried, scoring, sheet, self.watch)[0]

    def _curves(self, clean: Scored) -> tuple[ConditionCurve, ...]:
        wanted = [BY_NAME[name] for name in self.asked.names if name in BY_NAME]
        # Conditions of records say nothing of pictures, and the other way round.
        wanted = [one for one in wanted if ("record" in one.takes) == (self._spec is not None)]
        reasons = {condition.name: self._unfit(condition) for condition in wanted}
        fitting = [condition for condition in wanted if reasons[condition.name] is None]
        spread = self._spread() if any(one.name == "shifted_fields" for one in fitting) else None
        measured = {
            condition.name: [
                compared(clean, self._scored(Trial(condition, strength, spread)), condition, strength)
                for strength in STRENGTHS
            ]
            for condition in fitting
        }
        left_out = tuple(
            ConditionCurve(condition.name, condition.what, (), None, None, reasons[condition.name])
            for condition in wanted
            if reasons[condition.name] is not None
        )
        return (*curves(measured, fitting), *left_out)

    def _unfit(self, condition: Condition) -> str | None:
        """Return why a condition cannot be tried here, or None."""
        if self.kind not in condition.takes:
            return f"It takes {' and '.join(condition.takes)}."
        if self._spec is None:
            return None
        if condition.name == "missing_fields" and all(one.missing == "refuse" for one in self._spec.fields):
            return _NEVER_MISSING
        groups = self.source.examples.groups
        if condition.name == "stale_values" and len(np.unique(groups)) == len(groups):
            return _ALONE
        return None

    def _spread(self) -> NDArray[np.float64]:
        assert self._spec is not None  # noqa: S101 - only records have fields
        rows = [piece.matrix for piece in self.source.pieces(0) if isinstance(piece, RowsPiece)]
        return records.deviations_of(rows, len(self._spec.fields))

    def _items(self) -> Iterator[tuple[Item, int, MediaContent]]:
        """Yield the pictures and clips that are taken, each with the number of its group."""
        tried = self._tried(None)
        groups = tried.examples.groups.tolist()
        for piece in tried.pieces(0):
            if isinstance(piece, MediaPiece):
                yield from zip(piece.items, groups[piece.start :], piece.contents, strict=False)

    def _stream(self, windows: Windows) -> StreamCurve:
        manifest = self.scoring.detector.manifest
        if not isinstance(manifest.input, ImageSpec) or manifest.stream is None:
            return StreamCurve(0, (), "This detector's manifest has no rule for streams of pictures.")
        player = Player(
            self.scoring.detector,
            manifest.input,
            manifest.stream,
            windows,
            self.scoring.limits,
            self.scoring.locator,
        )
        clips = (one for one in self._items() if kind_of(one[2]) == "video")
        return stream_curve(clips, player, self.asked.seed)

    def _attack(self, clean: Scored) -> AttackResult:
        """Attack positives that were not cleared, the first ones of a drawn order."""
        examples = clean.examples
        drawn = _generator(item_seed(self.source.manifest_sha256, "attack", 0, self.asked.seed))
        found = drawn.permutation(np.flatnonzero((examples.labels == 1) & (clean.decision > 0)))
        spec = self._spec
        prepared = self._pictures(found) if spec is None else self._records(found, spec)
        taken = np.array(sorted(prepared), np.int64)
        outcome = attacks.search(
            [prepared[row] for row in taken.tolist()], clean.score[taken], self._ask(), self.asked.queries
        )
        caveat = None if len(taken) else "No positive picture or record was flagged or sent to review as it was."
        kind: Literal["image", "record"] = "image" if spec is None else "record"
        return attacks.result_of(outcome, examples.groups[taken], self.asked.queries, kind, caveat)

    def _records(self, found: NDArray[np.int64], spec: RecordSpec) -> dict[int, attacks.Search]:
        """Return searches for the first of the rows that were found."""
        tried = self._tried(None)
        matrix = np.concatenate([piece.matrix for piece in tried.pieces(0) if isinstance(piece, RowsPiece)])
        ranges, ids = attacks.ranges_of(spec, matrix), tried.examples.ids
        return {
            row: attacks.FieldSearch(matrix[row], ranges, self._generator_of(ids[row]), most=attacks.MOST_FIELDS)
            for row in found[: self.asked.attacked].tolist()
        }

    def _pictures(self, found: NDArray[np.int64]) -> dict[int, attacks.Search]:
        """Return searches for the first of the items that were found, clips left out."""
        spec, limits = self.scoring.detector.manifest.input, self.scoring.limits
        assert isinstance(spec, ImageSpec)  # noqa: S101 - the only other input
        order = {row: place for place, row in enumerate(found.tolist())}
        pictures = sorted(
            (order[row], row, item, content)
            for row, (item, _, content) in enumerate(self._items())
            if row in order and kind_of(content) == "image"
        )
        searches: dict[int, attacks.Search] = {}
        for _, row, item, content in pictures[: self.asked.attacked]:
            picture = prepare_media(content, spec, None, limits, locator_for(item, self.scoring.locator)).tensor[0]
            drawn = self._generator_of(item.id)
            searches[row] = attacks.SquareSearch(
                picture.astype(np.uint8), drawn, levels=attacks.LEVELS, budget=self.asked.queries
            )
        return searches

    def _generator_of(self, item: str) -> np.random.Generator:
        return _generator(item_seed(item, "attack", 1, self.asked.seed))

    def _ask(self) -> attacks.Ask:
        asked, most, started = 0, self.asked.queries * self.asked.attacked, time.monotonic()

        def ask(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
            nonlocal asked
            asked += len(rows)
            scores = self.scoring.detector.score_rows(rows)
            self.watch(Progress(f"{self.source.name}, attack", asked, most, 0, time.monotonic() - started))
            return scores.score, scores.decision

        return ask


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
