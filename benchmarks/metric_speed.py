"""Compare the time of intervals, contour accuracy and pairwise IoU with the plain way to compute each.

Flow: random counts, detections and masks of the size of a public benchmark -> both ways side by side -> ratios.
Run: python benchmarks/metric_speed.py [--resamples 1000]
"""

import sys
from collections.abc import Callable

import cv2
import numpy as np
from measure import Table, choose_clock, name_clock, parser, repeat_command, report, seconds_side_by_side

from sa2va.masks import encode_rle
from sa2va.metrics.ap import Detections, average_precision
from sa2va.metrics.boundary import boundary_f, boundary_map, disk, tolerance_radius
from sa2va.metrics.interval import SumStatistic, WeightedStatistic, bootstrap_interval
from sa2va.metrics.iou import iou, pairwise_rle_iou
from sa2va.metrics.referring import cumulative_iou, mean_iou

NUM_EXPRESSIONS, NUM_PICTURES = 30_000, 5_000
NUM_OBJECTS = 8  # masks of a caption
SIZES = ((480, 854), (720, 1280))  # of frames, px
INTERVAL_GOAL, CONTOUR_GOAL, PAIR_GOAL = 10.0, 1.5, 10.0

Pair = dict[str, Callable[[], object]]


def interval_pair(rows, statistic: SumStatistic | WeightedStatistic, groups, resamples: int) -> Pair:
    """Return an interval by sums or weights of groups, and the same by picking the rows of every resample."""
    return {
        "ours": lambda: bootstrap_interval(rows, statistic, groups, num_resamples=resamples),
        "plain": lambda: bootstrap_interval(rows, lambda drawn: statistic(drawn), groups, num_resamples=resamples),
    }


def random_detections(rng: np.random.Generator) -> list[Detections]:
    found = []
    for _ in range(NUM_PICTURES):
        number = int(rng.integers(0, NUM_OBJECTS))
        hits = tuple(bool(hit) for hit in rng.random(number) < 0.6)
        found.append(Detections(scores=(1.0,) * number, hits=hits, num_targets=NUM_OBJECTS // 2))
    return found


def ellipses(rng: np.random.Generator, number: int, height: int, width: int) -> np.ndarray:
    """Draw objects that cover a few percent of the picture each, (number, H, W)."""
    masks = np.zeros((number, height, width), np.uint8)
    for mask in masks:
        center = (int(rng.integers(width // 3, 2 * width // 3)), int(rng.integers(height // 3, 2 * height // 3)))
        axes = (int(rng.integers(width // 40, width // 8)), int(rng.integers(height // 40, height // 8)))
        cv2.ellipse(mask, center, axes, float(rng.integers(0, 180)), 0, 360, 1, -1)
    return masks.astype(bool)


def plain_f(pred: np.ndarray, target: np.ndarray) -> float:
    """Compute F on the whole picture."""
    kernel = disk(tolerance_radius(*pred.shape))
    one, other = boundary_map(pred), boundary_map(target)
    precision = (one & cv2.dilate(other.view(np.uint8), kernel).view(bool)).sum() / one.sum()
    recall = (other & cv2.dilate(one.view(np.uint8), kernel).view(bool)).sum() / other.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def main() -> int:
    made = parser("time of metrics against the plain way")
    made.add_argument("--resamples", type=int, default=1000, help="resamples of an interval")
    options = made.parse_args()
    rng = np.random.default_rng(0)
    clock = choose_clock("cpu")
    rows = rng.integers(0, 10_000, (NUM_EXPRESSIONS, 2)).cumsum(1)  # intersection <= union
    groups = [f"picture {number}" for number in rng.integers(0, NUM_PICTURES, NUM_EXPRESSIONS)]
    found = random_detections(rng)
    pairs: list[tuple[str, float, Pair]] = [
        ("interval of cIoU", INTERVAL_GOAL, interval_pair(rows, cumulative_iou, groups, options.resamples)),
        ("interval of gIoU", INTERVAL_GOAL, interval_pair(rows, mean_iou, groups, options.resamples)),
        (
            "interval of AP50",
            INTERVAL_GOAL,
            interval_pair(found, average_precision, None, options.resamples),
        ),
    ]
    for height, width in SIZES:
        pred, target = ellipses(rng, 10, height, width), ellipses(rng, 10, height, width)
        assert boundary_f(pred, target).tolist() == [plain_f(*both) for both in zip(pred, target, strict=True)]
        plain = lambda pred=pred, target=target: [plain_f(*both) for both in zip(pred, target, strict=True)]  # noqa: E731
        ours = lambda pred=pred, target=target: boundary_f(pred, target)  # noqa: E731
        pairs.append((f"F of 10 frames {width}x{height}", CONTOUR_GOAL, {"ours": ours, "plain": plain}))
    masks, truths = ellipses(rng, NUM_OBJECTS, 960, 1280), ellipses(rng, NUM_OBJECTS, 960, 1280)
    packed = [[encode_rle(mask) for mask in group] for group in (masks, truths)]
    decoded: Pair = {
        "ours": lambda: pairwise_rle_iou(*packed),
        "plain": lambda: [[iou(mask, truth) for truth in truths] for mask in masks],
    }
    pairs.append((f"IoU of {NUM_OBJECTS}x{NUM_OBJECTS} masks 1280x960", PAIR_GOAL, decoded))

    title = (
        f"{NUM_EXPRESSIONS} expressions of {NUM_PICTURES} pictures, {options.resamples} resamples, {name_clock(clock)}"
    )
    table = Table(title, ("metric", "ours, s", "plain way, s", "plain / ours"))
    for name, goal, pair in pairs:
        times = seconds_side_by_side(pair, clock=clock)
        table.add(name, times["ours"], times["plain"], times["plain"] / times["ours"])
        table.judge(name, times["plain"] / times["ours"], goal, at_least=True)
    return report(repeat_command("metric_speed.py", made, options), [table], record=options.record)


if __name__ == "__main__":
    sys.exit(main())
