"""Intervals of nominally 95 % cover between 93 % and 97 %, and what the page says of them is so."""

from __future__ import annotations

import pytest

from tests.evaluation.documented import figures
from tests.evaluation.simulations import IN_CLOSED_FORM


@pytest.mark.parametrize("case", IN_CLOSED_FORM)
def test_the_interval_covers_what_it_says(case: str) -> None:
    share = IN_CLOSED_FORM[case]()
    assert 0.93 <= share <= 0.97
    assert figures()[case] == pytest.approx(share, abs=0.004)
