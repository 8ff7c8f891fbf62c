from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from discern.core.errors import BundleRefused, OperatorError, UnknownDetector
from discern.detectors.assessment import Detector
from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from discern.detectors.vetting import VettingLimits, vetting_mark
from discern.registry.service import Catalogue
from discern.registry.types import Listed, Refused, Usable, version_order
from tests.detectors import models


@pytest.fixture
def catalogue(home: Path, tmp_path: Path) -> Catalogue:
    return Catalogue(builtin=tmp_path / "package" / "builtin", home=home, limits=VettingLimits())


def put(home: Path, folder: Path, version: str, *, signed: bool = True, name: str = "toy-record") -> Path:
    """Put a version into the home folder as another process would."""
    source = models.write_source(
        folder / f"source-{version}", models.record_manifest(version=version), models.RECORD_FILES
    )
    root = home / "detectors" / name / f".coming-{version}"
    root.parent.mkdir(parents=True, exist_ok=True)
    pack(source, root)
    if signed:
        sign_bundle(root, home / "keys" / "local.key")
    return root.rename(root.with_name(version))


def listed(catalogue: Catalogue) -> dict[tuple[str, str], Listed]:
    return {(entry.name, entry.version): entry for entry in catalogue.all()}


def test_versions_are_ordered_as_numbers() -> None:
    assert sorted(["1.10.0", "1.9.0", "1.9.10"], key=version_order) == ["1.9.0", "1.9.10", "1.10.0"]


def test_the_highest_usable_version_answers(catalogue: Catalogue, home: Path, tmp_path: Path) -> None:
    put(home, tmp_path, "1.9.0")
    put(home, tmp_path, "1.10.0")
    put(home, tmp_path, "2.0.0", signed=False)
    assert catalogue.find("toy-record").version == "1.10.0"
    assert catalogue.find("toy-record", "1.0.0").version == "1.0.0"
    with pytest.raises(BundleRefused, match="signature"):
        catalogue.find("toy-record", "2.0.0")


def test_one_refused_bundle_leaves_the_others_usable(catalogue: Catalogue, home: Path) -> None:
    (home / "detectors" / "toy-record" / "1.0.0" / "extra.txt").write_text("not listed")
    entries = listed(catalogue)
    refused = entries["toy-record", "1.0.0"]
    assert isinstance(refused, Refused)
    assert "extra.txt" in refused.reason
    assert isinstance(entries["toy-image", "1.0.0"], Usable)
    with pytest.raises(BundleRefused, match="No version of toy-record can be used"):
        catalogue.get("toy-record")
    catalogue.get("toy-image")


def test_taking_a_key_out_of_the_trust_folder_takes_its_bundles_out(catalogue: Catalogue, home: Path) -> None:
    assert catalogue.find("toy-record").bundle is not None
    (home / "trust" / "local.pub").unlink()
    with pytest.raises(BundleRefused):
        catalogue.find("toy-record")


def test_a_folder_that_lies_about_its_version_is_refused(catalogue: Catalogue, home: Path) -> None:
    root = home / "detectors" / "toy-record" / "1.0.0"
    shutil.copytree(root, root.with_name("7.0.0"))
    with pytest.raises(BundleRefused, match=r"folder says toy-record 7\.0\.0, the manifest toy-record 1\.0\.0"):
        catalogue.find("toy-record", "7.0.0")


def test_what_is_still_being_copied_is_not_seen(catalogue: Catalogue, home: Path) -> None:
    before = set(listed(catalogue))
    root = home / "detectors" / "toy-record" / "1.0.0"
    shutil.copytree(root, root.with_name(".adding-3.0.0"))
    assert set(listed(catalogue)) == before


