"""Write small datasets of own data, one function a format: three pictures with rectangles as objects.

Every format holds the same: a cat on the left, a cat on the right and a dog on the first picture, a dog on
the second, and nothing on the third.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.stored_layouts import SIZE, rectangle, write_json, write_picture

CATEGORIES = ("cat", "dog", "traffic_light")
# Picture -> (category, box) of its objects; boxes are x0, y0, x1, y1 px.
OBJECTS: tuple[tuple[tuple[str, tuple[int, int, int, int]], ...], ...] = (
    (("cat", (2, 3, 10, 12)), ("cat", (20, 2, 30, 12)), ("dog", (12, 14, 28, 22))),
    (("dog", (4, 4, 16, 20)),),
    (),
)


BOXES_OF = tuple(tuple(box for _, box in objects) for objects in OBJECTS)


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


def write_yolo(folder: Path, *, lines: str | None = None, description: str | None = None) -> Path:
    """Write data.yaml, images/train and labels/train; `lines` replaces the labels of the first picture."""
    write_pictures(folder / "images/train")
    (folder / "labels/train").mkdir(parents=True)
    for number, objects in enumerate(OBJECTS[:2]):
        shares = [
            [CATEGORIES.index(name), *(x / SIZE[1 - i % 2] for i, x in enumerate(rectangle(*box)))]
            for name, box in objects
        ]
        text = "\n".join(" ".join(str(value) for value in line) for line in shares)
        path = folder / "labels/train" / f"photo_{number}.txt"
        path.write_text(lines if lines is not None and number == 0 else text)
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(CATEGORIES))
    (folder / "data.yaml").write_text(description or f"path: /nowhere\ntrain: images/train\nnames:\n{names}\n")
    return folder


def write_labelme(folder: Path, *, shape: dict[str, Any] | None = None, **fields: Any) -> Path:
    """Write a JSON file beside each picture; `shape` and `fields` replace fields of the first one."""
    write_pictures(folder)
    for number, objects in enumerate(OBJECTS):
        shapes = [
            {"label": name, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "group_id": None, "flags": {},
             "shape_type": "polygon", "description": ""}
            for name, (x0, y0, x1, y1) in objects
        ]  # fmt: skip
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"..\\photos\\photo_{number}.png",
                   "imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}  # fmt: skip
        if number == 0:
            shapes[0] |= shape or {}
            content |= fields
        write_json(folder / f"photo_{number}.json", content)
    return folder


def cvat_shape(box: tuple[int, int, int, int], more: str = "", *, as_mask: bool = False) -> str:
    """Return a polygon or mask element of CVAT."""
    x0, y0, x1, y1 = box
    if as_mask:
        runs = f"0, {(x1 - x0) * (y1 - y0)}"
        return f'<mask {more} rle="{runs}" left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"></mask>'
    return f'<polygon {more} points="{x0},{y0};{x1},{y0};{x1},{y1};{x0},{y1}"></polygon>'


def write_cvat(folder: Path, content: str, *, name: str = "annotations.xml") -> Path:
    """Write a file of CVAT with labels and the size of a clip around some elements."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in CATEGORIES)
    size = f"<original_size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></original_size>"
    head = f"<meta><task><name>t</name><labels>{labels}</labels>{size}<source>walk.mp4</source></task></meta>"
    folder.mkdir(parents=True, exist_ok=True)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{head}\n{content}\n'
    (folder / name).write_text(text + "</annotations>\n")
    return folder


def cvat_images() -> str:
    """Return the image elements of all pictures, the dogs as masks."""
    images = []
    for number, objects in enumerate(OBJECTS):
        shapes = [cvat_shape(box, f'label="{name}"', as_mask=name == "dog") for name, box in objects]
        head = f'<image id="{number}" name="{picture_name(number)}" width="{SIZE[1]}" height="{SIZE[0]}">'
        images.append("\n".join([head, *shapes, "</image>"]))
    return "\n".join(images)


def write_index(path: Path, *regions: tuple[int, tuple[int, int, int, int]], is_palette: bool = True) -> Path:
    """Write a PNG of (value, box) pairs, a palette picture or a gray one; later boxes lie on top."""
    numbers = np.zeros(SIZE, np.uint8)
    for value, (x0, y0, x1, y1) in regions:
        numbers[y0:y1, x0:x1] = value
    image = Image.fromarray(numbers)
    if is_palette:
        image.putpalette([value for number in range(256) for value in (255 - number, number, 7)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_voc(folder: Path, *, has_objects: bool = True) -> Path:
    """Write JPEGImages, SegmentationClass, classes.txt, and SegmentationObject if asked for."""
    write_pictures(folder / "JPEGImages")
    for number, objects in enumerate(OBJECTS):
        boxes = [box for _, box in objects]
        classes = [CATEGORIES.index(name) + 1 for name, _ in objects]
        write_index(folder / "SegmentationClass" / picture_name(number), *zip(classes, boxes, strict=True))
        if has_objects:
            write_index(folder / "SegmentationObject" / picture_name(number), *enumerate(boxes, 1), is_palette=False)
    (folder / "classes.txt").write_text("background\n" + "\n".join(CATEGORIES) + "\n")
    return folder


def write_clips(frames: Path, masks: Path, names: tuple[str, ...] = ("walk", "run"), num_frames: int = 3) -> None:
    """Write clips of a cat (1) that moves to the right and a dog (2) that is gone on the last frame."""
    for name in names:
        for frame in range(num_frames):
            write_picture(frames / name / f"{frame:05d}.jpg", frame)
            dog = [(2, (20, 4, 30, 20))] if frame < num_frames - 1 else []
            write_index(masks / name / f"{frame:05d}.png", (1, (frame, 2, 8 + frame, 20)), *dog)
