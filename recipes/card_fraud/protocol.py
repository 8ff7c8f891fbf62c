"""The published train, delay and test protocol of the handbook, as row indices.

Invariants:
- Seven days of training, seven days of delay, seven days of test.
- A test day holds no customer of whom a fraud was known by then: one that fell into the training days, or into the days
  up to the label delay before that test day.
- Scores are calibrated on `CALIBRATION_STARTS` only, parameters and thresholds chosen on `VALIDATION_STARTS` only;
  `TEST_STARTS` are looked at once, with all choices made. The test days of the three follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DATA_FILE = "transactions.parquet"
TRAIN_DAYS = 7
DELAY_DAYS = 7
TEST_DAYS = 7

CALIBRATION_STARTS = (date(2018, 5, 23), date(2018, 5, 30), date(2018, 6, 6), date(2018, 6, 13))
"""First training days of the folds on which scores are calibrated; the handbook does not use them."""

VALIDATION_STARTS = (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11))
"""First training days of the folds on which parameters and thresholds are chosen."""

BASELINE_START = date(2018, 7, 25)
"""First training day of the fold that the handbook uses for untuned models."""

LONG_TRAIN_DAYS = 28
"""What longer training is tried with, on the validation folds. It is not the published protocol."""

TEST_STARTS = (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15))
"""First training days of the four test folds."""


@dataclass(frozen=True)
class Fold:
    """Row positions (int64) of one fold's training and test payments, in the order of their identifiers."""

    start: date
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def train_period(self) -> str:
        """First and last training day."""
        return f"{self.start} to {self.start + timedelta(days=TRAIN_DAYS - 1)}"

    @property
    def test_days(self) -> tuple[date, date]:
        """First and last test day."""
        first = self.start + timedelta(days=TRAIN_DAYS + DELAY_DAYS)
        return first, first + timedelta(days=TEST_DAYS - 1)

    @property
    def test_period(self) -> str:
        """First and last test day, as text."""
        return "{} to {}".format(*self.test_days)


def days_since_epoch(transactions: pd.DataFrame) -> NDArray[np.int64]:
    """Day of each payment, counted from 1970-01-01."""
    return transactions["TX_DATETIME"].to_numpy().astype("datetime64[D]").astype(np.int64)


def make_fold(transactions: pd.DataFrame, start: date, *, train_days: int = TRAIN_DAYS) -> Fold:
    """The fold whose training starts on `start`.

    `transactions` holds TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID and TX_FRAUD. With more than the protocol's
    `train_days` the training payments begin that much earlier, and the test payments stay the same. Raises ValueError
    when the days asked for are not all there.
    """
    days = days_since_epoch(transactions)
    customers = transactions["CUSTOMER_ID"].to_numpy()
    fraud = transactions["TX_FRAUD"].to_numpy() == 1
    first = int(np.datetime64(start, "D").astype(np.int64))
    last = first + TRAIN_DAYS + DELAY_DAYS + TEST_DAYS - 1
    begin = first + TRAIN_DAYS - train_days
    if begin < days.min() or last > days.max():
        raise ValueError(f"no complete fold starts on {start}: the transactions do not cover all its days")
    test_days = []
    for day in range(first + TRAIN_DAYS + DELAY_DAYS, last + 1):
        defrauded = np.unique(customers[fraud & (days >= first) & (days < day - DELAY_DAYS)])
        test_days.append(np.flatnonzero((days == day) & ~np.isin(customers, defrauded)))
    train = np.flatnonzero((days >= begin) & (days < first + TRAIN_DAYS))
    identifiers = transactions["TRANSACTION_ID"].to_numpy()
    test = np.concatenate(test_days)
    return Fold(start, train[np.argsort(identifiers[train])], test[np.argsort(identifiers[test])])


def last_complete_start(transactions: pd.DataFrame) -> date:
    """First training day of the last fold that fits before the end of the transactions."""
    last_day = transactions["TX_DATETIME"].max().date()
    return date.fromordinal(last_day.toordinal() - TRAIN_DAYS - DELAY_DAYS - TEST_DAYS + 1)
