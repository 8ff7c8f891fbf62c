"""Every metric that is exported: a literal table, which the documentation and the export are made from.

- What does not stand here is not exported, and what stands here is documented.
- No label is ever made of text that a caller sent: labels are names of routes, workspaces, detectors, stages, settings
  and the like, of which there are as many as the operator has made.

Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from discern.alerts.types import METRICS as ALERT_METRICS
from discern.monitoring.analytics.types import METRICS as COST_METRICS
from discern.monitoring.drift.types import METRICS as DRIFT_METRICS
from discern.monitoring.health.types import METRICS as HEALTH_METRICS
from discern.monitoring.quality.types import METRICS as QUALITY_METRICS
from discern.monitoring.tracing.types import METRICS as TRACE_METRICS
from discern.monitoring.types import Metric

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SHORT_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
_OF_VERDICTS = ("workspace", "detector", "version")

_HTTP = (
    Metric(
        "discern_http_request_duration_seconds",
        "histogram",
        "Time from the head of a request to its answer. `route` is the template of a route, empty for a request that "
        "met none.",
        ("method", "route", "status"),
        _SECONDS,
        of="http",
        scope="machine",
    ),
    Metric(
        "discern_http_requests_in_progress", "gauge", "Requests that wait for an answer.", of="http", scope="machine"
    ),
)
_VERDICTS = (
    Metric(
        "discern_verdicts_total",
        "counter",
        "Verdicts on the ledger, ever; those that were deleted since are among them.",
        (*_OF_VERDICTS, "decision"),
        of="verdicts",
    ),
    Metric(
        "discern_verdicts_cached_total", "counter", "Of these, answers that were known.", _OF_VERDICTS, of="verdicts"
    ),
    Metric(
        "discern_verdicts_degraded_total",
        "counter",
        "Of these, verdicts for which a later stage failed, or too little of a window was known.",
        _OF_VERDICTS,
        of="verdicts",
    ),
    Metric(
        "discern_verdict_seconds_total",
        "counter",
        "Time that verdicts took, from decoding to the decision.",
        _OF_VERDICTS,
        of="verdicts",
    ),
    Metric(
        "discern_verdict_duration_seconds",
        "histogram",
        "The same of each verdict.",
        ("detector",),
        (*_SHORT_SECONDS, 2.5, 5.0, 10.0, 30.0),
        of="verdicts",
        scope="machine",
    ),
)
_CASCADE = (
    Metric(
        "discern_stage_inputs_total",
        "counter",
        "Verdicts whose input came to a stage. A known answer counts where its input went when it was judged.",
        ("detector", "version", "stage"),
        of="cascade",
    ),
    Metric(
        "discern_stage_exits_total",
        "counter",
        "Verdicts that a stage decided, or a measure of a window; the sum is the number of verdicts.",
        ("detector", "version", "stage"),
        of="cascade",
    ),
    Metric(
        "discern_stage_duration_seconds",
        "histogram",
        "Time that an input took in a stage, its share of the batch it ran in.",
        ("detector", "stage"),
        _SHORT_SECONDS,
        of="cascade",
        scope="machine",
    ),
    Metric(
        "discern_stage_failures_total",
        "counter",
        "Inputs that a stage gave no score for.",
        ("detector", "stage"),
        of="cascade",
        scope="machine",
    ),
)
_BATCHES = (
    Metric(
        "discern_batches_total",
        "counter",
        "Batches that ran, by what sent them on their way: `idle`, `full` or `deadline`.",
        ("reason",),
        of="batches",
        scope="machine",
    ),
    Metric("discern_batch_rows", "histogram", "Rows of a batch.", (), _ROWS, of="batches", scope="machine"),
    Metric("discern_waiting_rows", "gauge", "Rows that wait for a batch.", of="batches", scope="machine"),
    Metric(
        "discern_waiting_seconds",
        "histogram",
        "Time that an input waited for its batch.",
        (),
        _SHORT_SECONDS,
        of="batches",
        scope="machine",
    ),
)
_LIMITS = (
    Metric(
        "discern_cache_lookups_total",
        "counter",
        "Questions to the cache of answers: `hit`, `shared_hit` of what another process knew, or `miss`.",
        ("result",),
        of="cache and limits",
        scope="machine",
    ),
    Metric(
        "discern_limits_total",
        "counter",
        "Requests, inputs of streams and connections that were refused or ended because of a limit, by its name: most "
        "often that of the setting.",
        ("limit",),
        of="cache and limits",
        scope="machine",
    ),
    Metric(
        "discern_rate_limited_total",
        "counter",
        "Requests that were refused because of `rate_limits`.",
        of="cache and limits",
        scope="machine",
    ),
)
_LEDGER = (
    Metric("discern_ledger_commits_total", "counter", "Transactions of verdicts.", of="ledger", scope="machine"),
    Metric(
        "discern_ledger_commit_duration_seconds",
        "histogram",
        "Time of a transaction of verdicts, the wait for its turn among it.",
        (),
        _SHORT_SECONDS,
        of="ledger",
        scope="machine",
    ),
)
_ACCESS = (
    Metric(
        "discern_authentication_failures_total",
        "counter",
        "Requests without a good key, token, session, certificate, password or second factor, by which it was.",
        ("reason",),
        of="access",
        scope="machine",
    ),
    Metric(
        "discern_denials_total",
        "counter",
        "Requests of somebody who may not; each is on the audit log.",
        of="access",
        scope="machine",
    ),
    Metric(
        "discern_audit_entries_total",
        "counter",
        "Entries of the audit log, of all workspaces.",
        ("action", "outcome"),
        of="access",
    ),
)
_JOBS = (
    Metric(
        "discern_jobs_total",
        "counter",
        "Jobs that were `submitted`, and that ended: `done`, `failed` or `cancelled`.",
        ("state",),
        of="jobs and streams",
        scope="machine",
    ),
    Metric("discern_jobs_waiting", "gauge", "Jobs that wait or run.", of="jobs and streams"),
    Metric("discern_streams_open", "gauge", "Streams that are open.", of="jobs and streams", scope="machine"),
    Metric(
        "discern_stream_windows_total",
        "counter",
        "Windows of streams that came to a verdict.",
        of="jobs and streams",
        scope="machine",
    ),
)
_PROCESSES = (
    Metric("discern_build_info", "gauge", "1, with the version.", ("version",), of="processes", scope="machine"),
    Metric("discern_workers", "gauge", "Processes that answer.", of="processes", scope="machine"),
    Metric(
        "discern_worker_deaths_total",
        "counter",
        "Processes that ended and were not told to, of those that a supervisor keeps alive.",
        of="processes",
        scope="machine",
    ),
    Metric(
        "discern_process_cpu_seconds_total",
        "counter",
        "Processor time of the processes that answer.",
        of="processes",
        scope="machine",
    ),
    Metric(
        "discern_process_memory_bytes",
        "gauge",
        "Memory of the processes that answer; what they share counts for each.",
        of="processes",
        scope="machine",
    ),
)
_HOST = (
    Metric("discern_host_cpu_ratio", "gauge", "Share of the processors that is busy.", of="host", scope="machine"),
    Metric(
        "discern_host_memory_available_bytes",
        "gauge",
        "Memory that programs could have without swapping.",
        of="host",
        scope="machine",
    ),
    Metric(
        "discern_host_disk_free_bytes", "gauge", "Free room where the home folder lies.", of="host", scope="machine"
    ),
    Metric(
        "discern_host_network_receive_bytes_total",
        "counter",
        "Bytes received on all networks but the loopback.",
        of="host",
        scope="machine",
    ),
    Metric("discern_host_network_transmit_bytes_total", "counter", "Bytes sent likewise.", of="host", scope="machine"),
    Metric(
        "discern_gpu_utilization_ratio",
        "gauge",
        "Share of time that an NVIDIA GPU was busy.",
        ("gpu",),
        of="host",
        scope="machine",
    ),
    Metric(
        "discern_gpu_memory_used_bytes",
        "gauge",
        "Memory of an NVIDIA GPU in use.",
        ("gpu",),
        of="host",
        scope="machine",
    ),
)
_TABLES: tuple[Sequence[Metric], ...] = (
    _HTTP,
    _VERDICTS,
    _CASCADE,
    _BATCHES,
    _LIMITS,
    _LEDGER,
    _ACCESS,
    _JOBS,
    _PROCESSES,
    _HOST,
    DRIFT_METRICS,
    HEALTH_METRICS,
    ALERT_METRICS,
    QUALITY_METRICS,
    TRACE_METRICS,
    COST_METRICS,
)
# Those of the other parts of monitoring stand in their `types`.
CATALOGUE: dict[str, Metric] = {metric.name: metric for table in _TABLES for metric in table}
"""Every metric by its name."""


def sample_names(metric: Metric) -> Iterator[str]:
    """Yield the names that the samples of a metric have."""
    if metric.kind != "histogram":
        yield metric.name
        return
    yield from (f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))
