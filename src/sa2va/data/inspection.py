"""Measure a stored dataset: counts, shares, sanity of its masks, and a contact sheet of drawn samples.

Flow: StoredDataset -> inspect -> Check (data/check.py) and pictures -> apps/commands/data.py.
    Records, lengths and the existence of media were checked when the dataset was built; here samples are decoded.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from sa2va.data.check import Check, Expected, compare
from sa2va.data.stored import StoredDataset
from sa2va.draw.overlay import contact_sheet, overlay
from sa2va.media.source import uniform_indices
from sa2va.tokens import SEG_TOKEN
from sa2va.types import Frame, Sample, Turn

NUM_FRAMES = 8  # frames of a clip whose masks are decoded
NUM_SHOWN = 12  # samples of the contact sheet
COLUMNS = 4
MAX_CAPTION = 160  # characters
WHOLE = 0.995  # share of the frame above which a mask is counted as the whole frame


@dataclass(frozen=True)
class Inspection:
    """Figures of a dataset, its damaged samples, and its contact sheet.

    Attributes:
        check: figures and expected values.
        problems: a line per damaged sample.
        sheet: uint8 (H, W, 3); None if no sample has a picture.
    """

    check: Check
    problems: tuple[str, ...]
    sheet: Frame | None


@dataclass
class _Counts:
    kinds: Counter[str] = field(default_factory=Counter)
    frames: list[int] = field(default_factory=list)
    turns: int = 0
    grounded: int = 0  # answers with masks
    absent: int = 0  # answers without masks of samples that have masks
    objects: int = 0  # masks that answers ask for
    areas: list[float] = field(default_factory=list)  # share of the frame, of every mask that is not empty
    empty: int = 0  # objects without a pixel on any frame
    pictures: list[tuple[Frame, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect(dataset: StoredDataset, num_items: int = 300) -> Inspection:
    """Decode samples spread over a dataset and measure them.

    Args:
        dataset: dataset to measure.
        num_items: number of samples to decode; all if there are fewer.

    Returns:
        The figures. Damaged samples and objects without a pixel on any frame are expected to be none.
    """
    chosen = uniform_indices(len(dataset), num_items)
    shown = {chosen[i] for i in uniform_indices(len(chosen), NUM_SHOWN)}
    counts = _Counts()
    for index in chosen:
        try:
            sample = dataset[index]
            _measure(sample, counts, dataset.describe(dataset.records[index]))
            if index in shown and sample.media:
                counts.pictures.append(_draw(sample))
        except ValueError as error:
            counts.problems.append(" ".join(str(error).split()))
    figures = _figures(dataset, len(chosen), counts)
    expected = {"damaged samples": Expected(0, 0), "objects without a pixel": Expected(0, 0)}
    origin = f"{len(chosen)} of {len(dataset)} records were decoded; all were checked for fields and files."
    frames = [picture for picture, _ in counts.pictures]
    sheet = contact_sheet(frames, COLUMNS, [text for _, text in counts.pictures]) if frames else None
    check = Check(figures=figures, rows=compare(figures, expected), origin=origin)
    return Inspection(check, tuple(counts.problems), sheet)


def _measure(sample: Sample, counts: _Counts, name: str) -> None:
    frames = uniform_indices(sample.num_frames, NUM_FRAMES)
    for medium in sample.media:
        medium.frames([0, (medium.num_frames or 1) - 1])  # raises for a damaged or missing file
    spans = [span for turn in sample.turns for span in turn.spans]
    counts.kinds["text only" if not sample.media else "clips" if sample.num_frames > 1 else "pictures"] += 1
    counts.kinds["with masks"] += bool(spans)
    counts.kinds["with marked regions"] += any(turn.regions for turn in sample.turns)
    counts.frames.append(sample.num_frames)
    counts.turns += len(sample.turns)
    counts.grounded += sum(bool(turn.spans) for turn in sample.turns)
    counts.absent += sum(not turn.spans for turn in sample.turns) if len(sample.tracks) else 0
    counts.objects += sum(len(span.objects) for span in spans)
    for index in sorted({index for span in spans for index in span.objects}):
        masks = sample.tracks.masks([index], frames)[0]  # (K, H, W)
        if not masks.any() and not sample.tracks.masks([index], range(sample.num_frames)).any():
            counts.empty += 1
            counts.problems.append(f"{name}: object {index} has no pixel on any frame")
        counts.areas += [float(mask.mean()) for mask in masks if mask.any()]
    counts.areas += [float(region.mean()) for turn in sample.turns for region in turn.regions]


def _figures(dataset: StoredDataset, num_decoded: int, counts: _Counts) -> dict[str, float]:
    damaged = len(counts.problems) - counts.empty
    good = max(num_decoded - damaged, 1)
    figures: dict[str, float] = {"records": len(dataset), "decoded samples": num_decoded, "damaged samples": damaged}
    figures |= {f"left out, {rule}": count for rule, count in sorted(dataset.left_out.items())}
    figures |= {f"share {kind}": count / good for kind, count in sorted(counts.kinds.items()) if count}
    figures["turns per sample"] = counts.turns / good
    if counts.frames and max(counts.frames) > 1:
        figures["frames per clip, median"] = float(np.median([number for number in counts.frames if number > 1]))
    if counts.grounded:
        figures["objects per answer with masks"] = counts.objects / counts.grounded
        figures["share answers without a mask"] = counts.absent / (counts.absent + counts.grounded)
    figures["objects without a pixel"] = counts.empty
    if counts.areas:
        for name, level in (("smallest", 0), ("median", 50), ("largest", 100)):
            figures[f"mask area of the frame, {name}"] = float(np.percentile(counts.areas, level))
        figures["share masks of the whole frame"] = float(np.mean(np.array(counts.areas) > WHOLE))
    return figures


def _draw(sample: Sample) -> tuple[Frame, str]:
    """Draw the first turn with masks or regions on the frame where they are largest."""
    turn = next((turn for turn in sample.turns if turn.spans or turn.regions), sample.turns[0])
    objects = [index for span in turn.spans for index in span.objects]
    frames = uniform_indices(sample.num_frames, NUM_FRAMES)
    masks = sample.tracks.masks(objects, frames)  # (N, K, H, W)
    best = int(masks.sum((0, 2, 3)).argmax()) if objects else 0
    shown = list(masks[:, best]) if objects else list(turn.regions)
    picture = sample.media[0].frames([frames[best]])[0]
    return (overlay(picture, np.stack(shown)) if shown else picture), _caption(turn)


def _caption(turn: Turn) -> str:
    answer = turn.answer
    for span in sorted(turn.spans, key=lambda span: -span.end):
        answer = f"{answer[: span.end]}{SEG_TOKEN * len(span.objects)}{answer[span.end :]}"
    text = f"{turn.question} - {answer}"
    return text if len(text) <= MAX_CAPTION else text[: MAX_CAPTION - 3] + "..."
