"""SAML 2.0: what a real identity provider signs is taken, and nothing else."""

from __future__ import annotations

import base64
import re
import shutil
import warnings
import zlib
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree

from discern.access.rules_saml import ASSERTION, PROTOCOL, SIGNATURE
from tests.access.conftest import Furnish
from tests.access.federated import Installation, query_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="xmlsec1 is not installed: apt-get install xmlsec1"),
]
IDP = "https://idp.example.org/metadata"
SP = "https://discern.example.org/v1/sign-in/company"
FILE = f"""
[saml.company]
entity_id = "{IDP}"
sign_on_url = "https://idp.example.org/sso?tenant=1"
certificate_file = "idp.pem"
groups_attribute = "groups"
name_attribute = "login"
MORE
[[saml.company.grant]]
group = "reviewers"
role = "reviewer"
"""
NAMES = {"s": ASSERTION, "p": PROTOCOL, "d": SIGNATURE}
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


def key_pair(folder: Path, name: str, days: int = 1) -> tuple[Path, Path]:
    """Write a private key and its own certificate."""
    key = rsa.generate_private_key(65537, 2048)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
    certificate = made.not_valid_before(now - timedelta(days=10)).not_valid_after(now + timedelta(days=days))
    pem = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    paths = folder / f"{name}.key", folder / f"{name}.pem"
    paths[0].write_bytes(private)
    paths[1].write_bytes(pem)
    return paths


def identity_provider(key: Path, certificate: Path, metadata: str) -> Any:
    """Return an identity provider made of pysaml2."""
    with warnings.catch_warnings():  # of pysaml2's, about what it uses itself
        warnings.simplefilter("ignore")
        from saml2 import BINDING_HTTP_REDIRECT
        from saml2.config import IdPConfig
        from saml2.server import Server

    sso = [("https://idp.example.org/sso", BINDING_HTTP_REDIRECT)]
    policy = {"default": {"lifetime": {"minutes": 5}, "attribute_restrictions": None}}
    config = IdPConfig().load(
        {
            "entityid": IDP,
            "xmlsec_binary": shutil.which("xmlsec1"),
            "service": {"idp": {"endpoints": {"single_sign_on_service": sso}, "policy": policy}},
            "key_file": str(key),
            "cert_file": str(certificate),
            "metadata": {"inline": [metadata]},
        }
    )
    return Server(config=config)


class Company(NamedTuple):
    """An installation and its identity provider."""

    at: Installation
    idp: Any

    def begin(self) -> tuple[str, str]:
        """Return the request's id and the relay state."""
        answer = self.at.browser.get("/v1/sign-in/company?next=/docs")
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"].startswith("https://idp.example.org/sso?tenant=1&SAMLRequest=")
        sent = query_of(answer.headers["location"])
        request = etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"]), -15))
        assert request.find("s:Issuer", NAMES).text == f"{SP}/metadata"
        assert request.get("AssertionConsumerServiceURL") == f"{SP}/acs"
        return request.get("ID"), sent["RelayState"]

    def response(self, request: str, **changes: Any) -> bytes:
        """Return what the identity provider answers, signed."""
        from saml2.authn_context import PASSWORDPROTECTEDTRANSPORT
        from saml2.saml import NameID
        from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

        given: dict[str, Any] = {
            "identity": {"groups": ["reviewers", "others"], "login": ["ann"]},
            "in_response_to": request,
            "destination": f"{SP}/acs",
            "sp_entity_id": f"{SP}/metadata",
            "name_id": NameID(format=PERSISTENT, text="person-1"),
            "authn": {"class_ref": PASSWORDPROTECTEDTRANSPORT, "authn_auth": IDP},
            "sign_assertion": True,
            "sign_response": False,
            "sign_alg": SIG_RSA_SHA256,
            "digest_alg": DIGEST_SHA256,
        }
        return str(self.idp.create_authn_response(**given | changes)).encode()

    def post(self, response: bytes, relay_state: str) -> Any:
        form = {"SAMLResponse": base64.b64encode(response).decode(), "RelayState": relay_state}
        return self.at.browser.post("/v1/sign-in/company/acs", data=form)

    def come_back(self, change: Callable[[Any], Any] | None = None, **changes: Any) -> Any:
        """Sign in, the response changed on its way."""
        request, relay_state = self.begin()
        response = self.response(request, **changes)
        if change is not None:
            root = etree.fromstring(response)
            changed = change(root)
            response = changed if isinstance(changed, bytes) else etree.tostring(root)
        return self.post(response, relay_state)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("idp"), "idp")


