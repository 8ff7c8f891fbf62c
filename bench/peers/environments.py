"""Virtual environments of the other frameworks, made once and kept in a cache folder outside the repository."""

from __future__ import annotations

import hashlib
import os
import subprocess
import venv
from pathlib import Path

_HERE = Path(__file__).parent
# None of them is to tell its makers that it ran here.
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "LITSERVE_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
}


def cache_folder() -> Path:
    """Return where the environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "discern-bench"


def binaries(name: str) -> Path:
    """Return the folder of programs of a framework's environment, made from `NAME.txt` where it is not there yet.

    Raises CalledProcessError when its packages cannot be installed.
    """
    wanted = _HERE / f"{name}.txt"
    folder = cache_folder() / name
    mark = folder / "installed"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text(encoding="ascii") != digest:
        folder.parent.mkdir(parents=True, exist_ok=True)
        venv.create(folder, with_pip=True, clear=True)
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, "--requirement", wanted], check=True)
        mark.write_text(digest, encoding="ascii")
    return folder / "bin"
