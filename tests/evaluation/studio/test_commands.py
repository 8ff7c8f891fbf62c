"""`discern thresholds` as it is typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from discern.detectors.assessment import load_detector
from discern.detectors.bundle import open_bundle
from discern.detectors.manifest import Manifest
from discern.detectors.packing import pack
from discern.evaluation.studio.report import verdict
from discern.evaluation.studio.types import ThresholdChoice
from discern.evaluation.types import Estimate
from tests.commands import Run
from tests.detectors import models
from tests.evaluation.conftest import make_folder

pytestmark = pytest.mark.system


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return run


def write_payments(folder: Path, rows: int, positive: float = 1.0) -> dict[str, Any]:
    """Records of toy-record on two sides, whose `c` is an amount."""
    random = np.random.default_rng(4)
    columns: dict[str, Any] = {name: random.normal(0, 1, rows) for name in "ab"}
    columns["c"] = random.exponential(2, rows).clip(0, 9)
    columns["label"] = (columns["a"] - 2 * columns["b"] + random.normal(0, 2, rows) > positive).astype(np.int64)
    columns["person"] = random.integers(0, max(2, rows // 20), rows)
    columns["side"] = np.where(columns["person"] % 3 == 0, "calibration", "choice")
    columns["day"] = [f"2026-03-{1 + number % 20:02}" for number in range(rows)]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "payments.parquet")
    return columns


@pytest.fixture
def payments(run: Run, tmp_path: Path) -> Path:
    write_payments(tmp_path / "data", 6000)
    return frozen(run, tmp_path)


def frozen(run: Run, folder: Path) -> Path:
    options = ("-O", "split=side", "-O", "at=day")
    code, _, said = run("dataset", "freeze", "data", "-l", "table", "--group", "person", *options, "-o", "frozen.json")
    assert code == 0, said
    return folder / "frozen.json"


ASKED = ("thresholds", "toy-record", "--data", "frozen.json", "--root", "data", "--split", "choice")
COSTS = ("--false-alarm", "5", "--miss", "40", "--review-minute", "0.8", "--minutes", "2")


def rows_of(folder: Path, side: str = "choice") -> tuple[Any, Any]:
    table = pq.read_table(folder / "data" / "payments.parquet").to_pandas()
    table = table[table.side == side]
    return table[["a", "b", "c"]].to_numpy(np.float32), table.label.to_numpy() == 1


@pytest.mark.usefixtures("payments")
def test_the_written_bundle_decides_as_was_promised(run: Run, tmp_path: Path) -> None:
    code, out, err = run(*ASKED, *COSTS, "--calibrate", "calibration", "-o", "out", "--write", "next")
    assert code == 0, err
    assert "Sign it next" in err
    assert "passed the gate" not in err
    told = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    bundle = open_bundle(tmp_path / "next", None)
    manifest = bundle.manifest
    assert manifest.version == "1.1.0"
    assert bundle.signer is None
    chosen = manifest.decision.chosen_by
    assert chosen["costs"] == {"false_alarm": 5.0, "miss": 40.0, "review": 1.6}
    assert (chosen["split"], chosen["manifest_sha256"]) == ("choice", told["manifest_sha256"])
    fitted_by = manifest.stages[0].calibration.fitted_by
    assert (fitted_by["split"], fitted_by["items"]) == ("calibration", len(rows_of(tmp_path, "calibration")[1]))
    rows, labels = rows_of(tmp_path)
    decided = load_detector(bundle).score_rows(rows).decision
    for flow, label in zip(told["flows"], (False, True), strict=True):
        found = [float(np.mean(decided[labels == label] == code)) for code in (0, 1, 2)]
        assert found == pytest.approx([flow[name]["value"] for name in ("clear", "review", "flag")], abs=1e-6)
    price = np.where(labels, np.array([40, 1.6, 0])[decided], np.array([0, 1.6, 5])[decided])
    assert told["cost_here"] == pytest.approx(price.mean(), rel=1e-5)
    assert told["cost"]["low"] < told["cost"]["value"] < told["cost"]["high"]
    page = (tmp_path / "out" / "thresholds.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")
    assert run("detector", "check", "next")[0] == 0
    assert "review_from" in out or "Review from" in out


REFERENCE = {
    "count": 50,
    "positive_rate": 0.2,
    "scores": {"quantiles": [0.1, 0.5, 0.9]},
    "classes": {"odd": {"quantiles": [0.2, 0.6, 0.9], "count": 10}},
    "features": {"a": {"quantiles": [-1, 0, 1]}},
}


@pytest.mark.parametrize(
    ("calibrate", "kept"),
    [(("--calibrate", "calibration"), {"count", "positive_rate", "features"}), ((), set(REFERENCE))],
)
@pytest.mark.usefixtures("payments")
def test_the_reference_tells_of_scores_only_where_inputs_keep_theirs(
    calibrate: tuple[str, ...], kept: set[str], run: Run, tmp_path: Path
) -> None:
    stored = json.dumps(REFERENCE).encode()
    files = {"only.onnx": models.record_model(), "CARD.md": models.CARD.encode(), "reference.json": stored}
    small = {"name": "small", "models": {"only": "small/only.onnx"}}
    manifest = models.record_manifest(reference="reference.json", variants=[small])
    files["small/only.onnx"] = files["only.onnx"]
    pack(models.write_source(tmp_path / "source", manifest, files), tmp_path / "mine")
    code, _, err = run("thresholds", "mine", *ASKED[2:], *COSTS, *calibrate, "-o", "out", "--write", "next")
    assert code == 0, err
    assert "small passed the gate at other thresholds" in err
    written = open_bundle(tmp_path / "next", None).read("reference.json")
    assert json.loads(written) == {key: REFERENCE[key] for key in kept}
    assert (written == stored) == (not calibrate)


@pytest.mark.usefixtures("payments")
def test_the_same_question_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        assert run(*ASKED, *COSTS, "-o", "out", "--replace")[0] == 0
        made.append((tmp_path / "out" / "thresholds.json").read_bytes())
    assert made[0] == made[1]
    elsewhere = (f"--root={tmp_path / 'data'}", "--data", str(tmp_path / "frozen.json"), "--split", "choice")
    written = ("--out", str(tmp_path / "other"), "--write", str(tmp_path / "made"))
    assert run("thresholds", "toy-record", *elsewhere, *COSTS, *written)[0] == 0
    assert (tmp_path / "other" / "thresholds.json").read_bytes() == made[0]
    command = json.loads(made[0])["command"].split()
    assert run(*command[1:], "-o", "repeated")[0] == 0
    assert (tmp_path / "repeated" / "thresholds.json").read_bytes() == made[0]
    assert str(tmp_path) not in made[0].decode()
    code, _, err = run(*ASKED, *COSTS, "-o", "out")
    assert code == 1
    assert "nothing is overwritten" in err


@pytest.mark.usefixtures("payments")
def test_bands_of_an_amount_are_written_and_run(run: Run, tmp_path: Path) -> None:
    code, out, err = run(
        *ASKED, "--false-alarm", "0.5", "--review-minute", "0.3", "--amount-field", "c", "--bands", "3",
        "--reviews-a-day", "10", "-o", "out", "--write", "next",
    )  # fmt: skip
    assert code == 0, err
    assert "were chosen on these items" not in out
    told = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    bundle = open_bundle(tmp_path / "next", None)
    bands = bundle.manifest.decision.bands
    assert bands is not None
    assert (bands.field, len(bands.steps)) == ("c", 2)
    rows, labels = rows_of(tmp_path)
    decided = load_detector(bundle).score_rows(rows).decision
    missed = rows[:, 2].astype(np.float64)
    price = np.where(labels, np.stack([missed, 0.3 + 0 * missed, 0 * missed])[decided, np.arange(len(labels))],
                     np.array([0, 0.3, 0.5])[decided])  # fmt: skip
    assert told["cost_here"] == pytest.approx(price.mean(), rel=1e-5)
    days = told["items_a_day"]
    assert np.mean(decided == 1) * days <= 10
    best = [(one["cost"], one["cost_of_chosen"]) for one in told["what_if"] if "at most" not in one["assumption"]]
    assert len(best) > 6
    assert all(cost <= kept for cost, kept in best)
    page = (tmp_path / "out" / "thresholds.html").read_text()
    assert f"Every band has others; shown are those of c below {bands.steps[0].from_:g}." in page
    assert "drawn where all items have the same two" in page
    # The written bundle's own thresholds cost what was told of them, and the page says so when asked by the same field.
    sign = run("detector", "sign", "next")
    assert sign.code == 0, sign.err
    again = ("--false-alarm", "0.5", "--review-minute", "0.3", "--amount-field", "c", "--reviews-a-day", "10")
    done = run("thresholds", "next", *ASKED[2:], *again, "-o", "again")
    assert done.code == 0
    assert "The thresholds that the bundle has were chosen on these items" in done.out
    shipped = json.loads((tmp_path / "again" / "thresholds.json").read_text())["cost_of_shipped"]
    assert shipped["value"] == pytest.approx(told["cost_here"], rel=1e-5)
    assert run("thresholds", "next", *ASKED[2:], "--max-fpr", "0.05", "-o", "other").code == 0
    shipped = json.loads((tmp_path / "other" / "thresholds.json").read_text())["cost_of_shipped"]
    assert (shipped["value"], shipped["caveat"]) == (None, "its thresholds are by c: name it with --amount-field")
    assert "name it with --amount-field" in (tmp_path / "other" / "thresholds.html").read_text()
    listed = run("detector", "show", "next")[1]
    assert f"where c is {bands.steps[0].from_:g} or more" in listed


@pytest.mark.usefixtures("payments")
def test_a_capacity_in_cards_is_kept_day_by_day_and_written_down(run: Run, tmp_path: Path) -> None:
    options = ("--layout", "table", "--group", "person", "-O", "split=side", "-O", "at=day")
    assert run("dataset", "freeze", "data", *options, "-O", "card=person", "-o", "cards.json")[0] == 0
    asked = [word if word != "frozen.json" else "cards.json" for word in ASKED]
    limits = ("--false-alarm", "0.5", "--review-minute", "0.05", "--amount-field", "c", "--max-fpr", "0.2")
    for bands in ((), ("--bands", "3")):
        code, _, err = run(*asked, *limits, *bands, "--cards-a-day", "12", "-o", "out", "--write", "next", "--replace")
        assert code == 0, err
        told = json.loads((tmp_path / "out" / "thresholds.json").read_text())
        table = pq.read_table(tmp_path / "data" / "payments.parquet").to_pandas()
        table = table[table.side == "choice"]
        rows, _ = rows_of(tmp_path)
        bundle = open_bundle(tmp_path / "next", None)
        table["decided"] = load_detector(bundle).score_rows(rows).decision
        reviewed = table[table.decided == 1].groupby("day").person.nunique()
        days = table.day.nunique()
        assert 6 < reviewed.sum() / days <= 12
        assert told["cards"]["reviewed"] == pytest.approx(reviewed.sum() / days, rel=1e-5)
        assert told["cards"]["busiest"] == reviewed.max()
        assert told["cards"]["paying"] == pytest.approx(table.groupby("day").person.nunique().mean(), rel=1e-5)
        assert np.mean(table.decided[table.label == 0] == 2) <= 0.2
        by = bundle.manifest.decision.chosen_by
        assert (by["max_cards_a_day"], by["max_false_positive_rate"]) == (12.0, 0.2)
        assert by["cards_a_day"]["reviewed"] <= 12
        if bands:
            first, *others = by["bands"]
            assert first["from"] is None
            assert len(others) == len(told["chosen"]["cuts"]) - 1
            assert first["flag_from"]["low"] <= first["flag_from"]["value"] <= first["flag_from"]["high"]
        page = (tmp_path / "out" / "thresholds.html").read_text()
        assert "cards that pay on a day" in page
        shutil.rmtree(tmp_path / "next")
    alone = run(*asked, "--cards-a-day", "12", "-o", "alone")
    assert alone.code == 0
    assert "Reviews cost nothing" not in alone.out


@pytest.mark.usefixtures("payments")
def test_limits_alone_choose(run: Run, tmp_path: Path) -> None:
    code, _, err = run(*ASKED, "--max-fpr", "0.01", "--upper-end", "-o", "rate")
    assert code == 0, err
    rate = json.loads((tmp_path / "rate" / "thresholds.json").read_text())
    assert rate["flows"][0]["flag"]["high"] <= 0.01
    assert rate["flows"][1]["flag"]["value"] > 0.05
    assert any("coincide" in caveat for caveat in rate["caveats"])
    assert run(*ASKED, "--reviews-a-day", "30", "-o", "capacity")[0] == 0
    capacity = json.loads((tmp_path / "capacity" / "thresholds.json").read_text())
    assert 0 < capacity["reviews"] * capacity["items_a_day"] <= 30


@pytest.mark.usefixtures("payments")
def test_the_sentence_says_where_a_cost_has_no_interval(run: Run, tmp_path: Path) -> None:
    assert run(*ASKED, "--max-fpr", "0.01", "-o", "rate")[0] == 0
    choice = msgspec.json.decode((tmp_path / "rate" / "thresholds.json").read_bytes(), type=ThresholdChoice)
    nothing = msgspec.structs.replace(choice, cost=Estimate(0.0, caveat="the values do not vary: no interval"))
    assert "an item costs 0 (no interval)" in verdict(nothing)
    assert "no interval" not in verdict(choice)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Nothing says what good thresholds are"),
        (("--false-alarm", "-1"), "zero or more"),
        (("--false-alarm", "nan"), "zero or more"),
        (("--false-alarm", "0", "--miss", "0"), "cost nothing"),
        (("--reviews-a-day", "0"), "above zero"),
        (("--max-fpr", "1.5"), "between 0 and 1"),
        (("--max-fpr", "0.0001", "--upper-end"), "cannot show a false-positive rate"),
        (("--miss", "5", "--bands", "3"), "Bands need"),
        (("--cards-a-day", "0"), "above zero"),
        (("--cards-a-day", "5"), "do not say which card"),
        (("--cards-a-day", "5", "--prevalence", "0.01"), "--prevalence does not"),
        (("--amount-field", "c", "--bands", "2", "--max-fpr", "0.0001", "--upper-end"), "at the upper end"),
        (("--amount-field", "z"), "no field 'z'"),
        (("--miss", "5", "--split", "nowhere"), "no item on the side nowhere"),
        (("--miss", "5", "--calibrate", "choice"), "a side of its own"),
        (("--miss", "5", "--stage-cost", "1", "--stage-cost", "2"), "has 1 stages"),
        (("--miss", "1e200"), "at most 1e+12"),
        (("--amount-field", "c", "--amount-share", "1e308"), "at most 1e+12"),
        (("--reviews-a-day", "5", "--items-a-day", "inf"), "above zero and finite"),
    ],
)
@pytest.mark.usefixtures("payments")
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str, run: Run, tmp_path: Path) -> None:
    code, _, err = run(*ASKED, *arguments, "-o", "out", "--write", "next")
    assert code == 1
    assert said in err
    assert not (tmp_path / "next").exists()
    assert not (tmp_path / "out" / "thresholds.json").exists()


@pytest.mark.usefixtures("payments")
def test_two_negative_costs_make_no_positive_one(run: Run) -> None:
    code, _, err = run(*ASKED, "--miss", "5", "--review-minute", "-3", "--minutes", "-3", "-o", "out")
    assert code == 2
    assert "review-minute" in err


@pytest.mark.usefixtures("payments")
def test_free_reviews_without_a_limit_are_said(run: Run) -> None:
    code, out, _ = run(*ASKED, "--miss", "5", "-o", "out")
    assert code == 0
    assert "Reviews cost nothing here and nothing limits them" in out
    assert "Reviews cost nothing" not in run(*ASKED, *COSTS, "-o", "priced")[1]


@pytest.mark.parametrize(("shared", "code"), [(400, 1), (2, 0)])
def test_sides_that_share_records_calibrate_nothing(shared: int, code: int, run: Run, tmp_path: Path) -> None:
    columns = write_payments(tmp_path / "data", 3000)
    choice = np.flatnonzero(columns["side"] == "choice")
    taken = np.resize(np.flatnonzero(columns["side"] == "calibration"), shared)
    for name in ("a", "b", "c", "label", "person", "day"):
        column = np.array(columns[name])
        column[choice[:shared]] = column[taken]
        columns[name] = column
    columns["person"] = np.arange(3000)
    pq.write_table(pa.table(columns), tmp_path / "data" / "payments.parquet")
    options = ("-O", "split=side", "-O", "withheld=person", "-o", "frozen.json")
    assert run("dataset", "freeze", "data", "-l", "table", *options)[0] == 0
    done = run(*ASKED, *COSTS, "--calibrate", "calibration", "-o", "out")
    assert done.code == code
    said = f"The sides calibration and choice share what they must not. The same record is on both sides. {shared}"
    assert said in (done.err if code else done.out)


@pytest.mark.usefixtures("payments")
def test_sides_that_share_a_person_calibrate_nothing(run: Run, tmp_path: Path) -> None:
    columns = write_payments(tmp_path / "data", 3000)
    columns["person"][np.flatnonzero(columns["side"] == "choice")[0]] = columns["person"][
        np.flatnonzero(columns["side"] == "calibration")[0]
    ]
    pq.write_table(pa.table(columns), tmp_path / "data" / "payments.parquet")
    (tmp_path / "frozen.json").unlink()
    frozen(run, tmp_path)
    done = run(*ASKED, *COSTS, "--calibrate", "calibration", "-o", "out")
    assert done.code == 1
    assert "A group is on both sides. 1" in done.err
    assert run(*ASKED, *COSTS, "-o", "out").code == 0


@pytest.mark.parametrize(("rows", "positive", "said"), [(10, 1.0, "too few"), (500, 99.0, "0 positive")])
def test_few_items_and_one_class_are_refused(rows: int, positive: float, said: str, run: Run, tmp_path: Path) -> None:
    write_payments(tmp_path / "data", rows, positive)
    frozen(run, tmp_path)
    code, _, err = run("thresholds", "toy-record", "--data", "frozen.json", "--root", "data", *COSTS)
    assert code == 1
    assert said in err


@pytest.mark.usefixtures("payments")
def test_nothing_is_chosen_on_what_a_calibration_was_fitted_on(run: Run) -> None:
    assert run(*ASKED, *COSTS, "--calibrate", "calibration", "-o", "out", "--write", "next")[0] == 0
    for side in (("--split", "calibration"), ()):
        asked = ("thresholds", "next", "--data", "frozen.json", "--root", "data", *side, *COSTS, "-o", "other")
        code, _, err = run(*asked)
        assert code == 1
        assert "was calibrated on this side" in err
    assert run("thresholds", "next", *ASKED[2:], *COSTS, "-o", "other")[0] == 0
    again = ("dataset", "split", "frozen.json", "--root", "data", "--share", "choice=0.5", "--share", "rest=0.5")
    assert run(*again, "-o", "again.json")[0] == 0
    done = run(
        "thresholds", "next", "--data", "again.json", "--root", "data", "--split", "choice", *COSTS, "-o", "third"
    )
    assert done.code == 0
    assert "Stage only was calibrated on another manifest of data" in done.out


@pytest.mark.usefixtures("payments")
def test_an_evaluation_says_what_was_chosen_and_fitted_on_its_items(run: Run, tmp_path: Path) -> None:
    assert run(*ASKED, *COSTS, "--calibrate", "calibration", "-o", "out", "--write", "next")[0] == 0
    chosen = "data: The thresholds of toy-record 1.1.0 were chosen on these items"
    fitted = "data: Stage only of toy-record 1.1.0 was calibrated on these items"
    sides = ((("--split", "choice"), True, False), (("--split", "calibration"), False, True), ((), True, True))
    for split, thresholds_are, calibration_is in sides:
        asked = ("--data", "frozen.json", "--root", "data", *split, "-o", "report", "--replace")
        for detectors in (("next",), ("toy-record", "--compare", "next")):
            code, out, err = run("evaluate", *detectors, *asked)
            assert code == 0, err
            assert (chosen in out, fitted in out) == (thresholds_are, calibration_is)
            told = json.loads((tmp_path / "report" / "report.json").read_text())["datasets"][0]["caveats"]
            assert any(one.startswith(chosen) for one in told) == thresholds_are
    assert "these items" not in run("evaluate", "toy-record", *asked)[1]


def test_a_cascade_gets_exits_that_its_thresholds_bear(run: Run, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", 60)
    assert run("dataset", "freeze", "data", "-l", "folder", "--positive", "bright", "-o", "frozen.json")[0] == 0
    code, _, err = run(
        "thresholds", "toy-cascade", "--data", "frozen.json", "--root", "data", "--false-alarm", "5", "--miss", "5",
        "--review-minute", "1", "--exit-loss", "0.05", "--stage-cost", "0.01",
        "--stage-cost", "0.2", "-o", "out", "--write", "next",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    assert told["cost_here"] <= told["cost_without_exits"] * 1.05 + 1e-9
    assert told["compute"] < 0.21
    manifest: Manifest = open_bundle(tmp_path / "next", None).manifest
    exits = manifest.stages[0].exits
    assert exits is not None
    assert exits.clear_below <= manifest.decision.review_from
    assert exits.flag_above >= manifest.decision.flag_from
    assert told["stages"][0]["decided"]["value"] > 0
