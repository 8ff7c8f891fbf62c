"""SQL of labels.

- A label is a row that never changes. What is said later of the same verdict is the next row, and holds.
- The same said twice by one source is one row, whoever says it at the same time: rows of a verdict are numbered, and
  those who label in a workspace come one after the other.
- A label carries of its verdict what quality counts, so that reading labels does not read the ledger.
- How many labels there were is counted in the transaction that writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Uuid,
    delete,
    func,
    insert,
    select,
    update,
)

from discern.audit.ports import Trail
from discern.audit.types import Act
from discern.core.ids import uuid7
from discern.core.months import least_id
from discern.core.sealing import opened
from discern.monitoring.types import LabelledVerdict
from discern.privacy.ports import Seals
from discern.privacy.types import SubjectLabel
from discern.review.types import UNKNOWN, Counted, Draft, Judged, Label
from discern.store.database import Database
from discern.store.metadata import metadata, workspace_column, workspaces
from discern.store.old_rows import OldRows
from discern.store.types import UtcDateTime

labels = Table(
    "labels",
    metadata,
    workspace_column(),
    Column("verdict_id", Uuid(), nullable=False),
    Column("number", Integer(), nullable=False),
    Column("id", Uuid(), nullable=False),
    Column("detector", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("decision", String(8), nullable=False),
    Column("score", Float(), nullable=False),
    Column("decided_by", String(64), nullable=False),
    Column("cached", Boolean(), nullable=False),
    Column("verdict_at", UtcDateTime, nullable=False),
    Column("label", String(64)),
    Column("positive", Boolean()),
    Column("source", String(32), nullable=False),
    Column("selected_by", String(16), nullable=False),
    Column("propensity", Float()),
    Column("held_out", Float()),
    Column("labelled_at", UtcDateTime, nullable=False),
    Column("at_was_given", Boolean(), nullable=False),
    Column("note", LargeBinary(), nullable=False),
    Column("key_id", LargeBinary(16)),
    Column("principal", String(100), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("workspace", "verdict_id", "number"),
    Index("ix_labels_workspace_detector_verdict_at", "workspace", "detector", "verdict_at"),
    Index("ix_labels_id", "id"),
    Index("ix_labels_workspace_key_id", "workspace", "key_id"),
)
label_counts = Table(
    "label_counts",
    metadata,
    workspace_column(),
    Column("detector", String(64), nullable=False),
    Column("label", String(64), nullable=False),
    Column("labels", BigInteger(), nullable=False),
    PrimaryKeyConstraint("workspace", "detector", "label"),
)
_AT_A_TIME = 500
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def bound_to(workspace: str, verdict_id: str) -> str:
    """Return what a sealed note is bound to."""
    return f"{workspace}/labels/{verdict_id}"


class LabelStore:
    """Labels in the database. Every method raises StorageUnavailable. `seals` opens what is sealed for a subject."""

    def __init__(self, database: Database, trail: Trail, seals: Seals) -> None:
        self._database = database
        self._trail = trail
        self._seals = seals

    def add(
        self, workspace: str, drafts: Sequence[Draft], who: str, now: datetime, act_of: Callable[[int], Act]
    ) -> list[tuple[Label, bool]]:
        """Keep labels, in their order, in one transaction; return each and whether it was there before.

        `act_of` makes of the number of those that were not what is put on record with them.
        """
        found: list[tuple[Label, bool]] = []
        with self._database.write() as connection:
            # Those who label in a workspace come one after the other, or they would give the same number twice, and
            # two who have the same verdicts in another order wait for each other. The audit log locks the row as well.
            one_by_one = select(workspaces.c.workspace).where(workspaces.c.workspace == workspace)
            connection.execute(one_by_one.with_for_update(key_share=True))
            histories = self._histories(connection, workspace, {UUID(one.verdict.id) for one in drafts})
            rows: list[dict[str, Any]] = []
            for draft in drafts:
                history = histories.setdefault(UUID(draft.verdict.id), [])
                same = next((one for one in reversed(history) if _says_the_same(one, draft, history)), None)
                row = same or _row(workspace, draft, history, who, now)
                if same is None:
                    history.append(row)
                    rows.append(row)
                found.append((_label(row, draft.note), same is not None))
            if rows:
                connection.execute(insert(labels), [{one.name: row[one.name] for one in labels.c} for row in rows])
                _count(connection, workspace, Counter((one["detector"], one["label"] or UNKNOWN) for one in rows))
                self._trail.append(connection, act_of(len(rows)))
        return found

    def _histories(self, connection: Connection, workspace: str, ids: set[UUID]) -> dict[UUID, list[dict[str, Any]]]:
        found: dict[UUID, list[dict[str, Any]]] = {}
        wanted = sorted(ids)
        for start in range(0, len(wanted), _AT_A_TIME):
            mine = labels.c.workspace == workspace, labels.c.verdict_id.in_(wanted[start : start + _AT_A_TIME])
            query = select(labels).where(*mine).order_by(labels.c.verdict_id, labels.c.number)
            for row in self._with_notes(workspace, [dict(one) for one in connection.execute(query).mappings()]):
                found.setdefault(row["verdict_id"], []).append(row)
        return found

    def of(self, workspace: str, verdict_id: UUID) -> list[Label]:
        """Return all that was said of a verdict, oldest first."""
        with self._database.read() as connection:
            history = self._histories(connection, workspace, {verdict_id})
        return [_label(row, row["text"]) for row in history.get(verdict_id, ())]

    def labelled(self, workspace: str, ids: Sequence[UUID]) -> set[UUID]:
        """Return those of the verdicts that have a label."""
        mine = labels.c.workspace == workspace, labels.c.verdict_id.in_(ids)
        with self._database.read() as connection:
            return set(connection.execute(select(labels.c.verdict_id).where(*mine).distinct()).scalars())

    # What quality and drift read.

    def labelled_detectors(self, since: datetime) -> list[tuple[str, str]]:
        """Return the workspaces and detectors that have labels; see the port."""
        query = select(labels.c.workspace, labels.c.detector).where(labels.c.verdict_at >= since).distinct()
        with self._database.read() as connection:
            return [(row.workspace, row.detector) for row in connection.execute(query)]

    def judged(self, workspace: str, detector: str, since: datetime) -> Iterator[Judged]:
        """Yield every labelled verdict since a time; see the port."""
        mine = labels.c.workspace == workspace, labels.c.detector == detector, labels.c.verdict_at >= since
        query = select(*(labels.c[name] for name in _JUDGED)).where(*mine)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(labels.c.verdict_id, labels.c.number)).all()
        for _, history in groupby(rows, key=lambda row: row.verdict_id):
            yield _judged(list(history))

    def labelled_verdicts(self, workspace: str, detector: str, version: str, most: int) -> Iterator[LabelledVerdict]:
        """Yield the verdicts of a release of which somebody could tell, in the order of their labels; see the port."""
        known = (
            LabelledVerdict(one.verdict_id, one.score, one.decision, one.positive, one.labelled_at)
            for one in self.judged(workspace, detector, _EVER)
            if one.version == version and one.positive is not None
        )
        latest = nlargest(most, known, key=lambda one: (one.labelled_at, one.verdict_id))
        yield from reversed(latest)

    def counts(self) -> list[Counted]:
        """Return how many labels there ever were, deleted ones too, by workspace, detector and label."""
        with self._database.read() as connection:
            rows = connection.execute(select(label_counts)).all()
        return [Counted(row.workspace, row.detector, row.label, row.labels) for row in rows]

    def given(self, workspace: str, since: datetime, until: datetime) -> list[Counted]:
        """Return how many labels were given from the one time to before the other and are kept."""
        label = func.coalesce(labels.c.label, UNKNOWN)
        mine = labels.c.workspace == workspace, labels.c.id >= least_id(since), labels.c.id < least_id(until)
        query = select(labels.c.detector, label.label("label"), func.count().label("labels")).where(*mine)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(labels.c.detector, label).order_by(labels.c.detector, label)).all()
        return [Counted(workspace, row.detector, row.label, row.labels) for row in rows]

    # What a person may ask for.

    def about(self, workspace: str, key_id: bytes) -> list[SubjectLabel]:
        """Return the labels of verdicts that are sealed with a key, oldest first."""
        query = select(labels).where(labels.c.workspace == workspace, labels.c.key_id == key_id).order_by(labels.c.id)
        with self._database.read() as connection:
            rows = [dict(one) for one in connection.execute(query).mappings()]
        return [
            SubjectLabel(
                verdict_id=str(row["verdict_id"]),
                detector=row["detector"],
                label=row["label"],
                source=row["source"],
                labelled_at=row["labelled_at"],
                created_at=row["created_at"],
                note=row["text"],
            )
            for row in self._with_notes(workspace, rows)
        ]

    def forget_about(self, workspace: str, key_id: bytes) -> int:
        """Delete the labels of verdicts that are sealed with a key; return how many there were."""
        with self._database.write() as connection:
            mine = labels.c.workspace == workspace, labels.c.key_id == key_id
            return connection.execute(delete(labels).where(*mine)).rowcount

    def keys_in_use(self, workspace: str, key_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of the keys that seal a verdict which has a label."""
        query = select(labels.c.key_id).where(labels.c.workspace == workspace, labels.c.key_id.in_(key_ids))
        with self._database.read() as connection:
            return [bytes(key_id) for key_id in connection.execute(query.distinct()).scalars()]

    def _with_notes(self, workspace: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows with their notes as text; empty where the key is shredded."""
        key_ids = {bytes(row["key_id"]) for row in rows if row["key_id"] is not None and row["note"]}
        keys = self._seals.keys(workspace, key_ids) if key_ids else {}
        return [row | {"text": _note(workspace, row, keys)} for row in rows]


def old_labels(database: Database) -> OldRows:
    """Return the labels that came before a time, which their ids tell."""
    return OldRows(database, labels, lambda before: labels.c.id < least_id(before))


_JUDGED = (
    *("verdict_id", "id", "version", "decision", "score", "decided_by", "cached", "verdict_at", "positive", "source"),
    *("selected_by", "propensity", "held_out", "labelled_at"),
)


def _judged(history: Sequence[Any]) -> Judged:
    last = history[-1]
    chosen = next((row for row in history if row.selected_by != "unknown"), last)
    held_out = next((row.held_out for row in history if row.held_out is not None), None)
    return Judged(
        verdict_id=last.verdict_id,
        label_id=last.id,
        version=last.version,
        decision=last.decision,
        score=last.score,
        decided_by=last.decided_by,
        cached=last.cached,
        verdict_at=last.verdict_at,
        positive=last.positive,
        source=last.source,
        selected_by=chosen.selected_by,
        propensity=chosen.propensity,
        held_out=held_out,
        labelled_at=last.labelled_at,
    )


def _says_the_same(row: Mapping[str, Any], draft: Draft, history: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a row says what a draft does: at the time that is given, else as the last word of its source."""
    if (row["source"], row["label"], row["text"]) != (draft.source, draft.label, draft.note):
        return False
    if (row["selected_by"], row["propensity"]) != (draft.selected_by, draft.propensity):
        return False
    if draft.labelled_at is not None:
        return bool(row["at_was_given"] and row["labelled_at"] == draft.labelled_at)
    return bool(row["number"] == next(one["number"] for one in reversed(history) if one["source"] == draft.source))


def _row(workspace: str, draft: Draft, history: Sequence[Mapping[str, Any]], who: str, now: datetime) -> dict[str, Any]:
    verdict = draft.verdict
    return {
        "workspace": workspace,
        "verdict_id": UUID(verdict.id),
        "number": history[-1]["number"] + 1 if history else 1,
        "id": uuid7(),
        "detector": verdict.detector,
        "version": verdict.version,
        "decision": verdict.decision,
        "score": verdict.score,
        "decided_by": verdict.decided_by,
        "cached": verdict.cached,
        "verdict_at": verdict.created_at,
        "label": draft.label,
        "positive": draft.positive,
        "source": draft.source,
        "selected_by": draft.selected_by,
        "propensity": draft.propensity,
        "held_out": draft.held_out,
        "labelled_at": draft.labelled_at or now,
        "at_was_given": draft.labelled_at is not None,
        "note": draft.sealed_note,
        "key_id": draft.key_id,
        "principal": who,
        "created_at": now,
        "text": draft.note,
    }


def _label(row: Mapping[str, Any], note: str) -> Label:
    return Label(
        verdict_id=str(row["verdict_id"]),
        number=row["number"],
        label=row["label"],
        source=row["source"],
        selected_by=row["selected_by"],
        propensity=row["propensity"],
        labelled_at=row["labelled_at"],
        note=note,
        by=row["principal"],
        created_at=row["created_at"],
    )


def _note(workspace: str, row: Mapping[str, Any], keys: Mapping[bytes, bytes]) -> str:
    note = bytes(row["note"])
    if row["key_id"] is None or not note:
        return note.decode()
    key = keys.get(bytes(row["key_id"]))
    return "" if key is None else opened(key, note, bound_to(workspace, str(row["verdict_id"]))).decode()


def _count(connection: Connection, workspace: str, added: Mapping[tuple[str, str], int]) -> None:
    # In one order, so that two who count the same do not wait for each other for ever.
    for (detector, label), many in sorted(added.items()):
        row = (
            label_counts.c.workspace == workspace,
            label_counts.c.detector == detector,
            label_counts.c.label == label,
        )
        changed = update(label_counts).where(*row).values(labels=label_counts.c.labels + many)
        if connection.execute(changed).rowcount != 1:
            values = {"workspace": workspace, "detector": detector, "label": label, "labels": many}
            connection.execute(insert(label_counts).values(values))
