"""Payments of customers who do not exist, as the detector `card-fraud` takes them.

They are drawn as chapter 3 of the *Reproducible Machine Learning for Credit Card Fraud Detection: Practical Handbook*
(Le Borgne, Siblini, Lebichot, Bontempi) describes, which is what the shipped detector was made on: customers with
habits, terminals near them, and three kinds of fraud.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recipes.card_fraud.features import FEATURES
from recipes.card_fraud.records import records_of

_START = "2026-01-01"
_PAST_DAYS, _DAYS = 40, 14
_TERMINALS_PER_CUSTOMER = 2
_REACH = 5.0
# Of 5,000 customers and 10,000 terminals each day: so many begin to be used by somebody else, for so many days.
_STOLEN, _STOLEN_DAYS = 3 / 5000, 14
_TAPPED, _TAPPED_DAYS = 2 / 10000, 28


def payments(customers: int, *, times_dearer: float = 1.0, seed: int = 7) -> list[dict[str, Any]]:
    """Return records of two weeks in no order; `times_dearer` is what every amount of these is multiplied by."""
    rng = np.random.default_rng(seed)
    table = _transactions(customers, rng)
    recent = table["day"] >= _PAST_DAYS
    table.loc[recent, "TX_AMOUNT"] = (table.loc[recent, "TX_AMOUNT"] * times_dearer).round(2)
    first = str(np.datetime64(_START) + _PAST_DAYS)
    records = records_of(table, first=first)[list(FEATURES)]
    shuffled = records.iloc[rng.permutation(len(records))]
    return [{str(name): value for name, value in row.items()} for row in shuffled.to_dict("records")]


def _transactions(customers: int, rng: np.random.Generator) -> pd.DataFrame:
    days, terminals = _PAST_DAYS + _DAYS, customers * _TERMINALS_PER_CUSTOMER
    # As dense as with 5,000 customers on a square of 100 by 100.
    side = 100 * (customers / 5000) ** 0.5
    homes, places = rng.uniform(0, side, (customers, 2)), rng.uniform(0, side, (terminals, 2))
    spends, often = rng.uniform(5, 100, customers), rng.uniform(0, 4, customers)
    counts = rng.poisson(np.repeat(often, days))
    customer = np.repeat(np.repeat(np.arange(customers), days), counts)
    day = np.repeat(np.tile(np.arange(days), customers), counts)
    second = rng.normal(43200, 20000, len(day))
    inside = (second > 0) & (second < 86400)
    customer, day, second = customer[inside], day[inside], second[inside]
    near = [np.flatnonzero(((places - home) ** 2).sum(axis=1) < _REACH**2) for home in homes]
    reached = np.array([len(near[one]) > 0 for one in range(customers)])[customer]
    customer, day, second = customer[reached], day[reached], second[reached]
    terminal = np.array([rng.choice(near[one]) for one in customer])
    amount = rng.normal(spends[customer], spends[customer] / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * spends[customer]), amount)
    stolen = _begun(customers, days, _STOLEN * customers, _STOLEN_DAYS, rng)[customer, day]
    stolen &= rng.random(len(day)) < 1 / 3
    tapped = _begun(terminals, days, _TAPPED * terminals, _TAPPED_DAYS, rng)[terminal, day]
    amount = np.where(stolen, amount * 5, amount).round(2)
    when = np.datetime64(_START) + day * np.timedelta64(86400, "s") + second.astype("timedelta64[s]")
    table = pd.DataFrame(
        {
            "TX_DATETIME": when,
            "CUSTOMER_ID": customer,
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": amount,
            "TX_FRAUD": (stolen | tapped | (amount > 220)).astype(np.int64),
            "day": day,
        }
    ).sort_values("TX_DATETIME", ignore_index=True)
    return table.assign(TRANSACTION_ID=np.arange(len(table)))


def _begun(many: int, days: int, each_day: float, lasts: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Tell of each one and day whether it is in the hands of somebody else."""
    found = np.zeros((many, days), dtype=bool)
    for day in range(days):
        for one in rng.integers(0, many, rng.poisson(each_day)):
            found[one, day : day + lasts] = True
    return found
