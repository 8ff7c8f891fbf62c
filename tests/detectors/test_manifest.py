"""The manifest: what it refuses, how it says so, and that it is read as one thing only."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from discern.core.errors import BundleRefused
from discern.detectors.manifest import Manifest
from discern.detectors.manifest_file import MANIFEST_BYTES, dump_manifest, load_manifest, parse_manifest
from discern.detectors.schema import manifest_schema
from tests.detectors import models


def refusal(manifest: dict[str, Any] | bytes | str) -> BundleRefused:
    content = manifest.encode() if isinstance(manifest, str) else manifest
    with pytest.raises(BundleRefused) as caught:
        parse_manifest(content if isinstance(content, bytes) else dump_manifest(content))
    assert caught.value.facts["file"] == "detector.yaml"
    assert caught.value.facts["reason"]
    return caught.value


def faults(manifest: dict[str, Any]) -> list[str]:
    found = refusal(manifest).facts["faults"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    "manifest", [models.record_manifest(), models.image_manifest(), models.cascade_manifest()], ids=lambda m: m["name"]
)
def test_a_manifest_written_and_read_back_is_identical(manifest: dict[str, Any]) -> None:
    first = parse_manifest(dump_manifest(manifest))
    again = parse_manifest(dump_manifest(first.model_dump(mode="json")))
    assert again == first
    assert dump_manifest(again.model_dump(mode="json")) == dump_manifest(first.model_dump(mode="json"))


def test_unknown_keys_are_refused_at_every_depth() -> None:
    manifest = models.cascade_manifest(surprise=1)
    manifest["input"] = {**manifest["input"], "widht": 3}
    manifest["stages"] = [{**manifest["stages"][0], "colour": "red"}, manifest["stages"][1]]
    manifest["stages"][0]["exits"] = {"clear_below": 0.1, "flag_above": 0.9, "maybe": 1}
    assert sorted(faults(manifest)) == [
        "input.widht: unknown key",
        "stages.0.colour: unknown key",
        "stages.0.exits.maybe: unknown key",
        "surprise: unknown key",
    ]


def test_every_fault_is_named_by_its_key_path_in_one_error() -> None:
    manifest = models.record_manifest(version="1.0", format=2)
    del manifest["card"]
    manifest["input"]["fields"][1] = {"name": "b", "type": "number", "minimum": "low"}
    found = faults(manifest)
    assert [fault.partition(":")[0] for fault in found] == ["format", "version", "input.fields.1.minimum", "card"]
    assert "card: missing" in found
    error = refusal(manifest)
    assert all(fault in str(error) for fault in found)


def test_a_flood_of_faults_is_counted_not_listed() -> None:
    found = faults(models.record_manifest(**{f"k{i}": 1 for i in range(500)}))
    assert len(found) == 101
    assert found[-1] == "and 400 more"


def test_what_a_manifest_says_cannot_reach_the_terminal_raw() -> None:
    message = str(refusal({**models.record_manifest(), "\x1b[31mred": 1, "k" * 5000: 1}))
    assert message.isprintable()
    assert "k" * 400 not in message


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"decision": {"review_from": 0.9, "flag_from": 0.5}}, "review_from 0.9 is above flag_from 0.5"),
        ({"decision": {"review_from": float("nan"), "flag_from": 0.5}}, "decision.review_from"),
        ({"decision": {"review_from": 0.05, "flag_from": 0.8}}, "an exit would decide otherwise"),
        ({"decision": {"review_from": 0.4, "flag_from": 0.95}}, "an exit would decide otherwise"),
        ({"video": {"frames": 2, "top": 3}}, "top (3) is more than frames (2)"),
        ({"name": "Toy Record"}, "name"),
        ({"version": "01.0.0"}, "version"),
        ({"version": "1.0.0\n"}, "version"),
        ({"card": "../CARD.md"}, "plain relative path"),
        ({"card": "/etc/passwd"}, "plain relative path"),
        ({"card": "a//b.md"}, "plain relative path"),
        ({"files": {"../x.onnx": "0" * 64}}, "plain relative path"),
        ({"files": {"x.onnx": "0" * 63}}, "files.x.onnx"),
        ({"stages": []}, "stages"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], where: str) -> None:
    assert where in str(refusal(models.cascade_manifest(**change)))


def test_video_needs_an_image_detector() -> None:
    assert "only a detector with `input.kind: image`" in str(
        refusal(models.record_manifest(video={"frames": 1, "top": 1}))
    )


def stages(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    one, two = models.cascade_manifest()["stages"]
    return models.cascade_manifest(stages=[one | first, two | second])


@pytest.mark.parametrize(
    ("manifest", "where"),
    [
        (stages({"exits": None}, {}), "every other stage needs them"),
        (stages({}, {"exits": {"clear_below": 0.1, "flag_above": 0.9}}), "the last stage has no exits"),
        (stages({}, {"name": "screen"}), "two stages have the same name"),
        (stages({}, {"takes": {"image": "input", "x": "expert.score"}}), "no earlier stage is called 'expert'"),
        (stages({}, {"takes": {"image": "input", "x": "score"}}), "x takes 'score'"),
        (stages({"takes": {"x": "expert.score"}}, {}), "no earlier stage is called 'expert'"),
        (stages({"model": "screen.pt"}, {}), "models are ONNX only"),
        (stages({"model": "../screen.onnx"}, {}), "stages.0.model"),
        (stages({"calibration": {"temperature": 0}}, {}), "stages.0.calibration.temperature"),
    ],
)
def test_stages_that_do_not_fit_are_refused(manifest: dict[str, Any], where: str) -> None:
    assert where in str(refusal(manifest))


def plain(extra: str) -> str:
    return yaml.safe_dump(models.record_manifest(), sort_keys=False) + extra


def bomb() -> str:
    levels = [f"l{i}: &l{i} [{', '.join(['*l' + str(i - 1)] * 9)}]" for i in range(1, 12)]
    return "\n".join(["l0: &l0 [a]", *levels])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (bomb(), "anchors and aliases are not taken"),
        (plain("chosen: &a 1\n"), "anchors and aliases are not taken"),
        (plain("name: other\n"), "the key 'name' is given twice"),
        ("decision: {review_from: 0.1, review_from: 0.2}", "the key 'review_from' is given twice"),
        ("<<: {format: 1}\n", "merge keys"),
        ("format: !!python/object/apply:os.system ['true']\n", "explicit tags are not taken"),
        ("format: !!binary aGk=\n", "explicit tags are not taken"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 32 levels"),
        ("a: " + "[" * 200_000, "nested more than 32 levels"),
        ("format: 1\n---\nformat: 1\n", "document"),
        ("format: [1\n", "line 2"),
        ("- format\n", "not a mapping"),
        ("", "not a mapping"),
        ("? [a, b]\n: 1\n", "unhashable key"),
        ("when: 2024-99-99\n", "cannot be read"),
        ("many: " + "9" * 5000, "cannot be read"),
        ("a: \x07", "detector.yaml"),
    ],
    ids=lambda value: value[:24],
)
def test_yaml_that_could_mean_two_things_or_blow_up_is_refused(text: str, reason: str) -> None:
    assert reason in str(refusal(text))


def test_bytes_that_are_not_utf8_and_too_many_bytes_are_refused() -> None:
    assert "utf-8" in str(refusal(b"name: \xff\n"))
    assert f"at most {MANIFEST_BYTES}" in str(refusal(b"#" * (MANIFEST_BYTES + 1)))


def test_values_are_read_as_plain_data() -> None:
    assert load_manifest(b"a: [1, 2.5, yes, null, text]\n") == {"a": [1, 2.5, True, None, "text"]}


def test_the_published_schema_says_what_the_manifest_says() -> None:
    schema = manifest_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "$id" not in schema
    assert set(schema["properties"]) == set(Manifest.model_fields)
    assert schema["additionalProperties"] is False
    closed = [name for name, one in schema["$defs"].items() if one.get("type") == "object"]
    assert all(schema["$defs"][name]["additionalProperties"] is False for name in closed)
    assert len(closed) >= 10
    assert json.dumps(schema) == json.dumps(manifest_schema())


EVENTS = [{"name": "yawn", "of": "only", "from": 0.5, "shortest_seconds": 2}]
STREAM = {"window_seconds": 60, "measure": "mean", "flag_at": 0.5, "events": EVENTS}


def test_a_rule_that_looks_for_events_is_read_back_as_it_was_written() -> None:
    also = [{"event": "yawn", "measure": "count", "review_at": 2, "flag_at": 3, "clear_below": 2}]
    manifest = models.image_manifest(stream=STREAM | {"also": also, "known_from": 0.6}, video={"pool": "windows"})
    read = parse_manifest(dump_manifest(manifest))
    assert read == parse_manifest(dump_manifest(read.model_dump(mode="json", by_alias=True)))
    assert read.stream is not None
    assert read.stream.sources == {None, "only"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"events": [EVENTS[0] | {"of": "ears"}]}, "no stage is called 'ears'"),
        ({"events": EVENTS * 2}, "two events have the same name"),
        ({"events": [EVENTS[0] | {"longest_seconds": 1}]}, "longest_seconds is below"),
        ({"events": [EVENTS[0] | {"shortest_seconds": 0}]}, "shortest_seconds"),
        ({"also": [{"event": "nap", "measure": "count", "flag_at": 1}]}, "no event is called 'nap'"),
        ({"also": [{"event": "yawn", "measure": "sum", "flag_at": 1}]}, "measure"),
        ({"also": [{"event": "yawn", "measure": "count", "flag_at": 1}] * 2}, "listed twice"),
        ({"also": [{"event": "yawn", "measure": "count", "flag_at": 1, "review_at": 2}]}, "is above flag_at"),
        ({"known_from": 1.5}, "known_from"),
    ],
)
def test_rules_of_events_that_contradict_themselves_are_refused(changes: dict[str, Any], fault: str) -> None:
    assert any(fault in one for one in faults(models.image_manifest(stream=STREAM | changes)))


def test_windows_over_a_clip_need_the_rule_of_a_stream() -> None:
    assert any("`stream`" in one for one in faults(models.image_manifest(video={"pool": "windows"})))
