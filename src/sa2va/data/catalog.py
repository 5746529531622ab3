"""List every dataset by name.

Flow: name in a recipe or a command -> build_dataset -> Dataset -> base.Mixture.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sa2va.data import (
    coco_panoptic,
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
    region_caption,
    revos,
    videochat,
)
from sa2va.data.base import Dataset
from sa2va.data.own import dataset as own
from sa2va.data.stored import StoredDataset
from sa2va.extensions import find_part


class StoredLayout(NamedTuple):
    """A dataset that is read from files."""

    build: Callable[..., StoredDataset]  # function of (path, *, split, draw)
    folder: str = ""  # its place below the root of all data, as in the released training; "" = none


# One line per dataset. Extensions add generated ones, functions of keyword options alone, as DATASETS in extension.py.
DATASETS: dict[str, StoredLayout] = {
    "refcoco": StoredLayout(refcoco.refcoco, "ref_seg/refcoco"),
    "refcoco+": StoredLayout(refcoco.refcoco_plus, "ref_seg/refcoco+"),
    "refcocog": StoredLayout(refcoco.refcocog, "ref_seg/refcocog"),
    "grefcoco": StoredLayout(grefcoco.grefcoco, "ref_seg/grefcoco"),
    "mevis": StoredLayout(mevis.build, "video_datas/mevis"),
    "revos": StoredLayout(revos.build, "video_datas/revos"),
    "refytvos": StoredLayout(refytvos.build, "video_datas/rvos"),
    "ref_davis17": StoredLayout(davis.build, "video_datas/davis17"),
    "refsav": StoredLayout(refsav.build, "video_datas"),
    "videochat": StoredLayout(videochat.build, "video_datas/chat_univi"),
    "reasonseg": StoredLayout(reasonseg.reasonseg, "reason_seg/ReasonSeg"),
    "gcg_refcocog": StoredLayout(gcg.gcg_refcocog, "glamm_data"),
    "gcg_grandf": StoredLayout(gcg.gcg_grandf, "glamm_data"),
    "gcg_flickr30k": StoredLayout(gcg.gcg_flickr30k, "glamm_data"),
    "gcg_openpsg": StoredLayout(gcg.gcg_openpsg, "glamm_data"),
    "osprey": StoredLayout(osprey.osprey, "osprey-724k"),
    "osprey_description": StoredLayout(osprey.osprey_description, "osprey-724k"),
    "osprey_part": StoredLayout(osprey.osprey_part, "osprey-724k"),
    "osprey_short": StoredLayout(osprey.osprey_short, "osprey-724k"),
    "osprey_lvis": StoredLayout(osprey.osprey_lvis, "osprey-724k"),
    "region_caption": StoredLayout(region_caption.region_caption, "region_caption"),
    "llava": StoredLayout(llava.llava, "llava_data"),
    "infinity_mm": StoredLayout(infinity_mm.infinity_mm, "Infinity-MM"),
    "own_list": StoredLayout(own_list.own_list, "my_data"),
    "coco_panoptic": StoredLayout(coco_panoptic.coco_panoptic, "coco"),
    "own": StoredLayout(own.build),
}
FOLDERS = {name: layout.folder for name, layout in DATASETS.items() if layout.folder}


def build_dataset(name: str, *path: str | Path, **options: Any) -> Dataset:
    """Build a dataset of the core or of an extension.

    Args:
        name: name of the dataset.
        path: its folder or file; none for a generated dataset.
        options: keyword options of its build function.

    Raises:
        ValueError: unknown name, or the files are missing or damaged.
    """
    found = find_part("dataset", name, DATASETS)
    build = found.build if isinstance(found, StoredLayout) else found
    return build(*path, **options)
