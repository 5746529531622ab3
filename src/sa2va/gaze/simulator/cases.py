"""Make what people look at in the drawn world: a scene, what is said of one object, and when.

Flow: (seed, split, index) -> make_case -> Case -> View for viewing.py, and the picture for a model.
Shapes: M objects, N words, S side of the picture in px; boxes are px of the picture.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.letterbox import Letterbox
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.simulator.viewing import View
from sa2va.gaze.speech import speak
from sa2va.gaze.timing import SpeechTiming
from sa2va.masks import bbox
from sa2va.world.language.expressions import Expression, denotes, expressions
from sa2va.world.language.grammar import NOUNS
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene, WorldObject
from sa2va.world.tasks.items import SIDE, is_heldout

# Photos of RefCOCO-Gaze have targets of about a fifteenth of the canvas: people are asked for what is large.
TARGET_SIZES = {"small": 0.05, "medium": 0.2, "large": 0.75}
MIN_OBJECTS = 6  # among fewer there is nothing to search
FEW_WORDS, MAX_WORDS = 5, 8  # between them, the longer an expression the rarer; beyond there is none
LETTERBOX = Letterbox(image_size=(SIDE, SIDE))  # how the picture is shown

# Ways to refer to one object, in the shares in which people use them.
WAYS = {"attribute": 0.24, "place": 0.44, "superlative": 0.06, "relation": 0.06, "ordinal": 0.09, "negation": 0.11}
TERSE = 0.8  # share of expressions without their first "the"; people leave it out more often than not
_CENTRAL = 0.2  # share that is kept of the targets on which the eye begins
_ATTEMPTS = 256  # scenes of one item
LURE = 0.36  # SD of ln(attraction) before a word is heard


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A scene and one expression about it, with the clock of its words."""

    name: str
    scene: Scene
    expression: Expression
    timing: SpeechTiming
    masks: NDArray[np.bool_]  # (M, S, S) visible pixels
    frame: NDArray[np.uint8]  # (S, S, 3)
    saliency: NDArray[np.float64]  # (M,)

    @property
    def target(self) -> int:
        """Position of the target in the scene."""
        return self.expression.targets[0]

    @property
    def noun(self) -> tuple[float, float]:
        """When the noun of the target begins and ends, ms."""
        place = next(number for number, word in enumerate(self.expression.words) if word in NOUNS)
        return self.timing.onsets[place], self.timing.ends[place]

    @property
    def heldout(self) -> bool:
        """Whether the target has a pair of colour and shape that training never shows."""
        return is_heldout(self.scene, self.expression.targets)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """(M,) tight boxes of what is visible, px of the picture."""
        found = [bbox(mask) for mask in self.masks]
        assert all(found), "an object of the drawn world without a visible pixel"
        return tuple(box for box in found if box is not None)

    @cached_property
    def view(self) -> View:
        """The case as a person has it before the eyes."""
        words = self.expression.words
        everyone = range(len(self.scene.objects))
        left = [denotes(self.scene, words[:count]) for count in range(len(words) + 1)]
        return View(
            boxes=tuple(show(box) for box in self.boxes),
            bounds=show((0.0, 0.0, float(SIDE), float(SIDE))),
            saliency=self.saliency,
            possible=np.array([[index in row for index in everyone] for row in left]),
            timing=self.timing,
        )


def show(box: Box) -> Box:
    """Move a box from the picture to the canvas."""
    (x0, y0), (x1, y1) = LETTERBOX.to_canvas([box[:2], box[2:]]).tolist()
    return x0, y0, x1, y1


@lru_cache(maxsize=64)
def make_case(seed: int, split: str, index: int) -> Case:
    """Return one case, always the same one for the same arguments.

    Args:
        seed: of the drawn world, >= 0.
        split: "train" never shows a held-out pair of colour and shape; any other name is another split.
        index: item of the split, >= 0.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"make_case: seed {seed} and index {index} must not be negative")
    stream = [seed, crc32(f"gaze/{split}".encode()), index]
    rng = np.random.default_rng(stream)
    size = str(rng.choice(list(TARGET_SIZES), p=list(TARGET_SIZES.values())))
    way = str(rng.choice(list(WAYS), p=list(WAYS.values())))
    for attempt in range(_ATTEMPTS):
        scene = make_scene(seed, split, index * _ATTEMPTS + attempt)
        candidates = [number for number, item in enumerate(scene.objects) if item.size == size]
        if not candidates or len(scene.objects) < MIN_OBJECTS:
            continue
        target = int(rng.choice(candidates))
        if _is_central(scene.objects[target]) and rng.random() > _CENTRAL:
            continue
        found = expressions(scene, rng, 1, kinds=(way,), only=(target,))
        if found and len(found[0].words) <= rng.integers(FEW_WORDS, MAX_WORDS + 1):
            said = found[0]
            if rng.random() < TERSE:
                said = replace(said, text=said.text.removeprefix("the "))
            picture = scene.render(SIDE)
            lure = np.exp(rng.normal(0.0, LURE, len(scene.objects)))
            return Case(
                name=f"world/{split}/{seed}/{index}",
                scene=scene,
                expression=said,
                timing=speak(said.words, rng),
                masks=picture.masks[:, 0],
                frame=picture.frames[0],
                saliency=lure / lure.sum(),
            )
    raise ValueError(f"world gaze item {index} of {split!r}, seed {seed}: no scene offers a target; take another item")


def _is_central(item: WorldObject) -> bool:
    """Tell whether an object lies in the middle of the picture."""
    return max(abs(item.x - 0.5), abs(item.y - 0.5)) < item.radius
