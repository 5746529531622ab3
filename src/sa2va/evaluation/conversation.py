"""Score short answers by exact match, overall and per kind of question.

Flow: a benchmark -> answers_record per item -> answer_figures over records.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Bar, Figure, Record, measure
from sa2va.metrics.text import exact_match, normalize

USUAL = "the most frequent answer of its kind"


def answers_record(answers: Sequence[Answer], expected: Sequence[str], kinds: Sequence[str]) -> Record:
    """Compare each answer of a conversation with the expected one."""
    return {
        "kinds": list(kinds),
        "gold": list(expected),
        "said": [answer.text for answer in answers],
        "right": [exact_match(answer.text, gold) for answer, gold in zip(answers, expected, strict=True)],
    }


def answer_figures(records: Sequence[Record], bar: Bar) -> list[Figure]:
    """Compute exact match over all questions and per kind; intervals resample whole conversations."""
    usual = most_frequent(records)
    kinds = sorted(usual)
    return [_exact(records, "exact match", kinds, usual, bar), *(_exact(records, k, [k], usual) for k in kinds)]


def most_frequent(records: Sequence[Record]) -> dict[str, str]:
    """Return the most frequent correct answer of each kind of question."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for kind, gold in zip(record["kinds"], record["gold"], strict=True):
            counts.setdefault(kind, Counter())[normalize(gold)] += 1
    return {kind: counter.most_common(1)[0][0] for kind, counter in counts.items()}


def _exact(
    records: Sequence[Record], name: str, kinds: Sequence[str], usual: dict[str, str], bar: Bar | None = None
) -> Figure:
    rights, guessed, pictures = [], [], []
    for picture, record in enumerate(records):
        for kind, gold, right in zip(record["kinds"], record["gold"], record["right"], strict=True):
            if kind in kinds:
                rights.append(right)
                guessed.append(normalize(gold) == usual[kind])
                pictures.append(picture)
    chance = float(np.mean(guessed)) if guessed else None
    return measure(name, np.array(rights, float), groups=pictures, chance=chance, baseline=USUAL, bar=bar)
