"""Opening a bundle: every promise about the files of a bundle, on real folders."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from discern.core.errors import BundleRefused, BundleUntrusted
from discern.detectors.bundle import FILES, Bundle, open_bundle
from discern.detectors.trust import TrustStore
from tests.detectors import models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A bundle without a signature."""
    return models.write_bundle(tmp_path / "bundle", models.record_manifest(), models.RECORD_FILES)


def refusal(root: Path, trust: TrustStore | None = None) -> tuple[str, str]:
    """The file and the reason that opening is refused with."""
    with pytest.raises(BundleRefused) as caught:
        open_bundle(root, trust)
    facts = caught.value.facts
    assert str(facts["file"]) in str(caught.value)
    assert str(facts["reason"]) in str(caught.value)
    return str(facts["file"]), str(facts["reason"])


def listing(root: Path, **files: bytes) -> Path:
    """Write `files` (dots as `__`) into the bundle and list them truly."""
    manifest = yaml.safe_load((root / "detector.yaml").read_text())
    contents: Mapping[str, bytes] = {
        **{name: (root / name).read_bytes() for name in manifest.pop("files")},
        **{name.replace("__", "."): content for name, content in files.items()},
    }
    return models.write_bundle(root, manifest, contents)


def test_an_intact_bundle_opens_and_is_identified(record_bundle: Bundle, trust: TrustStore) -> None:
    again = open_bundle(record_bundle.root, trust)
    assert again == record_bundle
    assert again.manifest.name == "toy-record"
    assert again.digest == hashlib.sha256((again.root / "detector.yaml").read_bytes()).hexdigest()
    assert again.signer == trust.keys()[0].fingerprint
    assert again.read("only.onnx") == models.record_model()
    assert again.card() == models.CARD


def test_without_a_trust_store_the_signature_is_not_looked_at(root: Path) -> None:
    bundle = open_bundle(root, None)
    assert bundle.signer is None
    (root / "signature.json").write_text("nonsense")
    assert open_bundle(root, None) == bundle


def test_every_flipped_byte_is_found(record_bundle: Bundle, trust: TrustStore) -> None:
    for name in ("only.onnx", "CARD.md", "detector.yaml", "signature.json"):
        path = record_bundle.root / name
        content = path.read_bytes()
        for place in {0, len(content) // 3, len(content) // 2, len(content) - 2}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            file, reason = refusal(record_bundle.root, trust)
            # A digit flipped in the manifest's list shows at the file it belongs to.
            assert file == name or (name == "detector.yaml" and "SHA-256 differs" in reason), (name, place)
        path.write_bytes(content)
    assert open_bundle(record_bundle.root, trust) == record_bundle


def test_a_flipped_byte_is_named_with_its_file_and_what_to_do(root: Path) -> None:
    model = root / "only.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BundleRefused) as caught:
        open_bundle(root, None)
    assert caught.value.facts["file"] == "only.onnx"
    assert "SHA-256 differs" in str(caught.value)
    assert caught.value.mend


def test_what_is_verified_is_what_is_used(root: Path) -> None:
    bundle = open_bundle(root, None)
    (root / "only.onnx").write_bytes(models.record_model(bias=5.0))
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        bundle.read("only.onnx")
    (root / "only.onnx").unlink()
    with pytest.raises(BundleRefused, match="cannot be opened"):
        bundle.read("only.onnx")
    (root / "only.onnx").symlink_to("/etc/hostname")
    with pytest.raises(BundleRefused, match="cannot be opened"):
        bundle.read("only.onnx")


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "detector.yaml", "signature.json", "missing.onnx"])
def test_only_listed_files_are_read(root: Path, name: str) -> None:
    (root.parent / "other").write_text("secret")
    with pytest.raises(BundleRefused, match="does not list it"):
        open_bundle(root, None).read(name)


def test_an_unlisted_file_is_refused(root: Path) -> None:
    (root / "notes.md").write_text("hello")
    assert refusal(root) == ("notes.md", "the manifest does not list it")


