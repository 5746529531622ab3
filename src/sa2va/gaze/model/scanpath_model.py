"""Compose the scanpath model: Sa2VA grounds the words, an event decoder predicts the fixations.

Flow: image + words -> grounding.py (states, mask logits) -> belief maps and image features on the canvas
    -> decoder.py -> losses, or rollout.py -> fixations.
Source: our own, on Sa2VA, arXiv:2501.04001. The image precedes the words, so one causal pass serves all packs, all
    people and all samples.
Shapes: B images with an expression each, V scanpaths, P packs, S width of the language model, I image channels,
    C cells of the canvas, g h g w their grid.
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
from sa2va.gaze.model.grounding import WordGrounder, canvas_maps
from sa2va.gaze.model.losses import EventLossConfig, crowd_loss, event_losses, token_terms
from sa2va.gaze.model.scene_maps import SceneMaps
from sa2va.model.losses import LossTerm
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.types import Frames

SIGNS = 2**20  # weights per tensor in a fingerprint; takes one second for billions of weights
SIGNED = "signs-"  # prefix of these fingerprints; older cards have another kind, which is not comparable
LARGEST = 32  # maximum side of the coarser image features, in cells


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Sa2VA's grounding of B expressions, for all packs at once."""

    states: Tensor | None  # (B, P, S); None = beliefs only, as for coarse and fine
    beliefs: Tensor  # (B, P, g h, g w) 0..1
    coarse: Tensor | None  # (B, I, g, g) features of the image resized to a square
    fine: Tensor | None  # (B, I / 4, 2 g, 2 g)
    known: Tensor  # (B, P) bool, packs that are not padding; padding repeats the last pack
    image_size: tuple[int, int]  # px, width and height of the images
    mask_logits: Tensor | None = None  # (B, P, h, w)

    def beliefs_only(self) -> Self:
        """Drop states, image features and mask logits."""
        return replace(self, states=None, coarse=None, fine=None, mask_logits=None)


