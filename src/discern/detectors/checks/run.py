"""Running the contract over a bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from discern.core.errors import DiscernError
from discern.detectors.assessment import load_detector
from discern.detectors.checks import contract
from discern.detectors.checks.types import CheckFailed, CheckResult
from discern.detectors.vetting import vet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from discern.detectors.assessment import Detector
    from discern.detectors.bundle import Bundle
    from discern.detectors.vetting import VettingLimits

    Check = Callable[[Bundle, Detector], str]

VETTED = "models_run_apart"
CHECKS: Mapping[str, Check] = {
    "manifest_round_trip": contract.check_manifest_round_trip,
    "files_match_digests": contract.check_files_match_digests,
    "temperatures_are_sane": contract.check_temperatures_are_sane,
    "bad_input_is_refused": contract.check_bad_input_is_refused,
    "scores_are_probabilities": contract.check_scores_are_probabilities,
    "extreme_inputs_are_answered": contract.check_extreme_inputs_are_answered,
    "input_is_not_mutated": contract.check_input_is_not_mutated,
    "same_input_same_score": contract.check_same_input_same_score,
    "batch_equals_one_by_one": contract.check_batch_equals_one_by_one,
    "row_order_does_not_matter": contract.check_row_order_does_not_matter,
    "decisions_follow_the_scores": contract.check_decisions_follow_the_scores,
    "stages_add_up": contract.check_stages_add_up,
    "threads_get_their_own_answers": contract.check_threads_get_their_own_answers,
    "video_pools_its_frames": contract.check_video_pools_its_frames,
    "memory_is_bounded": contract.check_memory_is_bounded,
}


def run_checks(bundle: Bundle, limits: VettingLimits | None = None) -> Iterator[CheckResult]:
    """Yield one result per check, in order, as each is done; `limits` are those of the process apart.

    The models first run in a process apart; when they fail there or do not open, that is the only result. The checks
    run on the stages' own models, and again on each variant.
    """
    bundles = [bundle.with_variant(None)]
    bundles += [bundle.with_variant(variant.name) for variant in bundle.manifest.variants]
    try:
        vetted = vet(bundle, limits)
        detectors = [load_detector(one) for one in bundles]
    except DiscernError as error:
        yield CheckResult(VETTED, passed=False, detail=str(error))
        return
    evidence = f"{len(vetted.stages)} stages in {vetted.seconds:.1f} s, at most {vetted.peak_bytes / 1e6:.0f} MB"
    yield CheckResult(VETTED, passed=True, detail=evidence)
    for one, detector in zip(bundles, detectors, strict=True):
        for name in CHECKS:
            result = run_check(name, one, detector)
            yield result if one.variant is None else replace(result, name=f"{name} ({one.variant})")


def run_check(name: str, bundle: Bundle, detector: Detector) -> CheckResult:
    """Return the result of one check of `CHECKS` on a bundle and its loaded detector."""
    try:
        detail = CHECKS[name](bundle, detector)
    except CheckFailed as failure:
        return CheckResult(name, passed=False, detail=failure.detail)
    except DiscernError as error:
        return CheckResult(name, passed=False, detail=str(error))
    return CheckResult(name, passed=True, detail=detail)
