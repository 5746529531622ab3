"""Make trials of viewers who hear an expression, for tests that need a few of them and no picture."""

import numpy as np

from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming
from sa2va.gaze.trial import Trial

WORDS = ("the", "red", "cup")
CLOCK = SpeechTiming(onsets=(50.0, 200.0, 500.0), ends=(200.0, 500.0, 900.0), duration=900.0)


def make_trial(
    points: list[tuple[float, float]],
    starts: list[float],
    *,
    case: str = "1",
    subject: str = "a",
    photo: str = "",
    words: tuple[str, ...] = WORDS,
    clock: SpeechTiming = CLOCK,
    target: tuple[float, float, float, float] = (400.0, 200.0, 480.0, 300.0),
) -> Trial:
    """One person's look, on the canvas; each fixation lasts 150 ms."""
    fixations = [Fixation(x, y, start, 150.0) for (x, y), start in zip(points, starts, strict=True)]
    path = Scanpath.from_timing(fixations, words, clock, width=512, height=320, image=f"{case}.jpg")
    return Trial(
        scanpath=path, case=case, subject=subject, expression=" ".join(words), target=target, timing=clock, photo=photo
    )


def make_crowd(num_cases: int = 6, num_people: int = 4, seed: int = 0) -> list[Trial]:
    """People who begin in the middle and come nearer to the target, a word at a time."""
    rng = np.random.default_rng(seed)
    trials = []
    for case in range(num_cases):
        left, top = rng.uniform((20, 20), (400, 220))
        goal = np.array([left + 40, top + 30])
        for person in range(num_people):
            shares = np.array([0, 0.2, 0.5, 0.8, 1, 1])[:, None]
            points = np.array([256, 160]) + shares * (goal - [256, 160]) + rng.normal(0, 8, (6, 2))
            points[0] = np.array([256, 160]) + rng.normal(0, 8, 2)
            starts = np.array([-150, 60, 260, 520, 700, 950]) + rng.uniform(0, 30, 6)
            trials.append(
                make_trial(
                    [(float(x), float(y)) for x, y in points.clip(0, (511, 319))],
                    starts.tolist(),
                    case=str(case),
                    subject=str(person),
                    photo=f"photo{case // 2}",
                    target=(float(left), float(top), float(left) + 80, float(top) + 60),
                )
            )
    return trials
