"""Models run for the first time: in a process apart, within limits, with every failure named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from discern.core.errors import BundleRefused, OperatorError
from discern.detectors.bundle import Bundle, open_bundle
from discern.detectors.vetting import STARTER, VettingLimits, _run, vet
from tests.detectors import models

pytestmark = pytest.mark.system

SMALL = VettingLimits(memory_bytes=1536 * 1024**2, processor_seconds=10, wall_seconds=60.0)


def bundle_of(folder: Path, model: bytes, **changes: Any) -> Bundle:
    root = models.write_bundle(folder, models.record_manifest(**changes), {**models.RECORD_FILES, "only.onnx": model})
    return open_bundle(root, None)


def refusal(bundle: Bundle, limits: VettingLimits = SMALL) -> str:
    with pytest.raises(BundleRefused) as caught:
        vet(bundle, limits)
    assert caught.value.facts["file"] == "only.onnx"
    assert caught.value.mend
    return str(caught.value.facts["reason"])


def test_sound_bundles_pass_and_say_what_they_used(
    record_bundle: Bundle, image_bundle: Bundle, cascade_bundle: Bundle
) -> None:
    for bundle in (record_bundle, image_bundle, cascade_bundle):
        result = vet(bundle)
        assert result.digest == bundle.digest
        assert [stage.name for stage in result.stages] == [stage.name for stage in bundle.manifest.stages]
        assert all(stage.load_milliseconds > 0 and stage.run_milliseconds > 0 for stage in result.stages)
        assert 10_000_000 < result.peak_bytes < 1_000_000_000
        assert 0 < result.seconds < 60


def test_a_model_that_asks_for_tens_of_gigabytes_is_stopped(tmp_path: Path) -> None:
    model = models.allocating_model(40)
    assert len(model) < 1000
    assert "it may use 1536 MiB" in refusal(bundle_of(tmp_path / "b", model))


def test_a_model_that_never_ends_is_stopped_by_its_processor_time(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", models.endless_model())
    limits = VettingLimits(processor_seconds=4)
    assert refusal(bundle, limits) == "it used more than 4 s of processor time"


def test_a_model_that_never_ends_is_stopped_by_the_clock(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", models.endless_model())
    before, started = children(), time.monotonic()
    with pytest.raises(BundleRefused, match=r"ran for more than 1\.5 s"):
        vet(bundle, VettingLimits(wall_seconds=1.5))
    assert time.monotonic() - started < 30
    assert children() <= before


def children() -> set[str]:
    """Processes that this one started and that have not ended; other tests may have left some that serve them all."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(path.read_text().split()) if path.exists() else set()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (models.nan_model(), "on one row of zeros: the probability is not finite (nan)"),
        (models.out_of_range_model(), "on one row of zeros: the probability 2 is outside [0, 1]"),
        (models.wrong_shape_model(), "on 3 rows of zeros: the probability output probability has shape [1] for 3 rows"),
        (models.image_model(), "input image is uint8 [rows, 32, 32, 3], but the detector's input is float32 [rows, 3]"),
        (models.record_model([1.0, 2.0]), "input record is float32 [rows, 2]"),
        (models.stacked_model(), "the graph has the inputs image, screen_score"),
        (models.custom_domain_model("ai.onnx.ml"), None),
    ],
)
def test_a_model_that_does_not_answer_as_it_must_is_refused(tmp_path: Path, model: bytes, reason: str | None) -> None:
    bundle = bundle_of(tmp_path / "b", model)
    if reason is None:
        assert vet(bundle).digest == bundle.digest
    else:
        assert refusal(bundle).startswith(reason)


def test_a_graph_that_the_runtime_does_not_open_is_refused(tmp_path: Path) -> None:
    model = models.record_model().replace(b"Sigmoid", b"Sigmund")
    assert refusal(bundle_of(tmp_path / "b", model)).startswith("ONNX Runtime does not open the model")


def test_the_later_stage_is_named_when_it_fails(tmp_path: Path) -> None:
    files = {**models.CASCADE_FILES, "expert.onnx": models.image_model()}
    bundle = open_bundle(models.write_bundle(tmp_path / "b", models.cascade_manifest(), files), None)
    with pytest.raises(BundleRefused) as caught:
        vet(bundle)
    assert caught.value.facts["file"] == "expert.onnx"


def test_every_stage_is_run_even_where_an_early_exit_would_end_it(tmp_path: Path) -> None:
    """Black pictures are clear for the screen; the expert is vetted all the same."""
    files = {**models.CASCADE_FILES, "screen.onnx": models.image_model(slope=40.0)}
    bundle = open_bundle(models.write_bundle(tmp_path / "b", models.cascade_manifest(), files), None)
    assert [stage.name for stage in vet(bundle).stages] == ["screen", "expert"]


