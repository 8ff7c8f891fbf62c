"""How large the installation is, and how long the first answers take."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bench.report import Row, at_most
from bench.servers import ROOT

_DISCERN = Path(sys.executable).parent / "discern"
_GIVE_UP_SECONDS = 60


def installation(folder: Path) -> Iterator[Row]:
    """Yield how large the installation is."""
    size, largest = installation_bytes(folder, ROOT)
    mebibytes = size / 2**20
    yield Row(
        "installation without extras, bytecode of what runs included",
        f"{mebibytes:.0f} MiB ({size / 1e6:.0f} million bytes)",
        "at most 450 as `du -m` counts",
        mebibytes / 450,
        mebibytes <= 450,
    )
    named = ", ".join(f"{name} {one / 2**20:.0f}" for name, one in largest)
    yield Row("the largest folders of it", named, "MiB each")


def starting(folder: Path) -> Iterator[Row]:
    """Yield how long the first answers take."""
    first, later = ready_seconds(folder, repeats=5)
    yield at_most("`discern up` to `/readyz`, first start", first, 3, "s")
    yield at_most("`discern up` to `/readyz`, later starts", later, 3, "s")
    cold, warm = detect_seconds(folder, repeats=5)
    yield at_most("`discern detect photo.jpg`, first run in a fresh home", cold, 2, "s")
    yield at_most("`discern detect photo.jpg`, later runs", warm, 2, "s")


def installation_bytes(folder: Path, root: Path) -> tuple[int, list[tuple[str, int]]]:
    """Return the bytes that an installation without extras adds to an empty environment, and its largest folders."""
    environment = folder / "installation"
    venv.create(environment, with_pip=True)
    before = _bytes_below(environment)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
    # The locked versions of what is needed; the lock holds the extras of `make up` too, and hashes.
    locked = re.findall(r"^([a-z0-9-]+==[^\\\n]+)", (root / "requirements" / "runtime.txt").read_text(), re.MULTILINE)
    (folder / "versions.txt").write_text("\n".join(locked))
    subprocess.run([*pip, "--constraint", folder / "versions.txt", root], check=True)
    everything = next((environment / "lib").glob("python*")) / "site-packages"
    # What `make up` does: the doctor runs once, which compiles what is used.
    doctor = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    doctor["DISCERN_HOME"] = str(folder / "doctor-home")
    subprocess.run([environment / "bin" / "discern", "doctor"], env=doctor, check=True, stdout=subprocess.DEVNULL)
    largest = sorted(((_bytes_below(path), path.name) for path in everything.iterdir()), reverse=True)
    return _bytes_below(environment) - before, [(name, size) for size, name in largest[:8]]


def ready_seconds(folder: Path, repeats: int) -> tuple[float, float]:
    """Return the seconds from `discern up` to a good `/readyz`: of the first start, and the median of later ones."""
    home = folder / "ready-home"
    first = _start_once(home)
    return first, statistics.median(_start_once(home) for _ in range(repeats))


def detect_seconds(folder: Path, repeats: int) -> tuple[float, float]:
    """Return the seconds of `discern detect photo.jpg`: of the first run, and the median of later ones."""
    photo = folder / "photo.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (480, 640, 3)).astype(np.uint8)).save(photo, quality=90)
    home = folder / "detect-home"
    first = _detect_once(photo, home)
    return first, statistics.median(_detect_once(photo, home) for _ in range(repeats))


def environment(home: Path, port: int = 0) -> dict[str, str]:
    """Return the environment of a Discern process of its own."""
    return {
        "PATH": os.environ["PATH"],
        "DISCERN_HOME": str(home),
        "DISCERN_PORT": str(port),
        "DISCERN_LOG_LEVEL": "error",
    }


def start(home: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a server; return it and its URL."""
    process = subprocess.Popen([_DISCERN, "up"], env=environment(home), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[4]


def wait_until_ready(url: str) -> None:
    """Return when `/readyz` is good. Raises TimeoutError."""
    until = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.01)
    raise TimeoutError(f"{url} did not become ready")


def _start_once(home: Path) -> float:
    started = time.perf_counter()
    process, url = start(home)
    try:
        wait_until_ready(url)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(timeout=30)


def _detect_once(photo: Path, home: Path) -> float:
    started = time.perf_counter()
    ended = subprocess.run(
        [_DISCERN, "detect", photo, "-d", "synthetic-face"], env=environment(home), capture_output=True, check=False
    )
    elapsed = time.perf_counter() - started
    if ended.returncode not in {0, 1, 10, 20}:
        raise RuntimeError(ended.stderr.decode())
    return elapsed


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
