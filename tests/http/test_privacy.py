"""What a person may ask for: seen, forgotten, not judged without consent; and what is left of them on the disk."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from discern.access.types import Role
from discern.app import Services, build_services, bulk_parts
from discern.app_http import create_app
from discern.core.clock import utc_now
from discern.core.errors import (
    ConsentMissing,
    InvalidSettings,
    MalformedRequest,
    ObjectRefused,
    StorageUnavailable,
    SubjectsUnavailable,
    UnknownSubject,
)
from discern.core.sealing import key_id_of
from discern.detection.jobs.types import folder_of
from discern.detection.types import VerdictQuery
from discern.library import Discern
from discern.objects.types import Address
from discern.privacy.service import REMEMBERED_SECONDS
from discern.privacy.types import PrivacyRules
from discern.settings import Settings, load_settings
from tests.media import jpeg

pytestmark = pytest.mark.system
RECORD: dict[str, str | int | float | bool | None] = {"a": 1, "b": 0.5, "c": -1}
ASK = "/v1/detectors/toy-record/verdicts"
ANN = {"Discern-Subject": "customer-81723"}
BEN = {"Discern-Subject": "customer-99999"}


def asked(client: TestClient, headers: dict[str, str], **changes: float) -> dict[str, Any]:
    answer = client.post(ASK, json=RECORD | changes, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def export(client: TestClient, subject: str) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/v1/privacy/export", json={"subject": subject}).json()
    return found


def bodies(services: Services) -> dict[str, bytes]:
    with sqlite3.connect(services.settings.home / "discern.db") as database:
        rows = database.execute("SELECT id, body FROM verdicts").fetchall()
    return {str(UUID(verdict_id)): body for verdict_id, body in rows}


def test_a_verdict_about_a_subject_is_answered_and_read_as_any_other_and_sealed_on_the_disk(
    client: TestClient, services: Services
) -> None:
    about_ann, about_nobody = asked(client, ANN), asked(client, {})
    assert client.get(f"/v1/verdicts/{about_ann['id']}").json() == about_ann
    assert [one["id"] for one in client.get("/v1/verdicts").json()["verdicts"]] == [about_nobody["id"], about_ann["id"]]
    stored = bodies(services)
    assert json.loads(stored[about_nobody["id"]]) == about_nobody
    sealed = stored[about_ann["id"]]
    assert key_id_of(sealed) is not None
    assert about_ann["input"]["sha256"].encode() not in sealed
    services.database.close()
    home = services.settings.home
    kept = b"".join(path.read_bytes() for path in home.rglob("*.db*"))
    assert ANN["Discern-Subject"].encode() not in kept


def test_an_export_holds_all_that_is_kept_of_a_subject_and_of_nobody_else(client: TestClient) -> None:
    of_ann = [asked(client, ANN, a=float(number)) for number in range(3)]
    asked(client, BEN)
    asked(client, {})
    client.post("/v1/privacy/consents", json={"subject": "customer-81723", "given": True, "source": "form 7"})
    found = export(client, "customer-81723")
    assert found["verdicts"] == of_ann
    assert [(one["given"], one["source"]) for one in found["consents"]] == [(True, "form 7")]
    assert client.post("/v1/privacy/export", json={"subject": "nobody"}).status_code == 404


def test_an_export_lists_the_jobs_of_a_subject_and_of_nobody_else(client: TestClient, services: Services) -> None:
    ask = "/v1/detectors/toy-record/jobs"
    ended, waiting = (client.post(ask, json=RECORD, headers=ANN).json() for _ in range(2))
    client.post(ask, json=RECORD, headers=BEN)
    problem = {"code": "invalid_record", "detail": "a: 'Ann Smith' is not a number"}
    services.job_store.finish(UUID(ended["id"]), "failed", utc_now(), error=problem)
    found = export(client, "customer-81723")["jobs"]
    assert [one["id"] for one in found] == [ended["id"], waiting["id"]]
    first, second = found
    assert (first["state"], first["detector"], first["error"]) == ("failed", "toy-record", problem)
    assert first["created_at"] == ended["created_at"]
    assert first["finished_at"] is not None
    assert [one["input_kept"] for one in found] == [False, True]
    assert second["bytes"] == waiting["bytes"] > 0
    (act, *_) = (entry.act for entry in services.audit_store.page("default", 50, None).entries)
    assert (act.act, act.after) == ("privacy.export", {"verdicts": 0, "jobs": 2, "consents": 0, "labels": 0})
    client.post("/v1/privacy/erase", json={"subject": "customer-81723"})
    assert client.post("/v1/privacy/export", json={"subject": "customer-81723"}).status_code == 404


def test_who_is_erased_is_gone_from_every_answer_and_others_are_not(client: TestClient, services: Services) -> None:
    of_ann, of_ben = asked(client, ANN), asked(client, BEN)
    done = client.post("/v1/privacy/erase", json={"subject": "customer-81723"}).json()
    assert (done["verdicts"], done["jobs"]) == (1, 0)
    assert client.get(f"/v1/verdicts/{of_ann['id']}").status_code == 404
    assert [one["id"] for one in client.get("/v1/verdicts").json()["verdicts"]] == [of_ben["id"]]
    assert client.post("/v1/privacy/export", json={"subject": "customer-81723"}).status_code == 404
    assert client.post("/v1/privacy/erase", json={"subject": "customer-81723"}).status_code == 404
    again = asked(client, ANN)  # a customer who comes back is another one
    assert [one["id"] for one in export(client, "customer-81723")["verdicts"]] == [again["id"]]
    acts = [entry.act for entry in services.audit_store.page("default", 50, None).entries]
    erasures = [act for act in acts if act.act == "privacy.erase"]
    assert [act.after for act in erasures] == [{"verdicts": 1, "jobs": 0, "labels": 0}, None]
    assert all("81723" not in str(act) for act in acts)


def test_a_shredded_key_is_on_no_page_of_any_file(client: TestClient, services: Services) -> None:
    asked(client, ANN)
    reference = services.subjects.reference("default", "customer-81723")
    stored = services.subjects.store.get("default", reference)
    assert stored is not None
    home = services.settings.home

    def is_somewhere() -> bool:
        return any(stored.wrapped.blob in path.read_bytes() for path in home.rglob("*") if path.is_file())

    assert is_somewhere()
    client.post("/v1/privacy/erase", json={"subject": "customer-81723"})
    assert not is_somewhere()


def test_a_restored_ledger_does_not_bring_the_subject_back(settings: Settings, tmp_path: Path) -> None:
    home, backup = settings.home, tmp_path / "backup"
    with Discern(settings) as discern:
        verdict = discern.detect(RECORD, "toy-record", subject="customer-81723")
        other = discern.detect(RECORD, "toy-record")
    backup.mkdir()
    shutil.copy(home / "discern.db", backup)  # keys of subjects are in no backup of the ledger
    services = build_services(settings)
    services.open()
    services.privacy.erase("default", "customer-81723")
    services.close()
    for path in home.glob("discern.db*"):
        path.unlink()
    shutil.copy(backup / "discern.db", home)
    services = build_services(settings)
    services.open()
    try:
        assert UUID(verdict.id) in [UUID(one) for one in bodies(services)]
        page = services.verdicts.page(VerdictQuery("default"))  # it is there, and nobody can read it
        assert [one.id for one in page.verdicts] == [other.id]
        assert services.verdicts.get("default", UUID(verdict.id)) is None
        with pytest.raises(UnknownSubject):
            services.privacy.export("default", "customer-81723")
        assert services.privacy.reapply() == 1
        assert list(bodies(services)) == [other.id]
        assert services.privacy.reapply() == 0
    finally:
        services.close()


def test_a_backup_with_the_master_key_but_without_the_subjects_key_reads_nothing(
    client: TestClient, services: Services
) -> None:
    verdict = asked(client, ANN)
    body = bodies(services)[verdict["id"]]
    client.post("/v1/privacy/erase", json={"subject": "customer-81723"})
    key_id = key_id_of(body)
    assert key_id is not None
    assert services.subjects.keys("default", [key_id]) == {}


def test_a_sealed_body_that_was_moved_or_changed_is_not_believed(client: TestClient, services: Services) -> None:
    first, second = asked(client, ANN, a=1), asked(client, ANN, a=2)
    stored = bodies(services)
    with sqlite3.connect(services.settings.home / "discern.db") as database:
        database.execute(
            "UPDATE verdicts SET body = ? WHERE id = ?", (stored[first["id"]], second["id"].replace("-", ""))
        )
    assert client.get(f"/v1/verdicts/{first['id']}").status_code == 200
    assert client.get(f"/v1/verdicts/{second['id']}").status_code == 503
    with pytest.raises(StorageUnavailable, match="seal"):
        services.verdicts.get("default", UUID(second["id"]))


def test_every_door_takes_a_subject(client: TestClient, services: Services) -> None:
    batch = client.post(f"{ASK}:batch", json=[RECORD, RECORD | {"a": 2}], headers=ANN)
    assert batch.status_code == 200
    image = client.post("/v1/detectors/toy-image/verdicts", content=jpeg(3), headers=ANN)
    tensors = {"inputs": [{"name": name, "shape": [1], "datatype": "FP32", "data": [1.0]} for name in "abc"]}
    infer = client.post("/v2/models/toy-record/infer", json=tensors, headers=ANN)
    assert (image.status_code, infer.status_code) == (200, 200), infer.text
    with client.websocket_connect("/v1/detectors/toy-record/stream", headers=ANN) as stream:
        stream.send_text(json.dumps(RECORD))
        assert stream.receive_json()["type"] == "verdict"
    with Discern(services.settings) as discern:
        discern.detect(RECORD, "toy-record", subject="customer-81723")
    assert len(export(client, "customer-81723")["verdicts"]) == 6


def test_a_table_is_about_no_single_subject(client: TestClient) -> None:
    lines = b'{"a": 1, "b": 1, "c": 1}\n'
    headers = ANN | {"Content-Type": "application/x-ndjson"}
    answer = client.post("/v1/detectors/toy-record/jobs", content=lines, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_job_of_somebody_who_was_erased_is_not_judged(client: TestClient, services: Services) -> None:
    job = client.post("/v1/detectors/toy-record/jobs", json=RECORD, headers=ANN).json()
    assert len(job["subject"]) == 64
    folder = folder_of(job["id"])
    assert services.objects.names("default", folder) == ["input"]
    home = services.settings.home
    with sqlite3.connect(home / "discern.db") as database:
        ((key,),) = database.execute("SELECT wrapped FROM objects").fetchall()
    database.close()
    assert client.post("/v1/privacy/erase", json={"subject": "customer-81723"}).json()["jobs"] == 1
    assert not [path.name for path in home.glob("discern.db*") if key in path.read_bytes()]
    found = client.get(f"/v1/jobs/{job['id']}").json()
    assert (found["state"], found["subject"]) == ("cancelled", None)
    assert services.objects.names("default", folder) == []


def test_where_consent_is_asked_for_nobody_is_judged_without(client: TestClient, services: Services) -> None:
    asked(client, {})
    assert client.put("/v1/privacy", json={"consent_required": True}).json()["rules"] == {"consent_required": True}
    for headers in ({}, ANN):
        answer = client.post(ASK, json=RECORD, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "consent_missing")
        assert client.post(f"{ASK}:batch", json=[RECORD], headers=headers).status_code == 403
        assert client.post("/v1/detectors/toy-record/jobs", json=RECORD, headers=headers).status_code == 403
        assert client.post("/v2/models/toy-record/infer", json={}, headers=headers).status_code == 403
    with pytest.raises(ConsentMissing), Discern(services.settings) as discern:
        discern.detect(RECORD, "toy-record")
    client.post("/v1/privacy/consents", json={"subject": "customer-81723", "given": True})
    asked(client, ANN)
    assert client.post(ASK, json=RECORD, headers=BEN).status_code == 403
    client.post("/v1/privacy/consents", json={"subject": "customer-81723", "given": False})
    assert client.post(ASK, json=RECORD, headers=ANN).status_code == 403
    client.put("/v1/privacy", json={"consent_required": False})
    asked(client, {})


def test_consent_is_asked_for_in_one_workspace_alone(client: TestClient, services: Services) -> None:
    services.workspaces.create("other")
    secret = services.keys.issue("other", "k", role="owner").secret
    client.put("/v1/privacy", json={"consent_required": True})
    assert client.post(ASK, json=RECORD, headers={"Authorization": f"Bearer {secret}"}).status_code == 200


def test_a_subject_of_one_workspace_is_nobody_in_another(client: TestClient, services: Services) -> None:
    services.workspaces.create("other")
    secret = services.keys.issue("other", "k", role="owner").secret
    asked(client, ANN)
    headers = {"Authorization": f"Bearer {secret}"}
    for act in ("export", "erase"):
        answer = client.post(f"/v1/privacy/{act}", json={"subject": "customer-81723"}, headers=headers)
        assert answer.status_code == 404
    assert len(export(client, "customer-81723")["verdicts"]) == 1
    assert services.subjects.reference("default", "x") != services.subjects.reference("other", "x")


@pytest.mark.parametrize("name", [b"", b"x" * 201, b" x", b"a\tb"])
def test_what_cannot_name_a_subject_is_refused(client: TestClient, name: bytes) -> None:
    answer = client.post(ASK, json=RECORD, headers=[(b"discern-subject", name)])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_two_subjects_in_one_question_are_refused(client: TestClient) -> None:
    answer = client.post(ASK, json=RECORD, headers=[("discern-subject", "a"), ("discern-subject", "b")])
    assert answer.status_code == 400
    assert client.get("/v1/verdicts").json()["verdicts"] == []


def test_a_name_may_be_in_any_script(client: TestClient, services: Services) -> None:
    answer = client.post(ASK, json=RECORD, headers=[(b"discern-subject", "Zoë 王".encode())])
    assert answer.status_code == 200
    assert len(services.privacy.export("default", "Zoë 王").verdicts) == 1


def test_nothing_about_a_subject_is_answered_from_the_cache_or_kept_in_it(client: TestClient) -> None:
    asked(client, {})
    assert asked(client, {})["cached"]
    assert not asked(client, ANN)["cached"]
    assert not asked(client, ANN, a=7)["cached"]
    assert not asked(client, {}, a=7)["cached"]


def test_a_stream_ends_when_its_subject_is_erased(client: TestClient) -> None:
    with client.websocket_connect("/v1/detectors/toy-record/stream", headers=ANN) as stream:
        stream.send_text(json.dumps(RECORD))
        stream.receive_json()
        client.post("/v1/privacy/erase", json={"subject": "customer-81723"})
        message = stream.receive()
    assert (message["type"], message["code"]) == ("websocket.close", 1008)


def test_another_process_knows_of_an_erasure_and_of_a_rule_within_seconds(services: Services) -> None:
    now = [0.0]
    other = build_services(services.settings)
    other.open()
    other.subjects._monotonic = lambda: now[0]
    try:
        subject = other.subjects.admit("default", "customer-81723")
        assert subject is not None
        services.privacy.erase("default", "customer-81723")
        now[0] += REMEMBERED_SECONDS + 0.1
        assert other.subjects.keys("default", [subject.key_id]) == {}
        assert other.subjects.may_be_unnamed("default") is False  # asked again, not waited for
        assert other.subjects.admit("default", None) is None
        assert other.subjects.may_be_unnamed("default") is True
    finally:
        other.close()


def test_an_installation_without_names_has_no_keys(client: TestClient, services: Services) -> None:
    asked(client, {})
    assert services.privacy.counts("default") == (0, 0)
    assert services.privacy.reapply() == 0
    assert not (services.settings.home / "subject-keys.db").exists()


def test_on_postgresql_the_keys_need_a_database_of_their_own(home: Path, postgresql_url: str) -> None:
    environment = {"DISCERN_HOME": str(home), "DISCERN_DATABASE_URL": postgresql_url}
    services = build_services(load_settings(environment))
    services.open()
    try:
        assert services.subjects.admit("default", None) is None
        with pytest.raises(SubjectsUnavailable):
            services.privacy.set_rules("default", type(services.privacy.rules("default"))(consent_required=True))
        key = services.keys.issue("default", "one", role="owner").secret
        with TestClient(create_app(services), headers={"Authorization": f"Bearer {key}"}) as client:
            asked(client, {})
            answers = [
                client.post(ASK, json=RECORD, headers=ANN),
                client.post("/v1/privacy/export", json={"subject": "customer-81723"}),
            ]
        for answer in answers:
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (503, "subjects_unavailable")
            assert "DISCERN_SUBJECT_KEYS_URL" in problem["mend"]
    finally:
        services.close()
    with pytest.raises(InvalidSettings, match="names the database of the ledger"):
        build_services(load_settings(environment | {"DISCERN_SUBJECT_KEYS_URL": postgresql_url}))


def test_on_postgresql_a_subject_is_exported_and_erased(
    home: Path, postgresql_url: str, postgresql_server: Any
) -> None:
    postgresql_server.psql("CREATE DATABASE subject_keys_of_a_test")
    environment = {
        "DISCERN_HOME": str(home),
        "DISCERN_DATABASE_URL": postgresql_url,
        "DISCERN_SUBJECT_KEYS_URL": str(postgresql_server.get_uri(database="subject_keys_of_a_test")),
    }
    services = build_services(load_settings(environment))
    services.open()
    try:
        client = TestClient(create_app(services), raise_server_exceptions=False)
        client.headers["Authorization"] = f"Bearer {services.keys.issue('default', 'test', role='owner').secret}"
        verdict = asked(client, ANN)
        assert client.get(f"/v1/verdicts/{verdict['id']}").json() == verdict
        assert export(client, "customer-81723")["verdicts"] == [verdict]
        assert services.privacy.erase("default", "customer-81723").verdicts == 1
        assert client.get(f"/v1/verdicts/{verdict['id']}").status_code == 404
    finally:
        services.close()


def test_a_name_that_cannot_be_one_is_refused_by_the_library_too(services: Services) -> None:
    with pytest.raises(MalformedRequest):
        services.subjects.admit("default", "x" * 300)


def test_rotating_the_master_key_takes_the_subjects_keys_along(client: TestClient, services: Services) -> None:
    verdict = asked(client, ANN)
    (old,) = [use.version.id for use in services.rotation.list()]
    done = services.rotation.rotate("test")
    assert (done.keys, done.failed) == (2, 0)  # of the subject, and of the names of the workspace
    uses = {use.version.id: use.uses for use in services.rotation.list()}
    assert uses == {old: 0, done.key_id: 2}
    fresh = build_services(services.settings)
    fresh.open()
    try:
        assert fresh.verdicts.get("default", UUID(verdict["id"])) is not None
        assert len(fresh.privacy.export("default", "customer-81723").verdicts) == 1
    finally:
        fresh.close()


def test_the_input_of_a_job_hangs_on_the_subjects_key(client: TestClient, services: Services) -> None:
    job = client.post("/v1/detectors/toy-record/jobs", json=RECORD, headers=ANN).json()
    address = Address("default", folder_of(job["id"]), "input")
    with services.objects.open(address) as file:
        assert json.loads(file.read()) == RECORD
    services.subjects.shred("default", job["subject"], utc_now())
    with pytest.raises(ObjectRefused, match="erased"):
        services.objects.open(address)


def test_who_was_granted_single_detectors_neither_exports_nor_erases(client: TestClient, services: Services) -> None:
    asked(client, ANN)
    tries: tuple[tuple[Role, str, str, dict[str, Any]], ...] = (
        ("operator", "POST", "/v1/privacy/export", {"subject": "customer-81723"}),
        ("owner", "POST", "/v1/privacy/erase", {"subject": "customer-81723"}),
        ("owner", "PUT", "/v1/privacy", {"consent_required": True}),
    )
    for role, method, path, given in tries:
        secret = services.keys.issue("default", "k", role=role, detectors=("toy-record",)).secret
        answer = client.request(method, path, json=given, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 403
    assert len(export(client, "customer-81723")["verdicts"]) == 1


def test_an_erasure_that_stopped_half_way_is_finished_by_the_next_and_by_the_server(
    client: TestClient, services: Services
) -> None:
    verdict = asked(client, ANN)
    client.post("/v1/privacy/consents", json={"subject": "customer-81723", "given": True})
    reference = services.subjects.reference("default", "customer-81723")
    stored = services.subjects.store.get("default", reference)
    assert stored is not None
    services.subjects.store.shred("default", reference, utc_now())  # and then the process died
    assert any(stored.wrapped.blob in path.read_bytes() for path in services.settings.home.glob("subject-keys.db*"))
    done = client.post("/v1/privacy/erase", json={"subject": "customer-81723"}).json()
    assert done["verdicts"] == 1
    assert verdict["id"] not in bodies(services)
    assert not any(stored.wrapped.blob in path.read_bytes() for path in services.settings.home.rglob("*.db*"))
    assert client.post("/v1/privacy/erase", json={"subject": "customer-81723"}).status_code == 404


def test_a_restored_ledger_brings_back_no_consent(settings: Settings, tmp_path: Path) -> None:
    home, backup = settings.home, tmp_path / "backup"
    services = build_services(settings)
    services.open()
    services.privacy.set_rules("default", PrivacyRules(consent_required=True))
    services.privacy.record("default", "customer-81723", given=True, source="form of somebody")
    services.close()
    backup.mkdir()
    shutil.copy(home / "discern.db", backup)
    services = build_services(settings)
    services.open()
    assert services.subjects.admit("default", "customer-81723") is not None
    services.privacy.erase("default", "customer-81723")
    services.close()
    for path in home.glob("discern.db*"):
        path.unlink()
    shutil.copy(backup / "discern.db", home)
    services = build_services(settings)
    services.open()
    try:
        services.privacy.reapply()
        with pytest.raises(ConsentMissing):
            services.subjects.admit("default", "customer-81723")
    finally:
        services.close()


def test_nothing_that_somebody_sent_is_left_in_their_jobs(client: TestClient, services: Services) -> None:
    job = client.post(
        "/v1/detectors/toy-record/jobs?webhook=https://93.184.215.14/?who=ann", json=RECORD, headers=ANN
    ).json()
    problem = {"code": "invalid_record", "detail": "a: 'Ann Smith' is not a number"}
    services.job_store.finish(UUID(job["id"]), "failed", utc_now(), error=problem)
    assert "Ann Smith" in client.get(f"/v1/jobs/{job['id']}").text
    client.post("/v1/privacy/erase", json={"subject": "customer-81723"})
    left = client.get(f"/v1/jobs/{job['id']}").json()
    assert (left["state"], left["error"], left["webhook"], left["subject"]) == ("failed", None, None, None)


def test_who_is_refused_for_want_of_consent_leaves_no_key(client: TestClient, services: Services) -> None:
    client.put("/v1/privacy", json={"consent_required": True})
    for number in range(5):
        assert client.post(ASK, json=RECORD, headers={"Discern-Subject": f"stranger-{number}"}).status_code == 403
    assert client.get("/v1/privacy").json()["subjects"] == 0


def test_jobs_and_streams_from_before_consent_was_asked_for_are_held_to_it(
    client: TestClient, services: Services
) -> None:
    job = client.post("/v1/detectors/toy-record/jobs", json=RECORD).json()
    with client.websocket_connect("/v1/detectors/toy-record/stream") as stream:
        stream.send_text(json.dumps(RECORD))
        stream.receive_json()
        client.put("/v1/privacy", json={"consent_required": True})
        message = stream.receive()
    assert (message["type"], message["code"]) == ("websocket.close", 1008)
    taken = services.job_store.take(UUID(job["id"]), "here", utc_now(), utc_now())
    assert taken is not None
    with pytest.raises(ConsentMissing):
        services.jobs._subject_of(taken)
    with pytest.raises(ConsentMissing):
        bulk_parts(services)


def test_one_damaged_verdict_hides_no_other(client: TestClient, services: Services) -> None:
    good, bad = asked(client, ANN, a=1), asked(client, ANN, a=2)
    with sqlite3.connect(services.settings.home / "discern.db") as database:
        damaged = bodies(services)[bad["id"]][:-1] + b"?"
        database.execute("UPDATE verdicts SET body = ? WHERE id = ?", (damaged, bad["id"].replace("-", "")))
    assert [one["id"] for one in client.get("/v1/verdicts").json()["verdicts"]] == [good["id"]]
    assert client.get(f"/v1/verdicts/{bad['id']}").status_code == 503


def test_where_a_consent_can_be_looked_up_is_not_on_the_audit_log(client: TestClient, services: Services) -> None:
    given = {"subject": "customer-81723", "given": True, "source": "signed by Ann Smith"}
    assert client.post("/v1/privacy/consents", json=given).status_code == 201
    assert "Ann Smith" not in str(services.audit_store.page("default", 50, None))