class ScanpathModel(nn.Module):
    """Sa2VA with an event decoder: word-by-word scanpath prediction."""

    def __init__(self, sa2va: Sa2VA, processor: Processor, decoder: EventDecoder) -> None:
        super().__init__()
        self.sa2va, self.decoder = sa2va, decoder
        self.grounder = WordGrounder(sa2va, processor)
        wanted = (sa2va.mllm.width, sa2va.sam2.width)
        given = (decoder.config.state_width, decoder.config.image_channels)
        if given != wanted:
            raise ValueError(
                f"gaze decoder: made for states and image features of widths {given}, this model has {wanted}; "
                "use gaze weights that were trained on this model"
            )

    def belief(self, mask_logits: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Convert mask logits (N, h, w) to belief maps on the canvas: (N, g h, g w) 0..1."""
        return canvas_maps(mask_logits.sigmoid()[:, None], image_size, self.decoder.config.grid)[:, 0]

    def ground(self, frames: Sequence[Frames], words: Sequence[Sequence[str]]) -> Grounding:
        """Ground B whole expressions in one causal pass; the pack after the words repeats the last word's.

        Args:
            frames: B images (1, H, W, 3), all of one size.
            words: B expressions.
        """
        sizes = {frame.shape[1:3] for frame in frames}
        assert len(sizes) == 1, f"images of sizes {sizes}"
        ((height, width),) = sizes
        size = (width, height)
        features = FrameFeatures(*_join([self.grounder.encode_images(frame) for frame in frames]))
        states, logits = self.grounder.ground_all(frames, words, features)
        states, logits = (torch.cat([value, value[:, -1:]], dim=1) for value in (states, logits))
        beliefs = self.belief(logits.flatten(0, 1), size).unflatten(0, logits.shape[:2])
        coarse, fine = image_features(features)
        counts = torch.tensor([len(row) + 2 for row in words], device=states.device)
        return Grounding(
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
        grounding: Grounding,
        owner: Tensor,
        batch: EventBatch,
        *,
        targets: Tensor | None = None,
        crowd: Tensor | None = None,
        config: EventLossConfig | None = None,
        prefix_weight: float = 0.5,
    ) -> dict[str, LossTerm]:
        """Compute the losses of V scanpaths over B grounded expressions.

        Args:
            grounding: B expressions.
            owner: (V,) index of each scanpath's expression.
            batch: V scanpaths with the model's own beliefs and states.
            targets: (B, P, h, w) 0..1, share of each mask cell covered by the objects still possible after the words so
                far; None = no prefix mask loss.
            crowd: (B, P, C) fixation density of all people per pack, rows of sum 1 or 0.
            config: Weights of the event terms.
            prefix_weight: Weight of the prefix mask loss.
        """
        losses = gaze_losses(self.decoder, grounding, owner, batch, crowd=crowd, config=config)
        if targets is None:
            return losses
        assert grounding.mask_logits is not None
        return losses | {"prefix": prefix_mask_loss(grounding.mask_logits, targets, prefix_weight)}


def fingerprint(model: Sa2VA) -> str:
    """Hash the signs of a model's weights, which do not depend on precision or file layout.

    Returns:
        SIGNED and 16 hexadecimal digits, from the first SIGNS weights of each tensor.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(np.packbits(value.detach().flatten()[:SIGNS].signbit().cpu().numpy()).tobytes())
    return f"{SIGNED}{digest.hexdigest()[:16]}"


def image_features(features: FrameFeatures) -> tuple[Tensor, Tensor]:
    """Pool SAM 2 features for the scene maps: (B, I, g, g) and (B, I / 4, 2 g, 2 g), g <= LARGEST."""
    side = min(features.embeds.shape[-1], LARGEST)
    return (
        F.adaptive_avg_pool2d(features.embeds.float(), side),
        F.adaptive_avg_pool2d(features.high_res[1].float(), 2 * side),
    )


def canvas_features(decoder: EventDecoder, coarse: Tensor, fine: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Encode image features (B, I, g, g) and (B, I / 4, 2 g, 2 g) on the canvas: (B, hidden, g h, g w)."""
    return canvas_maps(decoder.sight.encode_image(coarse, fine), image_size, decoder.config.grid)


def image_maps_of(decoder: EventDecoder, grounding: Grounding) -> Tensor | None:
    """Encode the image features of a grounding on the canvas; None for beliefs only."""
    if grounding.coarse is None or grounding.fine is None:
        return None
    return canvas_features(decoder, grounding.coarse, grounding.fine, grounding.image_size)


def build_scene_maps(decoder: EventDecoder, grounding: Grounding) -> SceneMaps:
    """Compute the scene maps of every pack of B expressions."""
    image_maps = image_maps_of(decoder, grounding)
    return decoder.scene_maps(grounding.beliefs, image_maps, grounding.states, grounding.known)


def gaze_losses(
    decoder: EventDecoder,
    grounding: Grounding,
    owner: Tensor,
    batch: EventBatch,
    *,
    crowd: Tensor | None = None,
    config: EventLossConfig | None = None,
) -> dict[str, LossTerm]:
    """Compute the event and priority losses; see `ScanpathModel.losses` for the arguments."""
    config = config or EventLossConfig()
    scene = build_scene_maps(decoder, grounding)
    losses = event_losses(token_terms(decoder, batch, scene=scene.of(owner)), decoder, batch, config)
    if crowd is None or not config.crowd:
        return losses
    known = grounding.known if scene.index.shape == grounding.known.shape else grounding.known[:, :1]
    priority = decoder.sight.priority(scene.maps)
    return losses | {"crowd": crowd_loss(priority, crowd[:, : known.shape[1]][known], config.crowd)}


def prefix_mask_loss(mask_logits: Tensor, targets: Tensor, weight: float = 1.0) -> LossTerm:
    """Compute cross-entropy and dice loss between prefix masks and the objects still possible after each prefix.

    Args:
        mask_logits: (B, P, h, w).
        targets: (B, P, h, w) 0..1.
        weight: Weight of the term.
    """
    bce = F.binary_cross_entropy_with_logits(mask_logits, targets, reduction="none").mean((-2, -1))
    chance = mask_logits.sigmoid()
    overlap, size = (chance * targets).sum((-2, -1)), chance.sum((-2, -1)) + targets.sum((-2, -1))
    return LossTerm.of(2.0 * bce + 0.5 * (1 - (2 * overlap + 1) / (size + 1)), weight)


def _join(features: Sequence[FrameFeatures]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    embeds = torch.cat([one.embeds for one in features])
    return embeds, (torch.cat([one.high_res[0] for one in features]), torch.cat([one.high_res[1] for one in features]))
