"""The manifest, `detector.yaml`: one version of a detector as data.

- Unknown keys are refused, at every depth.
- An early exit can never decide otherwise than the thresholds would: `clear_below <= review_from` and
  `flag_above >= flag_from`, in every band.
- The last stage has no exits; every other stage has.
- `files` lists every file of the bundle but the manifest and the signature, with its SHA-256.
- A variant replaces models of stages and nothing else: calibration, exits and thresholds are the bundle's.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from discern.core.verdict import Thresholds
from discern.inputs.spec import ImageSpec, InputSpec, IntegerField, NumberField, RecordSpec, VideoSpec

MANIFEST_NAME = "detector.yaml"
SIGNATURE_NAME = "signature.json"
ORIGINAL = "fp32"
"""What the models that the stages name are called where there are variants; no variant has this name."""

DETECTOR_NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
SEMANTIC_VERSION = r"^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})$"
# The sampled frames of a clip stand in memory together.
_CLIP_BYTES = 256 * 1024**2
_TAKES = re.compile(r"^(input|[a-z][a-z0-9_]*\.(score|probability|[A-Za-z_][A-Za-z0-9_]*))$")


def _inside_the_bundle(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value or str(path) != value:
        raise ValueError(f"{value!r} is not a plain relative path inside the bundle")
    return value


BundlePath = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_inside_the_bundle)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)


class Classes(_Closed):
    """The names of the two classes."""

    negative: str = Field(min_length=1, max_length=64)
    positive: str = Field(min_length=1, max_length=64)


class BetaCalibration(_Closed):
    """calibrated = sigmoid(a ln p - b ln(1 - p) + c): Kull, Silva Filho and Flach, AISTATS 2017."""

    a: float = Field(ge=0, le=1000)
    b: float = Field(ge=0, le=1000)
    c: float = Field(ge=-1000, le=1000)


class IsotonicCalibration(_Closed):
    """Points of a curve that never falls: `scores` at `probabilities`, straight between two, level at both ends."""

    probabilities: tuple[Share, ...] = Field(min_length=2, max_length=1000, description="Raw, rising.")
    scores: tuple[Share, ...] = Field(min_length=2, max_length=1000, description="Calibrated, never falling.")

    @model_validator(mode="after")
    def _never_falls(self) -> Self:
        if len(self.probabilities) != len(self.scores):
            raise ValueError("isotonic: there is a score for each probability")
        if any(one >= other for one, other in pairwise(self.probabilities)):
            raise ValueError("isotonic: probabilities must rise from point to point")
        if any(one > other for one, other in pairwise(self.scores)):
            raise ValueError("isotonic: scores must not fall from point to point")
        return self


class Calibration(_Closed):
    """How a stage's raw probability becomes its score: by temperature, beta or isotonic calibration, one of them.

    Temperature scaling (Guo et al. 2017, arXiv:1706.04599): calibrated = sigmoid(logit(p) / temperature).
    """

    temperature: float = Field(default=1.0, gt=0.01, lt=100)
    beta: BetaCalibration | None = None
    isotonic: IsotonicCalibration | None = None
    fitted_by: dict[str, Any] = Field(
        default_factory=dict, description="What it was fitted on: dataset, manifest_sha256, split, items."
    )

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        kinds = {
            "temperature": self.temperature != 1,
            "beta": self.beta is not None,
            "isotonic": self.isotonic is not None,
        }
        given = [kind for kind, is_given in kinds.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"a stage is calibrated in one way, not by {' and '.join(given)}")
        return self


class Exits(_Closed):
    """Where a stage decides by itself: a calibrated score below `clear_below` or from `flag_above`."""

    clear_below: Share
    flag_above: Share


class Stage(_Closed):
    """One model of the cascade.

    `takes` maps graph inputs to sources: `input` (the image or record tensor), `STAGE.score` (an earlier stage's
    calibrated score), `STAGE.probability` (its raw one) or `STAGE.OUTPUT` (any other output of its graph, such as an
    embedding). When it is left out, the graph's single input takes `input`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    model: BundlePath
    probability: str | None = Field(
        default=None,
        description="Graph output with the probability; left out: the one named `probability`, or the only one.",
    )
    takes: dict[str, str] | None = None
    calibration: Calibration = Calibration()
    exits: Exits | None = None

    @model_validator(mode="after")
    def _takes_are_readable(self) -> Self:
        for tensor, source in (self.takes or {}).items():
            if not _TAKES.match(source):
                raise ValueError(
                    f"stage {self.name}: {tensor} takes {source!r}; use `input`, `STAGE.score` or `STAGE.OUTPUT`"
                )
        if not self.model.endswith(".onnx"):
            raise ValueError(f"stage {self.name}: {self.model} is not an .onnx file; models are ONNX only")
        return self


