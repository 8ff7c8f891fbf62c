"""Which columns a detector takes of a table, and whether an interrupted run may go on.

- A field that must not miss needs its column; nothing is scored before that is known.
- A run goes on only with the input, the bundle and the options it was begun with.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import NamedTuple

from discern.core.errors import CallerError, InvalidRecord, OperatorError
from discern.detection.bulk.types import RunState
from discern.inputs.spec import RecordSpec

_NAMED = 20


class Columns(NamedTuple):
    """The columns of a table that are read, in the manifest's order, and those that are left."""

    taken: tuple[str, ...]
    ignored: tuple[str, ...]


def choose_columns(present: Sequence[str], spec: RecordSpec, *, id_column: str | None, strict: bool) -> Columns:
    """Return which columns are read for the model.

    Raises InvalidRecord naming every field without its column, and with `strict` every column that is no field; and
    where two columns have one name, or the id column is not there.
    """
    twice = sorted({name for name in present if present.count(name) > 1})
    if twice:
        raise InvalidRecord(f"Columns stand twice: {listed(twice)}.", mend="Give each column a name of its own.")
    if id_column is not None and id_column not in present:
        near = difflib.get_close_matches(id_column, present, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It has {listed(present)}."
        raise InvalidRecord(f"There is no column {id_column!r} for --id.", mend=hint)
    fields = {field.name: field for field in spec.fields}
    ignored = tuple(name for name in present if name not in fields and name != id_column)
    faults = [
        f"{name}: missing{_near(name, ignored)}"
        for name, field in fields.items()
        if name not in present and field.missing == "refuse"
    ]
    if strict:
        faults += [f"{name}: the detector has no such field" for name in ignored]
    if faults:
        raise columns_do_not_fit(faults)
    return Columns(tuple(name for name in fields if name in present), ignored)


def columns_do_not_fit(faults: Sequence[str]) -> InvalidRecord:
    """Return the error for a table whose columns are not the detector's fields."""
    return InvalidRecord(
        f"The columns do not fit the detector: {'; '.join(faults[:_NAMED])}{_more(faults)}.",
        mend="Name the columns as the detector's fields; `discern detector show` lists them.",
        faults=list(faults[:100]),
    )


def listed(names: Collection[str]) -> str:
    """Return names for a message, not too many of them."""
    shown = list(names)
    return ", ".join(shown[:_NAMED]) + _more(shown)


def check_resumable(before: RunState, now: RunState) -> None:
    """Raise OperatorError, saying what differs, unless the run `before` is the one that is asked for `now`."""
    differences = [
        (before.input != now.input, f"the input was {before.input}"),
        (before.input == now.input and before.pin != now.pin, "the input has changed"),
        (
            (before.detector, before.version) != (now.detector, now.version),
            f"the detector was {before.detector} {before.version}",
        ),
        (before.version == now.version and before.bundle != now.bundle, "the bundle has changed"),
        (before.options != now.options, f"the options were {_options(before)}"),
        (before.format != now.format, "another version of Discern began it"),
    ]
    found = [text for differs, text in differences if differs]
    if found:
        raise OperatorError(
            f"An interrupted run ({before.run}) stands beside the output, and it was another one: {'; '.join(found)}.",
            mend="Ask for the same again to go on with it, or start anew with --restart.",
            run=before.run,
        )


def check_not_there(output: str) -> CallerError:
    """Return the error for an output that is there already."""
    return CallerError(f"{output} is there already.", mend="Name another file, or give --restart to replace it.")


def _options(state: RunState) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(state.options.items()))


def _near(name: str, candidates: Sequence[str]) -> str:
    same = [candidate for candidate in candidates if candidate.strip().lower() == name.lower()]
    near = same or difflib.get_close_matches(name, candidates, n=1)
    return f" (did you mean the column {near[0]}?)" if near else ""


def _more(names: Collection[str]) -> str:
    return f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
