"""Compute scene maps: features of the image and of the words so far, shared by all observers.

Flow: image features -> SceneEncoder.encode_image, once per image -> canvas; with the current and earlier beliefs
    -> SceneEncoder, once per word -> maps, which the aims of decoder.py weight at each fixation.
Source: our own. Earlier beliefs are inputs because gaze lags speech by one or two words.
Shapes: B images, V scanpaths, P packs, N moments (an image and the words so far), S width of the language model,
    I image channels, R = 4 beliefs, M maps, g h g w grid of cells on the canvas, C = g h * g w.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.density import Grid

NUM_HISTORY = 4  # beliefs of a moment: now, one word ago, two words ago, before any word
NUM_QUERIES = 4  # attention queries of the language-model state over the cells of the image
FAINT = 0.02  # belief treated as none; features apply it relative to the map's mean


@dataclass(frozen=True)
class SceneMaps:
    """The scene maps of V scanpaths, pack by pack."""

    maps: Tensor  # (N, M, C)
    index: Tensor  # (V, P) long, row of `maps`; (V, 1) if all packs share one

    def at(self, row: Tensor, pack: Tensor) -> Tensor:
        """Look up the maps of scanpaths (E,) in packs (E,): (E, M, C)."""
        return self.maps[self.index[row, pack.clamp(max=self.index.shape[1] - 1)]]

    def of(self, owner: Tensor) -> "SceneMaps":
        """Assign the maps of expressions to their scanpaths: owner (V,)."""
        return SceneMaps(self.maps, self.index[owner])


def stack_history(beliefs: Tensor) -> Tensor:
    """Stack each pack's belief with the earlier ones: (B, P, g h, g w) -> (B, P, R, g h, g w)."""
    pack = torch.arange(beliefs.shape[1], device=beliefs.device)
    earlier = [pack, (pack - 1).clamp(min=0), (pack - 2).clamp(min=0), torch.zeros_like(pack)]
    return beliefs[:, torch.stack(earlier, dim=1)]


class SceneEncoder(nn.Module):
    """Convolutional networks over the cells of the canvas; one pass per word, independent of observer and fixation."""

    def __init__(self, grid: Grid, *, hidden: int, num_maps: int, state_width: int, image_channels: int) -> None:
        super().__init__()
        self.grid = grid
        inputs = 2 * NUM_HISTORY + 2
        if image_channels:
            self.coarse = nn.Conv2d(image_channels, hidden, 1)
            self.fine = nn.Conv2d(image_channels // 4, hidden, 1)
            self.norm = nn.GroupNorm(1, hidden)
            self.blend = nn.Conv2d(hidden, hidden, 3, padding=1)
            inputs += hidden
        self.ask = nn.Linear(state_width, NUM_QUERIES * hidden) if state_width and image_channels else None
        inputs += NUM_QUERIES * (self.ask is not None)
        self.draw = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(hidden, num_maps, 1),
        )
        self.rank = nn.Linear(num_maps, 1, bias=False)  # a softmax ignores a bias

    def encode_image(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Fuse image features (B, I, h, w) and (B, I / 4, h', w') at the finer resolution: (B, hidden, h', w')."""
        wide = F.interpolate(self.coarse(coarse), fine.shape[-2:], mode="bilinear", align_corners=False)
        seen = F.relu(self.norm(wide + self.fine(fine)))
        return F.relu(seen + self.blend(seen))

    def priority(self, maps: Tensor) -> Tensor:
        """Return the log priority map, a distribution over cells: (N, M, C) -> (N, C)."""
        return self.rank(maps.transpose(1, 2))[..., 0].float().log_softmax(-1)

    def forward(self, beliefs: Tensor, image_maps: Tensor | None = None, states: Tensor | None = None) -> Tensor:
        """Compute the maps of N moments.

        Args:
            beliefs: (N, R, g h, g w) from `stack_history`, 0..1.
            image_maps: (N, hidden, g h, g w) of `encode_image`, on the canvas.
            states: (N, S) language-model states.

        Returns:
            (N, M, C).
        """
        maps = beliefs.float()
        total = maps.sum((-2, -1), keepdim=True) + 1e-6 * self.grid.num_cells
        strength = ((maps + 1e-6) / total * self.grid.num_cells + FAINT).log()
        x, y = (self.grid.centers(maps.device) / torch.tensor(CANVAS, device=maps.device) * 2 - 1).unbind(-1)
        places = torch.stack([x, y]).view(1, 2, *self.grid.shape).expand(len(maps), -1, -1, -1)
        inputs = [maps, strength / 2, places]
        if image_maps is not None:
            inputs.append(image_maps)
            if self.ask is not None:
                assert states is not None
                queries = self.ask(states.to(image_maps)).unflatten(-1, (NUM_QUERIES, -1))  # (N, queries, hidden)
                scores = queries @ image_maps.flatten(2) / image_maps.shape[1] ** 0.5
                inputs.append(scores.unflatten(-1, self.grid.shape))
        return self.draw(torch.cat(inputs, dim=1)).flatten(2)