class Variant(_Closed):
    """Other models for some stages, such as smaller ones, that were measured together against those they stand for."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    models: dict[str, BundlePath] = Field(min_length=1, description="Model by stage; the other stages keep theirs.")
    evidence: dict[str, Any] = Field(
        default_factory=dict, description="What it was accepted by: margin, data, digests, counts."
    )

    @model_validator(mode="after")
    def _are_models(self) -> Self:
        for stage, model in self.models.items():
            if not model.endswith(".onnx"):
                raise ValueError(f"variant {self.name}: {model} of stage {stage} is not an .onnx file")
        if self.name == ORIGINAL:
            raise ValueError(f"no variant may be called {ORIGINAL}: so the stages' own models are called")
        return self


class Band(_Closed):
    """The thresholds of records whose field says `from` or more, up to the next band."""

    model_config = ConfigDict(populate_by_name=True)

    from_: float = Field(alias="from")
    review_from: Share
    flag_from: Share

    @property
    def thresholds(self) -> Thresholds:
        """The two cut points as the verdict carries them."""
        return Thresholds(review_from=self.review_from, flag_from=self.flag_from)


class Bands(_Closed):
    """Other thresholds by what is at stake: a number that every record has, such as its amount."""

    field: str = Field(description="A number or integer of the input that may not miss.")
    steps: tuple[Band, ...] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _rise(self) -> Self:
        starts = [step.from_ for step in self.steps]
        if any(one >= other for one, other in pairwise(starts)):
            raise ValueError("bands: `from` must rise from step to step")
        return self


class DecisionRule(_Closed):
    """The thresholds and what they were chosen by. Below the first of the `bands` the rule's own two apply."""

    review_from: Share
    flag_from: Share
    bands: Bands | None = None
    chosen_by: dict[str, Any] = Field(
        default_factory=dict, description="Evidence for the choice: constraint, data, digests."
    )

    @property
    def thresholds(self) -> Thresholds:
        """The two cut points as the verdict carries them."""
        return Thresholds(review_from=self.review_from, flag_from=self.flag_from)

    @property
    def all_thresholds(self) -> tuple[Thresholds, ...]:
        """The rule's own two, and those of each band."""
        steps = () if self.bands is None else self.bands.steps
        return (self.thresholds, *(step.thresholds for step in steps))


