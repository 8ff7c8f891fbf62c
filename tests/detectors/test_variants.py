"""Variants in the manifest, in the bundle, and in what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.app import BUILTIN
from discern.core.errors import BundleRefused
from discern.core.verdict import InputFacts
from discern.detectors.assessment import load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.checks.run import CHECKS, run_checks
from discern.detectors.manifest import Manifest
from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import vet
from discern.inputs.types import Prepared
from tests.detectors import models

OTHER = models.record_model(weights=(-1.0, 2.0, -0.5))
VARIANT = {"name": "turned", "models": {"only": "turned/only.onnx"}, "evidence": {"margin": 0.01}}
RECORD = np.array([[1.0, 0.0, 0.0]], np.float32)


def source(folder: Path, other: bytes = OTHER, **changes: Any) -> Path:
    manifest = models.record_manifest(variants=[VARIANT]) | changes
    return models.write_source(folder, manifest, {**models.RECORD_FILES, "turned/only.onnx": other})


def packed(folder: Path, other: bytes = OTHER, **changes: Any) -> Bundle:
    return pack(source(folder / "source", other, **changes), folder / "bundle")


def score(bundle: Bundle) -> float:
    prepared = Prepared(tensor=RECORD, facts=InputFacts(kind="record", sha256="0" * 64, bytes=1))
    return load_detector(bundle).assess(prepared).score


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"serves": "smaller"}, "serves: no variant is called 'smaller'"),
        ({"variants": [VARIANT, VARIANT]}, "two variants have the same name"),
        ({"variants": [VARIANT | {"name": "fp32"}]}, "no variant may be called fp32"),
        ({"variants": [VARIANT | {"models": {"expert": "e.onnx"}}]}, "variant turned: no stage is called 'expert'"),
        ({"variants": [VARIANT | {"models": {"only": "only.bin"}}]}, "only.bin of stage only is not an .onnx file"),
        ({"variants": [VARIANT | {"models": {"only": "../only.onnx"}}]}, "not a plain relative path"),
        ({"variants": [VARIANT | {"models": {}}]}, "at least 1"),
        ({"variants": [VARIANT | {"faster": True}]}, "Extra inputs are not permitted"),
    ],
)
def test_a_manifest_whose_variants_do_not_fit_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Manifest.model_validate(models.record_manifest(variants=[VARIANT]) | changes)


def test_a_manifest_without_variants_is_what_it_was() -> None:
    for root in (path for path in BUILTIN.iterdir() if path.is_dir()):
        bundle = open_bundle(root, None)
        assert bundle.manifest.variants == ()
        assert bundle.variant is None
        assert bundle.manifest.named_files == bundle.manifest.files.keys()


def test_a_bundle_runs_what_it_serves_and_the_original_when_asked(tmp_path: Path) -> None:
    plain, serving = packed(tmp_path / "a"), packed(tmp_path / "b", serves="turned")
    assert (plain.variant, serving.variant) == (None, "turned")
    assert score(plain) == score(serving.with_variant(None)) > 0.5
    assert score(serving) == score(plain.with_variant("turned")) < 0.5
    assert load_detector(serving).without_exits().variant == "turned"


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="there is no variant 'int8'; it has turned"):
        packed(tmp_path).with_variant("int8")
    bare = pack(models.write_source(tmp_path / "bare", models.record_manifest(), models.RECORD_FILES), tmp_path / "c")
    with pytest.raises(BundleRefused, match="it has none"):
        bare.with_variant("int8")


def test_the_files_of_variants_are_packed_signed_and_checked(tmp_path: Path, key: Path, trust: TrustStore) -> None:
    bundle = packed(tmp_path, serves="turned")
    assert "turned/only.onnx" in bundle.manifest.files
    sign_bundle(bundle.root, key)
    assert open_bundle(bundle.root, trust).variant == "turned"
    (bundle.root / "turned" / "only.onnx").write_bytes(models.record_model(weights=(9.0, 9.0, 9.0)))
    with pytest.raises(BundleRefused, match=r"turned/only\.onnx"):
        open_bundle(bundle.root, trust)


def test_a_variant_that_is_named_but_not_there_is_refused(tmp_path: Path) -> None:
    folder = source(tmp_path / "source")
    (folder / "turned" / "only.onnx").unlink()
    with pytest.raises(BundleRefused, match=r"turned/only\.onnx"):
        pack(folder, tmp_path / "bundle")


@pytest.mark.system
def test_a_variant_that_does_not_run_is_found_before_it_is_served(tmp_path: Path) -> None:
    bundle = packed(tmp_path, models.nan_model())
    with pytest.raises(BundleRefused, match=r"turned/only\.onnx.*not finite"):
        vet(bundle)


@pytest.mark.system
def test_vetting_says_what_the_models_of_variants_took(tmp_path: Path) -> None:
    assert [stage.model for stage in vet(packed(tmp_path)).stages] == ["only.onnx", "turned/only.onnx"]


@pytest.mark.system
def test_the_contract_is_checked_on_every_variant(tmp_path: Path) -> None:
    results = list(run_checks(packed(tmp_path, serves="turned")))
    assert [result.detail for result in results if not result.passed] == []
    names = [result.name for result in results]
    assert names[1:] == [*CHECKS, *(f"{name} (turned)" for name in CHECKS)]
