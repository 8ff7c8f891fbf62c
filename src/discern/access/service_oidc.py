"""OpenID Connect: the code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9700).

- Of discovery only a document of the issuer that was set is believed, and addresses that are https.
- An ID token is signed with one of the algorithms that were set, all of private keys, and by a key of the issuer's own
  set: nothing else that its header names or brings along is looked at.
- A key that is not known has the set read again, at most every few seconds: providers rotate keys, and strangers make
  key ids up.
- Issuer, audience, authorised party, expiry and nonce are checked, and the access token against its hash.
"""

from __future__ import annotations

import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from discern.access.ports import Fetch
from discern.access.rules_federation import check_subject, is_safe_url
from discern.access.types_federation import Attempt, Identity, OidcProvider
from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError, MissingExtra, ProviderUnavailable, SignInRefused

log = logging.getLogger(__name__)
_LEEWAY = 30
_METADATA_SECONDS = 3600.0
_KEYS_SECONDS = 600.0
_KEYS_AGAIN_SECONDS = 5.0
_MOST_TOKEN = 65_536
_LEAST_RSA_BITS = 2048


class Oidc:
    """One provider. `secret` is that of the client, empty for a public one. Thread-safe."""

    def __init__(
        self,
        name: str,
        provider: OidcProvider,
        secret: str,
        redirect_uri: str,
        fetch: Fetch,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _library()
        self._name = name
        self._provider = provider
        self._secret = secret
        self._redirect_uri = redirect_uri
        self._fetch = fetch
        self._clock = clock
        self._monotonic = monotonic
        self._reading = threading.Lock()
        self._metadata: tuple[dict[str, Any], float] = {}, float("-inf")
        self._keys: tuple[list[Any], float] = [], float("-inf")

    def check(self) -> str:
        """Return what is found of the provider. Raises ProviderUnavailable."""
        _library()
        return f"The issuer answers, with {len(self._key_set(fresh=True))} keys. Lead back to: {self._redirect_uri}"

    def begin(self, attempt: Attempt) -> str:
        """Return the URL to send the browser to. Raises ProviderUnavailable."""
        _library()
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # noqa: PLC0415 - an extra
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # noqa: PLC0415

        metadata = self._discovered()
        more = {"acr_values": " ".join(self._provider.require_acr)} if self._provider.require_acr else {}
        url: str = prepare_grant_uri(
            metadata["authorization_endpoint"],
            self._provider.client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope=" ".join(self._provider.scopes),
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
            **more,
        )
        return url

    def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Identity:
        """Return whom the answer is about. Raises SignInRefused unless it holds, and ProviderUnavailable."""
        _library()
        if "error" in answer:
            raise self._refused(f"it says {_plain(answer['error'])}: {_plain(answer.get('error_description', ''))}")
        metadata = self._discovered()
        issuer = answer.get("iss", "")
        if (issuer or metadata.get("authorization_response_iss_parameter_supported") is True) and (
            issuer != self._provider.issuer
        ):
            raise self._refused("the answer names another issuer")  # RFC 9207: two providers mixed up
        if not answer.get("code"):
            raise self._refused("the answer has no code")
        tokens = self._redeem(metadata, answer["code"], attempt.verifier)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str) or len(id_token) > _MOST_TOKEN:
            raise self._refused("it gave no ID token")
        claims = self._claims(id_token, access_token, attempt.nonce)
        self._check_strength(claims)
        if self._provider.userinfo:
            claims = self._userinfo(metadata, access_token, claims["sub"]) | claims
        named = claims.get(self._provider.name_claim) or claims.get("email") or claims["sub"]
        return Identity(
            issuer=self._provider.issuer,
            subject=check_subject(claims["sub"]),
            name=str(named),
            groups=_strings(_found(claims, self._provider.groups_claim)),
        )

    def _claims(self, id_token: str, access_token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token that holds."""
        from authlib.oidc.core import CodeIDToken  # noqa: PLC0415 - an extra
        from joserfc import jws, jwt  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415

        provider = self._provider
        try:
            header = jws.extract_compact(id_token.encode()).headers()
            if header.get("alg") not in provider.algorithms:
                raise self._refused(f"its ID token is signed with {_plain(str(header.get('alg')))}")
            key = self._key(header.get("kid"))
            claims = dict(jwt.decode(id_token, key, algorithms=list(provider.algorithms)).claims)
            rules: Any = {
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": provider.client_id},
                "sub": {"essential": True},
                "exp": {"essential": True},
                "iat": {"essential": True},
            }
            held_to = {"nonce": nonce, "client_id": provider.client_id, "access_token": access_token}
            token = CodeIDToken(claims, header, rules, held_to)
            token.validate(now=int(self._clock().timestamp()), leeway=_LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.info("id_token_refused", extra={"provider": self._name, "detail": str(error)})
            raise self._refused(f"its ID token does not hold ({_plain(str(error))})") from error
        if not isinstance(claims["sub"], str):
            raise self._refused("its ID token does not say who you are")
        return claims

    def _check_strength(self, claims: Mapping[str, Any]) -> None:
        acr, amr = self._provider.require_acr, self._provider.require_amr
        if acr and claims.get("acr") not in acr:
            raise self._refused("you signed in there in a way that does not suffice here (acr)")
        if amr and not set(amr) & set(_strings(claims.get("amr"))):
            raise self._refused("you signed in there in a way that does not suffice here (amr)")

    def _redeem(self, metadata: Mapping[str, Any], code: str, verifier: str) -> dict[str, Any]:
        """Return the tokens for a code."""
        provider = self._provider
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._secret and provider.client_authentication == "basic":
            # Each half form-encoded first (RFC 6749, section 2.3.1).
            pair = f"{quote(provider.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = provider.client_id
            if self._secret:
                form["client_secret"] = self._secret
        status, content = self._ask("POST", metadata["token_endpoint"], urlencode(form).encode(), headers)
        if status >= 500:
            raise self._unavailable(f"its token endpoint answered {status}")
        told = self._object(content)
        if status != 200:
            raise self._refused(f"it did not take the code ({_plain(str(told.get('error', status)))})")
        return told

    def _userinfo(self, metadata: Mapping[str, Any], access_token: str, subject: str) -> dict[str, Any]:
        endpoint = metadata.get("userinfo_endpoint")
        if not isinstance(endpoint, str) or not is_safe_url(endpoint):
            raise self._unavailable("it has no userinfo endpoint that is https")
        status, content = self._ask("GET", endpoint, None, {"Authorization": f"Bearer {access_token}"})
        told = self._object(content) if status == 200 else {}
        # Else somebody else's groups could be put into the place of theirs (OpenID Connect Core, section 5.3.2).
        if told.get("sub") != subject:
            raise self._refused("its userinfo is about somebody else")
        return told

    def _key(self, kid: object) -> Any:  # noqa: ANN401 - a key of joserfc
        """Return the key of an id; without an id, the only key there is."""
        for fresh in (False, True):
            keys = self._key_set(fresh=fresh)
            fitting = [key for key in keys if key.kid == kid] if kid is not None else keys
            if len(fitting) == 1:
                return fitting[0]
        raise self._refused("its ID token is signed by a key that is not among the issuer's")

    def _key_set(self, *, fresh: bool) -> list[Any]:
        with self._reading:
            age = self._monotonic() - self._keys[1]
            if age < (_KEYS_AGAIN_SECONDS if fresh else _KEYS_SECONDS):
                return self._keys[0]
            status, content = self._ask("GET", self._discovered()["jwks_uri"], None, {"Accept": "application/json"})
            told = self._object(content).get("keys") if status == 200 else None
            if not isinstance(told, list):
                raise self._unavailable(f"its key set answered {status}")
            self._keys = _usable_keys(told), self._monotonic()
        return self._keys[0]

    def _discovered(self) -> dict[str, Any]:
        """Return what the issuer says of itself."""
        found, read_at = self._metadata
        if self._monotonic() - read_at < _METADATA_SECONDS:
            return found
        url = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, content = self._ask("GET", url, None, {"Accept": "application/json"})
        if status != 200:
            raise self._unavailable(f"{url} answered {status}")
        found = self._object(content)
        if found.get("issuer") != self._provider.issuer:
            raise self._unavailable(f"{url} speaks for another issuer, {_plain(str(found.get('issuer')))}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(found.get(name), str) or not is_safe_url(found[name]):
                raise self._unavailable(f"its {name} is no https URL")
        methods = found.get("code_challenge_methods_supported")
        if methods is not None and "S256" not in methods:
            raise self._unavailable("it does not do PKCE with S256")
        self._metadata = found, self._monotonic()
        return found

    def _ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            return self._fetch(method, url, body, headers)
        except OSError as error:
            raise self._unavailable(f"{url} cannot be reached: {error}") from error
        except DiscernError as error:
            raise self._unavailable(error.detail) from error

    def _object(self, content: bytes) -> dict[str, Any]:
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise self._unavailable("it did not answer with JSON") from error

    def _refused(self, why: str) -> SignInRefused:
        return SignInRefused(f"{self._name} does not let you in: {why}.", mend="Begin again.", provider=self._name)

    def _unavailable(self, why: str) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self._name} cannot be used: {why}.", mend="Try again later, or sign in otherwise.", provider=self._name
        )


def _usable_keys(told: list[Any]) -> list[Any]:
    """Return the public keys of a set that may verify; a symmetric one never does."""
    from joserfc import jwk  # noqa: PLC0415 - an extra
    from joserfc.errors import JoseError  # noqa: PLC0415

    found = []
    for one in told:
        if not isinstance(one, dict) or one.get("kty") not in {"RSA", "EC", "OKP"} or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwk.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # of a kind that is not known here
        if not isinstance(key, jwk.RSAKey) or key.raw_value.key_size >= _LEAST_RSA_BITS:
            found.append(key)
    return found


def _found(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim, or one inside others by a name with dots."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _plain(text: str) -> str:
    return "".join(one for one in text if one.isprintable())[:200]


def _library() -> None:
    try:
        import authlib  # noqa: F401, PLC0415 - an extra
        import joserfc  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtra(
            "OpenID Connect needs authlib, which is not installed.",
            mend="Install it: pip install 'discern-detectors[server]'.",
            extra="server",
        ) from error
