"""List every dataset by name.

Flow: name in a recipe or a command -> build_dataset -> Dataset -> base.Mixture.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sa2va.data import (
    davis,
    gcg,
    grefcoco,
    infinity_mm,
    llava,
    mevis,
    osprey,
    own_list,
    reasonseg,
    refcoco,
    refsav,
    refytvos,
    revos,
    videochat,
)
from sa2va.data.base import Dataset
from sa2va.data.own import dataset as own
from sa2va.extensions import find_part

# Name -> function of (path, *, split, draw) that returns a stored dataset. Extensions add generated ones, functions of
# keyword options alone, with DATASETS in extension.py.
DATASETS: dict[str, Callable[..., Dataset]] = {
    "refcoco": refcoco.refcoco,
    "refcoco+": refcoco.refcoco_plus,
    "refcocog": refcoco.refcocog,
    "grefcoco": grefcoco.grefcoco,
    "mevis": mevis.build,
    "revos": revos.build,
    "refytvos": refytvos.build,
    "ref_davis17": davis.build,
    "refsav": refsav.build,
    "videochat": videochat.build,
    "reasonseg": reasonseg.reasonseg,
    "gcg_refcocog": gcg.gcg_refcocog,
    "gcg_grandf": gcg.gcg_grandf,
    "gcg_flickr30k": gcg.gcg_flickr30k,
    "gcg_openpsg": gcg.gcg_openpsg,
    "osprey": osprey.osprey,
    "osprey_description": osprey.osprey_description,
    "osprey_part": osprey.osprey_part,
    "osprey_short": osprey.osprey_short,
    "osprey_lvis": osprey.osprey_lvis,
    "llava": llava.llava,
    "infinity_mm": infinity_mm.infinity_mm,
    "own_list": own_list.own_list,
    "own": own.build,
}
# Name -> folder of a dataset below the root of all data, as the released training lays it out.
FOLDERS: dict[str, str] = {
    "refcoco": "ref_seg/refcoco",
    "refcoco+": "ref_seg/refcoco+",
    "refcocog": "ref_seg/refcocog",
    "grefcoco": "ref_seg/grefcoco",
    "mevis": "video_datas/mevis",
    "revos": "video_datas/revos",
    "refytvos": "video_datas/rvos",
    "ref_davis17": "video_datas/davis17",
    "refsav": "video_datas",
    "videochat": "video_datas/chat_univi",
    "reasonseg": "reason_seg/ReasonSeg",
    "gcg_refcocog": "glamm_data",
    "gcg_grandf": "glamm_data",
    "gcg_flickr30k": "glamm_data",
    "gcg_openpsg": "glamm_data",
    "osprey": "osprey-724k",
    "osprey_description": "osprey-724k",
    "osprey_part": "osprey-724k",
    "osprey_short": "osprey-724k",
    "osprey_lvis": "osprey-724k",
    "llava": "llava_data",
    "infinity_mm": "Infinity-MM",
    "own_list": "my_data",
}


def build_dataset(name: str, *path: str | Path, **options: Any) -> Dataset:
    """Build a dataset of the core or of an extension.

    Args:
        name: name of the dataset.
        path: its folder or file; none for a generated dataset.
        options: keyword options of its build function.

    Raises:
        ValueError: unknown name, or the files are missing or damaged.
    """
    return find_part("dataset", name, DATASETS)(*path, **options)
