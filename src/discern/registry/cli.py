"""`discern detector`: look at bundles, make them, and take them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from discern.core.errors import OperatorError
from discern.detectors.bundle import Bundle, open_bundle, read_file
from discern.detectors.manifest import MANIFEST_NAME
from discern.detectors.manifest_file import MANIFEST_BYTES, parse_manifest
from discern.detectors.onnx.graph import inspect_graph
from discern.detectors.packing import pack, write_archive
from discern.detectors.signing import generate_key, sign_bundle
from discern.inputs.spec import RecordField, RecordSpec
from discern.registry.service import Catalogue
from discern.registry.types import Usable, split_reference, summary, takes
from discern.tables import print_table

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
    def list_detectors(
        as_json: bool = typer.Option(False, "--json", help="One JSON object a line instead of a table."),
    ) -> None:
        """List every bundle that was found, refused ones with the reason."""
        if as_json:
            for entry in catalogue().all():
                typer.echo(msgspec.json.encode(summary(entry)).decode())
            return
        table = Table("Detector", "Version", "Takes", "Origin", "State", box=None, pad_edge=False)
        for entry in catalogue().all():
            kinds, state = "", "[green]usable[/]"
            if isinstance(entry, Usable):
                kinds = ", ".join(takes(entry.bundle.manifest))
            else:
                state = f"[red]refused[/]: {escape(entry.reason)}"
            table.add_row(escape(entry.name), escape(entry.version), kinds, entry.origin, state)
        print_table(table)

    @group.command("show")
    def show(
        target: str = typer.Argument(help="NAME[@VERSION], or the folder of a bundle."),
        card: bool = typer.Option(True, help="Show the detector's card too."),
    ) -> None:
        """Show what a bundle says of itself, and what its models are."""
        bundle = _bundle(catalogue(), target)
        for line in _described(bundle):
            typer.echo(line)
        if card:
            from rich.markdown import Markdown  # noqa: PLC0415 - slow to import, and only shown here

            Console().print(Markdown(bundle.card()))

    @group.command("check")
    def check(target: str = typer.Argument(help="NAME[@VERSION], or the folder of a bundle.")) -> None:
        """Run the executable contract; exit 1 where a check fails."""
        from discern.detectors.checks.run import run_checks  # noqa: PLC0415 - other commands do without

        bundle = _bundle(catalogue(), target)
        console, failed, count = Console(), 0, 0
        for result in run_checks(bundle, catalogue().limits):
            count += 1
            failed += not result.passed
            state = "[green]pass[/]" if result.passed else "[red]FAIL[/]"
            console.print(state, escape(result.name), escape(result.detail), highlight=False, soft_wrap=True)
        typer.echo(f"{count} checks, {failed} failed: {bundle.manifest.name} {bundle.manifest.version}")
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
                _make_private(folder)
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
        bare, version = split_reference(name)
        if version is None:
            raise typer.BadParameter("name the version too, as in my-detector@1.2.0")
        catalogue().remove(bare, version)
        typer.echo(f"{bare} {version}: removed")


def _bundle(catalogue: Catalogue, target: str) -> Bundle:
    """Return an installed bundle, or the one in a folder, whose signature is then not asked for."""
    if Path(target).is_dir():
        return open_bundle(Path(target), None)
    return catalogue.find(*split_reference(target)).bundle


def _described(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    rule = manifest.decision
    yield f"{manifest.name} {manifest.version}: {manifest.task}"
    yield f"takes {', '.join(takes(manifest))}; stages {' -> '.join(stage.name for stage in manifest.stages)}"
    yield f"review from {rule.review_from:g}, flag from {rule.flag_from:g}"
    if rule.bands is not None:
        for step in rule.bands.steps:
            start = f"where {rule.bands.field} is {step.from_:g} or more"
            yield f"  {start}: review from {step.review_from:g}, flag from {step.flag_from:g}"
    yield "chosen by:"
    yield from (f"  {key}: {value}" for key, value in rule.chosen_by.items())
    if isinstance(manifest.input, RecordSpec):
        yield "fields:"
        yield from (f"  {_field(entry)}" for entry in manifest.input.fields)
    for stage in manifest.stages:
        yield from _model(bundle, f"stage {stage.name}", stage.model)
    for variant in manifest.variants:
        yield f"variant {variant.name}{', which answers' if variant.name == manifest.serves else ''}:"
        for name, model in variant.models.items():
            yield from (f"  {line}" for line in _model(bundle, f"stage {name}", model))
        yield from (f"  {key}: {value}" for key, value in variant.evidence.items())
    yield f"digest {bundle.digest}, {f'signed by {bundle.signer}' if bundle.signer else 'signature not checked'}"
    yield str(bundle.root)


def _model(bundle: Bundle, what: str, file: str) -> Iterator[str]:
    graph = inspect_graph(bundle.read(file), file)
    takes_in = ", ".join(f"{one.name} {one.dtype} {list(one.shape or ())}" for one in graph.inputs)
    gives = ", ".join(f"{one.name} {one.dtype} {list(one.shape or ())}" for one in graph.outputs)
    opsets = ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in graph.opsets.items())
    yield f"{what}: {file}, {graph.nodes} nodes, {graph.weight_bytes} bytes of weights, {opsets}"
    yield f"  {takes_in} -> {gives}"


def _field(entry: RecordField) -> str:
    facts = entry.model_dump(exclude={"name", "type", "description"}, exclude_defaults=True)
    limits = ", ".join(f"{key} {value}" for key, value in facts.items())
    return f"{entry.name} ({entry.type}{', ' + limits if limits else ''}): {entry.description}"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{folder} cannot be made: {error.strerror}.", mend="See DISCERN_HOME.") from error
