"""`discern dataset`: what a detector is measured on, frozen so that a result can name it.

- The exit code of `check` is 0 when every file is what was frozen and nothing leaks, 1 when not.
- Progress is on standard error where a person watches; what was found is on standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from discern.core.errors import DatasetRefused
from discern.detectors.refusal import printable
from discern.evaluation.datasets import (
    check_files,
    examples_of,
    freeze,
    read_manifest,
    roles_of,
    sides_of,
    with_split,
    write_manifest,
)
from discern.evaluation.datasets_freezing import Watch
from discern.evaluation.datasets_leakage import leakage
from discern.evaluation.layouts.registry import LAYOUTS, layout_of
from discern.evaluation.types_datasets import Change, FrozenManifest, Leakage, SplitByGroup, SplitByTime, SplitRule

_LAYOUT_HELP = f"How it lies on disk: {', '.join(LAYOUTS)}. `discern dataset layouts` says more."
_ROOT_HELP = "Folder the dataset lies in."
_BESIDE_HELP = f"{_ROOT_HELP[:-1]}; left out: that of the manifest."
_MANIFEST_HELP = "Manifest of the dataset."


def dataset_commands() -> typer.Typer:
    """Return the `dataset` group."""
    group = typer.Typer(name="dataset", help="What detectors are measured on.", no_args_is_help=True)
    _add_freeze(group)
    _add_reading(group)
    _add_check(group)
    _add_split(group)
    return group


def _add_freeze(group: typer.Typer) -> None:
    @group.command("freeze")
    def freeze_dataset(
        root: Path = typer.Argument(metavar="PATH", help=_ROOT_HELP),
        layout: str = typer.Option(..., "--layout", "-l", help=_LAYOUT_HELP),
        output: Path = typer.Option(..., "--output", "-o", dir_okay=False, help="Manifest to write; JSON."),
        name: str | None = typer.Option(None, help="Name of the dataset; left out: that of the folder."),
        positive: str | None = typer.Option(None, help="Class or values that the detector looks for."),
        label: str | None = typer.Option(None, help="Column of the label."),
        group: str | None = typer.Option(None, help="Column of what must not stand on both sides of a split."),
        option: list[str] = typer.Option([], "--option", "-O", help="KEY=VALUE for the layout; may be given again."),
        frames: int | None = typer.Option(None, min=1, help="So many evenly spaced frames of each video are named."),
        leave_out_unreadable: bool = typer.Option(False, help="Leave out files that cannot be used, and say so."),
        never_show: bool = typer.Option(False, "--never-show", help="No report may hold pictures of its items."),
        as_json: bool = typer.Option(False, "--json", help="JSON instead of text."),
    ) -> None:
        """Read a dataset once and write the manifest that pins it: digests, labels, groups, sides."""
        options = dict(_pair(text) for text in option)
        named = {"positive": positive, "label": label, "group": group}
        options |= {key: value for key, value in named.items() if value is not None}
        with _watching("Freezing") as watch:
            manifest = freeze(
                root,
                layout,
                options,
                name=name,
                frames=frames,
                leave_out_unreadable=leave_out_unreadable,
                may_be_shown=not never_show,
                watch=watch,
            )
        write_manifest(output, manifest)
        _print(manifest, as_json=as_json)
        typer.echo(f"Wrote {printable(output)}.", err=True)


def _add_reading(group: typer.Typer) -> None:
    @group.command("show")
    def show(
        manifest: Path = typer.Argument(help=_MANIFEST_HELP),
        sha256: str | None = typer.Option(None, help="Refuse a manifest of another digest."),
        as_json: bool = typer.Option(False, "--json", help="JSON instead of text."),
    ) -> None:
        """Say what a manifest pins, and with which reservations."""
        _print(read_manifest(manifest, sha256), as_json=as_json)

    @group.command("layouts")
    def layouts(name: str | None = typer.Argument(None, help="One of them: its options are said too.")) -> None:
        """List the layouts, or the options of one."""
        if name is None:
            for key, entry in LAYOUTS.items():
                typer.echo(f"{key:<20} {entry.summary}")
            return
        options = layout_of(name).OPTIONS
        typer.echo(LAYOUTS[name].summary)
        for key, text in options.items():
            typer.echo(f"  {key:<16} {text}")


def _add_check(group: typer.Typer) -> None:
    @group.command("check")
    def check(
        manifest: Path = typer.Argument(help=_MANIFEST_HELP),
        root: Path | None = typer.Argument(None, help=_BESIDE_HELP),
        against: Path | None = typer.Option(None, help="Manifest of a second dataset, such as that of the training."),
        against_root: Path | None = typer.Option(None, help="Folder of the second dataset; left out: the same one."),
        pictures: bool = typer.Option(True, help="Compare pictures, for which every one is decoded."),
        as_json: bool = typer.Option(False, "--json", help="JSON instead of text."),
    ) -> None:
        """Check that files are what was frozen, and that the sides of a split, or two datasets, share nothing.

        Exit code: 0 when both hold, 1 when one does not.
        """
        frozen, root = read_manifest(manifest), root or manifest.absolute().parent
        other = None if against is None else read_manifest(against)
        with _watching("Reading") as watch:
            changes = check_files(frozen, root, watch)
            if other is not None:
                changes += check_files(other, against_root or root, watch)
        found = None
        if not changes:
            with _watching("Comparing") as watch:
                found = leakage(frozen, root, other, against_root, near=pictures, watch=watch)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode({"changes": changes, "leakage": found})).decode())
        else:
            _print_check(changes, found)
        raise typer.Exit(1 if changes or (found is not None and found.leaks) else 0)


def _add_split(group: typer.Typer) -> None:
    @group.command("split")
    def split(
        manifest: Path = typer.Argument(help=_MANIFEST_HELP),
        output: Path = typer.Option(..., "--output", "-o", dir_okay=False, help="Manifest to write; JSON."),
        root: Path | None = typer.Option(None, help=f"{_BESIDE_HELP} Only records are read again."),
        share: list[str] = typer.Option([], "--share", help="SIDE=SHARE, whole groups by their hash; given again."),
        period: list[str] = typer.Option([], "--period", help="SIDE=FIRST..LAST, days; given again."),
        seed: int = typer.Option(0, min=0, help="Seed of the hash of groups."),
        delay_days: int = typer.Option(0, min=0, help="Days until a label is known: the least between two periods."),
        as_json: bool = typer.Option(False, "--json", help="JSON instead of text."),
    ) -> None:
        """Write a manifest with sides by group or by time, in place of those it had; its digest is another one."""
        root = root or manifest.absolute().parent
        made = with_split(read_manifest(manifest), _rule(share, period, seed, delay_days), root)
        write_manifest(output, made)
        _print(made, as_json=as_json)
        if made.table is not None:
            roles = roles_of(made, root)
            for line in _sides(sides_of(made, roles).tolist(), roles.labels.tolist()):
                typer.echo(line)
        typer.echo(f"Wrote {printable(output)}.", err=True)


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise typer.BadParameter(f"{text!r}: write KEY=VALUE.")
    return key.strip(), value.strip()


def _rule(shares: list[str], periods: list[str], seed: int, delay_days: int) -> SplitRule:
    if bool(shares) == bool(periods):
        raise typer.BadParameter("Give --share or --period, more than once; not both.")
    try:
        if shares:
            return SplitByGroup(seed, {side: float(share) for side, share in map(_pair, shares)})
        parted = {side: days.partition("..") for side, days in map(_pair, periods)}
    except ValueError as error:
        raise typer.BadParameter(f"A share is a number: {error}.") from error
    return SplitByTime({side: (first, last or first) for side, (first, _, last) in parted.items()}, delay_days)


def _print(manifest: FrozenManifest, *, as_json: bool) -> None:
    if as_json:
        facts = msgspec.to_builtins(manifest) | {"sha256": manifest.sha256, "items": len(manifest.items)}
        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return
    lines = [
        ("Dataset", manifest.name),
        ("Digest", manifest.sha256),
        ("Layout", " ".join([manifest.layout, *(f"{key}={value}" for key, value in sorted(manifest.options.items()))])),
        *_counted(manifest),
    ]
    for title, text in lines:
        typer.echo(f"{title:<10} {printable(text)}")
    if not manifest.may_be_shown:
        typer.echo(f"{'Pictures':<10} may not be shown in reports")
    for caveat in manifest.caveats:
        typer.echo(f"{'Caveat':<10} {printable(caveat)}")


def _counted(manifest: FrozenManifest) -> Iterator[tuple[str, str]]:
    negative, positive = manifest.classes
    table = manifest.table
    if table is not None:
        yield "Records", f"{table.kept:,} of {table.rows:,} rows in {len(table.paths)} files, {table.groups:,} groups"
        yield "Classes", f"{negative}: {table.kept - table.positives:,}; {positive}: {table.positives:,}"
        if manifest.split_rule is not None:
            yield "Sides", _said(manifest.split_rule)
        return
    examples = examples_of(manifest)
    positives = int(examples.labels.sum())
    yield "Items", f"{len(examples.ids):,} {manifest.kind}s, {len(np.unique(examples.groups)):,} groups"
    yield "Classes", f"{negative}: {len(examples.ids) - positives:,}; {positive}: {positives:,}"
    for line in _sides([item.split for item in manifest.items], examples.labels.tolist()):
        title, _, text = line.partition(" ")
        yield title, text.strip()
    for name, values in examples.subgroups.items():
        kinds, counts = np.unique(values.astype(str), return_counts=True)
        shown = ", ".join(f"{kind} {count:,}" for kind, count in zip(kinds[:12], counts[:12], strict=True))
        yield name[:10], shown + (f" and {len(kinds) - 12:,} more" if len(kinds) > 12 else "")


def _said(rule: SplitRule) -> str:
    if isinstance(rule, SplitByGroup):
        shares = ", ".join(f"{side} {share:g}" for side, share in rule.shares.items())
        return f"by group, seed {rule.seed}: {shares}"
    periods = ", ".join(f"{side} {first} to {last}" for side, (first, last) in rule.periods.items())
    apart = f", at least {rule.delay_days} days apart" if rule.delay_days else ""
    return f"by time{apart}: {periods}"


def _sides(sides: list[str | None], labels: list[int]) -> Iterator[str]:
    for side in sorted({side for side in sides if side is not None}):
        mine = [label for one, label in zip(sides, labels, strict=True) if one == side]
        yield f"{'Side':<10} {printable(side)}: {len(mine):,}, {sum(mine):,} of them positive"
    nowhere = sum(side is None for side in sides)
    if nowhere and nowhere < len(sides):
        yield f"{'Side':<10} in none: {nowhere:,}"


def _print_check(changes: list[Change], found: Leakage | None) -> None:
    if changes:
        for change in changes[:20]:
            typer.echo(f"{change.what:<10} {printable(change.path)}")
        more = f" {len(changes) - 20:,} more are not shown." if len(changes) > 20 else ""
        typer.echo(f"{len(changes):,} files are not what was frozen.{more} Nothing else was looked at.")
        return
    typer.echo("Every file is what was frozen.")
    if found is None:
        raise DatasetRefused("Nothing was compared.", mend="Report this.")
    for finding in found.findings:
        between = f" ({printable(finding.sides[0])} and {printable(finding.sides[1])})" if any(finding.sides) else ""
        typer.echo(f"{'LEAK' if finding.leak else 'note'}: {finding.says} {finding.count:,}{between}")
        for left, right in finding.examples:
            typer.echo(f"      {printable(left)}  {printable(right)}")
    for identifier, reason in sorted(found.unreadable.items())[:20]:
        typer.echo(f"note: {printable(identifier)} could not be decoded: {printable(reason)}")
    for kind, reason in sorted(found.not_checked.items()):
        typer.echo(f"Not checked: {kind}. {reason}")
    typer.echo(f"Checked: {', '.join(found.checked) or 'nothing'}. {'It leaks.' if found.leaks else 'No leak.'}")


@contextmanager
def _watching(what: str) -> Iterator[Watch | None]:
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
