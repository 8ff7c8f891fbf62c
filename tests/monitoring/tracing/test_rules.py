"""What is traced is bounded, and an endpoint is a base of OTLP with headers, or the start is stopped."""

from __future__ import annotations

import pytest

from discern.core.errors import InvalidSettings
from discern.monitoring.tracing.rules import Allowance, endpoint_of, is_passing, pause_after


def test_no_more_than_allowed_passes_in_a_second_whatever_the_clock_does() -> None:
    allowance = Allowance(5, 0.0)
    assert sum(allowance.take(0.0) for _ in range(50)) == 5
    assert sum(allowance.take(1.0) for _ in range(50)) == 5
    assert sum(allowance.take(0.2) for _ in range(50)) == 0  # back
    assert sum(allowance.take(100.0) for _ in range(50)) == 5  # a long time saves nothing up
    passed = sum(allowance.take(100 + n / 100) for n in range(1, 1001))
    assert passed == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("url", "whole", "host"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces", "localhost"),
        ("https://tempo.example.org/otlp/", "https://tempo.example.org/otlp/v1/traces", "tempo.example.org"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces", "::1"),
    ],
)
def test_an_endpoint_is_its_base_and_the_path_of_otlp(url: str, whole: str, host: str) -> None:
    found = endpoint_of(url, "")
    assert (found.url, found.host, found.headers) == (whole, host, {})


@pytest.mark.parametrize(
    "url",
    [
        "localhost:4318",
        "grpc://localhost:4317",
        "http://",
        "http://a b",
        "http://h:0",
        "http://h?x=1",
        "http://h:99999",
    ],
)
def test_what_is_no_endpoint_stops_the_start(url: str) -> None:
    with pytest.raises(InvalidSettings, match="trace_url") as refused:
        endpoint_of(url, "")
    assert "4318" in (refused.value.mend or "")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSettings) as refused:
        endpoint_of("https://user:hidden-word@tempo.example.org", "")
    assert "hidden-word" not in str(refused.value)


def test_headers_are_names_and_values() -> None:
    found = endpoint_of("http://h", "Authorization=Basic dXNlcjpw==, X-Scope-OrgID = 1,")
    assert found.headers == {"Authorization": "Basic dXNlcjpw==", "X-Scope-OrgID": "1"}


@pytest.mark.parametrize("headers", ["hunter2", "=hunter2", "a b=hunter2", "a=hunter2\r\nb: c", "a=hünter2"])
def test_headers_that_are_none_are_refused_and_not_repeated(headers: str) -> None:
    with pytest.raises(InvalidSettings, match="header 1") as refused:
        endpoint_of("http://h", headers)
    assert "nter2" not in str(refused.value)


def test_an_endpoint_that_fails_is_left_alone_for_longer_and_longer() -> None:
    pauses = [pause_after(failures) for failures in range(1, 9)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert pause_after(100_000) == 30
    assert [status for status in (400, 401, 404, 429, 500, 502, 503, 504) if is_passing(status)] == [429, 502, 503, 504]