@pytest.mark.parametrize("name", [".DS_Store", ".hidden.md", "a b.md", "ünï.md", "new\nline.md", "-rf.md"])
def test_odd_names_are_refused(root: Path, name: str) -> None:
    (root / name).write_text("hello")
    _, reason = refusal(root)
    assert "is not made of letters" in reason
    assert reason.isprintable()


def test_a_missing_file_is_refused(root: Path) -> None:
    (root / "CARD.md").unlink()
    assert refusal(root) == ("CARD.md", "the manifest lists it, but it is missing")


def test_a_file_that_the_manifest_names_must_be_listed(tmp_path: Path) -> None:
    manifest = models.record_manifest(reference="reference.json")
    root = models.write_bundle(tmp_path / "b", manifest, models.RECORD_FILES)
    assert refusal(root) == ("detector.yaml", "it names reference.json, but `files` does not list it")


@pytest.mark.parametrize("target", ["/etc/hostname", "only.onnx", "nowhere"])
def test_symbolic_links_are_refused(root: Path, target: str) -> None:
    (root / "CARD.md").unlink()
    (root / "CARD.md").symlink_to(target)
    assert refusal(root) == ("CARD.md", "it is a symbolic link")


def test_a_linked_folder_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "more").symlink_to(tmp_path / "elsewhere")
    assert refusal(root) == ("more", "it is a symbolic link")


def test_special_files_are_refused_without_waiting_on_them(root: Path) -> None:
    os.mkfifo(root / "pipe.json")
    started = time.monotonic()
    assert refusal(root) == ("pipe.json", "it is neither a file nor a folder")
    (root / "pipe.json").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.json"))
        assert refusal(root) == ("socket.json", "it is neither a file nor a folder")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["../CARD.md", "/etc/hostname", "a/../CARD.md", "./CARD.md", "a\\b.md"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "CARD.md").write_text("outside")
    for manifest in (
        models.record_manifest(card=name, files={}),
        models.record_manifest(files={name: "0" * 64}),
        models.record_manifest(stages=[{"name": "only", "model": name + ".onnx"}], files={}),
    ):
        root = models.write_source(tmp_path / "b", manifest, models.RECORD_FILES)
        file, reason = refusal(root)
        assert file == "detector.yaml"
        assert "plain relative path inside the bundle" in reason


def test_an_unknown_key_is_refused_and_named(tmp_path: Path) -> None:
    root = models.write_bundle(tmp_path / "b", models.record_manifest(thresholds=1), models.RECORD_FILES)
    assert refusal(root) == ("detector.yaml", "thresholds: unknown key")


def test_the_manifest_and_the_signature_cannot_list_themselves(root: Path) -> None:
    manifest = yaml.safe_load((root / "detector.yaml").read_text())
    for name in ("detector.yaml", "signature.json"):
        models.write_source(root, {**manifest, "files": {**manifest["files"], name: "0" * 64}}, {})
        assert refusal(root) == ("detector.yaml", f"files lists {name}, which cannot hold its own digest")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("run__py", "Python code"),
        ("lib__so", "a native library"),
        ("lib__PY", "Python code"),
        ("weights__pkl", "a pickle"),
        ("weights__pt", "a PyTorch file"),
        ("weights__bin", "a raw data file"),
        ("weights__npy", "a NumPy array"),
        ("model__ONNX", "a kind bundles do not hold"),
        ("README", "no suffix"),
    ],
)
def test_other_kinds_of_files_are_refused_by_name_even_when_listed(root: Path, name: str, kind: str) -> None:
    file, reason = refusal(listing(root, **{name: b"harmless"}))
    assert file == name.replace("__", ".")
    assert kind in reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("only__onnx", models.pickled(), "it is not an ONNX file but a pickle"),
        ("only__onnx", models.torch_archive(), "it is not an ONNX file but a PyTorch archive"),
        ("only__onnx", models.external_data_model(), "keeps its data in another file"),
        ("only__onnx", models.external_data_model("../../etc/passwd"), "keeps its data in another file"),
        ("only__onnx", models.declared_dimension_model(2**40), "which is outside 0 to 2147483648"),
        ("only__onnx", models.initializer_model([2**20, 2**20]), "its data hold fewer"),
        ("only__onnx", models.custom_operator_model(), "only ai.onnx and ai.onnx.ml are taken"),
        ("spare__onnx", models.pickled(), "it is not an ONNX file but a pickle"),
        ("reference__json", models.pickled(), "it is not UTF-8 text"),
        ("reference__json", b"{", "it is not JSON"),
        ("reference__json", b'{"a": NaN}', "NaN is not a JSON number"),
        ("reference__json", b'{"a": 1e999}', "overflows"),
        ("reference__json", b"[" * 100_000, "nested too deeply"),
        ("reference__json", b"9" * 5000, "it is not JSON"),
        ("CARD__md", b"\x7fELF\x00\x01", "NUL bytes"),
        ("CARD__md", b"\xff\xfe", "it is not UTF-8 text"),
        ("notes__yaml", b"\x80\x04\x95", "it is not UTF-8 text"),
    ],
)
def test_other_kinds_of_content_are_refused_even_when_listed(
    root: Path, name: str, content: bytes, reason: str
) -> None:
    file, found = refusal(listing(root, **{name: content}))
    assert file == name.replace("__", ".")
    assert reason in found


