"""Write small picture datasets in public layouts: three records each, with rectangles as objects."""

from pathlib import Path

from support.stored_layouts import write_json, write_picture, write_refcoco

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
            refs.append(values | {"ref_id": len(refs), "sentences": [{"raw": text, "sent": "unused"}]})
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
