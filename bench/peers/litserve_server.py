"""LitServe with one model: `python -m bench.peers.litserve_server KIND MODELS PORT BATCH`.

As its documentation advises for many small requests: two workers, the fast queue, batches where BATCH is more than 1.
"""

# Annotations are not postponed: LitServe reads what `decode_request` takes.
import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from starlette.requests import Request

from bench import baseline


class Model(litserve.LitAPI):  # type: ignore[misc] # it has no types here
    """Records arrive as JSON, pictures as base64 in JSON."""

    def setup(self, _device: str) -> None:
        """Open the model, in each worker."""
        self.records = sys.argv[1] == "records"
        self.tensor = "record" if self.records else "image"
        self.session = baseline.session(Path(sys.argv[2]) / f"{self.tensor}.onnx")

    def decode_request(self, request: Request) -> np.ndarray[Any, Any]:
        """Return the row of a request, which arrives as its decoded JSON."""
        content: Any = request
        return baseline.row(content) if self.records else baseline.picture(base64.b64decode(content["image"]))

    def batch(self, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Return rows as one batch."""
        return np.concatenate(inputs)

    def unbatch(self, output: list[float]) -> list[float]:
        """Return a batch's scores one by one."""
        return output

    def predict(self, rows: np.ndarray[Any, Any]) -> Any:  # noqa: ANN401 - a score, or a list of them for a batch
        """Run the model."""
        scores = self.session.run(["probability"], {self.tensor: rows})[0]
        return [float(score) for score in scores] if self.max_batch_size > 1 else float(scores[0])

    def encode_response(self, output: float) -> dict[str, float]:
        """Return the answer."""
        return {"score": output}


if __name__ == "__main__":
    batch = int(sys.argv[4])
    api = Model(max_batch_size=batch, batch_timeout=0.002 if batch > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[3]), generate_client_file=False, log_level="error")
