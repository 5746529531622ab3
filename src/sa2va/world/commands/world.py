"""Work with the drawn world: `sa2va world export --as refcoco --items 100 data`, `sa2va world check-expressions OUT`.

Flow: names of layouts, splits, folder -> world/export -> public layouts below the folder; results of `sa2va synth`
    -> expression_check.py -> shares.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sa2va.apps.options import JsonOption, QuietOption, build_group, parse_path
from sa2va.apps.report import remark, say

ALL = "all"


class SplitName(StrEnum):
    TRAIN = "train"
    DEV = "dev"
    REPORT = "report"


app = build_group("Export drawn scenes, and measure what was written about them.")


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", parser=parse_path, help="Root of the data.")],
    layouts: Annotated[
        list[str],
        typer.Option("--as", metavar="LAYOUT", help='Public layout, or "all". Repeatable.', show_default=False),
    ],
    items: Annotated[int, typer.Option(min=1, help="Number of pictures or clips of each split of a layout.")] = 100,
    split: Annotated[
        list[SplitName] | None,
        typer.Option(help="train: training split (default); dev or report: all evaluation splits. Repeatable."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed; by default that of the split.", show_default=False)
    ] = None,
    server_masks: Annotated[
        bool, typer.Option("--server-masks", help="Also write masks that only evaluation servers have.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Write drawn scenes in the layouts of public datasets.

    The files lie below DIR where training and evaluation look for them.
    Nothing is replaced. "all" leaves out layouts without a split for the
    scenes, and those that need what is not installed.

    Evaluation splits, each with scenes of its own:
    refcoco, refcoco+, grefcoco: val, testA, testB
    refcocog, reasonseg, gcg: val, test
    region_caption: val
    mevis: valid_u, and without masks valid, test
    refytvos: valid, without masks
    davis, revos, refsav: valid
    mme, seedbench, videomme, mmbench_video: test; mmbench: dev
    """
    from sa2va.data.catalog import FOLDERS
    from sa2va.world.export.catalog import LAYOUTS
    from sa2va.world.export.layout import choose_scenes, find_filled
    from sa2va.world.export.layout import export as write_layouts

    chosen = {name: LAYOUTS[name] for name in choose_layouts(layouts, list(LAYOUTS))}
    scenes = choose_scenes(
        [one.value for one in split or [SplitName.TRAIN]], seed, items, with_server_masks=server_masks
    )
    if ALL in layouts:
        chosen = find_filled(chosen, scenes)
    for name in write_layouts(chosen, folder, scenes):
        places = {dataset: FOLDERS[dataset] for dataset in LAYOUTS[name].datasets} or {name: LAYOUTS[name].places[0]}
        for dataset, place in places.items():
            say(f"{dataset} {folder / place}")
    if unwritable := [name for name, layout in LAYOUTS.items() if ALL in layouts and not layout.is_writable]:
        remark(f"left out {', '.join(unwritable)}: pip install 'sa2va[eval]'", quiet)
    remark("look at a dataset with sa2va data check NAME PATH --split SPLIT -o FOLDER", quiet)


@app.command("check-expressions")
def check_expressions(
    folder: Annotated[Path, typer.Argument(metavar="OUT", parser=parse_path, help="Results of sa2va synth.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", parser=parse_path, help="Export on which it ran (--as refsav).")
    ],
    as_json: JsonOption = False,
) -> None:
    """Measure expressions that sa2va synth wrote for exported clips.

    An expression counts if it denotes its object in the drawn scene, and no
    other object. "holds" counts those that fit others as well.
    """
    from sa2va.world.expression_check import check_expressions as measure

    shares = measure(folder, data)
    if as_json:
        rows = ({name: None if value != value else value for name, value in asdict(one).items()} for one in shares)
        print(json.dumps(list(rows)))
        return
    say(f"{'texts':50} {'N':>5} {'only it':>7} {'95 % interval':>15} {'holds':>6}")
    for one in shares:
        say(f"{one.name:50} {one.num:5} {one.value:7.3f}  {one.low:.3f} .. {one.high:.3f} {one.true:6.3f}")


def choose_layouts(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names of layouts, each once.

    Raises:
        ValueError: an unknown name.
    """
    for name in wanted:
        if name not in known and name != ALL:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"layout {name!r} is unknown{hint} (known: {', '.join(known)}, {ALL})")
    return list(known) if ALL in wanted else list(dict.fromkeys(wanted))
