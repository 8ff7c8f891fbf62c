"""The Open Inference Protocol as Triton's own HTTP client speaks it, with a server in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.media import encoded, picture

pytestmark = pytest.mark.system

OUTPUTS = ["score", "decision", "label", "decided_by", "verdict_id"]
ROWS = {"a": [1.5, -3.0, 0.25], "b": [-2.0, 4.0, 0.0], "c": [0.25, 0.5, 99.0]}


@dataclass
class Server:
    """A running server: the client and the headers it needs, and its address."""

    client: Any
    headers: dict[str, str]
    url: str

    def infer(self, model: str, inputs: list[Any], **options: Any) -> Any:
        return self.client.infer(model, inputs, headers=dict(self.headers), **options)

    def alone(self, model: str, **body: Any) -> dict[str, Any]:
        answer = httpx2.post(f"{self.url}/v1/detectors/{model}/verdicts", headers=self.headers, timeout=30, **body)
        assert answer.status_code == 200, answer.text
        verdict: dict[str, Any] = answer.json()
        return verdict


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Server]:
    home = shutil.copytree(furnished_home, tmp_path_factory.mktemp("triton") / "home")
    environment = {"DISCERN_HOME": str(home), "DISCERN_PORT": "0", "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "discern.cli.main", "up"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = secret = ""
    while not (address and secret):
        line = process.stdout.readline()
        assert line, "the server did not start"
        address = address or "".join(re.findall(r"http://(\S+:\d+)", line)[:1])
        secret = secret or "".join(re.findall(r"dsc_\S{43}", line)[:1])
    client = triton.InferenceServerClient(address, network_timeout=60)
    until = time.monotonic() + 60
    while not client.is_server_ready() and time.monotonic() < until:
        time.sleep(0.05)
    yield Server(client, {"Authorization": f"Bearer {secret}"}, f"http://{address}")
    client.close()
    process.terminate()
    process.communicate(timeout=30)


def tensor(name: str, values: Any, dtype: Any, *, binary: bool = True) -> Any:
    array = np.array(values, dtype)
    kinds = {"f": f"FP{8 * array.dtype.itemsize}", "i": f"INT{8 * array.dtype.itemsize}", "u": "UINT8", "O": "BYTES"}
    made = triton.InferInput(name, list(array.shape), kinds[array.dtype.kind])
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def columns(dtype: Any = np.float64, *, binary: bool = True) -> list[Any]:
    return [tensor(name, values, dtype, binary=binary) for name, values in ROWS.items()]


def text(value: bytes | str) -> str:
    """Return a value of a BYTES output, which JSON gives as text."""
    return value if isinstance(value, str) else value.decode()


def check_rows(server: Server, result: Any) -> None:
    """Compare an answer with what the single route says to the same rows, and with the ledger."""
    scores = result.as_numpy("score")
    words = {name: [text(value) for value in result.as_numpy(name)] for name in OUTPUTS[1:]}
    assert (scores.dtype, scores.shape) == (np.float64, (3,))
    for row in range(3):
        alone = server.alone("toy-record", json={name: values[row] for name, values in ROWS.items()})
        kept = httpx2.get(
            f"{server.url}/v1/verdicts/{words['verdict_id'][row]}", headers=server.headers, timeout=30
        ).json()
        assert scores[row] == pytest.approx(alone["score"], abs=1e-6)
        assert kept["score"] == scores[row]
        for name in ("decision", "decided_by"):
            assert words[name][row] == alone[name] == kept[name]
        assert words["label"][row] == (alone["label"] or "")


def test_health_needs_no_key(server: Server) -> None:
    assert server.client.is_server_live()
    assert server.client.is_server_ready()
    with pytest.raises(InferenceServerException) as caught:
        server.client.get_server_metadata()
    assert caught.value.status() == "401"
    assert "key" in caught.value.message()


def test_the_server_and_its_models_are_described(server: Server) -> None:
    headers = server.headers
    assert server.client.get_server_metadata(headers=headers)["extensions"] == ["binary_tensor_data"]
    index = server.client.get_model_repository_index(headers=headers)
    assert {"toy-record", "toy-image", "toy-cascade"} <= {entry["name"] for entry in index}
    assert all(entry["state"] == "READY" for entry in index)
    assert server.client.is_model_ready("toy-record", headers=headers)
    assert server.client.is_model_ready("toy-record", "1.0.0", headers=headers)
    assert not server.client.is_model_ready("nobody", headers=headers)
    told = server.client.get_model_metadata("toy-record", headers=headers)
    assert told["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in ROWS]
    assert [entry["name"] for entry in told["outputs"]] == OUTPUTS
    assert told["versions"] == ["1.0.0"]
    assert server.client.get_model_metadata("toy-image", "1.0.0", headers=headers)["inputs"][0]["name"] == "image"


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_records_as_a_tensor_a_field(server: Server, binary_in: bool, binary_out: bool) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in OUTPUTS]
    result = server.infer("toy-record", columns(binary=binary_in), outputs=wanted, request_id="mine")
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("toy-record", "1.0.0", "mine")
    check_rows(server, result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_records_as_one_tensor(server: Server, dtype: Any) -> None:
    matrix = np.array(list(ROWS.values())).T
    check_rows(server, server.infer("toy-record", [tensor("record", matrix, dtype)], model_version="1.0.0"))


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_request_may_be_packed(server: Server, packing: str) -> None:
    result = server.infer(
        "toy-record", columns(), request_compression_algorithm=packing, response_compression_algorithm=packing
    )
    check_rows(server, result)


def test_columns_of_one_column_and_other_numbers(server: Server) -> None:
    inputs = [tensor(name, [[values[0]]], np.float32) for name, values in ROWS.items()]
    inputs[1] = tensor("b", [-2], np.int16)
    assert server.infer("toy-record", inputs).as_numpy("decision").shape == (1,)


def test_images_as_files(server: Server) -> None:
    files = [encoded(picture(seed)) for seed in range(4)]
    result = server.infer("toy-cascade", [tensor("image", files, object)])
    for row, content in enumerate(files):
        alone = server.alone("toy-cascade", content=content)
        assert result.as_numpy("score")[row] == alone["score"]
        assert result.as_numpy("decided_by")[row].decode() == alone["decided_by"]


def test_images_as_pixels(server: Server) -> None:
    pixels = np.stack([np.asarray(picture(seed)) for seed in range(3)])
    result = server.infer("toy-image", [tensor("image", pixels, np.uint8)])
    for row in range(3):
        alone = server.alone("toy-image", content=encoded(picture(row), "PNG"))
        assert result.as_numpy("score")[row] == alone["score"]


def test_asynchronous_requests(server: Server) -> None:
    requests = [server.client.async_infer("toy-record", columns(), headers=dict(server.headers)) for _ in range(5)]
    for request in requests:
        assert len(request.get_result().as_numpy("score")) == 3


@pytest.mark.parametrize(
    ("model", "inputs", "status", "said"),
    [
        ("nobody", [("a", [1.0], np.float64)], "404", "no detector"),
        ("toy-record", [("a", [1.0], np.float64)], "400", "missing: b, c"),
        ("toy-record", [(name, [1e6], np.float64) for name in "abc"], "400", "row 0"),
        ("toy-record", [("record", [[1.0]], np.float64)], "400", "[n, 3]"),
        ("toy-image", [("image", [b"no picture"], object)], "400", "row 0"),
        ("toy-image", [("image", [[1, 2, 3]], np.uint8)], "400", "height"),
    ],
)
def test_errors_reach_the_client_in_words(
    server: Server, model: str, inputs: list[tuple[str, Any, Any]], status: str, said: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        server.infer(model, [tensor(*one) for one in inputs])
    assert (caught.value.status(), said in caught.value.message()) == (status, True), caught.value.message()
