"""Benchmark on Refer-YouTube-VOS, whose masks only the server has.

Flow: data/refytvos.py -> clips.py -> the archive of the server; J&F where a copy of the data has masks.
Source: Seo et al., ECCV 2020.
"""

from sa2va.data import refytvos
from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks.clips import ClipItem, build_expressions

SPLITS = ("valid",)
PROTOCOL = "J&F over all frames, mean over expressions"


def build(selection: Selection) -> Benchmark[ClipItem]:
    """Build the benchmark of the split "valid".

    Raises:
        ValueError: the data are missing or damaged.
    """
    return build_expressions("refytvos", "Ref-YouTube-VOS", refytvos.build, selection, protocol=PROTOCOL)
