"""Where the time of a request went, as an endpoint of OTLP is told by a real server."""

from __future__ import annotations

import io
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.http.test_jobs import Hook, Served
from tests.inputs.media import picture
from tests.monitoring.tracing.receivers import Receiver, attributes, until

pytestmark = pytest.mark.system
MARKER = "marianne-muster"
RECORD = {"a": 1.0, "b": 0.5, "c": -1.0}


class Place:
    """A server and the receiver that it tells of what callers ask to be traced, and of nothing else."""

    def __init__(self, home: Path, receiver: Receiver, **environment: str) -> None:
        self.receiver = receiver
        self.log = home.parent / "log.jsonl"
        settings = {"DISCERN_TRACE_URL": receiver.url, "DISCERN_TRACE_RATIO": "0", "DISCERN_LOG_LEVEL": "info"}
        self.served = Served(home, **(settings | {"DISCERN_LOG_FILE": str(self.log)} | environment))

    def ask(self, path: str, trace: str = "", **arguments: Any) -> httpx2.Response:
        """Send a POST, traced where a trace is named."""
        headers = arguments.pop("headers", {})
        if trace:
            headers["traceparent"] = f"00-{trace}-{'ab' * 8}-01"
        return self.served.client.post(self.served.url(path), headers=headers, **arguments)

    def trace(self, trace: str, least: int = 1) -> tuple[Span, list[Span]]:
        """Return the span of the request in a trace, and those below it."""
        until(lambda: len(self.receiver.trace(trace)) >= least)
        spans = self.receiver.trace(trace)
        roots = [span for span in spans if span.kind != Span.SPAN_KIND_INTERNAL]
        assert len(roots) == 1, [span.name for span in spans]
        return roots[0], [span for span in spans if span is not roots[0]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, furnished_home: Path) -> Iterator[Place]:
    receiver = Receiver()
    home = Path(shutil.copytree(furnished_home, tmp_path_factory.mktemp("traces") / "home"))
    place = Place(home, receiver, DISCERN_TRACE_HEADERS="Authorization=Basic c2VjcmV0, X-Scope-OrgID=1")
    yield place
    place.served.end()
    receiver.close()


def jpeg() -> bytes:
    out = io.BytesIO()
    picture().save(out, "JPEG", comment=MARKER.encode(), quality=95)
    return out.getvalue()


def fresh() -> str:
    return secrets.token_hex(16)


def path_of(detector: str, what: str = "verdicts") -> str:
    return f"/v1/detectors/{detector}/{what}"


def test_a_picture_s_trace_is_a_tree_of_what_was_done_for_it(place: Place) -> None:
    trace = fresh()
    answer = place.ask(path_of("toy-cascade"), trace, content=jpeg())
    assert answer.status_code == 200
    verdict = answer.json()
    root, pieces = place.trace(trace)
    assert (root.kind, root.name) == (Span.SPAN_KIND_SERVER, "POST /v1/detectors/{name}/verdicts")
    assert root.parent_span_id.hex() == "ab" * 8
    assert {span.parent_span_id for span in pieces} == {root.span_id}
    assert len({span.span_id for span in pieces}) == len(pieces)
    assert answer.headers["traceresponse"] == f"00-{trace}-{root.span_id.hex()}-01"
    names = [span.name for span in pieces]
    assert names[:2] == ["authenticate", "permit"]
    assert names[-3 - len(verdict["stages"]) :] == [
        "queue",
        "decode",
        *(f"stage {reading['name']}" for reading in verdict["stages"]),
        "ledger",
    ]
    for span in pieces:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    for reading in verdict["stages"]:
        (span,) = [span for span in pieces if span.name == f"stage {reading['name']}"]
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert took == pytest.approx(reading["milliseconds"], abs=0.01)
        assert attributes(span) == {
            "discern.detector": "toy-cascade",
            "discern.version": "1.0.0",
            "discern.stage": reading["name"],
            "discern.rows": 1,
            "discern.rows_failed": 0,
        }
    about = attributes(root)
    assert (
        about.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/v1/detectors/{name}/verdicts",
            "http.response.status_code": 200,
            "discern.verdict": verdict["id"],
            "discern.request": answer.headers["X-Request-Id"],
            "discern.workspace": "default",
            "discern.decided_by": verdict["decided_by"],
        }.items()
    )


