"""Making a bundle out of a working folder, and moving a bundle about as one file.

- A bundle appears whole or not at all: it is made under a temporary name and renamed, and nothing is ever overwritten.
- Only files that the manifest names are taken along.
- The same bundle gives the same archive, byte for byte: names in order, no owners, no times.
- Unpacking writes regular files of known kinds below one folder, whatever the archive says, within the limits of a
  bundle.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from discern.detectors.bundle import FILES, FOLDERS, PART, TOTAL_BYTES, Bundle, list_files, open_bundle, read_file
from discern.detectors.contents import BYTES_BY_SUFFIX, check_name
from discern.detectors.files import appearing_folder, replace_file, replacing, taken
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.manifest_file import MANIFEST_BYTES, dump_manifest, load_manifest, parse_manifest
from discern.detectors.refusal import printable, refused

ARCHIVE_SUFFIX = ".discern.tar.gz"
_CHUNK = 1024**2
_ENTRIES = FILES + FOLDERS + 2
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError)


def next_version(version: str) -> str:
    """Return the next minor version: the same detector, decided or run in another way."""
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


def pack(source: Path, destination: Path) -> Bundle:
    """Make a bundle, not yet signed, in the folder `destination` out of the working folder `source`.

    `source` holds a manifest, whose `files` is filled in here, and what the manifest names. Raises BundleRefused when
    the result would not be a bundle, and OperatorError when `destination` exists or cannot be written.
    """
    data = load_manifest(read_file(source, MANIFEST_NAME, MANIFEST_BYTES))
    data.pop("files", None)
    named = sorted(parse_manifest(dump_manifest(data)).named_files)
    for name in named:
        check_name(name)
    with appearing_folder(destination) as folder:
        files: dict[str, str] = {}
        for name in named:
            content = read_file(source, name, BYTES_BY_SUFFIX[PurePosixPath(name).suffix])
            files[name] = hashlib.sha256(content).hexdigest()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, content)
        replace_file(folder / MANIFEST_NAME, dump_manifest({**data, "files": files}))
        digest = open_bundle(folder, None).digest
    return open_bundle(destination, None, inspected={digest})


def write_archive(root: Path, path: Path) -> Path:
    """Write the bundle in `root`, its signature included, as one file and return where it is.

    `path` is the file to write, or a folder that gets NAME-VERSION.discern.tar.gz. Raises BundleRefused when the
    bundle does not open, and OperatorError when the file exists.
    """
    bundle = open_bundle(root, None)
    top = f"{bundle.manifest.name}-{bundle.manifest.version}"
    target = path / f"{top}{ARCHIVE_SUFFIX}" if path.is_dir() else path
    if target.exists():
        raise taken(target)
    with (
        replacing(target) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, size in sorted(list_files(bundle.root).items()):
            content = read_file(bundle.root, name, size)
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return target


def read_archive(path: Path, into: Path) -> Path:
    """Unpack the archive in `path` into the folder `into`, which must not exist, and return it.

    What comes out is not verified: `open_bundle` does that. Raises BundleRefused for an archive that holds anything but
    regular files of a bundle in one folder, and OperatorError when `into` exists or cannot be written.
    """
    with appearing_folder(into) as folder:
        try:
            with gzip.open(path, "rb") as packed:
                stream = _Bounded(packed)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    _unpack(archive, folder)
                while stream.read(_CHUNK):  # to the end, where the checksum stands
                    pass
        except _DAMAGED as error:
            raise refused(path.name, f"it is not a bundle archive, or it is damaged ({printable(error)})") from None
    return into


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    tops: set[str] = set()
    total = 0
    for count, member in enumerate(archive, start=1):
        name = printable(member.name)
        if count > _ENTRIES:
            raise refused(name, f"the archive has more than {_ENTRIES} entries")
        parts = PurePosixPath(member.name).parts
        if not parts or not all(PART.fullmatch(part) for part in parts) or len(member.name) > 300:
            raise refused(name, "the archive holds a path that is not a plain one inside the bundle")
        tops.add(parts[0])
        if len(tops) > 1:
            raise refused(name, "the archive holds more than one top folder")
        if member.isdir():
            continue
        if not member.isreg() or member.issparse() or len(parts) == 1:
            raise refused(name, "the archive holds something that is not a regular file in a folder")
        inside = PurePosixPath(*parts[1:])
        check_name(inside.as_posix())
        total += member.size
        if member.size > BYTES_BY_SUFFIX[inside.suffix] or total > TOTAL_BYTES:
            raise refused(name, f"the archive holds more bytes than a bundle may ({member.size} here)")
        _write_member(archive, member, folder / inside)
    if not tops:
        raise refused(MANIFEST_NAME, "the archive is empty")


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(member)
    if source is None or target.exists():
        raise refused(printable(member.name), "the archive holds it twice")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)
    if target.stat().st_size != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")


class _Bounded(io.RawIOBase):
    """A decompressed stream that gives at most one chunk at a time and ends with an error past a bundle's size.

    `tarfile` reads headers of any length it is told into memory; this is where that stops.
    """

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._source.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET or offset > 2 * TOTAL_BYTES:
            raise tarfile.ReadError("a size in the archive is beyond what a bundle may have")
        return self._source.seek(offset)

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _CHUNK or self._source.tell() > 2 * TOTAL_BYTES:
            raise tarfile.ReadError("a header in the archive is beyond what a bundle needs")
        return self._source.read(size)
