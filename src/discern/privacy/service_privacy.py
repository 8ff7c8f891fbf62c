"""What a person may ask for: to see what is kept of them, to have it forgotten, and to say whether they may be judged.

- An erasure shreds the subject's key first: from then on nobody reads what was sealed with it, whatever is left of it
  and wherever, in a backup too. What is left in the database goes after it.
- An erasure is remembered where the keys are, so a ledger that is restored from before is brought up to it.
- The audit log names a subject by reference, never by name.
"""

from __future__ import annotations

import logging

from discern.access.types import LOCAL, Principal
from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import CallerError, DiscernError, UnknownSubject
from discern.privacy.ports import HeldJobs, HeldLabels, HeldVerdicts
from discern.privacy.service import SubjectKeys
from discern.privacy.store import ConsentStore
from discern.privacy.types import Consent, Erasure, PrivacyRules, SubjectExport

log = logging.getLogger(__name__)
_AT_A_TIME = 500
_MOST_SOURCE = 200


class Privacy:
    """The rights of subjects over what an installation keeps."""

    def __init__(
        self,
        subjects: SubjectKeys,
        consents: ConsentStore,
        verdicts: HeldVerdicts,
        jobs: HeldJobs,
        labels: HeldLabels,
        trail: Trail,
        clock: Clock = utc_now,
    ) -> None:
        self._subjects = subjects
        self._consents = consents
        self._verdicts = verdicts
        self._jobs = jobs
        self._labels = labels
        self._trail = trail
        self._clock = clock

    def rules(self, workspace: str) -> PrivacyRules:
        """Return what a workspace asks for."""
        return self._consents.rules(workspace)

    def set_rules(self, workspace: str, rules: PrivacyRules, by: Principal = LOCAL) -> None:
        """Have a workspace ask for consent, or no more."""
        before = self._consents.rules(workspace)
        act = Act(
            workspace,
            by.id,
            "privacy.change",
            f"workspace:{workspace}",
            before={"consent_required": before.consent_required},
            after={"consent_required": rules.consent_required},
        )
        if rules.consent_required:
            _ = self._subjects.store  # nobody could be named, and so nobody judged, without it
        self._consents.set_rules(workspace, rules, self._clock(), act)
        self._subjects.forget_rules(workspace)

    def record(self, workspace: str, name: str, *, given: bool, source: str = "", by: Principal = LOCAL) -> Consent:
        """Write down what a subject has said. Raises MalformedRequest for what cannot be a name."""
        if len(source) > _MOST_SOURCE or not (source.isprintable() or not source):
            raise CallerError(
                f"`source` has more than {_MOST_SOURCE} characters, or some that cannot be printed.",
                mend="Name the place where the consent can be looked up.",
            )
        reference = self._subjects.reference(workspace, name)
        consent = Consent(given, self._clock(), by.id, source)
        act = Act(workspace, by.id, "privacy.consent", f"subject:{reference}", after={"given": given})
        self._consents.add(workspace, reference, consent, act)
        return consent

    def export(self, workspace: str, name: str, by: Principal = LOCAL) -> SubjectExport:
        """Return all that is kept of a subject. Raises UnknownSubject where that is nothing."""
        reference = self._subjects.reference(workspace, name)
        stored = self._subjects.store.get(workspace, reference)
        consents = self._consents.all(workspace, reference)
        if stored is None and not consents:
            raise _unknown()
        found = () if stored is None else tuple(self._verdicts.about(workspace, stored.key_id))
        jobs = tuple(self._jobs.about(workspace, reference))
        labels = () if stored is None else tuple(self._labels.about(workspace, stored.key_id))
        after = {"verdicts": len(found), "jobs": len(jobs), "consents": len(consents), "labels": len(labels)}
        self._trail.record(Act(workspace, by.id, "privacy.export", f"subject:{reference}", after=after))
        return SubjectExport(name, self._clock(), found, jobs, tuple(consents), labels)

    def erase(self, workspace: str, name: str, by: Principal = LOCAL) -> Erasure:
        """Forget a subject. Raises UnknownSubject where nothing is kept of them; nothing is forgotten half."""
        reference = self._subjects.reference(workspace, name)
        now, store = self._clock(), self._subjects.store
        known = store.get(workspace, reference) is not None or self._consents.all(workspace, reference)
        if not known and not self._is_half_done(workspace, reference):
            raise _unknown()
        # On record before it is done: what is shredded cannot be brought back to be put on record.
        self._trail.record(Act(workspace, by.id, "privacy.erase", f"subject:{reference}", reason="begun"))
        jobs = self._jobs.forget_about(workspace, reference, before=now)
        self._subjects.shred(workspace, reference, now)
        # Of an erasure that stopped half-way before, too.
        erased = store.erased_of(workspace, reference)
        labels = sum(self._labels.forget_about(workspace, one.key_id) for one in erased)
        verdicts = sum(self._verdicts.forget_about(workspace, one.key_id) for one in erased)
        erasure = Erasure(reference, verdicts, jobs, now, labels)
        act = Act(
            workspace,
            by.id,
            "privacy.erase",
            f"subject:{reference}",
            after={"verdicts": verdicts, "jobs": jobs, "labels": labels},
        )
        self._consents.forget(workspace, reference, act)
        return erasure

    def counts(self, workspace: str) -> tuple[int, int]:
        """Return how many subjects of a workspace are known, and how many erasures there were."""
        if not self._subjects.has_any():
            return 0, 0
        return self._subjects.store.counts(workspace)

    def reapply(self) -> int:
        """Delete what was erased and has come back, or came while it was erased; return how many verdicts went.

        Nobody could read these; what the subject had said, and who jobs are about, goes too. Raises StorageUnavailable.
        """
        deleted, after = 0, ("", b"")
        if not self._subjects.has_any():
            return 0
        while page := self._subjects.store.erased(after, _AT_A_TIME):
            after = page[-1].workspace, page[-1].key_id
            for workspace in {one.workspace for one in page}:
                key_ids = [one.key_id for one in page if one.workspace == workspace]
                for key_id in self._labels.keys_in_use(workspace, key_ids):
                    self._labels.forget_about(workspace, key_id)
                for key_id in self._verdicts.keys_in_use(workspace, key_ids):
                    deleted += self._verdicts.forget_about(workspace, key_id)
            for one in page:
                self._consents.forget_before(one.workspace, one.reference, one.at)
                self._jobs.forget_about(one.workspace, one.reference, before=one.at)
        if after[0]:
            self._subjects.store.wipe()
        return deleted

    def _is_half_done(self, workspace: str, reference: str) -> bool:
        key_ids = [one.key_id for one in self._subjects.store.erased_of(workspace, reference)]
        held = (self._verdicts.keys_in_use(workspace, key_ids), self._labels.keys_in_use(workspace, key_ids))
        return any(held)

    def reapply_quietly(self) -> None:
        """Do the same beside the server's work. Raises nothing."""
        try:
            deleted = self.reapply()
        except DiscernError as error:
            log.warning("erasures_not_reapplied", extra={"detail": str(error)})
            return
        if deleted:
            log.warning("erasures_reapplied", extra={"verdicts": deleted})


def _unknown() -> UnknownSubject:
    return UnknownSubject("Nothing is kept of that subject.", mend="Check the name, and the workspace.")
