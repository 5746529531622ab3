"""Build a very small model of gaze with random weights, and pictures for it."""

from collections.abc import Sequence

import numpy as np
import torch
from support.small_model import build_model

from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.scanpath_model import ScanpathModel
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.types import Frames


def build_decoder(seed: int = 0, **sizes: int) -> EventDecoder:
    """Build an event decoder in which all parts matter."""
    torch.manual_seed(seed)
    decoder = EventDecoder(DecoderConfig(**({"width": 32, "place_width": 16, "cell": 32, "num_observers": 2} | sizes)))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        last = decoder.outlook[-1]
        assert isinstance(last, torch.nn.Linear)
        last.bias[3] = -4.0  # few stop early, so that there is something to compare
    return decoder.eval()


def build_gaze(seed: int = 0, parts: tuple[Sa2VA, Processor] | None = None) -> ScanpathModel:
    """Build the whole model on the small Sa2VA."""
    sa2va, processor = parts or build_model(seed)
    sizes = {"state_width": sa2va.mllm.width, "image_channels": sa2va.sam2.width}
    return ScanpathModel(sa2va, processor, build_decoder(seed, **sizes)).eval()


def draw_picture(seed: int, size: int = 64) -> Frames:
    """(1, H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 255, (1, size, size, 3), dtype=np.uint8)


def clock(durations: Sequence[float]) -> SpeechTiming:
    """Words that follow each other without a pause from 50 ms on."""
    moments = (50.0 + np.concatenate([[0.0], np.cumsum(durations)])).tolist()
    return SpeechTiming(onsets=tuple(moments[:-1]), ends=tuple(moments[1:]), duration=moments[-1])


def draw_path(words: Sequence[str], timing: SpeechTiming, seed: int = 0, until: float = 400.0) -> Scanpath:
    """A random walk on the canvas that ends some time after the speech."""
    rng = np.random.default_rng(seed)
    fixations, start, point = [], -160.0, np.array([256.0, 160.0])
    while start < timing.duration + until:
        length = float(rng.uniform(90, 350))
        fixations.append(Fixation(*point.tolist(), start, length))
        start += length + float(rng.uniform(20, 80))
        point = np.clip(point + rng.normal(0, 50, 2), 1, (511, 319))
    return Scanpath.from_timing(fixations, words, timing, width=512, height=320)
