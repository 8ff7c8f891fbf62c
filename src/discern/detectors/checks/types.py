"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a bundle keeps one promise. `detail` is the evidence, or what was found instead."""

    name: str
    passed: bool
    detail: str


class CheckFailed(Exception):
    """A bundle breaks the promise that a check looks at."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
