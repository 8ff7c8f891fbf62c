"""A pattern means what it means to Prometheus, and takes no time, whoever wrote it."""

from __future__ import annotations

import random
import re

import pytest

from discern.alerts.rules_matching import matches, parsed
from discern.alerts.types import Matcher


def test_a_pattern_matches_what_the_same_regular_expression_does() -> None:
    draw = random.Random(7)
    pieces = ["a", "b", "-", ".", r"\.", r"\|", ".*", ".+", "|"]
    for _ in range(3000):
        pattern = "".join(draw.choices(pieces, k=draw.randint(0, 8)))
        value = "".join(draw.choices("ab-.|", k=draw.randint(0, 8)))
        wanted = re.fullmatch(pattern, value) is not None
        assert matches([Matcher("x", "=~", pattern)], {"x": value}) is wanted, (pattern, value)


@pytest.mark.timeout(30)
def test_a_pattern_of_malice_comes_to_an_end() -> None:
    # Going back, this is ten to the eleventh steps.
    assert not matches([parsed('x=~".*a.*a.*ab"')], {"x": "a" * 10_000})
