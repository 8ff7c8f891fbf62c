"""A detector of bright pictures with real convolutions, and pictures to judge it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.detectors.bundle import Bundle
from discern.detectors.packing import pack
from discern.evaluation.platforms.sources import labelled_rows
from discern.evaluation.platforms.types import LabelledRows
from discern.evaluation.sources import Asked, source_of
from discern.inputs.faces import face_locator
from discern.inputs.types import InputLimits
from tests.detectors import models, networks

ITEMS = 200
MARGIN = 0.05


def manifest(**changes: Any) -> dict[str, Any]:
    """The manifest of a one-stage image detector whose model is `networks.network`."""
    return models.image_manifest(decision={"review_from": 0.4, "flag_from": 0.6}) | changes


def write_pictures(folder: Path, count: int = ITEMS, seed: int = 7) -> Path:
    """A folder with `count` pictures, half of them in either class."""
    images, labels = networks.pictures(count, seed)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("bright" if label else "dark") / f"{place:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def rows_of(data: Path, bundle: Bundle, *, most: int = 1000) -> LabelledRows:
    source = source_of(str(data), bundle.manifest, Asked(), InputLimits())
    return labelled_rows(source, bundle.manifest, InputLimits(), face_locator(None), most=most)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The detector, packed; nobody changes it."""
    folder = tmp_path_factory.mktemp("platforms")
    files = {"only.onnx": networks.network(), "CARD.md": models.CARD.encode()}
    return pack(models.write_source(folder / "source", manifest(), files), folder / "toy-image-1.0.0")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pictures."""
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def data(pictures: Path, bundle: Bundle) -> LabelledRows:
    """The pictures as the detector takes them."""
    return rows_of(pictures, bundle)


def table(path: Path, count: int = 40, **columns: Any) -> Path:
    """A Parquet file of labelled records of the toy record detector."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    chance = np.random.Generator(np.random.PCG64(4))
    values = {name: chance.normal(0, 1, count).round(3).tolist() for name in ("a", "b", "c")}
    values["label"] = (np.arange(count) % 2).tolist()
    pq.write_table(pa.table(values | columns), path)
    return path
