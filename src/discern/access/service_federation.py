"""Signing in through identity providers: the operator's file of them, attempts, and who is let in as what.

- An attempt is bound to the browser that began it, answered once, and over after `ATTEMPT`.
- Who is in no group that was granted something is refused; their sessions end then, and it is on record.
- Users are made when they first come, and are what their groups say each time they come.
- What proves who somebody is, such as an assertion, is good once, on all processes together.
- Wrong passwords for a directory lock its people as those of our own are locked.
- A provider that is down keeps nobody else out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tomllib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from discern.access.ports import Asking, Fetch, Redirecting
from discern.access.rules_federation import (
    KINDS,
    asks_for_a_factor,
    grant_of,
    identity_digest,
    is_safe_url,
    our_path,
    read_providers,
    seal,
    unseal,
    user_names,
)
from discern.access.service import Workspaces
from discern.access.service_ldap import Ldap
from discern.access.service_oidc import Oidc
from discern.access.service_saml import Saml
from discern.access.service_users import Users, locked_until, wrong
from discern.access.store_federation import FederationStore
from discern.access.store_users import UserStore
from discern.access.types import SignedIn, User
from discern.access.types_federation import (
    Attempt,
    Begun,
    Grant,
    Identity,
    LdapProvider,
    OidcProvider,
    Provider,
    ProviderView,
    SamlProvider,
)
from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import InvalidSettings, SignInRefused, StorageUnavailable, UnknownProvider, WrongPassword
from discern.core.ids import uuid7

ATTEMPT = timedelta(minutes=10)
FOLDER = "/v1/sign-in"
# Of somebody who is refused go on record; a directory may name thousands.
_MOST_GROUPS_SHOWN = 50


class FederationSettings(NamedTuple):
    """What the operator says: `file` holds the providers and must be there where it `is_named`."""

    file: Path
    is_named: bool
    public_url: str
    secret: str
    secret_file: Path
    session: timedelta


class FederationParts(NamedTuple):
    """What signing in works with. `fetcher` returns a way out to hosts that the operator named."""

    users: Users
    user_store: UserStore
    store: FederationStore
    workspaces: Workspaces
    trail: Trail
    fetcher: Callable[[Collection[str], str | None], Fetch]


class Federation:
    """The identity providers of an installation. Thread-safe once open."""

    def __init__(self, settings: FederationSettings, parts: FederationParts, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._parts = parts
        self._clock = clock
        self.providers: dict[str, Provider] = {}
        self._redirecting: dict[str, Redirecting] = {}
        self._asking: dict[str, Asking] = {}
        self._key = b""

    def open(self) -> None:
        """Read the file of providers, and call none of them. Raises InvalidSettings, and MissingExtra."""
        here = self._settings.file.parent
        self.providers = {
            name: msgspec.structs.replace(one, ca_file=str(here / one.ca_file)) if one.ca_file else one
            for name, one in self._read().items()
        }
        if not self.providers:
            return
        known = {workspace.name for workspace in self._parts.workspaces.list()}
        for name, provider in self.providers.items():
            if provider.workspace not in known:
                detail = f"{self._settings.file}: the workspace {provider.workspace[:100]!r} of {name} does not exist."
                raise InvalidSettings(detail, mend="`discern workspace create` makes it.", setting="identity_providers")
            self._check_factor(name, provider)
            if isinstance(provider, LdapProvider):
                self._asking[name] = Ldap(name, provider, self._secret(provider.bind_password_file))
                continue
            self._redirecting[name] = self._built(name, provider, self._base())

    def _check_factor(self, name: str, provider: Provider) -> None:
        """Raise InvalidSettings where a provider lets in roles that must have a second factor, without one."""
        demanded = sorted({one.role for one in provider.grants if self._parts.users.demands_factor(one.role)})
        if demanded and not provider.has_second_factor and not asks_for_a_factor(provider):
            roles = ", ".join(demanded)
            raise InvalidSettings(
                f"{self._settings.file}: {name} lets in {roles} without the second factor that they must have.",
                mend="Set require_amr, require_acr or require_context, or has_second_factor = true.",
                setting="identity_providers",
            )

    def listed(self) -> list[ProviderView]:
        """Return the providers in the order of the file."""
        return [
            ProviderView(name, _kind(provider), provider.title or name, f"{FOLDER}/{name}")
            for name, provider in self.providers.items()
        ]

    def begin(self, name: str, path: str) -> Begun:
        """Begin to sign in, to go to `path` afterwards. Raises UnknownProvider, MalformedRequest and what is down."""
        redirecting = self._one(self._redirecting, name)
        attempt = Attempt(
            provider=name,
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next=our_path(path),
            ends_at=int((self._clock() + ATTEMPT).timestamp()),
        )
        return Begun(redirecting.begin(attempt), seal(self._sealing_key(), secrets.token_bytes(12), attempt))

    def finish(self, name: str, sealed: str, state: str, answer: Mapping[str, str], agent: str) -> tuple[SignedIn, str]:
        """Begin a session for whom the provider's answer is about; return it and the path to go to.

        Raises SignInRefused, UnknownProvider and ProviderUnavailable.
        """
        redirecting = self._one(self._redirecting, name)
        attempt = unseal(self._sealing_key(), sealed) if sealed else None
        now = self._clock()
        # What was not begun here, in this browser, is not on record: anybody can send that.
        if (
            attempt is None
            or attempt.provider != name
            or not hmac.compare_digest(attempt.state.encode(), state.encode())
            or now.timestamp() >= attempt.ends_at
        ):
            raise SignInRefused(
                "This browser has not begun to sign in here, or too long ago.", mend=f"Begin again: {FOLDER}/{name}."
            )
        workspace = self.providers[name].workspace
        forget_at = datetime.fromtimestamp(attempt.ends_at, UTC)
        if not self._parts.store.spend(workspace, _digest("state", name, attempt.state), forget_at, now):
            raise self._denied(name, None, None, "This sign-in was answered before.")
        try:
            identity = redirecting.finish(attempt, answer)
        except SignInRefused as error:
            # What a provider is said to have said may be anybody's words.
            why = "The provider refused." if "error" in answer else str(error.detail)
            self._parts.trail.record(self._act(name, None, None, why))
            raise
        return self._enter(name, identity, agent), attempt.next

    def sign_in(self, provider: str, name: str, password: str, agent: str) -> SignedIn:
        """Begin a session for somebody of a directory. Raises WrongPassword, SignInRefused and what is down."""
        asking = self._one(self._asking, provider)
        # A directory takes a bind without a password for one of nobody, and says yes (RFC 4513, section 5.1.2).
        if not password or not name.strip():
            raise wrong()
        found = asking.find(name.strip())
        if found is None:
            asking.proves(None, password)
            raise wrong()
        digest = identity_digest(provider, self.providers[provider], found.identity)
        lock, now = self._parts.store.locked_until(digest), self._clock()
        if lock is not None and lock > now:
            asking.proves(None, password)
            raise wrong()
        if not asking.proves(found, password):
            user = self._parts.user_store.by_identity(digest)
            act = self._act(provider, found.identity, user, "wrong password")
            self._parts.store.note_failure(digest, lambda failures: locked_until(now, failures), act)
            raise wrong()
        self._parts.store.forget_failures(digest)
        return self._enter(provider, found.identity, agent)

    def check(self, name: str) -> str:
        """Ask a provider whether it would do, and return what it says. Raises UnknownProvider and what is down."""
        told: str = self._one({**self._redirecting, **self._asking}, name).check()
        return told

    def granted(self, name: str, groups: Collection[str]) -> Grant | None:
        """Return what somebody in `groups` of a provider may. Raises UnknownProvider."""
        return grant_of(self._one(self.providers, name), groups)

    def is_posted_back(self, name: str) -> bool:
        """Tell whether a provider has the browser post a form to us, instead of leading it back by a link."""
        return isinstance(self.providers.get(name), SamlProvider)

    def metadata(self, name: str) -> bytes:
        """Return what a SAML identity provider wants to know of us. Raises UnknownProvider."""
        saml = self._one(self._redirecting, name)
        if not isinstance(saml, Saml):
            raise _unknown(name)
        return saml.metadata()

    def _enter(self, name: str, identity: Identity, agent: str) -> SignedIn:
        """Begin a session for somebody who is proven to be who they are, if they may be here."""
        provider, now = self.providers[name], self._clock()
        digest = identity_digest(name, provider, identity)
        user = self._parts.user_store.by_identity(digest)
        if identity.proof is not None and not self._parts.store.spend(
            provider.workspace,
            _digest("proof", name, identity.issuer, identity.proof),
            identity.proof_ends_at or now + ATTEMPT,
            now,
        ):
            raise self._denied(name, identity, user, "What the provider said has been used before.")
        grant = grant_of(provider, identity.groups)
        if grant is None:
            raise self._denied(
                name,
                identity,
                user,
                f"{name} knows you, but none of your groups there was granted anything here.",
                ends_sessions=True,
            )
        if user is not None and user.disabled_at is not None:
            raise self._denied(name, identity, user, "You were disabled here.")
        user = self._as_granted(name, identity, grant, digest, user)
        ends_at = min(now + self._settings.session, identity.ends_at or datetime.max.replace(tzinfo=UTC))
        came_by = {"provider": name, "group": grant.group, "role": grant.role}
        try:
            return self._parts.users.begin(user, agent, factor="provider", ends_at=ends_at, came_by=came_by)
        except WrongPassword as error:
            raise self._denied(name, identity, user, "You were disabled here.") from error

    def _as_granted(self, name: str, identity: Identity, grant: Grant, digest: bytes, user: User | None) -> User:
        """Return the user of an identity, made or changed to what the grant says."""
        users, who = self._parts.user_store, f"provider:{name}"
        workspace = self.providers[name].workspace
        if user is None:
            for called in user_names(name, identity.name, digest):
                user = User(
                    id=uuid7(),
                    workspace=workspace,
                    name=called,
                    role=grant.role,
                    created_at=self._clock(),
                    detectors=grant.detectors,
                    provider=name,
                    subject=identity.subject,
                )
                act = Act(workspace, who, "users.create", f"user:{user.id}", after=_told(user))
                if users.add(user, "", act, digest):
                    return user
                # Taken by somebody else of this name, or by another request of theirs.
                found = users.by_identity(digest)
                if found is not None:
                    return self._as_granted(name, identity, grant, digest, found)
            raise StorageUnavailable("A user could not be made.", mend="Sign in again.")
        if (user.role, user.detectors) == (grant.role, grant.detectors):
            return user
        changes = {"role": grant.role, "detectors": grant.detectors}
        changed = msgspec.structs.replace(user, role=grant.role, detectors=grant.detectors)
        act = Act(workspace, who, "users.change", f"user:{user.id}", before=_told(user), after=_told(changed))
        users.change(user, changes, act)
        return changed

    def _denied(
        self, name: str, identity: Identity | None, user: User | None, why: str, *, ends_sessions: bool = False
    ) -> SignInRefused:
        """Put a denial on record, and return it."""
        act = self._act(name, identity, user, why)
        if ends_sessions and user is not None:
            self._parts.user_store.change(user, {}, act)
        else:
            self._parts.trail.record(act)
        return SignInRefused(why, mend="Ask whoever runs this installation.", provider=name)

    def _act(self, name: str, identity: Identity | None, user: User | None, why: str) -> Act:
        told: dict[str, Any] | None = None
        if identity is not None:
            groups = list(identity.groups[:_MOST_GROUPS_SHOWN])
            told = {"subject": identity.subject, "name": identity.name[:100], "groups": groups}
        who = f"provider:{name}" if user is None else f"user:{user.id}"
        workspace = self.providers[name].workspace
        return Act(workspace, who, "sessions.begin", f"provider:{name}", outcome="denied", reason=why, after=told)

    def _built(self, name: str, provider: OidcProvider | SamlProvider, base: str) -> Redirecting:
        here = f"{base}{FOLDER}/{name}"
        if isinstance(provider, SamlProvider):
            return Saml(name, provider, self._content(provider.certificate_file), here, self._clock)
        secret = self._secret(provider.client_secret_file) if provider.client_secret_file else ""
        fetch = self._parts.fetcher({urlsplit(provider.issuer).hostname or ""}, provider.ca_file)
        return Oidc(name, provider, secret, f"{here}/callback", fetch, self._clock)

    def _one(self, among: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - of one of two kinds
        if name not in among:
            raise _unknown(name)
        return among[name]

    def _base(self) -> str:
        url = self._settings.public_url.rstrip("/")
        if not is_safe_url(url) or urlsplit(url).path:
            raise InvalidSettings(
                "Sign-in through OIDC and SAML needs public_url, the https address that browsers use.",
                mend="Set DISCERN_PUBLIC_URL=https://discern.example.org, without a path.",
                setting="public_url",
            )
        return url

    def _read(self) -> dict[str, Provider]:
        path = self._settings.file
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            if not self._settings.is_named:
                return {}
            raise InvalidSettings(
                f"{path} is not there.", mend="Name the file.", setting="identity_providers"
            ) from error
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            detail = f"{path} cannot be read: {error}."
            raise InvalidSettings(detail, mend="Correct the file.", setting="identity_providers") from error
        return read_providers(content, str(path))

    def _secret(self, name: str) -> str:
        return self._content(name).strip("\r\n")

    def _content(self, name: str) -> str:
        path = self._settings.file.parent / name
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            detail = f"{self._settings.file}: {path} cannot be read: {error}."
            raise InvalidSettings(detail, mend="Name the file.", setting="identity_providers") from error

    def _sealing_key(self) -> bytes:
        """Return the key that attempts are sealed with: of the setting, or of a file that is made at the first."""
        if not self._key:
            secret = self._settings.secret or _kept_secret(self._settings.secret_file)
            self._key = hashlib.sha256(b"sign-in:" + secret.encode()).digest()
        return self._key


def _kept_secret(path: Path) -> str:
    """Return the secret in a file, which is made where there is none. Raises StorageUnavailable."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            coming = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            handle = os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            # The first of several processes wins, and nobody reads half a secret.
            with suppress(FileExistsError):
                os.link(coming, path)
            coming.unlink()
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        detail = f"The secret {path} can be neither read nor made: {error.strerror}."
        raise StorageUnavailable(detail, mend="See the folder.") from error


def _kind(provider: Provider) -> str:
    return next(kind for kind, of in KINDS.items() if isinstance(provider, of))


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(msgspec.json.encode(parts)).digest()


def _told(user: User) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(user)
    return told


def _unknown(name: str) -> UnknownProvider:
    return UnknownProvider(
        f"There is no identity provider {name[:100]!r} of this kind.", mend=f"GET {FOLDER} lists what there is."
    )
