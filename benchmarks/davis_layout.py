"""Write clips with dense masks and written expressions in the layout of Ref-DAVIS17, for `sa2va eval`.

Flow: JSON of expressions, folders of frames and masks -> OUT/video_datas/davis17/{meta_expressions/valid/
    meta_expressions.json, valid/JPEGImages/<clip>/*.jpg, valid/Annotations/<clip>/*.png}. A clip whose masks do not
    cover every frame is left out and named.
Run: python benchmarks/davis_layout.py referring.json OUT
     sa2va eval tiny --benchmarks ref_davis17 --data OUT -o RESULTS
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PLACE = "video_datas/davis17"


def write_clip(folder: Path, frames: list[Path], masks: list[Path], values: list[list[int]]) -> None:
    """Write JPEG frames and index pictures.

    Args:
        folder: of the split.
        frames: T pictures.
        masks: T pictures (H, W) of values.
        values: values of each object, in the order of their numbers.
    """
    clip = frames[0].parent.parent.name
    for name in ("JPEGImages", "Annotations"):
        (folder / name / clip).mkdir(parents=True)
    for frame, mask in zip(frames, masks, strict=True):
        with Image.open(frame) as picture:
            size = picture.size
            (folder / "JPEGImages" / clip / f"{frame.stem}.jpg").write_bytes(frame.read_bytes())
        with Image.open(mask) as picture:
            labels = np.asarray(picture.resize(size, Image.Resampling.NEAREST)).astype(int)
        labels = labels * 255 if labels.max(initial=0) == 1 and values == [[255]] else labels  # of one bit
        numbers = np.zeros(labels.shape, np.uint8)
        for number, own in enumerate(values, 1):
            numbers[np.isin(labels, own)] = number
        Image.fromarray(numbers).save(folder / "Annotations" / clip / f"{frame.stem}.png")


def write_layout(file: Path, out: Path) -> list[str]:
    """Write all clips of a file and return a line for each.

    Args:
        file: {"items": [{"frames", "masks": folders beside the file's own folder, "ids", "expressions"}]}.
        out: root of the data.
    """
    clips: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for item in json.loads(file.read_text())["items"]:
        if "frames" in item:
            clips[item["frames"], item["masks"]].append(item)
    folder, videos, lines = out / PLACE, {}, []
    for places, items in clips.items():
        frames, masks = (sorted((file.parent.parent / place).iterdir()) for place in places)
        clip = frames[0].parent.parent.name
        if [one.stem for one in frames] != [one.stem for one in masks]:
            lines.append(f"{clip}: left out, {len(masks)} masks for {len(frames)} frames")
            continue
        write_clip(folder / "valid", frames, masks, [item["ids"] for item in items])
        said = [(number, text) for number, item in enumerate(items, 1) for text in item["expressions"]]
        expressions = {str(i): {"exp": text, "obj_id": str(number)} for i, (number, text) in enumerate(said)}
        videos[clip] = {"frames": [one.stem for one in frames], "expressions": expressions}
        lines.append(f"{clip}: {len(frames)} frames, {len(said)} expressions of {len(items)} objects")
    target = folder / "meta_expressions/valid/meta_expressions.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps({"videos": videos}))
    return lines


def main() -> int:
    made = argparse.ArgumentParser(description="clips with written expressions in the layout of Ref-DAVIS17")
    made.add_argument("file", type=Path)
    made.add_argument("out", type=Path, help="new root of data")
    options = made.parse_args()
    if (options.out / PLACE).exists():
        made.error(f"{options.out / PLACE} exists; give a new folder")
    print("\n".join(write_layout(options.file, options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
