"""A plain FastAPI application that only calls the model: no key, no ledger, no limits. What a team writes by hand.

A record is run inline, because handing it to a thread costs more than the model; a picture goes to a thread pool, so
that the event loop reads the next one meanwhile. Each process has as many threads as its share of the cores needs.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, create_model

from bench import baseline

_THREADS = 2

_FIELDS: dict[str, Any] = dict.fromkeys(baseline.FIELDS, (float, ...))
Record = create_model("Record", **_FIELDS)


class Score(BaseModel):
    """The answer."""

    score: float
    decision: str


def create_app() -> FastAPI:
    """Return the application; the folder of the models is named by BENCH_MODELS."""
    folder = Path(os.environ["BENCH_MODELS"])
    records = baseline.session(folder / "record.onnx")
    images = baseline.session(folder / "image.onnx")
    pool = ThreadPoolExecutor(_THREADS)
    app = FastAPI()

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/records")
    async def score_record(record: Record) -> Score:
        return _score(baseline.probability(records, "record", baseline.row(record.__dict__)))

    @app.post("/images")
    async def score_image(request: Request) -> Score:
        content = await request.body()
        return await asyncio.get_running_loop().run_in_executor(pool, judge, content)

    def judge(content: bytes) -> Score:
        return _score(baseline.probability(images, "image", baseline.picture(content)))

    return app


def _score(score: float) -> Score:
    return Score(score=score, decision="flag" if score >= 0.8 else "review" if score >= 0.4 else "clear")