def test_a_record_is_traced_where_its_caller_keeps_a_trace_and_no_other(place: Place) -> None:
    there = len(place.receiver.spans())
    for number in range(20):  # the first ones go another way than those that follow
        assert place.ask(path_of("toy-record"), json=RECORD | {"a": number}).status_code == 200
    trace = fresh()
    answer = place.ask(path_of("toy-record"), trace, json=RECORD)
    assert "stage" in " ".join(span.name for span in place.trace(trace)[1])
    assert attributes(place.trace(trace)[0])["discern.verdict"] == answer.json()["id"]
    untold = [span for span in place.receiver.spans()[there:] if span.trace_id.hex() != trace]
    assert untold == []
    again = fresh()
    assert place.ask(path_of("toy-record"), again, json=RECORD).json()["cached"] is True
    root, pieces = place.trace(again)
    assert attributes(root)["discern.cached"] is True
    assert {"queue", "stage only"} & {span.name for span in pieces} == set()


def test_a_batch_is_one_trace_with_the_runs_of_its_stages(place: Place) -> None:
    trace = fresh()
    answer = place.ask(
        path_of("toy-record", "verdicts:batch"), trace, json=[RECORD | {"a": n / 600} for n in range(600)]
    )
    assert answer.json()["count"] == 600
    root, pieces = place.trace(trace)
    assert root.name == "POST /v1/detectors/{name}/verdicts:batch"
    stages = [span for span in pieces if span.name.startswith("stage ")]
    assert sum(int(str(attributes(span)["discern.rows"])) for span in stages) == 600
    (ledger,) = [span for span in pieces if span.name == "ledger"]
    assert attributes(ledger)["discern.verdicts"] == 600
    assert max(span.end_time_unix_nano for span in stages) <= ledger.start_time_unix_nano


