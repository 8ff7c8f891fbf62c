"""The dashboards of those who answer for it: security and business."""

from __future__ import annotations

from deploy.monitoring.dashboards.expressions import increase, rate, total, worst
from deploy.monitoring.dashboards.panels import HTTP, UNTIL, VERDICTS, Board, Curve, graph, number

SECURITY = Board(
    "security",
    "Discern: security",
    "Who is turned away, who does what, and what expires?",
    (
        (
            "Who is turned away",
            (
                graph(
                    "Failed sign-ins",
                    "Requests without a good key, password or second factor.",
                    Curve(rate("discern_authentication_failures_total", "reason"), "{{reason}}"),
                    unit="ops",
                    may_lack=UNTIL,
                ),
                graph(
                    "Denied and held back",
                    "Who may not, and who asks too much.",
                    Curve(rate("discern_denials_total"), "denied"),
                    Curve(rate("discern_rate_limited_total"), "rate limited"),
                    unit="ops",
                ),
                graph(
                    "Requests that met no route",
                    "Scanners ask for what is not there.",
                    Curve(rate(f"{HTTP}_count", "status", 'route=""'), "{{status}}"),
                    unit="reqps",
                    may_lack=UNTIL,
                ),
                graph(
                    "Limits that fire",
                    "By the name of the setting.",
                    Curve(rate("discern_limits_total", "limit"), "{{limit}}"),
                    unit="ops",
                    may_lack=UNTIL,
                ),
            ),
        ),
        (
            "Who does what",
            (
                graph(
                    "Audit log by action",
                    "Entries in the time that is shown.",
                    Curve(increase("discern_audit_entries_total", "action"), "{{action}}"),
                ),
                graph(
                    "Audit log by outcome",
                    "",
                    Curve(increase("discern_audit_entries_total", "outcome"), "{{outcome}}"),
                ),
            ),
        ),
        (
            "What expires",
            (
                number(
                    "TLS certificate",
                    "Until it ends.",
                    worst("min", "discern_certificate_expiry_seconds", ""),
                    "s",
                    bad_below=1209600,
                    may_lack="Nothing where the server has no certificate of its own.",
                ),
            ),
        ),
    ),
    since="now-24h",
)

_PRICES = "Nothing until prices are set."
_BUDGET = "Nothing until a budget is set."
_CHOSEN = 'workspace=~"$workspace",detector=~"$detector"'
_DAY = f"86400 * sum by ({{}}) (avg_over_time(discern:verdicts:rate5m{{{{{_CHOSEN}}}}}[1d]))"
_RECORDED = "Nothing until the rules have been evaluated."
BUSINESS = Board(
    "business",
    "Discern: business",
    "How much is asked, what comes of it, and what does it cost?",
    (
        (
            "How much",
            (
                number("Verdicts ever", "Those deleted since are among them.", total(VERDICTS)),
                number(
                    "Verdicts in a day",
                    "At the mean pace of the last day; from recorded series.",
                    _DAY.format(""),
                    may_lack=_RECORDED,
                ),
                graph(
                    "Verdicts in a day by detector",
                    "At the mean pace of the day before; from recorded series.",
                    Curve(_DAY.format("detector"), "{{detector}}"),
                    may_lack=_RECORDED,
                ),
                graph(
                    "Verdicts in an hour by workspace",
                    "",
                    Curve(increase(VERDICTS, "workspace", window="1h"), "{{workspace}}"),
                ),
            ),
        ),
        (
            "What comes of it",
            (
                graph(
                    "Flagged in an hour",
                    "",
                    Curve(
                        increase(VERDICTS, "workspace, detector", 'decision="flag"', "1h"), "{{workspace}} {{detector}}"
                    ),
                    may_lack=UNTIL,
                ),
                graph(
                    "For review in an hour",
                    "Each is work for somebody.",
                    Curve(
                        increase(VERDICTS, "workspace, detector", 'decision="review"', "1h"),
                        "{{workspace}} {{detector}}",
                    ),
                    may_lack=UNTIL,
                ),
                graph(
                    "Labels in an hour",
                    "",
                    Curve(
                        increase("discern_labels_total", "workspace, detector", window="1h"),
                        "{{workspace}} {{detector}}",
                    ),
                    may_lack=UNTIL,
                ),
                graph(
                    "Precision, by labels",
                    "Share of what was flagged that was rightly so.",
                    Curve(
                        worst("max", "discern_quality", "workspace, detector", 'measure="precision",kind="realised"'),
                        "{{workspace}} {{detector}}",
                    ),
                    unit="percentunit",
                    most=1,
                    may_lack="Nothing until enough verdicts have labels.",
                ),
            ),
        ),
        (
            "What it costs",
            (
                graph(
                    "Cost in a day",
                    "In the installation's currency.",
                    Curve(
                        increase("discern_cost_total", "workspace, detector", window="1d"), "{{workspace}} {{detector}}"
                    ),
                    may_lack=_PRICES,
                ),
                graph(
                    "Budget that is used",
                    "Of the month, and as it will be at its end.",
                    Curve(total("discern_budget_used_ratio", "workspace"), "{{workspace}} used"),
                    Curve(total("discern_budget_forecast_ratio", "workspace"), "{{workspace}} at the end"),
                    unit="percentunit",
                    may_lack=_BUDGET,
                ),
            ),
        ),
    ),
    since="now-7d",
)
