"""Measure J&F of semi-supervised tracking on real frames, from the ground-truth masks of the first frame.

Flow: folder with frames/ and masks/ -> TrackSession.add(mask=) -> J and F on every later frame with a true mask.
Source: DAVIS, Perazzi et al., CVPR 2016; the first frame is given and not scored.
Run: python benchmarks/davis.py FOLDER [--model tiny]
Shapes: N objects, T frames, H W image.
"""

import sys
from pathlib import Path

import numpy as np
from measure import Table, choose_clock, name_clock, parser, report
from PIL import Image

import sa2va
from sa2va.metrics.boundary import boundary_f, jaccard

SINGLE_CHANNEL = {"1", "L", "P", "I"}  # image modes of one number per pixel


def read_labels(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an object index per pixel, 0 = background: (H, W), resized if the file differs by a pixel."""
    with Image.open(path) as picture:
        labels = picture if picture.mode in SINGLE_CHANNEL else picture.convert("L")
        return np.asarray(labels.resize(size[::-1], Image.Resampling.NEAREST)).astype(int)


def track_folder(folder: Path, model: str) -> Table:
    """Track every object of the first mask."""
    masks = {path.stem: path for path in sorted((folder / "masks").glob("*.png"))}
    frames = sorted((folder / "frames").iterdir())
    names = [path.stem for path in frames]
    if not names or names[0] not in masks:
        raise SystemExit(f"{folder}: expected frames/ with pictures and masks/ with a PNG of the first one's name")
    with Image.open(frames[0]) as picture:
        size = picture.size[::-1]
    first = read_labels(masks[names[0]], size)
    labels = [label for label in np.unique(first).tolist() if label]
    scores: dict[int, list[tuple[float, float]]] = {label: [] for label in labels}
    predictor, clock = sa2va.load(model, device="cpu"), choose_clock("cpu")
    start = clock()
    with predictor.track(str(folder / "frames")) as session:
        for result in session:
            if result.index == 0:
                keys = {label: session.add(mask=first == label) for label in labels}
                continue
            if names[result.index] not in masks:
                continue
            true, found = read_labels(masks[names[result.index]], size), {one.id: one.mask for one in result.objects}
            for label in labels:
                pair = found[keys[label]], true == label
                scores[label].append((float(jaccard(*pair)), float(boundary_f(*pair))))
    rate = len(names) / (clock() - start)
    table = Table(f"{folder.name}, {model}, {len(names)} frames", ("object", "frames scored", "J", "F", "J&F"))
    for label, pairs in scores.items():
        if pairs:
            j, f = np.mean(pairs, axis=0).tolist()
            table.add(label, len(pairs), j, f, (j + f) / 2)
        else:
            table.add(label, 0, "-", "-", "-")
    table.verdicts.append(f"{rate:.2g} frames/s ({name_clock(clock)}) with {len(labels)} objects")
    return table


def main() -> int:
    made = parser("J&F from the ground-truth masks of the first frame")
    made.add_argument("folders", nargs="+", type=Path)
    made.add_argument("--model", default="tiny")
    options = made.parse_args()
    tables = [track_folder(folder, options.model) for folder in options.folders]
    return report("python benchmarks/davis.py", tables, record=options.record)


if __name__ == "__main__":
    sys.exit(main())
