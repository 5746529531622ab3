"""Run the steps of an answer: open the request, prefill, decode, draw the masks, track.

Flow: Request -> open -> Query -> prefill -> decode -> GroundedAnswer -> draw -> Prediction, or track -> TrackSession.
    predictor.py and conversation.py call these steps; a server may call them too.
Source: Sa2VA, arXiv:2501.04001, for the order of the steps.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va import masks
from sa2va.inference.decoding import Decoding, DecodingRules, TextStream, replace_text
from sa2va.inference.embedded import warn_once
from sa2va.inference.halving import advise_on_memory, run_halving
from sa2va.inference.keyframes import choose_keyframes
from sa2va.inference.query import Query
from sa2va.inference.requests import Cancelled, Options, Request, StopFlag, never
from sa2va.inference.results import FrameResult, Prediction
from sa2va.inference.tracking.consistent import ConsistentMaskPrompting
from sa2va.inference.tracking.mask_prompting import GroundedAnswer, MaskPrompting
from sa2va.inference.tracking.session import DEFAULT_CONDITIONING, TrackSession
from sa2va.inference.unpicklable import Unpicklable
from sa2va.media.source import Media, open_media
from sa2va.model.batch import Prompts
from sa2va.model.families.protocol import TextInput
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.attention import avoid_cudnn
from sa2va.model.sam.sam2 import FrameFeatures, Sam2
from sa2va.model.seg_design import one_frame_rows
from sa2va.model.torch_defaults import plain_inference
from sa2va.tokens import SEGMENT_REQUEST, check_text
from sa2va.types import Frames, Turn


class Engine(Unpicklable):
    """A model with its processor, and the steps of an answer.

    Every call may be made from several threads at once: a model is only read, and what changes belongs to the call.
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
    ) -> None:
        """Put a model into eval mode.

        Args:
            model, processor: answer.
            original_sam2: tracks in mode "consistent", where the model's own SAM 2 only decodes key frames.
            is_embedded: the model knows drawn shapes only, and a warning says so.
            allow_paths: False refuses paths and addresses as media, for requests that come from strangers.
        """
        self.model = model.eval()
        self.processor = processor
        self.original_sam2 = original_sam2
        self.is_embedded = is_embedded
        self.allow_paths = allow_paths
        if self.device.type == "cuda":
            avoid_cudnn()

    @property
    def device(self) -> torch.device:
        return self.model.projector.fc1.weight.device  # the MLLM may be packed, or spread over several devices

    @property
    def dtype(self) -> torch.dtype:
        return self.model.projector.fc1.weight.dtype

    # ---- open

    def open_media(self, source: Any, *, allow_stream: bool = False) -> Media:
        """Open a picture, a clip or a stream; see `sa2va.media.source.open_media`."""
        media = open_media(source, allow_stream=allow_stream, allow_paths=self.allow_paths)
        if self.is_embedded:
            warn_once()
        return media

    @advise_on_memory()
    def open(self, request: Request, options: Options | None = None) -> Query:
        """Check a request, open its media and decode its key frames.

        Args:
            request: with options of its own, or without.
            options: of a request that has none.

        Raises:
            ValueError: the media cannot be read, a region lies outside the picture, or these are no options.
        """
        options = Options.read(options if request.options is None else request.options)
        sources: tuple[Path, ...] = ()
        if request.images is not None:
            opened = [self.open_media(image) for image in request.images]
            if not opened or not all(media.is_image for media in opened):
                raise ValueError("images: expected one or more pictures; pass a video as media")
            media, pictures, keyframes = opened[0], [one.frames([0]) for one in opened], [0]
            mode = self.choose_mode(media, options)
            sources = tuple(path for one in opened[1:] for path in one.files)
        else:
            media = self.open_media(request.media)
            mode = self.choose_mode(media, options)
            keyframes, frames = self.read_keyframes(media, mode, options)
            pictures = [frames]
        size = media.height, media.width
        regions = tuple(masks.region_to_mask(one, *size) for one in masks.split_regions(request.regions, *size))
        return Query(
            media=media,
            pictures=pictures,
            keyframes=keyframes,
            turn=Turn(question=request.prompt, answer="", regions=regions),
            mode=mode,
            options=options,
            stop=request.stop,
            sources=sources,
        )

    def choose_mode(self, media: Media, options: Options) -> str:
        """Choose whose SAM 2 tracks: the original one where it is loaded, unless the options say otherwise."""
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

    def read_keyframes(
        self, media: Media, mode: str, options: Options, choice: str | None = None
    ) -> tuple[list[int], Frames]:
        """Decode the frames that the MLLM reads: as many and where the model was trained to, unless a caller says so.

        Returns:
            K indices and the frames (K, H, W, 3).
        """
        if choice is None:
            choice = "uniform" if mode == "consistent" else self.model.config.keyframes
        return choose_keyframes(media, choice, self.num_keyframes(options))

    def num_keyframes(self, options: Options) -> int:
        """Return K: the model's own number of key frames unless the options say otherwise."""
        return self.model.config.num_keyframes if options.num_keyframes is None else options.num_keyframes

    # ---- prefill and decode

    @plain_inference()
    def prefill(self, queries: Sequence[Query], room: int | None = None) -> tuple[TextStream, Tensor]:
        """Run all prompts, padded on the left.

        Args:
            queries: B of them.
            room: tokens that each answer needs; None = by its options.

        Returns:
            The stream, and the last states (B, D).

        Raises:
            ValueError: a prompt leaves less room than its answer needs.
        """
        prompts = self.processor.prompts([(query.turn, query.pictures) for query in queries])
        rooms = [query.options.room if room is None else room for query in queries]
        return self._start(self.model.encode(prompts.to(self.device)), rooms)

    def _start(self, inputs: TextInput, rooms: Sequence[int]) -> tuple[TextStream, Tensor]:
        for number, room in zip(inputs.next_positions.tolist(), rooms, strict=True):
            self.model.mllm.check_length(number, room)
        stream = TextStream(self.model.mllm)
        return stream, stream.start(inputs)[:, -1]

    def decode(
        self, stream: TextStream, last: Tensor, options: Sequence[Options], stops: Sequence[StopFlag] | None = None
    ) -> Decoding:
        """Prepare to decode the answers; iterate the result, or finish() it.

        Args:
            stream: of B prompts.
            last: (B, D) their last states.
            options: B of them.
            stops: B of them; None = nobody cancels.
        """
        most, processor = self.model.mllm.max_places, self.processor
        rules = [
            DecodingRules(
                end_ids=processor.end_ids,
                has_ended=processor.has_ended,
                seg_ids=processor.seg_tokens,
                max_new_tokens=one.max_new_tokens if most is None else min(one.max_new_tokens, most - position),
                temperature=one.temperature,
                seed=one.seed,
                stop=stop,
            )
            for one, stop, position in zip(options, stops or [never] * len(options), stream.next_positions, strict=True)
        ]
        return Decoding(self.model.mllm, stream, last, rules)

    def read_answer(self, decoding: Decoding, row: int, options: Options, num_frames: int) -> GroundedAnswer:
        """Return one row's answer so far, about K key frames.

        Raises:
            Cancelled: its stop flag ended it.
        """
        if decoding.cancelled[row]:
            raise Cancelled("the answer was cancelled")
        states = decoding.seg_states[row]
        none = torch.zeros(0, self.model.mllm.width, device=self.device, dtype=self.dtype)
        seg_states = torch.stack(states) if states else none
        return self.ground_tokens(decoding.token_ids[row], seg_states, options, num_frames)

    def ground_tokens(
        self, token_ids: Sequence[int], seg_states: Tensor, options: Options, num_frames: int
    ) -> GroundedAnswer:
        """Turn an answer into text and objects.

        Args:
            token_ids: of the answer.
            seg_states: (M, D) at its mask tokens.
            options: with the most objects.
            num_frames: K, key frames that it is about.
        """
        groups = self.processor.group_objects(token_ids, num_frames)[: options.max_objects]
        per_object = len(self.model.design.object_tokens(num_frames))
        index = torch.tensor(groups, dtype=torch.long, device=seg_states.device).reshape(-1, per_object)
        text = self.processor.decode(token_ids).strip()
        return GroundedAnswer(text, seg_states[index], self.processor.phrases(token_ids, len(groups), num_frames))

    def answer(self, queries: Sequence[Query]) -> list[GroundedAnswer | Cancelled]:
        """Prefill and decode a batch to its end; each answer is the one that the query has alone."""
        stream, last = self.prefill(queries)
        stops = [query.stop for query in queries]
        decoding = self.decode(stream, last, [query.options for query in queries], stops).finish()
        answers: list[GroundedAnswer | Cancelled] = []
        for row, query in enumerate(queries):
            try:
                answers.append(self.read_answer(decoding, row, query.options, len(query.keyframes)))
            except Cancelled as cancelled:
                answers.append(cancelled)
        return answers

    @plain_inference()
    def answer_about(
        self, frames: Frames, prompts: Sequence[str], options: Options, stop: StopFlag = never
    ) -> list[GroundedAnswer]:
        """Answer several prompts about the same key frames, which the vision encoder reads once.

        Each prompt is prefilled by itself: padded into a batch, its last bits and so the edges of masks would move.

        Args:
            frames: (K, H, W, 3).
            prompts: at least one.
            options: of all prompts.
            stop: cancels all prompts.

        Raises:
            ValueError: a prompt is empty or too long.
            Cancelled: the stop flag was set.
        """
        turns = [Turn(question=check_text(prompt, "prompt"), answer="") for prompt in prompts]
        pictures = self.processor.read_pictures(frames)
        num_tokens = [picture.num_tokens for picture in pictures]
        rows = [self.processor.encode_question(turn, num_tokens) for turn in turns]
        first = Prompts(**self.processor.collate(rows[:1], [pictures], left=True)).to(self.device)
        inputs, answers = self.model.encode(first), []
        is_image = first.input_ids[0] == self.model.mllm.image_token_id
        start = int(is_image.nonzero().max()) + 1
        for ids, _ in rows:
            assert ids[:start] == rows[0][0][:start], "the template puts pictures after the question"
            text = torch.tensor([ids[start:]], device=self.device)
            own = replace_text(inputs, start, self.model.mllm.embed_tokens(text))
            stream, last = self._start(own, [options.room])
            decoding = self.decode(stream, last, [options], [stop]).finish()
            answers.append(self.read_answer(decoding, 0, options, len(frames)))
        return answers

    # ---- draw

    @plain_inference()
    def encode_pictures(self, queries: Sequence[Query]) -> FrameFeatures:
        """Run SAM 2's image encoder on the picture of each query."""
        pixels = torch.cat([self.processor.sam_pixel_values(query.pictures[0]) for query in queries])
        return MaskPrompting(self.model, queries[0].options).encode(pixels)

    @plain_inference()
    def draw_pictures(self, pairs: Sequence[tuple[Query, GroundedAnswer]]) -> list[Prediction]:
        """Decode the masks of pictures, all in one decoder batch."""
        drawn = [(query, answer) for query, answer in pairs if len(answer.seg_states)]
        if drawn:
            features = drawn[0][0].features or self.encode_pictures([query for query, _ in drawn])
            owner = [row for row, (_, answer) in enumerate(drawn) for _ in answer.seg_states]
            states = torch.cat([answer.seg_states for _, answer in drawn]).flatten(0, -2)
            output = self.model.decode_masks(states, features, one_frame_rows(torch.tensor(owner)))
        predictions, done = [], 0
        for query, answer in pairs:
            results: list[FrameResult] = []
            if number := len(answer.seg_states):
                part, done = output.select(slice(done, done + number)), done + number
                size = query.media.height, query.media.width
                prompting = MaskPrompting(self.model, query.options)
                objects = prompting.describe(part, range(1, number + 1), answer.phrases, size)
                results = [FrameResult(index=0, time=0.0, objects=objects)]
            presence = {found.id: found.presence for result in results for found in result.objects}
            predictions.append(
                Prediction.collect(results, presence, text=answer.text, media=query.media, sources=query.sources)
            )
        return predictions

    def draw_clip(self, query: Query, answer: GroundedAnswer) -> Prediction:
        """Decode the masks of a clip on its key frames and track them through all frames.

        Raises:
            Cancelled: the query's stop flag was set.
        """
        with self.start_session(query.media, query.mode, query.options, stop=query.stop) as session:
            session.prompt(answer, query.keyframes, query.pictures[0])
            return session.finish()

    def draw(
        self, queries: Sequence[Query], answers: Sequence[GroundedAnswer | Exception]
    ) -> list[Prediction | Exception]:
        """Draw the masks of a batch: pictures together, clips one after the other.

        Returns:
            A prediction per query, or the error of its answer or its own.
        """
        found: dict[int, Prediction | Exception] = {}
        pairs: dict[int, tuple[Query, GroundedAnswer]] = {}
        for i, (query, answer) in enumerate(zip(queries, answers, strict=True)):
            if isinstance(answer, Exception):
                found[i] = answer
            else:
                pairs[i] = query, answer
        pictures = [i for i, (query, _) in pairs.items() if not query.is_clip]
        found |= zip(pictures, run_halving(self.draw_pictures, [pairs.pop(i) for i in pictures]), strict=True)
        for i, pair in pairs.items():
            try:
                with advise_on_memory():
                    found[i] = self.draw_clip(*pair)
            except (ValueError, Cancelled) as error:
                found[i] = error
        return [found[i] for i in range(len(queries))]

    def run(self, queries: Sequence[Query]) -> list[Prediction | Exception]:
        """Answer a batch with masks; what does not fit the memory at once is answered in halves.

        Returns:
            A prediction per query, or its ValueError or Cancelled.
        """
        return self.draw(queries, run_halving(self.answer, queries))

    # ---- track

    def start_session(
        self,
        media: Media,
        mode: str,
        options: Options,
        *,
        max_conditioning: int | None = None,
        stop: StopFlag = never,
        **how: Any,
    ) -> TrackSession:
        """Start a track session without objects.

        Args:
            media: is tracked.
            mode: "official" or "consistent".
            options: of the masks, and of expressions that are added later.
            max_conditioning: prompted frames that an object may read at once; None = DEFAULT_CONDITIONING, K at least.
            stop: cancels the session.
            how: `chunk` and `prefetch` of TrackSession.
        """
        prompting = MaskPrompting(self.model, options)
        if mode == "consistent":
            assert self.original_sam2 is not None
            prompting = ConsistentMaskPrompting(self.model, self.original_sam2, options)

        def ask(frames: Frames, expression: str) -> GroundedAnswer:
            return self.answer_about(frames, [SEGMENT_REQUEST.format(expression)], options, stop)[0]

        if max_conditioning is None:
            max_conditioning = max(DEFAULT_CONDITIONING, self.num_keyframes(options))
        how |= {"max_conditioning": max_conditioning, "stop": stop}
        return TrackSession(prompting, self.processor, media, ask=ask, **how)
