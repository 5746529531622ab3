"""Track objects through a clip or an endless stream, frame by frame, and let a user step in between frames.

Flow: predictor.py (what an answer is about) -> TrackSession -> FrameResult, one per frame, in constant memory;
    add, correct and remove between two frames.
Source: SAM 2, arXiv:2408.00714, for prompts that come while tracking; the prompter says whose SAM 2 follows.
Shapes: N objects, K key frames, D MLLM width, H W picture, S SAM 2 input side, h w logit grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sa2va.inference.results import FrameObject, FrameResult, StaysInProcess, check_count
from sa2va.inference.tracking.frames import FrameStream, SeenFrame, read_backwards
from sa2va.inference.tracking.prompting import Answer, Ask, Prompter
from sa2va.media.source import Media
from sa2va.model.processor import Processor
from sa2va.model.sam.clicks import Clicks, decode_clicks, follow_clicks, read_mask
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.sam.tracker import Tracker
from sa2va.model.torch_defaults import plain_inference
from sa2va.tokens import check_text
from sa2va.types import Frames

DEFAULT_CONDITIONING = 16  # prompted frames that an object may read at once, unless more key frames are asked for


class TrackSession(StaysInProcess):
    """The frames of a source with the masks of any number of objects, computed as they are asked for.

    Iterate once; leaving a loop and entering another goes on where the first one stopped. Between two frames objects
    can be added, corrected and removed. Use it as a context manager, or close() it, to stop before the end.

    Attributes:
        media: the source.
        text: what the language model answered last.
    """

    instead = "begin another with track(source), in a process of its own after sa2va.load(...)"

    def __init__(
        self,
        prompter: Prompter,
        processor: Processor,
        media: Media,
        *,
        ask: Ask | None = None,
        max_conditioning: int = DEFAULT_CONDITIONING,
        chunk: int = 1,
        prefetch: bool = True,
    ) -> None:
        """Start without objects.

        Args:
            prompter: draws what the language model means; its SAM 2 tracks.
            processor: of the model.
            media: gives every frame, once.
            ask: asks the language model about some frames, for add(expression=...).
            max_conditioning: prompted frames that an object may read at once; the nearest in time are kept.
            chunk: frames that are encoded at once.
            prefetch: whether a file is decoded ahead of time.
        """
        self.media, self.text = media, ""
        self._prompter, self._processor, self._ask = prompter, processor, ask
        max_conditioning = check_count("max_conditioning", max_conditioning)
        policy = replace(prompter.policy, max_conditioning=max_conditioning)
        self._tracker = Tracker(prompter.sam2, policy, num_frames=media.num_frames)
        self._stream = FrameStream(media, processor, prompter.encode, chunk=chunk, prefetch=prefetch)
        self._phrases: dict[int, str | None] = {}  # of each object, in the order in which they came
        self._presence: dict[int, float] = {}  # of each object, 0..1, the most of its prompted frames
        self._next_id = 1
        self._ahead: dict[int, dict[int, MaskOutput]] = {}  # frame -> object -> its mask, prompted before its time
        self._here: SeenFrame | None = None
        self._shown = True  # whether the present frame has been given out
        self._found: dict[int, MaskOutput] = {}  # on the present frame
        self._clicks: dict[int, Clicks] = {}  # on the present frame

    # ---- frames

    def __iter__(self) -> Iterator[FrameResult]:
        return self

    def __next__(self) -> FrameResult:
        if self._shown:
            self._advance()
        self._shown = True
        return self.current

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop: there is no next frame. Files, connections and threads are handed back."""
        self._stream.close()

    @property
    def frame(self) -> NDArray[np.uint8]:
        """The present frame, (H, W, 3): the one given out last, or the first one."""
        return self._present().image

    @property
    def current(self) -> FrameResult:
        """The present frame's result, with all that was added and corrected since it was given out."""
        here = self._present()
        return self._describe(here.index, here.time, here.image, self._found)

    @property
    def ids(self) -> list[int]:
        """Of all objects, in the order in which they came."""
        return list(self._phrases)

    @property
    def presence(self) -> dict[int, float]:
        """By id, the most of an object's prompted frames, 0..1."""
        return dict(self._presence)

    def _present(self) -> SeenFrame:
        if self._here is None:
            try:
                self._advance()
            except StopIteration:
                raise ValueError(f"{self.media.name}: no frame; the source is empty or the session is closed") from None
            self._shown = False
        assert self._here is not None
        return self._here

    @plain_inference()
    def _advance(self) -> None:
        try:
            here = next(self._stream)
        except Exception:
            self.close()
            raise
        found = self._ahead.pop(here.index, {})
        rest = [key for key in self._phrases if key not in found]
        if rest:
            output = self._tracker.step(here.index, here.features, rest).settled()
            found |= {key: output.select(slice(row, row + 1)) for row, key in enumerate(rest)}
        self._here, self._found, self._clicks = here, found, {}

    # ---- objects

    @plain_inference()
    def prompt(self, answer: Answer, indices: Sequence[int], frames: Frames) -> list[int]:
        """Prompt key frames with what the language model said of them, before the first frame is given out.

        Args:
            answer: N objects.
            indices: of the K key frames.
            frames: (K, H, W, 3).

        Returns:
            Their ids.
        """
        self.text = answer.text
        keys = [self._new_object(phrase) for phrase in answer.phrases]
        if keys:
            pixels = self._processor.sam_pixel_values(frames)
            self._draw(keys, answer.seg_states, indices, self._prompter.encode(pixels), pixels, frames)
        return keys

    def add(
        self,
        *,
        expression: str | None = None,
        point: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> int | None:
        """Start to follow an object that is on the present frame; give one of the four.

        Args:
            expression: asks the language model, which sees this frame alone.
            point: (x, y) px on it, or a scribble (K, 2) px.
            box: (x0, y0, x1, y1) px around it.
            mask: bool (H, W).

        Returns:
            Its id. Where an expression means several objects each is added, and the first one's id returned; None
            where it means none.

        Raises:
            ValueError: not exactly one is given, or it lies outside the picture.
        """
        _check_one(expression=expression, point=point, box=box, mask=mask)
        if expression is None:
            return self._point_at(None, point, box, mask, inside=True)
        answer = self._ask_here(expression)
        keys = [self._new_object(phrase or expression) for phrase in answer.phrases]
        if keys:
            self._draw_here(keys, answer.seg_states)
        return keys[0] if keys else None

    def add_region(self, region: ArrayLike) -> int:
        """Start to follow what a region marks: a mask, a box, a point or a scribble, told apart by their shape."""
        array = np.asarray(region)
        if array.dtype == bool or (array.dtype == np.uint8 and array.ndim == 2):
            return self._point_at(None, None, None, region, inside=True)
        if array.shape == (4,):
            return self._point_at(None, None, region, None, inside=True)
        return self._point_at(None, region, None, None, inside=True)

    def correct(
        self,
        key: int,
        *,
        point: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        expression: str | None = None,
        inside: bool = True,
    ) -> FrameObject:
        """Repair an object's mask on the present frame; what follows starts from there.

        Clicks refine the mask, one after the other. A box, a mask or an expression says anew what the object is:
        all that was remembered of it is forgotten, as it is where it keeps the mask from heeding a click.

        Args:
            key: id of the object.
            point: (x, y) px or a scribble (K, 2) px.
            box: (x0, y0, x1, y1) px around it.
            mask: bool (H, W).
            expression: asks the language model, which sees this frame alone; its first mask counts.
            inside: whether the point is on the object or beside it.

        Returns:
            The object as it is now.

        Raises:
            ValueError: there is no such object, not exactly one repair is given, it lies outside the picture, or the
                model finds nothing.
        """
        self._check_known(key)
        _check_one(point=point, box=box, mask=mask, expression=expression)
        if expression is None:
            self._point_at(key, point, box, mask, inside=inside)
        else:
            answer = self._ask_here(expression)
            if not len(answer.seg_states):
                raise ValueError(f"expression {expression!r}: the model finds nothing on frame {self._present().index}")
            self._forget(key)
            self._phrases[key] = answer.phrases[0] or expression
            self._draw_here([key], answer.seg_states[:1])
        return next(found for found in self.current.objects if found.id == key)

    def remove(self, key: int) -> None:
        """Stop following an object; its id is not given again.

        Raises:
            ValueError: there is no such object.
        """
        self._check_known(key)
        self._forget(key)
        del self._phrases[key], self._presence[key]

    def rewind(self, key: int) -> Iterator[FrameResult]:
        """Follow an object that was found late back to the first frame.

        Args:
            key: its id.

        Returns:
            One result per frame with this object alone, from the frame before its first prompt down to 0.

        Raises:
            ValueError: there is no such object, or the source cannot be rewound.
        """
        self._check_known(key)
        if not self.media.seekable:
            raise ValueError(f"{self.media.name}: it cannot be rewound; pass a file")
        return self._go_back(key, self._tracker.reversed(key))

    def _go_back(self, key: int, tracker: Tracker) -> Iterator[FrameResult]:
        first = -max(tracker.objects[key].prompted)
        for index, image in read_backwards(self.media, first):
            with plain_inference():
                features = self._prompter.encode(self._processor.sam_pixel_values(image[None]))
                output = tracker.step(-index, features)
            times = self.media.times
            time = index / self.media.fps if times is None else float(times[index])
            yield self._describe(index, time, image, {key: output})

    # ---- the way there

    def _new_object(self, phrase: str | None) -> int:
        key, self._next_id = self._next_id, self._next_id + 1
        self._phrases[key], self._presence[key] = phrase, 0.0
        return key

    def _check_known(self, key: int) -> None:
        if key not in self._phrases:
            raise ValueError(f"there is no object {key}; the session follows {self.ids or 'none'}")

    def _forget(self, key: int) -> None:
        self._tracker.remove(key)
        for found in (self._found, self._clicks, *self._ahead.values()):
            found.pop(key, None)

    def _ask_here(self, expression: str) -> Answer:
        if self._ask is None:
            raise ValueError("expression: this session has no language model; give a point, a box or a mask")
        answer = self._ask(self._present().image[None], check_text(expression, "expression"))
        self.text = answer.text
        return answer

    def _draw_here(self, keys: Sequence[int], seg_states: Tensor) -> None:
        here = self._present()
        self._draw(keys, seg_states, [here.index], here.features, here.pixels, here.image[None])
        self._found |= self._ahead.pop(here.index)

    @plain_inference()
    def _draw(
        self,
        keys: Sequence[int],
        seg_states: Tensor,
        indices: Sequence[int],
        features: FrameFeatures,
        pixels: Tensor,
        frames: Frames,
    ) -> None:
        """Draw objects on K frames and remember them there."""
        output, given = self._prompter.draw(seg_states, features, pixels, frames)
        number = len(indices)
        for k, rows in enumerate(self._prompter.model.choose_prompts(output, number)):
            if len(rows):
                self._remember(
                    indices[k],
                    [keys[row // number] for row in rows.tolist()],
                    features.select(slice(k, k + 1)),
                    output.select(rows),
                    None if given is None else given[rows],
                )

    def _remember(
        self, index: int, keys: Sequence[int], features: FrameFeatures, output: MaskOutput, given: Tensor | None
    ) -> None:
        """Prompt N objects on one frame with the masks found there."""
        self._tracker.prompt(index, features, output, ids=keys, given=given)
        presence = output.presence_logits.sigmoid().tolist()
        output = output.settled()
        for row, key in enumerate(keys):
            self._ahead.setdefault(index, {})[key] = output.select(slice(row, row + 1))
            self._presence[key] = max(self._presence[key], presence[row])

    @plain_inference()
    def _point_at(
        self, key: int | None, point: ArrayLike | None, box: ArrayLike | None, mask: ArrayLike | None, inside: bool
    ) -> int:
        """Prompt an object, or a new one, on the present frame by hand; return its id."""
        here, sam2, policy = self._present(), self._prompter.sam2, self._tracker.policy
        features, size, clicks, given = here.features, here.image.shape[:2], Clicks(), None
        anew = point is None  # nothing that was remembered counts
        if mask is not None:
            given = sam2.squeeze_masks(read_mask(mask, *size)[None].to(features.embeds.device))
            output = sam2.take_masks(features, given)
        elif box is not None:
            output = decode_clicks(sam2, policy, Clicks.around(box, *size), size, features, present=True)
        else:
            assert point is not None
            clicks = (clicks if key is None else self._clicks.get(key, clicks)).at(point, *size, inside=inside)
            if key is None:
                output = decode_clicks(sam2, policy, clicks, size, features, present=True)
            else:  # start from its mask here, and from what is remembered of it
                embeds, found = self._tracker.condition(here.index, features, [key]), self._found[key]
                output, anew = follow_clicks(sam2, policy, clicks, size, features, embeds=embeds, found=found)
        if key is None:
            key = self._new_object(None)
        elif anew:
            self._forget(key)
        self._remember(here.index, [key], features, output, given)
        self._found |= self._ahead.pop(here.index)
        self._clicks[key] = clicks
        return key

    def _describe(
        self, index: int, time: float, image: NDArray[np.uint8], found: Mapping[int, MaskOutput]
    ) -> FrameResult:
        ordered = {key: found[key] for key in self._phrases if key in found}
        objects = self._prompter.describe(ordered, self._phrases, *image.shape[:2])
        return FrameResult(index=index, time=time, objects=objects)


def _check_one(**given: object) -> None:
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(chosen) or "none"
        raise ValueError(f"expected exactly one of {', '.join(given)}, got {got}")
