"""Ask about a drawn scene as chat benchmarks do: pairs of yes and no, lettered options, their wording.

Flow: Scene -> ask_pair -> MME, Scene -> draw_choices, pick_options -> the benchmarks with options (chat_benchmarks.py);
    with the wording of their prompts -> training conversations (chat.py).
Source: the prompts of lmms-eval 0.7.3, through which the benchmarks are evaluated, and of the short answers of LLaVA's
    own instruction data. A test compares them with the harness.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sa2va.types import Sample
from sa2va.world.export.layout import Part
from sa2va.world.language.grammar import NUMBERS, with_article
from sa2va.world.language.questions import Question, ask
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.scene import COLORS, SHAPES, TEXTURES, Scene
from sa2va.world.scenes.splits import Pairs

LETTERS = "ABCD"
IN_ONE_WORD = "{}\nAnswer the question using a single word or phrase."
BY_LETTER = "Answer with the option's letter from the given choices directly."
_CELLS = [f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
PLACES = [cell or "center" for cell in _CELLS]
# Answers to choose wrong options from, by kind of question.
CHOICES: dict[str, Sequence[str]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "count": NUMBERS,
    "place": PLACES,
    "motion": [f"it {kind}" for kind in MOTIONS],
}
PICTURE_KINDS, CLIP_KINDS = ("color", "shape", "texture", "count", "place"), ("motion", "color", "shape", "count")
YesAndNo = tuple[str, str]  # a question with the answer yes, and one with the answer no
AskPair = Callable[[Scene, np.random.Generator, Pairs], YesAndNo | None]


def generator_of(part: Part, number: int) -> np.random.Generator:
    return np.random.default_rng([part.scenes.seed, number, part.place])


def ask_one(scene: Scene, rng: np.random.Generator, kind: str, *, moving: bool = False) -> Question | None:
    """Ask one question of a kind, if the scene allows it."""
    return next(iter(ask(scene, rng, 1, moving=moving, kinds=(kind,))), None)


def _ask_existence(scene: Scene, rng: np.random.Generator, withheld: Pairs) -> YesAndNo:
    here = {item.pair for item in scene.objects}
    named = scene.objects[int(rng.integers(len(scene.objects)))]
    absent = [(named.color, shape) for shape in SHAPES if (named.color, shape) not in here | withheld]
    other = absent[int(rng.integers(len(absent)))]
    yes, no = (f"Is there {with_article(' '.join(pair))}?" for pair in (named.pair, other))
    return yes, no


def _ask_count(scene: Scene, rng: np.random.Generator, withheld: Pairs) -> YesAndNo:
    number = len(scene.objects)
    more = number < 3 or rng.random() < 0.5
    wrong = number + 1 if more and number + 1 < len(NUMBERS) else number - 1
    yes, no = (f"Are there {NUMBERS[one]} objects?" for one in (number, wrong))
    return yes, no


def _ask_about(kind: str, start: str, end: str, asked: str) -> AskPair:
    """Turn a question with one of CHOICES as its answer into one that is right and one that is wrong."""

    def make(scene: Scene, rng: np.random.Generator, withheld: Pairs) -> YesAndNo | None:
        found = ask_one(scene, rng, kind)
        if found is None:
            return None
        shape = scene.objects[found.targets[0]].shape
        wrong = [one for one in CHOICES[kind] if one != found.answer and (one, shape) not in withheld]
        name = found.text.removeprefix(start).removesuffix(end)
        right, other = (asked.format(name, one) for one in (found.answer, wrong[int(rng.integers(len(wrong)))]))
        return right, other

    return make


def _ask_numbers(scene: Scene, rng: np.random.Generator, withheld: Pairs) -> YesAndNo | None:
    found = ask_one(scene, rng, "more or fewer")
    if found is None:
        return None
    turned = found.text.replace(" more ", " <> ").replace(" fewer ", " more ").replace(" <> ", " fewer ")
    return (found.text, turned) if found.answer == "yes" else (turned, found.text)


# Category of MME -> function that asks two questions about a picture.
MME_CATEGORIES: dict[str, AskPair] = {
    "existence": _ask_existence,
    "count": _ask_count,
    "position": _ask_about("place", "Where is the ", "?", "Is the {} in the {} part of the picture?"),
    "color": _ask_about("color", "What color is the ", "?", "Is the {} {}?"),
    "numerical_calculation": _ask_numbers,
}


def ask_pair(scene: Scene, rng: np.random.Generator, category: str, withheld: Pairs) -> tuple[str, YesAndNo]:
    """Ask a question with the answer yes and one with the answer no about a picture.

    Args:
        scene: the picture.
        rng: random generator.
        category: a key of MME_CATEGORIES.
        withheld: pairs of color and shape that no question names if they are absent.

    Returns:
        The category, "existence" where the scene does not allow the one asked for, and both questions.
    """
    pair = MME_CATEGORIES[category](scene, rng, withheld)
    return ("existence", _ask_existence(scene, rng, withheld)) if pair is None else (category, pair)


def draw_choices(
    part: Part, block: int, *, moving: bool, num_questions: int = 1
) -> Iterator[tuple[int, Sample, list[Question]]]:
    """Draw pictures or clips with questions whose answer is one of CHOICES; for `block` see `Part.draw`."""

    def questions(sample: Sample) -> list[Question]:
        rng = generator_of(part, sample.meta["index"])
        return ask_choices(sample.meta["scene"], rng, num_questions, moving=moving)

    task = "video_conversation" if moving else "conversation"
    for number, sample in part.draw(task, block=block, keep=questions):
        yield number, sample, questions(sample)


def ask_choices(scene: Scene, rng: np.random.Generator, num_questions: int, *, moving: bool) -> list[Question]:
    """Ask questions whose answer is one of CHOICES; fewer if the scene allows fewer."""
    return ask(scene, rng, num_questions, moving=moving, kinds=CLIP_KINDS if moving else PICTURE_KINDS)


def pick_options(question: Question, rng: np.random.Generator) -> tuple[list[str], int]:
    """Pick four options in random order; return them with the place of the right one."""
    wrong = [one for one in CHOICES[question.kind] if one != question.answer]
    options = [question.answer, *(wrong[i] for i in rng.permutation(len(wrong))[: len(LETTERS) - 1])]
    order = rng.permutation(len(LETTERS))
    return [options[i] for i in order], int(np.flatnonzero(order == 0)[0])


def _list_options(options: Sequence[str], end: str = "") -> str:
    return "\n".join(f"{letter}. {option}{end}" for letter, option in zip(LETTERS, options, strict=True))


def write_seed_prompt(text: str, options: Sequence[str]) -> str:
    """Write a question with options as SEED-Bench is asked."""
    return f"{text}\n{_list_options(options)}\n{BY_LETTER}"


def write_mmbench_prompt(text: str, options: Sequence[str]) -> str:
    """Write a question with options as MMBench is asked."""
    return f"{text} There are several options:\n{_list_options(options)}\n\n{BY_LETTER}"


def write_video_mme_prompt(text: str, options: Sequence[str]) -> str:
    """Write a question with options as Video-MME is asked."""
    return (
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        f"Respond with only the letter (A, B, C, or D) of the correct option.\n{text}\n"
        f"{_list_options(options, '.')}\n\n{BY_LETTER}"
    )
