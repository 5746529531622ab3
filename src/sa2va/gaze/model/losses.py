"""Measure how likely what people did is to the event decoder, token by token, and turn that into losses.

Flow: EventBatch -> token_terms (one causal pass per kind of observer) -> event_losses (training), predictive
    (log densities given all before) -> rivals/ours.py.
Source: landing, going on where nobody ends, and the map of all people are our own additions to the likelihood; no
    distance in px is minimised, for that would draw every prediction to the middle of what people do.
Shapes: B scanpaths, T tokens, Z kinds of observers, P packs, C cells of the canvas, E fixations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.events import FACT, NO_LABEL, EventBatch
from sa2va.gaze.model.features import Belief
from sa2va.gaze.model.sight import Scene
from sa2va.model.losses import LossTerm


@dataclass(frozen=True, kw_only=True)
class EventLossConfig:
    """Weights of the terms."""

    place: float = 1.0
    duration: float = 0.3
    gap: float = 0.3
    stop: float = 1.0
    next: float = 0.3
    landing: float = 0.15  # of the last fixation alone
    astray: float = 5.0  # of not stopping while the eye is beside the target, on top of what `stop` counts
    crowd: float = 0.1  # of the map of all people, where there is one, under the priority map


@dataclass(frozen=True, kw_only=True)
class TokenTerms:
    """Natural logs of probabilities and densities, 0 where a token says nothing of it. All (Z, B, T)."""

    place: Tensor
    duration: Tensor
    gap: Tensor
    stop: Tensor
    next: Tensor
    landing: Tensor
    astray: Tensor

    @property
    def total(self) -> Tensor:
        """What happened by the clock, (Z, B, T)."""
        return self.place + self.duration + self.gap + self.stop


def token_terms(decoder: EventDecoder, batch: EventBatch, *, scene: Scene | None = None) -> TokenTerms:
    """Run one causal pass for every kind of observer.

    Args:
        decoder: of events.
        batch: B scanpaths.
        scene: what the B scanpaths have before their eyes; None = their beliefs alone.
    """
    num_kinds, (rows, length) = decoder.config.num_observers, batch.packs.shape
    observer = torch.arange(num_kinds, device=batch.packs.device).repeat_interleave(rows)
    row = torch.arange(rows, device=batch.packs.device)
    belief = Belief.of(batch.beliefs, decoder.config.grid).rows(row[:, None], batch.packs)
    everyone = belief.each(lambda value: value.repeat(num_kinds, 1, 1))
    states = None if batch.states is None else batch.states[row[:, None], batch.packs].repeat(num_kinds, 1, 1)
    facts, valid = batch.facts.repeat(num_kinds, 1, 1), batch.valid.repeat(num_kinds, 1)
    context, _ = decoder.encode(facts, everyone, observer, states=states, valid=valid)
    outlook = decoder.foresee(context, facts)
    label = batch.label.repeat(num_kinds, 1)
    chosen = outlook.next.log_softmax(-1).gather(-1, label.clamp(min=0)[..., None])[..., 0]
    decides, stops = batch.decides.repeat(num_kinds, 1), batch.stops.repeat(num_kinds, 1)
    shape = (num_kinds, rows, length)
    stop = F.logsigmoid(torch.where(stops, outlook.stop, -outlook.stop)) * decides
    gap = outlook.gap.log_prob(batch.gap.repeat(num_kinds, 1)) * (decides & ~stops)
    terms = {"next": chosen * (label != NO_LABEL), "stop": stop, "gap": gap}
    terms |= {"astray": stop * (_is_beside(batch, decoder.config.grid).repeat(num_kinds, 1) & ~stops)}
    scene = scene if scene is not None else decoder.scene(batch.beliefs)
    terms |= _looks(decoder, batch, context, facts, everyone, scene)
    return TokenTerms(**{name: value.reshape(shape) for name, value in terms.items()})


def _looks(
    decoder: EventDecoder,
    batch: EventBatch,
    context: Tensor,
    facts: Tensor,
    belief: Belief,
    scene: Scene,
) -> dict[str, Tensor]:
    """Score places and durations of the fixations that follow a token, (Z * B, T) each."""
    num_kinds = decoder.config.num_observers
    where = batch.looks.repeat(num_kinds, 1).nonzero(as_tuple=True)
    target = batch.target.repeat(num_kinds, 1, 1)[where]  # (E, 4)
    points, start, time = target[:, :2], target[:, 2], target[:, 3]
    row = where[0] % len(batch.packs)
    told, seen, believed = context[where], facts[where], belief.rows(*where)
    # Cells look the same to all kinds of observers, and are most of the work.
    number = len(row) // num_kinds
    once = believed.each(lambda value: value[:number])
    cells = decoder.cells(seen[:number], once, scene.at(row[:number], batch.packs[batch.looks]))
    density = decoder.place(told, seen, start, cells)
    cover = (_target(batch)[row] > 0.5).flatten(1).float()
    last = batch.is_last.repeat(num_kinds, 1)[where] & (cover.sum(1) > 0)
    values = {
        "place": density.log_prob(points),
        "duration": decoder.duration(told, seen, start, points, believed).log_prob(time),
        "landing": torch.where(last, density.log_mass_on(cover), 0.0),
    }
    return {name: _spread(value, where, facts.shape[:2]) for name, value in values.items()}


def _target(batch: EventBatch) -> Tensor:
    """Where the target is, (B, g h, g w) 0..1, empty where that is not known."""
    return batch.beliefs[:, -1] if batch.cover is None else batch.cover


def _is_beside(batch: EventBatch, grid: Grid) -> Tensor:
    """Tell whether the eye is outside the box around the target: (B, T)."""
    target = _target(batch)
    eye = torch.stack([batch.facts[..., FACT["x"]], batch.facts[..., FACT["y"]]], dim=-1)
    return (Belief.of(target[:, None], grid).depth(eye) < 0) & target.flatten(1).any(1)[:, None]


def crowd_loss(priority: Tensor, crowd: Tensor, weight: float = 1.0) -> LossTerm:
    """Cross-entropy between where all people look during a word and the priority map of the scene.

    It is a map of its own: a person's next place also hangs on the last one, which the map of all people ignores.

    Args:
        priority: (N, C) of `Sight.priority`.
        crowd: (N, C) rows of sum 1, or 0 where nobody looked.
        weight: of the term.
    """
    return LossTerm(-(crowd * priority).sum(), crowd.sum(), weight)


def _spread(values: Tensor, where: tuple[Tensor, ...], shape: Sequence[int]) -> Tensor:
    return values.new_zeros(tuple(shape)).index_put(where, values)


def event_losses(
    terms: TokenTerms, decoder: EventDecoder, batch: EventBatch, config: EventLossConfig | None = None
) -> dict[str, LossTerm]:
    """Sum the terms over kinds of observers and give each its count and weight.

    The kind of observer is summed over as in expectation maximization: each kind learns from a scanpath as far as
    the scanpath looks like it. "observer" is the cross-entropy of how common the kinds are.
    """
    config = config or EventLossConfig()
    prior = decoder.prior.log_softmax(0)[:, None]
    share = (terms.total.detach().sum(-1) + prior).softmax(0)  # (Z, B)
    num_looks, num_decisions = batch.looks.sum(), batch.decides.sum()
    counts = {"stop": num_decisions, "astray": num_decisions, "next": (batch.label != NO_LABEL).sum()}
    counts |= {"landing": batch.is_last.sum()}
    losses = {
        f.name: LossTerm(
            -(share[..., None] * getattr(terms, f.name)).sum(), counts.get(f.name, num_looks), getattr(config, f.name)
        )
        for f in fields(terms)
    }
    return losses | {"observer": LossTerm(-(share.detach() * prior).sum(), num_looks)}


def predictive(terms: TokenTerms, decoder: EventDecoder) -> Tensor:
    """Log density of each next place given everything before it, kinds of observers summed out: (B, T)."""
    prior = decoder.prior.log_softmax(0)[:, None, None]
    known = (prior + terms.total.cumsum(-1) - terms.total).log_softmax(0)
    # Whether to go on, and the pause, are settled before the place is.
    ready = (known + terms.gap + terms.stop).log_softmax(0)
    return (ready + terms.place).logsumexp(0)
