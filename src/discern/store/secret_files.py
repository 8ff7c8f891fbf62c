"""A secret that a setting gives, or a file in the home folder, made when it is first needed."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from discern.core.errors import StorageUnavailable


class SecretFile:
    """One secret. `given` wins; where it is empty, the one in `path` counts, for the owner of the process to read.

    Processes that need it at the same time all get the same one.
    """

    def __init__(self, given: str, path: Path) -> None:
        self._known = given
        self._path = path

    def get(self) -> str:
        """Return the secret. Raises StorageUnavailable where the file cannot be read or made."""
        if not self._known:
            try:
                if not self._path.exists():
                    self._make()
                self._known = self._path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise StorageUnavailable(
                    f"The secret {self._path} cannot be read or made: {error}.", mend="See the file and its folder."
                ) from error
            if not self._known:
                raise StorageUnavailable(f"The secret {self._path} is empty.", mend="Restore it from a backup.")
        return self._known

    def _make(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        coming = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}.coming")
        handle = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename it leaves the file of whoever came first.
            with suppress(FileExistsError):
                os.link(coming, self._path)
        finally:
            coming.unlink()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
