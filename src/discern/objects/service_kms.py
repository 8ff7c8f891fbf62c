"""A master key in AWS KMS, which never leaves it. Credentials are those of the usual variables and roles.

- The setting names an alias (`alias/discern`), so that rotating can make another key and point the alias to it; each
  key is a version. A key named by its id or ARN is rotated by whoever names another.
- `kms:Encrypt`, `kms:Decrypt` and `kms:DescribeKey` are needed, to rotate `kms:CreateKey` and `kms:UpdateAlias`, and to
  remove a version `kms:ScheduleKeyDeletion`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from discern.core.errors import CallerError, InvalidSettings, MissingExtra, ObjectsUnavailable
from discern.objects.rules import changed, context_digest
from discern.objects.types import KeyVersion, WrappedKey

_PURPOSE = "discern"
_REMOVAL_DAYS = 30


class _NoSuchKey(ObjectsUnavailable):
    """AWS KMS does not have the key that was named."""


class AwsMasterKey:
    """The key that `name` names: an alias, an id or an ARN. `endpoint` and `region` None are the provider's own."""

    kind = "aws"

    def __init__(self, name: str, *, endpoint: str | None = None, region: str | None = None) -> None:
        if not name:
            raise InvalidSettings(
                "The master key is in AWS KMS, and aws_kms_key does not say which.",
                mend="Name an alias: alias/discern.",
                setting="aws_kms_key",
            )
        self._name = name
        self._endpoint = endpoint
        self._region = region
        self._made: Any = None

    def current(self) -> str:
        """Return the id of the key that is named. Raises ObjectsUnavailable."""
        return f"{self.kind}:{self._described()['Arn']}"

    def versions(self) -> Sequence[KeyVersion]:
        """Return the key that is named; others are known by what they wrap."""
        described = self._described()
        return [KeyVersion(f"{self.kind}:{described['Arn']}", described["CreationDate"], is_current=True)]

    def version(self, key_id: str) -> KeyVersion | None:
        """Return the key of an id, None where it is not there or disabled."""
        current = self._described()
        try:
            found = self._described(_arn(key_id))
        except _NoSuchKey:
            return None
        if found["KeyState"] != "Enabled":
            return None
        return KeyVersion(key_id, found["CreationDate"], is_current=found["Arn"] == current["Arn"])

    def make_version(self) -> str:
        """Make a key and point the alias to it. Raises CallerError where the setting names no alias."""
        if not self._name.rpartition(":")[2].startswith("alias/"):
            raise CallerError(
                f"{self._name} is a key, not an alias, so no other can take its place from here.",
                mend="Name an alias in `aws_kms_key`, or another key, and give `discern keys rotate --resume`.",
            )
        with self._translated():
            made = self._client().create_key(Description="Discern master key", KeyUsage="ENCRYPT_DECRYPT")
            arn = made["KeyMetadata"]["Arn"]
            self._client().update_alias(AliasName=self._name.rpartition(":")[2], TargetKeyId=arn)
        return f"{self.kind}:{arn}"

    def remove_version(self, key_id: str) -> None:
        """Have AWS delete a key after thirty days, in which it can be had back."""
        with self._translated():
            own = _arn(key_id).rpartition("/")[2]
            self._client().schedule_key_deletion(KeyId=own, PendingWindowInDays=_REMOVAL_DAYS)

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Return a key wrapped by the key that is named."""
        with self._translated():
            made = self._client().encrypt(KeyId=self._name, Plaintext=key, EncryptionContext=_context(context))
        return WrappedKey(f"{self.kind}:{made['KeyId']}", made["CiphertextBlob"])

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Return the key. Raises ObjectRefused where AWS does not decrypt it."""
        with self._translated():
            found = self._client().decrypt(
                CiphertextBlob=wrapped.blob, KeyId=_arn(wrapped.key_id), EncryptionContext=_context(context)
            )
        key: bytes = found["Plaintext"]
        return key

    def _described(self, name: str | None = None) -> dict[str, Any]:
        with self._translated():
            described: dict[str, Any] = self._client().describe_key(KeyId=name or self._name)["KeyMetadata"]
        return described

    def _client(self) -> Any:  # noqa: ANN401 - boto3 makes its classes as it runs
        if self._made is None:
            import boto3  # noqa: PLC0415 - an extra
            from botocore.config import Config  # noqa: PLC0415

            config = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})
            region = self._region or (self._name.split(":")[3] if self._name.startswith("arn:") else None)
            self._made = boto3.client("kms", endpoint_url=self._endpoint, region_name=region, config=config)
        return self._made

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra(
                "A master key in AWS KMS needs boto3, which is not installed.",
                mend="Install the extra `aws`: pip install 'discern-detectors[aws]'.",
                extra="aws",
            ) from error
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in {"InvalidCiphertextException", "IncorrectKeyException"}:
                raise changed("AWS KMS does not unwrap its key") from error
            if code == "NotFoundException":
                raise _NoSuchKey(f"AWS KMS has no key {self._name}.", mend="See aws_kms_key and the region.") from error
            raise _silent(code) from error
        except BotoCoreError as error:
            raise _silent(type(error).__name__) from error


def _arn(key_id: str) -> str:
    return key_id.partition(":")[2]


def _context(context: bytes) -> dict[str, str]:
    # It stands in AWS's log of uses, where names of ours have no business.
    return {_PURPOSE: context_digest(context)}


def _silent(reason: str) -> ObjectsUnavailable:
    return ObjectsUnavailable(
        f"AWS KMS did not do what it was asked for: {reason}.",
        mend="See aws_kms_key, the region, and what the credentials may do.",
        retry_after=2.0,
    )
