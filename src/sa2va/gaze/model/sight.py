"""Draw maps that everybody who looks at a picture shares: its parts, and what the words so far may mean.

Flow: image features -> Sight.picture, once per picture -> canvas -> Sight, once per word: with what is believed now,
    what was believed just before and without a word -> maps, which the aims of decoder.py weigh for each fixation.
Source: our own. The eye lags behind the ear: what moves it is often the belief of a word or two ago.
Shapes: B pictures, V scanpaths, P packs, N moments (a picture and the words so far), S width of the language model,
    I image channels, R = 4 beliefs, M maps, g h g w grid of cells on the canvas, C = g h * g w.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.model.density import Grid

NUM_RECALLED = 4  # beliefs of a moment: now, one word ago, two words ago, before any word
NUM_QUESTIONS = 4  # that the state of the language model asks of each cell of the picture
FAINT = 0.02  # share of the mean belief that counts as none


@dataclass(frozen=True)
class Scene:
    """What V scanpaths have before their eyes, pack by pack."""

    maps: Tensor  # (N, M, C)
    index: Tensor  # (V, P) long, row of `maps`; (V, 1) where one serves all packs

    def at(self, row: Tensor, pack: Tensor) -> Tensor:
        """Maps of scanpaths (E,) in packs (E,): (E, M, C)."""
        return self.maps[self.index[row, pack.clamp(max=self.index.shape[1] - 1)]]

    def of(self, owner: Tensor) -> "Scene":
        """Hand each scanpath (V,) the scene of its expression."""
        return Scene(self.maps, self.index[owner])


def recall(beliefs: Tensor) -> Tensor:
    """Put beside the belief of each pack those before it: (B, P, g h, g w) -> (B, P, R, g h, g w)."""
    pack = torch.arange(beliefs.shape[1], device=beliefs.device)
    earlier = [pack, (pack - 1).clamp(min=0), (pack - 2).clamp(min=0), torch.zeros_like(pack)]
    return beliefs[:, torch.stack(earlier, dim=1)]


class Sight(nn.Module):
    """Networks over the cells of the canvas. They run once per word, whoever looks and however often."""

    def __init__(self, grid: Grid, *, hidden: int, num_maps: int, state_width: int, image_channels: int) -> None:
        super().__init__()
        self.grid = grid
        inputs = 2 * NUM_RECALLED + 2
        if image_channels:
            self.coarse = nn.Conv2d(image_channels, hidden, 1)
            self.fine = nn.Conv2d(image_channels // 4, hidden, 1)
            self.norm = nn.GroupNorm(1, hidden)
            self.blend = nn.Conv2d(hidden, hidden, 3, padding=1)
            inputs += hidden
        self.ask = nn.Linear(state_width, NUM_QUESTIONS * hidden) if state_width and image_channels else None
        inputs += NUM_QUESTIONS * (self.ask is not None)
        self.draw = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(hidden, num_maps, 1),
        )
        self.rank = nn.Linear(num_maps, 1, bias=False)  # a constant would vanish under the softmax

    def picture(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Read image features (B, I, h, w) and finer ones (B, I / 4, h', w'): (B, hidden, h', w')."""
        wide = F.interpolate(self.coarse(coarse), fine.shape[-2:], mode="bilinear", align_corners=False)
        seen = F.relu(self.norm(wide + self.fine(fine)))
        return F.relu(seen + self.blend(seen))

    def priority(self, maps: Tensor) -> Tensor:
        """Where people look on the whole, log shares of cells: (N, M, C) -> (N, C)."""
        return self.rank(maps.transpose(1, 2))[..., 0].float().log_softmax(-1)

    def forward(self, beliefs: Tensor, view: Tensor | None = None, states: Tensor | None = None) -> Tensor:
        """Draw the maps of N moments.

        Args:
            beliefs: (N, R, g h, g w) as `recall` puts them, 0..1.
            view: (N, hidden, g h, g w), of `picture`, on the canvas.
            states: (N, S) of the language model.

        Returns:
            (N, M, C).
        """
        maps = beliefs.float()
        total = maps.sum((-2, -1), keepdim=True) + 1e-6 * self.grid.num_cells
        strength = ((maps + 1e-6) / total * self.grid.num_cells + FAINT).log()
        x, y = (self.grid.centers(maps.device) / torch.tensor(CANVAS, device=maps.device) * 2 - 1).unbind(-1)
        places = torch.stack([x, y]).view(1, 2, *self.grid.shape).expand(len(maps), -1, -1, -1)
        inputs = [maps, strength / 2, places]
        if view is not None:
            inputs.append(view)
            if self.ask is not None:
                assert states is not None
                questions = self.ask(states.to(view)).unflatten(-1, (NUM_QUESTIONS, -1))  # (N, questions, hidden)
                answers = questions @ view.flatten(2) / view.shape[1] ** 0.5
                inputs.append(answers.unflatten(-1, self.grid.shape))
        return self.draw(torch.cat(inputs, dim=1)).flatten(2)
