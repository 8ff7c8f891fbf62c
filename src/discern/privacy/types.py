"""The nouns of privacy."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec

from discern.core.verdict import Verdict

_Utc = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Subject:
    """The person a question is about, as this installation knows them.

    `reference` stands in for the name that the caller uses: HMAC-SHA256 of it, in hexadecimal. `key` (32 bytes) seals
    what is kept of them, and `key_id` (16 bytes) names it; after an erasure both are others.
    """

    workspace: str
    reference: str
    key_id: bytes
    key: bytes = field(repr=False)


class Consent(msgspec.Struct, frozen=True):
    """What a subject has said: whether they may be judged. `source` is where that can be looked up, such as a form."""

    given: bool
    at: _Utc
    by: str
    source: str = ""


class SubjectJob(msgspec.Struct, frozen=True):
    """A job over an input of a subject.

    The input has `bytes` bytes, and is kept until the job has ended, as `input_kept` says. `verdict_id` is the id that
    the verdict has or will have, `error` holds the members of a problem document.
    """

    id: str
    state: str
    detector: str
    version: str
    bytes: int
    input_kept: bool
    created_at: _Utc
    started_at: _Utc | None = None
    finished_at: _Utc | None = None
    verdict_id: str | None = None
    error: dict[str, Any] | None = None


class SubjectLabel(msgspec.Struct, frozen=True):
    """What somebody said is true of a verdict about a subject; `label` None where nobody could tell."""

    verdict_id: str
    detector: str
    label: str | None
    source: str
    labelled_at: _Utc
    created_at: _Utc
    note: str = ""


class SubjectExport(msgspec.Struct, frozen=True):
    """All that is kept of a subject, each kind oldest first."""

    subject: str
    exported_at: _Utc
    verdicts: tuple[Verdict, ...]
    jobs: tuple[SubjectJob, ...]
    consents: tuple[Consent, ...]
    labels: tuple[SubjectLabel, ...] = ()


class Erasure(msgspec.Struct, frozen=True):
    """What an erasure did. `reference` is what the audit log names the subject by; `verdicts` how many went."""

    reference: str
    verdicts: int
    jobs: int
    at: _Utc
    labels: int = 0


class PrivacyRules(msgspec.Struct, frozen=True):
    """What holds in a workspace: whether a question must name a subject who has consented."""

    consent_required: bool = False
