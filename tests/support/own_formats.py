"""Write small datasets of own data, one function a format: three pictures with rectangles as objects.

Every format holds the same: a cat on the left, a cat on the right and a dog (BOXES) on the first picture, a dog on
the second, and nothing on the third.
"""

from pathlib import Path
from typing import Any

from support.stored_layouts import SIZE, rectangle, write_json, write_picture

CATEGORIES = ("cat", "dog", "traffic_light")
# Picture -> (category, box) of its objects; boxes are x0, y0, x1, y1 px.
OBJECTS: tuple[tuple[tuple[str, tuple[int, int, int, int]], ...], ...] = (
    (("cat", (2, 3, 10, 12)), ("cat", (20, 2, 30, 12)), ("dog", (12, 14, 28, 22))),
    (("dog", (4, 4, 16, 20)),),
    (),
)


def picture_name(number: int) -> str:
    return f"photo_{number}.png"


def coco_content(**changes: Any) -> dict[str, Any]:
    """Return COCO JSON of all pictures; `changes` replaces fields of the first annotation."""
    images = [
        {"id": number, "file_name": picture_name(number), "height": SIZE[0], "width": SIZE[1]}
        for number in range(len(OBJECTS))
    ]
    annotations = [
        {"id": 10 * number + place, "image_id": number, "category_id": CATEGORIES.index(name) + 1, "iscrowd": 0,
         "segmentation": [rectangle(*box)]}
        for number, objects in enumerate(OBJECTS)
        for place, (name, box) in enumerate(objects)
    ]  # fmt: skip
    annotations[0] |= changes
    categories = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_pictures(folder: Path) -> None:
    for number in range(len(OBJECTS)):
        write_picture(folder / picture_name(number), number)


def write_coco(folder: Path, **changes: Any) -> Path:
    write_pictures(folder / "images")
    write_json(folder / "labels.json", coco_content(**changes))
    return folder
