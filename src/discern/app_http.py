"""The HTTP application over the parts of an installation. The command line answers without it.

- Every route that is not open to anybody stands in the table of permissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from anyio import CapacityLimiter
from fastapi import APIRouter
from fastapi.routing import APIRoute

import discern
from discern.access.api import KeyList, KeyRequest, access_routes
from discern.access.api_factors import FACTOR_SCHEMAS, factor_routes, reset_routes, sign_in_routes
from discern.access.api_federation import SCHEMAS_FEDERATION, federation_routes
from discern.access.api_users import HASHED_AT_A_TIME, SCHEMAS, session_routes, user_routes
from discern.access.types import IssuedKey, Principal, Token
from discern.alerts.api import SCHEMAS as ALERT_SCHEMAS
from discern.alerts.api import alert_routes
from discern.app import Services
from discern.app_jobs import job_limits
from discern.audit.api import audit_routes
from discern.audit.types import EntryPage
from discern.compliance.api import compliance_routes
from discern.compliance.types import Report
from discern.core.verdict import Verdict
from discern.detection.api import VERDICT_OPERATION, VerdictEndpoint, ledger_routes
from discern.detection.api_batch import BATCH_OPERATION, BatchEndpoint
from discern.detection.batches import BatchLimits
from discern.detection.jobs.api import JOB_OPERATION, JobEndpoint, job_routes
from discern.detection.jobs.types import Job, JobPage
from discern.detection.service import traced_each
from discern.detection.service_direct import DirectRecords
from discern.detection.streams.api import StreamEndpoint
from discern.detection.streams.types import StreamLimits
from discern.detection.types import LedgerEntry, VerdictPage
from discern.http.authentication import Authentication, key_check_of, principal_of
from discern.http.bodies import Bodies
from discern.http.description import describe
from discern.http.direct import DirectRoute
from discern.http.guards import Guards
from discern.http.health import health_routes
from discern.http.inference_protocol import InferenceEndpoint, InferenceError, inference_operation, inference_routes
from discern.http.permissions import NEEDS, Permissions
from discern.http.plain import Application, PlainRoute
from discern.http.problems import install_problem_handlers, problem_members
from discern.http.statistics import Place, statistics_routes
from discern.monitoring.analytics.api import SCHEMAS as ANALYTICS_SCHEMAS
from discern.monitoring.analytics.api import analytics_routes
from discern.monitoring.drift.api import drift_routes
from discern.monitoring.drift.types import DriftReport
from discern.monitoring.health.api import health_page_routes
from discern.monitoring.health.types import Health
from discern.monitoring.metrics.api import metrics_routes
from discern.monitoring.quality.api import quality_routes
from discern.monitoring.quality.types import QualityReport
from discern.privacy.api import ConsentRequest, PrivacyRequest, PrivacyState, SubjectRequest, privacy_routes
from discern.privacy.ports import SUBJECT_HEADER
from discern.privacy.types import Consent, Erasure, SubjectExport, SubjectJob
from discern.quotas.api import usage_routes
from discern.quotas.types import Usage
from discern.registry.api import registry_routes
from discern.retention.api import retention_routes
from discern.retention.types import Keeping, KeepingChange
from discern.review.api import LABEL_SCHEMAS, LabelLimits, label_routes
from discern.settings import Settings
from discern.store.outbound import Outbound, networks

# Requests with these headers are answered by way of the framework, which does something about them.
_LOOKED_AT_ELSEWHERE = frozenset({b"origin", b"x-request-id", b"x-forwarded-for", SUBJECT_HEADER})
_VERDICTS = "/v1/detectors/{name}/verdicts"


_SCHEMAS = (
    *(Verdict, VerdictPage, Job, JobPage, InferenceError, EntryPage),
    *(Keeping, KeepingChange, Usage, Health, DriftReport, *LABEL_SCHEMAS, QualityReport),
    *ALERT_SCHEMAS,
    *ANALYTICS_SCHEMAS,
    *(Principal, KeyList, KeyRequest, IssuedKey, Token, *SCHEMAS, *FACTOR_SCHEMAS, *SCHEMAS_FEDERATION),
    *(
        SubjectRequest,
        ConsentRequest,
        PrivacyRequest,
        PrivacyState,
        Consent,
        SubjectExport,
        SubjectJob,
        Erasure,
        Report,
    ),
)


def _batch_routes(services: Services, bodies: Bodies) -> list[PlainRoute]:
    """Return the routes that ask about many inputs at once: ours, and those of the Open Inference Protocol."""
    settings = services.settings
    limits = BatchLimits(settings.batch_records, settings.batch_images, settings.batch_bytes)
    ask = BatchEndpoint(
        services.detect_batch,
        services.catalogue,
        services.limits,
        limits,
        bodies=bodies,
        principal_of=principal_of,
        problem_of=problem_members,
    )
    infer = InferenceEndpoint(services.detect_batch, services.catalogue, services.limits, limits, bodies=bodies)
    model = "/v2/models/{name}"
    return [
        PlainRoute("POST", "/v1/detectors/{name}/verdicts:batch", ask, BATCH_OPERATION),
        PlainRoute("POST", "/v1/detectors/{name}/jobs", _job_endpoint(services), JOB_OPERATION),
        PlainRoute("POST", f"{model}/infer", infer, inference_operation(of_version=False)),
        PlainRoute("POST", f"{model}/versions/{{version}}/infer", infer, inference_operation(of_version=True)),
    ]


def _job_endpoint(services: Services) -> JobEndpoint:

    return JobEndpoint(
        services.jobs,
        services.job_store,
        services.catalogue,
        job_limits(services.settings),
        check_url=Outbound(networks(services.settings.webhook_allow)).check,
        principal_of=principal_of,
    )


def _streams(services: Services) -> StreamEndpoint:

    async def record(entry: LedgerEntry) -> None:
        await services.committer.write([entry])

    settings = services.settings
    return StreamEndpoint(
        traced_each(services.detect, services.monitoring.tracer, "stream message"),
        record,
        services.catalogue,
        StreamLimits(
            most=settings.max_streams,
            most_of_a_workspace=settings.max_streams_per_workspace,
            waiting=settings.stream_waiting,
            waiting_bytes=settings.stream_waiting_bytes,
            idle_seconds=settings.stream_idle_seconds,
        ),
        services.counts,
        principal_of=principal_of,
        problem_of=problem_members,
        key_check_of=key_check_of,
        subjects=services.subjects,
    )


def _asking(services: Services) -> tuple[VerdictEndpoint, list[PlainRoute]]:
    """Return the endpoint that asks about one input, and the routes that ask about many."""
    settings = services.settings
    bodies = Bodies(
        max_waiting=settings.max_waiting, waiting_bytes=settings.waiting_bytes, body_seconds=settings.body_seconds
    )
    ask = VerdictEndpoint(
        services.detect,
        services.catalogue,
        services.limits,
        direct=DirectRecords(
            services.plane, services.cache, services.batcher, services.committer, services.locator, services.quotas
        ),
        bodies=bodies,
        principal_of=principal_of,
    )
    return ask, _batch_routes(services, bodies)


def _judgement_routes(services: Services) -> Iterator[APIRouter]:
    """Yield the routes of what is true of verdicts, how good detectors are by it, and what was asked of them."""
    limits = LabelLimits(services.settings.batch_records, services.settings.label_bytes)
    yield label_routes(services.labels, services.access, limits, principal_of=principal_of)
    yield quality_routes(services.monitoring.quality, services.access, principal_of=principal_of)
    parts = services.monitoring.analytics
    yield analytics_routes(parts.analytics, parts.budgets, parts.reports, principal_of=principal_of)


def _origins(settings: Settings) -> list[str]:
    return [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]


def _parameters(routers: Iterable[APIRouter]) -> dict[str, list[str]]:
    """Return the names of the query parameters of every route, as `METHOD /path/{name}`."""
    return {
        f"{method} {route.path}": [parameter.alias for parameter in route.dependant.query_params]
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    }


def _guards(services: Services) -> Guards:
    return Guards(
        services.keys,
        services.users,
        services.tokens,
        services.access,
        services.rate_limits,
        services.subjects,
        services.quotas,
        services.counts,
        services.settings.metrics_token,
        services.monitoring.tracer,
    )


def _routers(services: Services, app: Application, place: Place) -> tuple[APIRouter, ...]:
    """Return the routes that the framework answers."""
    access, hashing = services.access, CapacityLimiter(HASHED_AT_A_TIME)
    parts = {"database": services.database.ping, "detectors": services.catalogue.ping}
    return (
        health_routes(parts, lambda: app.draining, {"objects": services.objects.ping}),
        metrics_routes(services.monitoring.metrics),
        statistics_routes(services.counts, place, principal_of=principal_of),
        health_page_routes(services.monitoring.health, place.slot, place.supervised, principal_of=principal_of),
        registry_routes(services.catalogue, access, principal_of=principal_of),
        ledger_routes(services.verdicts, access, services.labels.hold_out, principal_of=principal_of),
        *_judgement_routes(services),
        job_routes(services.jobs, services.job_store, services.verdicts, access, principal_of=principal_of),
        inference_routes(services.catalogue, access, parts),
        access_routes(services.keys, services.tokens, access, principal_of=principal_of),
        session_routes(services.users, services.sign_in, hashing, principal_of=principal_of),
        sign_in_routes(services.sign_in, services.users),
        federation_routes(services.federation, services.users),
        factor_routes(services.factors, services.users, hashing, principal_of=principal_of),
        reset_routes(services.factors, services.users, access, principal_of=principal_of),
        user_routes(services.users, access, hashing, principal_of=principal_of),
        privacy_routes(services.privacy, principal_of=principal_of),
        usage_routes(services.quotas, principal_of=principal_of),
        drift_routes(services.monitoring.drift, principal_of=principal_of),
        retention_routes(services.retention, principal_of=principal_of),
        alert_routes(services.monitoring.alerts.desk, principal_of=principal_of),
        audit_routes(services.audit_store, workspace_of=lambda scope: principal_of(scope).workspace),
        compliance_routes(services.compliance, access, principal_of=principal_of),
    )


def create_app(services: Services, place: Place | None = None) -> Application:
    """Return the HTTP application over `services`, which the caller has opened and closes."""
    monitoring = services.monitoring
    for check in (services.policies.open, services.federation.open, monitoring.alerts.open, monitoring.tracer.open):
        check()  # a file that is wrong, or no engine for policies, stops the start
    place = place or Place()
    app = Application(
        title="Discern",
        version=discern.__version__,
        description="Verdicts on images, videos and records, each on record before it is answered.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    install_problem_handlers(app, services.counts)
    settings = services.settings
    app.put_edge_around(
        networks(settings.trusted_proxies), _origins(settings), services.counts.measures, monitoring.tracer
    )
    guards = _guards(services)
    ask, batch = _asking(services)
    app.put_in_front([PlainRoute("POST", _VERDICTS, ask, VERDICT_OPERATION), *batch], guards)
    app.direct = DirectRoute(_VERDICTS, ask.at_once, guards, lambda: app.draining, elsewhere=_LOOKED_AT_ELSEWHERE)
    streams = _streams(services)
    app.put_streams_in_front("/v1/detectors/{name}/stream", streams, guards, streams.drain)
    services.rate_limits.check_routes({*NEEDS, "GET /v1/detectors/{name}/stream"})
    routers = _routers(services, app, place)
    for router in routers:
        app.include_router(router)
    app.add_middleware(Permissions, permit=services.access, limits=services.rate_limits, routes=_parameters(routers))
    app.add_middleware(Authentication, guards=guards)
    describe(app, _SCHEMAS)
    return app
