"""A home folder with the benchmarks' detectors in it, and their bare model files beside it for the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench import inputs, models
from bench.baseline import FIELDS, SIDE, picture
from discern.app import BUILTIN, build_services
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.packing import pack
from discern.detectors.signing import generate_key, sign_bundle
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import vet, vetting_mark
from discern.settings import load_settings
from discern.store.sqlite import SqliteDatabase

RECORD, IMAGE, FAILING = "bench-record", "bench-image", "bench-failing"
_CARD = "# Card\n\nMade by a benchmark; it knows nothing.\n"


def model_files(folder: Path) -> tuple[Path, Path]:
    """Write the record model and the image model into `folder`, where they are not there; return their paths."""
    record, image = folder / "record.onnx", folder / "image.onnx"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        record.write_bytes(models.record_model())
    if not image.exists():
        pictures = np.concatenate([picture(inputs.photo(serial)) for serial in range(16)])
        image.write_bytes(models.image_model(pictures))
    return record, image


def furnish(home: Path) -> None:
    """Make a home folder with `bench-record` and `bench-image` signed, tried and added. `home` must not exist."""
    for name in ("keys", "trust", "vetted"):
        (home / name).mkdir(parents=True)
    generate_key(home / "keys" / "local.key", home / "trust" / "local.pub")
    for manifest, model in zip((record_manifest(), image_manifest()), model_files(home / "models"), strict=True):
        _vet(home, _add(home, manifest, model))
    # The shipped detectors too: a server that tries them at its start would be measured while it does.
    for root in BUILTIN.iterdir():
        _vet(home, open_bundle(root, TrustStore((BUILTIN.parent / "keys",))))
    database = SqliteDatabase(home / "discern.db")
    database.open()
    database.close()


def add_failing(home: Path) -> None:
    """Add `bench-failing` to a home folder; it has no answer to a record whose first field is below 0."""
    model = home / "models" / "failing.onnx"
    model.write_bytes(models.failing_model())
    # Trying it would refuse it, for it fails.
    (home / "vetted" / vetting_mark(_add(home, record_manifest(name=FAILING), model))).touch()


def issue_key(home: Path) -> str:
    """Return a key of the default workspace."""
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    try:
        return services.keys.issue("default", "bench", role="owner").secret
    finally:
        services.close()


def record_manifest(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a manifest holds anything YAML does
    """Return the manifest of the record detector."""
    fields = [{"name": name, "type": "number", "minimum": -2, "maximum": 2} for name in FIELDS]
    return _manifest(RECORD, {"kind": "record", "fields": fields}) | changes


def image_manifest(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the manifest of the image detector, which takes clips of 16 frames too."""
    picture_input = {"kind": "image", "width": SIDE, "height": SIDE, "crop": "none"}
    video = {"frames": 16, "pool": "top_mean", "top": 4}
    return _manifest(IMAGE, picture_input) | {"video": video} | changes


def _manifest(name: str, taken: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1,
        "name": name,
        "version": "1.0.0",
        "task": "Stands in for a detector of this size.",
        "input": taken,
        "classes": {"negative": "fine", "positive": "odd"},
        "stages": [{"name": "only", "model": "only.onnx"}],
        "decision": {"review_from": 0.4, "flag_from": 0.8},
        "card": "CARD.md",
    }


def _add(home: Path, manifest: dict[str, Any], model: Path) -> Bundle:
    source = home / "sources" / manifest["name"]
    source.mkdir(parents=True)
    (source / "only.onnx").write_bytes(model.read_bytes())
    (source / "CARD.md").write_text(_CARD, encoding="utf-8")
    (source / "detector.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    root = home / "detectors" / manifest["name"] / manifest["version"]
    root.parent.mkdir(parents=True)
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    return open_bundle(root, TrustStore((home / "trust",)))


def _vet(home: Path, bundle: Bundle) -> None:
    vet(bundle)
    (home / "vetted" / vetting_mark(bundle)).touch()
