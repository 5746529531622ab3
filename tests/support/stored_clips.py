"""Write small datasets of clips in public layouts: noise with two rectangles that move to the right."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from support.stored_layouts import SIZE, rectangle_mask, write_json, write_pickle, write_picture

from sa2va.masks import encode_rle

NUM_FRAMES = 6
CLIPS = ("ab", "cd", "ef")


def track(row: int, num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the masks (T, H, W) of object 0 or 1; object 1 is absent from frame 0, and hides a corner of object 0."""
    masks = [rectangle_mask(2 + t, 3, 10 + t, 12, size) for t in range(num_frames)]
    other = [rectangle_mask(8 + t, 9, 20 + t, 20, size) & (t > 0) for t in range(num_frames)]
    return np.stack(other) if row else np.stack(masks) & ~np.stack(other)


def rle_track(row: int) -> list[Any]:
    return [encode_rle(mask) if mask.any() else None for mask in track(row)]


def frame_names() -> list[str]:
    return [f"{5 * t:05d}" for t in range(NUM_FRAMES)]


def write_frames(folder: Path, clips: tuple[str, ...] = CLIPS) -> None:
    for seed, clip in enumerate(clips):
        for t, name in enumerate(frame_names()):
            write_picture(folder / clip / f"{name}.jpg", 10 * seed + t)


def write_videos(file: Path, expressions: dict[str, dict[str, Any]], **fields: Any) -> Path:
    """Write meta_expressions.json with the same expressions for every clip, "{}" standing for its name."""
    videos = {
        clip: fields | {
            "frames": frame_names()[::-1],  # readers sort them
            "expressions": {key: one | {"exp": one["exp"].format(clip)} for key, one in expressions.items()},
        }
        for clip in CLIPS
    }  # fmt: skip
    return write_json(file, {"videos": videos})


def write_mevis(folder: Path, split: str = "train") -> Path:
    """Write three clips, each with expressions for one object, for both, and for nothing."""
    write_frames(folder / split / "JPEGImages")
    expressions: dict[str, dict[str, Any]] = {
        "0": {"exp": "The one moving in {}.", "anno_id": [0], "obj_id": [0]},
        "1": {"exp": "both things", "anno_id": [0, 1], "obj_id": [0, 1]},
        "2": {"exp": "the elephant", "anno_id": [], "obj_id": []},
        "10": {"exp": "Which one comes later?", "anno_id": [1], "obj_id": [1]},
    }
    if split in ("valid", "test"):
        expressions = {key: {"exp": one["exp"]} for key, one in expressions.items()}
    else:
        write_json(folder / split / "mask_dict.json", {"0": rle_track(0), "1": rle_track(1)})
    name = "meta_expressions_release.json" if split == "test" else "meta_expressions.json"
    write_videos(folder / split / name, expressions)
    return folder


def write_revos(folder: Path) -> Path:
    write_frames(folder / "JPEGImages")
    expressions: dict[str, dict[str, Any]] = {
        "0": {"exp": "the left one of {}", "anno_id": [7], "type_id": 0},
        "1": {"exp": "Which of the two arrives last?", "anno_id": [8], "type_id": 1},
        "2": {"exp": "the unicorn", "anno_id": [], "type_id": 2},
    }
    for split in ("train", "valid"):
        file = folder / f"meta_expressions_{split}_.json"
        write_videos(file, expressions, height=SIZE[0], width=SIZE[1], vid_id=0)
    write_json(folder / "mask_dict.json", {"7": rle_track(0), "8": rle_track(1)})
    union = [encode_rle(mask) for mask in track(0) | track(1)]
    write_json(folder / "mask_dict_foreground.json", {clip: {"masks_rle": union} for clip in CLIPS})
    return folder


def write_index_pictures(folder: Path) -> None:
    """Write PNGs whose pixels are object numbers, with a palette as DAVIS has them."""
    for clip in CLIPS:
        for t, name in enumerate(frame_names()):
            picture = Image.fromarray((track(0)[t] + 2 * track(1)[t]).astype(np.uint8), "P")
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            path = folder / clip / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def write_objects(folder: Path, split: str, expressions: dict[str, dict[str, Any]]) -> None:
    """Write frames, meta_expressions.json and meta.json of Refer-YouTube-VOS; not the masks."""
    write_frames(folder / split / "JPEGImages")
    write_videos(folder / "meta_expressions" / split / "meta_expressions.json", expressions)
    objects = {"1": {"category": "thing"}, "2": {"category": "thing"}}
    write_json(folder / split / "meta.json", {"videos": {clip: {"objects": objects} for clip in CLIPS}})


