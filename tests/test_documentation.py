"""What the documentation says is what there is."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from starlette.testclient import TestClient

from discern.cli.main import build_cli

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.md")])


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


def test_the_generated_pages_are_what_the_code_generates() -> None:
    for name, text in generated().items():
        path = ROOT / "docs" / name
        assert path.read_text(encoding="utf-8") == text, f"{name} is out of date: run `make docs`"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_site_is_made_of_every_page_once() -> None:
    def pages(part: Any) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [page for one in (part.values() if isinstance(part, dict) else part) for page in pages(one)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(listed) == len(set(listed))
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    # What is decided is listed by docs/decisions/index.md.
    assert set(listed) >= {page for page in there if not page.startswith("decisions/")}
    assert set(listed) <= there


def commands_in(text: str) -> list[list[str]]:
    lines = re.findall(r"^(?:\.venv/bin/)?(discern [^\n#>|]*)", text, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_every_command_in_the_documentation_exists_with_its_options() -> None:
    root = typer.main.get_command(build_cli())
    for words in (words for page in PAGES for words in commands_in(page.read_text(encoding="utf-8"))):
        command: Any = root
        rest = words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        is_command = not getattr(command, "commands", {}) or command.invoke_without_command
        assert is_command, f"{words} names no command"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [word for word in rest if word.startswith("-") and word not in known | {"--help", "-h"}]
        assert not unknown, f"{words}: {unknown}"


@pytest.mark.system
def test_the_readme_payment_is_one_the_shipped_detector_takes(client: TestClient) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"card-fraud/verdicts -d '(\{.*?\})'", readme, flags=re.DOTALL)
    assert example is not None
    record = json.loads(example[1])
    answer = client.post("/v1/detectors/card-fraud/verdicts", json=record)
    assert answer.status_code == 200, answer.text


def test_the_manifest_in_the_bundle_page_is_a_manifest() -> None:
    from discern.detectors.manifest import Manifest

    page = (ROOT / "docs" / "reference" / "bundle.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert example is not None
    manifest = Manifest.model_validate(yaml.safe_load(example[1]))
    assert [stage.name for stage in manifest.stages] == ["screen", "expert"]


def test_every_settings_name_in_the_documentation_exists() -> None:
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for page in PAGES:
        for name in re.findall(r"DISCERN_[A-Z0-9_]+", page.read_text(encoding="utf-8")):
            # Secrets may come from files.
            known = {f"`{name}`", f"`{name.removesuffix('_FILE')}`"}
            assert any(one in settings for one in known), f"{page.relative_to(ROOT)} speaks of {name}"


def test_every_path_in_the_architecture_page_exists() -> None:
    text = (ROOT / "docs" / "architecture" / "index.md").read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:core|inputs|detectors|detection|objects|registry|access|audit|compliance|store|http|cli|tests)/[\w/.]*)`",
        text,
    ):
        assert (ROOT / name).exists() or (ROOT / "src" / "discern" / name).exists(), name
