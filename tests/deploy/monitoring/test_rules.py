"""Every shipped rule fires, in Prometheus' own engine, on what it is for, and is silent on what is nearly so."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

RULES = Path(__file__).parents[3] / "deploy" / "monitoring" / "discern-rules.yaml"
VERDICTS = '{workspace="w",detector="d",version="1",decision="clear",instance="i"}'
ASKED = 'route="/v1/detectors/{name}/verdicts",instance="i"'
COMMITS, REQUESTS = "discern_ledger_commit_duration_seconds", "discern_http_request_duration_seconds"


class Story(NamedTuple):
    """Series of one sample each 5 s, in which a rule fires `at` a time, and others in which it does not."""

    fires: dict[str, str]
    silent: dict[str, str]
    at: str = "3m"


def single(name: str, labels: str, fires: str, silent: str, at: str = "3m") -> Story:
    series = f'{name}{{{labels}{"," if labels else ""}instance="i"}}'
    return Story({series: fires}, {series: silent}, at)


def times(name: str, labels: str, slow: str, fast: str, bounds: tuple[str, str]) -> Story:
    """A histogram with ten observations each 5 s, all above the first bound or all below it."""

    def of(first: str) -> dict[str, str]:
        series = {bounds[0]: first, bounds[1]: "0+10x80", "+Inf": "0+10x80"}
        buckets = {f'{name}_bucket{{le="{bound}",{labels}}}': values for bound, values in series.items()}
        return buckets | {f"{name}_count{{{labels}}}": "0+10x80"}

    return Story(of(slow), of(fast), "6m")


STORIES = {
    "DiscernStageFailing": single("discern_stage_failures_total", 'detector="d",stage="s"', "0+1x80", "0x5 1x80"),
    "DiscernBreakerOpen": single("discern_breaker_state", 'part="objects",name="n"', "2x80", "1x80"),
    "DiscernPartDown": single("discern_part_up", 'part="database"', "0x80", "1x80"),
    "DiscernServiceGone": Story({"up": "0x80"}, {'discern_build_info{version="1"}': "1x80"}),
    "DiscernWorkerDeaths": single("discern_worker_deaths_total", "", "0x5 1x80", "1x80"),
    "DiscernHttpErrors": Story(
        {f'{REQUESTS}_count{{status="{status}",{ASKED}}}': "0+1x80" for status in ("500", "200")},
        {
            f'{REQUESTS}_count{{status="500",{ASKED}}}': "0+1x80",
            f'{REQUESTS}_count{{status="200",{ASKED}}}': "0+100x80",
        },
    ),
    "DiscernLatencyHigh": times(REQUESTS, ASKED, "0x80", "0+10x80", ("1", "5")),
    "DiscernLedgerSlow": times(COMMITS, 'instance="i"', "0x80", "0+10x80", ("0.25", "1")),
    "DiscernWaitingRowsHigh": single("discern_waiting_rows", "", "60000x80", "40000x80"),
    "DiscernLimitsFiring": single("discern_limits_total", 'limit="max_waiting_rows"', "0+10x80", "0+0.5x80"),
    "DiscernVerdictsStopped": Story(
        {f"discern_verdicts_total{VERDICTS}": "0+1x240 240x720"},
        {f"discern_verdicts_total{VERDICTS}": "0+1x960"},
        "40m",
    ),
    "DiscernDiskLow": single("discern_host_disk_free_bytes", "", "1000000000x80", "4000000000x80"),
    "DiscernMemoryLow": single("discern_host_memory_available_bytes", "", "100000000x80", "500000000x80"),
    "DiscernAuthenticationFailures": single(
        "discern_authentication_failures_total", 'reason="key"', "0+5x80", "0+0.5x80", "5m"
    ),
    "DiscernCertificateExpires": single("discern_certificate_expiry_seconds", "", "1000000x80", "2000000x80"),
    "DiscernCertificateEnds": single("discern_certificate_expiry_seconds", "", "100000x80", "1000000x80"),
    "DiscernBackupOld": single("discern_backup_age_seconds", "", "100000x80", "3600x80"),
    "DiscernDrift": single(
        "discern_drift_alarm", 'workspace="w",detector="d",version="1",subject="score"', "1x80", "0x80"
    ),
    "DiscernQualityGap": single(
        "discern_quality_gap_alarm", 'workspace="w",detector="d",version="1",measure="precision"', "1x80", "0x80"
    ),
    "DiscernBudgetForecast": single("discern_budget_forecast_ratio", 'workspace="w"', "1.1x200", "0.98x200", "12m"),
    "DiscernBudgetUsed": single("discern_budget_used_ratio", 'workspace="w"', "1.1x80", "1x80"),
    "DiscernChannelFailing": single(
        "discern_notifications_total", 'channel="c",outcome="failed"', "0+1x80", "0x5 1x80"
    ),
    "DiscernNoticeLost": Story(
        {'discern_notifications_total{channel="c",outcome="gave_up"}': "0x5 1x80"},
        {'discern_notifications_total{channel="c",outcome="delivered"}': "0+1x80"},
    ),
}


def test_every_shipped_rule_has_a_story() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == list(STORIES)


@pytest.mark.system
def test_every_shipped_rule_fires_and_is_silent_when_it_should(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]:
        name = rule["alert"]
        # Each by itself: with all of them in every story it takes a minute.
        (tmp_path / f"{name}.rules").write_text(yaml.safe_dump({"groups": [group | {"rules": [rule]}]}))
        document = {"rule_files": [f"{name}.rules"], "evaluation_interval": "5s", "tests": list(told(name))}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    command = [promtool, "test", "rules", *sorted(path.name for path in tmp_path.glob("*.yaml"))]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def told(name: str) -> Iterator[dict[str, Any]]:
    """Yield the story of a rule as promtool's tests: it fires for one set of labels, and for none."""
    story = STORIES[name]
    expression = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    for series, samples in ((story.fires, [{"labels": "{}", "value": 1}]), (story.silent, [])):
        yield {
            "interval": "5s",
            "input_series": [{"series": one, "values": values} for one, values in series.items()],
            "promql_expr_test": [{"expr": expression, "eval_time": story.at, "exp_samples": samples}],
        }
