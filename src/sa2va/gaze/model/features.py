"""Compute the hand-made input features of the event decoder, per token and per cell of the canvas.

Flow: events.py (facts), belief maps -> token_features (scanpath so far), place_features (each cell relative to the
    current fixation, the target and the canvas), time_features (onset of the next fixation) -> decoder.py.
Source: features are relative to the previous fixation, the target and the canvas center, which carry most of the
    likelihood of human fixations on RefCOCO-Gaze, arXiv:2407.19605.
Shapes: ... any leading axes, F facts, C = g h * g w cells; xy px of the canvas, ms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import FACT
from sa2va.gaze.model.scene_maps import FAINT

NUM_TOKEN_FEATURES = 45
NUM_PLACE_FEATURES = 26
NUM_TIME_FEATURES = 6
STEP = 64.0  # px, typical saccade
BEAT = 400.0  # ms, typical word
EDGE = 0.2  # share of the peak belief below which a cell is outside the target


@dataclass(frozen=True)
class Belief:
    """Belief maps of the target's position with their moments, bounding boxes and peaks."""

    shares: Tensor  # (..., C) sums to 1
    middle: Tensor  # (..., 2) mean, xy px
    spread: Tensor  # (..., 2) SD in x and y, px
    box: Tensor  # (..., 4) x0 y0 x1 y1 px, with subcell precision from partly covered cells
    peak: Tensor  # (..., 1) largest belief of a cell, 0..1; lower for masks of wrong objects

    @classmethod
    def of(cls, maps: Tensor, grid: Grid) -> "Belief":
        """Normalize maps (..., g h, g w) of any scale >= 0; an empty map becomes uniform."""
        flat = maps.float().flatten(-2) + 1e-6
        shares = flat / flat.sum(-1, keepdim=True)
        places = grid.centers(maps.device)
        middle = shares @ places
        spread = (shares @ places**2 - middle**2).clamp(min=(grid.cell / 2) ** 2).sqrt()
        peak = maps.float().amax((-2, -1))[..., None]
        return cls(shares, middle, spread, _surround(maps.float(), grid), peak)

    def each(self, function: Callable[[Tensor], Tensor]) -> "Belief":
        """Apply a function, which may change the leading axes, to every field."""
        known = (self.shares, self.middle, self.spread, self.box, self.peak)
        return Belief(*map(function, known))

    def rows(self, *index: Tensor) -> "Belief":
        """Index the leading axes."""
        return self.each(lambda value: value[index])

    def strength(self) -> Tensor:
        """Return the log ratio of each cell's share to a uniform map: (..., C)."""
        return (self.shares * self.shares.shape[-1] + FAINT).log()

    def certainty(self) -> Tensor:
        """Return the log odds of the peak belief: (...)."""
        return self.peak[..., 0].clamp(0.01, 0.995).logit()

    def at(self, points: Tensor, grid: Grid) -> Tensor:
        """Return the log ratio of the share at points to a uniform map: (..., 2) -> (...)."""
        rows, columns = grid.shape
        x = (points[..., 0] / grid.cell).long().clamp(0, columns - 1)
        y = (points[..., 1] / grid.cell).long().clamp(0, rows - 1)
        share = self.shares.gather(-1, (y * columns + x)[..., None])[..., 0]
        return (share * self.shares.shape[-1] + FAINT).log()

    def offset(self, points: Tensor) -> Tensor:
        """Return the distance of points from the mean, in SDs: (..., 2) -> (..., 2)."""
        return ((points - self.middle) / self.spread).clamp(-8, 8)

    def depth(self, points: Tensor) -> Tensor:
        """Return the signed distance to the box border, px, positive inside: (..., 2) -> (...)."""
        return torch.cat([points - self.box[..., :2], self.box[..., 2:] - points], dim=-1).amin(-1)


def _surround(maps: Tensor, grid: Grid) -> Tensor:
    """Bound the support of maps (..., g h, g w): (..., 4) px. A half-covered cell adds half its width.

    An empty map gets an inverted box, which no point is inside.
    """
    strongest = maps.amax((-2, -1)).clamp(min=1e-6)[..., None]
    sides = []
    for other in (-2, -1):  # along x, then along y
        profile = maps.amax(other) / strongest
        count = profile.shape[-1]
        place = torch.arange(count, device=maps.device)
        seen = profile > EDGE
        first = torch.where(seen, place, count - 1).amin(-1)
        last = torch.where(seen, place, 0).amax(-1)
        low = first + 1 - profile.gather(-1, first[..., None])[..., 0]
        high = last + profile.gather(-1, last[..., None])[..., 0]
        sides.append((low * grid.cell, high * grid.cell))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=-1)


