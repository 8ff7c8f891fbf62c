"""An evaluation as a run of MLflow: its figures as metrics, the report as artifacts.

- MLflow's telemetry is off before anything of it is imported.
- A figure without a value is left out; nothing stands in for it.
- Figures under a condition have its strength as their step, 0 being the items as they are; those under attack have the
  queries an item.

Needs the extra `mlflow`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from discern.core.errors import OperatorError
from discern.detectors.scoring import DECISIONS
from discern.evaluation.report import JSON, MARKDOWN, PAGE
from discern.evaluation.results import DetectorFacts, Result
from discern.evaluation.types import Estimate
from discern.evaluation.types_conditions import DatasetConditions

_OF_EVENTS = ("recall", "precision", "onset_error")
_EXPERIMENT = "discern-evaluations"
# What MLflow takes in one request.
_AT_A_TIME = 1000
_NOT_ALLOWED = re.compile(r"[^\w\-./ ]")


class Figure(NamedTuple):
    """A metric of MLflow."""

    name: str
    value: float
    step: int


def log_run(uri: str, result: Result, folder: Path) -> str:
    """Log a result and the report in `folder` to a tracking URI; return the run's id. Raises OperatorError."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    import mlflow  # noqa: PLC0415 - an extra, and only after its telemetry is off

    detector = result.detector
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(_EXPERIMENT)
        number = client.create_experiment(_EXPERIMENT) if experiment is None else experiment.experiment_id
        run = client.create_run(number, run_name=f"{detector.name} {detector.version}").info.run_id
        parameters = {
            "detector": detector.name,
            "version": detector.version,
            "bundle_sha256": detector.bundle_sha256,
            "seed": str(result.seed),
            **{f"manifest_sha256.{_named(one.name)}": one.manifest_sha256 for one in result.datasets},
        }
        for name, text in parameters.items():
            client.log_param(run, name, text)
        logged_at = time.time_ns() // 1_000_000
        found = [mlflow.entities.Metric(one.name, one.value, logged_at, one.step) for one in figures(result)]
        for start in range(0, len(found), _AT_A_TIME):
            client.log_batch(run, metrics=found[start : start + _AT_A_TIME])
        for name in (JSON, PAGE, MARKDOWN):
            client.log_artifact(run, str(folder / name))
        client.set_terminated(run)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OperatorError(
            f"MLflow at {uri} did not take the run: {reason}", mend="The report is written; see the tracking URI."
        ) from error
    return str(run)


def figures(result: Result) -> Iterator[Figure]:
    """Yield what is logged: every figure that has a value, with the ends of its interval."""
    for one in result.datasets:
        classes = (
            (result.detector.negative, one.operating.negative),
            (result.detector.positive, one.operating.positive),
        )
        shares = {f"{name} {word}": getattr(rates, word) for name, rates in classes for word in DECISIONS}
        videos = {} if one.videos is None else {f"video {name}": area for name, area in one.videos.metrics.items()}
        events = {
            f"{event.name} {name}": getattr(event.scores, name) for event in one.events or () for name in _OF_EVENTS
        }
        for name, estimate in {**one.metrics, "ece": one.calibration.error, **shares, **videos, **events}.items():
            yield from _parts(f"{one.name}/{name}", estimate)
    for held in () if result.conditions is None else result.conditions.datasets:
        yield from _under_conditions(held, result.detector)


def _under_conditions(held: DatasetConditions, detector: DetectorFacts) -> Iterator[Figure]:
    for curve in held.curves:
        place = f"{held.dataset}/{curve.condition}"
        if curve.points:
            yield from _parts(f"{place}/auc", held.clean)
        for point in curve.points:
            rates = {
                "auc": point.auc,
                "difference": point.difference,
                f"{detector.positive} flag": point.rates.flagged_positives,
                f"{detector.positive} clear": point.rates.cleared_positives,
                f"{detector.negative} flag": point.rates.flagged_negatives,
                "lost": point.lost,
            }
            for name, estimate in rates.items():
                yield from _parts(f"{place}/{name}", estimate, point.strength)
    for stream in () if held.stream is None else held.stream.points:
        for name in ("missing", "differing", "change"):
            yield from _parts(f"{held.dataset}/live_stream/{name}", getattr(stream, name), stream.strength)
    for attack in () if held.attack is None else held.attack.points:
        yield from _parts(f"{held.dataset}/attack/success", attack.success, attack.queries)


def _parts(name: str, estimate: Estimate, step: int = 0) -> Iterator[Figure]:
    for part, value in (("", estimate.value), (".low", estimate.low), (".high", estimate.high)):
        if value is not None:
            yield Figure(_named(f"{name}{part}"), value, step)


def _named(text: str) -> str:
    """Return a name that MLflow takes."""
    return _NOT_ALLOWED.sub("_", text)