def test_files_in_folders_are_taken(tmp_path: Path) -> None:
    manifest = models.record_manifest(card="docs/CARD.md", stages=[{"name": "only", "model": "models/v1/only.onnx"}])
    files = {"docs/CARD.md": b"# Card\n", "models/v1/only.onnx": models.record_model()}
    assert open_bundle(models.write_bundle(tmp_path / "b", manifest, files), None).card() == "# Card\n"


def test_too_many_files_and_folders_are_refused(root: Path) -> None:
    for number in range(FILES + 1):
        (root / f"n{number}.json").write_text("{}")
    assert refusal(root)[1] == "the bundle has more than 64 files"
    for number in range(FILES + 1):
        (root / f"n{number}.json").unlink()
    deep = root
    for _ in range(20):
        deep = deep / "d"
        deep.mkdir()
    assert refusal(root)[1] == "the bundle has more than 16 folders"


def test_too_many_bytes_are_refused_unread(root: Path) -> None:
    for number in range(3):
        with (root / f"n{number}.onnx").open("wb") as file:
            file.truncate(2**30)  # sparse: no bytes on disk
    assert refusal(root)[1] == "the bundle has more than 2147483648 bytes in all"
    for number in range(3):
        (root / f"n{number}.onnx").unlink()
    with (root / "CARD.md").open("wb") as file:
        file.truncate(2**24 + 1)
    assert refusal(root) == ("CARD.md", "it has 16777217 bytes and at most 16777216 are read")
    with (root / "detector.yaml").open("wb") as file:
        file.truncate(1_000_001)
    assert refusal(root) == ("detector.yaml", "it has 1000001 bytes and at most 1000000 are read")


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere")[1] == "it is not a folder"
    (tmp_path / "file").write_text("x")
    assert refusal(tmp_path / "file")[1] == "it is not a folder"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop" in refusal(tmp_path / "loop")[0]
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == ("detector.yaml", "there is none, so this is not a bundle")


def test_a_bundle_inspected_before_is_still_verified(record_bundle: Bundle, trust: TrustStore, root: Path) -> None:
    seen = {record_bundle.digest}
    assert open_bundle(record_bundle.root, trust, inspected=seen) == record_bundle
    path = record_bundle.root / "only.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        open_bundle(record_bundle.root, trust, inspected=seen)
    listing(root, only__onnx=models.pickled())
    with pytest.raises(BundleRefused, match="a pickle"):
        open_bundle(root, None, inspected=seen)
    digest = hashlib.sha256((root / "detector.yaml").read_bytes()).hexdigest()
    assert open_bundle(root, None, inspected={digest}).digest == digest


def test_a_bundle_without_a_signature_is_not_trusted(root: Path, trust: TrustStore) -> None:
    with pytest.raises(BundleUntrusted) as caught:
        open_bundle(root, trust)
    assert caught.value.facts["file"] == "signature.json"
    assert "not signed" in str(caught.value)


def test_a_card_is_text(cascade_bundle: Bundle, image_bundle: Bundle) -> None:
    assert cascade_bundle.card() == image_bundle.card() == models.CARD
