"""Labels: what is true of a verdict, as people and outcomes say.

- Of a verdict of another workspace, or of a detector that whoever asks was not granted, nothing is told: it is unknown,
  by the same words as one that never was.
- Every request that keeps a label is on the audit log, in the transaction that keeps it.
- A note about a subject is sealed with the subject's key, as the verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from functools import lru_cache
from itertools import islice
from uuid import UUID

from discern.access.types import LOCAL, Principal
from discern.audit.types import Act
from discern.core.clock import Clock, utc_now
from discern.core.errors import BundleRefused, CallerError, UnknownDetector, UnknownVerdict
from discern.core.sealing import sealed
from discern.core.verdict import Verdict
from discern.privacy.ports import Seals
from discern.review.ports import ClassesOf, VerdictsToLabel
from discern.review.rules import check_time, class_of, draw_of, propensity_of
from discern.review.store import LabelStore, bound_to
from discern.review.types import (
    Draft,
    Label,
    LabelHistory,
    LabelLine,
    LabelRequest,
    Line,
    RefusedLine,
    Taken,
    WantedList,
    WantedVerdict,
)
from discern.store.secret_files import SecretFile

MayRead = Callable[[Verdict], bool]
_AT_A_TIME = 1000
_MOST_REFUSED_SHOWN = 100
_IDS_A_LOOK = 5000
_MOST_IDS = 100_000


class HoldOut:
    """The verdicts that are labelled whatever was decided: a share of all, told from their ids by a secret."""

    def __init__(self, secret: SecretFile, share: float) -> None:
        self._secret = secret
        self.share = share

    def draw(self, verdict_id: UUID) -> float:
        """Return the number of a verdict: it is held out where that is below the share. Raises StorageUnavailable."""
        return draw_of(self._secret.get().encode(), verdict_id)

    def holds(self, verdict_id: UUID) -> bool:
        """Tell whether a verdict is held out. Raises StorageUnavailable."""
        return self.share > 0 and self.draw(verdict_id) < self.share

    def teller(self) -> Callable[[UUID], bool]:
        """Return what tells whether a verdict is held out. Raises CallerError where nothing is."""
        if not self.share:
            raise CallerError(
                "Nothing is held out for labelling.", mend="Set DISCERN_HOLDOUT_SHARE, such as 0.01, and start again."
            )
        return self.holds


class Labels:
    """The labels of an installation. Every method raises StorageUnavailable."""

    def __init__(
        self,
        store: LabelStore,
        verdicts: VerdictsToLabel,
        classes_of: ClassesOf,
        hold_out: HoldOut,
        seals: Seals,
        clock: Clock = utc_now,
    ) -> None:
        self.store = store
        self._verdicts = verdicts
        self._classes_of = classes_of
        self.hold_out = hold_out
        self._seals = seals
        self._clock = clock

    def label(
        self, verdict_id: UUID, request: LabelRequest, by: Principal = LOCAL, *, may: MayRead = lambda _: True
    ) -> tuple[Label, bool]:
        """Keep what is said of one verdict; return it, and whether it was said before. Raises CallerError."""
        workspace = by.workspace
        verdict, key_id = self._one(workspace, verdict_id, may)
        draft = self._drafted(workspace, verdict, key_id, request)

        def act_of(_: int) -> Act:
            after = {"label": draft.label, "source": draft.source, "selected_by": draft.selected_by}
            return Act(workspace, by.id, "verdicts.label", f"verdict:{verdict_id}", after=after)

        return self.store.add(workspace, [draft], by.id, self._clock(), act_of)[0]

    def history(self, workspace: str, verdict_id: UUID, *, may: MayRead = lambda _: True) -> LabelHistory:
        """Return all that was said of a verdict. Raises UnknownVerdict."""
        verdict, _ = self._one(workspace, verdict_id, may)
        said = tuple(self.store.of(workspace, verdict_id))
        return LabelHistory(verdict.id, verdict.detector, verdict.version, said)

    def take(self, lines: Iterable[Line], by: Principal = LOCAL, *, may: MayRead = lambda _: True) -> Taken:
        """Keep many labels, a thousand in a transaction; what cannot be kept is told line by line, the rest is kept."""
        taken = known = refusals = 0
        refused: list[RefusedLine] = []
        numbered = enumerate(lines, start=1)
        while chunk := list(islice(numbered, _AT_A_TIME)):
            drafts: list[Draft] = []
            for number, found in self._all_drafted(by.workspace, chunk, may):
                if isinstance(found, Draft):
                    drafts.append(found)
                    continue
                refusals += 1
                if len(refused) < _MOST_REFUSED_SHOWN:
                    refused.append(RefusedLine(number, found.code, found.detail, found.mend))
            before = self._known(drafts, by)
            known += before
            taken += len(drafts) - before
        return Taken(taken, known, refusals, tuple(refused))

    def wanted(
        self,
        workspace: str,
        *,
        limit: int,
        detector: str | None = None,
        after: UUID | None = None,
        may: MayRead = lambda _: True,
    ) -> WantedList:
        """Return verdicts that are held out and have no label, newest first, without what was decided.

        A page looks at a hundred thousand verdicts at most, so it may have fewer than `limit` and be followed by more.
        Raises CallerError where nothing is held out.
        """
        is_held_out = self.hold_out.teller()
        found: list[WantedVerdict] = []
        looked_at = 0
        while len(found) < limit and looked_at < _MOST_IDS:
            ids = self._verdicts.ids(workspace, detector, after, _IDS_A_LOOK)
            looked_at += len(ids)
            for verdict in self._unlabelled(workspace, [one for one in ids if is_held_out(one)]):
                # An answer from memory is about an input that was judged before, and counted then.
                if not verdict.cached and may(verdict):
                    found.append(_wanted(verdict))
                    if len(found) == limit:
                        return WantedList(tuple(found), verdict.id)
            if len(ids) < _IDS_A_LOOK:
                return WantedList(tuple(found))
            after = ids[-1]
        return WantedList(tuple(found), None if after is None else str(after))

    def _unlabelled(self, workspace: str, held_out: Sequence[UUID]) -> Iterator[Verdict]:
        labelled = self.store.labelled(workspace, held_out)
        there = self._verdicts.some(workspace, [one for one in held_out if one not in labelled])
        yield from (there[one][0] for one in held_out if one in there)

    def _known(self, drafts: Sequence[Draft], by: Principal) -> int:
        """Keep labels, and return how many of them were known."""
        if not drafts:
            return 0

        def act_of(many: int) -> Act:
            after = {"labels": many, "sources": sorted({one.source for one in drafts})}
            return Act(by.workspace, by.id, "verdicts.label", f"workspace:{by.workspace}", after=after)

        kept = self.store.add(by.workspace, drafts, by.id, self._clock(), act_of)
        return sum(was_known for _, was_known in kept)

    def _all_drafted(
        self, workspace: str, chunk: Sequence[tuple[int, Line]], may: MayRead
    ) -> Iterator[tuple[int, Draft | CallerError]]:
        ids = {line.verdict_id for _, line in chunk if isinstance(line, LabelLine)}
        there = self._verdicts.some(workspace, list(ids))
        classes_of = lru_cache(maxsize=None)(self._classes_of)
        for number, line in chunk:
            if isinstance(line, CallerError):
                yield number, line
                continue
            try:
                verdict, key_id = _visible(line.verdict_id, there.get(line.verdict_id), may)
                yield number, self._drafted(workspace, verdict, key_id, line, classes_of)
            except CallerError as error:
                yield number, error

    def _one(self, workspace: str, verdict_id: UUID, may: MayRead) -> tuple[Verdict, bytes | None]:
        return _visible(verdict_id, self._verdicts.some(workspace, [verdict_id]).get(verdict_id), may)

    def _drafted(
        self,
        workspace: str,
        verdict: Verdict,
        key_id: bytes | None,
        request: LabelRequest,
        classes_of: ClassesOf | None = None,
    ) -> Draft:
        """Return the label that a request comes to. Raises CallerError."""
        check_time(request.labelled_at, self._clock())
        positive = class_of(request.label, _classes(classes_of or self._classes_of, verdict))
        verdict_id, share = UUID(verdict.id), self.hold_out.share
        needs_draw = share > 0 or request.selected_by == "holdout"
        draw = self.hold_out.draw(verdict_id) if needs_draw else 1.0
        selected_by, propensity = propensity_of(request, draw, share)
        return Draft(
            verdict=verdict,
            key_id=key_id,
            label=None if positive is None else request.label,
            positive=positive,
            source=request.source,
            selected_by=selected_by,
            propensity=propensity,
            held_out=propensity if selected_by == "holdout" else share if draw < share else None,
            labelled_at=None if request.labelled_at is None else request.labelled_at.astimezone(UTC),
            note=request.note,
            sealed_note=self._sealed(workspace, verdict, key_id, request.note),
        )

    def _sealed(self, workspace: str, verdict: Verdict, key_id: bytes | None, note: str) -> bytes:
        if key_id is None or not note:
            return note.encode()
        key = self._seals.keys(workspace, [key_id]).get(key_id)
        if key is None:  # shredded since the verdict was read
            raise _unknown(UUID(verdict.id))
        return sealed(key_id, key, note.encode(), bound_to(workspace, verdict.id))


def _wanted(verdict: Verdict) -> WantedVerdict:
    return WantedVerdict(verdict.id, verdict.detector, verdict.version, verdict.input, verdict.created_at)


def _classes(classes_of: ClassesOf, verdict: Verdict) -> tuple[str, str]:
    try:
        return classes_of(verdict.detector, verdict.version)
    except (UnknownDetector, BundleRefused) as error:
        raise CallerError(
            f"What the classes of {verdict.detector} {verdict.version} are called is not known: {error.detail}",
            mend="Add the detector again.",
        ) from error


def _visible(
    verdict_id: UUID, found: tuple[Verdict, bytes | None] | None, may: MayRead
) -> tuple[Verdict, bytes | None]:
    """Return what was found. Raises UnknownVerdict, also for one that may not be seen: that it is there is not told."""
    if found is None or not may(found[0]):
        raise _unknown(verdict_id)
    return found


def _unknown(verdict_id: UUID) -> UnknownVerdict:
    return UnknownVerdict(f"There is no verdict {verdict_id}.", mend="`GET /v1/verdicts` lists them.")
