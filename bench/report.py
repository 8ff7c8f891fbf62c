"""The one shape of a benchmark's result, and how results are printed and put into the documentation.

Every benchmark module has `rows(folder) -> Iterable[Row]`, where `folder` is an empty one of its own, and may have a
`main()` with arguments of its own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import discern

_LIBRARIES = ("onnxruntime", "numpy", "opencv-python-headless", "uvicorn", "uvloop", "httptools", "fastapi", "msgspec")


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is found / limit, or ours / theirs; `holds` whether it is on the right side.

    `found` and `against` carry their units. A row without a target leaves `holds` None.
    """

    what: str
    found: str
    against: str
    ratio: float | None = None
    holds: bool | None = None


@dataclass(frozen=True)
class Section:
    """The rows of one benchmark under its title."""

    title: str
    rows: Sequence[Row]


def at_least(what: str, found: str, against: str, ratio: float, target: float) -> Row:
    """Return a row whose ratio must be `target` or more; the target is named in it."""
    return Row(what, found, f"{against}; at least {target:g} x", ratio, ratio >= target)


def at_most(what: str, found: float, limit: float, unit: str) -> Row:
    """Return a row whose figure must be `limit` or less."""
    return Row(what, f"{found:.4g} {unit}", f"at most {limit:g} {unit}", found / limit, found <= limit)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| what | found | against | ratio | |", "|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {None: "", True: "holds", False: "**missed**"}[row.holds]
        lines.append(f"| {row.what} | {row.found} | {row.against} | {ratio} | {verdict} |")
    return "\n".join(lines)


def sections(found: Iterable[Section]) -> str:
    """Return one table a section, each under its heading."""
    return "\n\n".join(f"## {section.title}\n\n{table(section.rows)}" for section in found)


def machine() -> str:
    """Return what the figures were taken on, for a sentence."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def page(found: Iterable[Section], notes: Iterable[str] = ()) -> str:
    """Return the page of the documentation: when and on what, then every section, then the notes."""
    when = datetime.now(UTC).date().isoformat()
    lines = [
        "# What it costs",
        "<!-- Written by `make bench`; run it on your machine. -->",
        (
            f"Discern {discern.__version__} on {machine()}, {when}. {_versions()}\n"
            "What is compared was measured in turns within one run; medians are given, a ratio is the median of the "
            "rounds' ratios."
        ),
        sections(found),
        *notes,
    ]
    return "\n\n".join(lines) + "\n"


def _versions() -> str:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found) + "."
