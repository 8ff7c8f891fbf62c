"""What holds for every identity provider, of whichever kind. Pure.

- A provider is believed about its own people alone: an identity is workspace, provider, issuer and subject together.
- Who is in no group that was granted something gets nothing.
- After signing in a browser is sent to a path of ours and nowhere else.
- An attempt that is kept in a browser is sealed: nobody reads it, and one that was changed is none.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discern.access.types_federation import (
    Attempt,
    Grant,
    Identity,
    LdapProvider,
    OidcProvider,
    Provider,
    SamlProvider,
)
from discern.core.errors import InvalidSettings, MalformedRequest, SignInRefused

KINDS: dict[str, type[OidcProvider | SamlProvider | LdapProvider]] = {
    "oidc": OidcProvider,
    "saml": SamlProvider,
    "ldap": LdapProvider,
}
_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
_OUR_PATH = re.compile(r"^/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]-]{0,2000}$")
# What else stands before a colon where somebody is spoken of.
_RESERVED = ("key", "user", "role", "provider")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._@+-]+")
_NONCE_BYTES = 12
_MOST_SUBJECT = 1024


def read_providers(content: Mapping[str, Any], where: str) -> dict[str, Provider]:
    """Return the providers of an operator's file by their names. Raises InvalidSettings."""
    found: dict[str, Provider] = {}
    for kind, tables in content.items():
        if kind not in KINDS:
            raise _wrong(where, f"there is no kind of provider {kind[:100]!r}", f"Use one of: {', '.join(KINDS)}.")
        if not isinstance(tables, dict):
            raise _wrong(where, f"{kind} is no table", f"Write [{kind}.NAME].")
        for name, table in tables.items():
            if not _NAME.match(name) or name in found or name in _RESERVED:
                raise _wrong(
                    where,
                    f"{name[:100]!r} cannot be the name of a provider, or is that of two",
                    f"Use up to 40 of a-z, 0-9 and hyphens, for one provider alone, and not {', '.join(_RESERVED)}.",
                )
            try:
                provider = msgspec.convert(table, KINDS[kind])
            except msgspec.ValidationError as error:
                raise _wrong(where, f"[{kind}.{name}]: {error}", "See docs/how-to/sign-in.md.") from error
            _check(provider, f"{where}: [{kind}.{name}]")
            found[name] = provider
    return found


def _check(provider: Provider, where: str) -> None:
    """Raise InvalidSettings for what would be no proof of who somebody is."""
    if isinstance(provider, OidcProvider):
        if not is_safe_url(provider.issuer):
            raise _wrong(where, "issuer must be an https URL", "Only on this machine itself it may be http.")
        if not provider.algorithms or "openid" not in provider.scopes:
            raise _wrong(where, "algorithms or the scope openid are missing", "Leave both out for the usual ones.")
    elif isinstance(provider, SamlProvider):
        if not is_safe_url(provider.sign_on_url):
            raise _wrong(where, "sign_on_url must be an https URL", "Only on this machine itself it may be http.")
    else:
        parts = urlsplit(provider.url)
        if parts.scheme not in {"ldap", "ldaps"} or not parts.hostname:
            raise _wrong(where, "url must be ldap:// or ldaps:// and a host", "Write ldaps://host.")
        plain = parts.scheme == "ldap" and not provider.start_tls
        if plain and not provider.allow_plaintext and parts.hostname not in _LOOPBACK:
            raise _wrong(where, "passwords would go over the network unencrypted", "Use ldaps:// or start_tls = true.")
        if "{name}" not in provider.user_filter or (provider.group_base and "{dn}" not in provider.group_filter):
            raise _wrong(where, "user_filter needs {name}, group_filter {dn}", "Say where what was typed goes.")


def is_safe_url(url: str) -> bool:
    """Tell whether a URL is https, or http on this machine itself."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.username is None
    except ValueError:
        return False
    return usable and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))


def grant_of(provider: Provider, groups: Iterable[str]) -> Grant | None:
    """Return what somebody in `groups` may: the first grant of the file that is of one of them."""
    held = {plain_group(provider, group) for group in groups}
    return next((grant for grant in provider.grants if plain_group(provider, grant.group) in held), None)


def plain_group(provider: Provider, group: str) -> str:
    """Return a group as it is compared: exactly as it is written, but for DNs, whose case means nothing."""
    return group.lower() if isinstance(provider, LdapProvider) else group


def identity_digest(name: str, provider: Provider, identity: Identity) -> bytes:
    """Return the 32 bytes that an identity is stored and looked up by."""
    parts = (provider.workspace, name, identity.issuer, identity.subject)
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


def check_subject(subject: str) -> str:
    """Return a subject that can be one. Raises SignInRefused."""
    if not subject.strip() or len(subject) > _MOST_SUBJECT or not subject.isprintable():
        raise SignInRefused("The provider does not say who you are.", mend="Its operator sees to the subject.")
    return subject


def user_names(provider: str, wanted: str, digest: bytes) -> tuple[str, str]:
    """Return two names for a user: one to be read, and one that nobody else has either.

    They begin with the provider's and a colon, which no user of our own has.
    """
    plain = _NOT_IN_NAMES.sub("-", wanted.strip().lower()).strip("-")[:40] or "user"
    return f"{provider}:{plain}", f"{provider}:{plain}-{digest.hex()[:12]}"


def our_path(path: str) -> str:
    """Return a path of ours to go to. Raises MalformedRequest for anything that may lead elsewhere."""
    if not _OUR_PATH.match(path):
        raise MalformedRequest(
            "`next` must be a path of this server, such as /docs.", mend="Leave out scheme and host, or all of it."
        )
    return path


def seal(key: bytes, nonce: bytes, attempt: Attempt) -> str:
    """Return an attempt as only whoever has the key can read and write it. A nonce is for one attempt alone."""
    sealed = nonce + AESGCM(key).encrypt(nonce, msgspec.json.encode(attempt), b"sign-in")
    return urlsafe_b64encode(sealed).decode().rstrip("=")


def unseal(key: bytes, sealed: str) -> Attempt | None:
    """Return an attempt that was sealed with the key, None for anything else."""
    try:
        content = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        opened = AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], b"sign-in")
    except (InvalidTag, ValueError):
        return None
    return msgspec.json.decode(opened, type=Attempt)


def _wrong(where: str, what: str, mend: str) -> InvalidSettings:
    return InvalidSettings(f"{where}: {what}.", mend=mend, setting="identity_providers")


def asks_for_a_factor(provider: Provider) -> bool:
    """Tell whether a provider's word counts only where it says how somebody has proven who they are."""
    if isinstance(provider, OidcProvider):
        return bool(provider.require_acr or provider.require_amr)
    return isinstance(provider, SamlProvider) and bool(provider.require_context)
