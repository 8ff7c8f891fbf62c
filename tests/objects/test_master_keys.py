"""Every kind of master key unwraps in its own place alone, and is rotated without an object being written anew."""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from discern.core.errors import (
    CallerError,
    InvalidSettings,
    ObjectRefused,
    ObjectsUnavailable,
    StorageUnavailable,
)
from discern.objects.ports import MasterKey
from discern.objects.service_kms import AwsMasterKey
from discern.objects.service_masters import FileMasterKey, SecretMasterKey
from discern.objects.service_vault import VaultMasterKey
from discern.objects.types import Address, WrappedKey
from discern.store.outbound import ANYWHERE, Outbound, networks
from tests.objects.conftest import SOME, Kit

TOKEN = "hidden-word"
KEY = bytes(range(32))


class TransitServer:
    """What of Vault's transit engine is used, as its documentation has it: `aes256-gcm96` with associated data."""

    def __init__(self) -> None:
        self.versions = [os.urandom(32)]
        self.least = 1
        self.silent = False
        transit = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*transit.answer(self.path, self.headers["X-Vault-Token"], {}))

            def do_POST(self) -> None:
                body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*transit.answer(self.path, self.headers["X-Vault-Token"], body))

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                content = b"" if status == 204 else msgspec.json.encode(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.silent or token != TOKEN:
            return (503, {"errors": ["Vault is sealed"]}) if self.silent else (403, {"errors": ["permission denied"]})
        act = path.removeprefix("/v1/transit/")
        data = base64.b64decode(body.get("associated_data", ""))
        if act == "keys/discern":
            found = {str(number): 1_700_000_000 + number for number in range(1, len(self.versions) + 1)}
            described = {"keys": found, "latest_version": len(self.versions), "min_decryption_version": self.least}
            return 200, {"data": described}
        if act == "keys/discern/rotate":
            self.versions.append(os.urandom(32))
            return 200, {"data": {}}
        if act == "keys/discern/config":
            self.least = body["min_decryption_version"]
            return 204, {}
        if act == "encrypt/discern":
            nonce = os.urandom(12)
            sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), data)
            text = f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"
            return 200, {"data": {"ciphertext": text}}
        assert act == "decrypt/discern"
        return self._decrypted(body["ciphertext"], data)

    def _decrypted(self, ciphertext: str, data: bytes) -> tuple[int, dict[str, Any]]:
        match = re.fullmatch(r"vault:v(\d+):(.+)", ciphertext)
        try:
            assert match is not None
            assert self.least <= int(match[1]) <= len(self.versions)
            sealed = base64.b64decode(match[2])
            key = AESGCM(self.versions[int(match[1]) - 1]).decrypt(sealed[:12], sealed[12:], data)
        except (InvalidTag, AssertionError, ValueError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": base64.b64encode(key).decode()}}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def transit() -> Iterator[TransitServer]:
    transit = TransitServer()
    yield transit
    transit.close()


def in_vault(url: str, token: str = TOKEN) -> VaultMasterKey:
    return VaultMasterKey(url, token, "transit/discern", ask)


def ask(method: str, url: str, body: bytes | None, headers: Mapping[str, str], most_bytes: int) -> tuple[int, bytes]:
    return Outbound(networks(ANYWHERE)).fetch(method, url, body, headers, most_bytes=most_bytes)


@pytest.fixture
def in_kms(aws_client: Callable[[str], Any], aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> AwsMasterKey:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-word")
    alias = f"alias/discern-{os.urandom(4).hex()}"
    kms = aws_client("kms")
    kms.create_alias(AliasName=alias, TargetKeyId=kms.create_key()["KeyMetadata"]["Arn"])
    return AwsMasterKey(alias, endpoint=aws_endpoint, region="us-east-1")


@pytest.fixture(params=["file", "secret", "vault", "aws"])
def master(request: pytest.FixtureRequest, tmp_path: Path) -> MasterKey:
    """A master key of every kind."""
    if request.param == "vault":
        return in_vault(request.getfixturevalue("transit").url)
    if request.param == "aws":
        found: MasterKey = request.getfixturevalue("in_kms")
        return found
    if request.param == "file":
        return FileMasterKey(tmp_path / "master")
    return SecretMasterKey(base64.b64encode(os.urandom(32)).decode())


def test_a_key_unwraps_in_its_own_place_alone(master: MasterKey) -> None:
    wrapped = master.wrap(KEY, b"place")
    assert wrapped.key_id == master.current()
    assert wrapped.kind == master.kind
    assert KEY not in wrapped.blob
    assert len(wrapped.key_id) <= 300
    assert master.unwrap(wrapped, b"place") == KEY
    # The last but one is no padding of Base64, where the blob is text.
    bad = wrapped.blob[:-6] + bytes([wrapped.blob[-6] ^ 1]) + wrapped.blob[-5:]
    for wrong, context in ((wrapped, b"other place"), (WrappedKey(wrapped.key_id, bad), b"place")):
        with pytest.raises(ObjectRefused):
            master.unwrap(wrong, context)


@pytest.mark.parametrize("master", ["file", "vault", "aws"], indirect=True)
def test_rotating_moves_every_key_and_no_content(
    master: MasterKey, kit_of: Callable[..., Kit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discern.objects.service_rotation._AT_ONCE", 2)
    kit = kit_of(None, master)
    places = [Address("default", f"jobs/{number}", "input") for number in range(5)]
    for place in places:
        kit.objects.put(place, place.folder.encode())
    before = {place: (kit.bytes_of(place), kit.bytes_of(place).read_bytes()) for place in places}
    (old,) = [use for use in kit.rotation.list() if use.uses]
    assert (old.uses, old.version.is_current) == (5, True)
    done = kit.rotation.rotate("local")
    assert (done.keys, done.failed) == (5, 0)
    assert done.key_id == master.current() != old.version.id
    for place in places:
        with kit.objects.open(place) as file:
            assert file.read() == place.folder.encode()
        assert kit.bytes_of(place).read_bytes() == before[place][1]
    assert {use.version.id: use.uses for use in kit.rotation.list() if use.uses} == {done.key_id: 5}
    with pytest.raises(CallerError, match="current"):
        kit.rotation.remove("local", done.key_id)
    kit.later = timedelta(minutes=5)
    kit.rotation.remove("local", old.version.id)
    assert master.version(old.version.id) is None
    with kit.objects.open(places[0]) as file:
        assert file.read() == b"jobs/0"
    acts = [entry.act for entry in kit.audit.all("default")]
    assert [act.act for act in acts] == ["master-keys.rotate", "master-keys.rewrap", "master-keys.remove"]
    assert acts[1].after == {"current": done.key_id, "keys": 5, "failed": 0}


def test_a_rotation_that_was_killed_goes_on_where_it_was(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discern.objects.service_rotation._AT_ONCE", 2)
    for number in range(7):
        kit.objects.put(Address("default", f"jobs/{number}", "input"), b"x")

    def die(count: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kit.rotation.rotate("local", die)
    old, current = kit.rotation.list()
    assert (old.uses, current.uses) == (3, 4)
    kit.later = timedelta(minutes=5)
    with pytest.raises(CallerError, match="wraps 3 keys"):
        kit.rotation.remove("local", old.version.id)
    assert kit.rotation.resume("local").keys == 3
    old, current = kit.rotation.list()
    assert (old.uses, current.uses) == (0, 7)


def test_what_was_the_current_version_a_moment_ago_is_not_removed(kit: Kit) -> None:
    before = kit.ring.current()
    kit.rotation.rotate("local")
    with pytest.raises(CallerError, match="until a moment ago"):
        kit.rotation.remove("local", before)


def test_one_key_that_does_not_unwrap_holds_up_no_other(kit: Kit) -> None:
    for number in range(3):
        kit.objects.put(Address("default", f"jobs/{number}", "input"), b"x")
    with kit.database.write() as connection:
        connection.exec_driver_sql("UPDATE objects SET wrapped = x'00' WHERE folder = 'jobs/1'")
    done = kit.rotation.rotate("local")
    assert (done.keys, done.failed) == (2, 1)


def test_what_cannot_be_put_on_record_is_not_done(kit: Kit) -> None:
    before = kit.ring.current()
    with kit.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO gone")
    with pytest.raises(StorageUnavailable):
        kit.rotation.rotate("local")
    assert kit.ring.current() == before


def test_a_secret_is_rotated_by_whoever_keeps_it(kit_of: Callable[..., Kit]) -> None:
    old, fresh = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    first = kit_of(None, SecretMasterKey(old))
    first.objects.put(SOME, b"content")
    with pytest.raises(CallerError, match="not changed from here"):
        first.rotation.rotate("local")
    assert [entry.act.outcome for entry in first.audit.all("default")] == ["done", "failed"]
    lost = kit_of(None, SecretMasterKey(fresh))
    with pytest.raises(ObjectRefused, match="not here"):
        lost.objects.open(SOME)
    assert [(use.is_here, use.uses) for use in lost.rotation.list()] == [(True, 0), (False, 1)]
    both = kit_of(None, SecretMasterKey(f"{fresh},{old}"))
    assert both.rotation.resume("local").keys == 1
    with lost.objects.open(SOME) as file:
        assert file.read() == b"content"


def test_another_kind_takes_over_from_the_file(kit: Kit, kit_of: Callable[..., Kit]) -> None:
    kit.objects.put(SOME, b"content")
    secret = SecretMasterKey(base64.b64encode(os.urandom(32)).decode())
    moved = kit_of(None, secret, FileMasterKey(kit.folder / "master"))
    assert moved.rotation.resume("local").keys == 1
    assert [(use.version.is_current, use.uses) for use in moved.rotation.list()] == [(False, 0), (True, 1)]
    with kit_of(None, secret).objects.open(SOME) as file:
        assert file.read() == b"content"


def test_the_file_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    keys = [FileMasterKey(tmp_path / "master") for _ in range(8)]
    found: list[str] = []
    threads = [threading.Thread(target=lambda key=key: found.append(key.current())) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    (path,) = (tmp_path / "master").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    path.write_text("not a key")
    with pytest.raises(StorageUnavailable, match="not a master key"):
        FileMasterKey(tmp_path / "master").current()


@pytest.mark.parametrize("secret", ["", "short", base64.b64encode(bytes(31)).decode(), "*" * 44])
def test_a_secret_that_is_no_key_is_refused(secret: str) -> None:
    with pytest.raises(InvalidSettings, match="32 bytes in Base64"):
        SecretMasterKey(secret)


def test_vault_that_is_down_sealed_or_closed_to_us_is_said_without_the_token(transit: TransitServer) -> None:
    for key in (in_vault("http://127.0.0.1:9"), in_vault(transit.url, "wrong-token")):
        with pytest.raises(ObjectsUnavailable) as caught:
            key.wrap(KEY, b"")
        assert "token" not in caught.value.detail
    transit.silent = True
    wrapped = WrappedKey("vault:transit/discern:1", b"vault:v1:abc")
    with pytest.raises(ObjectsUnavailable, match="503"):
        in_vault(transit.url).unwrap(wrapped, b"")
    with pytest.raises(InvalidSettings):
        VaultMasterKey("", TOKEN, "transit/discern", ask)


def test_vault_removes_the_oldest_version_alone(transit: TransitServer) -> None:
    key = in_vault(transit.url)
    key.make_version()
    key.make_version()
    with pytest.raises(CallerError, match="the oldest version alone: vault:transit/discern:1"):
        key.remove_version("vault:transit/discern:2")


def test_a_key_of_kms_that_is_not_there_or_not_answering_is_said(aws_endpoint: str, in_kms: AwsMasterKey) -> None:
    with pytest.raises(ObjectsUnavailable, match="no key alias/none"):
        AwsMasterKey("alias/none", endpoint=aws_endpoint, region="us-east-1").current()
    with pytest.raises(ObjectsUnavailable):
        AwsMasterKey("alias/none", endpoint="http://127.0.0.1:9", region="us-east-1").wrap(KEY, b"")
    arn = in_kms.current().partition(":")[2]
    with pytest.raises(CallerError, match="not an alias"):
        AwsMasterKey(arn, endpoint=aws_endpoint).make_version()
