"""What an operator may say of identity providers, and what holds for all of them."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from discern.access.rules_federation import grant_of, identity_digest, read_providers, seal, unseal
from discern.access.store_federation import FederationStore
from discern.access.types_federation import Attempt, Identity
from discern.app import Services, build_services
from discern.audit.types import Act
from discern.cli.doctor import examine
from discern.cli.main import main
from discern.core.clock import utc_now
from discern.core.errors import InvalidSettings, MissingExtra
from discern.settings import load_settings
from tests.access.conftest import Furnish
from tests.access.federated import running

GOOD = {"issuer": "https://idp.example.org", "client_id": "discern"}
LDAP = {"bind_dn": "cn=s", "bind_password_file": "p", "user_base": "dc=x"}
DIRECTORY = """[ldap.x]
url = "ldaps://h"
bind_dn = "cn=s"
bind_password_file = "password"
user_base = "dc=x"
"""
KEY = b"k" * 32
ATTEMPT = Attempt("company", "state", "nonce", "verifier", "/docs", 2_000_000_000)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"oauth": {"x": GOOD}}, "no kind of provider 'oauth'"),
        ({"oidc": {"X y": GOOD}}, "cannot be the name"),
        ({"oidc": {"key": GOOD}}, "cannot be the name"),
        ({"oidc": {"x": GOOD}, "ldap": {"x": LDAP | {"url": "ldaps://h"}}}, "that of two"),
        ({"oidc": {"x": GOOD | {"isuer": "y"}}}, "isuer"),
        ({"oidc": {"x": {"issuer": "https://a"}}}, "client_id"),
        ({"oidc": {"x": GOOD | {"issuer": "http://idp.example.org"}}}, "https"),
        ({"oidc": {"x": GOOD | {"issuer": "https://user@idp.example.org"}}}, "https"),
        ({"oidc": {"x": GOOD | {"algorithms": ["HS256"]}}}, "HS256"),
        ({"oidc": {"x": GOOD | {"algorithms": ["none"]}}}, "none"),
        ({"oidc": {"x": GOOD | {"algorithms": []}}}, "algorithms"),
        ({"oidc": {"x": GOOD | {"scopes": ["profile"]}}}, "openid"),
        ({"oidc": {"x": GOOD | {"grant": [{"group": "g", "role": "god"}]}}}, "god"),
        ({"oidc": {"x": GOOD | {"grant": [{"group": "g", "role": "owner", "detector": "x"}]}}}, "detector"),
        ({"oidc": 3}, "no table"),
        ({"saml": {"x": {"entity_id": "e", "sign_on_url": "http://idp/sso", "certificate_file": "c"}}}, "https"),
        ({"ldap": {"x": LDAP | {"url": "http://h"}}}, "ldap://"),
        ({"ldap": {"x": LDAP | {"url": "ldap://h", "start_tls": False}}}, "unencrypted"),
        ({"ldap": {"x": LDAP | {"url": "ldaps://h", "user_filter": "(uid=x)"}}}, "{name}"),
    ],
)
def test_a_file_that_says_something_wrong_stops_the_start_and_says_where(content: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        read_providers(content, "sign-in.toml")
    assert why in str(refusal.value)
    assert "sign-in.toml" in str(refusal.value)


def test_plaintext_goes_where_the_operator_says_so_and_to_this_machine() -> None:
    for more in ({"url": "ldap://h", "start_tls": False, "allow_plaintext": True}, {"url": "ldap://127.0.0.1"}):
        assert read_providers({"ldap": {"x": LDAP | more}}, "sign-in.toml")


def test_the_first_grant_of_the_file_counts_and_groups_are_compared_exactly() -> None:
    grants = [{"group": "b", "role": "owner"}, {"group": "a", "role": "reviewer", "detectors": []}]
    oidc = read_providers({"oidc": {"x": GOOD | {"grant": grants}}}, "f")["x"]
    assert [getattr(grant_of(oidc, groups), "role", None) for groups in (["a", "b"], ["a"], ["A"], [" a"], [])] == [
        "owner",
        "reviewer",
        None,
        None,
        None,
    ]
    granted = {"grant": [{"group": "CN=A,dc=x", "role": "owner"}], "url": "ldaps://h"}
    ldap = read_providers({"ldap": {"x": LDAP | granted}}, "f")["x"]
    assert grant_of(ldap, ["cn=a,DC=x"]) is not None  # DNs have no case
    assert grant_of(ldap, ["cn=a,ou=b,dc=x"]) is None


def test_an_identity_is_workspace_provider_issuer_and_subject_together() -> None:
    providers = read_providers({"oidc": {"x": GOOD, "y": GOOD | {"workspace": "other"}}}, "f")
    digests = {
        identity_digest(name, providers[of], Identity(issuer, subject, "n", ()))
        for name in ("x", "y")
        for of in ("x", "y")
        for issuer, subject in (("a", "bc"), ("ab", "c"), ("a", "b"))
    }
    assert len(digests) == 12


def test_a_sealed_attempt_is_read_by_its_key_alone_and_only_as_it_was() -> None:
    sealed = seal(KEY, os.urandom(12), ATTEMPT)
    assert unseal(KEY, sealed) == ATTEMPT
    assert unseal(b"j" * 32, sealed) is None
    for changed in (sealed[:-2], "A" + sealed[1:], sealed + "AAAA", "", "!", "é", "A" * 10_000):
        assert unseal(KEY, changed) is None
    assert "verifier" not in sealed


@pytest.fixture
def named(home: Path) -> dict[str, str]:
    return {"DISCERN_HOME": str(home), "DISCERN_PUBLIC_URL": "https://discern.example.org"}


@pytest.mark.parametrize(
    ("content", "change", "why"),
    [
        ("x = ", {}, "cannot be read"),
        (None, {"DISCERN_IDENTITY_PROVIDERS": "/nowhere/sign-in.toml"}, "is not there"),
        ('[oidc.x]\nissuer = "https://a"\nclient_id = "b"', {"DISCERN_PUBLIC_URL": ""}, "needs public_url"),
        ('[oidc.x]\nissuer = "https://a"\nclient_id = "b"', {"DISCERN_PUBLIC_URL": "http://a.b"}, "needs public_url"),
        ('[oidc.x]\nissuer = "https://a"\nclient_id = "b"', {"DISCERN_PUBLIC_URL": "https://a/b"}, "needs public_url"),
        ('[oidc.x]\nissuer = "https://a"\nclient_id = "b"\nclient_secret_file = "no"', {}, "cannot be read"),
        ('[oidc.x]\nissuer = "https://a"\nclient_id = "b"\nworkspace = "no"', {}, "'no' of x does not exist"),
        (
            '[saml.x]\nentity_id = "e"\nsign_on_url = "https://a"\ncertificate_file = "sign-in.toml"',
            {},
            "holds no certificate",
        ),
    ],
)
def test_what_cannot_be_used_stops_the_start(
    home: Path, named: dict[str, str], content: str | None, change: dict[str, str], why: str
) -> None:
    if content is not None:
        (home / "sign-in.toml").write_text(content)
    services = build_services(load_settings(named | change))
    services.open()
    try:
        with pytest.raises(InvalidSettings, match=why):
            services.federation.open()
    finally:
        services.close()


@pytest.mark.parametrize(
    ("library", "extra", "content"),
    [
        ("signxml", "saml", '[saml.x]\nentity_id = "e"\nsign_on_url = "https://a"\ncertificate_file = "x.pem"'),
        ("lxml", "saml", '[saml.x]\nentity_id = "e"\nsign_on_url = "https://a"\ncertificate_file = "x.pem"'),
        ("ldap3", "ldap", DIRECTORY),
        ("authlib", "server", '[oidc.x]\nissuer = "https://a"\nclient_id = "b"'),
    ],
)
def test_a_provider_whose_extra_is_not_installed_stops_the_start(
    home: Path, named: dict[str, str], monkeypatch: pytest.MonkeyPatch, library: str, extra: str, content: str
) -> None:
    (home / "sign-in.toml").write_text(content)
    (home / "x.pem").write_text("")
    (home / "password").write_text("several words of the directory")
    monkeypatch.setitem(sys.modules, library, None)
    services = build_services(load_settings(named))
    services.open()
    try:
        with pytest.raises(MissingExtra) as refusal:
            services.federation.open()
        assert refusal.value.facts == {"extra": extra}
        hints = [one.hint for one in examine(lambda: load_settings(named)) if one.what == "identity providers"]
        assert hints == [f"Install it: pip install 'discern-detectors[{extra}]'."]
    finally:
        services.close()


@pytest.mark.system
def test_the_providers_are_listed_to_anybody_and_nothing_of_their_settings(furnish: Furnish) -> None:
    with running() as provider:
        at = furnish(f'[oidc.company]\ntitle = "Company"\nissuer = "{provider.issuer}"\nclient_id = "hidden-id"')
        answer = at.browser.get("/v1/sign-in")
    assert answer.json() == {
        "providers": [{"name": "company", "kind": "oidc", "title": "Company", "url": "/v1/sign-in/company"}]
    }
    assert at.browser.get("/v1/sign-in/nobody").status_code == 404


@pytest.mark.system
def test_the_key_of_attempts_is_made_once_for_the_server_alone(home: Path, furnish: Furnish) -> None:
    with running() as provider:
        text = f'[oidc.company]\nissuer = "{provider.issuer}"\nclient_id = "x"'
        first, second = furnish(text), furnish(text)
        for at in (first, second):
            assert at.browser.get("/v1/sign-in/company").status_code == 303
    path = home / "keys" / "sign-in.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.services.federation._key == second.services.federation._key
    assert [one.name for one in path.parent.glob("sign-in.secret*")] == ["sign-in.secret"]


@pytest.mark.system
def test_the_command_line_lists_checks_and_explains(
    home: Path, named: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(name, value)

    def ran(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["discern", "sign-in", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out + captured.err

    with running() as provider:
        grant = '[[oidc.company.grant]]\ngroup = "g"\nrole = "analyst"\ndetectors = ["toy-record"]'
        (home / "sign-in.toml").write_text(f'[oidc.company]\nissuer = "{provider.issuer}"\nclient_id = "x"\n{grant}')
        assert "company" in ran("list")[1]
        code, told = ran("check", "company")
        assert (code, "The issuer answers, with 1 keys" in told) == (0, True), told
        code, told = ran("explain", "company", "-g", "f", "-g", "g")
        assert (code, told) == (0, "analyst, toy-record, by the grant of g.\n")
        assert ran("explain", "company", "-g", "f")[0] == 1
    code, told = ran("check", "company")
    assert (code, "cannot be reached" in told) == (1, True), told
    assert ran("check", "nobody")[0] == 1


@pytest.mark.system
def test_what_is_used_up_is_used_up_once_by_many_at_the_same_time(services: Services) -> None:
    store = FederationStore(services.database)
    now = utc_now()
    later = now + timedelta(minutes=10)

    def spend(_: int) -> bool:
        return store.spend("default", b"d" * 32, later, now)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(spend, range(16))) == 1
    assert store.spend("default", b"e" * 32, later, now)
    assert store.spend("default", b"d" * 32, later, later + timedelta(seconds=1))  # forgotten by then


@pytest.mark.system
def test_failures_are_counted_until_they_are_forgotten(services: Services) -> None:
    store = FederationStore(services.database)
    counted: list[int] = []

    def note(failures: int) -> datetime | None:
        counted.append(failures)
        return utc_now() if failures > 1 else None

    act = Act("default", "provider:x", "sessions.begin", "provider:x", outcome="denied")
    for _ in range(3):
        store.note_failure(b"i" * 32, note, act)
    assert counted == [1, 2, 3]
    assert store.locked_until(b"i" * 32) is not None
    store.forget_failures(b"i" * 32)
    assert store.locked_until(b"i" * 32) is None
    store.note_failure(b"i" * 32, note, act)
    assert counted == [1, 2, 3, 1]


@pytest.mark.system
def test_somebody_who_comes_first_in_many_requests_at_once_is_one_user(furnish: Furnish) -> None:
    with running() as provider:
        at = furnish(
            f'[oidc.company]\nissuer = "{provider.issuer}"\nclient_id = "x"\n'
            '[[oidc.company.grant]]\ngroup = "g"\nrole = "analyst"'
        )
    identity = Identity("issuer", "subject", "ann", ("g",))
    with ThreadPoolExecutor(6) as threads:
        signed_in = list(threads.map(lambda _: at.services.federation._enter("company", identity, "x"), range(6)))
    assert len({one.principal.id for one in signed_in}) == 1
    assert len(at.services.users.list("default")) == 1


def test_the_page_tells_of_the_public_address_before_the_commands_that_need_it() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "sign-in.md").read_text(encoding="utf-8")
    assert page.index("DISCERN_PUBLIC_URL") < page.index("discern sign-in list")
