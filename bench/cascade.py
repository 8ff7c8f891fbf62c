"""`synthetic-face`: its cascade against its last stage alone, both at the same recall.

- The last stage answers for every picture, at the threshold that finds as many of the synthetic faces as the cascade
  does at its own.
- Pictures come from a folder that holds `authentic` and `synthetic` folders at any depth (`--faces`). Without one they
  are generated: pictures of nobody, on which the recall means nothing; the row says so.

`python -m bench.cascade --faces FOLDER`
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import inputs
from bench.report import Row, at_least, table
from bench.rounds import in_turns
from discern.app import BUILTIN
from discern.core.errors import DiscernError
from discern.detectors.assessment import Assessment, Detector, load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.runtime import StageModel
from discern.detectors.trust import TrustStore
from discern.inputs.faces import face_locator
from discern.inputs.prepare import prepare_media
from discern.inputs.spec import ImageSpec
from discern.inputs.types import InputLimits, Prepared

_NAME = "synthetic-face"


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures, which of them are synthetic, and in words where they are from."""

    contents: list[bytes]
    synthetic: list[bool]
    source: str


def rows(_folder: Path, *, faces: Path | None = None, most: int = 400, rounds: int = 3) -> Iterator[Row]:
    """Yield a row for the models alone and one with decoding and finding the face."""
    pictures = _generated() if faces is None else _of_folder(faces, most)
    bundle = open_bundle(BUILTIN / _NAME, TrustStore((BUILTIN.parent / "keys",)))
    cascade = load_detector(bundle)
    alone = _last_stage_alone(bundle)
    prepare = _preparing(cascade)
    prepared = [prepare(content) for content in pictures.contents]
    by_cascade, by_last = _assessed(cascade, prepared), _assessed(alone, prepared)
    where = _recalls(by_cascade, by_last, pictures, cascade)
    first = cascade.manifest.stages[0].name
    share = statistics.mean(one.decided_by == first for one in by_cascade)
    found = in_turns(
        {"cascade": lambda: _seconds(cascade, prepared), "last": lambda: _seconds(alone, prepared)}, rounds
    )
    decoding = _timed(lambda: [prepare(content) for content in pictures.contents])
    counted = len(prepared)
    ours, theirs = found.median("cascade", float), found.median("last", float)
    yield at_least(
        f"`{_NAME}`: the cascade's throughput, models alone, a thread",
        f"{counted / ours:.1f} pictures/s; its first stage decided {share:.0%}",
        f"{counted / theirs:.1f} of its last stage alone {where}; {pictures.source}",
        found.ratio("last", "cascade", float),
        2.0,
    )
    yield Row(
        "the same with decoding and finding the face, which both do",
        f"{counted / (ours + decoding):.1f} pictures/s",
        f"{counted / (theirs + decoding):.1f}",
        (theirs + decoding) / (ours + decoding),
    )


def _last_stage_alone(bundle: Bundle) -> Detector:
    """Return a detector of the last stage only."""
    last = bundle.manifest.stages[-1]
    if any(source != "input" for source in (last.takes or {}).values()):
        raise ValueError(f"{last.name} takes what earlier stages give, and cannot answer alone")
    model = StageModel(last.name, bundle.read(last.model), probability=last.probability)
    return Detector(bundle.manifest.model_copy(update={"stages": (last,)}), bundle.digest, {last.name: model})


def _recalls(by_cascade: list[Assessment], by_last: list[Assessment], pictures: Pictures, cascade: Detector) -> str:
    """Return in words the recall both have, the last stage's threshold there, and what either flags wrongly."""
    synthetic = np.array(pictures.synthetic)
    if not synthetic.any() or synthetic.all():
        return "(no recall: the pictures are of one kind)"
    flag_from = cascade.manifest.decision.thresholds.flag_from
    ours = np.array([one.score for one in by_cascade])
    theirs = np.array([one.score for one in by_last])
    found = int((ours[synthetic] >= flag_from).sum())
    threshold = np.sort(theirs[synthetic])[::-1][found - 1] if found else 1.0
    wrongly = [
        float((scores[~synthetic] >= least).mean()) for scores, least in ((ours, flag_from), (theirs, threshold))
    ]
    return (
        f"at the same recall of {found / synthetic.sum():.1%} (threshold {threshold:.3f}; "
        f"authentic ones flagged {wrongly[0]:.1%} by the cascade, {wrongly[1]:.1%} by the last stage)"
    )


def _preparing(detector: Detector) -> Callable[[bytes], Prepared]:
    spec, video = detector.manifest.input, detector.manifest.video
    assert isinstance(spec, ImageSpec)
    locator, limits = face_locator(None), InputLimits()
    return lambda content: prepare_media(content, spec, video, limits, locator)


def _assessed(detector: Detector, prepared: list[Prepared]) -> list[Assessment]:
    assessments = []
    for one in detector.assess_many(prepared):
        if isinstance(one, DiscernError):
            raise one
        assessments.append(one)
    return assessments


def _seconds(detector: Detector, prepared: list[Prepared]) -> float:
    """Return how long the pictures take one by one."""
    return _timed(lambda: [detector.assess(one) for one in prepared])


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _generated() -> Pictures:
    contents = [inputs.photo(serial) for serial in range(40)]
    return Pictures(contents, [False] * len(contents), "generated pictures of nobody")


def _of_folder(folder: Path, most: int) -> Pictures:
    """Return up to `most` pictures, as many of each kind, taken evenly from the sorted paths."""
    chosen: list[tuple[Path, bool]] = []
    for kind, synthetic in (("authentic", False), ("synthetic", True)):
        paths = sorted(path for path in folder.rglob("*") if path.parent.name == kind and path.is_file())
        if not paths:
            raise FileNotFoundError(f"{folder} has no pictures in a folder called {kind}")
        chosen += [(path, synthetic) for path in paths[:: max(1, -(-len(paths) * 2 // most))]]
    source = f"{len(chosen)} photographs and generated faces"
    return Pictures([path.read_bytes() for path, _ in chosen], [synthetic for _, synthetic in chosen], source)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, help="folder with `authentic` and `synthetic` pictures")
    parser.add_argument("--most", type=int, default=400, help="pictures at most")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(table(rows(Path(), faces=options.faces, most=options.most, rounds=options.rounds)))


if __name__ == "__main__":
    main()
