"""The JSON Schema of the manifest, as it is published."""

from __future__ import annotations

from typing import Any

from discern.detectors.manifest import MANIFEST_NAME, Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `detector.yaml`; the same code gives the same order of keys.

    What a schema cannot say (stages that fit together, exits that agree with the thresholds) is checked on opening
    only.
    """
    schema = Manifest.model_json_schema(mode="validation")
    title = f"Discern detector manifest ({MANIFEST_NAME}, format 1)"
    return {"$schema": DIALECT, "title": title, **{key: schema[key] for key in sorted(schema) if key != "title"}}
