"""Every route, attacked by every role from the API's own description: no 5xx, and no answer that is not described."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discern.access.types import ROLES, Role
from discern.app import build_services
from discern.settings import load_settings
from tests.http.test_streams import Served

pytestmark = pytest.mark.system
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Served]:
    with Served(Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("attacked") / "home"))) as served:
        yield served


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gets_an_answer_that_is_not_described(served: Served, role: Role, tmp_path: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(served.home)}))
    services.open()
    secret = services.keys.issue("default", "attack", role=role).secret
    services.close()
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "--checks", CHECKS]
    command += ["--header", f"Authorization: Bearer {secret}", "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", "5", "--seed", "7", f"http://127.0.0.1:{served.port}/openapi.json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert " passed" in ended.stdout
    assert served.process.poll() is None
