import importlib.util
import math
import shutil
from collections import Counter

import numpy as np
import pytest

from sa2va.metrics import captions
from sa2va.metrics.captions import check_caption_tools, meteor, score_captions
from sa2va.metrics.interval import bootstrap_interval, mean

needs_java = pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="METEOR and CIDEr need Java and pycocoevalcap",
)


def counts_of(hyp: int, ref: int, *, matched: int, chunks: int, stems: int = 0) -> list[float]:
    """Return METEOR's counts of a caption without function words."""
    exact, stem = [matched - stems] * 2 + [0, 0], [stems] * 2 + [0, 0]
    return [hyp, ref, 0, 0, *exact, *stem, *[0] * 8, chunks, matched, matched]


def test_meteor_by_hand() -> None:
    """P = 3/4, R = 3/5, F = PR / (0.85 P + 0.15 R); two chunks of three words cost 0.6 * (2/3) ** 0.2 of it."""
    row = counts_of(4, 5, matched=3, chunks=2)
    f = 0.75 * 0.6 / (0.85 * 0.75 + 0.15 * 0.6)
    assert meteor([row]) == pytest.approx(f * (1 - 0.6 * (2 / 3) ** 0.2))
    stemmed = counts_of(4, 4, matched=4, chunks=0, stems=1)
    assert meteor([stemmed]) == pytest.approx(3.6 / 4)  # a stem counts 0.6, and the order is right
    assert meteor([counts_of(4, 4, matched=4, chunks=0)]) == 1.0
    assert meteor([counts_of(4, 5, matched=0, chunks=0)]) == 0.0
    assert meteor(np.zeros((1, 23))) == 0.0


def test_meteor_of_a_corpus_sums_counts() -> None:
    rows = [counts_of(2, 2, matched=2, chunks=0), counts_of(8, 8, matched=4, chunks=4)]
    half = 6 / 10
    assert meteor(rows) == pytest.approx(half * (1 - 0.6 * (4 / 6) ** 0.2))
    assert meteor(rows) != pytest.approx(meteor.combine(np.array(rows, float)).mean())


def test_function_words_weigh_less() -> None:
    """One of two content words and one of one function word: (0.75 + 0.25) / (1.5 + 0.25) on both sides."""
    row = [3, 3, 1, 1, 1, 1, 1, 1, *[0] * 12, 1, 2, 2]
    assert meteor([row]) == pytest.approx(1 / 1.75 * (1 - 0.6 * 0.5**0.2))


def test_each_caption_needs_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "check_caption_tools", lambda: None)
    with pytest.raises(ValueError, match="2 captions and 1 groups"):
        score_captions(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="group 1 empty"):
        score_captions(["a", "b"], [["a"], []])


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"sa2va\[eval\]"):
        check_caption_tools()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no java"):
        check_caption_tools()


def test_captions_are_counted_again_when_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def count(said: list[str], gold: list[list[str]]) -> np.ndarray:
        counted.extend(said)
        return np.array([[len(text)] * captions.NUM_STATISTICS for text in said], float)

    monkeypatch.setattr(captions, "check_caption_tools", lambda: None)
    monkeypatch.setattr(captions, "_tokenize", list)
    monkeypatch.setattr(captions, "_meteor_statistics", count)
    monkeypatch.setattr(captions, "_cider", lambda said, gold: np.zeros(len(said)))
    monkeypatch.setattr(captions, "_counted", {})
    monkeypatch.setattr(captions, "MAX_KEPT", 2)
    for texts in (["a", "bb"], ["bb"], ["bb", "ccc"]):
        found = score_captions(texts, [["x"]] * len(texts)).meteor_statistics
        assert found[:, 0].tolist() == [len(text) for text in texts]
    assert counted == ["a", "bb", "bb", "ccc"]  # "bb" alone was known; then the memory was full


NOUNS, VERBS = ("dog", "cat", "ball", "car", "child", "tree"), ("runs", "sits", "jumps quickly", "is standing")


def random_caption(rng: np.random.Generator) -> str:
    noun, verb, other = rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS)
    return f"A {rng.choice(('small', 'big', 'red'))} {noun} {verb} near the {other}{rng.choice(('.', '', ' !'))}"


def random_corpus(number: int) -> tuple[list[str], list[list[str]]]:
    rng = np.random.default_rng(0)
    references = [[random_caption(rng) for _ in range(int(rng.integers(1, 4)))] for _ in range(number)]
    said = [random_caption(rng) if rng.random() < 0.7 else references[index][0] for index in range(number)]
    said[3], said[7], said[11] = "", "café | 3.5\n“dogs”", "nothing of this"
    references[5][0] = "..."  # no word is left of it
    return said, references


def naive_cider(said: list[list[str]], gold: list[list[list[str]]]) -> list[float]:
    """Compute CIDEr-D of tokenized captions from its definition."""

    def grams(words: list[str], size: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))

    scores = []
    for words, references in zip(said, gold, strict=True):
        total = 0.0
        for size in range(1, 5):
            frequency = Counter(gram for group in gold for gram in {g for ref in group for g in grams(ref, size)})

            def weigh(tokens: list[str], size: int = size, df: Counter = frequency) -> dict[tuple[str, ...], float]:
                return {g: n * (math.log(len(gold)) - math.log(max(1, df[g]))) for g, n in grams(tokens, size).items()}

            one = weigh(words)
            for reference in references:
                other = weigh(reference)
                shared = sum(min(value, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, value in one.items())
                norm = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
                gap = max(len(words) - 1, 0) - max(len(reference) - 1, 0)  # in bigrams, as in the published code
                total += shared / norm * math.exp(-gap * gap / 72) / len(references) if norm else 0.0
        scores.append(10 * total / 4)
    return scores


@pytest.mark.slow
@needs_java
def test_agrees_with_pycocoevalcap_and_the_definition() -> None:
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    said, references = random_corpus(200)
    found = score_captions(said, references)
    tokenizer = PTBTokenizer()
    gold = tokenizer.tokenize({i: [{"caption": text} for text in group] for i, group in enumerate(references)})
    ours = tokenizer.tokenize({i: [{"caption": text}] for i, text in enumerate(said)})
    cider, ciders = Cider().compute_score(gold, ours)
    assert mean(found.cider) == pytest.approx(cider, abs=1e-9)
    assert found.cider == pytest.approx(ciders, abs=1e-9)
    naive = naive_cider([ours[i][0].split() for i in ours], [[t.split() for t in gold[i]] for i in gold])
    assert found.cider == pytest.approx(naive, abs=1e-9)
    total, each = Meteor().compute_score(gold, ours)
    assert meteor(found.meteor_statistics) == pytest.approx(total, abs=1e-9)
    assert meteor.combine(found.meteor_statistics) == pytest.approx(each, abs=1e-9)
    low, high = bootstrap_interval(found.meteor_statistics, meteor)
    assert low < total < high
    part = score_captions(said[:50], references[:50])  # its words are rare in other ways
    assert (part.meteor_statistics == found.meteor_statistics[:50]).all()
    assert mean(part.cider) == pytest.approx(
        Cider().compute_score(*({i: of[i] for i in range(50)} for of in (gold, ours)))[0]
    )
    assert not found.cider[3] and not found.meteor_statistics[3, 4:].any()  # the empty caption


@needs_java
def test_no_captions() -> None:
    found = score_captions([], [])
    assert found.cider.shape == (0,) and found.meteor_statistics.shape == (0, 23)
