"""The layouts of deepfake datasets, each on a miniature that is laid out as the dataset is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import freeze
from discern.evaluation.types import Item

Put = Callable[..., Path]


def items(root: Path, layout: str, **options: str) -> dict[str, Item]:
    return {item.id: item for item in freeze(root, layout, options).items}


@pytest.fixture
def faceforensics(put: Put) -> None:
    for sequence in ("000", "003", "010", "011"):
        for compression in ("raw", "c23", "c40"):
            put(f"original_sequences/youtube/{compression}/videos/{sequence}.mp4")
    for fake in ("000_003", "003_000", "010_011"):
        put(f"manipulated_sequences/Deepfakes/c23/videos/{fake}.mp4")
        put(f"manipulated_sequences/Deepfakes/masks/videos/{fake}.mp4")
    put("original_sequences/actors/c23/videos/01__walking.mp4")
    put("manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABCDEFGH.mp4")
    for split, pairs in (("train", [["003", "000"]]), ("val", []), ("test", [["010", "011"]])):
        put(f"splits/{split}.json", json.dumps(pairs))


def test_faceforensics_has_its_official_splits_and_a_pair_is_one_group(root: Path, faceforensics: None) -> None:
    found = items(root, "faceforensics")
    fake = found["manipulated_sequences/Deepfakes/c23/videos/000_003.mp4"]
    original = found["original_sequences/youtube/c23/videos/003.mp4"]
    assert (fake.label, original.label) == (1, 0)
    assert (fake.group, fake.split) == (original.group, original.split) == ("sequence 000", "train")
    assert fake.subgroups == {"method": "Deepfakes", "compression": "c23"}
    assert found["manipulated_sequences/Deepfakes/c23/videos/010_011.mp4"].split == "test"
    assert not [path for path in found if "masks" in path]
    actor = found["manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walking__ABCDEFGH.mp4"]
    assert (actor.label, actor.group, actor.split) == (1, "actor 01", None)


def test_faceforensics_takes_the_compression_that_is_asked_for(root: Path, faceforensics: None) -> None:
    assert {item.subgroups["compression"] for item in items(root, "faceforensics", compression="c40").values()} == {
        "c40"
    }
    assert {item.subgroups["compression"] for item in items(root, "faceforensics", compression="c0").values()} == {"c0"}


def test_faceforensics_without_its_splits_groups_by_the_names_of_the_fakes(put: Put, root: Path) -> None:
    for sequence in ("000", "003", "004"):
        put(f"original_sequences/youtube/c23/videos/{sequence}.mp4")
    put("manipulated_sequences/Face2Face/c23/videos/000_003.mp4")
    manifest = freeze(root, "faceforensics")
    groups = {Path(item.id).stem: item.group for item in manifest.items}
    assert groups["000"] == groups["003"] == groups["000_003"] != groups["004"]
    assert any("official splits are not there" in caveat for caveat in manifest.caveats)


def test_faceforensics_frames_belong_to_their_video(put: Put, root: Path) -> None:
    for frame in ("0000.png", "0010.png"):
        put(f"original_sequences/youtube/c23/frames/000/{frame}")
        put(f"manipulated_sequences/FaceSwap/c23/images/000_003/{frame}")
    found = items(root, "faceforensics", media="frames")
    assert len(found) == 4
    assert {item.group for item in found.values()} == {"sequence 000"}


@pytest.mark.parametrize(
    ("split", "content", "said"),
    [
        ("test", '[["000", "010"]]', "two sides"),
        ("val", "{}", "not a list of pairs"),
        ("val", "[", "not JSON"),
    ],
)
def test_faceforensics_refuses_splits_that_are_not_its_own(
    put: Put, root: Path, faceforensics: None, split: str, content: str, said: str
) -> None:
    put(f"splits/{split}.json", content)
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "faceforensics")


@pytest.fixture
def celeb_df(put: Put) -> None:
    for name in ("Celeb-real/id0_0000", "Celeb-real/id1_0000", "YouTube-real/00000", "Celeb-synthesis/id0_id1_0000"):
        put(f"{name}.mp4")
    put("List_of_testing_videos.txt", "1 Celeb-real/id1_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n")


def test_celeb_df_turns_its_labels_round_and_takes_its_list(root: Path, celeb_df: None) -> None:
    found = items(root, "celeb-df-v2")
    said = {path: (item.label, item.split, item.group) for path, item in found.items()}
    assert said == {
        "Celeb-real/id0_0000.mp4": (0, "train", "id0"),
        "Celeb-real/id1_0000.mp4": (0, "test", "id1"),
        "Celeb-synthesis/id0_id1_0000.mp4": (1, "test", "id0"),
        "YouTube-real/00000.mp4": (0, "train", "YouTube-real 00000"),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 Celeb-synthesis/id0_id1_0000.mp4", "otherwise than its folder"),
        ("0 Celeb-synthesis/id9_id1_0000.mp4", "not here"),
        ("fake id0_id1_0000.mp4", "line 1"),
    ],
)
def test_celeb_df_refuses_a_list_that_does_not_fit(put: Put, root: Path, celeb_df: None, line: str, said: str) -> None:
    put("List_of_testing_videos.txt", line)
    with pytest.raises(DatasetRefused, match=said):
        freeze(root, "celeb-df-v2")


def test_dfdc_groups_a_fake_with_its_original(put: Put, root: Path) -> None:
    facts = {
        "fake.mp4": {"label": "FAKE", "split": "train", "original": "real.mp4"},
        "real.mp4": {"label": "REAL", "split": "train"},
    }
    put("dfdc_train_part_0/metadata.json", json.dumps(facts))
    put("test/metadata.json", json.dumps({"other.mp4": {"is_fake": 1, "augmentations": ["blur"]}}))
    for path in ("dfdc_train_part_0/fake.mp4", "dfdc_train_part_0/real.mp4", "test/other.mp4"):
        put(path)
    found = items(root, "dfdc")
    assert {path: (item.label, item.group, item.split) for path, item in found.items()} == {
        "dfdc_train_part_0/fake.mp4": (1, "real.mp4", "train"),
        "dfdc_train_part_0/real.mp4": (0, "real.mp4", "train"),
        "test/other.mp4": (1, "other.mp4", None),
    }
    assert found["test/other.mp4"].subgroups == {"part": "test", "augmented": "yes"}


def test_dfdc_refuses_a_list_that_leads_out_of_the_root(put: Put, root: Path) -> None:
    put("metadata.json", json.dumps({"../secret.mp4": {"label": "FAKE"}}))
    with pytest.raises(DatasetRefused, match="not below the root"):
        freeze(root, "dfdc")


def test_the_preview_of_dfdc_groups_people_who_were_swapped(put: Put, root: Path) -> None:
    facts = {
        "method_A/7/7_A/3_7_A_001.mp4": {"label": "fake", "set": "train", "target_id": 3, "swapped_id": 7},
        "original_videos/7/7_A_001.mp4": {"label": "real", "set": "train", "target_id": 7, "swapped_id": None},
        "original_videos/9/9_A_001.mp4": {
            "label": "real",
            "set": "test",
            "target_id": 9,
            "swapped_id": None,
            "augmentations": ["fps:15"],
        },
    }
    put("dataset.json", json.dumps(facts))
    for path in facts:
        put(path)
    found = items(root, "dfdc-preview")
    fake, original, other = (found[path] for path in facts)
    assert (fake.label, fake.split, fake.subgroups["method"]) == (1, "train", "method_A")
    assert fake.group == original.group != other.group
    assert (other.label, other.split, other.subgroups["augmentation"]) == (0, "test", "fps:15")


def test_df40_finds_the_frames_of_its_lists_by_the_end_of_their_paths(put: Put, root: Path) -> None:
    real = "deepfakes_detection_datasets/FaceForensics++/original_sequences/youtube/c23/frames/000/000.png"
    fakes = [f"deepfakes_detection_datasets/DF40/simswap/ff/frames/000_003/{frame:03}.png" for frame in range(3)]
    lists = {
        "simswap_ff": {
            "simswap_Real": {"test": {"c23": {"000": {"label": "simswap_Real", "frames": [real]}}}},
            "simswap_Fake": {
                "val": {"000_003": {"label": "simswap_Fake", "frames": fakes[:1]}},
                "test": {"000_003": {"label": "simswap_Fake", "frames": fakes}},
            },
        }
    }
    put("dataset_json/simswap_ff.json", json.dumps(lists))
    put("FaceForensics++/original_sequences/youtube/c23/frames/000/000.png")
    for path in fakes:
        put(path.removeprefix("deepfakes_detection_datasets/DF40/"))
    manifest = freeze(root, "df40")
    assert [(item.label, item.split) for item in manifest.items] == [(0, "test"), *[(1, "test")] * 3]
    assert {item.group for item in manifest.items} == {"sequence 000"}
    assert any("several sides" in caveat for caveat in manifest.caveats)
    assert len(freeze(root, "df40", {"frames": "1"}).items) == 3
    (root / "simswap/ff/frames/000_003/001.png").unlink()
    with pytest.raises(DatasetRefused, match="1 frames that are not here"):
        freeze(root, "df40")


def test_df40_without_lists_goes_by_its_folders(put: Put, root: Path) -> None:
    put("simswap/ff/frames/000_003/000.png")
    put("simswap/cdf/frames/id0_id1_0002/000.png")
    put("MidJourney/fake/1.png")
    put("MidJourney/real/2.png")
    found = items(root, "df40")
    assert {path: (item.label, item.group) for path, item in found.items()} == {
        "MidJourney/fake/1.png": (1, "video MidJourney/fake/1.png"),
        "MidJourney/real/2.png": (0, "video MidJourney/real/2.png"),
        "simswap/cdf/frames/id0_id1_0002/000.png": (1, "person id0"),
        "simswap/ff/frames/000_003/000.png": (1, "sequence 000"),
    }


def test_deepfake_eval_2024_takes_one_kind_at_a_time(put: Put, root: Path) -> None:
    put(
        "image-metadata-publish.csv",
        "Filename,Ground Truth,Finetuning Set\na.jpg,Fake,Train\nb.jpg,Real,Test\nc.jpg,Unknown,Test\n",
    )
    for name in ("a", "b", "c"):
        put(f"image-data/{name}.jpg")
    manifest = freeze(root, "deepfake-eval-2024", {"media": "image"})
    assert [(item.id, item.label, item.split) for item in manifest.items] == [
        ("image-data/a.jpg", 1, "train"),
        ("image-data/b.jpg", 0, "test"),
    ]
    assert any("neither real nor fake" in caveat for caveat in manifest.caveats)
    with pytest.raises(DatasetRefused, match="video-data"):
        freeze(root, "deepfake-eval-2024")


@pytest.mark.parametrize(
    "layout", ["faceforensics", "df40", "dfdc", "uta-rldd", "nthu-ddd", "yawdd", "fraud-handbook", "webdataset"]
)
def test_a_folder_of_something_else_says_what_was_expected(put: Put, root: Path, layout: str) -> None:
    put("notes.txt", "nothing")
    with pytest.raises(DatasetRefused, match="nothing of the layout"):
        freeze(root, layout)
