"""Write small picture datasets in public layouts: three records each, with rectangles as objects."""

from pathlib import Path

from support.stored_layouts import write_json, write_refcoco

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
