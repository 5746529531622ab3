"""Model pack sizes from speech timing, and build scanpaths from positions per pack.

Flow: trials -> PackSizes.fit -> probabilities and samples of sizes; positions per pack -> build_scanpath -> Scanpath.
Source: our own multinomial logistic regression on the word's duration, the main predictor of pack size.
Shapes: N words, K fixations, C size classes (0, 1, 2, 3 or more).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression

from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics.sizes import NUM_CLASSES, size_classes
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.speech import predict_timing
from sa2va.gaze.timing import SpeechTiming
from sa2va.gaze.trial import Trial

MAX_SIZE = 20  # fixations of a sampled pack
NUM_KINDS = 3  # kinds of packs: before the words, of a word, after the words
BEFORE, WORD, AFTER = range(NUM_KINDS)
TYPICAL_FIXATION, LEAD = 220.0, 200.0  # ms, fixation duration after the words; start of viewing before the sound


def timing_of(trial: Trial) -> SpeechTiming:
    """Return the trial's speech timing, or predict it from the words."""
    return trial.timing if trial.timing is not None else predict_timing(trial.scanpath.words)


def kind_of(pack: int, num_packs: int) -> int:
    """Return BEFORE, WORD or AFTER."""
    return BEFORE if pack == 0 else AFTER if pack == num_packs - 1 else WORD


class PackSizes:
    """Pack size probabilities: by duration for words, by frequency for the packs before and after."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        """Discard the fitted parameters."""
        self.counts = np.full((NUM_KINDS, MAX_SIZE + 1), 1 / NUM_CLASSES)  # (3, sizes)
        self.regression: LogisticRegression | None = None
        self._tables: dict[str, NDArray[np.float64]] = {}  # by case

    def fit(self, trials: Sequence[Trial]) -> None:
        """Count sizes, and regress those of words on their timing."""
        self._reset()
        features, classes = [np.zeros((0, 3))], []
        for trial in trials:
            sizes = trial.scanpath.sizes
            for pack, size in enumerate(sizes):
                self.counts[kind_of(pack, len(sizes)), min(size, MAX_SIZE)] += 1
            features.append(self._features(trial))
            classes += size_classes(sizes[1:-1]).tolist()
        if len(set(classes)) > 1:
            self.regression = LogisticRegression(C=10.0, max_iter=1000).fit(np.concatenate(features), classes)

    def probabilities(self, case: Trial) -> NDArray[np.float64]:
        """Return size class probabilities of a case, (N + 2, C), rows sum to 1; independent of its fixations."""
        if case.case not in self._tables:
            self._tables[case.case] = self._table(case)
        return self._tables[case.case]

    def _table(self, case: Trial) -> NDArray[np.float64]:
        num_packs = len(case.scanpath.packs)
        table = np.stack([self._counted(kind_of(pack, num_packs)) for pack in range(num_packs)])
        if self.regression is not None and num_packs > 2:
            words = np.full((num_packs - 2, NUM_CLASSES), 1e-3)
            words[:, self.regression.classes_] += self.regression.predict_proba(self._features(case))
            table[1:-1] = words / words.sum(1, keepdims=True)
        return table

    def log_prob(self, trial: Trial) -> NDArray[np.float64]:
        """Return the natural log probability of each pack's size class, (N + 2,)."""
        table = self.probabilities(trial)
        return np.log(table[np.arange(len(table)), size_classes(trial.scanpath.sizes)])

    def draw(self, case: Trial, rng: np.random.Generator) -> list[int]:
        """Sample N + 2 sizes with at least one fixation in total."""
        table = self.probabilities(case)
        sizes = []
        for pack, row in enumerate(table):
            size = int(rng.choice(NUM_CLASSES, p=row))
            if size == NUM_CLASSES - 1:
                many = self.counts[kind_of(pack, len(table)), size:]
                size += int(rng.choice(len(many), p=many / many.sum()))
            sizes.append(size)
        return sizes if any(sizes) else [1, *sizes[1:]]

    def _counted(self, kind: int) -> NDArray[np.float64]:
        classes = self.counts[kind, :NUM_CLASSES].copy()
        classes[-1] = self.counts[kind, NUM_CLASSES - 1 :].sum()
        return classes / classes.sum()

    def _features(self, trial: Trial) -> NDArray[np.float64]:
        """Compute features of each word, (N, 3): s to the next onset, its square root, whether it is the first."""
        timing = timing_of(trial)
        lengths = np.diff([*timing.onsets, timing.duration]) / 1000 if timing.onsets else np.zeros(0)
        first = np.arange(len(lengths)) == 0
        return np.stack([lengths, np.sqrt(np.maximum(lengths, 0)), first.astype(float)], axis=1)


def build_scanpath(case: Trial, packs: Sequence[ArrayLike]) -> Scanpath:
    """Build a scanpath from positions, with onsets spaced evenly within each pack.

    Args:
        case: Its words and timing are used.
        packs: N + 2 arrays (K, 2) xy, px of the canvas.
    """
    timing, words = timing_of(case), case.scanpath.words
    begins = [-LEAD, *timing.onsets, timing.duration]
    fixations, indices = [], []
    for pack, points in enumerate(packs):
        places = np.asarray(points, float).reshape(-1, 2)
        last = pack == len(begins) - 1
        step = TYPICAL_FIXATION if last else (begins[pack + 1] - begins[pack]) / max(len(places), 1)
        for number, (x, y) in enumerate(places.tolist()):
            fixations.append(Fixation(x, y, begins[pack] + number * step, step))
            indices.append(pack)
    width, height = CANVAS
    return Scanpath.from_packs(fixations, indices, words, width=width, height=height, image=case.scanpath.image)
