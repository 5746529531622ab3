"""Hold what people did at one picture and expression as metrics need it.

Flow: trials on the canvas -> read_cases -> Cases; packs of places, a person's or a system's -> Look.
Source: clusters per case as in gaze/metrics/clusters.py.
Shapes: P people, N words, K fixations, C clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.evaluation.predictions import Packs
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import scanmatch, sequence, strings, target
from sa2va.gaze.metrics.clusters import Clusters, fit_clusters
from sa2va.gaze.trial import Trial, group_cases


@dataclass(frozen=True, eq=False)
class Look:
    """One scanpath as metrics need it: symbols are found once and compared many times."""

    packs: Packs  # N + 2 times (K, 2) xy, px
    centers: NDArray[np.float64]  # (C, 2)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(K, 2), all packs in order."""
        return np.concatenate([*self.packs, np.zeros((0, 2))])

    @cached_property
    def string(self) -> list[int]:
        return strings.nearest_symbols(self.points, self.centers)

    @cached_property
    def pieces(self) -> list[list[int]]:
        """A string per pack."""
        return sequence.stand_in_strings(self.packs, self.centers)

    @cached_property
    def cells(self) -> list[int]:
        return scanmatch.grid_symbols(self.points, *CANVAS)

    @property
    def sizes(self) -> list[int]:
        return [len(pack) for pack in self.packs]


@dataclass(frozen=True, eq=False)
class Case:
    """One picture and expression with all people who saw it, on the canvas."""

    name: str
    trials: tuple[Trial, ...]  # (P,)
    clusters: Clusters

    @cached_property
    def people(self) -> list[Look]:
        return [self.look(trial.scanpath.pack_points) for trial in self.trials]

    @property
    def picture(self) -> str:
        """What is drawn again as a whole when a figure is asked how sure it is."""
        return self.trials[0].picture

    @property
    def box(self) -> target.Box | None:
        return self.trials[0].target

    @property
    def num_packs(self) -> int:
        return len(self.trials[0].scanpath.packs)

    def look(self, packs: Packs) -> Look:
        """Read a scanpath; packs that it lacks are empty, those beyond the last one join it."""
        kept = [*packs[: self.num_packs], *[np.zeros((0, 2))] * (self.num_packs - len(packs))]
        if len(packs) > self.num_packs:
            kept[-1] = np.concatenate(packs[self.num_packs - 1 :])
        return Look(kept, self.clusters.centers)


def read_cases(trials: Sequence[Trial]) -> list[Case]:
    """Put the trials, on the canvas, together by case, and find the clusters of each.

    Raises:
        ValueError: in a case nobody fixated anything, or people heard different words.
    """
    cases = []
    for name, row in group_cases(trials).items():
        if len({trial.scanpath.words for trial in row}) > 1:
            raise ValueError(f"case {name}: its scanpaths have different words, expected the same for all people")
        if not any(len(trial.scanpath.points) for trial in row):
            raise ValueError(f"case {name}: nobody fixated anything; leave it out of the file")
        cases.append(Case(name, tuple(row), fit_clusters([trial.scanpath.points for trial in row])))
    return cases


def count_other_packs(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> int:
    """How many scanpaths have fewer or more packs than their case, so that `Case.look` has to fill or join some."""
    return sum(len(packs) != case.num_packs for case in cases for packs in samples.get(case.name, ()))


def other_looks(looks: Sequence[Look], seat: int, num_people: int) -> list[Look]:
    """The looks beside that of one seat, as many as there are other people; of one person's case all looks.

    Args:
        looks: S of a system, or the people themselves.
        seat: of the person who is left out.
        num_people: of the case.
    """
    count = min(len(looks), num_people - 1 if num_people > 1 else len(looks))
    return [looks[(seat + step) % len(looks)] for step in range(1, count + 1)]
