"""What watches an installation, put together from settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from discern.core.errors import BundleRefused, UnknownDetector
from discern.core.loops import Loop
from discern.monitoring.ports import Collector, NoTallies, Tallies
from discern.monitoring.quality.service import SECONDS as QUALITY_SECONDS
from discern.monitoring.quality.service import Quality
from discern.monitoring.quality.sources import evidence_of
from discern.monitoring.quality.store import QualityStore
from discern.monitoring.quality.types import Evidence, QualityOptions
from discern.registry.service import Catalogue
from discern.review.store import LabelStore
from discern.settings import Settings
from discern.store.database import Database
from discern.store.turns import Turn


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    quality: Quality
    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]


def monitoring_of(settings: Settings, database: Database, labels: LabelStore, catalogue: Catalogue) -> Monitoring:
    """Put the parts together."""
    quality = quality_of(settings, database, NoTallies(), labels, catalogue)
    return Monitoring(
        quality=quality,
        collectors=(quality.collect,),
        loops=(Loop("quality", QUALITY_SECONDS, quality.tend),),
    )


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
