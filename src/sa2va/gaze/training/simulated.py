"""Turn gaze of the drawn world into tensors: what people did, and what the words so far may mean.

Flow: make_viewing (a scene, an expression, a person) -> draw_gaze -> DrawnGaze -> store.py, joint.py.
Shapes: N expressions, V people of each, P packs, M objects, g h g w grid of cells on the canvas, C = g h * g w.
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

Beliefs = Literal["model", "possible", "target"]  # Sa2VA's own; what is known of the scene; the target from the start
CROWD_SIGMA = 9.0  # px, blur of the map of all people, as in the metrics


@dataclass(frozen=True, kw_only=True)
class DrawnGaze:
    """N expressions about drawn scenes, and the people who looked at each."""

    possible: Tensor  # (N, P, g h, g w) 0..1, what the words so far may mean, visible parts
    target: Tensor  # (N, g h, g w) 0..1
    crowd: Tensor  # (N, P, C) where its people look in each pack, rows of sum 1 or 0
    known: Tensor  # (N, P) bool, packs that there are; beyond them the last one is repeated
    events: EventBatch  # N * V scanpaths, those of one expression in a row, without beliefs and states


def draw_viewings(seed: int, split: str, index: int, num_people: int) -> list[Viewing]:
    """Let some of the people look at one item, always the same for the same arguments."""
    people = np.random.default_rng([seed, index]).choice(NUM_PEOPLE, num_people, replace=False)
    return [make_viewing(seed, split, index, int(person)) for person in people]


def draw_gaze(groups: Sequence[Sequence[Viewing]], grid: Grid) -> DrawnGaze:
    """Put viewings into tensors.

    Args:
        groups: N times the V viewings of one item.
        grid: of cells on the canvas.
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
    """Share of each cell that each object covers, visible parts: (M, g h, g w)."""
    masks = F.avg_pool2d(torch.from_numpy(case.masks).float()[:, None], 2)
    return canvas_maps(masks, (SIDE, SIDE), grid)[:, 0]


def possible_maps(case: Case, objects: Tensor) -> Tensor:
    """Add up the maps (M, h, w) of the objects that the words of each pack leave possible: (P, h, w)."""
    flags = torch.from_numpy(case.stimulus.possible).float()  # (N + 1, M)
    maps = torch.einsum("pm,mhw->phw", flags, objects).clamp(max=1)
    return torch.cat([maps, maps[-1:]])


def _crowd(paths: Sequence[Sequence[NDArray[np.float64]]], grid: Grid) -> Tensor:
    """Where the people of one expression look in each pack, blurred: (P, C)."""
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
    """Stack rows of packs; a short one repeats its last pack."""
    most = max(map(len, rows))
    return torch.stack([torch.cat([row, row[-1:].expand(most - len(row), *row.shape[1:])]) for row in rows])
