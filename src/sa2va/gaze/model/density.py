"""Distributions over canvas positions and over times, with exact densities and sampling from given uniform numbers.

Flow: decoder.py (logits) -> GridDensity of the next position, LogNormalMixture of a duration or a gap -> losses.py
    (log likelihoods), rollout.py (samples).
Shapes: ... any leading axes, g h rows and g w columns of the grid of cells, Q components of a mixture; xy px, ms.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sa2va.gaze.letterbox import CANVAS

MAX_TIME = 10_000.0  # ms, upper limit of sampled times


@dataclass(frozen=True)
class Grid:
    """Square cells that tile the canvas."""

    cell: int = 16  # px

    def __post_init__(self) -> None:
        if self.cell < 1 or any(side % self.cell for side in CANVAS):
            raise ValueError(f"grid: cells of {self.cell} px do not tile {CANVAS[0]} x {CANVAS[1]} px; 8 or 16 do")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return CANVAS[1] // self.cell, CANVAS[0] // self.cell

    @property
    def num_cells(self) -> int:
        return self.shape[0] * self.shape[1]

    def centers(self, device: torch.device | None = None) -> Tensor:
        """Return the center of each cell, row by row: (g h * g w, 2) xy px."""
        rows, columns = (torch.arange(size, device=device) for size in self.shape)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return (torch.stack([x, y], dim=-1).flatten(0, 1) + 0.5) * self.cell


@dataclass(frozen=True)
class GridDensity:
    """A density over the canvas: one mass per cell, interpolated linearly between cell centers.

    Each cell's mass has a tent-shaped kernel two cells wide. At the edge of the canvas the outer half of the tent is a
    box, so the density integrates to exactly 1 on the canvas without truncation.
    """

    log_mass: Tensor  # (..., g h * g w), the exponentials sum to 1
    grid: Grid

    @classmethod
    def from_logits(cls, logits: Tensor, grid: Grid) -> "GridDensity":
        return cls(logits.float().log_softmax(-1), grid)

    @classmethod
    def of_mixture(cls, weights: Tensor, logits: Tensor, grid: Grid) -> "GridDensity":
        """Mix Q densities: weight logits (..., Q), cell logits (..., Q, g h * g w)."""
        parts = logits.float().log_softmax(-1) + weights.float().log_softmax(-1)[..., None]
        return cls(parts.logsumexp(-2), grid)

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the natural log of the density per px^2: (..., 2) xy px -> (...). Outside points clamp to the edge."""
        rows, columns = self.grid.shape
        limits = torch.tensor([columns - 1, rows - 1], device=points.device)
        place = (points / self.grid.cell - 0.5).clamp(min=0).minimum(limits)
        low = place.floor().long().minimum(limits - 1).clamp(min=0)
        share = place - low
        terms = []
        for right in (0, 1):
            for down in (0, 1):
                x = (low[..., 0] + right).clamp(max=columns - 1)
                y = (low[..., 1] + down).clamp(max=rows - 1)
                weight = (share[..., 0] if right else 1 - share[..., 0]) * (
                    share[..., 1] if down else 1 - share[..., 1]
                )
                mass = self.log_mass.gather(-1, (y * columns + x)[..., None])[..., 0]
                terms.append(mass + weight.clamp(min=1e-12).log())
        return torch.stack(terms).logsumexp(0) - 2 * math.log(self.grid.cell)

    def log_mass_on(self, cover: Tensor) -> Tensor:
        """Return the natural log of a region's mass: (..., g h * g w) covered share of each cell, 0..1 -> (...)."""
        return (self.log_mass + cover.clamp(min=1e-6).log()).logsumexp(-1)

    def restricted(self, cover: Tensor) -> "GridDensity":
        """Condition the density on the covered cells."""
        return GridDensity.from_logits(self.log_mass + cover.clamp(min=1e-9).log(), self.grid)

    def draw(self, numbers: Tensor) -> Tensor:
        """Sample points: (..., 3) uniform numbers in 0..1 -> (..., 2) xy px."""
        rows, columns = self.grid.shape
        total = self.log_mass.double().exp().cumsum(-1)
        goal = numbers[..., :1].double() * total[..., -1:]
        index = torch.searchsorted(total, goal, right=True)[..., 0].clamp(max=self.grid.num_cells - 1)
        x, y = index % columns, index // columns
        column = x + 0.5 + _tent(numbers[..., 1], first=x == 0, last=x == columns - 1)
        row = y + 0.5 + _tent(numbers[..., 2], first=y == 0, last=y == rows - 1)
        return torch.stack([column, row], dim=-1).float() * self.grid.cell

    def mode(self) -> Tensor:
        """Return the center of the cell with the most mass, (..., 2) xy px."""
        return self.grid.centers(self.log_mass.device)[self.log_mass.argmax(-1)].float()


