"""The fraud model: boosted trees over the fifteen features and, optionally, ratios and products of them.

The ratios say how unusual a payment is *for its customer* (amount against the customer's own mean, today's count
against the usual one). The products are the frauds known of the terminal: a share of one is another thing after one
payment than after thirty. A tree that splits on one column at a time needs many splits to say the same. They are
functions of the fifteen features, computed inside the model, so a caller gives fifteen values either way.

Invariants:
- Ratios and products are single float32 operations, so that the ONNX graph gets the same bits as training did.
- The probability is sigmoid(mean over members of their margins); a member is one boosted model, differing by its seed.
- `tree_method="exact"` and `base_score=0.5`, as in the handbook; the library's own defaults lose average precision on
  these data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from recipes.card_fraud.features import FEATURES

RATIOS = (
    ("amount", "customer_mean_amount_7d"),
    ("amount", "customer_mean_amount_30d"),
    ("customer_mean_amount_1d", "customer_mean_amount_30d"),
    ("customer_mean_amount_7d", "customer_mean_amount_30d"),
    ("customer_count_1d", "customer_count_30d"),
    ("customer_count_7d", "customer_count_30d"),
)
"""Numerator and denominator of each ratio."""

PRODUCTS = (
    ("terminal_count_7d", "terminal_risk_7d"),
    ("terminal_count_30d", "terminal_risk_30d"),
)
"""Count and share whose product is the number of known frauds."""

SMALLEST_DENOMINATOR = np.float32(0.01)
"""One minor unit of the currency: a customer whose payments were all 0.00 has no division by zero."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of the boosted trees; the names are XGBoost's. `members` models with different seeds are averaged."""

    ratios: bool = True
    products: bool = False
    n_estimators: int = 100
    learning_rate: float = 0.1
    max_depth: int = 3
    min_child_weight: float = 1.0
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    colsample_bylevel: float = 1.0
    members: int = 1

    def __str__(self) -> str:
        parts = [f"{self.n_estimators} trees, rate {self.learning_rate:g}, depth {self.max_depth}"]
        if self.min_child_weight != 1:
            parts.append(f"min_child_weight {self.min_child_weight:g}")
        if self.subsample != 1:
            parts.append(f"{self.subsample:g} of the rows")
        if self.colsample_bytree != 1:
            parts.append(f"{self.colsample_bytree:g} of the columns a tree")
        if self.colsample_bylevel != 1:
            parts.append(f"{self.colsample_bylevel:g} of the columns a level")
        parts.append("with ratios" if self.ratios else "without ratios")
        if self.products:
            parts.append("with products")
        if self.members > 1:
            parts.append(f"mean of {self.members} seeds")
        return ", ".join(parts)


PUBLISHED = Parameters(ratios=False)
"""XGBoost as the handbook has it after tuning: the model to match."""

CANDIDATES = (
    PUBLISHED,
    Parameters(subsample=0.6, colsample_bytree=0.6, members=3),
    Parameters(products=True, subsample=0.6, colsample_bytree=0.6),
    Parameters(products=True, subsample=0.6, colsample_bytree=0.6, members=3),
    Parameters(products=True, n_estimators=200, learning_rate=0.05, max_depth=5, subsample=0.6, colsample_bylevel=0.6),
)
"""What is compared on the validation folds."""


def model_columns(features: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    """The columns the trees see: the features [N, 15], then the ratios [N, 6] and the products [N, 2] where wanted."""
    column = {name: features[:, position] for position, name in enumerate(FEATURES)}
    parts: list[NDArray[Any]] = [features]
    if parameters.ratios:
        parts += [column[over] / np.maximum(column[under], SMALLEST_DENOMINATOR) for over, under in RATIOS]
    if parameters.products:
        parts += [column[count] * column[share] for count, share in PRODUCTS]
    return np.column_stack(parts)


@dataclass(frozen=True)
class Trees:
    """All trees of the averaged members as flat arrays with one entry a node, trees one after another.

    `left` and `right` are positions in the tree, -1 in a leaf; `threshold` sends a row left when its value is below it;
    `leaf` is the leaf's share of the mean margin.
    """

    tree: NDArray[np.int64]
    node: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    leaf: NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A trained model."""

    parameters: Parameters
    members: tuple[xgboost.Booster, ...]

    def probability(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of fraud [N] of features [N, 15], computed by XGBoost itself."""
        matrix = xgboost.DMatrix(model_columns(features, self.parameters))
        margins = [member.predict(matrix, output_margin=True).astype(np.float64) for member in self.members]
        result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.mean(margins, axis=0)))
        return result

    def trees(self) -> Trees:
        """Every tree of every member, read from XGBoost's own description of the model."""
        trees = [tree for member in self.members for tree in _described_trees(member)]
        sizes = [len(tree["left_children"]) for tree in trees]

        def joined(key: str) -> NDArray[np.float64]:
            return np.concatenate([np.asarray(tree[key], dtype=np.float64) for tree in trees])

        conditions = joined("split_conditions").astype(np.float32)
        left = joined("left_children").astype(np.int64)
        return Trees(
            tree=np.repeat(np.arange(len(trees)), sizes),
            node=np.concatenate([np.arange(size) for size in sizes]),
            left=left,
            right=joined("right_children").astype(np.int64),
            column=joined("split_indices").astype(np.int64),
            threshold=np.where(left >= 0, conditions, np.float32(0)),
            missing_left=joined("default_left").astype(np.bool_),
            leaf=np.where(left < 0, conditions / np.float32(len(self.members)), np.float32(0)),
        )


def _described_trees(member: xgboost.Booster) -> list[dict[str, Any]]:
    learner = json.loads(bytes(member.save_raw("json")))["learner"]
    trees: list[dict[str, Any]] = learner["gradient_booster"]["model"]["trees"]
    return trees


def train(
    features: NDArray[np.float32], fraud: NDArray[np.bool_], parameters: Parameters, *, seed: int, threads: int = 2
) -> Model:
    """Train on features [N, 15] and labels [N]; the same arguments give the same model, whatever the threads."""
    matrix = xgboost.DMatrix(model_columns(features, parameters), label=fraud.astype(np.float32))
    settings = {
        "objective": "binary:logistic",
        "tree_method": "exact",
        "base_score": 0.5,
        "learning_rate": parameters.learning_rate,
        "max_depth": parameters.max_depth,
        "min_child_weight": parameters.min_child_weight,
        "subsample": parameters.subsample,
        "colsample_bytree": parameters.colsample_bytree,
        "colsample_bylevel": parameters.colsample_bylevel,
        "nthread": threads,
    }
    members = [
        xgboost.train({**settings, "seed": seed + member}, matrix, num_boost_round=parameters.n_estimators)
        for member in range(parameters.members)
    ]
    return Model(parameters, tuple(members))
