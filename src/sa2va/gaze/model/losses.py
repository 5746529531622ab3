"""Compute the event decoder's log likelihood of recorded scanpaths per token, and the training losses.

Flow: EventBatch -> token_terms (one causal pass per observer type) -> event_losses (training) or
    predictive_log_density (baselines/event_decoder.py).
Source: our own. Besides the likelihood there are terms for the target mass at the last fixation, for stopping off the
    target, and for a priority map. No term is a distance in px, which would pull predictions to the mean of all people.
Shapes: B scanpaths, T tokens, Z observer types, P packs, C cells of the canvas, E fixations.
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
from sa2va.gaze.model.scene_maps import SceneMaps
from sa2va.model.losses import LossTerm


@dataclass(frozen=True, kw_only=True)
class EventLossConfig:
    """Weights of the loss terms."""

    place: float = 1.0
    duration: float = 0.3
    gap: float = 0.3
    stop: float = 1.0
    next: float = 0.3
    last_fixation: float = 0.15  # target mass under the density of the last fixation
    stop_off_target: float = 5.0  # extra weight on continuing while the fixation is off the target
    crowd: float = 0.1  # cross-entropy of the priority map with the fixations of all people


@dataclass(frozen=True, kw_only=True)
class TokenTerms:
    """Natural log probabilities and densities per token, 0 where a term does not apply. All (Z, B, T)."""

    place: Tensor
    duration: Tensor
    gap: Tensor
    stop: Tensor
    next: Tensor
    last_fixation: Tensor
    stop_off_target: Tensor

    @property
    def total(self) -> Tensor:
        """Log likelihood of the clocked events, (Z, B, T)."""
        return self.place + self.duration + self.gap + self.stop


def token_terms(decoder: EventDecoder, batch: EventBatch, *, scene: SceneMaps | None = None) -> TokenTerms:
    """Compute the log likelihood terms in one causal pass per observer type.

    Args:
        decoder: Event decoder.
        batch: B scanpaths.
        scene: Scene maps of the B scanpaths; None = from their beliefs alone.
    """
    num_kinds, (rows, length) = decoder.config.num_observers, batch.packs.shape
    observer = torch.arange(num_kinds, device=batch.packs.device).repeat_interleave(rows)
    row = torch.arange(rows, device=batch.packs.device)
    belief = Belief.of(batch.beliefs, decoder.config.grid).rows(row[:, None], batch.packs)
    repeated = belief.each(lambda value: value.repeat(num_kinds, 1, 1))
    states = None if batch.states is None else batch.states[row[:, None], batch.packs].repeat(num_kinds, 1, 1)
    facts, valid = batch.facts.repeat(num_kinds, 1, 1), batch.valid.repeat(num_kinds, 1)
    context, _ = decoder.encode(facts, repeated, observer, states=states, valid=valid)
    step = decoder.predict_step(context, facts)
    label = batch.label.repeat(num_kinds, 1)
    chosen = step.next.log_softmax(-1).gather(-1, label.clamp(min=0)[..., None])[..., 0]
    decides, stops = batch.decides.repeat(num_kinds, 1), batch.stops.repeat(num_kinds, 1)
    shape = (num_kinds, rows, length)
    stop = F.logsigmoid(torch.where(stops, step.stop, -step.stop)) * decides
    gap = step.gap.log_prob(batch.gap.repeat(num_kinds, 1)) * (decides & ~stops)
    terms = {"next": chosen * (label != NO_LABEL), "stop": stop, "gap": gap}
    terms |= {"stop_off_target": stop * (_is_off_target(batch, decoder.config.grid).repeat(num_kinds, 1) & ~stops)}
    scene = scene if scene is not None else decoder.scene_maps(batch.beliefs)
    terms |= _fixation_terms(decoder, batch, context, facts, repeated, scene)
    return TokenTerms(**{name: value.reshape(shape) for name, value in terms.items()})


def _fixation_terms(
    decoder: EventDecoder,
    batch: EventBatch,
    context: Tensor,
    facts: Tensor,
    belief: Belief,
    scene: SceneMaps,
) -> dict[str, Tensor]:
    """Score positions and durations of the fixations that follow a token, (Z * B, T) each."""
    num_kinds = decoder.config.num_observers
    where = batch.looks.repeat(num_kinds, 1).nonzero(as_tuple=True)
    target = batch.target.repeat(num_kinds, 1, 1)[where]  # (E, 4)
    points, start, time = target[:, :2], target[:, 2], target[:, 3]
    row = where[0] % len(batch.packs)
    contexts, inputs, believed = context[where], facts[where], belief.rows(*where)
    # Cell features are the bulk of the work and the same for all observer types.
    number = len(row) // num_kinds
    once = believed.each(lambda value: value[:number])
    cells = decoder.cell_features(inputs[:number], once, scene.at(row[:number], batch.packs[batch.looks]))
    density = decoder.place_density(contexts, inputs, start, cells)
    cover = (_target(batch)[row] > 0.5).flatten(1).float()
    last = batch.is_last.repeat(num_kinds, 1)[where] & (cover.sum(1) > 0)
    values = {
        "place": density.log_prob(points),
        "duration": decoder.duration_density(contexts, inputs, start, points, believed).log_prob(time),
        "last_fixation": torch.where(last, density.log_mass_on(cover), 0.0),
    }
    return {name: _scatter(value, where, facts.shape[:2]) for name, value in values.items()}


def _target(batch: EventBatch) -> Tensor:
    """Return the target map, (B, g h, g w) 0..1, zeros where it is unknown."""
    return batch.beliefs[:, -1] if batch.cover is None else batch.cover


def _is_off_target(batch: EventBatch, grid: Grid) -> Tensor:
    """Tell whether the current fixation is outside the target's bounding box: (B, T)."""
    target = _target(batch)
    point = torch.stack([batch.facts[..., FACT["x"]], batch.facts[..., FACT["y"]]], dim=-1)
    return (Belief.of(target[:, None], grid).depth(point) < 0) & target.flatten(1).any(1)[:, None]


