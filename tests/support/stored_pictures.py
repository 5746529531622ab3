"""Write small picture datasets in public layouts: three records each, with rectangles as objects."""

import json
from pathlib import Path

import numpy as np
from support.stored_layouts import SIZE, rectangle, rectangle_mask, write_json, write_picture, write_refcoco

from sa2va.masks import encode_rle

BOXES = ((2, 3, 10, 12), (14, 5, 30, 20))  # x0, y0, x1, y1 px of the two objects of each picture


def write_grefcoco(folder: Path) -> Path:
    """Write expressions of one, both and no objects of three pictures."""
    write_refcoco(folder)
    (folder / "refs(unc).p").unlink()
    refs = []
    for number in range(3):
        for text, ann_id in (
            ("The left one", [10 * number]),
            ("Both", [10 * number, 10 * number + 1]),
            ("A cat.", [-1]),
        ):
            values = {"ann_id": ann_id, "image_id": number, "no_target": ann_id == [-1], "split": "train"}
            refs.append(values | {"ref_id": len(refs), "sentences": [{"raw": text, "sent": text.lower().strip(".")}]})
    write_json(folder / "grefs(unc).json", refs)
    return folder


def write_llava(folder: Path) -> Path:
    """Write a conversation with the picture behind the question, one of several turns, and one without a picture."""
    chats = [
        ("coco/train2017/000000000001.jpg", ["What is this?\n<image>", "A box."]),
        ("gqa/images/2.jpg", ["<image>\nWhat is left?", "A box.", "And right?", "A <b>tall</b> box."]),
        (None, ["What does <image> mean in HTML?", "It is no HTML tag; you mean <img>."]),
    ]
    records = []
    for number, (name, texts) in enumerate(chats):
        turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
        records.append({"id": str(number), "conversations": turns})
        if name:
            write_picture(folder / "llava_images" / name, number)
            records[-1]["image"] = name
    write_json(folder / "LLaVA-Instruct-150K/llava_v1_5_mix665k.json", records)
    return folder


def write_infinity_mm(folder: Path) -> Path:
    """Write three conversations in folders of two depths; the last one has no picture."""
    for number, name in enumerate(("stage2/a/000001", "stage2/a/000002", "stage3/text")):
        turns = [
            {"from": "human", "value": f"<image>\nWhat is {number}?"},
            {"from": "gpt", "value": f"It is {number}."},
        ]
        values = {"id": name, "conversations": turns}
        if number < 2:
            values["image"] = "elsewhere/on/the/disk.jpg"
            write_picture(folder / f"{name}.jpg", number)
        write_json(folder / f"{name}.json", values)
    return folder


def write_reasonseg(folder: Path) -> Path:
    """Write two questions about a target with a hole to ignore, two phrases in cp1252, and a picture of split val."""
    hole = [[5, 5], [8, 5], [8, 9], [5, 9]]
    records = [
        ("train/a", True, ["What could be opened here", "Where is the lid?"], [("target", BOXES[0]), ("ignore", hole)]),
        ("train/b", False, ["the café's box"], [("target", BOXES[1]), ("flag", BOXES[0])]),
        ("val/c", False, ["a box"], [("target", BOXES[0]), ("target", BOXES[1])]),
    ]
    for number, (name, is_sentence, texts, parts) in enumerate(records):
        write_picture(folder / f"{name}.jpg", number)
        shapes = []
        for label, part in parts:
            points = part if isinstance(part, list) else np.reshape(rectangle(*part), (-1, 2)).tolist()
            shapes.append({"label": label, "shape_type": "polygon", "points": points})
        text = json.dumps({"text": texts, "is_sentence": is_sentence, "shapes": shapes}, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="cp1252")
    return folder


