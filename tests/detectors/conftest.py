"""Bundles packed and signed in a temporary folder, and the key that signs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.packing import pack
from discern.detectors.signing import generate_key, sign_bundle
from discern.detectors.trust import TrustStore
from tests.detectors import models


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key that every signed bundle here is signed with; its public half stands beside it as `test.pub`."""
    folder = tmp_path_factory.mktemp("keys")
    generate_key(folder / "test.key", folder / "test.pub")
    return folder / "test.key"


@pytest.fixture(scope="session")
def trust(key: Path) -> TrustStore:
    """A trust store with the test key in it."""
    return TrustStore((key.parent,))


def make_bundle(
    folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes], key: Path, trust: TrustStore
) -> Bundle:
    """A bundle packed from a working folder, signed and opened."""
    root = folder / f"{manifest['name']}-{manifest['version']}"
    pack(models.write_source(folder / "source", manifest, files), root)
    sign_bundle(root, key)
    return open_bundle(root, trust)


@pytest.fixture
def record_bundle(tmp_path: Path, key: Path, trust: TrustStore) -> Bundle:
    """One stage on records of three numbers."""
    return make_bundle(tmp_path / "record", models.record_manifest(), models.RECORD_FILES, key, trust)


@pytest.fixture
def image_bundle(tmp_path: Path, key: Path, trust: TrustStore) -> Bundle:
    """One stage on images of 32 x 32 pixels, and on video."""
    return make_bundle(tmp_path / "image", models.image_manifest(), models.IMAGE_FILES, key, trust)


@pytest.fixture
def cascade_bundle(tmp_path: Path, key: Path, trust: TrustStore) -> Bundle:
    """Two stages on images; the second takes the score of the first."""
    return make_bundle(tmp_path / "cascade", models.cascade_manifest(), models.CASCADE_FILES, key, trust)
