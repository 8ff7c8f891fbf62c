"""The commands as they are typed, run in this process on a home folder of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from discern.app import build_services
from discern.detectors.signing import generate_key
from discern.objects.types import Address
from discern.settings import load_settings
from tests.commands import Ran, Run
from tests.detectors import models
from tests.media import clip, encoded, jpeg, picture

pytestmark = pytest.mark.system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures in a folder, one deeper, a hidden one, and a file that is no picture."""
    folder = tmp_path / "inbox"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.jpg").write_bytes(jpeg(1))
    (folder / "deeper" / "a.png").write_bytes(encoded(picture(2), "PNG"))
    (folder / ".hidden.jpg").write_bytes(jpeg(3))
    (folder / "notes.txt").write_text("nothing to see")
    return folder


def rows(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.parametrize(("level", "decision", "code"), [(20, "clear", 0), (125, "review", 10), (250, "flag", 20)])
def test_the_exit_code_of_a_single_input_is_its_decision(
    run: Run, tmp_path: Path, level: int, decision: str, code: int
) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture().point(lambda _: level), "PNG"))
    ran = run("detect", path, "-d", "toy-image", "--json")
    assert (rows(ran)[0]["decision"], ran.code) == (decision, code)


def test_a_table_for_people_holds_the_decision(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg(1))
    ran = run("detect", tmp_path / "photo.jpg", "-d", "toy-image")
    assert "Decision" in ran.out
    assert "clear" in ran.out
    assert "photo.jpg" in ran.out


def test_a_folder_is_judged_in_order_and_what_cannot_be_is_said(run: Run, folder: Path) -> None:
    ran = run("detect", folder, "-d", "toy-image", "--json")
    found = rows(ran)
    assert [Path(row["path"]).name for row in found] == ["b.jpg", "a.png", "notes.txt"]
    assert [row.get("decision", row.get("error", {}).get("code")) for row in found[2:]] == ["unsupported_input"]
    assert ran.code == 1


def test_several_inputs_that_are_all_judged_end_well_whatever_the_verdicts(run: Run, folder: Path) -> None:
    (folder / "notes.txt").unlink()
    assert run("detect", folder, "-d", "toy-image").code == 0


def test_a_clip_is_judged_by_its_frames(run: Run, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip())
    row = rows(run("detect", tmp_path / "clip.mp4", "-d", "toy-image", "--json"))[0]
    assert (row["input"]["kind"], row["input"]["frames"], len(row["frames"])) == ("video", 4, 4)


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("one.json", '{"a": 1, "b": 2, "c": 3}', ["one.json"]),
        ("many.json", '[{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}]', ["many.json:1", "many.json:2"]),
        ("many.ndjson", '{"a": 1, "b": 2, "c": 3}\n\n{"a": 4, "b": 5, "c": 6}\n', ["many.ndjson:1", "many.ndjson:3"]),
    ],
)
def test_records_come_from_json_files(run: Run, tmp_path: Path, name: str, text: str, labels: list[str]) -> None:
    (tmp_path / name).write_text(text)
    ran = run("detect", tmp_path / name, "-d", "toy-record", "--json")
    assert [Path(row["path"]).name for row in rows(ran)] == labels
    assert all("score" in row for row in rows(ran))


def test_one_bad_line_does_not_end_the_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "many.ndjson").write_text('{"a": 1, "b": 2, "c": 3}\n{"a": \n{"a": 1}\n')
    ran = run("detect", tmp_path / "many.ndjson", "-d", "toy-record", "--json")
    assert [row.get("error", {}).get("code") for row in rows(ran)] == [None, "malformed_request", "invalid_record"]
    assert ran.code == 1


