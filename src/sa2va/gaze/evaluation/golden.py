"""Recompute recorded metric values and report the largest difference per metric.

Flow: folder with inputs.json and outputs.json (optionally extra/, string_primitives.json and blur_maps.npz)
    -> check_folder -> Deviations.
Source: values of the published evaluation code of RefCOCO-Gaze, arXiv:2407.19605, and of COCO-Search18.
Shapes: K fixations, W H canvas.
"""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2va.gaze.datasets.archives import read_arrays
from sa2va.gaze.datasets.records import read_json
from sa2va.gaze.evaluation.predictions import packs_of
from sa2va.gaze.letterbox import CANVAS
from sa2va.gaze.metrics import maps, multimatch, scanmatch, sequence, strings

LIMIT = 1e-6
LABEL_BLOCK = (40, 64)  # px, height and width of one label of a recorded map
INPUTS, OUTPUTS = "inputs.json", "outputs.json"
WHOLE, TABLES = "whole_scanpath.json", "scanmatch_osie.npz"
PRIMITIVES, BLUR = "string_primitives.json", "blur_maps.npz"

Pairs = Generator[tuple[str, Any, Any]]  # metric, our value or values, the recorded ones


@dataclass
class Deviation:
    """The largest difference between our values of a metric and the recorded ones."""

    name: str
    num_values: int = 0
    largest: float = 0.0
    where: str = ""  # case of the largest difference

    @property
    def ok(self) -> bool:
        return self.largest <= LIMIT

    def add(self, ours: Any, recorded: Any, place: str) -> None:
        """Compare two values, or two nested lists of values."""
        for difference in _differences(ours, recorded):
            self.num_values += 1
            if difference > self.largest:
                self.largest, self.where = difference, place


def check_folder(folder: Path) -> list[Deviation]:
    """Recompute all metrics recorded in a folder.

    Args:
        folder: Folder with inputs.json and outputs.json, with whole_scanpath.json in it or in `extra`, or both.

    Raises:
        ValueError: the folder or a file in it is missing or malformed.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; expected one with {INPUTS} and {OUTPUTS}")
    rows: dict[str, Deviation] = {}
    for path, pairs in _sources(folder):
        with _described(str(path)):
            for place, name, ours, recorded in pairs:
                rows.setdefault(name, Deviation(name)).add(ours, recorded, place)
    if not rows:
        raise ValueError(f"{folder}: no recorded cases; expected {INPUTS} and {OUTPUTS} with cases")
    return list(rows.values())


def _sources(folder: Path) -> Generator[tuple[Path, Iterable[tuple[str, str, Any, Any]]]]:
    inputs, outputs = folder / INPUTS, folder / OUTPUTS
    whole = [path for path in (folder / WHOLE, folder / "extra" / WHOLE) if path.exists()]
    if inputs.exists() or outputs.exists() or not whole:
        yield outputs, _each(_matched_cases(inputs, outputs), _pack_figures)
    for path in whole:
        yield path, _each(_named(path), _whole_figures)
    if (folder / PRIMITIVES).exists():
        yield folder / PRIMITIVES, _each(_named(folder / PRIMITIVES), _primitives)
    if (folder / BLUR).exists():
        yield folder / BLUR, _each([("", read_arrays(folder / BLUR))], _blurs)
    for path in (folder / TABLES, folder / "extra" / TABLES):
        if path.exists():
            yield path, _each([("", read_arrays(path))], _tables)


def _each(cases: Iterable[tuple[str, Any]], figures: Callable[[Any], Pairs]) -> Generator[tuple[str, str, Any, Any]]:
    for place, case in cases:
        with _described(place):
            yield from ((place, *pair) for pair in figures(case))


@contextmanager
def _described(place: str) -> Generator[None]:
    """Prefix errors with their place, in one line."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {' '.join(str(error).split())}" if place else str(error)) from error
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{place}: unexpected layout of recorded metrics ({detail})") from error


def _named(path: Path) -> Generator[tuple[str, Any]]:
    records = read_json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of records, got {type(records).__name__}")
    return ((f"record {number}", record) for number, record in enumerate(records))


def _matched_cases(inputs: Path, outputs: Path) -> list[tuple[str, Any]]:
    both = read_json(inputs), read_json(outputs)
    with _described(str(inputs.parent)):
        asked, recorded = (record["cases"] for record in both)
        names = [case["REF_ID"] for case in asked], [case["REF_ID"] for case in recorded]
    if names[0] != names[1]:
        raise ValueError(
            f"{outputs}: its cases differ from those of {INPUTS}; expected the same cases in the same order"
        )
    return [(f"REF_ID {case['REF_ID']}", (case, known)) for case, known in zip(asked, recorded, strict=True)]