def write_own_list(folder: Path) -> Path:
    """Write three pictures in the released fine-tuning format; the objects of the third share their text."""
    polygons = [[rectangle(*box)] for box in BOXES]
    records = []
    for number, texts in enumerate((["the left box", "the right box"], ["a box", "a crate"], ["box", "box"])):
        write_picture(folder / f"images/{number}.png", number)
        records.append({"image": f"{number}.png", "mask": polygons, "text": texts})
    write_json(folder / "annotations.json", records)
    return folder


def write_osprey(folder: Path) -> Path:
    """Write two regions per picture, as polygons, run lengths and plain run lengths, and all five kinds of texts."""
    forms = (
        [[rectangle(*box)] for box in BOXES],
        [dict(encode_rle(rectangle_mask(*box))) for box in BOXES],
        [{"size": list(SIZE), "counts": count_runs(rectangle_mask(*box))} for box in BOXES],
    )
    names = ("COCO_train2014_000000000000.jpg", "COCO_train2014_000000000001.jpg", "COCO_val2014_000000000002.jpg")
    places = ("train2014/COCO_train2014_000000000000.jpg", "train2017/000000000001.jpg", f"val2014/{names[2]}")
    spoken = [
        {"from": "human", "value": "<image>\nIs <region1> left of <region2>, x < y?"},
        {"from": "gpt", "value": "Yes, <region1> is."},
        {"from": "human", "value": "And <region2>?"},
        {"from": "gpt", "value": "It is a <b>box</b>."},
    ]
    descriptions = (
        ["<region1>: A low box.", "<region2>: A tall box, unlike <region1>."],
        ["A low box.", "A tall box."],
    )
    chats, described = [], []
    for number, name in enumerate(names):
        write_picture(folder / "coco" / places[number], number)
        regions = [{"segmentation": one, "bbox": [0, 0, 1, 1]} for one in forms[number]]
        values = {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1], "annotation": regions}
        chats.append(values | {"conversations": spoken})
        described.append(values | {"description": descriptions[number % 2]})
    for kind in ("conversation", "part_level", "short_form", "lvis_positive_negative"):
        write_json(folder / f"Osprey-724K/osprey_{kind}.json", chats)
    write_json(folder / "Osprey-724K/osprey_detail_description.json", described)
    return folder


def count_runs(mask: np.ndarray) -> list[int]:
    """Return plain run lengths of a mask, by columns, zeros first."""
    runs = [0]
    value = False
    for one in mask.T.flatten():
        if one != value:
            runs.append(0)
            value = one
        runs[-1] += 1
    return runs


CAPTION = '"A man in a red shirt holds a ball."'  # with the quotes of some sources


