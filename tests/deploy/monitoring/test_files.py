"""The shipped configuration: what it names is there, it tells what Discern's own rules tell, and it opens no door."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "monitoring"
SECRETS = {"metrics.token", "grafana.password", "smtp.password", "webhook.token"}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read("compose.yaml")["services"]
    return found


def mounts() -> Iterator[str]:
    for service in services().values():
        yield from (one for one in service.get("volumes", []) if one.startswith("."))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder with the secrets that an operator puts into it."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "monitoring", ignore=shutil.ignore_patterns("secrets")))
    (folder / "secrets").mkdir()
    for name in SECRETS:
        (folder / "secrets" / name).write_text("a word")
    return folder


def test_the_compose_file_is_one() -> None:
    check: Any = pytest.importorskip("check_jsonschema", reason="the extra `test` has check-jsonschema")
    ran = check.main(["--builtin-schema", "vendor.compose-spec", str(FOLDER / "compose.yaml")], standalone_mode=False)
    assert not ran


def test_every_file_that_is_mounted_is_there() -> None:
    seen = set()
    for mount in mounts():
        source = mount.split(":")[0].removeprefix("./")
        if source.startswith("secrets/"):
            seen.add(source.removeprefix("secrets/"))
        else:
            assert (FOLDER / source).exists(), source
        assert mount.endswith(":ro")
    assert seen == SECRETS


def test_images_are_pinned_watched_and_listen_on_the_loopback() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    for name, service in services().items():
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+(-\w+)?", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        assert "ports" not in service
        assert service["network_mode"] == "host"
        # Whatever it serves, it says so itself, and says the loopback.
        said = yaml.safe_dump(service) + (yaml.safe_dump(read(f"{name}.yaml")) if name in {"loki", "vector"} else "")
        assert "127.0.0.1" in said.replace("http://127.0.0.1", ""), name
    assert "0.0.0.0" not in text
    named = [one.split(":")[0] for service in services().values() for one in service.get("volumes", [])]
    assert {one for one in named if one.isalpha()} == set(read("compose.yaml")["volumes"])


def test_no_password_stands_in_a_file() -> None:
    for path in FOLDER.rglob("*.yaml"):
        for line in path.read_text().splitlines():
            found = re.search(r"(?:password|token|secret)\w*\s*:\s*(\S.*)", line, flags=re.IGNORECASE)
            assert found is None or re.search(r"\$\{\w+:\?|secrets/|^\s*#", found[0] + line), f"{path.name}: {line}"


def test_alertmanager_keeps_quiet_about_what_discern_keeps_quiet_about() -> None:
    shipped = tomllib.loads((ROOT / "src" / "discern" / "alerts" / "rules.toml").read_text())["inhibitions"]
    theirs = read("alertmanager.yaml")["inhibit_rules"]
    ours = [(one["when"], one["mutes"], one.get("equal", [])) for one in shipped]
    assert [(one["source_matchers"], one["target_matchers"], one.get("equal", [])) for one in theirs] == ours


def test_every_severity_has_a_route_and_criticals_reach_both() -> None:
    config = read("alertmanager.yaml")
    receivers = {one["name"]: one for one in config["receivers"]}
    matched = {one["matchers"][0]: one["receiver"] for one in config["route"]["routes"]}
    assert matched == {'severity="critical"': "on-call", 'severity="info"': "mail"}
    assert config["route"]["receiver"] == "mail"
    assert set(receivers["on-call"]) == {"name", "email_configs", "webhook_configs"}


@pytest.mark.system
def test_prometheus_and_alertmanager_take_their_configuration(folder: Path) -> None:
    promtool, amtool = shutil.which("promtool"), shutil.which("amtool")
    if promtool is None or amtool is None:
        pytest.skip("promtool or amtool is not installed: apt-get install prometheus prometheus-alertmanager")
    for command in (
        [promtool, "check", "config", str(folder / "prometheus.yaml")],
        [promtool, "check", "rules", str(folder / "recording-rules.yaml")],
        [amtool, "check-config", str(folder / "alertmanager.yaml")],
    ):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_metrics_are_read_often_enough_for_data_of_five_seconds() -> None:
    config = read("prometheus.yaml")
    (job,) = config["scrape_configs"]
    seconds = int(job["scrape_interval"].removesuffix("s"))
    refresh = services()["grafana"]["environment"]["GF_DASHBOARDS_MIN_REFRESH_INTERVAL"]
    # A second until what happened is counted, and one that an answer is told again.
    assert 1 + 1 + seconds + int(refresh.removesuffix("s")) <= 5
    assert read("grafana/provisioning/datasources/discern.yaml")["datasources"][0]["jsonData"]["timeInterval"] == "2s"


@pytest.mark.parametrize("name", ["vector.yaml", "vector-elasticsearch.yaml"])
def test_vector_reads_the_log_and_every_part_has_its_source(name: str) -> None:
    config = read(name)
    assert config["sources"]["discern_files"]["include"] == ["/var/log/discern/*.json"]
    known = {*config["sources"], *config["transforms"]}
    for part in (*config["transforms"].values(), *config["sinks"].values()):
        assert set(part["inputs"]) <= known
    assert all(sink["buffer"]["type"] == "disk" for sink in config["sinks"].values())
