"""Predict the next gaze event with a causal transformer: when, where and how long the next fixation is.

Flow: EventBatch -> EventDecoder -> per token: stop probability, gap, position density over the canvas, duration
    -> log likelihoods (losses.py) or samples (rollout.py).
Source: our own. One token per fixation and one per word, so a causal mask is enough for causality. Observers differ by
    a small discrete latent with a learned prior, marginalized exactly in training and sampled once per rollout.
Shapes: B scanpaths, T tokens, F facts, D width, C cells of the canvas, M maps per cell, E events, Z observer types,
    Q mixture components of a position ("aims"), S width of the language model, I channels of image features.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.model.density import Grid, GridDensity, LogNormalMixture
from sa2va.gaze.model.events import FACT, Next
from sa2va.gaze.model.features import (
    NUM_PLACE_FEATURES,
    NUM_TIME_FEATURES,
    NUM_TOKEN_FEATURES,
    STEP,
    Belief,
    place_features,
    time_features,
    token_features,
)
from sa2va.gaze.model.scene_maps import SceneEncoder, SceneMaps, stack_history
from sa2va.model.config_limits import HEADS, SHARE, WIDTH, Limit, check_number

TYPICAL_GAP, TYPICAL_DURATION = 45.0, 220.0  # ms, initial medians
LIMITS = {
    "width": Limit(1, 4096),
    "num_layers": Limit(1, 64),
    "num_heads": HEADS,
    "place_width": Limit(2, 4096),
    "num_aims": Limit(1, 256),
    "cell": Limit(4, 64),
    "num_observers": Limit(1, 1024),
    "num_components": Limit(1, 64),
    "state_width": Limit(0, WIDTH.high),
    "image_channels": Limit(0, WIDTH.high),
    "dropout": SHARE,
}
FIRST_START = (-170.0, -130.0)  # ms, range of the first fixation's onset until training measures it


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Architecture of an event decoder."""

    width: int = 64  # D
    num_layers: int = 2
    num_heads: int = 4
    place_width: int = 24  # channels of the networks over cells
    num_aims: int = 4  # Q
    cell: int = 16  # px
    num_observers: int = 3  # Z
    num_components: int = 3  # of the mixtures over times
    state_width: int = 0  # S; 0 = no language model
    image_channels: int = 0  # I; 0 = no image features
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            check_number(getattr(self, name), limit, name)
        if self.width % self.num_heads:
            raise ValueError(f"num_heads is {self.num_heads}; expected a divisor of width, {self.width}")

    @property
    def grid(self) -> Grid:
        return Grid(self.cell)

    @property
    def num_maps(self) -> int:
        return self.place_width // 2


@dataclass
class EventCache:
    """Key-value cache: per layer (B, heads, T, d), and a (B, T) mask of valid tokens."""

    layers: list[tuple[Tensor, Tensor]]
    valid: Tensor


class _Block(nn.Module):
    """Pre-norm transformer layer with an explicit attention mask."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.norm, self.mlp_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, 2 * config.width), nn.GELU(), nn.Linear(2 * config.width, config.width)
        )

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the layer: (B, T, D), mask (B, T, past + T) -> (B, T, D) and all keys and values."""
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # each (B, heads, T, d)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        x = x + self._drop(self.out(read.transpose(1, 2).flatten(2)))
        return x + self._drop(self.mlp(self.mlp_norm(x))), (key, value)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


@dataclass(frozen=True)
class StepPrediction:
    """A token's prediction of the next step."""

    next: Tensor  # (..., 3) logits of Next, for unclocked packs
    stop: Tensor  # (...) logit of stopping after the last fixation, for clocked packs
    gap: LogNormalMixture  # ms from the last fixation to the next


