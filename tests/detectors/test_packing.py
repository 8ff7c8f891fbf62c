"""Packing a working folder, and archives: made the same each time, and safe to take from strangers."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discern.core.errors import BundleRefused, OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.packing import pack, read_archive, write_archive
from discern.detectors.trust import TrustStore
from tests.detectors import models


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A working folder of a record detector."""
    return models.write_source(tmp_path / "source", models.record_manifest(), models.RECORD_FILES)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Packing.


def test_packing_lists_the_files_and_keeps_the_rest(source: Path, tmp_path: Path) -> None:
    bundle = pack(source, tmp_path / "out" / "bundle")
    assert bundle == open_bundle(tmp_path / "out" / "bundle", None)
    assert set(bundle.manifest.files) == {"only.onnx", "CARD.md"}
    assert bundle.read("only.onnx") == models.RECORD_FILES["only.onnx"]
    said = bundle.manifest.model_dump(exclude={"files"})
    assert said == bundle.manifest.model_validate(models.record_manifest()).model_dump(exclude={"files"})


def test_only_named_files_are_taken_along(source: Path, tmp_path: Path) -> None:
    (source / "train.py").write_text("print('hello')")
    (source / "unused.onnx").write_bytes(models.record_model())
    (source / "secret.json").write_text("{}")
    pack(source, tmp_path / "bundle")
    assert set(tree(tmp_path / "bundle")) == {"detector.yaml", "only.onnx", "CARD.md"}


def test_the_same_folder_gives_the_same_bundle(source: Path, tmp_path: Path) -> None:
    first, second = pack(source, tmp_path / "a"), pack(source, tmp_path / "b")
    assert first.digest == second.digest
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert pack(tmp_path / "a", tmp_path / "c").digest == first.digest


def test_files_in_folders_are_packed(tmp_path: Path) -> None:
    manifest = models.record_manifest(
        card="docs/CARD.md", stages=[{"name": "only", "model": "m/only.onnx"}], reference="docs/reference.json"
    )
    files = {"docs/CARD.md": b"# Card\n", "m/only.onnx": models.record_model(), "docs/reference.json": b"{}"}
    bundle = pack(models.write_source(tmp_path / "s", manifest, files), tmp_path / "b")
    assert {name: bundle.read(name) for name in bundle.manifest.files} == files


def test_what_is_packed_can_be_read_by_others(source: Path, tmp_path: Path) -> None:
    (source / "only.onnx").chmod(0o600)
    pack(source, tmp_path / "bundle")
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "bundle").iterdir()} == {0o644}


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(source: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "bundle"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OperatorError, match="nothing is overwritten"):
        pack(source, target)
    assert target.is_symlink() or target.exists()


def break_manifest(source: Path) -> None:
    models.write_source(source, models.record_manifest(surprise=1), {})


def remove_model(source: Path) -> None:
    (source / "only.onnx").unlink()


def link_card(source: Path) -> None:
    (source / "CARD.md").unlink()
    (source / "CARD.md").symlink_to("/etc/hostname")


def pickle_model(source: Path) -> None:
    (source / "only.onnx").write_bytes(models.pickled())


def code_card(source: Path) -> None:
    models.write_source(source, models.record_manifest(card="CARD.py"), {"CARD.py": b"print()"})


def manifest_card(source: Path) -> None:
    models.write_source(source, models.record_manifest(card="detector.yaml"), {})


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (break_manifest, "detector.yaml"),
        (remove_model, "only.onnx"),
        (link_card, "CARD.md"),
        (pickle_model, "only.onnx"),
        (code_card, "CARD.py"),
        (manifest_card, "detector.yaml"),
    ],
)
def test_what_cannot_be_a_bundle_is_not_packed_and_leaves_nothing(
    source: Path, tmp_path: Path, change: Callable[[Path], None], file: str
) -> None:
    change(source)
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleRefused) as caught:
        pack(source, tmp_path / "out" / "bundle")
    assert caught.value.facts["file"] == file
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match="cannot be written"):
        pack(source, tmp_path / "file" / "bundle")


# Archives.


def test_an_archive_carries_the_bundle_and_its_signature(
    cascade_bundle: Bundle, trust: TrustStore, tmp_path: Path
) -> None:
    path = write_archive(cascade_bundle.root, tmp_path)
    assert path.name == "toy-cascade-1.0.0.discern.tar.gz"
    assert read_archive(path, tmp_path / "unpacked") == tmp_path / "unpacked"
    again = open_bundle(tmp_path / "unpacked", trust)
    assert (again.digest, again.signer) == (cascade_bundle.digest, cascade_bundle.signer)
    assert tree(tmp_path / "unpacked") == tree(cascade_bundle.root)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "unpacked").iterdir()} == {0o644}


def test_the_same_bundle_gives_the_same_archive(record_bundle: Bundle, tmp_path: Path) -> None:
    first = write_archive(record_bundle.root, tmp_path / "a.tar.gz").read_bytes()
    shutil.copytree(record_bundle.root, tmp_path / "copy")
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    time.sleep(0.01)
    assert write_archive(tmp_path / "copy", tmp_path / "b.tar.gz").read_bytes() == first


