"""What somebody asks of the studio, and whether it goes together.

- The command that repeats it follows from what was asked alone: where it was typed and where the result went is not in
  it.
- A calibration is fitted on a side that shares nothing with the one thresholds are chosen on.

Needs the extra `evaluate`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discern.core.errors import CallerError, DatasetRefused
from discern.evaluation.datasets_leakage import leakage
from discern.evaluation.sources import chosen_on
from discern.evaluation.studio.types import Costs

if TYPE_CHECKING:
    from discern.detectors.manifest import Manifest
    from discern.evaluation.types_datasets import FrozenManifest

MOST = 1e12
"""A cost above this is a slip of the pen, and its square may be no number."""

MOST_SHARED = 0.01
"""Records without a name may be equal by chance: so many of a side, and no more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for.

    `reviews_a_day` is turned into a share by `items_a_day`, or by the days of the data, `cards_a_day` into one of the
    cards that pay on a day.
    """

    detector: str
    data: Path
    root: Path
    split: str | None
    costs: Costs | None
    reviews_a_day: float | None = None
    items_a_day: float | None = None
    max_fpr: float | None = None
    upper_end: bool = False
    prevalence: float | None = None
    amount_field: str | None = None
    bands: int = 1
    calibrate: str | None = None
    exit_loss: float = 0.01
    stage_costs: tuple[float, ...] = ()
    seed: int = 1
    cards_a_day: float | None = None

    @property
    def command(self) -> str:
        """The command that repeats it, with what lies on this machine by its last name."""
        words = ["discern", "thresholds", _bare(self.detector), "--data", _bare(self.data)]
        if self.root.resolve() != self.data.resolve().parent:
            words += ["--root", _bare(self.root)]
        costs = self.costs
        given: dict[str, object] = {
            "--split": self.split,
            "--false-alarm": None if costs is None else costs.false_alarm,
            "--miss": None if costs is None else costs.miss,
            "--review-minute": None if costs is None else costs.review or None,
            "--reviewer-error": None if costs is None else costs.reviewer_error or None,
            "--amount-field": self.amount_field,
            "--amount-share": None if costs is None or self.amount_field is None else costs.amount_share,
            "--bands": None if self.bands == 1 else self.bands,
            "--reviews-a-day": self.reviews_a_day,
            "--cards-a-day": self.cards_a_day,
            "--items-a-day": self.items_a_day,
            "--max-fpr": self.max_fpr,
            "--prevalence": self.prevalence,
            "--calibrate": self.calibrate,
            "--exit-loss": self.exit_loss,
        }
        words += [word for option, value in given.items() if value is not None for word in (option, str(value))]
        words += ["--upper-end"] if self.upper_end else []
        words += [word for cost in self.stage_costs for word in ("--stage-cost", str(cost))]
        return shlex.join([*words, "--seed", str(self.seed)])


def check(asked: Asked) -> None:
    """Raise CallerError for what makes no sense together."""
    costs = asked.costs or Costs()
    amounts = (*_values(costs), *asked.stage_costs, asked.exit_loss)
    days = [one for one in (asked.reviews_a_day, asked.cards_a_day, asked.items_a_day) if one is not None]
    shares = (asked.max_fpr, asked.prevalence)
    wrong = {
        f"A cost is zero or more, and at most {MOST:g}.": any(not 0 <= value <= MOST for value in amounts),
        "The reviewers' errors are a share between 0 and 1.": costs.reviewer_error > 1,
        "Errors that cost nothing choose nothing.": not (costs.false_alarm or costs.miss or costs.amount_share),
        "A capacity and the items of a day are above zero and finite.": any(not 0 < one < float("inf") for one in days),
        "A rate and a prevalence are between 0 and 1.": any(one is not None and not 0 < one < 1 for one in shares),
        "Bands need --amount-field.": asked.bands > 1 and asked.amount_field is None,
        "Cards are counted as the data have them, which --prevalence does not.": asked.cards_a_day is not None
        and asked.prevalence is not None,
        "A loss of the amount needs --amount-field.": bool(costs.amount_share) and asked.amount_field is None,
        "Nothing says what good thresholds are.": asked.costs is None
        and asked.reviews_a_day is None
        and asked.cards_a_day is None
        and asked.max_fpr is None,
    }
    for said, applies in wrong.items():
        if applies:
            raise CallerError(said, mend="See `discern thresholds --help`.")


def _values(costs: Costs) -> tuple[float, ...]:
    return costs.false_alarm, costs.miss, costs.review, costs.reviewer_error, costs.amount_share


def check_apart(asked: Asked, manifest: Manifest, frozen: FrozenManifest) -> None:
    """Raise DatasetRefused where thresholds would be chosen on what a calibration was fitted on."""
    if asked.calibrate is not None and (asked.split is None or asked.split == asked.calibrate):
        raise DatasetRefused(
            "A calibration is fitted on a side of its own.", mend="Name another side with --split, or make one."
        )
    for stage in manifest.stages if asked.calibrate is None else ():
        if chosen_on(stage.calibration.fitted_by, frozen.sha256, asked.split):
            raise DatasetRefused(
                f"Stage {stage.name} was calibrated on this side of {frozen.name}.",
                mend="Choose thresholds on another side.",
            )


def check_nothing_shared(asked: Asked, frozen: FrozenManifest, items: int) -> Iterator[str]:
    """Yield a caveat for records that the side of the calibration has too, out of `items` that are chosen on.

    Raises DatasetRefused where the two sides share groups, files, or more records than chance has it.
    """
    sides = {asked.split, asked.calibrate}
    for found in leakage(frozen, asked.root, near=False).findings:
        if not found.leak or set(found.sides) != sides:
            continue
        said = f"The sides {' and '.join(found.sides)} share what they must not. {found.says} {found.count:,}"
        if found.kind != "same_row" or found.count > MOST_SHARED * items:
            raise DatasetRefused(f"{said} times.", mend="Make sides that share nothing: discern dataset split.")
        yield f"{said} times, of {items:,} records: by chance, or a few that came twice."


def _bare(place: object) -> str:
    """Return a path by its last name: where it lies is this machine's."""
    return Path(str(place)).resolve().name if Path(str(place)).exists() else str(place)
