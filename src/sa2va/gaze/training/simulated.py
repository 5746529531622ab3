"""Convert simulated gaze to tensors: event tokens of scanpaths, and oracle beliefs per pack.

Flow: make_viewing (scene, expression, observer) -> draw_gaze -> DrawnGaze -> store.py, joint.py.
Shapes: N expressions, V observers of each, P packs, M objects, g h g w grid of cells on the canvas, C = g h * g w.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import EventBatch, collate, write_tokens
from sa2va.gaze.model.grounding import canvas_maps
from sa2va.gaze.simulator.cases import Case
from sa2va.gaze.simulator.dataset import NUM_PEOPLE, Viewing, make_viewing
from sa2va.gaze.trial import on_canvas
from sa2va.world.tasks.items import SIDE

# Source of belief maps: the masks of Sa2VA, the objects still possible, or the target from the start.
Beliefs = Literal["model", "possible", "target"]
CROWD_SIGMA = 9.0  # px, blur of the fixation map of all observers, as in the metrics


@dataclass(frozen=True, kw_only=True)
class DrawnGaze:
    """N expressions on synthetic scenes, with the scanpaths of their simulated observers."""

    possible: Tensor  # (N, P, g h, g w) 0..1, visible parts of the objects still possible after the words of each pack
    target: Tensor  # (N, g h, g w) 0..1
    crowd: Tensor  # (N, P, C) blurred fixation map of all observers in each pack; sums to 1, or 0 without fixations
    known: Tensor  # (N, P) bool, True for existing packs; padding repeats the last pack
    events: EventBatch  # N * V scanpaths, grouped by expression, without beliefs and states


def draw_viewings(seed: int, split: str, index: int, num_people: int) -> list[Viewing]:
    """Simulate `num_people` observers of one item; deterministic in the arguments."""
    people = np.random.default_rng([seed, index]).choice(NUM_PEOPLE, num_people, replace=False)
    return [make_viewing(seed, split, index, int(person)) for person in people]


def draw_gaze(groups: Sequence[Sequence[Viewing]], grid: Grid) -> DrawnGaze:
    """Convert viewings to tensors.

    Args:
        groups: N lists with the V viewings of one item.
        grid: grid of cells on the canvas.
    """
    cases = [group[0].case for group in groups]
    counts = [len(case.expression.words) + 2 for case in cases]
    objects = [object_maps(case, grid) for case in cases]
    trials = [on_canvas(viewing.trial) for group in groups for viewing in group]
    paths = [[on_canvas(viewing.trial).scanpath.pack_points for viewing in group] for group in groups]
    blank = torch.zeros(1, *grid.shape)
    return DrawnGaze(
        possible=_padded([possible_maps(case, maps) for case, maps in zip(cases, objects, strict=True)]),
        target=torch.stack([maps[case.target] for case, maps in zip(cases, objects, strict=True)]),
        crowd=_padded([_crowd(group, grid) for group in paths]),
        known=torch.arange(max(counts)) < torch.tensor(counts)[:, None],
        events=collate([write_tokens(trial.scanpath, trial.timing) for trial in trials], [blank] * len(trials)),
    )


def object_maps(case: Case, grid: Grid) -> Tensor:
    """Return the share of each cell that the visible part of each object covers: (M, g h, g w)."""
    masks = F.avg_pool2d(torch.from_numpy(case.masks).float()[:, None], 2)
    return canvas_maps(masks, (SIDE, SIDE), grid)[:, 0]


def possible_maps(case: Case, objects: Tensor) -> Tensor:
    """Sum the maps (M, h, w) of the objects still possible after the words of each pack: (P, h, w)."""
    flags = torch.from_numpy(case.stimulus.possible).float()  # (N + 1, M)
    maps = torch.einsum("pm,mhw->phw", flags, objects).clamp(max=1)
    return torch.cat([maps, maps[-1:]])


def _crowd(paths: Sequence[Sequence[NDArray[np.float64]]], grid: Grid) -> Tensor:
    """Return the blurred fixation map of one expression's observers in each pack: (P, C)."""
    edges = [torch.arange(count + 1) * float(grid.cell) for count in grid.shape[::-1]]
    rows = []
    for packs in zip(*paths, strict=True):
        points = torch.from_numpy(np.concatenate(packs)).float()
        x, y = (
            torch.special.ndtr((edge - points[:, axis, None]) / CROWD_SIGMA).diff(dim=1)
            for axis, edge in enumerate(edges)
        )
        cells = (y.T @ x).flatten()
        rows.append(cells / cells.sum() if len(points) else cells)
    return torch.stack(rows)


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack sequences of packs; shorter ones repeat their last pack."""
    most = max(map(len, rows))
    return torch.stack([torch.cat([row, row[-1:].expand(most - len(row), *row.shape[1:])]) for row in rows])