@pytest.fixture
def company(home: Path, furnish: Furnish, keys: tuple[Path, Path]) -> Company:
    return opened(home, furnish, keys)


def opened(home: Path, furnish: Furnish, keys: tuple[Path, Path], more: str = "") -> Company:
    shutil.copy(keys[1], home / "idp.pem")
    at = furnish(FILE.replace("MORE", more))
    answer = at.browser.get("/v1/sign-in/company/metadata")
    assert answer.headers["content-type"].startswith("application/samlmetadata+xml")
    return Company(at, identity_provider(*keys, answer.text))


def assert_refused(answer: Any, why: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, "sign_in_refused"), answer.text
    assert re.search(why, answer.json()["detail"]), answer.json()["detail"]
    assert "discern_session" not in answer.headers.get("set-cookie", "")


def test_somebody_comes_in_by_a_response_of_a_real_identity_provider(company: Company) -> None:
    answer = company.come_back()
    assert answer.status_code == 200, answer.text
    assert 'content="0; url=/docs"' in answer.text
    me = company.at.browser.get("/v1/session").json()
    assert me["principal"]["role"] == "reviewer"
    users = company.at.services.users.list("default")
    assert [(user.name, user.subject) for user in users] == [("company:ann", "person-1")]
    assert company.come_back().status_code == 200
    assert len(company.at.services.users.list("default")) == 1


def test_a_signature_of_the_whole_message_does_not_stand_in_for_the_assertion_s(company: Company) -> None:
    assert_refused(company.come_back(sign_assertion=False, sign_response=True), "not signed itself")
    assert_refused(company.come_back(sign_assertion=False), "not signed itself")
    assert company.come_back(sign_response=True).status_code == 200  # both


def test_an_attempt_s_cookie_comes_along_with_another_site_s_form(company: Company) -> None:
    answer = company.at.browser.get("/v1/sign-in/company")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-discern_sign_in=")
    assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=none", "Path=/"))


def test_a_response_is_taken_once_and_an_assertion_too(company: Company) -> None:
    request, relay_state = company.begin()
    kept = dict(company.at.browser.cookies)
    response = company.response(request)
    assert company.post(response, relay_state).status_code == 200
    company.at.browser.cookies.update(kept)
    assert_refused(company.post(response, relay_state), "answered before")
    # The same assertion in answer to an attempt that was not used up, were there such a thing.
    with company.at.services.database.write() as connection:
        from discern.access.service_federation import _digest
        from discern.access.store_federation import spent_sign_ins

        spent = _digest("state", "company", relay_state)
        connection.execute(spent_sign_ins.delete().where(spent_sign_ins.c.digest == spent))
    company.at.browser.cookies.update(kept)
    assert_refused(company.post(response, relay_state), "has been used before")
    assert company.at.acts()[0].outcome == "denied"


def test_what_is_sent_unasked_or_into_another_browser_is_not_taken(company: Company) -> None:
    request, relay_state = company.begin()
    response = company.response(request)
    company.at.browser.cookies.clear()
    assert_refused(company.post(response, relay_state), "has not begun")
    _, other_state = company.begin()
    assert_refused(company.post(response, other_state), "another request")
    assert_refused(company.come_back(in_response_to=None), "another request")


def move(root: Any, name: str, value: str | None, path: str) -> None:
    node = root.find(path, NAMES)
    if value is None:
        del node.attrib[name]
    else:
        node.set(name, value)


