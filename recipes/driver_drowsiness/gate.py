"""Puts smaller variants of the eye and the mouth stage to the gate, each on pictures of its own part.

    python -m recipes.driver_drowsiness.gate --data DIR --out DIR [--eyes train valid] [--margin 0.01]

DIR is what `train` takes. A tile, which is what a face is cut into, is made of an eye, the same eye mirrored, and a
mouth: closed eyes over closed mouths and open eyes over open mouths are drowsy, open eyes over closed mouths alert. A
variant is written when either stage passed on the tiles in which its own part tells the classes apart, and both passed
together on all of them.

Invariants:

- No picture stands in a set twice but open eyes, which stand over several mouths where there are more mouths.
- The same data and seed give the same tiles.
- `test` eyes are read only where they are asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

import discern.detectors
from discern.detectors.bundle import open_bundle
from discern.detectors.optimise import CONVERSIONS
from discern.detectors.packing import next_version
from discern.evaluation.platforms.rules import least_items
from discern.evaluation.platforms.service import Outcome, optimise
from discern.evaluation.platforms.service_bundle import write_next
from discern.evaluation.platforms.sources import calibrating
from discern.evaluation.platforms.types import LabelledRows
from recipes.driver_drowsiness import data, framing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from discern.evaluation.platforms.types import GateResult

SHIPPED = Path(discern.detectors.__file__).parent / "builtin" / "driver-drowsiness"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Put variants of the stages of driver-drowsiness to the gate.")
    parser.add_argument("--data", type=Path, required=True, help="folder with eyes/ and mouths/")
    parser.add_argument("--out", type=Path, required=True, help="folder to make for the next version, unsigned")
    parser.add_argument("--bundle", type=Path, default=SHIPPED)
    parser.add_argument("--eyes", nargs="+", default=["train", "valid"], choices=("train", "valid", "test"))
    parser.add_argument("--kind", nargs="+", default=list(CONVERSIONS), choices=tuple(CONVERSIONS))
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    bundle = open_bundle(options.bundle, None)
    sets = tiles(options.data, options.eyes, options.seed)
    print(f"Without a difference the margin {options.margin:g} takes {least_items(options.margin)} items of a class.")
    outcomes = {}
    for part, rows in sets.items():
        outcomes[part] = optimise(bundle, rows, margin=options.margin, kinds=options.kind, watch=lambda _: None)
        for line in (line for one in outcomes[part].results for line in told(part, one)):
            print(line, flush=True)
    accepted = both_passed(outcomes)
    if not accepted.accepted:
        print("No variant was accepted; nothing is written.")
        return
    made = write_next(bundle, accepted, options.out, next_version(bundle.manifest.version))
    names = ", ".join(variant.name for variant in accepted.accepted)
    print(f"{made.root}: with {names}; {accepted.serves or 'fp32'} answers. Sign it next.")


def tiles(root: Path, sides: Sequence[str], seed: int) -> dict[str, LabelledRows]:
    """The tiles in which the eyes tell the classes apart, those in which the mouth does, and both together."""
    eyes = [sample for side in sides for sample in data.eyes(root, side)]
    mouths = data.mouths(root)
    generator = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed)
    of_eyes, of_mouths = (_by_class(samples, order) for samples in (eyes, mouths))
    shown_eyes, shown_mouths = (
        [_windows([samples[at] for at in ats], generator) for ats in classes]
        for samples, classes in ((eyes, of_eyes), (mouths, of_mouths))
    )
    digest = data.manifest_digest([*eyes, *mouths])
    mouth_groups = [np.array([mouths[at].group for at in ats]) for ats in of_mouths]

    def over(eye: int, mouth: int, count: int) -> NDArray[np.uint8]:
        return _tiled(shown_eyes[eye], shown_mouths[mouth], count)

    # Classes of eyes are open and closed, those of mouths closed and open: 0 is alert.
    pairs = [min(len(shown), len(shown_mouths[0])) for shown in shown_eyes]
    eye_rows = [over(closed, 0, pairs[closed]) for closed in (0, 1)]
    mouth_rows = [over(0, wide, len(shown_mouths[wide])) for wide in (0, 1)]
    names = [np.array([f"eye {at}" for at in ats[:count]]) for ats, count in zip(of_eyes, pairs, strict=True)]
    sets = {
        "eyes": (eye_rows, names),
        "mouth": (mouth_rows, mouth_groups),
        "both": (
            [mouth_rows[0], np.concatenate([eye_rows[1], mouth_rows[1]])],
            [mouth_groups[0], np.concatenate([names[1], mouth_groups[1]])],
        ),
    }
    return {part: _labelled(part, digest, seed, *rows) for part, rows in sets.items()}


def both_passed(outcomes: dict[str, Outcome]) -> Outcome:
    """What passed on all tiles, less what either stage did not pass on the tiles of its own part."""
    passed = {(part, one.variant) for part, found in outcomes.items() for one in found.results if _of(part, one)}
    whole = outcomes["both"]
    kept = tuple(
        one
        for one in whole.accepted
        if set(one.models) == {"eyes", "mouth"} and {("eyes", one.name), ("mouth", one.name)} <= passed
    )
    serves = whole.serves if whole.serves in {one.name for one in kept} else None
    return Outcome(whole.results, kept, serves)


def told(part: str, one: GateResult) -> list[str]:
    """A result in lines: the word, and the counts it follows from."""
    word = "accepted" if one.accepted else "refused"
    lines = [f"{part}: {one.variant} of {one.stage}: {word}: {one.reason}"]
    lines += [
        f"    at {each.point}, {each.label}: {each.items} items, {each.worse} lost, {each.better} won, "
        f"loss below {each.upper:.4f}"
        for each in one.differences
    ]
    return lines


def _of(part: str, one: GateResult) -> bool:
    return one.accepted and one.stage == part


def _by_class(samples: Sequence[data.Sample], order: np.random.Generator) -> list[list[int]]:
    """Positions of the negatives and of the positives, each picture once, in a drawn order."""
    first = {one.digest: at for at, one in reversed(list(enumerate(samples)))}
    return [
        order.permutation([at for at in sorted(first.values()) if samples[at].positive == wanted]).tolist()
        for wanted in (False, True)
    ]


def _windows(samples: Sequence[data.Sample], generator: torch.Generator) -> NDArray[np.uint8]:
    """The pictures shifted and scaled as a face finder puts its frame: uint8 [n, 48, 48, 3]."""
    whole = torch.from_numpy(data.whole(samples)).permute(0, 3, 1, 2).float()
    windows = framing.framed(whole, framing.AS_OTHERS_FRAME, generator)
    return windows.round().clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)


def _tiled(eyes: NDArray[np.uint8], mouths: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    eye, mouth = (shown[np.arange(count) % len(shown)] for shown in (eyes, mouths))
    return np.concatenate([eye, eye[:, :, ::-1], mouth], axis=2)


def _labelled(
    part: str, digest: str, seed: int, rows: Sequence[NDArray[np.uint8]], groups: Sequence[NDArray[np.str_]]
) -> LabelledRows:
    """The rows as the gate takes them: those for calibration first."""
    # Drawn, so that those for calibration are of every kind there is of a class.
    orders = [np.random.default_rng(seed).permutation(len(one)) for one in rows]
    rows = [one[order] for one, order in zip(rows, orders, strict=True)]
    groups = [one[order] for one, order in zip(groups, orders, strict=True)]
    held = [calibrating(len(one)) for one in rows]
    first, rest = (
        [one[cut] for one, cut in zip(rows, cuts, strict=True)]
        for cuts in ([slice(0, many) for many in held], [slice(many, None) for many in held])
    )
    labels = np.repeat([0, 1, 0, 1], [len(one) for one in (*first, *rest)]).astype(np.int8)
    named = [
        *(one[:many] for one, many in zip(groups, held, strict=True)),
        *(one[many:] for one, many in zip(groups, held, strict=True)),
    ]
    numbers = np.unique(np.concatenate(named), return_inverse=True)[1].astype(np.int64)
    return LabelledRows(
        f"drivers, {part}", digest, seed, np.concatenate([*first, *rest]), labels, sum(held), groups=numbers
    )


if __name__ == "__main__":
    main()
