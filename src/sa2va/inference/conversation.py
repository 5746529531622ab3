"""Hold a conversation about one image or clip; the KV cache is kept between questions.

Flow: question -> new tokens of the prompt -> TextStream (KV cache of earlier turns) -> Decoding -> Prediction.
Source: Sa2VA, arXiv:2501.04001, for the order of the steps.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from sa2va.inference.answer_text import AnswerText
from sa2va.inference.decoding import Decoding, TextStream
from sa2va.inference.engine import Engine
from sa2va.inference.halving import advise_on_memory
from sa2va.inference.query import Query
from sa2va.inference.requests import Options, Request, StopFlag, never
from sa2va.inference.results import Prediction
from sa2va.inference.unpicklable import Unpicklable
from sa2va.model.sam.sam2 import FrameFeatures
from sa2va.model.torch_defaults import plain_inference


class Conversation(Unpicklable):
    """Conversation about one image or clip.

    The KV cache holds the image tokens and the text of all turns. SAM 2's features of an image are cached too. A clip
    has too many frames for that, so each answer with masks tracks it again. A question that fails, is cancelled or
    whose answer is not read to its end is removed from the cache.
    """

    instead = "begin another with open(media), in a process of its own after sa2va.load(...)"

    def __init__(self, engine: Engine, media: Any) -> None:
        self._engine = engine
        self.media = engine.open_media(media)
        if not self.media.seekable:
            raise ValueError(f"{self.media.name}: a conversation needs a source that can be rewound; pass a file")
        self._stream: TextStream | None = None
        self._is_ended = False  # the last answer contains the end string of the template
        self._answering = Lock()
        self._features: FrameFeatures | None = None  # of an image, cached at the first answer with masks

    def ask(
        self,
        prompt: str,
        regions: Sequence[Any] | NDArray[Any] | None = None,
        options: Options | None = None,
        stop: StopFlag = never,
    ) -> Prediction:
        """Answer the next question; only the first one can have regions.

        Raises:
            ValueError: the question is empty or too long, a region lies outside the image or comes after the first
                question, or the previous answer is still being streamed.
            Cancelled: the stop flag was set.
        """
        with self._question():
            query, decoding = self._begin(Request(self.media, prompt, regions, options=options, stop=stop))
            return self._end(query, decoding.finish())

    def stream(
        self,
        prompt: str,
        regions: Sequence[Any] | NDArray[Any] | None = None,
        options: Options | None = None,
        stop: StopFlag = never,
    ) -> Generator[str, None, Prediction]:
        """Answer the next question: yield the text piece by piece and return the prediction.

        Raises:
            ValueError, Cancelled: as `ask`, at the first `next()`.
        """
        request = Request(self.media, prompt, regions, options=options, stop=stop)
        with self._question():
            query, decoding = self._begin(request)
            yield from self._pieces(query, decoding)
            return self._end(query, decoding)

    @contextmanager
    def _question(self) -> Generator[None]:
        """Lock the conversation during a question; remove a failed or unfinished one from the cache."""
        if not self._answering.acquire(blocking=False):
            raise ValueError("the previous answer is still being streamed; read it to its end, or close() it")
        stream, is_ended = self._stream, self._is_ended
        mark = None if stream is None else stream.mark()
        try:
            with advise_on_memory():
                yield
        except BaseException:  # also when a stream is abandoned
            self._stream, self._is_ended = stream, is_ended
            if stream is not None and mark is not None:
                stream.go_back(mark)
            raise
        finally:
            self._answering.release()

    def _pieces(self, query: Query, decoding: Decoding) -> Generator[str]:
        """Yield text as soon as no later token can change it."""
        reader, shown = AnswerText(self._engine.processor, query.options.stop), ""
        for _ in decoding:
            text = reader.read(decoding.token_ids[0])
            if reader.is_settled(text) and text != shown:
                yield text[len(shown) :]
                shown = text
        if rest := reader.read(decoding.token_ids[0])[len(shown) :]:
            yield rest

    @plain_inference()
    def _begin(self, request: Request) -> tuple[Query, Decoding]:
        """Prefill the new tokens and prepare the decoding of the answer."""
        engine = self._engine
        query = engine.open(request)
        if self._stream is None:
            self._stream, last = engine.prefill([query])
        else:
            if query.turn.regions:
                raise ValueError("regions can be marked in the first question of a conversation; open a new one")
            ids = engine.processor.encode_follow_up(query.turn, is_ended=self._is_ended)
            engine.model.mllm.check_length(self._stream.next_positions[0] + len(ids), query.options.room)
            last = self._stream.append(engine.model.mllm.embed_text(ids, engine.device))[:, -1]
        return query, engine.decode(self._stream, last, [query.options], [query.stop])

    def _end(self, query: Query, decoding: Decoding) -> Prediction:
        """Remove a stop string from the cache and decode the masks of a finished answer."""
        engine, token_ids = self._engine, decoding.token_ids[0]
        answer = engine.read_answer(decoding, 0, query.options, len(query.keyframes))
        kept, _ = AnswerText(engine.processor, query.options.stop).cut(token_ids)
        assert self._stream is not None
        self._stream.drop_last(len(token_ids) - len(kept))
        self._is_ended = engine.processor.has_ended(kept)
        if query.is_clip:
            return engine.track_clips([(query, answer)])[0]
        if len(answer.seg_states):
            self._features = self._features or engine.encode_pictures([query])
        return engine.decode_pictures([(replace(query, features=self._features), answer)])[0]
