"""Compare what tracking sessions give, and draw what they start from."""

from dataclasses import replace

import numpy as np
from support.small_model import build_model, draw_sample
from support.stock_sam2 import build_sam2

from sa2va.inference.results import FrameResult
from sa2va.inference.tracking.session import TrackSession
from sa2va.model.processor import Processor
from sa2va.model.projector import SegProjector, SegProjectorConfig
from sa2va.model.sa2va import Sa2VA

NUM_FRAMES = 10
BOX = (8, 12, 40, 44)


def draw_frames() -> np.ndarray:
    """Return a clip in which every frame is another."""
    return np.concatenate([draw_sample(seed).frames for seed in range(NUM_FRAMES)])


def build_lively() -> tuple[Sa2VA, Processor]:
    """Build a model whose masks depend on what is remembered, as those of the usual small model hardly do."""
    model, processor = build_model()
    model.config = replace(model.config, gate_absent=False)
    model.sam2 = build_sam2()
    model.projector = SegProjector(SegProjectorConfig(in_dim=model.mllm.width, out_dim=model.sam2.width))
    return model.eval(), processor


def square() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


def assert_same(one: FrameResult, other: FrameResult, tolerance: float = 1e-4) -> None:
    assert (one.index, one.time) == (other.index, other.time)
    assert [o.id for o in one.objects] == [o.id for o in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert np.mean(a.mask != b.mask) <= 5e-4
        assert abs(a.presence - b.presence) <= tolerance and abs(a.score - b.score) <= tolerance


def run_to(session: TrackSession, index: int) -> FrameResult:
    return next(result for result in session if result.index == index)
