"""The same pieces on a Dask cluster.

- The bundle goes to every worker, also to one that comes later; a worker runs it only when every file has the digest
  that this process verified, and opens it once.
- A piece is the same wherever and however often it is scored, so the pieces of a worker that died are scored again by
  another.
- What a worker cannot do is said, never left out.

Dask itself checks nobody unless TLS files are given: whoever reaches the scheduler may run code on the workers.
"""

from __future__ import annotations

import importlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from discern.core.errors import DiscernError, InvalidSettings, MissingExtra, OperatorError
from discern.detection.bulk.ports import Submit
from discern.detection.bulk.service_scoring import Part, Plan, Scorer
from discern.detection.bulk.sources_media import MediaPart
from discern.detection.bulk.sources_tables import TablePart
from discern.detection.bulk.types import Cluster
from discern.detectors.assessment import load_detector
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.manifest import MANIFEST_NAME
from discern.inputs.faces import face_locator
from discern.inputs.types import MediaContent

_CONNECT_SECONDS = 15
_WORKERS_SECONDS = 30
_RETRIES = 5


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a worker gets: the files of a bundle, the digest they must have, the variant that runs, and the run."""

    digest: str
    files: dict[str, bytes]
    plan: Plan
    face_model: Path | None
    variant: str | None = None


# Of this process as a worker: what it got, and the scorers it has opened, both by the id of the run.
_shipped: dict[int, Shipped] = {}
_scorers: dict[int, Scorer] = {}
_opening = threading.Lock()


@contextmanager
def on_cluster(
    cluster: Cluster,
    bundle: Bundle,
    plan: Plan,
    face_model: Path | None,
    *,
    content_of: Callable[[str], MediaContent | DiscernError],
) -> Iterator[tuple[Submit, int]]:
    """Give what scores on the workers of `cluster`, and how many pieces may be under way.

    Raises MissingExtra without Dask, OperatorError where the cluster does not answer or has no worker.
    """
    distributed = _dask()
    shipped = Shipped(bundle.digest, _files(bundle), plan, face_model, bundle.variant)
    try:
        client = distributed.Client(
            cluster.address, timeout=_CONNECT_SECONDS, set_as_default=False, security=_security(cluster)
        )
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise OperatorError(
            f"The scheduler {cluster.address} does not answer: {_line(error)}.",
            mend="See the address and its TLS files.",
        ) from error
    name = f"discern-{plan.run:032x}"
    with client:
        try:
            client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError as error:
            raise OperatorError(f"{cluster.address} has no worker.", mend="Start some: dask worker ADDRESS.") from error
        client.register_plugin(_plugin(shipped), name=name)

        def submit(piece: Part) -> _Sent:
            sent = _packed(piece, content_of)
            return _Sent(client.submit(score_piece, plan.run, sent, pure=False, retries=_RETRIES))

        try:
            yield submit, 2 * max(1, sum(client.nthreads().values())) + 1
        finally:
            client.unregister_worker_plugin(name)


class _Sent:
    """A piece that is scored elsewhere."""

    def __init__(self, future: Any) -> None:  # noqa: ANN401
        self._future = future

    def result(self) -> Any:  # noqa: ANN401
        """Wait for the record batch. Raises what the worker raised, and OperatorError where workers keep dying."""
        distributed = _dask()
        try:
            content = self._future.result()
        except (distributed.KilledWorker, distributed.CancelledError) as error:
            raise OperatorError(
                f"Workers of the cluster kept dying: {_line(error)}.",
                mend="See their logs; the same command goes on from there.",
            ) from error
        with pa.ipc.open_stream(content) as reader:
            return reader.read_next_batch()


def score_piece(run: int, piece: Part) -> bytes:
    """Score one piece of a run in this process, which is a worker, and return the record batch as Arrow bytes."""
    batch = _scorer(run).score(_unpacked(piece))
    return _ipc(batch)


def take(shipped: Shipped) -> None:
    """Keep what was sent for a run until its first piece comes."""
    _shipped[shipped.plan.run] = shipped


def forget(run: int) -> None:
    """Let go of a run."""
    _shipped.pop(run, None)
    _scorers.pop(run, None)


def _scorer(run: int) -> Scorer:
    with _opening:
        if run not in _scorers:
            if run not in _shipped:
                raise OperatorError(f"Run {run:032x} was not sent to this worker.", mend="Ask for the same again.")
            _scorers[run] = open_shipped(_shipped[run])
        return _scorers[run]


def open_shipped(shipped: Shipped) -> Scorer:
    """Open the bundle that was sent. Raises BundleRefused, or OperatorError where it is another than was verified."""
    with tempfile.TemporaryDirectory(prefix="discern-worker-") as folder:
        for name, content in shipped.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        # The signature was verified where the run was begun; every file is in the manifest, and the digest is of that.
        bundle = open_bundle(Path(folder), None)
        if bundle.digest != shipped.digest:
            raise OperatorError("The bundle that was sent is not the one that was verified.", mend="Ask again.")
        detector = load_detector(bundle.with_variant(shipped.variant))
        return Scorer(detector, shipped.plan, face_locator(shipped.face_model))


def _plugin(shipped: Shipped) -> Any:  # noqa: ANN401
    base: Any = _dask().WorkerPlugin

    class _Ship(base):  # type: ignore[misc]  # known where Dask is
        def setup(self, worker: Any) -> None:  # noqa: ANN401, ARG002
            take(shipped)

        def teardown(self, worker: Any) -> None:  # noqa: ANN401, ARG002
            forget(shipped.plan.run)

    return _Ship()


def _dask() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingExtra(
            "Scoring on a cluster needs what the extra `dask` brings.",
            mend="Install it: pip install 'discern-detectors[bulk,dask]'.",
            extra="dask",
        ) from error


def _files(bundle: Bundle) -> dict[str, bytes]:
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return {MANIFEST_NAME: (bundle.root / MANIFEST_NAME).read_bytes(), **files}


def _packed(piece: Part, content_of: Callable[[str], MediaContent | DiscernError]) -> Part:
    if isinstance(piece, TablePart):
        return replace(piece, batch=_ipc(piece.batch))
    if isinstance(piece, MediaPart):
        return replace(piece, contents=[content_of(name) for name in piece.names])
    return piece


def _unpacked(piece: Part) -> Part:
    if not isinstance(piece, TablePart):
        return piece
    with pa.ipc.open_stream(piece.batch) as reader:
        return replace(piece, batch=reader.read_next_batch())


def _ipc(batch: Any) -> bytes:  # noqa: ANN401
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _security(cluster: Cluster) -> Any:  # noqa: ANN401
    given = (cluster.tls_ca, cluster.tls_certificate, cluster.tls_key)
    if not any(given) and not cluster.address.startswith("tls://"):
        return None
    if not all(given):
        raise InvalidSettings("TLS needs three files.", mend="Give --tls-ca, --tls-certificate and --tls-key.")
    return _dask().Security(
        tls_ca_file=str(cluster.tls_ca),
        tls_client_cert=str(cluster.tls_certificate),
        tls_client_key=str(cluster.tls_key),
        require_encryption=True,
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