def test_a_file_changed_since_opening_is_not_run(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", models.record_model())
    (bundle.root / "only.onnx").write_bytes(models.endless_model())
    assert "SHA-256 differs" in refusal(bundle)


def test_too_little_memory_to_start_is_a_refusal_too(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b", models.record_model())
    with pytest.raises(BundleRefused):
        vet(bundle, VettingLimits(memory_bytes=1024**2))


PROBE = """
import json, os, resource, sys
from discern.detectors import vetting_child
def probe(bundle):
    wrote = True
    try:
        with open({target!r}, "w") as file:
            file.write("x")
    except OSError:
        wrote = False
    try:
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(1000)]
    except OSError:
        files = []
    kinds = ("AS", "CPU", "CORE", "FSIZE", "NOFILE")
    print(json.dumps({{
        "environment": sorted(os.environ), "wrote": wrote, "many_files": bool(files), "cwd": os.getcwd(),
        "session": os.getsid(0) == os.getpid(), "path": sys.path,
        "limits": {{kind: resource.getrlimit(getattr(resource, "RLIMIT_" + kind)) for kind in kinds}},
    }}))
    raise SystemExit(0)
vetting_child.run_models = probe
"""


def test_the_process_has_its_limits_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_bundle: Bundle
) -> None:
    """The real process is started the real way; only what it does at the end is replaced by a look around."""
    monkeypatch.setenv("DISCERN_SECRET", "hunter2")
    target = tmp_path / "written"
    probing = PROBE.format(target=str(target)) + "vetting_child.main()"
    starter = STARTER.replace("from discern.detectors.vetting_child import main; main()", f"exec({probing!r})")
    assert starter != STARTER
    request = {
        "manifest": record_bundle.manifest.model_dump(mode="json"),
        "root": str(record_bundle.root),
        "digest": record_bundle.digest,
        "limits": {"memory_bytes": 2**31, "processor_seconds": 20, "wall_seconds": 60.0, "open_files": 64},
    }
    ended = _run(json.dumps(request).encode(), VettingLimits(), starter)
    seen = json.loads(ended.output)
    assert set(seen["environment"]) <= {
        "LANG",
        "LC_CTYPE",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "LD_LIBRARY_PATH",
    }
    assert seen["limits"] == {
        "AS": [2**31, 2**31],
        "CPU": [20, 21],
        "CORE": [0, 0],
        "FSIZE": [0, 0],
        "NOFILE": [64, 64],
    }
    assert not seen["wrote"]
    assert not target.exists() or target.stat().st_size == 0
    assert not seen["many_files"]
    assert seen["cwd"] == "/"
    assert seen["session"]
    assert "" not in seen["path"]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("import os; os._exit(3)", "exit code 3"),
        ("raise SystemExit('cannot go on')", "cannot go on"),
        ("print('no report')", "no readable answer"),
        ("pass", "no readable answer"),
        ("print('[' * 100000)", "no readable answer"),
        ("\nwhile True: print('x' * 100000)", "wrote without end"),
        ("import sys\nwhile True: print('x' * 100000, file=sys.stderr)", "wrote without end"),
        ("import os, time; os.close(1); os.close(2); time.sleep(100)", "ran for more than 2 s"),
    ],
)
def test_whatever_the_process_does_becomes_a_refusal(record_bundle: Bundle, ending: str, reason: str) -> None:
    before = children()
    with pytest.raises(BundleRefused, match=reason):
        vet(record_bundle, VettingLimits(wall_seconds=2.0), starter=ending)
    assert children() <= before


def test_a_process_that_cannot_start_is_the_operators_matter(
    record_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OperatorError, match="does not start") as caught:
        vet(record_bundle)
    assert not isinstance(caught.value, BundleRefused)


def test_what_a_dead_process_started_dies_with_it(record_bundle: Bundle, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    spawn = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(100)"
    with pytest.raises(BundleRefused, match="ran for more than"):
        vet(record_bundle, VettingLimits(wall_seconds=3.0), starter=spawn)
    deadline = time.monotonic() + 10
    while alive(mark.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(mark.read_text())


def alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_parent_does_not_import_the_runtime(tmp_path: Path) -> None:
    program = "import sys, discern.detectors.vetting; sys.exit(int('onnxruntime' in sys.modules))"
    sources = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": sources}, cwd=tmp_path, check=True)
