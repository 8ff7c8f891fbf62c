"""SAML 2.0: the Web Browser SSO profile, from us by redirect, back by POST.

- What is asked for is not signed: the answer is bound to it by its id, and to the browser by the attempt.
- What an identity provider sends unasked is not taken: it could be somebody else's.
- A NameID that is another each time is nobody's.
"""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Mapping
from urllib.parse import urlencode
from xml.sax.saxutils import escape, quoteattr  # nosec B406

from cryptography import x509

from discern.access.rules_federation import check_subject
from discern.access.rules_saml import ASSERTION, PROTOCOL, Expected, ResponseRefused, assertion_of, xml_library
from discern.access.types_federation import Attempt, Identity, SamlProvider
from discern.core.clock import Clock, utc_now
from discern.core.errors import InvalidSettings, SignInRefused

log = logging.getLogger(__name__)
_POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"


class Saml:
    """One identity provider. `certificates` are PEM, `here` is the address that stands before all of ours.

    Raises InvalidSettings, and MissingExtra without the extra.
    """

    def __init__(self, name: str, provider: SamlProvider, certificates: str, here: str, clock: Clock = utc_now) -> None:
        self._name = name
        self._provider = provider
        self._clock = clock
        self._entity_id = f"{here}/metadata"
        self._consumer = f"{here}/acs"
        # Who comes back from the provider would find it out otherwise.
        xml_library()
        try:
            self._certificates = x509.load_pem_x509_certificates(certificates.encode())
        except ValueError as error:
            raise InvalidSettings(
                f"The certificate_file of {name} holds no certificate (PEM).",
                mend="Save the signing certificate of the identity provider there.",
                setting="identity_providers",
            ) from error

    def check(self) -> str:
        """Return what is known of the identity provider, which is not asked."""
        ends = max(one.not_valid_after_utc for one in self._certificates)
        return f"Its certificate ends on {ends:%Y-%m-%d}. It wants to know: {self._entity_id}"

    def begin(self, attempt: Attempt) -> str:
        """Return the URL to send the browser to (SAML 2.0 Bindings, section 3.4)."""
        now = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        request = (
            f'<samlp:AuthnRequest xmlns:samlp="{PROTOCOL}" xmlns:saml="{ASSERTION}" Version="2.0" '
            f"ID={quoteattr(_request_id(attempt))} IssueInstant={quoteattr(now)} "
            f"Destination={quoteattr(self._provider.sign_on_url)} ProtocolBinding={quoteattr(_POST)} "
            f"AssertionConsumerServiceURL={quoteattr(self._consumer)}>"
            f"<saml:Issuer>{escape(self._entity_id)}</saml:Issuer></samlp:AuthnRequest>"
        )
        deflated = zlib.compressobj(wbits=-15)
        content = deflated.compress(request.encode()) + deflated.flush()
        sent = urlencode({"SAMLRequest": base64.b64encode(content).decode(), "RelayState": attempt.state})
        url = self._provider.sign_on_url
        return f"{url}{'&' if '?' in url else '?'}{sent}"

    def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Identity:
        """Return whom the answer is about. Raises SignInRefused unless it holds."""
        provider = self._provider
        expected = Expected(
            issuer=provider.entity_id,
            certificates=self._certificates,
            audience=self._entity_id,
            recipient=self._consumer,
            request=_request_id(attempt),
        )
        try:
            assertion = assertion_of(answer.get("SAMLResponse", ""), expected, self._clock())
        except ResponseRefused as error:
            log.info("saml_response_refused", extra={"provider": self._name, "detail": str(error)})
            raise self._refused(f"its response does not hold: {error}") from error
        if provider.require_context and assertion.context not in provider.require_context:
            raise self._refused("you signed in there in a way that does not suffice here (AuthnContextClassRef)")
        if provider.subject_attribute is None:
            if assertion.name_id_is_transient:
                raise self._refused("its NameID is another each time; set subject_attribute")
            subject = assertion.name_id
        else:
            subject = next(iter(assertion.attributes.get(provider.subject_attribute, ())), "")
        named = assertion.attributes.get(provider.name_attribute or "", ())
        return Identity(
            issuer=provider.entity_id,
            subject=check_subject(subject),
            name=next(iter(named), subject),
            groups=assertion.attributes.get(provider.groups_attribute, ()),
            proof=assertion.id,
            proof_ends_at=assertion.good_until,
            ends_at=assertion.session_ends_at,
        )

    def metadata(self) -> bytes:
        """Return what the identity provider wants to know of us."""
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<md:EntityDescriptor xmlns:md="{_METADATA}" entityID={quoteattr(self._entity_id)}>'
            f'<md:SPSSODescriptor AuthnRequestsSigned="false" WantAssertionsSigned="true" '
            f'protocolSupportEnumeration="{PROTOCOL}">'
            f'<md:AssertionConsumerService Binding="{_POST}" Location={quoteattr(self._consumer)} index="0" '
            f'isDefault="true"/></md:SPSSODescriptor></md:EntityDescriptor>\n'
        ).encode()

    def _refused(self, why: str) -> SignInRefused:
        return SignInRefused(f"{self._name} does not let you in: {why}.", mend="Begin again.", provider=self._name)


def _request_id(attempt: Attempt) -> str:
    return f"_{attempt.nonce}"  # an XML id begins with no digit
