"""Sending codes to telephones: by way of an HTTP endpoint that the operator names, or not at all."""

from __future__ import annotations

import logging
import time

import msgspec

from discern.access.ports import Poster
from discern.core.errors import CallerError, FactorUnavailable
from discern.core.signatures import SIGNATURE_HEADER, signature
from discern.store.secret_files import SecretFile

log = logging.getLogger(__name__)


class HttpCodes:
    """Posts `{"number", "code", "text"}` as JSON, signed as webhooks are; any 2xx means that it is on its way."""

    def __init__(self, url: str, post: Poster, secret: SecretFile) -> None:
        self._url = url
        self._post = post
        self._secret = secret

    def check(self) -> None:
        """Raise nothing: it is set up."""

    def send(self, number: str, code: str) -> None:
        """Send it. Raises FactorUnavailable where it cannot be sent."""
        text = f"{code} is your code for Discern. It is good for five minutes; give it to nobody."
        body = msgspec.json.encode({"number": number, "code": code, "text": text})
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Discern",
            SIGNATURE_HEADER: signature(self._secret.get(), body, int(time.time())),
        }
        try:
            status = self._post(self._url, body, headers)
        except (CallerError, OSError) as error:
            log.error("code_not_sent", extra={"detail": f"{type(error).__name__}: {error}"[:500]})  # noqa: TRY400
            raise _not_sent() from error
        if not 200 <= status < 300:
            log.error("code_not_sent", extra={"detail": f"the endpoint answered {status}"})
            raise _not_sent()


class NoCodes:
    """Says that sending codes is not set up."""

    def check(self) -> None:
        """Raise FactorUnavailable."""
        raise FactorUnavailable(
            "Codes by SMS are not set up here.",
            mend="Use another factor, or have the operator set DISCERN_SMS_URL.",
            kind="sms",
        )

    def send(self, number: str, code: str) -> None:  # noqa: ARG002 - as the port has it
        """Do the same."""
        self.check()


def _not_sent() -> FactorUnavailable:
    return FactorUnavailable(
        "The code could not be sent.",
        mend="Try again in a minute, or use another factor.",
        retry_after=60.0,
        kind="sms",
    )
