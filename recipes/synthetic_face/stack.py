"""Fits one stage: specialists on forensic features, a kernel machine, and a quadratic stack over their scores.

The specialists are ridge regressions, one for each generator against each source of photographs. Trained on one pair
each, they do not learn to tell sources apart where the pair comes from one source. The stack learns when to trust
which; a transfer term keeps a share of the specialist whose pair shares its processing, the one that carries over
best to generators it has not seen.

Invariants:

- What the stack is fitted on was predicted by models that did not see the row's fold.
- Feature scaling and principal axes use no label.
- All linear algebra is in float64 but the Gram matrix, which is summed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

CLIP = 6.0
SCALE_FLOOR = 1e-4


@dataclass(frozen=True)
class StackSettings:
    """Sizes and penalties of one stage."""

    ridge: float = 0.2
    axes: int = 256
    landmarks: int = 1200
    kernel_width: float = 1.0
    kernel_ridge: float = 0.003
    stack_inverse_penalty: float = 0.01
    transfer: float = 1.0
    clean_weight: float = 1.5
    augmented_weight: float = 0.5


@dataclass(frozen=True)
class Rows:
    """Training rows: `features` float32 [n, features]; `kind` is source/class, `view` 0 clean, 1 and up augmented."""

    features: NDArray[np.float32]
    kind: NDArray[np.str_]
    label: NDArray[np.int64]
    view: NDArray[np.int64]
    fold: NDArray[np.int64]


@dataclass(frozen=True)
class Specialist:
    """A ridge regression of the kinds in `positive` against those in `negative`."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    clean_only: bool = False

    @property
    def name(self) -> str:
        """Short name for tables."""
        suffix = " (clean views)" if self.clean_only else ""
        return f"{' + '.join(self.positive)} against {' + '.join(self.negative)}{suffix}"


@dataclass
class Kernel:
    """Radial basis kernel machine over whitened principal axes, on landmarks (Nystroem)."""

    landmarks: Floats
    weights: Floats
    offset: float
    gamma: float

    def score(self, axes: Floats) -> Floats:
        """Scores [n] of points [n, axes]."""
        return np.asarray(np.exp(-self.gamma * _distances(axes, self.landmarks)) @ self.weights + self.offset)


@dataclass
class FittedStack:
    """Everything the exported network of a stage holds."""

    mean: Floats
    scale: Floats
    specialists: list[Specialist]
    weights: Floats
    offsets: Floats
    axes: Floats
    kernel: Kernel
    centre: Floats
    spread: Floats
    linear: Floats
    quadratic: Floats
    intercept: float
    transfer_column: int
    transfer: float
    out_of_fold_columns: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def columns(self, features: NDArray[np.float32]) -> Floats:
        """Standardised scores [n, specialists + 1] of raw features."""
        scaled = np.clip((features - self.mean) / self.scale, -CLIP, CLIP)
        linear = scaled @ self.weights + self.offsets
        kernel = self.kernel.score(scaled @ self.axes)
        return np.asarray((np.column_stack([linear, kernel]) - self.centre) / self.spread)

    def log_odds(self, features: NDArray[np.float32]) -> Floats:
        """Uncalibrated log odds [n] of raw features."""
        return self.combine(self.columns(features))

    def combine(self, columns: Floats) -> Floats:
        """Log odds [n] of standardised columns."""
        return self.with_transfer(quadratic_odds(columns, self.linear, self.quadratic, self.intercept), columns)

    def with_transfer(self, odds: Floats, columns: Floats) -> Floats:
        """The stack's log odds plus the transfer share of its specialist."""
        return np.asarray(odds + self.transfer * np.clip(columns[:, self.transfer_column], -CLIP, CLIP))


def plan_specialists(kinds: Sequence[str]) -> list[Specialist]:
    """One for each generator and source of photographs, the photographs apart, matched pairs on clean views, all."""
    synthetic = tuple(sorted({kind for kind in kinds if kind.endswith("/synthetic")}))
    authentic = tuple(sorted({kind for kind in kinds if kind.endswith("/authentic")}))
    planned = [Specialist((made,), (photo,)) for made in synthetic for photo in authentic]
    planned += [Specialist((one,), (other,)) for i, one in enumerate(authentic) for other in authentic[i + 1 :]]
    matched = [(made, photo) for made in synthetic for photo in authentic if _source(made) == _source(photo)]
    planned += [Specialist((made,), (photo,), clean_only=True) for made, photo in matched]
    return [*planned, Specialist(synthetic, authentic)]


