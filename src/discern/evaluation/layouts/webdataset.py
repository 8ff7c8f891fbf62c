"""WebDataset: tar files whose members share a key up to the first dot, `KEY.jpg` beside `KEY.json` or `KEY.cls`.

- Members are read from the tar file and nothing is unpacked to disk.
- `KEY.cls` holds the class as text; of `KEY.json` the options say which members are label, group and split.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from discern.core.errors import DatasetRefused
from discern.evaluation.layouts.folder import GROUP_IS_THE_FILE
from discern.evaluation.layouts.reading import IMAGES, VIDEOS, check_options, choice, files_below, nothing_found, words
from discern.evaluation.types import ItemKind, Label
from discern.evaluation.types_datasets import FoundItem, FoundMedia

OPTIONS: Mapping[str, str] = {
    "positive": "Labels of the positive class, separated by commas; 1 where left out.",
    "negative": "Labels of the negative class; 0 where left out.",
    "label": "The member of KEY.json that is the label; label where left out. KEY.cls is taken where it is there.",
    "group": "The member of KEY.json that is the group.",
    "split": "The member of KEY.json that is the split; left out, shards named for a split say it.",
    "media": "image or video.",
}
_MOST_TEXT_BYTES = 1_000_000
_SPLITS = ("train", "valid", "val", "test")


def find(root: Path, options: Mapping[str, str]) -> FoundMedia:
    """Return the samples of every tar file below the root. Raises DatasetRefused."""
    check_options("webdataset", OPTIONS, options)
    kind: ItemKind = "video" if choice(options, "media", ("image", "video")) == "video" else "image"
    shards = files_below(root, frozenset({".tar"}))
    if not shards:
        raise nothing_found("webdataset", "tar files with KEY.jpg beside KEY.json or KEY.cls")
    positive = words(options.get("positive", "1"))
    negative = words(options.get("negative", "0"))
    items = [
        _item(f"{shard}!{path}", facts, options, (positive, negative), shard)
        for shard in shards
        for path, facts in _samples(root / shard, VIDEOS if kind == "video" else IMAGES)
    ]
    caveats = () if "group" in options else (GROUP_IS_THE_FILE,)
    return FoundMedia(kind, (", ".join(negative), ", ".join(positive)), items, tuple(shards), caveats)


def _samples(shard: Path, suffixes: frozenset[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each picture or clip of a shard by its name, with what stands beside it."""
    media: dict[str, str] = {}
    beside: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                key, suffix = _key(member.name)
                if suffix in suffixes:
                    if key in media:
                        raise DatasetRefused(f"{shard.name} has two samples {key}.", mend="Pack it anew.")
                    media[key] = member.name
                elif suffix in {".json", ".cls"} and member.size <= _MOST_TEXT_BYTES:
                    content = archive.extractfile(member)
                    text = b"" if content is None else content.read()
                    beside.setdefault(key, {}).update(_facts(text, suffix, f"{shard.name}!{member.name}"))
    except (tarfile.TarError, OSError) as error:
        raise DatasetRefused(f"{shard.name} is not a tar file that can be read: {error}.", mend="See it.") from error
    for key in sorted(media):
        yield media[key], beside.get(key, {})


def _key(name: str) -> tuple[str, str]:
    folder, _, base = name.rpartition("/")
    key, _, rest = base.partition(".")
    return f"{folder}/{key}", PurePosixPath(f"x.{rest}").suffix.lower()


def _facts(text: bytes, suffix: str, where: str) -> dict[str, Any]:
    try:
        if suffix == ".cls":
            return {".cls": text.decode().strip()}
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetRefused(f"{where} cannot be read: {error}.", mend="Pack it anew.") from error
    if not isinstance(found, dict):
        raise DatasetRefused(f"{where} is not a JSON object.", mend="Pack it anew.")
    return found


def _item(
    path: str,
    facts: Mapping[str, Any],
    options: Mapping[str, str],
    classes: tuple[tuple[str, ...], tuple[str, ...]],
    shard: str,
) -> FoundItem:
    said = facts.get(".cls", facts.get(options.get("label", "label")))
    text = str(int(said)) if isinstance(said, bool) else str(said)
    if said is None or text not in (*classes[0], *classes[1]):
        raise DatasetRefused(
            f"The label of {path} is {text[:100]!r}.", mend="Say with positive and negative what the labels are."
        )
    label: Label = 1 if text in classes[0] else 0
    group = facts.get(options["group"]) if "group" in options else path
    if group is None or not str(group):
        raise DatasetRefused(f"{path} has no group.", mend="Correct the sample, or leave the option group out.")
    if "split" in options:
        split = facts.get(options["split"])
    else:
        name = PurePosixPath(shard).name
        split = next((word for word in _SPLITS if name.startswith(word)), None)
    return FoundItem(path, label, str(group), None if split is None else str(split))
