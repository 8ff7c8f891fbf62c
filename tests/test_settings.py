from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from discern.core.errors import InvalidSettings
from discern.inputs.types import InputLimits
from discern.settings import load_settings


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "discern.toml").write_text("port = 9001\nhost = '0.0.0.0'\n")
    settings = load_settings({"DISCERN_HOME": str(tmp_path), "DISCERN_PORT": "9002"})
    assert (settings.port, settings.host, settings.max_waiting) == (9002, "0.0.0.0", 256)
    assert settings.home == tmp_path


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    assert load_settings({"DISCERN_HOME": str(tmp_path), "PATH": "/bin"}).port == 8000


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DISCERN_PROT", "1", "Did you mean DISCERN_PORT?"),
        ("DISCERN_PORT", "eight", "DISCERN_PORT: 'eight' is not of type int"),
        ("DISCERN_PORT", "-1", "below the least allowed, 0"),
        ("DISCERN_PORT", "65536", "above the most allowed, 65535"),
        ("DISCERN_VIDEO_SECONDS", "inf", "above the most allowed"),
        ("DISCERN_VIDEO_SECONDS", "nan", "below the least allowed"),
        ("DISCERN_LOG_LEVEL", "loud", "Use one of: debug, info, warning, error"),
        ("DISCERN_LEDGER_DURABILITY", "none", "Use one of: normal, full"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_what_is_allowed(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings({"DISCERN_HOME": str(tmp_path), variable: value})
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["port = ", "prot = 1", "port = true", "port = 1.5", "host = 5"])
def test_a_wrong_settings_file_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "discern.toml").write_text(text)
    with pytest.raises(InvalidSettings, match=r"discern\.toml"):
        load_settings({"DISCERN_HOME": str(tmp_path)})


def test_the_defaults_are_those_of_the_inputs_layer(tmp_path: Path) -> None:
    settings = load_settings({"DISCERN_HOME": str(tmp_path)})
    for entry in fields(InputLimits):
        assert getattr(settings, entry.name) == getattr(InputLimits(), entry.name)


def test_an_empty_home_and_a_home_in_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="DISCERN_HOME is empty"):
        load_settings({"DISCERN_HOME": ""})
    (tmp_path / "discern.toml").write_text("home = '/elsewhere'")
    with pytest.raises(InvalidSettings, match="Set DISCERN_HOME"):
        load_settings({"DISCERN_HOME": str(tmp_path)})


def test_what_kubernetes_puts_into_the_environment_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="enableServiceLinks: false"):
        load_settings({"DISCERN_HOME": str(tmp_path), "DISCERN_SERVICE_HOST": "10.0.0.1"})


def test_a_home_that_is_a_file_or_of_nobody_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (str(tmp_path / "file"), "~nobody-of-that-name/x"):
        with pytest.raises(InvalidSettings):
            load_settings({"DISCERN_HOME": home})


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:s3cr3t@h/d\n")
    given = {"DISCERN_HOME": str(tmp_path), "DISCERN_DATABASE_URL_FILE": str(tmp_path / "url")}
    settings = load_settings(given)
    assert settings.database_url == "postgresql://u:s3cr3t@h/d"
    assert "s3cr3t" not in repr(settings)
    for wrong in (
        {"DISCERN_DATABASE_URL": "x"},
        {"DISCERN_DATABASE_URL_FILE": "/nowhere"},
        {"DISCERN_PORT_FILE": str(tmp_path / "url")},  # not a secret
    ):
        with pytest.raises(InvalidSettings):
            load_settings(given | wrong)