def fit_stack(rows: Rows, settings: StackSettings, transfer_pair: tuple[str, str], seed: int) -> FittedStack:
    """Specialists and kernel on all rows, the stack on their out-of-fold scores."""
    mean = rows.features.mean(0, dtype=np.float64)
    scale = rows.features.std(0, dtype=np.float64) + SCALE_FLOOR
    scaled = np.clip((rows.features - mean.astype(np.float32)) / scale.astype(np.float32), -CLIP, CLIP)
    gram = scaled @ scaled.T
    random = np.random.default_rng(seed)
    axes = _principal_axes(scaled, gram, settings.axes, random)
    points = (scaled @ axes.astype(np.float32)).astype(np.float64)
    planned = plan_specialists(sorted(set(rows.kind.tolist())))

    columns = np.zeros((len(rows.label), len(planned) + 1))
    for fold in sorted(set(rows.fold.tolist())):
        inside, outside = np.flatnonzero(rows.fold != fold), np.flatnonzero(rows.fold == fold)
        for position, specialist in enumerate(planned):
            chosen, dual, offset = _dual(gram, rows, specialist, inside, settings.ridge)
            columns[outside, position] = gram[np.ix_(outside, chosen)].astype(np.float64) @ dual + offset
        columns[outside, -1] = _kernel(points, rows, inside, settings, random).score(points[outside])

    everything = np.arange(len(rows.label))
    weights, offsets = np.zeros((scaled.shape[1], len(planned))), np.zeros(len(planned))
    for position, specialist in enumerate(planned):
        chosen, dual, offsets[position] = _dual(gram, rows, specialist, everything, settings.ridge)
        weights[:, position] = scaled[chosen].T.astype(np.float64) @ dual
    kernel = _kernel(points, rows, everything, settings, random)
    centre, spread = columns.mean(0), columns.std(0)
    standard = (columns - centre) / spread
    column = planned.index(Specialist((transfer_pair[0],), (transfer_pair[1],)))
    fitted = FittedStack(
        mean, scale, planned, weights, offsets, axes, kernel, centre, spread,
        np.zeros(0), np.zeros((0, 0)), 0.0, column, settings.transfer,
    )  # fmt: skip
    fitted.out_of_fold_columns = standard
    fitted.linear, fitted.quadratic, fitted.intercept = fit_quadratic(standard, rows, everything, settings)
    return fitted


def cross_fitted(columns: Floats, rows: Rows, settings: StackSettings) -> Floats:
    """Log odds of the stack where each fold is predicted by a stack fitted on the other folds' columns."""
    odds = np.zeros(len(columns))
    for fold in sorted(set(rows.fold.tolist())):
        outside = rows.fold == fold
        odds[outside] = quadratic_odds(
            columns[outside], *fit_quadratic(columns, rows, np.flatnonzero(~outside), settings)
        )
    return odds


def fit_quadratic(
    columns: Floats, rows: Rows, chosen: NDArray[np.int64], settings: StackSettings
) -> tuple[Floats, Floats, float]:
    """Linear weights, symmetric quadratic weights and intercept of a logistic regression on columns and products."""
    first, second = np.triu_indices(columns.shape[1])
    bent = np.clip(columns[chosen], -CLIP, CLIP)
    design = np.column_stack([bent, bent[:, first] * bent[:, second]])
    middle, deviation = design.mean(0), design.std(0) + 1e-9
    view = np.where(rows.view[chosen] == 0, settings.clean_weight, settings.augmented_weight)
    model = LogisticRegression(C=settings.stack_inverse_penalty, max_iter=5000, tol=1e-7)
    model.fit((design - middle) / deviation, rows.label[chosen], balanced(rows.kind[chosen], rows.label[chosen]) * view)
    coefficients = model.coef_[0] / deviation
    intercept = float(model.intercept_[0] - coefficients @ middle)
    count = columns.shape[1]
    quadratic = np.zeros((count, count))
    quadratic[first, second] = coefficients[count:]
    return coefficients[:count], (quadratic + quadratic.T) / 2, intercept


