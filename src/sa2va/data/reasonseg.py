"""Read ReasonSeg: questions and phrases that need reasoning, about one target of a picture.

Flow: <folder>/<split>/<name>.json and <name>.jpg -> one record per picture -> Sample.
Source: LISA, arXiv:2308.00692. Outlines are painted by decreasing area, so that a smaller one to be ignored cuts the
    target; pixels to be ignored are no target here. Our outlines cover pixels as COCO's do, those of the released
    evaluation also every pixel that they touch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.records import Record, read_object
from sa2va.data.referring import Expression, ReferredPicture, ReferringPictures
from sa2va.data.stored import DrawConfig, check_split, read_each
from sa2va.masks import polygons_to_mask
from sa2va.types import Masks

SPLITS = ("train", "val", "test")
UNUSED, IGNORED = "flag", "ignore"  # labels; any other is the target


@dataclass(frozen=True)
class PaintedTarget:
    """The mask of a target, painted on demand."""

    outlines: Sequence[tuple[bool, Sequence[Sequence[float]]]]  # is target, points (x, y) px; later ones cover
    picture: StoredPicture

    def __len__(self) -> int:
        return 1

    def masks(self, objects: Sequence[int], frames: Sequence[int]) -> Masks:
        """Paint the mask n times on K frames, bool (n, K, H, W)."""
        mask = np.zeros(self.picture.size, bool)
        for is_target, points in self.outlines:
            mask[polygons_to_mask([points], *self.picture.size)] = is_target
        return np.broadcast_to(mask, (len(objects), len(frames), *mask.shape)).copy()


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
    outlines.sort(key=lambda one: -_area(one[1]))
    is_sentence = record.get("is_sentence", bool)
    expressions = tuple(Expression(text.strip(), (0,), is_sentence) for text in dict.fromkeys(texts))
    return ReferredPicture(file, file.stem, picture, PaintedTarget(outlines, picture), expressions)


def _read_points(shape: Record) -> list[list[float]]:
    points = shape.get("points", list)
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not {*map(type, point)} <= {int, float}:
            raise shape.error(f"points has {point!r:.60}; expected [x, y]")
    if len(points) < 3:
        raise shape.error(f"points has {len(points)} points; expected 3 or more")
    return points


def _area(points: Sequence[Sequence[float]]) -> float:
    x, y = np.asarray(points, float).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
