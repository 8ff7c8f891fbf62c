"""The protocol: whole weeks, and nobody in the test who was known to be defrauded."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from recipes.card_fraud.protocol import (
    CALIBRATION_STARTS,
    TEST_STARTS,
    VALIDATION_STARTS,
    last_complete_start,
    make_fold,
)

START = date(2018, 4, 3)


def make_transactions() -> pd.DataFrame:
    """One payment of each of 30 customers on each of 24 days; customers 1 to 23 have one fraud, on that day."""
    day, customer = (part.ravel() for part in np.meshgrid(np.arange(24), np.arange(30), indexing="ij"))
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(day)),
            "TX_DATETIME": pd.Timestamp("2018-04-01 09:00") + pd.to_timedelta(day * 24, unit="h"),
            "CUSTOMER_ID": customer,
            "TX_FRAUD": ((customer == day) & (customer > 0)).astype(np.int64),
        }
    )


def test_a_fold_is_a_week_a_week_of_delay_and_a_week() -> None:
    transactions = make_transactions()
    fold = make_fold(transactions, START)
    when = transactions["TX_DATETIME"].dt.date
    assert (when[fold.train].min(), when[fold.train].max()) == (date(2018, 4, 3), date(2018, 4, 9))
    assert (when[fold.test].min(), when[fold.test].max()) == fold.test_days == (date(2018, 4, 17), date(2018, 4, 23))
    assert len(fold.train) == 7 * 30


def test_a_customer_is_left_out_from_the_day_their_fraud_is_known() -> None:
    transactions = make_transactions()
    fold = make_fold(transactions, START)
    test = transactions.iloc[fold.test]
    for position, day in enumerate(range(16, 23)):
        of_day = test[test["TX_DATETIME"].dt.date == date(2018, 4, 1 + day)]
        # Known by then: frauds of the training days 2 to 8, and of the days up to a week before.
        known = set(range(2, max(9, day - 7)))
        assert set(of_day["CUSTOMER_ID"]) == set(range(30)) - known, position
    # A fraud before the training week is not looked at, one inside the delay is not known yet.
    assert {1, 16} <= set(test["CUSTOMER_ID"])


def test_the_last_complete_fold_fits_and_the_next_does_not() -> None:
    transactions = make_transactions()
    start = last_complete_start(transactions)
    assert make_fold(transactions, start).test_days[1] == date(2018, 4, 24)
    with pytest.raises(ValueError, match="do not cover"):
        make_fold(transactions, date.fromordinal(start.toordinal() + 1))
    with pytest.raises(ValueError, match="do not cover"):
        make_fold(transactions, date(2018, 3, 31))


def test_longer_training_begins_earlier_and_tests_the_same() -> None:
    transactions = make_transactions()
    fold, longer = make_fold(transactions, START), make_fold(transactions, START, train_days=9)
    np.testing.assert_array_equal(fold.test, longer.test)
    when = transactions["TX_DATETIME"].dt.date
    assert (when[longer.train].min(), when[longer.train].max()) == (date(2018, 4, 1), date(2018, 4, 9))
    with pytest.raises(ValueError, match="do not cover"):
        make_fold(transactions, START, train_days=10)


def test_what_calibrates_what_decides_and_what_measures_are_weeks_of_their_own() -> None:
    starts = [*CALIBRATION_STARTS, *VALIDATION_STARTS, *TEST_STARTS]
    assert all(later - earlier >= timedelta(days=7) for earlier, later in pairwise(starts))
