"""The dashboard of the service."""

from __future__ import annotations

from deploy.monitoring.dashboards.expressions import increase, mean, or_none, quantile, rate, total, worst
from deploy.monitoring.dashboards.panels import HTTP, UNTIL, Board, Curve, graph, number, states

ASKED = 'route=~".*/verdicts.*"'
ERRORS = or_none(rate(f"{HTTP}_count", match='status=~"5.."')) + " / " + rate(f"{HTTP}_count")
GPU = "Only where there is an NVIDIA GPU with its driver."

SERVICE = Board(
    "service",
    "Discern: service",
    "Does it answer, how fast, and what will run out first?",
    (
        (
            "Does it answer?",
            (
                number("Requests a second", "Of all servers.", rate(f"{HTTP}_count"), "reqps"),
                number(
                    "Errors", "Share of answers with a status of 500 or above.", ERRORS, "percentunit", bad_from=0.02
                ),
                number(
                    "Answered in 30 days",
                    "Share of requests that had no error of the server; from recorded series.",
                    "1 - sum_over_time(discern:http_errors:rate5m[30d])"
                    " / (sum_over_time(discern:http_requests:rate5m[30d]) > 0)",
                    "percentunit",
                    bad_below=0.999,
                    may_lack="Nothing until the rules have been evaluated after a request.",
                ),
                number("Servers", "Processes that answer.", total("discern_workers"), bad_below=1),
                number(
                    "Deaths in an hour",
                    "Processes that ended and were not told to.",
                    increase("discern_worker_deaths_total", window="1h"),
                    bad_from=0.5,
                ),
                number(
                    "Alerts that fire",
                    "Those of Discern's own rules.",
                    or_none(total("discern_alerts", match='state="firing"')),
                    bad_from=0.5,
                ),
            ),
        ),
        (
            "Requests",
            (
                graph(
                    "Requests by route",
                    "A route without a name is none that there is.",
                    Curve(rate(f"{HTTP}_count", "method, route"), "{{method}} {{route}}"),
                    unit="reqps",
                ),
                graph("Answers by status", "", Curve(rate(f"{HTTP}_count", "status"), "{{status}}"), unit="reqps"),
                graph(
                    "Time of a question",
                    "From the head of the request to its answer, of all routes that give verdicts.",
                    Curve(quantile(0.5, HTTP, match=ASKED), "half"),
                    Curve(quantile(0.95, HTTP, match=ASKED), "95 %"),
                    Curve(quantile(0.99, HTTP, match=ASKED), "99 %"),
                    unit="s",
                ),
                graph(
                    "Waiting",
                    "Requests without an answer yet, and rows that no batch has taken.",
                    Curve(total("discern_http_requests_in_progress"), "requests"),
                    Curve(total("discern_waiting_rows"), "rows"),
                    Curve(total("discern_jobs_waiting"), "jobs"),
                    Curve(total("discern_streams_open"), "streams"),
                ),
            ),
        ),
        (
            "On the way",
            (
                graph(
                    "Batches by what sent them",
                    "`full` and `deadline` under load, `idle` without.",
                    Curve(rate("discern_batches_total", "reason"), "{{reason}}"),
                    unit="ops",
                ),
                graph(
                    "Rows of a batch, and the wait for it",
                    "Means.",
                    Curve(mean("discern_batch_rows"), "rows"),
                    Curve(f"1000 * {mean('discern_waiting_seconds')}", "wait in milliseconds"),
                ),
                graph(
                    "Cache of answers",
                    "",
                    Curve(rate("discern_cache_lookups_total", "result"), "{{result}}"),
                    unit="ops",
                    may_lack="Nothing where the cache is off.",
                ),
                graph(
                    "Limits that fire",
                    "By the name of the setting.",
                    Curve(rate("discern_limits_total", "limit"), "{{limit}}"),
                    unit="ops",
                    may_lack=UNTIL,
                ),
                graph(
                    "Ledger",
                    "Each answer waits for its transaction.",
                    Curve(quantile(0.5, "discern_ledger_commit_duration_seconds"), "half"),
                    Curve(quantile(0.99, "discern_ledger_commit_duration_seconds"), "99 %"),
                    unit="s",
                ),
                graph(
                    "Transactions, jobs and windows of streams",
                    "A second.",
                    Curve(rate("discern_ledger_commits_total"), "transactions"),
                    Curve(rate("discern_jobs_total", "state"), "jobs {{state}}"),
                    Curve(rate("discern_stream_windows_total"), "windows"),
                    unit="ops",
                ),
            ),
        ),
        (
            "Parts",
            (
                states("Parts", "1 answers, 0 does not.", worst("min", "discern_part_up", "part"), "{{part}}"),
                states(
                    "Circuit breakers",
                    "0 closed, 1 tries again, 2 open.",
                    worst("max", "discern_breaker_state", "part, name"),
                    "{{part}} {{name}}",
                    may_lack=UNTIL,
                ),
                graph(
                    "Breakers that opened",
                    "In a quarter of an hour.",
                    Curve(increase("discern_breaker_openings_total", "part, name", window="15m"), "{{part}} {{name}}"),
                    may_lack=UNTIL,
                ),
                graph(
                    "Notices",
                    "Attempts in a quarter of an hour, and what waits.",
                    Curve(
                        increase("discern_notifications_total", "channel, outcome", window="15m"),
                        "{{channel}} {{outcome}}",
                    ),
                    Curve(total("discern_notifications_waiting", "channel"), "{{channel}} waits"),
                    may_lack=UNTIL,
                ),
                graph(
                    "Alerts",
                    "",
                    Curve(total("discern_alerts", "severity, state"), "{{severity}} {{state}}"),
                    may_lack=UNTIL,
                ),
                graph(
                    "Spans",
                    "Of traces: sent, and lost because nobody took them.",
                    Curve(rate("discern_spans_exported_total"), "sent"),
                    Curve(rate("discern_spans_dropped_total", "reason"), "lost: {{reason}}"),
                    unit="ops",
                    may_lack="Nothing until DISCERN_TRACE_URL is set.",
                ),
                number(
                    "Age of the last backup",
                    "",
                    worst("min", "discern_backup_age_seconds", ""),
                    "s",
                    bad_from=93600,
                    may_lack="Nothing until there are backups.",
                ),
            ),
        ),
        (
            "Machine",
            (
                graph(
                    "Processors",
                    "Cores that Discern uses; the share of all that is busy.",
                    Curve(rate("discern_process_cpu_seconds_total"), "cores of Discern"),
                    Curve(worst("max", "discern_host_cpu_ratio", "instance"), "busy of {{instance}}"),
                ),
                graph(
                    "Memory",
                    "",
                    Curve(total("discern_process_memory_bytes"), "Discern"),
                    Curve(worst("min", "discern_host_memory_available_bytes", "instance"), "free on {{instance}}"),
                    unit="bytes",
                ),
                graph(
                    "Disk that is free",
                    "Where the home folder lies.",
                    Curve(worst("min", "discern_host_disk_free_bytes", "instance"), "{{instance}}"),
                    unit="bytes",
                ),
                graph(
                    "Network",
                    "All but the loopback.",
                    Curve(rate("discern_host_network_receive_bytes_total"), "in"),
                    Curve(rate("discern_host_network_transmit_bytes_total"), "out"),
                    unit="Bps",
                ),
                graph(
                    "GPU",
                    "",
                    Curve(worst("max", "discern_gpu_utilization_ratio", "instance, gpu"), "{{instance}} {{gpu}}"),
                    unit="percentunit",
                    most=1,
                    may_lack=GPU,
                ),
                graph(
                    "Memory of the GPU",
                    "",
                    Curve(worst("max", "discern_gpu_memory_used_bytes", "instance, gpu"), "{{instance}} {{gpu}}"),
                    unit="bytes",
                    may_lack=GPU,
                ),
                states(
                    "Versions", "", worst("max", "discern_build_info", "instance, version"), "{{instance}} {{version}}"
                ),
            ),
        ),
    ),
)
