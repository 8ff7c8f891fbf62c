"""The OpenAPI document and the page at /docs, which needs no network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi_offline
import msgspec
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from discern.http.authentication import is_open
from discern.http.plain import Application
from discern.http.problems import MEDIA_TYPE

_FILES = "/docs/files"


def describe(app: Application, schemas: Sequence[type]) -> None:
    """Give `app` its OpenAPI document with our schemas, errors and the key, and the page that shows it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, schemas)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    app.mount(_FILES, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"), name="docs-files")

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(_PAGE)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")


# The page of FastAPI runs inline script, which no page of ours may.
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Discern API</title>
<link rel="stylesheet" href="{_FILES}/swagger-ui.css">
<link rel="icon" href="{_FILES}/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{_FILES}/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""


def _document(app: Application, types: Sequence[type]) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in components.values():
        schema["description"] = inspect.cleandoc(schema.get("description", ""))
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= components | {"Problem": _PROBLEM_SCHEMA}
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": "discern_session"},
    }
    for route in app.plain_routes:
        document["paths"].setdefault(route.path, {})[route.method.lower()] = dict(route.operation)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = {str(status): answer for status, answer in operation["responses"].items()}
            operation["responses"].pop("422", None)
            if not is_open(path):
                operation["security"] = [{"key": []}, {"session": []}]
            if not is_open(path) or "requestBody" in operation or "{" in path:
                operation["responses"].setdefault("default", _PROBLEM_RESPONSE)
    return document


_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "An error (RFC 9457). `code` is stable; further members are facts about the error.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "mend": {"type": "string", "description": "What to do about it."},
    },
}
_PROBLEM_RESPONSE = {
    "description": "An error.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
