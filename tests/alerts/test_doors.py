"""Through every door somebody sees the alerts that are theirs, and what they do about them is on record."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.access.types import Role
from discern.alerts import service
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.errors import InvalidSettings
from discern.core.ids import uuid7
from discern.monitoring.types import Sample
from discern.settings import load_settings
from tests.alerts.parts import Clock, Kept, Watch, fires, level, rule, table, webhook
from tests.commands import Run

pytestmark = pytest.mark.system
NOW = datetime.now(UTC)
TOML = """
[channels.hook]
kind = "webhook"
url = "{url}"
allow = "127.0.0.1/32"
secret = "signing-word-of-nobody"
"""


@pytest.fixture
def services(home: Path) -> Any:
    with webhook() as posted:
        (home / "alerts.toml").write_text(TOML.format(url=posted.url))
        services = build_services(load_settings({"DISCERN_HOME": str(home)}))
        services.open()
        services.workspaces.create("other")
        yield services
        services.close()


def client_of(
    services: Services, role: Role = "owner", workspace: str = "default", detectors: tuple[str, ...] | None = None
) -> TestClient:
    client = TestClient(create_app(services), raise_server_exceptions=False)
    secret = services.keys.issue(workspace, f"k{uuid7()}", role=role, detectors=detectors).secret
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def seen(client: TestClient, query: str = "") -> list[str]:
    answer = client.get(f"/v1/alerts{query}")
    assert answer.status_code == 200, answer.text
    return sorted(one["summary"] for one in answer.json()["alerts"])


def acts(services: Services, workspace: str = "default") -> list[str]:
    page = services.audit_store.page(workspace, 50, None)
    return [f"{one.act.act} {one.act.outcome}" for one in page.entries if one.act.act.startswith("alerts.")]


def test_a_workspace_sees_its_own_and_operators_of_the_first_what_concerns_all(services: Services) -> None:
    fires(services, "ours", "default")
    fires(services, "theirs", "other")
    fires(services, "disk")
    assert seen(client_of(services)) == ["disk", "ours"]
    assert seen(client_of(services, "operator")) == ["disk", "ours"]
    assert seen(client_of(services, "analyst")) == ["ours"]
    assert seen(client_of(services, "owner", "other")) == ["theirs"]
    assert seen(client_of(services, "owner", "default", ("ours",))) == ["ours"]
    assert seen(client_of(services, "owner", "default", ("another",))) == []
    assert client_of(services, "service").get("/v1/alerts").status_code == 403
    assert client_of(services, "reviewer").get("/v1/alerts").status_code == 403


def test_what_one_may_not_see_one_cannot_touch(services: Services) -> None:
    theirs, disk = fires(services, "theirs", "other"), fires(services, "disk")
    for client in (client_of(services), client_of(services, "analyst")):
        answer = client.get(f"/v1/alerts/{theirs.id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_alert")
    assert client_of(services).post(f"/v1/alerts/{theirs.id}/acknowledge", json={}).status_code == 404
    stranger = client_of(services, "owner", "other")
    assert stranger.post(f"/v1/alerts/{disk.id}/acknowledge", json={}).status_code == 404
    assert client_of(services, "analyst").post(f"/v1/alerts/{disk.id}/acknowledge", json={}).status_code == 403


def test_who_sees_to_an_alert_is_on_record(services: Services) -> None:
    client, alert = client_of(services, "operator"), fires(services)
    answer = client.post(f"/v1/alerts/{alert.id}/acknowledge", json={"comment": "on it"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["acknowledged_by"].startswith("key:")
    again = client.post(f"/v1/alerts/{alert.id}/acknowledge", json={})
    assert again.json()["acknowledged_at"] == answer.json()["acknowledged_at"]
    details = client.get(f"/v1/alerts/{alert.id}").json()
    assert [(one["what"], one["detail"]) for one in details["history"]] == [("fired", None), ("acknowledged", "on it")]
    assert acts(services) == ["alerts.acknowledge done"]
    assert client.post(f"/v1/alerts/{alert.id}/acknowledge", json={"coment": "x"}).status_code == 400


def test_pages_go_on_where_the_last_ended(services: Services) -> None:
    for number in range(7):
        fires(services, f"d{number}")
    client = client_of(services)
    found, after = [], ""
    while True:
        page = client.get(f"/v1/alerts?limit=3{after}").json()
        found += [one["summary"] for one in page["alerts"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == [f"d{number}" for number in range(6, -1, -1)]
    assert seen(client, "?state=resolved") == []
    assert client.get("/v1/alerts?state=odd").status_code == 422


def test_a_silence_is_made_changed_and_ended(services: Services) -> None:
    client = client_of(services, "operator")
    asked = {"matchers": ['alertname="DiscernDiskLow"'], "comment": "upgrade", "seconds": 3600}
    made = client.post("/v1/silences", json=asked)
    assert made.status_code == 201, made.text
    one = f"/v1/silences/{made.json()['id']}"
    later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    assert client.patch(one, json={"ends_at": later}).status_code == 200
    assert client.get(one).json()["comment"] == "upgrade"
    assert [found["id"] for found in client.get("/v1/silences").json()["silences"]] == [made.json()["id"]]
    assert client_of(services, "owner", "other").get(one).status_code == 404
    assert client.delete(one).status_code == 200
    assert client.get("/v1/silences").json()["silences"] == []
    assert acts(services) == ["alerts.unsilence done", "alerts.silence done", "alerts.silence done"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"comment": " "}, "bad_request"),
        ({"matchers": []}, "bad_request"),
        ({"matchers": ["odd"]}, "malformed_request"),
        ({"matchers": ['a=~"(x+)+"']}, "malformed_request"),
        ({"matchers": ['a="b"'] * 11}, "malformed_request"),
        ({"seconds": -5}, "bad_request"),
        ({"seconds": 1e300}, "bad_request"),
        ({"seconds": None}, "bad_request"),
        ({"ends_at": "2001-01-01T00:00:00Z", "seconds": None}, "bad_request"),
        ({"ends_at": "2101-01-01T00:00:00Z", "seconds": None}, "bad_request"),
        ({"ends_at": "2101-01-01T00:00:00", "seconds": None}, "malformed_request"),
        ({"starts_at": "2101-01-01T00:00:00Z"}, "bad_request"),
        ({"starts_at": "9999-12-31T23:59:59Z", "seconds": 3600}, "bad_request"),
        ({"starts_at": "0001-01-01T00:00:00Z"}, "bad_request"),
        ({"comment": "x" * 2000}, "bad_request"),
        ({"comment": "\x1b[2Jnothing to see"}, "bad_request"),
        ({"comment": "x\x00y"}, "bad_request"),
        ({"until": "tomorrow"}, "malformed_request"),
    ],
)
def test_a_silence_that_cannot_be_is_refused(services: Services, change: dict[str, Any], code: str) -> None:
    asked = {"matchers": ['alertname="X"'], "comment": "why", "seconds": 60} | change
    answer = client_of(services).post("/v1/silences", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_only_who_looks_after_all_silences_all_and_tries_channels(services: Services) -> None:
    other = client_of(services, "owner", "other")
    asked = {"matchers": ['a="b"'], "comment": "c", "seconds": 60, "everywhere": True}
    assert other.post("/v1/silences", json=asked).status_code == 403
    assert other.post("/v1/alerts/test", json={"channel": "hook"}).status_code == 403
    assert client_of(services).post("/v1/silences", json=asked).status_code == 201
    assert client_of(services, "owner", "default", ("x",)).post("/v1/silences", json=asked).status_code == 403


def test_a_silence_of_all_workspaces_is_seen_by_all_and_changed_by_those_who_look_after_all(
    services: Services,
) -> None:
    asked = {"matchers": ['a="b"'], "comment": "upgrade", "seconds": 60, "everywhere": True}
    one = f"/v1/silences/{client_of(services).post('/v1/silences', json=asked).json()['id']}"
    other = client_of(services, "owner", "other")
    assert other.get(one).json()["comment"] == "upgrade"
    assert other.patch(one, json={"comment": "theirs"}).status_code == 403
    assert other.delete(one).status_code == 403
    assert [found["comment"] for found in other.get("/v1/silences").json()["silences"]] == ["upgrade"]
    assert client_of(services, "operator").delete(one).status_code == 200


def test_a_workspace_that_has_all_the_silences_it_may_have_keeps_no_other_from_silencing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MOST_SILENCES", 2)
    asked = {"matchers": ['a="b"'], "comment": "c", "seconds": 60}
    other = client_of(services, "owner", "other")
    assert [other.post("/v1/silences", json=asked).status_code for _ in range(3)] == [201, 201, 400]
    assert client_of(services).post("/v1/silences", json=asked).status_code == 201


def test_a_channel_is_tried_and_nothing_secret_is_answered(services: Services, home: Path) -> None:
    client = client_of(services)
    answer = client.post("/v1/alerts/test", json={"channel": "hook"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["attempts"][0]["outcome"]) == ("delivered", "delivered")
    unknown = client.post("/v1/alerts/test", json={"channel": "fax"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_channel")
    assert acts(services) == ["alerts.test done"]
    everything = "".join(
        client.get(path).text
        for path in ("/v1/alerts", "/v1/audit", "/openapi.json", f"/v1/alerts/{fires(services).id}")
    )
    for secret in ("secret-token-of-the-path", "signing-word-of-nobody"):
        assert secret not in everything + answer.text
        assert secret.encode() not in (home / "discern.db").read_bytes()


def test_a_table_that_is_wrong_stops_the_start(home: Path) -> None:
    (home / "alerts.toml").write_text("[rules.disk-low]\nbelo = 5\n")
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    with pytest.raises(InvalidSettings, match=r"alerts\.toml:2"):
        create_app(services)


def test_metrics_of_alerts_are_what_the_database_has(services: Services, tmp_path: Path) -> None:
    watch = Watch(services.database, table(rule()), tmp_path, Clock(), {"mail": Kept()})
    watch.turn(level(11))
    found = {(one.name, *one.labels): one.value for one in services.monitoring.alerts.collect()}
    assert found["discern_alerts", "warning", "firing"] == 1
    assert found["discern_alerts", "critical", "firing"] == 0
    assert found["discern_notifications_total", "mail", "delivered"] == 1
    assert found["discern_notifications_total", "hook", "delivered"] == 0
    assert found["discern_notifications_waiting", "hook"] == 0
    assert isinstance(next(iter(services.monitoring.alerts.collect())), Sample)


# ---- The command line ---------------------------------------------------------------------------------------------


def test_alerts_are_listed_shown_and_acknowledged_on_the_command_line(run: Run, services: Services) -> None:
    assert run("alert", "list").out == "There is no alert.\n"
    theirs, disk = fires(services, "theirs", "other"), fires(services, "disk")
    assert run("alert", "list", "--state", "pending").out == "No alert is pending.\n"
    listed = run("alert", "list")
    assert listed.code == 0, listed.err
    assert str(theirs.id) in listed.out
    assert "other" in listed.out
    assert run("alert", "ack", disk.id, "-c", "on it").out == f"{disk.id} is seen to by local.\n"
    shown = run("alert", "show", disk.id)
    assert "acknowledged local on it" in shown.out
    assert run("alert", "show", uuid7()).code == 1
    assert "is no id" in run("alert", "show", "x").err
    assert "no state" in run("alert", "list", "--state", "odd").err


def test_silences_are_made_listed_and_ended_on_the_command_line(run: Run, services: Services) -> None:
    made = run("alert", "silence", 'alertname="DiscernDiskLow"', "--for", "2h", "-c", "upgrade")
    assert made.code == 0, made.err
    listed = run("alert", "silence")
    assert 'alertname="DiscernDiskLow"' in listed.out
    assert "upgrade" in listed.out
    assert run("alert", "unsilence", made.out.split()[0]).code == 0
    assert "upgrade" not in run("alert", "silence").out
    assert "`discern alert silence` shows them" in run("alert", "unsilence", "x").err
    assert "is no time" in run("alert", "silence", 'a="b"', "--for", "soon", "-c", "x").err


def test_rules_are_listed_checked_and_printed_for_prometheus(run: Run, home: Path) -> None:
    assert "the shipped table" in run("alert", "rules", "--check").out
    (home / "alerts.toml").write_text("[rules.disk-low]\nbelow = 5e9\n[rules.memory-low]\nenabled = false\n")
    assert f"{home / 'alerts.toml'} is right" in run("alert", "rules", "--check").out
    listed = run("alert", "rules")
    assert "alerts.toml" in listed.out
    assert "switched off" in listed.out
    assert "DiscernDiskLow" in run("alert", "rules", "--prometheus").out
    assert "DiscernMemoryLow" not in run("alert", "rules", "--prometheus").out
    (home / "alerts.toml").write_text("[rules.disk-low]\nbelo = 5e9\n")
    for arguments in (["--check"], ["--prometheus"], []):
        refused = run("alert", "rules", *arguments)
        assert refused.code == 1
        assert "alerts.toml:2: rules.disk-low.belo: there is no such key. Did you mean below?" in refused.err


def test_channels_are_listed_and_tried_on_the_command_line(run: Run, services: Services, home: Path) -> None:
    listed = run("alert", "channels").out
    assert "hook" in listed
    assert "secret-token-of-the-path" not in listed
    tried = run("alert", "test", "hook")
    assert tried.out.startswith("hook took it after"), tried.err
    (home / "alerts.toml").write_text(TOML.format(url="http://127.0.0.1:1/secret-token-of-the-path"))
    failed = run("alert", "test", "hook")
    assert failed.code == 1
    assert "Connection" in failed.err
    assert "secret-token-of-the-path" not in failed.err
    # A test that fails is an attempt that did, and nothing that somebody should have been told.
    assert dict(services.monitoring.alerts.desk._store.notices.counts()) == {
        ("hook", "delivered"): 1,
        ("hook", "failed"): 1,
    }
    assert "no channel" in run("alert", "test", "fax").err


def test_the_rule_file_that_is_shipped_is_the_one_that_is_printed_and_promtool_takes_it(run: Run) -> None:
    import shutil

    shipped = Path(__file__).parents[2] / "deploy" / "monitoring" / "discern-rules.yaml"
    assert run("alert", "rules", "--prometheus").out == shipped.read_text()
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    checked = subprocess.run([promtool, "check", "rules", str(shipped)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert json.dumps(checked.stdout).count("rules found") == 1
