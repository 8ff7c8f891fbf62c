"""Fifteen features of a card payment, computed for all payments at once.

The features are those of the *Reproducible Machine Learning for Credit Card Fraud Detection: Practical Handbook*
(Le Borgne, Siblini, Lebichot, Bontempi): the payment itself, the customer's habits, the terminal's past frauds.

Invariants:
- A feature of a payment depends on that payment and on earlier ones only; payments of the same instant count as earlier
  when their identifier is smaller.
- A fraud label takes effect seven days after its payment at the earliest, since that is when a bank knows of it.
- Sums are taken over integers (minor units of the currency), so that no payment changes the rounding of another's
  feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DAY = 86_400_000_000
"""Microseconds in a day."""

WINDOWS_DAYS = (1, 7, 30)
"""Lengths of the windows over which a customer and a terminal are summed up."""

LABEL_DELAY_DAYS = 7
"""Days after which the label of a payment is known."""

LAST_NIGHT_HOUR = 6
"""The night runs from 00:00 to 06:59, as in the handbook."""

FEATURES = (
    "amount",
    "weekend",
    "night",
    *(f"customer_{measure}_{days}d" for days in WINDOWS_DAYS for measure in ("count", "mean_amount")),
    *(f"terminal_{measure}_{days}d" for days in WINDOWS_DAYS for measure in ("count", "risk")),
)
"""Names of the features in the order of the model's input columns."""


@dataclass(frozen=True)
class _Groups:
    """Payments ordered by group, then time, then identifier, with one growing key over all groups.

    `order` maps a sorted position to a row, `keys` holds the sorted keys (microseconds, one stretch for each group).
    """

    order: NDArray[np.int64]
    keys: NDArray[np.int64]

    def running_sum(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sum of `values` (by row) before each sorted position; one longer than the rows."""
        total = np.zeros(len(self.order) + 1, dtype=np.int64)
        np.cumsum(values[self.order], out=total[1:])
        return total

    def first_after(self, microseconds_ago: int) -> NDArray[np.int64]:
        """For each sorted position, the first one of the same group that is less than so long ago."""
        return np.searchsorted(self.keys, self.keys - microseconds_ago, side="right")

    def to_rows(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Bring `values`, given by sorted position, back to the order of the rows."""
        out = np.empty(len(values), dtype=np.float32)
        out[self.order] = values
        return out


def _group(groups: NDArray[np.int64], times: NDArray[np.int64], identifiers: NDArray[np.int64]) -> _Groups:
    order = np.lexsort((identifiers, times, groups))
    codes = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    # A gap longer than the longest look-back keeps one group's look-back out of the group before it.
    stretch = int(times.max() - times.min()) + (LABEL_DELAY_DAYS + max(WINDOWS_DAYS) + 1) * DAY
    keys = codes[order] * stretch + (times[order] - times.min())
    return _Groups(order=order, keys=keys)


def _customer_columns(customers: _Groups, minor_units: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Count and mean amount over (t - window, t], the payment itself included."""
    spent = customers.running_sum(minor_units)
    end = np.arange(1, len(customers.order) + 1)
    for days in WINDOWS_DAYS:
        start = customers.first_after(days * DAY)
        count = end - start
        yield customers.to_rows(count.astype(np.float64))
        yield customers.to_rows((spent[end] - spent[start]) / (100.0 * count))


def _terminal_columns(terminals: _Groups, frauds: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """Count and share of frauds over (t - delay - window, t - delay]; a window without payments has risk 0."""
    known = terminals.running_sum(frauds)
    end = terminals.first_after(LABEL_DELAY_DAYS * DAY)
    for days in WINDOWS_DAYS:
        start = terminals.first_after((LABEL_DELAY_DAYS + days) * DAY)
        count = end - start
        yield terminals.to_rows(count.astype(np.float64))
        yield terminals.to_rows((known[end] - known[start]) / np.maximum(count, 1))


def compute_features(transactions: pd.DataFrame) -> NDArray[np.float32]:
    """Features of every payment, float32 [N, 15], rows in the order given, columns as in `FEATURES`.

    `transactions` holds TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT (currency units with at most
    two decimals) and TX_FRAUD (0 or 1; what lies within the label delay is not looked at). Raises KeyError when a
    column is missing and ValueError when there is no row.
    """
    if len(transactions) == 0:
        raise ValueError("no transactions to compute features of")
    when = transactions["TX_DATETIME"].to_numpy().astype("datetime64[us]")
    times = when.astype(np.int64)
    identifiers = transactions["TRANSACTION_ID"].to_numpy(np.int64)
    amount = transactions["TX_AMOUNT"].to_numpy(np.float64)
    # Day 0 of the epoch was a Thursday; 5 and 6 are Saturday and Sunday.
    weekday = (times // DAY + 3) % 7
    hour = times % DAY // (DAY // 24)
    customers = _group(transactions["CUSTOMER_ID"].to_numpy(np.int64), times, identifiers)
    terminals = _group(transactions["TERMINAL_ID"].to_numpy(np.int64), times, identifiers)
    columns = [
        amount.astype(np.float32),
        (weekday >= 5).astype(np.float32),
        (hour <= LAST_NIGHT_HOUR).astype(np.float32),
        *_customer_columns(customers, np.rint(amount * 100).astype(np.int64)),
        *_terminal_columns(terminals, transactions["TX_FRAUD"].to_numpy(np.int64)),
    ]
    return np.column_stack(columns)
