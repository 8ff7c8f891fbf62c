from __future__ import annotations

import time

from discern.core.ids import uuid7


def test_identifiers_are_version_7_of_rfc_9562() -> None:
    value = uuid7()
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"


def test_identifiers_carry_the_time_they_were_made_at() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= value.int >> 80 <= after


def test_identifiers_sort_in_the_order_they_were_made_also_within_a_millisecond() -> None:
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
