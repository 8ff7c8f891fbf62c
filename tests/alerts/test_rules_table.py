"""What is written of alerts is understood, or refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from discern.alerts.rules_catalogue import Known
from discern.alerts.rules_matching import matches, parsed
from discern.alerts.rules_times import seconds_of, shown, time_of
from discern.alerts.rules_wording import filled, templated
from discern.alerts.sources import AlertTable, shipped
from discern.alerts.types import Rule, Table
from discern.core.errors import InvalidSettings, MalformedRequest
from discern.monitoring.metrics.catalogue import CATALOGUE

KNOWN = Known(CATALOGUE.values())
OWN = """
[rules.disk-low]
below = 5e9
clear = 6e9

[rules.my-rule]
kind = "metric"
severity = "info"
function = "rate"
metric = "discern_verdicts_total"
match = ['decision="flag"']
by = ["detector"]
above = 2.5
for = "5m"
summary = "{detector} flags {value} a second"
description = "More than usual."

[rules.ledger-slow]
enabled = false
"""


def read(tmp_path: Path, text: str) -> Table:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    return AlertTable(path, KNOWN).open()


def of(table: Table, name: str) -> Rule | None:
    return next((one for one in table.rules if one.name == name), None)


def test_without_a_file_the_shipped_rules_hold_and_go_to_the_log(tmp_path: Path) -> None:
    table = AlertTable(tmp_path / "none.toml", KNOWN).open()
    assert len(table.rules) >= 20
    assert all(one.shipped and one.runbook for one in table.rules)
    assert [one.name for one in table.channels] == ["log"]
    assert table.routes[0].channels == ("log",)
    assert {one.kind for one in table.rules} == {
        *("metric", "drift", "quality", "health", "backup", "certificate", "budget", "security")
    }


def test_a_rule_is_changed_key_by_key_added_or_switched_off(tmp_path: Path) -> None:
    table = read(tmp_path, OWN)
    disk, mine = of(table, "disk-low"), of(table, "my-rule")
    assert disk is not None
    assert (disk.below, disk.clear, disk.severity, disk.lasting) == (5e9, 6e9, "critical", 15)
    assert mine is not None
    assert (mine.lasting, mine.above, mine.by, str(mine.metric.matchers[0])) == (
        300,
        2.5,
        ("detector",),
        'decision="flag"',
    )
    moved = of(read(tmp_path, "[rules.disk-low]\nbelow = 4e9\n"), "disk-low")
    assert moved is not None
    assert (moved.below, moved.clear) == (4e9, 6e9), "where it comes back moves along"
    assert of(table, "ledger-slow") is None
    assert table.off == ("ledger-slow",)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "[rules.disk-low]\nbelow = 5e9\nabov = 1\n",
            3,
            "rules.disk-low.abov: there is no such key. Did you mean above?",
        ),
        ("[rules.disk-low]\nbelow = 'much'\n", 2, "rules.disk-low.below: 'much' is no time"),
        ("[rules.disk-low]\nfor = -5\n", 2, "rules.disk-low.for: it is below zero"),
        ("[rules.disk-lwo]\nbelow = 5e9\n", 1, "no rule that is shipped is called that. Did you mean disk-low?"),
        ("\n\n[rules.fresh]\nkind = 'metric'\n", 3, "rules.fresh: it lacks the key severity"),
        ("[rules.disk-low]\nseverity = 'awful'\n", 2, "'awful' is none of critical, warning, info"),
        ("[rules.disk-low]\nclear = 1e9\n", 2, "under the threshold"),
        ("[rules.disk-low]\nabove = 1\nbelow = 2\n", 2, "give either above or below"),
        ("[rules.disk-low]\nmetric = 'discern_host_disk_fre_bytes'\n", 2, "did you mean discern_host_disk_free_bytes"),
        ("[rules.disk-low]\nby = ['disk']\n", 2, "has no label disk"),
        ("[rules.disk-low]\nsummary = '{disk}'\n", 2, "{disk} is no label of the rule"),
        ("[rules.disk-low]\nsummary = '{value.real}'\n", 2, "is no placeholder"),
        ("[rules.disk-low]\nfunction = 'rate'\n", 2, "is a gauge, and the function rate is of counters"),
        ("[rules.disk-low]\nmatch = ['a==b']\n", 2, "is no matcher"),
        ("[rules.http-errors]\nmatch = ['status=~\"(a+)+\"']\n", 2, "is not a pattern"),
        ("[rules.Disk]\nbelow = 1\n", 1, "no rule can be called that"),
        ("[rules]\ndisk-low = 5\n", 2, "it is no table"),
        ("[rules.disk-low\nbelow = 1\n", 1, "it is not valid TOML"),
        (
            "[[inhibitions]]\nwhen = []\nmutes = []\n[[inhibitions]]\nwhen = []\nmute = []\n",
            6,
            "there is no such key. Did you mean mutes?",
        ),
        ("[chanels.a]\nkind = 'log'\n", 1, "there is no such table"),
        ("[channels.a]\nkind = 'fax'\n", 2, "is none of apprise, webhook, log"),
        ("[channels.a]\nkind = 'apprise'\n", 1, "it needs a url or a url_file"),
        ("[channels.a]\nkind = 'webhook'\nurl_file = 'nowhere'\n", 3, "nowhere cannot be read"),
        ("[channels.a]\nkind = 'apprise'\nurl = 'x://y'\nallow = '300.0.0.0'\n", 4, "does not appear to be an IPv4"),
        ("[[routes]]\nchannels = ['a']\n", 2, "there is no channel 'a'"),
        ("[[routes]]\nchannels = ['log']\nrepeat = '1s'\n", 3, "must be 5s at least"),
        ("[[routes]]\nchannels = ['log']\nescalate = [{after = '5m', channels = ['boss']}]\n", 3, "no channel 'boss'"),
        ("[[routes]]\nchannels = ['log']\nescalate = [{after = -60, channels = ['log']}]\n", 3, "it is after -60"),
        (
            "[[routes]]\nchannels = ['log']\nescalate = [{after = 60, channels = []}, {after = 5, channels = []}]\n",
            3,
            "it is after 5 seconds, and a step comes before the one ahead of it",
        ),
        ("[[routes]]\nchannels = ['log']\ngroup_by = ['two words']\n", 3, "cannot be the name of a label"),
        ('[rules.disk-low]\nsummary = "one\\nBcc: all@example.org"\n', 2, "it is not one line"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_key(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        read(tmp_path, text)
    assert f"alerts.toml:{line}: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://user:word-of-pass@hooks.example/x", "ftp://hooks.example/tokentoken", "tokentoken"]
)
def test_what_is_wrong_with_a_url_is_said_without_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        read(tmp_path, f"[channels.hook]\nkind = 'webhook'\nurl = '{url}'\n")
    assert url not in repr(refused.value) + str(refused.value) + str(refused.value.facts)
    assert "word-of-pass" not in str(refused.value)


def test_a_secret_may_lie_in_a_file_and_is_in_no_description_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "hook.url").write_text("https://hooks.example/tokentoken\n")
    table = read(tmp_path, "[channels.hook]\nkind = 'webhook'\nurl_file = 'hook.url'\nsecret = 'signing-word'\n")
    hook = table.channels[-1]
    assert hook.url == "https://hooks.example/tokentoken"
    assert "tokentoken" not in repr(table)
    assert "signing-word" not in repr(table)


def test_channels_and_routes_are_read(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        """
[channels.log]
kind = "log"
enabled = false
[channels.mail]
kind = "apprise"
url = "mailto://mail.example?from=a@b.c&to=d@e.f"
[channels.boss]
kind = "webhook"
url = "https://hooks.example/boss"
allow = "10.0.0.0/8"
[[routes]]
name = "urgent"
match = ['severity="critical"']
channels = ["mail"]
group_by = ["alertname", "workspace"]
repeat = "1h"
escalate = [{ after = "15m", channels = ["boss"] }]
[[routes]]
channels = ["mail"]
resolved = false
""",
    )
    assert [one.name for one in table.channels] == ["mail", "boss"]
    urgent, rest = table.routes
    assert (urgent.repeat, urgent.group_by, urgent.escalate[0].after) == (3600, ("alertname", "workspace"), 900)
    assert (rest.name, rest.resolved, rest.match) == ("route-2", False, ())


def test_the_shipped_table_says_nothing_twice_and_checks_clean() -> None:
    names = [line for line in shipped().text.splitlines() if line.startswith("[rules.")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ('a="x"', {"a": "x"}, {"a": "y"}),
        ('a!="x"', {}, {"a": "x"}),
        ('a=~"5.."', {"a": "503"}, {"a": "5030"}),
        ('a=~"x|y.*"', {"a": "yes"}, {"a": "no"}),
        ('a!~"x.+"', {"a": "x"}, {"a": "xy"}),
        (r'a="q\"q"', {"a": 'q"q'}, {"a": "qq"}),
        (r'a=~"a\.b"', {"a": "a.b"}, {"a": "axb"}),
    ],
)
def test_matchers_mean_what_they_mean_to_prometheus(text: str, holds: dict[str, str], fails: dict[str, str]) -> None:
    matcher = parsed(text)
    assert matches([matcher], holds)
    assert not matches([matcher], fails)
    assert parsed(str(matcher)) == matcher


@pytest.mark.parametrize(
    "text", ['a=~"(a+)+"', 'a=~"[a-z]+"', 'a=~"a{9}"', 'a=~".*.*.*.*"', "a", 'a="', f'a="{"x" * 300}"', 'a=~"x**"']
)
def test_no_pattern_is_taken_that_could_take_long(text: str) -> None:
    with pytest.raises(MalformedRequest):
        parsed(text)


def test_times_and_values_are_read_and_written_as_people_do() -> None:
    assert [seconds_of(one) for one in ("30s", "1h30m", "14d", "1d12h", "0.5s")] == [30, 5400, 1_209_600, 129_600, 0.5]
    assert [time_of(one) for one in (30, 5400, 1_209_600, 0, 0.25)] == ["30s", "1h30m", "14d", "0s", "250ms"]
    for wrong in ("", "5", "m", "5 m", "-5m"):
        with pytest.raises(ValueError, match="no time"):
            seconds_of(wrong)
    assert [shown(0.123, "percent"), shown(3e9, "bytes"), shown(90, "time"), shown(None)] == [
        *("12.3%", "3 GB", "1m30s", "?")
    ]


def test_the_same_words_become_a_template_of_prometheus() -> None:
    words = "{detector} at {value:percent} of {value}"
    assert filled(words, {"detector": "x"}, 0.5) == "x at 50% of 0.5"
    assert templated(words) == "{{ $labels.detector }} at {{ $value | humanizePercentage }} of {{ $value }}"
