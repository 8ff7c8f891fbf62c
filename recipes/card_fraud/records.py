"""Payments as the records that `card-fraud` takes: `python -m recipes.card_fraud.records --data DIR --out DIR`.

DIR of `--data` holds `transactions.parquet` with the columns of the Fraud Detection Handbook. `payments.parquet` is
written: the fifteen features of every payment, and `fraud`, `customer` and `time`, for `discern dataset freeze`.

Invariants:
- Features are computed over all payments before any is left out, so that the first day kept has its past.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from recipes.card_fraud.features import FEATURES, compute_features
from recipes.card_fraud.protocol import DATA_FILE

RECORDS_FILE = "payments.parquet"
_BOOLEAN = ("weekend", "night")


def records_of(transactions: pd.DataFrame, first: str | None = None, last: str | None = None) -> pd.DataFrame:
    """Return the records, in the order of `transactions`, of the days from `first` to `last` (ISO 8601), both included.

    Columns are those of `FEATURES` in the types of the detector's fields, `fraud` (0 or 1), `customer` and `time`.
    """
    records = pd.DataFrame(compute_features(transactions), columns=list(FEATURES))
    for name in FEATURES:
        if name in _BOOLEAN:
            records[name] = records[name] > 0
        elif "_count_" in name:
            records[name] = records[name].astype("int64")
    records["fraud"] = transactions["TX_FRAUD"].to_numpy()
    records["customer"] = transactions["CUSTOMER_ID"].to_numpy()
    records["time"] = transactions["TX_DATETIME"].to_numpy()
    days = records["time"].dt.strftime("%Y-%m-%d")
    kept = pd.Series(data=True, index=records.index)
    if first is not None:
        kept &= days >= first
    if last is not None:
        kept &= days <= last
    return records[kept].reset_index(drop=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write payments as the records that the card-fraud detector takes.")
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {DATA_FILE}")
    parser.add_argument("--out", type=Path, required=True, help=f"folder to write {RECORDS_FILE} into")
    parser.add_argument("--first", help="first day to keep, such as 2018-07-01; left out: the first there is")
    parser.add_argument("--last", help="last day to keep; left out: the last there is")
    arguments = parser.parse_args()
    records = records_of(pd.read_parquet(arguments.data / DATA_FILE), arguments.first, arguments.last)
    if records.empty:
        parser.error("no payment is on those days")
    arguments.out.mkdir(parents=True, exist_ok=True)
    records.to_parquet(arguments.out / RECORDS_FILE, index=False)
    print(f"{len(records):,} payments, {int(records['fraud'].sum()):,} of them fraud: {arguments.out / RECORDS_FILE}")


if __name__ == "__main__":
    main()
