"""What an installation keeps things in, put together from settings: databases, objects, keys, caches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from discern.access.ports import Fetch
from discern.access.store_users import old_sessions
from discern.audit.ports import AnchorPlace
from discern.audit.service import AuditTrail
from discern.audit.service_anchors import FileAnchors, HttpAnchors, ObjectAnchors
from discern.core.breakers import Breakers
from discern.core.counts import Counts
from discern.core.errors import InvalidSettings, StorageUnavailable, SubjectsUnavailable
from discern.detection.bulk.store import old_runs
from discern.detection.caching import AnswerCache
from discern.detection.jobs.ports import Poster
from discern.detection.jobs.service import Jobs
from discern.detection.jobs.service_expiry import ExpiringJobs
from discern.detection.jobs.store import old_jobs
from discern.detection.store import old_verdicts
from discern.objects.ports import KindOfKey, MasterKey
from discern.objects.service import SealedObjects
from discern.objects.service_masters import FileMasterKey, KeyRing, SecretMasterKey
from discern.objects.service_rotation import Rotation
from discern.objects.store import ObjectTable
from discern.privacy.service import SubjectKeys
from discern.privacy.store import ConsentStore
from discern.privacy.store_keys import SubjectKeyStore
from discern.retention.ports import Expiring
from discern.retention.service import Retention
from discern.retention.store import RetentionStore
from discern.retention.types import Kind
from discern.review.store import old_labels
from discern.settings import Settings
from discern.store.database import Database, Durability
from discern.store.migrations import SUBJECT_KEYS
from discern.store.objects import SCHEMES, ObjectAccess, ObjectStore, check_place
from discern.store.partitions import MonthlyTable
from discern.store.secret_files import SecretFile
from discern.store.shared_cache import CACHE_PATIENCE, SharedCache
from discern.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from discern.store.replica import Replica

_SUBJECT_KEYS = "subject-keys.db"
# Of discovery, key sets and tokens; those of large providers have some 20 kB.
_MOST_FETCHED = 1_000_000


def make_home(settings: Settings) -> None:
    """Make the home folder, for its owner alone, unless it is there. Raises StorageUnavailable."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageUnavailable(
            f"The home folder {settings.home} cannot be made: {error.strerror}.",
            mend="Set DISCERN_HOME to a writable folder.",
        ) from error


def database_of(settings: Settings) -> Database:
    """Return the database of an installation, closed."""
    durability = cast("Durability", settings.ledger_durability)
    if settings.database_url:
        from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra

        return PostgresqlDatabase(
            settings.database_url, connections=settings.database_connections, durability=durability
        )
    return SqliteDatabase(settings.home / "discern.db", durability=durability)


def replica_of(settings: Settings, database: Database, counts: Counts) -> Replica | None:
    """Return the replica that lists are read from, if there is one. Raises InvalidSettings."""
    if not settings.database_replica_url:
        return None
    if not settings.database_url:
        detail = "database_replica_url is set, and database_url is not: SQLite has no replicas."
        raise InvalidSettings(detail, mend="Set DISCERN_DATABASE_URL too.", setting="database_replica_url")
    from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra
    from discern.store.replica import Replica  # noqa: PLC0415 - likewise

    assert isinstance(database, PostgresqlDatabase)  # noqa: S101 - by its URL
    return Replica(
        database,
        settings.database_replica_url,
        connections=settings.database_connections,
        most_seconds=settings.database_replica_seconds,
        counts=counts,
    )


def subjects_of(settings: Settings, consents: ConsentStore) -> SubjectKeys:
    """Return the subjects of an installation. Raises InvalidSettings."""
    if settings.subject_keys_url and settings.subject_keys_url == settings.database_url:
        raise InvalidSettings(
            "subject_keys_url names the database of the ledger.",
            mend="Name another one, which is not in the backups of the ledger.",
            setting="subject_keys_url",
        )
    return SubjectKeys(
        partial(_subject_keys, settings),
        lambda: bool(settings.subject_keys_url) or (settings.home / _SUBJECT_KEYS).exists(),
        consents,
        _key_ring(settings),
    )


def no_subjects(settings: Settings) -> SubjectsUnavailable | None:
    """Return why no subject can be named, None where one can."""
    if not settings.database_url or settings.subject_keys_url:
        return None
    return SubjectsUnavailable(
        "No subject can be named: their keys need a database of their own, beside that of the ledger.",
        mend="Set DISCERN_SUBJECT_KEYS_URL to another PostgreSQL database.",
    )


def _subject_keys(settings: Settings) -> SubjectKeyStore:
    missing = no_subjects(settings)
    if missing is not None:
        raise missing
    if settings.subject_keys_url:
        from discern.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - needs an extra

        url, connections = settings.subject_keys_url, settings.database_connections
        return SubjectKeyStore(PostgresqlDatabase(url, connections=connections, durability="full", schema=SUBJECT_KEYS))
    return SubjectKeyStore(SqliteDatabase(settings.home / _SUBJECT_KEYS, durability="full", schema=SUBJECT_KEYS))


