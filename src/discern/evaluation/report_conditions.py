"""How the report draws and says what conditions come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discern.evaluation.types_conditions import FALL

if TYPE_CHECKING:
    from discern.evaluation.types import Estimate
    from discern.evaluation.types_conditions import ConditionCurve, DatasetConditions

_WIDTH, _HEIGHT = 240, 152
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 36
_LOWEST = 0.4
_TICKS = (0.5, 0.75, 1.0)


def word(name: str) -> str:
    """Return what a condition is called within a sentence."""
    return {"jpeg": "JPEG", "h264": "H.264"}.get(name, name.replace("_", " "))


def title(name: str) -> str:
    """Return what a condition is called at the head of a row."""
    return word(name)[0].upper() + word(name)[1:]


def chart(clean: Estimate, curve: ConditionCurve) -> str:
    """Return the AUC over the strengths, 0 being the items as they are, with intervals, as SVG."""
    last = max((point.strength for point in curve.points), default=1)
    figures = [(0, clean), *((point.strength, point.auc) for point in curve.points)]
    drawn = [end for _, area in figures for end in (area.value, area.low) if end is not None]
    lowest = min([_LOWEST, *drawn])
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="AUC over the strength of {curve.condition}">'
    ]
    for tick in _TICKS:
        level = _y(tick, lowest)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{level:.1f}" x2="{_WIDTH - _RIGHT}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{level + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for strength, area in figures:
        at = _x(strength, last)
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{strength}</text>')
        if area.low is not None and area.high is not None:
            ends = f'y1="{_y(area.low, lowest):.1f}" x2="{at:.1f}" y2="{_y(area.high, lowest):.1f}"'
            parts.append(f'<line class="whisker" x1="{at:.1f}" {ends}/>')
    middle, level = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">Strength</text>')
    turned = f'x="11" y="{level:.0f}" text-anchor="middle" transform="rotate(-90 11 {level:.0f})"'
    parts.append(f'<text class="axis" {turned}>AUC</text>')
    line = " ".join(
        f"{_x(at, last):.1f},{_y(area.value, lowest):.1f}" for at, area in figures if area.value is not None
    )
    return "".join([*parts, f'<polyline class="series series-0" points="{line}"/>', "</svg>"])


def summary(dataset: DatasetConditions) -> str:
    """Return in a sentence or two where the detector gives way."""
    tried = [curve for curve in dataset.curves if curve.points]
    if not tried:
        return "No condition could be tried."
    falling = sorted(
        ((curve.falls_from, curve) for curve in tried if curve.falls_from is not None), key=lambda one: one[0]
    )
    named = [f"{word(curve.condition)} from strength {strength}{_sure(curve)}" for strength, curve in falling]
    said = "; ".join(named) if named else f"none of {len(tried)}"
    return f"The AUC falls by more than {FALL:g} under {said}."


def _sure(curve: ConditionCurve) -> str:
    if curve.surely_falls_from == curve.falls_from:
        return ""
    return " (not sure)" if curve.surely_falls_from is None else f" (sure from {curve.surely_falls_from})"


def _x(strength: int, last: int) -> float:
    return _LEFT + 8 + (_WIDTH - _LEFT - _RIGHT - 16) * strength / last


def _y(value: float, lowest: float) -> float:
    share = (value - lowest) / (1 - lowest)
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)
