"""What `/metrics` answers: to whom, in which words, and in accord with the catalogue, the ledger and the audit log."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from discern.access.types import Role
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.detection.types import VerdictQuery
from discern.http.permissions import NEEDS
from discern.monitoring.metrics.catalogue import CATALOGUE, sample_names
from discern.settings import load_settings

RECORD = {"a": 1, "b": 0.5, "c": -1}
ASK = "/v1/detectors/toy-record/verdicts"
TOKEN = "a word that only Prometheus knows"
# What there is only with a driver, or after something that the tests do not bring about.
NOT_HERE = {"discern_gpu_utilization_ratio", "discern_gpu_memory_used_bytes"}


@pytest.fixture
def app(two_workspaces: Services) -> TestClient:
    client = TestClient(create_app(two_workspaces), raise_server_exceptions=False)
    client.headers.update(key(two_workspaces))
    return client


def key(services: Services, workspace: str = "default", role: Role = "owner", **grants: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {services.keys.issue(workspace, 'k', role=role, **grants).secret}"}


def samples(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of its labels in the order of their names."""
    text = client.get("/metrics").raise_for_status().text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def fresh(services: Services) -> TestClient:
    """A client of a process that has told nothing within the last second."""
    client = TestClient(create_app(services), raise_server_exceptions=False)
    client.headers.update(key(services))
    services.monitoring.metrics._known = None
    return client


def test_metrics_are_for_those_who_look_after_the_whole_and_nobody_else(
    app: TestClient, two_workspaces: Services
) -> None:
    codes = {
        (workspace, role): app.get("/metrics", headers=key(two_workspaces, workspace, role)).status_code
        for workspace in ("default", "other")
        for role in ("owner", "operator", "auditor", "analyst", "service", "device")
    }
    let_in = {("default", "owner"), ("default", "operator"), ("default", "auditor")}
    assert {who for who, code in codes.items() if code == 200} == let_in
    assert set(codes.values()) == {200, 403}
    restricted = key(two_workspaces, detectors=("toy-record",))
    assert app.get("/metrics", headers=restricted).status_code == 403
    stranger = TestClient(app.app)
    assert stranger.get("/metrics").status_code == 401
    assert "default" not in stranger.get("/metrics").text


def test_a_token_opens_the_metrics_and_nothing_else(home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home), "DISCERN_METRICS_TOKEN": TOKEN}))
    services.open()
    client = TestClient(create_app(services), headers={"Authorization": f"Bearer {TOKEN}"})
    assert client.get("/metrics").status_code == 200
    assert client.get("/v1/verdicts").status_code == 401
    assert client.get("/v1/audit").status_code == 401
    for wrong in ("", TOKEN[:-1], f"{TOKEN}.", "ä"):
        headers = {b"Authorization": b"Bearer " + wrong.encode()}
        assert client.get("/metrics", headers=headers).status_code == 401
    services.close()


def test_without_a_token_no_empty_one_is_good(client: TestClient) -> None:
    for sent in ("Bearer", "Bearer ", "Bearer  "):
        assert client.get("/metrics", headers={"Authorization": sent}).status_code == 401


def test_promtool_finds_nothing_wrong(app: TestClient) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    exercise(app)
    text = app.get("/metrics").text
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_openmetrics_is_given_to_whoever_asks_for_it(app: TestClient) -> None:
    app.post(ASK, json=RECORD)
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    answer = app.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.headers["cache-control"] == "no-store"
    read: Any = parsed_openmetrics  # it says no types
    families = {family.name for family in read(answer.text)}
    assert {"discern_verdicts", "discern_http_request_duration_seconds", "discern_build_info"} <= families
    assert app.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def exercise(client: TestClient) -> None:
    """Bring about what is counted only once it has happened."""
    client.post(ASK, json=RECORD)
    client.get("/v1/verdicts", headers={"Authorization": "Bearer dsc_wrong"})


