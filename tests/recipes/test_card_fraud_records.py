"""Payments as records: what the detector takes, with the past of the days that were left out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from discern.app import BUILTIN
from discern.detectors.bundle import open_bundle
from discern.inputs.record_reader import RecordReader
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from recipes.card_fraud import records
from recipes.card_fraud.features import FEATURES, compute_features
from tests.recipes.test_card_fraud_features import make_transactions


def test_the_days_that_are_kept_have_the_features_of_all_payments() -> None:
    transactions = make_transactions()
    made = records.records_of(transactions, "2018-05-10", "2018-05-12")
    days = transactions["TX_DATETIME"].dt.strftime("%Y-%m-%d").isin(["2018-05-10", "2018-05-11", "2018-05-12"])
    assert 0 < len(made) == days.sum() < len(transactions)
    expected = compute_features(transactions)[days.to_numpy()]
    assert np.array_equal(made[list(FEATURES)].to_numpy(np.float32), expected)
    assert made["fraud"].tolist() == transactions["TX_FRAUD"][days].tolist()
    assert made["customer"].tolist() == transactions["CUSTOMER_ID"][days].tolist()


def test_the_shipped_detector_takes_every_record() -> None:
    spec = open_bundle(BUILTIN / "card-fraud", None).manifest.input
    assert isinstance(spec, RecordSpec)
    reader = RecordReader(spec, InputLimits())
    made = records.records_of(make_transactions())
    for line in made[list(FEATURES)].to_json(orient="records", lines=True).splitlines():
        assert len(reader.from_content(line.encode()).values) == len(FEATURES)


def test_the_command_writes_a_table_or_says_that_no_payment_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_transactions().to_parquet(tmp_path / "transactions.parquet")
    words = ["records", "--data", str(tmp_path), "--out", str(tmp_path / "payments"), "--first", "2018-05-01"]
    monkeypatch.setattr(sys, "argv", words)
    records.main()
    table = pd.read_parquet(tmp_path / "payments" / "payments.parquet")
    assert f"{len(table):,} payments, {table['fraud'].sum():,} of them fraud" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--last", "2018-04-01"])
    with pytest.raises(SystemExit):
        records.main()
    assert "no payment is on those days" in capsys.readouterr().err