def test_the_detector_is_chosen_by_the_content_where_only_one_takes_it(run: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.json").write_bytes(jpeg())
    ambiguous = run("detect", tmp_path / "photo.json", "--json")
    assert (ambiguous.code, "Name one with -d NAME" in ambiguous.out) == (2, True)
    for name in ("toy-image", "toy-cascade"):
        shutil.rmtree(home / "detectors" / name)
    chosen = rows(run("detect", tmp_path / "photo.json", "--json"))[0]
    assert chosen.get("detector") == "synthetic-face" or chosen["error"]["code"] == "no_face_found"


def test_a_file_for_which_no_detector_can_be_chosen_does_not_end_the_run(run: Run, home: Path, tmp_path: Path) -> None:
    for name in ("toy-image", "toy-cascade"):
        shutil.rmtree(home / "detectors" / name)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.json").write_text('{"a": 1, "b": 2, "c": 3}')
    (inbox / "b.jpg").write_bytes(jpeg(4))
    ran = run("detect", inbox, "--json")
    assert rows(ran)[0]["error"]["code"] == "unknown_detector"
    assert rows(ran)[1]["detector"] == "synthetic-face"
    assert ran.code == 1


def test_names_that_a_terminal_or_a_table_would_act_on_are_shown_as_they_are(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "[red]x[b]\x1b[2J.jpg"
    path.write_bytes(jpeg())
    out = run("detect", path, "-d", "toy-image").out
    assert "[red]x[b]\\x1b[2J.jpg" in out


def test_more_inputs_than_may_wait_are_all_judged(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCERN_MAX_WAITING", "4")
    (tmp_path / "many.ndjson").write_text("".join(f'{{"a": {n % 90}, "b": 2, "c": 3}}\n' for n in range(100)))
    ran = run("detect", tmp_path / "many.ndjson", "-d", "toy-record", "--json")
    assert [row["path"].rpartition(":")[2] for row in rows(ran)] == [str(number) for number in range(1, 101)]
    assert ran.code == 0


def test_a_record_over_several_lines_is_one_record(run: Run, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps({"a": 1, "b": 2, "c": 3}, indent=2))
    assert len(rows(run("detect", tmp_path / "record.json", "-d", "toy-record", "--json"))) == 1


def test_a_line_of_any_length_is_refused_without_being_read_whole(run: Run, tmp_path: Path) -> None:
    (tmp_path / "long.ndjson").write_bytes(b'{"a": ' + b"1" * 3_000_000 + b'}\n{"a": 1, "b": 2, "c": 3}\n')
    found = rows(run("detect", tmp_path / "long.ndjson", "-d", "toy-record", "--json"))
    assert [row.get("error", {}).get("code") for row in found] == ["input_too_large", None]


@pytest.mark.parametrize(("name", "content"), [("empty.json", b""), ("empty.jpg", b""), ("list.json", b"[]")])
def test_an_empty_file_is_said_to_be_empty(run: Run, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    ran = run("detect", tmp_path / name, "-d", "toy-record")
    assert (ran.code, "empty" in ran.err) == (1, True)


def test_a_file_that_is_no_file_is_said(run: Run, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    os.mkfifo(inbox / "pipe")
    (inbox / "broken").symlink_to(tmp_path / "nowhere")
    found = rows(run("detect", inbox, "-d", "toy-image", "--json"))
    assert [(Path(row["path"]).name, row["error"]["code"]) for row in found] == [
        ("broken", "unreadable_input"),
        ("pipe", "unreadable_input"),
    ]


@pytest.mark.parametrize(
    "arguments", [["detect"], ["detect", "/nowhere.jpg"], ["detect", "--loud", "x"], ["frobnicate"]]
)
def test_a_wrongly_typed_command_ends_with_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).code == 2


def test_an_unknown_detector_ends_with_2_and_an_empty_folder_too(run: Run, folder: Path, tmp_path: Path) -> None:
    ran = run("detect", folder, "-d", "nobody")
    assert (ran.code, "There is no detector 'nobody'" in ran.err) == (2, True)
    assert run("detect", folder, "-d", "toy-image@9.9.9").code == 2
    (tmp_path / "empty").mkdir()
    assert run("detect", tmp_path / "empty", "-d", "toy-image").code == 2


def test_verdicts_are_listed_and_shown_as_they_were_answered(run: Run, folder: Path) -> None:
    judged = [row for row in rows(run("detect", folder, "-d", "toy-image", "--json")) if "id" in row]
    listed = rows(run("verdicts", "list", "--json"))
    assert {row["id"] for row in listed} == {row["id"] for row in judged}
    shown = json.loads(run("verdicts", "show", judged[0]["id"]).out)
    assert shown == {key: value for key, value in judged[0].items() if key != "path"}
    assert judged[0]["id"] in run("verdicts", "list").out
    assert run("verdicts", "list", "--limit", 1).err.startswith("There are more: --after")
    assert run("verdicts", "show", "01a1fb4b-0233-7998-8f07-5b5ac3979bc9").code == 1


def test_detectors_are_listed_shown_and_verified(run: Run, home: Path) -> None:
    listed = run("detector", "list").out
    assert re.search(r"toy-cascade\s+1\.0\.0\s+image, video\s+added\s+usable", listed)
    shown = run("detector", "show", "toy-cascade")
    assert "screen -> expert" in shown.out
    assert "screen.onnx" in shown.out
    assert "a (number, minimum -100.0, maximum 100.0)" in run("detector", "show", "toy-record").out
    assert "signed by" in shown.out
    assert "signature not checked" in run("detector", "show", home / "detectors" / "toy-image" / "1.0.0").out
    verified = run("detector", "verify", home / "detectors" / "toy-cascade" / "1.0.0")
    assert "3 files hold" in verified.out


def test_a_bundle_is_packed_signed_added_used_and_removed(run: Run, home: Path, tmp_path: Path) -> None:
    manifest = models.record_manifest(name="mine", version="0.1.0")
    source = models.write_source(tmp_path / "source", manifest, models.RECORD_FILES)
    root = tmp_path / "mine-0.1.0"
    assert run("detector", "pack", source, "-o", root).out.strip() == str(root)
    refused = run("detector", "add", root)
    assert (refused.code, "signature" in refused.err) == (1, True)
    assert run("detector", "sign", root, "--archive").code == 0
    assert run("detector", "add", tmp_path / "mine-0.1.0.discern.tar.gz").out == "mine 0.1.0: added\n"
    (tmp_path / "record.json").write_text('{"a": 1, "b": 2, "c": 3}')
    assert run("detect", tmp_path / "record.json", "-d", "mine").code in {0, 10, 20}
    again = run("detector", "add", root)
    assert (again.code, "already here" in again.err) == (1, True)
    assert run("detector", "remove", "mine").code == 2
    assert run("detector", "remove", "mine@0.1.0").out == "mine 0.1.0: removed\n"
    assert run("detect", tmp_path / "record.json", "-d", "mine").code == 2
    assert not (home / "detectors" / "mine").exists()


def test_a_bundle_signed_by_a_stranger_is_not_added(run: Run, home: Path, tmp_path: Path) -> None:
    source = models.write_source(tmp_path / "source", models.record_manifest(name="theirs"), models.RECORD_FILES)
    generate_key(tmp_path / "their.key", tmp_path / "their.pub")
    run("detector", "pack", source, "-o", tmp_path / "theirs")
    run("detector", "sign", tmp_path / "theirs", "--key", tmp_path / "their.key")
    ran = run("detector", "add", tmp_path / "theirs")
    assert (ran.code, (home / "detectors" / "theirs").exists()) == (1, False)
    shutil.copy(tmp_path / "their.pub", home / "trust" / "their.pub")
    assert run("detector", "add", tmp_path / "theirs").code == 0


def test_a_shipped_detector_cannot_be_removed(run: Run) -> None:
    listed = run("detector", "list").out
    shipped = re.search(r"(\S+)\s+(\d+\.\d+\.\d+)\s+.*builtin", listed)
    assert shipped is not None, "no shipped detector is listed"
    ran = run("detector", "remove", f"{shipped[1]}@{shipped[2]}")
    assert (ran.code, "stays" in ran.err) == (1, True)


def test_the_contract_is_run_on_a_bundle_of_ones_own(run: Run, home: Path) -> None:
    ran = run("detector", "check", home / "detectors" / "toy-record" / "1.0.0")
    assert (ran.code, "0 failed" in ran.out) == (0, True), ran.out


def test_a_first_key_of_ones_own_is_made_readable_by_its_owner_only(run: Run, home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "keys")
    (home / "trust" / "local.pub").unlink()
    source = models.write_source(tmp_path / "source", models.record_manifest(name="mine"), models.RECORD_FILES)
    run("detector", "pack", source, "-o", tmp_path / "mine")
    assert "Made the key" in run("detector", "sign", tmp_path / "mine").err
    assert (home / "keys" / "local.key").stat().st_mode & 0o777 == 0o600
    assert (home / "trust" / "local.pub").exists()


def test_keys_are_made_listed_and_revoked(run: Run) -> None:
    made = run("key", "create", "laptop")
    assert re.fullmatch(r"dsc_\S{43}\n", made.out)
    key_id = re.search(r"Key (\S+)", made.err)
    assert key_id is not None
    assert made.out.strip() not in run("key", "list").out
    assert run("key", "revoke", key_id[1]).code == 0
    assert run("key", "revoke", key_id[1]).code == 1


def test_the_doctor_finds_a_healthy_installation_well(run: Run, home: Path) -> None:
    home.chmod(0o700)
    ran = run("doctor")
    assert (ran.code, "wrong" in ran.out) == (0, False), ran.out


def test_the_doctor_names_what_is_wrong_with_a_hint(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.chmod(0o755)
    model = home / "detectors" / "toy-record" / "1.0.0" / "only.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    ran = run("doctor")
    assert ran.code == 1
    assert f"chmod 700 {home}" in ran.out
    assert "only.onnx" in ran.out
    monkeypatch.setenv("DISCERN_PROT", "1")
    assert "Did you mean DISCERN_PORT?" in run("doctor").out
    monkeypatch.delenv("DISCERN_PROT")
    monkeypatch.setenv("DISCERN_FACE_MODEL", str(home / "nowhere.onnx"))
    assert "nowhere.onnx" in run("doctor").out


def test_an_installation_without_the_extra_server_is_not_ill(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.chmod(0o700)
    for library in ("obstore.exceptions", "cedarpy"):
        monkeypatch.setitem(sys.modules, library, None)
    ran = run("doctor")
    assert ran.code == 0, ran.out
    lines = [line for line in ran.out.splitlines() if "absent" in line]
    assert ["objects" in lines[0], "HTTP application" in lines[1]] == [True, True]
    assert all("discern-detectors[server]" in line for line in lines)


def test_the_doctor_says_whether_subjects_can_be_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, postgresql_url: str
) -> None:
    assert "none was named yet" in run("doctor").out
    monkeypatch.setenv("DISCERN_DATABASE_URL", postgresql_url)
    assert "Set DISCERN_SUBJECT_KEYS_URL to another PostgreSQL database." in run("doctor").out
    monkeypatch.setenv("DISCERN_SUBJECT_KEYS_URL", "postgresql://127.0.0.1:9/keys")
    ran = run("doctor")
    assert ran.code == 1
    (line,) = (line for line in ran.out.splitlines() if "subjects" in line and "wrong" in line)
    assert "did not answer" in line


@pytest.mark.parametrize("command", [("token", "rotate"), ("detector", "list"), ("key", "list")])
@pytest.mark.parametrize("has_server", [False, True])
def test_the_home_folder_is_made_for_its_owner_alone(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    command: tuple[str, str],
    has_server: bool,
) -> None:
    if has_server:
        monkeypatch.setenv("DISCERN_DATABASE_URL", request.getfixturevalue("postgresql_url"))
    monkeypatch.setenv("DISCERN_HOME", str(tmp_path / "fresh"))
    before = os.umask(0o022)
    assert run(*command).code == 0
    os.umask(before)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o700


def test_the_version_is_printed(run: Run) -> None:
    assert re.fullmatch(r"discern \d+\.\d+\.\d+\n", run("--version").out)


def test_the_master_key_is_listed_rotated_and_removed_on_record(run: Run, home: Path) -> None:
    services = build_services(load_settings({"DISCERN_HOME": str(home)}))
    services.open()
    place = Address("default", "jobs/one", "input")
    services.objects.put(place, b"content")
    services.close()
    first = re.search(r"file:1-[0-9a-f]{12}", run("keys", "list").out)
    assert first is not None
    rotated = run("keys", "rotate")
    assert (rotated.code, "keys moved to it: 1." in rotated.out) == (0, True)
    assert "keys moved to it: 0." in run("keys", "rotate", "--resume").out
    refused = run("keys", "remove", first[0])
    assert (refused.code, "until a moment ago" in refused.err) == (1, True)
    (kept,) = (home / "keys" / "master").glob("000001.key")
    kept.unlink()
    assert first[0] not in run("keys", "list").out
    (home / "keys" / "master" / "000002.key").unlink()
    assert "missing: what it wraps cannot be read" in run("keys", "list").out
    failed = run("keys", "rotate", "--resume")
    assert (failed.code, "could not be unwrapped: 1." in failed.err) == (1, True)
    assert run("audit", "list").out.count("master-keys.") == 4
