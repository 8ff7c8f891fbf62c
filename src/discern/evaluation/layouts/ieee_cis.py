"""IEEE-CIS fraud detection (Vesta, 2019): `train_transaction.csv` and, for some payments, `train_identity.csv`.

`test_transaction.csv` has no labels and is left alone. No customer is named: `card1` is the nearest thing to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from discern.evaluation.layouts.reading import check_options, nothing_found
from discern.evaluation.layouts.table import conditions_of
from discern.evaluation.types_datasets import Columns, FoundTable, Join

OPTIONS: Mapping[str, str] = {
    "group": "The column of the group; card1 where left out.",
    "where": "Conditions on rows, such as ProductCD==W.",
}
_CAVEAT = (
    "No customer is named: payments are grouped by {}, which joins customers and may part one. Times are counted from "
    "a start that is not published."
)


def find(root: Path, options: Mapping[str, str]) -> FoundTable:
    """Return the transactions with their identities. Raises DatasetRefused."""
    check_options("ieee-cis", OPTIONS, options)
    transactions, identities = _file(root, "train_transaction"), _file(root, "train_identity")
    if transactions is None:
        raise nothing_found("ieee-cis", "train_transaction.csv, and beside it train_identity.csv")
    group = options.get("group", "card1")
    columns = Columns(
        label="isFraud",
        group=group,
        amount="TransactionAmt",
        at="TransactionDT",
        at_unit="seconds",
        card=group,
        identifier="TransactionID",
        subgroups=("ProductCD",),
    )
    return FoundTable(
        ("genuine", "fraud"),
        (transactions,),
        columns,
        conditions_of(options.get("where", "")),
        None if identities is None else Join(identities, "TransactionID"),
        (_CAVEAT.format(group),),
    )


def _file(root: Path, name: str) -> str | None:
    return next((path for path in (f"{name}.csv", f"{name}.parquet") if (root / path).is_file()), None)
