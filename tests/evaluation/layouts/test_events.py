"""Events of clips, as `events.csv` tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from discern.core.errors import DatasetRefused
from discern.evaluation.datasets import freeze
from tests.evaluation.conftest import Put

HEAD = "file,name,start,seconds\n"


@pytest.fixture
def clips(put: Put) -> Put:
    """Two clips of either class."""
    for path in ("awake/1.mp4", "awake/2.mp4", "sleepy/1.mp4", "sleepy/2.mp4"):
        put(path)
    return put


def events(root: Path) -> dict[str, object]:
    return {item.id: item.events for item in freeze(root, "folder", {"positive": "sleepy"}).items}


def test_a_file_tells_of_every_clip_beside_and_below_it_and_is_frozen_with_them(clips: Put, root: Path) -> None:
    clips("events.csv", HEAD + "sleepy/2.mp4,yawn,4.5,3\nsleepy/2.mp4,yawn,0.5,2\nawake/1.mp4,blink,,\n")
    clips("sleepy/events.csv", HEAD + "1.mp4,nod,1,1\n")
    none: dict[str, object] = {"blink": (), "yawn": ()}
    assert events(root) == {
        "awake/1.mp4": none,
        "awake/2.mp4": none,
        "sleepy/1.mp4": none | {"nod": ((1.0, 1.0),)},
        "sleepy/2.mp4": none | {"nod": (), "yawn": ((0.5, 2.0), (4.5, 3.0))},
    }
    manifest = freeze(root, "folder", {"positive": "sleepy"})
    assert [one.path for one in manifest.files] == ["events.csv", "sleepy/events.csv"]


@pytest.mark.usefixtures("clips")
def test_without_a_file_nothing_is_known_of_events(root: Path) -> None:
    assert set(map(str, events(root).values())) == {"None"}
    assert "events" not in freeze(root, "folder", {"positive": "sleepy"}).encoded.decode()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("awake/3.mp4,yawn,1,2", "names awake/3.mp4, which is not there"),
        ("../1.mp4,yawn,1,2", "not below the root"),
        ("awake/1.mp4,,1,2", "line 2: the event has no name"),
        ("awake/1.mp4,yawn,one,2", "could not convert"),
        ("awake/1.mp4,yawn,1,", "could not convert"),
        ("awake/1.mp4,yawn,-1,2", "starts at -1"),
        ("awake/1.mp4,yawn,1,0", "lasts 0 seconds"),
        ("awake/1.mp4,yawn,nan,2", "starts at nan"),
        ("awake/1.mp4,yawn,1,2\nawake/1.mp4,yawn,2.5,2", "two events yawn overlap"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused(clips: Put, root: Path, rows: str, said: str) -> None:
    clips("events.csv", HEAD + rows + "\n")
    with pytest.raises(DatasetRefused) as refused:
        events(root)
    assert said in str(refused.value)


def test_a_file_of_other_columns_is_refused_and_files_that_are_not_taken_are_counted(clips: Put, root: Path) -> None:
    clips("events.csv", "file,name,begin,end\n")
    with pytest.raises(DatasetRefused, match="no column seconds, start"):
        events(root)
    clips("other.mp4")
    clips("events.csv", HEAD + "other.mp4,yawn,1,2\n")
    caveats = freeze(root, "folder", {"positive": "sleepy"}).caveats
    assert "1 files that events are named for are not in the dataset." in caveats


def test_events_stand_beside_the_clips_of_any_layout(put: Put, root: Path) -> None:
    for name in ("0.mov", "10.mov"):
        put(f"Fold1_part1/01/{name}")
    put("Fold1_part1/01/events.csv", HEAD + "10.mov,yawn,1,2.5\n")
    found = {item.id: item.events for item in freeze(root, "uta-rldd").items}
    assert found == {"Fold1_part1/01/0.mov": {"yawn": ()}, "Fold1_part1/01/10.mov": {"yawn": ((1.0, 2.5),)}}
