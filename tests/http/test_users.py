"""People: signing in and out, what a session bears and what it does not, and who may make whom."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from discern.access.service_users import (
    FREE_FAILURES,
    IDLE,
    LONGEST,
    LONGEST_PASSWORD,
    SHORTEST_PASSWORD,
    Users,
    check_password,
)
from discern.access.store_users import UserStore, sessions
from discern.access.types import Principal, Role, SignedIn
from discern.app import Services
from discern.app_http import create_app
from discern.core.errors import CallerError, StorageUnavailable, Unauthenticated, WrongPassword
from discern.settings import Settings

pytestmark = pytest.mark.system
PASSWORD = "several words of a person"
RECORD = {"a": 1, "b": 0.5, "c": -1}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(services: Services, clock: Clock) -> Users:
    """Users that remember nothing, by a clock that the test sets."""
    ages = iter(range(0, 10**9, 100))
    return Users(UserStore(services.database, services.audit), clock, lambda: float(next(ages)))


@pytest.fixture
def browser(services: Services) -> Iterator[TestClient]:
    services.users.create("default", "ann@example.org", PASSWORD, role="analyst")
    with TestClient(create_app(services), base_url="https://testserver") as client:
        yield client


def signed_in(browser: TestClient, name: str = "ann@example.org", password: str = PASSWORD) -> dict[str, str]:
    answer = browser.post("/v1/login", json={"name": name, "password": password})
    assert answer.status_code == 201, answer.text
    return {"X-CSRF-Token": answer.json()["csrf_token"]}


def sign_in(users: Users, name: str, password: str, agent: str) -> SignedIn:
    user, hashed = users.check(name, password)
    return users.begin(user, agent, factor=None, password=hashed)


def test_somebody_signs_in_asks_and_signs_out(browser: TestClient) -> None:
    token = signed_in(browser)
    me = browser.get("/v1/session").json()
    assert (me["principal"]["role"], me["csrf_token"]) == ("analyst", token["X-CSRF-Token"])
    assert browser.post("/v1/detectors/toy-record/verdicts", json=RECORD, headers=token).status_code == 200
    assert browser.get("/v1/keys").status_code == 403
    old = dict(browser.cookies)
    left = browser.delete("/v1/session", headers=token)
    assert (left.status_code, left.headers["clear-site-data"]) == (204, '"storage"')
    assert browser.get("/v1/session").status_code == 401
    browser.cookies.update(old)
    assert browser.get("/v1/session").status_code == 401  # a copy of the cookie is worth nothing


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(browser: TestClient, services: Services) -> None:
    answer = browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-discern_session=dss_")
    for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    secret = cookie.partition("=")[2].partition(";")[0]
    assert secret not in answer.text
    plain = TestClient(create_app(services)).post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD})
    assert plain.headers["set-cookie"].startswith("discern_session=")
    for path in services.settings.home.glob("discern.db*"):
        content = path.read_bytes()
        assert secret.encode() not in content
        assert PASSWORD.encode() not in content


@pytest.mark.parametrize("token", [None, "", "x", "0" * 43])
def test_what_changes_something_needs_the_token_of_this_session(browser: TestClient, token: str | None) -> None:
    signed_in(browser)
    headers = {} if token is None else {"X-CSRF-Token": token}
    for path, body in (("/v1/detectors/toy-record/verdicts", RECORD), ("/v1/password", {"old": "", "new": ""})):
        answer = browser.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_csrf_token")
    other = TestClient(browser.app, base_url="https://testserver")
    theirs = signed_in(other)
    assert browser.delete("/v1/session", headers=theirs).status_code == 403
    assert browser.get("/v1/verdicts").status_code == 200


def test_a_session_that_was_brought_along_is_never_the_one_that_is_begun(browser: TestClient) -> None:
    planted = "dss_" + "a" * 43
    browser.cookies.set("__Host-discern_session", planted)
    answer = browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD})
    first = answer.headers["set-cookie"]
    assert planted not in first
    assert (
        browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD}).headers["set-cookie"] != first
    )


def test_signing_in_again_ends_the_session_that_the_browser_still_had(browser: TestClient, services: Services) -> None:
    services.users.create("default", "bob", PASSWORD, role="reviewer")
    elsewhere = TestClient(browser.app, base_url="https://testserver")
    signed_in(elsewhere)
    signed_in(browser)
    first = dict(browser.cookies)
    wrong = browser.post("/v1/login", json={"name": "bob", "password": "wrong words altogether"})
    assert (wrong.status_code, browser.get("/v1/session").status_code) == (401, 200)
    signed_in(browser, "bob")  # whoever it was before
    assert browser.get("/v1/session").json()["principal"]["role"] == "reviewer"
    assert len(elsewhere.get("/v1/sessions").json()["sessions"]) == 1  # only the one of another browser goes on
    browser.cookies.clear()
    browser.cookies.update(first)
    assert browser.get("/v1/session").status_code == 401
    key = services.keys.issue("default", "o", role="owner").secret
    entries = browser.get("/v1/audit", headers={"Authorization": f"Bearer {key}"}).json()["entries"]
    ended = [entry["act"]["reason"] for entry in entries if entry["act"]["act"] == "sessions.end"]
    assert ended == ["signed in again"]


def test_a_cookie_opens_no_stream_and_gives_way_to_a_key(browser: TestClient, services: Services) -> None:
    signed_in(browser)
    stream = browser.websocket_connect("/v1/detectors/toy-record/stream")
    with pytest.raises(WebSocketDenialResponse) as refused, stream:
        pass
    assert refused.value.status_code == 401
    key = services.keys.issue("default", "k", role="device").secret
    me = browser.get("/v1/whoami", headers={"Authorization": f"Bearer {key}"}).json()
    assert me["role"] == "device"
    wrong = {"Authorization": "Bearer dsc_" + "a" * 43}
    assert browser.get("/v1/whoami", headers=wrong).status_code == 401


def test_sessions_are_listed_and_ended_one_by_one(browser: TestClient) -> None:
    token = signed_in(browser)
    phone = TestClient(browser.app, base_url="https://testserver", headers={"User-Agent": "Phone\x07"})
    signed_in(phone)
    sessions = browser.get("/v1/sessions").json()["sessions"]
    assert [session["agent"] for session in sessions] == ["Phone", "testclient"]
    assert browser.delete(f"/v1/sessions/{sessions[0]['id']}", headers=token).status_code == 204
    time.sleep(1.1)  # what was known a second ago is still believed
    assert phone.get("/v1/session").status_code == 401
    assert browser.get("/v1/session").status_code == 200
    answer = browser.delete(f"/v1/sessions/{sessions[0]['id']}", headers=token)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")


def test_a_new_password_ends_every_session_and_the_old_one_is_asked_for(browser: TestClient) -> None:
    token = signed_in(browser)
    wrong = browser.post("/v1/password", json={"old": "not it at all", "new": "several words of late"}, headers=token)
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
    good = {"old": PASSWORD, "new": "several words of late"}
    assert browser.post("/v1/password", json=good, headers=token).status_code == 204
    assert browser.get("/v1/session").status_code == 401
    assert browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD}).status_code == 401
    signed_in(browser, password="several words of late")


def test_a_name_that_does_not_exist_is_answered_like_a_wrong_password(browser: TestClient) -> None:
    answers: list[Any] = []
    for name in ("ann@example.org", "nobody@example.org", "", "'; --"):
        answer = browser.post("/v1/login", json={"name": name, "password": "wrong words altogether"})
        answers.append((answer.status_code, answer.json(), "set-cookie" in answer.headers))
    assert answers == [answers[0]] * 4
    assert (answers[0][0], answers[0][2]) == (401, False)


def test_guessing_locks_a_name_longer_and_longer_for_the_right_password_too(users: Users, clock: Clock) -> None:
    users.create("default", "bob", PASSWORD, role="reviewer")
    for _ in range(FREE_FAILURES):
        with pytest.raises(WrongPassword):
            sign_in(users, "bob", "wrong words", "")
    with pytest.raises(WrongPassword):
        sign_in(users, "bob", PASSWORD, "")
    clock.now += timedelta(seconds=2.1)
    with pytest.raises(WrongPassword):
        sign_in(users, "bob", "wrong words", "")
    clock.now += timedelta(seconds=2.1)
    with pytest.raises(WrongPassword):  # four seconds by now
        sign_in(users, "bob", PASSWORD, "")
    clock.now += timedelta(seconds=2.1)
    assert sign_in(users, "bob", PASSWORD, "").principal.role == "reviewer"
    with pytest.raises(WrongPassword):
        sign_in(users, "bob", "wrong words", "")
    assert sign_in(users, "bob", PASSWORD, "")  # what was wrong before is forgotten


def test_a_session_ends_by_itself(users: Users, clock: Clock) -> None:
    users.create("default", "bob", PASSWORD, role="reviewer")
    secret = sign_in(users, "bob", PASSWORD, "").secret
    clock.now += IDLE - timedelta(seconds=1)
    assert users.authenticate(secret).role == "reviewer"
    users.write_down_uses()
    clock.now += IDLE - timedelta(seconds=1)
    assert users.authenticate(secret)
    clock.now += timedelta(minutes=2)
    with pytest.raises(Unauthenticated):
        users.authenticate(secret)
    busy = sign_in(users, "bob", PASSWORD, "").secret
    for _ in range(int(LONGEST / timedelta(minutes=20)) - 1):
        clock.now += timedelta(minutes=20)
        users.authenticate(busy)
        users.write_down_uses()
    clock.now += timedelta(minutes=20)
    with pytest.raises(Unauthenticated):
        users.authenticate(busy)


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "device"}, {"detectors": ("toy-image",)}])
def test_whatever_changes_about_somebody_ends_their_sessions(users: Users, change: dict[str, Any]) -> None:
    user = users.create("default", "bob", PASSWORD, role="owner")
    secret = sign_in(users, "bob", PASSWORD, "").secret
    users.change(user, **change)
    with pytest.raises(Unauthenticated):
        users.authenticate(secret)
    if "disabled" in change:
        with pytest.raises(WrongPassword):
            sign_in(users, "bob", PASSWORD, "")


@pytest.mark.parametrize("word", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "my bobby and bobby"])
def test_a_password_that_is_easily_guessed_is_refused(users: Users, word: str) -> None:
    with pytest.raises(CallerError, match="password"):
        users.create("default", "bobby", word, role="reviewer")


@pytest.mark.parametrize(
    "word",
    ["qwerty123456", "1q2w3e4r5t6y", "Password1234", "p@ssw0rd1234", "iloveyou1234", "qwertyuiop12", "abcdefghijkl"],
)
def test_a_common_password_is_refused_wherever_it_is_set(users: Users, browser: TestClient, word: str) -> None:
    with pytest.raises(CallerError, match="too easily guessed"):
        users.create("default", "bobby", word, role="reviewer")
    token = signed_in(browser)
    answer = browser.post("/v1/password", json={"old": PASSWORD, "new": word}, headers=token)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    signed_in(browser)  # the old one still holds


def test_the_commonest_passwords_that_are_long_enough_are_refused_and_words_together_are_not() -> None:
    commonest = [word for word in FREQUENCY_LISTS["passwords"] if len(word) >= SHORTEST_PASSWORD]
    assert len(commonest) > 200
    for word in commonest:
        for typed in (word, word.capitalize(), word.upper()):
            with pytest.raises(CallerError, match="too easily guessed"):
                check_password(typed, "bobby")
    for word in (PASSWORD, "correct horse battery staple", "aGv7-q0Zt-93kX", "wörter einer anderen sprache"):
        check_password(word, "bobby")


def test_what_is_longer_than_a_password_may_be_fits_none(users: Users) -> None:
    longest = ("several words of a long story " * 9)[:LONGEST_PASSWORD]
    users.create("default", "bob", longest, role="reviewer")
    for password in (longest + "x", longest * 1000):
        with pytest.raises(WrongPassword):
            sign_in(users, "bob", password, "")
    assert sign_in(users, "bob", longest, "").principal.role == "reviewer"


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "-a", "ä@example.org", "bob\n"])
def test_a_name_that_cannot_be_is_refused(users: Users, name: str) -> None:
    if name != "bob\n":  # blanks around it are nobody's intention
        with pytest.raises(CallerError):
            users.create("default", name, PASSWORD, role="reviewer")
    assert users.create("default", "Bob", PASSWORD, role="reviewer").name == "bob"
    with pytest.raises(CallerError, match="already"):
        users.create("default", " BOB ", PASSWORD, role="owner")


def test_who_is_disabled_while_changing_their_password_stays_disabled(users: Users) -> None:
    user = users.create("default", "bob", PASSWORD, role="owner")
    users.change(user, disabled=True)
    users.change(user, password="several words of late")  # by what was read before
    users.change(user, role="reviewer")
    assert (users.get("default", user.id).disabled_at is None, users.get("default", user.id).role) == (
        False,
        "reviewer",
    )


def test_a_password_that_is_changed_meanwhile_begins_no_session(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    user = users.create("default", "bob", PASSWORD, role="owner")
    checked = users.check

    def slow(name: str, password: str) -> Any:
        found = checked(name, password)
        users.change(user, password="several words of late")
        return found

    monkeypatch.setattr(users, "check", slow)
    with pytest.raises(WrongPassword):
        sign_in(users, "bob", PASSWORD, "")
    assert users.sessions(Principal(f"user:{user.id}", "default", "owner")) == ()


def test_guesses_at_the_same_time_are_all_counted(users: Users) -> None:
    user = users.create("default", "bob", PASSWORD, role="owner")

    def guess() -> None:
        with pytest.raises(WrongPassword):
            sign_in(users, "bob", "wrong words", "")

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failures = users.get("default", user.id).failures
    assert FREE_FAILURES <= failures <= FREE_FAILURES + 1  # two are looked at at a time


def test_a_flood_of_logins_is_refused_and_holds_up_nobody_else(browser: TestClient, services: Services) -> None:
    key = {"Authorization": f"Bearer {services.keys.issue('default', 'k', role='owner').secret}"}
    statuses: list[int] = []

    async def run() -> float:
        transport = httpx2.ASGITransport(app=browser.app)
        async with httpx2.AsyncClient(transport=transport, base_url="https://testserver") as client:
            login = {"name": "nobody", "password": "several words of nobody"}
            flood = [asyncio.create_task(client.post("/v1/login", json=login)) for _ in range(300)]
            await asyncio.sleep(0.05)
            started = time.monotonic()
            assert (await client.get("/v1/keys", headers=key)).status_code == 200
            took = time.monotonic() - started
            statuses.extend(answer.status_code for answer in await asyncio.gather(*flood))
            return took

    # All of them would take six seconds, and more on a machine that is slower.
    assert asyncio.run(run()) < 3
    assert set(statuses) == {401, 503}


@pytest.mark.parametrize("route", ["session/proof", "password", "users", "users/ID"])
def test_hashing_passwords_takes_no_thread_from_anybody_else(
    browser: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    token, go_on = signed_in(browser), threading.Event()
    key = {"Authorization": f"Bearer {services.keys.issue('default', 'k', role='owner').secret}"}
    bob = services.users.create("default", "bob", PASSWORD, role="analyst")
    body, headers = {
        "session/proof": ({"password": "several words of another"}, token),
        "password": ({"old": "several words of another", "new": PASSWORD}, token),
        "users": ({"name": "carl", "role": "analyst", "password": PASSWORD}, key),
        "users/ID": ({"password": "several words of bob"}, key),
    }[route]

    def hash_at_last(*_: object) -> bool:
        return go_on.wait(60) and False

    monkeypatch.setattr(services.users, "_hash", hash_at_last)
    monkeypatch.setattr(services.users, "_verified", hash_at_last)

    async def run() -> list[int]:
        transport = httpx2.ASGITransport(app=browser.app)
        url, cookies = "https://testserver/v1/", dict(browser.cookies)
        async with httpx2.AsyncClient(transport=transport, base_url=url, timeout=60, cookies=cookies) as client:
            method, path = ("PATCH" if "ID" in route else "POST"), route.replace("ID", str(bob.id))
            asking = [asyncio.create_task(client.request(method, path, json=body, headers=headers)) for _ in range(60)]
            # Those that are too many are refused; the others wait for their turn by now.
            while sum(one.done() for one in asking) < 20:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            assert (await client.get("keys", headers=key)).status_code == 200
            refused = [one.result().status_code for one in asking if one.done()]
            go_on.set()
            await asyncio.gather(*asking, return_exceptions=True)
            return refused

    assert asyncio.run(asyncio.wait_for(run(), 50)) == [503] * 20


def test_over_https_only_the_cookie_of_this_host_counts(browser: TestClient) -> None:
    answer = browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD})
    secret = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    browser.cookies.clear()
    browser.cookies.set("discern_session", secret)
    assert browser.get("/v1/session").status_code == 401


def test_of_many_who_make_one_name_at_once_one_succeeds(users: Users) -> None:
    made: list[str] = []

    def make() -> None:
        try:
            made.append(users.create("default", "many", PASSWORD, role="reviewer").name)
        except CallerError:
            made.append("")

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["", "", "", "", "", "many"]


def test_while_the_database_is_silent_nobody_signs_in(browser: TestClient, services: Services) -> None:
    services.database.close()
    with pytest.raises(StorageUnavailable):
        services.sign_in.begin("ann@example.org", PASSWORD, "")
    answer = browser.post("/v1/login", json={"name": "ann@example.org", "password": PASSWORD})
    assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)


def test_whoever_was_granted_little_does_not_change_who_was_granted_more(
    browser: TestClient, services: Services
) -> None:
    narrow = services.users.create("default", "narrow", PASSWORD, role="owner", detectors=("toy-image",))
    wide = services.users.create("default", "wide", PASSWORD, role="owner")
    token = signed_in(browser, "narrow")
    for change in ({"password": "several words of theirs"}, {"disabled": True}, {"detectors": ["toy-image"]}):
        answer = browser.patch(f"/v1/users/{wide.id}", json=change, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    widened = browser.patch(f"/v1/users/{narrow.id}", json={"detectors": None}, headers=token)
    assert widened.status_code == 403
    own = browser.post("/v1/password", json={"old": PASSWORD, "new": "several words of late"}, headers=token)
    assert own.status_code == 204


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_another_site_signs_nobody_in(browser: TestClient, content_type: str) -> None:
    content = b'{"name": "ann@example.org", "password": "several words of a person"}'
    answer = browser.post("/v1/login", content=content, headers={"Content-Type": content_type})
    assert (answer.status_code, "set-cookie" in answer.headers) == (415, False)


@pytest.mark.parametrize("role", ["operator", "analyst", "auditor", "service"])
def test_only_an_owner_makes_and_changes_users(browser: TestClient, services: Services, role: Role) -> None:
    user = {"name": "eve", "password": PASSWORD, "role": "owner"}
    key = services.keys.issue("default", "k", role=role).secret
    answer = browser.post("/v1/users", json=user, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    owner = {"Authorization": f"Bearer {services.keys.issue('default', 'o', role='owner').secret}"}
    made = browser.post("/v1/users", json=user, headers=owner)
    assert (made.status_code, made.json()["role"]) == (201, "owner")
    assert PASSWORD not in made.text
    path = f"/v1/users/{made.json()['id']}"
    narrowed = browser.patch(path, json={"detectors": ["toy-image"]}, headers=owner).json()
    assert narrowed["detectors"] == ["toy-image"]
    assert browser.patch(path, json={"role": "reviewer"}, headers=owner).json()["detectors"] == ["toy-image"]
    assert browser.patch(path, json={"detectors": None}, headers=owner).json()["detectors"] is None
    assert browser.patch(path, json={"disabled": True}, headers=owner).json()["disabled_at"] is not None
    entries = browser.get("/v1/audit", headers=owner).json()["entries"]
    assert [entry["act"]["act"] for entry in entries[:4]] == ["users.change"] * 4
    assert "argon2" not in str(entries)


def test_what_hands_out_access_needs_a_fresh_proof(browser: TestClient, services: Services) -> None:
    services.users.create("default", "olga", PASSWORD, role="owner")
    token = signed_in(browser, "olga")
    key = {"name": "k", "role": "service"}
    assert browser.post("/v1/keys", json=key, headers=token).status_code == 201
    # Somebody finds the browser open, ten minutes later.
    with services.database.write() as connection:
        earlier = datetime.now(UTC) - timedelta(minutes=10)
        connection.execute(sessions.update().values(proven_at=earlier))
    services.users.forget()
    ann = services.users.named("default", "ann@example.org")
    for method, path, given in (
        ("POST", "/v1/keys", key),
        ("POST", "/v1/users", {"name": "n", "role": "owner", "password": PASSWORD}),
        ("PATCH", f"/v1/users/{ann.id}", {"password": "several words of another"}),
        ("DELETE", f"/v1/users/{ann.id}/factors", None),
    ):
        answer = browser.request(method, path, json=given, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "fresh_proof_needed"), path
    assert browser.get("/v1/users").status_code == 200
    proof = browser.post("/v1/session/proof", json={"password": PASSWORD}, headers=token)
    assert proof.status_code in {200, 204}, proof.text
    assert browser.post("/v1/keys", json=key, headers=token).status_code == 201


def test_nobody_sets_their_own_password_without_the_old_one(browser: TestClient, services: Services) -> None:
    olga = services.users.create("default", "olga", PASSWORD, role="owner")
    token = signed_in(browser, "olga")
    answer = browser.patch(f"/v1/users/{olga.id}", json={"password": "several words of another"}, headers=token)
    assert answer.status_code == 400
    assert browser.post("/v1/login", json={"name": "olga", "password": PASSWORD}).status_code == 201


def test_who_may_change_some_roles_makes_no_others_of_them(services: Services, settings: Settings) -> None:
    policies = settings.home / "policies"
    policies.mkdir()
    (policies / "own.cedar").write_text(
        """@id("operators-keep-analysts")
        permit (principal in Role::"operator", action == Action::"users.change", resource)
        when { resource is Workspace || resource.role == "analyst" };"""
    )
    client = TestClient(create_app(services), raise_server_exceptions=False)
    secret = services.keys.issue("default", "k", role="operator").secret
    user = services.users.create("default", "mia", PASSWORD, role="analyst")
    headers = {"Authorization": f"Bearer {secret}"}
    assert client.patch(f"/v1/users/{user.id}", json={"role": "owner"}, headers=headers).status_code == 403
    assert client.patch(f"/v1/users/{user.id}", json={"disabled": True}, headers=headers).status_code == 200
