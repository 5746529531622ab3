"""Rate answers about drawn clips by rule: 3 for the right answer, less for a share of the right attributes.

Flow: benchmarks -> current_judge().rate -> ShareJudge -> rate_share. It takes the place of a language model on
    MMBench-Video, since a drawn question has one right answer in few words.
"""

import re

from sa2va.evaluation.benchmark import Record
from sa2va.evaluation.judge import BEST, Case, Judge
from sa2va.world.scenes.scene import COLORS, SHAPES, SIZES, TEXTURES

NAME = "share of attributes, by rule"
ATTRIBUTES = frozenset((*SIZES, *TEXTURES, *COLORS, *SHAPES))


class ShareJudge(Judge):
    """Judge by rule, without a server; its verdicts are never stored."""

    def rate(self, case: Case) -> Record:
        """Rate an answer; see `rate_share`."""
        return {"score": rate_share(case.reference, case.answer), "judge": NAME, "reply": ""}


def rate_share(reference: str, answer: str) -> int:
    """Rate an answer 0 to 3.

    3: the same words, apart from articles and punctuation. 2 and 1: of the attributes (size, texture, color, shape)
    that either text names, at least half or fewer are named by both; only where the reference names two or more. 0: all
    else.
    """
    right, said = _words(reference), _words(answer)
    if right == said:
        return BEST
    named, given = ({word for word in words if word in ATTRIBUTES} for words in (right, said))
    if len(named) < 2:
        return 0
    share = len(named & given) / len(named | given)
    return 2 if share >= 0.5 else int(share > 0)


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word not in ("a", "an", "the")]
