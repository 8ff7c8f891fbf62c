"""A bundle on disk: opened, checked against its manifest and its signature, and read.

- Every file is listed with its SHA-256, every listed file is there, and nothing else is.
- There are no symbolic links, special files, odd names or kinds of files other than .onnx, .json, .md and .yaml.
- `read` checks the digest of the very bytes it returns, so a file changed after opening is refused, never used.
- Nothing in a bundle is run here; `vetting` does that in a process apart.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

from discern.detectors.contents import BYTES_BY_SUFFIX, check_content, check_name, decode_text
from discern.detectors.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, Stage
from discern.detectors.manifest_file import MANIFEST_BYTES, parse_manifest
from discern.detectors.refusal import printable, refused
from discern.detectors.trust import SIGNATURE_BYTES, TrustStore, verify_signature

FILES = 64
FOLDERS = 16
TOTAL_BYTES = 2 * 1024**3
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_OWN = frozenset({MANIFEST_NAME, SIGNATURE_NAME})
_RESTORE = "Put the file back; where it is part of a packed bundle, get it from where that came from."


@dataclass(frozen=True)
class Bundle:
    """One version of a detector as it stands on disk.

    `digest` is the SHA-256 of the manifest's bytes in hex; as the manifest lists every file's digest, it identifies
    the whole. `signer` is the fingerprint of the key that signed it, or None when it was opened without a trust
    store. `variant` is the variant whose models run, None for the stages' own: what the manifest serves, unless
    `with_variant` was asked.
    """

    manifest: Manifest
    root: Path
    digest: str
    signer: str | None
    variant: str | None = None

    def with_variant(self, name: str | None) -> Bundle:
        """Return the bundle with another variant to run, None for the stages' own models. Raises BundleRefused."""
        names = [variant.name for variant in self.manifest.variants]
        if name is not None and name not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise refused(MANIFEST_NAME, f"there is no variant {printable(name, 40)!r}; {has}")
        return replace(self, variant=name)

    def model_of(self, stage: Stage) -> str:
        """Return the file of the model that runs for a stage."""
        return self.manifest.model_of(stage, self.variant)

    def read(self, name: str) -> bytes:
        """Return the bytes of a listed file. Raises BundleRefused when they are not what the manifest lists."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise refused(name, "the manifest does not list it")
        content = read_file(self.root, name, BYTES_BY_SUFFIX[PurePosixPath(name).suffix])
        if hashlib.sha256(content).hexdigest() != expected:
            raise refused(name, "its content is not what the manifest lists (SHA-256 differs)", _RESTORE)
        return content

    def card(self) -> str:
        """Return the detector's card, Markdown text."""
        return decode_text(self.manifest.card, self.read(self.manifest.card))


def open_bundle(root: Path, trust: TrustStore | None, *, inspected: Collection[str] = ()) -> Bundle:
    """Open the bundle in the folder `root`, checking all that can be checked without running it.

    With `trust` None the signature is not looked at and `signer` is None: to explain a bundle, never to run it. A
    bundle whose digest is in `inspected` has its digests and signature checked, but its contents are not parsed
    again: the digest says that they are byte for byte the ones that were. Raises BundleRefused, or BundleUntrusted
    for the signature.
    """
    try:
        root = root.resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise refused(str(root), f"it cannot be opened: {printable(error)}") from None
    sizes = list_files(root)
    if MANIFEST_NAME not in sizes:
        raise refused(MANIFEST_NAME, "there is none, so this is not a bundle", "Make one with `discern detector pack`.")
    content = read_file(root, MANIFEST_NAME, MANIFEST_BYTES)
    manifest = parse_manifest(content)
    digest = hashlib.sha256(content).hexdigest()
    _check_listing(manifest, sizes)
    bundle = Bundle(manifest=manifest, root=root, digest=digest, signer=None, variant=manifest.serves)
    for name in sorted(manifest.files):
        file_content = bundle.read(name)
        if digest not in inspected:
            check_content(name, file_content)
    if trust is None:
        return bundle
    signature = read_file(root, SIGNATURE_NAME, SIGNATURE_BYTES) if SIGNATURE_NAME in sizes else None
    signer = verify_signature(signature, {**manifest.files, MANIFEST_NAME: digest}, trust)
    return replace(bundle, signer=signer)