class EventDecoder(nn.Module):
    """Causal model of one person's sequence of fixations."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden, times = config.width, config.place_width, 3 * config.num_components
        self.embed = nn.Sequential(nn.Linear(NUM_TOKEN_FEATURES, width), nn.GELU(), nn.Linear(width, width))
        self.hear = nn.Linear(config.state_width, width) if config.state_width else None
        self.observers = nn.Embedding(config.num_observers, width)
        self.prior = nn.Parameter(torch.zeros(config.num_observers))
        self.first_start: Tensor
        self.register_buffer("first_start", torch.tensor(FIRST_START))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width)
        self.outlook = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4 + times))
        # Each aim is a linear readout of the scene maps and the cell features; the position density is a mixture of
        # aims (stay, explore, go to an object). Linear, because cells are the most numerous axis.
        self.sight = SceneEncoder(
            config.grid,
            hidden=hidden,
            num_maps=config.num_maps,
            state_width=config.state_width,
            image_channels=config.image_channels,
        )
        num_weights = config.num_aims * (1 + NUM_PLACE_FEATURES + config.num_maps)
        self.aim = nn.Sequential(nn.Linear(width + NUM_TIME_FEATURES, width), nn.GELU(), nn.Linear(width, num_weights))
        self.stay = nn.Sequential(nn.Linear(width + NUM_TIME_FEATURES + 6, width), nn.GELU(), nn.Linear(width, times))
        self._init_heads()

    def _init_heads(self) -> None:
        """Initialize the time heads at typical medians, and the observer types slightly apart."""
        nn.init.normal_(self.observers.weight, std=0.3)
        count = self.config.num_components
        around = torch.linspace(-0.8, 0.8, count) if count > 1 else torch.zeros(1)
        for head, skip, median in ((self.outlook[-1], 4, TYPICAL_GAP), (self.stay[-1], 0, TYPICAL_DURATION)):
            assert isinstance(head, nn.Linear)
            with torch.no_grad():
                head.weight[skip:] *= 0.1
                head.bias[skip : skip + count] = 0
                head.bias[skip + count : skip + 2 * count] = math.log(median) + around
                head.bias[skip + 2 * count :] = -0.7

    # ---- tokens -> context

    def encode(
        self,
        facts: Tensor,
        belief: Belief,
        observer: Tensor,
        *,
        states: Tensor | None = None,
        valid: Tensor | None = None,
        cache: EventCache | None = None,
    ) -> tuple[Tensor, EventCache]:
        """Encode tokens with causal attention.

        Args:
            facts: (B, T, F).
            belief: One map per token.
            observer: (B,) long, observer type.
            states: (B, T, S) language-model state of each token's word.
            valid: (B, T) bool; None = all.
            cache: Key-value cache of the earlier tokens.

        Returns:
            Contexts (B, T, D), and the cache extended by these tokens.
        """
        x = self.embed(token_features(facts, belief, self.config.grid)) + self.observers(observer)[:, None]
        if self.hear is not None:
            assert states is not None
            x = x + self.hear(states.to(x))
        if valid is None:
            valid = torch.ones(facts.shape[:2], dtype=torch.bool, device=facts.device)
        known = valid if cache is None else torch.cat([cache.valid, valid], dim=1)
        length, total = facts.shape[1], known.shape[1]
        causal = torch.ones(length, total, dtype=torch.bool, device=facts.device).tril(total - length)
        own = torch.eye(total, dtype=torch.bool, device=facts.device)[total - length :]  # a fully masked row gives nan
        mask = (causal & known[:, None]) | own
        layers = []
        for number, block in enumerate(self.blocks):
            x, pair = block(x, mask, cache.layers[number] if cache is not None else None)
            layers.append(pair)
        return self.norm(x), EventCache(layers, known)

    # ---- context -> predictions

    def predict_step(self, context: Tensor, facts: Tensor) -> StepPrediction:
        """Predict stop and gap from contexts (..., D) and facts (..., F); no pack follows the one after the words."""
        raw = self.outlook(context)
        never = torch.zeros_like(raw[..., :3])
        never[..., Next.PACK] = facts[..., FACT["is_after"]] * -1e4
        return StepPrediction(raw[..., :3] + never, raw[..., 3], LogNormalMixture.from_raw(raw[..., 4:]))

    def scene_maps(
        self,
        beliefs: Tensor,
        image_maps: Tensor | None = None,
        states: Tensor | None = None,
        known: Tensor | None = None,
    ) -> SceneMaps:
        """Compute the scene maps of every pack.

        Args:
            beliefs: (B, P, g h, g w).
            image_maps: (B, hidden, g h, g w) from `canvas_features`.
            states: (B, P, S).
            known: (B, P) bool, packs that are not padding; None = all.
        """
        if image_maps is None and states is None and bool((beliefs == beliefs[:, :1]).all()):
            beliefs = beliefs[:, :1]  # constant beliefs: one map for all packs
            known = None
        if known is None:
            known = torch.ones(beliefs.shape[:2], dtype=torch.bool, device=beliefs.device)
        row, pack = known.nonzero(as_tuple=True)
        maps = self.sight(
            stack_history(beliefs)[row, pack],
            None if image_maps is None else image_maps[row],
            None if states is None else states[row, pack],
        )
        return SceneMaps(maps, (known.flatten().cumsum(0) - 1).clamp(min=0).view(known.shape))

    def cell_features(self, facts: Tensor, belief: Belief, maps: Tensor) -> Tensor:
        """Stack the features of all cells, which are the same for all observer types.

        Args:
            facts: (E, F).
            belief: E maps.
            maps: (E, M, C) scene maps.

        Returns:
            (E, features + M, C).
        """
        return torch.cat([place_features(facts, belief, self.config.grid), maps], dim=1)

    def place_density(self, context: Tensor, facts: Tensor, start: Tensor, cells: Tensor) -> GridDensity:
        """Predict the position of the next fixation.

        Args:
            context: (Z' * E, D), grouped by observer type.
            facts: (Z' * E, F) of the same tokens.
            start: (Z' * E,) ms, onset of the fixation.
            cells: (E, features + M, C) from `cell_features`, shared by the observer types.
        """
        raw = self.aim(torch.cat([context, time_features(facts, start)], dim=-1))
        weights, aims = raw.split([self.config.num_aims, raw.shape[-1] - self.config.num_aims], dim=-1)
        shape = (-1, len(cells), self.config.num_aims)
        rows = aims.view(*shape, cells.shape[1]).transpose(0, 1).flatten(1, 2) @ cells  # (E, Z' * Q, C)
        logits = rows.view(len(cells), -1, self.config.num_aims, rows.shape[-1]).transpose(0, 1).flatten(0, 1)
        return GridDensity.of_mixture(weights, logits, self.config.grid)

    def duration_density(
        self, context: Tensor, facts: Tensor, start: Tensor, points: Tensor, belief: Belief
    ) -> LogNormalMixture:
        """Predict the duration of fixations at points (E, 2) with onset `start`; see `place_density`."""
        here = torch.stack([facts[..., FACT["x"]], facts[..., FACT["y"]]], dim=-1)
        step, offset = (points - here) / STEP, belief.offset(points)
        seen = [belief.at(points, self.config.grid), *step.unbind(-1), step.norm(dim=-1).log1p()]
        seen += [torch.exp(-offset.square().sum(-1) / 2), offset.norm(dim=-1).log1p()]
        raw = self.stay(torch.cat([context, time_features(facts, start), torch.stack(seen, dim=-1)], dim=-1))
        return LogNormalMixture.from_raw(raw)
