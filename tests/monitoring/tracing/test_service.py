"""What is traced and what is not, and what becomes of spans that nobody takes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

import pytest

from discern.core.measures import Measures
from discern.core.tracing import NO_PARENT, NoTraces, Parent, Piece, Trace
from discern.monitoring.tracing import service
from discern.monitoring.tracing.rules import MOST_A_SECOND
from discern.monitoring.tracing.service import OtlpTracer
from discern.monitoring.tracing.types import DROPPED, EXPORTED
from tests.monitoring.tracing.receivers import until

TRACE, SPAN = "ab" * 16, "cd" * 8
KEPT = [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
NOT_KEPT = [(b"traceparent", f"00-{TRACE}-{SPAN}-00".encode())]
Headers = list[tuple[bytes, bytes]]


class Line:
    """Takes posts; what it answers is a status or an error."""

    def __init__(self) -> None:
        self.answer: int | Exception = 200
        self.bodies: list[bytes] = []
        self.tries = 0
        self.free = threading.Event()
        self.free.set()

    def __call__(self, host: str) -> service.Post:
        return self.post

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.tries += 1
        self.free.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == 200:
            self.bodies.append(body)
        return self.answer


def tracer(line: Line | None = None, ratio: float = 0.0, measures: Measures | None = None) -> OtlpTracer:
    found = OtlpTracer("http://localhost:4318", "", ratio, measures or Measures(), line or Line())
    found.open()
    return found


def ended(pieces: int = 0) -> Trace:
    trace = Trace.begun(NO_PARENT)
    trace.name, trace.ended = "POST /x", trace.started + 0.1
    trace.pieces = [Piece("one", trace.started, trace.ended, {})] * pieces
    return trace


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_GATHER_SECONDS", 0.0)
    monkeypatch.setattr(service, "_CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(service, "pause_after", lambda failures: 0.01)


def test_the_share_is_drawn_and_a_caller_s_word_is_followed_below_and_above_it() -> None:
    assert tracer(ratio=0).sample([]) is None
    assert tracer(ratio=0).sample(NOT_KEPT) is None
    assert tracer(ratio=0).sample(KEPT) == Parent(TRACE, SPAN, sampled=True)
    assert tracer(ratio=1).sample([]) == NO_PARENT
    assert tracer(ratio=1).sample(NOT_KEPT) == Parent(TRACE, SPAN, sampled=False)


@pytest.mark.parametrize("headers", [[], KEPT])
def test_nobody_gets_more_traces_a_second_than_the_bound(headers: Headers) -> None:
    found = tracer(ratio=1)
    taken = sum(found.sample(headers) is not None for _ in range(5000))
    assert MOST_A_SECOND <= taken < MOST_A_SECOND * 1.5
    # One kind does not take the other's place.
    assert found.sample(KEPT if headers == [] else []) is not None


def test_without_an_endpoint_nothing_is_on_and_opentelemetry_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "discern.monitoring.tracing.sources", None)
    found = OtlpTracer("", "", 1.0, Measures(), Line())
    found.open()
    assert not found.is_on
    assert not NoTraces().is_on
    found.close()


def test_without_the_extra_the_log_says_so_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "discern.monitoring.tracing.sources", None)
    with caplog.at_level("WARNING", "discern"):
        found = tracer(ratio=1)
    assert not found.is_on
    assert [record.message for record in caplog.records] == ["traces_are_off"]
    found.end(ended())
    found.close()


def test_what_was_sent_is_counted_in_spans() -> None:
    line, measures = Line(), Measures()
    found = tracer(line, measures=measures)
    for _ in range(3):
        found.end(ended(4))
    until(lambda: measures.counted().get((EXPORTED, ())) == 15)
    found.close()
    assert (DROPPED, ("stopped",)) not in measures.counted()


def test_what_is_not_taken_now_is_sent_later_in_order() -> None:
    line, measures = Line(), Measures()
    line.answer = ConnectionError("down")
    found = tracer(line, measures=measures)
    traces = [ended() for _ in range(5)]
    for trace in traces:
        found.end(trace)
    until(lambda: line.tries > 3)
    line.answer = 503
    until(lambda: line.tries > 6)
    line.answer = 200
    until(lambda: measures.counted().get((EXPORTED, ())) == 5)
    told = b"".join(line.bodies)
    places = [told.index(bytes.fromhex(trace.trace_id)) for trace in traces]
    assert places == sorted(places)
    found.close()


def test_what_is_refused_is_dropped_and_counted() -> None:
    line, measures = Line(), Measures()
    line.answer = 400
    found = tracer(line, measures=measures)
    found.end(ended(1))
    until(lambda: measures.counted().get((DROPPED, ("refused",))) == 2)
    found.close()
    assert line.tries == 1


def test_a_defect_costs_the_traces_it_met_and_not_those_after_them() -> None:
    line, measures = Line(), Measures()
    line.answer = ValueError("of nobody's making")
    found = tracer(line, measures=measures)
    found.end(ended(1))
    until(lambda: measures.counted().get((DROPPED, ("refused",))) == 2)
    line.answer = 200
    found.end(ended(2))
    until(lambda: measures.counted().get((EXPORTED, ())) == 3)
    found.close()
    assert line.tries == 2
    assert measures.counted() == {(DROPPED, ("refused",)): 2, (EXPORTED, ()): 3}


def test_memory_is_bounded_while_the_endpoint_hangs_and_the_end_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "_MOST_SPANS", 100)
    line, measures = Line(), Measures()
    line.free.clear()
    found = tracer(line, measures=measures)
    found.end(ended(9))
    until(lambda: line.tries == 1)
    for _ in range(30):
        found.end(ended(9))
    assert measures.counted() == {(DROPPED, ("full",)): 200}
    found.close()  # in less time than the endpoint has
    assert measures.counted()[DROPPED, ("stopped",)] == 100
    line.answer = OSError("down")
    line.free.set()
    assert found._thread is not None
    found._thread.join(10)
    assert not found._thread.is_alive()


def test_the_log_hears_of_it_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    line = Line()
    line.answer = 400
    found = tracer(line)
    with caplog.at_level("WARNING", "discern"):
        for _ in range(10):
            found.end(ended())
            until(lambda: not found._waiting)
        until(lambda: line.tries > 2)
        found.close()
    assert [record.message for record in caplog.records] == ["traces_not_sent"]
