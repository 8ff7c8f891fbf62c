"""Master keys that Discern holds itself, and the ring that all kinds of keys hang on.

- A version is known by its number and a digest of it, so that the key of another installation is not taken for ours.
- A key file is there as a whole or not at all, on the disk before anything is wrapped by it, and its owner's alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from discern.core.errors import CallerError, InvalidSettings, ObjectRefused, StorageUnavailable
from discern.objects.ports import HeldKey, KeyWrapper, KindOfKey, MasterKey
from discern.objects.rules import KEY_BYTES
from discern.objects.types import KeyVersion, WrappedKey

_NUMBER_DIGITS = 6


class KeyRing:
    """Wraps by the current master key, and unwraps by whatever key an id names.

    `others` are master keys of other kinds, which still unwrap; `subjects` are kinds of key further down the chain.
    """

    def __init__(self, master: MasterKey, others: Sequence[MasterKey] = (), subjects: Sequence[KindOfKey] = ()) -> None:
        self.master = master
        self._others = [key for key in others if key.kind != master.kind]
        self._kinds: dict[str, KindOfKey] = {key.kind: key for key in (*self._others, *subjects, master)}

    def current(self) -> str:
        """Return the id of what wraps. Raises ObjectsUnavailable."""
        return self.master.current()

    def versions(self) -> list[KeyVersion]:
        """Return the versions of every master key that is here. Of one that is not the current one none is current."""
        older = [replace(one, is_current=False) for key in self._others for one in key.versions()]
        return [*older, *self.master.versions()]

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the version of an id; None where nothing here can unwrap by it."""
        for key in (*self._others, self.master):
            if key.kind == key_id.partition(":")[0]:
                found = key.version(key_id)
                return found if found is None or key is self.master else replace(found, is_current=False)
        return None

    def remove_version(self, key_id: str) -> None:
        """Remove a version of whichever master key has it."""
        for key in (*self._others, self.master):
            if key.kind == key_id.partition(":")[0]:
                key.remove_version(key_id)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by the current version of the master key."""
        return self.master.wrap(key, context)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused where what wrapped it is not here."""
        kind = self._kinds.get(wrapped.kind)
        if kind is None:
            raise no_such_key(wrapped.key_id)
        return kind.unwrap(wrapped, context)

    def chained(self, wrapped: WrappedKey, context: bytes, key_id: str) -> KeyWrapper:
        """Return a key that is itself wrapped as one that wraps others, under the id `key_id`."""
        return HeldKey(key_id, self.unwrap(wrapped, context))


class FileMasterKey:
    """Versions as files of a folder. The first is made at the first use."""

    kind = "file"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, HeldKey] = {}

    def current(self) -> str:
        """Return the id of the newest version. Raises StorageUnavailable."""
        return self._current().key_id

    def versions(self) -> Sequence[KeyVersion]:
        """Return every version, the oldest first."""
        paths = self._paths()
        found = []
        for path in paths:
            made_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            found.append(KeyVersion(self._read(path).key_id, made_at, path == paths[-1]))
        return found

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the version of an id, or None."""
        return next((one for one in self.versions() if one.id == key_id), None)

    def make_version(self) -> str:
        """Make a version, the current one from here on. Raises StorageUnavailable."""
        paths = self._paths()
        number = int(paths[-1].stem) + 1 if paths else 1
        return self._made(number).key_id

    def remove_version(self, key_id: str) -> None:
        """Delete the file of a version."""
        for path in self._paths():
            if self._read(path).key_id == key_id:
                path.unlink()
                self._known.pop(path.name, None)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by the newest version."""
        return self._current().wrap(key, context)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused."""
        for path in self._paths():
            held = self._read(path)
            if held.key_id == wrapped.key_id:
                return held.unwrap(wrapped, context)
        raise no_such_key(wrapped.key_id)

    def _current(self) -> HeldKey:
        paths = self._paths()
        return self._read(paths[-1]) if paths else self._made(1)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.key"))

    def _made(self, number: int) -> HeldKey:
        """Make a version, unless another process was quicker; return the one there is."""
        path = self._folder / f"{number:0{_NUMBER_DIGITS}}.key"
        coming = self._folder / f".{secrets.token_hex(8)}.coming"
        try:
            for folder in (self._folder.parent, self._folder):  # `parents` would give the first one its own mode
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename it never takes the place of a key that is there.
            with suppress(FileExistsError):
                os.link(coming, path)
            coming.unlink()
            _sync(self._folder)
        except OSError as error:
            raise StorageUnavailable(
                f"{self._folder} cannot be written: {error.strerror}.", mend="See its permissions."
            ) from error
        return self._read(path)

    def _read(self, path: Path) -> HeldKey:
        known = self._known.get(path.name)
        if known is None:
            try:
                key = _decoded(path.read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                raise StorageUnavailable(
                    f"{path} is not a master key that can be read.", mend="Restore it: without it nothing opens."
                ) from error
            number = int(path.stem)
            known = self._known[path.name] = HeldKey(f"{self.kind}:{number}-{_digest(key)}", key)
        return known


class SecretMasterKey:
    """Versions in a secret of the settings: 32 bytes each in Base64, with commas between; the first is current."""

    kind = "secret"

    def __init__(self, secret: str) -> None:
        try:
            keys = [_decoded(part) for part in secret.replace("\n", ",").split(",") if part.strip()]
        except ValueError:
            keys = []
        if not keys:
            raise InvalidSettings(
                "master_secret is not 32 bytes in Base64, or several such with commas.",
                mend="Make one: openssl rand -base64 32",
                setting="master_secret",
            )
        self._keys = [HeldKey(f"{self.kind}:{_digest(key)}", key) for key in keys]

    def current(self) -> str:
        """Return the id of the first."""
        return self._keys[0].key_id

    def versions(self) -> Sequence[KeyVersion]:
        """Return every version, the current one first."""
        return [KeyVersion(held.key_id, is_current=held is self._keys[0]) for held in self._keys]

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the version of an id, or None."""
        return next((one for one in self.versions() if one.id == key_id), None)

    def make_version(self) -> str:
        """Raise CallerError: whoever keeps the secret makes its versions."""
        raise CallerError(
            "The master key is a secret of the settings, which is not changed from here.",
            mend="Put another key before it, restart, and give `discern keys rotate --resume`.",
        )

    def remove_version(self, key_id: str) -> None:
        """Raise CallerError, likewise."""
        raise CallerError(f"{key_id} is a secret of the settings.", mend="Take it out of `master_secret` and restart.")

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by the first."""
        return self._keys[0].wrap(key, context)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused."""
        for held in self._keys:
            if held.key_id == wrapped.key_id:
                return held.unwrap(wrapped, context)
        raise no_such_key(wrapped.key_id)


def no_such_key(key_id: str) -> ObjectRefused:
    """Return the error for what was wrapped by a key that is not here."""
    return ObjectRefused(
        f"The object's key was wrapped by {key_id}, which is not here.",
        mend="See `master_key` and the settings of that kind of key; `discern keys list` shows what is missing.",
        reason="key",
    )


def _decoded(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise ValueError("not Base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError("not 32 bytes")
    return key


def _digest(key: bytes) -> str:
    return hashlib.sha256(b"discern master key" + key).hexdigest()[:12]


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
