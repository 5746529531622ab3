"""Compare a model with tensors recorded from a reference implementation, step by step up to the masks.

Flow: folder (checkpoint, `<case>.json`, `<case>.safetensors`) -> check_folder -> one Comparison per recorded tensor.
Source: the cases hold what the released Sa2VA code computes for one picture, one clip and one prompt with marked
    regions. Masks are compared twice: from the recorded prompt embedding, which tests SAM 2 alone, and end to end.
    A random mask decoder amplifies float32 rounding about fifty times, and rounding differs between processors. If a
    limit is exceeded, the case runs again with each weight moved by one unit in the last place. A difference counts as
    rounding if it is at most ROUNDING_FACTOR times the change of our own result. Every known mistake is far larger.
Shapes: L tokens, D MLLM width, C SAM 2 width, N objects, T frames, K of them prompted, h w logit grid.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sa2va.checkpoints.folder import load_checkpoint
from sa2va.files.json_file import read_json
from sa2va.inference.decoding import TextStream
from sa2va.inference.predictor import Predictor
from sa2va.inference.requests import Request
from sa2va.model.batch import Prompts
from sa2va.model.families.catalog import find_family
from sa2va.model.families.templates import find_template
from sa2va.model.pixels import IMAGENET_MEAN, IMAGENET_STD
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.sam.tracker import Tracker
from sa2va.tokens import REGION_TOKENS
from sa2va.types import Turn

CASES = ("image", "video", "visual_prompt")
INPUTS = ("images_uint8", "mask_prompts", "forced_ids")  # inputs, not compared
PIXELS = "px"
# Tolerance by name, float32 on both sides; the first matching pattern applies.
LIMITS: tuple[tuple[str, float], ...] = (
    (r"(input_ids|attention_mask|image_grid_thw|sequences)$", 0.0),
    (r"(tiles_uint8|pixel_values_u8|sam_frames_uint8)$", 1e-6),
    (r"final_mask$", 12),
    (r"^seg_embed$", 2e-5),
    (r"^image: .*mem_feat.*end to end", 2e-2),  # SAM 2 multiplies mask logits by 20 before the memory encoder
    (r"^video: .*mem_feat.*end to end", 6e-2),
    (r"mem_feat.*tracked", 6e-3),
    (r"mem_feat", 2e-4),
    (r"^image: .*end to end", 1e-3),
    (r"^video: .*end to end", 3e-3),
    (r"tracked", 3e-4),
    (r"", 1e-5),
)
ROUNDING_RUNS, ROUNDING_FACTOR = 4, 4  # the reference rounds too, in another order
Recorded = Mapping[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """Difference between a recorded tensor and ours."""

    case: str
    name: str
    difference: float  # maximum over all elements
    limit: float
    unit: str = ""
    rounding: float | None = None  # change of our result when last bits of weights change; None = not measured

    @property
    def ok(self) -> bool:
        """Whether the difference is within the limit or explained by rounding; NaN is neither."""
        return self.difference <= max(self.limit, ROUNDING_FACTOR * (self.rounding or 0.0))


def limit_of(case: str, name: str) -> float:
    """Return the tolerance of a tensor."""
    return next(limit for pattern, limit in LIMITS if re.search(pattern, f"{case}: {name}") or re.search(pattern, name))


def check_folder(folder: Path, *, strict: bool = False) -> Iterator[Comparison]:
    """Run every case of a folder and compare.

    Args:
        folder: a model in the published layout or ours, with one or more cases beside it.
        strict: no allowance for rounding.

    Raises:
        ValueError: the folder has no case, a case cannot be read, or the model cannot be loaded.
    """
    cases = [case for case in CASES if (folder / f"{case}.safetensors").is_file()]
    if not cases:
        raise ValueError(
            f"{folder} has no recorded case; expected one of {', '.join(f'{c}.safetensors' for c in CASES)}"
        )
    predictor = Predictor(*load_checkpoint(folder, torch.device("cpu"), torch.float32))
    for case in cases:
        prompt, recorded = _read_case(folder, case)
        rows = list(check_case(predictor, case, prompt, recorded))
        if not strict and not all(row.ok for row in rows):
            rows = _measure_rounding(predictor, prompt, recorded, rows)
        yield from rows


def _read_case(folder: Path, case: str) -> tuple[str, Recorded]:
    path, words = folder / f"{case}.safetensors", folder / f"{case}.json"
    if not words.is_file():
        raise ValueError(f"{words} is missing; a case is a .safetensors file and a .json file with its prompt")
    try:
        return str(read_json(words)["prompt"]), load_file(path)
    except (KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} and {words.name} are not a recorded case ({error}); record it again") from error


@torch.no_grad()
def check_case(predictor: Predictor, case: str, prompt: str, recorded: Recorded) -> Iterator[Comparison]:
    """Compare all tensors of one case, in the order of the computation."""
    missing = [name for name in ("images_uint8", "input_ids", "forced_ids") if name not in recorded]
    if missing:
        raise ValueError(f"case {case} has no {', '.join(missing)}; record it again")
    ours = Case(predictor, prompt, recorded)
    checked = set(INPUTS)
    for name, mine in ours.steps():
        key = name.split(" ")[0]
        if key not in recorded:
            continue
        checked.add(key)
        yield _compare(case, name, mine, ours.theirs(name))
    for name in sorted(set(recorded) - checked):
        raise ValueError(f"case {case} has an unknown tensor {name}; remove or rename it")


@torch.no_grad()
def _measure_rounding(
    predictor: Predictor, prompt: str, recorded: Recorded, rows: list[Comparison]
) -> list[Comparison]:
    """Measure per row how far our own result moves when each weight moves by one unit in the last place."""
    kept = {name: value.clone() for name, value in predictor.model.state_dict().items()}
    ours = list(Case(predictor, prompt, recorded).steps())
    found: dict[str, float] = {}
    for seed in range(ROUNDING_RUNS):
        _move_last_bits(predictor.model, seed)
        for (name, value), (_, moved) in zip(ours, Case(predictor, prompt, recorded).steps(), strict=True):
            if value.dtype == torch.bool or value.dtype.is_floating_point:
                difference = (value != moved).sum() if value.dtype == torch.bool else (value - moved).abs().max()
                found[_kind(name)] = max(float(difference), found.get(_kind(name), 0.0))
        predictor.model.load_state_dict(kept)
    return [replace(row, rounding=found.get(_kind(row.name))) for row in rows]


def _move_last_bits(model: Sa2VA, seed: int) -> None:
    """Move every weight up or down, at random, by about one unit in the last place."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        sign = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
        parameter.mul_(1 + sign * torch.finfo(parameter.dtype).eps)


