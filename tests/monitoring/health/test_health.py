"""People are told how the installation is, why, and what it did by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.testclient import TestClient

from discern.app import Services
from discern.app_http import create_app
from discern.core.breakers import Breakers
from discern.core.errors import StorageUnavailable
from discern.core.measures import Measures
from discern.monitoring.health.rules import concluded
from discern.monitoring.health.service import BreakerWatch, HealthService
from discern.monitoring.health.service_happenings import KEPT, MOST_WAITING, HappeningLog
from discern.monitoring.health.store import HappeningStore
from discern.monitoring.health.types import BreakerHealth, PartHealth
from discern.monitoring.types import Happening
from tests.commands import Run

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
UP = PartHealth("database", up=True, needed=True)


def certificate(path: Path, until: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "discern.example.org")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, until - timedelta(days=90), until)
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_all_well_is_said_so(client: TestClient) -> None:
    found = client.get("/v1/health").json()
    assert found["status"] == "ok"
    assert found["sentence"] == "Every part answers."
    assert {part["name"] for part in found["parts"]} == {"database", "detectors", "objects"}
    assert found["breakers"][0] | {"seconds": 0.0} == {
        "part": "store",
        "name": "ledger",
        "state": "closed",
        "seconds": 0.0,
        "failures": 0,
        "reason": None,
        "workspace": None,
    }


def test_a_part_that_is_down_is_named_with_the_reason(services: Services, client: TestClient) -> None:
    services.database.close()
    found = client.get("/readyz")
    assert found.status_code == 503
    assert found.json()["parts"]["database"] == "storage_unavailable"
    health = services.monitoring.health.look(None)
    assert health.status == "failing"
    assert health.sentence == "Database does not answer (The database is not open.)."


@pytest.mark.parametrize(
    ("parts", "breakers", "expires", "status", "sentence"),
    [
        ([UP], [], None, "ok", "Every part answers."),
        (
            [UP, PartHealth("objects", up=False, needed=False, code="objects_unavailable", reason="No bucket.")],
            [],
            None,
            "degraded",
            "Objects does not answer (No bucket.).",
        ),
        (
            [UP],
            [BreakerHealth("stage", "toy/screen", "half-open", 3.0, 5, "it broke")],
            None,
            "degraded",
            "Stage toy/screen is left alone (it broke).",
        ),
        ([UP], [], NOW + timedelta(days=13), "degraded", "The certificate expires at 2026-05-14T12:00+00:00."),
        ([UP], [], NOW, "degraded", "The certificate has expired at 2026-05-01T12:00+00:00."),
        ([UP], [], NOW + timedelta(days=15), "ok", "Every part answers."),
    ],
)
def test_the_worst_is_the_status(
    parts: list[PartHealth],
    breakers: list[BreakerHealth],
    expires: datetime | None,
    status: str,
    sentence: str,
) -> None:
    assert concluded(parts, breakers, expires, NOW) == (status, sentence)


def test_a_needed_part_that_is_down_is_failing_whatever_else() -> None:
    down = PartHealth("database", up=False, needed=True, code="storage_unavailable", reason="Gone.")
    beside = PartHealth("objects", up=False, needed=False, code="objects_unavailable", reason="Gone too.")
    said = "Database does not answer (Gone.); objects does not answer (Gone too.)."
    assert concluded([beside, down], [], None, NOW) == ("failing", said)


def test_a_certificate_s_end_is_a_metric(services: Services, tmp_path: Path) -> None:
    health = HealthService(
        {},
        {},
        Breakers(),
        HappeningStore(services.database),
        certificate(tmp_path / "tls.pem", NOW + timedelta(days=3)),
        clock=lambda: NOW,
    )
    assert {sample.name: sample.value for sample in health.samples()} == {
        "discern_certificate_expiry_seconds": 3 * 86_400
    }


def test_a_breaker_that_opens_is_a_happening_and_counted(two_workspaces: Services) -> None:
    log = HappeningLog(HappeningStore(two_workspaces.database), clock=lambda: NOW)
    breakers, measures = Breakers(), Measures()
    BreakerWatch(breakers, log, measures)
    guard = breakers.guard("stage", "toy/screen")
    for _ in range(5):
        guard.failed("it broke")
    log.flush()
    found = HappeningStore(two_workspaces.database).newest(None, 10)
    assert [(one.kind, one.about, one.at, one.facts["reason"]) for one in found] == [
        ("breaker.opened", "stage toy/screen", NOW, "it broke")
    ]
    [tell] = measures.labelled
    assert list(tell()) == [("discern_breaker_state", ("stage", "toy/screen"), 2.0)]
    assert measures.counted() == {("discern_breaker_openings_total", ("stage", "toy/screen")): 1}


def test_what_happened_to_one_workspace_another_does_not_see(two_workspaces: Services) -> None:
    log = two_workspaces.monitoring.happenings
    log.tell("drift.began", "toy-record", workspace="other", subject="score")
    log.flush()
    told: dict[str, list[str]] = {}
    for workspace in ("default", "other"):
        client = TestClient(create_app(two_workspaces))
        for role in ("owner", "auditor"):
            secret = two_workspaces.keys.issue(workspace, role, role=role).secret
            answer = client.get("/v1/health", headers={"Authorization": f"Bearer {secret}"})
            told[f"{workspace} {role}"] = [one["kind"] for one in answer.json()["happenings"]]
    assert told == {
        "default owner": ["drift.began"],
        "default auditor": [],
        "other owner": ["drift.began"],
        "other auditor": ["drift.began"],
    }


class Down:
    """A store that does not answer, until it does."""

    def __init__(self) -> None:
        self.is_down = True
        self.written: list[Happening] = []

    def append(self, found: list[Happening]) -> None:
        if self.is_down:
            raise StorageUnavailable("It does not answer.")
        self.written += found

    def forget(self, before: datetime) -> int:
        assert before == NOW - KEPT
        return 0


def test_what_cannot_be_written_waits_and_what_is_lost_is_said() -> None:
    store = Down()
    log = HappeningLog(store, clock=lambda: NOW)  # type: ignore[arg-type]
    for number in range(MOST_WAITING + 5):
        log.tell("breaker.opened", f"stage {number}")
    log.flush()
    assert store.written == []
    store.is_down = False
    log.flush()
    log.flush()
    assert len(store.written) == MOST_WAITING + 1
    assert store.written[0].facts == {"lost": 5}
    assert [one.about for one in store.written[1:]] == [f"stage {number}" for number in range(5, MOST_WAITING + 5)]


class Telling(Down):
    """One to whose log as much is told while it writes as that holds."""

    log: HappeningLog | None = None

    def append(self, found: list[Happening]) -> None:
        for number in range(MOST_WAITING if self.log else 0):
            assert self.log is not None
            self.log.tell("breaker.opened", f"later {number}")
        super().append(found)


@pytest.mark.parametrize("is_down", [False, True])
def test_what_is_told_while_others_are_written_takes_no_place_of_theirs(is_down: bool) -> None:
    store = Telling()
    store.log = log = HappeningLog(store, clock=lambda: NOW)  # type: ignore[arg-type]
    store.is_down = is_down
    log.tell("breaker.opened", "first")
    log.flush()
    store.is_down, store.log = False, None
    log.flush()
    lost = [one.facts for one in store.written if one.kind == "happenings.lost"]
    assert lost == ([{"lost": 1}] if is_down else [])
    later = [f"later {number}" for number in range(MOST_WAITING)]
    assert [one.about for one in store.written if one.kind != "happenings.lost"] == (
        [] if is_down else ["first"]
    ) + later


def test_what_happened_long_ago_is_forgotten(two_workspaces: Services) -> None:
    store = HappeningStore(two_workspaces.database)
    store.append([Happening("a.b", "old", NOW - KEPT - timedelta(days=1), "default", {})])
    store.append([Happening("a.b", "young", NOW, "default", {})])
    HappeningLog(store, clock=lambda: NOW).flush()
    assert [one.about for one in store.newest(None, 10)] == ["young"]


def test_the_command_says_it_in_words_and_in_json(services: Services, run: Run) -> None:
    services.monitoring.happenings.tell("session.replaced", "toy/screen", reason="the device is gone")
    services.monitoring.happenings.flush()
    code, out, _ = run("health")
    assert code == 0
    assert out.startswith("ok: Every part answers.")
    assert "session.replaced" in out
    code, out, _ = run("health", "--json")
    assert json.loads(out)["status"] == "ok"


def test_hosts_that_workspaces_named_are_theirs_to_see_and_no_label(two_workspaces: Services) -> None:
    breakers, measures, store = Breakers(), Measures(), HappeningStore(two_workspaces.database)
    BreakerWatch(breakers, HappeningLog(store), measures)
    health = HealthService({}, {}, breakers, store, None)
    guards = breakers.guards("webhook", 10)
    for _ in range(5):
        guards.of("other", "hooks.other.example:443").failed("TimeoutError")
    for workspace, sees in (("other", True), ("default", False), (None, True)):
        found = health.look(workspace)
        assert (found.status, found.sentence) == ("ok", "Every part answers.")
        seen = [(one.workspace, one.reason) for one in found.breakers if one.part == "webhook"]
        assert seen == ([("other", "TimeoutError")] if sees else [])
    states = [sample for source in measures.labelled for sample in source()]
    assert states == [("discern_breaker_state", ("webhook", "any"), 2.0)]


def test_a_workspace_is_not_told_why_a_part_of_the_installation_does_not_answer(services: Services) -> None:
    def down() -> None:
        raise StorageUnavailable("The database at /srv/secret/place does not answer.")

    breakers = Breakers()
    guard = breakers.guard("channel", "ops")
    for _ in range(5):
        guard.failed("mail.internal.example is 10.1.2.3")
    health = HealthService({"database": down}, {}, breakers, HappeningStore(services.database), None)
    theirs, ours = (repr(health.look(workspace)) for workspace in ("other", None))
    assert "/srv/secret/place" in ours
    assert "10.1.2.3" in ours
    assert "/srv/secret/place" not in theirs
    assert "10.1.2.3" not in theirs