def _tent(number: Tensor, *, first: Tensor, last: Tensor) -> Tensor:
    """Map uniform numbers to offsets from the cell center, in cells: a tent; its half at a canvas edge is a box."""
    left = torch.where(first, number - 0.5, (2 * number).sqrt() - 1)
    right = torch.where(last, number - 0.5, 1 - (2 * (1 - number)).clamp(min=0).sqrt())
    return torch.where(number < 0.5, left, right)


@dataclass(frozen=True)
class LogNormalMixture:
    """A mixture of log-normal distributions of times in ms."""

    log_weight: Tensor  # (..., Q), the exponentials sum to 1
    mean: Tensor  # (..., Q) of ln(ms)
    spread: Tensor  # (..., Q) SD of ln(ms)

    @classmethod
    def from_raw(cls, raw: Tensor) -> "LogNormalMixture":
        """Build from unconstrained parameters (..., 3 Q)."""
        weight, mean, spread = raw.float().chunk(3, dim=-1)
        return cls(weight.log_softmax(-1), mean, 0.1 + 1.4 * spread.sigmoid())

    def column(self, place: int) -> "LogNormalMixture":
        """Select one index of the last leading axis."""
        return LogNormalMixture(self.log_weight[..., place, :], self.mean[..., place, :], self.spread[..., place, :])

    def log_prob(self, times: Tensor) -> Tensor:
        """Return the natural log of the density per ms: (...) ms -> (...)."""
        logs = times.clamp(min=1e-3).log()[..., None]
        score = -0.5 * ((logs - self.mean) / self.spread) ** 2 - self.spread.log() - 0.5 * math.log(2 * math.pi)
        return (self.log_weight + score).logsumexp(-1) - logs[..., 0]

    def cdf(self, times: Tensor) -> Tensor:
        """Return the cumulative probability: (...) ms -> (...)."""
        z = (times.clamp(min=1e-3).log()[..., None] - self.mean) / self.spread
        return (self.log_weight.exp() * torch.special.ndtr(z)).sum(-1) * (times > 0)

    def draw(self, numbers: Tensor) -> Tensor:
        """Sample times: (..., 2) uniform numbers in 0..1 -> (...) ms."""
        total = self.log_weight.exp().cumsum(-1)
        index = torch.searchsorted(total, numbers[..., :1] * total[..., -1:], right=True)
        index = index.clamp(max=total.shape[-1] - 1)
        z = torch.special.ndtri(numbers[..., 1].double().clamp(1e-6, 1 - 1e-6)).float()
        logs = self.mean.gather(-1, index)[..., 0] + z * self.spread.gather(-1, index)[..., 0]
        return logs.exp().clamp(1.0, MAX_TIME)

    def draw_after(self, numbers: Tensor, least: Tensor) -> Tensor:
        """Sample times conditioned to exceed `least`: (...) uniform numbers in 0..1, (...) ms -> (...) ms."""
        low, high = least.clamp(min=1e-3), torch.full_like(least, MAX_TIME)
        known = self.cdf(low)
        goal = known + numbers * (self.cdf(high) - known)
        for _ in range(30):  # bisection in ln(ms)
            middle = (low * high).sqrt()
            below = self.cdf(middle) < goal
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high

    def mode(self) -> Tensor:
        """Return the median of the component with the largest weight, ms."""
        index = self.log_weight.argmax(-1, keepdim=True)
        return self.mean.gather(-1, index)[..., 0].exp().clamp(1.0, MAX_TIME)
