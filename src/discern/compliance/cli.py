"""`discern compliance`: what this installation can show for the controls of standards and laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import typer

from discern.compliance.service import Compliance
from discern.compliance.service_standards import standards
from discern.compliance.types import FRAMEWORKS, Framework, Item, Report
from discern.core.errors import CallerError, OperatorError
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.detectors.files import OWNER, replace_file

_FRAMEWORK_HELP = f"One of: {', '.join(FRAMEWORKS)}; may be given again. Left out: all."


def compliance_commands(compliance: Callable[[], Compliance], check_workspace: Callable[[str], None]) -> typer.Typer:
    """Return the `compliance` group; `check_workspace` raises for a workspace there is not."""
    group = typer.Typer(name="compliance", help="What can be shown for standards and laws.", no_args_is_help=True)

    @group.command("report")
    def report(
        framework: list[str] = typer.Option([], "--framework", "-f", help=_FRAMEWORK_HELP),
        as_json: bool = typer.Option(False, "--json", help="JSON instead of text."),
        output: Path | None = typer.Option(None, "--output", "-o", dir_okay=False, help="File to write it to."),
        workspace: str = typer.Option(DEFAULT_WORKSPACE, "--workspace", "-w", help="Whose keys, users and audit log."),
    ) -> None:
        """Print what this installation shows for each control; nothing is changed."""
        asked = tuple(framework_of(name) for name in framework) or FRAMEWORKS
        check_workspace(workspace)
        made = compliance().report(workspace, asked)
        text = msgspec.json.format(msgspec.json.encode(made)).decode() if as_json else "\n".join(_lines(made))
        if output is None:
            typer.echo(text)
            return
        try:
            replace_file(output.absolute(), text.encode() + b"\n", OWNER)
        except OSError as error:
            raise OperatorError(
                f"{output} cannot be written: {error.strerror}.", mend="Name a file in a folder you may write to."
            ) from error
        typer.echo(f"Wrote {output}.", err=True)

    return group


def framework_of(name: str) -> Framework:
    """Return a framework by its name. Raises CallerError."""
    found = next((one for one in FRAMEWORKS if one == name), None)
    if found is None:
        raise CallerError(f"There is no framework {name[:100]!r}.", mend=f"Name one of: {', '.join(FRAMEWORKS)}.")
    return found


def _lines(report: Report) -> Iterator[str]:
    when = report.made_at.isoformat(timespec="seconds")
    yield f"Discern {report.version}, workspace {report.workspace}, {when}, told by the {report.told_by}."
    yield "This is what the software shows of itself: no certificate, no audit, and `shown` does not mean fulfilled."
    yield ""
    yield "What was found"
    yield from (f"  {one.name:<13} {one.state:<10} {one.says}" for one in report.evidence)
    for framework, standard in standards().items():
        items = [item for item in report.items if item.framework == framework]
        if items:
            yield ""
            yield f"{standard.title} ({standard.source})"
            for item in items:
                yield from _item(item)
    yield ""
    yield "What could not be established"
    yield from (f"  {one}" for one in report.not_established or ("nothing",))


def _item(item: Item) -> Iterator[str]:
    yield f"  {item.number:<18} {item.state:<10} {item.asks}"
    if item.evidence:
        yield f"{'':<21}evidence: {', '.join(item.evidence)}"
    if item.shown_by:
        yield f"{'':<21}see: {'; '.join(item.shown_by)}"
    if item.operator:
        yield f"{'':<21}operator: {item.operator}"
