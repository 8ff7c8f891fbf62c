"""Passkeys (Web Authentication, level 3): what they are asked, and whether what they answer holds.

- An answer counts for our origins and our relying party alone, for the challenge it was asked, once.
- A counter that does not go on is a copy of the passkey, and is refused. Passkeys that count nothing say zero.
- Attestation is not asked for: which make of passkey it is decides nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from discern.access.types import User
from discern.core.errors import FactorUnavailable, InvalidSettings, MissingExtra

if TYPE_CHECKING:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

_LOCAL_HOSTS = {"localhost"}
# What reading hostile bytes may raise beside the library's own errors.
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)


class AnswerRefused(Exception):
    """What a passkey answered does not hold."""


class Registered(NamedTuple):
    """A passkey that somebody has shown to be theirs."""

    credential_id: bytes
    public_key: bytes
    counter: int


class Passkeys:
    """The relying party. `origins` are those of the pages that ask, with commas; empty means there are no passkeys."""

    def __init__(self, origins: str, relying_party: str, user_verification: str) -> None:
        self._origins = [origin.strip() for origin in origins.split(",") if origin.strip()]
        hosts = [_host_of(origin) for origin in self._origins]
        self._relying_party = relying_party or next(iter(hosts), "")
        self._user_verification = user_verification
        for host in hosts:
            _check_lies_in(host, self._relying_party)

    def creation_options(self, user: User, challenge: bytes, known: Sequence[bytes]) -> dict[str, Any]:
        """Return what goes to `navigator.credentials.create`; `known` passkeys are not registered once more."""
        self._check_set_up()
        library = _library()
        from webauthn.helpers.structs import (  # noqa: PLC0415 - an extra
            AuthenticatorSelectionCriteria,
            ResidentKeyRequirement,
        )

        options = library.generate_registration_options(
            rp_id=self._relying_party,
            rp_name="Discern",
            user_name=user.name,
            user_id=user.id.bytes,
            challenge=challenge,
            exclude_credentials=_descriptors(known),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED, user_verification=self._verification()
            ),
        )
        return _as_json(options)

    def request_options(self, challenge: bytes, known: Sequence[bytes]) -> dict[str, Any]:
        """Return what goes to `navigator.credentials.get`."""
        self._check_set_up()
        options = _library().generate_authentication_options(
            rp_id=self._relying_party,
            challenge=challenge,
            allow_credentials=_descriptors(known),
            user_verification=self._verification(),
        )
        return _as_json(options)

    def registered(self, credential: dict[str, Any], challenge: bytes) -> Registered:
        """Return the passkey that answered. Raises AnswerRefused."""
        self._check_set_up()
        library = _library()
        from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

        try:
            found = library.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._relying_party,
                expected_origin=self._origins,
                require_user_verification=self._user_verification == "required",
            )
        except (WebAuthnException, *_UNREADABLE) as error:
            raise AnswerRefused(_reason(error)) from error
        return Registered(found.credential_id, found.credential_public_key, found.sign_count)

    def counted(self, credential: dict[str, Any], challenge: bytes, public_key: bytes, counter: int) -> int:
        """Return how often a passkey that answered says it was used. Raises AnswerRefused."""
        self._check_set_up()
        library = _library()
        from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

        try:
            found = library.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._relying_party,
                expected_origin=self._origins,
                credential_public_key=public_key,
                credential_current_sign_count=counter,
                require_user_verification=self._user_verification == "required",
            )
        except (WebAuthnException, *_UNREADABLE) as error:
            raise AnswerRefused(_reason(error)) from error
        return int(found.new_sign_count)

    def _verification(self) -> UserVerificationRequirement:
        from webauthn.helpers.structs import UserVerificationRequirement  # noqa: PLC0415

        return UserVerificationRequirement(self._user_verification)

    def _check_set_up(self) -> None:
        if not self._origins:
            raise FactorUnavailable(
                "Passkeys are not set up here.",
                mend="Use another factor, or have the operator set DISCERN_PASSKEY_ORIGINS.",
                kind="passkey",
            )


def id_of(credential: dict[str, Any]) -> bytes:
    """Return the id of the passkey that an answer claims to be of. Raises AnswerRefused."""
    from webauthn.helpers import base64url_to_bytes  # noqa: PLC0415 - an extra

    try:
        return base64url_to_bytes(credential["rawId"])
    except _UNREADABLE as error:
        raise AnswerRefused("The answer names no passkey.") from error


def _host_of(origin: str) -> str:
    """Return the host of an origin. Raises InvalidSettings for what is none, or may not use passkeys."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        is_origin = bool(host) and parts.port != 0 and origin == f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        is_origin = False
    # Browsers hand out passkeys to secure contexts alone.
    if not is_origin or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL_HOSTS)):
        raise InvalidSettings(
            f"passkey_origins: {origin[:200]!r} is no origin of a page that may use passkeys.",
            mend="Write https://host, with :port where it is not 443, and no path.",
            setting="passkey_origins",
        )
    return host


def _check_lies_in(host: str, relying_party: str) -> None:
    if host != relying_party and not host.endswith(f".{relying_party}"):
        raise InvalidSettings(
            f"passkey_relying_party: {relying_party[:200]!r} is not {host}, nor a domain it lies in.",
            mend="Write the host, or leave it empty.",
            setting="passkey_relying_party",
        )


def _descriptors(known: Sequence[bytes]) -> list[PublicKeyCredentialDescriptor]:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor  # noqa: PLC0415

    return [PublicKeyCredentialDescriptor(id=one) for one in known]


def _as_json(options: Any) -> dict[str, Any]:  # noqa: ANN401 - of either kind
    return cast("dict[str, Any]", msgspec.json.decode(_library().options_to_json(options)))


def _library() -> Any:  # noqa: ANN401 - an extra
    try:
        import webauthn  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Passkeys need webauthn, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    return webauthn


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
