"""Benchmark on MeViS: expressions that need motion, of one object, several or none.

Flow: data/mevis.py -> clips.py -> J&F on valid_u; the archive of the server for valid and test.
Source: Ding et al., arXiv:2308.08544, and version 2 with expressions of nothing. Sa2VA compares models on valid in its
    first table and on valid_u in others: figures of the two differ by 5 to 11 points.
"""

from collections.abc import Sequence
from functools import partial

from sa2va.data import mevis
from sa2va.evaluation.benchmark import Benchmark, Figure, Record, Selection
from sa2va.evaluation.benchmarks.clips import ClipItem, build_expressions, jf_figures
from sa2va.evaluation.mask_files import write_clip_masks

SPLITS = ("valid_u", "valid", "test")
PROTOCOL = "J&F over all frames, mean over expressions"


def build(selection: Selection) -> Benchmark[ClipItem]:
    """Build the benchmark of a split: "valid_u", or for the server "valid" and "test".

    Raises:
        ValueError: the data are missing or damaged.
    """
    return build_expressions(
        "mevis", "MeViS", mevis.build, selection, protocol=PROTOCOL, summarize=summarize,
        submit=partial(write_clip_masks, folder_name=""),
    )  # fmt: skip


def summarize(records: Sequence[Record]) -> list[Figure]:
    """Compute J&F over all expressions, and apart over those of something and of nothing where there are any."""
    figures = jf_figures(records)
    absent = [one for one in records if not one["num_targets"]]
    if absent:
        present = [one for one in records if one["num_targets"]]
        figures += [jf_figures(present, "target present")[0], jf_figures(absent, "no target")[0]]
    return figures
