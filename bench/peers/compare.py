"""Ours against LitServe, BentoML, MLServer and Ray Serve, with the same model files and two processes each.

- Each runs as its documentation advises, with two processes that run the model, with batches or not: what is quicker
  in a short trial. MLServer is also shown as one process without workers, which spares it handing requests over.
- None of them has keys, limits or a ledger, so those are on at our side only.
- Their answers are checked like ours.

`python -m bench.peers.compare records --only litserve`
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench import inputs, rightness
from bench.baseline import FIELDS
from bench.home import furnish
from bench.load import Load, Traffic, load
from bench.peers.environments import QUIET, binaries
from bench.report import Row, at_least, table
from bench.scratch import scratch
from bench.servers import Server, free_port
from bench.serving import CONNECTIONS, compared

PeerKind = Literal["records", "images"]
_JSON = {"Content-Type": "application/json"}
_TRIAL_SECONDS = 3.0
_BATCH = 16
_TARGET = 6.0
_NAMES = {"litserve": "LitServe", "bentoml": "BentoML", "mlserver": "MLServer", "ray": "Ray Serve"}


@dataclass(frozen=True)
class Variant:
    """One way to run a framework: how to start it, what to send it, and where its answer has the score."""

    peer: str
    how: str
    start: Callable[[Path], Server]
    traffic: Traffic
    processes: int = 2
    score_of: rightness.ScoreOf = field(default=lambda answer: float(answer["score"]))

    @property
    def name(self) -> str:
        """The framework, its version, and how it runs."""
        wanted = (Path(__file__).parent / f"{self.peer}.txt").read_text(encoding="utf-8").splitlines()
        version = next(line.partition("==")[2] for line in wanted if line.startswith(self.peer))
        return f"{_NAMES[self.peer]} {version} ({self.how})"


def rows(folder: Path, *, rounds: int = 4, seconds: float = 5) -> Iterator[Row]:
    """Yield for records and for images a row a framework, and one against the best of them."""
    for kind in ("records", "images"):
        yield from kind_rows(folder / kind, kind, rounds=rounds, seconds=seconds)


def kind_rows(
    folder: Path, kind: PeerKind, *, only: str | None = None, rounds: int = 4, seconds: float = 5
) -> Iterator[Row]:
    """Yield the rows of records or of images, of all frameworks or of one."""
    furnish(folder / "home")
    models = folder / "home" / "models"
    ratios: dict[str, float] = {}
    for variants in _variants(kind, only):
        several = [variant for variant in variants if variant.processes > 1]
        alone = [variant for variant in variants if variant.processes == 1]
        for variant in [_quickest(several, folder, models, kind), *alone]:
            with variant.start(models) as server:
                others = {variant.name: (server, variant.traffic, variant.score_of)}
                found = compared(kind, folder, others, rounds=rounds, seconds=seconds)
            ratio = found.ratio("ours", variant.name, _per_second)
            if variant in several:
                ratios[variant.name] = ratio
            ours, theirs = (found.median(name, _per_second) for name in ("ours", variant.name))
            yield Row(f"{kind}: ours against {variant.name}", f"{ours:,.0f}/s", f"{theirs:,.0f}/s", ratio)
    hardest = min(ratios, key=lambda name: ratios[name])
    what = f"{kind}, {CONNECTIONS} connections: against the best of them with two processes"
    if kind == "records":
        yield at_least(what, f"{ratios[hardest]:.1f} x", hardest, ratios[hardest], _TARGET)
    else:
        yield Row(what, f"{ratios[hardest]:.1f} x", hardest, ratios[hardest])


def _quickest(variants: list[Variant], folder: Path, models: Path, kind: PeerKind) -> Variant:
    """Return the variant that answers most in a short trial."""
    if len(variants) == 1:
        return variants[0]
    found: list[float] = []
    right = rightness.expected(kind, models)
    for variant in variants:
        with variant.start(models) as server:
            rightness.check(server.url, variant.traffic, right, score_of=variant.score_of, first=0)
            trial = load(server.port, variant.traffic, folder, connections=CONNECTIONS, seconds=_TRIAL_SECONDS)
        found.append(0.0 if trial.failed else trial.per_second)
        print(f"{variant.name}: {trial.per_second:,.0f}/s in a trial, {trial.failed} failed", file=sys.stderr)
    return variants[found.index(max(found))]


def _per_second(found: Load) -> float:
    return found.per_second


def _variants(kind: PeerKind, only: str | None) -> Iterator[list[Variant]]:
    for peer, make in _PEERS.items():
        if only in {None, peer}:
            yield make(kind)


def _litserve(kind: PeerKind) -> list[Variant]:
    template = inputs.record_template if kind == "records" else _base64_template
    traffic = Traffic("/predict", template, _JSON)
    start = partial(_module, "litserve", "bench.peers.litserve_server", kind, "/health")
    return [
        Variant("litserve", "one by one, 2 workers", partial(start, 1), traffic),
        Variant("litserve", "batches, 2 workers", partial(start, _BATCH), traffic),
    ]


def _ray(kind: PeerKind) -> list[Variant]:
    template = inputs.record_template if kind == "records" else inputs.photo_template
    traffic = Traffic("/predict", template, {"Content-Type": "application/octet-stream"})
    start = partial(_module, "ray", "bench.peers.ray_server", kind, "/-/healthz")
    return [
        Variant("ray", "one by one, 2 replicas", partial(start, 1), traffic),
        Variant("ray", "batches, 2 replicas", partial(start, _BATCH), traffic),
    ]


def _bentoml(kind: PeerKind) -> list[Variant]:
    if kind == "images":
        traffic = Traffic("/images", inputs.photo_template, {"Content-Type": "image/jpeg"})
        return [Variant("bentoml", "2 workers", partial(_bento, "Images"), traffic)]
    return [
        Variant(
            "bentoml", "one by one, 2 workers", partial(_bento, "Records"), Traffic("/records", _named_record, _JSON)
        ),
        Variant(
            "bentoml",
            "batches, 2 workers",
            partial(_bento, "BatchedRecords"),
            Traffic("/records", _listed_record, _JSON),
            score_of=lambda answer: float(answer[0]),
        ),
    ]


def _mlserver(kind: PeerKind) -> list[Variant]:
    template = _tensor_record if kind == "records" else _tensor_picture
    traffic = Traffic(f"/v2/models/{kind}/infer", template, _JSON)
    return [
        Variant(
            "mlserver",
            how,
            partial(_mlserver_started, kind, workers, batch),
            traffic,
            processes=max(1, workers),
            score_of=lambda answer: float(answer["outputs"][0]["data"][0]),
        )
        for how, workers, batch in (
            ("one by one, 2 workers", 2, 1),
            ("batches, 2 workers", 2, _BATCH),
            ("one by one, one process without workers", 0, 1),
        )
    ]


_PEERS: Mapping[str, Callable[[PeerKind], list[Variant]]] = {
    "litserve": _litserve,
    "bentoml": _bentoml,
    "mlserver": _mlserver,
    "ray": _ray,
}


def _module(peer: str, module: str, kind: PeerKind, ready: str, batch: int, models: Path) -> Server:
    port = free_port()
    command: list[str | Path] = [binaries(peer) / "python", "-m", module, kind, models, str(port), str(batch)]
    return Server(command, port=port, ready=ready, environment=QUIET)


def _bento(service: str, models: Path) -> Server:
    port = free_port()
    folder = binaries("bentoml")
    command: list[str | Path] = [folder / "bentoml", "serve", f"bench.peers.bentoml_service:{service}"]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    environment = QUIET | {"BENCH_MODELS": str(models), "PATH": f"{folder}:/usr/bin:/bin"}
    return Server(command, port=port, ready="/readyz", environment=environment)


def _mlserver_started(kind: PeerKind, workers: int, batch: int, models: Path) -> Server:
    folder = models.parent / f"mlserver-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": workers,
        "debug": False,
        "use_structured_logging": False,
    }
    model: dict[str, Any] = {
        "name": kind,
        "implementation": f"bench.peers.mlserver_runtime.{kind.capitalize()}",
        "parameters": {"uri": str(models)},
    }
    if batch > 1:
        model |= {"max_batch_size": batch, "max_batch_time": 0.002}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    environment = QUIET | {"PYTHONPATH": str(Path(__file__).parent.parent.parent), "MLSERVER_LOGGING_SETTINGS": ""}
    command: list[str | Path] = [binaries("mlserver") / "mlserver", "start", folder]
    return Server(command, port=port, ready=f"/v2/models/{kind}/ready", environment=environment, cwd=folder)


def _base64_template(variant: int) -> tuple[bytes, bytes]:
    return b'{"serial": "', b'", "image": "' + base64.b64encode(_picture(variant)) + b'"}'


def _named_record(variant: int) -> tuple[bytes, bytes]:
    before, after = inputs.record_template(variant)
    return b'{"record": ' + before, after + b"}"


def _listed_record(variant: int) -> tuple[bytes, bytes]:
    before, after = _values(variant)
    return b'{"rows": [[' + before, after + b"]]}"


def _tensor_record(variant: int) -> tuple[bytes, bytes]:
    before, after = _values(variant)
    head = f'{{"inputs": [{{"name": "record", "shape": [1, {len(FIELDS)}], "datatype": "FP32", "data": ['
    return head.encode() + before, after + b"]}]}"


def _tensor_picture(variant: int) -> tuple[bytes, bytes]:
    tail = b'", "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["'
    return b'{"id": "', tail + base64.b64encode(_picture(variant)) + b'"]}]}'


def _values(variant: int) -> tuple[bytes, bytes]:
    """Return a record's values without their names; the serial number is in the first."""
    before, after = inputs.record_template(variant)
    record = json.loads(before + inputs.serial_digits(0) + after)
    rest = ", ".join(str(record[name]) for name in FIELDS[1:])
    return b"0.", f"1, {rest}".encode()


def _picture(variant: int) -> bytes:
    before, after = inputs.photo_template(variant)
    return before + inputs.serial_digits(0) + after


def main() -> None:
    """Compare one kind, with all frameworks or one, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["records", "images"])
    parser.add_argument("--only", choices=sorted(_PEERS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with scratch() as folder:
        found = kind_rows(
            folder / "compared", options.kind, only=options.only, rounds=options.rounds, seconds=options.seconds
        )
        print(table(found))


if __name__ == "__main__":
    main()
