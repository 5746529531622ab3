"""Group trials by case, and encode scanpaths once for all metrics.

Flow: trials on the canvas -> read_cases -> Cases; packs of positions, a person's or a system's -> EncodedScanpath.
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
class EncodedScanpath:
    """A scanpath with its symbol strings, computed once and compared many times."""

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
        """One string per pack."""
        return sequence.stand_in_strings(self.packs, self.centers)

    @cached_property
    def cells(self) -> list[int]:
        return scanmatch.grid_symbols(self.points, *CANVAS)

    @property
    def sizes(self) -> list[int]:
        return [len(pack) for pack in self.packs]


@dataclass(frozen=True, eq=False)
class Case:
    """One image and expression with the trials of all people, on the canvas."""

    name: str
    trials: tuple[Trial, ...]  # (P,)
    clusters: Clusters

    @cached_property
    def people(self) -> list[EncodedScanpath]:
        return [self.encode(trial.scanpath.pack_points) for trial in self.trials]

    @property
    def picture(self) -> str:
        """Identifier of the image, the unit of the bootstrap."""
        return self.trials[0].picture

    @property
    def box(self) -> target.Box | None:
        return self.trials[0].target

    @property
    def num_packs(self) -> int:
        return len(self.trials[0].scanpath.packs)

    def encode(self, packs: Packs) -> EncodedScanpath:
        """Encode a scanpath. Missing packs become empty, packs beyond the last one are merged into it."""
        kept = [*packs[: self.num_packs], *[np.zeros((0, 2))] * (self.num_packs - len(packs))]
        if len(packs) > self.num_packs:
            kept[-1] = np.concatenate(packs[self.num_packs - 1 :])
        return EncodedScanpath(kept, self.clusters.centers)


def read_cases(trials: Sequence[Trial]) -> list[Case]:
    """Group trials on the canvas by case, and fit the clusters of each.

    Raises:
        ValueError: a case has no fixations, or trials with different words.
    """
    cases = []
    for name, row in group_cases(trials).items():
        if len({trial.scanpath.words for trial in row}) > 1:
            raise ValueError(f"case {name}: scanpaths with different words, expected the same words for all people")
        if not any(len(trial.scanpath.points) for trial in row):
            raise ValueError(f"case {name}: no fixations, expected at least one; remove the case from the file")
        cases.append(Case(name, tuple(row), fit_clusters([trial.scanpath.points for trial in row])))
    return cases


def count_other_packs(cases: Sequence[Case], samples: Mapping[str, Sequence[Packs]]) -> int:
    """Count the scanpaths whose number of packs differs from their case's; see `Case.encode`."""
    return sum(len(packs) != case.num_packs for case in cases for packs in samples.get(case.name, ()))


def other_scanpaths(scanpaths: Sequence[EncodedScanpath], seat: int, num_people: int) -> list[EncodedScanpath]:
    """Select the scanpaths to compare with one person: skip index `seat`, and take as many as there are other people.

    Args:
        scanpaths: S scanpaths of a system, or those of the people themselves.
        seat: Index of the person who is left out.
        num_people: Number of people of the case; for one person all scanpaths are selected.
    """
    count = min(len(scanpaths), num_people - 1 if num_people > 1 else len(scanpaths))
    return [scanpaths[(seat + step) % len(scanpaths)] for step in range(1, count + 1)]
