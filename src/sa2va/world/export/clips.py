"""Write drawn clips as folders of frames with mask tracks, which the video layouts share.

Flow: sample of video_refseg -> ClipFiles -> mevis.py, revos.py, refytvos.py, refsav.py.
Shapes: N objects, T frames, S side of the image in px.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2va.masks import RLE
from sa2va.types import Sample
from sa2va.world.export.files import encode_track, write_frames
from sa2va.world.export.layout import Part
from sa2va.world.tasks.items import SIDE

NUM_EXPRESSIONS = 8  # of a clip; fewer if the scene allows fewer
_STRIDE = 100  # annotation ids of a clip


@dataclass(frozen=True)
class Said:
    """An expression of a clip: its text, kind and objects, none for an absent one."""

    text: str
    kind: str
    objects: tuple[int, ...]


@dataclass(frozen=True)
class WrittenClip:
    """A clip whose frames were written.

    Attributes:
        number: number in the layout.
        name: folder of its frames.
        frames: T names without suffix.
        sample: what was drawn.
    """

    number: int
    name: str
    frames: Sequence[str]
    sample: Sample

    @property
    def expressions(self) -> list[Said]:
        meta = self.sample.meta
        written = zip(meta["expressions"], meta["kinds"], meta["targets"], strict=True)
        return [Said(text, kind, tuple(targets)) for text, kind, targets in written]

    @property
    def size(self) -> dict[str, int]:
        """Height and width as the layouts name them, px."""
        return {"height": SIDE, "width": SIDE}

    def annotation(self, place: int) -> int:
        """Return the annotation id of an object, unique over parts."""
        return _STRIDE * self.number + place

    def annotate(self, said: Said) -> dict[str, Any]:
        """List the objects of an expression and their annotations as the layouts name them."""
        objects = list(said.objects)
        return {"obj_id": objects, "anno_id": [self.annotation(index) for index in objects]}

    def tracks(self) -> dict[str, list[RLE | None]]:
        """Encode the masks of all objects by annotation id: one per frame, None where the object is not seen."""
        return {str(self.annotation(place)): encode_track(masks) for place, masks in enumerate(self.sample.masks)}


def names_one(sample: Sample) -> bool:
    """Return whether any expression names exactly one object."""
    return any(len(targets) == 1 for targets in sample.meta["targets"])


def names_one_and_none(sample: Sample) -> bool:
    """Return whether expressions name exactly one object and an absent one."""
    return names_one(sample) and not all(sample.meta["targets"])


def draw_samples(part: Part, block: int, keep: Callable[[Sample], bool] = names_one) -> Iterator[tuple[int, Sample]]:
    """Draw the samples of a part's clips, each with its number; see `Part.draw`."""
    return part.draw("video_refseg", block=block, keep=keep, num_turns=NUM_EXPRESSIONS, empty_share=0.0)


def write_clips(drawn: Iterable[tuple[int, Sample]], folder: Path, form: str = "{:08d}") -> Iterator[WrittenClip]:
    """Write the frames of clips.

    Args:
        drawn: samples with their numbers.
        folder: the frames of a clip go to a folder of its name in here.
        form: format of a clip's name.
    """
    for number, sample in drawn:
        name = form.format(number)
        yield WrittenClip(number, name, write_frames(folder / name, list(sample.frames)), sample)
