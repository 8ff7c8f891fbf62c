"""A report on what a running installation can show. Nothing is changed by making one.

- What cannot be looked at is said, and keeps nothing else out of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from discern.compliance import rules
from discern.compliance.ports import AuditLog, DetectorList, KeyList, PolicyTexts, UserList, WaysIn, WhatIsKept
from discern.compliance.service_standards import standards
from discern.compliance.types import FRAMEWORKS, Control, Evidence, EvidenceName, Framework, Installation, Item, Report
from discern.core.clock import Clock, utc_now
from discern.core.errors import DiscernError

_ELSEWHERE = (
    "Whether a running server was started with the settings of this command: `GET /v1/compliance/report` tells its own."
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where evidence comes from."""

    installation: Installation
    kept: WhatIsKept
    keys: KeyList
    users: UserList
    ways_in: WaysIn
    demands_factor: Collection[str]
    audit: AuditLog
    detectors: DetectorList
    policies: PolicyTexts


class Compliance:
    """Reports on an installation. Thread-safe."""

    def __init__(self, sources: Sources, clock: Clock = utc_now) -> None:
        self._sources = sources
        self._clock = clock

    def report(
        self,
        workspace: str,
        frameworks: Iterable[Framework] = FRAMEWORKS,
        *,
        told_by: Literal["command line", "server"] = "command line",
        may_see: Callable[[str], bool] = lambda _: True,
    ) -> Report:
        """Return what is shown for a workspace; `may_see` tells of which detectors by name. Raises nothing."""
        known = standards()
        asked: list[tuple[Framework, Control]] = [
            (framework, control) for framework in frameworks for control in known[framework].controls
        ]
        needed = {name for _, control in asked for name in control.evidence}
        looks = self._looks(workspace, may_see)
        found = {name: _looked(name, look) for name, look in looks.items() if name in needed}
        unknown = tuple(one.unknown for one in found.values() if one.unknown)
        return Report(
            made_at=self._clock(),
            version=self._sources.installation.version,
            workspace=workspace,
            told_by=told_by,
            evidence=tuple(found.values()),
            items=tuple(
                Item(
                    framework,
                    control.number,
                    control.asks,
                    rules.state_of(control, found),
                    control.evidence,
                    control.shown_by,
                    control.operator,
                )
                for framework, control in asked
            ),
            not_established=(*unknown, *((_ELSEWHERE,) if told_by == "command line" else ())),
        )

    def _looks(self, workspace: str, may_see: Callable[[str], bool]) -> dict[EvidenceName, Callable[[], Evidence]]:
        sources = self._sources
        of = sources.installation
        return {
            "version": lambda: rules.version(of),
            "transport": lambda: rules.transport(of),
            "proxies": lambda: rules.proxies(of),
            "limits": lambda: rules.limits(of),
            "durability": lambda: rules.durability(of),
            "audit_log": lambda: rules.audit_log(sources.audit.verify(workspace)),
            "audit_anchor": lambda: rules.audit_anchor(of),
            "users": lambda: rules.users(sources.users.list(workspace), sources.ways_in, sources.demands_factor),
            "keys": lambda: rules.keys(sources.keys.list(workspace), self._clock()),
            "detectors": lambda: rules.detectors(one for one in sources.detectors.all() if may_see(one.name)),
            "retention": lambda: rules.retention(sources.kept(workspace)),
            "policies": lambda: rules.policies(sources.policies()),
        }


def _looked(name: EvidenceName, look: Callable[[], Evidence]) -> Evidence:
    try:
        return look()
    except DiscernError as error:
        return rules.not_established(name, error.code)
