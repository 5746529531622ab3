"""Hold the published values of Sa2VA models and of other systems, to be shown beside measured ones.

Flow: name of a model -> find_published -> report (column "published"); as_markdown -> docs/benchmarks/published.md.
Source: each table names its own. Values keep the units of our figures: shares 0..1; points of MME, CIDEr and scores of
    MMBench-Video as papers print them. A value is published for a protocol: docs/benchmarks tells where they differ.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REFERRING = (("refcoco/val", "cIoU"), ("refcoco+/val", "cIoU"), ("refcocog/val", "cIoU"))
MEVIS, MEVIS_U = ("mevis/valid", "J&F"), ("mevis/valid_u", "J&F")
DAVIS, YOUTUBE, REVOS = ("ref_davis17/valid", "J&F"), ("refytvos/valid", "J&F"), ("revos/valid", "J&F")
REVOS_KINDS = (("revos/valid", "J&F, referring"), ("revos/valid", "J&F, reasoning"))
MME = (("mme/test", "perception"), ("mme/test", "cognition"))
MMBENCH, SEED = ("mmbench/dev", "circular accuracy"), ("seedbench/image", "accuracy")
VIDEO_MME, MMBENCH_VIDEO = ("videomme/test", "accuracy"), ("mmbench_video/test", "rating")
AP50 = ("gcg/val", "AP50, every score 1")
GCG = (AP50, ("gcg/val", "mIoU, matched pairs"), ("gcg/val", "recall, BERT"))
CAPTIONS = (("gcg/val", "METEOR"), ("gcg/val", "CIDEr"))
REASON = (("reasonseg/val", "gIoU"), ("reasonseg/val", "cIoU"))
NOT_SHARES = {*MME, MMBENCH_VIDEO, CAPTIONS[1]}  # in their own units; all others are printed in percent
REFCOCO_SPLITS = tuple((f"refcoco/{split}", "cIoU") for split in ("val", "testA", "testB"))
PLUS_SPLITS = tuple((f"refcoco+/{split}", "cIoU") for split in ("val", "testA", "testB"))
G_SPLITS = tuple((f"refcocog/{split}", "cIoU") for split in ("val", "test"))

Column = tuple[str, str]  # benchmark and figure
NAN = float("nan")


@dataclass(frozen=True)
class Published:
    """A published value of a model.

    Attributes:
        model: as its authors name it.
        benchmark: our name, with the split.
        figure: our name.
        value: in the unit of our figure.
        source: the table that prints it.
    """

    model: str
    benchmark: str
    figure: str
    value: float
    source: str


@dataclass(frozen=True)
class SourceTable:
    """One published table: a row per model in the order of `columns`; nan = no value."""

    source: str
    columns: tuple[Column, ...]
    rows: dict[str, tuple[float, ...]]

    def values(self) -> Iterator[Published]:
        """Yield every value in our units."""
        for model, row in self.rows.items():
            for column, value in zip(self.columns, row, strict=True):
                if value == value:  # not nan
                    share = value if column in NOT_SHARES else round(value / 100, 6)
                    yield Published(model, *column, share, self.source)


PAPER = SourceTable(
    "arXiv:2501.04001v4, co-trained from InternVL2",
    (*REFERRING, MEVIS, DAVIS, YOUTUBE, REVOS, *MME, MMBENCH, SEED, VIDEO_MME, MMBENCH_VIDEO, AP50),
    {
        "Sa2VA-1B": (77.4, 69.9, 72.3, 41.7, 72.3, 65.3, 47.6, 1381, 405, 68.3, 64.8, 39.9, 1.07, 23.8),
        "Sa2VA-4B": (80.4, 74.3, 76.7, 46.2, 73.8, 70.0, 53.2, 1553, 540, 76.8, 72.6, 50.4, 1.23, 28.2),
        "Sa2VA-8B": (81.9, 76.5, 78.9, 46.9, 75.2, 70.7, 57.6, 1651, 578, 82.4, 75.5, 52.1, 1.34, 31.0),
        "Sa2VA-26B": (82.5, 78.8, 79.7, 46.2, 77.0, 70.1, 58.4, 1691, 538, 83.7, 76.8, 52.6, 1.45, 33.5),
    },
)

# The checkpoints on the hub, from InternVL2.5, InternVL3 and Qwen. The cards name neither metric nor split: read as
# cIoU on val, and as valid_u of MeViS.
CARDS = SourceTable(
    "model cards and arXiv:2501.04001v4, checkpoints on the hub",
    (*REFERRING, MEVIS_U, REVOS, DAVIS, YOUTUBE, *MME, MMBENCH, SEED),
    {
        "Sa2VA-1B": (79.6, 73.6, 77.7, 53.4, NAN, 69.5, 68.0, 1504, 434, 71.9, 71.0),
        "Sa2VA-4B": (82.4, 77.6, 79.7, 55.9, NAN, 73.7, 71.3, 1691, 610, 81.8, 74.9),
        "Sa2VA-8B": (82.6, 78.0, 80.3, 58.9, NAN, 75.9, 72.3, 1690, 610, 84.4, 76.5),
        "Sa2VA-26B": (82.9, 79.3, 81.2, 61.8, NAN, 78.6, 75.1, 1698, 653, 85.8, 78.3),
        "Sa2VA-InternVL3-2B": (81.4, 75.7, 80.3, 53.9, 56.2, 74.5, NAN, 1631, 559, 79.8, 73.9),
        "Sa2VA-InternVL3-8B": (83.3, 78.9, 81.8, 56.4, 60.8, 76.3, NAN, 1743, 633, 83.0, 76.2),
        "Sa2VA-InternVL3-14B": (83.6, 79.9, 83.6, 59.2, 60.7, 76.6, NAN, 1746, 724, 84.3, 76.6),
        "Sa2VA-Qwen2_5-VL-3B": (79.6, 74.0, 77.1, 51.6, 52.0, 73.4, NAN, 1533, 572, 78.4, 73.9),
        "Sa2VA-Qwen2_5-VL-7B": (82.4, 77.5, 81.5, 56.4, 58.3, 79.4, NAN, 1552, 676, 84.5, 75.0),
        "Sa2VA-Qwen3-VL-2B": (80.2, 75.1, 78.5, 53.9, NAN, 74.8, NAN, 1541, 520, 79.0, NAN),
        "Sa2VA-Qwen3-VL-4B": (81.7, 77.4, 80.0, 57.1, 56.7, 75.9, NAN, 1660, 655, 86.3, 77.3),
    },
)

FIRST_CARDS = SourceTable(
    "model cards of the first release, checkpoints since replaced",
    (*MME, MMBENCH, *REFERRING, MEVIS_U, DAVIS, REVOS),
    {
        "Sa2VA-1B": (1381, 405, 68.3, 77.4, 69.9, 72.3, 50.8, 72.3, 47.6),
        "Sa2VA-4B": (1536, 530, 77.3, 78.9, 71.7, 74.1, 52.1, 73.8, 53.2),
        "Sa2VA-8B": (1617, 511, 81.6, 81.6, 76.2, 78.7, 57.0, 75.2, 57.6),
    },
)

CONSISTENT = "Sa2VA-i"
SA2VA_I = SourceTable(
    "README of Sa2VA-i, arXiv:2509.19082",
    (MEVIS, YOUTUBE, DAVIS),
    {
        "Sa2VA-1B": (47.0, 68.0, 69.5),
        "Sa2VA-4B": (46.4, 71.3, 73.7),
        "Sa2VA-8B": (51.5, 72.3, 75.9),
        "Sa2VA-26B": (52.1, 75.1, 78.6),
        "Sa2VA-i-1B": (52.6, 70.3, 73.6),
        "Sa2VA-i-4B": (56.6, 73.2, 78.6),
        "Sa2VA-i-8B": (59.5, 73.9, 79.1),
        "Sa2VA-i-26B": (63.2, 76.5, 81.2),
    },
)

RUN_AGAIN = SourceTable(
    "bytedance/Sa2VA#3, run by a user",
    (MEVIS_U, ("mevis/valid_u", "J"), ("mevis/valid_u", "F"), MEVIS),
    {"Sa2VA-8B": (59.01, 54.63, 63.38, 51.59), "Sa2VA-8B, uniform frames": (60.07, NAN, NAN, 52.80)},
)

# Other systems. Some of these values are second-hand: confirm one before quoting it.
OTHERS = (
    SourceTable(
        "tables of X-SAM, HyperSeg, X2SAM, UniPixel",
        (*REFCOCO_SPLITS, *PLUS_SPLITS, *G_SPLITS),
        {
            "X-SAM-3.8B": (85.1, 87.1, 83.4, 78.0, 81.0, 74.4, 83.8, 83.9),
            "HyperSeg-3B": (84.8, 85.7, 83.4, 79.0, 83.5, 75.2, NAN, NAN),
            "X2SAM-4B": (84.0, 85.5, 81.8, 78.4, 82.4, 74.3, 81.9, 83.2),
            "UniPixel-7B": (80.8, 83.0, 77.4, NAN, NAN, NAN, NAN, NAN),
        },
    ),
    SourceTable(
        "papers of VIRST, X2SAM, UniPixel",
        (MEVIS, DAVIS, YOUTUBE, REVOS, *REVOS_KINDS),
        {
            "VIRST": (62.9, 79.5, 74.2, 68.4, 70.8, 66.1),
            "X2SAM-4B": (NAN, 79.0, 78.5, 69.9, 69.3, 70.3),
            "UniPixel-3B": (53.1, NAN, NAN, 62.1, NAN, NAN),
            "UniPixel-7B": (55.8, NAN, NAN, 63.7, NAN, NAN),
        },
    ),
    SourceTable(
        "papers of SAMTok, X-SAM, X2SAM, GLaMM, FCLM; for Sa2VA-8B a run of another paper",
        (*GCG, *CAPTIONS),
        {
            "Qwen2.5-VL-3B-SAMTok, RL": (41.5, 73.5, 53.5, NAN, NAN),
            "Qwen2.5-VL-3B-SAMTok, SFT": (37.0, 71.7, 47.7, NAN, NAN),
            "X-SAM-3.8B": (33.2, 69.4, NAN, 15.4, 46.3),
            "X2SAM-4B": (33.1, 67.1, NAN, 15.2, 35.6),
            "Sa2VA-8B": (33.2, 67.7, 45.1, NAN, NAN),
            "GLaMM-7B": (30.8, 66.3, 41.8, 16.2, 47.2),
            "GLaMM-7B, run again": (NAN, NAN, NAN, 15.2, 43.1),
            "Kosmos-2": (NAN, NAN, NAN, 16.1, 27.6),
            "FCLM-3B": (NAN, NAN, NAN, NAN, 56.2),
        },
    ),
    SourceTable(
        "papers of X2SAM, UniPixel, X-SAM, EVOL-SAM3, GenSeg-R1",
        (*REASON, ("reasonseg/test", "gIoU")),
        {
            "X2SAM-4B": (71.1, 64.5, 68.5),
            "UniPixel-3B": (64.0, 56.2, NAN),
            "UniPixel-7B": (60.5, 58.7, NAN),
            "X-SAM-3.8B": (56.6, 32.9, NAN),
            "EVOL-SAM3": (70.7, NAN, NAN),
            "GenSeg-R1-4B": (NAN, NAN, 68.4),
        },
    ),
    SourceTable("paper of X2SAM", (*MME, MMBENCH, SEED), {"X2SAM-4B": (1701, 601, 83.5, 76.0)}),
    SourceTable(
        "cards of the base models, without subtitles",
        (VIDEO_MME, MMBENCH_VIDEO),
        {
            "Qwen2.5-VL-3B": (61.5, 1.63),
            "Qwen2.5-VL-7B": (65.1, 1.79),
            "InternVL2.5-4B": (NAN, 1.73),
            "InternVL3-8B": (66.3, 1.69),
            "InternVL3-14B": (70.4, NAN),
        },
    ),
)
TABLES = (CARDS, PAPER, SA2VA_I, FIRST_CARDS, RUN_AGAIN, *OTHERS)  # the first value of a figure is shown in reports


def find_published(model: str, *, consistent: bool = False) -> list[Published]:
    """List the published values of a model, those of the checkpoint on the hub first.

    Args:
        model: hub name or folder, as in "ByteDance/Sa2VA-4B", "models/Sa2VA-4B" or a snapshot of the hub's cache.
        consistent: its video goes through the original SAM 2 decoder, as in Sa2VA-i: clips have the values of
            Sa2VA-i instead.
    """
    known = {_plain(name): name for table in TABLES for name in table.rows}
    parts = [part.rpartition("--")[2] for part in re.split(r"[/\\]", model.partition("@")[0])]
    name = next((known[_plain(part)] for part in reversed(parts) if _plain(part) in known), None)
    if name is None:
        return []
    own = [one for table in TABLES for one in table.values() if one.model == name]
    if consistent and (other := name.replace("Sa2VA-", f"{CONSISTENT}-")) in SA2VA_I.rows:
        instead = [one for one in SA2VA_I.values() if one.model == other]
        clips = {one.benchmark for one in instead}
        own = [*instead, *(one for one in own if one.benchmark not in clips)]
    return own


def _plain(name: str) -> str:
    """Return a name without case and punctuation, which folders change."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


INTRODUCTION = """# Published values

Each table is one source. Values are as printed: percent, points of MME, CIDEr x 100, ratings 0 to 3. The columns name
the benchmark and figure of ours that has the same protocol. Two rows of different tables may have different protocols:
the page of each benchmark tells which switch reproduces which. This page is printed by
`python -m sa2va.evaluation.published`.
"""


def as_markdown(tables: Sequence[SourceTable] = TABLES) -> str:
    """Format all values, a table per source, as the page of the documentation."""
    text = INTRODUCTION
    for table in tables:
        names = [f"{benchmark} {figure}" for benchmark, figure in table.columns]
        text += f"\n## {table.source[:1].upper()}{table.source[1:]}\n\n| model | {' | '.join(names)} |\n"
        text += f"|---|{'--:|' * len(names)}\n"
        for model, row in table.rows.items():
            text += f"| {model} | {' | '.join(map(_as_printed, table.columns, row))} |\n"
    return text


def _as_printed(column: Column, value: float) -> str:
    if value != value:
        return ""
    return f"{value:g}" if column in NOT_SHARES else f"{value:.4g}" if round(value, 1) != value else f"{value:.1f}"


if __name__ == "__main__":
    print(as_markdown(), end="")
