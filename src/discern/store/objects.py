"""Objects: bytes by path, in a folder of this machine, S3, Google Cloud Storage or Azure, by obstore.

- What is written is there as a whole or not at all.
- A store that does not answer is ObjectsUnavailable, and no message holds a key.
- Memory is bounded by the parts that are in flight, whatever the size of an object.
- Constructors do no I/O: the first use connects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from discern.core.errors import InvalidSettings, MissingExtra, ObjectsUnavailable

SCHEMES = ("s3://", "gs://", "az://")
_PART_BYTES = 8 * 1024 * 1024
_PARTS_IN_FLIGHT = 4
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class ObjectAccess:
    """How S3 is reached. What is None is not given; the secrets are never shown."""

    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def without_secrets(self, text: str) -> str:
        """Return a text of others, in one line, without the keys and not too long."""
        for secret in (self.secret_key, self.access_key, self.session_token):
            text = text.replace(secret, "***") if secret else text
        return " ".join(text.split())[:_LONGEST_REASON]


class Listed(NamedTuple):
    """One object of a listing."""

    path: str
    modified: datetime


class ObjectStore:
    """One place for objects: a folder, or a URL such as `s3://bucket/prefix`. Thread-safe."""

    def __init__(self, place: Path | str, access: ObjectAccess) -> None:
        self.name = str(place)
        self._place = place
        self._access = access
        self._connected: Any = None

    def upload(self, path: str) -> Upload:
        """Begin to write an object. Raises ObjectsUnavailable."""
        with self._translated():
            return Upload(self, path)

    def create(self, path: str, content: bytes) -> bool:
        """Write a small object unless there is one; tell whether there was none. Raises ObjectsUnavailable."""
        with self._translated():
            import obstore  # noqa: PLC0415 - an extra, and there: connecting asks for it
            from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415

            try:
                obstore.put(self.connected(), path, content, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def read(self, path: str, start: int, length: int) -> tuple[bytes, int] | None:
        """Return bytes from `start` on and the size of the whole, None where there is none of the path.

        Fewer than `length` are returned at the end. Raises ObjectsUnavailable.
        """
        with self._translated():
            import obstore  # noqa: PLC0415 - an extra

            try:
                found = obstore.get(self.connected(), path, options={"range": (start, start + length)})
                return bytes(found.bytes()), found.meta["size"]
            except FileNotFoundError:
                return None

    def delete(self, path: str) -> None:
        """Delete an object, or what is left of one whose writer died. Raises ObjectsUnavailable."""
        with self._translated():
            import obstore  # noqa: PLC0415 - an extra

            with suppress(FileNotFoundError):
                obstore.delete(self.connected(), path)
            if isinstance(self._place, Path):
                for left in (self._place / path).parent.glob(f"{Path(path).name}#*"):
                    left.unlink(missing_ok=True)

    def all(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below a prefix, which is one or more whole segments. Raises ObjectsUnavailable."""
        with self._translated():
            import obstore  # noqa: PLC0415 - an extra

            for chunk in obstore.list(self.connected(), prefix=prefix or None):
                yield from (Listed(one["path"], one["last_modified"]) for one in chunk)

    def ping(self) -> None:
        """Raise ObjectsUnavailable unless the place answers."""
        next(self.all("ping"), None)
        if isinstance(self._place, Path) and not os.access(self._place, os.W_OK):
            raise ObjectsUnavailable(f"{self.name} cannot be written.", mend="See its permissions.")

    def connected(self) -> Any:  # noqa: ANN401 - a store of obstore's
        """Return the store behind it, made at the first use."""
        if self._connected is None:
            if isinstance(self._place, Path):
                self._connected = _in_folder(self._place)
            else:
                self._connected = connect(self._place, self._access)
        return self._connected

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise missing_obstore() from error
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise ObjectsUnavailable(
                f"{self.name} did not answer as it should: {self._access.without_secrets(str(error))}.",
                mend="See `objects_url`, `audit_anchor` and the settings of S3, and that what is named there runs.",
                retry_after=2.0,
            ) from None


class Upload:
    """What is being written to one path: there when `end` has returned. For one thread at a time."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        import obstore  # noqa: PLC0415 - an extra, and there: the store asks for it

        self._store = store
        self._path = path
        self._file = obstore.open_writer(
            store.connected(), path, buffer_size=_PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT
        )

    def write(self, content: bytes) -> None:
        """Write on. Raises ObjectsUnavailable."""
        with self._store._translated():  # noqa: SLF001 - of this file
            self._file.write(content)

    def end(self) -> None:
        """Have it there. Raises ObjectsUnavailable."""
        with self._store._translated():  # noqa: SLF001 - of this file
            self._file.close()

    def abandon(self) -> None:
        """Leave nothing of it. Raises ObjectsUnavailable."""
        # Parts that were sent stay, and are paid for, until the upload is ended one way or the other.
        with suppress(ObjectsUnavailable):
            self.end()
        self._store.delete(self._path)


def connect(url: str, access: ObjectAccess) -> Any:  # noqa: ANN401 - a store of obstore's
    """Return obstore's store for a URL. What `access` does not give comes from the provider's own variables."""
    from obstore.store import from_url  # noqa: PLC0415 - an extra, and there: who calls has asked

    options: Any = {}
    if url.startswith("s3://"):
        given = {
            "endpoint": access.endpoint,
            "region": access.region,
            "access_key_id": access.access_key,
            "secret_access_key": access.secret_key,
            "session_token": access.session_token,
        }
        options = {name: value for name, value in given.items() if value} | {"virtual_hosted_style_request": False}
    plain = access.endpoint is not None and access.endpoint.startswith("http://")
    return from_url(
        url,
        **options,
        client_options={"allow_http": plain, "timeout": "60s", "connect_timeout": "5s"},
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    )


def check_place(url: str, setting: str) -> None:
    """Raise InvalidSettings for a URL that names no bucket of a kind there is."""
    scheme, _, rest = url.partition("://")
    if f"{scheme}://" not in SCHEMES or not rest.partition("/")[0]:
        raise InvalidSettings(
            f"{setting} is {url!r}.",
            mend="Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.",
            setting=setting,
        )


def missing_obstore() -> MissingExtra:
    """Return the error for objects without obstore."""
    return MissingExtra(
        "Keeping objects needs obstore, which is not installed.",
        mend="Install the extra `server`: pip install 'discern-detectors[server]'.",
        extra="server",
    )


def _in_folder(folder: Path) -> Any:  # noqa: ANN401 - a store of obstore's
    from obstore.store import LocalStore  # noqa: PLC0415 - an extra, and there: who calls has asked

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return LocalStore(folder)
