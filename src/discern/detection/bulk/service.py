"""Scoring a file: read, scored and written at the same time, in bounded memory, and resumed after a kill.

- The output holds every row of the input once, in its order, whatever happened on the way.
- What is scored and written down is not scored again.
- Nothing is scored before the columns fit, the output can be written and the ledger has the run.
- A run whose input changed while it was read has no output.

Needs pyarrow; imported where that is known to be there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

import msgspec
import numpy as np

from discern.access.types import Principal
from discern.core.clock import Clock, utc_now
from discern.core.errors import OperatorError, QuotaExceeded, UnreadableInput, UnsupportedInput
from discern.core.ids import uuid7
from discern.detection.bulk.ports import RunJournal, RunLedger, Submit
from discern.detection.bulk.rules import choose_columns
from discern.detection.bulk.service_journal import Journal
from discern.detection.bulk.service_scoring import Part, Plan, Scorer, output_schema
from discern.detection.bulk.sources import Place, find_place
from discern.detection.bulk.sources_lines import lines_of
from discern.detection.bulk.sources_media import content_of, media_of
from discern.detection.bulk.sources_tables import CsvTable, ParquetTable, part_rows
from discern.detection.bulk.types import Job, Progress, Report, Run, RunState, Totals, Watcher, run_of
from discern.detection.ports import DetectorSource
from discern.detectors.manifest import Manifest
from discern.inputs.faces import FaceLocator
from discern.inputs.spec import RecordSpec
from discern.inputs.types import InputLimits
from discern.quotas.ports import Meter
from discern.quotas.types import Amount
from discern.registry.types import Usable
from discern.store.objects import ObjectAccess

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service works with. `threads` score at the same time; `face_model` is the file that `locator` is of."""

    detectors: DetectorSource
    limits: InputLimits
    locator: FaceLocator
    runs: RunLedger
    meter: Meter
    access: ObjectAccess
    threads: int
    principal: Principal
    face_model: Path | None = None
    clock: Clock = utc_now


class Input(NamedTuple):
    """An input that was looked at: its pieces from a row on, its number of rows and place where they are known.

    `ignored` columns are not read; `id_type` is the Arrow type of the id column.
    """

    pieces: Callable[[int], Iterator[Part]]
    rows: int | None
    position: Callable[[], float] | None
    ignored: tuple[str, ...]
    id_type: Any
    media: bool


def score_file(
    job: Job,
    detector: tuple[str, str | None],
    parts: Parts,
    *,
    watch: Watcher,
    note: Callable[[str], None],
) -> Report:
    """Score `job.input` with a detector, by name and version, into `job.output`.

    `watch` is told how far it is, `note` what a person should know.
    Raises UnknownDetector, InvalidRecord for columns that do not fit, UnreadableInput, UnsupportedInput, and
    OperatorError where the output or the ledger cannot be written, and QuotaExceeded.
    """
    return score_between(
        job, detector, parts, find_place(job.input, parts.access), Journal(job.output), watch=watch, note=note
    )


def score_between(
    job: Job,
    detector: tuple[str, str | None],
    parts: Parts,
    place: Place,
    journal: RunJournal,
    *,
    watch: Watcher,
    note: Callable[[str], None],
) -> Report:
    """Do the same from `place` into whatever `journal` keeps."""
    usable = parts.detectors.find(*detector)
    with ExitStack() as opened:
        pin = place.pin()
        found = _look_at(place, usable.bundle.manifest, job, parts.limits, opened)
        if found.ignored:
            note(f"Columns that are not read: {', '.join(found.ignored)}.")
        opened.enter_context(journal.locked())
        options: dict[str, str | bool | None] = {"id": job.id_column, "strict": job.strict}
        if usable.bundle.variant is not None:
            options["variant"] = usable.bundle.variant
        fresh = str(run_of(uuid7()))
        state = journal.begin(
            RunState(fresh, job.input, pin, usable.name, usable.version, usable.bundle.digest, options, parts.clock()),
            restart=job.restart,
        )
        run = _run(state, journal.name, parts.principal)
        parts.runs.begin(run)
        if state.run != fresh:
            note(f"Going on with run {state.run}.")
        return _score(job, parts, usable, place, found, journal, run, state, watch)


def _score(
    job: Job,
    parts: Parts,
    usable: Usable,
    place: Place,
    found: Input,
    journal: RunJournal,
    run: Run,
    state: RunState,
    watch: Watcher,
) -> Report:
    manifest = usable.bundle.manifest
    schema = output_schema(manifest, found.id_type, media=found.media)
    plan = Plan(UUID(state.run).int, schema, parts.limits, job.id_column, job.strict)
    totals = Totals()
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as aside:
        digest = aside.submit(place.sha256)
        with journal.writing(schema, run.id) as writer:
            for batch in journal.pieces(schema):
                writer.write_batch(batch)
                add(totals, batch)
            resumed = totals.rows
            pool = (
                _threads(parts, usable, plan, place)
                if job.cluster is None
                else _cluster(job, parts, usable, plan, place)
            )
            with pool as (submit, window):
                started = time.perf_counter()
                pieces = _within_quota(found.pieces(resumed), parts)
                for batch in _in_order(pieces, submit, window):
                    journal.keep(batch)
                    writer.write_batch(batch)
                    add(totals, batch)
                    seconds = time.perf_counter() - started
                    watch(Progress(totals.rows, found.rows, _share(found, totals.rows), resumed, seconds))
            if place.pin() != state.pin:
                raise OperatorError(
                    f"{job.input} changed while it was read.",
                    mend="Start anew with --restart when nothing writes to it.",
                )
        seconds = time.perf_counter() - started
        finished = msgspec.structs.replace(
            run,
            input_sha256=digest.result(),
            output_sha256=journal.sha256(),
            rows=totals.rows,
            decisions=totals.decisions,
            errors=totals.errors,
            finished_at=parts.clock(),
        )
    parts.runs.finish(finished)
    journal.remove()
    return Report(finished, totals, totals.rows - resumed, seconds)


