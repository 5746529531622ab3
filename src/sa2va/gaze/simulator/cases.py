"""Generate the cases of the gaze simulator: a drawn scene, a spoken expression for one object, and its timing.

Flow: (seed, split, index) -> make_case -> Case -> Stimulus for viewing.py, and the image for a model.
Shapes: M objects, N words, S side of the image in px; boxes are px of the image.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.letterbox import Letterbox
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.simulator.viewing import Stimulus
from sa2va.gaze.speech import sample_timing
from sa2va.gaze.timing import SpeechTiming
from sa2va.masks import bbox
from sa2va.world.language.expressions import Expression, denotes, expressions
from sa2va.world.language.grammar import NOUNS
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene, WorldObject
from sa2va.world.tasks.items import SIDE, is_heldout

# Targets of RefCOCO-Gaze cover about a fifteenth of the canvas, so large objects are preferred.
TARGET_SIZES = {"small": 0.05, "medium": 0.2, "large": 0.75}
MIN_OBJECTS = 6  # enough distractors for a search
COMMON_WORDS, MAX_WORDS = 5, 8  # words of an expression: rarer above the first, none above the second
LETTERBOX = Letterbox(image_size=(SIDE, SIDE))

# Kinds of expressions with their frequencies in human use.
KINDS = {"attribute": 0.24, "place": 0.44, "superlative": 0.06, "relation": 0.06, "ordinal": 0.09, "negation": 0.11}
NO_ARTICLE = 0.8  # share of expressions without a leading "the", as in RefCOCO
_CENTRAL = 0.2  # share of central targets that is kept, since viewing starts at the center
_ATTEMPTS = 256  # scenes tried per item
SALIENCY_SPREAD = 0.36  # SD of ln(saliency) of an object before the first word


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A drawn scene with one spoken expression."""

    name: str
    scene: Scene
    expression: Expression
    timing: SpeechTiming
    masks: NDArray[np.bool_]  # (M, S, S) visible pixels
    frame: NDArray[np.uint8]  # (S, S, 3)
    saliency: NDArray[np.float64]  # (M,)

    @property
    def target(self) -> int:
        """Index of the target in the scene."""
        return self.expression.targets[0]

    @property
    def noun(self) -> tuple[float, float]:
        """Onset and end of the target's noun, ms."""
        place = next(number for number, word in enumerate(self.expression.words) if word in NOUNS)
        return self.timing.onsets[place], self.timing.ends[place]

    @property
    def heldout(self) -> bool:
        """Whether the target's pair of color and shape never occurs in training."""
        return is_heldout(self.scene, self.expression.targets)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """(M,) tight boxes of the visible pixels, px of the image."""
        found = [bbox(mask) for mask in self.masks]
        assert all(found), "a drawn object without a visible pixel"
        return tuple(box for box in found if box is not None)

    @cached_property
    def stimulus(self) -> Stimulus:
        """The case as an observer perceives it, in px of the canvas."""
        words = self.expression.words
        objects = range(len(self.scene.objects))
        possible = [denotes(self.scene, words[:count]) for count in range(len(words) + 1)]
        return Stimulus(
            boxes=tuple(box_to_canvas(box) for box in self.boxes),
            bounds=box_to_canvas((0.0, 0.0, float(SIDE), float(SIDE))),
            saliency=self.saliency,
            possible=np.array([[index in row for index in objects] for row in possible]),
            timing=self.timing,
        )


def box_to_canvas(box: Box) -> Box:
    """Convert a box from px of the image to px of the canvas."""
    (x0, y0), (x1, y1) = LETTERBOX.to_canvas([box[:2], box[2:]]).tolist()
    return x0, y0, x1, y1


@lru_cache(maxsize=64)
def make_case(seed: int, split: str, index: int) -> Case:
    """Generate one case, deterministically.

    Args:
        seed: Random seed of the scenes, >= 0.
        split: "train" never shows a held-out pair of color and shape; any other name is another split.
        index: Item of the split, >= 0.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"make_case: seed {seed} and index {index} must not be negative")
    stream = [seed, crc32(f"gaze/{split}".encode()), index]
    rng = np.random.default_rng(stream)
    size = str(rng.choice(list(TARGET_SIZES), p=list(TARGET_SIZES.values())))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    for attempt in range(_ATTEMPTS):
        scene = make_scene(seed, split, index * _ATTEMPTS + attempt)
        candidates = [number for number, item in enumerate(scene.objects) if item.size == size]
        if not candidates or len(scene.objects) < MIN_OBJECTS:
            continue
        target = int(rng.choice(candidates))
        if _is_central(scene.objects[target]) and rng.random() > _CENTRAL:
            continue
        found = expressions(scene, rng, 1, kinds=(kind,), only=(target,))
        if found and len(found[0].words) <= rng.integers(COMMON_WORDS, MAX_WORDS + 1):
            expression = found[0]
            if rng.random() < NO_ARTICLE:
                expression = replace(expression, text=expression.text.removeprefix("the "))
            picture = scene.render(SIDE)
            saliency = np.exp(rng.normal(0.0, SALIENCY_SPREAD, len(scene.objects)))
            return Case(
                name=f"world/{split}/{seed}/{index}",
                scene=scene,
                expression=expression,
                timing=sample_timing(expression.words, rng),
                masks=picture.masks[:, 0],
                frame=picture.frames[0],
                saliency=saliency / saliency.sum(),
            )
    raise ValueError(
        f"simulated case {index} of split {split!r}, seed {seed}: no target in {_ATTEMPTS} scenes; use another index"
    )


def _is_central(item: WorldObject) -> bool:
    """Tell whether an object covers the center of the image."""
    return max(abs(item.x - 0.5), abs(item.y - 0.5)) < item.radius
