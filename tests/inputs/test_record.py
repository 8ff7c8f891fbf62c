"""Records: the row a model takes, or every fault in one answer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import pytest
from pydantic import TypeAdapter

from discern.core.errors import InvalidRecord
from discern.inputs.record import prepare_record
from discern.inputs.spec import RecordField, RecordSpec

_FIELD: TypeAdapter[RecordField] = TypeAdapter(RecordField)


def spec(*fields: Mapping[str, object]) -> RecordSpec:
    return RecordSpec(kind="record", fields=tuple(_FIELD.validate_python(field) for field in fields))


PAYMENT = spec(
    {"name": "amount", "type": "number", "minimum": 0},
    {"name": "hour", "type": "integer", "minimum": 0, "maximum": 23},
    {"name": "abroad", "type": "boolean"},
    {"name": "channel", "type": "category", "categories": ["shop", "web", "phone"]},
    {"name": "age", "type": "number", "missing": "nan"},
)
GOOD: dict[str, object] = {"amount": 12.5, "hour": 3, "abroad": True, "channel": "web", "age": 40}


def faults(record: dict[str, object], of: RecordSpec = PAYMENT) -> list[str]:
    with pytest.raises(InvalidRecord) as caught:
        prepare_record(record, of)
    listed = caught.value.facts["faults"]
    assert isinstance(listed, list)
    assert listed[0] in str(caught.value)
    return listed


def test_values_stand_in_the_order_of_the_fields() -> None:
    row = prepare_record(dict(reversed(GOOD.items())), PAYMENT)
    assert row.dtype == np.float32
    assert row.tolist() == [[12.5, 3, 1, 1, 40]]


@pytest.mark.parametrize("absent", [{}, {"age": None}])
def test_what_may_be_missing_is_nan(absent: dict[str, object]) -> None:
    record = {name: value for name, value in GOOD.items() if name != "age"} | absent
    row = prepare_record(record, PAYMENT)
    assert math.isnan(row[0, 4])
    assert not np.isnan(row[0, :4]).any()


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("amount", None, "amount: missing"),
        ("amount", math.nan, "amount: NaN is not a number"),
        ("age", math.nan, "age: NaN is not a number"),
        ("amount", math.inf, "amount: inf is not finite"),
        ("amount", -math.inf, "amount: -inf is not finite"),
        ("amount", 1e39, "amount: 1e+39 is not finite or beyond the largest 32-bit number"),
        ("amount", 2**53 + 1, "amount: an integer of 54 bits is beyond 2**53"),
        pytest.param("amount", 10**6000, "amount: an integer of 19,932 bits is beyond 2**53", id="huge"),
        ("amount", "12", "amount: '12' is not a number"),
        ("amount", True, "amount: True is not a number"),
        ("amount", [1], "amount: a value of type list is not a number"),
        ("amount", -0.01, "amount: -0.01 is below the minimum 0"),
        ("hour", 24, "hour: 24 is above the maximum 23"),
        ("hour", 3.5, "hour: 3.5 is not a whole number"),
        ("hour", False, "hour: False is not a whole number"),
        ("hour", 1e20, "hour: 1e+20 is beyond 2**53"),
        ("abroad", 1, "abroad: 1 is not true or false"),
        ("abroad", "true", "abroad: 'true' is not true or false"),
        ("channel", "Web", "channel: 'Web' is not one of its 3 categories; did you mean 'web'?"),
        ("channel", 1, "channel: 1 is not a string"),
        ("channel", "x" * 5000, "channel: 'xxx"),
    ],
)
def test_each_fault_is_named(name: str, value: object, fault: str) -> None:
    (found,) = faults(GOOD | {name: value})
    assert found.startswith(fault)
    assert len(found) < 200


def test_unknown_fields_are_named_with_their_near_miss() -> None:
    record = {name: value for name, value in GOOD.items() if name != "amount"} | {"amont": 1, "HOUR": 2, "zzz": 3}
    assert faults(record) == [
        "amount: missing",
        "amont: unknown field; did you mean amount?",
        "HOUR: unknown field; did you mean hour?",
        "zzz: unknown field",
    ]


def test_all_faults_come_in_one_answer() -> None:
    record: dict[str, object] = {"amount": "12", "hour": 99, "channel": "fax", "extra": 1}
    assert [fault.split(":")[0] for fault in faults(record)] == ["amount", "hour", "abroad", "channel", "extra"]


def test_faults_are_listed_up_to_a_hundred_and_counted_beyond() -> None:
    listed = faults(GOOD | {f"extra_{number}": 1 for number in range(250)})
    assert len(listed) == 101
    assert listed[-1] == "and 150 more"


def test_hostile_names_cost_little_and_stay_on_one_line() -> None:
    wide = spec(*({"name": f"field_{number}", "type": "number"} for number in range(500)))
    record: dict[str, object] = {f"feild_{number}\n\x1b[2J": 1 for number in range(50_000)}
    record["y" * 1_000_000] = 1
    started = time.process_time()
    listed = faults(record, wide)
    assert time.process_time() - started < 3
    assert all(fault.isprintable() for fault in listed)


def test_whole_numbers_may_come_as_floats_and_numpy_scalars_as_numbers() -> None:
    row = prepare_record(GOOD | {"hour": 3.0, "amount": np.float32(1.5), "abroad": np.bool_(False)}, PAYMENT)
    assert row[0, :3].tolist() == [1.5, 3, 0]
    assert faults(GOOD | {"amount": np.float64("nan")})


def test_integers_at_the_edge_are_taken() -> None:
    edge = spec({"name": "id", "type": "integer"})
    assert prepare_record({"id": 2**53}, edge)[0, 0] == 2.0**53
    assert prepare_record({"id": -(2**53)}, edge)[0, 0] == -(2.0**53)


def test_the_record_is_not_changed() -> None:
    record = dict(GOOD)
    prepare_record(record, PAYMENT)
    assert record == GOOD
