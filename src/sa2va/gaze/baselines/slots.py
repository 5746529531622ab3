"""Small reimplementations of two published decoders, ART and ScanVLA, on the same inputs as our own decoder.

Flow: trials, CaseInputs of each -> SlotBaseline.fit (trains SlotDecoder, fits residual SDs on held-out images)
    -> samples, densities.
Source: ART, Mondal et al., ECCV 2024, arXiv:2407.19605: six parallel slots per word, the fixations so far as context,
    each prefix encoded anew, L1 on sampled positions. ScanVLA, Quan et al., 2026, arXiv:2604.20361: four queries per
    word, no history, deterministic positions, training on target fixations only in the last pack. "-style" marks that
    these follow the papers and are not the published systems. Their inputs are the maps of our own decoder in the same
    cells, in patches of 4 x 4 cells.
Shapes: B packs, S slots, C past fixations, L words of a prefix, P packs of a case, M cells of the canvas, D width,
    R beliefs (now, one word ago, two words ago, before any), W width of the language model, I image channels,
    U images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2va.gaze.baselines.mixture import normal_density
from sa2va.gaze.baselines.packs import NUM_KINDS, build_scanpath, kind_of, timing_of
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.target import inside_box
from sa2va.gaze.model.density import Grid
from sa2va.gaze.model.scene_maps import NUM_HISTORY
from sa2va.gaze.scanpath import Scanpath
from sa2va.gaze.trial import Trial, split_folds
from sa2va.model.losses import LossTerm
from sa2va.training.seeding import seeded
from sa2va.training.stage import Key, StageConfig
from sa2va.training.trainer import fit_stage

GRID = Grid(16)  # the cells of our own decoder
PATCH, CELL_WIDTH = 4, 24  # cells along a patch; channels per cell, as in our own decoder
FIXATION, EMPTY, STOP = range(3)  # classes of a slot
MAX_PAST, MAX_WORDS = 36, 20
WORD_FEATURES = NUM_KINDS + 3  # kind and index of the pack, duration and letters of its word
SCALE = 64.0  # px of L1 that weigh as much as one nat
UNIFORM = 0.02  # uniform share of the density
MIN_SPREAD = 5.0  # px
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SlotConfig:
    """Configuration of one published decoder."""

    name: str
    num_slots: int
    history: bool  # past fixations are inputs
    stochastic: bool  # positions are sampled
    only_on_target: bool  # train the last pack on target fixations only
    width: int = 64
    num_layers: int = 2
    steps: int = 400
    batch: int = 48
    rate: float = 2e-3
    state_width: int = 0  # W; 0 = no language model
    image_channels: int = 0  # I; 0 = no picture


ART = SlotConfig(name="ART-style, parallel slots", num_slots=6, history=True, stochastic=True, only_on_target=False)
SCANVLA = SlotConfig(
    name="ScanVLA-style, queries per word", num_slots=4, history=False, stochastic=False, only_on_target=True
)


@dataclass(frozen=True)
class CaseInputs:
    """Inputs of a case, pack by pack, independent of the observer."""

    belief: Tensor  # (P, R, M) belief maps
    states: Tensor  # (P, W) language-model states
    picture: Tensor  # (M, I) image features


@dataclass(frozen=True)
class _Inputs:
    """Inputs of the decoder for B packs."""

    belief: Tensor  # (B, R, M) belief maps
    picture: Tensor  # (U, M, I) image features
    owner: Tensor  # (B,) row of `picture`
    words: Tensor  # (B, L, WORD_FEATURES + W) the prefix, current pack last
    num_words: Tensor  # (B,)
    past: Tensor  # (B, C, 4) x, y, pack and order of past fixations
    num_past: Tensor  # (B,)


class SlotDecoder(nn.Module):
    """Transformer decoder that predicts all slots of a pack in parallel."""

    def __init__(self, config: SlotConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.places: Tensor  # (M, 2) 0..1
        self.register_buffer("places", GRID.centers() / torch.tensor(CANVAS))
        self.cells = nn.Sequential(nn.Linear(NUM_HISTORY + 2 + config.image_channels, CELL_WIDTH), nn.GELU())
        self.see = nn.Sequential(nn.Linear(CELL_WIDTH * PATCH**2, width), nn.GELU(), nn.Linear(width, width))
        features = WORD_FEATURES + config.state_width
        self.hear = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.recall = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width))
        self.aim = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width))
        self.queries = nn.Parameter(0.1 * torch.randn(config.num_slots, width))
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerDecoder(layer, config.num_layers, nn.LayerNorm(width))
        self.head = nn.Linear(width, 3 + 4)

    def forward(self, inputs: _Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits (B, S, 3), mean positions (B, S, 2) in px, and their log SD (B, S, 2)."""
        batch, slots = len(inputs.belief), self.config.num_slots
        cells = self._encode_patches(inputs)
        words = self.hear(inputs.words)  # (B, L, D)
        now = words[torch.arange(batch), inputs.num_words - 1]
        current = inputs.belief[:, 0]
        shares = current / current.sum(1, keepdim=True).clamp(min=1e-6)
        middle = shares @ self.places  # (B, 2); our own decoder gets the moments of the belief as well
        spread = (shares @ self.places.square() - middle.square()).clamp(min=0).sqrt()
        rows = self.queries + now[:, None] + self.aim(torch.cat([middle, spread], -1))[:, None]  # (B, S, D)
        memory, memory_padding = cells, torch.zeros(batch, cells.shape[1], dtype=torch.bool)
        padding = torch.zeros(batch, slots, dtype=torch.bool)
        if self.config.history:
            no_word = torch.arange(words.shape[1]) >= inputs.num_words[:, None]
            no_past = torch.arange(inputs.past.shape[1]) >= inputs.num_past[:, None]
            memory, memory_padding = torch.cat([cells, words], 1), torch.cat([memory_padding, no_word], 1)
            rows, padding = torch.cat([self.recall(inputs.past), rows], 1), torch.cat([no_past, padding], 1)
        decoded = self.layers(rows, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=memory_padding)
        out = self.head(decoded[:, -slots:])
        place = out[..., 3:5].sigmoid() * torch.tensor(CANVAS)
        return out[..., :3], place, out[..., 5:].clamp(-4, 5)

    def _encode_patches(self, inputs: _Inputs) -> Tensor:
        """Encode each patch of the canvas as a token, (B, M / PATCH^2, D)."""
        places = self.places.expand(len(inputs.belief), -1, -1)
        maps = self.cells(torch.cat([inputs.belief.mT, places, inputs.picture[inputs.owner]], -1))
        rows, columns = (side // PATCH for side in GRID.shape)
        patches = maps.view(-1, rows, PATCH, columns, PATCH, CELL_WIDTH).transpose(2, 3)
        return self.see(patches.reshape(len(maps), rows * columns, -1))


@dataclass(frozen=True)
class SlotTargets:
    """Packs of scanpaths: inputs, the class of each slot (-1 = not labeled), and positions."""

    inputs: _Inputs
    classes: Tensor  # (B, S)
    positions: Tensor  # (B, S, 2) px


@dataclass(frozen=True)
class SlotData:
    """Data of the stage: random packs. A key is the index of a pack."""

    packs: SlotTargets
    seed: int
    batch_size: int
    steps: int

    def keys(self, step: int) -> list[Key]:
        number = len(self.packs.classes)
        rng = np.random.default_rng([self.seed, step])
        return [(row,) for row in rng.choice(number, min(self.batch_size, number), replace=False).tolist()]

    def __getitem__(self, key: Key) -> int:
        return int(key[0])

    def collate(self, items: Sequence[int]) -> SlotTargets:
        rows = torch.tensor(items)
        return SlotTargets(_take(self.packs.inputs, rows), self.packs.classes[rows], self.packs.positions[rows])

    def __len__(self) -> int:
        return self.steps


class SlotModule(nn.Module):
    """The decoder and its losses: cross-entropy of the classes, L1 of the positions."""

    def __init__(self, decoder: SlotDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, batch: SlotTargets) -> dict[str, LossTerm]:
        logits, center, spread = self.decoder(batch.inputs)
        if self.decoder.config.stochastic:
            center = center + torch.randn_like(center) * spread.exp()
        labeled, classes = batch.classes >= 0, batch.classes
        return {
            "class": LossTerm.of(F.cross_entropy(logits[labeled], classes[labeled], reduction="none")),
            "position": LossTerm.of((center - batch.positions).abs().sum(-1)[classes == FIXATION], 1 / SCALE),
        }


class SlotStage:
    """Train a slot decoder on the packs of scanpaths."""

    def __init__(self, config: SlotConfig, seed: int, decoder: SlotDecoder, packs: SlotTargets) -> None:
        self.config = StageConfig(
            name="slots", steps=config.steps, batch_size=config.batch, lr=config.rate, seed=seed, weight_decay=1e-4,
            warmup_steps=round(0.3 * config.steps), min_lr_ratio=0.0, autocast=False, save_every=0, num_workers=0,
        )  # fmt: skip
        self.module = SlotModule(decoder)
        self.data = SlotData(packs, seed, config.batch, config.steps)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()


class SlotBaseline:
    """A published decoder as a baseline."""

    def __init__(
        self, config: SlotConfig, seed: int = 0, read_case: "Callable[[Trial], CaseInputs] | None" = None
    ) -> None:
        """Initialize the weights.

        Args:
            config: The decoder.
            seed: Random seed of the initial weights and of training.
            read_case: Returns the inputs of a case; None = the given target box in all packs.
        """
        self.name, self.config, self.seed, self.read_case = config.name, config, seed, read_case or target_inputs
        self._reset()

    def _reset(self) -> None:
        """Discard the fitted parameters."""
        with seeded(self.seed):
            self.decoder = SlotDecoder(self.config).eval()
        self.kept = float("-inf")  # mean log density on held-out images, for choosing the learning rate
        self.spreads = np.full((NUM_KINDS, 2), 60.0)  # px, residual SD in x and y by kind of pack

    def fit(self, trials: Sequence[Trial]) -> None:
        self._reset()
        train, kept = split_folds(trials, min(6, len({trial.picture for trial in trials})))[0]
        fit_stage(SlotStage(self.config, self.seed, self.decoder, _targets(train, self.config, self.read_case)))
        self.decoder.eval()
        self._fit_spreads(kept)
        self.kept = float(np.concatenate([self.log_density(trial) for trial in kept]).mean())

    def sample(self, case: Trial, num_samples: int, seed: int) -> list[Scanpath]:
        with seeded(seed):
            drawn = [self._sample(case) for _ in range(num_samples if self.config.stochastic else 1)]
        return drawn if self.config.stochastic else drawn * num_samples

    def log_density(self, trial: Trial) -> NDArray[np.float64]:
        flat = 1 / (CANVAS[0] * CANVAS[1])
        points, centers, kinds = self._residuals(trial)
        density = [
            normal_density(point[None], center, self.spreads[kind])[0]
            for point, center, kind in zip(points, centers, kinds, strict=True)
        ]
        return np.log((1 - UNIFORM) * np.array(density) + UNIFORM * flat)

    def pack_size_log_prob(self, trial: Trial) -> NDArray[np.float64]:
        logits, _ = self._predict(trial)
        filled = np.exp(logits[:, :3, FIXATION])  # (P, 3) probability that each of the first slots is a fixation
        at_least = np.cumprod(np.concatenate([np.ones((len(filled), 1)), filled], 1), 1)  # 0, 1, 2, 3 fixations
        table = np.concatenate([at_least[:, :3] - at_least[:, 1:], at_least[:, 3:]], 1)
        sizes = np.minimum(trial.scanpath.sizes, 3)
        return np.log(np.maximum(table[np.arange(len(table)), sizes], 1e-9))

    @torch.no_grad()
    def _predict(self, trial: Trial) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict log probabilities (P, S, 3) and positions (P, S, 2) of every pack given the earlier ones."""
        packs = trial.scanpath.pack_points
        known = self.read_case(trial)
        logits, center, _ = self.decoder(_stack([_inputs(trial, packs[:pack], known) for pack in range(len(packs))]))
        return logits.log_softmax(-1).double().numpy(), center.double().numpy()

    def _residuals(self, trial: Trial) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
        """Pair each fixation (K, 2) with the position of its slot (K, 2) and the kind of its pack."""
        _, places = self._predict(trial)
        centers, kinds = [], []
        for pack, size in enumerate(trial.scanpath.sizes):
            for number in range(size):
                centers.append(places[pack, min(number, self.config.num_slots - 1)])
                kinds.append(kind_of(pack, len(places)))
        return trial.scanpath.points, np.array(centers).reshape(-1, 2), kinds

    def _fit_spreads(self, trials: Sequence[Trial]) -> None:
        found: list[list[NDArray[np.float64]]] = [[] for _ in range(NUM_KINDS)]
        for trial in trials:
            for point, center, kind in zip(*self._residuals(trial), strict=True):
                found[kind].append(point - center)
        for kind, rows in enumerate(found):
            if rows:
                self.spreads[kind] = np.maximum(np.sqrt(np.square(rows).mean(0)), MIN_SPREAD)

    @torch.no_grad()
    def next_pack(self, case: Trial, packs: Sequence[NDArray[np.float64]], known: CaseInputs) -> tuple[Array, bool]:
        """Sample the pack that follows the given ones.

        Args:
            case: Its words and timing are used.
            packs: Positions of the earlier packs, (K, 2) xy px each.
            known: Inputs of the case, at least up to this pack.

        Returns:
            (K, 2) xy px, and whether viewing stops.
        """
        logits, center, spread = self.decoder(_stack([_inputs(case, packs, known)]))
        tokens = logits[0].argmax(-1).tolist()
        size = next((slot for slot, token in enumerate(tokens) if token != FIXATION), len(tokens))
        noise = torch.randn_like(center) * spread.exp() if self.config.stochastic else torch.zeros_like(center)
        points = np.clip((center + noise)[0, :size].double().numpy(), 0, np.array(CANVAS) - 1)
        return points, self.config.history and size < len(tokens) and tokens[size] == STOP

    def _sample(self, case: Trial) -> Scanpath:
        packs: list[Array] = []
        known, done = self.read_case(case), False
        while len(packs) < len(case.scanpath.packs) and not done:
            points, done = self.next_pack(case, packs, known)
            packs.append(points)
        if not any(len(pack) for pack in packs):
            packs[0] = np.array([CANVAS]) / 2
        return build_scanpath(case, [*packs, *[np.zeros((0, 2))] * (len(case.scanpath.packs) - len(packs))])


def _inputs(case: Trial, packs: Sequence[NDArray[np.float64]], known: CaseInputs) -> _Inputs:
    """Build the decoder's inputs for the pack that follows the given ones."""
    clock, words, now = timing_of(case), case.scanpath.words, len(packs)
    rows = []
    for pack in range(now + 1):
        kind = kind_of(pack, len(words) + 2)
        word = words[pack - 1] if 0 < pack <= len(words) else ""
        lasts = (clock.ends[pack - 1] - clock.onsets[pack - 1]) / 1000 if word else 0.0
        rows.append([*(float(kind == place) for place in range(NUM_KINDS)), pack / 8, lasts, len(word) / 10])
    past = [
        (x / CANVAS[0], y / CANVAS[1], pack / 8, k / 4) for pack, p in enumerate(packs) for k, (x, y) in enumerate(p)
    ]
    rows, past = rows[-MAX_WORDS:], past[-MAX_PAST:]
    states = known.states[: now + 1][-MAX_WORDS:]
    padded = torch.zeros(MAX_WORDS, WORD_FEATURES + states.shape[1]), torch.zeros(MAX_PAST, 4)
    padded[0][: len(rows)] = torch.cat([torch.tensor(rows), states], 1)
    if past:
        padded[1][: len(past)] = torch.tensor(past)
    counts = torch.tensor(len(rows)), torch.tensor(len(past))
    only = torch.tensor(0)
    return _Inputs(known.belief[now], known.picture, only, padded[0], counts[0], padded[1], counts[1])


def target_inputs(case: Trial) -> CaseInputs:
    """Build inputs from the target box alone: in all packs, the share of each cell that it covers."""
    if case.target is None:
        raise ValueError(f"case {case.case}: no target box, which this decoder needs; leave this baseline out")
    x0, y0, x1, y1 = case.target
    across, down = (np.arange(count + 1) * side / count for count, side in zip(GRID.shape[::-1], CANVAS, strict=True))
    wide = np.clip(np.minimum(across[1:], x1) - np.maximum(across[:-1], x0), 0, None) / across[1]
    high = np.clip(np.minimum(down[1:], y1) - np.maximum(down[:-1], y0), 0, None) / down[1]
    belief = torch.tensor(np.outer(high, wide).ravel(), dtype=torch.float32)
    packs = len(case.scanpath.packs)
    return CaseInputs(belief.expand(packs, NUM_HISTORY, -1), torch.zeros(packs, 0), torch.zeros(len(belief), 0))


def _targets(trials: Sequence[Trial], config: SlotConfig, read_case: Callable[[Trial], CaseInputs]) -> SlotTargets:
    """Build one training row per pack: inputs, slot classes (-1 = no label), and positions."""
    inputs, tokens, places = [], [], []
    for trial in trials:
        packs, known = trial.scanpath.pack_points, read_case(trial)
        final = max((pack for pack, points in enumerate(packs) if len(points)), default=-1)
        for pack, points in enumerate(packs):
            if config.only_on_target and pack == final and trial.target is not None:
                points = points[inside_box(points, trial.target)]
            inputs.append(_inputs(trial, packs[:pack], known))
            kept = points[: config.num_slots]
            end = STOP if config.history and pack > final else EMPTY
            labels = [FIXATION] * len(kept) + [end] * (len(kept) < config.num_slots)
            tokens.append(labels + [-1] * (config.num_slots - len(labels)))
            places.append(np.pad(kept, ((0, config.num_slots - len(kept)), (0, 0))))
    return SlotTargets(
        _stack(inputs), torch.tensor(tokens), torch.tensor(np.array(places), dtype=torch.float32)
    )  # fmt: skip


def _stack(rows: Sequence[_Inputs]) -> _Inputs:
    """Stack packs into a batch in which packs of one image share its features."""
    pictures = {id(row.picture): row.picture for row in rows}
    number = {key: place for place, key in enumerate(pictures)}
    columns = {
        field.name: torch.stack([getattr(row, field.name) for row in rows])
        for field in fields(_Inputs)
        if field.name not in ("picture", "owner")
    }
    owner = torch.tensor([number[id(row.picture)] for row in rows])
    return _Inputs(picture=torch.stack(list(pictures.values())), owner=owner, **columns)


def _take(inputs: _Inputs, rows: Tensor) -> _Inputs:
    """Select rows, trimmed to their longest prefix and history."""
    taken = _Inputs(**{name: value if name == "picture" else value[rows] for name, value in vars(inputs).items()})
    words, past = taken.words[:, : int(taken.num_words.max())], taken.past[:, : int(taken.num_past.max())]
    return replace(taken, words=words, past=past)
