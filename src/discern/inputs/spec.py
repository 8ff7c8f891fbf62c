"""What a detector wants as input: the `input` section of a bundle's manifest.

- Unknown keys are refused.
- A record's fields are in tensor order: field i is column i of the `record` tensor.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageSpec(_Closed):
    """An image, given to the first stage as uint8 [rows, height, width, 3], RGB."""

    kind: Literal["image"]
    width: int = Field(ge=8, le=2048, description="Width of the tensor in pixels.")
    height: int = Field(ge=8, le=2048, description="Height of the tensor in pixels.")
    crop: Literal["face", "eyes_and_mouth", "square", "none"] = Field(
        default="none",
        description="`face`: a square round the largest face; `eyes_and_mouth`: its right eye, left eye and mouth, "
        "three squares beside each other; `square`: the largest centred one; `none`: all.",
    )
    face_margin: float = Field(
        default=0.3, ge=0, le=2, description="How far the square reaches beyond the face box, as a share of its side."
    )
    no_face: Literal["whole", "refuse"] = Field(
        default="refuse", description="No face found: go on with the largest centred square, or refuse the input."
    )

    @model_validator(mode="after")
    def _parts_are_three_squares(self) -> Self:
        if self.crop != "eyes_and_mouth":
            return self
        if self.width != 3 * self.height:
            raise ValueError(f"crop eyes_and_mouth: width {self.width} is not three times the height {self.height}")
        if self.no_face != "refuse":
            raise ValueError("crop eyes_and_mouth: without a face there is nothing to go on with; use no_face: refuse")
        return self


class _FieldBase(_Closed):
    name: Name
    description: str = Field(default="", max_length=500)
    unit: str = Field(default="", max_length=40)
    missing: Literal["refuse", "nan"] = Field(
        default="refuse", description="A missing or null value is refused, or becomes NaN for the model to handle."
    )
    identifies: bool = Field(
        default=False, description="Its values tell who or what a record is about: no sketch of them is kept."
    )


class NumberField(_FieldBase):
    """A finite number, integers included."""

    type: Literal["number"]
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        return _ordered(self, self.minimum, self.maximum)


class IntegerField(_FieldBase):
    """A whole number of at most 2**53, so that it survives JSON."""

    type: Literal["integer"]
    minimum: int | None = None
    maximum: int | None = None

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        return _ordered(self, self.minimum, self.maximum)


class BooleanField(_FieldBase):
    """`true` or `false`, given to the model as 1 or 0."""

    type: Literal["boolean"]


class CategoryField(_FieldBase):
    """One of a closed list of strings, given to the model as its index in the list."""

    type: Literal["category"]
    categories: tuple[str, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _categories_are_unique(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"field {self.name}: a category is listed twice")
        return self


RecordField = Annotated[NumberField | IntegerField | BooleanField | CategoryField, Field(discriminator="type")]


class RecordSpec(_Closed):
    """A flat record, given to the first stage as float32 [rows, fields]."""

    kind: Literal["record"]
    fields: tuple[RecordField, ...] = Field(min_length=1, max_length=2000)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [field.name for field in self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"fields named twice: {', '.join(twice)}")
        return self


InputSpec = Annotated[ImageSpec | RecordSpec, Field(discriminator="kind")]


class VideoSpec(_Closed):
    """How frames of a clip become one verdict; its presence lets an image detector take video."""

    frames: int = Field(default=16, ge=1, le=4096, description="Frames sampled evenly over the clip.")
    pool: Literal["mean", "max", "top_mean", "windows"] = Field(
        default="top_mean",
        description="How frame scores become one; `windows`: by the worst window of the clip, as `stream` says.",
    )
    top: int = Field(default=4, ge=1, le=512, description="How many of the highest scores `top_mean` averages.")

    @model_validator(mode="after")
    def _top_is_within_frames(self) -> Self:
        if self.top > self.frames:
            raise ValueError(f"top ({self.top}) is more than frames ({self.frames})")
        return self


_F = TypeVar("_F", bound=_FieldBase)


def _ordered(field: _F, minimum: float | None, maximum: float | None) -> _F:
    if minimum is not None and maximum is not None and minimum > maximum:
        raise ValueError(f"field {field.name}: minimum {minimum} is above maximum {maximum}")
    return field
