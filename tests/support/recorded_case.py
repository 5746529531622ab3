"""Record a case of `sa2va parity` from a model itself, as a reference implementation would."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from sa2va.evaluation import parity
from sa2va.inference.predictor import Predictor
from sa2va.model.families.catalog import find_family
from sa2va.model.families.templates import find_template

QUESTION = "Please segment the red circle."
ANSWER = "It is [SEG] and [SEG]."


def record(predictor: Predictor, folder: Path, case: str, num_frames: int) -> None:
    """Write a case that the model itself has run, as a reference would."""
    frames = torch.randint(
        0, 256, (num_frames, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    processor = predictor.processor
    answer = processor.tokenizer.encode(ANSWER, add_special_tokens=False)
    given = {"images_uint8": frames, "forced_ids": torch.tensor(answer), "input_ids": torch.zeros(1)}
    config = predictor.model.config
    template, block = find_template(config.template), find_family(config.family).image_block(1)
    before = template.system.format(config.system) if config.system else ""
    prompt = f"{before}{template.before_question}{block}{config.question_joint}{QUESTION}{template.before_answer}"
    names = ("input_ids", "seg_hidden", "seg_embed", "sam_fpn0_frame0", "seg0_final_mask", "seg1_final_mask")
    kept: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        while len(kept) < len(names):  # what a step is compared with can depend on what is recorded already
            steps = dict(parity._Case(predictor, prompt, given | kept).steps())
            kept = {name: steps[name].contiguous() for name in names if name in steps}
        given |= kept
        given["seg0_low"] = torch.zeros(num_frames, 1, 1, 1)
        low = [
            value
            for name, value in parity._Case(predictor, prompt, given).steps()
            if "seg0_low" in name and "recorded" in name
        ]
    save_file(given | {"seg0_low": torch.cat(low)}, folder / f"{case}.safetensors")
    (folder / f"{case}.json").write_text(json.dumps({"prompt": prompt}))
