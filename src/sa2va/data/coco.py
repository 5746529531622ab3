"""Read the pictures and objects of a COCO annotation file.

Flow: instances.json -> read_coco -> CocoPictures -> refcoco.py, grefcoco.py and others that add expressions.
Source: https://cocodataset.org, "Data format".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa2va.data.media_files import MediaFolders, StoredPicture
from sa2va.data.records import Record, index_by, read_object
from sa2va.data.tracks import Segmentation, check_segmentation


class CocoPictures:
    """Pictures and objects of a COCO annotation file, by id; each is checked when it is used."""

    def __init__(self, file: Path, images: dict[Any, Record], annotations: dict[Any, Record], folders: MediaFolders):
        self.file, self.images, self.annotations, self._folders = file, images, annotations, folders

    def picture(self, image_id: int, user: Record) -> StoredPicture:
        """Return a picture; `user` is the record that refers to it.

        Raises:
            ValueError: there is no such image, or its file is missing.
        """
        image = self.images.get(image_id)
        if image is None:
            raise user.error(f"there is no image {image_id} in {self.file.name}; the two files do not belong together")
        path = self._folders.find(image.text("file_name"), image)
        return StoredPicture(path, image.size())

    def segmentation(self, ann_id: int, image_id: int, user: Record) -> Segmentation:
        """Return the segmentation of an object of an image; `user` is the record that refers to it.

        Raises:
            ValueError: there is no such object, it lies on another image, or its segmentation is malformed.
        """
        annotation = self.annotations.get(ann_id)
        if annotation is None:
            raise user.error(f"there is no annotation {ann_id} in {self.file.name}; the two do not belong together")
        if annotation.get("image_id", int) != image_id:
            raise user.error(f"annotation {ann_id} is of image {annotation.values['image_id']}, not of {image_id}")
        size = self.images[image_id].size()
        return check_segmentation(annotation.values.get("segmentation"), annotation, size)

    def is_crowd(self, ann_id: int) -> bool:
        """Tell whether an annotation is one mask for any number of objects; False if there is no such annotation."""
        annotation = self.annotations.get(ann_id)
        return annotation is not None and bool(annotation.get("iscrowd", int, 0))


def read_coco(file: Path, folders: Sequence[Path]) -> CocoPictures:
    """Read a COCO annotation file.

    Args:
        file: the JSON file.
        folders: places of its pictures, tried in order.

    Raises:
        ValueError: the file is missing or malformed, or two images or annotations share an id.
    """
    content = read_object(file)
    images = index_by(content.children("images", "image"), "id")
    annotations = index_by(content.children("annotations", "annotation"), "id")
    return CocoPictures(file, images, annotations, MediaFolders(*folders))
