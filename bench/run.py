"""`make bench`: what Discern costs on this machine, each figure beside its limit or what it is compared with.

Figures that are compared are taken in turns within one run, because machines drift. Medians are given.

`--only records,images` runs some of the parts and prints them; only a run of all parts writes the page, so that
the page is of one machine, one version and one day.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from bench.report import Row, Section, page, sections
from bench.scratch import scratch

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"

Part = Callable[[Path], Iterable[Row]]
# A part is imported when it runs: some need libraries that others do without.
_PARTS = {
    "installation": ("Installation", "bench.starting:installation"),
    "starting": ("Starting", "bench.starting:starting"),
    "records": ("Records one at a time", "bench.serving:records"),
    "images": ("Images", "bench.serving:images"),
    "latency": ("Added latency", "bench.latency:rows"),
    "batch": ("Batch route", "bench.batch_route:rows"),
    "streams": ("Live streams", "bench.streams:rows"),
    "overload": ("Overload", "bench.overload:rows"),
    "durability": ("Durability", "bench.durability:rows"),
    "ledger": ("A full ledger", "bench.ledger_at_scale:rows"),
    "access": ("Permissions and keys", "bench.access:rows"),
    "monitoring": ("Monitoring", "bench.monitoring:rows"),
    "tracing": ("Traces", "bench.tracing:rows"),
    "analytics": ("Analytics", "bench.analytics:rows"),
    "bulk": ("Bulk scoring", "bench.bulk:rows"),
    "evaluation": ("Evaluation", "bench.evaluation:rows"),
    "video": ("Video", "bench.serving:video"),
    "cascade": ("Cascade", "bench.cascade:rows"),
    "peers": ("Other servers", "bench.peers.compare:rows"),
}

_NOTES = (
    "## How it was measured",
    """Servers and load ran on the same machine. Ours had everything on: a key a request, limits, validation, and the
ledger with durability `normal`. Every request had a body of its own, so that no cache answered it. Before and after the
load, answers were compared with the model's, and what was answered was counted on the ledger.

Records have 30 fields and go to boosted trees. The plain FastAPI application, `bench/plain.py`, has two processes,
uvloop and httptools, and calls the same model file. Ours has two processes for records, and for images one with a lane
a core.

`python -m bench.run --only records` repeats a part; `python -m bench.profile records` says where a request's time
goes.""",
)


def main() -> None:
    """Measure, print, and with `--write` put the tables into the documentation."""
    options = _options()
    parts = _chosen(options)
    found: list[Section] = []
    failed: list[str] = []
    for name in parts:
        title, path = _PARTS[name]
        section = _run(title, _part(path, options if name == "cascade" else None))
        found.append(section)
        failed += [row.what for row in section.rows if row.holds is False]
    print(sections(found))
    if failed:
        print(f"\nMissed: {'; '.join(failed)}", file=sys.stderr)
    if options.write:
        PAGE.write_text(page(found, _NOTES), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}; not with --only")
    parser.add_argument("--only", help=f"parts, separated by commas: {', '.join(_PARTS)}")
    parser.add_argument("--peers", action="store_true", help="also LitServe, BentoML, MLServer and Ray Serve")
    parser.add_argument("--skip-installation", action="store_true", help="leave out what needs the package index")
    parser.add_argument("--faces", type=Path, help="folder with `authentic` and `synthetic` pictures for the cascade")
    options = parser.parse_args()
    unknown = set(_names(options.only)) - set(_PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    if options.only and options.write:
        parser.error("a page of some parts would mix versions and days: leave out --only or --write")
    return options


def _chosen(options: argparse.Namespace) -> list[str]:
    if options.only:
        return _names(options.only)
    left_out = {"peers"} if not options.peers else set()
    if options.skip_installation:
        left_out.add("installation")
    return [name for name in _PARTS if name not in left_out]


def _names(only: str | None) -> list[str]:
    return [name.strip() for name in (only or "").split(",") if name.strip()]


def _part(path: str, options: argparse.Namespace | None) -> Part:
    module, _, function = path.partition(":")
    part = cast("Callable[..., Iterable[Row]]", getattr(import_module(module), function))
    return part if options is None else partial(part, faces=options.faces)


def _run(title: str, part: Part) -> Section:
    """Run a part. What ends it is a row of its own, so that a wrong answer does not cost the other parts' figures."""
    rows: list[Row] = []
    started = time.monotonic()
    with scratch() as folder:
        try:
            for row in part(folder):
                rows.append(row)
                print(f"{row.what}: {row.found} ({row.against})", file=sys.stderr)
        except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            traceback.print_exc()
            rows.append(
                Row("the benchmark itself", "ended early", (str(error).splitlines() or [""])[0][:200], holds=False)
            )
    print(f"-- {title}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return Section(title, rows)


if __name__ == "__main__":
    main()
