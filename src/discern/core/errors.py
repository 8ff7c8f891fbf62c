"""Errors carry facts; the doors give them a status, an exit code and a shape.

The tree is by who must act:

- `CallerError`: the caller sends something else.
- `OperatorError`: whoever runs this installation changes something.
- `InternalError`: we have a defect.

Every class has a stable `code`. A message says what is wrong and where; `mend` says how to put it right.
"""

from __future__ import annotations

from typing import ClassVar

Fact = str | int | float | bool | None | list[str]


class DiscernError(Exception):
    """Root of every error this project raises on purpose.

    `detail` is one sentence for people, `mend` what to do about it, `facts` the values a program may want (limits,
    names). `retry_after` is in seconds, or None where trying again changes nothing.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, mend: str | None = None, retry_after: float | None = None, **facts: Fact
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.mend = mend
        self.retry_after = retry_after
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.detail} {self.mend}" if self.mend else self.detail


class CallerError(DiscernError):
    """The caller can put it right."""

    code = "bad_request"


class OperatorError(DiscernError):
    """Whoever runs this installation can put it right."""

    code = "misconfigured"


class InternalError(DiscernError):
    """A defect of ours."""

    code = "internal"


class EmptyInput(CallerError):
    """There are no bytes to look at."""

    code = "empty_input"


class UnsupportedInput(CallerError):
    """The content is of a type this detector does not take."""

    code = "unsupported_input"


class UnreadableInput(CallerError):
    """The content claims a type but cannot be decoded: truncated, corrupt, or without a picture in it."""

    code = "unreadable_input"


class InputTooLarge(CallerError):
    """A limit on bytes, pixels, frames or seconds fired. Facts: `limit` (its setting), `allowed`, `found`."""

    code = "input_too_large"


class NoFaceFound(CallerError):
    """The detector looks at faces, none was found, and its manifest says to refuse."""

    code = "no_face_found"


class InvalidRecord(CallerError):
    """A record breaks the manifest's fields. Fact `faults` names every fault, one string each."""

    code = "invalid_record"


class MalformedRequest(CallerError):
    """The request itself cannot be understood: broken JSON, a wrong parameter, a multipart body without a file."""

    code = "malformed_request"


class SlowSender(CallerError):
    """The input came so slowly that it was given up. Facts: `limit` (its setting), `allowed` in seconds."""

    code = "slow_sender"


class UnknownDetector(CallerError):
    """No detector has this name, or it has no such version."""

    code = "unknown_detector"


class UnknownVerdict(CallerError):
    """No verdict of this workspace has this id."""

    code = "unknown_verdict"


class DatasetRefused(CallerError):
    """A dataset, or the manifest that pins it, is not what it must be. Fact `files` names what changed, if any."""

    code = "dataset_refused"


class UnknownRun(CallerError):
    """No bulk run of this workspace has this id."""

    code = "unknown_run"


class UnknownJob(CallerError):
    """No job of this workspace has this id, or it has no result of this kind."""

    code = "unknown_job"


class NoSuchStream(CallerError):
    """There is no WebSocket at this path."""

    code = "no_such_stream"


class Unauthenticated(CallerError):
    """The API key is missing, malformed, unknown or revoked."""

    code = "unauthenticated"


class Forbidden(CallerError):
    """The caller is known and may not do this. Facts: `action`, `role`, and `policies` that forbid it."""

    code = "forbidden"


class ConsentMissing(CallerError):
    """The workspace asks for consent, and the subject has not given it, or none was named."""

    code = "consent_missing"


class UnknownSubject(CallerError):
    """Nothing is kept of a subject in this workspace."""

    code = "unknown_subject"


class RateLimited(CallerError):
    """More requests came than may. Facts: `limit` (its setting), `rule`, `allowed`."""

    code = "rate_limited"


class QuotaExceeded(CallerError):
    """The workspace has had what it may ask for this month. Facts: `quota`, `allowed`, `used`, `asked`, `resets_at`."""

    code = "quota_exceeded"


