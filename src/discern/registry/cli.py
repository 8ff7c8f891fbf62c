"""`discern detector`: look at bundles, make them, and take them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from discern.detectors.bundle import open_bundle, read_file
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.manifest_file import MANIFEST_BYTES, parse_manifest
from discern.detectors.packing import pack, write_archive
from discern.detectors.signing import generate_key, sign_bundle
from discern.detectors.vetting import vet
from discern.registry.service import Catalogue
from discern.registry.types import takes

_LOCAL_KEY = "local"


def detector_commands(catalogue: Callable[[], Catalogue], home: Callable[[], Path]) -> typer.Typer:
    """Return the `detector` group."""
    group = typer.Typer(name="detector", help="Detectors and their bundles.", no_args_is_help=True)
    _looking(group, catalogue)
    _making(group, home)
    _keeping(group, catalogue)
    return group


def _looking(group: typer.Typer, catalogue: Callable[[], Catalogue]) -> None:
    @group.command("list")
    def list_detectors() -> None:
        """List every bundle that was found, refused ones with the reason."""
        table = Table("Detector", "Version", "Takes", "Origin", "State", box=None, pad_edge=False)
        for entry in catalogue().all():
            kinds = ", ".join(takes(entry.bundle.manifest)) if entry.bundle else ""
            state = f"[red]refused[/]: {entry.refused}" if entry.refused else "[green]usable[/]"
            table.add_row(entry.name, entry.version, kinds, entry.origin, state)
        Console().print(table)

    @group.command("show")
    def show(
        name: str = typer.Argument(help="NAME or NAME@VERSION."),
        card: bool = typer.Option(True, help="Show the detector's card too."),
    ) -> None:
        """Show what a detector says of itself."""
        bare, _, version = name.partition("@")
        bundle = catalogue().usable(bare, version or None)
        manifest = bundle.manifest
        console = Console()
        console.print(f"[bold]{manifest.name} {manifest.version}[/]  {manifest.task}")
        console.print(
            f"takes {', '.join(takes(manifest))}; stages {' -> '.join(stage.name for stage in manifest.stages)}"
        )
        rule = manifest.decision
        console.print(f"review from {rule.review_from:g}, flag from {rule.flag_from:g}; chosen by {rule.chosen_by}")
        console.print(f"digest {bundle.digest}\nsigned by {bundle.signer}\n{bundle.root}")
        if card:
            from rich.markdown import Markdown  # noqa: PLC0415 - slow to import, and only shown here

            console.print(Markdown(bundle.card()))

    @group.command("check")
    def check(target: str = typer.Argument(help="Folder of a bundle, or NAME[@VERSION].")) -> None:
        """Run the executable contract; exit 1 where a check fails."""
        from discern.detectors.checks.run import run_checks  # noqa: PLC0415 - other commands do without

        if Path(target).is_dir():
            bundle = open_bundle(Path(target), None)
            vet(bundle)
        else:
            name, _, version = target.partition("@")
            bundle = catalogue().usable(name, version or None)
        console, failed, count = Console(), 0, 0
        for result in run_checks(bundle):
            count += 1
            failed += not result.passed
            console.print("[green]pass[/]" if result.passed else "[red]FAIL[/]", result.name, result.detail)
        console.print(f"{count} checks, {failed} failed: {bundle.manifest.name} {bundle.manifest.version}")
        raise typer.Exit(1 if failed else 0)

    @group.command("verify")
    def verify(path: Path = typer.Argument(exists=True, file_okay=False, help="Folder of a bundle.")) -> None:
        """Check every digest and the signature."""
        bundle = open_bundle(path, catalogue().trust())
        manifest = bundle.manifest
        typer.echo(f"{manifest.name} {manifest.version}: {len(manifest.files)} files hold, signed by {bundle.signer}")


def _making(group: typer.Typer, home: Callable[[], Path]) -> None:
    @group.command("pack")
    def pack_bundle(
        source: Path = typer.Argument(exists=True, file_okay=False, help="Folder with detector.yaml, models and card."),
        out: Path | None = typer.Option(None, "--out", "-o", help="Folder to make; left out: NAME-VERSION here."),
    ) -> None:
        """Make a bundle: the digest of every file goes into its manifest. Sign it next."""
        manifest = parse_manifest(read_file(source, MANIFEST_NAME, MANIFEST_BYTES))
        bundle = pack(source, out or Path(f"{manifest.name}-{manifest.version}"))
        typer.echo(str(bundle.root))

    @group.command("sign")
    def sign(
        path: Path = typer.Argument(exists=True, file_okay=False, help="Folder of a bundle."),
        key: Path | None = typer.Option(None, help="Private key (PEM, EC P-256); left out: this installation's own."),
        archive: bool = typer.Option(False, "--archive", help="Write the signed bundle as one file beside it too."),
    ) -> None:
        """Sign a bundle; this installation's own key is made, and trusted here, the first time."""
        private = key or home() / "keys" / f"{_LOCAL_KEY}.key"
        if key is None and not private.exists():
            public = home() / "trust" / f"{_LOCAL_KEY}.pub"
            for folder in (private.parent, public.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            typer.echo(f"Made the key {private}; this installation trusts {generate_key(private, public)}.", err=True)
        bundle = sign_bundle(path, private)
        typer.echo(f"{bundle.manifest.name} {bundle.manifest.version}: signed by {bundle.signer}")
        if archive:
            typer.echo(str(write_archive(bundle.root, bundle.root.resolve().parent)))


def _keeping(group: typer.Typer, catalogue: Callable[[], Catalogue]) -> None:
    @group.command("add")
    def add(path: Path = typer.Argument(exists=True, help="Folder of a signed bundle, or its archive.")) -> None:
        """Verify a bundle, try its models, and take it in; a running server has it at the next request."""
        entry = catalogue().add(path)
        typer.echo(f"{entry.name} {entry.version}: added")

    @group.command("remove")
    def remove(name: str = typer.Argument(help="NAME@VERSION of an added detector.")) -> None:
        """Delete an added version."""
        bare, _, version = name.partition("@")
        if not version:
            raise typer.BadParameter("name the version too, as in my-detector@1.2.0")
        catalogue().remove(bare, version)
        typer.echo(f"{bare} {version}: removed")
