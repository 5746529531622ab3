"""Read Ref-DAVIS17: four descriptions of each object of a DAVIS clip.

Flow: as refytvos.py, below <folder>; mask_dict.pkl lies in the folder of its split -> ReferringClips.
Source: Khoreva et al., arXiv:1803.08006. Two annotators described each object, each from the first frame and from the
    whole clip; the official figures are those of each of the four, averaged. The keys of mask_dict.pkl count the
    expressions of the clips in alphabetical order.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from sa2va.data.clips import EXPRESSIONS, FrameClip, ReferringClips, read_videos
from sa2va.data.refytvos import MASKS, SPLITS, read_object_clips
from sa2va.data.stored import DrawConfig, check_split


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringClips:
    """Read one split.

    Args:
        path: folder with meta_expressions/ and a folder per split.
        split: "train" or "valid".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("ref_davis17", split, SPLITS)
    folder = Path(path)
    videos = read_videos(folder / "meta_expressions" / split / EXPRESSIONS)
    counted = sorted(videos, key=lambda item: item[0])
    records = read_object_clips(videos, folder / split, [folder / split / MASKS], counted)
    return ReferringClips("ref_davis17", [_add_annotators(one) for one in records], draw or DrawConfig())


def _add_annotators(record: FrameClip) -> FrameClip:
    """Number the descriptions of each object in the order of their ids."""
    described: Counter[tuple[int, ...]] = Counter()
    expressions = []
    for one in record.expressions:
        expressions.append(replace(one, annotator=described[one.objects]))
        described[one.objects] += 1
    return replace(record, expressions=tuple(expressions))
