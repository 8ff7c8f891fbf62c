"""What people and outcomes say of verdicts, put together from settings."""

from __future__ import annotations

from functools import partial

from discern.audit.service import AuditTrail
from discern.core.errors import UnknownDetector
from discern.detection.store import VerdictStore
from discern.privacy.service import SubjectKeys
from discern.registry.service import Catalogue
from discern.review.service import HoldOut, Labels
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.secret_files import SecretFile


def labels_of(
    settings: Settings,
    database: Database,
    audit: AuditTrail,
    verdicts: VerdictStore,
    catalogue: Catalogue,
    subjects: SubjectKeys,
) -> Labels:
    """Return the labels of an installation."""
    store = LabelStore(database, audit, subjects)
    secret = SecretFile(settings.holdout_secret, settings.home / "keys" / "holdout.secret")
    hold_out = HoldOut(secret, settings.holdout_share)
    return Labels(store, verdicts, partial(_classes, catalogue), hold_out, subjects)


def _classes(catalogue: Catalogue, detector: str, version: str) -> tuple[str, str]:
    try:
        manifest = catalogue.find(detector, version).bundle.manifest
    except UnknownDetector:  # a version that was removed; its classes are called as those of the others
        manifest = catalogue.find(detector).bundle.manifest
    return manifest.classes.negative, manifest.classes.positive
