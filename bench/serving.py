"""Records and images one at a time over HTTP: ours against a plain FastAPI application and the limit in process.

Ours has everything on: keys, limits, validation, the ledger. The load comes from this machine. Answers are compared
with the model's before and after the load, and what was answered is counted on the ledger.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench import limit, rightness, sides
from bench.home import furnish
from bench.load import Load, Traffic, generator, load
from bench.report import Row, at_least, table
from bench.rounds import Rounds, in_turns
from bench.scratch import scratch
from bench.servers import Ours, Plain, Server
from bench.sides import Kind

CONNECTIONS = 16
_WARM_SECONDS = 2.0
_OURS, _PLAIN, _LIMIT = "ours", "plain FastAPI", "in process"


def records(folder: Path, *, rounds: int = 5, seconds: float = 6) -> Iterator[Row]:
    """Yield the rows of records of 30 fields."""
    found = _measured(folder, "records", rounds, seconds)
    yield at_least(
        f"records of 30 fields, one at a time, {CONNECTIONS} connections",
        f"{_rate(found, _OURS)}/s, {_milliseconds(found, _OURS)}",
        f"{_rate(found, _PLAIN)}/s, {_milliseconds(found, _PLAIN)} of plain FastAPI; load from {generator()}",
        found.ratio(_OURS, _PLAIN, _per_second),
        1.3,
    )
    yield Row(
        "the same, against the model in process",
        f"{_rate(found, _OURS)}/s",
        f"{_rate(found, _LIMIT)}/s, JSON read and model run one by one, a process a core",
        found.ratio(_OURS, _LIMIT, _per_second),
    )


def images(folder: Path, *, rounds: int = 5, seconds: float = 6) -> Iterator[Row]:
    """Yield the rows of JPEGs of 640x480."""
    found = _measured(folder, "images", rounds, seconds)
    what = f"images, 640x480 JPEG, network of about 2 ms, {CONNECTIONS} connections"
    yield at_least(
        what,
        f"{_rate(found, _OURS)}/s, {_milliseconds(found, _OURS)}",
        f"{_rate(found, _LIMIT)}/s decoded and run in process, a thread a core",
        found.ratio(_OURS, _LIMIT, _per_second),
        0.92,
    )
    yield at_least(
        "the same",
        f"{_rate(found, _OURS)}/s",
        f"{_rate(found, _PLAIN)}/s, {_milliseconds(found, _PLAIN)} of plain FastAPI; load from {generator()}",
        found.ratio(_OURS, _PLAIN, _per_second),
        1.15,
    )


def video(folder: Path, *, rounds: int = 5, seconds: float = 6) -> Iterator[Row]:
    """Yield the row of clips: ten seconds of 640x480, 25 frames a second, 16 of them judged; two clips at a time."""
    home = folder / "home"
    furnish(home)
    with Ours(home, workers=1) as server:
        send = partial(load, server.port, sides.ours("clips", server.secret), folder, connections=2)
        send(seconds=_WARM_SECONDS)
        found = in_turns(
            {
                _OURS: lambda: _Clips(send(seconds=seconds)).frames,
                _LIMIT: lambda: limit.per_second("clips", home / "models", seconds),
            },
            rounds,
        )
    yield at_least(
        "video, H.264 of 640x480, 16 of 250 frames judged, two clips at a time",
        f"{found.median(_OURS, float):,.0f} frames/s",
        f"{found.median(_LIMIT, float):,.0f} frames/s decoded and run in process, a thread a core",
        found.ratio(_OURS, _LIMIT, float),
        0.9,
    )


def compared(
    kind: Kind,
    folder: Path,
    others: Mapping[str, tuple[Server, Traffic, rightness.ScoreOf]],
    *,
    rounds: int,
    seconds: float,
) -> Rounds[Load]:
    """Return the loads of ours and of `others`, which are running, and of the limit in process.

    Raises AssertionError where an answer is wrong, a request failed, or the ledger lacks an answer.
    """
    home = folder / "home"
    models = home / "models"
    right = rightness.expected(kind, models)
    # One process has as many lanes as cores: pictures need no second one, records keep the interpreter busy.
    with Ours(home, workers=2 if kind == "records" else 1) as server:
        everyone = {_OURS: (server, sides.ours(kind, server.secret), _score), **others}
        detector = sides.DETECTORS[kind]
        measures: dict[str, Callable[[], Load]] = {}
        for name, (one, traffic, score_of) in everyone.items():
            rightness.check(one.url, traffic, right, score_of=score_of, first=0)
            load(one.port, traffic, folder, connections=CONNECTIONS, seconds=_WARM_SECONDS)
            measures[name] = partial(_good_load, name, one, traffic, folder, seconds)
        measures[_LIMIT] = lambda: _of_limit(limit.per_second(kind, models, seconds))
        before = rightness.on_the_ledger(home, detector)
        found = in_turns(measures, rounds)
        _check_ledger(
            rightness.on_the_ledger(home, detector) - before, sum(one.answered for one in found.results[_OURS])
        )
        for one, traffic, score_of in everyone.values():
            answers = rightness.check(one.url, traffic, right, score_of=score_of, first=rightness.SAMPLES)
            if one is server:
                rightness.readable(server.url, server.secret, [answer["id"] for answer in answers])
    return found


def _measured(folder: Path, kind: Kind, rounds: int, seconds: float) -> Rounds[Load]:
    furnish(folder / "home")
    with Plain(folder / "home" / "models", workers=2) as server:
        others = {_PLAIN: (server, sides.plain(kind), _score)}
        return compared(kind, folder, others, rounds=rounds, seconds=seconds)


def _good_load(name: str, server: Server, traffic: Traffic, folder: Path, seconds: float) -> Load:
    found = load(server.port, traffic, folder, connections=CONNECTIONS, seconds=seconds)
    if found.failed:
        raise AssertionError(f"{name} failed {found.failed} of {found.answered + found.failed} requests")
    return found


def _check_ledger(written: int, answered: int) -> None:
    """Requests that were in work when the load stopped may be on the ledger too."""
    if written < answered:
        raise AssertionError(f"{answered} verdicts were answered and {written} are on the ledger")


class _Clips:
    """A load of clips, in frames."""

    _FRAMES = 250

    def __init__(self, found: Load) -> None:
        if found.failed:
            raise AssertionError(f"{found.failed} clips failed")
        self.frames = found.per_second * self._FRAMES


def _of_limit(per_second: float) -> Load:
    return Load(per_second, 0, 0, 0.0, 0.0, 0.0)


def _per_second(found: Load) -> float:
    return found.per_second


def _rate(found: Rounds[Load], name: str) -> str:
    return f"{found.median(name, _per_second):,.0f}"


def _milliseconds(found: Rounds[Load], name: str) -> str:
    return f"p50 {found.median(name, lambda one: one.p50):.2f} ms, p99 {found.median(name, lambda one: one.p99):.1f} ms"


def _score(answer: Any) -> float:  # noqa: ANN401 - decoded JSON
    return float(answer["score"])


def main() -> None:
    """Measure one kind and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["records", "images", "video"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    measure = {"records": records, "images": images, "video": video}[options.kind]
    with scratch() as folder:
        print(table(measure(folder, rounds=options.rounds, seconds=options.seconds)))


if __name__ == "__main__":
    main()
