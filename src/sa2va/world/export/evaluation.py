"""Export the evaluation splits of all layouts once: `sa2va eval MODEL --exported DIR`.

Flow: root of the data, split of the world, seed, number of items -> layouts that are not there yet -> layout.export.
    A layout that was exported with other scenes is an error, so that a folder holds what a command says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sa2va.files.json_file import read_json
from sa2va.world.export.catalog import LAYOUTS
from sa2va.world.export.layout import Part, choose_scenes, describe_parts, export, find_filled, record_of
from sa2va.world.scenes.splits import find_split


def export_evaluation(root: Path, *, split: str, seed: int | None, num_items: int) -> Iterator[str]:
    """Export what is missing, with the masks that evaluation servers have, and yield the name of each layout written.

    Args:
        root: root of the data.
        split: "dev" or "report".
        seed: random seed of the scenes; None = that of the split.
        num_items: pictures or clips of each split.

    Raises:
        ValueError: other scenes are there, or other files in a place of a layout.
    """
    find_split(split, seed)  # training is none
    scenes = choose_scenes([split], seed, num_items, with_server_masks=True)
    missing = {}
    for name, layout in find_filled(LAYOUTS, scenes).items():
        if (file := root / record_of(name)).exists():
            _check_same(file, layout.parts(scenes))
        else:
            missing[name] = layout
    yield from export(missing, root, scenes)


def _check_same(file: Path, wanted: list[Part]) -> None:
    """Check that a layout was exported with the wanted scenes.

    Raises:
        ValueError: it was not.
    """
    written = {name: scenes for name, scenes in read_json(file).items() if name != "train"}
    if written != describe_parts(wanted):
        found = next(iter(written.values()), None)
        raise ValueError(
            f"{file}: drawn with {_in_words(found) if found else 'training scenes only'}; expected "
            f"{_in_words(asdict(wanted[0].scenes))}; choose another folder, or evaluate what is there with --data"
        )


def _in_words(scenes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in scenes.items())
