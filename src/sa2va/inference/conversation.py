"""Talk about one picture or clip: what was seen and said is kept between questions.

Flow: question -> the part of the prompt that is new -> TextStream (KV cache of all before) -> Decoding -> Prediction.
Source: Sa2VA, arXiv:2501.04001, for the order of things.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from sa2va.inference.engine import Answerer, Query
from sa2va.inference.results import Options, Prediction, Request, StaysInProcess
from sa2va.model.mllm import Decoding, TextStream
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.model.torch_defaults import plain_defaults


class Conversation(StaysInProcess):
    """Questions and answers about one picture or clip.

    The pictures and what was said stay in the KV cache, and what SAM 2 sees in a picture stays too. A clip's frames
    are too many to be kept: each answer with masks goes through them anew. A question whose answer was not read to its
    end is forgotten.
    """

    instead = "begin another with open(media), in a process of its own after sa2va.load(...)"

    def __init__(self, answerer: Answerer, media: Any) -> None:
        self._answerer = answerer
        self.media = answerer._open_media(media)
        if not self.media.seekable:
            raise ValueError(f"{self.media.name}: a conversation needs a source that can be rewound; pass a file")
        self._stream: TextStream | None = None
        self._is_ended = False  # the last answer said its own end
        self._is_answering = False
        self._features: FrameFeatures | None = None  # of a picture, once a mask has been asked for

    def ask(
        self, prompt: str, regions: Sequence[Any] | NDArray[Any] | None = None, options: Options | None = None
    ) -> Prediction:
        """Ask the next question; regions can be marked in the first one.

        Raises:
            ValueError: an empty or overlong question, a region that is not on the picture or comes too late, or an
                answer that is still being streamed.
        """
        options = Options.read(options)
        with self._question():
            query, decoding = self._begin(prompt, regions, options)
            return self._end(query, decoding.finish(), options)

    def stream(
        self, prompt: str, regions: Sequence[Any] | NDArray[Any] | None = None, options: Options | None = None
    ) -> Generator[str, None, Prediction]:
        """Ask the next question and yield the answer's text piece by piece; return the whole prediction.

        Raises:
            ValueError: as `ask`, once the first piece is asked for.
        """
        options = Options.read(options)
        with self._question():
            query, decoding = self._begin(prompt, regions, options)
            yield from self._pieces(decoding)
            return self._end(query, decoding, options)

    @contextmanager
    def _question(self) -> Generator[None]:
        """Let one question at a time be answered, and forget it where its answer does not come to an end."""
        if self._is_answering:
            raise ValueError("the answer before is still being streamed; read it to its end, or close() it")
        stream, is_ended = self._stream, self._is_ended
        mark = None if stream is None else stream.mark()
        self._is_answering = True
        try:
            yield
        except BaseException:  # an answer that is left, too
            self._stream, self._is_ended = stream, is_ended
            if stream is not None and mark is not None:
                stream.go_back(mark)
            raise
        finally:
            self._is_answering = False

    def _pieces(self, decoding: Decoding) -> Generator[str]:
        """Yield text as soon as no later token can change it."""
        processor, shown = self._answerer.processor, ""
        for _ in decoding:
            text = processor.decode(decoding.token_ids[0])
            if processor.is_settled(text) and text != shown:
                yield text[len(shown) :]
                shown = text
        rest = processor.decode(decoding.token_ids[0])[len(shown) :]
        if rest:
            yield rest

    @plain_defaults()
    def _begin(
        self, prompt: str, regions: Sequence[Any] | NDArray[Any] | None, options: Options
    ) -> tuple[Query, Decoding]:
        answerer = self._answerer
        query = answerer._open(Request(self.media, prompt, regions), options)
        if self._stream is None:
            self._stream, last = answerer._prefill([query], options.room)
        else:
            if query.turn.regions:
                raise ValueError("regions can be marked in the first question of a conversation; open a new one")
            ids = answerer.processor.encode_follow_up(query.turn, is_ended=self._is_ended)
            answerer.model.mllm.check_length(self._stream.next_place + len(ids), options.room)
            with torch.no_grad():
                embeds = answerer.model.mllm.embed_tokens(torch.tensor([ids], device=answerer.device))
                last = self._stream.append(embeds)[:, -1]
        return query, answerer._decoding(self._stream, last, options)

    @plain_defaults()
    def _end(self, query: Query, decoding: Decoding, options: Options) -> Prediction:
        answerer = self._answerer
        self._is_ended = decoding.said_end[0]
        states = answerer._stack(decoding.seg_states[0])
        if len(states) and not query.is_clip:
            self._features = self._features or answerer._see([query])
            query = replace(query, features=self._features)
        return answerer._finish([query], [(decoding.token_ids[0], states)], options)[0]
