"""`discern doctor`: what is missing or wrong here, with a hint each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import typer
from rich.markup import escape
from rich.table import Column, Table

from discern.app import Services, build_services
from discern.app_storage import no_subjects
from discern.core.errors import DiscernError, MissingExtra
from discern.core.workspace import DEFAULT_WORKSPACE
from discern.inputs.faces import try_locator
from discern.registry.types import Listed, Refused
from discern.settings import Settings
from discern.tables import print_table

_LEAST_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `hint` says what to do where it is not well, or needs an extra to be there."""

    what: str
    well: bool
    found: str
    hint: str = ""
    is_absent: bool = False


def _failure(what: str, error: DiscernError, *, is_optional: bool = False) -> Finding:
    """Return what an error comes to; for the optional, an extra that nobody installed is not wrong."""
    absent = is_optional and isinstance(error, MissingExtra)
    return Finding(what, absent, error.detail, error.mend or "", is_absent=absent)


def doctor_command(cli: typer.Typer, load: Callable[[], Settings]) -> None:
    """Add the command to `cli`."""

    @cli.command("doctor")
    def doctor() -> None:
        """Look at everything an installation needs; exit 1 where something is wrong."""
        table = Table("", *(Column(name, overflow="fold") for name in ("What", "Found", "Hint")))
        well = True
        for finding in examine(load):
            well = well and finding.well
            state = "absent" if finding.is_absent else "[green]ok[/]" if finding.well else "[red]wrong[/]"
            hint = finding.hint if finding.is_absent or not finding.well else ""
            table.add_row(state, escape(finding.what), escape(finding.found), escape(hint))
        print_table(table)
        raise typer.Exit(0 if well else 1)


def examine(load: Callable[[], Settings]) -> Iterator[Finding]:
    """Yield findings; what cannot be looked at because of an earlier one is left out."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("Python", sys.version_info >= (3, 11), python, "Discern needs 3.11 or later.")
    try:
        settings = load()
    except DiscernError as error:
        yield _failure("settings", error)
        return
    yield Finding("settings", well=True, found=f"home is {settings.home}")
    services = build_services(settings)
    try:
        services.open()
    except DiscernError as error:
        yield _failure("database", error)
        return
    try:
        yield Finding("database", well=True, found=f"{services.database.name} opens and answers")
        yield from _examine_home(services)
        yield from (_examine_detector(services, entry) for entry in services.catalogue.all())
        yield _examine_subjects(services)
        yield from _examine_sign_in(services)
        yield _examine_application(services)
    finally:
        services.close()


def _examine_home(services: Services) -> Iterator[Finding]:
    home = services.settings.home
    mode = home.stat().st_mode & 0o077
    yield Finding(
        "home folder",
        mode == 0,
        "only you can read it" if mode == 0 else "other users can read it",
        f"chmod 700 {home}",
    )
    free = shutil.disk_usage(home).free
    enough = free >= _LEAST_FREE_BYTES
    yield Finding("disk", enough, f"{free / 1e9:.1f} GB free", "Free some, or move DISCERN_HOME.")
    services.objects.look()
    try:
        services.objects.ping()
        yield Finding("objects", well=True, found=f"{services.objects.name} answers, and so does the master key")
    except DiscernError as error:
        yield _failure("objects", error, is_optional=True)
    live = [key for key in services.keys.list(DEFAULT_WORKSPACE) if key.revoked_at is None]
    found = f"{len(live)} live" if live else "none; `discern up` makes the first, `discern key create` another"
    yield Finding("API keys", well=True, found=found)
    try:
        try_locator(services.locator)
        yield Finding("face locator", well=True, found=services.locator.name)
    except DiscernError as error:
        yield _failure("face locator", error)
    for fault in services.catalogue.trust().faults():
        yield Finding("trusted keys", well=False, found=fault, hint="Remove the file from trust/.")


def _examine_subjects(services: Services) -> Finding:
    missing = no_subjects(services.settings)
    if missing is not None:  # most need none
        return Finding("subjects", well=True, found=str(missing))
    if not services.subjects.has_any():
        return Finding("subjects", well=True, found="none was named yet")
    try:
        _ = services.subjects.store
    except DiscernError as error:
        return _failure("subjects", error)
    return Finding("subjects", well=True, found="the database of their keys opens and answers")


def _examine_sign_in(services: Services) -> Iterator[Finding]:
    try:
        services.federation.open()
    except DiscernError as error:
        yield _failure("identity providers", error)
        return
    if services.federation.providers:
        found = ", ".join(services.federation.providers)
        yield Finding("identity providers", well=True, found=f"{found} (`discern sign-in check` asks them)")


def _examine_application(services: Services) -> Finding:
    from discern.app_http import create_app  # noqa: PLC0415 - most commands do without

    try:
        create_app(services)
    except DiscernError as error:
        return _failure("HTTP application", error, is_optional=True)
    return Finding("HTTP application", well=True, found="can be built")


def _examine_detector(services: Services, entry: Listed) -> Finding:
    what = f"{entry.name} {entry.version}"
    if isinstance(entry, Refused):
        return Finding(what, well=False, found=entry.reason, hint=f"Replace or remove {entry.root}.")
    try:
        services.catalogue.get(entry.name, entry.version)
    except DiscernError as error:
        return _failure(what, error)
    return Finding(what, well=True, found=f"signature holds, models run ({entry.origin})")
