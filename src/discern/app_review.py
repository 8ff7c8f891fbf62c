"""What people and outcomes say of verdicts, and how good detectors are by it, put together from settings."""

from __future__ import annotations

from functools import partial

from discern.audit.service import AuditTrail
from discern.core.errors import BundleRefused, UnknownDetector
from discern.detection.store import VerdictStore
from discern.monitoring.ports import Tallies
from discern.monitoring.quality.service import SECONDS as QUALITY_SECONDS
from discern.monitoring.quality.service import Quality
from discern.monitoring.quality.sources import evidence_of
from discern.monitoring.quality.store import QualityStore
from discern.monitoring.quality.types import Evidence, QualityOptions
from discern.privacy.service import SubjectKeys
from discern.registry.service import Catalogue
from discern.review.service import HoldOut, Labels
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.secret_files import SecretFile
from discern.store.turns import Turn


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


def quality_of(
    settings: Settings, database: Database, tallies: Tallies, labels: LabelStore, catalogue: Catalogue
) -> Quality:
    """Return what measures how good detectors are."""
    options = QualityOptions(
        window_days=settings.quality_window_days,
        days=settings.quality_days,
        label_share=settings.label_share,
        gap_odds=settings.quality_gap_odds,
        false_alarms=settings.quality_false_alarms,
    )
    turn = Turn(database, "quality", seconds=3 * QUALITY_SECONDS)
    return Quality(QualityStore(database), tallies, labels, partial(_evidence, catalogue), options, turn)


def _evidence(catalogue: Catalogue, detector: str, version: str) -> Evidence | None:
    try:
        return evidence_of(catalogue.find(detector, version).bundle)
    except (UnknownDetector, BundleRefused):
        return None
