"""What sides and datasets share is found; what is merely alike in kind is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import freeze, with_split
from discern.evaluation.datasets_leakage import leakage
from discern.evaluation.rules_leakage import NEAR_BITS, near_pairs
from discern.evaluation.types_datasets import Finding, Leakage, SplitByTime
from discern.inputs.sketches import frequency_sketch_of
from tests.media import encoded

Put = Callable[..., Path]


def scene(seed: int) -> NDArray[np.uint8]:
    """A picture of its own that has less of the finer, as photographs have."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.standard_normal((side, side, 3)) / side, (256, 192), interpolation=cv2.INTER_CUBIC)
        for side in (2, 4, 8, 16, 32, 64)
    ]
    pixels = np.sum(layers, axis=0)
    return np.asarray((pixels - pixels.min()) / np.ptp(pixels) * 255, np.uint8)


def photograph(seed: int, quality: int = 95, side: float = 1.0) -> bytes:
    pixels = scene(seed)
    small = cv2.resize(pixels, None, fx=side, fy=side, interpolation=cv2.INTER_AREA)
    return encoded(Image.fromarray(np.asarray(small, np.uint8)), quality=quality)


def flat() -> bytes:
    return encoded(Image.new("RGB", (64, 48), (90, 90, 90)), "PNG")


def of_kind(found: Leakage, kind: str) -> list[Finding]:
    return [one for one in found.findings if one.kind == kind]


OPTIONS = {"positive": "fake", "group-pattern": "/([a-z]+)[0-9]*[.]"}


@pytest.fixture
def faces(put: Put) -> None:
    put("train/fake/a1.jpg", photograph(1))
    put("train/real/b1.jpg", photograph(2))
    put("test/fake/c1.jpg", photograph(3))
    put("test/real/d1.jpg", photograph(4))


def test_sides_with_nothing_in_common_do_not_leak(root: Path, faces: None) -> None:
    found = leakage(freeze(root, "folder", OPTIONS), root)
    assert (found.findings, found.leaks, found.sides) == ((), False, ("test", "train"))
    assert set(found.checked) == {"same_content", "contradicting_labels", "same_group", "near_duplicate"}


def test_the_same_file_on_both_sides_is_found(put: Put, root: Path, faces: None) -> None:
    put("test/fake/z1.jpg", photograph(1))
    found = leakage(freeze(root, "folder", OPTIONS), root, near=False)
    (one,) = found.findings
    assert (one.kind, one.sides, one.count, one.leak) == ("same_content", ("test", "train"), 1, True)
    assert one.examples == (("test/fake/z1.jpg", "train/fake/a1.jpg"),)
    assert "near_duplicate" in found.not_checked


def test_the_same_picture_in_another_size_and_quality_is_found(put: Put, root: Path, faces: None) -> None:
    put("test/fake/z1.jpg", photograph(1, quality=40, side=0.7))
    found = leakage(freeze(root, "folder", OPTIONS), root)
    assert [one.examples for one in of_kind(found, "near_duplicate")] == [(("test/fake/z1.jpg", "train/fake/a1.jpg"),)]
    assert found.leaks


def test_a_group_on_both_sides_and_contradicting_labels_are_found(put: Put, root: Path, faces: None) -> None:
    put("test/fake/a2.jpg", photograph(5))
    put("train/fake/y1.jpg", photograph(2))
    found = leakage(freeze(root, "folder", OPTIONS), root)
    assert [one.examples for one in of_kind(found, "same_group")] == [(("test/fake/a2.jpg", "train/fake/a1.jpg"),)]
    assert [one.examples for one in of_kind(found, "contradicting_labels")] == [
        (("train/real/b1.jpg", "train/fake/y1.jpg"),)
    ]


def test_flat_and_unreadable_pictures_are_said_and_not_compared(put: Put, root: Path, faces: None) -> None:
    for path in ("train/real/e1.png", "test/real/f1.png"):
        put(path, flat() + path.encode())
    put("test/real/g1.jpg", photograph(6)[:200])
    found = leakage(freeze(root, "folder", OPTIONS), root)
    assert not found.findings
    assert "2 pictures are too flat" in found.not_checked["near_duplicate"]
    assert list(found.unreadable) == ["test/real/g1.jpg"]


def test_without_sides_pictures_of_different_groups_that_are_alike_are_a_note(put: Put, root: Path) -> None:
    put("fake/a1.jpg", photograph(1))
    put("real/b1.jpg", photograph(1, quality=60))
    found = leakage(freeze(root, "folder", OPTIONS), root)
    assert [(one.kind, one.leak) for one in found.findings] == [("near_duplicate", False)]
    assert set(found.not_checked) == {"same_content", "same_group"}
    assert not found.leaks


