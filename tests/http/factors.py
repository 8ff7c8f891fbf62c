"""People with second factors, for the tests of them: a clock, a browser, and a telephone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
from starlette.testclient import TestClient

from discern.access.service_codes import HttpCodes
from discern.access.service_factors import Factors
from discern.access.service_passkeys import Passkeys
from discern.access.service_proofs import Proofs
from discern.access.service_sealing import Sealing
from discern.access.service_sign_in import SignIn
from discern.access.service_users import Users
from discern.access.store_factors import FactorStore
from discern.access.store_users import UserStore
from discern.access.types import Role
from discern.app import Services
from discern.app_http import create_app
from discern.store.secret_files import SecretFile

PASSWORD = "several words of a person"
ORIGIN = "https://testserver"
NUMBER = "+49 170 1234567"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Telephones:
    """The endpoint that takes codes."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []
        self.signatures: list[tuple[bytes, str]] = []
        self.answer: int | Exception = 204

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.signatures.append((body, headers["Discern-Signature"]))
        if isinstance(self.answer, Exception):
            raise self.answer
        self.sent.append(json.loads(body))
        return self.answer

    @property
    def code(self) -> str:
        return self.sent[-1]["code"]


class House:
    """An installation whose clock the test sets, and that remembers nothing of sessions."""

    def __init__(
        self, services: Services, *, roles: str = "", user_verification: str = "preferred", sms: bool = True
    ) -> None:
        self.clock, self.telephones = Clock(), Telephones()
        ages: Iterator[int] = iter(range(0, 10**9, 100))
        demanded = frozenset(role for role in roles.split(",") if role)
        self.users = Users(
            UserStore(services.database, services.audit),
            self.clock,
            lambda: float(next(ages)),
            second_factor_roles=demanded,
        )
        folder = services.settings.home / "keys"
        sender = HttpCodes("https://sms.example", self.telephones, SecretFile("", folder / "webhook.secret"))
        secret = SecretFile("", folder / "factors.secret")
        store = FactorStore(services.database, services.audit)
        proofs = Proofs(Sealing(secret), Passkeys(ORIGIN, "", user_verification), sender, self.clock)
        self.sign_in = SignIn(self.users, store, proofs, self.clock)
        self.factors = Factors(self.users, store, proofs, self.clock)
        self.services = dataclasses.replace(services, users=self.users, sign_in=self.sign_in, factors=self.factors)
        self.app = create_app(self.services)

    def person(self, name: str = "ann", role: Role = "analyst") -> Person:
        self.users.create("default", name, PASSWORD, role=role)
        return Person(self, name)

    def files(self) -> bytes:
        home: Path = self.services.settings.home
        return b"".join(path.read_bytes() for path in home.glob("discern.db*"))

    def acts(self) -> list[tuple[str, str, str | None]]:
        entries = self.services.audit_store.all("default")
        return [(entry.act.act, entry.act.outcome, entry.act.reason) for entry in entries]


class Person:
    """Somebody at a browser."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name = house, name
        self.browser = TestClient(house.app, base_url=ORIGIN, raise_server_exceptions=False)
        self.token: dict[str, str] = {}
        self.app: pyotp.TOTP | None = None

    def log_in(self, password: str = PASSWORD) -> Any:
        """Give the password."""
        return self._in(self.browser.post("/v1/login", json={"name": self.name, "password": password}))

    def ticket(self) -> str:
        answer = self.log_in()
        assert answer.status_code == 202, answer.text
        return str(answer.json()["ticket"])

    def finish(self, ticket: str, **proof: Any) -> Any:
        return self._in(self.browser.post("/v1/login/factor", json={"ticket": ticket, "proof": proof}))

    def ask(self, ticket: str, kind: str) -> Any:
        return self.browser.post("/v1/login/challenge", json={"ticket": ticket, "kind": kind})

    def post(self, path: str, body: Any = None) -> Any:
        return self.browser.post(path, json=body, headers=self.token)

    def delete(self, path: str) -> Any:
        return self.browser.delete(path, headers=self.token)

    def code(self, steps: int = 0) -> str:
        """The code that the app shows so many time steps from here."""
        assert self.app is not None
        return self.app.at(self.house.clock.now, counter_offset=steps)

    def enrol_app(self, name: str = "phone") -> str:
        """Sign in where nobody is, enrol an app, and let its next code come."""
        if not self.token:
            assert self.log_in().status_code == 201
        begun = self.post("/v1/factors", {"kind": "totp", "name": name}).json()
        self.app = pyotp.TOTP(begun["secret"])
        self.confirm(begun, code=self.code())
        self.house.clock.wait(30)
        return str(begun["factor"]["id"])

    def confirm(self, begun: Any, **answer: Any) -> Any:
        confirmed = self._in(self.post(f"/v1/factors/{begun['factor']['id']}/confirm", answer))
        assert confirmed.status_code == 200, confirmed.text
        return confirmed.json()

    def _in(self, answer: Any) -> Any:
        if "csrf_token" in answer.text:
            self.token = {"X-CSRF-Token": answer.json()["csrf_token"]}
        return answer
