"""Answer questions about pictures and clips, with masks.

Flow: media + prompt -> Processor -> Sa2VA.encode -> Decoding -> [SEG] states -> decode_masks -> Prediction, or for a
    clip -> session.py -> FrameResults -> Prediction.
Source: Sa2VA, arXiv:2501.04001, for the order of things.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from sa2va import masks
from sa2va.inference.conversation import Conversation
from sa2va.inference.engine import Answerer
from sa2va.inference.keyframes import choose_keyframes
from sa2va.inference.results import FrameResult, Options, Prediction, Request
from sa2va.inference.tracking.prompting import Answer
from sa2va.inference.tracking.session import TrackSession
from sa2va.model.torch_defaults import plain_defaults
from sa2va.types import Span, Turn

FORCED_ANSWER = Turn(question="", answer="It is .", spans=(Span(start=6, end=6, objects=(0,)),))


class Predictor(Answerer):
    """The library's main class; `sa2va.load` makes one."""

    def predict(
        self,
        media: Any,
        prompt: str,
        *,
        regions: Sequence[Any] | NDArray[Any] | None = None,
        options: Options | None = None,
    ) -> Prediction:
        """Answer one question.

        Args:
            media: see `sa2va.media.source.open_media`.
            prompt: question or request; a literal special token in it is plain text.
            regions: what "region1", "region2", ... in the prompt mean: each a bool mask (H, W), a box
                (x0, y0, x1, y1) px, a point (x, y) px or a scribble (K, 2) px, on the first frame; or an array of
                boxes (R, 4), points (R, 2), scribbles (R, K, 2) or masks (R, H, W).
            options: see Options.

        Raises:
            ValueError: the media cannot be read, the prompt is empty or a region lies outside the picture.
        """
        return self.predict_batch([Request(media, prompt, regions)], options)[0]

    @plain_defaults()
    def predict_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        """Answer many questions at once; each answer is the one `predict` gives."""
        options = Options.read(options)
        queries = [self._open(request, options) for request in requests]
        if not queries:
            return []
        stream, last = self._prefill(queries, options.room)
        decoding = self._decoding(stream, last, options).finish()
        answers = list(zip(decoding.token_ids, map(self._stack, decoding.seg_states), strict=True))
        return self._finish(queries, answers, options)

    @plain_defaults()
    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        """Answer each request with exactly one mask, whether or not the model would have drawn any.

        The answer is forced; presence then says how likely the object is to be there.
        """
        ids, _ = self.processor.encode_answer(FORCED_ANSWER)
        return self.predict_forced(requests, ids[: ids.index(self.processor.seg_id) + 1], options)

    @plain_defaults()
    def predict_forced(
        self, requests: Sequence[Request], answer_ids: Sequence[int], options: Options | None = None
    ) -> list[Prediction]:
        """Answer each request with the given tokens, as if the model had chosen them."""
        options = Options.read(options)
        queries = [self._open(request, options) for request in requests]
        ids = list(answer_ids)
        stream, _ = self._prefill(queries, len(ids))
        with torch.no_grad():
            forced = self.model.mllm.embed_tokens(torch.tensor([ids], device=self.device))
            states = stream.append(forced.expand(len(queries), -1, -1))  # (B, L, D)
        places = [place for place, token in enumerate(ids) if token == self.processor.seg_id]
        return self._finish(queries, [(ids, row[places]) for row in states], options)

    @plain_defaults()
    def open(self, media: Any) -> Conversation:
        """Start a conversation about a picture or clip; what has been seen and said is kept between questions."""
        return Conversation(self, media)

    @plain_defaults()
    def segment_regions(
        self, media: Any, regions: Sequence[Any] | NDArray[Any], options: Options | None = None
    ) -> Prediction:
        """Cut out what regions mark, without the language model: one object per region, in a clip through all frames.

        Args:
            media: see `sa2va.media.source.open_media`.
            regions: on the first frame, as in `predict`.
            options: see Options.

        Raises:
            ValueError: the media cannot be read, or a region lies outside the picture.
        """
        with self.track(media, options=options) as session:
            for region in masks.split_regions(regions, session.media.height, session.media.width):
                session.add_region(region)
            return self._follow(session)

    @plain_defaults()
    def track(
        self,
        source: Any,
        prompt: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        keyframes: str | None = None,
        num_keyframes: int | None = None,
        max_conditioning: int | None = None,
        chunk: int = 1,
        prefetch: bool = True,
        allow_stream: bool = False,
        options: Options | None = None,
    ) -> TrackSession:
        """Find what a prompt asks for and follow it through a clip or an endless stream, in constant memory.

        Args:
            source: see `sa2va.media.source.open_media`; one that cannot be rewound is prompted on its first frames.
            prompt: a request for masks, or several that are followed together, or {request: name of its objects};
                None = start without objects and add them to the session.
            keyframes: "uniform" over the whole clip, "first", or "content", those that differ most; None = as the
                model was trained.
            num_keyframes: K, frames that the MLLM reads; None = as the options say, else as the model was trained.
            max_conditioning: prompted frames that an object may read at once; the nearest in time are kept.
            chunk: frames that SAM 2's image encoder takes at once.
            prefetch: decode a file ahead of time.
            allow_stream: open a camera (its number) or an address (http, rtsp); else they are refused.
            options: see Options.

        Returns:
            A session; iterate it for one FrameResult per frame.
        """
        options = Options.read(options)
        if num_keyframes is not None:
            options = replace(options, num_keyframes=num_keyframes)
        number = self._num_keyframes(options)
        with ExitStack() as opened:  # a source is handed back where no session comes of it
            media = opened.enter_context(closing(self._open_media(source, allow_stream=allow_stream)))
            mode = self._choose_mode(media, options)
            how = {"chunk": chunk, "prefetch": prefetch}
            session = opened.enter_context(self._start(media, mode, options, max_conditioning, number, **how))
            if prompt is not None:
                indices, frames = choose_keyframes(media, keyframes or self._keyframe_choice(mode), number)
                answers = [self._ask(frames, one, options) for one in ([prompt] if isinstance(prompt, str) else prompt)]
                names = prompt.values() if isinstance(prompt, Mapping) else ()
                session.prompt(Answer.join(answers, *names), indices, frames)
            opened.pop_all()
        return session

    def stream(self, source: Any, prompt: str) -> Iterator[FrameResult]:
        """Give the results of `track` alone."""
        with self.track(source, prompt) as session:
            yield from session
