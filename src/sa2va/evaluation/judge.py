"""Ask a language model how well an answer agrees with a reference: 0 to 3, through any OpenAI-compatible server.

Flow: question, reference, answer -> Judge.rate -> judge-*.jsonl (verdict by judge model and content) -> scores.
Source: MMBench-Video, arXiv:2406.14515, for the scale. The wording is ours; `instructions` takes another one.
"""

import re
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from sa2va.endpoint import NUM_WORKERS, PAUSE, Endpoint, Unreachable, check_key, write_message
from sa2va.evaluation.benchmark import Record
from sa2va.journal import Journal, content_key

BEST = 3
INSTRUCTIONS = (
    "You compare an answer with the correct answer to a question about a video. Rate only the agreement of their "
    "meanings, not grammar or style, with one digit: 0 = wrong throughout, 1 = mostly wrong, 2 = mostly right, 3 = the "
    "same in meaning. Reply with the digit alone."
)
QUESTION = "Question: {question}\nCorrect answer: {reference}\nAnswer to rate: {answer}\nRating: "
FILE = "judge.jsonl"
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")


class Unjudged(ValueError):
    """An answer has no verdict, since there is no judge or its server is of no use."""


class Case(NamedTuple):
    """One answer to rate."""

    question: str
    reference: str
    answer: str


class Judge:
    """A language model behind an OpenAI-compatible server, and the verdicts that are stored."""

    def __init__(
        self,
        url: str | None = None,
        model: str | None = None,
        *,
        key: str | None = None,
        folder: Path | None = None,
        instructions: str = INSTRUCTIONS,
        pause: float = PAUSE,
    ) -> None:
        """Open the stored verdicts.

        Args:
            url: base of the server, as in "http://127.0.0.1:8000/v1"; None = only verdicts that are stored.
            model: its name, part of every stored verdict, since verdicts drift with it; None = the only stored one.
            key: sent as a bearer token; never stored.
            folder: keeps the verdicts in judge.jsonl; None keeps none.
            instructions: system prompt.
            pause: seconds before the first retry.

        Raises:
            ValueError: no address of a server, no name of its model, or a key that no header can hold.
        """
        check_key(key, "judge")
        self._endpoint = None if url is None else Endpoint(url, model, noun="judge", key=key, pause=pause)
        self._model, self._instructions = model, instructions
        self._journal = None if folder is None else Journal(folder / FILE)

    def rate_all(self, cases: Sequence[Case]) -> list[Record]:
        """Rate several answers at once; each verdict is stored when it comes."""
        with ThreadPoolExecutor(NUM_WORKERS if self._endpoint else 1) as pool:
            return list(pool.map(self.rate, cases))

    def rate(self, case: Case) -> Record:
        """Return a verdict: the stored one, else that of the server. A stored failure is tried again.

        Returns:
            `score` 0 to 3, or None if the server gave none; `judge`, `reply`, and `error` without a score.

        Raises:
            Unjudged: no verdict is stored, and there is no server, or it cannot be reached or refuses the request.
        """
        model = self._model or self._stored_model()
        key = content_key({"judge": model, "instructions": self._instructions, **case._asdict()})
        stored = None if self._journal is None else self._journal.get(key)
        if stored is not None and (stored["score"] is not None or self._endpoint is None):
            return stored
        if self._endpoint is None:
            raise Unjudged("its answers have no verdict of a judge yet; add --judge URL --judge-model NAME")
        verdict = {"judge": model, **self._ask(self._endpoint, QUESTION.format(**case._asdict()))}
        if self._journal is not None:
            self._journal.append(key, verdict)
        return verdict

    def _stored_model(self) -> str | None:
        names = set() if self._journal is None else {record["judge"] for _, record in self._journal.items()}
        if len(names) > 1:
            raise Unjudged(f"verdicts of {', '.join(sorted(names))} are stored; choose one with --judge-model NAME")
        return next(iter(names), None)

    def _ask(self, endpoint: Endpoint, prompt: str) -> Record:
        messages = [{"role": "system", "content": self._instructions}, write_message(prompt)]
        try:
            reply = endpoint.ask(messages, read_rating, "rating")
        except Unreachable as error:
            raise Unjudged(str(error)) from None
        verdict: Record = {"score": reply.value, "reply": reply.text}
        return verdict if reply.value is not None else verdict | {"error": reply.error}

    def close(self) -> None:
        """Close the file of verdicts."""
        if self._journal is not None:
            self._journal.close()


def read_rating(reply: str) -> int | None:
    """Read the only number of a reply, if it is 0, 1, 2 or 3."""
    numbers = _NUMBERS.findall(reply)
    return int(numbers[0]) if len(numbers) == 1 and numbers[0] in map(str, range(BEST + 1)) else None


_current: ContextVar[Judge | None] = ContextVar("_current", default=None)


@contextmanager
def judging(judge: Judge) -> Generator[None]:
    """Make a judge the one that benchmarks ask within the block, and close it then."""
    token = _current.set(judge)
    try:
        yield
    finally:
        _current.reset(token)
        judge.close()


def current_judge() -> Judge:
    """Return the judge of the innermost `judging`; without one, a judge with neither verdicts nor a server."""
    return _current.get() or Judge()
