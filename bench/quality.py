"""How often the intervals of estimated quality hold what labels show, on real detectors and data: coverage over 95 %.

`python -m bench.quality payments --data DIR` asks the shipped `card-fraud` about days of `transactions.parquet` that it
was not trained on: as they are, with large payments drawn more often (other inputs, a score means the same), and with
frauds of a kind that scores like everybody (a score means something else, and the intervals are expected to fail).

`python -m bench.quality faces --data DIR` asks the shipped `synthetic-face` about the pictures of a folder
`SOURCE/{authentic,synthetic}`, and draws windows of one hundred with every mixture of the sources that `--known` names;
then of the other sources, which no training showed. It needs the extras `train` and, for faces, minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.app import BUILTIN
from discern.core.errors import CallerError
from discern.core.verdict import Decision
from discern.detectors.assessment import load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.scoring import DECISIONS as CODES
from discern.library import Discern
from discern.monitoring.quality.rules_drawing import DECISIONS, LEVEL, measures_of
from discern.monitoring.quality.rules_estimated import estimated
from discern.monitoring.quality.sources import evidence_of
from discern.monitoring.quality.types import MEASURES, CalibrationDoubt, Group, Measure
from discern.settings import load_settings

_SEED = 7
_WINDOW = 8000
_DRAWS = 200
_PICTURES = 100


class Window(NamedTuple):
    """Judged inputs: scores float64 [n], decisions int [n] as positions in `DECISIONS`, whether each is positive."""

    scores: NDArray[np.float64]
    codes: NDArray[np.int64]
    positive: NDArray[np.bool_]

    def at(self, rows: NDArray[np.int64]) -> Window:
        """Return those of some rows."""
        return Window(self.scores[rows], self.codes[rows], self.positive[rows])


def groups_of(window: Window) -> dict[Decision, Group]:
    """Return the sums that the ledger keeps of a window."""
    found = {}
    for code, name in enumerate(DECISIONS):
        its = window.scores[window.codes == code]
        found[name] = Group(len(its), float(its.sum()), float(np.sum(its * (1 - its))))
    return found


def truth_of(window: Window) -> dict[Measure, float]:
    """Return every measure by the labels of all of a window."""
    there = {name: window.codes == code for code, name in enumerate(DECISIONS)}
    verdicts = {name: int(its.sum()) for name, its in there.items()}
    positives = {name: np.array([float(window.positive[its].sum())]) for name, its in there.items()}
    return {name: float(value[0]) for name, value in measures_of(verdicts, positives).items()}


def told(title: str, windows: Sequence[Window], doubt: CalibrationDoubt | None) -> Iterator[str]:
    """Yield how often intervals held the truth, measure by measure."""
    held: Counter[Measure] = Counter()
    there: Counter[Measure] = Counter()
    off: dict[Measure, list[float]] = {one: [] for one in MEASURES}
    for window in windows:
        truth = truth_of(window)
        for figure in estimated(groups_of(window), doubt):
            if figure.value is None or figure.low is None or figure.high is None or np.isnan(truth[figure.measure]):
                continue
            there[figure.measure] += 1
            held[figure.measure] += figure.low - 1e-12 <= truth[figure.measure] <= figure.high + 1e-12
            off[figure.measure].append(figure.value - truth[figure.measure])
    yield f"{title}: {len(windows)} windows of {np.mean([len(one.scores) for one in windows]):,.0f}"
    for measure in MEASURES:
        if there[measure]:
            coverage = held[measure] / there[measure]
            yield (
                f"  {measure:28} coverage {coverage:.3f}, ratio {coverage / LEVEL:.2f}; estimated less realised "
                f"{np.mean(off[measure]):+.4f} on average"
            )
    total = sum(held.values()) / max(1, sum(there.values()))
    yield f"  all {total:.3f}, ratio {total / LEVEL:.2f}"


def payments(data: Path) -> Iterator[str]:
    """Yield what holds of payments."""
    import pandas as pd  # noqa: PLC0415 - an extra

    from recipes.card_fraud.features import compute_features  # noqa: PLC0415 - likewise

    transactions = pd.read_parquet(data / "transactions.parquet")
    bundle = open_bundle(BUILTIN / "card-fraud", None)
    detector, evidence = load_detector(bundle), evidence_of(bundle)
    day = transactions["TX_DATETIME"].dt.strftime("%Y-%m-%d").to_numpy(dtype=str)
    after = (day >= "2018-08-29") & (day <= "2018-09-04")
    before = (day >= "2018-06-13") & (day <= "2018-08-07")
    features = compute_features(transactions)
    rows = np.flatnonzero(after | before)
    scored = detector.score_rows(features[rows])
    everything = Window(scored.score, scored.decision.astype(np.int64), transactions["TX_FRAUD"].to_numpy()[rows] == 1)
    days = day[rows]
    amount = features[rows, 0].astype(np.float64)
    random = np.random.default_rng(_SEED)
    week = np.flatnonzero(days >= "2018-08-29")
    natural = [everything.at(np.flatnonzero(days == one)) for one in np.unique(days)]
    yield from told("days as they were, the week after the training and eight before it", natural, evidence.doubt)
    yield from told("the same, were the calibration exact", natural, None)
    heavy = np.exp(np.minimum(amount[week], 400) / 100)
    large = [everything.at(random.choice(week, _WINDOW, p=heavy / heavy.sum())) for _ in range(_DRAWS)]
    yield from told("the week after, large payments drawn more often", large, evidence.doubt)
    yield from told("concept shift: one genuine payment in 200 is a fraud of another kind", [
        one._replace(positive=one.positive | (random.random(len(one.positive)) < 0.005)) for one in natural
    ], evidence.doubt)  # fmt: skip


def faces(data: Path, known: Sequence[str]) -> Iterator[str]:
    """Yield what holds of pictures."""
    evidence = evidence_of(open_bundle(BUILTIN / "synthetic-face", None))
    by_source = _judged(data)
    random = np.random.default_rng(_SEED)
    for title, names in (("known sources, in every mixture", known), ("sources no training showed", None)):
        chosen = {name: one for name, one in by_source.items() if (name in known) == (names is not None)}
        if not chosen:
            continue
        windows = []
        for _ in range(_DRAWS):
            shares = random.dirichlet(np.ones(len(chosen)))
            sizes = random.multinomial(_PICTURES, shares)
            drawn = [
                one.at(random.choice(len(one.scores), size)) for one, size in zip(chosen.values(), sizes, strict=True)
            ]
            windows.append(Window(*(np.concatenate(parts) for parts in zip(*drawn, strict=True))))
        yield from told(f"{title}: {', '.join(chosen)}", windows, evidence.doubt)
        yield from told("the same, were the calibration exact", windows, None)


def _judged(data: Path) -> Mapping[str, Window]:
    found: dict[str, Window] = {}
    with tempfile.TemporaryDirectory() as home, Discern(load_settings({"DISCERN_HOME": home})) as discern:
        for source in sorted(path for path in data.iterdir() if path.is_dir()):
            rows: list[tuple[float, int, bool]] = []
            for label in ("authentic", "synthetic"):
                for path in sorted((source / label).glob("*")):
                    try:
                        verdict = discern.detect(path, "synthetic-face")
                    except CallerError:
                        continue
                    rows.append((verdict.score, CODES.index(verdict.decision), label == "synthetic"))
            scores, codes, positive = zip(*rows, strict=True)
            found[source.name] = Window(np.array(scores), np.array(codes), np.array(positive))
    return found


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("payments", "faces"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--known", nargs="*", default=["stable-diffusion"])
    given = parser.parse_args()
    for line in payments(given.data) if given.what == "payments" else faces(given.data, given.known):
        print(line, flush=True)


if __name__ == "__main__":
    main()
