"""Settings as they are read, by the only file that reads the environment; `settings_table` is the table of them.

- A setting comes from the environment (`DISCERN_NAME`), else from `discern.toml` in the home folder, else from its
  default.
- An unknown `DISCERN_*` variable or key of `discern.toml` is refused: a typing error must not silently mean the
  default.
- A secret may stand in a file that `DISCERN_NAME_FILE` names.
- Settings never change while a process runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from discern.core.errors import InvalidSettings
from discern.settings_table import Settings

__all__ = ["Settings", "load_settings"]

PREFIX = "DISCERN_"
SETTINGS_FILE = "discern.toml"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    Raises InvalidSettings naming the variable or key, where it came from, and what is allowed.
    """
    variables = os.environ if environment is None else environment
    given = {key[len(PREFIX) :].lower(): value for key, value in variables.items() if key.startswith(PREFIX)}
    if given.get("home") == "":
        raise InvalidSettings(f"{PREFIX}HOME is empty.", mend="Name a folder, or unset it.", setting="home")
    home = _path(given.get("home", str(Settings.home)), f"{PREFIX}HOME")
    values: dict[str, Any] = {}
    for name, raw in _read_file(home / SETTINGS_FILE).items():
        if name == "home":
            detail = f"{home / SETTINGS_FILE}: home cannot be set in a file that lies in it."
            raise InvalidSettings(detail, mend=f"Set {PREFIX}HOME.", setting="home")
        values[name] = _convert(name, raw, f"{home / SETTINGS_FILE}: {name}")
    for name, raw in _from_files(given).items():
        values[name] = _convert(name, raw, f"{PREFIX}{name.upper()}")
    for name, others in _OTHER_VARIABLES.items():
        # Keys belong together: ours are not completed with others.
        if name not in values and not (name in _KEYS and "s3_access_key" in given):
            values[name] = next((variables[other] for other in others if variables.get(other)), "")
    values["home"] = home
    settings = Settings(**values)
    if not settings.host:
        raise InvalidSettings("host is empty.", mend="Name an address, 0.0.0.0 for all.", setting="host")
    for name, allowed in _CHOICES.items():
        if getattr(settings, name) not in allowed:
            raise InvalidSettings(
                f"{name} is {getattr(settings, name)!r}.", mend=f"Use one of: {', '.join(allowed)}.", setting=name
            )
    return settings


def _from_files(given: Mapping[str, str]) -> dict[str, str]:
    """Return what variables say, secrets from the files that `NAME_FILE` names among it."""
    found = dict(given)
    for name in given:
        of = name.removesuffix("_file")
        if of == name or of not in _SECRETS:
            continue
        where, path = f"{PREFIX}{name.upper()}", Path(found.pop(name))
        if of in given:
            raise InvalidSettings(f"{where} and {PREFIX}{of.upper()} are both set.", mend="Unset one.", setting=of)
        try:
            found[of] = path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(
                f"{where}: {path} cannot be read: {error}.", mend="Name the file.", setting=of
            ) from error
    return found


_CHOICES = {
    "log_level": ("debug", "info", "warning", "error"),
    "log_to": ("stderr", "stdout"),
    "ledger_durability": ("normal", "full"),
    "passkey_user_verification": ("required", "preferred", "discouraged"),
    "variant": ("served", "fp32"),
    "master_key": ("file", "secret", "vault", "aws"),
}
# Variables that every tool for S3 reads, where ours say nothing.
_OTHER_VARIABLES = {
    "s3_endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "aws_kms_endpoint": ("AWS_ENDPOINT_URL_KMS",),
    "s3_region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "s3_access_key": ("AWS_ACCESS_KEY_ID",),
    "s3_secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "s3_session_token": ("AWS_SESSION_TOKEN",),
}
_KEYS = ("s3_secret_key", "s3_session_token")
_TYPES: dict[str, Any] = get_type_hints(Settings)
_SECRETS = {entry.name for entry in dataclasses.fields(Settings) if not entry.repr}
_FIELDS = {entry.name: entry for entry in dataclasses.fields(Settings)}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror}."
        raise InvalidSettings(detail, mend=f"Name a folder you may use in {PREFIX}HOME.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"{path} is not valid TOML: {error}.", mend="Correct the file or move it away."
        ) from error


def _convert(name: str, raw: Any, where: str) -> Any:  # noqa: ANN401
    if name not in _FIELDS:
        near = difflib.get_close_matches(name, _FIELDS, n=1)
        hint = "The settings are listed in docs/reference/settings.md."
        if near:
            hint = f"Did you mean {PREFIX + near[0].upper() if where.startswith(PREFIX) else near[0]}?"
        if name.startswith(("service_", "port_")):
            hint = "Kubernetes sets it for a Service called discern: set enableServiceLinks: false in the pod."
        raise InvalidSettings(f"{where}: there is no such setting.", mend=hint, setting=name)
    wanted = _TYPES[name]
    try:
        value = _as_type(wanted, raw)
    except (TypeError, ValueError) as error:
        expected = getattr(wanted, "__name__", "path")
        raise InvalidSettings(
            f"{where}: {raw!r} is not of type {expected}.", mend="Correct it.", setting=name
        ) from error
    least, most = _FIELDS[name].metadata["minimum"], _FIELDS[name].metadata["maximum"]
    if least is not None and not value >= least:
        detail = f"{where}: {raw!r} is below the least allowed, {least}."
        raise InvalidSettings(detail, mend="Raise it.", setting=name)
    if most is not None and not value <= most:
        detail = f"{where}: {raw!r} is above the most allowed, {most}."
        raise InvalidSettings(detail, mend="Lower it.", setting=name)
    return value


def _as_type(wanted: Any, raw: Any) -> Any:  # noqa: ANN401
    if isinstance(raw, bool):
        raise TypeError("no setting is a boolean")
    if wanted is int:
        return int(raw.replace("_", "")) if isinstance(raw, str) else _exact_int(raw)
    if wanted is float:
        return float(raw)
    if not isinstance(raw, str):
        raise TypeError("a string is needed")
    if wanted is str:
        return raw
    return _path(raw, raw) if raw else None


def _path(raw: str, where: str) -> Path:
    try:
        return Path(raw).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidSettings(f"{where}: {error}", mend="Name the folder in full.") from error


def _exact_int(raw: Any) -> int:  # noqa: ANN401
    if not isinstance(raw, int):
        raise TypeError("a whole number is needed")
    return raw
