"""Short-lived tokens for services: a key is exchanged for a JWT, which is sent instead of it.

- Signed with Ed25519 (RFC 8037, RFC 9864); a key has that one algorithm, whatever a token's header says. The header
  names a key of ours by `kid` and nothing else of it is believed: no `jwk`, no `jku`, no `x5u`.
- Short-lived, and never longer than its key: a token of a key that was revoked, has expired or was changed counts for
  what the key is at that moment, so that a token outlives no decision.
- Whoever holds a token gets no further one for it.
- The newest signing key signs, the others verify until they are deleted. They lie in the home folder, for the server
  alone to read.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from discern.access.rules import fingerprint
from discern.access.types import Principal, Token
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, MissingExtra, StorageUnavailable, Unauthenticated

if TYPE_CHECKING:
    from discern.access.service import Keys

ALGORITHM = "Ed25519"
AUDIENCE = "discern"
LEEWAY = 5
_MOST_BYTES = 4096
_REMEMBERED_SECONDS = 1.0
_MOST_REMEMBERED = 10_000
_FRESH_SECONDS = 1.0


class Tokens:
    """The tokens of an installation. `folder` holds the signing keys; `seconds` is how long a token lasts."""

    def __init__(
        self,
        keys: Keys,
        folder: Path,
        seconds: float,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._folder = folder
        self._seconds = seconds
        self._clock = clock
        self._monotonic = monotonic
        self._loading = threading.Lock()
        self._signing: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._remembered: dict[bytes, tuple[Principal, float]] = {}

    def issue(self, principal: Principal) -> Token:
        """Return a token for a key. Raises CallerError for who did not come in by one, or came by a token already."""
        kind, _, name = principal.id.partition(":")
        if kind != "key":
            raise CallerError("Tokens are for API keys.", mend="Ask with one: `discern key create NAME`.")
        key = self._keys.get(principal.workspace, UUID(name))
        now = self._clock()
        ends = now + timedelta(seconds=self._seconds)
        if key.expires_at is not None:
            ends = min(ends, key.expires_at)
        signing = self._all()
        newest = next(iter(signing)) if signing else self.rotate()
        claims = {
            "iss": AUDIENCE,
            "aud": AUDIENCE,
            "sub": principal.id,
            "ws": principal.workspace,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(ends.timestamp()),
            "jti": secrets.token_urlsafe(12),
        }
        from joserfc import jwt  # noqa: PLC0415 - an extra, and there: a key was made with it

        header = {"alg": ALGORITHM, "kid": newest, "typ": "at+jwt"}
        token = jwt.encode(header, claims, self._all()[newest], algorithms=[ALGORITHM])
        return Token(token, ends, newest)

    def authenticate(self, token: str) -> Principal:
        """Return who a token stands for, as their key is now. Raises Unauthenticated, without telling why."""
        digest = fingerprint(token)
        known = self._remembered.get(digest)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        claims = self._claims(token)
        kind, _, name = str(claims.get("sub", "")).partition(":")
        try:
            key = self._keys.get(str(claims.get("ws", "")), UUID(name)) if kind == "key" else None
        except (ValueError, CallerError) as error:
            raise _invalid() from error
        if key is None:
            raise _invalid()
        principal = Principal(f"key:{key.id}", key.workspace, key.role, key.detectors)
        left = claims["exp"] + LEEWAY - self._clock().timestamp()
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered = {}
        self._remembered[digest] = principal, self._monotonic() + min(_REMEMBERED_SECONDS, max(0.0, left))
        return principal

    def rotate(self) -> str:
        """Make a signing key, which signs from here on; return its id. Raises StorageUnavailable."""
        jwk = _library()
        made = jwk.OKPKey.generate_key(ALGORITHM)
        name = f"{int(self._clock().timestamp() * 1000):013d}-{made.thumbprint()[:16]}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._folder / f"{name}.coming", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(made.as_pem(private=True))
                file.flush()
                os.fsync(file.fileno())
            (self._folder / f"{name}.coming").rename(self._folder / f"{name}.pem")
        except OSError as error:
            raise StorageUnavailable(
                f"A signing key cannot be written into {self._folder}: {error.strerror}.", mend="See the folder."
            ) from error
        self._read_at = float("-inf")
        return name

    def public_keys(self) -> bytes:
        """Return the public halves as a JWK set (RFC 7517)."""
        found = [
            {**key.as_dict(private=False), "kid": kid, "alg": ALGORITHM, "use": "sig"}
            for kid, key in self._all().items()
        ]
        return msgspec.json.encode({"keys": found})

    def _claims(self, token: str) -> dict[str, Any]:
        _library()
        from joserfc import jws, jwt  # noqa: PLC0415 - an extra
        from joserfc.errors import JoseError  # noqa: PLC0415

        if len(token) > _MOST_BYTES:
            raise _invalid()
        try:
            header = jws.extract_compact(token.encode()).headers()
            key = self._all().get(str(header.get("kid", "")))
            if key is None or header.get("alg") != ALGORITHM or header.get("typ") != "at+jwt":
                raise _invalid()
            claims = dict(jwt.decode(token, key, algorithms=[ALGORITHM]).claims)
            must: Any = {"essential": True}
            rules = jwt.JWTClaimsRegistry(
                now=int(self._clock().timestamp()),
                leeway=LEEWAY,
                iss={"essential": True, "value": AUDIENCE},
                aud={"essential": True, "value": AUDIENCE},
                sub=must,
                exp=must,
                nbf=must,
                iat=must,
            )
            rules.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _invalid() from error
        return claims

    def _all(self) -> dict[str, Any]:
        """Return the signing keys by their ids, newest first."""
        if self._monotonic() - self._read_at < _FRESH_SECONDS:
            return self._signing
        with self._loading:
            paths = sorted(self._folder.glob("*.pem"), reverse=True) if self._folder.is_dir() else []
            if [path.stem for path in paths] != list(self._signing):
                jwk = _library()
                self._signing = {path.stem: jwk.OKPKey.import_key(path.read_bytes()) for path in paths}
                self._remembered = {}
            self._read_at = self._monotonic()
        return self._signing


def looks_like_a_token(secret: str) -> bool:
    """Tell a token from a key, by how either begins."""
    return secret.startswith("eyJ")


def _library() -> Any:  # noqa: ANN401 - an extra
    try:
        from joserfc import jwk  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(
            "Tokens need joserfc, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
    return jwk


def _invalid() -> Unauthenticated:
    return Unauthenticated("This token is not valid.", mend="Get a new one: POST /v1/tokens with your API key.")
