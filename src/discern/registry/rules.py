"""When the catalogue must look again. Pure but for reading the folders' times."""

from __future__ import annotations

from pathlib import Path

Signature = tuple[tuple[str, int], ...]


def folder_signature(*folders: Path) -> Signature:
    """Return something that changes when an entry of a folder, or of one of its sub-folders, comes or goes.

    A version is a folder that is renamed into place, which changes the time of its parent; file contents are covered by
    the bundle's digests, so two levels are enough.
    """
    seen: list[tuple[str, int]] = []
    for folder in folders:
        for path in (folder, *sorted(folder.glob("*"))):
            try:
                seen.append((str(path), path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue
    return tuple(seen)
