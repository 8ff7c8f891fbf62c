"""What watches an installation, put together from settings."""

from __future__ import annotations

from dataclasses import dataclass

from discern.core.loops import Loop
from discern.monitoring.ports import Collector


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts that watch. `collectors` read what is exported, `loops` run in every server process."""

    collectors: tuple[Collector, ...]
    loops: tuple[Loop, ...]


def monitoring_of() -> Monitoring:
    """Put the parts together."""
    return Monitoring(collectors=(), loops=())