def objects_of(
    settings: Settings, database: Database, subjects: SubjectKeys, audit: AuditTrail
) -> tuple[SealedObjects, Rotation]:
    """Return where objects are kept, and what rotates the master key."""
    table, ring = ObjectTable(database), _key_ring(settings, subjects)
    return SealedObjects(table, _object_store(settings), ring), Rotation(ring, (table, subjects), audit)


def _object_store(settings: Settings) -> ObjectStore:
    if settings.objects_url:
        check_place(settings.objects_url, "objects_url")
        return ObjectStore(settings.objects_url, object_access(settings))
    return ObjectStore(settings.home / "objects", ObjectAccess())


def _key_ring(settings: Settings, *subjects: KindOfKey) -> KeyRing:
    """Return the master key that is set, and beside it those that were set up before: they still unwrap."""
    there: dict[str, MasterKey] = {"file": FileMasterKey(settings.home / "keys" / "master")}
    if settings.master_secret or settings.master_key == "secret":
        there["secret"] = SecretMasterKey(settings.master_secret)
    if settings.vault_url or settings.master_key == "vault":
        there["vault"] = _vault_key(settings)
    if settings.aws_kms_key or settings.master_key == "aws":
        there["aws"] = _aws_key(settings)
    master = there.pop(settings.master_key)
    return KeyRing(master, tuple(there.values()), subjects)


def _vault_key(settings: Settings) -> MasterKey:
    from discern.objects.service_vault import VaultMasterKey  # noqa: PLC0415 - few have one

    def ask(
        method: str, url: str, body: bytes | None, headers: Mapping[str, str], most_bytes: int
    ) -> tuple[int, bytes]:
        from discern.store.outbound import ANYWHERE, Outbound, networks  # noqa: PLC0415

        return Outbound(networks(ANYWHERE)).fetch(method, url, body, headers, most_bytes=most_bytes)

    return VaultMasterKey(settings.vault_url, settings.vault_token, settings.vault_key, ask)


def _aws_key(settings: Settings) -> MasterKey:
    from discern.objects.service_kms import AwsMasterKey  # noqa: PLC0415 - few have one

    return AwsMasterKey(
        settings.aws_kms_key, endpoint=settings.aws_kms_endpoint or None, region=settings.s3_region or None
    )


def object_access(settings: Settings) -> ObjectAccess:
    """Return how an object store is reached."""
    return ObjectAccess(
        endpoint=settings.s3_endpoint or None,
        region=settings.s3_region or None,
        access_key=settings.s3_access_key or None,
        secret_key=settings.s3_secret_key or None,
        session_token=settings.s3_session_token or None,
    )


def anchor_place(settings: Settings) -> AnchorPlace:
    """Return where the audit log is anchored."""
    if settings.audit_anchor.startswith(SCHEMES):
        check_place(settings.audit_anchor, "audit_anchor")
        return ObjectAnchors(ObjectStore(settings.audit_anchor, object_access(settings)))
    if settings.audit_anchor.startswith(("http://", "https://")):
        return HttpAnchors(settings.audit_anchor, outbound(settings))
    return FileAnchors(
        Path(settings.audit_anchor).absolute() if settings.audit_anchor else settings.home / "audit-anchors.jsonl"
    )


def outbound(settings: Settings) -> Poster:
    """Return what sends POSTs to addresses that somebody else chose."""

    def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        return Outbound(networks(settings.webhook_allow)).post(url, body, headers)

    return post


def fetch_for(settings: Settings, named: Collection[str], authorities: str | None) -> Fetch:
    """Return the way out to hosts that the operator named."""

    def fetch(method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        from discern.store.outbound import Outbound, networks  # noqa: PLC0415

        out = Outbound(networks(settings.webhook_allow), named, authorities)
        return out.fetch(method, url, body, headers, most_bytes=_MOST_FETCHED)

    return fetch


def answer_cache(settings: Settings, counts: Counts, breakers: Breakers) -> AnswerCache:
    """Return the cache of answers."""
    shared = None
    if settings.redis_url and settings.cache_entries:
        shared = SharedCache(
            settings.redis_url,
            wait_seconds=settings.cache_wait_milliseconds / 1000,
            keep_seconds=settings.cache_seconds,
            counts=counts,
            guard=breakers.guard("cache", "shared", CACHE_PATIENCE),
        )
    return AnswerCache(
        entries=settings.cache_entries, keep_seconds=settings.cache_seconds, shared=shared, counts=counts
    )


def retention_of(database: Database, audit: AuditTrail, jobs: Jobs) -> Retention:
    """Return what deletes what is old."""
    kinds: dict[Kind, Expiring] = {
        "verdicts": old_verdicts(database),
        "jobs": ExpiringJobs(jobs, old_jobs(database)),
        "sessions": old_sessions(database),
        "runs": old_runs(database),
        "labels": old_labels(database),
    }
    return Retention(
        RetentionStore(database, audit),
        kinds,
        MonthlyTable(database, "verdicts", linked=("verdict_subjects", "verdict_id")),
    )


def webhook_secret(settings: Settings) -> SecretFile:
    """Return the secret that calls to webhooks are signed with."""
    return SecretFile(settings.webhook_secret, settings.home / "keys" / "webhook.secret")
