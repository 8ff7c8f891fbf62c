"""`discern` with nobody watching: nothing is noted, counted or told. For the comparison in `bench.monitoring`."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any
from unittest import mock

from discern.app_monitoring import monitoring_of
from discern.cli.main import main
from discern.core.measures import Note
from discern.detection.committing import Committer
from discern.detection.store_tallies import Tallying


class Uncounted(Tallying):
    """Counts nothing."""

    def values(self, entries: object) -> list[list[Any]]:  # noqa: ARG002 - whatever they are
        """Return no rows."""
        return []


def _noting_nothing(*_series: object) -> Note:
    return deque[float](maxlen=0).append


def _without_watchers(ledger: Any, counts: Any, _watchers: object, guard: Any) -> Committer:  # noqa: ANN401
    return Committer(ledger, counts, (), guard)


def _without_loops(*parts: Any) -> Any:  # noqa: ANN401
    return dataclasses.replace(monitoring_of(*parts), loops=())


if __name__ == "__main__":
    with (
        mock.patch("discern.core.measures.Measures.noting", _noting_nothing),
        mock.patch("discern.detection.store.Tallying", Uncounted),
        mock.patch("discern.app.Committer", _without_watchers),
        mock.patch("discern.app.monitoring_of", _without_loops),
    ):
        main()
