"""Track objects through a clip or an endless stream, frame by frame, with prompts between frames.

Flow: engine.py (answer about the key frames) -> TrackSession -> FrameResult, one per frame, in constant memory;
    add, correct and remove between two frames.
Source: SAM 2, arXiv:2408.00714, for prompts during tracking.
Shapes: N objects, K key frames, D MLLM width, H W picture, S SAM 2 input side, h w logit grid.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sa2va.inference.halving import advise_on_memory
from sa2va.inference.requests import Cancelled, StopFlag, check_count, check_one_of, never
from sa2va.inference.results import FrameObject, FrameResult, Prediction
from sa2va.inference.tracking.frames import FrameStream, SeenFrame, read_backwards
from sa2va.inference.tracking.mask_prompting import Ask, GroundedAnswer, KeyFrames, MaskPrompting
from sa2va.inference.unpicklable import Unpicklable
from sa2va.media.source import Media
from sa2va.model.processor import Processor
from sa2va.model.sam.clicks import Clicks, decode_clicks, read_mask, refine_mask
from sa2va.model.sam.sam2 import FrameFeatures, MaskOutput
from sa2va.model.sam.tracker import Tracker
from sa2va.model.torch_defaults import plain_inference
from sa2va.tokens import check_text
from sa2va.types import Frames

DEFAULT_CONDITIONING = 16  # prompted frames that memory attention reads per object; at least K


class TrackSession(Unpicklable):
    """Tracking session: an iterator over frames with the masks of any number of objects.

    Single use: a second loop continues where the first one stopped. Between two frames objects can be added, corrected
    and removed. Use it as a context manager, or close() it, to stop before the end.

    Attributes:
        media: the source.
        text: last answer of the language model.
    """

    instead = "begin another with track(source), in a process of its own after sa2va.load(...)"

    def __init__(
        self,
        prompting: MaskPrompting,
        processor: Processor,
        media: Media,
        *,
        ask: Ask | None = None,
        max_conditioning: int = DEFAULT_CONDITIONING,
        chunk: int = 1,
        prefetch: bool = True,
        stop: StopFlag = never,
    ) -> None:
        """Start without objects.

        Args:
            prompting: decodes [SEG] states to masks; its SAM 2 tracks.
            processor: of the model.
            media: source; each frame is read once.
            ask: runs the language model on frames, for add(expression=...).
            max_conditioning: number of prompted frames that memory attention reads per object (the nearest in time).
            chunk: number of frames encoded at once.
            prefetch: whether a file is decoded ahead of time.
            stop: called before each frame; True closes the session and raises Cancelled.
        """
        self.media, self.text = media, ""
        self._prompting, self._processor, self._ask, self._stop = prompting, processor, ask, stop
        policy = replace(prompting.policy, max_conditioning=check_count("max_conditioning", max_conditioning))
        self._tracker = Tracker(prompting.sam2, policy, num_frames=media.num_frames, follow=prompting.follow)
        self._stream = FrameStream(media, processor, prompting.encode, chunk=chunk, prefetch=prefetch)
        self._phrases: dict[int, str | None] = {}  # by id, in the order of creation
        self._presence: dict[int, float] = {}  # by id, 0..1, maximum over its prompted frames
        self._next_id = 1
        self._ahead: dict[int, dict[int, MaskOutput]] = {}  # frame -> id -> mask, for prompted frames not reached yet
        self._here: SeenFrame | None = None
        self._shown = True  # whether the current frame has been yielded
        self._found: dict[int, MaskOutput] = {}  # by id, on the current frame
        self._clicks: dict[int, Clicks] = {}  # by id, on the current frame

    # ---- frames

    def __iter__(self) -> Iterator[FrameResult]:
        return self

    def __next__(self) -> FrameResult:
        if self._shown:
            self._advance()
        self._shown, here = True, self._present()
        finish = self._begin(here.index, here.time, here.image, self._found)
        if self._found and self._prompting.runs_ahead:
            self._stream.encode_next()
        return finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and release files, connections and threads."""
        self._stream.close()

    def finish(self) -> Prediction:
        """Track to the last frame and return all masks as RLE; without objects no frame is decoded.

        Raises:
            Cancelled: the stop flag was set.
        """
        return Prediction.collect(self if self.ids else (), self.presence, text=self.text, media=self.media)

    @property
    def frame(self) -> NDArray[np.uint8]:
        """Current frame, (H, W, 3): the last one yielded; before iteration, the first."""
        return self._present().image

    @property
    def current(self) -> FrameResult:
        """Result of the current frame, with the additions and corrections made since it was yielded."""
        here = self._present()
        return self._begin(here.index, here.time, here.image, self._found)()

    @property
    def ids(self) -> list[int]:
        """Ids of all objects, in the order of creation."""
        return list(self._phrases)

    @property
    def presence(self) -> dict[int, float]:
        """Maximum presence over each object's prompted frames, by id, 0..1."""
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
        """Decode the next frame and track all objects to it."""
        try:
            self._check_stop()
            with advise_on_memory():  # the frame may have been encoded ahead
                here = next(self._stream)
        except Exception:
            self.close()
            raise
        found = self._ahead.pop(here.index, {})
        rest = [key for key in self._phrases if key not in found]
        if rest:
            with advise_on_memory():
                output = self._tracker.step(here.index, here.features, rest).settled()
            found |= {key: output.select(slice(row, row + 1)) for row, key in enumerate(rest)}
        self._here, self._found, self._clicks = here, found, {}

    # ---- objects

    @plain_inference()
    def prompt(self, answer: GroundedAnswer, indices: Sequence[int], frames: Frames) -> None:
        """Prompt key frames with the objects of an answer about them, before iteration.

        Args:
            answer: N objects.
            indices: of the K key frames.
            frames: (K, H, W, 3).
        """
        self.text = answer.text
        keys = [self._new_object(phrase) for phrase in answer.phrases]
        if keys:
            self._prompt_frames(
                keys, indices, self._prompting.decode_keyframes(answer.seg_states, frames, self._processor)
            )

    def add(
        self,
        *,
        expression: str | None = None,
        point: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> int | None:
        """Add an object on the current frame, given by exactly one of the four arguments.

        Args:
            expression: referring expression; the language model reads only this frame.
            point: (x, y) px on the object, or a scribble (K, 2) px.
            box: (x0, y0, x1, y1) px around the object.
            mask: bool (H, W).

        Returns:
            Its id. An expression adds each object that it refers to and returns the first id, or None where it refers
            to none.

        Raises:
            ValueError: not exactly one argument is given, or it lies outside the picture.
        """
        check_one_of(expression=expression, point=point, box=box, mask=mask)
        if expression is None:
            return self._prompt_by_hand(None, point, box, mask, inside=True)
        answer = self._ask_here(expression)
        keys = [self._new_object(phrase or expression) for phrase in answer.phrases]
        if keys:
            self._prompt_here(keys, answer.seg_states)
        return keys[0] if keys else None

    def add_region(self, region: ArrayLike) -> int:
        """Add the object that a region marks: a mask, box, point or scribble, distinguished by shape."""
        array = np.asarray(region)
        if array.dtype == bool or (array.dtype == np.uint8 and array.ndim == 2):
            return self._prompt_by_hand(None, None, None, region, inside=True)
        if array.shape == (4,):
            return self._prompt_by_hand(None, None, region, None, inside=True)
        return self._prompt_by_hand(None, region, None, None, inside=True)

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
        """Correct an object's mask on the current frame; tracking continues from the corrected mask.

        Successive clicks refine the mask. A box, a mask or an expression redefines the object and drops its memory. A
        click drops the memory only if a mask decoded without it agrees with more clicks.

        Args:
            key: id of the object.
            point: (x, y) px or a scribble (K, 2) px.
            box: (x0, y0, x1, y1) px around it.
            mask: bool (H, W).
            expression: referring expression; the language model reads only this frame, and its first mask counts.
            inside: whether the point is on the object (positive click) or not (negative).

        Returns:
            The corrected object.

        Raises:
            ValueError: unknown id, not exactly one correction, a place outside the picture, or nothing found.
        """
        self._check_known(key)
        check_one_of(point=point, box=box, mask=mask, expression=expression)
        if expression is None:
            self._prompt_by_hand(key, point, box, mask, inside=inside)
        else:
            answer = self._ask_here(expression)
            if not len(answer.seg_states):
                raise ValueError(f"expression {expression!r}: the model finds nothing on frame {self._present().index}")
            self._forget(key)
            self._phrases[key] = answer.phrases[0] or expression
            self._prompt_here([key], answer.seg_states[:1])
        return next(found for found in self.current.objects if found.id == key)

    def remove(self, key: int) -> None:
        """Stop tracking an object; its id is not reused.

        Raises:
            ValueError: there is no such object.
        """
        self._check_known(key)
        self._forget(key)
        del self._phrases[key], self._presence[key]

    def rewind(self, key: int) -> Iterator[FrameResult]:
        """Track an object backwards, from its first prompted frame to the first frame of the source.

        Returns:
            One result per frame with this object alone, from the frame before its first prompt down to frame 0.

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
            self._check_stop()
            with plain_inference():
                features = self._prompting.encode(self._processor.sam_frames(image[None]))
                output = tracker.step(-index, features)
            yield self._begin(index, self._stream.time(index), image, {key: output})()

    # ---- steps

    def _check_stop(self) -> None:
        if self._stop():
            raise Cancelled("the track was cancelled")

    def _new_object(self, phrase: str | None) -> int:
        key, self._next_id = self._next_id, self._next_id + 1
        self._phrases[key], self._presence[key] = phrase, 0.0
        return key

    def _check_known(self, key: int) -> None:
        if key not in self._phrases:
            raise ValueError(f"there is no object {key}; the session tracks {self.ids or 'none'}")

    def _forget(self, key: int) -> None:
        self._tracker.remove(key)
        for found in (self._found, self._clicks, *self._ahead.values()):
            found.pop(key, None)

    def _ask_here(self, expression: str) -> GroundedAnswer:
        if self._ask is None:
            raise ValueError("expression: this session has no language model; give a point, a box or a mask")
        answer = self._ask(self._present().image[None], check_text(expression, "expression"))
        self.text = answer.text
        return answer

    def _prompt_here(self, keys: Sequence[int], seg_states: Tensor) -> None:
        here = self._present()
        with plain_inference():
            found = self._prompting.decode(seg_states, here.features, here.sam_frame, here.image[None])
            self._prompt_frames(keys, [here.index], KeyFrames([here.features], *found))
        self._found |= self._ahead.pop(here.index)

    def _prompt_frames(self, keys: Sequence[int], indices: Sequence[int], found: KeyFrames) -> None:
        """Prompt the tracker with the masks on K frames; keep the features of those that will be tracked too."""
        number, (features, output, given) = len(indices), found
        for k, rows in enumerate(self._prompting.model.choose_prompts(output, number)):
            if len(rows):
                self._remember(
                    indices[k],
                    [keys[row // number] for row in rows.tolist()],
                    features[k],
                    output.select(rows),
                    None if given is None else given[rows],
                )
            if len(rows) < len(self._phrases):
                self._stream.keep(indices[k], features[k])

    def _remember(
        self, index: int, keys: Sequence[int], features: FrameFeatures, output: MaskOutput, given: Tensor | None
    ) -> None:
        """Prompt the tracker with the masks of N objects on one frame."""
        self._tracker.prompt(index, features, output, ids=keys, given=given)
        presence = output.presence_logits.sigmoid().tolist()
        output = output.settled()
        for row, key in enumerate(keys):
            self._ahead.setdefault(index, {})[key] = output.select(slice(row, row + 1))
            self._presence[key] = max(self._presence[key], presence[row])

    @plain_inference()
    def _prompt_by_hand(
        self, key: int | None, point: ArrayLike | None, box: ArrayLike | None, mask: ArrayLike | None, inside: bool
    ) -> int:
        """Prompt a known or new object on the current frame with a click, box or mask; return its id."""
        here, sam2, policy = self._present(), self._prompting.sam2, self._tracker.policy
        features, size, clicks, given = here.features, here.image.shape[:2], Clicks(), None
        drops_memory = point is None
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
            else:  # refine the object's mask on this frame, conditioned on its memory
                embeds, found = self._tracker.condition(here.index, features, [key]), self._found[key]
                output, drops_memory = refine_mask(sam2, policy, clicks, size, features, embeds=embeds, found=found)
        if key is None:
            key = self._new_object(None)
        elif drops_memory:
            self._forget(key)
        self._remember(here.index, [key], features, output, given)
        self._found |= self._ahead.pop(here.index)
        self._clicks[key] = clicks
        return key

    def _begin(
        self, index: int, time: float, image: NDArray[np.uint8], found: Mapping[int, MaskOutput]
    ) -> Callable[[], FrameResult]:
        """Start to convert the masks of a frame; the returned function waits for the device and finishes it."""
        ids = [key for key in self._phrases if key in found]
        if not ids:
            return lambda: FrameResult(index=index, time=time, objects=())
        output, phrases = MaskOutput.concatenate([found[key] for key in ids]), [self._phrases[key] for key in ids]
        finish = self._prompting.begin(output, ids, phrases, image.shape[:2])
        return lambda: FrameResult(index=index, time=time, objects=finish())