class NoResultYet(CallerError):
    """A job has no result: it has not ended, failed, or was cancelled. Fact: `state`."""

    code = "no_result"


class WrongPassword(CallerError):
    """A name and a password do not go together, or the name is locked for a while; which, is not told."""

    code = "wrong_password"


class WrongFactor(CallerError):
    """A code or a passkey is not right, was used before, or the sign-in it was for is over; which, is not told."""

    code = "wrong_factor"


class SecondFactorNeeded(CallerError):
    """The role demands a second factor, and whoever asks has none yet. Fact: `role`."""

    code = "second_factor_needed"


class FreshProofNeeded(CallerError):
    """What is to be changed needs a proof of who asks that is a few minutes old at most."""

    code = "fresh_proof_needed"


class UnknownFactor(CallerError):
    """Whoever asks has no second factor of this id."""

    code = "unknown_factor"


class SignInRefused(CallerError):
    """A provider's word does not let somebody in: it does not hold, came late, or none of their groups may anything."""

    code = "sign_in_refused"


class UnknownProvider(CallerError):
    """No identity provider has this name, or it is of another kind."""

    code = "unknown_provider"


class MissingCsrfToken(CallerError):
    """A request by cookie would change something and does not prove where it comes from."""

    code = "missing_csrf_token"


class UnknownUser(CallerError):
    """No user of this workspace has this id or name."""

    code = "unknown_user"


class UnknownSession(CallerError):
    """Whoever asks has no live session of this id."""

    code = "unknown_session"


class UnknownKey(CallerError):
    """No live API key of this workspace has this id."""

    code = "unknown_key"


class UnknownAlert(CallerError):
    """No alert that whoever asks may see has this id."""

    code = "unknown_alert"


class UnknownSilence(CallerError):
    """No silence that whoever asks may see has this id."""

    code = "unknown_silence"


class UnknownChannel(CallerError):
    """No channel that alerts are sent by has this name."""

    code = "unknown_channel"


class UnknownWorkspace(CallerError):
    """No workspace has this name."""

    code = "unknown_workspace"


class Overloaded(OperatorError):
    """More is waiting than this installation is set to hold. Facts: `limit` (its setting), `allowed`."""

    code = "overloaded"


class FactorUnavailable(OperatorError):
    """A kind of second factor is not set up, or whoever sends its codes does not answer. Fact: `kind`."""

    code = "factor_unavailable"


class SubjectsUnavailable(OperatorError):
    """No subject can be named: nothing is set that keeps their keys."""

    code = "subjects_unavailable"


class MissingExtra(OperatorError):
    """What was asked for needs an optional part of the installation. Fact: `extra`."""

    code = "missing_extra"


class ProviderUnavailable(OperatorError):
    """An identity provider does not answer, or not as it should. Fact: `provider`. Passwords of our own still do."""

    code = "provider_unavailable"


class BundleRefused(OperatorError):
    """A bundle is not what a bundle must be. Facts: `file` (inside the bundle) and `reason`."""

    code = "bundle_refused"


class BundleUntrusted(BundleRefused):
    """A bundle's signature is missing, broken, or by a key this installation does not trust."""

    code = "bundle_untrusted"


class InvalidSettings(OperatorError):
    """A setting is unknown, mistyped or out of range."""

    code = "invalid_settings"


class StorageUnavailable(OperatorError):
    """The database or the disk did not take a write; nothing was acknowledged."""

    code = "storage_unavailable"


class ObjectsUnavailable(StorageUnavailable):
    """The object store, or what keeps the master key, does not answer; nothing was acknowledged."""

    code = "objects_unavailable"


class ObjectRefused(OperatorError):
    """A kept object is not what was written, or the key it needs is not here. Fact `reason`: `changed` or `key`."""

    code = "object_refused"


class DetectorFailed(OperatorError):
    """A detector's first stage failed, so there is no score to degrade from. Facts: `detector`, `stage`."""

    code = "detector_failed"