@pytest.mark.parametrize(
    ("path", "name", "value", "why"),
    [
        (
            ".//s:SubjectConfirmationData",
            "Recipient",
            "https://elsewhere.example.org/acs",
            "signature of its assertion does not hold",
        ),
        (".//s:SubjectConfirmationData", "InResponseTo", "_another", "signature of its assertion does not hold"),
        (
            ".//s:SubjectConfirmationData",
            "NotOnOrAfter",
            "2099-01-01T00:00:00Z",
            "signature of its assertion does not hold",
        ),
        (".//s:Conditions", "NotOnOrAfter", "2099-01-01T00:00:00Z", "signature of its assertion does not hold"),
        (".//s:NameID", "Format", TRANSIENT, "signature of its assertion does not hold"),
        (".", "Destination", "https://elsewhere.example.org/acs", "sent to another address"),
        (".", "InResponseTo", "_another", "answers another request"),
        (".", "Version", "1.1", "no response of SAML 2.0"),
        ("./p:Status/p:StatusCode", "Value", "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed", "says AuthnFailed"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(company: Company, path: str, name: str, value: str, why: str) -> None:
    assert_refused(company.come_back(lambda root: move(root, name, value, path)), why)
    assert company.at.services.users.list("default") == []


def test_a_changed_group_or_name_breaks_the_signature(company: Company) -> None:
    def promote(root: Any) -> None:
        root.find(".//s:AttributeValue", NAMES).text = "admins"

    def rename(root: Any) -> None:
        root.find(".//s:NameID", NAMES).text = "somebody-else"

    assert_refused(company.come_back(promote), "signature of its assertion does not hold")
    assert_refused(company.come_back(rename), "signature of its assertion does not hold")


def forged(assertion: Any) -> Any:
    """Return an assertion of the attacker's, after a signed one."""
    made = deepcopy(assertion)
    made.set("ID", "_forged")
    made.find("s:Subject/s:NameID", NAMES).text = "the-owner"
    for signature in made.findall("d:Signature", NAMES):
        made.remove(signature)
    return made


def wrap_before(root: Any) -> None:
    """The forged one first, the signed one beside it."""
    signed = root.find("s:Assertion", NAMES)
    root.insert(root.index(signed), forged(signed))


def wrap_around(root: Any) -> None:
    """The signed one inside the forged one."""
    signed = root.find("s:Assertion", NAMES)
    outer = forged(signed)
    root.replace(signed, outer)
    outer.append(signed)


def wrap_in_signature(root: Any) -> None:
    """The forged one brings the signature along, and the signed one inside of that."""
    signed = root.find("s:Assertion", NAMES)
    outer = forged(signed)
    signature = signed.find("d:Signature", NAMES)
    root.replace(signed, outer)
    outer.insert(1, signature)
    inner = etree.SubElement(signature, f"{{{SIGNATURE}}}Object")
    inner.append(signed)


def wrap_in_extensions(root: Any) -> None:
    """The signed one where nobody looks, its signature on the forged one."""
    signed = root.find("s:Assertion", NAMES)
    outer = forged(signed)
    root.replace(signed, outer)
    extensions = etree.Element(f"{{{PROTOCOL}}}Extensions")
    root.insert(1, extensions)
    extensions.append(signed)
    outer.insert(1, deepcopy(signed.find("d:Signature", NAMES)))


def same_id(root: Any) -> None:
    """The forged one under the signed one's id, with its signature."""
    signed = root.find("s:Assertion", NAMES)
    outer = forged(signed)
    outer.set("ID", signed.get("ID"))
    outer.insert(1, deepcopy(signed.find("d:Signature", NAMES)))
    root.replace(signed, outer)
    hidden = etree.SubElement(root, "hidden")
    hidden.append(signed)


def reference_to_the_whole(root: Any) -> None:
    root.find(".//d:Reference", NAMES).set("URI", "")


def reference_twice(root: Any) -> None:
    reference = root.find(".//d:Reference", NAMES)
    reference.getparent().append(deepcopy(reference))


def another_transform(root: Any) -> None:
    transforms = root.find(".//d:Transforms", NAMES)
    added = etree.SubElement(transforms, f"{{{SIGNATURE}}}Transform")
    added.set("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")


@pytest.mark.parametrize(
    ("wrap", "why"),
    [
        *((one, "one assertion") for one in (wrap_before, wrap_around, wrap_in_signature, wrap_in_extensions)),
        (same_id, "have one id"),
        *((one, "of something else") for one in (reference_to_the_whole, reference_twice)),
        (another_transform, "in a way that is not taken"),
    ],
)
def test_a_signed_assertion_lets_nothing_in_that_is_wrapped_around_it(
    company: Company, wrap: Callable[[Any], None], why: str
) -> None:
    assert_refused(company.come_back(wrap), why)
    assert company.at.services.users.list("default") == []


def in_document_type(root: Any) -> bytes:
    return b'<!DOCTYPE x [<!ENTITY a "b">]>' + bytes(etree.tostring(root))


def laughing(root: Any) -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><x>&l9;</x>'.encode()


def reading_files(root: Any) -> bytes:
    return b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'


def in_utf_16(root: Any) -> bytes:
    return ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>').encode("utf-16")


def with_a_comment(root: Any) -> None:
    name = root.find(".//s:NameID", NAMES)
    name.text = "person-"
    name.append(etree.Comment("x"))
    name[0].tail = "1"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        *((one, "document type") for one in (in_document_type, laughing, reading_files, in_utf_16)),
        (with_a_comment, "comments"),
        (lambda root: b"<x", "not XML"),
        (lambda root: b"", "empty"),
        (lambda root: b"<x/>", "no response"),
        (lambda root: b"<" * 900_000, "not XML"),
    ],
)
def test_what_is_no_plain_document_is_refused_before_it_is_read(
    company: Company, spoil: Callable[[Any], Any], why: str
) -> None:
    assert_refused(company.come_back(spoil), why)


def test_what_is_no_base64_or_far_too_large_is_refused(company: Company) -> None:
    _, relay_state = company.begin()
    answer = company.at.browser.post("/v1/sign-in/company/acs", data={"SAMLResponse": "*", "RelayState": relay_state})
    assert_refused(answer, "Base64")
    answer = company.at.browser.post("/v1/sign-in/company/acs", content=b"x" * 2_100_000)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_another_key_another_issuer_and_another_audience_are_refused(
    company: Company, tmp_path: Path, home: Path
) -> None:
    metadata = company.at.browser.get("/v1/sign-in/company/metadata").text
    stranger = Company(company.at, identity_provider(*key_pair(tmp_path, "stranger"), metadata))
    assert_refused(stranger.come_back(), "signature of its assertion does not hold")
    assert_refused(company.come_back(sp_entity_id="https://elsewhere.example.org"), "another audience")
    from saml2.saml import Issuer

    assert_refused(company.come_back(issuer=Issuer(text="https://elsewhere.example.org")), "another issuer")
    assert_refused(company.come_back(destination="https://elsewhere.example.org/acs"), "another address")


def test_weak_digests_are_refused(company: Company) -> None:
    from saml2.xmldsig import DIGEST_SHA1, SIG_RSA_SHA1

    assert_refused(company.come_back(sign_alg=SIG_RSA_SHA1, digest_alg=DIGEST_SHA1), "RSA_SHA1 forbidden")


def test_a_response_that_comes_too_late_or_too_early_is_refused(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    saml: Any = company.at.services.federation._redirecting["company"]
    clock = saml._clock
    for by, why in ((timedelta(minutes=7), "too late"), (-timedelta(minutes=7), "not good yet")):
        request, relay_state = company.begin()
        response = company.response(request)
        monkeypatch.setattr(saml, "_clock", lambda by=by: clock() + by)
        assert_refused(company.post(response, relay_state), why)
        monkeypatch.setattr(saml, "_clock", clock)


def test_a_certificate_that_has_ended_and_a_name_that_changes_are_refused(
    home: Path, furnish: Furnish, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    old = opened(home, furnish, key_pair(tmp_path, "old", days=-1))
    assert_refused(old.come_back(), "signature of its assertion does not hold")
    from saml2.saml import NameID

    company = opened(home, furnish, keys)
    assert_refused(company.come_back(name_id=NameID(format=TRANSIENT, text="x")), "another each time")
    by_attribute = opened(home, furnish, keys, 'subject_attribute = "login"')
    assert by_attribute.come_back(name_id=NameID(format=TRANSIENT, text="x")).status_code == 200
    assert [user.subject for user in by_attribute.at.services.users.list("default")] == ["ann"]


def test_two_certificates_bridge_a_change_of_keys(
    home: Path, furnish: Furnish, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    company = opened(home, furnish, keys)
    later = key_pair(tmp_path, "later")
    (home / "both.pem").write_bytes(keys[1].read_bytes() + later[1].read_bytes())
    at = furnish(FILE.replace("idp.pem", "both.pem").replace("MORE", ""))
    metadata = at.browser.get("/v1/sign-in/company/metadata").text
    for pair in (keys, later):
        assert Company(at, identity_provider(*pair, metadata)).come_back().status_code == 200
    assert company.at.services is not at.services


def test_the_provider_s_end_of_the_session_is_held_to_and_its_strength(
    home: Path, furnish: Furnish, keys: tuple[Path, Path]
) -> None:
    company = opened(home, furnish, keys)
    ends = (datetime.now(UTC) + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert company.come_back(session_not_on_or_after=ends).status_code == 200
    session = company.at.browser.get("/v1/session").json()["session"]
    assert datetime.fromisoformat(session["ends_at"]) == datetime.fromisoformat(ends)
    strong = opened(home, furnish, keys, 'require_context = ["https://refeds.org/profile/mfa"]')
    assert_refused(strong.come_back(), "does not suffice")


def test_an_encrypted_assertion_is_said_not_to_be_taken(company: Company) -> None:
    def encrypted(root: Any) -> None:
        etree.SubElement(root, f"{{{ASSERTION}}}EncryptedAssertion")

    assert_refused(company.come_back(encrypted), "encrypted")
