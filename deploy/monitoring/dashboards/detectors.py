"""The dashboards of detectors: what they decide, by which stage, and whether they still fit."""

from __future__ import annotations

from deploy.monitoring.dashboards.expressions import increase, or_none, quantile, rate, worst
from deploy.monitoring.dashboards.panels import UNTIL, VERDICTS, Board, Curve, Panel, graph, number, states

_OF = "detector, version"
_MEASURE = "detector, version, measure"


def _quality(title: str, kind: str, may_lack: str) -> Panel:
    of, match = "{{detector}} {{version}} {{measure}}", f'kind="{kind}"'
    return graph(
        title,
        "With its 95 % interval.",
        Curve(worst("max", "discern_quality", _MEASURE, match), of),
        Curve(worst("max", "discern_quality_low", _MEASURE, match), f"{of} at least"),
        Curve(worst("max", "discern_quality_high", _MEASURE, match), f"{of} at most"),
        unit="percentunit",
        most=1,
        may_lack=may_lack,
    )


DETECTOR = Board(
    "detector",
    "Discern: detector",
    "What does it decide, how fast, and how right is it?",
    (
        (
            "What it decides",
            (
                graph(
                    "Verdicts by decision",
                    "A second.",
                    Curve(rate(VERDICTS, "detector, decision"), "{{detector}} {{decision}}"),
                    unit="ops",
                ),
                graph(
                    "Share of each decision",
                    "",
                    Curve(
                        f"{rate(VERDICTS, 'detector, decision')} / on (detector) group_left () "
                        f"{rate(VERDICTS, 'detector')}",
                        "{{detector}} {{decision}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                graph("By version", "", Curve(rate(VERDICTS, _OF), "{{detector}} {{version}}"), unit="ops"),
                graph(
                    "Degraded",
                    "Share of verdicts for which a later stage failed: they are for review.",
                    Curve(
                        f"{rate('discern_verdicts_degraded_total', _OF)} / {rate(VERDICTS, _OF)}",
                        "{{detector}} {{version}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
                graph(
                    "Known answers",
                    "Share of verdicts from the cache.",
                    Curve(
                        f"{rate('discern_verdicts_cached_total', _OF)} / {rate(VERDICTS, _OF)}",
                        "{{detector}} {{version}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
            ),
        ),
        (
            "How fast",
            (
                graph(
                    "Time of a verdict",
                    "From decoding to the decision.",
                    Curve(quantile(0.5, "discern_verdict_duration_seconds", "detector"), "{{detector}} half"),
                    Curve(quantile(0.99, "discern_verdict_duration_seconds", "detector"), "{{detector}} 99 %"),
                    unit="s",
                ),
                graph(
                    "Time of a verdict by version, mean",
                    "",
                    Curve(
                        f"{rate('discern_verdict_seconds_total', _OF)} / {rate(VERDICTS, _OF)}",
                        "{{detector}} {{version}}",
                    ),
                    unit="s",
                ),
            ),
        ),
        (
            "How right",
            (
                _quality("Quality as scores promise it", "estimated", "Nothing until a window has enough verdicts."),
                _quality("Quality as labels show it", "realised", "Nothing until enough verdicts have labels."),
                graph(
                    "Labels",
                    "In the time that is shown.",
                    Curve(increase("discern_labels_total", "detector, label"), "{{detector}} {{label}}"),
                    may_lack=UNTIL,
                ),
            ),
        ),
    ),
)

_STAGE = "detector, version, stage"
CASCADE = Board(
    "cascade",
    "Discern: cascade",
    "Which stage decides how much, what does it cost, and does one fail?",
    (
        (
            "Who decides",
            (
                graph(
                    "Inputs that come to a stage",
                    "",
                    Curve(rate("discern_stage_inputs_total", _STAGE), "{{detector}} {{version}} {{stage}}"),
                    unit="ops",
                ),
                graph(
                    "Verdicts that a stage decides",
                    "",
                    Curve(rate("discern_stage_exits_total", _STAGE), "{{detector}} {{version}} {{stage}}"),
                    unit="ops",
                ),
                graph(
                    "Share that a stage decides of what comes to it",
                    "The last decides all. A first stage that decides less than it did costs time, and may be drift.",
                    Curve(
                        f"{rate('discern_stage_exits_total', _STAGE)} / {rate('discern_stage_inputs_total', _STAGE)}",
                        "{{detector}} {{version}} {{stage}}",
                    ),
                    unit="percentunit",
                    most=1,
                ),
            ),
        ),
        (
            "What it costs",
            (
                graph(
                    "Time of a stage, half",
                    "An input's share of its batch.",
                    Curve(quantile(0.5, "discern_stage_duration_seconds", "detector, stage"), "{{detector}} {{stage}}"),
                    unit="s",
                ),
                graph(
                    "Time of a stage, 99 %",
                    "",
                    Curve(
                        quantile(0.99, "discern_stage_duration_seconds", "detector, stage"), "{{detector}} {{stage}}"
                    ),
                    unit="s",
                ),
                graph(
                    "Processors that a stage takes",
                    "Seconds of stages a second.",
                    Curve(rate("discern_stage_duration_seconds_sum", "detector, stage"), "{{detector}} {{stage}}"),
                ),
            ),
        ),
        (
            "Does one fail",
            (
                graph(
                    "Failures of a stage",
                    "Inputs without a score; of a later stage they go to review.",
                    Curve(rate("discern_stage_failures_total", "detector, stage"), "{{detector}} {{stage}}"),
                    unit="ops",
                    may_lack=UNTIL,
                ),
                graph(
                    "Degraded verdicts",
                    "",
                    Curve(rate("discern_verdicts_degraded_total", _OF), "{{detector}} {{version}}"),
                    unit="ops",
                ),
            ),
        ),
    ),
)

_SUBJECT = "workspace, detector, version, subject"
_WATCHED = "Nothing until the first window is full."
DRIFT = Board(
    "drift",
    "Discern: drift",
    "Is what it is asked, or what it answers, still what it was made for?",
    (
        (
            "Does it drift",
            (
                number(
                    "Subjects that differ",
                    "Fields, scores and decisions that are not as in the reference.",
                    f"sum({worst('max', 'discern_drift_alarm', _SUBJECT)})",
                    bad_from=0.5,
                    may_lack=_WATCHED,
                ),
                number(
                    "Promises that labels contradict",
                    "",
                    f"sum({worst('max', 'discern_quality_gap_alarm', 'workspace, detector, version, measure')})",
                    bad_from=0.5,
                    may_lack="Nothing until enough verdicts have labels.",
                ),
                number(
                    "Windows",
                    "That were looked at in the time that is shown.",
                    increase("discern_drift_windows_total"),
                    may_lack=_WATCHED,
                ),
                states(
                    "Since when",
                    "1 differs.",
                    worst("max", "discern_drift_alarm", _SUBJECT),
                    "{{detector}} {{version}} {{subject}}",
                    may_lack=_WATCHED,
                ),
            ),
        ),
        (
            "How far",
            (
                graph(
                    "Shift",
                    "In standard deviations of the reference.",
                    Curve(worst("max", "discern_drift_shift", _SUBJECT), "{{detector}} {{version}} {{subject}}"),
                    signed=True,
                    may_lack=_WATCHED,
                ),
                graph(
                    "Distance",
                    "The share of verdicts that moved.",
                    Curve(worst("max", "discern_drift_statistic", _SUBJECT), "{{detector}} {{version}} {{subject}}"),
                    unit="percentunit",
                    may_lack=_WATCHED,
                ),
            ),
        ),
        (
            "What came of it",
            (
                graph(
                    "Share for review or flagged",
                    "Before labels come, this is what moves.",
                    Curve(
                        or_none(rate(VERDICTS, match='decision!="clear"')) + " / " + rate(VERDICTS), "review or flag"
                    ),
                    unit="percentunit",
                    most=1,
                ),
                states(
                    "Measures that labels contradict",
                    "1 is not what was estimated.",
                    worst("max", "discern_quality_gap_alarm", "detector, version, measure"),
                    "{{detector}} {{version}} {{measure}}",
                    may_lack="Nothing until enough verdicts have labels.",
                ),
            ),
        ),
    ),
    since="now-7d",
)