def test_what_is_exported_is_what_the_catalogue_says(app: TestClient, two_workspaces: Services) -> None:
    exercise(app)
    measures = two_workspaces.counts.measures
    measures.count("discern_stage_failures_total", "toy-record", "only")
    measures.gauges["discern_http_requests_in_progress"] = lambda: 0.0  # the server asks it of its connections
    two_workspaces.counts.add("limits.header_bytes")
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in text_string_to_metric_families(app.get("/metrics").text)
    }
    others = {name for name, metric in CATALOGUE.items() if metric.of not in OURS}
    assert set(CATALOGUE) - others - set(families) <= NOT_HERE
    assert set(families) <= set(CATALOGUE)
    for name, family in families.items():
        metric = CATALOGUE[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert sample.name in set(sample_names(metric))
            assert set(sample.labels) - {"le"} == set(metric.labels)


OURS = {"access", "batches", "cache and limits", "cascade", "host", "http", "jobs and streams", "ledger", "processes"}
OURS |= {"verdicts"}


def test_every_metric_is_in_the_reference_and_nothing_else(app: TestClient) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(discern_\w+)", page, flags=re.MULTILINE))
    assert named == set(CATALOGUE)


def test_names_and_labels_follow_the_conventions() -> None:
    for name, metric in CATALOGUE.items():
        assert re.fullmatch(r"discern_[a-z0-9_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert not re.search(r"_(milliseconds|ms|percent|count|sum|bucket)$", name), name
        assert bool(metric.buckets) == (metric.kind == "histogram"), name
        assert list(metric.buckets) == sorted(set(metric.buckets)), name
        assert metric.help.endswith("."), name
        assert not {"le", "quantile", "instance", "job"} & set(metric.labels), name


def test_metrics_ledger_and_audit_log_agree(app: TestClient, two_workspaces: Services) -> None:
    other = key(two_workspaces, "other")
    for number in range(5):
        assert app.post(ASK, json=RECORD | {"a": number % 3}).status_code == 200
        assert app.post(f"{ASK}:batch", json=[RECORD, {"a": "x"}, RECORD | {"a": 50}], headers=other).status_code == 200
    assert app.get("/v1/users", headers=key(two_workspaces, "other", "service")).status_code == 403
    two_workspaces.monitoring.metrics._known = None
    verdicts = samples(app, "discern_verdicts_total")
    ledger = Counter(
        (one.decision, one.detector, one.version, workspace)
        for workspace in ("default", "other")
        for one in two_workspaces.verdicts.page(VerdictQuery(workspace, limit=500)).verdicts
    )
    assert verdicts == ledger
    assert sum(verdicts.values()) == 15
    exits = samples(app, "discern_stage_exits_total")
    assert (sum(exits.values()), samples(app, "discern_stage_inputs_total")) == (15, exits)
    assert sum(samples(app, "discern_verdict_duration_seconds_count").values()) == 15
    cached = samples(app, "discern_verdicts_cached_total")
    assert sum(cached.values()) == samples(app, "discern_cache_lookups_total")["hit",] == 2
    audit = Counter(
        (entry.act.act, entry.act.outcome)
        for workspace in ("default", "other")
        for entry in two_workspaces.audit_store.all(workspace)
    )
    assert samples(app, "discern_audit_entries_total") == audit
    assert samples(app, "discern_denials_total") == {(): 1} == {(): audit["users.read", "denied"]}


def test_a_restored_database_is_counted_anew(two_workspaces: Services) -> None:
    store = two_workspaces.audit_store
    before = store.counted()
    assert store.counted() == before
    key(two_workspaces)
    assert store.counted()["keys.create", "done"] == before.get(("keys.create", "done"), 0) + 1
    store._counted_to["default"] += 5  # the entries that a backup does not have
    assert store.counted()["keys.create", "done"] == before.get(("keys.create", "done"), 0) + 1


def test_why_somebody_was_not_let_in_is_counted(app: TestClient, two_workspaces: Services) -> None:
    two_workspaces.users.create("default", "a.person", "several words of a person", role="owner")
    anonymous = TestClient(app.app)
    wrong = ("Bearer dsc_wrong", "Bearer eyJhbGciOi.e30.x", "Bearer ")
    for headers in ({}, {"Cookie": "discern_session=dss_x"}, *({"Authorization": one} for one in wrong)):
        assert anonymous.get("/v1/verdicts", headers=headers).status_code == 401
    login = {"name": "a.person", "password": "several other words"}
    assert anonymous.post("/v1/login", json=login).status_code == 401
    found = samples(app, "discern_authentication_failures_total")
    assert found == {("none",): 2, ("key",): 1, ("token",): 1, ("session",): 1, ("password",): 1}


def test_a_limit_that_a_request_meets_is_counted_by_its_name(app: TestClient, two_workspaces: Services) -> None:
    settings = two_workspaces.settings
    header = struct.pack(">4s2I5B", b"IHDR", 30_000, 30_000, 8, 0, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    refused = (
        (ASK, b"0" * (settings.record_bytes + 1)),
        ("/v1/detectors/toy-image/verdicts", picture),
        ("/v1/labels", b"{}\n" * (settings.batch_records + 1)),
    )
    for path, body in refused:
        answer = app.post(path, content=body, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 413, answer.text
    assert samples(app, "discern_limits_total") == {("record_bytes",): 1, ("image_pixels",): 1, ("batch_records",): 1}


def test_no_label_is_made_of_what_a_caller_sends(app: TestClient, two_workspaces: Services) -> None:
    evil = 'x"} 1\ndiscern_made_up{a="'
    for number in range(40):
        app.get(f"/v1/nowhere/{number}")
        app.get(f"/v1/verdicts/{number}-not-an-id")
        app.post(f"/v1/detectors/none-{number}/verdicts", json=RECORD)
        app.request(f"VERB{number}", "/v1/verdicts")
        app.get("/v1/verdicts", headers={"Authorization": f"Bearer word-{number}", "X-Request-Id": f"id-{number}"})
        app.post(ASK, json={f"field-{number}": evil}, headers={"User-Agent": evil.replace("\n", "")})
        app.get(f"/v1/verdicts?detector=none-{number}")
    text = fresh(two_workspaces).get("/metrics").text
    assert "made_up" not in text
    for word in ("nowhere", "none-", "VERB", "word-", "id-", "field-", "not-an-id"):
        assert word not in text
    series = [line for line in text.splitlines() if not line.startswith("#") and "_bucket" not in line]
    assert len(series) < 150
    routes = {labels[1] for labels in samples(app, "discern_http_request_duration_seconds_count")}
    assert routes <= {route.partition(" ")[2] for route in NEEDS} | {""}


def test_a_refused_request_counts_for_its_route(app: TestClient, two_workspaces: Services) -> None:
    assert app.get("/v1/audit", headers=key(two_workspaces, role="service")).status_code == 403
    assert app.get("/v1/detectors/toy-record").status_code == 200
    assert app.post(ASK, json={"a": "wrong"}).status_code == 422
    found = samples(app, "discern_http_request_duration_seconds_count")
    assert found["GET", "/v1/audit", "403"] == 1
    assert found["GET", "/v1/detectors/{name}", "200"] == 1
    assert found["POST", "/v1/detectors/{name}/verdicts", "422"] == 1


def test_without_the_library_the_answer_says_what_to_install(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    answer = client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (501, "missing_extra")
    assert "server" in answer.text
