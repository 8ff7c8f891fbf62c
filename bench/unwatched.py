"""`discern up` with nothing that watches: what `bench.monitoring` is compared with. Nobody is meant to run it so."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import discern.app
from discern.app_monitoring import Monitoring, monitoring_of
from discern.cli.main import main
from discern.core.measures import Measures, Note
from discern.detection.committing import Committer
from discern.detection.store_tallies import Tallying

_FORGET: Note = deque[float](maxlen=0).append


class _Committer(Committer):
    def __init__(self, ledger: Any, counts: Any, _watchers: Any = ()) -> None:  # noqa: ANN401 - passed on
        super().__init__(ledger, counts)


def _nothing(*parts: Any) -> Monitoring:  # noqa: ANN401 - passed on
    return replace(monitoring_of(*parts), collectors=(), loops=())


def _unwatch() -> None:
    """Take the watching parts out of what `main` puts together."""
    changes: list[tuple[Any, str, Any]] = [
        (Tallying, "values", lambda _self, _entries: []),
        (Measures, "noting", lambda _self, _name, *_labels: _FORGET),
        (discern.app, "Committer", _Committer),
        (discern.app, "monitoring_of", _nothing),
    ]
    for where, name, what in changes:
        setattr(where, name, what)


if __name__ == "__main__":
    _unwatch()
    main()
