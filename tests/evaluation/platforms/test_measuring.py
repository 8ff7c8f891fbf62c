"""Variants on every runtime: ONNX Runtime, OpenVINO, and onnxruntime-web in a real Chromium."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle
from discern.detectors.packing import pack
from discern.evaluation.platforms import service_browser, service_measuring
from discern.evaluation.platforms.service import AcceptedVariant, Outcome
from discern.evaluation.platforms.service_bundle import write_next
from discern.evaluation.platforms.service_measuring import RUNTIMES, measure_platforms
from discern.evaluation.platforms.types import LabelledRows
from discern.evaluation.types_platforms import PlatformRow, PlatformTable
from tests.detectors import models, networks
from tests.evaluation.platforms.conftest import manifest

pytestmark = pytest.mark.system
ITEMS = 20


@pytest.fixture(scope="module")
def varied(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The detector with a variant that is nearly the same, and one that turns every answer round."""
    nearly = AcceptedVariant("nearly", {"only": networks.network(4.01)}, {}, 1.0)
    turned = AcceptedVariant("turned", {"only": networks.network(-4.0)}, {}, 1.0)
    return write_next(bundle, Outcome((), (nearly, turned), None), tmp_path_factory.mktemp("varied") / "b", "1.1.0")


def measured(bundle: Bundle, data: LabelledRows, cache: Path, **changes: Any) -> PlatformTable:
    given: dict[str, Any] = {"cache": cache, "items": ITEMS, "watch": lambda _text: None, "runtimes": ()}
    return measure_platforms(bundle, data, **given | changes)


def rows(table: PlatformTable) -> dict[tuple[str, str], PlatformRow]:
    return {(row.variant, row.runtime): row for row in table.rows}


def test_onnx_runtime_measures_every_variant(varied: Bundle, data: LabelledRows, tmp_path: Path) -> None:
    table = measured(varied, data, tmp_path)
    assert (table.items, table.bundle_sha256, table.dataset_sha256) == (ITEMS, varied.digest, data.sha256)
    original, nearly, turned = table.rows
    for row in table.rows:
        assert row.missing is None
        assert row.latency_p50_milliseconds is not None
        assert row.latency_p95_milliseconds is not None
        assert 0 < row.latency_p50_milliseconds <= row.latency_p95_milliseconds < 1000
        assert row.peak_bytes is not None
        assert 100_000 < row.peak_bytes < 500_000_000
        assert row.size == len(networks.network())
    assert (original.largest_difference, original.mean_difference, original.decisions_differ) == (0, 0, 0)
    assert nearly.largest_difference is not None
    assert 0 < nearly.largest_difference < 0.01
    assert turned.decisions_differ == ITEMS
    assert original.area_under_roc is not None
    assert turned.area_under_roc is not None
    assert original.area_under_roc.value == 1
    assert turned.area_under_roc.value == 0


def test_the_table_is_the_same_again_but_for_times_and_memory(
    varied: Bundle, data: LabelledRows, tmp_path: Path
) -> None:
    def lasting() -> bytes:
        return msgspec.json.encode(measured(varied, data, tmp_path).lasting)

    assert lasting() == lasting()


@pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed: the extra `openvino` brings it"
)
def test_openvino_agrees_with_onnx_runtime(varied: Bundle, data: LabelledRows, tmp_path: Path) -> None:
    found = rows(measured(varied, data, tmp_path, runtimes=("openvino",)))
    row = found["fp32", "openvino"]
    assert row.missing is None
    assert row.largest_difference is not None
    assert row.largest_difference < 1e-4
    assert row.decisions_differ == 0
    assert found["turned", "openvino"].decisions_differ == ITEMS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with onnxruntime-web, fetched as the command does."""
    for program in ("chromium", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: the extra `browser` brings it")
    folder = tmp_path_factory.mktemp("browser")
    try:
        service_browser.fetch(folder)
    except OperatorError as error:
        pytest.skip(f"onnxruntime-web cannot be fetched: {error}")
    return folder


@pytest.mark.timeout(400)
def test_a_real_browser_agrees_with_onnx_runtime(
    bundle: Bundle, data: LabelledRows, cache: Path, tmp_path: Path
) -> None:
    turned = AcceptedVariant("turned", {"only": networks.network(-4.0)}, {}, 1.0)
    both = write_next(bundle, Outcome((), (turned,), None), tmp_path / "b", "1.1.0")
    found = rows(measured(both, data, cache, runtimes=("onnxruntime-web",)))
    row = found["fp32", "onnxruntime-web"]
    assert row.missing is None
    assert "Chromium" in row.version
    assert row.largest_difference is not None
    assert row.largest_difference < 1e-4
    assert row.decisions_differ == 0
    assert row.latency_p50_milliseconds is not None
    assert row.latency_p50_milliseconds > 0
    assert row.peak_bytes is not None
    assert row.peak_bytes > 10_000_000
    assert found["turned", "onnxruntime-web"].decisions_differ == ITEMS


def test_a_package_that_is_another_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    archive = tmp_path / "onnxruntime-web.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(OperatorError, match="is another file"):
        service_browser._unpack(archive, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_without_npm_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match="npm is not installed"):
        service_browser.fetch(tmp_path / "cache")


def test_a_runtime_that_is_not_there_is_a_row_with_the_reason(
    bundle: Bundle, data: LabelledRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = rows(measured(bundle, data, tmp_path / "nothing", runtimes=tuple(RUNTIMES)))
    assert "discern-detectors[openvino]" in (found["fp32", "openvino"].missing or "")
    assert "discern-detectors[browser]" in (found["fp32", "onnxruntime-web"].missing or "")
    assert found["fp32", "openvino"].latency_p50_milliseconds is None
    assert found["fp32", "onnxruntime"].missing is None


def test_a_variant_that_fails_spoils_its_own_row_alone(bundle: Bundle, data: LabelledRows, tmp_path: Path) -> None:
    broken = AcceptedVariant("broken", {"only": models.record_model()}, {}, 1.0)
    table = measured(write_next(bundle, Outcome((), (broken,), None), tmp_path / "b", "1.1.0"), data, tmp_path)
    found = rows(table)
    assert found["fp32", "onnxruntime"].missing is None
    assert "record" in (found["broken", "onnxruntime"].missing or "")


def test_a_process_that_takes_too_long_is_ended_and_said(bundle: Bundle, data: LabelledRows, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"it took more than 0\.01 s"):
        measured(bundle, data, tmp_path, wall_seconds=0.01)


def test_a_process_that_dies_is_said(
    bundle: Bundle, data: LabelledRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_measuring, "_STARTER", "import os; os._exit(7)")
    with pytest.raises(OperatorError, match="its process failed: exit code 7"):
        measured(bundle, data, tmp_path)


def test_both_classes_are_measured_and_never_the_calibration(data: LabelledRows) -> None:
    places = service_measuring._spread(data, ITEMS)
    assert np.bincount(data.labels[places]).tolist() == [ITEMS // 2, ITEMS // 2]
    assert places.min() >= data.calibration
    few = LabelledRows("few", "0" * 64, 0, data.rows[:30], np.array([0, 1] + [0] * 25 + [1] * 3, np.int8), 2)
    assert np.bincount(few.labels[service_measuring._spread(few, 20)]).tolist() == [17, 3]


def test_records_are_measured_too(tmp_path: Path) -> None:
    bundle = pack(models.write_source(tmp_path / "s", models.record_manifest(), models.RECORD_FILES), tmp_path / "b")
    chance = np.random.Generator(np.random.PCG64(5))
    records = chance.normal(0, 1, (40, 3)).astype(np.float32)
    data = LabelledRows("records", "0" * 64, 0, records, (np.arange(40) % 2).astype(np.int8), 4)
    row = measured(bundle, data, tmp_path).rows[0]
    assert row.missing is None
    assert row.area_under_roc is not None
    assert row.area_under_roc.value is not None


def test_the_manifest_of_the_toys_is_as_large_as_their_pictures() -> None:
    assert manifest()["input"]["width"] == networks.SIDE