def write_refytvos(folder: Path, masks: str = "png", split: str = "train") -> Path:
    expressions: dict[str, dict[str, Any]] = {
        str(number): {"exp": f"thing {number} of {{}}", "obj_id": str(1 + number % 2)} for number in range(11)
    }
    if split == "valid":
        expressions = {key: {"exp": one["exp"]} for key, one in expressions.items()}
    write_objects(folder, split, expressions)
    if masks == "png":
        write_index_pictures(folder / split / "Annotations")
    elif masks == "pkl":
        each = [rle_track(int(expressions[key]["obj_id"]) - 1) for _ in CLIPS for key in sorted(expressions)]
        packed = [[one and one | {"counts": one["counts"].encode()} for one in rles] for rles in each]
        write_pickle(folder / "mask_dict.pkl", {str(number): rles for number, rles in enumerate(packed)})
    return folder


def write_davis(folder: Path, masks: str = "png", split: str = "valid") -> Path:
    """Write two objects with four descriptions each; the first annotator wrote the same twice."""
    texts = ["a box", "a box", "the first box", "one {} box", "a tile", "the tile", "a late tile", "second"]
    expressions = {str(i): {"exp": text, "obj_id": str(1 + i // 4)} for i, text in enumerate(texts)}
    write_objects(folder, split, expressions)
    if masks == "png":
        write_index_pictures(folder / split / "Annotations")
    else:
        each = [rle_track(int(expressions[key]["obj_id"]) - 1) for _ in CLIPS for key in sorted(expressions)]
        write_pickle(folder / split / "mask_dict.pkl", {str(number): rles for number, rles in enumerate(each)})
    return folder


def write_mp4(path: Path, num_frames: int, size: tuple[int, int] = SIZE, every_key: int = 8) -> Path:
    """Write an H.264 video whose frame t is a gray of 2 t modulo 240, with a key frame every few frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = *size, "yuv420p", every_key
        stream.options = {"crf": "1", "x264-params": f"keyint={every_key}:min-keyint={every_key}:scenecut=0"}
        for t in range(num_frames):
            frame = np.full((*size, 3), 2 * t % 240, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_refsav(folder: Path, num_frames: int = 21) -> Path:
    """Write three videos of SA-V at 24 frames per second, every fourth of them annotated."""
    records = {}
    for number in range(3):
        video = f"sav_00000{number}"
        place = folder / "sam_v_full" / "sav_000"
        write_mp4(place / f"{video}.mp4", num_frames)
        masklet = [list(rles) for rles in zip(rle_track(0), rle_track(1), strict=True)]
        write_json(place / f"{video}_manual.json", {"video_id": video, "masklet": masklet, "masklet_id": [0, 1]})
        captions = {
            "0": {"formated": f"A box in {video}. It moves to the right.", "short_caps": ["A box.", "box on the left"]},
            "1": {"formated": "A tile. Does it come later? It does.", "short_caps": ["a tile"]},
        }
        records[video] = {
            "video_path": f"sav_000/{video}.mp4", "anno_path": f"sav_000/{video}_manual.json", "objects": captions,
        }  # fmt: skip
    write_json(folder / "Ref-SAV.json", records)
    return folder


def write_refsav_valid(folder: Path) -> Path:
    write_frames(folder / "videos")
    expressions: dict[str, dict[str, Any]] = {
        "0": {"exp": "A box in {}. It moves.", "anno_id": ["3"], "type_id": 0},
        "1": {"exp": "The box.", "anno_id": ["3"], "type_id": 1},
    }
    write_videos(folder / "meta_expressions_valid.json", expressions)
    write_json(folder / "mask_dict.json", {"3": rle_track(0)})
    return folder


def write_videochat(folder: Path) -> Path:
    records = []
    for number in range(3):
        write_mp4(folder / "Activity_Videos" / f"v_{number}.mp4", 12)
        first = ("<video>\nWhat happens?", "What happens?\n<video>", "What happens?<video>")[number]
        conversations = [
            {"from": "human", "value": first}, {"from": "gpt", "value": f"It is day {number}."},
            {"from": "human", "value": "And then?"}, {"from": "gpt", "value": "Night."},
        ]  # fmt: skip
        suffix = ".mkv" if number == 2 else ".mp4"
        records.append({"id": number, "video": f"v_{number}{suffix}", "conversations": conversations})
    write_json(folder / "video_chat.json", records)
    return folder
