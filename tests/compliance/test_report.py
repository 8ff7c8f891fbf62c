"""What a report shows of a running installation, what it flags, and what it never says."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from discern.access.types import ApiKey, User
from discern.app import Services, build_services
from discern.app_http import create_app
from discern.audit.types import Fault, Gap, Resumption, Verification
from discern.compliance import rules
from discern.compliance.service_standards import standards
from discern.compliance.types import FRAMEWORKS, Control, Evidence, Installation, Kept, Report, State
from discern.core.ids import uuid7
from discern.settings import load_settings
from tests.commands import Run

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PASSWORD = "several words of a person"
PLAIN = Installation(
    version="1.2.3",
    database="SQLite",
    durability="normal",
    has_tls=False,
    takes_client_certificates=False,
    is_local=True,
    trusted_proxies=0,
    cors_origins=0,
    rate_limits="",
    limits={"image_bytes": 5},
    anchors_in="home folder",
    anchor_seconds=60,
)
KEPT = (Kept("verdicts", None), Kept("jobs", 7200))
replace = msgspec.structs.replace


def key(**members: Any) -> ApiKey:
    return ApiKey(uuid7(), "default", "pipeline of ann", "service", NOW - timedelta(days=200), **members)


def user(role: Any, **members: Any) -> User:
    return User(uuid7(), "default", "ann@example.org", role, NOW, **members)


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({}, "attention", "Plain HTTP, on this machine alone"),
        ({"is_local": False}, "attention", "Plain HTTP, on the network"),
        ({"has_tls": True}, "shown", "TLS 1.3"),
        ({"has_tls": True, "takes_client_certificates": True}, "shown", "client certificates"),
        ({"trusted_proxies": 2}, "operator", "left to the trusted proxies"),
    ],
)
def test_how_callers_are_spoken_to(changes: dict[str, Any], state: State, said: str) -> None:
    found = rules.transport(replace(PLAIN, **changes))
    assert (found.state, said in found.says) == (state, True)
    assert bool(found.unknown) == (state == "operator")


def test_settings_that_leave_something_open_want_attention_and_others_do_not() -> None:
    full = replace(PLAIN, durability="full", rate_limits="key 5/second", anchors_in="URL")
    looks: list[Callable[[Installation], Evidence]] = [rules.durability, rules.limits, rules.audit_anchor]
    for look in looks:
        assert (look(PLAIN).state, look(full).state) == ("attention", "shown")
    assert (rules.retention(KEPT).state, rules.retention(KEPT[1:]).state) == ("attention", "shown")
    assert rules.limits(full).facts == {"rate_limits": "key 5/second", "image_bytes": 5}
    one_route = rules.limits(replace(PLAIN, rate_limits="key 5/second POST /v1/keys"))
    assert (one_route.state, "single routes alone" in one_route.says) == ("attention", True)
    assert rules.retention(KEPT).facts == {"verdicts": None, "jobs": 7200}
    assert "jobs 2 h" in rules.retention(KEPT).says
    assert rules.version(PLAIN).says == "Discern 1.2.3 on SQLite."
    assert rules.proxies(replace(PLAIN, trusted_proxies=1)).says.startswith("1 network of proxies")


@pytest.mark.parametrize(
    ("faults", "gaps", "anchors", "state", "unknown"),
    [
        (0, 0, 3, "shown", False),
        (0, 0, None, "attention", True),
        (0, 0, 0, "attention", True),
        (2, 0, 3, "attention", False),
        (0, 1, 3, "attention", False),
    ],
)
def test_whether_the_audit_log_holds_and_against_what(
    faults: int, gaps: int, anchors: int | None, state: State, unknown: bool
) -> None:
    seen = Verification(
        entries=5,
        faults=tuple(Fault(n, "Entry 1 of ann was changed.") for n in range(faults)),
        gaps=(Gap(4, Resumption(3, "0" * 64, 3, ((9, "0" * 64),)), "Entries 4 to 9 were anchored and lost."),) * gaps,
        anchors=anchors,
        is_chain_whole=not faults,
        last=5,
        lost=(),
        fitting=(),
    )
    found = rules.audit_log(seen)
    assert (found.state, bool(found.unknown)) == (state, unknown)
    assert found.facts == {"entries": 5, "faults": faults, "gaps": gaps, "anchors": anchors}
    assert ("DOES NOT HOLD" in found.says) == bool(faults)
    assert ("1 acknowledged gap" in found.says) == bool(gaps)
    assert "5 entries" in found.says


def test_keys_without_an_end_and_keys_that_nobody_uses_are_counted() -> None:
    end, recently = NOW + timedelta(days=1), NOW - timedelta(days=89)
    good = key(expires_at=end, last_used_at=recently)
    assert rules.keys([good], NOW).state == "shown"
    found = rules.keys(
        [
            good,
            key(last_used_at=recently),
            key(expires_at=end),  # made long ago, never used
            key(expires_at=end, last_used_at=NOW - timedelta(days=91), certificate_sha256="0" * 64),
            key(revoked_at=NOW),
            key(expires_at=NOW),
        ],
        NOW,
    )
    assert found.state == "attention"
    by_role = {"service": 4}
    assert found.facts == {
        "live": 4,
        "without_end": 1,
        "unused_for_90_days": 2,
        "by_certificate": 1,
        "by_role": by_role,
    }


def test_users_are_counted_by_role_and_by_how_they_come_in() -> None:
    people = [user("owner"), user("owner"), user("auditor", locked_until=NOW), user("owner", disabled_at=NOW)]
    ways = {people[0].id: ("password", "totp")}
    found = rules.users(people, lambda one: ways.get(one.id, ("password",)), {"owner"})
    assert found.state == "attention"  # one owner has a password alone
    assert "1 must enrol a second factor" in found.says
    assert rules.users(people, lambda one: ways.get(one.id, ("password",)), ()).state == "shown"
    assert found.facts == {
        "owner": {"users": 2, "password": 2, "totp": 1},
        "auditor": {"users": 1, "password": 1},
        "disabled": 1,
        "locked": 1,
        "without_the_demanded_factor": 1,
    }
    assert "3 users can sign in, 1 disabled, 1 locked. auditor: password 1, users 1; owner:" in found.says


def test_another_policy_is_another_digest_and_the_place_of_a_file_is_not() -> None:
    shipped = {"roles.cedar (shipped)": "permit"}
    digests = {
        rules.policies(texts).facts["sha256"]
        for texts in (shipped, shipped | {"/a/own.cedar": "x"}, shipped | {"/b/own.cedar": "x"}, {"x": "y"})
    }
    assert len(digests) == 3
    assert rules.policies(shipped | {"/a/own.cedar": "x"}).facts["own_files"] == 1
    assert "/a" not in rules.policies(shipped | {"/a/own.cedar": "x"}).says


def test_a_control_is_as_its_weakest_evidence_and_the_operator_s_without() -> None:
    found: dict[Any, Evidence] = {
        "keys": Evidence("keys", "shown", ""),
        "transport": Evidence("transport", "operator", ""),
        "audit_log": Evidence("audit_log", "attention", ""),
    }
    states = [
        rules.state_of(Control("1", "x", evidence=names), found)
        for names in ((), ("keys",), ("keys", "transport"), ("keys", "transport", "audit_log"))
    ]
    assert states == ["operator", "shown", "operator", "attention"]


def test_every_control_of_every_standard_is_in_the_report_with_its_evidence(services: Services) -> None:
    report = services.compliance.report("default")
    given = [(item.framework, item.number) for item in report.items]
    assert given == [(name, control.number) for name, one in standards().items() for control in one.controls]
    names = {one.name for one in report.evidence}
    assert {name for item in report.items for name in item.evidence} == names == set(_all_names())
    only = services.compliance.report("default", ("ccpa",))
    assert {item.framework for item in only.items} == {"ccpa"}


def _all_names() -> tuple[str, ...]:
    from typing import get_args

    from discern.compliance.types import EvidenceName

    names: tuple[str, ...] = get_args(EvidenceName)
    return names


def evidence_of(report: Any) -> dict[str, Any]:
    found = msgspec.to_builtins(report) if isinstance(report, Report) else report
    return {one["name"]: one for one in found["evidence"]}


def test_the_report_says_what_is_so_in_a_running_installation(services: Services, home: Path) -> None:
    services.keys.issue("default", "pipeline", role="service")
    services.users.create("default", "ann@example.org", PASSWORD, role="owner")
    services.audit.anchor(now=True)
    found = evidence_of(services.compliance.report("default"))
    assert found["audit_log"]["facts"] == {"entries": 2, "faults": 0, "gaps": 0, "anchors": 1}
    assert found["audit_log"]["state"] == "shown"
    assert found["keys"]["facts"]["without_end"] == 1
    assert found["users"]["facts"]["owner"] == {"users": 1, "password": 1}
    assert {"toy-record 1.0.0", "card-fraud 1.1.0"} <= set(found["detectors"]["facts"]["signed"])
    version = home / "detectors" / "toy-record" / "1.0.0"
    (version / "CARD.md").write_bytes((version / "CARD.md").read_bytes() + b" ")
    (version.parent / "touched").mkdir()  # a version that comes has the others looked at anew
    (version.parent / "touched").rmdir()
    with sqlite3.connect(home / "discern.db") as connection:
        connection.execute("UPDATE audit_entries SET body = replace(body, 'pipeline', 'pipelinX')")
    report = services.compliance.report("default")
    found = evidence_of(report)
    assert (found["audit_log"]["state"], found["audit_log"]["facts"]["faults"]) == ("attention", 1)
    assert (found["detectors"]["state"], found["detectors"]["facts"]["refused"]) == ("attention", ["toy-record 1.0.0"])
    logging = next(item for item in report.items if item.number == "A.8.15")
    assert logging.state == "attention"


def test_neither_secrets_nor_names_nor_places_are_in_it(tmp_path: Path, furnished_home: Path) -> None:
    home = Path(shutil.copytree(furnished_home, tmp_path / "home-of-zebedee"))
    (home / "policies").mkdir()
    (home / "policies" / "wishes-of-zebedee.cedar").write_text("")
    settings = {
        "DISCERN_HOME": str(home),
        "DISCERN_WEBHOOK_SECRET": "hidden-word",
        "DISCERN_S3_SECRET_KEY": "hidden-word",
        "DISCERN_AUDIT_ANCHOR": str(tmp_path / "anchors-of-zebedee.jsonl"),
        "DISCERN_TRUSTED_PROXIES": "203.0.113.0/24",
        "DISCERN_CORS_ORIGINS": "https://zebedee.example.org",
    }
    services = build_services(load_settings(settings))
    services.open()
    secret = services.keys.issue("default", "key of zebedee", role="owner").secret
    services.users.create("default", "zebedee@example.org", PASSWORD, role="owner")
    answer = TestClient(create_app(services)).get(
        "/v1/compliance/report", headers={"Authorization": f"Bearer {secret}"}
    )
    text = answer.text + msgspec.json.encode(services.compliance.report("default")).decode()
    for hidden in ("zebedee", "hidden-word", secret, PASSWORD, "203.0.113", str(tmp_path)):
        assert hidden not in text
    services.close()


def test_what_cannot_be_looked_at_is_said_and_keeps_nothing_else_out(services: Services) -> None:
    services.database.close()
    report = services.compliance.report("default")
    found = evidence_of(report)
    for name in ("audit_log", "users", "keys", "retention"):
        assert (found[name]["state"], found[name]["facts"]) == ("attention", {"error": "storage_unavailable"})
    assert found["detectors"]["state"] == "shown"
    assert len([one for one in report.not_established if "storage_unavailable" in one]) == 4
    services.database.open()


def test_owners_and_auditors_ask_over_http_and_see_the_detectors_they_may(services: Services) -> None:
    client = TestClient(create_app(services), raise_server_exceptions=False)

    def ask(query: str = "", **given: Any) -> Any:
        secret = services.keys.issue("default", "k", **given).secret
        return client.get(f"/v1/compliance/report{query}", headers={"Authorization": f"Bearer {secret}"})

    whole = ask(role="auditor")
    assert (whole.status_code, whole.json()["told_by"]) == (200, "server")
    assert {item["framework"] for item in whole.json()["items"]} == set(FRAMEWORKS)
    msgspec.json.decode(whole.content, type=Report)
    narrow = ask("?framework=soc2", role="owner", detectors=("toy-image",))
    assert evidence_of(narrow.json())["detectors"]["facts"]["signed"] == ["toy-image 1.0.0"]
    assert {item["framework"] for item in narrow.json()["items"]} == {"soc2"}
    assert ask(role="operator").status_code == 403
    wrong = ask("?framework=pci", role="owner")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_parameter")


def test_the_policies_it_tells_of_are_those_that_were_read(services: Services, home: Path) -> None:
    def digest(of: Services) -> Any:
        return evidence_of(of.compliance.report("default"))["policies"]["facts"]["sha256"]

    before = digest(services)
    (home / "policies").mkdir()
    (home / "policies" / "own.cedar").write_text("permit (principal, action, resource);")
    assert digest(services) == before  # this process decides by what it read when it started
    assert digest(build_services(services.settings)) != before


def test_a_workspace_is_told_of_its_own_alone(services: Services) -> None:
    services.workspaces.create("other")
    for _ in range(3):
        services.keys.issue("default", "k")
    assert evidence_of(services.compliance.report("other"))["keys"]["facts"]["live"] == 0
    assert evidence_of(services.compliance.report("default"))["keys"]["facts"]["live"] == 3


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "compliance", "report")


def test_the_command_prints_it_and_writes_it(run: Run, tmp_path: Path) -> None:
    code, out, _ = run()
    assert code == 0
    for standard in standards().values():
        assert f"\n{standard.title} ({standard.source})\n" in out
    assert "no certificate" in out
    assert "was started with the settings of this command" in out
    code, out, _ = run("-f", "gdpr", "--framework", "nist-csf", "--json")
    told = json.loads(out)
    assert (code, {item["framework"] for item in told["items"]}) == (0, {"gdpr", "nist-csf"})
    path = tmp_path / "report.json"
    path.write_text("as it was")
    code, out, err = run("--json", "-o", path)
    assert (code, out) == (0, "")
    assert "Wrote" in err
    assert json.loads(path.read_text())["told_by"] == "command line"


def test_what_is_typed_wrongly_is_said_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    for arguments, said in (
        (("-f", "pci"), "There is no framework 'pci'."),
        (("-w", "nobody"), "There is no workspace nobody."),
        (("-o", tmp_path / "nowhere" / "report.txt"), "cannot be written"),
    ):
        code, out, err = run(*arguments)
        assert (code, out, said in err) == (1, "", True), err
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_changed_by_asking(run: Run, home: Path, services: Services) -> None:
    services.keys.issue("default", "k")
    services.close()
    before = _rows(home)
    run("--json")
    assert _rows(home) == before


def _rows(home: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(home / "discern.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
