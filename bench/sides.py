"""The two sides of a comparison over HTTP: what is sent to ours, what is sent to the plain application."""

from __future__ import annotations

from typing import Literal

from bench import inputs
from bench.home import IMAGE, RECORD
from bench.load import Template, Traffic

Kind = Literal["records", "images", "clips"]

_TYPES: dict[Kind, str] = {"records": "application/json", "images": "image/jpeg", "clips": "video/mp4"}
_TEMPLATES: dict[Kind, Template] = {
    "records": inputs.record_template,
    "images": inputs.photo_template,
    "clips": inputs.clip_template,
}
DETECTORS: dict[Kind, str] = {"records": RECORD, "images": IMAGE, "clips": IMAGE}


def ours(kind: Kind, secret: str) -> Traffic:
    """Return what Discern is sent."""
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": _TYPES[kind]}
    return Traffic(f"/v1/detectors/{DETECTORS[kind]}/verdicts", _TEMPLATES[kind], headers)


def plain(kind: Kind) -> Traffic:
    """Return what `bench.plain` is sent."""
    return Traffic(f"/{kind}", _TEMPLATES[kind], {"Content-Type": _TYPES[kind]})
