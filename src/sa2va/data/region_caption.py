"""Read region captions: RefCOCOg's expressions as descriptions of masks.

Flow: <folder>/refcocog/finetune_refcocog_<split>_with_mask.json (COCO, one image entry per expression), COCO 2014
    pictures -> one record per region -> Sample whose turn marks the region. Evaluation reads the same records.
Source: Mao et al., arXiv:1511.02283; the files of MDETR, arXiv:2104.12763, with masks
    added by Osprey, arXiv:2312.10032.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sa2va.data import prompts
from sa2va.data.coco import read_coco
from sa2va.data.media_files import StoredPicture
from sa2va.data.osprey import decode_region
from sa2va.data.packed import PackedRecords, pack
from sa2va.data.records import Record
from sa2va.data.refcoco import picture_folders
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, check_split, read_each
from sa2va.data.tracks import Segmentation
from sa2va.masks import Mask
from sa2va.types import Sample, Turn


@dataclass(frozen=True)
class DescribedRegion:
    """A region of a picture with its description."""

    region_id: int  # of the annotation
    picture: str
    size: Sequence[int]  # (H, W) px
    segmentation: Segmentation
    caption: str

    @property
    def region(self) -> Mask:
        """Decode the region, bool (H, W)."""
        return decode_region(self.segmentation, self.size[0], self.size[1])


class RegionCaptions(StoredDataset[DescribedRegion]):
    """Descriptions of regions; draws differ in the question."""

    def __init__(self, name: str, records: Sequence[DescribedRegion], config: DrawConfig, file: Path) -> None:
        super().__init__(name, records, config)
        self.file = file

    def build_sample(self, record: DescribedRegion, draw: Draw) -> Sample:
        question = draw.pick(prompts.REGION).format("region1")
        turn = Turn(question=question, answer=record.caption, regions=(record.region,))
        picture = StoredPicture(Path(record.picture), (record.size[0], record.size[1]))
        return Sample(media=(picture,), turns=(turn,), task=self.name)

    def describe(self, record: DescribedRegion) -> str:
        return f"{self.file}: annotation {record.region_id}"

    def extent(self, index: int) -> Extent:
        return Extent(1, len(self.records[index].caption))


def region_caption(path: str | Path, *, split: str = "val", draw: DrawConfig | None = None) -> RegionCaptions:
    """Read one split.

    Args:
        path: folder with refcocog; the pictures in refcocog/coco2014/train2014, or beside the folder in
            glamm_data/images/coco2014/train2014.
        split: "val".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("region_caption", split, ("val",))
    folder = Path(path) / "refcocog"
    file = folder / f"finetune_refcocog_{split}_with_mask.json"
    pictures = read_coco(file, picture_folders(folder))

    def read_one(annotation: Record) -> bytes:
        image_id = annotation.get("image_id", int)
        picture = pictures.picture(image_id, annotation)
        region_id = annotation.get("id", int)
        segmentation = pictures.segmentation(region_id, image_id, annotation)
        source = annotation if "caption" in annotation.values else pictures.images[image_id]
        region = DescribedRegion(region_id, str(picture.path), picture.size, segmentation, source.text("caption"))
        return pack(region)

    packed = read_each(read_one, pictures.annotations.values())
    return RegionCaptions("region_caption", PackedRecords(DescribedRegion, packed), draw or DrawConfig(), file)
