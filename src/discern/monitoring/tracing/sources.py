"""Traces in OTLP's words (https://opentelemetry.io/docs/specs/otlp/, protobuf). Needs the extra `tracing`.

A trace is one span of the request, and one below it for each of its pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status

from discern.core.tracing import Attribute, Trace, fresh_id

_SAMPLED = 1
_KINDS = {"server": Span.SPAN_KIND_SERVER, "consumer": Span.SPAN_KIND_CONSUMER}


class Ended(NamedTuple):
    """A trace that has come to its end. `offset` is what to add to `perf_counter` for seconds since 1970."""

    trace: Trace
    offset: float

    @property
    def spans(self) -> int:
        """How many spans it will be."""
        return 1 + len(self.trace.pieces)


def request_of(ended: Iterable[Ended], resource: Mapping[str, Attribute], version: str) -> bytes:
    """Return the body that exports traces."""
    scope = ScopeSpans(
        scope=InstrumentationScope(name="discern", version=version),
        spans=[span for one in ended for span in _spans(one)],
    )
    whole = ResourceSpans(resource=Resource(attributes=_attributes(resource)), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[whole]).SerializeToString()


def _spans(ended: Ended) -> Iterator[Span]:
    trace, offset = ended
    trace_id, span_id = bytes.fromhex(trace.trace_id), bytes.fromhex(trace.span_id)
    flags = _SAMPLED | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    attributes = dict(trace.attributes)
    if trace.left_out:
        attributes["discern.pieces_left_out"] = trace.left_out
    yield Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=bytes.fromhex(trace.parent.span_id),
        flags=flags | (SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if trace.parent.span_id else 0),
        name=trace.name,
        kind=_KINDS[trace.kind],
        start_time_unix_nano=_nanoseconds(trace.started + offset),
        end_time_unix_nano=_nanoseconds(trace.ended + offset),
        attributes=_attributes(attributes),
        status=_status(trace.failed),
    )
    for piece in trace.pieces:
        yield Span(
            trace_id=trace_id,
            span_id=bytes.fromhex(fresh_id(64)),
            parent_span_id=span_id,
            flags=flags,
            name=piece.name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=_nanoseconds(piece.started + offset),
            end_time_unix_nano=_nanoseconds(piece.ended + offset),
            attributes=_attributes(piece.attributes),
            status=_status(piece.failed),
        )


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _status(failed: str) -> Status | None:
    return Status(code=Status.STATUS_CODE_ERROR, message=failed) if failed else None


def _attributes(attributes: Mapping[str, Attribute]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in attributes.items()]


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)
