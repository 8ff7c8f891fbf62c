"""Passkeys: registered and asked, by an authenticator in software that can be made to lie, and by a real browser."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discern.access.rules_factors import CHALLENGE_TIME
from discern.access.service_passkeys import AnswerRefused, Passkeys
from discern.access.types import User
from discern.app import Services, build_services
from discern.core.clock import utc_now
from discern.core.ids import uuid7
from discern.settings import load_settings
from tests.access.authenticator import Authenticator, decoded, encoded
from tests.cli.test_up import server
from tests.http.browser import chromium
from tests.http.factors import ORIGIN, House, Person
from tests.ports import free_port

pytestmark = pytest.mark.system


@pytest.fixture
def house(services: Services) -> House:
    return House(services)


@pytest.fixture
def ann(house: House) -> Person:
    person = house.person()
    assert person.log_in().status_code == 201
    return person


def begin(person: Person, name: str = "key") -> Any:
    answer = person.post("/v1/factors", {"kind": "passkey", "name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def register(person: Person, passkey: Authenticator | None = None) -> Authenticator:
    passkey = passkey or Authenticator(ORIGIN)
    begun = begin(person)
    person.confirm(begun, credential=passkey.create(begun["public_key"]))
    return passkey


def sign_in(person: Person, passkey: Authenticator) -> Any:
    ticket = person.ticket()
    options = person.ask(ticket, "passkey").json()["public_key"]
    return person.finish(ticket, kind="passkey", credential=passkey.get(options))


def reason(house: House) -> str:
    return house.acts()[-1][2] or ""


def test_a_passkey_is_registered_and_asked_for_from_then_on(ann: Person) -> None:
    begun = begin(ann, "my key")
    options = begun["public_key"]
    assert (options["rp"], options["user"]["name"]) == ({"id": "testserver", "name": "Discern"}, "ann")
    passkey = Authenticator(ORIGIN)
    ann.confirm(begun, credential=passkey.create(options))
    assert ann.browser.get("/v1/session").json()["session"]["factor"] == "passkey"
    ticket = ann.ticket()
    asked = ann.ask(ticket, "passkey").json()["public_key"]
    assert [one["id"] for one in asked["allowCredentials"]] == [encoded(passkey.credential_id)]
    finished = ann.finish(ticket, kind="passkey", credential=passkey.get(asked))
    assert (finished.status_code, finished.json()["session"]["factor"]) == (201, "passkey")
    second = begin(ann, "another")["public_key"]
    assert [one["id"] for one in second["excludeCredentials"]] == [encoded(passkey.credential_id)]


def test_an_answer_counts_once_and_for_the_challenge_it_was_asked(ann: Person, house: House) -> None:
    passkey = register(ann)
    first, second = ann.ticket(), ann.ticket()
    answer = passkey.get(ann.ask(first, "passkey").json()["public_key"])
    ann.ask(second, "passkey")
    assert ann.finish(second, kind="passkey", credential=answer).status_code == 401
    # That attempt used the second challenge up, whatever comes for it.
    assert ann.finish(second, kind="passkey", credential=answer).status_code == 401
    assert "no challenge is open" in reason(house)
    assert ann.finish(first, kind="passkey", credential=answer).status_code == 201
    assert ann.finish(first, kind="passkey", credential=answer).status_code == 401


def test_a_challenge_lives_short(ann: Person, house: House) -> None:
    passkey = register(ann)
    ticket = ann.ticket()
    options = ann.ask(ticket, "passkey").json()["public_key"]
    house.clock.wait(CHALLENGE_TIME.total_seconds())
    assert ann.finish(ticket, kind="passkey", credential=passkey.get(options)).status_code == 401
    begun = begin_fresh(ann, passkey)
    house.clock.wait(CHALLENGE_TIME.total_seconds())
    late = {"credential": Authenticator(ORIGIN).create(begun["public_key"])}
    answer = ann.post(f"/v1/factors/{begun['factor']['id']}/confirm", late)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_factor")


def begin_fresh(person: Person, passkey: Authenticator) -> Any:
    assert sign_in(person, passkey).status_code == 201
    return begin(person)


def lie_of_origin(passkey: Authenticator) -> None:
    passkey.origin = "https://testserver.example.org"


def lie_of_party(passkey: Authenticator) -> None:
    passkey.relying_party = "example.org"


def lie_of_counter(passkey: Authenticator) -> None:
    passkey.step = 0


def lie_of_signature(passkey: Authenticator) -> None:
    passkey._key = Authenticator(ORIGIN)._key


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lie_of_origin, "origin"),
        (lie_of_party, "RP ID"),
        (lie_of_counter, "sign count"),
        (lie_of_signature, "signature"),
    ],
)
def test_a_passkey_that_lies_opens_nothing(
    ann: Person, house: House, lie: Callable[[Authenticator], None], says: str
) -> None:
    passkey = register(ann)
    assert sign_in(ann, passkey).status_code == 201
    lie(passkey)
    answer = sign_in(ann, passkey)
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_factor")
    assert says in reason(house)
    assert house.acts()[-1][:2] == ("sessions.begin", "denied")


def test_a_passkey_that_counts_nothing_is_good(ann: Person) -> None:
    passkey = Authenticator(ORIGIN)
    passkey.step = 0
    register(ann, passkey)
    assert [sign_in(ann, passkey).status_code for _ in range(3)] == [201] * 3


def test_a_passkey_opens_for_whoever_registered_it_alone(ann: Person, house: House) -> None:
    passkey = register(ann)
    bob = house.person("bob")
    assert bob.log_in().status_code == 201
    begun = begin(bob)
    taken = bob.post(
        f"/v1/factors/{begun['factor']['id']}/confirm", {"credential": passkey.create(begun["public_key"])}
    )
    assert (taken.status_code, taken.json()["code"]) == (401, "wrong_factor")
    assert "registered already" in reason(house)
    register(bob)
    assert sign_in(bob, passkey).status_code == 401
    assert "not theirs" in reason(house)


@pytest.mark.parametrize(("policy", "status"), [("required", 401), ("preferred", 201), ("discouraged", 201)])
def test_user_verification_is_as_the_setting_says(services: Services, policy: str, status: int) -> None:
    house = House(services, user_verification=policy)
    ann = house.person()
    assert ann.log_in().status_code == 201
    passkey = register(ann)
    assert begin(ann)["public_key"]["authenticatorSelection"]["userVerification"] == policy
    passkey.verifies = False
    assert sign_in(ann, passkey).status_code == status


def test_a_passkey_proves_afresh_and_only_in_the_session_that_asked(ann: Person, house: House) -> None:
    passkey = register(ann)
    house.clock.wait(600)
    other = Person(house, "ann")
    assert sign_in(other, passkey).status_code == 201
    asked = ann.post("/v1/session/challenge", {"kind": "passkey"})
    answer = passkey.get(asked.json()["public_key"])
    proof = {"password": "several words of a person", "proof": {"kind": "passkey", "credential": answer}}
    assert other.post("/v1/session/proof", proof).status_code == 401
    assert ann.post("/v1/session/proof", proof).status_code == 204
    assert ann.post("/v1/recovery-codes").status_code == 201
    # An enrolment's answer is no proof, nor is a proof an enrolment's.
    begun = begin(ann)
    made = Authenticator(ORIGIN).create(begun["public_key"])
    proof = {"password": "several words of a person", "proof": {"kind": "passkey", "credential": made}}
    assert ann.post("/v1/session/proof", proof).status_code == 401


ENCODED = st.binary().map(lambda data: urlsafe_b64encode(data).decode())
LEAVES = st.none() | st.integers() | st.text() | ENCODED
JUNK = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=8), LEAVES, max_size=4)
FIELDS = ("clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_a_passkey_answers_is_refused_and_breaks_nothing(data: st.DataObject) -> None:
    passkeys = Passkeys(ORIGIN, "", "preferred")
    user = User(uuid7(), "default", "ann", "analyst", utc_now())
    passkey, challenge = Authenticator(ORIGIN), b"c" * 32
    created = passkey.create(passkeys.creation_options(user, challenge, []))
    good = passkeys.registered(created, challenge)
    got = passkey.get(passkeys.request_options(challenge, [good.credential_id]))
    for honest, judge in (
        (created, lambda answer: passkeys.registered(answer, challenge)),
        (got, lambda answer: passkeys.counted(answer, challenge, good.public_key, 0)),
    ):
        field = data.draw(st.sampled_from(("id", "rawId", "type", "response", *FIELDS)))
        answer = {**honest, "response": dict(honest["response"])}
        holder = answer["response"] if field in FIELDS else answer
        value = holder.get(field)
        if isinstance(value, str) and field in FIELDS and data.draw(st.booleans()):
            raw = bytearray(decoded(value))
            # Within bounds of their own: signatures are not all of one length.
            raw[data.draw(st.integers(0, 1000)) % len(raw)] ^= data.draw(st.integers(1, 255))
            holder[field] = encoded(bytes(raw[: data.draw(st.integers(0, 1000))]))
        else:
            holder[field] = data.draw(JUNK)
        try:
            judge(answer)
        except AnswerRefused:
            continue
        # What nobody signs may differ: all of a registration without attestation, and the user handle.
        assert honest is created or field in {"userHandle", "attestationObject"}


ASK = """
async (method, path, body, token) => {
  const headers = {"Content-Type": "application/json", ...(token ? {"X-CSRF-Token": token} : {})};
  const answer = await fetch(path, {method, headers, body: body && JSON.stringify(body)});
  const text = await answer.text();
  return {status: answer.status, body: text && JSON.parse(text)};
}
"""
REGISTER = """
(async () => {
  const ask = %s;
  const login = {name: "ann", password: "several words of a person"};
  let token = (await ask("POST", "/v1/login", login)).body.csrf_token;
  const begun = (await ask("POST", "/v1/factors", {kind: "passkey", name: "browser"}, token)).body;
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.public_key);
  const credential = (await navigator.credentials.create({publicKey})).toJSON();
  const path = `/v1/factors/${begun.factor.id}/confirm`;
  const confirmed = await ask("POST", path, {credential}, token);
  await ask("DELETE", "/v1/session", null, confirmed.body.csrf_token);
  const out = await ask("GET", "/v1/session");
  return [confirmed.status, out.status];
})()
"""
SIGN_IN = """
(async () => {
  const ask = %s;
  const login = {name: "ann", password: "several words of a person"};
  const pending = await ask("POST", "/v1/login", login);
  const ticket = pending.body.ticket;
  const asked = await ask("POST", "/v1/login/challenge", {ticket, kind: "passkey"});
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked.body.public_key);
  const credential = (await navigator.credentials.get({publicKey})).toJSON();
  const proof = {kind: "passkey", credential};
  const done = await ask("POST", "/v1/login/factor", {ticket, proof});
  const again = await ask("POST", "/v1/login/factor", {ticket, proof});
  const me = await ask("GET", "/v1/session");
  return [pending.status, done.status, again.status, me.body.session.factor];
})()
"""


def test_a_real_browser_registers_a_passkey_and_signs_in_by_it(home: Path, tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://localhost:{port}"
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    services.users.create("default", "ann", "several words of a person", role="analyst")
    services.close()
    given = {"DISCERN_PORT": str(port), "DISCERN_PASSKEY_ORIGINS": origin}
    given["DISCERN_PASSKEY_USER_VERIFICATION"] = "required"
    with chromium(tmp_path / "profile") as page, server(home, **given):
        page.open(f"{origin}/docs")
        page.call("WebAuthn.enable")
        options = {"protocol": "ctap2", "transport": "internal", "hasUserVerification": True, "isUserVerified": True}
        options["automaticPresenceSimulation"] = True
        authenticator = page.call("WebAuthn.addVirtualAuthenticator", options=options)["authenticatorId"]
        assert page.run(REGISTER % ASK) == [200, 401]
        kept = page.call("WebAuthn.getCredentials", authenticatorId=authenticator)["credentials"]
        assert [one["rpId"] for one in kept] == ["localhost"]
        for _ in range(2):
            assert page.run(SIGN_IN % ASK) == [202, 201, 401, "passkey"]
