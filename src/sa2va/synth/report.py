"""Report a run: what was written per level, what was rejected and why, and a contact sheet to look at.

Flow: Outcomes -> finish -> OUT/video_datas/Ref-SAV.json, expressions.jsonl (a line per object and level), report.json,
    contact_sheet.png.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sa2va.draw.overlay import contact_sheet
from sa2va.files.run_folder import placed
from sa2va.media.pictures import save_image
from sa2va.media.source import uniform_indices
from sa2va.synth.captioner import LEVELS, Verdict
from sa2va.synth.engine import Engine, Outcome
from sa2va.synth.layout import write_captions, write_json
from sa2va.synth.sources import SourceClip
from sa2va.synth.views import read_views

EXPRESSIONS, REPORT, SHEET = "expressions.jsonl", "report.json", "contact_sheet.png"
NUM_SHOWN = 12  # objects of the contact sheet
COLUMNS = 4

Finished = tuple[SourceClip, str, list[Outcome]]


def finish(engine: Engine) -> dict[str, Any] | None:
    """Write the results of a run whose clips are all done; return the report, None if some are missing.

    Raises:
        CannotWrite: the disk refuses a file.
    """
    finished = list(engine.outcomes())
    if len(finished) < len(engine.job.clips):
        return None
    folder = engine.job.folder
    write_captions(
        folder,
        (
            (number, clip, {one.object: (one.caption, one.expressions) for one in outcomes if one.caption})
            for number, (clip, _, outcomes) in enumerate(finished)
        ),
    )
    rows = [row for _, _, outcomes in finished for one in outcomes for row in list_rows(one)]
    with placed(folder, folder / EXPRESSIONS) as draft:
        draft.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    if (sheet := draw_sheet(finished)) is not None:
        with placed(folder, folder / SHEET) as draft:
            save_image(draft, sheet)
    write_json(folder, folder / REPORT, report := count(finished))
    return report


def list_rows(one: Outcome) -> list[dict[str, Any]]:
    """List what was written about an object, a row per level."""
    rows = []
    for level, part in one.parts.items():
        verdict = one.verdicts.get(level, Verdict())
        rows.append(
            {
                "clip": one.clip, "object": one.object, "level": level, "text": part.text,
                "expression": part.expression, "accepted": level in one.accepted, "problem": one.problem(level),
                "iou": verdict.iou, "presence": verdict.presence, "caption": one.caption,
            }
        )  # fmt: skip
    return rows


def count(finished: Sequence[Finished]) -> dict[str, Any]:
    """Count clips, objects, and per level the expressions written, accepted and rejected by reason."""
    outcomes = [one for _, _, found in finished for one in found]
    levels = {}
    for level in LEVELS:
        problems = [one.problem(level) for one in outcomes if level in one.parts]
        levels[level] = {
            "written": len(problems),
            "accepted": sum(level in one.accepted for one in outcomes),
            "rejected": dict(Counter(text.partition(":")[0] for text in sorted(problems) if text)),
        }
    return {
        "clips": len(finished),
        "clips with captions": sum(any(one.caption for one in found) for _, _, found in finished),
        "clips that cannot be read": {clip.name: error for clip, error, _ in finished if error},
        "objects": len(outcomes),
        "objects with a caption": sum(bool(one.caption) for one in outcomes),
        "short expressions": sum(len(one.expressions) for one in outcomes),
        "levels": levels,
    }


def draw_sheet(finished: Sequence[Finished]) -> Any:
    """Draw objects spread over the run, outlined on their largest frame: uint8 (H, W, 3); None without any."""
    kept = [(clip, one) for clip, _, outcomes in finished for one in outcomes if one.caption]
    if not kept:
        return None
    frames, captions = [], []
    for index in uniform_indices(len(kept), NUM_SHOWN):
        clip, one = kept[index]
        view = next(view for view in read_views(clip) if view.object == one.object)
        frames.append(view.outlined())
        captions.append(one.caption)
    return contact_sheet(frames, COLUMNS, captions)