class EventRule(_Closed):
    """A kind of event: a stage's score stays from `from` on, for at least so long and at most so long."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    of: str | None = Field(default=None, description="A stage; left out: the verdict's score.")
    from_: Share = Field(alias="from")
    shortest_seconds: float = Field(ge=0.01, le=3600)
    longest_seconds: float | None = Field(
        default=None, le=3600, description="Left out: an event also counts whose end is not seen yet."
    )
    least_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Known inputs a second that these events are too short to be seen below.",
    )

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.longest_seconds is not None and self.longest_seconds < self.shortest_seconds:
            raise ValueError(f"event {self.name}: longest_seconds is below shortest_seconds")
        return self


class EventMeasure(_Closed):
    """A measure of events that decides beside the window's own, in its own unit: a number, a minute, seconds."""

    event: str
    measure: Literal["count", "per_minute", "mean_seconds", "longest_seconds"]
    review_at: float | None = Field(default=None, gt=0, description="Measures from here are `review`.")
    flag_at: float = Field(gt=0)
    clear_below: float | None = Field(default=None, ge=0, description="Left out: `flag_at`.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        _not_above_flag_at(self.flag_at, review_at=self.review_at, clear_below=self.clear_below)
        return self


class StreamRule(_Closed):
    """How the verdicts of a live stream become one verdict a window.

    The measure of a window lies in [0, 1] like the scores it is of. Once a window was `flag`, the next ones are until
    the measure falls below `clear_below`. Measures of events (`also`) decide beside it, and the most severe stands.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    window_seconds: float = Field(gt=0, le=3600)
    every_seconds: float | None = Field(
        default=None, gt=0, le=3600, description="Time between two windows' ends; left out: windows do not overlap."
    )
    measure: Literal["fraction_above", "mean", "maximum"]
    of: str | None = Field(
        default=None, description="A stage, whose score is looked at; left out: the verdict's score."
    )
    from_: Share | None = Field(default=None, alias="from", description="For `fraction_above`: scores from here count.")
    review_at: Share | None = Field(default=None, description="Measures from here are `review`; left out: none is.")
    flag_at: Share
    clear_below: Share | None = Field(default=None, description="Left out: `flag_at`.")
    least: int = Field(default=1, ge=1, description="Inputs that a window needs for a verdict.")
    known_from: Share | None = Field(
        default=None,
        description="Share of a window's inputs that must be known, and `least` of them, for it to be `clear`; an "
        "input is not known where no face was found in it. Left out: what is not known is left out.",
    )
    gap_seconds: float = Field(default=0.5, gt=0, le=60, description="Inputs further apart are not of one event.")
    events: tuple[EventRule, ...] = Field(default=(), max_length=8)
    also: tuple[EventMeasure, ...] = Field(default=(), max_length=8)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.measure == "fraction_above") != (self.from_ is not None):
            raise ValueError("stream: `from` belongs to the measure `fraction_above`, which needs it")
        if self.every_seconds is not None and self.every_seconds > self.window_seconds:
            raise ValueError("stream: every_seconds is longer than window_seconds, so that something would be left out")
        _not_above_flag_at(self.flag_at, review_at=self.review_at, clear_below=self.clear_below)
        return self

    @model_validator(mode="after")
    def _events_are_told_apart(self) -> Self:
        names = [event.name for event in self.events]
        if len(set(names)) != len(names):
            raise ValueError("stream: two events have the same name")
        measured = [(one.event, one.measure) for one in self.also]
        if len(set(measured)) != len(measured):
            raise ValueError("stream: a measure of an event is listed twice")
        missing = sorted({event for event, _ in measured} - set(names))
        if missing:
            raise ValueError(f"stream: no event is called {missing[0]!r}")
        return self

    @property
    def sources(self) -> frozenset[str | None]:
        """The stages whose scores are looked at; None stands for the verdict's own."""
        return frozenset({self.of, *(event.of for event in self.events)})


def _not_above_flag_at(flag_at: float, **others: float | None) -> None:
    for name, value in others.items():
        if value is not None and value > flag_at:
            raise ValueError(f"stream: {name} {value} is above flag_at {flag_at}")


class Manifest(_Closed):
    """Everything a bundle says of itself."""

    format: Literal[1]
    name: str = Field(pattern=DETECTOR_NAME, max_length=64)
    version: str = Field(pattern=SEMANTIC_VERSION)
    task: str = Field(min_length=1, max_length=500)
    input: InputSpec
    classes: Classes
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=8)
    variants: tuple[Variant, ...] = Field(default=(), max_length=8)
    serves: str | None = Field(default=None, description="The variant that answers; left out: the stages' own models.")
    decision: DecisionRule
    video: VideoSpec | None = None
    stream: StreamRule | None = None
    reference: BundlePath | None = None
    card: BundlePath
    files: dict[BundlePath, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages have the same name")
        for position, stage in enumerate(self.stages):
            last = position == len(self.stages) - 1
            if last == (stage.exits is not None):
                raise ValueError(f"stage {stage.name}: the last stage has no exits and every other stage needs them")
            for source in (stage.takes or {}).values():
                origin = source.partition(".")[0]
                if source != "input" and origin not in names[:position]:
                    raise ValueError(f"stage {stage.name} takes {source!r}, but no earlier stage is called {origin!r}")
        return self

    @model_validator(mode="after")
    def _variants_are_of_its_stages(self) -> Self:
        names, stages = [variant.name for variant in self.variants], {stage.name for stage in self.stages}
        if len(set(names)) != len(names):
            raise ValueError("two variants have the same name")
        for variant in self.variants:
            if unknown := sorted(variant.models.keys() - stages):
                raise ValueError(f"variant {variant.name}: no stage is called {unknown[0]!r}")
        if self.serves is not None and self.serves not in names:
            raise ValueError(f"serves: no variant is called {self.serves!r}")
        return self

    @model_validator(mode="after")
    def _exits_agree_with_the_thresholds(self) -> Self:
        every = self.decision.all_thresholds
        for one in every:
            if one.review_from > one.flag_from:
                raise ValueError(f"decision: review_from {one.review_from} is above flag_from {one.flag_from}")
        lowest, highest = min(one.review_from for one in every), max(one.flag_from for one in every)
        for stage in self.stages:
            exits = stage.exits
            if exits and (exits.clear_below > lowest or exits.flag_above < highest):
                raise ValueError(
                    f"stage {stage.name}: an exit would decide otherwise than the thresholds "
                    f"(clear_below must be at most {lowest}, flag_above at least {highest})"
                )
        return self

    @model_validator(mode="after")
    def _bands_are_of_a_number(self) -> Self:
        bands = self.decision.bands
        if bands is None:
            return self
        if not isinstance(self.input, RecordSpec):
            raise ValueError("decision.bands: only a detector of records can have them")  # noqa: TRY004
        field = next((one for one in self.input.fields if one.name == bands.field), None)
        if not isinstance(field, NumberField | IntegerField) or field.missing != "refuse":
            raise ValueError(f"decision.bands: {bands.field!r} is no number of the input that may not miss")
        return self

    @model_validator(mode="after")
    def _video_needs_an_image_detector(self) -> Self:
        if self.video is None:
            return self
        if not isinstance(self.input, ImageSpec):
            raise ValueError("video: only a detector with `input.kind: image` can take video")  # noqa: TRY004
        needed = self.video.frames * self.input.width * self.input.height * 3
        if needed > _CLIP_BYTES:
            raise ValueError(f"video: its frames would take {needed} bytes; at most {_CLIP_BYTES} are allowed")
        if self.video.pool == "windows" and self.stream is None:
            raise ValueError("video: `pool: windows` is by the rule in `stream`, which is missing")
        return self

    @model_validator(mode="after")
    def _stream_measures_a_stage(self) -> Self:
        measured = set() if self.stream is None else {name for name in self.stream.sources if name is not None}
        missing = sorted(measured - {stage.name for stage in self.stages})
        if missing:
            raise ValueError(f"stream: no stage is called {missing[0]!r}")
        return self

    def model_of(self, stage: Stage, variant: str | None) -> str:
        """Return the file of a stage's model in a variant, None for the stages' own. Raises KeyError for no variant."""
        if variant is None:
            return stage.model
        return {one.name: one for one in self.variants}[variant].models.get(stage.name, stage.model)

    @property
    def named_files(self) -> frozenset[str]:
        """Files the manifest refers to, which must all stand in `files`."""
        named = {stage.model for stage in self.stages} | {self.card}
        named |= {model for variant in self.variants for model in variant.models.values()}
        return frozenset(named | ({self.reference} if self.reference else set()))
