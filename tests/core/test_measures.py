"""What is measured in a process is bounded, and nothing of it is lost to another thread."""

from __future__ import annotations

import threading

from discern.core.measures import Measures


def taken(measures: Measures) -> dict[tuple[str, tuple[str, ...]], list[float]]:
    return {(name, labels): values for name, labels, values in measures.taken()}


def test_what_is_noted_is_given_out_once() -> None:
    measures = Measures()
    measures.noting("seconds", "a")(1.0)
    measures.noting("seconds", "a")(2.0)
    measures.noting("seconds", "b")(3.0)
    assert taken(measures) == {("seconds", ("a",)): [1.0, 2.0], ("seconds", ("b",)): [3.0]}
    assert taken(measures) == {}


def test_nothing_is_lost_while_others_note() -> None:
    measures, sums = Measures(), [0.0]
    note = measures.noting("seconds")
    threads = [threading.Thread(target=lambda: [note(1.0) for _ in range(20_000)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sums.extend(sum(values) for values in taken(measures).values())
    sums.extend(sum(values) for values in taken(measures).values())
    assert sum(sums) == 40_000


def test_what_nobody_comes_for_is_bounded() -> None:
    measures = Measures()
    note = measures.noting("seconds")
    for number in range(60_000):
        note(float(number))
    ((_, _, values),) = measures.taken()
    assert len(values) == 50_000
    assert values[-1] == 59_999.0


def test_series_beyond_the_bound_have_empty_labels() -> None:
    measures = Measures()
    for number in range(3_000):
        measures.noting("seconds", f"word {number}")(1.0)
        measures.count("total", f"word {number}")
    noted = taken(measures)
    assert len(noted) == 1_001
    assert len(noted["seconds", ("",)]) == 2_000
    assert len(measures.counted()) == 1_001
    assert measures.counted()["total", ("",)] == 2_000
