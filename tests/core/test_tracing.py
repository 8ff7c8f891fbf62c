"""What a caller says of traces is believed where it is well formed, and a trace is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.core.errors import UnknownVerdict
from discern.core.tracing import (
    MOST_PIECES,
    NO_PARENT,
    NoTraces,
    Parent,
    Trace,
    current_trace,
    done_for,
    parent_of,
    parsed_parent,
    piece,
    traced,
)

TRACE, SPAN = "ab" * 16, "cd" * 8
GOOD = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    ("value", "parent"),
    [
        (GOOD, Parent(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00".encode(), Parent(TRACE, SPAN, sampled=False)),
        (f"00-{TRACE}-{SPAN}-03".encode(), Parent(TRACE, SPAN, sampled=True)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes".encode(), Parent(TRACE, SPAN, sampled=True)),
    ],
)
def test_a_well_formed_header_says_where_a_trace_goes_on(value: bytes, parent: Parent) -> None:
    assert parsed_parent(value) == parent


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD.upper(),
        GOOD + b"-more",
        GOOD + b" ",
        b"ff" + GOOD[2:],
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-1".encode(),
        f"00-{TRACE[:-1]}g-{SPAN}-01".encode(),
        b"01" + GOOD[2:] + b"-" + b"x" * 300,
    ],
)
def test_a_malformed_header_says_nothing(value: bytes) -> None:
    assert parsed_parent(value) == NO_PARENT


@given(st.binary(max_size=300))
def test_no_header_does_harm(value: bytes) -> None:
    found = parsed_parent(value)
    assert found == NO_PARENT or len(found.trace_id + found.span_id) == 48


def test_two_headers_say_nothing() -> None:
    assert parent_of([(b"traceparent", GOOD)]).trace_id == TRACE
    assert parent_of([(b"traceparent", GOOD), (b"x", b""), (b"traceparent", GOOD)]) == NO_PARENT
    assert parent_of([]) == NO_PARENT


def test_a_trace_goes_on_from_its_parent_and_is_passed_on() -> None:
    trace = Trace.begun(parsed_parent(GOOD))
    assert (trace.trace_id, trace.parent.span_id) == (TRACE, SPAN)
    assert trace.span_id != SPAN
    assert parsed_parent(trace.header.encode()) == Parent(TRACE, trace.span_id, sampled=True)
    first = Trace.begun(NO_PARENT)
    assert parsed_parent(first.header.encode()).trace_id == first.trace_id


def test_pieces_are_bounded_and_what_is_left_out_is_counted() -> None:
    trace = Trace.begun(NO_PARENT)
    with done_for(trace):
        for _ in range(MOST_PIECES + 3):
            with piece("one"):
                pass
    assert (len(trace.pieces), trace.left_out) == (MOST_PIECES, 3)


def test_an_error_is_noted_by_its_code_and_not_by_its_text() -> None:
    with pytest.raises(UnknownVerdict), traced(NoTraces(), NO_PARENT, "job") as trace, piece("one"):
        raise UnknownVerdict("There is no verdict of Marianne Muster.")
    assert [(one.name, one.failed) for one in trace.pieces] == [("one", "unknown_verdict")]
    assert trace.failed == "unknown_verdict"
    assert "Muster" not in repr(trace)
    assert current_trace() is None


def test_what_is_done_for_nobody_is_noted_nowhere() -> None:
    trace = Trace.begun(NO_PARENT)
    with done_for(trace), done_for(None), piece("one"):
        pass
    assert trace.pieces == []