def add(totals: Totals, batch: Any) -> None:  # noqa: ANN401 - pyarrow has no types
    """Add the rows of a record batch of the output to `totals`."""
    totals.rows += batch.num_rows
    for counts, name in ((totals.decisions, "decision"), (totals.decided_by, "decided_by")):
        column = batch.column(name)
        indices = column.indices.drop_null()
        found = np.bincount(np.asarray(indices), minlength=len(column.dictionary))
        for word, count in zip(column.dictionary.to_pylist(), found.tolist(), strict=True):
            counts[word] = counts.get(word, 0) + count
    totals.degraded += batch.num_rows - batch.column("degraded").null_count
    errors = batch.column("error_code")
    if errors.null_count < batch.num_rows:
        for each in errors.drop_null().value_counts().to_pylist():
            totals.errors[each["values"]] = totals.errors.get(each["values"], 0) + each["counts"]


def _in_order(pieces: Iterable[Part], submit: Submit, window: int) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    refused: QuotaExceeded | None = None
    try:
        for piece in pieces:
            waiting.append(submit(piece))
            if len(waiting) >= window:
                yield waiting.popleft().result()
    except QuotaExceeded as error:
        refused = error
    while waiting:
        yield waiting.popleft().result()
    if refused is not None:
        # What was taken of the quota is written down, and the run goes on from there another time.
        raise refused


def _within_quota(pieces: Iterator[Part], parts: Parts) -> Iterator[Part]:
    for piece in pieces:
        parts.meter.take(parts.principal.workspace, Amount(piece.rows))
        yield piece


@contextmanager
def _threads(parts: Parts, usable: Usable, plan: Plan, place: Place) -> Iterator[tuple[Submit, int]]:
    """Give what scores in threads of this process, and how many pieces may be under way."""
    detector = parts.detectors.get(usable.name, usable.version)
    scorer = Scorer(
        detector,
        plan,
        parts.locator,
        content_of=lambda name: content_of(place, name, parts.limits, read=False),
    )
    pool = ThreadPoolExecutor(parts.threads, thread_name_prefix="score")
    try:
        yield lambda piece: pool.submit(scorer.score, piece), 2 * parts.threads + 1
    finally:
        pool.shutdown(cancel_futures=True)


def _cluster(
    job: Job, parts: Parts, usable: Usable, plan: Plan, place: Place
) -> AbstractContextManager[tuple[Submit, int]]:
    # Imported here: Dask is an extra of its own.
    from discern.detection.bulk.service_cluster import on_cluster  # noqa: PLC0415

    assert job.cluster is not None  # noqa: S101 - asked before
    return on_cluster(
        job.cluster,
        usable.bundle,
        plan,
        parts.face_model,
        content_of=lambda name: content_of(place, name, parts.limits, read=True),
    )


def _look_at(place: Place, manifest: Manifest, job: Job, limits: InputLimits, opened: ExitStack) -> Input:
    """Find out what the input is, by the detector and by its first bytes."""
    if not isinstance(manifest.input, RecordSpec):
        if job.id_column is not None:
            raise UnsupportedInput("--id names a column, and media have none.", mend="Leave it out.")
        entries = place.entries()
        if not entries:
            raise UnreadableInput(f"There is no file in {job.input}.", mend="See the path.")
        return Input(lambda skip: media_of(entries, skip), len(entries), None, (), None, media=True)
    entries = place.entries()
    if len(entries) != 1:
        raise UnsupportedInput(
            f"{manifest.name} takes records, and {job.input} names {len(entries)} files.", mend="Name one file."
        )
    file = opened.enter_context(place.open(entries[0].name))
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    size = max(1, entries[0].size)

    def position() -> float:
        return file.tell() / size

    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        import pyarrow as pa  # noqa: PLC0415 - an extra, known to be there

        most = limits.record_bytes
        id_type = None if job.id_column is None else pa.string()
        return Input(lambda skip: lines_of(file, skip, most), None, position, (), id_type, media=False)
    return _look_at_table(job, manifest.input, file, head, position)


def _look_at_table(job: Job, spec: RecordSpec, file: BinaryIO, head: bytes, position: Callable[[], float]) -> Input:
    table = ParquetTable(job.input, file) if head[:4] == b"PAR1" else CsvTable(job.input, file)
    columns = choose_columns(table.names, spec, id_column=job.id_column, strict=job.strict)
    table.check(spec)
    read = list(columns.taken)
    id_type = None
    if job.id_column is not None:
        id_type = table.id_type(job.id_column)
        if job.id_column not in read:
            read.append(job.id_column)
    return Input(
        lambda skip: table.parts(read, skip, part_rows(len(read), sent=job.cluster is not None)),
        table.rows,
        None if table.rows is not None else position,
        columns.ignored,
        id_type,
        media=False,
    )


def _share(found: Input, rows: int) -> float | None:
    if found.rows is not None:
        return rows / max(1, found.rows)
    return None if found.position is None else min(1.0, found.position())


def _run(state: RunState, output: str, principal: Principal) -> Run:
    variant = state.options.get("variant")
    return Run(
        id=state.run,
        workspace=principal.workspace,
        principal=principal.id,
        detector=state.detector,
        version=state.version,
        bundle_sha256=state.bundle,
        input=state.input,
        output=output,
        started_at=state.started_at,
        input_etag=state.pin.etag,
        variant=variant if isinstance(variant, str) else msgspec.UNSET,
    )