def test_callers_that_come_together_share_one_loaded_detector(catalogue: Catalogue) -> None:
    loaded: list[Detector] = []
    threads = [threading.Thread(target=lambda: loaded.append(catalogue.get("toy-cascade"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(detector) for detector in loaded}) == 1
    assert len(loaded) == 8


def test_a_detector_is_found_by_the_kind_of_input_it_takes(catalogue: Catalogue) -> None:
    assert catalogue.taking("record") == ["toy-record"]
    assert catalogue.taking("image") == ["toy-cascade", "toy-image"]
    assert catalogue.taking("video") == ["toy-cascade", "toy-image"]


def test_a_detector_that_judges_over_time_is_named_unless_there_is_no_other(
    catalogue: Catalogue, home: Path, tmp_path: Path
) -> None:
    stream = {"window_seconds": 60, "measure": "mean", "flag_at": 0.5}
    manifest = models.record_manifest(name="toy-stream", stream=stream)
    source = models.write_source(tmp_path / "toy-stream", manifest, models.RECORD_FILES)
    root = home / "detectors" / "toy-stream" / "1.0.0"
    root.parent.mkdir(parents=True)
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    assert catalogue.taking("record") == ["toy-record"]
    shutil.rmtree(home / "detectors" / "toy-record")
    assert catalogue.taking("record") == ["toy-stream"]


def test_a_removed_version_is_gone_and_a_loaded_one_keeps_answering_its_callers(
    catalogue: Catalogue, home: Path
) -> None:
    detector = catalogue.get("toy-record")
    catalogue.remove("toy-record", "1.0.0")
    with pytest.raises(UnknownDetector):
        catalogue.get("toy-record")
    assert not (home / "detectors" / "toy-record").exists()
    assert detector.manifest.name == "toy-record"


def test_a_catalogue_without_a_usable_detector_is_not_ready(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "detectors")
    catalogue = Catalogue(builtin=tmp_path / "nothing", home=home, limits=VettingLimits())
    with pytest.raises(BundleRefused, match="No detector can be used"):
        catalogue.ping()


@pytest.mark.system
def test_a_bundle_whose_model_does_not_run_is_not_added(catalogue: Catalogue, home: Path, tmp_path: Path) -> None:
    files = models.RECORD_FILES | {"only.onnx": models.nan_model()}
    source = models.write_source(tmp_path / "source", models.record_manifest(name="broken"), files)
    pack(source, tmp_path / "broken")
    sign_bundle(tmp_path / "broken", home / "keys" / "local.key")
    with pytest.raises(BundleRefused, match=r"only\.onnx"):
        catalogue.add(tmp_path / "broken")
    assert not (home / "detectors" / "broken").exists()


@pytest.mark.system
def test_a_version_whose_model_does_not_run_gives_way_to_the_one_below(
    catalogue: Catalogue, home: Path, tmp_path: Path
) -> None:
    files = models.RECORD_FILES | {"only.onnx": models.nan_model()}
    source = models.write_source(tmp_path / "source", models.record_manifest(version="1.1.0"), files)
    root = home / "detectors" / "toy-record" / "1.1.0"
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    with pytest.raises(BundleRefused, match=r"only\.onnx"):
        catalogue.get("toy-record")
    assert catalogue.get("toy-record").manifest.version == "1.0.0"
    assert isinstance(listed(catalogue)["toy-record", "1.1.0"], Refused)


def test_a_broken_key_in_the_trust_folder_is_ignored_and_said(catalogue: Catalogue, home: Path) -> None:
    (home / "trust" / "broken.pub").write_text("no key")
    assert isinstance(listed(catalogue)["toy-record", "1.0.0"], Usable)
    assert any("broken.pub" in fault for fault in catalogue.trust().faults())


def test_two_that_add_the_same_version_at_once_end_with_one_whole_bundle(
    catalogue: Catalogue, home: Path, tmp_path: Path
) -> None:
    source = models.write_source(tmp_path / "source", models.record_manifest(name="mine"), models.RECORD_FILES)
    pack(source, tmp_path / "mine")
    bundle = sign_bundle(tmp_path / "mine", home / "keys" / "local.key")
    (home / "vetted" / vetting_mark(bundle)).touch()
    outcomes: list[str] = []

    def add() -> None:
        try:
            outcomes.append(catalogue.add(tmp_path / "mine").version)
        except OperatorError:
            outcomes.append("refused")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["1.0.0", "refused", "refused", "refused"]
    assert [path.name for path in (home / "detectors" / "mine").iterdir()] == ["1.0.0"]
