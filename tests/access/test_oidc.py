"""OpenID Connect: who is let in by a provider's word, and which words do not hold."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwk, jwt

from discern.app import build_services
from discern.core.errors import InvalidSettings
from discern.settings import load_settings
from tests.access.conftest import Furnish
from tests.access.federated import Installation, Provider, query_of, running, sign_in_file

pytestmark = pytest.mark.system


def file_of(provider: Provider, more: str = "") -> str:
    return sign_in_file(
        "oidc.company",
        f'title = "Company account"\nissuer = "{provider.issuer}"\nclient_id = "discern"\n{more}',
        'group = "admins"\nrole = "owner"',
        'group = "reviewers"\nrole = "reviewer"\ndetectors = ["toy-record"]',
    )


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


@pytest.fixture
def company(provider: Provider, furnish: Furnish) -> Installation:
    return furnish(file_of(provider))


def begin(at: Installation, path: str = "/v1/sign-in/company") -> str:
    answer = at.browser.get(path)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def come_back(at: Installation, provider: Provider) -> Any:
    given = provider.consent(begin(at))
    return at.browser.get("/v1/sign-in/company/callback", params=given)


def assert_refused(answer: Any, why: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, "sign_in_refused"), answer.text
    assert re.search(why, answer.json()["detail"]), answer.json()["detail"]
    assert "discern_session" not in answer.headers.get("set-cookie", "")


def test_somebody_comes_in_with_the_role_and_the_detectors_of_their_group(
    company: Installation, provider: Provider
) -> None:
    url = begin(company, "/v1/sign-in/company?next=/docs%3Fa%3D1")
    asked = query_of(url)
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "https://discern.example.org/v1/sign-in/company/callback"
    assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", "discern", "openid profile email")
    answer = company.browser.get("/v1/sign-in/company/callback", params=provider.consent(url))
    assert answer.status_code == 200, answer.text
    # The session's cookie is not sent where another site sent the browser: a page of ours leads on.
    assert 'content="0; url=/docs?a=1"' in answer.text
    session = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-discern_session="))
    assert all(part in session for part in ("HttpOnly", "Secure", "SameSite=strict"))
    me = company.browser.get("/v1/session").json()
    assert (me["principal"]["role"], me["principal"]["detectors"]) == ("reviewer", ["toy-record"])
    users = company.services.users.list("default")
    assert [(user.name, user.provider, user.subject) for user in users] == [("company:ann", "company", "248289761001")]
    begun, made = company.acts()[:2]
    assert (begun.act, begun.after) == (
        "sessions.begin",
        {"factor": "provider", "provider": "company", "group": "reviewers", "role": "reviewer"},
    )
    assert (made.act, made.who) == ("users.create", "provider:company")


def test_coming_back_ends_the_session_that_the_browser_still_sends(company: Installation, provider: Provider) -> None:
    assert come_back(company, provider).status_code == 200
    first = dict(company.browser.cookies)
    assert come_back(company, provider).status_code == 200
    assert len(company.browser.get("/v1/sessions").json()["sessions"]) == 1
    company.browser.cookies.clear()
    company.browser.cookies.update(first)
    assert company.browser.get("/v1/session").status_code == 401
    assert [act.reason for act in company.acts() if act.act == "sessions.end"] == ["signed in again"]


def test_nobody_is_let_in_whose_groups_were_granted_nothing(company: Installation, provider: Provider) -> None:
    for groups in ([], ["strangers"], None, "admin", {"admins": True}, ["Reviewers"]):
        provider.claims = {"groups": groups}
        assert_refused(come_back(company, provider), "none of your groups")
    assert company.services.users.list("default") == []
    act = company.acts()[0]
    assert (act.act, act.outcome, act.target) == ("sessions.begin", "denied", "provider:company")
    assert act.after is not None
    assert act.after["groups"] == ["Reviewers"]


def test_the_role_is_read_again_each_time_and_a_group_that_is_taken_away_ends_it_all(
    company: Installation, provider: Provider
) -> None:
    assert come_back(company, provider).status_code == 200
    first = dict(company.browser.cookies)
    provider.claims = {"groups": ["reviewers", "admins"]}
    assert come_back(company, provider).status_code == 200
    assert company.browser.get("/v1/session").json()["principal"]["role"] == "owner"
    assert [user.role for user in company.services.users.list("default")] == ["owner"]
    assert company.acts()[1].act == "users.change"
    company.browser.cookies.clear()
    company.browser.cookies.update(first)
    assert company.browser.get("/v1/session").status_code == 401  # the session of the lesser role ended
    company.browser.cookies.clear()
    assert come_back(company, provider).status_code == 200
    held = dict(company.browser.cookies)
    provider.claims = {"groups": []}
    assert_refused(come_back(company, provider), "none of your groups")
    time.sleep(1.1)  # what was known a second ago is still believed
    company.browser.cookies.update(held)
    assert company.browser.get("/v1/session").status_code == 401


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "issuer": ({"iss": "https://elsewhere.example.org"}, "iss"),
    "no issuer": ({"iss": None}, "iss"),
    "audience": ({"aud": "another"}, "aud"),
    "no audience": ({"aud": None}, "aud"),
    "audiences without azp": ({"aud": ["discern", "another"]}, "azp"),
    "azp of another": ({"aud": ["discern", "another"], "azp": "another"}, "azp"),
    "azp beside one audience": ({"azp": "another"}, "azp"),
    "expired": ({"exp": 1_700_000_000}, "expired"),
    "no expiry": ({"exp": None}, "exp"),
    "issued tomorrow": ({"iat": int(time.time()) + 90_000, "exp": int(time.time()) + 99_000}, "iat|issued"),
    "not yet": ({"nbf": int(time.time()) + 9_000}, "not valid yet|nbf|not yet"),
    "nonce": ({"nonce": "x"}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "access token": ({"at_hash": "x"}, "at_hash"),
    "no subject": ({"sub": None}, "sub"),
    "blank subject": ({"sub": " "}, "sub|who you are"),
    "subject of another type": ({"sub": 7}, "sub|who you are"),
    "subject too long": ({"sub": "x" * 2000}, "who you are"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_token_with_wrong_claims_is_refused(company: Installation, provider: Provider, kind: str) -> None:
    provider.claims, why = FORGED[kind]
    assert_refused(come_back(company, provider), why)
    assert company.services.users.list("default") == []
    assert company.acts()[0].outcome == "denied"


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def by_nobody(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{encoded(header | {'alg': 'none'})}.{encoded(claims)}."


def by_the_public_key(provider: Provider) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    def sign(header: dict[str, Any], claims: dict[str, Any]) -> str:
        signed = f"{encoded(header | {'alg': 'HS256'})}.{encoded(claims)}"
        digest = hmac.new(provider.key.as_pem(private=False), signed.encode(), hashlib.sha256).digest()
        return f"{signed}.{urlsafe_b64encode(digest).decode().rstrip('=')}"

    return sign


def by_a_key_it_brings(header: dict[str, Any], claims: dict[str, Any]) -> str:
    own = jwk.RSAKey.generate_key(2048)
    named = {**header, "jwk": own.as_dict(private=False), "jku": "https://elsewhere.example.org"}
    return jwt.encode(named, claims, own, algorithms=["RS256"])


def cut_off(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{encoded(header)}.{encoded(claims)}.AAAA"


@pytest.mark.parametrize("sign", [by_nobody, by_a_key_it_brings, cut_off, lambda *_: "x", lambda *_: "a.b.c"])
def test_a_token_that_the_issuer_did_not_sign_is_refused(
    company: Installation, provider: Provider, sign: Callable[[dict[str, Any], dict[str, Any]], str]
) -> None:
    provider.sign = sign
    assert_refused(come_back(company, provider), "ID token")


def test_a_token_signed_with_the_public_key_as_a_password_is_refused(company: Installation, provider: Provider) -> None:
    provider.sign = by_the_public_key(provider)
    assert_refused(come_back(company, provider), "signed with HS256")
    # Nor with a symmetric key that the set publishes, nor by an algorithm that was not set.
    shared = jwk.OctKey.generate_key(256, {"kid": "shared"})
    provider.published.append(shared.as_dict(private=True))
    provider.sign = lambda header, claims: jwt.encode(
        {"alg": "HS256", "kid": "shared"}, claims, shared, algorithms=["HS256"]
    )
    assert_refused(come_back(company, provider), "signed with HS256")
    provider.sign = Provider._signed.__get__(provider)
    provider.header = {"alg": "RS512", "kid": "first"}
    assert_refused(come_back(company, provider), "signed with RS512")


def test_a_key_for_something_else_signs_nothing(company: Installation, provider: Provider) -> None:
    provider.published = [{**provider.key.as_dict(private=False), "use": "enc"}]
    assert_refused(come_back(company, provider), "not among the issuer's")


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_short_rsa_key_signs_nothing(company: Installation, provider: Provider) -> None:
    short = rsa.generate_private_key(65537, 1024)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = short.private_bytes(encoding, form, serialization.NoEncryption())
    provider.key = jwk.RSAKey.import_key(pem, {"kid": "first"})
    provider.published = [provider.key.as_dict(private=False)]
    assert_refused(come_back(company, provider), "not among the issuer's")


def test_another_algorithm_holds_where_it_is_set(provider: Provider, furnish: Furnish) -> None:
    at = furnish(file_of(provider, 'algorithms = ["ES256"]'))
    assert_refused(come_back(at, provider), "signed with RS256")
    curve = jwk.ECKey.generate_key("P-256", {"kid": "curve"})
    provider.published.append(curve.as_dict(private=False))
    provider.header = {"alg": "ES256", "kid": "curve"}
    provider.sign = lambda header, claims: jwt.encode(header, claims, curve, algorithms=["ES256"])
    assert come_back(at, provider).status_code == 200


def test_keys_are_rotated_and_made_up_ones_do_not_have_the_set_read_each_time(
    company: Installation, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert come_back(company, provider).status_code == 200
    assert provider.key_sets_read == 1
    provider.header = {"alg": "RS256", "kid": "made-up"}
    for _ in range(3):
        assert_refused(come_back(company, provider), "not among the issuer's")
    assert provider.key_sets_read == 1  # it was read a moment ago
    monkeypatch.setattr("discern.access.service_oidc._KEYS_AGAIN_SECONDS", 0.0)
    provider.key = jwk.RSAKey.generate_key(2048, {"kid": "second"})
    provider.published = [provider.key.as_dict(private=False)]
    provider.header = {"alg": "RS256", "kid": "second"}
    assert come_back(company, provider).status_code == 200
    assert provider.key_sets_read == 2


def test_an_answer_is_taken_once_from_the_browser_that_asked_and_in_time(
    company: Installation, provider: Provider
) -> None:
    given = provider.consent(begin(company))
    kept = dict(company.browser.cookies)
    assert company.browser.get("/v1/sign-in/company/callback", params=given).status_code == 200
    assert "__Host-discern_sign_in" not in company.browser.cookies
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "has not begun")
    company.browser.cookies.update(kept)
    provider.codes.add(given["code"])  # even where the provider would take it again
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "answered before")
    # Somebody else's answer, brought into this browser.
    given = provider.consent(begin(company))
    company.browser.cookies.clear()
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "has not begun")
    # Another state than this browser's.
    given = provider.consent(begin(company)) | {"state": "x"}
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "has not begun")
    company.browser.cookies.set("__Host-discern_sign_in", "AAAA" * 50)
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "has not begun")
    twice = "code=a&code=b&state=x"
    assert company.browser.get(f"/v1/sign-in/company/callback?{twice}").json()["code"] == "malformed_request"


def test_an_attempt_is_over_after_a_while(
    company: Installation, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = provider.consent(begin(company))
    now = company.services.federation._clock
    monkeypatch.setattr(company.services.federation, "_clock", lambda: now() + timedelta(minutes=11))
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "too long ago")


def test_a_code_that_another_asked_for_is_worth_nothing(company: Installation, provider: Provider) -> None:
    """A code that was stolen and put into another sign-in fails for its challenge (PKCE)."""
    stolen = provider.consent(begin(company))["code"]
    challenge = provider.asked["code_challenge"]
    state = query_of(begin(company))["state"]
    provider.asked["code_challenge"] = challenge
    answer = company.browser.get("/v1/sign-in/company/callback", params={"code": stolen, "state": state})
    assert_refused(answer, "did not take the code")


@pytest.mark.parametrize("given", [{"error": "access_denied"}, {}, {"code": ""}])
def test_an_answer_without_a_code_says_what_the_provider_said(company: Installation, given: dict[str, str]) -> None:
    state = query_of(begin(company))["state"]
    answer = company.browser.get("/v1/sign-in/company/callback", params=given | {"state": state})
    assert_refused(answer, given.get("error") or "no code")


def test_an_answer_that_names_another_issuer_is_a_mix_up(company: Installation, provider: Provider) -> None:
    given = provider.consent(begin(company)) | {"iss": "https://elsewhere.example.org"}
    assert_refused(company.browser.get("/v1/sign-in/company/callback", params=given), "another issuer")


def test_an_issuer_that_says_it_will_is_held_to_it(provider: Provider, furnish: Furnish) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    at = furnish(file_of(provider))
    assert_refused(come_back(at, provider), "another issuer")
    given = provider.consent(begin(at)) | {"iss": provider.issuer}
    assert at.browser.get("/v1/sign-in/company/callback", params=given).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["https://evil.example.org", "//evil.example.org", "/\\evil.example.org", "\\/x", "docs", "/a\r\nb", "/\t/x", ""],
)
def test_nobody_is_led_anywhere_but_to_a_path_of_ours(company: Installation, path: str) -> None:
    answer = company.browser.get("/v1/sign-in/company", params={"next": path})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_the_page_that_leads_on_runs_nothing_of_the_path(company: Installation, provider: Provider) -> None:
    url = begin(company, "/v1/sign-in/company?next=/x%27%26")
    answer = company.browser.get("/v1/sign-in/company/callback", params=provider.consent(url))
    assert "/x&#x27;&amp;" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://elsewhere.example.org"},
        {"token_endpoint": "http://elsewhere.example.org/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
def test_discovery_that_cannot_be_trusted_is_not(
    provider: Provider, furnish: Furnish, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    answer = furnish(file_of(provider)).browser.get("/v1/sign-in/company")
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")


def test_a_private_address_that_the_provider_names_is_not_called(provider: Provider, furnish: Furnish) -> None:
    provider.metadata = {"jwks_uri": "https://localhost:1/keys"}
    answer = come_back(furnish(file_of(provider)), provider)
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert "not a public address" in answer.json()["detail"]


def test_a_provider_that_is_down_is_said_and_keeps_nobody_else_out(furnish: Furnish) -> None:
    with running() as provider:
        at = furnish(file_of(provider))
    answer = at.browser.get("/v1/sign-in/company")
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert answer.json()["provider"] == "company"
    at.services.users.create("default", "local", "several words of a person", role="analyst")
    login = {"name": "local", "password": "several words of a person"}
    assert at.browser.post("/v1/login", json=login).status_code == 201


def test_a_second_factor_of_the_provider_is_held_to_where_it_is_asked_for(provider: Provider, furnish: Furnish) -> None:
    at = furnish(file_of(provider, 'require_amr = ["mfa", "hwk"]\nrequire_acr = ["urn:gold"]'))
    assert_refused(come_back(at, provider), "acr")
    assert provider.asked["acr_values"] == "urn:gold"
    provider.claims = {"acr": "urn:gold"}
    assert_refused(come_back(at, provider), "amr")
    provider.claims = {"acr": "urn:gold", "amr": ["pwd"]}
    assert_refused(come_back(at, provider), "amr")
    provider.claims = {"acr": "urn:gold", "amr": ["pwd", "mfa"]}
    assert come_back(at, provider).status_code == 200


def test_userinfo_is_of_the_same_person_and_adds_what_the_token_leaves_out(
    provider: Provider, furnish: Furnish
) -> None:
    at = furnish(file_of(provider, 'userinfo = true\ngroups_claim = "realm_access.roles"'))
    provider.userinfo = {"sub": "somebody-else", "realm_access": {"roles": ["admins"]}}
    assert_refused(come_back(at, provider), "somebody else")
    provider.userinfo = {"sub": "248289761001", "realm_access": {"roles": ["reviewers"]}}
    assert come_back(at, provider).status_code == 200


def test_two_providers_and_a_local_user_of_one_name_are_three_people(provider: Provider, furnish: Furnish) -> None:
    with running() as second:
        other = file_of(second).replace("oidc.company", "oidc.other")
        at = furnish(file_of(provider) + other)
        at.services.users.create("default", "ann", "several words of a person", role="analyst")
        assert come_back(at, provider).status_code == 200
        given = second.consent(begin(at, "/v1/sign-in/other"))
        # An answer of the one is no answer to the other.
        mixed = at.browser.get("/v1/sign-in/company/callback", params=given)
        assert_refused(mixed, "has not begun")
        given = second.consent(begin(at, "/v1/sign-in/other"))
        assert at.browser.get("/v1/sign-in/other/callback", params=given).status_code == 200
    names = sorted(user.name for user in at.services.users.list("default"))
    assert names == ["ann", "company:ann", "other:ann"]


def test_two_people_whom_the_provider_calls_alike_stay_two(company: Installation, provider: Provider) -> None:
    assert come_back(company, provider).status_code == 200
    provider.claims = {"sub": "another-person"}
    assert come_back(company, provider).status_code == 200
    assert come_back(company, provider).status_code == 200
    names = [user.name for user in company.services.users.list("default")]
    assert len(names) == 2
    assert re.fullmatch(r"company:ann-[0-9a-f]{12}", names[1])


def test_who_comes_from_a_provider_has_no_password_here_and_is_changed_there(
    company: Installation, provider: Provider
) -> None:
    assert come_back(company, provider).status_code == 200
    token = {"X-CSRF-Token": company.browser.get("/v1/session").json()["csrf_token"]}
    for password in ("", "several words of a person"):
        answer = company.browser.post("/v1/login", json={"name": "company:ann", "password": password})
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_password")
    change = {"old": "", "new": "several words of a person"}
    answer = company.browser.post("/v1/password", json=change, headers=token)
    assert (answer.status_code, "you come from company" in answer.json()["detail"]) == (400, True)
    key = company.services.keys.issue("default", "o", role="owner").secret
    owner = {"Authorization": f"Bearer {key}"}
    user = company.services.users.list("default")[0]
    for body in ({"role": "owner"}, {"password": "several words of a person"}, {"detectors": None}):
        answer = company.browser.patch(f"/v1/users/{user.id}", json=body, headers=owner)
        assert (answer.status_code, "comes from company" in answer.json()["detail"]) == (400, True), body
    assert company.browser.patch(f"/v1/users/{user.id}", json={"disabled": True}, headers=owner).status_code == 200
    time.sleep(1.1)
    assert company.browser.get("/v1/session").status_code == 401
    assert_refused(come_back(company, provider), "disabled")
    taken = company.browser.post(
        "/v1/users", json={"name": "company:bob", "role": "reviewer", "password": change["new"]}, headers=owner
    )
    assert taken.status_code == 400  # no user of our own can be called as one of a provider's


def test_a_session_from_a_provider_is_short(provider: Provider, furnish: Furnish) -> None:
    at = furnish(file_of(provider), DISCERN_FEDERATED_SESSION_SECONDS="60")
    assert come_back(at, provider).status_code == 200
    session = at.browser.get("/v1/session").json()["session"]
    assert session["ends_at"] is not None
    now = at.services.users._clock
    at.services.users._remembered = {}
    at.services.users._clock = lambda: now() + timedelta(seconds=61)
    assert at.browser.get("/v1/session").status_code == 401


def test_signing_in_counts_against_the_limit_of_an_address(provider: Provider, furnish: Furnish) -> None:
    at = furnish(file_of(provider), DISCERN_RATE_LIMITS="address 3/minute")
    codes = [at.browser.get("/v1/sign-in/company").status_code for _ in range(4)]
    assert codes == [303, 303, 303, 429]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the provider's own
def test_a_whole_sign_in_at_a_real_provider(home: Path, furnish: Furnish) -> None:
    mock = pytest.importorskip("oidc_provider_mock", reason="the extra test is not installed")
    claims = {"groups": ["reviewers"], "preferred_username": "alice"}
    people = [mock.User(sub="alice", claims=claims)]
    with mock.run_server_in_thread(user_claims=people) as server:
        issuer = f"http://localhost:{server.server_port}"
        (home / "keys" / "oidc-client").write_text("several words of a client\n")
        at = furnish(file_of(Provider(issuer), 'userinfo = true\nclient_secret_file = "keys/oidc-client"'))
        url = begin(at)
        answer = httpx2.post(url, data={"sub": "alice"})
        assert answer.status_code in {302, 303}, answer.text
        back = answer.headers["location"]
        assert back.startswith("https://discern.example.org/v1/sign-in/company/callback?")
        landed = at.browser.get("/v1/sign-in/company/callback", params=query_of(back))
        assert landed.status_code == 200, landed.text
    assert [user.name for user in at.services.users.list("default")] == ["company:alice"]


def test_who_lets_in_a_role_that_needs_a_second_factor_has_to_ask_for_one(home: Path) -> None:
    (home / "hidden-word").write_text("hidden-word")
    text = """
[oidc.company]
issuer = "https://id.example.org"
client_id = "discern"
client_secret_file = "hidden-word"
{extra}
[[oidc.company.grant]]
group = "fraud"
role = "owner"
"""

    def opened(extra: str, roles: str) -> None:
        (home / "sign-in.toml").write_text(text.format(extra=extra))
        environment = {"DISCERN_HOME": str(home), "DISCERN_PUBLIC_URL": "https://discern.example.org"}
        services = build_services(load_settings(environment | {"DISCERN_SECOND_FACTOR_ROLES": roles}))
        services.open()
        try:
            services.federation.open()
        finally:
            services.close()

    opened("", "operator")
    opened('require_amr = ["mfa"]', "owner")
    opened("has_second_factor = true", "owner")
    with pytest.raises(InvalidSettings, match="company lets in owner without the second factor"):
        opened("", "owner")
