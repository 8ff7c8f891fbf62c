"""`detector.yaml` as bytes: read strictly, written plainly.

- Aliases, anchors, merge keys, explicit tags and keys given twice are refused: the text means one thing and cannot
  blow up.
- Every fault of the manifest is named in one error, by its key path.
- What `dump_manifest` writes, `parse_manifest` reads back identical.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from discern.core.errors import BundleRefused
from discern.detectors.manifest import MANIFEST_NAME, Manifest
from discern.detectors.refusal import printable, refused

MANIFEST_BYTES = 1_000_000
_DEPTH = 32
_FAULTS = 100
_MEND = "Correct the manifest; docs/reference/detector.schema.json says what may stand in it."
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _NotPlain(yaml.YAMLError):
    """YAML that is well-formed and still not taken."""

    def __init__(self, problem: str, mark: object) -> None:
        super().__init__(problem)
        self.problem = problem
        self.problem_mark = mark


class _Loader(_BaseLoader):  # type: ignore[misc] # the base is chosen at run time: libyaml's where it is built in
    """The safe loader, with keys given twice and merge keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, Any]] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise _NotPlain("merge keys (<<) are not taken", key.start_mark)
            identity = (key.tag, key.value if isinstance(key.value, str) else id(key))
            if identity in seen:
                raise _NotPlain(f"the key {printable(key.value, 80)!r} is given twice", key.start_mark)
            seen.add(identity)
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return result


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest. Raises BundleRefused with every fault in the fact `faults` and in `reason`."""
    data = load_manifest(content)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        faults = [
            _fault(one["loc"], one["msg"], data) for one in error.errors(include_url=False, include_context=False)
        ]
    shown = faults[:_FAULTS] + ([f"and {len(faults) - _FAULTS} more"] if len(faults) > _FAULTS else [])
    reason = "; ".join(shown)
    raise BundleRefused(f"{MANIFEST_NAME}: {reason}.", mend=_MEND, file=MANIFEST_NAME, reason=reason, faults=shown)


def load_manifest(content: bytes) -> dict[str, Any]:
    """Return the plain data of a manifest, not yet checked against its fields. Raises BundleRefused."""
    if len(content) > MANIFEST_BYTES:
        raise refused(MANIFEST_NAME, f"it has {len(content)} bytes and at most {MANIFEST_BYTES} are read")
    try:
        text = content.decode("utf-8")
        _check_events(text)
        data = yaml.load(text, Loader=_Loader)  # nosec B506  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as error:
        raise refused(MANIFEST_NAME, _syntax(error), _MEND) from None
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:  # bad UTF-8; a date, number or key out of range
        raise refused(MANIFEST_NAME, f"it cannot be read: {printable(error)}", _MEND) from None
    if not isinstance(data, dict):
        raise refused(MANIFEST_NAME, "it is not a mapping of keys to values", _MEND)
    return data


def dump_manifest(data: Mapping[str, Any]) -> bytes:
    """Return plain data as YAML in UTF-8, keys in the order given, without aliases."""

    class Dumper(_BaseDumper):  # type: ignore[misc] # as above
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is the base's
            return True

    text: str = yaml.dump(dict(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text.encode("utf-8")


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _NotPlain("anchors and aliases are not taken", event.start_mark)
        if getattr(event, "tag", None):
            raise _NotPlain("explicit tags are not taken", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH:
                raise _NotPlain(f"it is nested more than {_DEPTH} levels deep", event.start_mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return f"{place}{printable(problem)}"


def _fault(location: tuple[int | str, ...], message: str, data: object) -> str:
    """Return "key.path: reason". Pydantic puts the tag of a union into the location; the manifest has no such key."""
    path: list[str] = []
    here: Any = data
    for position, step in enumerate(location):
        last = position == len(location) - 1
        in_list = isinstance(here, list) and isinstance(step, int) and step < len(here)
        if in_list or (isinstance(here, dict) and step in here):
            here = here[step]
        elif not last or step == "[key]":
            continue
        path.append(str(step))
    return f"{printable('.'.join(path), 200) or 'the manifest'}: {printable(_plain(message))}"


def _plain(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "unknown key"
    if message == "Field required":
        return "missing"
    return message.removeprefix("Value error, ")
