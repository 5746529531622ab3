"""Answer questions about images and clips, with masks: the library's main class.

Flow: media + prompt -> Predictor -> engine.py -> Prediction, Conversation or TrackSession.
Source: Sa2VA, arXiv:2501.04001, for the order of the steps.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from sa2va import masks
from sa2va.inference.compiling import CompileMode
from sa2va.inference.conversation import Conversation
from sa2va.inference.engine import Engine
from sa2va.inference.halving import advise_on_memory, run_halving
from sa2va.inference.query import Query
from sa2va.inference.requests import Options, Request, StopFlag, never
from sa2va.inference.results import BatchResult, FrameResult, Prediction
from sa2va.inference.tracking.mask_prompting import GroundedAnswer
from sa2va.inference.tracking.session import TrackSession
from sa2va.inference.unpicklable import Unpicklable
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import Sam2
from sa2va.model.torch_defaults import plain_defaults, plain_inference
from sa2va.types import Span, Turn

FORCED_ANSWER = Turn(question="", answer="It is .", spans=(Span(start=6, end=6, objects=(0,)),))


class Predictor(Unpicklable):
    """Predictor for images and clips, as `sa2va.load` returns it.

    Thread-safe; a Conversation or a TrackSession belongs to one thread at a time.

    Attributes:
        engine: runs the individual steps of a prediction.
        model, processor: of the engine.
    """

    instead = "let each process load its own with sa2va.load(...)"

    def __init__(
        self,
        model: Sa2VA,
        processor: Processor,
        *,
        original_sam2: Sam2 | None = None,
        is_embedded: bool = False,
        allow_paths: bool = True,
        compile: CompileMode = False,
    ) -> None:
        """See `Engine`."""
        self.engine = Engine(
            model,
            processor,
            original_sam2=original_sam2,
            is_embedded=is_embedded,
            allow_paths=allow_paths,
            compile=compile,
        )
        self.model, self.processor = model, processor

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def dtype(self) -> torch.dtype:
        return self.engine.dtype

    @property
    def original_sam2(self) -> Sam2 | None:
        return self.engine.original_sam2

    @property
    def is_embedded(self) -> bool:
        return self.engine.is_embedded

    def predict(
        self,
        media: Any,
        prompt: str,
        *,
        regions: Sequence[Any] | NDArray[Any] | None = None,
        options: Options | None = None,
        stop: StopFlag = never,
    ) -> Prediction:
        """Answer one question or request, with masks.

        Args:
            media: see `sa2va.media.source.open_media`.
            prompt: question or request; a literal special token in it is plain text.
            regions: what "region1", "region2", ... in the prompt stand for, on the first frame. Each is a bool mask
                (H, W), a box (x0, y0, x1, y1) px, a point (x, y) px or a scribble (K, 2) px. An array of boxes
                (R, 4), points (R, 2), scribbles (R, K, 2) or masks (R, H, W) is accepted too.
            options: see Options.
            stop: function such as `threading.Event().is_set`, called before each token and frame; True cancels.

        Raises:
            ValueError: the media cannot be read, the prompt is empty, a region lies outside the image or
                memory runs out.
            Cancelled: the stop flag was set.
        """
        return self.predict_batch([Request(media, prompt, regions, stop=stop)], options)[0]

    @plain_defaults()
    def predict_batch(
        self, requests: Sequence[Request], options: Options | Sequence[Options] | None = None
    ) -> list[Prediction]:
        """Answer a batch of requests; results equal those of `predict`.

        Args:
            requests: one batch; its halves are run if it does not fit into memory.
            options: of all requests, or one for each; a request's own options take precedence.

        Raises:
            ValueError, Cancelled: the first error of any request, see `predict`. `answer_batch` returns each.
        """
        queries = [self.engine.open(*pair) for pair in _pair_options(requests, options)]
        return [_to_result(found).unwrap() for found in self.engine.run(queries)]

    @plain_defaults()
    def answer_batch(
        self, requests: Sequence[Request], options: Options | Sequence[Options] | None = None
    ) -> list[BatchResult]:
        """Answer a batch of requests; a bad or cancelled one gets an error of its own.

        Args:
            requests, options: as in `predict_batch`.

        Returns:
            Per request a prediction, or the error that `predict` would raise.
        """
        opened: list[Query | ValueError] = []
        for pair in _pair_options(requests, options):
            try:
                opened.append(self.engine.open(*pair))
            except ValueError as error:
                opened.append(error)
        found = iter(self.engine.run([query for query in opened if isinstance(query, Query)]))
        return [_to_result(next(found) if isinstance(query, Query) else query) for query in opened]

    @plain_defaults()
    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        """Predict exactly one mask per request, from a fixed answer with [SEG] instead of a generated one.

        Presence of this mask is the probability that the object is there.
        """
        ids, _ = self.processor.encode_answer(FORCED_ANSWER)
        return self.predict_forced(requests, ids[: ids.index(self.processor.seg_id) + 1], options)

    @plain_inference()
    def predict_forced(
        self, requests: Sequence[Request], answer_ids: Sequence[int], options: Options | None = None
    ) -> list[Prediction]:
        """Predict with the given answer tokens, as if the model had generated them."""
        ids, engine = list(answer_ids), self.engine
        seg_positions = [index for index, token in enumerate(ids) if token in self.processor.seg_tokens]

        def force(queries: Sequence[Query]) -> list[GroundedAnswer]:
            stream, _ = engine.prefill(queries, len(ids))
            states = stream.append(
                self.model.mllm.embed_text(ids, self.device).expand(len(queries), -1, -1)
            )  # (B, L, D)
            return [
                engine.ground_tokens(ids, row[seg_positions], one.options, len(one.keyframes))
                for one, row in zip(queries, states, strict=True)
            ]

        queries = [engine.open(request, options) for request in requests]
        return [_to_result(found).unwrap() for found in engine.decode_masks(queries, run_halving(force, queries))]

    @plain_defaults()
    def open(self, media: Any) -> Conversation:
        """Start a conversation about an image or clip; the KV cache is kept between questions."""
        return Conversation(self.engine, media)

    @plain_defaults()
    def segment_regions(
        self, media: Any, regions: Sequence[Any] | NDArray[Any], options: Options | None = None
    ) -> Prediction:
        """Segment one object per region with SAM 2 alone, without the MLLM; track it through a clip.

        Args:
            media: see `sa2va.media.source.open_media`.
            regions: on the first frame, as in `predict`.
            options: see Options.

        Raises:
            ValueError: the media cannot be read, or a region lies outside the image.
        """
        with self.track(media, options=options) as session:
            for region in masks.split_regions(regions, session.media.height, session.media.width):
                session.add_region(region)
            return session.finish()

    @advise_on_memory()
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
        stop: StopFlag = never,
    ) -> TrackSession:
        """Segment what a prompt refers to and track it through a clip or an endless stream, in constant memory.

        Args:
            source: see `sa2va.media.source.open_media`; without a known length, its first frames are key frames.
            prompt: a request for masks, or several that are tracked together, or {request: name of its objects};
                None = start without objects and add them to the session.
            keyframes: choice of the key frames: "uniform" over the whole clip, "first", or "content" (those with the
                most different colors); None = that of the options, else "uniform" in mode "consistent", else as in
                training.
            num_keyframes: K, number of frames for the MLLM; None = that of the options, else of the model's training.
            max_conditioning: number of prompted frames that memory attention reads per object (the nearest in time).
            chunk: number of frames per batch of SAM 2's image encoder.
            prefetch: decode a file ahead of time.
            allow_stream: allow a camera (its number) or a URL (http, rtsp) as source.
            options: see Options.
            stop: called before each token and each frame; True cancels the session, which then raises Cancelled.

        Returns:
            A session, to be iterated: one FrameResult per frame.

        Raises:
            ValueError: the source cannot be read, or a prompt is empty or too long.
            Cancelled: the stop flag was set before the session could start.
        """
        options, engine = Options.read(options), self.engine
        given = {"keyframes": keyframes, "num_keyframes": num_keyframes}
        options = replace(options, **{name: value for name, value in given.items() if value is not None})
        prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
        if prompt is not None and not prompts:
            raise ValueError("prompt: expected a request, or a list with at least one")
        with ExitStack() as opened:  # an error closes the source
            media = opened.enter_context(closing(engine.open_media(source, allow_stream=allow_stream)))
            mode = engine.choose_mode(media, options)
            how: dict[str, Any] = {"max_conditioning": max_conditioning, "chunk": chunk, "prefetch": prefetch}
            session = opened.enter_context(engine.start_session(media, mode, options, stop=stop, **how))
            if prompts:
                indices, frames = engine.read_keyframes(media, mode, options)
                answers = engine.answer_about(frames, prompts, options, stop)
                names = prompt.values() if isinstance(prompt, Mapping) else ()
                session.prompt(GroundedAnswer.join(answers, *names), indices, frames)
            opened.pop_all()
        return session

    def stream(self, source: Any, prompt: str) -> Iterator[FrameResult]:
        """Yield the frame results of `track` and close its session."""
        with self.track(source, prompt) as session:
            yield from session


def _pair_options(
    requests: Sequence[Request], options: Options | Sequence[Options] | None
) -> list[tuple[Request, Options | None]]:
    """Pair each request with its options.

    Raises:
        ValueError: there are more or fewer options than requests.
    """
    if not isinstance(options, Sequence):
        return [(request, options) for request in requests]
    if len(options) != len(requests):
        raise ValueError(f"{len(options)} options for {len(requests)} requests; give one for each, or one for all")
    return list(zip(requests, options, strict=True))


def _to_result(found: Prediction | Exception) -> BatchResult:
    return BatchResult(error=found) if isinstance(found, Exception) else BatchResult(prediction=found)