def crowd_loss(priority: Tensor, crowd: Tensor, weight: float = 1.0) -> LossTerm:
    """Compute the cross-entropy between the priority map and the fixations of all people during a word.

    The priority map is a separate output because position densities also depend on a person's last fixation.

    Args:
        priority: (N, C) from `SceneEncoder.priority`.
        crowd: (N, C) fixation density of all people, rows of sum 1, or 0 without fixations.
        weight: Weight of the term.
    """
    return LossTerm(-(crowd * priority).sum(), crowd.sum(), weight)


def _scatter(values: Tensor, where: tuple[Tensor, ...], shape: Sequence[int]) -> Tensor:
    return values.new_zeros(tuple(shape)).index_put(where, values)


def event_losses(
    terms: TokenTerms, decoder: EventDecoder, batch: EventBatch, config: EventLossConfig | None = None
) -> dict[str, LossTerm]:
    """Sum each term over the events it applies to, with its count and weight.

    Observer types are weighted by their posterior given the whole scanpath, as in expectation maximization. "observer"
    is the cross-entropy of the prior over observer types.
    """
    config = config or EventLossConfig()
    prior = decoder.prior.log_softmax(0)[:, None]
    share = (terms.total.detach().sum(-1) + prior).softmax(0)  # (Z, B)
    num_fixations, num_decisions = batch.looks.sum(), batch.decides.sum()
    counts = {"stop": num_decisions, "stop_off_target": num_decisions, "next": (batch.label != NO_LABEL).sum()}
    counts |= {"last_fixation": batch.is_last.sum()}
    losses = {}
    for term in fields(terms):
        total = -(share[..., None] * getattr(terms, term.name)).sum()
        losses[term.name] = LossTerm(total, counts.get(term.name, num_fixations), getattr(config, term.name))
    return losses | {"observer": LossTerm(-(share.detach() * prior).sum(), num_fixations)}


def predictive_log_density(terms: TokenTerms, decoder: EventDecoder) -> Tensor:
    """Return the log density of each next position given all earlier events, over all observer types: (B, T)."""
    prior = decoder.prior.log_softmax(0)[:, None, None]
    known = (prior + terms.total.cumsum(-1) - terms.total).log_softmax(0)
    # The decision to continue and the gap precede the position.
    ready = (known + terms.gap + terms.stop).log_softmax(0)
    return (ready + terms.place).logsumexp(0)