def write_gcg(folder: Path) -> Path:
    """Write three captions of each of the four datasets; nested phrases, a null grounding, quotes, shared phrases."""
    masks = [dict(encode_rle(rectangle_mask(*box, size=(40, 48)))) for box in BOXES]
    images = folder / "images"
    for number in range(3):
        for name in (f"grandf/train/sa_{number}.jpg", f"coco2017/train2017/{number}.jpg"):
            write_picture(images / name, number, (40, 48))
        for name in (f"coco2014/train2014/COCO_{number}.jpg", f"flickr30k/Flickr30K/{number}.jpg"):
            write_picture(images / name, number, (40, 48))
    man, shirt = "A man in a red shirt", "a red shirt"
    where = {text: [CAPTION.index(text), CAPTION.index(text) + len(text)] for text in (man, shirt)}
    grounded = [
        {man: {"token_positives": where[man], "rle_masks": masks[:1]},
         shirt: {"token_positives": where[shirt], "rle_masks": masks[1:]}},
        {"a ball": None, shirt: {"token_positives": where[shirt], "rle_masks": masks}},
        {"a ball": None},
    ]  # fmt: skip
    for file, pattern in (("GranDf_HA_GCG_train", "sa_{}.jpg"), ("OpenPsgGCG_train", "train2017/{}.jpg")):
        values = [
            {"file_name": pattern.format(n), "height": 40, "width": 48, "caption": CAPTION, "groundings": grounded[n]}
            for n in range(3)
        ]
        write_json(folder / f"annotations/{file}.json", values)
    refs = [
        [("a red shirt", 0), ("A Man", 1), ("a dog", 0)],
        [("a ball", 0), ("a ball", 1)],
        [("a dog", 0)],
    ]
    values = [
        {f"id{n}": {"img_file_name": f"COCO_{n}.jpg", "caption": CAPTION, "refs": [
            {"sentence": text, "segmentation": [rectangle(*BOXES[box])]} for text, box in refs[n]]}}
        for n in range(3)
    ]  # fmt: skip
    write_json(folder / "annotations/RefCOCOg_GCG_train.json", values)
    captions = ["Two men hold a ball.", "Two men.", "Two men hold a ball."]
    entries = [
        {"id": n, "file_name": f"{n}.jpg", "height": 40, "width": 48, "caption": text}
        for n, text in enumerate(captions)
    ]
    annotations = [
        {"id": 2 * n + place, "image_id": n, "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]], "area": 80,
         "tokens_positive": [[0, 7]] if n < 2 else [[13 * place, 13 * place + 6]], "sam_mask": masks[place]}
        for n in range(3) for place, box in enumerate(BOXES)
    ]  # fmt: skip
    annotations.append(annotations[0] | {"id": 99, "bbox": [60, 0, 5, 5]})  # outside the picture
    write_json(folder / "annotations/flickr_mergedGT_GCG_train.json", {"images": entries, "annotations": annotations})
    return folder


def write_gcg_evaluation(folder: Path, split: str = "val") -> Path:
    """Write two pictures as evaluation reads them: a caption with two phrases, and two captions with one phrase."""
    size = (40, 48)
    masks = [dict(encode_rle(rectangle_mask(*box, size=size))) for box in BOXES]
    images = [{"id": "sa_10"}, {"id": "sa_2", "file_name": "sa_2.jpg", "height": size[0], "width": size[1]}]
    for number, image in enumerate(images):
        write_picture(folder / "images/grandf/val_test" / f"{image['id']}.jpg", number, size)
    texts = [
        ("sa_2", "A ball.", ["A ball"]),
        ("sa_10", CAPTION, ["A man", "a red shirt"]),
        ("sa_2", "One ball on the grass.", ["One ball"]),
    ]
    captions = [
        {"id": place, "image_id": image_id, "caption": text, "labels": labels}
        for place, (image_id, text, labels) in enumerate(texts)
    ]
    objects = [("sa_10", masks[0]), ("sa_2", masks[1]), ("sa_10", masks[1])]
    annotations = [
        {"id": place, "image_id": image_id, "category_id": 1, "segmentation": mask}
        for place, (image_id, mask) in enumerate(objects)
    ]
    place = folder / "annotations/gcg_val_test"
    write_json(place / f"{split}_gcg_coco_caption_gt.json", {"images": images, "annotations": captions})
    write_json(place / f"{split}_gcg_coco_mask_gt.json", {"images": images, "annotations": annotations})
    return folder


def write_region_captions(folder: Path) -> Path:
    """Write three expressions about regions of two pictures: polygons, run lengths, a caption of the image entry."""
    forms = [[rectangle(*BOXES[0])], [dict(encode_rle(rectangle_mask(*BOXES[1])))], [rectangle(*BOXES[0])]]
    captions = ["The low box.", "the tall box", "box"]
    images, annotations = [], []
    for number, segmentation in enumerate(forms):
        name = f"COCO_train2014_{number // 2:012d}.jpg"
        write_picture(folder / "refcocog/coco2014/train2014" / name, number // 2)
        images.append({"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": segmentation})
        (annotations if number < 2 else images)[-1]["caption"] = captions[number]
    file = folder / "refcocog/finetune_refcocog_val_with_mask.json"
    write_json(file, {"images": images, "annotations": annotations})
    return folder
