"""The route that tells what this installation can show for the controls of standards and laws."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from discern.access.ports import Permit, PrincipalReader
from discern.access.types import Principal, Resource
from discern.compliance.service import Compliance
from discern.compliance.types import FRAMEWORKS, Framework
from discern.routes import answers, json_answer


def compliance_routes(compliance: Compliance, permit: Permit, *, principal_of: PrincipalReader) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1/compliance", tags=["compliance"])

    @router.get(
        "/report",
        summary="Tell what is shown for the controls of standards and laws",
        response_class=Response,
        responses=answers("Report", description="Evidence, and each control with the names of what stands for it."),
    )
    async def report(request: Request, framework: Annotated[Framework | None, Query()] = None) -> Response:
        principal = principal_of(request)
        asked = FRAMEWORKS if framework is None else (framework,)
        may_see = partial(_may_see, permit, principal)
        make = partial(compliance.report, principal.workspace, asked, told_by="server", may_see=may_see)
        return json_answer(await to_thread.run_sync(make))

    return router


def _may_see(permit: Permit, principal: Principal, name: str) -> bool:
    return permit.allows(principal, "detectors.read", Resource("Detector", name, principal.workspace, name))
