"""List the recipes, functions that return the configuration of a run; these are the paper's.

Flow: `sa2va train NAME start=FOLDER data=ROOT` -> find_recipe -> RunConfig -> run.py. Extensions add theirs with
    RECIPES in extension.py.
Source: the released configurations of Sa2VA, arXiv:2501.04001; where we differ, see docs/training_traps.md. There is
    none for the 26B model, which takes the settings of the 8B one.
"""

from collections.abc import Callable, Mapping

from sa2va.data.stored import DrawConfig
from sa2va.extensions import find_part
from sa2va.training.config import RunConfig
from sa2va.training.mixture import DatasetShare
from sa2va.training.reinforce import ReinforceConfig
from sa2va.training.supervised import SupervisedConfig, SupervisedRun

# Draws of each record in one epoch. A repeated record gets other sentences and templates each time.
IMAGES_2_5 = {"refcoco": 4, "refcoco+": 4, "refcocog": 4, "llava": 1}
IMAGES_3 = {"refcoco": 5, "refcoco+": 5, "refcocog": 4, "llava": 1}
VIDEOS = {"revos": 10, "mevis": 4, "refytvos": 4, "refsav": 4, "videochat": 1}
REGIONS = {"osprey": 1, "osprey_description": 1}
MORE_REGIONS = {"osprey_part": 1, "osprey_short": 1, "osprey_lvis": 1}


def sa2va_1b() -> SupervisedRun:
    """Train Sa2VA-1B on 8 GPUs."""
    return _internvl2_5("sa2va_1b", "InternVL2.5-1B", "qwen_chat", save_every=1000)


def sa2va_4b() -> SupervisedRun:
    """Train Sa2VA-4B on 8 GPUs; its template is Phi-3's, whose marks are plain text to its Qwen tokenizer."""
    return _internvl2_5("sa2va_4b", "InternVL2.5-4B", "phi3_chat", save_every=1000)


def sa2va_8b() -> SupervisedRun:
    """Train Sa2VA-8B on 8 GPUs."""
    return _internvl2_5("sa2va_8b", "InternVL2.5-8B", "internlm2_chat", save_every=2000)


def sa2va_26b() -> SupervisedRun:
    """Train Sa2VA-26B with the settings of Sa2VA-8B."""
    return _internvl2_5("sa2va_26b", "InternVL2.5-26B", "internlm2_chat", save_every=2000)


def sa2va_internvl3_2b() -> SupervisedRun:
    """Train Sa2VA-InternVL3-2B on 16 GPUs."""
    return _internvl3("sa2va_internvl3_2b", "InternVL3-2B", gcg=5, accumulate=8, lora_rank=128)


def sa2va_internvl3_8b() -> SupervisedRun:
    """Train Sa2VA-InternVL3-8B on 32 GPUs."""
    return _internvl3("sa2va_internvl3_8b", "InternVL3-8B", gcg=5, accumulate=4, lora_rank=256)


def sa2va_internvl3_14b() -> SupervisedRun:
    """Train Sa2VA-InternVL3-14B on 32 GPUs."""
    return _internvl3("sa2va_internvl3_14b", "InternVL3-14B", gcg=10, accumulate=8, lora_rank=256)


def sa2va_qwen2_5_vl_3b() -> SupervisedRun:
    """Train Sa2VA-Qwen2.5-VL-3B on 16 GPUs."""
    return _qwen("sa2va_qwen2_5_vl_3b", "qwen2_5_vl", "Qwen2.5-VL-3B-Instruct", batch_size=256)


def sa2va_qwen2_5_vl_7b() -> SupervisedRun:
    """Train Sa2VA-Qwen2.5-VL-7B on 32 GPUs."""
    return _qwen("sa2va_qwen2_5_vl_7b", "qwen2_5_vl", "Qwen2.5-VL-7B-Instruct", batch_size=256)


def sa2va_qwen3_vl_4b() -> SupervisedRun:
    """Train Sa2VA-Qwen3-VL-4B on 16 GPUs."""
    return _qwen("sa2va_qwen3_vl_4b", "qwen3_vl", "Qwen3-VL-4B-Instruct", batch_size=128)


