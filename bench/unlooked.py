"""`discern` where nobody looks whether a request is traced. For the comparison in `bench.tracing`."""

from __future__ import annotations

from typing import Any
from unittest import mock

from discern.cli.main import main
from discern.detection.batching import _outcomes


def _run(detector: Any, items: Any, _traced: object) -> Any:  # noqa: ANN401
    return _outcomes(detector, items, [])


if __name__ == "__main__":
    with (
        mock.patch("discern.detection.batching._traced", return_value=()),
        mock.patch("discern.detection.batching._run", _run),
        mock.patch("discern.detectors.cascade.current_trace", return_value=None),
    ):
        main()
