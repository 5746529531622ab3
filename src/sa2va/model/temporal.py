"""Compare the frames of a clip: match each visual token with the tokens of every frame, and add what moved where.

Flow: encode_images -> visual tokens -> TemporalEncoder, for the clips of `Prompts` -> text model. Pictures skip it.
Source: displacements as the expectation over a correlation volume, as in MotionSqueeze, arXiv:2007.09933, here between
    all frames and with contents of the matched tokens. The output starts at zero, so that an untrained encoder changes
    nothing. After the same minute of training, joint space-time attention named no motion.
Shapes: C clips, K frames of a clip, S frames of training, n = g*g visual tokens of a frame, D width of the tokens,
    H heads, d and e widths of a head's keys and values.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.model.config import Sa2VAConfig

SHARPNESS = (4.0, 12.0)  # range over the heads, of initial inverse temperatures of the match, of cosines
REACH = (0.0, 8.0)  # range over the heads, of the initial decay of the match with the squared distance
SIDES_PER_UNIT = 0.25  # displacements are in quarters of the side, so that their spread is about 1


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Sizes of the temporal encoder."""

    num_heads: int  # H
    tokens_per_frame: int  # n, a square number
    num_frames: int  # S; clips of other lengths are sampled at S times
    key_width: int = 32  # d
    value_width: int = 16  # e

    @classmethod
    def of(cls, config: Sa2VAConfig) -> "TemporalConfig | None":
        """Return the temporal encoder of a model; None if it has none."""
        if not config.temporal_heads:
            return None
        return cls(
            num_heads=config.temporal_heads,
            tokens_per_frame=config.tokens_per_tile,
            num_frames=config.num_keyframes,
        )

    @property
    def side(self) -> int:
        """g, side of the grid of visual tokens."""
        return round(self.tokens_per_frame**0.5)


class TemporalEncoder(nn.Module):
    """Soft matching between the frames of a clip, and an MLP whose output is added to the visual tokens."""

    def __init__(self, config: TemporalConfig, width: int) -> None:
        super().__init__()
        self.config = config
        heads, frames, side = config.num_heads, config.num_frames, config.side
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * config.key_width)
        self.key = nn.Linear(width, heads * config.key_width)
        self.value = nn.Linear(width, heads * config.value_width)
        self.sharpness = nn.Parameter(torch.linspace(*SHARPNESS, heads).log())
        reach = torch.linspace(-1 + 1 / side, 1 - 1 / side, 2 * side - 1).square()
        decay = -torch.linspace(*REACH, heads)[:, None, None] * (reach[:, None] + reach)
        # Bias of the match by offset in frames, rows and columns.
        self.bias = nn.Parameter(decay.expand(2 * frames - 1, -1, -1, -1).clone())
        found = 3 + config.value_width  # of each frame and head: displacement, strength of the match, contents
        self.mlp = nn.Sequential(
            nn.Linear(width + frames * (heads * found + 1), width), nn.GELU(), nn.Linear(width, width), nn.GELU()
        )
        self.leave = nn.Linear(width, width)
        # Equal projections match equal tokens from the start.
        nn.init.orthogonal_(self.query.weight)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)
            self.key.bias.copy_(self.query.bias)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, tokens: Tensor, clips: Tensor) -> Tensor:
        """Add to each visual token of a clip what the other frames tell about it.

        Args:
            tokens: (V, D) visual tokens of all pictures and frames.
            clips: (C, 2) long, first visual token and number of frames of each clip; on the host, it causes no wait.

        Returns:
            (V, D); tokens outside the clips are unchanged.
        """
        size = self.config.tokens_per_frame
        for num_frames in sorted(set(clips[:, 1].tolist())):
            first = clips[clips[:, 1] == num_frames, 0]
            places = (first[:, None] + torch.arange(num_frames * size, device=first.device)).flatten()
            places = places.to(tokens.device)
            own = tokens[places].view(len(first), num_frames, size, -1)
            tokens = tokens.index_add(0, places, self.encode(own).flatten(0, 2).to(tokens.dtype))
        return tokens

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode clips of equal length: (C, K, n, D) -> (C, K, n, D)."""
        states = self.norm(tokens)
        found = self.compare(states).flatten(3).to(states.dtype)
        times, _ = _sample(tokens.shape[1], self.config.num_frames, tokens.device)
        when = F.one_hot(times, self.config.num_frames)[:, None].expand(len(tokens), -1, tokens.shape[2], -1)
        return self.leave(self.mlp(torch.cat([states, found, when.to(states.dtype)], dim=-1)))

    def compare(self, states: Tensor) -> Tensor:
        """Match each token with the tokens of each frame.

        Args:
            states: (C, K, n, D) normalized tokens of clips of equal length.

        Returns:
            (C, K, n, H, S, 3 + e): expected displacement x y of the match in cells of a grid of 4 x 4, log of its
            strength, its expected contents.
        """
        config = self.config
        times, seen = _sample(states.shape[1], config.num_frames, states.device)
        others = states[:, seen]  # (C, S, n, D)
        query = F.normalize(self.query(states).unflatten(-1, (config.num_heads, -1)), dim=-1)  # (C, K, n, H, d)
        key = F.normalize(self.key(others).unflatten(-1, (config.num_heads, -1)), dim=-1)
        value = self.value(others).unflatten(-1, (config.num_heads, -1))  # (C, S, n, H, e)
        match = torch.einsum("ctihd,csjhd->cthisj", query, key) * self.sharpness.exp()[:, None, None, None]
        shifts, rows = self._shifts(states.device)
        frames = torch.arange(config.num_frames, device=states.device) - times[:, None] + config.num_frames - 1
        bias = self.bias.flatten(2)[frames][..., rows]  # (K, S, H, n, n)
        match = match + bias.permute(0, 2, 3, 1, 4)
        strength = match.logsumexp(-1, keepdim=True)  # (C, K, H, n, S, 1)
        share = (match - strength).exp()
        shift = torch.einsum("cthisj,ijx->cthisx", share, shifts.to(share.dtype))
        content = torch.einsum("cthisj,csjhe->cthise", share, value.to(share.dtype))
        return torch.cat([shift, strength, content], dim=-1).transpose(2, 3)

    def encode_blank(self) -> Tensor:
        """Encode a blank clip; return the sum of its encoding, which connects the weights to the graph."""
        shape = 1, self.config.num_frames, self.config.tokens_per_frame, self.leave.out_features
        return self.encode(self.leave.weight.new_zeros(shape)).sum()

    def _shifts(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the displacement (n, n, 2) x y between each pair of cells, and its row of the bias table (n, n)."""
        side = self.config.side
        cells = torch.arange(side**2, device=device)
        rows, columns = cells // side, cells % side
        down, right = rows - rows[:, None], columns - columns[:, None]
        shifts = torch.stack([right, down], dim=-1) / (side * SIDES_PER_UNIT)
        return shifts, (down + side - 1) * (2 * side - 1) + right + side - 1


def _sample(num_frames: int, num_times: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Spread the frames of a clip over the times of training.

    Returns:
        (K,) time of each frame, and (S,) frame at each time.
    """

    def spread(number: int, last: int) -> Tensor:
        steps = max(1, number - 1)
        return (torch.arange(number, device=device) * last + steps // 2) // steps

    return spread(num_frames, num_times - 1), spread(num_times, num_frames - 1)
