"""Predict how many fixations a pack holds from the clock of the speech, and make scanpaths of packs of places.

Flow: trials -> PackSizes.fit -> probabilities and draws of sizes; places per pack -> build_scanpath -> Scanpath.
Source: what decides the size of a pack is how long its word lasts; our own multinomial regression on that.
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

MAX_SIZE = 20  # fixations of a drawn pack
PLACES = 3  # kinds of packs: before the words, of a word, after them
BEFORE, WORD, AFTER = range(PLACES)
USUAL_FIXATION, LEAD = 220.0, 200.0  # ms, of a fixation after the words; of silence before them


def clock_of(trial: Trial) -> SpeechTiming:
    """When its words are spoken; predicted from the words where nobody recorded it."""
    return trial.timing if trial.timing is not None else predict_timing(trial.scanpath.words)


def kind_of(pack: int, num_packs: int) -> int:
    """BEFORE, WORD or AFTER."""
    return BEFORE if pack == 0 else AFTER if pack == num_packs - 1 else WORD


class PackSizes:
    """Probabilities of pack sizes: of words by how long they last, of the two others by how often people had them."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Forget what was learned."""
        self.counts = np.full((PLACES, MAX_SIZE + 1), 1 / NUM_CLASSES)  # (3, sizes)
        self.law: LogisticRegression | None = None
        self._known: dict[str, NDArray[np.float64]] = {}  # tables by case

    def fit(self, trials: Sequence[Trial]) -> None:
        """Count sizes, and regress those of words on the clock."""
        self._begin()
        features, classes = [np.zeros((0, 3))], []
        for trial in trials:
            sizes = trial.scanpath.sizes
            for pack, size in enumerate(sizes):
                self.counts[kind_of(pack, len(sizes)), min(size, MAX_SIZE)] += 1
            features.append(self._features(trial))
            classes += size_classes(sizes[1:-1]).tolist()
        if len(set(classes)) > 1:
            self.law = LogisticRegression(C=10.0, max_iter=1000).fit(np.concatenate(features), classes)

    def probabilities(self, case: Trial) -> NDArray[np.float64]:
        """(N + 2, C), rows sum to 1; the same for everybody of a case, whatever they looked at."""
        if case.case not in self._known:
            self._known[case.case] = self._table(case)
        return self._known[case.case]

    def _table(self, case: Trial) -> NDArray[np.float64]:
        num_packs = len(case.scanpath.packs)
        table = np.stack([self._counted(kind_of(pack, num_packs)) for pack in range(num_packs)])
        if self.law is not None and num_packs > 2:
            words = np.full((num_packs - 2, NUM_CLASSES), 1e-3)
            words[:, self.law.classes_] += self.law.predict_proba(self._features(case))
            table[1:-1] = words / words.sum(1, keepdims=True)
        return table

    def log_prob(self, trial: Trial) -> NDArray[np.float64]:
        """(N + 2,) nats of the size class of each pack of a person."""
        table = self.probabilities(trial)
        return np.log(table[np.arange(len(table)), size_classes(trial.scanpath.sizes)])

    def draw(self, case: Trial, rng: np.random.Generator) -> list[int]:
        """N + 2 sizes; at least one fixation in all."""
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
        """(N, 3) of each word: how long until the next one, in s, its square root, and whether it is the first."""
        clock = clock_of(trial)
        lasts = np.diff([*clock.onsets, clock.duration]) / 1000 if clock.onsets else np.zeros(0)
        first = np.arange(len(lasts)) == 0
        return np.stack([lasts, np.sqrt(np.maximum(lasts, 0)), first.astype(float)], axis=1)


def build_scanpath(case: Trial, packs: Sequence[ArrayLike]) -> Scanpath:
    """Make a scanpath of places; they are spread evenly over the time of their pack.

    Args:
        case: whose words are heard.
        packs: N + 2 times (K, 2) xy, px of the canvas.
    """
    clock, words = clock_of(case), case.scanpath.words
    begins = [-LEAD, *clock.onsets, clock.duration]
    fixations, indices = [], []
    for pack, points in enumerate(packs):
        places = np.asarray(points, float).reshape(-1, 2)
        last = pack == len(begins) - 1
        step = USUAL_FIXATION if last else (begins[pack + 1] - begins[pack]) / max(len(places), 1)
        for number, (x, y) in enumerate(places.tolist()):
            fixations.append(Fixation(x, y, begins[pack] + number * step, step))
            indices.append(pack)
    width, height = CANVAS
    return Scanpath.from_packs(fixations, indices, words, width=width, height=height, image=case.scanpath.image)
