"""Read RefCOCO-Gaze: object referral, visual search during a spoken referring expression.

Flow: refcocogaze_{train,val}_correct.json (1680 x 1050) or a 512 x 320 version (+ word-timing.json) -> Trial.
Source: Mondal et al., ECCV 2024, arXiv:2407.19605; data under the MIT license. TARGET_SPOKEN_PERIOD is on the trial's
    clock, as the fixations are; one public loader adds SOUND_ON twice.
Shapes: K fixations, N words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sa2va.gaze.datasets.records import NUMBER, check_places, located, number, numbers, read_records
from sa2va.gaze.letterbox import CANVAS, SCREEN
from sa2va.gaze.metrics.target import Box
from sa2va.gaze.scanpath import Fixation, Scanpath
from sa2va.gaze.timing import SpeechTiming, pack_indices, pack_indices_from_words
from sa2va.gaze.trial import Trial

TRIAL_FIELDS = {
    "REF_ID": int, "SUBJECT_ID": str, "IMAGEFILE": str, "REF_SENTENCE": str, "REF_WORDS": list, "BBOX": list,
    "SOUND_ON": NUMBER, "TARGET_SPOKEN_PERIOD": list, "BUTTON_PRESS_TIME": NUMBER, "NATIVE_SPEAKER": bool,
    "FIX_X": list, "FIX_Y": list, "FIX_START": list, "FIX_DURATION": list, "FIX_WORDINDEX": list,
}  # fmt: skip
TIMING_FIELDS = {"ref_id": int, "word_onset": list, "word_end": list, "sentence_duration": NUMBER}
SLACK = 1.01  # rounded boxes may exceed the stimulus by 1 percent


def read_refcoco_gaze(path: Path, timing: Path | None = None, size: tuple[int, int] | None = None) -> list[Trial]:
    """Read one file of trials.

    Args:
        path: The JSON file.
        timing: word-timing.json, from which packs are computed; None = from the recorded word indices, which differ
            only for fixations in a pause after a word without a fixation.
        size: Width and height of the stimulus, px; None = 512 x 320 if the file name contains 512 or all boxes and
            fixations fit, else 1680 x 1050.

    Raises:
        ValueError: naming the file and the record, if a value is invalid or does not fit the size.
    """
    clocks = read_timing(timing) if timing is not None else {}
    records = read_records(path, TRIAL_FIELDS)
    if size is None:
        size = CANVAS if "512" in path.name or _fits_canvas(records) else SCREEN
    trials = []
    firsts: dict[str, int] = {}  # case -> index of its first record
    for place, record in enumerate(records):
        with located(path, place):
            spoken = _timing_of(record, clocks, timing.name) if timing is not None else None
            trial = _read_trial(record, spoken, size)
            trials.append(trial)
            first = firsts.setdefault(trial.case, place)
            if trial.target != trials[first].target:
                raise ValueError(
                    f"BBOX of REF_ID {trial.case} is {record['BBOX']}, but {records[first]['BBOX']} in record {first}; "
                    "expected one box for all people"
                )
    return trials


def _fits_canvas(records: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether all boxes and fixations fit 512 x 320 px; the center of the larger size does not."""
    try:
        columns = [zip(record["FIX_X"], record["FIX_Y"], strict=True) for record in records]
        points = [(float(x), float(y)) for pairs in columns for x, y in pairs]
        boxes = [tuple(map(float, record["BBOX"])) for record in records]
        corners = [(left + width, top + height) for left, top, width, height in boxes]
    except (TypeError, ValueError, OverflowError):
        return False  # invalid records are reported by _read_trial
    limit = tuple(side * SLACK for side in CANVAS)
    return bool(points) and all(x <= limit[0] and y <= limit[1] for x, y in points + corners)


def read_timing(path: Path) -> dict[int, SpeechTiming]:
    """Read word-timing.json: expression id -> word times, ms from the beginning of the sound.

    Raises:
        ValueError: naming the file and the record, if times are missing or decrease, or an id occurs twice.
    """
    clocks: dict[int, SpeechTiming] = {}
    for place, record in enumerate(read_records(path, TIMING_FIELDS)):
        with located(path, place):
            if record["ref_id"] in clocks:
                raise ValueError(f"ref_id {record['ref_id']} occurs twice; keep one of the records")
            clocks[record["ref_id"]] = _read_clock(record)
    return clocks


