"""Answer about a picture or a clip with the stock modules of Transformers, step by step as the released code does.

Flow: InternVLForConditionalGeneration.generate -> states at [SEG] -> projector -> Sam2VideoModel: for each [SEG] one
    session over all frames -> masks.
Source: Sa2VA, arXiv:2501.04001, and what its released code does with the numbers: the generation keeps the hidden
    states of all layers; each [SEG] encodes the picture anew, or each of T frames once and the first five twice; the
    session keeps the memory, and the loop the full-size logits, of all frames; masks are made one [SEG] at a time.
    Two differences, both in its favor: gradients are off everywhere, and attention is the fused one.
Shapes: N objects, T frames, K prompted frames, S side of SAM 2's input, D width of the language model, C of SAM 2.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLForConditionalGeneration, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sa2va.inference.predictor import Predictor
from sa2va.model.sam.sam2 import Sam2
from sa2va.types import Turn

M = TypeVar("M", bound=nn.Module)
NUM_PROMPTED = 5  # frames that the language model reads and [SEG] prompts


class PlainLoop:
    """Stock models with the weights of a predictor."""

    def __init__(self, predictor: Predictor) -> None:
        model, config = predictor.model, predictor.model.config
        assert config.family == "internvl", "the loop reads pictures as InternVL does"
        self.processor, self.projector, self.device = predictor.processor, model.projector, predictor.device
        self.dtype = predictor.dtype
        mllm = InternVLConfig(**deepcopy(config.mllm))
        self.mllm = share(model.mllm.native, lambda: InternVLForConditionalGeneration(mllm))
        self.sam = share_sam2(model.sam2, config.sam2)

    @torch.inference_mode()
    def predict(
        self, frames: NDArray[np.uint8], question: str, num_tokens: int, before: tuple[str, list[int]] | None = None
    ) -> tuple[list[NDArray[np.bool_]], list[Tensor]]:
        """Answer and segment.

        Args:
            frames: (T, H, W, 3).
            question: of the user.
            num_tokens: number of tokens to generate, its end included.
            before: question and answer of an earlier turn, which are read again.

        Returns:
            Masks bool (T, H, W) and low-resolution logits (T, h, w), one of each per object.
        """
        states = self.answer(frames[:NUM_PROMPTED], question, num_tokens, before)
        prompts = self.projector(states)  # (N, C)
        pixels = self.processor.sam_pixel_values(frames).contiguous().to(self.device, self.dtype)  # (T, 3, S, S)
        masks, low = [], []
        for prompt in prompts:
            outputs = list(self.segment(pixels, prompt[None]))
            full = torch.cat([self.upscale(one) for one in outputs])
            full = F.interpolate(full, frames.shape[1:3], mode="bilinear", align_corners=False)
            masks.append((full.sigmoid() > 0.5)[:, 0].cpu().numpy())
            low.append(torch.cat(outputs)[:, 0].float().cpu())
        return masks, low

    def answer(
        self, frames: NDArray[np.uint8], question: str, num_tokens: int, before: tuple[str, list[int]] | None
    ) -> Tensor:
        """Generate an answer about K frames: hidden states at its [SEG] tokens, (N, D)."""
        turn = Turn(question=question, answer="")
        first = turn if before is None else replace(turn, question=before[0])
        prompts = self.processor.prompts([(first, [frames])])
        ids = prompts.input_ids
        if before is not None:
            ids = torch.cat([ids, torch.tensor([before[1] + self.processor.encode_follow_up(turn)])], dim=1)
        found = self.mllm.generate(
            input_ids=ids.to(self.device),
            attention_mask=torch.ones_like(ids).to(self.device),
            pixel_values=prompts.pixel_values.to(self.device, self.dtype),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=self.processor.pad_id,
            eos_token_id=list(self.processor.end_ids),
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        generated = found.sequences[0, ids.shape[1] :].tolist()
        # The state of a token is that of the step that reads it, one after the step that wrote it.
        steps = [place + 1 for place, token in enumerate(generated[:-1]) if token == self.processor.seg_id]
        return torch.cat([found.hidden_states[step][-1][:, -1] for step in steps])

    def segment(self, pixels: Tensor, prompt: Tensor) -> Iterator[Tensor]:
        """Segment one object in all frames: (T, 3, S, S), (1, C) -> T logits (1, 1, h, w)."""
        num_frames = len(pixels)
        session = Sam2VideoInferenceSession(
            video=pixels, video_height=self.sam.image_size, video_width=self.sam.image_size, dtype=self.dtype,
            inference_device=self.device, inference_state_device=self.device, video_storage_device=self.device,
            max_vision_features_cache_size=1,
        )  # fmt: skip
        session.obj_id_to_idx(1)
        prompted = range(min(NUM_PROMPTED, num_frames))
        outputs = {frame: self.decode(session, frame, num_frames, prompt) for frame in prompted}
        if num_frames > 1:
            for frame in prompted:
                self.remember(session, frame, outputs[frame], is_prompted=True)
        for frame in range(num_frames):
            if frame in prompted:
                yield outputs[frame]["pred_masks"]
            else:
                output = self.decode(session, frame, num_frames, None)
                self.remember(session, frame, output, is_prompted=False)
                yield output["pred_masks"]

    def decode(
        self, session: Sam2VideoInferenceSession, frame: int, num_frames: int, prompt: Tensor | None
    ) -> dict[str, Tensor]:
        """Decode the mask of a frame, from a prompt (1, C) or from memory."""
        sam = self.sam
        features, positions = sam._prepare_vision_features(session, frame, 1)
        embeds = sam._prepare_memory_conditioned_features(
            inference_session=session,
            frame_idx=frame,
            obj_idx=0,
            is_initial_conditioning_frame=prompt is not None,
            current_vision_features=features[-1],
            current_vision_positional_embeddings=positions[-1],
            num_total_frames=num_frames,
        )
        sizes = sam.backbone_feature_sizes
        maps = [one.permute(1, 2, 0).unflatten(2, size) for one, size in zip(features, sizes, strict=True)]
        encoder = sam.prompt_encoder
        sparse = encoder.not_a_point_embed.weight.expand(1, 1, 2, -1)
        if prompt is not None:
            sparse = torch.cat([sparse, prompt[:, None, None].to(sparse.dtype)], dim=2)
        masks, scores, tokens, presence = sam.mask_decoder(
            image_embeddings=embeds,
            image_positional_embeddings=sam.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embeds),
            multimask_output=True,
            high_resolution_features=maps[:-1],
        )
        best = scores[0, 0].argmax()
        seen = (presence[:, 0] > 0).to(tokens.dtype)  # (1, 1)
        pointer = seen * sam.object_pointer_proj(tokens[:, 0, best]) + (1 - seen) * sam.no_object_pointer
        return {
            "pred_masks": masks[:, 0, best, None].float(),
            "object_pointer": pointer,
            "object_score_logits": presence[:, 0],
        }

    def remember(
        self, session: Sam2VideoInferenceSession, frame: int, output: dict[str, Tensor], *, is_prompted: bool
    ) -> None:
        """Store the memory of a decoded frame in the session."""
        features, _ = self.sam._prepare_vision_features(session, frame, 1)
        memory, positions = self.sam._encode_new_memory(
            current_vision_feats=features[-1],
            pred_masks_high_res=self.upscale(output["pred_masks"]).to(self.dtype),
            object_score_logits=output["object_score_logits"],
            is_mask_from_pts=False,
        )
        stored = output | {"maskmem_features": memory, "maskmem_pos_enc": positions}
        session.store_output(0, frame, output_value=stored, is_conditioning_frame=is_prompted)

    def upscale(self, logits: Tensor) -> Tensor:
        """Resize logits to SAM 2's input size: (1, 1, h, w) -> (1, 1, S, S)."""
        size = (self.sam.image_size, self.sam.image_size)
        return F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)


def share_sam2(sam2: Sam2, config: dict[str, Any]) -> Sam2VideoModel:
    """Build the stock SAM 2 with the weights of ours; `config` is the one ours was built from."""
    return share(sam2.native, lambda: Sam2VideoModel(Sam2.build_config(deepcopy(config))))


def share(own: nn.Module, build: Callable[[], M]) -> M:
    """Build a stock model with the parameters and buffers of ours."""
    with torch.device("meta"):
        stock = build()
    stock.load_state_dict(own.state_dict(), assign=True)
    for name, buffer in own.named_buffers():  # also those that no state dict holds
        place, _, leaf = name.rpartition(".")
        setattr(stock.get_submodule(place), leaf, buffer)
    assert not any(tensor.is_meta for tensor in (*stock.parameters(), *stock.buffers()))
    return stock.eval().requires_grad_(False)
