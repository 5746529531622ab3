"""List the arms of the paper's ablations: which datasets a run draws from, and its [SEG] design.

Flow: name of a table -> TABLES -> arms -> runs.py (one run per arm and seed) -> page.py, beside the paper's rows.
Source: Sa2VA, arXiv:2501.04001, the tables of co-training, of [SEG] designs and of more data, with Sa2VA-1B. The
    paper's shares follow from the sizes of its datasets; here each group of tasks has a quarter of the samples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sa2va.training.mixture import DatasetShare

Shares = Mapping[str, float]  # weight by dataset

# Weights of the datasets of each group; a group without which a run trains leaves its samples to the others.
IMAGE_QA: Shares = {"llava": 12}
IMAGE_SEGMENTATION: Shares = {
    "refcoco": 2, "refcoco+": 2, "refcocog": 2,
    "gcg_refcocog": 1.5, "gcg_grandf": 1.5, "gcg_flickr30k": 1.5, "gcg_openpsg": 1.5,
}  # fmt: skip
VIDEO_QA: Shares = {"videochat": 12}
VIDEO_SEGMENTATION: Shares = {"revos": 4, "mevis": 4, "refytvos": 4}
MORE_QA: Shares = {"infinity_mm": 12}
MORE_VIDEOS: Shares = {"refsav": 12}
BASE = (IMAGE_QA, IMAGE_SEGMENTATION, VIDEO_QA, VIDEO_SEGMENTATION)


@dataclass(frozen=True)
class Arm:
    """One row of a table.

    Attributes:
        name: of its runs.
        groups: what it draws from, besides or without the base; () = it is evaluated as it starts.
        seg_design: of model/seg_design.py; "" = that of the start model.
        needs_engine: its Ref-SAV was written by the data engine and lies in a folder of its own.
    """

    name: str
    groups: tuple[Shares, ...] = BASE
    seg_design: Literal["", "single", "repeat", "multiple"] = ""
    needs_engine: bool = False

    def datasets(self, engine: Path | None = None) -> tuple[DatasetShare, ...]:
        """Return the mixture; `engine` is the folder of the engine's Ref-SAV."""
        return tuple(
            DatasetShare(name=name, weight=weight, path=str(engine) if self.needs_engine and name == "refsav" else "")
            for group in self.groups
            for name, weight in group.items()
        )


def _without(group: Shares) -> tuple[Shares, ...]:
    return tuple(one for one in BASE if one is not group)


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("all"),
        Arm("no_image_qa", _without(IMAGE_QA)),
        Arm("no_image_segmentation", _without(IMAGE_SEGMENTATION)),
        Arm("no_video_qa", _without(VIDEO_QA)),
        Arm("no_video_segmentation", _without(VIDEO_SEGMENTATION)),
        Arm("repeat", seg_design="repeat"),
        Arm("multiple", seg_design="multiple"),
        Arm("infinity_mm", (*BASE, MORE_QA)),
        Arm("refsav", (*BASE, MORE_VIDEOS)),
        Arm("refsav_engine", (*BASE, MORE_VIDEOS), needs_engine=True),
        Arm("start", ()),
    )
}


@dataclass(frozen=True)
class Column:
    """A figure of a table.

    Attributes:
        name: heading.
        benchmark: in evaluation/catalog.py.
        figures: of that benchmark, which are summed.
        scale: factor from the benchmark's unit to that of the table.
        decimals: shown.
    """

    name: str
    benchmark: str
    figures: tuple[str, ...]
    scale: float = 100.0
    decimals: int = 1


COLUMNS: tuple[Column, ...] = (
    Column("RefCOCO", "refcoco/val", ("cIoU",)),
    Column("RefCOCO+", "refcoco+/val", ("cIoU",)),
    Column("RefCOCOg", "refcocog/val", ("cIoU",)),
    Column("MeViS", "mevis/valid_u", ("J&F",)),
    Column("Ref-DAVIS", "ref_davis17/valid", ("J&F",)),
    Column("MME", "mme/test", ("perception", "cognition"), 1.0, 0),
    Column("MMBench", "mmbench/dev", ("accuracy",)),
    Column("SEED", "seedbench/image", ("accuracy",)),
    Column("Video-MME", "videomme/test", ("accuracy",)),
    Column("MMBench-Video", "mmbench_video/test", ("score",), 1.0, 2),
)


@dataclass(frozen=True)
class Row:
    """Row of a table: an arm, its label, and what the paper has in its place, by column."""

    arm: str
    label: str
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One table of the paper; the first row is the base of the others."""

    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = tuple(column.name for column in COLUMNS)

    def arms(self) -> Iterator[Arm]:
        return (ARMS[row.arm] for row in self.rows)


# The paper's Table 10 states differences; they are added to the first row here.
TABLES: dict[str, Table] = {
    "cotraining": Table(
        "Co-training (the paper's Table 7)",
        (
            Row("all", "all data", {"RefCOCO": 77.4, "MeViS": 50.8, "MMBench": 68.3, "MMBench-Video": 1.07}),
            Row("no_image_qa", "without image QA", {"RefCOCO": 78.0, "MeViS": 48.3, "MMBench": 63.4}),
            Row(
                "no_image_segmentation", "without image segmentation",
                {"RefCOCO": 20.2, "MeViS": 38.0, "MMBench": 70.1},
            ),
            Row(
                "no_video_qa", "without video QA",
                {"RefCOCO": 78.0, "MeViS": 50.7, "MMBench": 69.1, "MMBench-Video": 0.71},
            ),
            Row(
                "no_video_segmentation", "without video segmentation",
                {"RefCOCO": 77.4, "MeViS": 44.4, "MMBench": 67.8},
            ),
            Row("start", "before training"),
        ),
    ),
    "seg-tokens": Table(
        "[SEG] designs (the paper's Table 9)",
        (
            Row("all", "single", {"Ref-DAVIS": 72.3, "MeViS": 50.8}),
            Row("repeat", "repeat", {"Ref-DAVIS": 71.1, "MeViS": 49.6}),
            Row("multiple", "multiple", {"Ref-DAVIS": 68.6, "MeViS": 46.3}),
        ),
    ),
    "data-scale": Table(
        "More data (the paper's Table 10)",
        (
            Row("all", "base", {"MMBench": 68.3, "MeViS": 50.8}),
            Row("infinity_mm", "+ Infinity-MM", {"MMBench": 70.4}),
            Row("refsav", "+ Ref-SAV, exported", {"MeViS": 52.5}),
            Row("refsav_engine", "+ Ref-SAV, written by the data engine"),
        ),
    ),
}  # fmt: skip
