"""Answer questions about pictures and clips, with masks.

Flow: media + prompt -> Processor -> Sa2VA.encode -> Decoding -> [SEG] states -> decode_masks -> Prediction, or for a
    clip -> session.py -> FrameResults -> Prediction.
Source: Sa2VA, arXiv:2501.04001, for the order of things.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sa2va import masks
from sa2va.media import Media, open_media
from sa2va.model.consistent import ConsistentPrompter
from sa2va.model.conversation import Conversation
from sa2va.model.keyframes import choose_keyframes
from sa2va.model.mllm import Decoding, DecodingRules, TextStream
from sa2va.model.processor import Processor
from sa2va.model.prompter import Answer, Prompter
from sa2va.model.results import FrameResult, ObjectMasks, Options, Prediction, Request
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam2 import FrameFeatures, Sam2
from sa2va.model.session import DEFAULT_CONDITIONING, TrackSession
from sa2va.tokens import SEGMENT_REQUEST
from sa2va.types import Frames, Span, Turn

FORCED_ANSWER = Turn(question="", answer="It is .", spans=(Span(start=6, end=6, objects=(0,)),))


@dataclass(frozen=True)
class Query:
    """A request whose media has been opened and read as far as the MLLM needs it."""

    media: Media  # gives all frames
    pictures: list[Frames]  # what the MLLM sees: one array per picture, or one with the K key frames
    keyframes: list[int]
    turn: Turn
    mode: str  # "official" or "consistent"
    features: FrameFeatures | None = None  # what SAM 2 sees in its picture, if that is known already

    @property
    def is_clip(self) -> bool:
        return not self.media.is_image


class Predictor:
    """The library's main class; `sa2va.load` makes one."""

    def __init__(self, model: Sa2VA, processor: Processor, *, original_sam2: Sam2 | None = None) -> None:
        self.model = model.eval()
        self.processor = processor
        self.original_sam2 = original_sam2  # propagates what the model's own SAM 2 has drawn, in mode "consistent"

    @property
    def device(self) -> torch.device:
        return self.model.projector.fc1.weight.device  # the MLLM may be packed, or spread over several devices

    @property
    def dtype(self) -> torch.dtype:
        return self.model.projector.fc1.weight.dtype

    # ---- the public calls

    def predict(
        self, media: Any, prompt: str, *, regions: Sequence[Any] | None = None, options: Options | None = None
    ) -> Prediction:
        """Answer one question.

        Args:
            media: see `sa2va.media.open_media`.
            prompt: question or request; a literal special token in it is plain text.
            regions: what "region1", "region2", ... in the prompt mean: each a bool mask (H, W), a box
                (x0, y0, x1, y1) px, a point (x, y) px or a scribble (K, 2) px, on the first frame.
            options: see Options.

        Raises:
            ValueError: the media cannot be read, the prompt is empty or a region lies outside the picture.
        """
        return self.predict_batch([Request(media, prompt, regions)], options)[0]

    def predict_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        """Answer many questions at once; each answer is the one `predict` gives."""
        options = options or Options()
        queries = [self._open(request, options) for request in requests]
        if not queries:
            return []
        stream, last = self._prefill(queries)
        decoding = self._decoding(stream, last, options).finish()
        answers = list(zip(decoding.token_ids, map(self._stack, decoding.seg_states), strict=True))
        return self._finish(queries, answers, options)

    def probe_batch(self, requests: Sequence[Request], options: Options | None = None) -> list[Prediction]:
        """Answer each request with exactly one mask, whether or not the model would have drawn any.

        The answer is forced; presence then says how likely the object is to be there.
        """
        ids, _ = self.processor.encode_answer(FORCED_ANSWER)
        return self.predict_forced(requests, ids[: ids.index(self.processor.seg_id) + 1], options)

    def predict_forced(
        self, requests: Sequence[Request], answer_ids: Sequence[int], options: Options | None = None
    ) -> list[Prediction]:
        """Answer each request with the given tokens, as if the model had chosen them."""
        options = options or Options()
        queries = [self._open(request, options) for request in requests]
        stream, _ = self._prefill(queries)
        ids = list(answer_ids)
        with torch.no_grad():
            forced = self.model.mllm.embed_tokens(torch.tensor([ids], device=self.device))
            states = stream.append(forced.expand(len(queries), -1, -1))  # (B, L, D)
        places = [place for place, token in enumerate(ids) if token == self.processor.seg_id]
        return self._finish(queries, [(ids, row[places]) for row in states], options)

    def open(self, media: Any) -> Conversation:
        """Start a conversation about a picture or clip; what has been seen and said is kept between questions."""
        return Conversation(self, media)

    def segment_regions(self, media: Any, regions: Sequence[Any], options: Options | None = None) -> Prediction:
        """Cut out what regions mark, without the language model: one object per region, in a clip through all frames.

        Args:
            media: see `sa2va.media.open_media`.
            regions: on the first frame, as in `predict`.
            options: see Options.

        Raises:
            ValueError: the media cannot be read, or a region lies outside the picture.
        """
        with self.track(media, options=options) as session:
            for region in regions:
                session.add_region(region)
            return self._follow(session)

    def track(
        self,
        source: Any,
        prompt: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        keyframes: str | None = None,
        num_keyframes: int = 5,
        max_conditioning: int | None = None,
        chunk: int = 1,
        prefetch: bool = True,
        allow_stream: bool = False,
        options: Options | None = None,
    ) -> TrackSession:
        """Find what a prompt asks for and follow it through a clip or an endless stream, in constant memory.

        Args:
            source: see `sa2va.media.open_media`; a source that cannot be rewound is prompted on its first frames.
            prompt: a request for masks, or several that are followed together, or {request: name of its objects};
                None = start without objects and add them to the session.
            keyframes: "uniform" over the whole clip, "first", or "content", those that differ most; None = as the
                model was trained.
            num_keyframes: K, frames that the MLLM reads.
            max_conditioning: prompted frames that an object may read at once; the nearest in time are kept.
            chunk: frames that SAM 2's image encoder takes at once.
            prefetch: decode a file ahead of time.
            allow_stream: open a camera (its number) or an address (http, rtsp); else they are refused.
            options: see Options.

        Returns:
            A session; iterate it for one FrameResult per frame.
        """
        options = options or Options()
        if num_keyframes < 1:
            raise ValueError(f"num_keyframes is {num_keyframes}; expected at least 1 frame")
        media = open_media(source, allow_stream=allow_stream)
        mode = self._choose_mode(media, options)
        session = self._start(media, mode, options, max_conditioning, num_keyframes, chunk=chunk, prefetch=prefetch)
        if prompt is not None:
            indices, frames = choose_keyframes(media, keyframes or self._keyframe_choice(mode), num_keyframes)
            answers = [self._ask(frames, one, options) for one in ([prompt] if isinstance(prompt, str) else prompt)]
            names = prompt.values() if isinstance(prompt, Mapping) else ()
            session.prompt(Answer.join(answers, *names), indices, frames)
        return session

    def stream(self, source: Any, prompt: str) -> Iterator[FrameResult]:
        """Give the results of `track` alone."""
        with self.track(source, prompt) as session:
            yield from session

    # ---- the way there

    def _open(self, request: Request, options: Options) -> Query:
        if request.images is not None:
            opened = [open_media(image) for image in request.images]
            if not opened or not all(media.is_image for media in opened):
                raise ValueError("images: expected one or more pictures; pass a video as media")
            media, pictures, keyframes = opened[0], [one.frames([0]) for one in opened], [0]
            mode = self._choose_mode(media, options)
        else:
            media = open_media(request.media)
            mode = self._choose_mode(media, options)
            number = options.num_keyframes or self.model.config.num_keyframes
            keyframes, frames = choose_keyframes(media, self._keyframe_choice(mode), number)
            pictures = [frames]
        regions = tuple(masks.region_to_mask(r, media.height, media.width) for r in request.regions or ())
        return Query(media, pictures, keyframes, Turn(question=request.prompt, answer="", regions=regions), mode)

    def _choose_mode(self, media: Media, options: Options) -> str:
        """Say whose SAM 2 follows the objects: the original one where it is there, unless a caller says so."""
        if options.mode == "official" or (options.mode == "auto" and self.original_sam2 is None):
            return "official"
        if options.mode == "consistent" and media.is_image:
            warnings.warn("mode consistent is for clips; a picture is drawn in mode official", stacklevel=2)
        elif self.original_sam2 is None:
            warnings.warn(
                "mode consistent needs the original SAM 2, as in load(..., sam='facebook/sam2-hiera-large'); "
                "going on in mode official",
                stacklevel=2,
            )
        return "official" if media.is_image or self.original_sam2 is None else "consistent"

    def _keyframe_choice(self, mode: str) -> str:
        """Say where the frames that the MLLM reads lie, unless a caller says so."""
        return "uniform" if mode == "consistent" else self.model.config.keyframes

    def _ask(self, frames: Frames, prompt: str, options: Options) -> Answer:
        """Ask about the key frames of a clip, or one frame of a stream, by themselves."""
        query = self._open(Request(frames, prompt), replace(options, num_keyframes=len(frames), mode="official"))
        stream, last = self._prefill([query])
        decoding = self._decoding(stream, last, options).finish()
        return self._answer(decoding.token_ids[0], self._stack(decoding.seg_states[0]), options)

    def _answer(self, ids: list[int], states: Tensor, options: Options) -> Answer:
        states = states[: options.max_objects]
        return Answer(self._text(ids), states, self.processor.phrases(ids, len(states)))

    @torch.no_grad()
    def _prefill(self, queries: Sequence[Query]) -> tuple[TextStream, Tensor]:
        """Run all prompts, padded on the left; return the stream and the last states (B, D)."""
        prompts = self.processor.prompts([(query.turn, query.pictures) for query in queries])
        self.model.mllm.check_length(prompts.input_ids.shape[1])
        stream = self.model.mllm.open_stream()
        return stream, stream.start(self.model.encode(prompts.to(self.device)))[:, -1]

    def _decoding(self, stream: TextStream, last: Tensor, options: Options) -> Decoding:
        rules = DecodingRules(
            end_ids=self.processor.end_ids,
            has_ended=self.processor.has_ended,
            seg_id=self.processor.seg_id,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            seed=options.seed,
        )
        return Decoding(self.model.mllm, stream, last, rules)

    def _stack(self, states: list[Tensor]) -> Tensor:
        """(N, D), also where N = 0."""
        return torch.stack(states) if states else torch.zeros(0, self.model.mllm.width, device=self.device)

    def _finish(
        self, queries: Sequence[Query], answers: Sequence[tuple[list[int], Tensor]], options: Options
    ) -> list[Prediction]:
        """Draw the masks: those of all pictures in one decoder batch, those of a clip along its frames."""
        pictures = [i for i, query in enumerate(queries) if not query.is_clip]
        drawn = self._draw_pictures([queries[i] for i in pictures], [answers[i] for i in pictures], options)
        found = dict(zip(pictures, drawn, strict=True))
        for i, query in enumerate(queries):
            if query.is_clip:
                with self._start(query.media, query.mode, options, None, len(query.keyframes)) as session:
                    session.prompt(self._answer(*answers[i], options), query.keyframes, query.pictures[0])
                    found[i] = self._follow(session)
        return [found[i] for i in range(len(queries))]

    @torch.no_grad()
    def _see(self, queries: Sequence[Query]) -> FrameFeatures:
        """Run SAM 2's image encoder on one picture each."""
        pixels = torch.cat([self.processor.sam_pixel_values(query.pictures[0]) for query in queries])
        return self.model.sam2.encode_frames(pixels.to(self.device, self.dtype))

    @torch.no_grad()
    def _draw_pictures(
        self, queries: Sequence[Query], answers: Sequence[tuple[list[int], Tensor]], options: Options
    ) -> list[Prediction]:
        states = [state[: options.max_objects] for _, state in answers]
        asked = [i for i, state in enumerate(states) if len(state)]
        owner = [row for row, i in enumerate(asked) for _ in states[i]]
        if asked:
            features = queries[0].features or self._see([queries[i] for i in asked])
            index = torch.tensor(owner, device=self.device)[:, None]
            output = self.model.decode_masks(torch.cat([states[i] for i in asked]), features, index)
        predictions, done = [], 0
        for query, (ids, _), own in zip(queries, answers, states, strict=True):
            objects: list[ObjectMasks] = []
            if len(own):
                part = output.select(slice(done, done + len(own)))
                done += len(own)
                drawn = Prompter(self.model, options).masks(part, query.media.height, query.media.width)
                phrases = self.processor.phrases(ids, len(own))
                for n, mask in enumerate(drawn):
                    objects.append(
                        ObjectMasks(
                            id=n + 1,
                            phrase=phrases[n],
                            presence=float(part.presence_logits[n].sigmoid()),
                            scores=part.scores[n : n + 1].cpu().numpy(),
                            rles=(masks.encode_rle(mask),),
                        )
                    )
            predictions.append(Prediction(text=self._text(ids), media=query.media, objects=tuple(objects)))
        return predictions

    def _start(
        self,
        media: Media,
        mode: str,
        options: Options,
        max_conditioning: int | None,
        num_keyframes: int,
        **how: Any,
    ) -> TrackSession:
        """Start a session without objects."""
        prompter = Prompter(self.model, options)
        if mode == "consistent":
            assert self.original_sam2 is not None
            prompter = ConsistentPrompter(self.model, self.original_sam2, options)
        return TrackSession(
            prompter,
            self.processor,
            media,
            ask=lambda frames, expression: self._ask(frames, SEGMENT_REQUEST.format(expression), options),
            max_conditioning=max(DEFAULT_CONDITIONING, num_keyframes) if max_conditioning is None else max_conditioning,
            **how,
        )

    def _follow(self, session: TrackSession) -> Prediction:
        """Run a session to its end and keep its masks as run lengths."""
        results = session if session.ids else ()
        return Prediction.collect(results, session.presence, text=session.text, media=session.media)

    def _text(self, ids: Sequence[int]) -> str:
        return self.processor.decode(ids).strip()
