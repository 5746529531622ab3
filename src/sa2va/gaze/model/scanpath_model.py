"""Compose the model of gaze: Sa2VA hears words and says where the target is, an event decoder moves the eyes.

Flow: picture + words -> listening.py (states, mask logits) -> belief maps and image features on the canvas
    -> decoder.py -> losses, or rollout.py -> fixations.
Source: our own, on Sa2VA, arXiv:2501.04001. Pictures come first and words after them, so that one causal pass serves
    all packs, all people and all samples.
Shapes: B pictures with an expression each, V scanpaths of them, P packs, S width of the language model, I image
    channels, C cells of the canvas, g h g w their grid.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sa2va.gaze.model.decoder import EventDecoder
from sa2va.gaze.model.events import EventBatch
from sa2va.gaze.model.listening import Listener, canvas_maps
from sa2va.gaze.model.losses import EventLossConfig, crowd_loss, event_losses, token_terms
from sa2va.gaze.model.sight import Scene
from sa2va.model.losses import LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.types import Frames

SIGNS = 2**20  # weights of a tensor that its fingerprint takes: a second for billions
SIGNED = "signs-"  # begins fingerprints of this kind; cards of before have others, which are not comparable
LARGEST = 32  # side of the coarser image features; eyes need no finer ones


@dataclass(frozen=True, kw_only=True)
class Understanding:
    """What Sa2VA makes of B expressions, for every pack at once."""

    states: Tensor | None  # (B, P, S); None, as the features: nobody listened, only beliefs are known
    beliefs: Tensor  # (B, P, g h, g w) 0..1
    coarse: Tensor | None  # (B, I, g, g) features of the picture, squeezed to a square
    fine: Tensor | None  # (B, I / 4, 2 g, 2 g)
    known: Tensor  # (B, P) bool, packs that there are; beyond them the last one is repeated
    image_size: tuple[int, int]  # px, width and height of the pictures
    mask_logits: Tensor | None = None  # (B, P, h, w)

    def unheard(self) -> Self:
        """The same where nobody listened: beliefs alone."""
        return replace(self, states=None, coarse=None, fine=None, mask_logits=None)


class ScanpathModel(nn.Module):
    """Looks at a picture while it listens."""

    def __init__(self, sa2va: Sa2VA, processor: Processor, decoder: EventDecoder) -> None:
        super().__init__()
        self.sa2va, self.decoder = sa2va, decoder
        self.listener = Listener(sa2va, processor)
        wanted = (sa2va.mllm.width, sa2va.sam2.width)
        given = (decoder.config.state_width, decoder.config.image_channels)
        if given != wanted:
            raise ValueError(
                f"gaze decoder: made for states and image features of widths {given}, this model has {wanted}; "
                "take the gaze weights that were trained on it"
            )

    def belief(self, mask_logits: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Bring mask logits (N, h, w) to the canvas: (N, g h, g w) 0..1."""
        return canvas_maps(mask_logits.sigmoid()[:, None], image_size, self.decoder.config.grid)[:, 0]

    def understand(self, frames: Sequence[Frames], words: Sequence[Sequence[str]]) -> Understanding:
        """Hear B whole expressions in one causal pass; the pack after the words repeats what the last one told.

        Args:
            frames: B pictures (1, H, W, 3), all of one size.
            words: B expressions.
        """
        sizes = {frame.shape[1:3] for frame in frames}
        assert len(sizes) == 1, f"pictures of sizes {sizes}"
        ((height, width),) = sizes
        size = (width, height)
        features = FrameFeatures(*_join([self.listener.see(frame) for frame in frames]))
        states, logits = self.listener.hear_all(frames, words, features)
        states, logits = (torch.cat([value, value[:, -1:]], dim=1) for value in (states, logits))
        beliefs = self.belief(logits.flatten(0, 1), size).unflatten(0, logits.shape[:2])
        coarse, fine = picture_features(features)
        counts = torch.tensor([len(row) + 2 for row in words], device=states.device)
        return Understanding(
            states=states,
            beliefs=beliefs,
            coarse=coarse,
            fine=fine,
            known=torch.arange(states.shape[1], device=states.device) < counts[:, None],
            image_size=size,
            mask_logits=logits,
        )

    def losses(
        self,
        heard: Understanding,
        owner: Tensor,
        batch: EventBatch,
        *,
        targets: Tensor | None = None,
        crowd: Tensor | None = None,
        config: EventLossConfig | None = None,
        prefix_weight: float = 0.5,
    ) -> dict[str, LossTerm]:
        """Losses of V scanpaths whose expressions have been heard.

        Args:
            heard: of B expressions.
            owner: (V,) which of them each scanpath belongs to.
            batch: V scanpaths, whose beliefs and states are the model's own.
            targets: (B, P, h, w) 0..1 share of each mask cell that objects cover which the words so far may mean;
                None leaves the prefix masks alone.
            crowd: (B, P, C) where people look in each pack, rows of sum 1 or 0.
            config: weights of the terms of events.
            prefix_weight: of the prefix masks.
        """
        losses = gaze_losses(self.decoder, heard, owner, batch, crowd=crowd, config=config)
        if targets is None:
            return losses
        assert heard.mask_logits is not None
        return losses | {"prefix": prefix_mask_loss(heard.mask_logits, targets, prefix_weight)}


