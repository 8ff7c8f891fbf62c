"""An evaluation as a run of MLflow: its figures as metrics, the report as artifacts.

- MLflow's telemetry is off before anything of it is imported.
- A figure without a value is left out; nothing stands in for it.

Needs the extra `mlflow`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from discern.core.errors import OperatorError
from discern.detectors.scoring import DECISIONS
from discern.evaluation.report import JSON, MARKDOWN, PAGE
from discern.evaluation.results import Result

_OF_EVENTS = ("recall", "precision", "onset_error")
_EXPERIMENT = "discern-evaluations"
_NOT_ALLOWED = re.compile(r"[^\w\-./ ]")


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
        for name, value in _figures(result).items():
            client.log_metric(run, name, value)
        for name in (JSON, PAGE, MARKDOWN):
            client.log_artifact(run, str(folder / name))
        client.set_terminated(run)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OperatorError(
            f"MLflow at {uri} did not take the run: {reason}", mend="The report is written; see the tracking URI."
        ) from error
    return str(run)


def _figures(result: Result) -> dict[str, float]:
    found: dict[str, float] = {}
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
        figures = {**one.metrics, "ece": one.calibration.error, **shares, **videos, **events}
        for name, estimate in figures.items():
            for part, value in (("", estimate.value), (".low", estimate.low), (".high", estimate.high)):
                if value is not None:
                    found[_named(f"{one.name}/{name}{part}")] = value
    return found


def _named(text: str) -> str:
    """Return a name that MLflow takes."""
    return _NOT_ALLOWED.sub("_", text)
