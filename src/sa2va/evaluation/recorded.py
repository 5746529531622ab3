"""Read predictions that another program wrote, so that the same scoring gives their figures.

Flow: folder -> read_recorded -> answers by item -> Benchmark.score. The benchmark's items say which predictions there
    must be: each missing one is refused by name.
Source: masks of clips as the released evaluation of Sa2VA writes them (results.json), as servers read them (a picture
    per frame), and as the official code of DAVIS does (index pictures of an annotator); grounded captions as the
    released evaluation writes them (a JSON file per picture).
Shapes: T frames, H W picture.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sa2va.data.gcg import GroundedCaption
from sa2va.evaluation.answers import Answer
from sa2va.evaluation.benchmark import Benchmark, file_name
from sa2va.evaluation.benchmarks.clips import ClipItem
from sa2va.evaluation.benchmarks.expressions import Referral
from sa2va.evaluation.recorded_captions import find_captions
from sa2va.evaluation.recorded_clips import find_clips
from sa2va.evaluation.recorded_pictures import find_pictures
from sa2va.evaluation.report import Report, Section, describe_environment
from sa2va.evaluation.runner import NO_RUN, to_json

NUM_NAMED = 3  # missing items that an error names

# Item -> function that reads its answers; None = there is no prediction of it.
FindItem = Callable[[Any], Callable[[], list[Answer]] | None]

# Type of a benchmark's items -> function of a folder, which looks at its layout.
LAYOUTS: dict[type, Callable[[Path], FindItem]] = {
    ClipItem: find_clips,
    GroundedCaption: find_captions,
    Referral: find_pictures,
}

# Benchmark -> its folder in a working folder of the released evaluation.
RELEASED_FOLDERS = {
    "mevis/valid_u": "MEVIS_U",
    "mevis/valid": "MEVIS",
    "mevis/test": "MEVIS_T",
    "ref_davis17/valid": "DAVIS",
    "refytvos/valid": "REFYTVOS",
    "revos/valid": "REVOS",
    "refsav/valid": "REF_SAV",
}


class Recorded(Mapping[str, list[Answer]]):
    """Answers by item; they are read again each time they are asked for, since together they may not fit memory."""

    def __init__(self, benchmark: Benchmark[Any], find: FindItem, place: Path) -> None:
        self._benchmark, self._find, self._place = benchmark, find, place
        self._numbers = {key: number for number, key in enumerate(benchmark.ids)}

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __getitem__(self, key: str) -> list[Answer]:
        read = self._find(self._benchmark.load(self._numbers[key]))
        if read is None:
            raise KeyError(key)
        return read()

    def require_all(self) -> None:
        """Refuse predictions that lack an item.

        Raises:
            ValueError: names the first of them and their number.
        """
        missing = [key for key in self if self._find(self._benchmark.load(self._numbers[key])) is None]
        if missing:
            named = ", ".join(missing[:NUM_NAMED]) + (", ..." if len(missing) > NUM_NAMED else "")
            raise ValueError(
                f"{self._place}: has no prediction of {len(missing)} of the {len(self)} items of "
                f"{self._benchmark.name}: {named}; write an empty mask where nothing was found"
            )


def read_recorded(benchmark: Benchmark[Any], place: Path) -> Recorded:
    """Open the predictions of a benchmark.

    Args:
        benchmark: of the catalog.
        place: folder of the predictions; or of those of several benchmarks, each in a folder of its name with "-"
            for "/", or of the name that the released evaluation gives it.

    Raises:
        ValueError: the folder has another layout, a file is damaged, or items are missing.
    """
    first = benchmark.load(0)
    find = next((find for kind, find in LAYOUTS.items() if isinstance(first, kind)), None)
    if find is None:
        raise ValueError(f"benchmark {benchmark.name}: predictions of other programs are not read for it")
    names = (file_name(benchmark.name), RELEASED_FOLDERS.get(benchmark.name, ""))
    place = next((place / name for name in names if name and (place / name).is_dir()), place)
    recorded = Recorded(benchmark, find(place), place)
    recorded.require_all()
    return recorded


def score_recorded(benchmarks: Sequence[Benchmark[Any]], place: Path, *, seen: frozenset[int] = frozenset()) -> Report:
    """Score the predictions of another program.

    Args:
        benchmarks: of the catalog.
        place: see `read_recorded`.
        seen: COCO pictures that the model was trained on; figures without them are reported as well.

    Raises:
        ValueError: as `read_recorded`.
    """
    sections = []
    for benchmark in benchmarks:
        recorded = read_recorded(benchmark, place)
        records = [
            to_json(benchmark.score(benchmark.load(number), recorded[key])) for number, key in enumerate(benchmark.ids)
        ]
        sections.append(Section.of(replace(benchmark, scored_elsewhere=False), records, seen))  # no archive
    run = replace(NO_RUN, model=f"predictions in {place}")
    return Report(sections=tuple(sections), run=run, environment=describe_environment())
