"""What is logged, where it goes, and what never stands in it."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from discern.app import Services
from discern.app_http import create_app
from discern.cli.logs import configure_logging, configure_server_logging, levels_of
from discern.core.errors import InvalidSettings
from discern.core.origin import Origin, set_origin
from discern.settings import Settings

log = logging.getLogger("discern.detection.service")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    set_origin(Origin())
    configure_logging("critical")


@pytest.fixture
def logging_to(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, log_file=tmp_path / "discern.log")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_names_request_workspace_and_trace(logging_to: Settings, tmp_path: Path) -> None:
    configure_server_logging(logging_to)
    set_origin(Origin("192.0.2.7", "request-1", "acme", "1" * 32, "2" * 16))
    log.info("verdict_made", extra={"verdict": "0190"})
    [line] = lines(tmp_path / "discern.log")
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "verdict_made",
        "level": "info",
        "logger": "discern.detection.service",
        "verdict": "0190",
        "request": "request-1",
        "workspace": "acme",
        "trace": "1" * 32,
        "span": "2" * 16,
    }
    assert "192.0.2.7" not in (tmp_path / "discern.log").read_text()


def test_what_looks_like_a_secret_is_blotted_out_wherever_it_stands(logging_to: Settings, tmp_path: Path) -> None:
    configure_server_logging(logging_to)
    facts = {
        "detail": "no key dsc_0123456789abcdefghij here",
        "nested": {"url": ["postgresql://discern:hidden-word@db/discern"]},
        "token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJrZXkifQ.c2lnbmF0dXJl",  # pragma: allowlist secret
    }
    log.error("something", extra=facts)
    try:
        int("dss_0123456789abcdefghij")
    except ValueError:
        log.exception("defect")
    text = (tmp_path / "discern.log").read_text()
    for secret in ("0123456789", "hidden-word", "eyJhbGci"):
        assert secret not in text
    assert "postgresql://***@db/discern" in text
    assert "***" in lines(tmp_path / "discern.log")[-1]["exception"]


class Thing:
    """What the log has no words for but its own."""

    def __repr__(self) -> str:
        return "<engine of postgresql://discern:hidden/word@db/discern with dsc_0123456789abcdefghij>"


def test_what_is_no_text_is_blotted_out_too(logging_to: Settings, tmp_path: Path) -> None:
    configure_server_logging(logging_to)
    log.error("something", extra={"thing": Thing(), "things": [{Thing()}, 3, None, True, 0.5]})
    [line] = lines(tmp_path / "discern.log")
    assert line["thing"] == "<engine of postgresql://***@db/discern with ***>"
    assert line["things"][1:] == [3, None, True, 0.5]
    assert "hidden" not in (tmp_path / "discern.log").read_text()


def test_single_modules_have_levels_of_their_own(logging_to: Settings, tmp_path: Path) -> None:
    configure_server_logging(replace(logging_to, log_level="warning", log_levels="detection=debug, uvicorn=info"))
    log.debug("shown")
    logging.getLogger("discern.registry.service").info("not shown")
    logging.getLogger("uvicorn.error").info("shown too")
    assert [line["event"] for line in lines(tmp_path / "discern.log")] == ["shown", "shown too"]
    configure_server_logging(replace(logging_to, log_level="warning"))
    log.debug("not shown any more")
    assert len(lines(tmp_path / "discern.log")) == 2


@pytest.mark.parametrize("text", ["detection", "detection=loud", "=info", "a=b=c"])
def test_levels_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="says no level of a module"):
        levels_of(text)


def test_a_file_is_put_aside_when_it_is_full_and_old_ones_go(logging_to: Settings, tmp_path: Path) -> None:
    configure_server_logging(replace(logging_to, log_file_bytes=10_000, log_files=2))
    for number in range(400):
        log.info("a line", extra={"number": number})
    files = sorted(path.name for path in tmp_path.glob("discern.log*"))
    assert files == ["discern.log", "discern.log.1", "discern.log.2"]
    assert all((tmp_path / name).stat().st_size <= 10_000 for name in files)
    assert lines(tmp_path / "discern.log")[-1]["number"] == 399
    assert stat.S_IMODE((tmp_path / "discern.log").stat().st_mode) == 0o600


def test_several_processes_write_no_file_together(logging_to: Settings, tmp_path: Path) -> None:
    for slot in (0, 1):
        configure_server_logging(replace(logging_to, workers=2), slot)
        log.info("from", extra={"slot": slot})
    assert [lines(tmp_path / f"discern-{slot}.log")[0]["slot"] for slot in (0, 1)] == [0, 1]


def test_a_file_that_cannot_be_written_stops_the_start_and_says_so(logging_to: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"log_file: .* cannot be written: No such file"):
        configure_server_logging(replace(logging_to, log_file=tmp_path / "nowhere" / "discern.log"))


def test_a_refused_request_is_logged_with_its_id_and_workspace_and_without_what_was_sent(
    services: Services, logging_to: Settings, tmp_path: Path
) -> None:
    secret = services.keys.issue("default", "test", role="owner").secret
    client = TestClient(create_app(services), headers={"Authorization": f"Bearer {secret}"})
    configure_server_logging(replace(logging_to, log_level="debug"))
    body = b'{"a": "Erika Mustermann", "b": 1, "c": 2}'
    answer = client.post("/v1/detectors/toy-record/verdicts", content=body, headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 422
    text = (tmp_path / "discern.log").read_text()
    [line] = [line for line in lines(tmp_path / "discern.log") if line["event"] == "request_refused"]
    assert (line["request"], line["workspace"]) == ("mine-1", "default")
    assert "Mustermann" not in text
    assert secret not in text
    assert "testclient" not in text
