"""Read ReasonSeg: questions and phrases that need reasoning, about one target of a picture.

Flow: <folder>/<split>/<name>.json and <name>.jpg -> one record per picture -> Sample.
Source: LISA, arXiv:2308.00692, and its released evaluation. Outlines are painted by decreasing area, so that a smaller
    one to be ignored cuts the target. Corners are cut to whole pixels, and an outline covers every pixel that it
    touches. Pixels to be ignored are no target in training, and do not count in evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.records import Record, read_object
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.types import Masks

SPLITS = ("train", "val", "test")
UNUSED, IGNORED = "flag", "ignore"  # labels; any other is the target


@dataclass(frozen=True)
class PaintedOutlines:
    """One mask of the outlines of a kind, of target or of pixels to be ignored, painted on demand."""

    outlines: Sequence[tuple[bool, Sequence[Sequence[float]]]]  # is target, points (x, y) px
    picture: StoredPicture
    of_target: bool

    def __len__(self) -> int:
        return 1

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Paint the mask n times on K frames, bool (n, K, H, W)."""
        painted = [(one[0], paint_outline(one[1], self.picture.size)) for one in reversed(self.outlines)]
        painted.sort(key=lambda one: -int(one[1].sum()))
        mask = np.zeros(self.picture.size, bool)
        for is_target, outline in painted:
            mask[outline] = is_target == self.of_target
        return np.broadcast_to(mask, (len(objects), len(frames), *mask.shape)).copy()


def paint_outline(points: Sequence[Sequence[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Paint an outline of points (x, y) px and what lies in it, bool (H, W).

    Raises:
        ValueError: the points do not belong to a picture of that size.
    """
    corners, mask = np.array(points, float), np.zeros(size, np.uint8)
    if not (np.abs(corners) <= 2 * max(size)).all():
        raise ValueError(f"the points of a shape do not belong to a {size[1]}x{size[0]} picture; give px in x, y order")
    outline = [corners.astype(np.int32)]
    cv2.polylines(mask, outline, isClosed=True, color=1)
    cv2.fillPoly(mask, outline, color=1)
    return mask.astype(bool)


def reasonseg(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> ReferringPictures:
    """Read ReasonSeg.

    Args:
        path: folder with train, val and test.
        split: one of them.
        draw: settings of the draws.

    Raises:
        ValueError: the folder is missing, a picture has no annotation or the reverse, or a record is damaged.
    """
    check_split("reasonseg", split, SPLITS)
    folder = Path(path, split)
    folders = MediaFolders(folder)
    names = sorted(folders.names(folder))
    pictures = {name.removesuffix(".jpg") for name in names if name.endswith(".jpg")}
    records = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    if alone := sorted(pictures.difference(records)):
        raise ValueError(
            f"{folder}: {alone[0]}.jpg has no annotation {alone[0]}.json; add the file or remove the picture"
        )
    if not records:
        raise ValueError(f"{folder}: there is no JSON file in it; expected pairs of .json and .jpg")
    found = read_each(lambda name: _read_picture(folder / f"{name}.json", folders), records)
    return ReferringPictures("reasonseg", found, draw or DrawConfig())


def _read_picture(file: Path, folders: MediaFolders) -> ReferredPicture:
    record = read_object(file, fallback="cp1252")  # a few public files are not UTF-8
    picture = StoredPicture(folders.find(f"{file.stem}.jpg", record))
    outlines = []
    for shape in record.children("shapes", "shape"):
        label = shape.text("label").lower()
        if label != UNUSED:
            outlines.append((IGNORED not in label, _read_points(shape)))
    if not any(is_target for is_target, _ in outlines):
        raise record.error("it has no shape with label 'target'")
    texts = record.get("text", list)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise record.error(f"text is {texts!r:.60}; expected a list of texts")
    is_sentence = record.get("is_sentence", bool)
    expressions = tuple(
        Expression(text.strip(), (0,), is_sentence, id=str(number)) for number, text in enumerate(dict.fromkeys(texts))
    )
    target, ignored = (PaintedOutlines(outlines, picture, of_target) for of_target in (True, False))
    return ReferredPicture(file, file.stem, picture, target, expressions, ignored)


def _read_points(shape: Record) -> list[list[float]]:
    points = shape.get("points", list)
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not {*map(type, point)} <= {int, float}:
            raise shape.error(f"points has {point!r:.60}; expected [x, y]")
    if len(points) < 3:
        raise shape.error(f"points has {len(points)} points; expected 3 or more")
    return points
