"""Whether a SAML 2.0 response holds, and whom it is about. Pure.

- The assertion itself must be signed, by RSA or ECDSA with SHA-256 or better, with the key of a certificate that was
  set; certificates that the message brings along are not looked at.
- It is cut out and verified by itself, and only what the signature covers is read (XML Signature Best Practices,
  section 2.1): wrapped elsewhere in a message, a signed assertion makes nothing else signed.
- One assertion, ids of which none is there twice, no document type, no comments, no processing instructions.
- Issuer, audience, recipient, destination, the request that it answers, and both its times must be ours.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from discern.core.errors import MissingExtra

ASSERTION = "urn:oasis:names:tc:SAML:2.0:assertion"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
SIGNATURE = "http://www.w3.org/2000/09/xmldsig#"
MOST_BYTES = 1_000_000
_A, _P, _D = f"{{{ASSERTION}}}", f"{{{PROTOCOL}}}", f"{{{SIGNATURE}}}"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_TRANSFORMS = ("http://www.w3.org/2000/09/xmldsig#enveloped-signature", _EXCLUSIVE)
_CONDITIONS = {f"{_A}AudienceRestriction", f"{_A}OneTimeUse", f"{_A}ProxyRestriction"}
_SKEW = timedelta(seconds=60)


class ResponseRefused(Exception):
    """A response does not hold; the message says why, in half a sentence."""


class Expected(NamedTuple):
    """What a response must say: who signs, who we are, where it was to be sent, and what it answers."""

    issuer: str
    certificates: Sequence[Any]
    audience: str
    recipient: str
    request: str


class Assertion(NamedTuple):
    """What an assertion says that holds. `good_until` is when it can no longer be used."""

    id: str
    name_id: str
    name_id_is_transient: bool
    attributes: dict[str, tuple[str, ...]]
    context: str
    good_until: datetime
    session_ends_at: datetime | None


def assertion_of(encoded: str, expected: Expected, now: datetime) -> Assertion:
    """Return the assertion of a response as it was posted, in Base64. Raises ResponseRefused."""
    root = _parsed(encoded)
    if root.tag != f"{_P}Response" or root.get("Version") != "2.0":
        raise ResponseRefused("it is no response of SAML 2.0")
    if root.get("Destination", expected.recipient) != expected.recipient:
        raise ResponseRefused("it was sent to another address")
    if root.get("InResponseTo") != expected.request:
        raise ResponseRefused("it answers another request")
    issuer = root.find(f"{_A}Issuer")
    if issuer is not None and _text(issuer) != expected.issuer:
        raise ResponseRefused("it is from another issuer")
    status = root.find(f"{_P}Status/{_P}StatusCode")
    if status is None or status.get("Value") != _SUCCESS:
        raise ResponseRefused(f"it says {_last_word(status)}")
    if root.find(f".//{_A}EncryptedAssertion") is not None:
        raise ResponseRefused("its assertion is encrypted, which is not taken here")
    found = list(root.iter(f"{_A}Assertion"))
    if len(found) != 1 or found[0].getparent() is not root:
        raise ResponseRefused("it must hold one assertion, and nowhere else")
    return _read(_verified(found[0], expected, now), expected, now)


def _parsed(encoded: str) -> Any:  # noqa: ANN401 - lxml has no types
    etree = xml_library()
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ResponseRefused("it is not in Base64") from error
    if not content or len(content) > MOST_BYTES:
        raise ResponseRefused("it is empty or too large")
    # Before anything is parsed; what stands in two bytes a character would not show.
    if b"<!DOCTYPE" in content or b"\0" in content:
        raise ResponseRefused("it brings a document type, or is not in UTF-8")
    try:
        root = etree.fromstring(content, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ResponseRefused("it is not XML") from error
    if root.getroottree().docinfo.doctype or root.getroottree().docinfo.internalDTD is not None:
        raise ResponseRefused("it brings a document type")
    # A comment splits a text in two, of which some readers see the first half alone.
    if any(not isinstance(node.tag, str) for node in root.iter()):
        raise ResponseRefused("it holds comments, entities or processing instructions")
    ids = [node.get("ID") for node in root.iter() if node.get("ID") is not None]
    if len(ids) != len(set(ids)):
        raise ResponseRefused("two of its elements have one id")
    return root


def _verified(assertion: Any, expected: Expected, now: datetime) -> Any:  # noqa: ANN401
    """Return the assertion as its signature covers it."""
    etree = xml_library()
    from signxml.algorithms import DigestAlgorithm, SignatureMethod  # noqa: PLC0415 - an extra
    from signxml.exceptions import SignXMLException  # noqa: PLC0415
    from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier  # noqa: PLC0415

    signatures = list(assertion.iter(f"{_D}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not assertion:
        raise ResponseRefused("its assertion is not signed itself")
    references = list(signatures[0].iter(f"{_D}Reference"))
    transforms = [one.get("Algorithm") for one in signatures[0].iter(f"{_D}Transform")]
    own_id = assertion.get("ID")
    if not own_id or len(references) != 1 or references[0].get("URI") != f"#{own_id}":
        raise ResponseRefused("its signature is of something else")
    if sorted(transforms) != sorted(_TRANSFORMS):
        raise ResponseRefused("its signature transforms what it signs in a way that is not taken here")
    wanted = SignatureConfiguration(
        location="./",
        signature_methods=frozenset(
            {
                *(SignatureMethod.RSA_SHA256, SignatureMethod.RSA_SHA384, SignatureMethod.RSA_SHA512),
                *(SignatureMethod.SHA256_RSA_MGF1, SignatureMethod.SHA384_RSA_MGF1, SignatureMethod.SHA512_RSA_MGF1),
                *(SignatureMethod.ECDSA_SHA256, SignatureMethod.ECDSA_SHA384, SignatureMethod.ECDSA_SHA512),
            }
        ),
        digest_algorithms=frozenset({DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}),
        verification_time=now,
        # What key the message names counts for nothing: the certificate that was set does.
        ignore_ambiguous_key_info=True,
    )
    alone = etree.tostring(assertion, with_tail=False)
    why = "there is no certificate"
    for certificate in expected.certificates:
        try:
            result = XMLVerifier().verify(
                alone, x509_cert=certificate, parser=_parser(), id_attribute="ID", expect_config=wanted
            )
        except (SignXMLException, etree.LxmlError, ValueError) as error:
            why = str(error) or type(error).__name__
            continue
        assert isinstance(result, VerifyResult)  # noqa: S101 - one reference is expected
        signed = result.signed_xml
        if signed is None or signed.tag != f"{_A}Assertion" or signed.get("ID") != own_id:
            raise ResponseRefused("its signature is of something else")
        return signed
    raise ResponseRefused(f"the signature of its assertion does not hold ({why[:200]})")


def _read(assertion: Any, expected: Expected, now: datetime) -> Assertion:  # noqa: ANN401
    """Return what a verified assertion says, if it says it to us."""
    if assertion.get("Version") != "2.0" or _text(assertion.find(f"{_A}Issuer")) != expected.issuer:
        raise ResponseRefused("its assertion is from another issuer")
    subject = assertion.find(f"{_A}Subject")
    name_id = None if subject is None else subject.find(f"{_A}NameID")
    good_until = _confirmed(subject, expected, now)
    _check_conditions(assertion.find(f"{_A}Conditions"), expected, now)
    statement = assertion.find(f"{_A}AuthnStatement")
    if statement is None:
        raise ResponseRefused("its assertion does not say that anybody signed in")
    ends = statement.get("SessionNotOnOrAfter")
    session_ends_at = None if ends is None else _time(ends)
    if session_ends_at is not None and session_ends_at <= now:
        raise ResponseRefused("the session that it speaks of has ended")
    attributes = {
        str(attribute.get("Name")): tuple(_text(value) for value in attribute.findall(f"{_A}AttributeValue"))
        for attribute in assertion.findall(f"{_A}AttributeStatement/{_A}Attribute")
    }
    return Assertion(
        id=str(assertion.get("ID")),
        name_id=_text(name_id),
        name_id_is_transient=name_id is not None and name_id.get("Format") == _TRANSIENT,
        attributes=attributes,
        context=_text(statement.find(f"{_A}AuthnContext/{_A}AuthnContextClassRef")),
        good_until=good_until + _SKEW,
        session_ends_at=session_ends_at,
    )


def _confirmed(subject: Any, expected: Expected, now: datetime) -> datetime:  # noqa: ANN401
    """Return until when whoever brings the assertion is its subject (SAML 2.0 Profiles, section 4.1.4.3)."""
    why = "its assertion is not for whoever brings it"
    for confirmation in [] if subject is None else subject.findall(f"{_A}SubjectConfirmation"):
        data = confirmation.find(f"{_A}SubjectConfirmationData")
        if confirmation.get("Method") != _BEARER or data is None:
            continue
        ends = data.get("NotOnOrAfter")
        if data.get("Recipient") != expected.recipient:
            why = "its assertion is for another address"
        elif data.get("InResponseTo") != expected.request:
            why = "its assertion answers another request"
        elif ends is None or data.get("NotBefore") is not None:
            why = "its assertion does not say how long it is good"
        elif _time(ends) + _SKEW <= now:
            why = "its assertion came too late"
        else:
            return _time(ends)
    raise ResponseRefused(why)


def _check_conditions(conditions: Any, expected: Expected, now: datetime) -> None:  # noqa: ANN401
    if conditions is None:
        raise ResponseRefused("its assertion does not say for whom it is")
    begins, ends = conditions.get("NotBefore"), conditions.get("NotOnOrAfter")
    if begins is not None and _time(begins) - _SKEW > now:
        raise ResponseRefused("its assertion is not good yet")
    if ends is not None and _time(ends) + _SKEW <= now:
        raise ResponseRefused("its assertion came too late")
    if {child.tag for child in conditions} - _CONDITIONS:
        raise ResponseRefused("its assertion has a condition that is not known here")
    restrictions = conditions.findall(f"{_A}AudienceRestriction")
    for restriction in restrictions:
        if expected.audience not in [_text(one) for one in restriction.findall(f"{_A}Audience")]:
            raise ResponseRefused("its assertion is for another audience")
    if not restrictions:
        raise ResponseRefused("its assertion does not say for whom it is")


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ResponseRefused("one of its times is none") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _text(node: Any) -> str:  # noqa: ANN401
    return "" if node is None else "".join(node.itertext()).strip()


def _last_word(status: Any) -> str:  # noqa: ANN401
    """Return the innermost status code, without its long prefix."""
    innermost = None if status is None else (status.find(f"{_P}StatusCode") if len(status) else status)
    value = "nothing" if innermost is None else str(innermost.get("Value", ""))
    return "".join(one for one in value.rpartition(":")[2] if one.isalnum())[:60]


def _parser() -> Any:  # noqa: ANN401
    return xml_library().XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )


def xml_library() -> Any:  # noqa: ANN401 - lxml has no types
    """Return what reads XML. Raises MissingExtra without it, or without what verifies signatures."""
    try:
        import signxml  # noqa: F401, PLC0415 - an extra
        from lxml import etree  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(
            "SAML needs signxml, which is not installed.",
            mend="Install it: pip install 'discern-detectors[saml]'.",
            extra="saml",
        ) from error
    return etree
