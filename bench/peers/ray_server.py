"""Ray Serve with one model and two replicas: `python -m bench.peers.ray_server KIND MODELS PORT BATCH`."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from bench import baseline

_KIND, _FOLDER, _PORT, _BATCH = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


@serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.9})
class Model:
    """Records arrive as JSON, pictures as they are."""

    def __init__(self, kind: str, folder: str, batch: int) -> None:
        self.tensor = "record" if kind == "records" else "image"
        self.together = batch > 1
        self.session = baseline.session(Path(folder) / f"{self.tensor}.onnx")

    async def __call__(self, request: Request) -> dict[str, float]:
        """Answer one request."""
        body = await request.body()
        if self.together:
            return {"score": await self.run_together(await self.decode(body))}
        if self.tensor == "record":
            return {"score": self.run(await self.decode(body))}
        return {"score": await asyncio.to_thread(lambda: self.run(baseline.picture(body)))}

    async def decode(self, body: bytes) -> np.ndarray[Any, Any]:
        """Return the row of a body."""
        if self.tensor == "record":
            return baseline.row(json.loads(body))
        return await asyncio.to_thread(baseline.picture, body)

    def run(self, row: np.ndarray[Any, Any]) -> float:
        """Return the score of a row."""
        return baseline.probability(self.session, self.tensor, row)

    @serve.batch(max_batch_size=max(2, _BATCH), batch_wait_timeout_s=0.002)  # type: ignore[untyped-decorator]
    async def run_together(self, rows: list[np.ndarray[Any, Any]]) -> list[float]:
        """Return the scores of rows that waited together."""
        return baseline.probabilities(self.session, self.tensor, rows)


if __name__ == "__main__":
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: ended.set())
    scratch = tempfile.mkdtemp(prefix="ray-")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
        _temp_dir=scratch,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": _PORT}, logging_config={"enable_access_log": False})
    application = Model.bind(_KIND, str(_FOLDER), _BATCH)  # type: ignore[attr-defined] # what the decorator makes of it
    serve.run(application, route_prefix="/predict")
    ended.wait()
    serve.shutdown()
    ray.shutdown()
    time.sleep(1)  # its processes write to the folder until they are gone
    shutil.rmtree(scratch, ignore_errors=True)
