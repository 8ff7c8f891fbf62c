"""Where the time of a request goes: `python -m bench.profile records` samples the server under load with py-spy.

It needs `pip install py-spy`, and the right to read another process (root, or `kernel.yama.ptrace_scope` 0).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench import sides
from bench.home import furnish
from bench.load import Load, load
from bench.servers import Ours, Plain, Server

_RATE = 150
# Threads that wait for work stand here; the sampler does not know everywhere that they wait.
_WAITING = {"Condition.wait (threading.py)", "_worker (concurrent/futures/thread.py)", "Event.wait (threading.py)"}
# What is below every request says nothing.
_BELOW = re.compile(
    r"^process |^thread |\((typer|click|threading|runpy|asyncio/runners|uvicorn/(_compat|main|server|__main__)|<frozen)"
)
_LINE = re.compile(r":\d+\)$")


def main() -> None:
    """Run a server under load, and print the functions with the largest shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["records", "images", "clips"])
    parser.add_argument("--plain", action="store_true", help="look at the plain FastAPI application instead")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    sampler = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if sampler is None:
        parser.exit(2, "py-spy is not installed: pip install py-spy\n")
    with tempfile.TemporaryDirectory(prefix="discern-bench-") as name:
        folder = Path(name)
        furnish(folder / "home")
        server: Ours | Plain
        if options.plain:
            server, traffic = Plain(folder / "home" / "models", workers=options.workers), sides.plain(options.kind)
        else:
            server = Ours(folder / "home", workers=options.workers)
            traffic = sides.ours(options.kind, server.secret)
        with server:
            load(server.port, traffic, folder, connections=options.connections, seconds=2)
            before = server.processor_seconds()
            stacks: list[tuple[list[str], int]] = []
            thread = threading.Thread(target=lambda: stacks.extend(_sampled(sampler, server, folder, options.seconds)))
            thread.start()
            found = load(server.port, traffic, folder, connections=options.connections, seconds=options.seconds)
            used = server.processor_seconds() - before
            thread.join()
    print(_report(stacks, found, used, options.top))


def _sampled(sampler: str, server: Server, folder: Path, seconds: int) -> list[tuple[list[str], int]]:
    """Return stacks, outermost function first, and how often each was seen."""
    out = folder / "stacks"
    command: list[str | Path] = [sampler, "record", "--pid", str(server.pid), "--subprocesses", "--nonblocking"]
    command += ["--format", "raw", "--rate", str(_RATE), "--duration", str(max(1, seconds - 1)), "--output", out]
    subprocess.run(command, check=True, capture_output=True)
    stacks = []
    for line in out.read_text(encoding="utf-8").splitlines():
        joined, _, count = line.rpartition(" ")
        names = [_LINE.sub(")", name) for name in joined.split(";")]
        if names[-1] not in _WAITING:
            stacks.append((names, int(count)))
    return stacks


def _report(stacks: list[tuple[list[str], int]], found: Load, used: float, top: int) -> str:
    total = sum(count for _, count in stacks) or 1
    requests = max(1, found.answered)
    each = used / requests * 1e6
    lines = [
        (
            f"{found.per_second:,.0f} answers/s while sampled, p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms, "
            f"{found.failed} failed; {each:,.0f} us of processor time a request"
        ),
        "",
        "share of the time | us a request | in itself or what it calls",
        *_largest(stacks, total, each, top, inside=True),
        "",
        "share of the time | us a request | in itself",
        *_largest(stacks, total, each, top, inside=False),
    ]
    return "\n".join(lines)


def _largest(stacks: list[tuple[list[str], int]], total: int, each: float, top: int, *, inside: bool) -> Iterable[str]:
    counts: Counter[str] = Counter()
    for names, count in stacks:
        for name in {name for name in names if not _BELOW.search(name)} if inside else names[-1:]:
            counts[name] += count
    for name, count in counts.most_common(top):
        yield f"{count / total:6.1%} | {count / total * each:8.1f} | {name}"


if __name__ == "__main__":
    main()
