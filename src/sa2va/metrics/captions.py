"""Score captions against references by METEOR and CIDEr, in one batch.

Flow: all captions of a benchmark -> score_captions -> CIDEr of each, METEOR statistics of each
    -> interval.mean and `meteor`, with their intervals.
Source: CIDEr-D, arXiv:1411.5726, METEOR 1.5, Denkowski and Lavie, WMT 2014, and the PTB tokenizer, all three as in
    pycocoevalcap, the COCO caption evaluation. The last two are Java programs.
Shapes: N captions, M reference captions of one.
"""

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa2va.metrics.interval import SumStatistic

# METEOR's parameters for English, task "rank", which pycocoevalcap uses.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHER_WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase
MAX_KEPT = 100_000  # captions
NUM_STATISTICS = 23  # lengths, function words, matches of each matcher, chunks, matched words
SEPARATOR = " ||| "


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores of N captions.

    Attributes:
        cider: (N,) CIDEr of each caption, 0..10 (papers print it times 100), whose mean is that of the corpus. Rare
            words weigh more; how rare they are is counted over all references of this batch.
        meteor_statistics: (N, 23) counts of words, rows of `meteor`.
    """

    cider: NDArray[np.float64]
    meteor_statistics: NDArray[np.float64]


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score captions; an empty one scores 0.

    Args:
        captions: N.
        references: N times M >= 1 captions, M may differ.

    Raises:
        ValueError: Java or pycocoevalcap is missing, Java failed, or a caption has no reference.
    """
    check_caption_tools()
    if len(captions) != len(references) or not all(len(group) for group in references):
        without = [index for index, group in enumerate(references) if not len(group)]
        raise ValueError(
            f"each caption needs references, got {len(captions)} captions and {len(references)} groups of references"
            + (f", group {without[0]} empty" if without else "")
        )
    keys = [(text, tuple(group)) for text, group in zip(captions, references, strict=True)]
    found = _count(keys)
    cider = _cider([one.said for one in found], [one.gold for one in found])
    counts = np.array([one.counts for one in found], float).reshape(-1, NUM_STATISTICS)
    return CaptionScores(cider=cider, meteor_statistics=counts)


def check_caption_tools() -> None:
    """Check that METEOR and CIDEr can be computed.

    Raises:
        ValueError: Java or pycocoevalcap is missing.
    """
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise ValueError("METEOR and CIDEr need pycocoevalcap; run: pip install 'sa2va[eval]'")
    if shutil.which("java") is None:
        raise ValueError(
            "METEOR and CIDEr need Java 8 or newer, and no java is on the PATH; install one, as with "
            "apt install default-jre-headless"
        )


_Key = tuple[str, tuple[str, ...]]  # a caption and its references


class _Counted(NamedTuple):
    """A caption and its references as words, and what METEOR counts in them, (23,)."""

    said: str
    gold: list[str]
    counts: NDArray[np.float64]


_counted: dict[_Key, _Counted] = {}  # Java starts in seconds, and parts of a benchmark are scored one after the other


def _count(keys: Sequence[_Key]) -> list[_Counted]:
    """Return the words and counts of captions, running Java for those that were not seen before."""
    new = [key for key in dict.fromkeys(keys) if key not in _counted]
    if len(_counted) + len(new) > MAX_KEPT:
        _counted.clear()
        new = list(dict.fromkeys(keys))
    if new:
        words = iter(_tokenize([text for caption, group in new for text in (caption, *group)]))
        said, gold = [], []
        for _, group in new:
            said.append(next(words))
            gold.append([next(words) for _ in group])
        counts = _meteor_statistics(said, gold)
        _counted.update(zip(new, map(_Counted, said, gold, counts), strict=True))
    return [_counted[key] for key in keys]


def _weigh_matches(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute METEOR from sums of its statistics, (R, 23) -> (R,)."""
    lengths, function_words = sums[:, 0:2], sums[:, 2:4]  # each (R, 2): of captions, of references
    matches = sums[:, 4:20].reshape(
        len(sums), 4, 4
    )  # (R, matcher, content and function words of caption and reference)
    content, function = matches[:, :, 0:2], matches[:, :, 2:4]  # (R, matcher, 2)
    weights = np.array(MATCHER_WEIGHTS)[:, None]
    matched = (weights * (DELTA * content + (1 - DELTA) * function)).sum(1)  # (R, 2)
    total = DELTA * (lengths - function_words) + (1 - DELTA) * function_words
    precision, recall = (matched / np.where(total > 0, total, 1.0)).T
    chunks, average = sums[:, 20], sums[:, 21:23].mean(1)  # matched words of caption and reference
    fragments = chunks / np.where(average > 0, average, 1.0)
    weighted = ALPHA * precision + (1 - ALPHA) * recall
    found = precision * recall / np.where(weighted > 0, weighted, 1.0)
    return found * (1 - GAMMA * fragments**BETA)


meteor = SumStatistic(terms=lambda rows: np.asarray(rows, float).reshape(-1, NUM_STATISTICS), combine=_weigh_matches)
"""METEOR of a corpus, 0..1, of rows (N, 23). It is a function of summed counts, not the mean over captions;
`meteor.combine(rows)` gives the METEOR of each caption, (N,)."""


def _tokenize(texts: Sequence[str]) -> list[str]:
    """Split texts into lower-case words without punctuation, joined by single blanks."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = _run_java(arguments, [" ".join(text.split()) for text in texts], jar.parent)
    punctuation = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(word for word in line.split(" ") if word not in punctuation).strip() for line in lines]


def _cider(said: Sequence[str], gold: Sequence[list[str]]) -> NDArray[np.float64]:
    from pycocoevalcap.cider.cider import Cider

    if not said:
        return np.zeros(0)
    _, scores = Cider().compute_score(dict(enumerate(gold)), {key: [text] for key, text in enumerate(said)})
    return np.asarray(scores, float)


def _meteor_statistics(said: Sequence[str], gold: Sequence[list[str]]) -> NDArray[np.float64]:
    from pycocoevalcap.meteor import meteor as package

    jar = Path(package.__file__).with_name(package.METEOR_JAR)
    lines = [SEPARATOR.join(["SCORE", *group, text]) for text, group in zip(said, gold, strict=True)]
    found = _run_java(["-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"], lines, jar.parent)
    counts = np.array([line.split() for line in found], float)
    identical = (counts[:, 20] == 1) & (counts[:, 21:23] == counts[:, 0:2]).all(1)
    counts[identical, 20] = 0  # METEOR adds no chunk of a caption that is its reference
    return counts


def _run_java(arguments: Sequence[str], lines: Sequence[str], folder: Path) -> list[str]:
    """Run a Java program that answers each line of its input with one line."""
    text = "".join(f"{line}\n" for line in lines)
    command = ["java", "-Dfile.encoding=UTF-8", *arguments]
    found = subprocess.run(
        command, input=text, capture_output=True, encoding="utf-8", errors="replace", cwd=folder, check=False
    )
    answers = found.stdout.split("\n")[:-1]
    if found.returncode or len(answers) != len(lines):
        reason = (found.stderr.strip().splitlines() or ["no message"])[0]
        raise ValueError(
            f"java answered {len(answers)} of {len(lines)} captions: {reason}; METEOR needs 2 GB of memory"
        )
    return answers
