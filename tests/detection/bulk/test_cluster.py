"""The same on a Dask cluster of real processes, of which some are killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.core.errors import DiscernError, InvalidSettings, OperatorError
from discern.core.ids import uuid7
from discern.detection.bulk import service_cluster
from discern.detection.bulk.service_scoring import Plan, output_schema
from discern.detection.bulk.types import Cluster, Progress
from discern.detectors.bundle import Bundle
from discern.inputs.types import InputLimits
from tests import media
from tests.detection.bulk.conftest import Score, toy_table
from tests.detection.bulk.test_score import without_ids

distributed: Any = pytest.importorskip("distributed", reason="distributed is not installed: the extra `dask` has it")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each in a process of its own, which are started again when they die."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        silence_logs=50,
    ) as made:
        yield made


def workers(cluster: Any) -> list[int]:
    """The process ids of the workers."""
    return [worker.pid for worker in cluster.workers.values() if worker.pid is not None]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("small_pieces")
class TestOnTheCluster:
    def test_a_table_gets_the_same_verdicts(self, cluster: Any, table_file: Path, tmp_path: Path, score: Score) -> None:
        score(table_file, tmp_path / "expected.parquet", id_column="payment")
        on = Cluster(cluster.scheduler_address)
        report = score(table_file, tmp_path / "out.parquet", id_column="payment", cluster=on)
        assert report.totals.rows == report.scored == 1500
        assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet"))

    def test_media_and_bad_rows_get_the_same_answers(self, cluster: Any, tmp_path: Path, score: Score) -> None:
        folder = tmp_path / "media"
        folder.mkdir()
        for number in range(20):
            grey = Image.fromarray(np.full((40, 40, 3), number * 12, np.uint8))
            (folder / f"{number:02}.png").write_bytes(media.encoded(grey, "PNG"))
        (folder / "broken.jpg").write_bytes(b"nothing")
        score(folder, tmp_path / "expected.parquet", "toy-cascade")
        score(folder, tmp_path / "out.parquet", "toy-cascade", cluster=Cluster(cluster.scheduler_address))
        found, expected = (without_ids(tmp_path / f"{name}.parquet") for name in ("out", "expected"))
        assert found.drop_columns(["error"]).equals(expected.drop_columns(["error"]))
        (tmp_path / "in.csv").write_text("a,b,c\n1,2,3\n1,x,3\n1,2\n1,2,3\n")
        report = score(tmp_path / "in.csv", tmp_path / "csv.parquet", cluster=Cluster(cluster.scheduler_address))
        assert report.totals.errors == {"invalid_record": 1, "malformed_request": 1}

    def test_workers_that_are_killed_cost_no_row_and_double_none(
        self, cluster: Any, tmp_path: Path, score: Score
    ) -> None:
        rows = 40_000
        pq.write_table(toy_table(rows), tmp_path / "in.parquet")
        score(tmp_path / "in.parquet", tmp_path / "expected.parquet")
        killed: list[int] = []

        def kill(far: Progress) -> None:
            if far.rows > rows * (len(killed) + 1) // 4 and len(killed) < 2:
                killed.append(workers(cluster)[len(killed)])
                os.kill(killed[-1], signal.SIGKILL)

        report = score(
            tmp_path / "in.parquet", tmp_path / "out.parquet", watch=kill, cluster=Cluster(cluster.scheduler_address)
        )
        assert len(killed) == 2
        assert report.totals.rows == rows
        assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet"))

    def test_a_run_that_was_begun_here_goes_on_there(
        self, cluster: Any, table_file: Path, tmp_path: Path, score: Score
    ) -> None:
        def stop(far: Progress) -> None:
            if far.rows > 600:
                raise KeyboardInterrupt

        score(table_file, tmp_path / "expected.parquet")
        with pytest.raises(KeyboardInterrupt):
            score(table_file, tmp_path / "out.parquet", watch=stop)
        report = score(table_file, tmp_path / "out.parquet", cluster=Cluster(cluster.scheduler_address))
        assert report.scored < 1000
        assert without_ids(tmp_path / "out.parquet").equals(without_ids(tmp_path / "expected.parquet"))

    def test_a_cluster_without_workers_is_said(
        self, table_file: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service_cluster, "_WORKERS_SECONDS", 0.5)
        with (
            distributed.LocalCluster(
                n_workers=0, processes=True, dashboard_address="127.0.0.1:0", host="127.0.0.1", silence_logs=50
            ) as empty,
            pytest.raises(OperatorError, match="has no worker"),
        ):
            score(table_file, tmp_path / "out.parquet", cluster=Cluster(empty.scheduler_address))


def test_a_scheduler_that_does_not_answer_is_said(
    table_file: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_cluster, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(OperatorError, match=r"tcp://127\.0\.0\.1:9 does not answer"):
        score(table_file, tmp_path / "out.parquet", cluster=Cluster("tcp://127.0.0.1:9"))
    with pytest.raises(InvalidSettings, match="TLS needs three files"):
        score(table_file, tmp_path / "out.parquet", cluster=Cluster("tls://127.0.0.1:9", tls_ca=table_file))


def shipped(bundle: Bundle) -> service_cluster.Shipped:
    plan = Plan(uuid7().int, output_schema(bundle.manifest, None, media=False), InputLimits())
    return service_cluster.Shipped(bundle.digest, service_cluster._files(bundle), plan, None)


def test_a_worker_refuses_a_bundle_that_is_not_the_one_that_was_verified(services: Any) -> None:
    bundle = services.catalogue.find("toy-record").bundle
    sent = shipped(bundle)
    service_cluster.open_shipped(sent)
    for name in sent.files:
        changed = dict(sent.files)
        changed[name] = changed[name].replace(b"e", b"a", 1)
        with pytest.raises(DiscernError):
            service_cluster.open_shipped(service_cluster.Shipped(sent.digest, changed, sent.plan, sent.face_model))
    with pytest.raises(OperatorError, match="not the one that was verified"):
        service_cluster.open_shipped(service_cluster.Shipped("0" * 64, sent.files, sent.plan, None))


def test_a_worker_opens_a_bundle_once_and_lets_it_go(services: Any) -> None:
    sent = shipped(services.catalogue.find("toy-record").bundle)
    run = sent.plan.run
    service_cluster.take(sent)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(service_cluster._scorer(run))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    service_cluster.forget(run)
    with pytest.raises(OperatorError, match="was not sent"):
        service_cluster._scorer(run)


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    """A certificate that is its own authority, and its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = tmp_path / "cluster.pem", tmp_path / "cluster.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"tls_ca": pem, "tls_certificate": pem, "tls_key": key_file}


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_with_tls_is_reached_with_the_files_and_not_without(
    certificates: dict[str, Path], table_file: Path, tmp_path: Path, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_cluster, "_CONNECT_SECONDS", 5)
    security = service_cluster._security(Cluster("", **certificates))
    security.tls_scheduler_cert = security.tls_worker_cert = str(certificates["tls_certificate"])
    security.tls_scheduler_key = security.tls_worker_key = str(certificates["tls_key"])
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        silence_logs=50,
        security=security,
    ) as made:
        assert made.scheduler_address.startswith("tls://")
        on = Cluster(made.scheduler_address, **certificates)
        assert score(table_file, tmp_path / "out.parquet", cluster=on).totals.rows == 1500
        with pytest.raises(InvalidSettings, match="TLS needs three files"):
            score(table_file, tmp_path / "other.parquet", cluster=Cluster(made.scheduler_address))
