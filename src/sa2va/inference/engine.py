"""Run the parts that every answer is made of: read, prefill, decode, draw, follow.

Flow: Request -> Query (media opened, key frames read) -> TextStream -> Decoding -> [SEG] states -> masks -> Prediction.
    predictor.py and conversation.py put these together.
Source: Sa2VA, arXiv:2501.04001, for the order of things.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va import masks
from sa2va.inference.embedded import warn_once
from sa2va.inference.keyframes import choose_keyframes
from sa2va.inference.results import ObjectMasks, Options, Prediction, Request, StaysInProcess
from sa2va.inference.tracking.consistent import ConsistentPrompter
from sa2va.inference.tracking.prompting import Answer, Prompter
from sa2va.inference.tracking.session import DEFAULT_CONDITIONING, TrackSession
from sa2va.media.source import Media, open_media
from sa2va.model.mllm import Decoding, DecodingRules, TextStream
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, Sam2
from sa2va.model.seg_design import one_frame_rows
from sa2va.tokens import SEGMENT_REQUEST
from sa2va.types import Frames, Turn


@dataclass(frozen=True)
class Query:
    """A request whose media has been opened and read as far as the MLLM needs it."""

    media: Media  # gives all frames
    pictures: list[Frames]  # what the MLLM sees: one array per picture, or one with the K key frames
    keyframes: list[int]
    turn: Turn
    mode: str  # "official" or "consistent"
    sources: tuple[Path, ...] = ()  # files of further pictures
    features: FrameFeatures | None = None  # what SAM 2 sees in its picture, if that is known already

    @property
    def is_clip(self) -> bool:
        return not self.media.is_image


class Answerer(StaysInProcess):
    """A model with its processor, and what it takes to answer."""

    instead = "let each process load its own with sa2va.load(...)"

    def __init__(
        self, model: Sa2VA, processor: Processor, *, original_sam2: Sam2 | None = None, is_embedded: bool = False
    ) -> None:
        self.is_embedded = is_embedded  # it knows drawn shapes only, and says so
        self.model = model.eval()
        self.processor = processor
        self.original_sam2 = original_sam2  # propagates what the model's own SAM 2 has drawn, in mode "consistent"

    @property
    def device(self) -> torch.device:
        return self.model.projector.fc1.weight.device  # the MLLM may be packed, or spread over several devices

    @property
    def dtype(self) -> torch.dtype:
        return self.model.projector.fc1.weight.dtype

    def _open_media(self, source: Any, **how: Any) -> Media:
        """Open what is asked about; see `sa2va.media.source.open_media`."""
        media = open_media(source, **how)
        if self.is_embedded:
            warn_once()
        return media

    def _open(self, request: Request, options: Options) -> Query:
        sources: tuple[Path, ...] = ()
        if request.images is not None:
            opened = [self._open_media(image) for image in request.images]
            if not opened or not all(media.is_image for media in opened):
                raise ValueError("images: expected one or more pictures; pass a video as media")
            media, pictures, keyframes = opened[0], [one.frames([0]) for one in opened], [0]
            mode = self._choose_mode(media, options)
            sources = tuple(path for one in opened[1:] for path in one.files)
        else:
            media = self._open_media(request.media)
            mode = self._choose_mode(media, options)
            keyframes, frames = choose_keyframes(media, self._keyframe_choice(mode), self._num_keyframes(options))
            pictures = [frames]
        size = media.height, media.width
        regions = tuple(masks.region_to_mask(one, *size) for one in masks.split_regions(request.regions, *size))
        turn = Turn(question=request.prompt, answer="", regions=regions)
        return Query(media, pictures, keyframes, turn, mode, sources)

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

    def _num_keyframes(self, options: Options) -> int:
        """Return K: the model's own number of key frames unless a caller says otherwise."""
        return self.model.config.num_keyframes if options.num_keyframes is None else options.num_keyframes

    def _ask(self, frames: Frames, prompt: str, options: Options) -> Answer:
        """Ask about the key frames of a clip, or one frame of a stream, by themselves."""
        query = self._open(Request(frames, prompt), replace(options, num_keyframes=len(frames), mode="official"))
        stream, last = self._prefill([query], options.room)
        decoding = self._decoding(stream, last, options).finish()
        return self._answer(decoding.token_ids[0], self._stack(decoding.seg_states[0]), options)

    def _answer(self, ids: list[int], states: Tensor, options: Options) -> Answer:
        states = states[: options.max_objects]
        return Answer(self._text(ids), states, self.processor.phrases(ids, len(states)))

    @torch.no_grad()
    def _prefill(self, queries: Sequence[Query], room: int) -> tuple[TextStream, Tensor]:
        """Run all prompts, padded on the left; return the stream and the last states (B, D).

        Raises:
            ValueError: a prompt leaves less room for its answer.
        """
        prompts = self.processor.prompts([(query.turn, query.pictures) for query in queries])
        inputs = self.model.encode(prompts.to(self.device))
        self.model.mllm.check_length(int(inputs.next_positions.max()), room)
        stream = self.model.mllm.open_stream()
        return stream, stream.start(inputs)[:, -1]

    def _decoding(self, stream: TextStream, last: Tensor, options: Options) -> Decoding:
        most = self.model.mllm.max_places
        left = options.max_new_tokens if most is None else most - stream.next_place
        rules = DecodingRules(
            end_ids=self.processor.end_ids,
            has_ended=self.processor.has_ended,
            seg_id=self.processor.seg_id,
            max_new_tokens=min(options.max_new_tokens, left),
            temperature=options.temperature,
            seed=options.seed,
        )
        return Decoding(self.model.mllm, stream, last, rules)

    def _stack(self, states: list[Tensor]) -> Tensor:
        """(N, D), also where N = 0."""
        return (
            torch.stack(states)
            if states
            else torch.zeros(0, self.model.mllm.width, device=self.device, dtype=self.dtype)
        )

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
            rows = one_frame_rows(torch.tensor(owner))
            output = self.model.decode_masks(torch.cat([states[i] for i in asked]).flatten(0, -2), features, rows)
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
            text = self._text(ids)
            predictions.append(Prediction(text=text, media=query.media, sources=query.sources, objects=tuple(objects)))
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