def test_a_job_and_its_webhook_go_on_the_trace_of_the_request_that_handed_it_in(place: Place) -> None:
    hook, trace = Hook(), fresh()
    answer = place.ask(path_of("toy-image", "jobs") + f"?webhook={hook.url}", trace, content=jpeg())
    job = answer.json()
    until(lambda: any(span.kind == Span.SPAN_KIND_CONSUMER for span in place.receiver.trace(trace)))
    until(lambda: any(span.kind == Span.SPAN_KIND_SERVER for span in place.receiver.trace(trace)))
    until(lambda: bool(hook.calls))
    hook.close()
    spans = place.receiver.trace(trace)
    (handed_in,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    (ran,) = [span for span in spans if span.kind == Span.SPAN_KIND_CONSUMER]
    assert (ran.name, ran.parent_span_id) == ("job", handed_in.span_id)
    below = [span.name for span in spans if span.parent_span_id == ran.span_id]
    assert below[-4:] == ["queue", "decode", "stage only", "ledger"]
    assert attributes(ran)["discern.job"] == job["id"]
    body, headers = hook.calls[0]
    carried = {name.lower(): value for name, value in headers.items()}["traceparent"]
    assert carried == job["trace"] == f"00-{trace}-{handed_in.span_id.hex()}-01"
    assert json.loads(body)["job"]["id"] == job["id"]


def test_a_webhook_of_an_untraced_job_carries_no_trace(place: Place) -> None:
    hook = Hook()
    job = place.ask(path_of("toy-image", "jobs") + f"?webhook={hook.url}", content=jpeg()).json()
    until(lambda: bool(hook.calls))
    hook.close()
    assert job["trace"] is None
    assert "traceparent" not in {name.lower() for name in hook.calls[0][1]}


@pytest.mark.parametrize(
    "header",
    ["nonsense", "00-" + "0" * 32 + "-" + "ab" * 8 + "-01", "ff-" + "cd" * 16 + "-" + "ab" * 8 + "-01", "00-" * 3000],
)
def test_a_malformed_context_is_ignored(place: Place, header: str) -> None:
    answer = place.ask(path_of("toy-record"), headers={"traceparent": header}, json=RECORD)
    assert answer.status_code == 200
    assert "traceresponse" not in answer.headers


def test_a_stranger_decides_nothing(place: Place) -> None:
    trace = fresh()
    with httpx2.Client(headers={"traceparent": f"00-{trace}-{'ab' * 8}-01"}) as stranger:
        for headers in ({}, {"Authorization": "Bearer dsc_wrong"}):
            answer = stranger.post(place.served.url(path_of("toy-record")), json=RECORD, headers=headers)
            assert answer.status_code == 401
            assert "traceresponse" not in answer.headers
        assert "traceresponse" not in stranger.get(place.served.url("/livez")).headers
    known = fresh()
    place.ask(path_of("toy-record"), known, json=RECORD)
    place.trace(known)  # what was to come before it has come
    assert place.receiver.trace(trace) == []


def test_what_goes_wrong_is_told_by_its_code_and_found_in_the_log(place: Place) -> None:
    trace = fresh()
    assert place.ask(path_of("toy-cascade"), trace, content=MARKER.encode()).status_code == 415
    root, pieces = place.trace(trace)
    assert root.status.code == Status.STATUS_CODE_UNSET  # the caller's mistake is none of ours
    (decode,) = [span for span in pieces if span.name == "decode"]
    assert (decode.status.code, decode.status.message) == (Status.STATUS_CODE_ERROR, "unsupported_input")
    lines = [json.loads(line) for line in place.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("trace") == trace]
    assert (line["event"], line["span"]) == ("request_refused", root.span_id.hex())


def test_nothing_that_a_caller_sends_is_in_a_trace(place: Place) -> None:
    traces = [fresh() for _ in range(7)]
    tracestate = {"tracestate": f"vendor={MARKER}", "baggage": f"user={MARKER}", "User-Agent": MARKER}
    record = RECORD | {MARKER: 1.0}
    place.ask(path_of("toy-record"), traces[0], json=record, headers=dict(tracestate))
    place.ask(path_of("toy-cascade"), traces[1], files={"file": (MARKER, jpeg())}, headers=dict(tracestate))
    place.ask(path_of("toy-record", "verdicts:batch"), traces[2], json=[record], headers=dict(tracestate))
    place.ask(path_of(MARKER), traces[3], json=RECORD, headers=dict(tracestate))
    place.ask(f"/v1/{MARKER}?{MARKER}={MARKER}", traces[4], json=RECORD, headers=dict(tracestate))
    place.ask(path_of("toy-record"), traces[5], json=RECORD, headers={"Discern-Subject": MARKER} | tracestate)
    place.ask(path_of("toy-record") + f"?version={MARKER}", traces[6], json=RECORD, headers=dict(tracestate))
    for trace in traces:
        place.trace(trace)
    told = b"".join(place.receiver.bodies)
    assert MARKER.encode() not in told
    assert b"127.0.0.1" not in told  # whose address it is, is a person's matter
    assert b"vendor" not in told


def test_the_endpoint_is_told_who_speaks_and_gets_its_headers(place: Place) -> None:
    place.ask(path_of("toy-record"), trace := fresh(), json=RECORD)
    place.trace(trace)
    assert set(place.receiver.paths) == {"/v1/traces"}
    headers = place.receiver.headers[-1]
    assert (headers["authorization"], headers["x-scope-orgid"]) == ("Basic c2VjcmV0", "1")
    assert headers["content-type"] == "application/x-protobuf"
    assert "c2VjcmV0" not in place.log.read_text()
    metrics = place.served.client.get(place.served.url("/metrics")).text
    assert any(
        line.startswith("discern_spans_exported_total") and not line.endswith(" 0.0") for line in metrics.splitlines()
    )


@pytest.fixture
def home_of_its_own(tmp_path: Path, furnished_home: Path) -> Path:
    return Path(shutil.copytree(furnished_home, tmp_path / "home"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_with_ratio_1_everything_is_traced_and_what_waits_at_the_end_is_sent(
    home_of_its_own: Path, receiver: Receiver
) -> None:
    place = Place(home_of_its_own, receiver, DISCERN_TRACE_RATIO="1")
    answers = [place.ask(path_of("toy-record"), json=RECORD | {"a": n}) for n in range(8)]
    traces = [answer.headers["traceresponse"].split("-")[1] for answer in answers]
    place.served.end()  # at once, before a second has gone
    for trace in traces:
        assert [span.name for span in receiver.trace(trace) if not span.parent_span_id] == [
            "POST /v1/detectors/{name}/verdicts"
        ]


@pytest.mark.parametrize("how", ["down", "500", "403", "hanging"])
def test_an_endpoint_that_does_not_take_them_touches_no_request_and_no_stop(
    home_of_its_own: Path, receiver: Receiver, how: str
) -> None:
    environment = {"DISCERN_TRACE_RATIO": "1"}
    if how == "down":
        environment["DISCERN_TRACE_URL"] = "http://127.0.0.1:1"
    elif how == "hanging":
        receiver.hangs.set()
    else:
        receiver.status = int(how)
    place = Place(home_of_its_own, receiver, **environment)
    for number in range(30):
        answer = place.ask(path_of("toy-record"), json=RECORD | {"a": number})
        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 5
    if how == "403":
        until(lambda: 'discern_spans_dropped_total{reason="refused"}' in metrics_of(place))
    elif how != "down":
        until(lambda: receiver.asked > 0)
    place.served.process.terminate()
    assert place.served.process.wait(15) == 0
    place.served.client.close()
    if how != "hanging":  # what is asked and does not answer has not failed yet
        told = [line for line in place.log.read_text().splitlines() if "traces_not_sent" in line]
        assert len(told) == 1


def metrics_of(place: Place) -> str:
    return place.served.client.get(place.served.url("/metrics")).text
