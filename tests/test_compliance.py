"""What the pages on standards point at is there, and no requirement is forgotten."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from discern.cli.main import build_cli
from discern.compliance.service_standards import standards
from discern.compliance.types import FRAMEWORKS, Control

ROOT = Path(__file__).parent.parent
ASVS = ROOT / "docs" / "security" / "asvs.md"
# The requirements of ASVS 5.0.0 by section: how many are of level 1, and how many of level 1 or 2. In every section
# they are numbered from 1, those of level 1 first.
SECTIONS = {
    "V1.1": (0, 2), "V1.2": (5, 9), "V1.3": (2, 11), "V1.4": (0, 3), "V1.5": (1, 2), "V2.1": (1, 3), "V2.2": (2, 3),
    "V2.3": (1, 4), "V2.4": (0, 1), "V3.2": (2, 2), "V3.3": (1, 4), "V3.4": (2, 6), "V3.5": (3, 5), "V3.7": (0, 2),
    "V4.1": (1, 3), "V4.2": (0, 1), "V4.3": (0, 2), "V4.4": (1, 4), "V5.1": (0, 1), "V5.2": (2, 3), "V5.3": (2, 2),
    "V5.4": (0, 3), "V6.1": (1, 3), "V6.2": (8, 12), "V6.3": (2, 4), "V6.4": (2, 4), "V6.5": (0, 5), "V6.6": (0, 3),
    "V6.8": (0, 4), "V7.1": (0, 3), "V7.2": (4, 4), "V7.3": (0, 2), "V7.4": (2, 5), "V7.5": (0, 2), "V7.6": (0, 2),
    "V8.1": (1, 2), "V8.2": (2, 3), "V8.3": (1, 1), "V8.4": (0, 1), "V9.1": (3, 3), "V9.2": (1, 4), "V10.1": (0, 2),
    "V10.2": (0, 2), "V10.3": (0, 4), "V10.4": (5, 11), "V10.5": (0, 5), "V10.6": (0, 2), "V10.7": (0, 3),
    "V11.1": (0, 2), "V11.2": (0, 3), "V11.3": (2, 3), "V11.4": (1, 4), "V11.5": (0, 1), "V11.6": (0, 1),
    "V12.1": (1, 3), "V12.2": (2, 2), "V12.3": (0, 4), "V13.1": (0, 1), "V13.2": (0, 5), "V13.3": (0, 2),
    "V13.4": (1, 5), "V14.1": (0, 2), "V14.2": (1, 4), "V14.3": (1, 3), "V15.1": (1, 3), "V15.2": (1, 3),
    "V15.3": (1, 7), "V16.1": (0, 1), "V16.2": (0, 5), "V16.3": (0, 4), "V16.4": (0, 3), "V16.5": (0, 3),
    "V17.1": (0, 1), "V17.2": (0, 4), "V17.3": (0, 2),
}  # fmt: skip


def levels() -> dict[str, int]:
    """The level of every requirement of the levels 1 and 2, by its number."""
    return {
        f"{section}.{number}": 1 if number <= of_level_1 else 2
        for section, (of_level_1, of_both) in SECTIONS.items()
        for number in range(1, of_both + 1)
    }


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of a page's tables."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [cells for cells in found if not set("".join(cells)) <= set("- ")]


def asvs() -> list[list[str]]:
    return [cells for cells in rows(ASVS) if re.fullmatch(r"V\d+\.\d+\.\d+", cells[0])]


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing(cell: str) -> list[str]:
    """What a cell names in backquotes and is not there: tests, commands and files."""
    return [pointer for pointer in re.findall(r"`([^`]+)`", cell) if not is_there(pointer)]


def is_there(pointer: str) -> bool:
    path, _, name = pointer.partition("::")
    if name:
        return (ROOT / path).is_file() and name.startswith("test_") and name in functions_of(ROOT / path)
    words = shlex.split(pointer)
    if words[0] == "discern":
        return is_command(words[1:])
    if words[0] == "make":
        return f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    if words[:2] == ["python", "-m"]:
        return (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    if words[0] == "GET":
        from discern.http.permissions import NEEDS

        return pointer in NEEDS
    return (ROOT / pointer).exists() or not re.search(r"/|\.(py|md|toml|txt|json)$", pointer)


def is_command(words: list[str]) -> bool:
    command: Any = typer.main.get_command(build_cli())
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return not getattr(command, "commands", {}) and {word for word in words if word.startswith("-")} <= known


def test_every_requirement_of_both_levels_stands_once() -> None:
    given = [cells[0] for cells in asvs()]
    text = ASVS.read_text(encoding="utf-8")
    apart = re.findall(r"^- (V[\d.]+\d):", text, flags=re.MULTILINE)
    for number in apart:
        within = [one for one in levels() if one == number or one.startswith(f"{number}.")]
        assert within, f"{number} is no requirement of levels 1 and 2"
        given += within
    assert len(given) == len(set(given)), sorted(one for one in given if given.count(one) > 1)
    assert set(given) == set(levels())


def test_every_requirement_says_its_level() -> None:
    assert {cells[0]: int(cells[1]) for cells in asvs()}.items() <= levels().items()


def test_the_counts_are_those_of_the_standard() -> None:
    # As counted in the table the standard is published as (CSV, release 5.0.0).
    assert (list(levels().values()).count(1), list(levels().values()).count(2)) == (70, 183)


@pytest.mark.parametrize("cells", asvs(), ids=lambda cells: cells[0])
def test_what_a_requirement_points_at_is_there(cells: list[str]) -> None:
    assert len(cells) == 5
    shown = cells[4]
    says_something = re.search(r"`|operator|open:|this page", shown)
    assert says_something, f"{cells[0]} is shown by nothing"
    assert missing(shown) == []


def controls() -> list[tuple[str, Control]]:
    return [(name, control) for name, standard in standards().items() for control in standard.controls]


def test_each_standard_stands_there_and_no_number_twice() -> None:
    assert set(standards()) == set(FRAMEWORKS)
    for name, standard in standards().items():
        numbers = [control.number for control in standard.controls]
        assert len(numbers) > 10, name
        assert len(numbers) == len(set(numbers)), name


@pytest.mark.parametrize(("framework", "control"), controls(), ids=lambda given: getattr(given, "number", given))
def test_what_a_control_points_at_is_there(framework: str, control: Control) -> None:
    assert control.discern or control.operator
    assert control.shown_by or control.evidence or control.operator, f"{framework} {control.number} is shown by nothing"
    assert all(map(is_there, control.shown_by)), control.shown_by
    cells = (control.number, control.asks, control.discern, control.operator, *control.shown_by)
    assert not any("|" in cell or "\n" in cell for cell in cells)  # they become cells of a table


def test_no_evidence_is_left_for_later() -> None:
    pages = [ASVS, *(ROOT / "docs" / "compliance").iterdir(), ROOT / "src" / "discern" / "compliance" / "controls.toml"]
    assert len(pages) == 2 + len(FRAMEWORKS)
    assert [page.name for page in pages if re.search(r"PENDING|TODO|TBD", page.read_text(encoding="utf-8"))] == []


def test_a_pointer_to_what_is_not_there_is_found() -> None:
    for pointer in (
        "tests/http/test_users.py::test_nobody_wrote_this",
        "tests/http/nowhere.py::test_a_session_ends_by_itself",
        "discern nothing",
        "discern audit",
        "discern audit verify --nothing",
        "make nothing",
        "python -m bench.nothing",
        "GET /v1/nothing",
        "docs/nothing.md",
    ):
        assert missing(f"`{pointer}`") == [pointer]
    assert missing("`discern audit verify --anchors`, `make lint`, `GET /v1/audit`, `SECURITY.md`") == []
