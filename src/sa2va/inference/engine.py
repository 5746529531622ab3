"""Run the steps of a prediction: open the request, prefill, decode text, decode masks, track.

Flow: Request -> open -> Query -> prefill -> decode -> GroundedAnswer -> draw -> Prediction, or track -> TrackSession.
    predictor.py and conversation.py call these steps; a server may call them too.
Source: Sa2VA, arXiv:2501.04001, for the order of the steps.
Shapes: B requests, L tokens, D MLLM width, N objects, K key frames, T frames.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sa2va import masks
from sa2va.inference.answer_text import AnswerText
from sa2va.inference.compiling import CompileMode, Compiler
from sa2va.inference.decoding import Decoding, DecodingRules, TextStream, replace_text
from sa2va.inference.embedded import warn_once
from sa2va.inference.halving import advise_on_memory, run_halving
from sa2va.inference.keyframes import choose_keyframes
from sa2va.inference.query import Query, group_clips, group_pictures
from sa2va.inference.requests import Cancelled, Options, Request, StopFlag, never
from sa2va.inference.results import FrameResult, Prediction
from sa2va.inference.tracking.consistent import build_prompting
from sa2va.inference.tracking.mask_prompting import GroundedAnswer, MaskPrompting, encode_in_groups
from sa2va.inference.tracking.session import DEFAULT_CONDITIONING, TrackSession
from sa2va.inference.unpicklable import Unpicklable
from sa2va.media.source import Media, open_media
from sa2va.model.attention import avoid_cudnn
from sa2va.model.batch import Prompts
from sa2va.model.families.protocol import TextInput
from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.model.sam.sam2 import FrameFeatures, Sam2
from sa2va.model.seg_design import one_frame_rows
from sa2va.model.torch_defaults import plain_inference
from sa2va.tokens import SEGMENT_REQUEST, check_text
from sa2va.types import Frames, Turn


class Engine(Unpicklable):
    """Model, processor and the steps of a prediction.

    Thread-safe: calls only read the model, and mutable state is local to each call.
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
        """Put a model into eval mode.

        Args:
            model, processor: of one checkpoint.
            original_sam2: tracks in mode "consistent", where the model's own SAM 2 only decodes key frames.
            is_embedded: the model was trained on synthetic scenes only; other media cause a warning.
            allow_paths: False refuses paths and URLs as media, for untrusted requests.
            compile: see `Compiler`.
        """
        self.model = model.eval()
        self.model.mllm.fix_positions()
        self.processor = processor
        self.original_sam2 = original_sam2
        self.is_embedded = is_embedded
        self.allow_paths = allow_paths
        self.compiler = Compiler(compile, self.device)
        if self.device.type == "cuda":
            avoid_cudnn()

    @property
    def device(self) -> torch.device:
        return self.model.projector.fc1.weight.device  # the MLLM may be quantized, or dispatched to several devices

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
            request: media, prompt, regions; its own options take precedence.
            options: used if the request has none; None = the defaults.

        Raises:
            ValueError: the media cannot be read, a region lies outside the picture, or `options` has another type.
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
        """Choose the video mode: "consistent" if the original SAM 2 is loaded, unless `options.mode` is "official"."""
        if options.mode == "official" or (options.mode == "auto" and self.original_sam2 is None):
            return "official"
        if options.mode == "consistent" and media.is_image:
            warnings.warn("mode consistent is for clips; a picture is segmented in mode official", stacklevel=2)
        elif self.original_sam2 is None:
            warnings.warn(
                "mode consistent needs the original SAM 2, as in load(..., sam='facebook/sam2-hiera-large'); "
                "falling back to mode official",
                stacklevel=2,
            )
        return "official" if media.is_image or self.original_sam2 is None else "consistent"

    def read_keyframes(self, media: Media, mode: str, options: Options) -> tuple[list[int], Frames]:
        """Decode the key frames for the MLLM: by the options, else uniform in mode "consistent", else as in training.

        Returns:
            K indices and the frames (K, H, W, 3).
        """
        choice = options.keyframes or ("uniform" if mode == "consistent" else self.model.config.keyframes)
        return choose_keyframes(media, choice, self.num_keyframes(options))

    def num_keyframes(self, options: Options) -> int:
        """Return K, the number of key frames: `options.num_keyframes`, else the model's default."""
        return self.model.config.num_keyframes if options.num_keyframes is None else options.num_keyframes

    # ---- prefill and decode

    @plain_inference()
    def prefill(self, queries: Sequence[Query], room: int | None = None) -> tuple[TextStream, Tensor]:
        """Prefill the prompts as one batch, padded on the left.

        Args:
            queries: B of them.
            room: number of tokens reserved for each answer; None = as the options of its query say.

        Returns:
            The stream, and the last hidden states (B, D).

        Raises:
            ValueError: a prompt leaves too few tokens for its answer.
        """
        prompts = self.processor.prompts([(query.turn, query.pictures) for query in queries])
        rooms = [query.options.room if room is None else room for query in queries]
        return self._start(self.model.encode(prompts), rooms)

    def _start(self, inputs: TextInput, rooms: Sequence[int]) -> tuple[TextStream, Tensor]:
        for number, room in zip(inputs.next_positions.tolist(), rooms, strict=True):
            self.model.mllm.check_length(number, room)
        compiled = self.compiler.wrap("token step", self.model.mllm.token_step, dynamic=True)
        stream = TextStream(self.model.mllm, compiled if self.compiler.is_on else None)
        return stream, stream.start(inputs)[:, -1]

    def decode(
        self, stream: TextStream, last: Tensor, options: Sequence[Options], stops: Sequence[StopFlag] | None = None
    ) -> Decoding:
        """Build the Decoding of a batch of prompts; iterate it, or call its finish().

        Args:
            stream: of B prompts.
            last: (B, D) their last hidden states.
            options: B of them.
            stops: B of them; None = not cancellable.
        """
        most = self.model.mllm.max_places
        rules = [
            DecodingRules(
                end_ids=self.processor.end_ids,
                has_ended=AnswerText(self.processor, one.stop).has_ended,
                seg_ids=self.processor.seg_tokens,
                max_new_tokens=one.max_new_tokens if most is None else min(one.max_new_tokens, most - position),
                temperature=one.temperature,
                top_p=one.top_p,
                seed=one.seed,
                stop=stop,
            )
            for one, stop, position in zip(options, stops or [never] * len(options), stream.next_positions, strict=True)
        ]
        return Decoding(self.model.mllm, stream, last, rules)

    def read_answer(self, decoding: Decoding, row: int, options: Options, num_frames: int) -> GroundedAnswer:
        """Return the answer of one row as decoded so far, cut before a stop string; `num_frames` is K.

        Raises:
            Cancelled: its stop flag was set.
        """
        if decoding.cancelled[row]:
            raise Cancelled("the answer was cancelled")
        ids, text = AnswerText(self.processor, options.stop).cut(decoding.token_ids[row])
        answer = self.ground_tokens(ids, decoding.stack_seg_states(row, ids), options, num_frames)
        return replace(answer, text=text.strip())

    def ground_tokens(
        self, token_ids: Sequence[int], seg_states: Tensor, options: Options, num_frames: int
    ) -> GroundedAnswer:
        """Convert an answer's tokens to text and objects with [SEG] states.

        Args:
            token_ids: of the answer.
            seg_states: (M, D), hidden states at its mask tokens.
            options: limit the number of objects.
            num_frames: K, number of key frames.
        """
        groups = self.processor.group_objects(token_ids, num_frames)[: options.max_objects]
        per_object = len(self.model.design.object_tokens(num_frames))
        index = torch.tensor(groups, dtype=torch.long, device=seg_states.device).reshape(-1, per_object)
        text = self.processor.decode(token_ids).strip()
        return GroundedAnswer(text, seg_states[index], self.processor.phrases(token_ids, len(groups), num_frames))

    def answer(self, queries: Sequence[Query]) -> list[GroundedAnswer | Cancelled]:
        """Prefill and decode a batch; each answer equals that of its query run by itself."""
        stops = [query.stop for query in queries]
        decoding = self.decode(*self.prefill(queries), [query.options for query in queries], stops).finish()
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
        """Answer several prompts about the same key frames; the vision encoder runs once.

        Each prompt is prefilled by itself: padding in a batch would change the last bits of its states and, with them,
        the edges of masks.

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
        first = Prompts(**self.processor.collate(rows[:1], [pictures], left=True))
        inputs, answers = self.model.encode(first), []
        start = int((first.input_ids[0] == self.model.mllm.image_token_id).nonzero().max()) + 1
        for ids, _ in rows:
            assert ids[:start] == rows[0][0][:start], "the template puts pictures after the question"
            own = replace_text(inputs, start, self.model.mllm.embed_text(ids[start:], self.device))
            stream, last = self._start(own, [options.room])
            decoding = self.decode(stream, last, [options], [stop]).finish()
            answers.append(self.read_answer(decoding, 0, options, len(frames)))
        return answers

    # ---- decode masks

    @plain_inference()
    def encode_pictures(self, queries: Sequence[Query]) -> FrameFeatures:
        """Run SAM 2's image encoder on the picture of each query."""
        sam_frames = torch.cat([self.processor.sam_frames(query.pictures[0]) for query in queries])
        return encode_in_groups(self.model.sam2, sam_frames)

    @plain_inference()
    def decode_pictures(self, pairs: Sequence[tuple[Query, GroundedAnswer]]) -> list[Prediction]:
        """Decode the masks of pictures, all in one decoder batch."""
        masked = [(query, answer) for query, answer in pairs if len(answer.seg_states)]
        if masked:
            shown, index = group_pictures([query for query, _ in masked])
            features = masked[0][0].features or self.encode_pictures(shown)
            owner = [row for row, (_, answer) in zip(index, masked, strict=True) for _ in answer.seg_states]
            states = torch.cat([answer.seg_states for _, answer in masked]).flatten(0, -2)
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

    def track_clips(self, pairs: Sequence[tuple[Query, GroundedAnswer]]) -> list[Prediction]:
        """Decode the masks of answers about one clip on its key frames and track them together through all frames.

        Raises:
            Cancelled: the stop flag was set.
        """
        query, answers = pairs[0][0], [answer for _, answer in pairs]
        with self.start_session(query.media, query.mode, query.options, stop=query.stop) as session:
            session.prompt(GroundedAnswer.join(answers), query.keyframes, query.pictures[0])
            return session.finish().split([(answer.text, len(answer.phrases)) for answer in answers])

    def decode_masks(
        self, queries: Sequence[Query], answers: Sequence[GroundedAnswer | Exception]
    ) -> list[Prediction | Exception]:
        """Decode the masks of a batch: pictures in one decoder batch, clips one at a time with all answers about each.

        Returns:
            Per query a prediction, or the error of its answer or of its mask decoding.
        """
        found: dict[int, Prediction | Exception] = {}
        pairs: dict[int, tuple[Query, GroundedAnswer]] = {}
        for i, (query, answer) in enumerate(zip(queries, answers, strict=True)):
            if isinstance(answer, Exception):
                found[i] = answer
            else:
                pairs[i] = query, answer
        pictures = [i for i, (query, _) in pairs.items() if not query.is_clip]
        found |= zip(pictures, run_halving(self.decode_pictures, [pairs.pop(i) for i in pictures]), strict=True)
        for group in group_clips({i: query for i, (query, _) in pairs.items()}):
            try:
                found |= zip(group, run_halving(self.track_clips, [pairs[i] for i in group]), strict=True)
            except Cancelled as error:
                found[group[0]] = error  # a query with a stop flag is a group of its own
        return [found[i] for i in range(len(queries))]

    def run(self, queries: Sequence[Query]) -> list[Prediction | Exception]:
        """Predict a batch with masks; a batch that fails or runs out of memory is retried in halves.

        Returns:
            A prediction per query, or its ValueError or Cancelled.
        """
        return self.decode_masks(queries, run_halving(self.answer, queries))

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
        """Start a tracking session without objects.

        Args:
            media: source to track.
            mode: "official" or "consistent".
            options: of the masks and of expressions added later.
            max_conditioning: prompted frames that memory attention reads; None = DEFAULT_CONDITIONING, at least K.
            stop: cancels the session.
            how: `chunk` and `prefetch` of TrackSession.
        """
        original = self.original_sam2 if mode == "consistent" else None
        prompting = build_prompting(self.model, original, options, self.compiler, media.num_frames or 0)

        def ask(frames: Frames, expression: str) -> GroundedAnswer:
            return self.answer_about(frames, [SEGMENT_REQUEST.format(expression)], options, stop)[0]

        most = max(DEFAULT_CONDITIONING, self.num_keyframes(options)) if max_conditioning is None else max_conditioning
        return TrackSession(prompting, self.processor, media, ask=ask, max_conditioning=most, stop=stop, **how)