def fingerprint(model: Sa2VA) -> str:
    """Tell models apart by the signs of their weights, which no precision and no layout of files changes.

    Returns:
        SIGNED and 16 hexadecimal digits, of the first SIGNS weights of each tensor.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(np.packbits(value.detach().flatten()[:SIGNS].signbit().cpu().numpy()).tobytes())
    return f"{SIGNED}{digest.hexdigest()[:16]}"


def picture_features(features: FrameFeatures) -> tuple[Tensor, Tensor]:
    """Take what eyes need of the features of pictures: (B, I, g, g) and (B, I / 4, 2 g, 2 g), g <= LARGEST."""
    side = min(features.embeds.shape[-1], LARGEST)
    return (
        F.adaptive_avg_pool2d(features.embeds.float(), side),
        F.adaptive_avg_pool2d(features.high_res[1].float(), 2 * side),
    )


def view(decoder: EventDecoder, coarse: Tensor, fine: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Read the features of pictures (B, I, g, g) and (B, I / 4, 2 g, 2 g), on the canvas: (B, hidden, g h, g w)."""
    return canvas_maps(decoder.sight.picture(coarse, fine), image_size, decoder.config.grid)


def draw_scene(decoder: EventDecoder, heard: Understanding) -> Scene:
    """Draw what people see and make of the words, for every pack of B expressions."""
    if heard.coarse is None or heard.fine is None:
        return decoder.scene(heard.beliefs, known=heard.known)
    seen = view(decoder, heard.coarse, heard.fine, heard.image_size)
    return decoder.scene(heard.beliefs, seen, heard.states, heard.known)


def gaze_losses(
    decoder: EventDecoder,
    heard: Understanding,
    owner: Tensor,
    batch: EventBatch,
    *,
    crowd: Tensor | None = None,
    config: EventLossConfig | None = None,
) -> dict[str, LossTerm]:
    """Losses of what people did; the arguments are those of `ScanpathModel.losses`."""
    config = config or EventLossConfig()
    scene = draw_scene(decoder, heard)
    losses = event_losses(token_terms(decoder, batch, scene=scene.of(owner)), decoder, batch, config)
    if crowd is None or not config.crowd:
        return losses
    known = heard.known if scene.index.shape == heard.known.shape else heard.known[:, :1]
    priority = decoder.sight.priority(scene.maps)
    return losses | {"crowd": crowd_loss(priority, crowd[:, : known.shape[1]][known], config.crowd)}


def prefix_mask_loss(mask_logits: Tensor, targets: Tensor, weight: float = 1.0) -> LossTerm:
    """Cross-entropy and dice between masks of prefixes and what their words leave possible.

    Args:
        mask_logits: (B, P, h, w).
        targets: (B, P, h, w) 0..1.
        weight: of the term.
    """
    bce = F.binary_cross_entropy_with_logits(mask_logits, targets, reduction="none").mean((-2, -1))
    chance = mask_logits.sigmoid()
    overlap, size = (chance * targets).sum((-2, -1)), chance.sum((-2, -1)) + targets.sum((-2, -1))
    return LossTerm.of(2.0 * bce + 0.5 * (1 - (2 * overlap + 1) / (size + 1)), weight)


def _join(features: Sequence[FrameFeatures]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    embeds = torch.cat([one.embeds for one in features])
    return embeds, (torch.cat([one.high_res[0] for one in features]), torch.cat([one.high_res[1] for one in features]))
