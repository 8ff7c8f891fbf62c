"""Second factors: what each of them opens and what it does not, and who must have one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pyotp
import pytest
from starlette.testclient import TestClient

from discern.access.rules import fingerprint
from discern.access.rules_factors import (
    CHALLENGE_TIME,
    CODES_AN_HOUR,
    ENROLMENT_TIME,
    FRESH_TIME,
    MOST_FACTORS,
    MOST_TRIES_OF_A_TICKET,
    TICKET_TIME,
)
from discern.access.service_users import FREE_FAILURES
from discern.access.types_factors import Proof, Visitor
from discern.app import Services, build_services
from discern.core.errors import Forbidden, InvalidSettings, Unauthenticated, WrongFactor, WrongPassword
from discern.core.signatures import is_signed
from discern.http.permissions import NEEDS, WHILE_ENROLLING
from discern.settings import Settings, load_settings
from tests.http.factors import NUMBER, PASSWORD, House, Person

pytestmark = pytest.mark.system
WRONG = "several words of somebody else"


@pytest.fixture
def house(services: Services) -> House:
    return House(services)


@pytest.fixture
def ann(house: House) -> Person:
    return house.person()


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_an_app_is_enrolled_and_asked_for_from_then_on(ann: Person, house: House) -> None:
    before = ann.log_in().json()
    assert (before["session"]["factor"], before["principal"]["enrolling"]) == (None, False)
    begun = ann.post("/v1/factors", {"kind": "totp", "name": " phone "})
    assert begun.status_code == 201
    ann.app = pyotp.parse_uri(begun.json()["url"])  # type: ignore[assignment]
    assert ann.app is not None
    assert (ann.app.name, ann.app.issuer, ann.app.secret) == ("ann", "Discern", begun.json()["secret"])
    # It opens nothing until it is confirmed.
    assert ann.log_in().status_code == 201
    assert ann.browser.get("/v1/factors").json()["factors"] == []
    ann.confirm(begun.json(), code=ann.code())
    assert [one["name"] for one in ann.browser.get("/v1/factors").json()["factors"]] == ["phone"]
    house.clock.wait(30)
    answer = ann.log_in()
    assert (answer.status_code, "set-cookie" in answer.headers) == (202, False)
    assert [one["kind"] for one in answer.json()["factors"]] == ["totp"]
    finished = ann.finish(answer.json()["ticket"], kind="totp", code=ann.code())
    assert (finished.status_code, finished.json()["session"]["factor"]) == (201, "totp")
    assert ann.browser.get("/v1/verdicts").status_code == 200
    assert len(ann.browser.get("/v1/sessions").json()["sessions"]) == 1  # the one it still had has ended


def test_a_code_opens_once_and_no_earlier_one_after_it(ann: Person, house: House) -> None:
    ann.enrol_app()
    code = ann.code()
    assert ann.finish(ann.ticket(), kind="totp", code=code).status_code == 201
    for again in (code, ann.code(-1)):
        assert refused(ann.finish(ann.ticket(), kind="totp", code=again)) == (401, "wrong_factor")
    # The code that confirmed the app was spent by it.
    house.clock.wait(30)
    assert ann.finish(ann.ticket(), kind="totp", code=ann.code()).status_code == 201


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 201), (0, 201), (1, 201), (2, 401)])
def test_a_clock_may_be_one_step_off(ann: Person, house: House, steps: int, status: int) -> None:
    ann.enrol_app()
    house.clock.wait(120)
    assert ann.finish(ann.ticket(), kind="totp", code=ann.code(steps)).status_code == status


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "0" * 10_000, "12 34 5x"])
def test_what_is_no_code_is_a_wrong_one(ann: Person, code: str) -> None:
    ann.enrol_app()
    assert refused(ann.finish(ann.ticket(), kind="totp", code=code)) == (401, "wrong_factor")


def test_a_code_is_taken_however_it_is_typed(ann: Person) -> None:
    ann.enrol_app()
    code = ann.code()
    assert ann.finish(ann.ticket(), kind="totp", code=f" {code[:3]} {code[3:]} ").status_code == 201


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, settings: Settings) -> Iterator[tuple[House, Services]]:
    """A house on either database, and the parts of another process of the same installation."""
    if request.param == "postgresql":
        settings = dataclasses.replace(settings, database_url=request.getfixturevalue("postgresql_url"))
    services, other = build_services(settings), build_services(settings)
    services.open()
    other.open()
    yield House(services), other
    other.close()
    services.close()


def test_of_many_who_send_one_code_at_once_one_gets_in(anywhere: tuple[House, Services]) -> None:
    house, other = anywhere
    ann = house.person()
    ann.enrol_app()
    second = House(other)
    second.clock.now = house.clock.now
    tickets, code = [ann.ticket() for _ in range(6)], ann.code()
    outcomes: list[bool] = []

    def enter(sign_in: Any, ticket: str) -> None:
        try:
            sign_in.finish(ticket, Proof("totp", code), "")
            outcomes.append(True)
        except WrongFactor:
            outcomes.append(False)

    doors = [house.sign_in, second.sign_in] * 3
    threads = [threading.Thread(target=enter, args=pair) for pair in zip(doors, tickets, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]


def test_no_secret_is_in_the_database_or_on_record(ann: Person, house: House) -> None:
    assert ann.log_in().status_code == 201
    begun = ann.post("/v1/factors", {"kind": "totp", "name": "phone"}).json()
    ann.app = pyotp.TOTP(begun["secret"])
    ann.confirm(begun, code=ann.code())
    house.clock.wait(30)
    ticket = ann.ticket()
    assert ann.finish(ticket, kind="totp", code=ann.code()).status_code == 201
    codes = ann.post("/v1/recovery-codes").json()["codes"]
    sms = ann.post("/v1/factors", {"kind": "sms", "name": "number", "number": NUMBER}).json()
    secrets = [begun["secret"], ticket, NUMBER.replace(" ", ""), house.telephones.code, *codes]
    assert sms["sent_to"] == "+49…67"
    files = house.files()
    assert begun["factor"]["id"].replace("-", "").encode() in files
    for secret in secrets:
        assert secret.encode() not in files or secret == house.telephones.code
    entries = str(list(house.services.audit_store.all("default")))
    assert not [secret for secret in secrets if secret in entries]
    assert (house.services.settings.home / "keys" / "factors.secret").stat().st_mode & 0o077 == 0


def test_a_ticket_is_no_session(ann: Person, house: House) -> None:
    ann.enrol_app()
    ticket = ann.ticket()
    fresh = TestClient(house.app, base_url="https://testserver")
    for headers in ({"Authorization": f"Bearer {ticket}"}, {"Cookie": f"__Host-discern_session={ticket}"}):
        assert fresh.get("/v1/verdicts", headers=headers).status_code == 401
        assert fresh.get("/v1/session", headers=headers).status_code == 401
    assert refused(ann.finish("dsp_" + "a" * 43, kind="totp", code=ann.code())) == (401, "wrong_factor")
    assert refused(ann.ask("x", "passkey")) == (401, "wrong_factor")


def test_a_ticket_ends_after_its_time_after_its_use_and_after_a_change(ann: Person, house: House) -> None:
    ann.enrol_app()
    late = ann.ticket()
    house.clock.wait(TICKET_TIME.total_seconds())
    assert refused(ann.finish(late, kind="totp", code=ann.code())) == (401, "wrong_factor")
    used = ann.ticket()
    assert ann.finish(used, kind="totp", code=ann.code()).status_code == 201
    house.clock.wait(30)
    assert refused(ann.finish(used, kind="totp", code=ann.code())) == (401, "wrong_factor")
    changed = ann.ticket()
    house.users.change(house.users.named("default", "ann"), password="several words of late")
    assert refused(ann.finish(changed, kind="totp", code=ann.code())) == (401, "wrong_factor")


def test_a_ticket_has_few_tries(ann: Person, house: House) -> None:
    ann.enrol_app()
    ticket = ann.ticket()
    for _ in range(MOST_TRIES_OF_A_TICKET):
        assert ann.finish(ticket, kind="totp", code="000000").status_code == 401
    house.clock.wait(60)  # the lock of the name is over
    assert refused(ann.finish(ticket, kind="totp", code=ann.code())) == (401, "wrong_factor")
    assert ann.finish(ann.ticket(), kind="totp", code=ann.code()).status_code == 201


def test_wrong_codes_lock_the_name_as_wrong_passwords_do(ann: Person, house: House) -> None:
    ann.enrol_app()
    ticket, other = ann.ticket(), ann.ticket()
    for _ in range(FREE_FAILURES - 1):
        ann.finish(ticket, kind="totp", code="000000")
    assert ann.log_in(WRONG).status_code == 401
    assert refused(ann.finish(other, kind="totp", code=ann.code())) == (401, "wrong_factor")
    assert refused(ann.log_in()) == (401, "wrong_password")
    house.clock.wait(2.1)
    # The right password alone forgives nothing: each further wrong code locks for longer.
    third = ann.ticket()
    assert ann.finish(third, kind="totp", code="000000").status_code == 401
    house.clock.wait(2.1)
    assert refused(ann.log_in()) == (401, "wrong_password")
    house.clock.wait(2.1)
    assert ann.finish(ann.ticket(), kind="totp", code=ann.code()).status_code == 201
    assert house.users.named("default", "ann").failures == 0


def test_guesses_at_the_same_time_are_all_counted(ann: Person, house: House) -> None:
    ann.enrol_app()
    tickets = [ann.ticket() for _ in range(20)]

    def guess(ticket: str) -> None:
        with pytest.raises(WrongFactor):
            house.sign_in.finish(ticket, Proof("totp", "000000"), "")

    threads = [threading.Thread(target=guess, args=(ticket,)) for ticket in tickets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert house.users.named("default", "ann").failures == FREE_FAILURES


def test_a_wrong_password_says_nothing_of_factors(ann: Person, house: House) -> None:
    ann.enrol_app()
    bob = house.person("bob")
    answers = [person.log_in(WRONG) for person in (ann, bob, Person(house, "nobody"))]
    assert [answer.json() for answer in answers] == [answers[0].json()] * 3
    assert refused(answers[0]) == (401, "wrong_password")


def test_whoever_enrols_a_factor_meanwhile_gets_no_session_without_it(ann: Person, house: House) -> None:
    user, hashed = house.users.check("ann", PASSWORD)
    ann.enrol_app()
    with pytest.raises(WrongPassword):
        house.users.begin(user, "", factor=None, password=hashed)
    assert house.users.begin(user, "", factor="provider").session.factor == "provider"


def test_with_the_first_factor_every_other_session_ends_and_this_one_is_another(ann: Person, house: House) -> None:
    other = Person(house, "ann")
    assert other.log_in().status_code == 201
    assert ann.log_in().status_code == 201
    before = ann.browser.cookies["__Host-discern_session"]
    ann.enrol_app()
    assert ann.browser.cookies["__Host-discern_session"] != before
    assert ann.browser.get("/v1/session").json()["session"]["factor"] == "totp"
    stolen = TestClient(house.app, base_url="https://testserver", cookies={"__Host-discern_session": before})
    assert stolen.get("/v1/session").status_code == 401
    assert other.browser.get("/v1/session").status_code == 401


def test_when_a_factor_goes_every_other_session_ends(ann: Person, house: House) -> None:
    factor = ann.enrol_app()
    other = Person(house, "ann")
    assert other.finish(other.ticket(), kind="totp", code=ann.code()).status_code == 201
    assert other.browser.get("/v1/session").status_code == 200
    assert ann.delete(f"/v1/factors/{factor}").status_code == 204
    assert other.browser.get("/v1/session").status_code == 401
    assert ann.browser.get("/v1/session").status_code == 200


def test_a_password_that_was_set_anew_gets_nobody_past_a_factor(ann: Person, house: House) -> None:
    ann.enrol_app()
    house.users.change(house.users.named("default", "ann"), password="several words of late")
    assert ann.browser.get("/v1/session").status_code == 401
    answer = ann.log_in("several words of late")
    assert (answer.status_code, "set-cookie" in answer.headers) == (202, False)


def test_recovery_codes_open_once_each_and_a_new_set_replaces_the_old(anywhere: tuple[House, Services]) -> None:
    house, _ = anywhere
    ann = house.person()
    assert ann.log_in().status_code == 201
    assert refused(ann.post("/v1/recovery-codes")) == (400, "bad_request")
    ann.enrol_app()
    old = ann.post("/v1/recovery-codes").json()["codes"]
    codes = ann.post("/v1/recovery-codes").json()["codes"]
    assert (len(set(codes)), set(codes) & set(old)) == (10, set())
    assert refused(ann.finish(ann.ticket(), kind="recovery", code=old[0])) == (401, "wrong_factor")
    assert ann.finish(ann.ticket(), kind="recovery", code=codes[0].upper().replace("-", " ")).status_code == 201
    assert refused(ann.finish(ann.ticket(), kind="recovery", code=codes[0])) == (401, "wrong_factor")
    assert ann.finish(ann.ticket(), kind="recovery", code=codes[1]).json()["session"]["factor"] == "recovery"
    assert ann.browser.get("/v1/factors").json()["recovery_codes_left"] == 8
    # Nobody else's: a code is kept as one of its user.
    bob = house.person("bob")
    bob.enrol_app()
    assert refused(bob.finish(bob.ticket(), kind="recovery", code=codes[2])) == (401, "wrong_factor")


def test_a_telephone_is_enrolled_and_sent_a_code_to_sign_in(anywhere: tuple[House, Services]) -> None:
    house, _ = anywhere
    ann = house.person()
    assert ann.log_in().status_code == 201
    begun = ann.post("/v1/factors", {"kind": "sms", "name": "telephone", "number": NUMBER})
    assert house.telephones.sent[0]["number"] == "+491701234567"
    assert house.telephones.code in house.telephones.sent[0]["text"]
    ann.confirm(begun.json(), code=house.telephones.code)
    body, header = house.telephones.signatures[0]
    secret = (house.services.settings.home / "keys" / "webhook.secret").read_text()
    assert is_signed(secret, body, header, int(header[2:].partition(",")[0]))
    house.clock.wait(31)
    ticket = ann.ticket()
    # The code that confirmed it is no answer to a sign-in, nor is any before one is asked for.
    assert refused(ann.finish(ticket, kind="sms", code=house.telephones.code)) == (401, "wrong_factor")
    asked = ann.ask(ticket, "sms")
    assert (asked.status_code, asked.json()["sent_to"]) == (200, "+49…67")
    assert ann.finish(ticket, kind="sms", code=house.telephones.code).json()["session"]["factor"] == "sms"


@pytest.fixture
def caller(house: House) -> Person:
    """Somebody with a telephone, to whom a code may be sent at once."""
    person = house.person("tom")
    assert person.log_in().status_code == 201
    begun = person.post("/v1/factors", {"kind": "sms", "name": "telephone", "number": NUMBER})
    person.confirm(begun.json(), code=house.telephones.code)
    house.clock.wait(3601)
    return person


def test_a_code_that_was_sent_has_three_tries_and_five_minutes_and_goes_with_its_ticket(
    caller: Person, house: House
) -> None:
    first, second = caller.ticket(), caller.ticket()
    caller.ask(first, "sms")
    code = house.telephones.code
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    assert refused(caller.finish(second, kind="sms", code=code)) == (401, "wrong_factor")
    for _ in range(3):
        assert refused(caller.finish(first, kind="sms", code=wrong)) == (401, "wrong_factor")
    assert refused(caller.finish(first, kind="sms", code=code)) == (401, "wrong_factor")
    house.clock.wait(60)
    third = caller.ticket()
    caller.ask(third, "sms")
    house.clock.wait(CHALLENGE_TIME.total_seconds())
    assert refused(caller.finish(third, kind="sms", code=house.telephones.code)) == (401, "wrong_factor")
    house.clock.wait(5)  # the lock of the name is over
    caller.ask(third, "sms")
    assert caller.finish(third, kind="sms", code=house.telephones.code).status_code == 201


def test_codes_are_sent_seldom_to_a_user_and_to_a_number(caller: Person, house: House) -> None:
    for sent in range(CODES_AN_HOUR):
        assert caller.ask(caller.ticket(), "sms").status_code == 200
        again = caller.ask(caller.ticket(), "sms")
        wait = "30" if sent < CODES_AN_HOUR - 1 else "3480"
        assert (refused(again), again.headers["retry-after"]) == ((429, "rate_limited"), wait)
        house.clock.wait(30)
    assert refused(caller.ask(caller.ticket(), "sms")) == (429, "rate_limited")
    # The number is the same, whoever has it written.
    eve = house.person("eve")
    assert eve.log_in().status_code == 201
    number = {"kind": "sms", "name": "theirs", "number": "+49(170)1234567"}
    assert refused(eve.post("/v1/factors", number)) == (429, "rate_limited")
    assert eve.post("/v1/factors", number | {"number": "+49 170 7654321"}).status_code == 201
    assert len(house.telephones.sent) == 1 + CODES_AN_HOUR + 1
    house.clock.wait(3601)
    assert caller.ask(caller.ticket(), "sms").status_code == 200


@pytest.mark.parametrize("answer", [500, 302, ConnectionError("no"), Forbidden("not there")])
def test_where_no_code_can_be_sent_that_is_said(caller: Person, house: House, answer: int | Exception) -> None:
    house.telephones.answer = answer
    assert refused(caller.ask(caller.ticket(), "sms")) == (503, "factor_unavailable")


@pytest.mark.parametrize("number", ["", "0170 1234567", "+49", "+0123456789", "+49 170 12x", "+" + "1" * 16])
def test_what_is_no_number_is_refused(ann: Person, house: House, number: str) -> None:
    assert ann.log_in().status_code == 201
    assert refused(ann.post("/v1/factors", {"kind": "sms", "name": "n", "number": number})) == (400, "bad_request")
    assert house.telephones.sent == []


def test_what_is_not_set_up_is_said(services: Services) -> None:
    services.users.create("default", "ann", PASSWORD, role="analyst")
    from discern.app_http import create_app

    browser = TestClient(create_app(services), base_url="https://testserver")
    answer = browser.post("/v1/login", json={"name": "ann", "password": PASSWORD})
    token = {"X-CSRF-Token": answer.json()["csrf_token"]}
    for kind, setting in (("sms", "DISCERN_SMS_URL"), ("passkey", "DISCERN_PASSKEY_ORIGINS")):
        asked = {"kind": kind, "name": "n", "number": NUMBER}
        answer = browser.post("/v1/factors", json=asked, headers=token)
        assert (refused(answer), setting in answer.json()["mend"]) == ((503, "factor_unavailable"), True)


def asks() -> list[str]:
    return [route for route in NEEDS if route not in WHILE_ENROLLING]


def test_whose_role_demands_a_factor_does_nothing_but_enrol_one_and_sign_out(services: Services) -> None:
    house = House(services, roles="owner,operator")
    owner = house.person("olga", "owner")
    assert owner.log_in().json()["principal"]["enrolling"] is True
    ids = {"user_id": str(house.users.named("default", "olga").id), "name": "toy-record", "version": "1.0.0"}
    filled = (
        dict.fromkeys(
            ("session_id", "factor_id", "job_id", "verdict_id", "key_id", "alert_id", "silence_id"), ids["user_id"]
        )
        | ids
    )
    for route in asks():
        method, path = route.split(" ")
        answer = owner.browser.request(method, path.format(**filled), json={}, headers=owner.token)
        assert refused(answer) == (403, "second_factor_needed"), route
    assert ("sessions.use", "denied") in {(act, outcome) for act, outcome, _ in house.acts()}
    assert owner.browser.get("/v1/factors").json()["demanded"] is True
    owner.enrol_app()
    me = owner.browser.get("/v1/whoami").json()
    assert (me["role"], me["enrolling"]) == ("owner", False)
    assert owner.browser.get("/v1/users").status_code == 200
    # Whose role demands none, and whoever comes by a key, is not asked.
    assert house.person("rita", "reviewer").log_in().json()["principal"]["enrolling"] is False
    key = {"Authorization": f"Bearer {services.keys.issue('default', 'k', role='owner').secret}"}
    assert TestClient(house.app).get("/v1/users", headers=key).status_code == 200


def test_whose_role_demands_a_factor_may_sign_out_without_one_and_keeps_the_last(services: Services) -> None:
    house = House(services, roles="owner")
    owner = house.person("olga", "owner")
    assert owner.log_in().status_code == 201
    assert owner.delete("/v1/session").status_code == 204
    assert owner.log_in().status_code == 201
    first = owner.enrol_app()
    assert refused(owner.delete(f"/v1/factors/{first}")) == (400, "bad_request")
    second = owner.enrol_app("tablet")
    assert owner.delete(f"/v1/factors/{first}").status_code == 204
    assert [one["id"] for one in owner.browser.get("/v1/factors").json()["factors"]] == [second]


def changes(person: Person, factor: str) -> list[Callable[[], Any]]:
    return [
        lambda: person.post("/v1/factors", {"kind": "totp", "name": "another"}),
        lambda: person.browser.patch(f"/v1/factors/{factor}", json={"name": "other"}, headers=person.token),
        lambda: person.post("/v1/recovery-codes"),
        lambda: person.delete(f"/v1/factors/{factor}"),
    ]


def test_a_password_and_sessions_are_changed_with_a_fresh_proof_alone(ann: Person, house: House) -> None:
    ann.enrol_app()
    session = ann.browser.get("/v1/sessions").json()["sessions"][0]["id"]
    house.clock.wait(FRESH_TIME.total_seconds())
    change = {"old": PASSWORD, "new": "several words of another"}
    assert refused(ann.post("/v1/password", change)) == (403, "fresh_proof_needed")
    assert refused(ann.delete(f"/v1/sessions/{session}")) == (403, "fresh_proof_needed")
    assert refused(ann.post("/v1/session/proof", {"password": PASSWORD})) == (401, "wrong_factor")
    good = {"kind": "totp", "code": ann.code()}
    assert ann.post("/v1/session/proof", {"password": PASSWORD, "proof": good}).status_code == 204
    assert ann.post("/v1/password", change).status_code == 204


def test_factors_are_changed_with_a_fresh_proof_alone(ann: Person, house: House) -> None:
    factor = ann.enrol_app()
    house.clock.wait(FRESH_TIME.total_seconds())
    for change in changes(ann, factor):
        assert refused(change()) == (403, "fresh_proof_needed")
        assert house.acts()[-1][1:] == ("denied", "no fresh proof")
    good = {"kind": "totp", "code": ann.code()}
    assert refused(ann.post("/v1/session/proof", {"password": WRONG, "proof": good})) == (401, "wrong_password")
    for proof in (None, {"kind": "totp", "code": "000000"}, {"kind": "recovery", "code": "x"}):
        answer = ann.post("/v1/session/proof", {"password": PASSWORD, "proof": proof})
        assert refused(answer) == (401, "wrong_factor")
    assert [change().status_code for change in changes(ann, factor)] == [403] * 4
    assert ann.post("/v1/session/proof", {"password": PASSWORD, "proof": good}).status_code == 204
    assert [change().status_code for change in changes(ann, factor)] == [201, 200, 201, 204]
    # Nothing is left, so a password is all there is to prove, and all that the session was begun by.
    assert ann.browser.get("/v1/session").json()["session"]["factor"] is None
    house.clock.wait(FRESH_TIME.total_seconds())
    assert refused(ann.post("/v1/factors", {"kind": "totp", "name": "n"})) == (403, "fresh_proof_needed")
    assert ann.post("/v1/session/proof", {"password": PASSWORD}).status_code == 204
    assert ann.post("/v1/factors", {"kind": "totp", "name": "n"}).status_code == 201


def test_nobody_touches_the_factors_of_others(ann: Person, house: House) -> None:
    factor = ann.enrol_app()
    begun = ann.post("/v1/factors", {"kind": "totp", "name": "another"}).json()
    bob = house.person("bob")
    assert bob.log_in().status_code == 201
    code = pyotp.TOTP(begun["secret"]).at(house.clock.now)
    for answer in (
        bob.delete(f"/v1/factors/{factor}"),
        bob.browser.patch(f"/v1/factors/{factor}", json={"name": "mine"}, headers=bob.token),
        bob.post(f"/v1/factors/{begun['factor']['id']}/confirm", {"code": code}),
    ):
        assert refused(answer) == (404, "unknown_factor")
    assert bob.browser.get("/v1/factors").json()["factors"] == []


def test_a_session_that_is_still_believed_after_its_end_changes_no_factor(ann: Person, house: House) -> None:
    assert ann.log_in().status_code == 201
    begun = ann.post("/v1/factors", {"kind": "totp", "name": "phone"}).json()
    secret = ann.browser.cookies["__Host-discern_session"]
    principal = house.users.authenticate(secret)
    visitor = Visitor(principal, house.users.session_of(principal, secret), fingerprint(secret))
    house.users.change(house.users.named("default", "ann"), password="several words of late")
    code = pyotp.TOTP(begun["secret"]).at(house.clock.now)
    for change in (
        lambda: house.factors.confirm(visitor, UUID(begun["factor"]["id"]), code, None),
        lambda: house.factors.enrol(visitor, "totp", "another", None),
        lambda: house.factors.prove(visitor, "several words of late", None),
    ):
        with pytest.raises(Unauthenticated):
            change()
    assert house.factors.list(visitor).factors == ()


def test_an_enrolment_ends_after_its_time_and_gives_way_to_another(ann: Person, house: House) -> None:
    assert ann.log_in().status_code == 201
    first = ann.post("/v1/factors", {"kind": "totp", "name": "a"}).json()
    second = ann.post("/v1/factors", {"kind": "totp", "name": "b"}).json()
    for begun, code in ((first, "good"), (second, "000000")):
        given = pyotp.TOTP(begun["secret"]).at(house.clock.now) if code == "good" else code
        answer = ann.post(f"/v1/factors/{begun['factor']['id']}/confirm", {"code": given})
        assert answer.status_code == (404 if begun is first else 401)
    house.clock.wait(ENROLMENT_TIME.total_seconds())
    late = pyotp.TOTP(second["secret"]).at(house.clock.now)
    answer = ann.post(f"/v1/factors/{second['factor']['id']}/confirm", {"code": late})
    assert refused(answer) == (404, "unknown_factor")


def test_somebody_has_so_many_factors_and_no_more(ann: Person) -> None:
    for number in range(MOST_FACTORS):
        ann.house.clock.now -= timedelta(seconds=30)  # so that the proof of signing in stays fresh
        ann.enrol_app(f"phone {number}")
    assert refused(ann.post("/v1/factors", {"kind": "totp", "name": "one more"})) == (400, "bad_request")


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\x07b"])
def test_a_name_that_cannot_be_is_refused(ann: Person, name: str) -> None:
    assert ann.log_in().status_code == 201
    assert refused(ann.post("/v1/factors", {"kind": "totp", "name": name})) == (400, "bad_request")


def test_an_owner_resets_the_factors_of_others_and_not_their_own(services: Services) -> None:
    house = House(services, roles="owner")
    owner, ann = house.person("olga", "owner"), house.person()
    assert owner.log_in().status_code == 201
    owner.enrol_app()
    ann.enrol_app()
    codes = ann.post("/v1/recovery-codes").json()["codes"]
    waiting = ann.ticket()
    user = house.users.named("default", "ann")
    assert refused(ann.delete(f"/v1/users/{user.id}/factors")) == (403, "forbidden")
    mine = house.users.named("default", "olga").id
    assert refused(owner.delete(f"/v1/users/{mine}/factors")) == (403, "forbidden")
    assert owner.delete(f"/v1/users/{user.id}/factors").status_code == 204
    assert ann.browser.get("/v1/session").status_code == 401
    assert refused(ann.finish(waiting, kind="recovery", code=codes[0])) == (401, "wrong_factor")
    assert ann.log_in().status_code == 201
    assert ann.browser.get("/v1/factors").json() == {"factors": [], "recovery_codes_left": 0, "demanded": False}
    narrow = services.keys.issue("default", "n", role="owner", detectors=("toy-image",)).secret
    path = f"/v1/users/{user.id}/factors"
    answer = TestClient(house.app).delete(path, headers={"Authorization": f"Bearer {narrow}"})
    assert refused(answer) == (403, "forbidden")
    acts = house.acts()
    assert ("factors.reset", "done", None) in acts
    assert ("factors.reset", "denied", "their own") in acts


def test_all_that_is_done_is_on_record_and_all_that_is_refused(ann: Person, house: House) -> None:
    factor = ann.enrol_app()
    ann.post("/v1/recovery-codes")
    ann.browser.patch(f"/v1/factors/{factor}", json={"name": "other"}, headers=ann.token)
    ticket = ann.ticket()
    ann.finish(ticket, kind="totp", code="000000")
    ann.finish(ticket, kind="recovery", code="x")
    ann.finish(ticket, kind="totp", code=ann.code())
    ann.post("/v1/session/proof", {"password": PASSWORD, "proof": {"kind": "totp", "code": "000000"}})
    ann.delete(f"/v1/factors/{factor}")
    assert house.acts()[1:] == [
        ("sessions.begin", "done", None),
        ("factors.enrol", "done", None),
        ("factors.confirm", "done", None),
        ("factors.recovery_codes", "done", None),
        ("factors.rename", "done", None),
        ("sessions.await_factor", "done", None),
        ("sessions.begin", "denied", "wrong totp"),
        ("sessions.begin", "denied", "wrong recovery code"),
        ("sessions.begin", "done", None),
        ("sessions.end", "done", "signed in again"),
        ("factors.prove", "denied", "wrong totp"),
        ("factors.remove", "done", None),
    ]
    assert house.services.audit.verify("default").faults == ()


def test_with_another_secret_of_the_installation_no_factor_opens_and_it_is_said_why(ann: Person, house: House) -> None:
    ann.enrol_app()
    (house.services.settings.home / "keys" / "factors.secret").write_text("several words of another installation")
    other = House(house.services)
    other.clock.now = house.clock.now
    someone = Person(other, "ann")
    answer = someone.finish(someone.ticket(), kind="totp", code=ann.code())
    assert refused(answer) == (500, "misconfigured")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"ticket": 1}', b'{"ticket": "x", "proof": {"kind": "god"}}'])
@pytest.mark.parametrize("path", ["/v1/login/factor", "/v1/login/challenge"])
def test_what_is_no_answer_is_refused(ann: Person, path: str, body: bytes) -> None:
    answer = ann.browser.post(path, content=body, headers={"Content-Type": "application/json"})
    assert refused(answer) == (400, "malformed_request")
    form = ann.browser.post(path, content=body, headers={"Content-Type": "text/plain"})
    assert form.status_code == 415


@pytest.mark.parametrize(
    "variables",
    [
        {"SECOND_FACTOR_ROLES": "owner,god"},
        {"PASSKEY_ORIGINS": "discern.example.org"},
        {"PASSKEY_ORIGINS": "http://discern.example.org"},
        {"PASSKEY_ORIGINS": "https://discern.example.org/"},
        {"PASSKEY_ORIGINS": "https://[x"},
        {"PASSKEY_ORIGINS": "https://discern.example.org", "PASSKEY_RELYING_PARTY": "example.com"},
        {"PASSKEY_USER_VERIFICATION": "maybe"},
    ],
)
def test_a_setting_that_cannot_be_stops_the_start(tmp_path: Any, variables: dict[str, str]) -> None:
    given = {f"DISCERN_{name}": value for name, value in variables.items()}
    with pytest.raises(InvalidSettings, match=next(iter(given.keys()))[8:].lower().partition("_")[0]):
        build_services(load_settings({"DISCERN_HOME": str(tmp_path), **given}))
