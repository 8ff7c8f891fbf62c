"""Credit card fraud of the Université Libre de Bruxelles (Dal Pozzolo et al., 2015): `creditcard.csv`.

Two days of payments; `Time` counts seconds from the first one, `V1` to `V28` are principal components, `Class` is 1 for
fraud.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from discern.evaluation.layouts.reading import check_options, files_below, nothing_found
from discern.evaluation.layouts.table import NO_GROUPS, conditions_of
from discern.evaluation.types_datasets import Columns, FoundTable

OPTIONS: Mapping[str, str] = {"where": "Conditions on rows, such as Time>=86400."}
_COLUMNS = Columns(label="Class", amount="Amount", at="Time", at_unit="seconds")


def find(root: Path, options: Mapping[str, str]) -> FoundTable:
    """Return the table. Raises DatasetRefused."""
    check_options("ulb-credit-card", OPTIONS, options)
    found = files_below(root, frozenset({".csv", ".parquet"}))
    path = next((path for path in found if path.rpartition("/")[2].startswith("creditcard.")), None)
    if path is None:
        raise nothing_found("ulb-credit-card", "creditcard.csv")
    return FoundTable(
        ("genuine", "fraud"), (path,), _COLUMNS, conditions_of(options.get("where", "")), caveats=(NO_GROUPS,)
    )
