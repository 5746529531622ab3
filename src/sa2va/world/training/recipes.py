"""Define the recipes of the embedded model, and supervised training of any model on synthetic scenes.

Flow: `sa2va train tiny` -> RunConfig -> training/run.py, which builds the model, trains the stages and calibrates.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sa2va.training.config import RunConfig
from sa2va.training.mixture import DatasetShare
from sa2va.training.new_tokens import change_seg_design
from sa2va.training.recipes import sa2va_internvl3_2b
from sa2va.training.reinforce import ReinforceConfig
from sa2va.training.stage import StageConfig
from sa2va.training.supervised import SupervisedConfig, SupervisedRun
from sa2va.world.training.auxiliary_heads import AuxiliaryConfig
from sa2va.world.training.clip_motion import MotionConfig
from sa2va.world.training.cotrain import CotrainConfig
from sa2va.world.training.encoders import SamVisionConfig, VisionConfig
from sa2va.world.training.head_calibration import calibrate
from sa2va.world.training.mask_decoder import MaskDecoderConfig
from sa2va.world.training.memory import MemoryConfig
from sa2va.world.training.packed import PackedConfig
from sa2va.world.training.task_mixture import LANGUAGE_SHARES, REHEARSAL_SHARES
from sa2va.world.training.tiny_losses import TINY_LOSSES
from sa2va.world.training.tiny_model import build_tiny_model, load_tokenizer, with_temporal

if TYPE_CHECKING:
    from sa2va.model.processor import Processor
    from sa2va.model.sa2va import Sa2VA

PUBLIC_RECORDS = {  # records of the public datasets, in thousands, as their authors state them (Osprey's are estimates)
    "refcoco": 17.0, "refcoco+": 17.0, "refcocog": 21.9, "llava": 665.0,
    "revos": 0.6, "mevis": 1.7, "refytvos": 3.5, "refsav": 37.3, "videochat": 100.0,
    "gcg_refcocog": 24.7, "gcg_grandf": 1.0, "gcg_flickr30k": 149.0, "gcg_openpsg": 39.0,
    "osprey": 127.0, "osprey_description": 70.0,
}  # fmt: skip
# A state of this width holds one place, and an object that moves has several. Pictures have one token in either design.
TINY_DESIGN = "repeat"
MIN_CALIBRATION = 50  # requests; fewer may contain too few absent objects for a fit


@dataclass(frozen=True, kw_only=True)
class TinyRun(RunConfig):
    """Run of the embedded model; `start=""` begins with random weights."""

    calibration: int = 600  # requests for the final calibration of presence and scores; 0 = no calibration
    seg_design: Literal["", "single", "repeat", "multiple"] = ""  # [SEG] design; "" = that of the start model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration < 0 or 0 < self.calibration < MIN_CALIBRATION:
            raise ValueError(
                f"run {self.name}: calibration on {self.calibration} requests; use 0 or at least {MIN_CALIBRATION}"
            )

    @property
    def origin(self) -> tuple[str, ...]:
        return (*super().origin, f"seg_design={self.seg_design}")

    def build_model(self, folder: Path) -> "tuple[Sa2VA, Processor]":
        if self.start:
            model, processor = with_temporal(*super().build_model(folder))
        else:
            model, processor = build_tiny_model(load_tokenizer(folder / "tokenizer", self.seed))
        return change_seg_design(model, processor, self.seg_design) if self.seg_design else (model, processor)

    def finish(self, model: "Sa2VA", processor: "Processor") -> None:
        if self.calibration:
            calibrate(model, processor, seed=self.seed, num_requests=self.calibration)


def tiny() -> RunConfig:
    """Train the embedded model from nothing: its parts (pretrained in the paper), all tasks jointly, then clips.

    Many exchanges about one picture (`packed`) come after the joint stage, from which the text model knows what words
    mean. Motion comes last: the temporal encoder alone, then with the text model.
    """
    return TinyRun(
        name="tiny",
        output="runs/tiny",
        seg_design=TINY_DESIGN,
        stages=(
            VisionConfig(name="vision", steps=3500, batch_size=16, lr=1.5e-3, warmup_steps=200),
            SamVisionConfig(name="sam_vision", steps=1500, batch_size=16, lr=1.5e-3, warmup_steps=100),
            MaskDecoderConfig(name="masks", steps=1000, batch_size=12, lr=1e-3, warmup_steps=50),
            MemoryConfig(name="tracking", steps=600, batch_size=6, lr=1e-3, warmup_steps=20),
            _language(steps=2500, batch_size=16, lr=1e-3, warmup_steps=100),
            CotrainConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=100, ema=0.998),
            PackedConfig(name="packed", steps=3000, batch_size=4, lr=3e-4, warmup_steps=60, ema=0.998),
            *_motion(),
        ),
    )


def tiny_more() -> RunConfig:
    """Continue training the packaged weights of the embedded model on two CPU cores."""
    return _go_on(
        "tiny_more",
        VisionConfig(name="vision", steps=2500, batch_size=16, lr=1e-3, warmup_steps=50),
        _language(steps=1200, batch_size=16, lr=8e-4, warmup_steps=50),
        CotrainConfig(name="cotrain", steps=3000, batch_size=16, lr=8e-4, warmup_steps=60, ema=0.998),
    )


def tiny_gpu() -> RunConfig:
    """Continue training the packaged weights on one GPU, with 16 CPU cores for rendering, in an hour."""
    return _go_on(
        "tiny_gpu",
        VisionConfig(name="vision", steps=1000, batch_size=128, lr=1e-3, warmup_steps=50, num_workers=15),
        CotrainConfig(name="cotrain", steps=4000, batch_size=128, lr=1.2e-3, ema=0.998, num_workers=15),
        PackedConfig(name="packed", steps=4000, batch_size=64, lr=1e-3, warmup_steps=60, ema=0.998, num_workers=15),
    )


def tiny_tracking() -> RunConfig:
    """Continue training only the memory of the packaged weights, on returns and exits; pictures stay the same."""
    stage = MemoryConfig(
        name="tracking", steps=90, batch_size=3, lr=1e-4, warmup_steps=10, ema=0.97,
        # Two runs with TINY_LOSSES, with and without its IoU term, made memory worse, masks right after the prompt
        # included. This run did not; it also had a lower rate and slower clips, so the cause is not isolated.
        losses=replace(TINY_LOSSES, bce=0.25, dice=2.0, place=0.0, iou=0.0, presence=0.5, candidate="predicted"),
        spans=((16, 1), (16, 1), (8, 2)), candidates=8, mask_share=0.5, later_prompt=0.3, long_share=0.3,
        most_settling=6,
    )  # fmt: skip
    return TinyRun(name="tiny_tracking", output="runs/tiny_tracking", start="tiny", stages=(stage,), calibration=0)


def tiny_motion() -> RunConfig:
    """Teach the packaged weights motion on one CPU core: the temporal encoder, then packed clips and pictures.

    The model gets a [SEG] for each key frame.
    """
    return replace(_go_on("tiny_motion", *_motion()), seg_design=TINY_DESIGN)


def world_supervised() -> RunConfig:
    """Train any model (`start=FOLDER`) on the tasks on synthetic scenes, with the paper's losses and trained parts.

    Marked regions are left out, since only InternVL models take them.
    """
    weights = {
        "refseg": 0.35, "gcg": 0.15, "caption": 0.06, "conversation": 0.14,
        "video_refseg": 0.20, "video_caption": 0.03, "video_conversation": 0.07,
    }  # fmt: skip
    datasets = tuple(DatasetShare(name=f"world/{name}", weight=weight) for name, weight in weights.items())
    stage = SupervisedConfig(name="supervised", steps=2000, batch_size=8, datasets=datasets)
    return SupervisedRun(name="world_supervised", output="runs/world_supervised", start="tiny", stages=(stage,))


def world_layouts() -> RunConfig:
    """Train the embedded model on drawn scenes in the layouts of the paper's mixture, for a test of a whole run.

    The recipe is that of Sa2VA-InternVL3-2B, shortened. The weights are the paper's repeats times the sizes of the
    public datasets, so that each dataset has its share of the paper's mixture whatever the number of exported records.
    Export them with `sa2va world export --as all --items 200 ROOT`, and set data=ROOT.
    """
    paper = sa2va_internvl3_2b()
    (stage,) = paper.stages
    assert isinstance(stage, SupervisedConfig)
    weights = {one.name: (one.repeats or 0) * PUBLIC_RECORDS[one.name] for one in stage.datasets}
    datasets = tuple(DatasetShare(name=name, weight=weight) for name, weight in weights.items())
    stage = replace(stage, datasets=datasets, steps=200, batch_size=8, accumulate=1, lr=5e-4, num_workers=0)
    return replace(
        paper, name="world_layouts", output="runs/world_layouts", start="tiny", base="", template="", stages=(stage,)
    )


def tiny_rl() -> SupervisedRun:
    """Train the text model of the embedded model with rewards for its masks, refusals and short answers.

    Its figures are in docs/training.md.
    """
    datasets = (DatasetShare(name="world/refseg", weight=0.75), DatasetShare(name="world/conversation", weight=0.25))
    stage = ReinforceConfig(
        name="rewards", datasets=datasets, steps=60, prompts_per_sample=2, lr=1e-4, warmup_steps=5,
        group_by_length=False, lora_rank=0, new_tokens="all", trains_vision_projector=False, autocast=False,
        log_every=5,
    )  # fmt: skip
    return SupervisedRun(name="tiny_rl", output="runs/tiny_rl", start="tiny", unties=False, stages=(stage,))


def _language(*, steps: int, batch_size: int, lr: float, warmup_steps: int) -> CotrainConfig:
    """Configure the stage without mask decoding: text, location and object-code losses."""
    return CotrainConfig(
        name="language", steps=steps, batch_size=batch_size, lr=lr, warmup_steps=warmup_steps,
        shares=LANGUAGE_SHARES, decodes_masks=False, alignment_share=0.0,
    )  # fmt: skip


def _motion() -> tuple[StageConfig, ...]:
    """Configure the stages that teach motion: its words on visual tokens, answers of the text model, rehearsal.

    Clips at a high rate cost tasks on pictures a tenth of their figures; a part of the weights before them, and a
    rehearsal, bring those back. SAM 2 rests, since memory got worse with so few masks.
    """
    return (
        MotionConfig(
            name="motion", steps=350, batch_size=16, num_clips=3300, lr=2e-3, warmup_steps=30, num_workers=0,
            autocast=False,
        ),
        PackedConfig(
            name="clips", steps=4000, batch_size=4, lr=6e-4, warmup_steps=20, ema=0.998, hard_from=0.0,
            trains_sam=False, cycle=("video_refseg", "refseg"), first_scene=40_000_000,
            # Short rows: other clips teach more than more questions about the same one.
            branch_tokens=320, least_branches=4, requests_per_branch=0.4, questions_per_branch=1.2,
            shares=REHEARSAL_SHARES, clips_per_picture=0.75, ordinary_every=3,
            # The heads of location start at random weights and would spoil the text model in so few steps.
            auxiliary=AuxiliaryConfig(
                answer_weight=4.0, location_weight=0.0, kept_words_weight=8.0, kept_prompts_weight=30.0
            ),
        ),
    )  # fmt: skip


def _go_on(name: str, *stages: StageConfig) -> TinyRun:
    """Configure a run that starts from the packaged weights and ends with a calibration."""
    return TinyRun(name=name, output=f"runs/{name}", start="tiny", stages=stages)


def rehearsal() -> tuple[DatasetShare, ...]:
    """Return what fine-tuning of the embedded model rehearses: as much as there is of own data."""
    return (
        DatasetShare(name="world/refseg", weight=0.6),
        DatasetShare(name="world/gcg", weight=0.2),
        DatasetShare(name="world/region", weight=0.2),
    )