def quadratic_odds(columns: Floats, linear: Floats, quadratic: Floats, intercept: float) -> Floats:
    """Log odds of the stack alone."""
    bent = np.clip(columns, -CLIP, CLIP)
    return np.asarray(bent @ linear + np.einsum("ni,ij,nj->n", bent, quadratic, bent) + intercept)


def balanced(kind: NDArray[np.str_], label: NDArray[np.int64]) -> Floats:
    """Weights with mean 1: each class weighs the same, and kinds within it by the square root of their size."""
    weights = np.ones(len(kind))
    for name in sorted(set(kind.tolist())):
        weights[kind == name] = 1 / np.sqrt((kind == name).sum())
    for value in (0, 1):
        weights[label == value] /= weights[label == value].sum()
    return np.asarray(weights / weights.mean())


def _dual(
    gram: NDArray[np.float32], rows: Rows, specialist: Specialist, inside: NDArray[np.int64], ridge: float
) -> tuple[NDArray[np.int64], Floats, float]:
    """Rows used, their dual weights and the offset of one weighted ridge regression to +-1."""
    positive = np.isin(rows.kind, specialist.positive)
    used = positive | np.isin(rows.kind, specialist.negative)
    if specialist.clean_only:
        used &= rows.view == 0
    chosen = inside[used[inside]]
    weight = balanced(rows.kind[chosen], positive[chosen].astype(np.int64))
    target = np.where(positive[chosen], 1.0, -1.0)
    offset = float(np.average(target, weights=weight))
    block = gram[np.ix_(chosen, chosen)]
    size = float(np.trace(block, dtype=np.float64)) / len(chosen)
    block[np.diag_indices(len(chosen))] += (ridge * size / weight).astype(np.float32)
    dual = cho_solve(cho_factor(block, lower=True, overwrite_a=True), (target - offset).astype(np.float32))
    return chosen, dual.astype(np.float64), offset


def _kernel(
    points: Floats, rows: Rows, inside: NDArray[np.int64], settings: StackSettings, random: np.random.Generator
) -> Kernel:
    clean = inside[rows.view[inside] == 0]
    other = inside[rows.view[inside] > 0]
    share = settings.landmarks // 3
    picked = np.concatenate([
        random.choice(clean, min(len(clean), settings.landmarks - share), replace=False),
        random.choice(other, min(len(other), share), replace=False),
    ])  # fmt: skip
    landmarks = points[np.sort(picked)].astype(np.float16).astype(np.float64)
    between = _distances(landmarks, landmarks)
    gamma = settings.kernel_width / float(np.median(between))
    design = np.exp(-gamma * _distances(points[inside], landmarks))
    weight = balanced(rows.kind[inside], rows.label[inside])
    target = np.where(rows.label[inside] == 1, 1.0, -1.0)
    offset = float(np.average(target, weights=weight))
    prior = np.exp(-gamma * between)
    system = (design * weight[:, None]).T @ design + settings.kernel_ridge * prior
    system[np.diag_indices(len(system))] += 1e-7 * np.trace(system) / len(system)
    solved = cho_solve(cho_factor(system), (design * weight[:, None]).T @ (target - offset))
    return Kernel(landmarks, solved, offset, gamma)


def _principal_axes(
    scaled: NDArray[np.float32], gram: NDArray[np.float32], count: int, random: np.random.Generator
) -> Floats:
    """[features, count] axes; a coordinate's spread is the square root of its component's (half whitening)."""
    sample = np.sort(random.choice(len(gram), min(len(gram), 2500), replace=False))
    last = len(sample) - 1
    values, vectors = eigh(gram[np.ix_(sample, sample)].astype(np.float64), subset_by_index=[last - count + 1, last])
    axes = scaled[sample].T.astype(np.float64) @ (vectors / np.sqrt(values))
    spread = np.sqrt(values / len(sample))
    halved = axes / np.sqrt(spread)
    return np.asarray(halved.astype(np.float16), np.float64)


def _distances(left: Floats, right: Floats) -> Floats:
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return np.asarray(np.maximum(squared, 0))


def _source(kind: str) -> str:
    return kind.partition("/")[0]
