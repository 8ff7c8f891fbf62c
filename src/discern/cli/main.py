"""Entry point of the `discern` command.

- Exit code 2 means the command was typed wrongly, 1 that it failed, 0 that it did what it says; `detect` adds 10
  and 20.
- Errors go to standard error as one sentence and a hint, never as a traceback, unless they are a defect of ours.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import typer

import discern
from discern.access.cli import access_commands, key_commands, known_workspace, token_commands, workspace_commands
from discern.access.cli_federation import sign_in_commands
from discern.access.cli_users import user_commands
from discern.access.service_federation import Federation
from discern.alerts.cli import alert_commands
from discern.app import Services, build_services, bulk_parts, evaluation_parts
from discern.app_analytics import AnalyticsParts
from discern.app_storage import make_home
from discern.audit.cli import audit_commands
from discern.cli.doctor import doctor_command
from discern.cli.logs import configure_logging
from discern.cli.resources import find_resource
from discern.cli.up import up_command
from discern.compliance.cli import compliance_commands
from discern.core.errors import DiscernError, StorageUnavailable, UnknownDetector
from discern.detection.bulk.cli import run_commands, score_command
from discern.detection.bulk.store import RunStore
from discern.detection.cli import Tools, detect_command
from discern.detection.cli_verdicts import verdict_commands
from discern.evaluation.cli import evaluate_command
from discern.evaluation.cli_datasets import dataset_commands
from discern.evaluation.platforms.cli import Bench, platform_commands
from discern.evaluation.studio.cli import thresholds_command
from discern.monitoring.analytics.cli import analytics_commands, budget_commands, report_command
from discern.monitoring.drift.cli import drift_commands
from discern.monitoring.health.cli import health_command
from discern.monitoring.quality.cli import quality_command
from discern.objects.cli import master_key_commands
from discern.privacy.cli import privacy_commands
from discern.quotas.cli import quota_commands
from discern.registry.cli import detector_commands
from discern.registry.types import split_reference
from discern.retention.cli import retention_commands
from discern.review.cli import label_commands
from discern.settings import load_settings

USAGE_ERROR = 2
FAILURE = 1


def main() -> None:
    """Run the command line and exit."""
    try:
        build_cli()()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
            raise
        sys.stderr.write(f"discern: the output could not be written: {error.strerror}.\n")
        sys.exit(FAILURE)
    except DiscernError as error:
        sys.stderr.write(f"discern: {error}\n")
        sys.exit(USAGE_ERROR if isinstance(error, UnknownDetector) else FAILURE)


def build_cli() -> typer.Typer:
    """Return the command line. Nothing is read or opened before a command asks for it."""
    cli = typer.Typer(
        name="discern",
        help="Takes a trained detector to production.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @cache
    def services() -> Services:
        settings = load_settings()
        # Or whatever makes the first folder in it would make it for everyone to read; who must write there says it.
        with suppress(StorageUnavailable):
            make_home(settings)
        return build_services(settings)

    @cache
    def opened() -> Services:
        services().open()
        return services()

    def close() -> None:
        if opened.cache_info().currsize:
            opened().close()

    @cli.callback()
    def options(
        context: typer.Context,
        _version: bool = typer.Option(
            False, "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        configure_logging("error")
        context.call_on_close(close)

    up_command(cli, load_settings)
    detect_command(cli, lambda: Tools(opened().detect, opened().catalogue, opened().limits, opened().subjects))
    score_command(cli, lambda: bulk_parts(opened()))
    evaluate_command(cli, lambda: evaluation_parts(services()))
    thresholds_command(cli, lambda: evaluation_parts(services()))
    doctor_command(cli, load_settings)
    health_command(cli, lambda: opened().monitoring.health)
    _add_groups(cli, services, opened)
    return cli


def _add_groups(cli: typer.Typer, services: Callable[[], Services], opened: Callable[[], Services]) -> None:
    """Add the groups of commands; `opened` opens the installation where one needs it open."""

    @cache
    def federation() -> Federation:
        opened().federation.open()
        return opened().federation

    def is_known(name: str) -> None:
        known_workspace(opened().workspaces, name)

    def bench() -> Bench:
        parts = services()
        return Bench(
            find=lambda name: parts.catalogue.find(*split_reference(name)).bundle,
            limits=parts.limits,
            locator=parts.locator,
            vetting=parts.catalogue.limits,
            cache=parts.settings.home / "browser",
        )

    detectors = detector_commands(lambda: services().catalogue, lambda: services().settings.home)
    platform_commands(detectors, bench)
    cli.add_typer(detectors)
    cli.add_typer(dataset_commands())
    cli.add_typer(verdict_commands(lambda: opened().verdicts, is_known, lambda: opened().labels.hold_out))
    quality_command(cli, lambda: opened().monitoring.quality, is_known)
    cli.add_typer(label_commands(lambda: opened().labels, is_known))
    cli.add_typer(privacy_commands(lambda: opened().privacy))
    cli.add_typer(run_commands(lambda: RunStore(opened().database)))
    cli.add_typer(key_commands(lambda: opened().keys, lambda: opened().workspaces, lambda: services().settings.home))
    cli.add_typer(master_key_commands(lambda: opened().rotation))
    cli.add_typer(token_commands(lambda: services().tokens))
    cli.add_typer(user_commands(lambda: opened().users, lambda: opened().workspaces, lambda: opened().factors))
    cli.add_typer(sign_in_commands(federation))
    cli.add_typer(workspace_commands(lambda: opened().workspaces))
    cli.add_typer(
        access_commands(
            lambda: services().policies,
            lambda: opened().keys,
            lambda: opened().users,
            lambda kind, name, workspace: find_resource(opened(), kind, name, workspace),
        )
    )
    cli.add_typer(audit_commands(lambda: opened().audit, lambda: opened().audit_store, is_known))
    cli.add_typer(alert_commands(lambda: services().monitoring.alerts, lambda: opened().monitoring.alerts))
    cli.add_typer(quota_commands(lambda: opened().quotas, is_known))
    _add_analytics(cli, lambda: opened().monitoring.analytics, is_known)
    cli.add_typer(drift_commands(lambda: opened().monitoring.drift, is_known))
    cli.add_typer(compliance_commands(lambda: opened().compliance, is_known))
    cli.add_typer(retention_commands(lambda: opened().retention, is_known))


def _add_analytics(cli: typer.Typer, parts: Callable[[], AnalyticsParts], is_known: Callable[[str], None]) -> None:
    report_command(cli, lambda: parts().analytics, lambda: parts().reports, is_known)
    cli.add_typer(analytics_commands(lambda: parts().analytics, lambda: parts().exports, is_known))
    cli.add_typer(budget_commands(lambda: parts().budgets, is_known))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"discern {discern.__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
