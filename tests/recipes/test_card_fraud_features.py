"""The fifteen features: equal to their definition, blind to the future, and seven days late with labels."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from recipes.card_fraud.features import FEATURES, compute_features

DAY = pd.Timedelta(days=1)


def make_transactions(seed: int = 3, count: int = 450) -> pd.DataFrame:
    """Payments of 12 customers at 9 terminals over 55 days, many at the same second, rows in no order."""
    random = np.random.default_rng(seed)
    seconds = random.integers(0, 55 * 86_400, count)
    # Whole days apart and equal instants: the borders of the windows and the ties are where mistakes would be.
    seconds[: count // 3] = seconds[: count // 3] // 86_400 * 86_400 + 43_200
    transactions = pd.DataFrame(
        {
            "TRANSACTION_ID": random.permutation(count),
            "TX_DATETIME": pd.Timestamp("2018-04-01") + pd.to_timedelta(seconds, unit="s"),
            "CUSTOMER_ID": random.integers(0, 12, count) * 37,
            "TERMINAL_ID": random.integers(0, 9, count) + 1000,
            "TX_AMOUNT": np.round(random.gamma(2.0, 30.0, count), 2),
            "TX_FRAUD": (random.random(count) < 0.15).astype(np.int64),
        }
    )
    return transactions.reset_index(drop=True)


def literal_features(payments: list[dict[str, Any]], this: dict[str, Any]) -> list[float]:
    """The features of one payment, written down as the handbook defines them."""
    now = this["TX_DATETIME"]
    values = [this["TX_AMOUNT"], float(now.weekday() >= 5), float(now.hour <= 6)]
    so_far = [
        other
        for other in payments
        if other["CUSTOMER_ID"] == this["CUSTOMER_ID"]
        and (other["TX_DATETIME"], other["TRANSACTION_ID"]) <= (now, this["TRANSACTION_ID"])
    ]
    for days in (1, 7, 30):
        amounts = [other["TX_AMOUNT"] for other in so_far if other["TX_DATETIME"] > now - timedelta(days=days)]
        values += [float(len(amounts)), sum(amounts) / len(amounts)]
    known = [
        other
        for other in payments
        if other["TERMINAL_ID"] == this["TERMINAL_ID"] and other["TX_DATETIME"] <= now - timedelta(days=7)
    ]
    for days in (1, 7, 30):
        frauds = [other["TX_FRAUD"] for other in known if other["TX_DATETIME"] > now - timedelta(days=7 + days)]
        values += [float(len(frauds)), sum(frauds) / len(frauds) if frauds else 0.0]
    return values


@pytest.fixture(scope="module")
def transactions() -> pd.DataFrame:
    return make_transactions()


@pytest.fixture(scope="module")
def features(transactions: pd.DataFrame) -> NDArray[np.float32]:
    return compute_features(transactions)


def test_every_feature_equals_its_literal_definition(transactions: pd.DataFrame, features: NDArray[np.float32]) -> None:
    payments = [{str(key): value for key, value in row.items()} for row in transactions.to_dict("records")]
    expected = np.array([literal_features(payments, payment) for payment in payments])
    assert features.shape == (len(transactions), len(FEATURES)) == (450, 15)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert (features[:, 14] > 0).mean() > 0.3, "many terminals must have a risk for this comparison to say something"


def test_a_label_inside_the_last_seven_days_changes_no_feature(
    transactions: pd.DataFrame, features: NDArray[np.float32]
) -> None:
    when = transactions["TX_DATETIME"]
    for now in (pd.Timestamp("2018-04-20 12:00:00"), pd.Timestamp("2018-05-10 12:00:00")):
        flipped = transactions.copy()
        recent = when > now - 7 * DAY
        flipped.loc[recent, "TX_FRAUD"] = 1 - flipped.loc[recent, "TX_FRAUD"]
        known = (when <= now).to_numpy()
        assert (recent.to_numpy() & known).sum() > 20
        np.testing.assert_array_equal(compute_features(flipped)[known], features[known])


def test_a_label_is_used_once_it_is_seven_days_old(transactions: pd.DataFrame, features: NDArray[np.float32]) -> None:
    when = transactions["TX_DATETIME"]
    noon = pd.Timestamp("2018-05-01 12:00:00")
    seen_again = transactions["TERMINAL_ID"].isin(transactions["TERMINAL_ID"][when == noon + 7 * DAY])
    at_noon = (when == noon) & seen_again
    flipped = transactions.copy()
    flipped.loc[at_noon, "TX_FRAUD"] = 1 - flipped.loc[at_noon, "TX_FRAUD"]
    changed = (compute_features(flipped) != features).any(axis=1)
    assert changed.any()
    assert when[changed].min() == noon + 7 * DAY


def test_later_payments_change_nothing(transactions: pd.DataFrame, features: NDArray[np.float32]) -> None:
    now = pd.Timestamp("2018-05-05 12:00:00")
    until = (transactions["TX_DATETIME"] <= now).to_numpy()
    assert 100 < until.sum() < 400
    np.testing.assert_array_equal(compute_features(transactions[until]), features[until])

    altered = transactions.copy()
    altered.loc[~until, "TX_AMOUNT"] = 9_999_999.99
    altered.loc[~until, "TX_FRAUD"] = 1
    np.testing.assert_array_equal(compute_features(altered)[until], features[until])


def test_the_order_of_the_rows_does_not_matter(transactions: pd.DataFrame, features: NDArray[np.float32]) -> None:
    order = np.random.default_rng(5).permutation(len(transactions))
    np.testing.assert_array_equal(compute_features(transactions.iloc[order]), features[order])


def test_no_transactions_is_an_error(transactions: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no transactions"):
        compute_features(transactions.iloc[:0])
