"""MLServer's runtime for the two models; `bench.peers.compare` writes the settings it is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench import baseline


class Records(MLModel):  # type: ignore[misc] # it has no types here
    """FP32 `record` [rows, 30] to FP32 `probability` [rows]."""

    async def load(self) -> bool:
        """Open the model."""
        self._session = baseline.session(Path(self.settings.parameters.uri) / "record.onnx")
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer for the rows of a request."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        return _answer(self, self._session.run(["probability"], {"record": rows})[0])


class Images(MLModel):  # type: ignore[misc]
    """BYTES `image` [rows], base64 of a JPEG each, to FP32 `probability` [rows]."""

    async def load(self) -> bool:
        """Open the model."""
        self._session = baseline.session(Path(self.settings.parameters.uri) / "image.onnx")
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer for the pictures of a request."""
        pictures = [baseline.picture(content) for content in Base64Codec.decode_input(payload.inputs[0])]
        return _answer(self, self._session.run(["probability"], {"image": np.concatenate(pictures)})[0])


def _answer(model: MLModel, scores: np.ndarray[Any, Any]) -> InferenceResponse:
    return InferenceResponse(model_name=model.name, outputs=[NumpyCodec.encode_output("probability", scores)])
