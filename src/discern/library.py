"""Discern inside a Python program: the same plane, the same ledger, no server.

```python
from pathlib import Path
from discern.library import Discern

with Discern() as discern:
    verdict = discern.detect(Path("photo.jpg"), "synthetic-face")
    print(verdict.decision, verdict.score)
```
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio.from_thread import start_blocking_portal

from discern.access.types import Principal
from discern.app import build_services
from discern.core.verdict import Verdict
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detection.types import DetectionRequest
from discern.inputs.types import MediaContent, Record
from discern.settings import Settings, load_settings


class Discern:
    """An installation, opened for one program. `settings` None reads them as the command line does."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._services = build_services(load_settings() if settings is None else settings)
        self._principal = Principal("library", DEFAULT_WORKSPACE, "owner")
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._services.open()
        self._opened.callback(self._services.close)
        # One event loop, in a thread of its own, for every thread that asks.
        self._portal = self._opened.enter_context(start_blocking_portal())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def detect(
        self,
        content: MediaContent | str | Record,
        detector: str,
        version: str | None = None,
        *,
        subject: str | None = None,
    ) -> Verdict:
        """Return the verdict on image or video bytes, a local file (Path or name), or a record; it is on the ledger.

        `subject` is your name for the person it is about: what is kept of them can be exported and erased. Raises
        CallerError for an input that cannot be judged. May be called from several threads.
        """
        given = Path(content) if isinstance(content, str) else content
        about = self._services.subjects.admit(self._principal.workspace, subject)
        request = DetectionRequest(self._principal, detector, given, version, subject=about)
        return self._portal.call(self._ask, request)

    async def _ask(self, request: DetectionRequest) -> Verdict:
        return await self._services.detect(request)
