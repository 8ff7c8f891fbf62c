"""The next version of a bundle, with the variants that were accepted.

- What the bundle said stays as it was, but for its version, its variants and which of them answers.
- It appears whole or not at all, unsigned: signing is the operator's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from discern.detectors.bundle import read_file
from discern.detectors.files import taken
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.manifest_file import MANIFEST_BYTES, dump_manifest, load_manifest
from discern.detectors.packing import pack

if TYPE_CHECKING:
    from discern.detectors.bundle import Bundle
    from discern.evaluation.platforms.service import Outcome


def write_next(bundle: Bundle, outcome: Outcome, destination: Path, version: str) -> Bundle:
    """Write the next version of `bundle` to the folder `destination` and return it.

    Raises OperatorError where `destination` exists or cannot be written, and BundleRefused for a version that is none.
    """
    if destination.exists():
        raise taken(destination)
    data = load_manifest(read_file(bundle.root, MANIFEST_NAME, MANIFEST_BYTES))
    data.pop("files", None)
    variants, serves = [], outcome.serves
    with tempfile.TemporaryDirectory(prefix="discern-optimised-") as folder:
        source = Path(folder)
        old = {model for variant in bundle.manifest.variants for model in variant.models.values()}
        for name in bundle.manifest.files.keys() - old:
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bundle.read(name))
        for variant in outcome.accepted:
            models: dict[str, str] = {}
            for stage, content in variant.models.items():
                models[stage] = f"{variant.name}/{stage}.onnx"
                (source / variant.name).mkdir(exist_ok=True)
                (source / models[stage]).write_bytes(content)
            variants.append({"name": variant.name, "models": models, "evidence": variant.evidence})
        told: dict[str, object] = {}
        for key, value in data.items():
            if key == "decision":
                told["variants"] = variants
                if serves is not None:
                    told["serves"] = serves
            if key not in {"variants", "serves"}:
                told[key] = value
        told["version"] = version
        (source / MANIFEST_NAME).write_bytes(dump_manifest(told))
        return pack(source, destination)
