"""What every request and every answer has, over plain HTTP and over TLS, on a real server."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp

from discern.app import Services, build_services
from discern.app_http import create_app
from discern.core.errors import MissingCsrfToken
from discern.http.authentication import _check_site
from discern.http.edge import client_address, standing_headers
from discern.settings import load_settings
from discern.store.outbound import networks
from tests.http.test_connections import running

pytestmark = pytest.mark.system
RECORD = {"a": 1, "b": 0.5, "c": -1}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", b"", "203.0.113.9"),
        ("203.0.113.9", b"198.51.100.1", "203.0.113.9"),  # anybody may write it
        ("10.0.0.1", b"198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", b"127.0.0.1, 198.51.100.1", "198.51.100.1"),  # what the client wrote is not believed
        ("10.0.0.1", b"198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", b"198.51.100.1, nonsense", "10.0.0.1"),
        ("testclient", b"198.51.100.1", "testclient"),
    ],
)
def test_a_forwarded_address_is_believed_of_trusted_proxies_alone(peer: str, forwarded: bytes, address: str) -> None:
    assert client_address(peer, forwarded, networks("10.0.0.0/8")) == address


def test_every_answer_is_hardened_and_has_the_id_of_its_request(client: TestClient, stranger: TestClient) -> None:
    answers = [
        stranger.get("/v1/verdicts"),
        stranger.get("/livez"),
        stranger.get("/docs"),
        client.get("/v1/verdicts"),
        client.get("/nowhere"),
        client.post("/v1/detectors/toy-record/verdicts", json=RECORD),
    ]
    for answer in answers:
        assert answer.headers["x-frame-options"] == "DENY"
        assert "'unsafe-inline'" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert client.get("/livez", headers={"X-Request-Id": "my-1"}).headers["x-request-id"] == "my-1"
    assert client.get("/livez", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"


def test_the_audit_log_has_the_id_and_the_address_of_a_request(client: TestClient) -> None:
    client.post("/v1/keys", json={"name": "n"}, headers={"X-Request-Id": "my-2"})
    entry = client.get("/v1/audit").json()["entries"][0]
    assert (entry["request_id"], entry["address"], entry["act"]["act"]) == ("my-2", "testclient", "keys.create")


def test_pages_of_allowed_origins_alone_may_read_answers(services: Services, home: Path) -> None:
    origin = {"Origin": "https://console.example.org"}
    closed = TestClient(create_app(services))
    assert "access-control-allow-origin" not in closed.get("/livez", headers=origin).headers
    settings = {"DISCERN_HOME": str(home), "DISCERN_CORS_ORIGINS": "https://console.example.org"}
    opened = build_services(load_settings(settings))
    opened.open()
    client = TestClient(create_app(opened))
    answer = client.get("/v1/verdicts", headers=origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, origin["Origin"])
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = client.options("/v1/detectors/toy-record/verdicts", headers=origin | asked)
    assert (preflight.status_code, "POST" in preflight.headers["access-control-allow-methods"]) == (200, True)
    other = client.options("/v1/jobs", headers=asked | {"Origin": "https://evil.example.org"})
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)
    opened.close()


class Authority:
    """A certificate authority, and what it signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed("authority", self.key, authority=True)
        (folder / "authority.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(self._signed(name, key).public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return paths

    def _signed(self, name: str, key: Any, *, authority: bool = False) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        now = datetime.now(UTC)
        alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(alternative, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def test_over_tls_a_device_shows_its_certificate_instead_of_a_key(tmp_path: Path, furnished_home: Path) -> None:
    home = Path(shutil.copytree(furnished_home, tmp_path / "home"))
    authority, stranger = Authority(tmp_path), Authority(Path(shutil.copytree(home / "keys", tmp_path / "other")))
    certificate, key = authority.issue("server")
    device, unknown, foreign = authority.issue("device"), authority.issue("unknown"), stranger.issue("foreign")
    environment = {"DISCERN_HOME": str(home), "PATH": ""}
    command = [sys.executable, "-m", "discern.cli.main", "key", "create", "camera", "--role", "device"]
    subprocess.run([*command, "--certificate", str(device[0])], env=environment, check=True, capture_output=True)
    settings = {
        "DISCERN_TLS_CERTIFICATE": str(certificate),
        "DISCERN_TLS_KEY": str(key),
        "DISCERN_TLS_CLIENT_CA": str(tmp_path / "authority.pem"),
    }

    def client(shown: tuple[Path, Path] | None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> httpx2.Client:
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        context.maximum_version = most
        if shown is not None:
            context.load_cert_chain(*map(str, shown))
        return httpx2.Client(verify=context, base_url=f"https://127.0.0.1:{port}", timeout=30)

    with running(home, settings) as port:
        with client(device) as camera:
            me = camera.get("/v1/whoami").json()
            assert (me["role"], me["id"].startswith("key:")) == ("device", True)
            answer = camera.post("/v1/detectors/toy-record/verdicts", json=RECORD)
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"].startswith("max-age=")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert camera.get("/v1/audit").status_code == 403
        with client(None) as nobody:
            assert nobody.get("/livez").status_code == 200
            assert nobody.get("/v1/whoami").status_code == 401
        with client(unknown) as another:
            assert another.get("/v1/whoami").status_code == 401
        with client(foreign) as another, pytest.raises(httpx2.HTTPError):
            another.get("/v1/whoami")
        with client(None, ssl.TLSVersion.TLSv1_2) as old, pytest.raises(httpx2.HTTPError):
            old.get("/livez")
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(f"http://127.0.0.1:{port}/livez")


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path, furnished_home: Path) -> None:
    home = shutil.copytree(furnished_home, tmp_path / "home")
    environment = {
        "DISCERN_HOME": str(home),
        "DISCERN_PORT": "0",
        "PATH": "",
        "DISCERN_TLS_CERTIFICATE": "/nowhere.pem",
    }
    command = [sys.executable, "-m", "discern.cli.main", "up"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "tls_certificate" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_page_of_another_site_opens_no_stream(services: Services, home: Path) -> None:
    secret = services.keys.issue("default", "stream", role="device").secret

    def is_let_in(app: ASGIApp, origin: str | None) -> bool:
        client = TestClient(app, headers={"Authorization": f"Bearer {secret}"} | ({"Origin": origin} if origin else {}))
        try:
            with client.websocket_connect("/v1/detectors/toy-record/stream"):
                return True
        except WebSocketDenialResponse as refused:
            return (refused.status_code, refused.json()["code"]) != (403, "forbidden")

    pages = (None, "http://testserver", "https://console.example.org", "http://testserver.evil.example", "null")
    assert [is_let_in(create_app(services), page) for page in pages] == [True, True, False, False, False]
    settings = {"DISCERN_HOME": str(home), "DISCERN_CORS_ORIGINS": "https://console.example.org"}
    opened = build_services(load_settings(settings))
    opened.open()
    assert [is_let_in(create_app(opened), page) for page in pages] == [True, True, True, False, False]
    opened.close()


def test_names_below_the_server_s_come_by_tls_too_where_that_is_set() -> None:
    plain, tls = standing_headers(tls=False, subdomains=True), dict(standing_headers(tls=True, subdomains=False))
    assert plain == [("x-content-type-options", "nosniff")]
    assert tls["strict-transport-security"] == "max-age=31536000"
    below = dict(standing_headers(tls=True, subdomains=True))
    assert below["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_a_page_of_another_site_changes_nothing_by_a_client_certificate() -> None:
    def scope(method: str, *headers: tuple[bytes, bytes]) -> dict[str, object]:
        return {"type": "http", "method": method, "headers": list(headers)}

    _check_site(scope("POST"))
    _check_site(scope("POST", (b"sec-fetch-site", b"same-origin")))
    _check_site(scope("GET", (b"sec-fetch-site", b"cross-site")))
    for header in ((b"sec-fetch-site", b"cross-site"), (b"sec-fetch-site", b"same-site"), (b"origin", b"https://evil")):
        with pytest.raises(MissingCsrfToken):
            _check_site(scope("POST", header))
