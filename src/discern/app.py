"""The one composition root: what Discern is made of, put together from settings.

- Nothing here does I/O until `Services.open()`.
- The steps of the plane stand in one list, `_steps`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import discern
from discern.access.service import Keys
from discern.access.store import KeyStore
from discern.core.counts import Counts
from discern.core.verdict import Verdict
from discern.detection.batching import Batcher
from discern.detection.committing import Committer
from discern.detection.service import Answer, Plane, on_ledger
from discern.detection.store import VerdictStore
from discern.detection.types import Detect, DetectBatch, VerdictPage
from discern.detectors.vetting import VettingLimits
from discern.inputs.faces import FaceLocator, face_locator, try_locator
from discern.inputs.types import InputLimits
from discern.registry.service import Catalogue
from discern.settings import Settings
from discern.store.database import Database

if TYPE_CHECKING:
    from discern.http.plain import Application

BUILTIN = Path(__file__).parent / "detectors" / "builtin"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one installation."""

    settings: Settings
    limits: InputLimits
    database: Database
    keys: Keys
    catalogue: Catalogue
    verdicts: VerdictStore
    locator: FaceLocator
    plane: Plane
    batcher: Batcher
    committer: Committer
    counts: Counts
    detect: Detect
    detect_batch: DetectBatch

    def open(self) -> None:
        """Open the database, and try a face model where one is set. Raises StorageUnavailable or InvalidSettings."""
        if self.settings.face_model is not None:
            try_locator(self.locator)
        self.database.open()

    def close(self) -> None:
        """Give everything back."""
        self.batcher.close()
        self.committer.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Put the parts together."""
    limits = InputLimits(
        image_bytes=settings.image_bytes,
        image_pixels=settings.image_pixels,
        video_bytes=settings.video_bytes,
        video_pixels=settings.video_pixels,
        video_seconds=settings.video_seconds,
        record_bytes=settings.record_bytes,
    )
    database = Database(
        settings.home / "discern.db", durability=cast("Literal['normal', 'full']", settings.ledger_durability)
    )
    catalogue = Catalogue(
        builtin=BUILTIN,
        home=settings.home,
        limits=VettingLimits(
            memory_bytes=settings.vetting_bytes,
            wall_seconds=settings.vetting_seconds,
            processor_seconds=math.ceil(settings.vetting_seconds),
        ),
        inference_threads=settings.inference_threads,
    )
    locator = face_locator(settings.face_model)
    counts = Counts()
    batcher = Batcher(
        threads=settings.detection_threads or os.cpu_count() or 1,
        most_rows=settings.batch_rows,
        deadline_seconds=settings.batch_deadline_seconds,
        most_waiting_rows=settings.max_waiting_rows,
        counts=counts,
    )
    plane = Plane(catalogue, limits, locator, batcher)
    verdicts = VerdictStore(database)
    committer = Committer(verdicts, counts)
    detect = plane.asking(_steps(plane, committer))
    return Services(
        settings=settings,
        limits=limits,
        database=database,
        keys=Keys(KeyStore(database)),
        catalogue=catalogue,
        verdicts=verdicts,
        locator=locator,
        plane=plane,
        batcher=batcher,
        committer=committer,
        counts=counts,
        detect=detect,
        detect_batch=plane.asking_many(detect, committer),
    )


def _steps(plane: Plane, committer: Committer) -> Answer:
    """Put the steps of the plane around each other, the innermost first."""
    return on_ledger(plane.assess, committer)


def create_app(services: Services) -> Application:
    """Return the HTTP application over `services`, which the caller has opened and closes."""
    # Imported here: the command line answers without an HTTP framework.
    from discern.detection.api import VERDICT_OPERATION, VerdictEndpoint, ledger_routes  # noqa: PLC0415
    from discern.http.authentication import Authentication, principal_of  # noqa: PLC0415
    from discern.http.bodies import Bodies  # noqa: PLC0415
    from discern.http.description import describe  # noqa: PLC0415
    from discern.http.health import health_routes  # noqa: PLC0415
    from discern.http.plain import Application, PlainRoute  # noqa: PLC0415
    from discern.http.problems import install_problem_handlers  # noqa: PLC0415
    from discern.registry.api import registry_routes  # noqa: PLC0415

    app = Application(
        title="Discern",
        version=discern.__version__,
        description="Verdicts on images, videos and records, each on record before it is answered.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(Authentication, keys=services.keys)
    install_problem_handlers(app)
    app.include_router(health_routes({"database": services.database.ping, "detectors": services.catalogue.ping}))
    app.include_router(registry_routes(services.catalogue))
    bodies = Bodies(
        max_waiting=services.settings.max_waiting,
        waiting_bytes=services.settings.waiting_bytes,
        body_seconds=services.settings.body_seconds,
    )
    ask = VerdictEndpoint(
        services.detect, services.catalogue, services.limits, bodies=bodies, principal_of=principal_of
    )
    app.put_in_front(
        [PlainRoute("POST", "/v1/detectors/{name}/verdicts", ask, VERDICT_OPERATION)],
        services.keys,
    )
    app.include_router(ledger_routes(services.verdicts, principal_of=principal_of))
    describe(app, (Verdict, VerdictPage))
    return app
