"""The conditions that a detector is tried under, each at five strengths whose parameters stand here.

- A strength further up is further from what was given: a test measures it.
- `pixels` is what happens to a picture, or to every frame of a clip; where it is None, `media` writes the file anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from discern.core.errors import CallerError
from discern.evaluation.conditions import pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from discern.evaluation.types import ItemKind

STRENGTHS = (1, 2, 3, 4, 5)
LIVE_STREAM = "live_stream"
"""The condition of a whole stream, which has a part of the result of its own."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `strengths` holds the parameters of each; `each_frame` says that frames are drawn for apart."""

    name: str
    what: str
    takes: tuple[ItemKind, ...]
    strengths: tuple[Mapping[str, float], ...]
    pixels: Callable[..., NDArray[np.uint8]] | None = None
    each_frame: bool = False

    def parameters(self, strength: int) -> Mapping[str, float]:
        """Return the parameters of a strength. Raises CallerError for one that does not exist."""
        if strength not in STRENGTHS:
            raise CallerError(
                f"{self.name} has no strength {strength}.", mend=f"Strengths are {STRENGTHS[0]} to {STRENGTHS[-1]}."
            )
        return self.strengths[strength - 1]

    def written(self, strength: int) -> str:
        """Return the parameters as words."""
        return ", ".join(f"{name} {value:g}" for name, value in self.parameters(strength).items())


def _steps(**columns: tuple[float, ...]) -> tuple[Mapping[str, float], ...]:
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


_MEDIA: tuple[ItemKind, ...] = ("image", "video")

CONDITIONS: tuple[Condition, ...] = (
    Condition("jpeg", "Written anew as JPEG, 4:2:0.", _MEDIA, _steps(quality=(80, 60, 40, 25, 10))),
    Condition("h264", "Written anew as H.264 at a constant rate factor.", _MEDIA, _steps(crf=(23, 28, 33, 40, 46))),
    Condition(
        "social_media",
        "Shared: made smaller where the longest side (pixels) is longer, written anew as JPEG or H.264 so many times, "
        "without metadata.",
        _MEDIA,
        _steps(
            longest=(2048, 1600, 1280, 1080, 720),
            quality=(82, 70, 60, 50, 38),
            crf=(23, 27, 30, 33, 37),
            times=(1, 1, 2, 2, 3),
        ),
    ),
    Condition(
        "blur",
        "Out of focus: Gaussian, sigma as a share of the shorter side.",
        _MEDIA,
        _steps(sigma=(0.002, 0.004, 0.008, 0.014, 0.022)),
        pictures.blur,
    ),
    Condition(
        "motion_blur",
        "Moved along a line, its length as a share of the shorter side.",
        _MEDIA,
        _steps(length=(0.01, 0.02, 0.04, 0.07, 0.11)),
        pictures.motion_blur,
    ),
    Condition(
        "noise",
        "Gaussian noise, standard deviation in levels of 255.",
        _MEDIA,
        _steps(deviation=(4, 8, 16, 28, 44)),
        pictures.noise,
        each_frame=True,
    ),
    Condition(
        "low_light",
        "A share of the light, with shot and read noise, half made up for by gain.",
        _MEDIA,
        _steps(exposure=(0.6, 0.35, 0.18, 0.09, 0.04)),
        pictures.low_light,
        each_frame=True,
    ),
    Condition(
        "contrast",
        "Distances from the mean level shrunk to a factor.",
        _MEDIA,
        _steps(factor=(0.8, 0.6, 0.42, 0.28, 0.15)),
        pictures.contrast,
    ),
    Condition(
        "occlusion",
        "A grey box over a share of the picture.",
        _MEDIA,
        _steps(share=(0.03, 0.08, 0.16, 0.28, 0.42)),
        pictures.occlusion,
    ),
    Condition(
        "resolution",
        "Made smaller to a scale of its sides, and as large as before again.",
        _MEDIA,
        _steps(scale=(0.75, 0.5, 0.33, 0.22, 0.14)),
        pictures.resolution,
    ),
    Condition(
        "screenshot",
        "Taken off a screen: resampled, another gamma, a grid in levels, borders as a share of the shorter side, PNG.",
        _MEDIA,
        _steps(
            scale=(0.95, 0.85, 0.7, 0.55, 0.4),
            gamma=(1.03, 1.07, 1.12, 1.18, 1.26),
            moire=(1, 2, 4, 7, 11),
            border=(0.02, 0.04, 0.06, 0.08, 0.1),
        ),
    ),
    Condition(
        "frame_drops", "A share of the frames of a clip lost.", ("video",), _steps(share=(0.05, 0.15, 0.3, 0.5, 0.75))
    ),
    Condition(
        "missing_fields",
        "A share of the values missing, of the fields that may miss.",
        ("record",),
        _steps(share=(0.02, 0.05, 0.15, 0.3, 0.5)),
    ),
    Condition(
        "shifted_fields",
        "Every number moved, up or down by field, by so many standard deviations of the dataset, within its range.",
        ("record",),
        _steps(deviations=(0.1, 0.25, 0.5, 1, 2)),
    ),
    Condition(
        "scaled_units",
        "A third of the fields with numbers in another unit.",
        ("record",),
        _steps(factor=(1.1, 1.6, 3.3, 10, 100)),
    ),
    Condition(
        "stale_values",
        "A share of the values as in the record before of the same group.",
        ("record",),
        _steps(share=(0.05, 0.15, 0.3, 0.6, 1)),
    ),
)
BY_NAME = {condition.name: condition for condition in CONDITIONS}

NETWORKS: tuple[Mapping[str, float], ...] = _steps(
    jitter=(0.02, 0.06, 0.15, 0.3, 0.6), loss=(0.005, 0.02, 0.05, 0.12, 0.25), quality=(80, 60, 40, 25, 12)
)
"""The networks of the live stream: mean delay in seconds, share of frames lost, lowest JPEG quality."""


def named(words: str) -> tuple[str, ...]:
    """Return the conditions that `all`, `none` or a list with commas names. Raises CallerError for an unknown one."""
    everything = (*BY_NAME, LIVE_STREAM)
    if words in {"all", "none"}:
        return everything if words == "all" else ()
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    unknown = [word for word in wanted if word not in everything]
    if unknown or not wanted:
        raise CallerError(
            f"There is no condition {unknown[0]!r}." if unknown else "No condition is named.",
            mend=f"Name all, none, or some of {', '.join(everything)}.",
        )
    return tuple(name for name in everything if name in wanted)


def said(conditions: tuple[str, ...]) -> str:
    """Return the words that `named` makes these conditions of."""
    return "all" if conditions == named("all") else ",".join(conditions)


def table() -> str:
    """Return all conditions as Markdown, for the documentation."""
    lines = ["| condition | takes | what | " + " | ".join(map(str, STRENGTHS)) + " |", "|" + "---|" * 8]
    lines += [
        f"| `{one.name}` | {', '.join(one.takes)} | {one.what} | "
        + " | ".join(one.written(strength) for strength in STRENGTHS)
        + " |"
        for one in CONDITIONS
    ]
    words = (", ".join(f"{name} {value:g}" for name, value in one.items()) for one in NETWORKS)
    what = "Frames delayed (mean, seconds), lost in bursts, out of order, at a quality that changes every second."
    lines.append(f"| `{LIVE_STREAM}` | video | {what} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"
