"""Benchmark on Ref-SAV: long and short captions of the objects of SA-V videos.

Flow: data/refsav.py -> clips.py -> J, F, A of long and short captions, and their unweighted mean.
Source: Sa2VA, arXiv:2501.04001, section 3.4; the released scoring averages the two kinds, whatever their sizes.
"""

from collections.abc import Sequence

from sa2va.data import refsav
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.benchmarks.clips import ClipItem, build_expressions, kind_figures

SPLITS = ("valid",)
KINDS = {refsav.LONG: "long", refsav.SHORT: "short"}
PROTOCOL = (
    "J, F and accuracy A per frame, means over frames and captions of a kind, overall = unweighted mean of long and "
    "short"
)


def build(selection: Selection) -> Benchmark[ClipItem]:
    """Build the benchmark of the split "valid".

    Raises:
        ValueError: the data are missing or damaged.
    """
    return build_expressions("refsav", "Ref-SAV", refsav.build, selection, protocol=PROTOCOL, summarize=summarize)


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute the figures of Ref-SAV."""
    return kind_figures(records, KINDS, keys="jfa")
