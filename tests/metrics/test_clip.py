import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa2va.metrics.boundary import boundary_f, jaccard
from sa2va.metrics.clip import ClipScore, series_statistics


def blobs(rng: np.random.Generator, num_frames: int, height: int, width: int) -> np.ndarray:
    """Draw tracks of a few boxes; some frames are empty, some full."""
    masks = np.zeros((num_frames, height, width), bool)
    for mask in masks:
        for _ in range(int(rng.integers(0, 4))):
            top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
            mask[top : top + int(rng.integers(1, height)), left : left + int(rng.integers(1, width))] ^= True
    return masks


def box(x0: int, side: int, size: int = 24) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[8 : 8 + side, x0 : x0 + side] = True
    return mask


EMPTY = np.zeros((24, 24), bool)


def test_frames_by_hand() -> None:
    """Five frames of 576 px; the foreground is the object of 64 px and another one of 16 px."""
    score = ClipScore()
    every = box(8, 8) | box(18, 4)  # 64 + 16 px
    score.update(box(8, 8), box(8, 8), every)  # right
    score.update(box(12, 8), box(8, 8), every)  # 4 of 8 columns: J 32 / 96, 32 px invented, 64 px wrong
    score.update(EMPTY, box(8, 8), every)  # missed
    score.update(box(8, 8), EMPTY, EMPTY)  # invented without any foreground
    score.update(EMPTY, EMPTY, EMPTY)  # rightly empty
    assert score.num_frames == 5
    assert score.j == pytest.approx([1, 1 / 3, 0, 0, 1])
    assert score.f == pytest.approx([1, 14 / 32, 0, 0, 1])  # tests/metrics/test_boundary.py counts the 14
    means = score.means()
    assert means["j"] == pytest.approx((2 + 1 / 3) / 5) and means["f"] == pytest.approx((2 + 14 / 32) / 5)
    assert means["jf"] == pytest.approx((means["j"] + means["f"]) / 2)
    assert means["accuracy"] == pytest.approx(1 - (64 + 64 + 64) / 576 / 5)
    assert means["robustness"] == pytest.approx((1 + (1 - 32 / 80) + 1 + 0 + 1) / 5, abs=1e-7)


def test_robustness_needs_the_foreground_of_every_frame() -> None:
    score = ClipScore()
    score.update(box(8, 8), box(8, 8), box(8, 8))
    score.update(box(8, 8), box(8, 8))
    assert set(score.means()) == {"j", "f", "jf", "accuracy"}


def test_a_clip_without_frames() -> None:
    with pytest.raises(ValueError, match="without frames"):
        ClipScore().means()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 16), st.integers(2, 16))
def test_a_stream_of_frames_scores_as_the_whole_track(seed: int, num_frames: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    pred, target = rng.random((2, num_frames, height, width)) < rng.choice([0.0, 0.02, 0.5])
    score, itself = ClipScore(), ClipScore()
    for one, other in zip(pred, target, strict=True):
        score.update(one, other)
        itself.update(other, other, other)
    assert score.j == jaccard(pred, target).tolist()
    assert score.f == boundary_f(pred, target).tolist()
    assert score.means()["accuracy"] == pytest.approx((pred == target).mean())
    assert itself.means() == dict.fromkeys(("j", "f", "jf", "accuracy", "robustness"), 1.0)


def test_davis_statistics_by_hand() -> None:
    """Eight frames between the first and the last; the quarters are 0..2, 2..4 (rounded), 4..5 and 5..7."""
    values = [0.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0]
    found = series_statistics(values)
    assert found.mean == pytest.approx(0.65)
    assert found.recall == pytest.approx(5 / 8)  # 0.5 is not above 0.5
    assert found.decay == pytest.approx((1.0 + 0.9 + 0.8) / 3 - (0.5 + 0.4 + 0.3) / 3)
    assert series_statistics(values, whole=True).mean == pytest.approx(0.52)


def test_a_long_clip_decays_over_all_its_frames() -> None:
    values = np.linspace(1, 0, 402)
    assert series_statistics(values).decay == pytest.approx(0.75, abs=0.01)


def test_a_series_without_frames() -> None:
    with pytest.raises(ValueError, match="at least 3 frames, got 2"):
        series_statistics([1.0, 1.0])


def test_agrees_with_loops_over_pixels() -> None:
    """J, F, accuracy and robustness of 200 clips, from distances between contour pixels."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(2, 260, 2))
        pred, target, other = (blobs(rng, 2, height, width) for _ in range(3))
        near = rng.random() < 0.5  # contours close to each other
        pred = np.roll(target, 2, axis=2) if near else pred
        score, expected = ClipScore(), []
        for one, truth, foreground in zip(pred, target, target | other, strict=True):
            score.update(one, truth, foreground)
            expected.append(naive_frame(one, truth, foreground))
        means = score.means()
        found = [means["j"], means["f"], means["accuracy"], means["robustness"]]
        assert found == pytest.approx(np.mean(expected, axis=0).tolist(), abs=1e-9)


def naive_frame(pred: np.ndarray, target: np.ndarray, foreground: np.ndarray) -> list[float]:
    union = int((pred | target).sum())
    j = int((pred & target).sum()) / union if union else 1.0
    robustness = max(1 - int((pred & ~target).sum()) / (int(foreground.sum()) + 1e-6), 0)
    return [j, naive_f(pred, target), float((pred == target).mean()), robustness]


def contour(mask: np.ndarray) -> np.ndarray:
    """List pixels (y, x) that differ from their right, lower or lower-right neighbor inside the picture."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return np.argwhere(edge)


def naive_f(pred: np.ndarray, target: np.ndarray) -> float:
    one, other = contour(pred), contour(target)
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    radius = int(np.ceil(0.008 * np.hypot(*pred.shape)))
    close = ((one[:, None] - other[None]) ** 2).sum(-1) <= radius**2
    precision, recall = close.any(1).mean(), close.any(0).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def test_agrees_with_vos_benchmark() -> None:
    evaluator = pytest.importorskip("vos_benchmark.evaluator", reason="vos-benchmark is not installed")
    rng = np.random.default_rng(2)
    for _ in range(200):
        height, width = (int(side) for side in rng.integers(2, 400, 2))
        target = blobs(rng, 2, height, width)
        pred = np.roll(target, 3, axis=1) if rng.random() < 0.5 else blobs(rng, 2, height, width)
        score = ClipScore()
        for one, truth in zip(pred, target, strict=True):
            score.update(one, truth)
            judge = evaluator.Evaluator()  # one per frame: it skips the frames before an object appears
            judge.feed_frame(one.astype(np.uint8), truth.astype(np.uint8))
            expected = [judge.object_iou[1], judge.boundary_f[1]] if (one | truth).any() else [[1.0], [1.0]]
            assert [[score.j[-1]], [score.f[-1]]] == [pytest.approx(values, abs=1e-9) for values in expected]
