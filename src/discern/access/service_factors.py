"""One's own second factors: enrolling, naming and removing them, and recovery codes; and an owner's reset.

- A factor counts once it is confirmed by its first answer, within `ENROLMENT_TIME`; its secret is shown once.
- Every change needs a proof that is not older than `FRESH_TIME`: the password and, where there is one, a factor.
- With a factor come and go the other sessions; the one that has enrolled it gets another secret.
- The last factor of a role that demands one stays until there is another.
- An owner resets the factors of others, not their own: that would be a way around the proof.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from discern.access.rules import check_given, fingerprint
from discern.access.rules_factors import (
    CHALLENGE_TIME,
    ENROLMENT_TIME,
    FRESH_TIME,
    MOST_FACTORS,
    check_factor_name,
    check_number,
    make_recovery_codes,
    make_totp_secret,
    no_fresh_proof,
    totp_url,
)
from discern.access.service_passkeys import AnswerRefused
from discern.access.service_proofs import Asked, Proofs, about_factor, unknown_factor, wrong_factor
from discern.access.service_users import Users, make_session_secret
from discern.access.store_factors import FactorStore, Held
from discern.access.types import LOCAL, Principal, User
from discern.access.types_factors import (
    Challenge,
    ChallengeKind,
    Enrolment,
    Factor,
    FactorKind,
    FactorList,
    KeptFactor,
    Proof,
    RecoveryCodes,
    Visitor,
)
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, Forbidden, Unauthenticated
from discern.core.ids import uuid7


class Factors:
    """The second factors of an installation. Thread-safe."""

    def __init__(self, users: Users, store: FactorStore, proofs: Proofs, clock: Clock = utc_now) -> None:
        self._users = users
        self._store = store
        self._proofs = proofs
        self._clock = clock

    def list(self, visitor: Visitor) -> FactorList:
        """Return what whoever asks has."""
        found, codes_left = self._store.of(visitor.session.user_id)
        return FactorList(found, codes_left, self._users.demands_factor(visitor.principal.role))

    def kinds(self, user: User) -> tuple[FactorKind, ...]:
        """Return the kinds of the second factors that a user has, each once."""
        found, _ = self._store.of(user.id)
        return tuple(sorted({factor.kind for factor in found}))

    def ask(self, visitor: Visitor, kind: ChallengeKind, factor_id: UUID | None) -> Challenge:
        """Ask a factor of whoever is signed in, for `prove`. Raises UnknownFactor, RateLimited and others."""
        with self._holding(visitor) as held:
            asked = self._proofs.ask(held, kind, factor_id, visitor.bound_to)
        if asked.send is not None:
            asked.send()
        return asked.challenge

    def prove(self, visitor: Visitor, password: str, proof: Proof | None) -> None:
        """Take a fresh proof of who is in a session. Raises WrongPassword, WrongFactor."""
        user = self._users.get(visitor.session.workspace, visitor.session.user_id)
        _, hashed = self._users.check(user.name, password)
        with self._holding(visitor) as held:
            refused = None
            if held.password != hashed:
                refused = "wrong password"
            elif held.factors():
                refused = "no factor" if proof is None else self._proofs.judge(held, proof, visitor.bound_to)
            if refused is None:
                held.prove_session(visitor.session.id, self._clock())
                held.forgive()
                held.record(_act(visitor, "factors.prove", f"session:{visitor.session.id}"))
            else:
                self._proofs.refuse(held, "factors.prove", refused)
        if refused is not None:
            raise wrong_factor()
        self._users.forget()

    def enrol(self, visitor: Visitor, kind: FactorKind, name: str, number: str | None) -> Enrolment:
        """Begin to enrol a factor. Raises FreshProofNeeded, CallerError, FactorUnavailable, RateLimited."""
        self._check_fresh(visitor, "factors.enrol")
        factor = Factor(uuid7(), kind, check_factor_name(name), self._clock())
        begin = {"totp": self._enrol_app, "passkey": self._enrol_passkey, "sms": self._enrol_telephone}[kind]
        with self._holding(visitor) as held:
            if len(held.factors()) >= MOST_FACTORS:
                raise CallerError(f"You have {MOST_FACTORS} factors already.", mend="Remove one first.")
            enrolment, send = begin(held, visitor, factor, number)
            held.record(_act(visitor, "factors.enrol", f"factor:{factor.id}", after=factor))
        if send is not None and send.send is not None:
            send.send()
        return enrolment

    def confirm(
        self, visitor: Visitor, factor_id: UUID, code: str, credential: dict[str, Any] | None
    ) -> tuple[Factor, str]:
        """Confirm a factor by its first answer; return it, and the secret that the session has from here on.

        Raises UnknownFactor, and WrongFactor, for a passkey too that is registered already.
        """
        now = self._clock()
        with self._holding(visitor) as held:
            kept = held.enrolment(factor_id, now - ENROLMENT_TIME)
            if kept is None:
                raise unknown_factor()
            confirmed = self._confirmed(held, visitor, kept, code, credential, now)
            if isinstance(confirmed, KeptFactor):
                secret = make_session_secret()
                held.confirm(confirmed, now)
                held.raise_session(visitor.session.id, fingerprint(secret), kept.factor.kind)
                held.end_other_sessions(visitor.session.id)
                held.record(_act(visitor, "factors.confirm", f"factor:{factor_id}", after=kept.factor))
            else:
                self._proofs.refuse(held, "factors.confirm", confirmed)
        if not isinstance(confirmed, KeptFactor):
            raise wrong_factor()
        self._users.forget()
        return msgspec.structs.replace(kept.factor, used_at=now), secret

    def rename(self, visitor: Visitor, factor_id: UUID, name: str) -> Factor:
        """Give a factor another name. Raises FreshProofNeeded, UnknownFactor, CallerError."""
        self._check_fresh(visitor, "factors.rename")
        name = check_factor_name(name)
        with self._holding(visitor) as held:
            factor = _mine(held, factor_id)
            renamed = msgspec.structs.replace(factor, name=name)
            held.rename(factor_id, name)
            held.record(_act(visitor, "factors.rename", f"factor:{factor_id}", before=factor, after=renamed))
        return renamed

    def remove(self, visitor: Visitor, factor_id: UUID) -> None:
        """Remove a factor. Raises FreshProofNeeded, UnknownFactor, and CallerError for the last that is demanded."""
        self._check_fresh(visitor, "factors.remove")
        with self._holding(visitor) as held:
            factor = _mine(held, factor_id)
            if len(held.factors()) == 1:
                if self._users.demands_factor(held.user.role):
                    raise CallerError(
                        f"The role {held.user.role} needs a second factor, and this is your only one.",
                        mend="Enrol another first.",
                    )
                held.put_codes(())
                held.lower_session(visitor.session.id)
            held.remove(factor_id)
            held.end_other_sessions(visitor.session.id)
            held.record(_act(visitor, "factors.remove", f"factor:{factor_id}", before=factor))
        self._users.forget()

    def make_recovery_codes(self, visitor: Visitor) -> RecoveryCodes:
        """Make recovery codes in place of all others. Raises FreshProofNeeded, and CallerError without a factor."""
        self._check_fresh(visitor, "factors.recovery_codes")
        codes = make_recovery_codes()
        with self._holding(visitor) as held:
            if not held.factors():
                raise CallerError("Recovery codes stand in for a factor, and you have none.", mend="Enrol one first.")
            held.put_codes(tuple(self._proofs.recovery_digest(held, code) for code in codes))
            held.record(_act(visitor, "factors.recovery_codes", f"user:{held.user.id}"))
        return RecoveryCodes(codes)

    def reset(self, user: User, by: Principal = LOCAL) -> None:
        """Remove all factors and recovery codes of a user, and end their sessions. Raises Forbidden."""
        check_given(by, user.detectors, "users.change")
        if by.id == f"user:{user.id}":
            self._store.record(Act(user.workspace, by.id, "factors.reset", by.id, outcome="denied", reason="their own"))
            raise Forbidden(
                "Nobody resets their own factors.",
                mend="Ask another owner, or use `discern user reset-factors`.",
                action="users.change",
                role=by.role,
            )
        with self._store.holding(user.id) as held:
            before = {"factors": [msgspec.to_builtins(one.factor) for one in held.factors()]}
            held.remove_all()
            held.record(Act(user.workspace, by.id, "factors.reset", f"user:{user.id}", before=before))
        self._users.forget()

    def _enrol_app(self, held: Held, _: Visitor, factor: Factor, __: str | None) -> tuple[Enrolment, Asked | None]:
        secret = make_totp_secret()
        sealed = self._proofs.sealing.seal(secret.encode(), about_factor(factor))
        held.begin_enrolment(KeptFactor(factor, sealed, None, -1))
        url = totp_url(secret, held.user.name)
        return Enrolment(factor, factor.created_at + ENROLMENT_TIME, secret=secret, url=url), None

    def _enrol_passkey(
        self, held: Held, visitor: Visitor, factor: Factor, _: str | None
    ) -> tuple[Enrolment, Asked | None]:
        value = secrets.token_bytes(32)
        known = [one.credential_id for one in held.factors() if one.credential_id is not None]
        options = self._proofs.passkeys.creation_options(held.user, value, known)
        held.begin_enrolment(KeptFactor(factor, b"", None, 0))
        ends, now = factor.created_at + CHALLENGE_TIME, factor.created_at
        held.put_challenge("enrol-passkey", visitor.bound_to, value, now, ends, factor_id=factor.id)
        return Enrolment(factor, ends, public_key=options), None

    def _enrol_telephone(
        self, held: Held, visitor: Visitor, factor: Factor, number: str | None
    ) -> tuple[Enrolment, Asked | None]:
        plain = check_number(number or "")
        kept = KeptFactor(factor, self._proofs.sealing.seal(plain.encode(), about_factor(factor)), None, 0)
        held.begin_enrolment(kept)
        asked = self._proofs.ask_telephone(held, kept, visitor.bound_to, "enrol-sms")
        return Enrolment(factor, asked.challenge.expires_at, sent_to=asked.challenge.sent_to), asked

    def _confirmed(
        self,
        held: Held,
        visitor: Visitor,
        kept: KeptFactor,
        code: str,
        credential: dict[str, Any] | None,
        now: datetime,
    ) -> KeptFactor | str:
        """Return the factor as it is to count, or why its first answer does not hold."""
        if kept.factor.kind == "totp":
            step = self._proofs.step_of(kept, code)
            return "wrong totp" if step is None else kept._replace(counter=step)
        if kept.factor.kind == "sms":
            fits = self._proofs.fits(held, kept, code, visitor.bound_to, "enrol-sms")
            return kept if fits else "wrong sms"
        challenge = held.challenge("enrol-passkey", visitor.bound_to, now)
        if challenge is None or challenge.factor_id != kept.factor.id:
            return "passkey: no challenge is open"
        held.end_challenge(challenge.id, now)
        try:
            found = self._proofs.passkeys.registered(credential or {}, challenge.value)
        except AnswerRefused as refused:
            return f"passkey: {refused}"
        if held.is_known(found.credential_id):
            return "passkey: it is registered already"
        return KeptFactor(kept.factor, found.public_key, found.credential_id, found.counter)

    @contextmanager
    def _holding(self, visitor: Visitor) -> Iterator[Held]:
        with self._store.holding(visitor.session.user_id) as held:
            # A session that was good a moment ago is still believed at the door, but not with factors.
            if not held.is_open(visitor.session.id):
                raise Unauthenticated("The session has ended.", mend="Sign in again: POST /v1/login.")
            yield held

    def _check_fresh(self, visitor: Visitor, act: str) -> None:
        proven = visitor.session.proven_at
        if proven is None or self._clock() >= proven + FRESH_TIME:
            self._store.record(_denied(visitor, act, "no fresh proof"))
            raise no_fresh_proof()


def _mine(held: Held, factor_id: UUID) -> Factor:
    for one in held.factors():
        if one.factor.id == factor_id:
            return one.factor
    raise unknown_factor()


def _act(visitor: Visitor, act: str, target: str, before: Factor | None = None, after: Factor | None = None) -> Act:
    told = [None if one is None else msgspec.to_builtins(one) for one in (before, after)]
    return Act(visitor.session.workspace, visitor.principal.id, act, target, before=told[0], after=told[1])


def _denied(visitor: Visitor, act: str, reason: str) -> Act:
    who = visitor.principal.id
    return Act(visitor.session.workspace, who, act, who, outcome="denied", reason=reason)
