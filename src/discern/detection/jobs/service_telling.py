"""Telling webhooks of jobs that have ended: a loop over the database, beside the jobs themselves.

- A webhook that does not answer holds up no job and no stop: what is due stands in the database, with the time of the
  next try, and whoever comes first claims it.
- Tries are counted where they are written down, so that a restart begins none anew.
- A host that keeps failing is left alone for a while, for the workspace that named it, and what is for it waits without
  a try being counted: no workspace's webhooks keep another's from being told, whatever they do.
- A process that dies with a call in flight leaves a claim that runs out: the call is made again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from anyio import CapacityLimiter, to_thread

from discern.core.breakers import Breakers, Guards, Patience
from discern.core.clock import utc_now
from discern.core.counts import Counts
from discern.core.errors import CallerError, StorageUnavailable
from discern.core.loops import take_turn
from discern.core.signatures import SIGNATURE_HEADER, signature
from discern.core.tracing import PARENT_HEADER
from discern.detection.jobs.ports import Poster, VerdictReader
from discern.detection.jobs.rules import DELIVERY_HEADER, MOST_TRIES, is_too_late, pause_after
from discern.detection.jobs.store import JobStore
from discern.detection.jobs.types import Delivery, Job
from discern.store.secret_files import SecretFile

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
# Longer than a call may take.
_CLAIM = timedelta(seconds=60)
_AT_A_TIME = 8
_MOST_HOSTS = 1000
_PATIENCE = Patience(failures=5, first_seconds=5.0, most_seconds=60.0)
_encode = msgspec.json.Encoder().encode


def webhook_guards(breakers: Breakers) -> Guards:
    """Return what guards the hosts of webhooks."""
    return breakers.guards("webhook", _MOST_HOSTS, _PATIENCE)


class Telling:
    """Tells the webhooks. `secret` signs the calls, `guards` has a breaker for each host of a workspace."""

    def __init__(
        self,
        store: JobStore,
        verdicts: VerdictReader,
        post: Poster,
        secret: SecretFile,
        counts: Counts,
        guards: Guards | None = None,
    ) -> None:
        self._store = store
        self._verdicts = verdicts
        self._post = post
        self._secret = secret
        self._counts = counts
        self._guards = guards or webhook_guards(Breakers())

    async def run(self) -> None:
        """Tell of what is due, until cancelled."""
        while True:
            await take_turn("webhooks", self._tell_all_due())
            await asyncio.sleep(_LOOK_SECONDS)

    async def _tell_all_due(self) -> None:
        threads = CapacityLimiter(_AT_A_TIME)
        while due := await to_thread.run_sync(self._due):
            # A stop does not wait for calls in flight.
            calls = (to_thread.run_sync(self.tell, job, limiter=threads, abandon_on_cancel=True) for job in due)
            for job, failed in zip(due, await asyncio.gather(*calls, return_exceptions=True), strict=True):
                # What goes wrong with one is no reason to tell of the others no more; its claim runs out.
                if failed is not None:
                    log.error("webhook_not_told", extra={"job": job.id}, exc_info=failed)

    def _due(self) -> list[Job]:
        try:
            return self._store.due_to_tell(utc_now(), _CLAIM, _AT_A_TIME)
        except StorageUnavailable as error:
            log.warning("webhooks_wait", extra={"detail": error.detail})
            return []

    def tell(self, job: Job) -> None:
        """Make one call, and write down what came of it."""
        assert job.webhook is not None  # noqa: S101 - no other is due
        guard, now = self._guards.of(job.workspace, _host_of(job.webhook)), utc_now()
        if not guard.admits():
            reason = f"its host is left alone because it keeps failing: {guard.reading().reason}"[:500]
            if is_too_late(job.finished_at, now):
                self._note(job, Delivery(now, error=reason), "given_up")
            else:
                self._store.tell_later(job, now + timedelta(seconds=max(1.0, guard.seconds_left())))
            return
        verdict = None
        if job.state == "done" and job.verdict_id is not None:
            verdict = self._verdicts.get(job.workspace, UUID(job.verdict_id))
        body = _encode({"job": msgspec.structs.replace(job, deliveries=()), "verdict": verdict})
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Discern",
            DELIVERY_HEADER: job.id,
            SIGNATURE_HEADER: signature(self._secret.get(), body, int(time.time())),
            **({} if job.trace is None else {PARENT_HEADER: job.trace}),
        }
        try:
            status = self._post(job.webhook, body, headers)
        except CallerError as refused:  # it would be refused again
            self._note(job, Delivery(utc_now(), error=str(refused)), "refused")
            return
        except OSError as error:
            found = Delivery(utc_now(), error=f"{type(error).__name__}: {error}"[:500])
            guard.failed(type(error).__name__)
        else:
            found = Delivery(utc_now(), status=status)
            # Who answers is there; whether it likes what it is told is a matter of that job alone, below 500.
            if status < 500:
                guard.succeeded()
            else:
                guard.failed(f"it answered {status}")
            if 200 <= status < 300:
                self._note(job, found, "delivered")
                return
        tries = len(job.deliveries) + 1
        if tries >= MOST_TRIES:
            self._note(job, found, "given_up")
            return
        log.warning("webhook_failed", extra={"job": job.id, "tries": tries, "detail": found.error or found.status})
        self._store.delivered(job, found, again_at=found.at + pause_after(tries))

    def _note(self, job: Job, delivery: Delivery, outcome: str) -> None:
        """Write down the last call there will be."""
        level = logging.INFO if outcome == "delivered" else logging.ERROR
        facts = {"job": job.id, "outcome": outcome, "detail": delivery.error or delivery.status}
        log.log(level, "webhook_told", extra=facts)
        self._store.delivered(job, delivery, again_at=None)
        self._counts.add(f"jobs.webhooks_{outcome}", workspace=job.workspace)


def _host_of(url: str) -> str:
    """Return host and port, such as `hooks.example.org:443`."""
    parts = urlsplit(url)
    try:
        return f"{parts.hostname}:{parts.port or {'http': 80}.get(parts.scheme, 443)}"
    except ValueError:  # it is refused when it is called
        return ""