def rewards() -> SupervisedRun:
    """Train a model with rewards on referring expressions, absent objects among them, or on own data."""
    datasets = (DatasetShare(name="grefcoco", repeats=1), DatasetShare(name="refcocog", repeats=1))
    stage = ReinforceConfig(name="rewards", datasets=datasets, steps=500, save_every_s=1800)
    return SupervisedRun(name="rewards", output="runs/rewards", unties=False, stages=(stage,))


RECIPES: dict[str, Callable[[], RunConfig]] = {  # recipes of the core
    "sa2va_1b": sa2va_1b,
    "sa2va_4b": sa2va_4b,
    "sa2va_8b": sa2va_8b,
    "sa2va_26b": sa2va_26b,
    "sa2va_internvl3_2b": sa2va_internvl3_2b,
    "sa2va_internvl3_8b": sa2va_internvl3_8b,
    "sa2va_internvl3_14b": sa2va_internvl3_14b,
    "sa2va_qwen2_5_vl_3b": sa2va_qwen2_5_vl_3b,
    "sa2va_qwen2_5_vl_7b": sa2va_qwen2_5_vl_7b,
    "sa2va_qwen3_vl_4b": sa2va_qwen3_vl_4b,
    "rewards": rewards,
}


def find_recipe(name: str) -> Callable[[], RunConfig]:
    """Return the recipe of a name, from the core or an extension.

    Raises:
        ValueError: unknown name, or its extension cannot be imported.
    """
    return find_part("recipe", name, RECIPES)


def grounded_captions(repeats: float) -> dict[str, float]:
    """Return the repeats of the GCG datasets; those of GranD-f, which has few records, are ten times the others'."""
    return {"gcg_refcocog": repeats, "gcg_grandf": 10 * repeats, "gcg_flickr30k": repeats, "gcg_openpsg": repeats}


def _internvl2_5(name: str, base: str, template: str, *, save_every: int) -> SupervisedRun:
    mixture = IMAGES_2_5 | VIDEOS | grounded_captions(1) | REGIONS | MORE_REGIONS
    return _run(name, "internvl", base, template, mixture, accumulate=4, num_workers=4, save_every=save_every)


def _internvl3(name: str, base: str, *, gcg: float, accumulate: int, lora_rank: int) -> SupervisedRun:
    mixture = IMAGES_3 | VIDEOS | grounded_captions(gcg) | REGIONS
    return _run(
        name, "internvl", base, "qwen_chat", mixture, batch_size=256, accumulate=accumulate, lora_rank=lora_rank
    )


def _qwen(name: str, family: str, base: str, *, batch_size: int) -> SupervisedRun:
    """Describe a run of a family that takes no marked regions, so that Osprey is left out; its merger stays frozen.

    Records without a picture stay in the mixture; the released training replaces each by a random other one.
    """
    mixture = IMAGES_3 | VIDEOS | grounded_captions(10)
    return _run(
        name, family, base, "qwen_chat", mixture, batch_size=batch_size, accumulate=8, trains_vision_projector=False
    )


def _run(
    name: str,
    family: str,
    base: str,
    template: str,
    mixture: Mapping[str, float],
    *,
    batch_size: int = 64,
    accumulate: int,
    lora_rank: int = 128,
    num_workers: int = 16,
    save_every: int = 2000,
    trains_vision_projector: bool = True,
) -> SupervisedRun:
    stage = SupervisedConfig(
        name="supervised",
        datasets=tuple(DatasetShare(name=dataset, repeats=repeats) for dataset, repeats in mixture.items()),
        draw=DrawConfig(groups="union", absent="mask"),
        batch_size=batch_size,
        accumulate=accumulate,
        lora_rank=lora_rank,
        trains_vision_projector=trains_vision_projector,
        gradient_checkpointing=True,
        halves_frozen=True,  # the released training keeps all weights in bfloat16
        num_workers=num_workers,
        save_every=save_every,
        save_every_s=1800,  # a killed run loses at most half an hour
    )
    return SupervisedRun(name=name, output=f"runs/{name}", family=family, base=base, template=template, stages=(stage,))
