"""Signing in: by a password alone, or by a password and then a second factor.

- Where there is a factor, the right password gives a ticket, which is no session: it opens nothing but the two routes
  that end the sign-in, for `TICKET_TIME`, for `MOST_TRIES_OF_A_TICKET` wrong answers, once.
- Whether somebody has a factor is told to whoever knows the password, and to nobody else.
- A ticket ends with any change of the password, the role or the factors.
"""

from __future__ import annotations

import secrets
from uuid import UUID

from discern.access.rules import fingerprint
from discern.access.rules_factors import MOST_TRIES_OF_A_TICKET, TICKET_TIME
from discern.access.service_proofs import Proofs, wrong_factor
from discern.access.service_users import Users, begin_act
from discern.access.store_factors import FactorStore, Held
from discern.access.types import SignedIn
from discern.access.types_factors import Challenge, ChallengeKind, PendingSignIn, Proof
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import WrongPassword


class SignIn:
    """How users with passwords come in. Thread-safe."""

    def __init__(self, users: Users, store: FactorStore, proofs: Proofs, clock: Clock = utc_now) -> None:
        self._users = users
        self._store = store
        self._proofs = proofs
        self._clock = clock

    def begin(self, name: str, password: str, agent: str) -> SignedIn | PendingSignIn:
        """Begin a session, or a sign-in that waits for a factor. Raises WrongPassword."""
        user, hashed = self._users.check(name, password)
        factors, codes_left = self._store.of(user.id)
        if not factors:
            return self._users.begin(user, agent, factor=None, password=hashed)
        ticket = "dsp_" + secrets.token_urlsafe(32)
        now = self._clock()
        expires_at = now + TICKET_TIME
        with self._store.holding(user.id) as held:
            if held.password != hashed or held.user.disabled_at is not None:
                raise WrongPassword("The name or the password is wrong.", mend="It was changed a moment ago.")
            held.begin_sign_in(fingerprint(ticket), now, expires_at)
            who = f"user:{user.id}"
            held.record(Act(user.workspace, who, "sessions.await_factor", who))
        return PendingSignIn(ticket, expires_at, factors, codes_left)

    def ask(self, ticket: str, kind: ChallengeKind, factor_id: UUID | None) -> Challenge:
        """Ask a factor of whoever holds a ticket. Raises WrongFactor, UnknownFactor, RateLimited and others."""
        bound_to = fingerprint(ticket)
        with self._store.holding(self._whose(bound_to)) as held:
            self._check_open(held, bound_to)
            asked = self._proofs.ask(held, kind, factor_id, bound_to)
        if asked.send is not None:
            asked.send()
        return asked.challenge

    def finish(self, ticket: str, proof: Proof, agent: str) -> SignedIn:
        """End a sign-in with a session. Raises WrongFactor."""
        bound_to = fingerprint(ticket)
        with self._store.holding(self._whose(bound_to)) as held:
            self._check_open(held, bound_to)
            refused = self._proofs.judge(held, proof, bound_to)
            if refused is None:
                begun = self._users.prepare(held.user, agent, factor=proof.kind, is_proven=True)
                held.end_sign_in(bound_to, begun.session, fingerprint(begun.secret))
                held.record(begin_act(begun))
                return begun
            held.note_try_of_sign_in(bound_to)
            self._proofs.refuse(held, "sessions.begin", refused)
        raise wrong_factor()

    def _check_open(self, held: Held, ticket_sha256: bytes) -> None:
        tries = held.tries_of_sign_in(ticket_sha256, self._clock())
        if tries is None or tries >= MOST_TRIES_OF_A_TICKET:
            raise wrong_factor()

    def _whose(self, ticket_sha256: bytes) -> UUID:
        user_id = self._store.whose(ticket_sha256)
        if user_id is None:
            raise wrong_factor()
        return user_id
