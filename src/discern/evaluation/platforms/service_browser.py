"""Variants on onnxruntime-web (WebAssembly, one thread) in a headless Chromium.

- The package comes from the npm registry by `fetch`, once, when somebody asks for it, and is what its digest says.
- The page has no network: whatever it asks for is answered from here, or not at all.

Needs the extra `browser`, Chromium, and what `fetch` brings.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.core.errors import OperatorError
from discern.detectors.files import appearing_folder
from discern.detectors.refusal import printable
from discern.detectors.runtime import StageFailed
from discern.evaluation.platforms.service_onnxruntime import Opened, TimedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from discern.detectors.bundle import Bundle
    from discern.detectors.manifest import Stage

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# `dist.integrity` of that version in the npm registry.
_INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJm"  # pragma: allowlist secret
    "g8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # pragma: allowlist secret
)
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_FETCH_SECONDS = 300
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
_ORIGIN = "http://discern.invalid/"
_TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}
_PAGE = """<!doctype html><title>Discern</title><script type="module">
import * as ort from "/ort.wasm.min.mjs";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/";
const arrays = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array,
  int16: Int16Array, uint32: Uint32Array, int32: Int32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array,
};
const bytesOf = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));
const textOf = array => {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
};
const sessions = {};
window.openModel = async stage => {
  const content = new Uint8Array(await (await fetch("/model/" + stage)).arrayBuffer());
  sessions[stage] = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
};
window.runModel = async ([stage, names, given]) => {
  const feeds = {};
  for (const [name, one] of Object.entries(given))
    feeds[name] = new ort.Tensor(one.type, new arrays[one.type](bytesOf(one.data).buffer), one.shape);
  const started = performance.now();
  const results = await sessions[stage].run(feeds, names);
  const milliseconds = performance.now() - started;
  const values = names.map(name => {
    const one = results[name];
    return { type: one.type, shape: one.dims.map(Number), data: textOf(one.data) };
  });
  return { milliseconds, values };
};
window.ready = true;
</script>"""


def folder(cache: Path) -> Path:
    """Return where `fetch` puts the package."""
    return cache / f"{PACKAGE}-{VERSION}"


def fetch(cache: Path) -> Path:
    """Download the package with npm, from the registry that npm is set up for, and keep what a page needs of it.

    Returns the folder. Raises OperatorError where npm is not there or fails, or the package is another.
    """
    target = folder(cache)
    if target.exists():
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise OperatorError("npm is not installed, which fetches the package.", mend="Install Node.js with npm.")
    with tempfile.TemporaryDirectory(prefix="discern-browser-") as place:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", place]
        try:
            done = subprocess.run(  # noqa: S603 - npm and words of ours
                command, cwd=place, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise OperatorError(f"npm did not fetch {PACKAGE} in {_FETCH_SECONDS} s.", mend="Try again.") from None
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = printable(" ".join(done.stderr.split()) or f"exit code {done.returncode}")
            raise OperatorError(f"npm did not fetch {PACKAGE}: {said}.", mend="See npm's own configuration.")
        _unpack(archives[0], target)
    return target


def missing(cache: Path) -> str | None:
    """Return why the runtime cannot be measured here, or None."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install 'discern-detectors[browser]'"
    if _chromium() is None:
        return "chromium is not installed"
    if not folder(cache).is_dir():
        return f"{PACKAGE} is not there: `discern detector fetch-browser-runtime` downloads it"
    return None


@contextmanager
def opened(bundle: Bundle, cache: Path) -> Iterator[Opened]:
    """Open the models of the bundle's variant in a page of their own. Raises StageFailed."""
    from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415 - needs an extra

    contents = {stage.name: bundle.read(bundle.model_of(stage)) for stage in bundle.manifest.stages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=_OPTIONS, headless=True)
        try:
            page = browser.new_page()
            page.route("**/*", lambda route: _answer(route, contents, folder(cache)))
            page.goto(_ORIGIN)
            page.wait_for_function("window.ready === true")
            models = {
                stage.name: _BrowserModel(stage, contents[stage.name], page, Error) for stage in bundle.manifest.stages
            }
            yield _OpenedPage(models, browser.version)
        except Error as error:
            raise StageFailed(bundle.manifest.stages[0].name, f"the browser failed: {_first_line(error)}") from error
        finally:
            browser.close()


