"""A master key in the transit engine of HashiCorp Vault or OpenBao, which never leaves it.

- The token needs `update` on `encrypt/NAME` and `decrypt/NAME`, `read` on `keys/NAME`, and to rotate or remove versions
  `update` on `keys/NAME/rotate` and `keys/NAME/config`.
- What an error says holds no token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from urllib.parse import quote

import msgspec

from discern.core.errors import CallerError, InvalidSettings, ObjectsUnavailable
from discern.objects.rules import changed, context_digest
from discern.objects.service_masters import no_such_key
from discern.objects.types import KeyVersion, WrappedKey

Ask = Callable[[str, str, bytes | None, Mapping[str, str], int], tuple[int, bytes]]
T = TypeVar("T")
_MOST_BYTES = 1_000_000
_encode = msgspec.json.Encoder().encode


class _Encrypted(msgspec.Struct):
    ciphertext: str


class _Decrypted(msgspec.Struct):
    plaintext: str


class _Key(msgspec.Struct):
    latest_version: Annotated[int, msgspec.Meta(ge=1)]
    keys: dict[str, int]
    min_decryption_version: int = 1


class _Nothing(msgspec.Struct):
    pass


class VaultMasterKey:
    """The transit key `key` (`MOUNT/NAME`) of the Vault at `url`. `ask` sends a request: see `Outbound.ask`."""

    kind = "vault"

    def __init__(self, url: str, token: str, key: str, ask: Ask) -> None:
        mount, _, name = key.rpartition("/")
        if not url.startswith(("http://", "https://")) or not (mount and name and token):
            raise InvalidSettings(
                "The master key is in Vault, and vault_url, vault_token and vault_key do not all say where.",
                mend="Set all three; vault_key is MOUNT/NAME, such as transit/discern.",
                setting="vault_url",
            )
        self._base = f"{url.rstrip('/')}/v1/{quote(mount)}"
        self._name = quote(name, safe="")
        self._key = key
        self._headers = {"X-Vault-Token": token, "X-Vault-Request": "true", "Content-Type": "application/json"}
        self._ask = ask

    def current(self) -> str:
        """Return the id of the latest version. Raises ObjectsUnavailable."""
        return self._id(self._described().latest_version)

    def versions(self) -> Sequence[KeyVersion]:
        """Return the versions that still decrypt, the oldest first."""
        key = self._described()
        there = sorted(int(number) for number in key.keys if int(number) >= key.min_decryption_version)
        return [
            KeyVersion(
                self._id(number), datetime.fromtimestamp(key.keys[str(number)], UTC), number == key.latest_version
            )
            for number in there
        ]

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the version of an id, or None."""
        return next((one for one in self.versions() if one.id == key_id), None)

    def make_version(self) -> str:
        """Have Vault make a version, the latest from here on."""
        self._call("POST", f"keys/{self._name}/rotate", {}, _Nothing)
        return self.current()

    def remove_version(self, key_id: str) -> None:
        """Have Vault decrypt nothing by a version any more. Raises CallerError unless it is the oldest."""
        oldest = self.versions()[0].id
        if key_id != oldest:
            raise CallerError(f"Vault removes the oldest version alone: {oldest}.", mend="Remove that one before.")
        config = {"min_decryption_version": int(key_id.rpartition(":")[2]) + 1}
        self._call("POST", f"keys/{self._name}/config", config, _Nothing)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by the latest version."""
        body = {"plaintext": base64.b64encode(key).decode(), "associated_data": _associated(context)}
        ciphertext = self._call("POST", f"encrypt/{self._name}", body, _Encrypted).ciphertext
        version = ciphertext.split(":")[1].removeprefix("v")
        return WrappedKey(self._id(int(version)), ciphertext.encode())

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused where Vault does not decrypt it, or another key wrapped it."""
        if wrapped.key_id.rpartition(":")[0] != f"{self.kind}:{self._key}":
            raise no_such_key(wrapped.key_id)
        body = {"ciphertext": wrapped.blob.decode("ascii", "replace"), "associated_data": _associated(context)}
        answer = self._call("POST", f"decrypt/{self._name}", body, _Decrypted)
        try:
            return base64.b64decode(answer.plaintext, validate=True)
        except binascii.Error as error:
            raise changed("its key does not unwrap") from error

    def _id(self, version: int) -> str:
        return f"{self.kind}:{self._key}:{version}"

    def _described(self) -> _Key:
        return self._call("GET", f"keys/{self._name}", None, _Key)

    def _call(self, method: str, path: str, body: Mapping[str, object] | None, kind: type[T]) -> T:
        sent = None if body is None else _encode(body)
        try:
            status, content = self._ask(method, f"{self._base}/{path}", sent, self._headers, _MOST_BYTES)
        except OSError as error:
            raise _silent(f"{type(error).__name__}") from error
        if status == 400 and path.startswith("decrypt/"):
            raise changed("Vault does not unwrap its key")
        if status not in {200, 204}:
            raise _silent(f"it answered {path.partition('/')[0]} with {status}")
        if kind is _Nothing:
            return kind()
        try:
            return msgspec.convert(msgspec.json.decode(content)["data"], kind)
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise _silent("its answer is not Vault's") from error


def _associated(context: bytes) -> str:
    return base64.b64encode(context_digest(context).encode()).decode()


def _silent(reason: str) -> ObjectsUnavailable:
    return ObjectsUnavailable(
        f"Vault did not do what it was asked for: {reason}.",
        mend="See vault_url, vault_token and vault_key, and what the token may do.",
        retry_after=2.0,
    )
