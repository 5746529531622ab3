"""Read MeViS: expressions of clips that often need motion, for one object, several or none.

Flow: <folder>/<split>/{meta_expressions.json, mask_dict.json, JPEGImages/<clip>/<frame>.jpg} -> ReferringClips.
Source: Ding et al., arXiv:2308.08544. The masks of valid and test are on the server only. Figures on valid_u, whose
    masks are public, must not be compared with those on valid.
"""

from pathlib import Path

from sa2va.data.clips import EXPRESSIONS, ReferringClips, has_field, read_listed_clips, read_videos
from sa2va.data.mask_dict import read_mask_dict
from sa2va.data.media_files import MediaFolders
from sa2va.data.stored import DrawConfig, check_split

SPLITS = ("train", "valid_u", "valid", "test")
RELEASED = "meta_expressions_release.json"  # name of the expressions of the split test
MASKS = "mask_dict.json"


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringClips:
    """Read one split.

    Args:
        path: folder with a folder per split.
        split: "train", "valid_u", or without masks "valid" and "test".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("mevis", split, SPLITS)
    folder = Path(path) / split
    is_released = not (folder / EXPRESSIONS).exists() and (folder / RELEASED).exists()
    videos = read_videos(folder / (RELEASED if is_released else EXPRESSIONS))
    is_masked = split in ("train", "valid_u") or has_field(videos, "anno_id")
    masks = read_mask_dict(folder / MASKS) if is_masked else None
    records = read_listed_clips(videos, MediaFolders(folder / "JPEGImages"), masks)
    return ReferringClips("mevis", records, draw or DrawConfig())
