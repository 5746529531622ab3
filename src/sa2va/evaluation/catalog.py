"""List every benchmark by name.

Flow: a command names benchmarks -> build_benchmarks -> runner.evaluate; a folder of answers -> rebuild -> runner.score.
"""

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sa2va.data.catalog import FOLDERS
from sa2va.evaluation.benchmark import Benchmark, Selection
from sa2va.evaluation.benchmarks import (
    chat,
    davis,
    gcg,
    grefcoco,
    mevis,
    mmbench_video,
    own,
    reasonseg,
    refcoco,
    refsav,
    refytvos,
    region_caption,
    revos,
)
from sa2va.extensions import collect, find_part, load_extensions

ALL = "all"


class PublicBenchmark(NamedTuple):
    """A benchmark on files in the layout of a public dataset."""

    build: Callable[[Selection], Benchmark[Any]]
    splits: tuple[str, ...]
    # File or folder below the root of the data, "{split}" in it being the split; None = the root itself, not in "all".
    place: str | None
    needs: str = ""  # module that it cannot do without and that no extra installs; "all" leaves it out with a warning
    pooled: tuple[str, ...] = ()  # splits that hold items of others; asked only by their own name


# One line per public dataset; its benchmarks are NAME/SPLIT.
PUBLIC: dict[str, PublicBenchmark] = {
    "refcoco": PublicBenchmark(refcoco.refcoco, ("val", "testA", "testB"), FOLDERS["refcoco"], pooled=("test",)),
    "refcoco+": PublicBenchmark(refcoco.refcoco_plus, ("val", "testA", "testB"), FOLDERS["refcoco+"], pooled=("test",)),
    "refcocog": PublicBenchmark(refcoco.refcocog, ("val", "test"), FOLDERS["refcocog"]),
    "grefcoco": PublicBenchmark(grefcoco.grefcoco, ("val", "testA", "testB"), FOLDERS["grefcoco"]),
    "reasonseg": PublicBenchmark(reasonseg.reasonseg, ("val", "test"), f"{FOLDERS['reasonseg']}/{{split}}"),
    "mevis": PublicBenchmark(mevis.build, mevis.SPLITS, "video_datas/mevis/{split}"),
    "ref_davis17": PublicBenchmark(davis.build, davis.SPLITS, "video_datas/davis17/{split}"),
    "refytvos": PublicBenchmark(refytvos.build, refytvos.SPLITS, "video_datas/rvos/{split}"),
    "revos": PublicBenchmark(revos.build, revos.SPLITS, "video_datas/revos/meta_expressions_{split}_.json"),
    "refsav": PublicBenchmark(refsav.build, refsav.SPLITS, "ref_sav_eval"),
    "gcg": PublicBenchmark(gcg.gcg, gcg.SPLITS, gcg.PLACE),
    "region_caption": PublicBenchmark(region_caption.refcocog, region_caption.SPLITS, region_caption.PLACE),
    "mme": PublicBenchmark(chat.mme, ("test",), "MME", "lmms_eval"),
    "mmbench": PublicBenchmark(chat.mmbench, ("dev",), "MMBench", "lmms_eval"),
    "seedbench": PublicBenchmark(chat.seedbench, ("image", "video"), "SEED-Bench", "lmms_eval"),
    "videomme": PublicBenchmark(chat.videomme, ("test",), "Video-MME", "lmms_eval"),
    "mmbench_video": PublicBenchmark(mmbench_video.mmbench_video, ("test",), mmbench_video.NAME),
    "own": PublicBenchmark(own.own, ("all",), None),
}

# Generated benchmarks: name -> function of a Selection. Extensions list theirs under BENCHMARKS in extension.py.
BENCHMARKS: dict[str, Callable[[Selection], Benchmark[Any]]] = {}


def list_benchmarks(extension: str | None = None) -> list[str]:
    """Return the names of all generated benchmarks, or of those that one extension adds."""
    if extension is None:
        return [*BENCHMARKS, *collect("BENCHMARKS")]
    return list(getattr(load_extensions().get(extension), "BENCHMARKS", ()))