def _check_listing(manifest: Manifest, sizes: dict[str, int]) -> None:
    """Raise BundleRefused unless the manifest lists exactly the files that are there, all of known kinds."""
    for name in sorted(_OWN & manifest.files.keys()):
        raise refused(
            MANIFEST_NAME, f"files lists {name}, which cannot hold its own digest", "Leave it out of `files`."
        )
    present = sizes.keys() - _OWN
    for name in sorted(present - manifest.files.keys()):
        check_name(name)
        raise refused(name, "the manifest does not list it", "Remove the file, or pack the bundle again.")
    for name in sorted(manifest.named_files - manifest.files.keys()):
        raise refused(MANIFEST_NAME, f"it names {name}, but `files` does not list it", "Pack the bundle again.")
    for name in sorted(manifest.files.keys() - present):
        raise refused(name, "the manifest lists it, but it is missing", _RESTORE)
    for name in sorted(present):
        check_name(name)
        allowed = BYTES_BY_SUFFIX[PurePosixPath(name).suffix]
        if sizes[name] > allowed:
            raise refused(name, f"it has {sizes[name]} bytes and at most {allowed} are read")


def list_files(root: Path) -> dict[str, int]:
    """Return the size of every file under `root` by its path. Raises BundleRefused for what a bundle cannot hold."""
    if not root.is_dir():
        raise refused(str(root), "it is not a folder", "Give the folder that holds detector.yaml.")
    sizes: dict[str, int] = {}
    folders = [PurePosixPath()]
    for folder in folders:
        for path, status in _entries(root, folder):
            name = path.as_posix()
            _check_entry(name, status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
                if len(folders) > FOLDERS:
                    raise refused(name, f"the bundle has more than {FOLDERS} folders")
                continue
            sizes[name] = status.st_size
            if len(sizes.keys() - _OWN) > FILES:
                raise refused(name, f"the bundle has more than {FILES} files")
            if sum(sizes.values()) > TOTAL_BYTES:
                raise refused(name, f"the bundle has more than {TOTAL_BYTES} bytes in all")
    return sizes


def _entries(root: Path, folder: PurePosixPath) -> list[tuple[PurePosixPath, os.stat_result]]:
    """Return what is in one folder, no more of it than shows that it is too much."""
    try:
        with os.scandir(root / folder) as entries:
            some = islice(entries, FILES + FOLDERS + len(_OWN) + 1)
            return [(folder / entry.name, entry.stat(follow_symlinks=False)) for entry in some]
    except OSError as error:
        raise refused(folder.as_posix(), f"the folder cannot be listed: {error.strerror}") from None


def _check_entry(name: str, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise refused(name, "it is a symbolic link", "Put the file itself into the bundle.")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise refused(name, "it is neither a file nor a folder", "Remove it from the bundle.")
    if not PART.fullmatch(PurePosixPath(name).name):
        raise refused(
            name,
            f"its name {printable(PurePosixPath(name).name, 100)!r} is not made of letters, digits, '_', '-' and '.'",
            "Rename or remove the file.",
        )


def read_file(root: Path, name: str, limit: int) -> bytes:
    """Return the bytes of one regular file of a bundle, at most `limit`, never through a symbolic link at its end."""
    try:
        descriptor = os.open(root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused(name, f"it cannot be opened: {error.strerror}", _RESTORE) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refused(name, "it is not a regular file", _RESTORE)
        if status.st_size > limit:
            raise refused(name, f"it has {status.st_size} bytes and at most {limit} are read")
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise refused(name, "it changed while it was being read", "Try again when nothing writes to it.")
    return content
