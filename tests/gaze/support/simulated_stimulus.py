"""Build small things to look at: boxes on a picture of 320 x 320 px, words with a clock."""

from collections.abc import Sequence

import numpy as np

from sa2va.gaze.simulator.viewing import Stimulus
from sa2va.gaze.timing import SpeechTiming

BOUNDS = (96.0, 0.0, 416.0, 320.0)
BOXES = ((110.0, 20.0, 190.0, 100.0), (320.0, 200.0, 400.0, 300.0), (300.0, 20.0, 380.0, 90.0))


def make_stimulus(possible: Sequence[Sequence[int]], onsets: Sequence[float], duration: float) -> Stimulus:
    """Three objects; `possible` tells which are left after 0..N words, each spoken until the next begins."""
    timing = SpeechTiming(onsets=tuple(onsets), ends=(*onsets[1:], duration), duration=duration)
    flags = np.array([[index in row for index in range(len(BOXES))] for row in possible])
    saliency = np.full(len(BOXES), 1 / len(BOXES))
    return Stimulus(boxes=BOXES, bounds=BOUNDS, saliency=saliency, possible=flags, timing=timing)
