"""Tokens for services, and the attacks that are made on such tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from starlette.testclient import TestClient

from discern.access.service_tokens import ALGORITHM, LEEWAY, Tokens
from discern.access.types import Principal, Token
from discern.app import Services
from discern.core.errors import CallerError, Unauthenticated

pytestmark = pytest.mark.system


class Forge:
    """An installation's tokens by a clock the test sets, and the means to make others."""

    def __init__(self, services: Services) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        ages = iter(range(0, 10**9, 100))
        self.keys = services.keys
        self.folder = services.settings.home / "keys" / "tokens"
        self.tokens = Tokens(services.keys, self.folder, 300, lambda: self.now, lambda: float(next(ages)))
        self.issued = services.keys.issue("default", "pipeline", role="service")
        self.principal = services.keys.authenticate(self.issued.secret)
        self.good = self.tokens.issue(self.principal)
        self.pem = next(self.folder.glob("*.pem")).read_bytes()
        self.key = OKPKey.import_key(self.pem)
        private = load_pem_private_key(self.pem, None)
        assert isinstance(private, Ed25519PrivateKey)
        self.sign = private.sign
        _, payload, _ = self.good.token.split(".")
        self.claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))

    def signed(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token signed with the right key, with some of its header and claims changed; None takes one out."""
        all_claims = {name: value for name, value in (self.claims | claims).items() if value is not None}
        head = {"alg": ALGORITHM, "kid": self.good.key_id, "typ": "at+jwt"} | (header or {})
        return jwt.encode(head, all_claims, self.key, algorithms=[ALGORITHM])

    def raw(self, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
        """A token put together by hand."""
        parts = [_b64(json.dumps(part).encode()) for part in (header, self.claims)]
        body = b".".join(parts)
        return (body + b"." + _b64(sign(body))).decode()

    def refused(self, token: str) -> bool:
        try:
            self.tokens.authenticate(token)
        except Unauthenticated:
            return True
        return False


def _b64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


@pytest.fixture
def made(services: Services) -> Forge:
    return Forge(services)


def test_a_token_stands_for_its_key(made: Forge) -> None:
    assert made.tokens.authenticate(made.good.token) == made.principal
    assert made.good.expires_at == made.now + timedelta(seconds=300)
    assert made.tokens.authenticate(made.signed()) == made.principal  # what the forge makes is good until it is bent


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
def test_no_algorithm_is_none(made: Forge, algorithm: str) -> None:
    header = {"alg": algorithm, "kid": made.good.key_id, "typ": "at+jwt"}
    for signature in (b"", b"x"):
        assert made.refused(made.raw(header, lambda _, given=signature: given))  # type: ignore[misc]


@pytest.mark.parametrize("form", ["pem", "der", "raw", "jwk"])
def test_the_public_key_is_no_shared_secret(made: Forge, form: str) -> None:
    public: dict[str, Any] = dict(made.key.as_dict(private=False))
    forms = {
        "pem": made.key.as_pem(private=False),
        "der": made.key.as_der(private=False),
        "raw": base64.urlsafe_b64decode(public["x"] + "=="),
        "jwk": json.dumps(public).encode(),
    }
    for algorithm, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
        header = {"alg": algorithm, "kid": made.good.key_id, "typ": "at+jwt"}
        assert made.refused(made.raw(header, lambda body: hmac.new(forms[form], body, digest).digest()))  # noqa: B023


def test_a_key_that_the_token_brings_along_is_not_taken(made: Forge) -> None:
    own = OKPKey.generate_key("Ed25519")
    for extra in (
        {"jwk": own.as_dict(private=False)},
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"x5u": "http://127.0.0.1:1/cert.pem"},
        {"jwk": own.as_dict(private=False), "kid": own.thumbprint()},
    ):
        header = {"alg": ALGORITHM, "kid": made.good.key_id, "typ": "at+jwt"} | extra
        body = [_b64(json.dumps(part).encode()) for part in (header, made.claims)]
        private = load_pem_private_key(own.as_pem(private=True), None)
        assert isinstance(private, Ed25519PrivateKey)
        assert made.refused((b".".join([*body, _b64(private.sign(b".".join(body)))])).decode())


@pytest.mark.parametrize(
    "kid",
    ["", "nobody", "../../../etc/passwd", "/dev/null", "' OR 1=1 --", "\0", "*", None, 5, ["x"], {"a": 1}],
    ids=str,
)
def test_a_key_id_is_looked_up_and_nothing_else(made: Forge, kid: Any) -> None:
    header = {"alg": ALGORITHM, "kid": kid, "typ": "at+jwt"}
    assert made.refused(made.raw(header, made.sign))


def test_other_keys_and_algorithms_are_refused(made: Forge) -> None:
    head = {"kid": made.good.key_id, "typ": "at+jwt"}
    others: list[tuple[Any, str]] = [
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
        (RSAKey.generate_key(2048), "RS256"),
        (ECKey.generate_key("P-256"), "ES256"),
        (OctKey.generate_key(256), "HS256"),
    ]
    for key, algorithm in others:
        assert made.refused(jwt.encode({"alg": algorithm} | head, made.claims, key, algorithms=[algorithm]))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "elsewhere"},
        {"aud": None},
        {"iss": "elsewhere"},
        {"iss": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"nbf": None},
        {"sub": None},
        {"sub": "key:nonsense"},
        {"sub": "user:01a1fb4b-0233-7998-8f07-5b5ac3979bc9"},
        {"sub": "local"},
        {"sub": "key:01a1fb4b-0233-7998-8f07-5b5ac3979bc9"},
        {"ws": "other"},
        {"ws": None},
    ],
    ids=str,
)
def test_claims_that_do_not_fit_are_refused(made: Forge, claims: dict[str, Any]) -> None:
    assert made.refused(made.signed(**claims))


def test_a_role_that_a_token_claims_means_nothing(made: Forge) -> None:
    found = made.tokens.authenticate(made.signed(role="owner", detectors=None))
    assert found.role == "service"


def test_a_token_of_another_kind_is_refused(made: Forge) -> None:
    for kind in ("JWT", "", "id+jwt"):
        assert made.refused(made.signed({"typ": kind}))


def test_a_token_ends_and_does_not_begin_early(made: Forge) -> None:
    made.now += timedelta(seconds=300 + LEEWAY - 1)
    assert not made.refused(made.good.token)
    made.now += timedelta(seconds=2)
    assert made.refused(made.good.token)
    made.now -= timedelta(seconds=400)
    assert made.refused(made.good.token)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_changed_part_is_refused(made: Forge, place: int) -> None:
    parts = made.good.token.split(".")
    for at in (0, len(parts[place]) // 2, -2):
        letters = list(parts[place])
        letters[at] = "A" if letters[at] != "A" else "B"
        bent = [*parts[:place], "".join(letters), *parts[place + 1 :]]
        assert made.refused(".".join(bent))


@pytest.mark.parametrize(
    "token", ["eyJ", "eyJ.eyJ.eyJ", "eyJ" + "A" * 5000, "eyJ.", "eyJ..", "eyJ.é.x", "eyJhbGciOiJ9.e30."]
)
def test_what_is_no_token_is_refused(made: Forge, token: str) -> None:
    assert made.refused(token)


def test_a_token_ends_with_its_key_and_follows_what_becomes_of_it(made: Forge) -> None:
    made.keys.revoke("default", made.issued.key.id)
    assert made.refused(made.good.token)


def test_keys_rotate_and_those_that_are_deleted_verify_nothing(made: Forge) -> None:
    made.now += timedelta(seconds=1)
    newer = made.tokens.rotate()
    again = made.tokens.issue(made.principal)
    assert again.key_id == newer
    assert not made.refused(made.good.token)
    published = json.loads(made.tokens.public_keys())["keys"]
    assert [key["kid"] for key in published] == [newer, made.good.key_id]
    assert all("d" not in key and key["alg"] == ALGORITHM for key in published)
    (made.folder / f"{made.good.key_id}.pem").unlink()
    assert made.refused(made.good.token)
    assert not made.refused(again.token)
    for path in made.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_over_http_a_key_is_exchanged_and_the_token_sent_instead(services: Services, client: TestClient) -> None:
    made = client.post("/v1/tokens").json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert client.get("/v1/whoami", headers=headers).json()["role"] == "owner"
    again = client.post("/v1/tokens", headers=headers)
    assert (again.status_code, "no further" in again.json()["detail"]) == (400, True)
    answer = client.post("/v1/detectors/toy-record/verdicts", json={"a": 1, "b": 1, "c": 1}, headers=headers)
    assert answer.status_code == 200
    published = TestClient(client.app).get("/.well-known/jwks.json")
    assert (published.status_code, published.json()["keys"][0]["kid"]) == (200, made["key_id"])
    services.keys.revoke("default", services.keys.list("default")[0].id)
    time.sleep(1.1)  # what was known a second ago is still believed
    assert client.get("/v1/whoami", headers=headers).status_code == 401


def test_a_token_is_for_keys_alone(made: Forge) -> None:
    for who in ("user:01a1fb4b-0233-7998-8f07-5b5ac3979bc9", "local"):
        with pytest.raises(CallerError):
            made.tokens.issue(Principal(who, "default", "owner"))
    assert isinstance(made.good, Token)