def _kind(name: str) -> str:
    """Strip object and frame number from a tensor's name; they share one rounding estimate."""
    return re.sub(r"^seg\d+_|_frame\d+$", "", name)


def _compare(case: str, name: str, ours: Tensor, theirs: Tensor) -> Comparison:
    limit = limit_of(case, name)
    if ours.shape != theirs.shape:
        return Comparison(case, name, math.inf, limit, f"shape {tuple(ours.shape)}, recorded {tuple(theirs.shape)}")
    if name.endswith("final_mask"):
        return Comparison(case, name, float((ours != theirs).sum()), limit, PIXELS)
    difference = (ours.double() - theirs.double()).abs()
    return Comparison(case, name, float(difference.max()) if difference.numel() else 0.0, limit)


class Case:
    """One case run through the model."""

    def __init__(self, predictor: Predictor, prompt: str, recorded: Recorded) -> None:
        self._predictor, self._recorded = predictor, recorded
        self._model, self._processor = predictor.model, predictor.processor
        self._frames = recorded["images_uint8"].numpy()
        self._num_prompted = min(self._model.config.num_keyframes, len(self._frames))
        regions = tuple(mask.numpy() > 0 for mask in recorded.get("mask_prompts", ()))
        self._family = find_family(self._model.config.family)
        self._turn = Turn(question=self._question(prompt), answer="", regions=regions)

    def _question(self, prompt: str) -> str:
        """Extract the user's question from a recorded prompt."""
        template = find_template(self._model.config.template)
        head, found, _ = prompt.rpartition(template.before_answer)
        if not found:
            raise ValueError(
                f"the recorded prompt does not end in {template.before_answer!r}: another template wrote it"
            )
        picture_end = self._family.image_block(1).rpartition(self._family.image_token)[2] or self._family.image_token
        words = head.rpartition(picture_end)[2].removeprefix(self._model.config.question_joint)
        return words.rpartition(f"{REGION_TOKENS[1]}.\n")[2]

    def theirs(self, name: str) -> Tensor:
        """Return the recorded tensor for a step; a name with a phase selects its prompted or tracked frames."""
        value = self._recorded[name.split(" ")[0]]
        if name in ("input_ids", "attention_mask"):
            return value.reshape(1, -1)
        if name == "sam_frames_uint8":  # the released code always rounds mean and SD to bfloat16
            return _normalize(value, *(torch.tensor(v).bfloat16() for v in (IMAGENET_MEAN, IMAGENET_STD)))
        if name in ("llm_tiles_uint8", "pixel_values_u8"):
            return _normalize(value, *map(torch.tensor, (self._family.pixel_mean, self._family.pixel_std)))
        if "prompted" in name:
            return value[: self._count(name, prompted=True)]
        if "tracked" in name:
            return value[self._count(name, prompted=True) :]
        return value

    def _count(self, name: str, *, prompted: bool) -> int:
        frames = self._frames_of(name.split(" ")[0])
        return sum((frame < self._num_prompted) is prompted for frame in frames)

    def _frames_of(self, name: str) -> list[int]:
        """Return a recorded tensor's frames: all, the tracked ones, or three (the first of each phase, the last)."""
        number, total, k = len(self._recorded[name]), len(self._frames), self._num_prompted
        if number == total:
            return list(range(total))
        if name.endswith("low3"):
            return [0, k, total - 1][:number]
        return list(range(k, k + number))

    # ---- language model

    def steps(self) -> Iterator[tuple[str, Tensor]]:
        """Yield our tensors by the recorded names, in order."""
        shown = self._frames[: self._num_prompted]
        prompts = self._processor.prompts([(self._turn, [shown])])
        yield "input_ids", prompts.input_ids
        yield "attention_mask", prompts.attention_mask
        yield "image_grid_thw", prompts.grids
        for name in ("llm_tiles_uint8", "pixel_values_u8"):
            yield name, prompts.pixel_values
        yield from self._vision(prompts)
        inputs = self._model.encode(prompts)
        yield "prompt_inputs_embeds_tail", inputs.embeds[:, -32:]
        yield "inputs_embeds", inputs.embeds
        answer = self._recorded["forced_ids"]
        stream = TextStream(self._model.mllm)
        stream.start(inputs)
        states = stream.append(self._model.mllm.embed_tokens(answer[None]))[0]  # (L, D)
        seg_states = states[answer == self._processor.seg_id]
        yield "sequences", torch.cat([prompts.input_ids[0], answer])
        yield "seg_hidden", seg_states
        prompt_embeds = self._model.projector(seg_states)
        yield "seg_embed", prompt_embeds
        if "seg_embed" in self._recorded:
            yield from self._masks(prompt_embeds)

    def _vision(self, prompts: Prompts) -> Iterator[tuple[str, Tensor]]:
        native, pixels = self._model.mllm.native, prompts.pixel_values.to(self._predictor.dtype)
        if "vit_last_hidden" in self._recorded:
            recorded = self._recorded["vit_last_hidden"]
            yield "vit_last_hidden", native.model.vision_tower(pixels[: len(recorded)]).last_hidden_state
        visual = self._family.encode_images(native, pixels, prompts.grids)
        for name in ("projected_vit", "visual"):
            if name in self._recorded:
                yield name, visual.tokens.reshape(self._recorded[name].shape)
        for level, tokens in enumerate(visual.deepstack):
            yield f"deepstack{level}", tokens

    # ---- SAM 2

    def _masks(self, prompt_embeds: Tensor) -> Iterator[tuple[str, Tensor]]:
        pixels = self._processor.sam_pixel_values(self._frames)
        yield "sam_frames_uint8", pixels
        features = self._model.sam2.encode_frames(pixels.to(self._predictor.dtype))
        for frame in (0, len(self._frames) - 1)[: len(self._frames)]:
            for level, values in enumerate((*features.high_res, features.embeds)):
                yield f"sam_fpn{level}_frame{frame}", values[frame : frame + 1]
        recorded = self._recorded["seg_embed"].to(prompt_embeds)
        for origin, embeds in (("recorded embedding", recorded), ("end to end", prompt_embeds)):
            for row in range(len(embeds)):  # one by one, as the reference runs: a batch rounds otherwise
                track = _track_object(self._predictor, features, embeds[row : row + 1], self._num_prompted)
                yield from self._object(row, track, origin)
        request = Request(self._frames[0] if len(self._frames) == 1 else self._frames, self._turn.question)
        prediction = self._predictor.predict_forced([request], self._recorded["forced_ids"].tolist())[0]
        for row, found in enumerate(prediction.objects):
            yield f"seg{row}_final_mask", torch.from_numpy(np.ascontiguousarray(found.masks))

    def _object(self, row: int, track: "_Track", origin: str) -> Iterator[tuple[str, Tensor]]:
        values = {
            "low": [o.mask_logits[:, None] for o in track.outputs],
            "low3": [o.candidates for o in track.outputs],
            "iou": [o.candidate_scores for o in track.outputs],
            "ptr": [o.pointers for o in track.outputs],
            "score": [o.presence_logits[:, None] for o in track.outputs],
            "mem_feat_f32": [features for features, _ in track.memories],
            "pix_with_mem": track.conditioned,
        }
        for name, frames in values.items():
            key = f"seg{row}_{name}"
            if key not in self._recorded:
                continue
            chosen = self._frames_of(key)
            for phase, prompted in (("prompted", True), ("tracked", False)):
                part = [frames[f] for f in chosen if (f < self._num_prompted) is prompted]
                if part:
                    yield f"{key} {phase}, {origin}", torch.cat(part)
        if row == 0 and origin == "recorded embedding":
            yield "mem_pos", track.memories[0][1]