def _pack_figures(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Pairs:
    case, recorded = pair
    centers = case["cluster_centers"]
    people, preds = ([packs_of(record) for record in case[side]] for side in ("human", "pred"))
    whole = [strings.nearest_symbols(np.concatenate(packs), centers) for packs in people]
    online = [sequence.stand_in_strings(packs, centers) for packs in people]
    for person, string, packs in zip(case["human"], whole, online, strict=True):
        yield "symbols", string, case["strings"][person["SUBJECT"]]
        yield "pack symbols", packs, case["strings_online"][person["SUBJECT"]]
    for packs, known in zip(preds, recorded["pred"], strict=True):
        string = strings.nearest_symbols(np.concatenate(packs), centers)
        pieces = sequence.stand_in_strings(packs, centers)
        yield "symbols", string, known["string"]
        yield "pack symbols", pieces, known["string_online"]
        yield "SS", sequence.sequence_score(string, whole), known["SS"]
        yield "FED", sequence.fixation_edit_distance(string, whole), known["ED"]
        yield "SS_pack", sequence.pack_sequence_score(pieces, online, published=True), known["SS_pack"]
        yield "FED_pack", sequence.pack_edit_distance(pieces, online, published=True), known["ED_pack"]
    shown, seen = ([[_wrapped(pack) for pack in packs] for packs in side] for side in (preds, people))
    result = maps.score_packs(shown, seen, *CANVAS, published=True)
    yield "CC", result.cc, recorded["CC"]
    yield "NSS", result.nss, recorded["NSS"]
    for pack, samples in recorded["CC_word"].items():
        yield "CC per word", _repeated(result.cc_samples[int(pack)], samples), samples
    for pack, known_people in recorded["NSS_word"].items():
        for ours, known in zip(result.nss_people[int(pack)], known_people, strict=True):
            samples = [] if known is None or known[:1] == [None] else known
            yield "NSS per word", _repeated(ours, samples), samples


def _wrapped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wrap negative pixels to the other edge, as the recorded code's array indices do."""
    pixels = np.trunc(points)
    return np.where(pixels < 0, pixels % CANVAS, points)


def _repeated(ours: Sequence[float], recorded: Sequence[float]) -> list[float]:
    """Repeat our single value for an empty map, which the recorded code stores once per sample."""
    return list(ours) * len(recorded) if len(ours) == 1 else list(ours)


def _whole_figures(case: Mapping[str, Any]) -> Pairs:
    known, records = case["out"], [case["pred"], *case["human"]]
    points = [packs_of({"X": [record["X"]], "Y": [record["Y"]]})[0] for record in records]
    labels = np.kron(np.array(case["seg_blocks_8x8"]), np.ones(LABEL_BLOCK, int))
    short = [places[: case["truncate"]] for places in points]
    kinds = {
        "": [strings.nearest_symbols(places, case["centers"]) for places in short],
        "Sem": [strings.label_symbols(places, labels) for places in short],
    }
    for kind, plain in kinds.items():
        pairs = zip(plain, records, strict=True)
        timed = [strings.repeated_by_time(string, record["T"][: len(string)]) for string, record in pairs]
        for suffix, (pred, *people) in {"": plain, "_time": timed}.items():
            yield f"{kind}SS{suffix}", sequence.sequence_score(pred, people), known[f"{kind}SS{suffix}"]
            yield f"{kind}FED{suffix}", sequence.fixation_edit_distance(pred, people), known[f"{kind}FED{suffix}"]
    single = [places.astype(np.float32) for places in points]  # the recorded code computes in single precision
    cells = [scanmatch.grid_symbols(places, *CANVAS, published=True) for places in points]
    for number, record in enumerate(case["human"], 1):
        pair = single[0], single[number], case["pred"]["T"], record["T"]
        match = multimatch.compare(*pair, *CANVAS, published=True)
        ours = [match.shape, match.direction, match.length, match.position, match.duration]
        yield "MultiMatch", ours, known["MultiMatch"][number - 1]
        score = scanmatch.scanmatch(cells[0], cells[number], published=True)
        yield "ScanMatch", score, known["ScanMatch_osie"][number - 1]
    cc, nss = maps.score_image(points[:1], points[1:], *CANVAS)
    yield "CC of an image", cc, known["CC_image"]
    yield "NSS of an image", nss, known["NSS_image"]


def _primitives(record: Mapping[str, Any]) -> Pairs:
    pair = record["a"], record["b"]
    yield "string similarity", strings.string_similarity(*pair), record["nw"]
    yield "string similarity, gap -0.5", strings.string_similarity(*pair, gap=-0.5), record["nw_gap-0.5"]
    yield "edit distance", strings.edit_distance(*pair), record["lev"]
    yield "edit distance, substitution 2", strings.edit_distance(*pair, substitution=2), record["lev_sub2"]


def _blurs(archive: Mapping[str, NDArray[Any]]) -> Pairs:
    for marked, smooth in zip(archive["action"], archive["blurred"], strict=True):
        yield "blurred map", float(np.abs(maps.blurred(marked.astype(float)) - smooth).max()), 0.0


def _tables(archive: Mapping[str, NDArray[Any]]) -> Pairs:
    rows, columns = np.indices(archive["mask"].shape)
    height, width = archive["mask"].shape
    cells = scanmatch.grid_symbols(np.stack([columns.ravel(), rows.ravel()], 1), width, height)
    yield "ScanMatch cells", float(np.abs(np.array(cells) + 1 - archive["mask"].ravel()).max()), 0.0
    yield "ScanMatch rewards", float(np.abs(scanmatch.substitution_scores() - archive["sub"]).max()), 0.0


def _differences(ours: Any, recorded: Any) -> Generator[float]:
    if isinstance(ours, list | tuple) and isinstance(recorded, list | tuple):
        if len(ours) != len(recorded):
            yield math.inf
            return
        for one, other in zip(ours, recorded, strict=True):
            yield from _differences(one, other)
        return
    one, other = (math.nan if value is None or value == "nan" else float(value) for value in (ours, recorded))
    yield 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else _gap(one, other)


def _gap(one: float, other: float) -> float:
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap
