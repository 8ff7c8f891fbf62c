"""Transactions of the Fraud Detection Handbook (Le Borgne et al., 2022), as Parquet or CSV, in one file or one a day.

The handbook's own daily files are pickles. They are never opened: a pickle runs what its author wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.reading import check_options, files_below, nothing_found
from discern.evaluation.layouts.table import conditions_of
from discern.evaluation.types_datasets import Columns, FoundTable

OPTIONS: Mapping[str, str] = {"where": "Conditions on rows, such as TX_DATETIME>=2018-08-08;TX_DATETIME<2018-08-15."}
_COLUMNS = Columns(
    label="TX_FRAUD",
    group="CUSTOMER_ID",
    amount="TX_AMOUNT",
    at="TX_DATETIME",
    card="CUSTOMER_ID",
    identifier="TRANSACTION_ID",
    # The scenario says how a fraud was made, and is known of frauds only.
    subgroups=("TX_FRAUD_SCENARIO",),
    withheld=("TX_FRAUD_SCENARIO",),
)


def find(root: Path, options: Mapping[str, str]) -> FoundTable:
    """Return the tables, one after the other. Raises DatasetRefused."""
    check_options("fraud-handbook", OPTIONS, options)
    tables = files_below(root, frozenset({".parquet"})) or files_below(root, frozenset({".csv"}))
    if not tables and files_below(root, frozenset({".pkl", ".pickle"})):
        raise DatasetRefused(
            "Here are the handbook's pickles. Opening a pickle runs what is in it, so it is not done here.",
            mend="Convert them where you trust them: pandas.read_pickle(path).to_parquet(path + '.parquet').",
        )
    if not tables:
        raise nothing_found("fraud-handbook", "Parquet or CSV with TX_DATETIME, CUSTOMER_ID, TX_AMOUNT and TX_FRAUD")
    return FoundTable(
        ("genuine", "fraud"),
        tuple(tables),
        _COLUMNS,
        conditions_of(options.get("where", "")),
        caveats=("The transactions are simulated.",),
    )
