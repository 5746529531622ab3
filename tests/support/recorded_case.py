"""Record a case of `sa2va parity` from a model itself: every tensor that the command knows, as a reference would."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sa2va.evaluation.parity import Case
from sa2va.inference.predictor import Predictor
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD
from sa2va.types import Turn

QUESTION = "Please segment the red circle."
ANSWER = "It is [SEG] and [SEG]."
PER_FRAME = ("low", "low3", "iou", "ptr", "score", "mem_feat_f32", "pix_with_mem")


def to_levels(pixel_values: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return the uint8 levels of normalized pixels (N, 3, ...), or of patches (N, 3 * values) plane by plane."""
    planes = pixel_values.reshape(len(pixel_values), 3, -1)
    levels = (planes * torch.tensor(std)[:, None] + torch.tensor(mean)[:, None]) * 255
    return levels.round().clamp(0, 255).to(torch.uint8).reshape(pixel_values.shape).contiguous()


def record(
    predictor: Predictor, folder: Path, case: str, num_frames: int, regions: tuple[np.ndarray, ...] = ()
) -> dict[str, Tensor]:
    """Write a case that the model itself has run on noise; return its tensors.

    Args:
        predictor: of the model.
        folder: of the model, where the case goes.
        case: "image", "video" or "visual_prompt".
        num_frames: T.
        regions: marked regions (H, W) of the first frame, 48 x 64 px.
    """
    model, processor = predictor.model, predictor.processor
    family, native = processor.family, model.mllm.native
    frames = torch.randint(
        0, 256, (num_frames, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    turn = Turn(question=QUESTION, answer="", regions=regions)
    prompts = processor.prompts([(turn, [frames.numpy()[: model.config.num_keyframes]])])
    prompt = str(processor.tokenizer.decode(prompts.input_ids[0], skip_special_tokens=False))
    answer = processor.tokenizer.encode(ANSWER, add_special_tokens=False)
    given = {"images_uint8": frames, "forced_ids": torch.tensor(answer), "input_ids": prompts.input_ids}
    if regions:
        given["mask_prompts"] = torch.from_numpy(np.stack(regions).astype(np.uint8))
    levels = to_levels(prompts.pixel_values, family.pixel_mean, family.pixel_std)
    sam_levels = to_levels(processor.sam_pixel_values(frames.numpy()), IMAGENET_MEAN, IMAGENET_STD)
    # A step may ask for the shape of what was recorded. Zeros of that shape do until the step has run.
    shapes = {f"seg{row}_{name}": torch.zeros(num_frames) for row in range(2) for name in PER_FRAME}
    with torch.no_grad():
        visual = family.encode_images(native, prompts.pixel_values, prompts.grids)
        shapes |= {"visual" if family.takes_any_size else "projected_vit": torch.zeros(visual.tokens.shape)}
        if not family.takes_any_size:
            shapes["vit_last_hidden"] = torch.zeros(len(prompts.pixel_values))
        first = dict(Case(predictor, prompt, given | shapes).steps())
        shapes["seg_embed"] = first["seg_embed"]
        kept: dict[str, list[Tensor]] = {}
        for name, value in Case(predictor, prompt, given | shapes).steps():
            if "end to end" not in name:
                kept.setdefault(name.split(" ")[0], []).append(value)
    tensors = given | {name: torch.cat(values).contiguous() for name, values in kept.items()}
    pixels = ("llm_tiles_uint8", "pixel_values_u8")
    tensors |= {"sam_frames_uint8": sam_levels, pixels[family.takes_any_size]: levels}
    del tensors[pixels[not family.takes_any_size]]
    save_file(tensors, folder / f"{case}.safetensors")
    (folder / f"{case}.json").write_text(json.dumps({"prompt": prompt}))
    return tensors