def _normalize(levels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalize uint8 images (N, 3, ...), or patches (N, 3 * values) stored plane by plane, to float32."""
    planes = levels.reshape(len(levels), 3, -1).float() / 255
    return ((planes - mean[:, None].float()) / std[:, None].float()).reshape(levels.shape)


@dataclass(frozen=True)
class _Track:
    """Outputs of one tracked object, per frame."""

    outputs: list[MaskOutput]
    memories: list[tuple[Tensor, Tensor]]  # features and positions (1, 64, g, g), before they are stored in bfloat16
    conditioned: list[Tensor]  # (1, C, g, g), features after memory attention


def _track_object(predictor: Predictor, features: FrameFeatures, prompt_embeds: Tensor, num_prompted: int) -> _Track:
    """Prompt the first frames with an embedding (1, C) and track the object through the rest."""
    model, tracker = predictor.model, Tracker(predictor.model.sam2)
    track = _Track([], [], [])
    encoder = model.sam2.native.memory_encoder
    hook = encoder.register_forward_hook(lambda module, inputs, output: track.memories.append(output))
    for frame in range(len(features.embeds)):
        one = features.select(slice(frame, frame + 1))
        if frame < num_prompted:
            output = model.decode_prompts(prompt_embeds, one, torch.zeros(1, 3, dtype=torch.long))
            track.conditioned.append(model.sam2.without_memory(one.embeds))
            tracker.prompt(frame, one, output)
        else:
            track.conditioned.append(tracker.condition(frame, one, [0]))
            output = tracker.step(frame, one)
        track.outputs.append(output)
    hook.remove()
    return track


def as_dict(row: Comparison) -> dict[str, Any]:
    """Return a row as a JSON object."""
    return {
        "case": row.case,
        "name": row.name,
        "difference": row.difference,
        "limit": row.limit,
        "rounding": row.rounding,
        "ok": row.ok,
    }