def token_features(facts: Tensor, belief: Belief, grid: Grid) -> Tensor:
    """Compute token features: facts (..., F), one belief per token -> (..., NUM_TOKEN_FEATURES)."""
    fact = {name: facts[..., place] for name, place in FACT.items()}
    clocked, has_end = fact["clocked"], 1 - fact["is_after"]
    here, before = _point(facts, "x", "y"), _point(facts, "last_x", "last_y")
    scaled, step = _scaled(here), (here - before) / STEP
    on_it, was_on_it = belief.at(here, grid), belief.at(before, grid)
    offset = belief.offset(here)
    depth, certainty = belief.depth(here), belief.certainty()
    duration = (fact["end"] - fact["start"]).clamp(min=1).log() - 5.3
    rest = (fact["until"] - fact["end"]) / BEAT * has_end
    since = (fact["end"] - fact["onset"]) / BEAT
    columns = [
        fact["is_fixation"], fact["is_before"], fact["is_after"], clocked, fact["pack"].log1p(), fact["order"] / 2,
        (fact["order"] == 0).float(), (fact["order"] >= 2).float(), fact["count"].log1p(), fact["stress"],
        *scaled.unbind(-1), *(scaled**2).unbind(-1), *step.unbind(-1), step.norm(dim=-1),
        *torch.exp(-(step.norm(dim=-1)[..., None] * STEP / torch.tensor([12.0, 30.0], device=facts.device)).square())
        .unbind(-1),
        on_it, was_on_it, *offset.unbind(-1), torch.exp(-offset.square().sum(-1) / 2), offset.norm(dim=-1).log1p(),
        *((belief.middle - here) / 2 / STEP).unbind(-1), *(belief.spread / STEP).unbind(-1),
        *torch.stack([
            duration, _squash(rest), (rest > 0).float() * has_end, rest.clamp(-1, 1), _squash(since),
            _squash(fact["length"] / BEAT), _squash(fact["surprise"] / 100),
            _squash((fact["start"] - fact["onset"]) / BEAT),
            (fact["length"] / BEAT) ** 2 / 4, torch.exp(-rest.clamp(min=0) * 4) * has_end,
        ], dim=-1).mul(clocked[..., None]).unbind(-1),
        _squash(fact["onset"] / 4 / BEAT) * clocked, belief.spread.log().sum(-1) - 8,
        (depth / grid.cell).clamp(-3, 3), torch.tanh(depth / 4), certainty / 3, certainty / 3 * torch.tanh(depth / 4),
    ]  # fmt: skip
    features = torch.stack(columns, dim=-1)
    assert features.shape[-1] == NUM_TOKEN_FEATURES, features.shape
    return features


def time_features(facts: Tensor, start: Tensor) -> Tensor:
    """Compute features of the next onset: (..., F), (...) ms -> (..., NUM_TIME_FEATURES); 0 without a clock."""
    fact = {name: facts[..., place] for name, place in FACT.items()}
    gap, since = (start - fact["end"]) / 100, (start - fact["onset"]) / BEAT
    rest = (fact["until"] - start) / BEAT * (1 - fact["is_after"])
    columns = [
        _squash(gap),
        _squash(since),
        since.clamp(-1, 1),
        _squash(rest),
        torch.exp(-since.clamp(min=0)),
        rest > 0,
    ]
    return torch.stack([column.float() for column in columns], dim=-1) * fact["clocked"][..., None]


def place_features(facts: Tensor, belief: Belief, grid: Grid) -> Tensor:
    """Compute each cell's features relative to fixation, target and canvas: (E, F) -> (E, NUM_PLACE_FEATURES, C)."""
    cells = grid.centers(facts.device)[None]  # (1, C, 2)
    here, before = _point(facts, "x", "y")[:, None], _point(facts, "last_x", "last_y")[:, None]  # (E, 1, 2)
    away = (cells - here) / STEP
    far = away.norm(dim=-1)
    last = (here - before) / STEP
    heading = last / last.norm(dim=-1, keepdim=True).clamp(min=0.1)
    along = (away * heading).sum(-1)
    across = (away[..., 0] * heading[..., 1] - away[..., 1] * heading[..., 0]).abs()
    again = torch.exp(-(cells - before).square().sum(-1) / (2 * 30.0**2))
    offset = ((cells - belief.middle[:, None]) / belief.spread[:, None]).clamp(-6, 6)
    apart = offset.norm(dim=-1)
    goal = belief.middle[:, None] - here
    reach = goal.norm(dim=-1).clamp(min=grid.cell)
    towards = (away * STEP * goal).sum(-1) / reach**2  # 0 at the current fixation, 1 at the target
    beside = (away[..., 0] * goal[..., 1] - away[..., 1] * goal[..., 0]).abs() / reach
    scaled = _scaled(cells).expand(len(facts), -1, -1)
    narrow = [torch.exp(-(far * STEP / width).square()) for width in (12.0, 28.0, 60.0)]
    wide = [(far * STEP / width).clamp(max=4).square() for width in (24.0, 60.0)]
    columns = [
        *away.unbind(-1), far, far.log1p(), *narrow, *wide, along, across, again,
        *scaled.unbind(-1), *scaled.square().unbind(-1),
        belief.strength(), torch.exp(-apart.square() / 2), apart.clamp(max=4).square(), apart.log1p(),
        *offset.unbind(-1), towards.clamp(-2, 3), torch.exp(-beside.square() * 4) * (towards > 0),
        torch.exp(-(towards - 1).square() * 8 - beside.square() * 8), (towards - 1).abs().clamp(max=3),
    ]  # fmt: skip
    features = torch.stack(columns, dim=1)
    assert features.shape[1] == NUM_PLACE_FEATURES, features.shape
    return features


def _point(facts: Tensor, *names: str) -> Tensor:
    return torch.stack([facts[..., FACT[name]] for name in names], dim=-1)


def _scaled(points: Tensor) -> Tensor:
    """Scale px to -1..1 over the canvas."""
    return points / torch.tensor(CANVAS, dtype=torch.float32, device=points.device) * 2 - 1


def _squash(values: Tensor) -> Tensor:
    """Compress magnitudes: sign(x) * log(1 + |x|)."""
    return values.sign() * values.abs().log1p()