def list_public() -> list[str]:
    """Return the names of all benchmarks on public datasets, each with its split."""
    return [f"{name}/{split}" for name, one in PUBLIC.items() for split in (*one.splits, *one.pooled)]


def build_benchmarks(
    names: Sequence[str] | None = None,
    *,
    extension: str | None = None,
    split: str = "dev",
    seed: int | None = None,
    limit: int | None = None,
) -> list[Benchmark[Any]]:
    """Build generated benchmarks by name.

    Args:
        names: from list_benchmarks; None takes all except those that run on request only.
        extension: None takes those of the core and of all extensions.
        split: test set of each benchmark: "dev" to choose by, "report" for figures to quote.
        seed: of generated items; None takes the split's own.
        limit: number of items of each benchmark, >= 1; None takes the benchmark's own.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    selection = Selection(split=split, seed=seed, limit=limit)
    chosen = list_benchmarks(extension) if names is None else names
    built = [rebuild(name, selection) for name in chosen]
    return [one for one in built if names is not None or not one.on_request]


def is_usable(name: str) -> bool:
    """Return whether the module that a benchmark needs, if any, is installed."""
    needed = PUBLIC[name.split("/")[0]].needs
    return not needed or find_spec(needed) is not None


def choose_public(names: Sequence[str], root: Path) -> list[str]:
    """Return the benchmarks that a user means, each once and with its split.

    Args:
        names: NAME = all its splits, NAME/SPLIT = one, "all" = every split that is below the root.
        root: root of the data.

    Raises:
        ValueError: an unknown name, or no data at all.
    """
    chosen: list[str] = []
    for name in names:
        _check_name(name)
        if name == ALL:
            places = {f"{key}/{split}": one.place for key, one in PUBLIC.items() if one.place for split in one.splits}
            found = [key for key, place in places.items() if (root / place.format(split=key.split("/")[1])).exists()]
            if unusable := [key for key in found if not is_usable(key)]:
                needed = PUBLIC[unusable[0].split("/")[0]].needs
                warnings.warn(f"{', '.join(unusable)}: left out, since {needed} is not installed", stacklevel=2)
                found = [key for key in found if is_usable(key)]
            if not found:
                listed = ", ".join(dict.fromkeys(places.values()))
                raise ValueError(f"{root}: holds no data of any benchmark; expected one of {listed} below it")
            chosen += found
        elif name in PUBLIC:
            chosen += [f"{name}/{split}" for split in PUBLIC[name].splits]
        else:
            chosen.append(name)
    return list(dict.fromkeys(chosen))


def _check_name(name: str) -> None:
    if name not in (ALL, *PUBLIC, *list_public()):
        near = difflib.get_close_matches(name, [*PUBLIC, *list_public()], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"benchmark {name!r} is unknown{hint} (known: {', '.join([*PUBLIC, *list_benchmarks(), ALL])})"
        )


def build_public(names: Sequence[str], selection: Selection) -> list[Benchmark[Any]]:
    """Build benchmarks on public datasets.

    Args:
        names: see `choose_public`.
        selection: their items, with the root of the data; the splits come from the names.

    Raises:
        ValueError: an unknown name, no root, or data that is missing or damaged.
    """
    if selection.root is None:
        for name in names:
            _check_name(name)
        raise ValueError(f"benchmark {names[0]}: needs the root of its data; add --data DIR")
    return [rebuild(name, selection) for name in choose_public(names, selection.root)]


def rebuild(name: str, selection: Selection, root: Path | None = None) -> Benchmark[Any]:
    """Build a benchmark by its full name.

    Args:
        name: from list_benchmarks or list_public.
        selection: its items; the split of a public dataset comes from the name.
        root: root of the data, if it is not that of the selection any more.

    Raises:
        ValueError: an unknown name, or data that is missing or damaged.
    """
    family, _, split = name.rpartition("/")
    if name in list_public():
        selection = replace(selection, split=split, root=root or selection.root)
        built = replace(PUBLIC[family].build(selection), name=name)
    else:
        built = find_part("benchmark", name, BENCHMARKS)(selection)
    return replace(built, selection=selection, options=selection.set_keyframes(built.options))
