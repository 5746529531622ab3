"""Write drawn clips in the layout of Ref-SAV: long and short captions of the objects of SA-V videos.

Flow: samples of video_refseg -> train: Ref-SAV.json, sam_v_full/<group>/<video>.mp4 and <video>_manual.json;
    validation: ref_sav_eval/{meta_expressions_valid.json, mask_dict.json, videos/<video>/<frame>.jpg}.
Source: the layouts that data/refsav.py reads. As in SA-V, a video has 24 frames per second, every fourth annotated.
Shapes: T annotated frames; a video has 4 * (T - 1) + 1 frames, so that the annotated ones are those of the sample.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa2va.masks import encode_rle
from sa2va.media.writer import VideoWriter
from sa2va.types import Sample
from sa2va.world.export.clips import Said, draw_samples, write_clips
from sa2va.world.export.files import write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.language.descriptions import describe
from sa2va.world.language.grammar import PLACES, to_motion_words
from sa2va.world.language.questions import find_cell
from sa2va.world.scenes.relations import find_nearest
from sa2va.world.scenes.scene import Scene
from sa2va.world.tasks.items import CLIP_FRAMES, SIDE

ROOT = "video_datas"
CAPTIONS, VIDEOS, EVALUATION = f"{ROOT}/Ref-SAV.json", f"{ROOT}/sam_v_full", "ref_sav_eval"
BLOCK = 4
FPS, EVERY = 24, 4  # annotated frames are EVERY-th
LONG, SHORT = 0, 1  # type_id of captions
_PER_GROUP = 1000  # videos of a folder
_CRF = 12  # of x264


def write_long_caption(scene: Scene, place: int) -> str:
    """Describe an object of a clip in full: appearance, place at the start, neighbor and motion."""
    thing = scene.objects[place]
    sentences = [f"The object is {describe(thing)}."]
    starts_inside = 0 <= thing.x < 1 and 0 <= thing.y < 1 and thing.motion.is_on(0)
    if starts_inside and (cell := find_cell(thing)):
        sentences.append(f"At the start it is {PLACES['middle' if cell == 'center' else cell]}.")
    others = [other for other in scene.objects if other is not thing]
    if (nearest := find_nearest(others, thing)) is not None:
        sentences.append(f"The object nearest to it is {describe(others[nearest])}.")
    sentences.append(f"It {' '.join(to_motion_words(thing.motion.kind)[1:])}.")
    return " ".join(sentences)


def caption_objects(sample: Sample) -> dict[int, list[str]]:
    """List the short captions of each object that an expression names alone, by its place in the scene."""
    found: dict[int, list[str]] = {}
    for text, targets in zip(sample.meta["expressions"], sample.meta["targets"], strict=True):
        if len(targets) == 1:
            found.setdefault(targets[0], []).append(text)
    return dict(sorted(found.items()))


def write(root: Path, parts: Sequence[Part]) -> None:
    """Write Ref-SAV below a data root."""
    for part in parts:
        if part.is_training:
            _write_training(root, part)
        else:
            _write_validation(root, part)


def _write_training(root: Path, part: Part) -> None:
    captions: dict[str, Any] = {}
    for number, sample in draw_samples(part, BLOCK):
        video, group = f"sav_{number:06d}", f"sav_{number // _PER_GROUP:03d}"
        scene: Scene = sample.meta["scene"]
        with VideoWriter(root / VIDEOS / group / f"{video}.mp4", FPS, (SIDE, SIDE), crf=_CRF) as writer:
            for frame, _ in scene.stream(SIDE, EVERY * (CLIP_FRAMES - 1) + 1):
                writer.write(frame)
        write_json(root / VIDEOS / group / f"{video}_manual.json", _annotate(video, sample))
        captions[video] = {
            "video_path": f"{group}/{video}.mp4",
            "anno_path": f"{group}/{video}_manual.json",
            "objects": {
                str(place): {"formated": write_long_caption(scene, place), "short_caps": texts}
                for place, texts in caption_objects(sample).items()
            },
        }
    write_json(root / CAPTIONS, captions)


def _annotate(video: str, sample: Sample) -> dict[str, Any]:
    """Build the annotation file of a video of SA-V: masklet[t][n] is the mask of object n on annotated frame t."""
    masks = sample.masks
    num_frames = EVERY * (CLIP_FRAMES - 1) + 1
    return {
        "video_id": video,
        "video_duration": num_frames / FPS,
        "video_frame_count": num_frames,
        "video_height": SIDE,
        "video_width": SIDE,
        "video_resolution": SIDE * SIDE,
        "video_split": "train",
        "masklet": [[encode_rle(mask) for mask in masks[:, frame]] for frame in range(masks.shape[1])],
        "masklet_id": list(range(len(masks))),
        "masklet_first_appeared_frame": [float(track.any((1, 2)).argmax()) for track in masks],
        "masklet_frame_count": [int(track.any((1, 2)).sum()) for track in masks],
        "masklet_type": "manual",
        "masklet_num": len(masks),
    }


def _write_validation(root: Path, part: Part) -> None:
    folder = root / EVALUATION
    videos: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for clip in write_clips(draw_samples(part, BLOCK), folder / "videos", "sav_{:06d}"):
        masks |= clip.tracks()
        written = []
        for place, texts in caption_objects(clip.sample).items():
            long = write_long_caption(clip.sample.meta["scene"], place)
            said = [(LONG, Said(long, "", (place,))), *((SHORT, Said(text, "", (place,))) for text in texts)]
            written += [{"exp": one.text, **clip.annotate(one), "type_id": kind} for kind, one in said]
        expressions = {str(number): one for number, one in enumerate(written)}
        videos[clip.name] = {
            "vid_id": clip.number, **clip.size, "frames": clip.frames, "expressions": expressions
        }  # fmt: skip
    write_json(folder / "meta_expressions_valid.json", {"videos": videos})
    write_json(folder / "mask_dict.json", masks)


REFSAV = Layout(write, (CAPTIONS, VIDEOS, EVALUATION), ("refsav",), ("train", "valid"))
