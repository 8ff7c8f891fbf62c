"""Tables of second factors, and of sign-ins that wait for one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Uuid

from discern.store.metadata import metadata, workspace_column
from discern.store.types import UtcDateTime

factors = Table(
    "second_factors",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("user_id", Uuid(), ForeignKey("users.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # A factor that was not confirmed opens nothing.
    Column("confirmed_at", UtcDateTime),
    Column("used_at", UtcDateTime),
    # Sealed; of a passkey its public key, as it is.
    Column("secret", LargeBinary(), nullable=False),
    Column("credential_id", LargeBinary(), unique=True),
    # The last time step that was accepted; of a passkey how often it says it was used.
    Column("counter", BigInteger(), nullable=False),
    Index("ix_second_factors_user_id_id", "user_id", "id"),
)
recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("user_id", Uuid(), ForeignKey("users.id"), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("used_at", UtcDateTime),
    Index("ix_recovery_codes_user_id_digest", "user_id", "digest"),
)
challenges = Table(
    "factor_challenges",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("user_id", Uuid(), ForeignKey("users.id"), nullable=False),
    Column("factor_id", Uuid()),
    Column("purpose", String(16), nullable=False),
    # The SHA-256 of the ticket or of the session's secret that it was made for.
    Column("bound_to", LargeBinary(32), nullable=False),
    # What a passkey signs, or the digest of a code that was sent.
    Column("value", LargeBinary(), nullable=False),
    # The digest of the number a code was sent to.
    Column("target", LargeBinary(32)),
    Column("tries", Integer(), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_factor_challenges_user_id_created_at", "user_id", "created_at"),
    Index("ix_factor_challenges_target_created_at", "target", "created_at"),
)
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("id", Uuid(), primary_key=True),
    workspace_column(),
    Column("user_id", Uuid(), ForeignKey("users.id"), nullable=False),
    Column("ticket_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("tries", Integer(), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_sign_ins_user_id", "user_id"),
)
