"""The nouns of signing in through identity providers. The operator's `sign-in.toml` is read into the first of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from discern.access.types import Role
from discern.core.workspace import DEFAULT_WORKSPACE

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"]
"""What ID tokens may be signed with: by a private key alone, which never leaves the provider."""


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group of the provider's may do here. `detectors` None means all."""

    group: str
    role: Role
    detectors: tuple[str, ...] | None = None


class _Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every kind has: `title` is shown to people, `workspace` is where its people belong.

    Of `grants` the first whose group somebody is in counts; who is in none is let in nowhere. `has_second_factor` says
    that the provider asks everybody for one, where it cannot tell us so.
    """

    title: str = ""
    workspace: str = DEFAULT_WORKSPACE
    grants: tuple[Grant, ...] = msgspec.field(default=(), name="grant")
    ca_file: str | None = None
    has_second_factor: bool = False


class OidcProvider(_Provider, frozen=True, tag_field="kind", tag="oidc"):
    """OpenID Connect. `issuer` is where `/.well-known/openid-configuration` is found.

    `groups_claim` may lead inwards with dots (`realm_access.roles`). Of `require_acr` and `require_amr` one value must
    be in the ID token, where any is named: so a second factor at the provider is held to.
    """

    issuer: str
    client_id: str
    client_secret_file: str | None = None
    client_authentication: Literal["basic", "post"] = "basic"
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    name_claim: str = "preferred_username"
    userinfo: bool = False
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    require_acr: tuple[str, ...] = ()
    require_amr: tuple[str, ...] = ()


class SamlProvider(_Provider, frozen=True, tag_field="kind", tag="saml"):
    """SAML 2.0. `entity_id` names the identity provider, which signs with a key of one of the certificates.

    Without `subject_attribute` the NameID tells who somebody is. Of `require_context` one value must be the
    AuthnContextClassRef, where any is named.
    """

    entity_id: str
    sign_on_url: str
    certificate_file: str
    subject_attribute: str | None = None
    groups_attribute: str = "groups"
    name_attribute: str | None = None
    require_context: tuple[str, ...] = ()


class LdapProvider(_Provider, frozen=True, tag_field="kind", tag="ldap"):
    """A directory. `{name}` in `user_filter` is the name that was typed, `{dn}` in `group_filter` whom it found.

    Groups are what `group_attribute` of the person names, and what `group_filter` finds under `group_base`, by their
    whole DNs. `subject_attribute` is what never changes of a person, nor is given to another.
    """

    url: str
    bind_dn: str
    bind_password_file: str
    user_base: str
    user_filter: str = "(&(objectClass=person)(uid={name}))"
    subject_attribute: str = "entryUUID"
    group_attribute: str = "memberOf"
    group_base: str | None = None
    group_filter: str = "(&(objectClass=groupOfNames)(member={dn}))"
    start_tls: bool = True
    allow_plaintext: bool = False


Provider = OidcProvider | SamlProvider | LdapProvider


class Attempt(msgspec.Struct, frozen=True):
    """A sign-in under way, as the browser keeps it for us, sealed.

    `state` and `nonce` are what must come back with the answer, `verifier` is what proves to an OIDC provider that it
    was we who asked. `next` is where to go afterwards.
    """

    provider: str
    state: str
    nonce: str
    verifier: str
    next: str
    ends_at: int


class Identity(msgspec.Struct, frozen=True):
    """Who somebody is, by the word of a provider that holds.

    `issuer` and `subject` together are one person for ever; `name` is how people call them and proves nothing. What
    proves it and may be used once is `proof`, which holds until `proof_ends_at`. `ends_at` is when the provider wants
    the session to end.
    """

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...]
    proof: str | None = None
    proof_ends_at: datetime | None = None
    ends_at: datetime | None = None


class Found(msgspec.Struct, frozen=True):
    """Somebody in a directory, who has not proven yet that it is they who ask. `dn` is where their entry stands."""

    dn: str
    identity: Identity


class Begun(msgspec.Struct, frozen=True):
    """Where to send a browser, and the sealed attempt to keep in it."""

    url: str
    sealed: str


class ProviderView(msgspec.Struct, frozen=True):
    """A way to sign in. A browser follows `url` where the kind is oidc or saml; ldap takes a POST with a password."""

    name: str
    kind: str
    title: str
    url: str


class ProviderList(msgspec.Struct, frozen=True):
    """The ways to sign in beside a password of our own."""

    providers: tuple[ProviderView, ...]
