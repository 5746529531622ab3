"""Caption objects and check expressions with a model behind an OpenAI-compatible server.

Flow: View -> EndpointCaptioner: a crop, an outlined frame, outlined frames with a question -> Part; View, Part ->
    EndpointChecker: the outlined object and the expression, yes or no -> Verdict.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sa2va.endpoint import NUM_WORKERS, Endpoint, Unreachable, write_message
from sa2va.metrics.text import normalize
from sa2va.synth.captioner import CLIP, FIRST, LARGEST, OBJECT, SCENE, VIDEO, Part, Parts, Verdict
from sa2va.synth.local import DISAGREE
from sa2va.synth.views import View
from sa2va.tokens import strip_expression
from sa2va.types import Frame

DESCRIBE = (
    "Describe the object in the middle of this crop in one noun phrase: what it is, its color, its parts, what it "
    "wears or carries. Do not mention the background. Reply with the phrase alone."
)
DESCRIBE_OUTLINED = (
    "Describe the outlined object in one noun phrase: what it is, its color, its parts, what it wears or carries. "
    "Do not mention the outline. Reply with the phrase alone."
)
AGREE = (
    "Two people describe an object. First: {}. Second: {}. Do the descriptions contradict each other? Reply with yes "
    "or no alone."
)
RELATE = (
    "The outlined object is: {}. Say in one sentence where it is in the scene and how it relates to the things around "
    "it, so that nothing else fits. Do not mention the outline. Reply with the sentence alone."
)
NARRATE = (
    "These are {} frames of a video in order. The outlined object is: {}. Say in one sentence how it moves and what it "
    "does. Do not mention the outline or the frames. Reply with the sentence alone."
)
MERGE = (
    "Join these statements about one object to a fluent description of two or three sentences. Add nothing, leave "
    "nothing out. Reply with the description alone.\n{}"
)
CHECK = 'Does this text fit the outlined object, and no other object in the {}? "{}" Reply with yes or no alone.'
_NO_ANSWER = "the model gives no answer"

Show = Callable[[], Sequence[Frame]]  # draws the pictures of a question when it is asked, since all take gigabytes


def ask_each(
    endpoint: Endpoint,
    prompts: Sequence[str],
    shows: Sequence[Show],
    read: Callable[[str], str | None],
    wanted: str,
) -> list[str]:
    """Ask several questions at once.

    Args:
        endpoint: the model.
        prompts: the questions.
        shows: the pictures of each question.
        read: turns a reply into a value; None = ask again.
        wanted: what a reply must hold, for errors.

    Returns:
        A value per question; "" if the model's replies were of no use.

    Raises:
        Unreachable: the server cannot be reached, refuses the request, or stays busy or broken.
    """

    def ask(number: int) -> str:
        reply = endpoint.ask([write_message(prompts[number], shows[number]())], read, wanted)
        if not reply.is_answered:
            raise Unreachable(f"{endpoint.noun} {endpoint.url}: {reply.error}; the same command again goes on")
        return reply.value or ""

    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        return list(pool.map(ask, range(len(prompts))))


def read_line(reply: str) -> str | None:
    """Return a reply in one line without its closing stop; None if it has no word."""
    return strip_expression(" ".join(reply.strip("\"'` \n").split())) or None


def read_yes(reply: str) -> str | None:
    """Return "yes" or "no" if a reply begins so."""
    word = normalize(reply).partition(" ")[0]
    return word if word in ("yes", "no") else None


@dataclass(frozen=True)
class EndpointCaptioner:
    """Captions of a chat model that sees pictures."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        return f"{self.endpoint.model} at {self.endpoint.url}"

    def caption(self, level: str, views: Sequence[View], earlier: Sequence[Parts]) -> list[Part | None]:
        """Ask about the object of each view. See `Captioner`."""
        if level == OBJECT:
            return self._describe(views)
        known = [strip_expression(one[OBJECT].text) for one in earlier]
        if level == SCENE:
            prompts, shows = [RELATE.format(text) for text in known], [_alone(view.outlined) for view in views]
        else:
            prompts = [NARRATE.format(len(view.frames), text) for view, text in zip(views, known, strict=True)]
            shows = [view.outlined_frames for view in views]
        texts = ask_each(self.endpoint, prompts, shows, read_line, "sentence")
        look = CLIP if level == VIDEO else LARGEST
        return [Part(text=f"{text}.", expression=text, look=look) if text else None for text in texts]

    def _describe(self, views: Sequence[View]) -> list[Part | None]:
        """Describe the object from its crop and in its frame; the model says whether both agree."""
        num = len(views)
        shows = [_alone(view.crop) for view in views] + [_alone(view.outlined) for view in views]
        texts = ask_each(self.endpoint, [DESCRIBE] * num + [DESCRIBE_OUTLINED] * num, shows, read_line, "phrase")
        pairs = list(zip(texts[:num], texts[num:], strict=True))
        conflicts = ask_each(self.endpoint, [AGREE.format(*p) for p in pairs], [list] * num, read_yes, "yes or no")
        found: list[Part | None] = []
        for (first, second), conflict in zip(pairs, conflicts, strict=True):
            problem = "" if conflict == "no" else f"{DISAGREE}: {second!r:.80}"
            found.append(Part(text=f"{first}.", expression=first, problem=problem) if first and second else None)
        return found

    def merge(self, parts: Sequence[Parts]) -> list[str]:
        """Let the model write one text of the sentences."""
        statements = ["\n".join(f"- {part.text}" for part in one.values()) for one in parts]
        texts = ask_each(self.endpoint, [MERGE.format(s) for s in statements], [list] * len(parts), read_line, "text")
        return [f"{text}." if text else "" for text in texts]


@dataclass(frozen=True)
class EndpointChecker:
    """Asks a chat model whether an expression fits the outlined object and no other."""

    endpoint: Endpoint
    step: str = "check"

    @property
    def name(self) -> str:
        return f"{self.endpoint.model} at {self.endpoint.url}"

    def check(self, views: Sequence[View], parts: Sequence[Part]) -> list[Verdict]:
        """Ask about each expression. See `Checker`."""
        prompts = [CHECK.format("video" if part.look == CLIP else "picture", part.request) for part in parts]
        shows = [_choose(view, part.look) for view, part in zip(views, parts, strict=True)]
        replies = ask_each(self.endpoint, prompts, shows, read_yes, "yes or no")
        problems = {"yes": "", "no": "the checker says that it does not fit", "": _NO_ANSWER}
        return [Verdict(problem=problems[reply]) for reply in replies]


def _alone(draw: Callable[[], Frame]) -> Show:
    return lambda: [draw()]


def _choose(view: View, look: str) -> Show:
    if look == CLIP:
        return view.outlined_frames
    return (lambda: view.outlined_frames()[:1]) if look == FIRST else _alone(view.outlined)
