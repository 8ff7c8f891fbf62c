"""Writes the reference pages that are made from the code. A test fails where a page differs from what this writes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import typer

from discern.app import build_services
from discern.app_http import create_app
from discern.cli.main import build_cli
from discern.core.verdict import Verdict
from discern.detectors.schema import manifest_schema
from discern.http.problems import FRAMEWORK_PROBLEMS, PROBLEMS
from discern.settings import PREFIX, Settings, load_settings

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by `make docs`; change the code, not this page. -->"


def pages() -> dict[str, str]:
    """Return every generated page by its file name."""
    services = build_services(load_settings({}))
    return {
        "settings.md": _settings(),
        "errors.md": _errors(),
        "commands.md": _commands(),
        "openapi.json": _json(create_app(services).openapi()),
        "detector.schema.json": _json(manifest_schema()),
        "verdict.schema.json": _json(msgspec.json.schema(Verdict)),
    }


def _settings() -> str:
    lines = [
        "# Settings",
        _NOTE,
        "",
        "Each comes from the environment, else from `discern.toml` in the home folder (in lower case, without the",
        "prefix), else from its default. An unknown name is refused.",
        "",
        "| variable | default | unit | meaning |",
        "|---|---|---|---|",
    ]
    for entry in fields(Settings):
        default = "" if entry.default is None else f"`{entry.default}`"
        lines.append(
            f"| `{PREFIX}{entry.name.upper()}` | {default} | {entry.metadata['unit']} | {entry.metadata['help']} |"
        )
    return "\n".join(lines) + "\n"


def _errors() -> str:
    lines = [
        "# Errors",
        _NOTE,
        "",
        "Over HTTP every error of a request that can be parsed is a problem document (RFC 9457): `type`, `title`,",
        "`status`, `code`, `detail`, where it",
        "helps `mend` (what to do), and facts such as `limit`, `allowed`, `found` or `faults`. `code` is stable.",
        "",
        "| code | status | title |",
        "|---|---|---|",
    ]
    rows = {kind.code: problem for kind, problem in reversed(PROBLEMS.items())}
    rows |= FRAMEWORK_PROBLEMS
    table = [(code, problem.status, problem.title) for code, problem in rows.items()]
    lines += [f"| `{code}` | {status} | {title} |" for code, status, title in sorted(table)]
    return "\n".join(lines) + "\n"


def _commands() -> str:
    root = typer.main.get_command(build_cli())
    lines = ["# Commands", _NOTE, ""]
    _describe(root, "discern", lines)
    return "\n".join(lines).rstrip() + "\n"


def _describe(command: Any, name: str, lines: list[str]) -> None:  # noqa: ANN401 - typer's own copy of click
    context = command.make_context(name, [], resilient_parsing=True)
    children = getattr(command, "commands", {})
    if not children:
        lines += [f"## `{name}`", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            record = parameter.get_help_record(context)
            label = record[0] if record else parameter.make_metavar(context)
            text = record[1] if record else getattr(parameter, "help", "")
            if "--help" not in label:
                lines.append(f"- `{' '.join(label.split())}`: {' '.join((text or '').split())}")
        lines.append("")
    for child, inner in children.items():
        _describe(inner, f"{name} {child}", lines)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