class _OpenedPage(Opened):
    def __init__(self, models: Mapping[str, TimedModel], chromium: str) -> None:
        super().__init__(models, f"{VERSION}, Chromium {chromium}")

    def peak_bytes(self) -> int | None:
        """Return the most that a renderer of ours held: the page is the largest of them."""
        peaks = [_peak(process) for process in _descendants() if "--type=renderer" in _command(process)]
        return max(peaks, default=None)


class _BrowserModel(TimedModel):
    """A stage's model, described by ONNX Runtime and computed in the page."""

    def __init__(self, stage: Stage, content: bytes, page: Any, fault: type[Exception]) -> None:  # noqa: ANN401
        super().__init__(stage, content)
        del self._session
        self._page, self._fault = page, fault
        try:
            page.evaluate("stage => openModel(stage)", stage.name)
        except fault as error:
            raise StageFailed(stage.name, f"onnxruntime-web does not open it: {_first_line(error)}") from error

    def compute(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        given = {
            name: {
                "type": values.dtype.name,
                "shape": values.shape,
                "data": base64.b64encode(values.tobytes()).decode(),
            }
            for name, values in feeds.items()
        }
        try:
            answer = self._page.evaluate("given => runModel(given)", [self.name, list(names), given])
        except self._fault as error:
            raise StageFailed(self.name, f"onnxruntime-web failed: {_first_line(error)}") from error
        self.spent += answer["milliseconds"]
        return [
            np.frombuffer(base64.b64decode(one["data"]), np.dtype(one["type"])).reshape(one["shape"])
            for one in answer["values"]
        ]


def _answer(route: Any, contents: Mapping[str, bytes], files: Path) -> None:  # noqa: ANN401
    name = route.request.url.removeprefix(_ORIGIN)
    if name == "":
        route.fulfill(body=_PAGE, content_type=_TYPES[".html"])
    elif name in _FILES:
        route.fulfill(body=(files / name).read_bytes(), content_type=_TYPES[Path(name).suffix])
    elif name.startswith("model/") and name.removeprefix("model/") in contents:
        route.fulfill(body=contents[name.removeprefix("model/")], content_type="application/octet-stream")
    else:
        route.abort()


def _unpack(archive: Path, target: Path) -> None:
    content = archive.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != _INTEGRITY:
        raise OperatorError(
            f"What npm gave as {PACKAGE} {VERSION} is another file (its SHA-512 differs).",
            mend="See which registry npm is set up for.",
        )
    with appearing_folder(target) as made, tarfile.open(archive) as packed:
        for name in _FILES:
            member = packed.extractfile(f"package/dist/{name}")
            assert member is not None  # noqa: S101 - the digest says that it is there
            (made / name).write_bytes(member.read())


def _chromium() -> str | None:
    return next((found for name in _CHROMIUM if (found := shutil.which(name))), None)


def _descendants() -> list[int]:
    """Return the processes that this one started, and those that these did."""
    found: list[int] = []
    waiting = [Path("/proc/self")]
    for process in waiting:
        for children in process.glob("task/*/children"):
            started = [int(one) for one in _text(children).split()]
            found += started
            waiting += [Path(f"/proc/{one}") for one in started]
    return found


def _command(process: int) -> str:
    return _text(Path(f"/proc/{process}/cmdline"))


def _peak(process: int) -> int:
    lines = _text(Path(f"/proc/{process}/status")).splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""


def _first_line(error: BaseException) -> str:
    return printable(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
