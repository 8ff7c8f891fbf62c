from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.core.errors import CallerError, InputTooLarge, MalformedRequest, UnsupportedInput
from discern.detection.batches import format_of, groups, records_of
from discern.detectors.manifest import Manifest
from discern.inputs.spec import RecordSpec
from discern.inputs.uploads import Member
from tests.detectors import models

RECORDS = Manifest.model_validate(models.record_manifest())
IMAGES = Manifest.model_validate(models.image_manifest())


def records(content: bytes, form: Any, most: int = 10) -> Any:
    assert isinstance(RECORDS.input, RecordSpec)
    return records_of(content, form, RECORDS.input, most)


@pytest.mark.parametrize(
    ("content_type", "manifest", "form"),
    [
        ("application/json", RECORDS, "json"),
        ("APPLICATION/JSON ; charset=utf-8", RECORDS, "json"),
        ("application/x-ndjson", RECORDS, "ndjson"),
        ("application/vnd.apache.arrow.stream", RECORDS, "arrow"),
        ("multipart/form-data; boundary=x", IMAGES, "multipart"),
        ("application/zip", IMAGES, "zip"),
    ],
)
def test_the_content_type_tells_the_format(content_type: str, manifest: Manifest, form: str) -> None:
    assert format_of(content_type, manifest) == form


@pytest.mark.parametrize(
    ("content_type", "manifest"),
    [("", RECORDS), ("text/csv", RECORDS), ("application/zip", RECORDS), ("image/png", IMAGES)],
)
def test_another_one_gets_a_list_of_what_is_taken(content_type: str, manifest: Manifest) -> None:
    with pytest.raises(UnsupportedInput, match=r"takes (application/json|multipart/form-data), "):
        format_of(content_type, manifest)


def test_records_stay_the_bytes_that_were_sent() -> None:
    assert records(b' [ {"a": 1.50} ,{} , 7]\n', "json") == [b'{"a": 1.50}', b"{}", b"7"]
    assert records(b'\xef\xbb\xbf{"a": 1.50}\r\n\n \t\n7', "ndjson") == [b'{"a": 1.50}\r', b"7"]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"[" + b"1," * 1_000_000 + b"1]", "json"),
        (b"[" + b"{}," * 10 + b"{}]", "json"),
        (b"\n" * 3_000_000, "ndjson"),
        (b"1\n" * 11, "ndjson"),
    ],
)
def test_too_many_records_are_refused_before_they_take_memory(content: bytes, form: str) -> None:
    tracemalloc.start()
    with pytest.raises(InputTooLarge, match="batch_records"):
        records(content, form)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=100)
    | st.lists(st.sampled_from([b"{}", b"[", b"]", b",", b'"', b"\\", b"\n", b"1"])).map(b"".join),
    st.sampled_from(["json", "ndjson"]),
)
def test_no_body_raises_anything_but_our_errors(content: bytes, form: str) -> None:
    try:
        assert all(isinstance(record, bytes) for record in records(content, form))
    except CallerError as error:
        assert error.detail  # noqa: PT017


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(MalformedRequest, match="JSON array"):
        records(b"[" * 100_000, "json")


@given(st.lists(st.integers(0, 40_000_000), max_size=200))
def test_groups_hold_every_member_once_in_order_and_fit_into_memory(sizes: list[int]) -> None:
    members = [Member(str(number), size, partial(bytes)) for number, size in enumerate(sizes)]
    found = [list(group) for group in groups(members)]
    assert [member for group in found for member in group] == members
    for group in found:
        assert len(group) <= 64
        assert len(group) == 1 or sum(member.size for member in group) <= 32_000_000
