"""The metrics of traces."""

from __future__ import annotations

from discern.monitoring.types import Metric

EXPORTED, DROPPED = "discern_spans_exported_total", "discern_spans_dropped_total"
METRICS = (
    Metric(EXPORTED, "counter", "Spans of traces that the endpoint took.", of="traces", scope="machine"),
    Metric(
        DROPPED,
        "counter",
        "Spans that nobody has: `full`, the endpoint was too slow or away for too long; `refused`, it answered that it "
        "does not want them; `stopped`, they waited when the process ended.",
        ("reason",),
        of="traces",
        scope="machine",
    ),
)
