"""Join the parts of a finished bulk run: COCO JSON of pictures and of clips, and a list of failures.

Flow: OUT/parts/*.parquet, in order -> merge -> OUT/annotations.json, tracks.json (clips), failures.jsonl.
    One part is in memory at a time.
Source: COCO (https://cocodataset.org/#format-data); YouTube-VIS (https://youtube-vos.org/dataset/vis/) for clips.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sa2va.bulk.plan import Plan
from sa2va.bulk.rows import Row, read_rows
from sa2va.files.atomic import remove_drafts
from sa2va.files.claim import Claim
from sa2va.files.manifest import MANIFEST, Manifest
from sa2va.files.scratch import sweep
from sa2va.files.staging import staged

PICTURES, CLIPS, FAILURES = "annotations.json", "tracks.json", "failures.jsonl"
CLAIM = Claim((r"annotations\.json", r"tracks\.json", r"failures\.jsonl"))
_LOCK = ".sa2va-merge.lock"


def merge(plan: Plan) -> None:
    """Write the joined files, unless they are there. Several processes may call this at once; one of them does it.

    Args:
        plan: of a run whose blocks are all done.

    Raises:
        ValueError: a part is damaged or of another run, or a file in the way was not written by us.
    """
    from filelock import FileLock

    lock = plan.folder / _LOCK
    try:
        with FileLock(lock):
            sweep(plan.folder)
            remove_drafts(plan.folder / MANIFEST)
            if not is_merged(plan):
                with staged(plan.folder, CLAIM) as scratch:
                    assert scratch is not None
                    _write_all(plan, scratch)
    finally:
        lock.unlink(missing_ok=True)


def is_merged(plan: Plan) -> bool:
    """Return whether the joined files are there, as they were written."""
    manifest = Manifest.read(plan.folder)
    names = CLAIM.former_files(manifest)
    return {PICTURES, FAILURES} <= set(names) and all(manifest.owns(name) for name in names)


def count_failures(plan: Plan) -> int:
    """Return the number of items with an error, in the parts that are there."""
    blocks = (block for block in range(plan.num_blocks) if plan.is_done(block))
    return sum(row["error"] is not None for block in blocks for row in _read(plan, block, ["error"]))


def _read(plan: Plan, block: int, columns: list[str] | None = None) -> list[Row]:
    return read_rows(plan.part(block), plan.key, plan.size(block), columns)


def _rows(plan: Plan, columns: list[str] | None = None) -> Iterator[Row]:
    for block in range(plan.num_blocks):
        yield from _read(plan, block, columns)


def _write_all(plan: Plan, folder: Path) -> None:
    has_clips = False
    with (folder / FAILURES).open("w", encoding="utf-8") as file:
        for row in _rows(plan, ["file", "expression", "num_frames", "error"]):
            has_clips |= (row["num_frames"] or 0) > 1
            if row["error"] is not None:
                failure = {name: row[name] for name in ("file", "expression", "error")}
                file.write(json.dumps(failure, ensure_ascii=False) + "\n")
    _write_coco(plan, folder / PICTURES, is_clip=False)
    if has_clips:
        _write_coco(plan, folder / CLIPS, is_clip=True)


def _write_coco(plan: Plan, path: Path, *, is_clip: bool) -> None:
    """Write the pictures or the clips of a run in two passes over its parts: media, then annotations."""
    ids: dict[str, int] = {}  # expression -> category
    lists = {
        "videos" if is_clip else "images": _media(plan, is_clip),
        "annotations": _annotations(plan, is_clip, ids),
        "categories": _categories(ids),
    }
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps({"description": "sa2va bulk", "run": plan.key})}')
        for name, entries in lists.items():
            file.write(f',\n"{name}": [')
            for place, entry in enumerate(entries):
                file.write((",\n" if place else "\n") + json.dumps(entry, ensure_ascii=False))
            file.write("]")
        file.write("}\n")


def _number(rows: Iterable[Row], is_clip: bool) -> Iterator[tuple[int, bool, Row]]:
    """Yield the answered rows of pictures or of clips with the id of the medium, and whether it is new.

    Rows of one medium follow each other, since items are sorted.
    """
    number, last = 0, None
    for row in rows:
        if row["error"] is None and (row["num_frames"] > 1) == is_clip:
            is_new = row["file"] != last
            number, last = number + is_new, row["file"]
            yield number, is_new, row


def _media(plan: Plan, is_clip: bool) -> Iterator[dict[str, Any]]:
    rows = _rows(plan, ["file", "height", "width", "num_frames", "error"])
    for number, is_new, row in _number(rows, is_clip):
        if is_new:
            entry = {"id": number, "file_name": row["file"], "width": row["width"], "height": row["height"]}
            yield entry | ({"length": row["num_frames"]} if is_clip else {})


def _annotations(plan: Plan, is_clip: bool, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
    describe: Callable[[Row, Mapping[str, Any]], dict[str, Any]] = _track if is_clip else _mask
    count = 0
    for medium, _, row in _number(_rows(plan), is_clip):
        for found in row["objects"]:
            count += 1
            yield {
                "id": count,
                "video_id" if is_clip else "image_id": medium,
                "category_id": ids.setdefault(row["expression"], len(ids) + 1),
                "iscrowd": 0,
                "score": found["score"],
                "presence": found["presence"],
                **({} if found["phrase"] is None else {"phrase": found["phrase"]}),
                **describe(row, found),
            }


def _categories(ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for name, number in ids.items():
        yield {"id": number, "name": name}


def _mask(row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
    (frame,) = found["frames"]
    return {"segmentation": _rle(row, frame), "bbox": frame["bbox"] or [0, 0, 0, 0], "area": frame["area"]}


def _track(row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
    frames = found["frames"]
    return {
        "segmentations": [_rle(row, frame) if frame["area"] else None for frame in frames],
        "bboxes": [frame["bbox"] for frame in frames],
        "areas": [frame["area"] or None for frame in frames],
    }


def _rle(row: Row, frame: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": [row["height"], row["width"]], "counts": frame["counts"]}