def test_two_datasets_are_compared_with_each_other(tmp_path: Path) -> None:
    roots = (tmp_path / "one", tmp_path / "two")
    for number, root in enumerate(roots):
        for name, seed in (("fake/a1.jpg", 1), (f"real/b{number}.jpg", 5 + number)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(photograph(seed, quality=95 - 5 * number))
    first, second = (freeze(root, "folder", OPTIONS) for root in roots)
    found = leakage(first, roots[0], second, roots[1])
    assert found.manifests == (first.sha256, second.sha256)
    assert [one.sides for one in of_kind(found, "near_duplicate")] == [("one", "two")]
    assert [one.leak for one in of_kind(found, "same_group")] == [False]


def test_a_dataset_compared_with_itself_leaks_as_a_whole(root: Path, faces: None) -> None:
    manifest = freeze(root, "folder", OPTIONS)
    (one,) = of_kind(leakage(manifest, root, freeze(root, "folder", OPTIONS, name="again"), near=False), "same_content")
    assert (one.count, one.leak) == (4, True)


def payments(path: Path, days: list[int], amounts: list[float], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "label": labels,
        "day": pa.array(days, pa.date32()),
        "card": [f"c{number % 3}" for number in range(len(days))],
        "amount": amounts,
        "word": ["x", None] * (len(days) // 2),
    }
    pq.write_table(pa.table(columns), path)


RULE = SplitByTime({"train": ("1970-01-01", "1970-01-01"), "test": ("1970-01-02", "1970-01-02")})


def test_the_same_record_on_both_sides_and_with_both_labels_is_found(root: Path) -> None:
    payments(root / "t.parquet", [0, 0, 0, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 0, 0, 1, 0, 0, 0])
    options = {"group": "card", "at": "day", "withheld": "day"}
    clean = leakage(with_split(freeze(root, "table", options), RULE, root), root)
    assert [(one.kind, one.leak) for one in clean.findings] == [("same_group", False)]
    # Row 6 repeats row 0 with the other label.
    payments(root / "t.parquet", [0, 0, 0, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6, 1, 8], [0, 1, 0, 0, 1, 0, 1, 0])
    found = leakage(with_split(freeze(root, "table", options), RULE, root), root)
    assert [one.examples for one in of_kind(found, "same_row")] == [(("t.parquet#6", "t.parquet#0"),)]
    assert [one.examples for one in of_kind(found, "contradicting_labels")] == [(("t.parquet#0", "t.parquet#6"),)]


def test_two_tables_share_their_common_columns(tmp_path: Path) -> None:
    for name, amount in (("one", 2.0), ("two", 3.0)):
        payments(tmp_path / name / "t.parquet", [0, 1], [1.0, amount], [0, 1])
    first, second = (freeze(tmp_path / name, "table", {"group": "card"}) for name in ("one", "two"))
    found = leakage(first, tmp_path / "one", second, tmp_path / "two")
    assert [(one.count, one.sides) for one in of_kind(found, "same_row")] == [(1, ("one", "two"))]


def test_records_and_pictures_are_not_compared(put: Put, root: Path, tmp_path: Path) -> None:
    put("fake/a1.jpg", photograph(1))
    payments(tmp_path / "t" / "t.parquet", [0, 1], [1.0, 2.0], [0, 1])
    records = freeze(tmp_path / "t", "table")
    with pytest.raises(DatasetRefused, match="share nothing"):
        leakage(freeze(root, "folder", OPTIONS), root, records, tmp_path / "t")


def test_bands_miss_no_pair_that_comparing_all_finds() -> None:
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 2**64, 300, dtype=np.uint64)
    flips = np.bitwise_or.reduce(np.uint64(1) << generator.integers(0, 64, (300, 6)).astype(np.uint64), axis=1)
    sketches = np.concatenate([centres, centres ^ flips, centres[:50]])[:, None]
    apart = np.bitwise_count(sketches ^ sketches.T)
    wanted = {tuple(pair) for pair in np.argwhere(np.triu(apart <= NEAR_BITS, 1)).tolist()}
    found = near_pairs(sketches)
    assert len(found) == len(wanted) > 50
    assert {tuple(pair) for pair in found.tolist()} == wanted


def test_ten_thousand_sketches_are_compared_without_comparing_all() -> None:
    sketches = np.random.default_rng(0).integers(0, 2**64, (10_000, 1), dtype=np.uint64)
    sketches[1:4000:2] = sketches[0:4000:2] ^ np.uint64(0b1001)
    assert len(near_pairs(sketches)) == 2000


def test_clips_are_near_only_where_all_their_frames_are() -> None:
    sketches = np.array([[1, 2, 3], [1, 2, 3], [2**40 - 1, 2, 3]], np.uint64)
    assert near_pairs(sketches).tolist() == [[0, 1]]


def test_a_sketch_outlives_recompression_and_tells_pictures_apart() -> None:
    def sketch(content: bytes) -> int:
        found = frequency_sketch_of(np.array(Image.open(io.BytesIO(content)).convert("RGB")))
        assert found is not None
        return found

    for seed in range(20):
        assert (sketch(photograph(seed)) ^ sketch(photograph(seed, quality=40, side=0.7))).bit_count() <= NEAR_BITS
        assert (sketch(photograph(seed)) ^ sketch(photograph(seed + 100))).bit_count() > 2 * NEAR_BITS
    assert frequency_sketch_of(np.full((50, 50, 3), 7, np.uint8)) is None
