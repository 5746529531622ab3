"""Write drawn conversations in the layouts of LLaVA (pictures and text only) and Chat-UniVi (videos).

Flow: samples of conversation, caption and video_conversation -> llava_data/{LLaVA-Instruct-150K, llava_images},
    video_datas/chat_univi/{video_chat.json, Activity_Videos}.
Source: the layouts that data/llava.py and data/videochat.py read. Some records of LLaVA are text only: the caption
    of a picture takes its place.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sa2va.data.conversations import IMAGE_MARKER, VIDEO_MARKER
from sa2va.media.writer import VideoWriter
from sa2va.types import Sample, Turn
from sa2va.world.export.files import write_jpeg, write_json
from sa2va.world.export.layout import Layout, Part
from sa2va.world.scenes.splits import TRAIN
from sa2va.world.tasks.catalog import write_caption

LLAVA_ANNOTATIONS = "llava_data/LLaVA-Instruct-150K"
LLAVA_PICTURES = "llava_data/llava_images"
VIDEO_CHAT = "video_datas/chat_univi"
CAPTIONED = 3  # every n-th record is a caption
TEXT_ONLY = 4  # every n-th record has no picture, if its questions allow that
TOLD = ("count", "color", "shape", "texture", "size", "existence", "more or fewer")  # kinds that a caption answers
FPS = 4


def draw_chats(part: Part, prefix: str = "") -> Iterator[tuple[int, Sample]]:
    """Draw conversations about pictures or, with the prefix "video_", clips; every third is a caption."""
    talks, captions = part.draw(f"{prefix}conversation"), part.draw(f"{prefix}caption")
    for (number, talk), (_, caption) in zip(talks, captions, strict=True):
        yield number, caption if number % CAPTIONED == CAPTIONED - 1 else talk


def write_turns(turns: Sequence[Turn], preface: str) -> list[dict[str, str]]:
    """Write the turns of a conversation; the first question follows a preface: a marker of media, or a text."""
    spoken = []
    for rank, turn in enumerate(turns):
        question = turn.question if rank else f"{preface}\n{turn.question}"
        spoken += [{"from": "human", "value": question}, {"from": "gpt", "value": turn.answer}]
    return spoken


def find_told(sample: Sample) -> list[Turn]:
    """List the turns that the caption of a picture answers as well as the picture; captions have none."""
    return [turn for kind, turn in zip(sample.meta["kinds"], sample.turns, strict=True) if kind in TOLD]


def write_llava(root: Path, parts: Sequence[Part]) -> None:
    """Write LLaVA's instruction data below a data root."""
    records: list[dict[str, Any]] = []
    for number, sample in (one for part in parts for one in draw_chats(part)):
        told = find_told(sample)
        if told and number % TEXT_ONLY == TEXT_ONLY - 1:
            caption, _ = write_caption(sample.meta["scene"])
            records.append({"id": f"text_{number:06d}", "conversations": write_turns(told, caption)})
            continue
        name = f"coco/train2017/{number:012d}.jpg"
        write_jpeg(root / LLAVA_PICTURES / name, sample.frames[0])
        turns = write_turns(sample.turns, IMAGE_MARKER)
        records.append({"id": f"{number:012d}", "image": name, "conversations": turns})
    write_json(root / LLAVA_ANNOTATIONS / "llava_v1_5_mix665k.json", records)


def write_video_chat(root: Path, parts: Sequence[Part]) -> None:
    """Write Chat-UniVi's conversations about videos below a data root."""
    records: list[dict[str, Any]] = []
    for number, sample in (one for part in parts for one in draw_chats(part, "video_")):
        name = f"v_{number:011d}.mp4"
        with VideoWriter(root / VIDEO_CHAT / "Activity_Videos" / name, FPS) as writer:
            for frame in sample.frames:
                writer.write(frame)
        records.append({"id": number, "video": name, "conversations": write_turns(sample.turns, VIDEO_MARKER)})
    write_json(root / VIDEO_CHAT / "video_chat.json", records)


LLAVA = Layout(write_llava, (LLAVA_ANNOTATIONS, LLAVA_PICTURES), ("llava",), splits=(TRAIN,))
VIDEOCHAT = Layout(write_video_chat, (VIDEO_CHAT,), ("videochat",), splits=(TRAIN,))