def test_archives_are_not_overwritten_and_only_bundles_are_archived(record_bundle: Bundle, tmp_path: Path) -> None:
    write_archive(record_bundle.root, tmp_path)
    with pytest.raises(OperatorError, match="nothing is overwritten"):
        write_archive(record_bundle.root, tmp_path)
    (record_bundle.root / "more.txt").write_text("x")
    with pytest.raises(BundleRefused, match=r"more\.txt"):
        write_archive(record_bundle.root, tmp_path / "other.tar.gz")
    assert not (tmp_path / "other.tar.gz").exists()


def test_an_archive_is_unpacked_only_where_nothing_is(record_bundle: Bundle, tmp_path: Path) -> None:
    path = write_archive(record_bundle.root, tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(OperatorError, match="nothing is overwritten"):
        read_archive(path, tmp_path / "there")


def entry(name: str, content: bytes = b"{}", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, content


def archive(path: Path, *entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as made:
        for member, content in entries:
            made.addfile(member, io.BytesIO(content))
    return path


def refusal(path: Path, tmp_path: Path) -> str:
    (tmp_path / "into").mkdir(exist_ok=True)
    before = set(tmp_path.iterdir())
    with pytest.raises(BundleRefused) as caught:
        read_archive(path, tmp_path / "into" / "bundle")
    assert list((tmp_path / "into").iterdir()) == []
    assert set(tmp_path.iterdir()) == before
    return str(caught.value.facts["reason"])


def test_archives_of_ordinary_tools_are_taken(record_bundle: Bundle, trust: TrustStore, tmp_path: Path) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        path = tmp_path / f"{form}.tar.gz"
        with tarfile.open(path, "w:gz", format=form) as made:
            made.add(record_bundle.root, "anything-1.0")
        assert open_bundle(read_archive(path, tmp_path / str(form)), trust).digest == record_bundle.digest


PLAIN = "the archive holds a path that is not a plain one inside the bundle"
NOT_REGULAR = "the archive holds something that is not a regular file in a folder"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([entry("b/../../evil.json")], PLAIN),
        ([entry("../evil.json")], PLAIN),
        ([entry("/tmp/evil.json")], PLAIN),
        ([entry("b/.bashrc")], PLAIN),
        ([entry("b/a\nb.json")], PLAIN),
        ([entry("b/x\\..\\y.json")], PLAIN),
        ([entry("evil.json")], NOT_REGULAR),
        ([entry("b/l.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")], NOT_REGULAR),
        ([entry("b/l.json", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")], NOT_REGULAR),
        ([entry("b/d", b"", type=tarfile.SYMTYPE, linkname="/tmp"), entry("b/d/x.json")], NOT_REGULAR),
        ([entry("b/fifo.json", b"", type=tarfile.FIFOTYPE)], NOT_REGULAR),
        ([entry("b/dev.json", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], NOT_REGULAR),
        ([entry("b/a.json"), entry("c/b.json")], "the archive holds more than one top folder"),
        ([entry("b/a.json"), entry("b/a.json")], "the archive holds it twice"),
        ([entry("b/run.py")], "it is named as Python code"),
        ([entry("b/x.md"), entry("b/x.md/y.json")], "it is not a bundle archive, or it is damaged"),
        ([entry(f"b/{i}.json") for i in range(100)], "the archive has more than 82 entries"),
        ([entry("b", b"", type=tarfile.DIRTYPE)] * 100, "the archive has more than 82 entries"),
        ([entry("b/" + "a/" * 150 + "x.json")], PLAIN),
        ([], "the archive is empty"),
    ],
)
def test_hostile_archives_are_refused_and_leave_nothing(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], reason: str
) -> None:
    assert refusal(archive(tmp_path / "a.tar.gz", *entries), tmp_path).startswith(reason)


def test_sizes_are_bounded_whatever_the_archive_says(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", entry("b/x.json", bytes(2**24 + 1)))
    assert path.stat().st_size < 100_000
    assert "more bytes than a bundle may" in refusal(path, tmp_path)
    lying = tarfile.TarInfo("b/x.onnx")
    lying.size = 2**30 + 1
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(lying.tobuf() + bytes(10_000)))
    assert "more bytes than a bundle may" in refusal(tmp_path / "b.tar.gz", tmp_path)
    lying.size = 2**29
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(lying.tobuf() + bytes(10_000)))
    assert "damaged" in refusal(tmp_path / "c.tar.gz", tmp_path)


def test_headers_of_any_length_do_not_fill_the_memory(tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tarfile.TarInfo("long")
        header.type, header.size = kind, 2**28
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**22)))
        assert "damaged" in refusal(path, tmp_path)


def test_headers_without_end_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    record = b"17 comment=12345\n"
    header = tarfile.TarInfo("long")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    one = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(one * 5000, mtime=0))
    assert "damaged" in refusal(tmp_path / "a.tar.gz", tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive", b"\x1f\x8b" + bytes(100), gzip.compress(b"x" * 5000, mtime=0)],
    ids=["empty", "text", "cut short", "no tar inside"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    assert refusal(tmp_path / "a.tar.gz", tmp_path)


def test_a_truncated_archive_is_refused(record_bundle: Bundle, tmp_path: Path) -> None:
    whole = write_archive(record_bundle.root, tmp_path).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 20)):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:length])
        assert refusal(tmp_path / "cut.tar.gz", tmp_path)
