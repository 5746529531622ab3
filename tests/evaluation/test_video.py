import numpy as np
import pytest
from support.fake_answers import fake

from sa2va.evaluation.video import frames_after_gap, track_figures, track_record


def clip(*visible: int, x: int = 4) -> np.ndarray:
    """Make a square of 8 px at column x, visible in the frames that are 1: (T, 24, 24)."""
    track = np.zeros((len(visible), 24, 24), bool)
    for frame in np.flatnonzero(visible):
        track[frame, 8:16, x : x + 8] = True
    return track


@pytest.mark.parametrize(
    ("visible", "frames"),
    [
        ((1, 1, 1), []),
        ((0, 0, 1, 1), []),
        ((1, 1, 0, 0), []),
        ((1, 0, 0, 1, 1), [3, 4]),
        ((0, 1, 0, 1, 0, 1), [3, 5]),
        ((0, 0), []),
    ],
)
def test_frames_after_gap(visible: tuple[int, ...], frames: list[int]) -> None:
    assert frames_after_gap(clip(*visible)) == frames


def test_every_frame_counts() -> None:
    target = clip(1, 0, 1, 1)
    record = track_record(fake("", clip(1, 0, 0, 0)[None]), target, target[None], 1)
    assert record["j"] == record["f"] == 0.5
    assert record["chance"] == 1.0
    assert record["ious"] == [1.0, 1.0, 0.0, 0.0]


def test_chosen_frames_alone() -> None:
    target = clip(1, 0, 1, 1)
    others = np.stack([target, clip(1, 1, 1, 1, x=15)])
    record = track_record(fake("", clip(1, 0, 0, 1)[None], score=0.5), target, others, 1, [2, 3])
    assert (record["j"], record["f"], record["num_frames"]) == (0.5, 0.5, 2)
    assert record["chance"] == 0.5
    assert record["scores"] == [0.5, 0.5]


def test_no_mask_is_right_only_where_nothing_shows() -> None:
    record = track_record(fake("", np.zeros((0, 4, 24, 24), bool)), clip(0, 0, 0, 1), clip(0, 0, 0, 1)[None], 1)
    assert record["j"] == record["f"] == 0.75
    assert "scores" not in record


def test_figures_select_what_only_motion_decides() -> None:
    base = {"chance": 0.2, "scores": [0.5], "ious": [0.5]}
    records = [{"j": 0.9, "f": 0.7, "needs_motion": True, **base}, {"j": 0.1, "f": 0.3, "needs_motion": False, **base}]
    overall, moving, j, f, ece = track_figures(records)
    assert (overall.value, overall.num_items) == (pytest.approx(0.5), 2)
    assert (moving.value, moving.num_items, moving.passed) == (pytest.approx(0.8), 1, True)
    assert (j.value, f.value, ece.value) == (pytest.approx(0.5), pytest.approx(0.5), 0.0)
