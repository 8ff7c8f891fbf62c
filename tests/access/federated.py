"""What tests of sign-in through providers share: an installation, and an OIDC provider that does what it is told."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwk, jwt
from starlette.testclient import TestClient

from discern.app import Services
from discern.audit.types import Act

PUBLIC_URL = "https://discern.example.org"


class Installation(NamedTuple):
    """A server with identity providers, and a browser in front of it."""

    services: Services
    browser: TestClient

    def acts(self, workspace: str = "default") -> list[Act]:
        """Return what is on record, newest first."""
        return [entry.act for entry in self.services.audit_store.page(workspace, 100, None).entries]


def sign_in_file(table: str, settings: str, *grants: str) -> str:
    """Return a `sign-in.toml` with one provider, and what each of some groups is granted."""
    return f"[{table}]\n{settings}\n" + "".join(f"[[{table}.grant]]\n{grant}\n" for grant in grants)


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


class Provider:
    """An OIDC provider for tests: answers as a good one does, but for what a test changes about it.

    `claims` are put over those of a good ID token (None takes one away); `sign` makes the token of header and claims.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
        self.published: list[dict[str, Any]] = [self.key.as_dict(private=False)]
        self.metadata: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "first"}
        self.sign: Callable[[dict[str, Any], dict[str, Any]], str] = self._signed
        self.userinfo: dict[str, Any] = {}
        self.asked: dict[str, str] = {}
        self.key_sets_read = 0
        self.codes: set[str] = set()
        self.hold: float = 0.0

    def _signed(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        return jwt.encode(header, claims, self.key, algorithms=[header["alg"]])

    def consent(self, url: str) -> dict[str, str]:
        """Do as somebody would who signs in at `url`; return the parameters that the browser goes back with."""
        self.asked = query_of(url)
        code = f"code-{len(self.codes)}"
        self.codes.add(code)
        return {"code": code, "state": self.asked["state"]}

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        time.sleep(self.hold)
        if path.endswith("/.well-known/openid-configuration"):
            found = {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize"}
            found |= {"token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/jwks"}
            return 200, found | {"userinfo_endpoint": f"{self.issuer}/userinfo"} | self.metadata
        if path.endswith("/jwks"):
            self.key_sets_read += 1
            return 200, {"keys": self.published}
        if path.endswith("/userinfo"):
            return 200, self.userinfo
        return self._tokens(form)

    def _tokens(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(digest).decode().rstrip("=")
        if form.get("code") not in self.codes or challenge != self.asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        self.codes.discard(form["code"])
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "discern",
            "sub": "248289761001",
            "exp": now + 300,
            "iat": now,
            "nonce": self.asked["nonce"],
            "groups": ["reviewers"],
            "preferred_username": "ann",
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.sign(dict(self.header), claims)
        return 200, {"access_token": "an-access-token", "token_type": "Bearer", "id_token": token}


@contextmanager
def running(**changes: Any) -> Iterator[Provider]:
    """Run an OIDC provider on this machine."""
    provider: Provider

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if urlsplit(self.path).path == "/authorize":
                # A page that leads back, as one does on which somebody has typed a password.
                back = urlencode(provider.consent(self.path))
                url = f"{provider.asked['redirect_uri']}?{back}"
                self._send(200, "text/html", f'<meta http-equiv="refresh" content="0; url={escape(url)}">'.encode())
            else:
                self._answer({})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(content).items()})

        def _answer(self, form: dict[str, str]) -> None:
            status, told = provider.answer(urlsplit(self.path).path, form)
            self._send(status, "application/json", json.dumps(told).encode())

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        provider = Provider(f"http://127.0.0.1:{server.server_port}")
        for name, value in changes.items():
            setattr(provider, name, value)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