def _read_clock(record: Mapping[str, Any]) -> SpeechTiming:
    onsets, ends = numbers(record, "word_onset"), numbers(record, "word_end")
    timing = SpeechTiming(onsets=tuple(onsets), ends=tuple(ends), duration=number(record, "sentence_duration"))
    if onsets and onsets[0] < 0:
        raise ValueError(f"word_onset begins with {onsets[0]:g} ms, expected at least 0, the beginning of the sound")
    return timing


def _timing_of(record: Mapping[str, Any], clocks: Mapping[int, SpeechTiming], source: str) -> SpeechTiming:
    """Look up the word times of a trial.

    Raises:
        ValueError: the expression is missing, or has another number of words.
    """
    name, words = record["REF_ID"], record["REF_WORDS"]
    if name not in clocks:
        raise ValueError(f"REF_ID {name} is not in {source}; add it there, or read the data without word times")
    timing = clocks[name]
    if len(timing.onsets) != len(words):
        raise ValueError(
            f"REF_ID {name} has {len(words)} words, but {source} times {len(timing.onsets)}; expected equal counts"
        )
    return timing


def _read_trial(record: Mapping[str, Any], timing: SpeechTiming | None, size: tuple[int, int]) -> Trial:
    sound = number(record, "SOUND_ON")
    columns = [numbers(record, f"FIX_{name}") for name in ("X", "Y", "START", "DURATION", "WORDINDEX")]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"FIX_ lists of {[len(column) for column in columns]} entries, expected equal lengths")
    x, y, start, duration, recorded = columns
    if any(index != int(index) for index in recorded):
        raise ValueError(f"FIX_WORDINDEX is {recorded!r:.40}, expected whole numbers")
    starts = [moment - sound for moment in start]
    fixations = [Fixation(*values) for values in zip(x, y, starts, duration, strict=True)]
    words = record["REF_WORDS"]
    if timing is None:
        indices = pack_indices_from_words([int(index) for index in recorded], len(words))
    else:
        indices = pack_indices(starts, timing)
    noun = [moment - sound for moment in numbers(record, "TARGET_SPOKEN_PERIOD")]
    if len(noun) != 2:
        raise ValueError(f"TARGET_SPOKEN_PERIOD has {len(noun)} numbers, expected 2, onset and end")
    photo = record.get("IMG_URL")  # null counts as missing
    if photo is not None and not isinstance(photo, str):
        raise ValueError(f"IMG_URL is {photo!r:.40}, expected text")
    image = record["IMAGEFILE"]
    scanpath = Scanpath.from_packs(fixations, indices, words, width=size[0], height=size[1], image=image)
    check_places(scanpath.points, size)
    return Trial(
        scanpath=scanpath,
        case=str(record["REF_ID"]),
        subject=record["SUBJECT_ID"],
        expression=record["REF_SENTENCE"],
        target=read_box(record, "BBOX", size),
        timing=timing,
        noun=(noun[0], noun[1]),
        ended=number(record, "BUTTON_PRESS_TIME") - sound,
        native_speaker=record["NATIVE_SPEAKER"],
        photo=photo or "",
    )


def read_box(record: Mapping[str, Any], name: str, size: tuple[int, int]) -> Box:
    """Read a box of left, top, width, height, and check that it fits the stimulus.

    Returns:
        x0, y0, x1, y1, px.

    Raises:
        ValueError: not four numbers, or the box does not fit.
    """
    values = numbers(record, name)
    if len(values) != 4 or min(values[2:]) <= 0:
        raise ValueError(f"{name} is {values}, expected left, top, width and height, the last two above 0")
    left, top, width, height = values
    if left + width <= 0 or top + height <= 0 or left >= size[0] or top >= size[1]:
        raise ValueError(f"{name} {values} lies outside {size[0]} x {size[1]} px: give the size of this file")
    if left + width > size[0] * SLACK or top + height > size[1] * SLACK:
        raise ValueError(f"{name} {values} exceeds {size[0]} x {size[1]} px: give the size of this file")
    return left, top, left + width, top + height
