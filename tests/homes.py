"""Home folders of installations with detectors of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discern.detectors.bundle import open_bundle
from discern.detectors.packing import pack
from discern.detectors.signing import sign_bundle
from discern.detectors.trust import TrustStore
from discern.detectors.vetting import vetting_mark
from tests.detectors import models


def take_in(home: Path, manifest: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Put a detector into a home that has a key: packed, signed, and marked as tried."""
    source = models.write_source(home / "sources" / manifest["name"], manifest, files)
    root = home / "detectors" / manifest["name"] / manifest["version"]
    root.parent.mkdir(parents=True)
    pack(source, root)
    sign_bundle(root, home / "keys" / "local.key")
    # Trying the models in a child process is tested where it is built; here it would only cost time.
    (home / "vetted" / vetting_mark(open_bundle(root, TrustStore((home / "trust",))))).touch()
