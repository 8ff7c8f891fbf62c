"""Clips played over networks, on a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from discern.detection.streams.rules import Windows
from discern.detectors.assessment import Detector
from discern.evaluation.conditions.encodings import Clip
from discern.evaluation.conditions.registry import NETWORKS
from discern.evaluation.conditions.streams import (
    BEST_QUALITY,
    Closed,
    Player,
    arrivals,
    as_sent,
    matched,
    stream_curve,
)
from discern.evaluation.types import Item
from discern.inputs.faces import face_locator
from discern.inputs.spec import ImageSpec
from tests.evaluation.conditions.conftest import LIMITS, moving

SECONDS = tuple(place / 5 for place in range(2000))
QUIET = {"jitter": 0.0, "loss": 0.0, "quality": BEST_QUALITY}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture
def player(brightness: Detector) -> Player:
    rule, spec = brightness.manifest.stream, brightness.manifest.input
    assert rule is not None
    assert isinstance(spec, ImageSpec)
    return Player(brightness, spec, rule, Windows, LIMITS, face_locator(None))


def growing(frames: int = 30) -> Clip:
    """A clip that goes from dark to bright in its middle."""
    shown = [np.full((32, 32, 3), 40 if place < frames // 2 else 220, np.uint8) for place in range(frames)]
    return Clip(tuple(place / 5 for place in range(frames)), tuple(shown))


def test_a_network_that_does_nothing_changes_nothing(player: Player) -> None:
    assert arrivals(SECONDS, QUIET, generator()) == as_sent(SECONDS)
    clip = growing()
    clean = player.closed(clip, as_sent(clip.seconds))
    assert player.closed(clip, arrivals(clip.seconds, QUIET, generator())) == clean
    assert {one.decision for one in clean} >= {"clear", "flag"}


@pytest.mark.parametrize("network", NETWORKS, ids=lambda one: f"loss {one['loss']}")
def test_frames_are_lost_delayed_and_worse_as_the_network_says(network: dict[str, float]) -> None:
    found = arrivals(SECONDS, network, generator(3))
    lost = 1 - len(found) / len(SECONDS)
    delays = [one.at - SECONDS[one.frame] for one in found]
    assert lost == pytest.approx(network["loss"], rel=0.5, abs=0.01)
    assert np.mean(delays) == pytest.approx(network["jitter"], rel=0.1)
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert min(one.quality for one in found) >= network["quality"]
    assert max(one.quality for one in found) <= BEST_QUALITY
    assert len({one.quality for one in found if SECONDS[one.frame] < 1}) == 1
    assert arrivals(SECONDS, network, generator(3)) == found


def test_frames_are_overtaken_only_where_delays_are_longer_than_their_distance() -> None:
    late = []
    for network in NETWORKS:
        frames = [one.frame for one in arrivals(SECONDS, network, generator())]
        late.append(sum(after < before for before, after in pairwise(frames)))
    assert late[0] == 0
    assert late[-1] > 100


def test_windows_are_matched_by_time_each_once() -> None:
    clean = [Closed(at, 0.1, "clear") for at in (1.0, 1.5, 2.0)]
    hurt = [Closed(1.1, 0.2, "clear"), Closed(1.95, 0.7, "flag")]
    assert [other for _, other in matched(clean, hurt, 0.25)] == [hurt[0], None, hurt[1]]
    assert matched(clean, [], 0.25) == [(one, None) for one in clean]


def test_a_bad_network_changes_windows_and_says_by_how_much(player: Player) -> None:
    def clips() -> Iterator[tuple[Item, int, bytes]]:
        for place in range(3):
            yield Item(f"{place}", 1, f"{place}" * 64, f"{place}"), place, moving(30, 6.0, 60 + 50 * place)

    curve = stream_curve(clips(), player, seed=1)
    assert (curve.clips, curve.caveat, len(curve.points)) == (3, None, len(NETWORKS))
    first, last = curve.points[0], curve.points[-1]
    assert first.sent == last.sent == 90
    assert last.arrived < first.arrived
    assert last.out_of_order > first.out_of_order == 0
    assert first.windows == last.windows > 20
    assert first.missing.value is not None
    assert last.missing.value is not None
    assert last.missing.value >= first.missing.value
    assert first.change.value == pytest.approx(0, abs=0.02)
    assert curve == stream_curve(clips(), player, seed=1)


def test_what_is_no_clip_or_too_short_for_a_window_is_said(player: Player) -> None:
    item = Item("broken", 1, "0" * 64, "g")
    assert stream_curve(iter([(item, 0, b"no clip")]), player, 1).caveat == "There are no clips."
    short = stream_curve(iter([(item, 0, moving(3, 0.3))]), player, 1)
    assert (short.clips, short.points) == (1, ())
    assert short.caveat == "No clip is long enough for a window."
