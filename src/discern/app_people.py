"""How people come in, put together from settings."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from discern.access.ports import CodeSender
from discern.access.service import Workspaces, check_role
from discern.access.service_codes import HttpCodes, NoCodes
from discern.access.service_federation import Federation, FederationParts, FederationSettings
from discern.access.service_passkeys import Passkeys
from discern.access.service_proofs import Proofs
from discern.access.service_sealing import Sealing
from discern.access.service_users import Users
from discern.access.store import WorkspaceStore
from discern.access.store_federation import FederationStore
from discern.access.store_users import UserStore
from discern.app_storage import fetch_for, outbound, webhook_secret
from discern.audit.service import AuditTrail
from discern.core.errors import CallerError, InvalidSettings
from discern.settings import Settings
from discern.store.database import Database
from discern.store.secret_files import SecretFile


def second_factor_roles(settings: Settings) -> frozenset[str]:
    """Return the roles that need a second factor. Raises InvalidSettings."""
    roles = frozenset(role.strip() for role in settings.second_factor_roles.split(",") if role.strip())
    try:
        for role in roles:
            check_role(role)
    except CallerError as error:
        detail = f"second_factor_roles: {error.detail}"
        raise InvalidSettings(detail, mend=error.mend, setting="second_factor_roles") from error
    return roles


def proofs_of(settings: Settings) -> Proofs:
    """Return what judges second factors."""
    passkeys = Passkeys(settings.passkey_origins, settings.passkey_relying_party, settings.passkey_user_verification)
    sealing = Sealing(SecretFile(settings.factor_secret, settings.home / "keys" / "factors.secret"))
    sender: CodeSender = NoCodes()
    if settings.sms_url:
        sender = HttpCodes(settings.sms_url, outbound(settings), webhook_secret(settings))
    return Proofs(sealing, passkeys, sender)


def federation_of(settings: Settings, database: Database, audit: AuditTrail, users: Users) -> Federation:
    """Return the identity providers, not read yet."""
    parts = FederationParts(
        users=users,
        user_store=UserStore(database, audit),
        store=FederationStore(database, audit),
        workspaces=Workspaces(WorkspaceStore(database, audit)),
        trail=audit,
        fetcher=partial(fetch_for, settings),
    )
    said = FederationSettings(
        file=settings.identity_providers or settings.home / "sign-in.toml",
        is_named=settings.identity_providers is not None,
        public_url=settings.public_url,
        secret=settings.sign_in_secret,
        secret_file=settings.home / "keys" / "sign-in.secret",
        session=timedelta(seconds=settings.federated_session_seconds),
    )
    return Federation(said, parts)
