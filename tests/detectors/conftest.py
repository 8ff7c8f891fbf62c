"""Bundles packed and signed in a temporary folder, and the key that signs them."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, key: Path, trust: TrustStore) -> Path:
    """A folder with the three bundles, packed and signed once; tests get copies."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, manifest, files in (
        ("record", models.record_manifest(), models.RECORD_FILES),
        ("image", models.image_manifest(), models.IMAGE_FILES),
        ("cascade", models.cascade_manifest(), models.CASCADE_FILES),
    ):
        make_bundle(folder / name, manifest, files, key, trust)
    return folder


def copied(made: Path, name: str, folder: Path, trust: TrustStore) -> Bundle:
    """A copy of one of the made bundles, opened, which a test may change."""
    root = folder / name / f"toy-{name}-1.0.0"
    shutil.copytree(made / name / root.name, root)
    return open_bundle(root, trust)


@pytest.fixture
def record_bundle(made: Path, tmp_path: Path, trust: TrustStore) -> Bundle:
    """One stage on records of three numbers."""
    return copied(made, "record", tmp_path, trust)


@pytest.fixture
def image_bundle(made: Path, tmp_path: Path, trust: TrustStore) -> Bundle:
    """One stage on images of 32 x 32 pixels, and on video."""
    return copied(made, "image", tmp_path, trust)


@pytest.fixture
def cascade_bundle(made: Path, tmp_path: Path, trust: TrustStore) -> Bundle:
    """Two stages on images; the second takes the score of the first."""
    return copied(made, "cascade", tmp_path, trust)
