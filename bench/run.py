"""`make bench`: what Discern costs on this machine, each figure beside its limit or what it is compared with.

Figures that are compared are taken in turns within one run, because machines drift. Medians are given.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import discern
from bench import answering, starting

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is found / limit, or ours / theirs; `holds` whether it is on the right side."""

    what: str
    found: str
    against: str
    ratio: float | None = None
    holds: bool | None = None


def main() -> None:
    """Measure, print, and with `--write` put the table into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--skip-installation", action="store_true", help="leave out what needs the package index")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as folder:
        measures: list[Callable[[Path], list[Row]]] = [_starting, _answering, _cascade]
        if not options.skip_installation:
            measures.insert(0, _installation)
        for measure in measures:
            for row in measure(Path(folder)):
                rows.append(row)
                print(f"{row.what}: {row.found} ({row.against})", file=sys.stderr)
    text = _table(rows)
    print(text)
    if options.write:
        PAGE.write_text(_page(text), encoding="utf-8")


def _installation(folder: Path) -> list[Row]:
    size, largest = starting.installation_bytes(folder, ROOT)
    mebibytes = size / 2**20
    found = f"{mebibytes:.0f} MiB ({size / 1e6:.0f} million bytes)"
    named = ", ".join(f"{name} {one / 2**20:.0f}" for name, one in largest)
    return [
        Row(
            "installation without extras, bytecode of what runs included",
            found,
            "at most 450 as `du -m` counts",
            mebibytes / 450,
            mebibytes <= 450,
        ),
        Row("the largest folders of it", named, "MiB each"),
    ]


def _starting(folder: Path) -> list[Row]:
    first, later = starting.ready_seconds(folder, repeats=5)
    cold, warm = starting.detect_seconds(folder, repeats=5)
    return [
        _limited("`discern up` to `/readyz`, first start", first, 3, "s"),
        _limited("`discern up` to `/readyz`, later starts", later, 3, "s"),
        _limited("`discern detect photo.jpg`, first run in a fresh home", cold, 2, "s"),
        _limited("`discern detect photo.jpg`, later runs", warm, 2, "s"),
    ]


def _answering(folder: Path) -> list[Row]:
    rows = []
    for name, samples in answering.compare(folder).items():
        ours, plain = statistics.median(samples.over_http), statistics.median(samples.in_process)
        rows.append(
            Row(
                f"{name}, one caller: time to the answer over HTTP",
                f"{ours:.2f} ms",
                f"{plain:.2f} ms for decode and model alone; adds {ours - plain:.2f} ms",
                plain / ours,
            )
        )
    return rows


def _cascade(folder: Path) -> list[Row]:
    cascade, last, share = answering.cascade_against_last_stage(folder)
    return [
        Row(
            "synthetic-face: one row through the cascade",
            f"{cascade:.1f} ms",
            f"{last:.1f} ms through every stage; noise images, {share:.0%} of which the first stage decided",
            last / cascade,
        )
    ]


def _limited(what: str, found: float, limit: float, unit: str) -> Row:
    return Row(what, f"{found:.2f} {unit}", f"at most {limit:g} {unit}", found / limit, found <= limit)


def _table(rows: list[Row]) -> str:
    lines = ["| what | found | against | ratio | |", "|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {None: "", True: "holds", False: "**missed**"}[row.holds]
        lines.append(f"| {row.what} | {row.found} | {row.against} | {ratio} | {verdict} |")
    return "\n".join(lines)


def _page(table: str) -> str:
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
    when = datetime.now(UTC).date().isoformat()
    return (
        "# What it costs\n\n<!-- Written by `make bench`; run it on your machine. -->\n\n"
        f"Discern {discern.__version__} on {machine}, {when}.\n"
        f"Medians; what is compared was measured in turns.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
