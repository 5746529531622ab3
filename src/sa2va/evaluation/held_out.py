"""Score referring segmentation on held-out records of any stored dataset, beside masks made without looking.

Flow: StoredDataset -> held_out (a Benchmark: every expression is a request) -> cIoU, mean IoU, those of blind masks.
    Of several predicted or true masks the union counts.
Shapes: H W picture; E expressions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sa2va.data.stored import StoredDataset
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, ask_each, measure
from sa2va.evaluation.referring import averaged, cumulative
from sa2va.media.source import uniform_indices
from sa2va.metrics.iou import ciou, intersection_union
from sa2va.types import Sample

Size = tuple[int, int]  # H, W px
CENTER_SIDES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the picture's sides, from which the best is chosen on training data
NUM_BOXES = 20
NAME = "held-out"


def whole_picture(size: Size) -> NDArray[np.bool_]:
    """Return a mask of the whole picture."""
    return np.ones(size, bool)


def center_box(size: Size, side: float) -> NDArray[np.bool_]:
    """Return a centered box whose sides are a share of the picture's."""
    mask = np.zeros(size, bool)
    top, left = (round(length * (1 - side) / 2) for length in size)
    mask[top : size[0] - top, left : size[1] - left] = True
    return mask


def largest_random_box(size: Size, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the largest of NUM_BOXES random boxes; both corners are uniform."""
    rows, columns = (np.sort(rng.integers(0, length + 1, (NUM_BOXES, 2)), axis=1) for length in size)
    best = int(((rows[:, 1] - rows[:, 0]) * (columns[:, 1] - columns[:, 0])).argmax())
    mask = np.zeros(size, bool)
    mask[rows[best, 0] : rows[best, 1], columns[best, 0] : columns[best, 1]] = True
    return mask


@dataclass(frozen=True)
class BlindMasks:
    """Masks that are made without looking: baselines of referring segmentation.

    Attributes:
        center_side: side of the centered box, as a share of the picture's.
        seed: of the random boxes.
    """

    center_side: float = 0.7
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (
            "the whole picture",
            f"the center box, {self.center_side:.0%} of each side",
            f"the largest of {NUM_BOXES} random boxes",
        )

    def draw(self, size: Size, number: int) -> tuple[NDArray[np.bool_], ...]:
        """Return the masks of expression `number` in the order of `names`, (H, W) each."""
        rng = np.random.default_rng([self.seed, number])
        return whole_picture(size), center_box(size, self.center_side), largest_random_box(size, rng)


def choose_center(dataset: StoredDataset, num_records: int = 200) -> float:
    """Choose the side of the center box with the highest cIoU on training data."""
    truths = []
    for index in uniform_indices(len(dataset), num_records):
        truths += [truth for _, truth in true_masks(grounded(dataset[index]))]

    def score(side: float) -> float:
        pairs = [intersection_union(np.broadcast_to(center_box(t.shape[1:], side), t.shape), t) for t in truths]
        return ciou([i.sum() for i, _ in pairs], [u.sum() for _, u in pairs])

    return max(CENTER_SIDES, key=score)


def grounded(sample: Sample) -> Sample:
    """Return a sample with only the turns whose answers have masks."""
    return replace(sample, turns=tuple(turn for turn in sample.turns if turn.spans))


def true_masks(sample: Sample) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return question and united true mask (T, H, W) of each turn."""
    masks = []
    for turn in sample.turns:
        objects = [index for span in turn.spans for index in span.objects]
        found = sample.tracks.masks(objects, range(sample.num_frames))
        masks.append((turn.question, np.asarray(found.any(axis=0))))
    return masks


def score_expressions(blind: BlindMasks, sample: Sample, answers: Sequence[Answer]) -> Record:
    """Compare the united masks of each answer, and the blind masks, with the true mask of its question."""
    rows = []
    for number, ((question, truth), found) in enumerate(zip(true_masks(sample), answers, strict=True)):
        guesses = [np.broadcast_to(mask, truth.shape) for mask in blind.draw(truth.shape[1:], number)]
        pairs = [intersection_union(mask, truth) for mask in (np.asarray(found.masks.any(axis=0)), *guesses)]
        rows.append({"question": question, "pairs": [[int(i.sum()), int(u.sum())] for i, u in pairs]})
    return {"rows": rows}


def held_out(
    dataset: StoredDataset, *, blind: BlindMasks | None = None, num_items: int = 200, batch_size: int = 8
) -> Benchmark:
    """Build the benchmark of a dataset's records, each with all expressions that it draws.

    Args:
        dataset: draws every expression of a record if its `num_expressions` is large enough.
        blind: masks made without looking.
        num_items: records to measure, spread over the dataset; all if there are fewer.
        batch_size: records whose expressions are asked together.
    """
    blind = blind or BlindMasks()
    indices = [i for i in uniform_indices(len(dataset), num_items) if grounded(dataset[i]).turns]
    if not indices:
        raise ValueError(f"dataset {dataset.name}: no record has an expression with a mask; nothing can be measured")
    load: Callable[[int], Sample] = lambda number: grounded(dataset[indices[number]])  # noqa: E731
    return Benchmark(
        name=NAME,
        title="Held-out data",
        ids=[str(index) for index in indices],
        load=load,
        ask=ask_each,
        score=lambda sample, answers: score_expressions(blind, sample, answers),
        summarize=lambda records: held_out_figures(records, blind),
        batch_size=batch_size,
    )


def held_out_figures(records: Sequence[Record], blind: BlindMasks) -> list[Figure]:
    """Compute cIoU and mean IoU over expressions, with intervals over records, and cIoU of each blind mask."""
    owners = [owner for owner, record in enumerate(records) for _ in record["rows"]]
    pairs = np.array([row["pairs"] for record in records for row in record["rows"]], float)  # (E, 1 + blind, 2)
    pairs = pairs.reshape(-1, 1 + len(blind.names), 2)
    blind_cious = [cumulative(pairs[:, place]) for place in range(1, pairs.shape[1])]
    blind_means = [averaged(pairs[:, place]) for place in range(1, pairs.shape[1])]
    best, best_mean = int(np.argmax(blind_cious)), int(np.argmax(blind_means))
    figures = [
        measure(
            "cIoU", pairs[:, 0], cumulative, groups=owners, chance=blind_cious[best], baseline=blind.names[best]
        ),
        measure(
            "mean IoU", pairs[:, 0], averaged, groups=owners, chance=blind_means[best_mean],
            baseline=blind.names[best_mean],
        ),
    ]  # fmt: skip
    figures += [
        measure(f"cIoU of {name}", pairs[:, place], cumulative, groups=owners)
        for place, name in enumerate(blind.names, 1)
    ]
    return figures
