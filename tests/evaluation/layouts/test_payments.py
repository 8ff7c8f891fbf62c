"""The layouts of datasets of payments, and of tables of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import examples_of, freeze, rows_of
from discern.inputs.columns import prepare_columns
from discern.inputs.spec import RecordSpec

Put = Callable[..., Path]


def handbook(rows: int = 40, day: int = 0) -> pa.Table:
    number = np.arange(rows)
    return pa.table(
        {
            "TRANSACTION_ID": number + rows * day,
            "TX_DATETIME": np.datetime64("2018-04-01T00:00:31", "s") + np.timedelta64(day, "D") + number,
            "CUSTOMER_ID": number % 7,
            "TERMINAL_ID": number % 5,
            "TX_AMOUNT": number + 0.5,
            "TX_TIME_SECONDS": number,
            "TX_TIME_DAYS": number * 0 + day,
            "TX_FRAUD": (number % 10 == 3).astype(np.int64),
            "TX_FRAUD_SCENARIO": (number % 10 == 3) * 2,
        }
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_handbook_is_read_day_by_day(root: Path, form: str) -> None:
    for day in range(2):
        path = root / f"2018-04-0{day + 1}.{form}"
        if form == "csv":
            pa_csv.write_csv(handbook(day=day), path)
        else:
            pq.write_table(handbook(day=day), path)
    manifest = freeze(root, "fraud-handbook")
    table = manifest.table
    assert table is not None
    assert (manifest.items, table.kept, table.positives, table.groups) == ((), 80, 8, 7)
    examples = examples_of(manifest, root=root)
    assert examples.ids[0] == f"2018-04-01.{form}#0"
    assert examples.ids[-1] == f"2018-04-02.{form}#39"
    assert len(examples.ids) == 80
    assert list(examples.ids[39:41]) == [f"2018-04-01.{form}#39", f"2018-04-02.{form}#0"]
    assert list(examples.ids) == [examples.ids[row] for row in range(80)]
    assert examples.labels.sum() == 8
    assert examples.days is not None
    assert examples.days.tolist() == [17622] * 40 + [17623] * 40
    assert examples.amounts is not None
    assert examples.amounts[:2].tolist() == [0.5, 1.5]
    assert examples.cards is not None
    assert examples.cards.tolist() == examples.groups.tolist()
    assert examples.subgroups["TX_FRAUD_SCENARIO"][3] == "2"


def test_the_pickles_of_the_handbook_are_not_opened(put: Put, root: Path) -> None:
    put("2018-04-01.pkl", b"\x80\x04cos\nsystem\n")
    with pytest.raises(DatasetRefused, match="runs what is in it"):
        freeze(root, "fraud-handbook")


def test_rows_are_taken_where_the_conditions_hold(root: Path) -> None:
    pq.write_table(handbook(), root / "all.parquet")
    manifest = freeze(root, "fraud-handbook", {"where": "TX_DATETIME>=2018-04-01T00:00:41; CUSTOMER_ID != 3"})
    assert manifest.table is not None
    assert manifest.table.rows == 40
    kept = [int(one.partition("#")[2]) for one in examples_of(manifest, root=root).ids]
    assert kept == [row for row in range(10, 40) if row % 7 != 3]


def spec(*fields: Mapping[str, object]) -> RecordSpec:
    return RecordSpec.model_validate({"kind": "record", "fields": fields})


def test_a_detector_is_given_fields_and_never_what_tells_the_label(root: Path) -> None:
    pq.write_table(handbook(), root / "all.parquet")
    manifest = freeze(root, "fraud-handbook", {"where": "CUSTOMER_ID==1"})
    amount = {"name": "TX_AMOUNT", "type": "number"}
    parts = list(rows_of(manifest, root, spec(amount, {"name": "more", "type": "number", "missing": "nan"})))
    assert [(part.start, part.rows) for part in parts] == [(0, 6)]
    prepared = prepare_columns(parts[0].columns, 6, spec(amount))
    assert prepared.matrix[:, 0].tolist() == [1.5, 8.5, 15.5, 22.5, 29.5, 36.5]
    for name in ("TX_FRAUD", "TX_FRAUD_SCENARIO", "TRANSACTION_ID"):
        with pytest.raises(DatasetRefused, match="would be shown"):
            list(rows_of(manifest, root, spec({"name": name, "type": "integer"})))
    with pytest.raises(DatasetRefused, match="no column more"):
        list(rows_of(manifest, root, spec(amount, {"name": "more", "type": "number"})))


def test_ulb_counts_its_days_from_the_first_payment(put: Put, root: Path) -> None:
    rows = ["Time,V1,V2,Amount,Class", "0,-1.3,0.1,149.62,0", '86400,1.2,0.2,2.69,"1"']
    put("creditcard.csv", "\n".join(rows))
    examples = examples_of(freeze(root, "ulb-credit-card"), root=root)
    assert examples.labels.tolist() == [0, 1]
    assert examples.days is not None
    assert examples.days.tolist() == [0, 1]
    assert examples.groups.tolist() == [0, 1]


def test_ieee_cis_joins_identities_to_transactions(put: Put, root: Path) -> None:
    put(
        "train_transaction.csv",
        "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1\n"
        "10,0,86400,5.0,W,1\n11,1,86500,6.0,C,2\n12,0,172800,7.0,W,1\n",
    )
    put("train_identity.csv", "TransactionID,id_01,DeviceType\n11,-5.0,mobile\n")
    put("test_transaction.csv", "TransactionID\n1\n")
    manifest = freeze(root, "ieee-cis")
    assert [file.path for file in manifest.files] == ["train_identity.csv", "train_transaction.csv"]
    examples = examples_of(manifest, root=root)
    assert (examples.labels.tolist(), examples.groups.tolist()) == ([0, 1, 0], [0, 1, 0])
    fields = spec({"name": "id_01", "type": "number", "missing": "nan"}, {"name": "TransactionAmt", "type": "number"})
    (part,) = rows_of(manifest, root, fields)
    prepared = prepare_columns(part.columns, 3, fields)
    assert np.isnan(prepared.matrix[:, 0]).tolist() == [True, False, True]
    assert prepared.matrix[:, 1].tolist() == [5.0, 6.0, 7.0]
    put("train_identity.csv", "TransactionID,id_01,DeviceType\n11,-5.0,mobile\n11,-6.0,mobile\n")
    with pytest.raises(DatasetRefused, match="not what was frozen"):
        list(rows_of(manifest, root, fields))
    with pytest.raises(DatasetRefused, match="TransactionID twice"):
        list(rows_of(freeze(root, "ieee-cis"), root, fields))


OWN = {"label": "y", "group": "who", "amount": "x", "at": "day"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("y,who,x,day\n1,a,1,2018-01-01\n2,a,1,2018-01-01\n", "other labels than 0, 1: 2"),
        ("y,who,x,day\n1,a,1,2018-01-01\n,a,1,2018-01-01\n", "y: 1 rows have no value, the first is t.csv#1"),
        ("y,who,x,day\n1,a,1,2018-01-01\n0,,1,2018-01-01\n", "who: 1 rows have no value"),
        ("y,who,x,day\n1,a,much,2018-01-01\n", "x holds what is no number"),
        ("y,who,x,day\n1,a,nan,2018-01-01\n", "is not finite"),
        ("y,who,x,day\n1,a,1,yesterday\n", "no ISO 8601 time"),
        ("y,who,day\n1,a,2018-01-01\n", "no column x"),
        ("y,who,x,day\n1,a,1\n", "cannot be read"),
        ("y,who,x,day\n", "No row is left"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_is_refused(put: Put, root: Path, rows: str, said: str) -> None:
    put("t.csv", rows)
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "table", OWN)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("x ~ 1", "no condition"),
        ("z==1", "no column z"),
        ("day>=soon", "cannot be compared"),
        ("x>9", "No row is left"),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(root: Path, where: str, said: str) -> None:
    table = {"y": [True, False], "who": ["a", "b"], "x": [1.0, 2.0], "day": pa.array([1, 2], pa.date32())}
    pq.write_table(pa.table(table), root / "t.parquet")
    assert examples_of(freeze(root, "table", OWN), root=root).labels.tolist() == [1, 0]
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "table", OWN | {"where": where})
